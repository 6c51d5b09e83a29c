/** A closer likeness than the encoder's first answer, and how close it is: the twins of what photo.py has by these names. */

import { product, solved } from "./grab.js";
import { toInput } from "./picture.js";
import {
  FACE_RADII,
  LIKENESS_BLOCK,
  LIKENESS_DAMPING,
  LIKENESS_PROBE,
  LIKENESS_PULL,
  LIKENESS_SIDE,
  LIKENESS_TRIES,
} from "./rules.js";

/** Faces drawn, or rows of a system made, before the page has a moment for other things. */
const AT_ONCE = 10;

/**
 * A latent a little nearer to a picture than the encoder's answer. What the encoder misses is asked of it again, damped; of
 * all answers the one with the smallest squared error is kept, so that it is never worse.
 * @param {import("./model.js").Model} model
 * @param {Float32Array<ArrayBuffer>} input the picture in the frame, as the encoder reads it
 * @param {Float32Array<ArrayBuffer>} first the encoder's answer
 * @returns {Promise<Float32Array<ArrayBuffer>>}
 */
export async function askedAgain(model, input, first) {
  let [z, best, least] = [first, first, Infinity];
  for (const damping of [...LIKENESS_DAMPING, 0]) {
    const decoded = toInput(await model.decode(z), model.imageShape);
    const error = squared(decoded, input);
    if (error < least) [best, least] = [z, error];
    if (!damping) break;
    const { mean } = await model.encode(decoded);
    z = z.map((value, k) => value + damping * (first[k] - mean[k]));
  }
  return best;
}

/**
 * Latents nearer and nearer to a picture, one for each block of dimensions, until all are done or `enough` says so.
 * Gauss-Newton steps with a Jacobian that is measured, as in photo.py.
 * @param {import("./model.js").Model} model
 * @param {Float32Array<ArrayBuffer>} input the picture in the frame, as the encoder reads it
 * @param {Float32Array<ArrayBuffer>} z
 * @param {() => boolean} [enough]
 * @returns {AsyncGenerator<{z: Float32Array<ArrayBuffer>, done: number}, void, void>} `done` is in parts of all blocks
 */
export async function* fitted(model, input, z, enough = () => false) {
  const { imageShape, latentSize } = model;
  const area = shrinking(imageShape) ** 2;
  const wanted = shrunk(input, imageShape);
  let [face] = await drawn(model, z, 1);
  let least = squared(face, input);
  for (let first = 0; first < latentSize; first += LIKENESS_BLOCK) {
    const count = Math.min(LIKENESS_BLOCK, latentSize - first);
    const own = shrunk(face, imageShape);
    const missing = wanted.map((value, k) => value - own[k]);
    /** @type {Float64Array[]} */
    const jacobian = [];
    while (jacobian.length < count) {
      const [from, rows] = [first + jacobian.length, Math.min(AT_ONCE, count - jacobian.length)];
      const probes = repeated(z, rows);
      for (let k = 0; k < rows; k++) probes[k * latentSize + from + k] += LIKENESS_PROBE;
      const moved = await drawn(model, probes, rows);
      if (enough()) return;
      for (const each of moved) {
        jacobian.push(shrunk(each, imageShape).map((value, k) => (value - own[k]) / LIKENESS_PROBE));
      }
    }
    /** @type {number[][]} */
    const system = [];
    for (const [row, values] of jacobian.entries()) {
      if (row % AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between them
      const earlier = jacobian.slice(0, row + 1).map((other) => area * product(values, other));
      earlier[row] += LIKENESS_PULL;
      earlier.forEach((value, column) => column < row && system[column].push(value));
      system.push(earlier);
    }
    const step = solved(
      system,
      jacobian.map((values, k) => area * product(values, missing) - LIKENESS_PULL * z[first + k]),
    );
    const tried = repeated(z, LIKENESS_TRIES.length);
    LIKENESS_TRIES.forEach((part, row) =>
      step.forEach((value, k) => (tried[row * latentSize + first + k] += part * value)),
    );
    for (const [row, each] of (await drawn(model, tried, LIKENESS_TRIES.length)).entries()) {
      const error = squared(each, input);
      if (error < least) [least, face, z] = [error, each, tried.slice(row * latentSize, (row + 1) * latentSize)];
    }
    yield { z, done: (first + count) / latentSize };
  }
}

/**
 * The faces of `count` latents, each as the encoder reads it.
 * @param {import("./model.js").Model} model
 * @param {Float32Array<ArrayBuffer>} z
 * @param {number} count
 */
async function drawn(model, z, count) {
  const pixels = await model.decode(z, count);
  const length = pixels.length / count;
  return Array.from({ length: count }, (_, k) => toInput(pixels.subarray(k * length, (k + 1) * length), model.imageShape));
}

/**
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
function squared(a, b) {
  return a.reduce((sum, value, k) => sum + (value - b[k]) ** 2, 0);
}

/**
 * @param {Float32Array} values
 * @param {number} count
 */
function repeated(values, count) {
  const rows = new Float32Array(count * values.length);
  for (let row = 0; row < count; row++) rows.set(values, row * values.length);
  return rows;
}

/**
 * Pixels of a picture's side in one of the small picture's.
 * @param {import("./picture.js").Shape} shape
 */
function shrinking([height, width]) {
  return Math.max(Math.floor(Math.min(height, width) / LIKENESS_SIDE), 1);
}

/**
 * A picture averaged to about LIKENESS_SIDE pixels.
 * @param {Float32Array} picture height * width * channels
 * @param {import("./picture.js").Shape} shape
 * @returns {Float64Array}
 */
function shrunk(picture, shape) {
  const [height, width, channels] = shape;
  const part = shrinking(shape);
  const [rows, columns] = [Math.floor(height / part), Math.floor(width / part)];
  const small = new Float64Array(rows * columns * channels);
  for (let y = 0; y < rows * part; y++) {
    for (let x = 0; x < columns * part; x++) {
      const to = (Math.floor(y / part) * columns + Math.floor(x / part)) * channels;
      const from = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) small[to + c] += picture[from + c] / part ** 2;
    }
  }
  return small;
}

/**
 * PSNR in dB of a drawn face against a picture, both as the encoder reads them, where the frame has the face.
 * @param {Float32Array} drawn
 * @param {Float32Array} picture
 * @param {import("./picture.js").Shape} shape
 */
export function resemblance(drawn, picture, [height, width, channels]) {
  const [across, down] = FACE_RADII;
  let [sum, count] = [0, 0];
  for (let k = 0; k < picture.length; k++) {
    const [row, column] = [Math.floor(k / channels / width), Math.floor(k / channels) % width];
    const [x, y] = [((column + 0.5) / width - 0.5) / across, ((row + 0.5) / height - 0.5) / down];
    if (x * x + y * y >= 1) continue;
    sum += (drawn[k] - picture[k]) ** 2;
    count++;
  }
  return -10 * Math.log10(Math.max(sum / count, 1e-10));
}

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
  const [height, width] = imageShape;
  const area = Math.max(Math.floor(Math.min(height, width) / LIKENESS_SIDE), 1) ** 2;
  const wanted = shrunk(input, imageShape);
  let least = squared(toInput(await model.decode(z), imageShape), input);
  for (let first = 0; first < latentSize; first += LIKENESS_BLOCK) {
    const count = Math.min(LIKENESS_BLOCK, latentSize - first);
    const [own] = await drawn(model, z, 1);
    const missing = wanted.map((value, k) => value - own[k]);
    /** @type {Float64Array[]} */
    const jacobian = [];
    while (jacobian.length < count) {
      const [from, rows] = [first + jacobian.length, Math.min(AT_ONCE, count - jacobian.length)];
      const probes = repeated(z, rows);
      for (let k = 0; k < rows; k++) probes[k * latentSize + from + k] += LIKENESS_PROBE;
      const moved = await drawn(model, probes, rows);
      if (enough()) return;
      jacobian.push(...moved.map((row) => row.map((value, k) => (value - own[k]) / LIKENESS_PROBE)));
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
    for (const [row, part] of parts(await model.decode(tried, LIKENESS_TRIES.length), LIKENESS_TRIES.length).entries()) {
      const error = squared(toInput(part, imageShape), input);
      if (error < least) [least, z] = [error, tried.slice(row * latentSize, (row + 1) * latentSize)];
    }
    yield { z, done: (first + count) / latentSize };
  }
}

/**
 * The faces of `count` latents, shrunk.
 * @param {import("./model.js").Model} model
 * @param {Float32Array<ArrayBuffer>} z
 * @param {number} count
 */
async function drawn(model, z, count) {
  const pixels = parts(await model.decode(z, count), count);
  return pixels.map((part) => shrunk(toInput(part, model.imageShape), model.imageShape));
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
 * @param {import("./picture.js").Pixels} pixels of `count` pictures
 * @param {number} count
 */
function parts(pixels, count) {
  const length = pixels.length / count;
  return Array.from({ length: count }, (_, k) => pixels.subarray(k * length, (k + 1) * length));
}

/**
 * A picture averaged to about LIKENESS_SIDE pixels.
 * @param {Float32Array} picture height * width * channels
 * @param {import("./picture.js").Shape} shape
 * @returns {Float64Array}
 */
function shrunk(picture, [height, width, channels]) {
  const part = Math.max(Math.floor(Math.min(height, width) / LIKENESS_SIDE), 1);
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

/** A closer likeness than the encoder's first answer, and how close it is: the twins of what photo.py has by these names. */

import { toInput } from "./picture.js";
import { FACE_RADII } from "./rules.js";

/** How much of the difference each step takes. */
const DAMPING = [1, 0.5, 0.5, 0];

/**
 * A latent whose decoded face is nearer to a picture. What the encoder misses is asked of it again, damped; of all
 * answers the one with the smallest squared error is kept, so that it is never worse.
 * @param {import("./model.js").Model} model
 * @param {Float32Array<ArrayBuffer>} input the picture in the frame, as the encoder reads it
 * @param {Float32Array<ArrayBuffer>} first the encoder's answer
 * @returns {Promise<Float32Array<ArrayBuffer>>}
 */
export async function likeness(model, input, first) {
  let [z, best, least] = [first, first, Infinity];
  for (const damping of DAMPING) {
    const decoded = toInput(await model.decode(z), model.imageShape);
    const error = decoded.reduce((sum, value, k) => sum + (value - input[k]) ** 2, 0);
    if (error < least) [best, least] = [z, error];
    if (!damping) break;
    const { mean } = await model.encode(decoded);
    z = z.map((value, k) => value + damping * (first[k] - mean[k]));
  }
  return best;
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

/** A closer likeness than the encoder's first answer: the twin of `likeness` in photo.py. */

import { toInput } from "./picture.js";

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

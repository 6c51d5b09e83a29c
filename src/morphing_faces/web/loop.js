/** A way through several faces and back to the first, as a film without end. */

import { FRAME, Film } from "./film.js";
import { between, decoded, ease } from "./morph.js";
import { shown } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./film.js").Format} Format
 */

/** From one face to the next, in ms. */
const LEG = 2500;

/**
 * A film from face to face along the great circles, slow at each, and from the last back to the first: it can be played
 * round and round without a jump, for its last frame is the one before its first. With a `view` its photograph goes this way.
 * @param {App} app
 * @param {import("./morph.js").Face[]} faces two or more
 * @param {Format} format
 * @param {{view?: import("./photo-view.js").PhotoView | null, comment?: string, onProgress?: (part: number) => void}} [options]
 * @returns {Promise<Blob>}
 */
export async function loop(app, faces, format, { view = null, comment, onProgress = () => undefined } = {}) {
  if (faces.length < 2) throw new RangeError("a film needs two faces to go between");
  const { model } = app;
  const film = new Film(format, model.imageShape);
  const length = faces.length * LEG;
  const frames = Math.round(length / FRAME[format]);
  for (let frame = 0; frame < frames; frame++) {
    const at = (frame * length) / frames;
    const leg = Math.floor(at / LEG);
    const face = between(faces[leg], faces[(leg + 1) % faces.length], ease(at / LEG - leg));
    const [appearance, count, shape] = decoded(face);
    if (view) film.add(view.shown(view.moveTo(await model.parts(appearance, shape))), at);
    else film.add(shown(await model.decode(appearance, count, shape), model.imageShape), at);
    onProgress((0.8 * frame) / frames);
  }
  return film.encode({ length, comment, onProgress: (part) => onProgress(0.8 + 0.2 * part) });
}

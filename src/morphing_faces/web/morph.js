/** Ways between faces, and their mean: on the great circle, so that what lies between is as typical as the ends. The twin of morph.py. */

import { say } from "./rules.js";
import { partsOf } from "./session.js";

/**
 * The point at `t` between two latents, each (latentSize,), 0 giving the first and 1 the second.
 *
 * With a = r0 e0, b = r1 e1, |e| = 1 and the angle w between e0 and e1:
 * ((1 - t) r0 + t r1) (sin((1 - t) w) e0 + sin(t w) e1) / sin w. The direction turns evenly and the norm grows evenly, so
 * every point between is as typical as the ends; a straight line would pass closer to 0, through faces blander than both.
 * Where the circle is not defined (an end at 0, or the ends in line) the straight line is taken.
 * @param {Float32Array} a
 * @param {Float32Array} b
 * @param {number} t from 0 to 1
 * @returns {Float32Array<ArrayBuffer>}
 */
export function slerp(a, b, t) {
  const [r0, r1] = [norm(a), norm(b)];
  let dot = 0;
  for (let k = 0; k < a.length; k++) dot += a[k] * b[k];
  const cosine = r0 > 0 && r1 > 0 ? Math.min(Math.max(dot / (r0 * r1), -1), 1) : 1;
  const angle = Math.acos(cosine);
  const sine = Math.sin(angle);
  if (t === 0) return Float32Array.from(a);
  if (t === 1) return Float32Array.from(b);
  if (sine < 1e-6) return Float32Array.from(a, (value, k) => (1 - t) * value + t * b[k]);
  const radius = (1 - t) * r0 + t * r1;
  const [p, q] = [Math.sin((1 - t) * angle) / (sine * r0), Math.sin(t * angle) / (sine * r1)];
  return Float32Array.from(a, (value, k) => radius * (p * value + q * b[k]));
}

/**
 * The mean of latents, each (latentSize,), on the way back to where they are.
 *
 * The plain mean of n unrelated faces lies 1 / sqrt(n) as far from 0 as they do, where faces are bland. As far out as they
 * are, what they have in common would be exaggerated by sqrt(n). So the norm is between the two, their geometric mean.
 * Throws a RangeError unless there is a weight of 0 or more for each, and one above 0.
 * @param {readonly Float32Array[]} latents one or more
 * @param {readonly number[]} [weights] one for each, whose sum does not matter; by default equal
 * @returns {Float32Array<ArrayBuffer>}
 */
export function mean(latents, weights = latents.map(() => 1)) {
  const sum = weights.reduce((so, weight) => so + weight, 0);
  if (weights.length !== latents.length || !weights.every((weight) => weight >= 0 && weight < Infinity) || !(sum > 0)) {
    throw new RangeError(say("weights", { weights, count: latents.length }));
  }
  const total = new Float64Array(latents[0].length);
  let wanted = 0;
  latents.forEach((z, n) => {
    const share = weights[n] / sum;
    wanted += share * norm(z);
    z.forEach((value, k) => (total[k] += share * value));
  });
  const found = norm(total);
  return Float32Array.from(total, (value) => value * (found > 1e-6 ? Math.sqrt(wanted / found) : 1));
}

/**
 * What makes a face: its point, and what is kept still of another.
 * @typedef {Pick<import("./session.js").State, "z" | "still">} Face
 */

/**
 * The face at `t` between two, each of whose parts goes its own way.
 * @param {Face} a
 * @param {Face} b
 * @param {number} t from 0 to 1
 * @returns {{z: Float32Array<ArrayBuffer>, still: import("./session.js").Still | null}}
 */
export function between(a, b, t) {
  const [[from, fromShape], [to, toShape]] = [points(a), points(b)];
  const z = slerp(from, to, t);
  return { z, still: a.still || b.still ? { part: "shape", z: slerp(fromShape, toShape, t) } : null };
}

/**
 * The mean of faces, each of whose parts is the mean of theirs.
 * @param {readonly Face[]} faces one or more
 * @param {readonly number[]} weights one for each: see `mean`
 * @returns {{z: Float32Array<ArrayBuffer>, still: import("./session.js").Still | null}}
 */
export function mixed(faces, weights) {
  const parts = faces.map(points);
  const z = mean(parts.map(([appearance]) => appearance), weights);
  if (!faces.some(({ still }) => still)) return { z, still: null };
  return { z, still: { part: "shape", z: mean(parts.map(([, shape]) => shape), weights) } };
}

/**
 * The points whose appearance and whose shape a face has.
 * @param {Face} face
 */
function points({ z, still }) {
  const [appearance, shape] = partsOf(z, still);
  return [appearance, shape ?? appearance];
}

/**
 * What `Model.decode` takes to draw a face.
 * @param {Face} face
 * @returns {[Float32Array<ArrayBuffer>, number, Float32Array<ArrayBuffer> | null]}
 */
export function decoded(face) {
  const [appearance, shape] = partsOf(face.z, face.still);
  return [appearance, 1, shape];
}

/**
 * Whether two faces look the same, to the bit.
 * @param {Face} a
 * @param {Face} b
 */
export function isSameFace(a, b) {
  return points(a).every((point, part) => point.every((value, k) => value === points(b)[part][k]));
}

/**
 * Slow at both ends, for films and for steps of a walk.
 * @param {number} t from 0 to 1
 */
export function ease(t) {
  return t * t * (3 - 2 * t);
}

/** @param {Float32Array | Float64Array} z */
function norm(z) {
  return Math.hypot(...z);
}

/**
 * A handle of the face in the hand: how the rest of the face gives way. The twin of grab.py, in which the formulas are.
 */

import {
  HANDLES,
  PULL_BEHIND,
  PULL_DAMPING,
  PULL_EASE,
  PULL_FOLD,
  PULL_HOLD,
  PULL_KNEE,
  PULL_LIMIT,
  PULL_NEAR,
  PULL_PIN,
  PULL_PROBE,
  PULL_SETTLED,
  PULL_VISIBLE,
  say,
} from "./rules.js";
import { inverse, squeeze } from "./warp.js";

/**
 * What a grab needs of a model with shape: fields of n latents, n * 16 * 16 * 2 in pixels; the mean frame's 68 landmarks;
 * the picture's side in pixels.
 * @typedef {{fields: (u: Float32Array<ArrayBuffer>, n: number) => Promise<Float32Array>,
 *   landmarks: readonly (readonly number[])[], side: number, costs?: ArrayLike<number>}} Source `costs`: see `costs`
 * @typedef {import("./warp.js").Pair} Pair
 * @typedef {{pins?: ReadonlyMap<string, Pair | undefined>, free?: readonly boolean[], readings?: readonly ArrayLike<number>[]}} Options
 *   the handles that stay, with the places that they are held at, or undefined: where they are; which coordinates may move;
 *   directions along which the face must stay
 */

/** @type {readonly string[]} */
export const NAMES = Object.keys(HANDLES);
/** Lengths in the rules are in parts of 1/128 of the side. */
export const UNIT = 128;
/** Cells of a field's side. */
const CELLS = 16;
/** Steps at most by which places are found that are about known. */
const NEWTON_NEAR = 3;
/** Of a step that would fold the picture, or lead away. */
const HALVINGS = 3;
/** A step whose whole is worse by more leads away. */
const WORSE = 1.05;
const EYES = [[36, 42], [42, 48]];
const NOSE_TIP = 30;

/**
 * The name of a handle, or a RangeError that lists them.
 * @param {string} name
 */
export function checkHandle(name) {
  if (!NAMES.includes(name)) throw new RangeError(say("handle", { name, names: NAMES }));
  return name;
}

/**
 * Where the handles lie in the picture of a field, in pixels.
 * @param {Float32Array} field
 * @param {Source} source
 * @param {Pair[]} [near] where they are about, which spares steps
 * @returns {Pair[]} in the order of NAMES
 */
export function places(field, source, near) {
  return placed(field, 0, middles(source.landmarks), source.side, near);
}

/**
 * How far the head of a field is turned: the nose tip's distance from the middle of the eyes, in distances between them.
 * @param {Float32Array} field
 * @param {Source} source
 */
export function turned(field, source) {
  const points = placed(field, 0, source.landmarks, source.side);
  const [right, left] = EYES.map(([first, end]) => mean(points.slice(first, end)));
  return Math.abs(points[NOSE_TIP][0] - (right[0] + left[0]) / 2) / Math.hypot(left[0] - right[0], left[1] - right[1]);
}

/**
 * Take a handle into the hand.
 * @param {Source} source
 * @param {Float32Array<ArrayBuffer>} z
 * @param {string} name
 * @param {Options} [options]
 * @returns {Promise<Grab>}
 */
export async function take(source, z, name, options = {}) {
  checkHandle(name);
  const size = z.length;
  const probes = new Float32Array((size + 1) * size);
  for (let row = 0; row <= size; row++) {
    probes.set(z, row * size);
    if (row < size) probes[row * size + row] += Math.fround(PULL_PROBE);
  }
  return new Grab(source, z, name, await source.fields(probes, size + 1), options);
}

/** One handle in the hand, from taking it to letting it go. Made by `take`. */
export class Grab {
  /** @type {Source} */
  #source;
  #start;
  /** Units in a pixel. @type {number} */
  #scale;
  /** The handles' coordinates at the start and now, in units. */
  #home;
  #at;
  /** A row of latentSize for each coordinate of a handle. @type {Float64Array[]} */
  #jacobian;
  /** Where the handles are asked to be, but for the one in the hand, in units. */
  #goals;
  /** The pinned handles with the places that they are held at, in pixels. @type {Map<string, Pair>} */
  pins = new Map();
  /** The cheapest ways along which places move as the Jacobian says. @type {Float64Array[]} */
  #gain;
  #costs;
  #weight;
  /** Of the system that each step solves; symmetric, a row for each coordinate of a handle. @type {Float64Array[]} */
  #inverse;
  #floor;
  #moved;
  /** How far the handle is from the hand, in pixels. */
  left = 0;
  /** The most that a handle moved in the last step, in pixels. */
  change = 0;

  /**
   * @param {Source} source
   * @param {Float32Array<ArrayBuffer>} z
   * @param {string} name
   * @param {Float32Array} probed the fields of `z` with each coordinate moved, and of itself
   * @param {Options} options
   */
  constructor(source, z, name, probed, { pins = new Map(), free, readings = [] }) {
    const size = z.length;
    [this.#source, this.#scale] = [source, UNIT / source.side];
    this.#start = Float64Array.from(z);
    this.name = name;
    this.index = NAMES.indexOf(name);
    this.z = z;
    const means = middles(source.landmarks);
    const length = CELLS * CELLS * 2;
    this.#home = this.#flat(placed(probed, size * length, means, source.side));
    this.#at = this.#home;
    this.#jacobian = Array.from(this.#home, () => new Float64Array(size));
    for (let k = 0; k < size; k++) {
      if (free && !free[k]) continue;
      const found = this.#flat(placed(probed, k * length, means, source.side));
      found.forEach((value, row) => (this.#jacobian[row][k] = (value - this.#home[row]) / PULL_PROBE));
    }
    this.#costs = Float64Array.from(source.costs ?? Array(size).fill(1));
    this.#gain = cheapest(this.#jacobian, this.#costs, free, readings);
    this.#floor = Math.min(PULL_FOLD, squeeze(probed, size * length, CELLS, source.side) - PULL_FOLD);
    this.#goals = this.#home.slice();
    for (const [pin, place] of pins) {
      if (checkHandle(pin) === name) continue;
      const first = 2 * NAMES.indexOf(pin);
      if (place) this.#goals.set(place.map((value) => value * this.#scale), first);
      this.pins.set(pin, [this.#goals[first] / this.#scale, this.#goals[first + 1] / this.#scale]);
    }
    this.#weight = this.#weights(means);
    const system = this.#gain.map((a, i) =>
      this.#jacobian.map((b, j) => this.#weight[i] * this.#weight[j] * product(a, b) + (i === j ? PULL_DAMPING : 0)),
    );
    this.#inverse = system.map((_, k) => Float64Array.from(solved(system, system.map((_, row) => (row === k ? 1 : 0)))));
    this.#moved = new Float64Array(size);
  }

  /** Where the handles are, in pixels. @returns {Pair[]} */
  get places() {
    return NAMES.map((_, k) => [this.#at[2 * k] / this.#scale, this.#at[2 * k + 1] / this.#scale]);
  }

  /** Where the handle was taken, in pixels. @returns {Pair} */
  get home() {
    return [this.#home[2 * this.index] / this.#scale, this.#home[2 * this.index + 1] / this.#scale];
  }

  /** Whether the handle has stayed behind the hand. */
  get behind() {
    return this.left * this.#scale > PULL_BEHIND;
  }

  /**
   * One step towards the face whose handle is where the hand is: `by` pixels from where it took it.
   * @param {Pair} by
   * @returns {Promise<Float32Array<ArrayBuffer>>} the face, `z`
   */
  async step(by) {
    const hand = by.map((value) => value * this.#scale);
    const first = 2 * this.index;
    const goal = this.#goals.slice();
    const before = this.#at;
    if (hand[0] || hand[1]) {
      const rest = this.#way(goal.map((value, k) => value - this.#at[k] + product(this.#jacobian[k], this.#moved)));
      const pull = this.#way(goal.map((_, k) => hand[k - first] ?? 0));
      const { part, whole } = typical(this.#start, rest, pull);
      hand.forEach((value, k) => (goal[first + k] += part * value));
      await this.#take(whole, goal);
    } else {
      [this.z, this.#at] = [Float32Array.from(this.#start), this.#home];
      this.#moved = new Float64Array(this.#moved.length);
    }
    this.change = this.#at.reduce((most, value, k) => Math.max(most, Math.abs(value - before[k])), 0) / this.#scale;
    const [x, y] = hand.map((value, k) => this.#home[first + k] + value - this.#at[first + k]);
    this.left = Math.hypot(x, y) / this.#scale;
    return this.z;
  }

  /**
   * The movement by which the handles move as is missing, as far as it is worth it.
   * @param {Float64Array} missing
   */
  #way(missing) {
    const weighed = missing.map((value, k) => this.#weight[k] * value);
    const way = new Float64Array(this.#moved.length);
    this.#inverse.forEach((row, k) => {
      const share = product(row, weighed) * this.#weight[k];
      const gain = this.#gain[k];
      for (let n = 0; n < way.length; n++) way[n] += share * gain[n];
    });
    return way;
  }

  /**
   * Move to `wanted` from the start, or part of the way there: where nothing folds and the whole is not worse.
   * @param {Float64Array<ArrayBuffer>} wanted
   * @param {Float64Array} goal
   */
  async #take(wanted, goal) {
    const most = this.#price(goal, this.#at, this.#moved);
    for (let half = 0; half < HALVINGS; half++) {
      const way = wanted;
      const z = Float32Array.from(this.#start, (value, k) => value + way[k]);
      const field = await this.#source.fields(z.slice(), 1);
      const at = this.#flat(places(field, this.#source, this.places));
      const folds = squeeze(field, 0, CELLS, this.#source.side) < this.#floor;
      if (!folds && this.#price(goal, at, way) <= most * WORSE) {
        [this.z, this.#at, this.#moved] = [z, at, way];
        break;
      }
      const rest = way.map((value, k) => value - this.#moved[k]);
      const seen = this.#jacobian.some((row) => Math.abs(product(row, rest)) >= PULL_SETTLED * this.#scale);
      if (!seen) break; // nor would a part of it be
      wanted = rest.map((value, k) => this.#moved[k] + value / 2);
    }
  }

  /**
   * What is made as small as possible.
   * @param {Float64Array} goal
   * @param {Float64Array} at
   * @param {Float64Array} moved
   */
  #price(goal, at, moved) {
    const missing = goal.reduce((sum, value, k) => sum + (this.#weight[k] * (value - at[k])) ** 2, 0);
    return missing + PULL_DAMPING * moved.reduce((sum, value, k) => sum + this.#costs[k] * value * value, 0);
  }

  /** @param {Pair[]} means */
  #weights(means) {
    const [x, y] = means[this.index];
    const weights = means.map(([a, b], k) => {
      if (k === this.index) return 1;
      if (this.pins.has(NAMES[k])) return PULL_PIN;
      const far = (Math.hypot(a - x, b - y) * this.#scale - PULL_NEAR) / PULL_EASE;
      return PULL_HOLD / (1 + Math.exp(-far));
    });
    return weights.flatMap((weight) => [weight, weight]);
  }

  /** @param {Pair[]} points */
  #flat(points) {
    return Float64Array.from(points.flat(), (value) => value * this.#scale);
  }
}

/**
 * The part of a pull that a typical face allows, from 0 to 1, and the whole movement with it; `rest` is what else moves.
 * @param {Float64Array} start
 * @param {Float64Array<ArrayBuffer>} rest
 * @param {Float64Array<ArrayBuffer>} pull
 */
export function typical(start, rest, pull) {
  const whole = rest.map((value, k) => value + pull[k]);
  const eased = ease(start, whole);
  if (eased === 1) return { part: 1, whole };
  const length = eased * Math.sqrt(product(whole, whole));
  const [square, both] = [product(pull, pull), product(rest, pull)];
  const under = Math.max(both ** 2 - square * (product(rest, rest) - length ** 2), 0);
  const part = square ? Math.min(Math.max((Math.sqrt(under) - both) / square, 0), 1) : 0;
  const way = rest.map((value, k) => value + part * pull[k]);
  const short = Math.min(1, length / Math.sqrt(product(way, way)));
  return { part, whole: way.map((value) => value * short) };
}

/**
 * The part of a movement that a typical face allows, from 0 to 1.
 * @param {Float64Array} start
 * @param {Float64Array} wanted
 */
export function ease(start, wanted) {
  const length = Math.sqrt(product(wanted, wanted));
  if (!length) return 1;
  const begin = product(start, wanted) / length;
  const [knee, room] = [Math.max(PULL_KNEE, begin), PULL_LIMIT - PULL_KNEE];
  const beyond = begin + length - knee;
  return beyond <= 0 ? 1 : (knee + room * (1 - Math.exp(-beyond / room)) - begin) / length;
}

/** @param {readonly (readonly number[])[]} landmarks */
function middles(landmarks) {
  return Object.values(HANDLES).map((points) => mean(points.map((point) => landmarks[point])));
}

/**
 * @param {readonly (readonly number[])[]} points
 * @returns {Pair}
 */
function mean(points) {
  const sum = (/** @type {0 | 1} */ k) => points.reduce((total, point) => total + point[k], 0);
  return [sum(0) / points.length, sum(1) / points.length];
}

/**
 * Where points of the mean frame lie in the picture of a field.
 * @param {Float32Array} fields
 * @param {number} from where the field begins
 * @param {readonly (readonly number[])[]} points
 * @param {number} side
 * @param {Pair[]} [near] where they are about
 * @returns {Pair[]}
 */
function placed(fields, from, points, side, near) {
  return points.map(([x, y], n) => {
    /** @type {Pair | undefined} */
    const begin = near && [near[n][0] - x, near[n][1] - y];
    const [u, v] = inverse(fields, from, CELLS, side, [x, y], [0, 0], begin, near && NEWTON_NEAR);
    return [x + u, y + v];
  });
}

/**
 * The cheapest ways along which places move as a Jacobian says and nothing that is held changes.
 * @param {Float64Array[]} jacobian
 * @param {Float64Array} costs
 * @param {readonly boolean[] | undefined} free
 * @param {readonly ArrayLike<number>[]} readings
 */
function cheapest(jacobian, costs, free, readings) {
  const masked = (/** @type {ArrayLike<number>} */ row) => Float64Array.from(row, (value, k) => (free && !free[k] ? 0 : value));
  const cheap = (/** @type {Float64Array} */ row) => row.map((value, k) => value / costs[k]);
  const gain = jacobian.map((row) => cheap(masked(row)));
  if (!readings.length) return gain;
  const held = readings.map(masked);
  const ways = held.map(cheap);
  const system = ways.map((a) => held.map((b) => product(a, b)));
  for (const row of gain) {
    const shares = solved(system, held.map((reading) => product(reading, row)));
    ways.forEach((way, n) => way.forEach((value, k) => (row[k] -= shares[n] * value)));
  }
  return gain;
}

/**
 * What a way along each coordinate costs: more where it changes the picture more.
 * @param {readonly {latent: number, share?: number}[]} dimensions the interesting ones, with their share of the visible change
 * @param {number} size
 */
export function costs(dimensions, size) {
  const sum = dimensions.reduce((total, { share = 0 }) => total + share, 0);
  const rest = Math.max(1 - sum, 0) / Math.max(size - dimensions.length, 1);
  const found = new Float64Array(size).fill(1 + PULL_VISIBLE * size * rest);
  for (const { latent, share = 0 } of dimensions) found[latent] = 1 + PULL_VISIBLE * size * share;
  return found;
}

/**
 * @param {Float64Array} a
 * @param {ArrayLike<number>} b
 */
export function product(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k] * b[k];
  return sum;
}

/**
 * The solution of a symmetric positive system, by elimination.
 * @param {readonly (readonly number[])[]} matrix
 * @param {number[]} right
 * @returns {number[]}
 */
export function solved(matrix, right) {
  const rows = matrix.map((row, k) => [...row, right[k]]);
  const size = rows.length;
  for (let k = 0; k < size; k++) {
    for (let row = k + 1; row < size; row++) {
      const part = rows[row][k] / rows[k][k];
      for (let column = k; column <= size; column++) rows[row][column] -= part * rows[k][column];
    }
  }
  const found = Array(size).fill(0);
  for (let k = size - 1; k >= 0; k--) {
    let known = 0;
    for (let column = k + 1; column < size; column++) known += rows[k][column] * found[column];
    found[k] = (rows[k][size] - known) / rows[k][k];
  }
  return found;
}

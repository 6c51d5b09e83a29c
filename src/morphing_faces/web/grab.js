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
  PULL_VISIBLE,
  say,
} from "./rules.js";

/**
 * What a grab needs of a model with shape: fields of n latents, n * 16 * 16 * 2 in pixels; the mean frame's 68 landmarks;
 * the picture's side in pixels.
 * @typedef {{fields: (u: Float32Array<ArrayBuffer>, n: number) => Promise<Float32Array>,
 *   landmarks: readonly (readonly number[])[], side: number, costs?: ArrayLike<number>}} Source `costs`: see `costs`
 * @typedef {[number, number]} Pair x and y, in pixels
 * @typedef {{pins?: ReadonlySet<string>, free?: readonly boolean[], readings?: readonly ArrayLike<number>[], give?: number}} Options
 *   the handles that stay; which coordinates may move; directions along which the face must stay; the part of the hand's
 *   way that the handle follows
 */

/** @type {readonly string[]} */
export const NAMES = Object.keys(HANDLES);
/** Lengths in the rules are in parts of 1/128 of the side. */
export const UNIT = 128;
/** Cells of a field's side. */
const CELLS = 16;
/** Steps of Newton's method, by which a field is inverted; where the places are about known. */
const [NEWTON, NEWTON_NEAR] = [6, 3];
/** A place that is squeezed further than to this part of its area takes fixed-point steps instead. */
const SAFE = 0.1;
/** Of a step that would fold the picture, or lead away. */
const HALVINGS = 3;
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
  return inverse(field, 0, middles(source.landmarks), source.side, near);
}

/**
 * How far the head of a field is turned: the nose tip's distance from the middle of the eyes, in distances between them.
 * @param {Float32Array} field
 * @param {Source} source
 */
export function turned(field, source) {
  const points = inverse(field, 0, source.landmarks, source.side);
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
  /** @type {number} */
  #give;
  /** Units in a pixel. @type {number} */
  #scale;
  /** The handles' coordinates at the start and now, in units. */
  #home;
  #at;
  /** A row of latentSize for each coordinate of a handle. @type {Float64Array[]} */
  #jacobian;
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
  constructor(source, z, name, probed, { pins = new Set(), free, readings = [], give = 1 }) {
    const size = z.length;
    [this.#source, this.#give, this.#scale] = [source, give, UNIT / source.side];
    this.#start = Float64Array.from(z);
    this.name = name;
    this.index = NAMES.indexOf(name);
    this.z = z;
    const means = middles(source.landmarks);
    const length = CELLS * CELLS * 2;
    this.#home = this.#flat(inverse(probed, size * length, means, source.side));
    this.#at = this.#home;
    this.#jacobian = Array.from(this.#home, () => new Float64Array(size));
    for (let k = 0; k < size; k++) {
      if (free && !free[k]) continue;
      const found = this.#flat(inverse(probed, k * length, means, source.side));
      found.forEach((value, row) => (this.#jacobian[row][k] = (value - this.#home[row]) / PULL_PROBE));
    }
    this.#costs = Float64Array.from(source.costs ?? Array(size).fill(1));
    this.#jacobian = cheapest(this.#jacobian, Float64Array.from(this.#costs, () => 1), free, readings);
    this.#gain = cheapest(this.#jacobian, this.#costs, free, readings);
    this.#floor = Math.min(PULL_FOLD, squeeze(probed, size * length, source.side) - PULL_FOLD);
    this.#weight = this.#weights(means, pins);
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
    const hand = by.map((value) => value * this.#give * this.#scale);
    const goal = this.#home.slice();
    hand.forEach((value, k) => (goal[2 * this.index + k] += value));
    const before = this.#at;
    if (hand[0] || hand[1]) {
      const wanted = new Float64Array(this.#moved.length);
      const missing = Float64Array.from(
        this.#jacobian,
        (row, k) => this.#weight[k] * (goal[k] - this.#at[k] + product(row, this.#moved)),
      );
      this.#inverse.forEach((row, k) => {
        const weighed = product(row, missing) * this.#weight[k];
        this.#gain[k].forEach((value, n) => (wanted[n] += weighed * value));
      });
      const part = ease(this.#start, wanted);
      await this.#take(wanted.map((value) => value * part), goal);
    } else {
      [this.z, this.#at] = [Float32Array.from(this.#start), this.#home];
      this.#moved = new Float64Array(this.#moved.length);
    }
    this.change = this.#at.reduce((most, value, k) => Math.max(most, Math.abs(value - before[k])), 0) / this.#scale;
    const [x, y] = [2 * this.index, 2 * this.index + 1].map((k) => goal[k] - this.#at[k]);
    this.left = Math.hypot(x, y) / this.#scale;
    return this.z;
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
      const folds = squeeze(field, 0, this.#source.side) < this.#floor;
      if (!folds && this.#price(goal, at, way) <= most * (1 + 1e-6)) {
        [this.z, this.#at, this.#moved] = [z, at, way];
        break;
      }
      wanted = way.map((value, k) => (value + this.#moved[k]) / 2);
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

  /**
   * @param {Pair[]} means
   * @param {ReadonlySet<string>} pins
   */
  #weights(means, pins) {
    const [x, y] = means[this.index];
    const weights = means.map(([a, b], k) => {
      if (k === this.index) return 1;
      if (pins.has(NAMES[k])) return PULL_PIN;
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
function inverse(fields, from, points, side, near) {
  return points.map(([mx, my], n) => {
    let [x, y] = near?.[n] ?? [mx, my];
    const scale = CELLS / side;
    for (let step = 0; step < (near ? NEWTON_NEAR : NEWTON); step++) {
      const [wantedX, wantedY] = [(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5];
      const across = Math.min(Math.max(wantedX, 0), CELLS - 1);
      const down = Math.min(Math.max(wantedY, 0), CELLS - 1);
      const [left, top] = [Math.min(Math.floor(across), CELLS - 2), Math.min(Math.floor(down), CELLS - 2)];
      const [u, v] = [across - left, down - top];
      const k = from + 2 * (top * CELLS + left);
      const line = k + 2 * CELLS;
      const [insideX, insideY] = [wantedX === across ? scale : 0, wantedY === down ? scale : 0];
      const upperX = fields[k] * (1 - u) + fields[k + 2] * u;
      const lowerX = fields[line] * (1 - u) + fields[line + 2] * u;
      const upperY = fields[k + 1] * (1 - u) + fields[k + 3] * u;
      const lowerY = fields[line + 1] * (1 - u) + fields[line + 3] * u;
      const missingX = mx - x - (upperX * (1 - v) + lowerX * v);
      const missingY = my - y - (upperY * (1 - v) + lowerY * v);
      const a = 1 + ((fields[k + 2] - fields[k]) * (1 - v) + (fields[line + 2] - fields[line]) * v) * insideX;
      const c = ((fields[k + 3] - fields[k + 1]) * (1 - v) + (fields[line + 3] - fields[line + 1]) * v) * insideX;
      const [b, d] = [(lowerX - upperX) * insideY, 1 + (lowerY - upperY) * insideY];
      const determinant = a * d - b * c;
      const safe = determinant > SAFE;
      const wayX = safe ? (d * missingX - b * missingY) / determinant : missingX;
      const wayY = safe ? (a * missingY - c * missingX) / determinant : missingY;
      const most = side / CELLS;
      x += Math.min(Math.max(wayX, -most), most);
      y += Math.min(Math.max(wayY, -most), most);
    }
    return /** @type {Pair} */ ([x, y]);
  });
}

/**
 * The least part of its area to which a field squeezes the picture, its edge left out; at most 0 where it folds.
 * @param {Float32Array} fields
 * @param {number} from
 * @param {number} side
 */
function squeeze(fields, from, side) {
  const step = side / CELLS;
  let least = Infinity;
  for (let row = 1; row < CELLS - 2; row++) {
    for (let column = 1; column < CELLS - 2; column++) {
      const k = from + 2 * (row * CELLS + column);
      const [right, below] = [k + 2, k + 2 * CELLS];
      const [xx, yx] = [(fields[right] - fields[k]) / step, (fields[right + 1] - fields[k + 1]) / step];
      const [xy, yy] = [(fields[below] - fields[k]) / step, (fields[below + 1] - fields[k + 1]) / step];
      least = Math.min(least, (1 + xx) * (1 + yy) - yx * xy);
    }
  }
  return least;
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

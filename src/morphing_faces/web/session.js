/**
 * What a person is doing: a face, two axes, frozen or not. Pure state, the twin of session.py: the same verbs, the same
 * seeds, the same faces. Nothing here draws, asks or waits.
 */

import * as noise from "./noise.js";

export const FACE_FORMAT = "morphing-faces face";
export const FACE_VERSION = 1;
/** How far from 0 the edge of the hover square may be. */
export const RANGE_LIMITS = /** @type {const} */ ([0.25, 4]);
/** The 2014 random walk: one dimension at a time, this far up or down. */
export const WALK_STEP = 0.5;
/** It turns back here: beyond, no face is typical. */
export const WALK_LIMIT = 2.5;

/**
 * What a session needs of a model: `dimensions` are the latent indices of the interesting dimensions.
 * @typedef {{name: string, latentSize: number, dimensions: readonly number[]}} Shape
 * @typedef {{z: Float32Array<ArrayBuffer>, axes: [number, number]}} State
 * @typedef {{format: string, version: number, bundle: string, axes: number[], frozen: boolean, range: number,
 *   z: number[]}} Face
 */

export class Session {
  /** @type {State[]} */
  #past = [];
  /** @type {State[]} */
  #future = [];
  /** Whether the last thing done was a move: a run of moves is undone as one. */
  #gesture = false;

  /**
   * @param {Shape} model
   * @param {number} [seed] decides the faces that shuffle shows: row 0 of the seed's noise first, then row 1, and so on
   */
  constructor(model, seed = 0) {
    this.latentSize = model.latentSize;
    this.dimensions = model.dimensions;
    this.bundleName = model.name;
    this.seed = noise.checkSeed(seed);
    this.facesDrawn = 0;
    this.walkSteps = 0;
    /** Numbers into `dimensions`, x then y. @type {[number, number]} */
    this.axes = [0, 1];
    /** Whether moves are ignored. */
    this.frozen = false;
    /** The latent coordinate at the edge of the hover square. */
    this.range = 1;
    /** The point in latent space. Never written to: every change is a new array. @type {Float32Array<ArrayBuffer>} */
    this.z = this.#nextFace();
  }

  /**
   * Set the two chosen coordinates from a place in the hover square.
   *
   * Bottom-left is (-1, -1), top-right (1, 1); the place times `range` is the coordinate. Ignored while frozen.
   * @param {number} x
   * @param {number} y
   */
  move(x, y) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      throw new RangeError(`move to (${x}, ${y}): must be finite numbers, in the square from -1 to 1`);
    }
    if (this.frozen) return;
    this.beginGesture();
    const z = this.z.slice();
    z[this.dimensions[this.axes[0]]] = x * this.range;
    z[this.dimensions[this.axes[1]]] = y * this.range;
    this.z = z;
  }

  /**
   * Choose the dimensions under the mouse, x then y. Coordinates set before stay as they are.
   * @param {number} dimension0
   * @param {number} dimension1
   */
  select(dimension0, dimension1) {
    this.#latent(dimension0);
    this.#latent(dimension1);
    if (dimension0 === dimension1) {
      throw new RangeError(`dimensions ${dimension0} and ${dimension1}: must be two different ones`);
    }
    this.#remember();
    this.axes = [dimension0, dimension1];
  }

  /** Freeze the face, so that moves are ignored, or unfreeze it. */
  toggleFreeze() {
    this.frozen = !this.frozen;
    this.#gesture = false;
  }

  /**
   * Another face at random; with a seed, that seed's first. Axes, range and frozen stay as they are.
   * @param {number} [seed]
   */
  shuffle(seed) {
    if (seed !== undefined) {
      this.seed = noise.checkSeed(seed);
      this.facesDrawn = 0;
      this.walkSteps = 0;
    }
    this.#remember();
    this.z = this.#nextFace();
  }

  /**
   * One coordinate.
   * @overload
   * @param {number} dimension
   * @returns {number}
   */
  /**
   * A copy of the whole point.
   * @overload
   * @returns {Float32Array<ArrayBuffer>}
   */
  /** @param {number} [dimension] */
  get(dimension) {
    return dimension === undefined ? this.z.slice() : this.z[this.#latent(dimension)];
  }

  /**
   * `set(dimension, value)` sets one coordinate, `set(z)` the whole point. Works while frozen, too.
   * @param {number | ArrayLike<number>} target
   * @param {number} [value]
   */
  set(target, value) {
    const z = typeof target === "number" ? this.z.slice() : Float32Array.from(target);
    if (typeof target === "number") {
      if (value === undefined || !Number.isFinite(value)) {
        throw new RangeError(`coordinate ${value}: must be a finite number`);
      }
      z[this.#latent(target)] = value;
    } else {
      this.#check(z);
    }
    this.#remember();
    this.z = z;
  }

  /**
   * Set the latent coordinate at the edge of the hover square, from 0.25 to 4.
   * @param {number} value
   */
  setRange(value) {
    const [low, high] = RANGE_LIMITS;
    if (!(value >= low && value <= high)) throw new RangeError(`range ${value}: must be from ${low} to ${high}`);
    this.range = value;
  }

  /**
   * Widen the range by a tenth a step of the mouse wheel; negative steps narrow it. Stops at the limits.
   * @param {number} steps
   */
  widen(steps) {
    const [low, high] = RANGE_LIMITS;
    this.range = Math.min(Math.max(this.range * 1.1 ** steps, low), high);
    if (Math.abs(this.range - 1) < 1e-6) this.range = 1;
  }

  /** One step of the 2014 random walk: one of the dimensions, half a unit up or down. */
  walk() {
    this.beginGesture();
    const draw = noise.whole(this.seed, this.walkSteps, 2 * this.dimensions.length);
    this.walkSteps += 1;
    const latent = this.dimensions[draw >> 1];
    const z = this.z.slice();
    let step = draw % 2 ? WALK_STEP : -WALK_STEP;
    if (Math.abs(Math.fround(z[latent] + step)) > WALK_LIMIT) {
      step = z[latent] < 0 || Object.is(z[latent], -0) ? WALK_STEP : -WALK_STEP;
    }
    z[latent] += step;
    this.z = z;
  }

  /** Let what follows, moves or steps of a walk, be undone as one. */
  beginGesture() {
    if (!this.#gesture) {
      this.#remember();
      this.#gesture = true;
    }
  }

  /**
   * End a walk where it is seen to be, between two steps.
   * @param {ArrayLike<number>} z
   */
  settle(z) {
    this.beginGesture();
    this.z = Float32Array.from(z);
    this.#gesture = false;
  }

  /** Go back before the last action; a run of moves counts as one. Returns whether there was one. */
  undo() {
    return this.#travel(this.#past, this.#future);
  }

  /** Take an undo back. Returns whether there was one. */
  redo() {
    return this.#travel(this.#future, this.#past);
  }

  /** Whether there is something to undo. */
  get canUndo() {
    return this.#past.length > 0;
  }

  /** Whether there is something to redo. */
  get canRedo() {
    return this.#future.length > 0;
  }

  /**
   * The face as JSON-ready values, as the window saves it; `fromObject` brings back exactly this `z`.
   * @returns {Face}
   */
  toObject() {
    return {
      format: FACE_FORMAT,
      version: FACE_VERSION,
      bundle: this.bundleName,
      axes: [...this.axes],
      frozen: this.frozen,
      range: this.range,
      z: Array.from(this.z, shortest),
    };
  }

  /**
   * A new session that shows a face from `toObject`, or a file that the window saved.
   * @param {Shape} model
   * @param {any} object
   */
  static fromObject(model, object) {
    const session = new Session(model);
    session.fromObject(object);
    session.#past = [];
    return session;
  }

  /**
   * Show a face from `toObject`. Throws a RangeError and changes nothing when it is not a face for this model.
   * @param {any} face
   */
  fromObject(face) {
    if (typeof face !== "object" || face === null || face.format !== FACE_FORMAT) {
      throw new RangeError("is not a face saved by morphing-faces");
    }
    if (face.version !== FACE_VERSION) {
      throw new RangeError(`has version ${face.version}, this program reads ${FACE_VERSION}: update morphing-faces`);
    }
    if (face.bundle !== this.bundleName) {
      throw new RangeError(`is a face of bundle '${face.bundle}', this is '${this.bundleName}': open it with that one`);
    }
    const { z: values, axes, range, frozen } = face;
    if (!Array.isArray(values) || !Array.isArray(axes) || typeof range !== "number" || typeof frozen !== "boolean") {
      throw new RangeError("lacks z, axes, range or frozen, or one is not of its kind");
    }
    const z = Float32Array.from(values, (value) => (typeof value === "number" ? value : NaN));
    if (z.length !== this.latentSize || !z.every(Number.isFinite)) {
      throw new RangeError(`has ${z.length} coordinates, expected ${this.latentSize}, all finite`);
    }
    const last = this.dimensions.length - 1;
    const [x, y] = axes;
    if ([x, y].some((axis) => !Number.isInteger(axis) || axis < 0 || axis > last) || x === y) {
      throw new RangeError(`has axes [${axes}], expected two different ones from 0 to ${last}`);
    }
    if (!(range >= RANGE_LIMITS[0] && range <= RANGE_LIMITS[1])) {
      throw new RangeError(`has range ${range}, expected ${RANGE_LIMITS[0]} to ${RANGE_LIMITS[1]}`);
    }
    this.#remember();
    this.z = z;
    this.axes = [x, y];
    this.range = range;
    this.frozen = frozen;
  }

  /** @param {number} dimension */
  #latent(dimension) {
    const last = this.dimensions.length - 1;
    if (!Number.isInteger(dimension) || dimension < 0 || dimension > last) {
      throw new RangeError(`dimension ${dimension}: dimensions are whole numbers from 0 to ${last}`);
    }
    return this.dimensions[dimension];
  }

  /** @param {Float32Array} z */
  #check(z) {
    if (z.length !== this.latentSize || !z.every(Number.isFinite)) {
      throw new RangeError(`z has ${z.length} coordinates, expected ${this.latentSize}, all finite`);
    }
  }

  #nextFace() {
    return noise.normal(this.seed, this.facesDrawn++, 1, this.latentSize);
  }

  #remember() {
    this.#past.push({ z: this.z, axes: this.axes });
    this.#future = [];
    this.#gesture = false;
  }

  /**
   * @param {State[]} source
   * @param {State[]} target
   */
  #travel(source, target) {
    this.#gesture = false;
    const state = source.pop();
    if (!state) return false;
    target.push({ z: this.z, axes: this.axes });
    this.z = state.z;
    this.axes = state.axes;
    return true;
  }
}

/**
 * The shortest decimal that gives the float32 back.
 * @param {number} value a float32
 */
function shortest(value) {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return Number(value.toPrecision(9));
}

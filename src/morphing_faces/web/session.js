/**
 * What a person is doing: a face, two axes, frozen or not. Pure state, the twin of session.py: the same verbs, the same
 * seeds, the same faces. Nothing here draws, asks or waits.
 */

import * as grabbing from "./grab.js";
import * as noise from "./noise.js";
import {
  COORDINATE_LIMIT,
  FACE_FORMAT,
  FACE_VERSION,
  GLIDE,
  PARTS,
  PULL_SETTLED,
  PULL_STEPS,
  RANGE_LIMITS,
  SCALE_LIMITS,
  UNDO_STEPS,
  WALK_LIMIT,
  WALK_STEP,
  WALK_TRIES,
  say,
} from "./rules.js";

/**
 * A direction with a name: a step of 1 along it moves what is read of it, reading * z, by 1. Both are (latentSize,).
 * @typedef {{direction: Float64Array, reading: Float64Array, low: string, high: string}} Attribute
 */

/**
 * What a session needs of a model: `dimensions` are the latent indices of the interesting dimensions.
 * @typedef {{name: string, latentSize: number, dimensions: readonly number[],
 *   attributes?: Readonly<Record<string, Attribute>>, hasShape?: boolean}} Shape
 */

/**
 * A part of the face that stays, and the point that it is of, (latentSize,).
 * @typedef {{part: typeof PARTS[number], z: Float32Array<ArrayBuffer>}} Still
 */

/**
 * Everything that a person has set, as one value that is never written to: what a step of undo brings back.
 *
 * `z` is (latentSize,). `origin` is the random face that it set out from, as [seed, number], or `null` for the average
 * face; `scale` is how far from the average face it is, in parts of the distance at which it was drawn. `facesDrawn`,
 * `walkSteps` and `anchors` count what was taken of the seed's endless rows. `pins` are the places, in pixels, where the
 * pinned handles of a face that was pulled were pinned; `null` where something else has changed the face since, so that
 * they belong where they are.
 * @typedef {{z: Float32Array<ArrayBuffer>, seed: number, facesDrawn: number, walkSteps: number, anchors: number,
 *   origin: readonly [number, number] | null, scale: number, axes: readonly [number, number], range: number,
 *   frozen: boolean, locked: ReadonlySet<number>, held?: ReadonlySet<string>, pinned?: ReadonlySet<string>,
 *   still?: Still | null, pins?: ReadonlyMap<string, grabbing.Pair> | null}} State
 * @typedef {{format: string, version: number, bundle: string, axes: number[], frozen: boolean, range: number,
 *   locked: number[], z: number[], still?: {part: string, z: number[]}}} Face
 */

/**
 * The state behind the page.
 *
 * Every verb changes the state through one door, `#write`: it checks the point, leaves locked dimensions where they are
 * and remembers what was there before. What is refused throws a RangeError and changes nothing.
 */
export class Session {
  /** @type {State} */
  #state;
  /** @type {State[]} */
  #past = [];
  /** @type {State[]} */
  #future = [];
  /** What goes on: all of it is undone as one. @type {string | null} */
  #gesture = null;
  /** Where a glide began, its first anchor, how far it is. @type {[Float32Array<ArrayBuffer>, number, number] | null} */
  #glide = null;

  /**
   * @param {Shape} model
   * @param {number} [seed] decides the faces that shuffle shows: row 0 of the seed's noise first, then row 1, and so on
   */
  constructor(model, seed = 0) {
    this.latentSize = model.latentSize;
    this.dimensions = model.dimensions;
    this.bundleName = model.name;
    this.attributes = model.attributes ?? {};
    this.hasShape = model.hasShape ?? false;
    noise.checkSeed(seed);
    this.#state = {
      z: noise.normal(seed, 0, 1, this.latentSize),
      seed,
      facesDrawn: 1,
      walkSteps: 0,
      anchors: 0,
      origin: [seed, 0],
      scale: 1,
      axes: [0, 1],
      range: 1,
      frozen: false,
      locked: new Set(),
    };
  }

  /**
   * A session that begins at a whole state, with nothing to undo.
   * @param {Shape} model
   * @param {State} state
   */
  static from(model, state) {
    const session = new Session(model, state.seed);
    session.restore(state);
    session.#past = [];
    return session;
  }

  // --- what is shown

  /** All of it, as one value that never changes; `restore` brings it back. */
  get state() {
    return this.#state;
  }

  /** The point in latent space. Never written to: every change is a new array. */
  get z() {
    return this.#state.z;
  }

  /** Whose faces `shuffle` shows. */
  get seed() {
    return this.#state.seed;
  }

  /** The number of the face that `shuffle` shows next. */
  get facesDrawn() {
    return this.#state.facesDrawn;
  }

  /** The number of the random walk's next step. */
  get walkSteps() {
    return this.#state.walkSteps;
  }

  /** The random face that this one set out from, as [seed, number], or `null`: the average face. */
  get origin() {
    return this.#state.origin;
  }

  /** How far from the average face it is, in parts of the distance at which it was drawn. */
  get scale() {
    return this.#state.scale;
  }

  /** The dimensions under the mouse, x then y: numbers into `dimensions`. */
  get axes() {
    return this.#state.axes;
  }

  /** The latent coordinate at the edge of the hover square. */
  get range() {
    return this.#state.range;
  }

  /** Whether moves are ignored. */
  get frozen() {
    return this.#state.frozen;
  }

  /** The dimensions that no verb moves. */
  get locked() {
    return this.#state.locked;
  }

  /** The names of the attributes that no verb moves, unless it names them. */
  get held() {
    return this.#state.held ?? NONE;
  }

  /** The part that no verb moves, with its point, or `null`: shape and appearance are both of `z`. */
  get still() {
    return this.#state.still ?? null;
  }

  /**
   * The points whose appearance and whose shape a face has; the shape is `null`, which means the same point, where
   * nothing is still.
   * @param {Float32Array} [z] n points, by default the one that is shown
   * @returns {[Float32Array, Float32Array | null]}
   */
  parts(z = this.z) {
    return partsOf(z, this.still);
  }

  /** The handles that stay where they are while others are pulled. */
  get pinned() {
    return this.#state.pinned ?? NONE;
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

  // --- verbs

  /**
   * Set the two chosen coordinates from a place in the hover square.
   *
   * Bottom-left is (-1, -1), top-right (1, 1); the place times `range` is the coordinate. Ignored while frozen. A run of
   * moves is undone as one.
   * @param {number} x
   * @param {number} y
   */
  move(x, y) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) throw new RangeError(say("move", { x, y }));
    if (this.frozen) return;
    const [across, up] = this.axes.map((axis) => this.dimensions[axis]);
    this.#write({ z: this.#with({ [across]: x * this.range, [up]: y * this.range }) }, "move");
  }

  /**
   * Choose the dimensions under the mouse, x then y. Coordinates set before stay as they are.
   * @param {number} first
   * @param {number} second
   */
  select(first, second) {
    this.#latent(first);
    this.#latent(second);
    if (first === second) throw new RangeError(say("same", { first, second }));
    this.#write({ axes: [first, second] });
  }

  /** Freeze the face, so that moves are ignored, or unfreeze it. */
  toggleFreeze() {
    this.#write({ frozen: !this.frozen });
  }

  /**
   * Lock a dimension, so that no verb moves it, or unlock it.
   * @param {number} dimension
   */
  toggleLock(dimension) {
    this.#latent(dimension);
    const locked = new Set(this.locked);
    if (!locked.delete(dimension)) locked.add(dimension);
    this.#write({ locked });
  }

  /**
   * Keep the face's shape or its appearance still, so that every verb changes the other alone, or let it go.
   *
   * Let go, the face has both of `z`. Asked for the other part than the one that is still, the two change places, and the
   * face looks as before.
   * @param {string} name "shape" or "appearance"
   */
  toggleStill(name) {
    if (!this.hasShape) throw new RangeError(say("no shape", { model: this.bundleName }));
    const part = PARTS.find((one) => one === name);
    if (!part) throw new RangeError(say("part", { part: String(name), parts: PARTS }));
    const { still, z } = this;
    if (!still) this.#write({ still: { part, z } });
    else if (still.part === part) this.#write({ still: null });
    else this.#write({ z: still.z, scale: 1, still: { part, z } }, null, false);
  }

  /**
   * Move an attribute by `amount` standard deviations; the other attributes stay. Works while frozen, too.
   *
   * With a `gesture`, any word, a run of them with the same word is undone as one.
   * @param {string} name
   * @param {number} amount
   * @param {string | null} [gesture]
   */
  knob(name, amount, gesture = null) {
    const { direction } = this.#attribute(name);
    if (this.held.has(name)) throw new RangeError(say("held", { name }));
    if (!isWithin(amount)) throw new RangeError(say("amount", { amount, limit: COORDINATE_LIMIT }));
    this.#write({ z: Float64Array.from(this.z, (value, k) => value + amount * direction[k]) }, gesture);
  }

  /**
   * How much of an attribute there is, in standard deviations from the average.
   * @param {string} name
   */
  read(name) {
    return grabbing.product(this.#attribute(name).reading, this.z);
  }

  /**
   * Hold an attribute, so that it stays as it is while others and dimensions move, or let it go.
   * @param {string} name
   */
  toggleHold(name) {
    this.#attribute(name);
    const held = new Set(this.held);
    if (!held.delete(name)) held.add(name);
    this.#write({ held });
  }

  /**
   * Take a handle, "mouth-left" for example, pull it `by` [dx, dy] pixels of the frame, and let it go.
   *
   * The rest of the face follows; pinned handles, locked dimensions and held attributes stay. It is undone as one.
   * @param {grabbing.Source} source the model's
   * @param {string} name
   * @param {[number, number]} by
   * @returns {Promise<number>} how far the handle has stayed behind the hand, in pixels
   */
  async grab(source, name, by) {
    const taken = await this.take(source, name);
    for (let step = 0; step < PULL_STEPS; step++) {
      await this.pull(taken, by);
      if (taken.change < PULL_SETTLED) break;
    }
    this.endGesture();
    return taken.left;
  }

  /**
   * Take a handle into the hand, for `pull`; `endGesture` lets it go.
   * @param {grabbing.Source} source
   * @param {string} name
   * @returns {Promise<grabbing.Grab>}
   */
  async take(source, name) {
    grabbing.checkHandle(name);
    if (this.still?.part === "shape") throw new RangeError(say("still shape", {}));
    this.endGesture();
    const free = Array(this.latentSize).fill(true);
    for (const dimension of this.locked) free[this.dimensions[dimension]] = false;
    const readings = [...this.held].sort().map((held) => this.#attribute(held).reading);
    /** @type {[string, grabbing.Pair | undefined][]} */
    const pins = [...this.pinned].map((pin) => [pin, this.#state.pins?.get(pin)]);
    return grabbing.take(source, this.z, name, { pins: new Map(pins), free, readings });
  }

  /**
   * A step of a handle in the hand towards `by`, pixels from where it was taken. A run is undone as one.
   *
   * Rejects with a RangeError when something else has changed the face since.
   * @param {grabbing.Grab} taken
   * @param {[number, number]} by
   */
  async pull(taken, [x, y]) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) throw new RangeError(say("pull", { x, y }));
    const before = this.z;
    if (taken.z !== before) throw new RangeError(say("taken", {}));
    const z = await taken.step([x, y]);
    if (this.z !== before) throw new RangeError(say("taken", {}));
    this.#write({ z, pins: taken.pins }, "grab");
    taken.z = this.z;
  }

  /**
   * Pin a handle, so that it stays where it is while others are pulled, or let it go.
   * @param {string} name
   */
  pin(name) {
    grabbing.checkHandle(name);
    const pinned = new Set(this.pinned);
    if (!pinned.delete(name)) pinned.add(name);
    const others = this.#state.pins && new Map([...this.#state.pins].filter(([pin]) => pin !== name));
    this.#write({ pinned, pins: others });
  }

  /**
   * Another face at random; with a seed, that seed's first. Axes, range, frozen and locked stay as they are.
   * @param {number} [seed]
   */
  shuffle(seed) {
    const counts = seed === undefined ? {} : { walkSteps: 0, anchors: 0 };
    const [whose, number] = seed === undefined ? [this.seed, this.facesDrawn] : [noise.checkSeed(seed), 0];
    const z = noise.normal(whose, number, 1, this.latentSize);
    this.#write({ z, seed: whose, facesDrawn: number + 1, origin: [whose, number], scale: 1, ...counts });
  }

  /** Every coordinate to 0: the average face. */
  reset() {
    this.#write({ z: new Float32Array(this.latentSize), origin: null, scale: 1 });
  }

  /**
   * `set(dimension, value)` sets one coordinate, `set(z)` the whole point. Works while frozen, too.
   *
   * With a `gesture`, any word, a run of them with the same word is undone as one.
   * @param {number | ArrayLike<number>} target
   * @param {number | null} [value]
   * @param {string | null} [gesture]
   */
  set(target, value = null, gesture = null) {
    if (typeof target !== "number") return this.#write({ z: this.#point(target), scale: 1 }, gesture);
    const latent = this.#latent(target);
    if (this.locked.has(target)) throw new RangeError(say("locked", { dimension: target }));
    this.#write({ z: this.#with({ [latent]: value ?? NaN }) }, gesture);
  }

  /**
   * Set the whole point, what it set out from, whether it is frozen (`null`: as it is), and what is still (left out: as it
   * is), as one step. With a `gesture`, any word, a run of them with the same word is undone as one.
   * @param {ArrayLike<number>} z
   * @param {readonly [number, number] | null} [origin]
   * @param {number} [scale]
   * @param {boolean | null} [frozen]
   * @param {Still | null} [still]
   * @param {string | null} [gesture]
   */
  show(z, origin = null, scale = 1, frozen = null, still = this.still, gesture = null) {
    this.#write({ z: this.#point(z), origin, scale, frozen: frozen ?? this.frozen, still }, gesture);
  }

  /**
   * Set the latent coordinate at the edge of the hover square, from 0.25 to 4. A run of them is undone as one.
   * @param {number} value
   */
  setRange(value) {
    const [low, high] = RANGE_LIMITS;
    if (!(value >= low && value <= high)) throw new RangeError(say("range", { value, low, high }));
    this.#write({ range: value }, "range");
  }

  /**
   * Widen the range by a tenth a step of the mouse wheel; negative steps narrow it. Stops at the limits.
   * @param {number} steps
   */
  widen(steps) {
    if (!Number.isFinite(steps)) throw new RangeError(say("widen", { steps }));
    const [low, high] = RANGE_LIMITS;
    const wider = this.range * 1.1 ** Math.min(Math.max(steps, -100), 100);
    this.#write({ range: Math.min(Math.max(Math.floor(wider * 1e6 + 0.5) / 1e6, low), high) }, "range");
  }

  /**
   * Put the face further from the average face or nearer, from 0.1 to 2 times the distance at which it was drawn.
   *
   * A run of them is undone as one, and going back to 1 brings back every coordinate.
   * @param {number} value
   */
  setScale(value) {
    const [low, high] = SCALE_LIMITS;
    if (!(value >= low && value <= high)) throw new RangeError(say("scale", { value, low, high }));
    const start = this.#originPoint();
    const { scale } = this;
    const z = Float64Array.from(this.z, (coordinate, k) =>
      coordinate === Math.fround(start[k] * scale) ? start[k] * value : coordinate * (value / scale),
    );
    this.#write({ z, scale: value }, "scale");
  }

  /**
   * One step of the 2014 random walk: one of the dimensions, half a unit up or down. A run is undone as one.
   *
   * Steps that fall on a locked dimension are passed over; where all are locked, nothing moves.
   */
  walk() {
    for (let steps = this.walkSteps; steps < this.walkSteps + WALK_TRIES; steps++) {
      const draw = noise.whole(this.seed, steps, 2 * this.dimensions.length);
      if (this.locked.has(draw >> 1)) continue;
      const latent = this.dimensions[draw >> 1];
      const here = this.z[latent];
      let step = draw % 2 ? WALK_STEP : -WALK_STEP;
      if (Math.abs(Math.fround(here + step)) > WALK_LIMIT) {
        step = here < 0 || Object.is(here, -0) ? WALK_STEP : -WALK_STEP;
      }
      return this.#write({ z: this.#with({ [latent]: Math.fround(here + step) }), walkSteps: steps + 1 }, "walk");
    }
  }

  /**
   * Go on along a smooth, endless way through the seed's random faces, `steps` times the way to the next one.
   *
   * It begins at the face that is shown. A run of them is undone as one; any other verb ends it. The formula is in the
   * twin.
   * @param {number} steps
   */
  glide(steps) {
    if (!(Number.isFinite(steps) && steps >= 0)) throw new RangeError(say("glide", { steps }));
    const [start, first, before] = this.#glide ?? [this.z, this.#state.anchors, 0];
    const at = before + steps;
    const [z, anchors] = this.#gliding(start, first, at);
    this.#write({ z, scale: 1, anchors }, "glide");
    this.#glide = [start, first, at];
  }

  /**
   * End a walk where it is seen to be, between two steps.
   * @param {ArrayLike<number>} z
   */
  settle(z) {
    this.#write({ z: this.#point(z) }, "walk");
    this.endGesture();
  }

  /** Let what follows be undone by itself, of whatever kind it is. */
  endGesture() {
    this.#gesture = this.#glide = null;
  }

  /**
   * Take back what goes on, if it is of that kind ("move", "walk", ...), as if it had not been.
   * @param {string} gesture
   */
  cancelGesture(gesture) {
    if (this.#gesture === gesture) this.#state = this.#past.pop() ?? this.#state;
    this.endGesture();
  }

  /**
   * Show a whole state, its locks included: one that `state` gave, or that a link says.
   * @param {State} state
   */
  restore(state) {
    this.#write({ ...state }, null, false);
  }

  /**
   * Go back before the last action; a run of moves counts as one. Returns whether there was one.
   *
   * All that a person set comes back: the face, its seed and number, axes, range, frozen, locks.
   */
  undo() {
    return this.#travel(this.#past, this.#future);
  }

  /** Take an undo back. Returns whether there was one. */
  redo() {
    return this.#travel(this.#future, this.#past);
  }

  // --- a face as a file

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
      locked: [...this.locked].sort((a, b) => a - b),
      z: Array.from(this.z, shortest),
      ...(this.still ? { still: { part: this.still.part, z: Array.from(this.still.z, shortest) } } : {}),
    };
  }

  /**
   * Show a face from `toObject`. Throws a RangeError and changes nothing when it is not a face for this model.
   * @param {any} face
   */
  fromObject(face) {
    if (typeof face !== "object" || face === null || face.format !== FACE_FORMAT) throw new RangeError(say("face", {}));
    if (face.version !== FACE_VERSION) {
      throw new RangeError(say("face version", { found: short(face.version), version: FACE_VERSION }));
    }
    if (face.bundle !== this.bundleName) {
      throw new RangeError(say("face bundle", { found: short(face.bundle), bundle: this.bundleName }));
    }
    const { z: values, axes, range, frozen, locked = [] } = face;
    const lists = [values, axes, locked].every(Array.isArray);
    if (!lists || typeof range !== "number" || typeof frozen !== "boolean") throw new RangeError(say("face fields", {}));
    const z = this.#readPoint(values);
    const last = this.dimensions.length - 1;
    if (axes.length !== 2 || !different(axes, last)) throw new RangeError(say("face axes", { axes: short(axes), last }));
    const [low, high] = RANGE_LIMITS;
    if (!(range >= low && range <= high)) throw new RangeError(say("face range", { value: range, low, high }));
    if (!different(locked, last)) throw new RangeError(say("face locked", { locked: short(locked), last }));
    const still = this.#readStill(face.still);
    const shown = { axes: /** @type {const} */ ([axes[0], axes[1]]), range, frozen, locked: new Set(locked), still };
    this.#write({ z, scale: 1, ...shown }, null, false);
  }

  /** @param {unknown[]} values */
  #readPoint(values) {
    const z = Float64Array.from(values, (value) => (typeof value === "number" ? value : NaN));
    if (z.length !== this.latentSize || !z.every(isWithin)) {
      const [count, size, limit] = [z.length, this.latentSize, COORDINATE_LIMIT];
      throw new RangeError(say("face z", { count, size, limit }));
    }
    return z;
  }

  /**
   * @param {any} still
   * @returns {Still | null}
   */
  #readStill(still) {
    if (still === undefined || still === null) return null;
    if (!PARTS.includes(still.part) || !Array.isArray(still.z)) throw new RangeError(say("face still", { parts: PARTS }));
    if (!this.hasShape) throw new RangeError(say("no shape", { model: this.bundleName }));
    return { part: still.part, z: Float32Array.from(this.#readPoint(still.z)) };
  }

  // --- inside

  /**
   * The one door through which the state changes.
   *
   * A new `z` is cast to float32 and checked; where `masked`, `#masked` keeps what must stay. What was there is
   * remembered, once for a run of the same gesture; where nothing changes, nothing is.
   * @param {Partial<Omit<State, "z"> & {z: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>}>} changes
   * @param {string | null} [gesture]
   * @param {boolean} [masked]
   */
  #write(changes, gesture = null, masked = true) {
    const state = { ...this.#state, ...changes, z: this.z };
    if (changes.z) {
      state.pins = this.#state.pins;
      const wrong = changes.z.find((value) => !isWithin(value));
      if (wrong !== undefined) throw new RangeError(say("coordinate", { value: wrong, limit: COORDINATE_LIMIT }));
      const z = Float32Array.from(changes.z);
      if (masked) this.#masked(z);
      if (!z.every((value, k) => value === this.z[k])) [state.z, state.pins] = [z, changes.pins ?? null];
    }
    if (gesture !== "glide") this.#glide = null;
    if (isSame(state, this.#state)) return;
    if (gesture === null || gesture !== this.#gesture) push(this.#past, this.#state);
    this.#future = [];
    this.#gesture = gesture;
    this.#state = state;
  }

  /**
   * Change a point to the one of all that respects what the person holds on to, nearest to it.
   * @param {Float32Array} z
   */
  #masked(z) {
    const locked = [...this.locked].map((dimension) => this.dimensions[dimension]);
    for (const latent of locked) z[latent] = this.z[latent];
    if (!this.held.size) return;
    const readings = [...this.held].sort().map((name) => Float64Array.from(this.#attribute(name).reading));
    const missing = readings.map((reading) => grabbing.product(reading, this.z) - grabbing.product(reading, z));
    for (const reading of readings) for (const latent of locked) reading[latent] = 0;
    const shares = grabbing.solved(readings.map((a) => readings.map((b) => grabbing.product(a, b))), missing);
    readings.forEach((reading, n) => reading.forEach((value, k) => (z[k] += shares[n] * value)));
  }

  /** @param {ArrayLike<number>} target */
  #point(target) {
    const z = Float64Array.from(target);
    if (z.length !== this.latentSize || !z.every(isWithin)) {
      throw new RangeError(say("point", { shape: `(${z.length},)`, size: this.latentSize, limit: COORDINATE_LIMIT }));
    }
    return z;
  }

  /**
   * The point with some of its coordinates changed, float64, so that nothing overflows before it is checked.
   * @param {Record<number, number>} coordinates
   */
  #with(coordinates) {
    const z = Float64Array.from(this.z);
    for (const [latent, value] of Object.entries(coordinates)) z[Number(latent)] = value;
    return z;
  }

  #originPoint() {
    return this.origin ? noise.normal(...this.origin, 1, this.latentSize) : new Float32Array(this.latentSize);
  }

  /**
   * The point of a glide, and the first anchor that it has not used.
   * @param {Float32Array<ArrayBuffer>} start
   * @param {number} first
   * @param {number} at
   * @returns {[Float64Array<ArrayBuffer>, number]}
   */
  #gliding(start, first, at) {
    const step = Math.floor(at);
    const angle = ((at - step) * Math.PI) / 2;
    const [sine, cosine, root] = [Math.sin(angle), Math.cos(angle), Math.sqrt(6)];
    const [a, b, c, d] = [-1, 0, 1, 2].map((k) => this.#anchor(step + k, start, first));
    const z = Float64Array.from(a, (value, k) => {
      const so = (1 - sine) * value + (1 + cosine) * b[k];
      return (so + (1 + sine) * c[k] + (1 - cosine) * d[k]) / root;
    });
    return [z, first + step + 3];
  }

  /** Random faces that a glide goes through; each is used for four steps of its way. @type {Map<string, Float32Array>} */
  #anchors = new Map();

  /**
   * @param {number} number 0 is the one that puts the beginning at the face that was shown
   * @param {Float32Array} start that face
   * @param {number} first the row of the random numbers for anchor -1
   * @returns {Float32Array | Float64Array}
   */
  #anchor(number, start, first) {
    if (number === 0) {
      const [before, after] = [this.#anchor(-1, start, first), this.#anchor(1, start, first)];
      return Float64Array.from(start, (value, k) => (Math.sqrt(6) * value - before[k] - after[k]) / 2);
    }
    const row = first + Math.max(number, 0);
    const key = `${this.seed} ${row}`;
    const anchor = this.#anchors.get(key) ?? noise.normal(this.seed, row, 1, this.latentSize, GLIDE);
    if (this.#anchors.size > 8) this.#anchors.clear();
    this.#anchors.set(key, anchor);
    return anchor;
  }

  /** @param {string} name */
  #attribute(name) {
    if (!Object.hasOwn(this.attributes, name)) {
      throw new RangeError(say("attribute", { name: String(name), names: Object.keys(this.attributes) }));
    }
    return this.attributes[name];
  }

  /** @param {number} dimension */
  #latent(dimension) {
    const last = this.dimensions.length - 1;
    if (!Number.isInteger(dimension) || dimension < 0 || dimension > last) {
      throw new RangeError(say("dimension", { dimension, last }));
    }
    return this.dimensions[dimension];
  }

  /**
   * @param {State[]} source
   * @param {State[]} target
   */
  #travel(source, target) {
    this.endGesture();
    const state = source.pop();
    if (!state) return false;
    push(target, this.#state);
    this.#state = state;
    return true;
  }
}

/** @type {ReadonlySet<string>} */
const NONE = new Set();

/**
 * The points whose appearance and whose shape faces have; the shape is `null`, which means the same point, where nothing
 * is still.
 * @template {Float32Array} T
 * @param {T} z n points
 * @param {Still | null} [still]
 * @returns {[T | Float32Array<ArrayBuffer>, T | Float32Array<ArrayBuffer> | null]}
 */
export function partsOf(z, still) {
  if (!still) return [z, null];
  const stays = new Float32Array(z.length);
  for (let first = 0; first < z.length; first += still.z.length) stays.set(still.z, first);
  return still.part === "shape" ? [z, stays] : [stays, z];
}

/** @param {number} value */
function isWithin(value) {
  return Math.abs(value) <= COORDINATE_LIMIT;
}

/**
 * @param {State[]} states
 * @param {State} state
 */
function push(states, state) {
  states.push(state);
  if (states.length > UNDO_STEPS) states.shift();
}

/**
 * Whether two states hold the same. `#write` keeps the array of an unchanged point.
 * @param {State} a
 * @param {State} b
 */
function isSame(a, b) {
  const keys = /** @type {const} */ (["z", "seed", "facesDrawn", "walkSteps", "anchors", "scale", "range", "frozen"]);
  return (
    keys.every((key) => a[key] === b[key]) &&
    String(a.origin) === String(b.origin) &&
    String(a.axes) === String(b.axes) &&
    a.locked.size === b.locked.size &&
    [...a.locked].every((dimension) => b.locked.has(dimension)) &&
    String([...(a.held ?? [])].sort()) === String([...(b.held ?? [])].sort()) &&
    isSameStill(a.still ?? null, b.still ?? null) &&
    String([...(a.pinned ?? [])].sort()) === String([...(b.pinned ?? [])].sort())
  );
}

/**
 * @param {Still | null} a
 * @param {Still | null} b
 */
function isSameStill(a, b) {
  if (!a || !b) return a === b;
  return a.part === b.part && a.z.every((value, k) => value === b.z[k]);
}

/**
 * Whether they are whole numbers from 0 to `last`, no two the same.
 * @param {unknown[]} numbers
 * @param {number} last
 */
function different(numbers, last) {
  const whole = numbers.every((number) => Number.isInteger(number) && Number(number) >= 0 && Number(number) <= last);
  return whole && new Set(numbers).size === numbers.length;
}

/**
 * A value of a file in a message, not too long for a line.
 * @param {unknown} value
 */
function short(value) {
  const text = String(value).replace(/\s+/g, " ").trim();
  return text.length <= 40 ? text : `${text.slice(0, 37)}...`;
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

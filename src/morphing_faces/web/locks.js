/** A session whose person has locked some of the dimensions: nothing but their own slider, undo and a link moves those. */

import { Session } from "./session.js";

/** Steps of the walk that may fall on locked dimensions before one that counts; then the face stands still. */
const WALK_TRIES = 200;

export class LockableSession extends Session {
  /** Numbers into `dimensions`. @type {Set<number>} */
  locked = new Set();

  /** @param {number} dimension */
  toggleLock(dimension) {
    if (!this.locked.delete(dimension)) this.locked.add(dimension);
  }

  /**
   * @override
   * @param {number} x
   * @param {number} y
   */
  move(x, y) {
    const before = this.z;
    super.move(x, y);
    this.#keep(before);
  }

  /**
   * @override
   * @param {number} [seed]
   */
  shuffle(seed) {
    const before = this.z;
    super.shuffle(seed);
    this.#keep(before);
  }

  /** @override */
  walk() {
    const before = this.z;
    for (let tries = 0; tries < WALK_TRIES; tries++) {
      super.walk();
      this.#keep(before);
      if (this.z !== before) return;
    }
  }

  /** Every coordinate to 0, the average face. */
  reset() {
    const before = this.z;
    this.set(new Float32Array(this.latentSize));
    this.#keep(before);
  }

  /**
   * Set one coordinate as part of a gesture: all of it is undone as one.
   * @param {number} dimension
   * @param {number} value
   */
  slide(dimension, value) {
    this.beginGesture();
    const z = this.z.slice();
    z[this.dimensions[dimension]] = value;
    this.z = z;
  }

  /**
   * Set the whole point as part of a gesture.
   * @param {Float32Array<ArrayBuffer>} z
   */
  glide(z) {
    this.beginGesture();
    this.z = z;
  }

  /**
   * Show what a link says. It is not undone by itself: call `set` before, where there is something to go back to.
   * @param {import("./link.js").Linked} linked
   */
  restore({ seed, face, z, axes, range, frozen }) {
    this.z = z;
    [this.seed, this.facesDrawn, this.axes, this.range, this.frozen] = [seed, face + 1, axes, range, frozen];
  }

  /** Let what follows be undone by itself. */
  endGesture() {
    this.toggleFreeze(); // ends the gesture; twice, so that nothing else has changed
    this.toggleFreeze();
  }

  /** @param {Float32Array<ArrayBuffer>} before */
  #keep(before) {
    if (this.z === before || !this.locked.size) return;
    const z = this.z.slice();
    for (const dimension of this.locked) z[this.dimensions[dimension]] = before[this.dimensions[dimension]];
    this.z = z.every((value, k) => value === before[k]) ? before : z;
  }
}

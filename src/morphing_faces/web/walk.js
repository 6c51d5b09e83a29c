/** The 2014 random walk as it is seen: from step to step, slow at both ends. */

import { ease } from "./morph.js";

/** @typedef {import("./locks.js").LockableSession} LockableSession */

/** One step, from standstill to standstill, in ms. */
const STEP = 450;

export class Walk {
  /** Where the running step began, and when. @type {{z: Float32Array<ArrayBuffer>, when: number} | null} */
  #from = null;

  get running() {
    return this.#from !== null;
  }

  /** @param {LockableSession} session */
  start(session) {
    this.#from = { z: session.z, when: performance.now() };
    session.endGesture();
    session.walk();
  }

  /**
   * The point between the last step and the next; takes the next step when it has arrived.
   * @param {LockableSession} session
   * @returns {Float32Array<ArrayBuffer>}
   */
  now(session) {
    if (!this.#from) return session.z;
    const now = performance.now();
    if (now - this.#from.when >= STEP) {
      this.#from = { z: session.z, when: now };
      session.walk();
    }
    const { z, when } = this.#from;
    const t = ease(Math.min(Math.max((now - when) / STEP, 0), 1));
    return z.map((value, k) => value + t * (session.z[k] - value));
  }

  /** @param {LockableSession} session */
  stop(session) {
    if (!this.#from) return;
    const here = this.now(session);
    this.#from = null;
    session.settle(here);
  }
}

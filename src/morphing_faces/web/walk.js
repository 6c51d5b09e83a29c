/** The 2014 random walk as it is seen: from step to step, slow at both ends. */

import { ease } from "./morph.js";
import { WALK_SECONDS } from "./rules.js";

/** @typedef {import("./session.js").Session} Session */

/** One step, from standstill to standstill, in ms. */
const STEP = 1000 * WALK_SECONDS;

export class Walk {
  /** Where the running step began, and when. @type {{z: Float32Array<ArrayBuffer>, when: number} | null} */
  #from = null;

  get running() {
    return this.#from !== null;
  }

  /** @param {Session} session */
  start(session) {
    this.#from = { z: session.z, when: performance.now() };
    session.endGesture();
    session.walk();
  }

  /**
   * The point between the last step and the next; takes the next step when it has arrived.
   * @param {Session} session
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

  /** @param {Session} session */
  stop(session) {
    if (!this.#from) return;
    const here = this.now(session);
    this.#from = null;
    session.settle(here);
  }
}

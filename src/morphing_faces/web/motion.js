/** What moves the face by itself. Each shows points between those of the session; walk and glide move the session, too. */

import { ease } from "./morph.js";
import { GLIDE_SECONDS, WALK_SECONDS } from "./rules.js";

/**
 * @typedef {import("./session.js").Session} Session
 * @typedef {Float32Array<ArrayBuffer>} Point
 * @typedef {{kind: "walk" | "glide" | "return" | "invite", over: boolean, now: (session: Session) => Point,
 *   stop: (session: Session) => void}} Motion `now` is the point to be shown; `stop` ends it where it is seen to be
 */

const RETURN = 350; // ms
/** The invitation: how far the face goes along the two axes, how long and how often it goes round, and how long it takes to get going. */
const INVITE = { reach: 0.7, round: 9000, rounds: 4, begin: 1500 };

/** The 2014 random walk: from step to step, slow at both ends. @implements {Motion} */
export class Walk {
  /** @type {"walk"} */
  kind = "walk";
  over = false;

  /** @param {Session} session */
  constructor(session) {
    session.endGesture();
    this.from = session.z;
    this.when = performance.now();
    session.walk();
  }

  /** @param {Session} session */
  now(session) {
    const now = performance.now();
    if (now - this.when >= 1000 * WALK_SECONDS) {
      [this.from, this.when] = [session.z, now];
      session.walk();
    }
    return between(this.from, session.z, (now - this.when) / 1000 / WALK_SECONDS);
  }

  /** @param {Session} session */
  stop(session) {
    session.settle(this.now(session));
  }
}

/** A smooth way through random faces, without an end. @implements {Motion} */
export class Glide {
  /** @type {"glide"} */
  kind = "glide";
  over = false;
  #before = performance.now();

  /** @param {Session} session */
  constructor(session) {
    session.endGesture();
  }

  /** @param {Session} session */
  now(session) {
    const now = performance.now();
    session.glide(Math.min(now - this.#before, 100) / 1000 / GLIDE_SECONDS); // after a pause it goes on, it does not jump
    this.#before = now;
    return session.z;
  }

  /** @param {Session} session */
  stop(session) {
    session.endGesture();
  }
}

/** Back from what was shown to what the session holds. @implements {Motion} */
export class Return {
  /** @type {"return"} */
  kind = "return";
  over = false;
  #begun = performance.now();

  /** @param {Point} from */
  constructor(from) {
    this.from = from;
  }

  /** @param {Session} session */
  now(session) {
    const t = (performance.now() - this.#begun) / RETURN;
    this.over = t >= 1;
    return this.over ? session.z : between(this.from, session.z, t);
  }

  stop() {
    this.over = true;
  }
}

/** Shows an untouched page what a hand would do: the face goes round along its two axes, from where it is. @implements {Motion} */
export class Invite {
  /** @type {"invite"} */
  kind = "invite";
  over = false;
  #begun = performance.now();

  /** @param {Session} session */
  now(session) {
    const time = performance.now() - this.#begun;
    const left = INVITE.rounds * INVITE.round - time;
    this.over = left <= 0; // who has not come by then is not there
    const begun = ease(Math.min(Math.max(Math.min(time, left) / INVITE.begin, 0), 1));
    const angle = (2 * Math.PI * time) / INVITE.round;
    const eight = [Math.sin(angle), Math.sin(2 * angle)]; // it stays in the square
    const z = session.z.slice();
    session.axes.forEach((axis, k) => {
      const latent = session.dimensions[axis];
      z[latent] += begun * (INVITE.reach * session.range * eight[k] - z[latent]);
    });
    return z;
  }

  stop() {
    this.over = true;
  }
}

/**
 * @param {Point} from
 * @param {Point} to
 * @param {number} t from 0 to 1; beyond, the end
 * @returns {Point}
 */
function between(from, to, t) {
  const part = ease(Math.min(Math.max(t, 0), 1));
  return from.map((value, k) => value + part * (to[k] - value));
}

/** What all views share: the session, what draws its faces, the newest picture, and one frame loop. */

import { Invite, Return } from "./motion.js";
import { RestingWork } from "./rest.js";

/**
 * @typedef {import("./model.js").Model} Model
 * @typedef {import("./motion.js").Motion} Motion
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./sheet.js").Sheet} Sheet
 * @typedef {import("./store.js").Store} Store
 * @typedef {import("./worker.js").Manifest} Manifest
 * @typedef {{label: string, run: () => void}} Remedy a button beside a message
 * @typedef {(message: string, kind?: "error", remedy?: Remedy) => void} Tell
 * @typedef {{bundle: () => void, model: () => void, change: () => void, picture: (pixels: Pixels) => void}} Listeners
 */

/** The model's pictures take over from the sheet's within this, in ms. */
const TAKE_OVER = 400;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

export class App {
  /** @type {Model | null} */
  #model = null;
  /** @type {Session | null} */
  #session = null;
  /** @type {Manifest | null} */
  #manifest = null;
  /** Draws until the model does. @type {Sheet | null} */
  #sheet = null;
  /** When the model began to take over. @type {number} */
  #taken = 0;
  /** @type {{[K in keyof Listeners]: Listeners[K][]}} */
  #listeners = { bundle: [], model: [], change: [], picture: [] };
  #frameDue = false;
  /** The newest place of the hand in the hover square that is not yet shown. @type {[number, number] | null} */
  #hand = null;
  /** The point that was last asked to be drawn. @type {Float32Array<ArrayBuffer> | null} */
  #asked = null;
  /** The part that was kept still then. @type {import("./session.js").Still | null} */
  #still = null;
  /** What moves the face by itself. @type {Motion | null} */
  #motion = null;
  /** The newest picture of the face. @type {Pixels | null} */
  picture = null;
  /** Its latent. @type {Float32Array<ArrayBuffer> | null} */
  pictured = null;
  /** The folder's name of the bundle that is shown: what links and the store know it by. */
  bundle = "";
  resting = new RestingWork();
  stats = { decodes: 0, frames: 0 };

  /**
   * @param {Store} store
   * @param {Tell} tell
   */
  constructor(store, tell) {
    this.store = store;
    this.tell = tell;
  }

  get model() {
    if (!this.#model) throw new Error("The model is not there yet. Try again when it has loaded.");
    return this.#model;
  }

  /** To be looked at; what changes it goes through `act`. */
  get session() {
    if (!this.#session) throw new Error("No face is there yet. Try again when the model has loaded.");
    return this.#session;
  }

  get manifest() {
    if (!this.#manifest) throw new Error("No model is described yet. Try again when it has loaded.");
    return this.#manifest;
  }

  /** What a link needs to know of the model. */
  get shape() {
    const { latentSize, dimensions, hasShape } = this.session;
    return { name: this.bundle, latentSize, dimensions, hasShape };
  }

  /** Whether a face is there and can be moved, if only on the sheet. */
  get alive() {
    return this.#session !== null;
  }

  /** Whether the model is there. */
  get ready() {
    return this.#model !== null;
  }

  /** What moves the face by itself, if anything. */
  get moving() {
    return this.#motion?.kind ?? null;
  }

  /** The point that is on the screen or about to be. */
  get seen() {
    return this.#asked ?? this.session.z;
  }

  /**
   * Be told when another bundle is shown, when its model is there, once a frame when something changed, or with each
   * picture of the face.
   * @template {keyof Listeners} K
   * @param {K} event
   * @param {Listeners[K]} listener
   */
  on(event, listener) {
    this.#listeners[event].push(listener);
  }

  /**
   * Show a bundle. What was shown before is closed.
   * @param {string} bundle the name of its folder
   * @param {Manifest} manifest
   * @param {Session} session
   */
  show(bundle, manifest, session) {
    this.#stop();
    this.#model?.close();
    this.#model = null;
    [this.bundle, this.#manifest, this.#session, this.#sheet] = [bundle, manifest, session, null];
    this.#asked = this.#hand = this.picture = this.pictured = null;
    this.#tellAll("bundle");
    this.change();
  }

  /** Show nothing any more. */
  close() {
    if (!this.alive) return;
    this.#stop();
    this.#model?.close();
    this.#model = this.#session = this.#sheet = null;
  }

  /**
   * Faces of the bundle that is shown, to draw with until `use` brings the model.
   * @param {Sheet} sheet
   */
  useSheet(sheet) {
    this.#sheet = sheet;
    this.#asked = null;
    this.change();
  }

  /**
   * The model of the bundle that is shown.
   * @param {Model} model
   */
  use(model) {
    this.#model = model;
    this.#taken = performance.now();
    this.#asked = null;
    this.#tellAll("model");
    this.change();
  }

  /** Something changed: show it in the next frame. */
  change() {
    this.resting.disturb();
    if (this.#frameDue) return;
    this.#frameDue = true;
    requestAnimationFrame(() => this.#frame());
  }

  /** A hand begins to lead the face: what it does from now on can be taken back as one. */
  follow() {
    if (!this.alive) return;
    if (this.#isDisplay()) this.#motion = null;
    this.#catchUp();
    this.session.endGesture();
  }

  /**
   * The hand is at a place in the hover square, bottom-left (-1, -1), top-right (1, 1). Only the newest counts.
   * @param {number} x
   * @param {number} y
   */
  hover(x, y) {
    if (!this.alive || (this.#motion && !this.#isDisplay())) return;
    this.#motion = null;
    this.#hand = [x, y];
    this.change();
  }

  /** The hand went away without a click: what it did is taken back. */
  letGo() {
    if (!this.alive || (this.#motion && !this.#isDisplay())) return;
    const from = this.seen;
    this.#hand = null;
    this.session.cancelGesture("move");
    if (!calm.matches && from !== this.session.z) this.#motion = new Return(from);
    this.change();
  }

  /** Show a visitor who has not touched anything what a hand would do. */
  invite() {
    if (calm.matches || !this.alive || this.#motion) return;
    this.#motion = new Invite();
    this.change();
  }

  /** The visitor is there: the invitation ends. */
  welcome() {
    if (this.moving !== "invite") return;
    this.#motion = new Return(this.seen);
    this.change();
  }

  /**
   * Let the face move by itself until something else is done.
   * @param {new (session: Session) => Motion} Kind
   */
  start(Kind) {
    if (!this.ready) return;
    this.#stop();
    this.#motion = new Kind(this.session);
    this.change();
  }

  /** Whether what moves the face moves only what is shown, and the hand may take over at once. */
  #isDisplay() {
    return this.moving === "return" || this.moving === "invite";
  }

  /** What is seen becomes the session's, before anything else is done to it. */
  #stop() {
    const motion = this.#motion;
    this.#motion = null;
    if (motion) motion.stop(this.session);
    this.#catchUp();
  }

  #catchUp() {
    const hand = this.#hand;
    this.#hand = null;
    if (hand) void this.attempt(() => this.session.move(...hand));
  }

  /**
   * Do what the person asked for: the one way to change the session. It ends what moves by itself; what is refused is
   * told in one line.
   * @param {(session: Session) => void} action
   */
  act(action) {
    if (!this.alive) return;
    this.#stop();
    void this.attempt(() => action(this.session));
    this.change();
  }

  /**
   * Run something whose errors are sentences for people; they are told.
   * @param {() => void | Promise<void>} action
   */
  async attempt(action) {
    try {
      await action();
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return; // another model was chosen meanwhile
      if (!(error instanceof Error)) throw error;
      this.tell(sentence(error.message), "error");
    }
  }

  /**
   * Decode faces as the person sees them, what is kept still included, and count them. @see Model.decode
   * @param {Float32Array} u
   * @param {number} [n]
   * @returns {Promise<Pixels>}
   */
  async decode(u, n = 1) {
    const [appearance, shape] = this.session.parts(u);
    const pixels = await this.model.decode(appearance, n, shape);
    this.stats.decodes += n;
    return pixels;
  }

  /** @param {"bundle" | "model" | "change"} event */
  #tellAll(event) {
    for (const listener of this.#listeners[event]) listener();
  }

  #frame() {
    this.#frameDue = false;
    if (!this.alive) return;
    this.#catchUp();
    const z = this.#motion ? this.#motion.now(this.session) : this.session.z;
    if (this.#motion?.over) this.#motion = null;
    const blending = this.#sheet !== null && this.ready;
    if (z !== this.#asked || this.session.still !== this.#still || blending) {
      [this.#asked, this.#still] = [z, this.session.still];
      void this.attempt(() => this.#draw(z));
    }
    this.#tellAll("change");
    if (this.#motion || blending) this.change();
  }

  /** @param {Float32Array<ArrayBuffer>} z */
  async #draw(z) {
    const model = this.#model;
    const sheet = this.#sheet?.holds(z) && !this.session.still ? this.#sheet : null;
    if (!model) return sheet ? this.#paint(sheet.draw(z), z) : undefined;
    const pixels = await model.decodeLatest(...this.session.parts(z));
    if (!pixels || model !== this.#model) return;
    this.stats.decodes++;
    const part = (performance.now() - this.#taken) / TAKE_OVER;
    if (sheet && part < 1) blend(pixels, sheet.draw(z), part);
    else this.#sheet = null;
    this.#paint(pixels, z);
  }

  /**
   * @param {Pixels} pixels
   * @param {Float32Array<ArrayBuffer>} z
   */
  #paint(pixels, z) {
    this.stats.frames++;
    [this.picture, this.pictured] = [pixels, z];
    for (const listener of this.#listeners.picture) listener(pixels);
  }
}

/**
 * @param {Pixels} pixels changed in place
 * @param {Pixels} others
 * @param {number} part of the first, from 0 to 1
 */
function blend(pixels, others, part) {
  for (let k = 0; k < pixels.length; k++) pixels[k] = others[k] + part * (pixels[k] - others[k]);
}

/** A message as a sentence: with a capital and a full stop. @param {string} text */
export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** What all views share: the model, the session, the newest picture, and one frame loop. */

import { RestingWork } from "./rest.js";
import { Session } from "./session.js";
import { Walk } from "./walk.js";

/**
 * @typedef {import("./model.js").Model} Model
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {import("./store.js").Store} Store
 * @typedef {{model: () => void, change: () => void, picture: (pixels: Pixels) => void}} Listeners
 */

export class App {
  /** @type {Model | null} */
  #model = null;
  /** @type {Session | null} */
  #session = null;
  /** @type {{[K in keyof Listeners]: Listeners[K][]}} */
  #listeners = { model: [], change: [], picture: [] };
  #frameDue = false;
  /** The newest place of the hand in the hover square that is not yet shown. @type {[number, number] | null} */
  #hand = null;
  /** The point that was last asked to be drawn. @type {Float32Array | null} */
  #asked = null;
  /** The newest picture of the face. @type {Pixels | null} */
  picture = null;
  /** Its latent. @type {Float32Array<ArrayBuffer> | null} */
  pictured = null;
  /** The folder's name of the bundle that is shown: what links and the store know it by. */
  bundle = "";
  walk = new Walk();
  resting = new RestingWork();
  stats = { decodes: 0, frames: 0 };

  /**
   * @param {Store} store
   * @param {(message: string, kind?: "error") => void} tell
   */
  constructor(store, tell) {
    this.store = store;
    this.tell = tell;
  }

  get model() {
    if (!this.#model) throw new Error("no model is loaded yet");
    return this.#model;
  }

  get session() {
    if (!this.#session) throw new Error("no model is loaded yet");
    return this.#session;
  }

  /** What a link needs to know of the model. */
  get shape() {
    const { latentSize, dimensions } = this.model;
    return { name: this.bundle, latentSize, dimensions };
  }

  get ready() {
    return this.#model !== null;
  }

  /**
   * Be told when a model was loaded, once a frame when something changed, or with each picture of the face.
   * @template {keyof Listeners} K
   * @param {K} event
   * @param {Listeners[K]} listener
   */
  on(event, listener) {
    this.#listeners[event].push(listener);
  }

  /**
   * Show a model, from the first face of a seed on, or from what a link says.
   * @param {Model} model
   * @param {string} bundle the name of its folder
   * @param {number} seed
   * @param {import("./session.js").State | null} linked
   */
  use(model, bundle, seed, linked) {
    this.leave();
    this.#model = model;
    this.bundle = bundle;
    this.#session = new Session(model, linked?.seed ?? seed);
    if (linked) this.#session = Session.from(model, linked);
    this.#asked = this.#hand = this.picture = this.pictured = null;
    for (const listener of this.#listeners.model) listener();
    this.change();
  }

  /** Close the model that is shown, if any. */
  leave() {
    if (this.walk.running) this.walk.stop(this.session);
    this.#model?.close();
    this.#model = null;
  }

  /** Something changed: show it in the next frame. */
  change() {
    this.resting.disturb();
    if (this.#frameDue) return;
    this.#frameDue = true;
    requestAnimationFrame(() => this.#frame());
  }

  /**
   * The hand is at a place in the hover square, bottom-left (-1, -1), top-right (1, 1). Only the newest counts.
   * @param {number} x
   * @param {number} y
   */
  hover(x, y) {
    if (!this.ready || this.walk.running) return;
    this.#hand = [x, y];
    this.change();
  }

  /** What the person sees under the hand becomes the session's, before anything else is done to it. */
  #catchUp() {
    if (this.#hand) this.session.move(...this.#hand);
    this.#hand = null;
  }

  /**
   * Do what the person asked for. It ends a walk; what is refused is told in one line.
   * @param {(session: Session) => void} action
   */
  act(action) {
    if (!this.ready) return;
    this.walk.stop(this.session);
    this.#catchUp();
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
   * Decode, and count it. @see Model.decode
   * @param {Float32Array} u
   * @returns {Promise<Pixels>}
   */
  async decode(u) {
    const pixels = await this.model.decode(u);
    this.stats.decodes++;
    return pixels;
  }

  #frame() {
    this.#frameDue = false;
    if (!this.ready) return;
    this.#catchUp();
    const z = this.walk.now(this.session);
    for (const listener of this.#listeners.change) listener();
    if (z !== this.#asked) {
      this.#asked = z;
      void this.attempt(() => this.#show(z));
    }
    if (this.walk.running) this.change();
  }

  /** @param {Float32Array<ArrayBuffer>} z */
  async #show(z) {
    const model = this.model;
    const pixels = await model.decodeLatest(z);
    if (!pixels || model !== this.#model) return;
    this.stats.decodes++;
    this.stats.frames++;
    [this.picture, this.pictured] = [pixels, z];
    for (const listener of this.#listeners.picture) listener(pixels);
  }
}

/** @param {string} text */
function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** The photograph in the place of the face: it follows the hand, the sliders and the walk at its own sharpness. */

import { sentence } from "./app.js";
import { byId, download, onClick } from "./dom.js";
import { turned } from "./grab.js";
import { PhotoView } from "./photo-view.js";
import { context } from "./picture.js";
import { newestOnly } from "./rest.js";
import { PART_OF_WAY, TURNED, UNLIKE, say } from "./rules.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./photo.js").Point} Point
 */

/** The largest side on the screen, in pixels. */
const LARGEST = 1024;

export class PhotoStage {
  #canvas = byId("photo-stage", HTMLCanvasElement);
  #bar = byId("photo-bar", HTMLElement);
  #compare = byId("photo-compare", HTMLButtonElement);
  /** @type {PhotoView | null} */
  #view = null;
  #before = false;
  /** Why the photograph is moved a part of the way only; see `Photograph.hard` in photo.py. @type {"turned" | "unlike" | ""} */
  #hard = "";
  /** The view of which that was told. @type {PhotoView | null} */
  #told = null;
  #follow = newestOnly(() => this.#moveOn());
  /** The latent whose face the photograph shows. @type {Float32Array | null} */
  shown = null;
  /** Called when another picture stands in the place of the face, or none any more. @type {() => void} */
  onShown = () => undefined;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    app.on("picture", () => void (this.#view && app.ready && this.#follow()));
    app.on("bundle", () => this.leave());
    onClick("photo-leave", () => this.leave());
    onClick("photo-save", () => app.attempt(() => this.save()));
    this.#compare.addEventListener("click", () => this.#show(!this.#before));
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
  }

  /** What draws the photograph, while there is one. */
  get view() {
    return this.#view;
  }

  /** The portrait as it is shown, for a film; `null` while the face itself is shown. */
  get picture() {
    return this.#view?.shown(this.#move) ?? null;
  }

  /** What becomes of the photograph on the screen. */
  get #move() {
    return this.#before ? null : (this.#view?.moved ?? null);
  }

  /**
   * Let a photograph follow, from the face that it has.
   * @param {HTMLCanvasElement} photograph
   * @param {[Point, Point]} eyes
   * @param {Float32Array<ArrayBuffer>} z its face
   * @param {number} resemblance of that face to it, in dB
   */
  async begin(photograph, eyes, z, resemblance) {
    const { model } = this.app;
    if (!model.hasShape) return;
    const own = await model.parts(z);
    if (model !== this.app.model) return;
    this.#view?.close();
    const far = model.source !== null && turned(own.field, model.source) > TURNED;
    this.#hard = far ? "turned" : resemblance < UNLIKE ? "unlike" : "";
    this.#view = new PhotoView(photograph, eyes, own, { give: this.#hard ? PART_OF_WAY : 1 });
    this.#own = z;
    this.shown = z;
    this.#canvas.hidden = this.#bar.hidden = false;
    this.#show(false);
    if (this.app.pictured === this.app.session.z) void this.#follow(); // what is locked may hold it elsewhere
  }

  /** Give the place back to the face. */
  leave() {
    if (!this.#view) return;
    this.#view.close();
    this.#view = this.shown = null;
    this.#canvas.hidden = this.#bar.hidden = true;
    this.onShown();
  }

  /** Write the whole photograph, as it is shown, at its own size. */
  async save() {
    const view = this.#view;
    if (!view) return;
    const { width, height } = view.photograph;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    context(canvas).drawImage(view.draw(view.whole, width, height, this.#move), 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!(blob instanceof Blob)) throw new Error("The photograph is too large to be written as a picture.");
    download(blob, "photograph.png");
    this.#draw();
    this.app.tell("The photograph is saved.");
  }

  /** Its own latent, and the newest that was asked for. @type {Float32Array | null} */
  #own = null;

  async #moveOn() {
    const { model, pictured } = this.app;
    const view = this.#view;
    if (!view || !pictured) return;
    const own = this.#own;
    const { session } = this.app;
    const itself = own !== null && !session.still && pictured.every((value, k) => value === own[k]);
    try {
      const parts = itself ? view.own : await model.parts(...session.parts(pictured));
      if (view !== this.#view) return;
      view.move(parts);
      if (view.moved && this.#hard && this.#told !== view) {
        this.#told = view;
        this.app.tell(sentence(say(this.#hard, {})));
      }
      this.shown = pictured;
      this.#draw();
      this.onShown();
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) throw error; // the model was closed
    }
  }

  /** @param {boolean} before */
  #show(before) {
    this.#before = before;
    this.#compare.setAttribute("aria-pressed", String(before));
    this.#draw();
    this.onShown();
  }

  #draw() {
    const view = this.#view;
    if (!view) return;
    const side = Math.min(Math.round(this.#canvas.clientWidth * (window.devicePixelRatio || 1)), LARGEST);
    if (side < 16) return;
    if (this.#canvas.width !== side) Object.assign(this.#canvas, { width: side, height: side });
    context(this.#canvas).drawImage(view.draw(view.portrait, side, side, this.#move), 0, 0);
  }
}

/** The dialog for the person's own photograph: pick it, put two dots on the eyes, see what the model makes of it. */

import { byId, inside, onClick } from "./dom.js";
import { findFaces } from "./faces.js";
import { askedAgain, fitted, resemblance } from "./likeness.js";
import * as photo from "./photo.js";
import { context, paint, toInput } from "./picture.js";
import { newestOnly } from "./rest.js";
import { FINDER_SMALLEST } from "./rules.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./photo.js").Point} Point
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {{input: Float32Array<ArrayBuffer>, pixels: Pixels, mean: Float32Array<ArrayBuffer>,
 *   std: Float32Array<ArrayBuffer>, z: Float32Array<ArrayBuffer>, near: number}} Encoded the encoder's answer, the nearer
 *   latent, and how near its face is, in dB
 */

/** A press of an arrow key moves a dot by this part of the photograph's width; with Shift, ten times that. */
const KEY_STEP = 0.002;
/** Pixels of a small picture's side, and how many of them are offered. */
const THUMBNAIL = 56;
const MOST_FACES = 12;

export class PhotoDialog {
  #dialog = byId("photo", HTMLDialogElement);
  #message = byId("photo-message", HTMLElement);
  #board = byId("photo-board", HTMLElement);
  #canvas = byId("photo-canvas", HTMLCanvasElement);
  #file = byId("photo-file", HTMLInputElement);
  #use = byId("photo-use", HTMLButtonElement);
  #other = byId("photo-other", HTMLButtonElement);
  #dots = [byId("eye-left", HTMLButtonElement), byId("eye-right", HTMLButtonElement)];
  /** @type {HTMLCanvasElement | null} */
  #photograph = null;
  /** @type {[Point, Point]} */
  #eyes = [{ x: 0, y: 0 }, { x: 1, y: 0 }];
  #encodeNewest = newestOnly(() => this.#encode());
  /** Counts places of the dots: what comes closer for another place may stop. */
  #wanted = 0;
  #cutDue = false;
  /** Whether the dots are where eyes were found or where the person put them. */
  #placed = false;
  /** What there is to say of the face when it is encoded. */
  #note = "";
  /** The model that has been told that a photograph may come. @type {import("./model.js").Model | null} */
  #expecting = null;
  /** Counts photographs: what was begun for one before is dropped. */
  #shown = 0;
  /** What the model makes of the frame as it is now. @type {Encoded | null} */
  encoded = null;
  /** Called with each newly encoded photograph. @type {() => void} */
  onEncoded = () => undefined;

  /**
   * @param {App} app
   * @param {(photograph: HTMLCanvasElement, eyes: [Point, Point], z: Float32Array<ArrayBuffer>, resemblance: number) => Promise<void>} onUsed
   *   called with the photograph and its latent when the person uses its face
   */
  constructor(app, onUsed) {
    this.app = app;
    this.onUsed = onUsed;
    app.on("model", () => this.#forget());
    onClick("open-photo", () => this.open());
    onClick("photo-choose", () => this.#file.click());
    this.#other.addEventListener("click", () => this.#file.click());
    this.#use.addEventListener("click", () => this.#useFace());
    this.#file.addEventListener("change", () => {
      const file = this.#file.files?.[0];
      this.#file.value = ""; // the same file may be chosen again
      if (file) void this.show(file);
    });
    this.#dots.forEach((dot, eye) => {
      dot.addEventListener("pointerdown", (event) => dot.setPointerCapture(event.pointerId));
      dot.addEventListener("pointermove", (event) => dot.hasPointerCapture(event.pointerId) && this.#drag(eye, event));
      dot.addEventListener("keydown", (event) => this.#key(eye, event));
    });
    document.addEventListener("paste", (event) => this.#take(event, event.clipboardData));
    document.addEventListener("drop", (event) => this.#take(event, event.dataTransfer));
    document.addEventListener("dragenter", ({ dataTransfer }) => dataTransfer?.types.includes("Files") && this.#expect());
    document.addEventListener("dragover", (event) => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    });
  }

  open() {
    if (!this.app.ready || this.#dialog.open) return;
    this.#dialog.showModal();
    this.app.welcome(); // a drop is no press of a button or key; what moves by itself would keep the networks busy
    this.#expect();
  }

  /** Load and start what a photograph needs while the person still looks for one; once for each model. */
  #expect() {
    const { model, ready } = this.app;
    if (!ready || model === this.#expecting) return;
    this.#expecting = model;
    void model.expectPhotograph();
  }

  /**
   * Read a photograph and begin.
   * @param {Blob} file
   */
  async show(file) {
    this.open();
    const shown = ++this.#shown;
    this.#tell("Reading the picture");
    this.#use.disabled = true;
    try {
      const photograph = await photo.read(file);
      if (shown !== this.#shown) return;
      this.#photograph = photograph;
      this.encoded = null;
      this.#placed = false;
      this.#offer([]);
      this.#eyes = photo.guess(photograph.width, photograph.height);
      Object.assign(this.#canvas, { width: photograph.width, height: photograph.height });
      context(this.#canvas).drawImage(photograph, 0, 0);
      this.#board.style.aspectRatio = `${photograph.width} / ${photograph.height}`;
      this.#board.style.setProperty("--shape", String(photograph.width / photograph.height));
      byId("photo-pick", HTMLElement).hidden = true;
      byId("photo-work", HTMLElement).hidden = this.#other.hidden = false;
      this.#draw();
      this.#dots[0].focus();
      await this.#find(shown);
    } catch (error) {
      if (shown !== this.#shown || (error instanceof DOMException && error.name === "AbortError")) return;
      if (!(error instanceof Error)) throw error;
      this.#use.disabled = !this.encoded; // the photograph before is still there
      this.#tell(error.message, true);
    }
  }

  /**
   * Put the dots on the eyes of the largest face, and offer the others.
   * @param {number} shown
   */
  async #find(shown) {
    const { model } = this.app;
    const photograph = this.#photograph;
    if (!photograph) return;
    this.#tell("Looking for the face");
    let faces;
    try {
      const onProgress = this.#progress.bind(this, "what finds faces");
      faces = await findFaces(photograph, (pictures, shape) => model.find(pictures, shape, { onProgress }));
    } catch (error) {
      if (shown !== this.#shown || !(error instanceof Error) || error.name === "AbortError") throw error;
      return this.#tell(`${error.message} Until then, drag the two dots onto the eyes.`, true);
    }
    if (shown !== this.#shown || this.#placed) return; // the person was quicker
    this.#note = "";
    if (!faces.length && photo.isCutOut(photograph.width, photograph.height)) return this.#moved(); // in the frame already
    if (!faces.length) return this.#tell("No face was found. Drag the two dots onto the eyes.", true);
    this.#offer(faces);
    this.#choose(faces[0]);
  }

  /** @param {import("./faces.js").Face} face */
  #choose({ eyes, side }) {
    this.#eyes = photo.settled(eyes, this.#canvas.width, this.#canvas.height);
    const small = `The face is ${Math.round(side)} pixels wide, so little can be seen of it: take a larger picture.`;
    this.#note = side < FINDER_SMALLEST ? small : "";
    this.#moved();
  }

  /**
   * A button with a small picture for each face, where there are several.
   * @param {import("./faces.js").Face[]} faces
   */
  #offer(faces) {
    const photograph = this.#photograph;
    const list = byId("photo-faces", HTMLElement);
    list.hidden = faces.length < 2 || !photograph;
    if (!photograph || list.hidden) return list.replaceChildren();
    const [size, channels] = [THUMBNAIL, 3];
    const buttons = faces.slice(0, MOST_FACES).map((face, number) => {
      const button = document.createElement("button");
      const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
      paint(canvas, photo.cut(photograph, ...face.eyes, [size, size, channels]), [size, size, channels]);
      button.type = "button";
      button.setAttribute("aria-label", `Face ${number + 1} of ${faces.length}, from the largest on`);
      button.setAttribute("aria-pressed", String(number === 0));
      button.append(canvas);
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        this.#choose(face);
      });
      return button;
    });
    list.replaceChildren(...buttons);
  }

  /** A model sees the photograph in its own way: with another model it is encoded again. */
  #forget() {
    this.encoded = null;
    this.#use.disabled = true;
    if (this.#photograph && this.#placed) this.#moved();
  }

  /**
   * @param {Event} event
   * @param {DataTransfer | null} data
   */
  #take(event, data) {
    const files = [...(data?.files ?? [])];
    if (!files.length || !this.app.ready) return;
    event.preventDefault();
    void this.show(files.find(({ type }) => type.startsWith("image/")) ?? files[0]);
  }

  /**
   * @param {number} eye
   * @param {PointerEvent} event
   */
  #drag(eye, event) {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#canvas.width / box.width;
    this.#put(eye, { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale });
  }

  /**
   * @param {number} eye
   * @param {KeyboardEvent} event
   */
  #key(eye, event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const length = this.#canvas.width * KEY_STEP * (event.shiftKey ? 10 : 1);
    const { x, y } = this.#eyes[eye];
    this.#put(eye, { x: x + step[0] * length, y: y + step[1] * length });
  }

  /**
   * @param {number} eye
   * @param {Point} point
   */
  #put(eye, { x, y }) {
    const { width, height } = this.#canvas;
    this.#note = "";
    this.#eyes[eye] = { x: Math.min(Math.max(x, 0), width), y: Math.min(Math.max(y, 0), height) };
    this.#moved();
  }

  #moved() {
    this.#placed = true;
    this.#wanted++;
    if (this.#cutDue) return;
    this.#cutDue = true;
    requestAnimationFrame(() => {
      this.#cutDue = false;
      this.#draw();
      void this.#encodeNewest();
    });
  }

  /** The eye on the picture's left first, however the dots were dragged. @returns {[Point, Point]} */
  get #leftAndRight() {
    const [a, b] = this.#eyes;
    return a.x <= b.x ? [a, b] : [b, a];
  }

  #draw() {
    const { width, height } = this.#canvas;
    this.#dots.forEach((dot, eye) => {
      dot.style.left = `${(100 * this.#eyes[eye].x) / width}%`;
      dot.style.top = `${(100 * this.#eyes[eye].y) / height}%`;
    });
    const { corner, side, across } = photo.frame(...this.#leftAndRight);
    const at = (/** @type {number} */ right, /** @type {number} */ down) =>
      `${corner.x + side * (right * across.x - down * across.y)},${corner.y + side * (right * across.y + down * across.x)}`;
    const overlay = byId("photo-overlay", SVGSVGElement);
    overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    inside(overlay, "polygon", SVGPolygonElement).setAttribute(
      "points",
      [at(0, 0), at(1, 0), at(1, 1), at(0, 1)].join(" "),
    );
    const line = inside(overlay, "line", SVGLineElement);
    this.#eyes.forEach(({ x, y }, k) => {
      line.setAttribute(`x${k + 1}`, String(x));
      line.setAttribute(`y${k + 1}`, String(y));
    });
  }

  async #encode() {
    const photograph = this.#photograph;
    if (!photograph || !this.app.ready) return;
    const { model } = this.app;
    const pixels = photo.cut(photograph, ...this.#leftAndRight, model.imageShape);
    const input = toInput(pixels, model.imageShape);
    const seen = asSeen(pixels, input, model.imageShape);
    paint(byId("photo-crop", HTMLCanvasElement), seen, model.imageShape);
    const wanted = this.#wanted;
    const stale = () => model !== this.app.model || photograph !== this.#photograph;
    try {
      const { mean, std } = await model.encode(input, { onProgress: (progress) => this.#progress("the encoder", progress) });
      const show = async (/** @type {Float32Array<ArrayBuffer>} */ z) => {
        const decoded = await this.app.decode(z);
        if (stale()) return;
        paint(byId("photo-decoded", HTMLCanvasElement), decoded, model.imageShape);
        const near = resemblance(toInput(decoded, model.imageShape), input, model.imageShape);
        this.encoded = { input, pixels: seen, mean, std, z, near };
        this.#use.disabled = false;
      };
      const first = await askedAgain(model, input, mean);
      await show(first);
      if (stale()) return;
      this.onEncoded();
      // The face can be used as it is from now on; meanwhile it comes nearer, until the person goes on.
      const enough = () => stale() || wanted !== this.#wanted || !this.#dialog.open;
      this.#tell("Coming closer");
      for await (const { z, done } of fitted(model, input, first, enough)) {
        await show(z);
        this.#tell(`Coming closer: ${Math.round(100 * done)}%`);
      }
      if (stale()) return;
      this.#tell(this.#note);
      this.onEncoded();
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return; // another model was chosen meanwhile
      if (!(error instanceof Error)) throw error;
      this.#tell(error.message, true);
    }
  }

  /**
   * @param {string} what
   * @param {import("./worker.js").Progress} progress
   */
  #progress(what, { loaded, total }) {
    this.#tell(`Loading ${what}: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
  }

  #useFace() {
    const { encoded } = this;
    if (!encoded) return;
    this.app.act((session) => {
      session.show(encoded.z, session.origin, 1, true, null); // held: the way back over the face must not change it at once
    });
    const photograph = this.#photograph;
    if (photograph) void this.app.attempt(() => this.onUsed(photograph, this.#leftAndRight, encoded.z, encoded.near));
    this.#dialog.close();
    this.app.tell("This is your photograph, held. Click or tap it, and it follows.");
  }

  /**
   * @param {string} message
   * @param {boolean} [wrong]
   */
  #tell(message, wrong = false) {
    this.#message.textContent = message;
    this.#message.classList.toggle("wrong", wrong);
  }
}

/**
 * The picture as the model sees it: grey where it knows no colours.
 * @param {Pixels} pixels
 * @param {Float32Array} input
 * @param {import("./picture.js").Shape} shape
 * @returns {Pixels}
 */
function asSeen(pixels, input, [, , channels]) {
  if (channels === 3) return pixels;
  return Uint8ClampedArray.from(pixels, (_, byte) => (byte % 4 === 3 ? 255 : input[byte >> 2] * 255));
}

/** The face under the hand: hover or drag moves it, a click or a tap holds it; its edges say what lies there. */

import { byId, inside, signed, write } from "./dom.js";
import { paint } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./dimensions.js").Dimensions} Dimensions
 * @typedef {import("./picture.js").Pixels} Pixels
 */

/** A mouse that crosses the face within this, in ms, is on its way elsewhere. */
const DWELL = 120;
/** A finger that moves less than this, in CSS pixels, taps; one that moves more drags. */
const TAP = 8;
/**
 * The largest side of the canvas, in pixels and in those of the model's picture. To there it is enlarged by a cubic, from
 * there on linearly by the screen, which is quicker; what is smooth already looks the same.
 */
const LARGEST = 512;
const LARGEST_FACTOR = 8;
/** A press of an arrow key moves this part of the way from the middle to the edge. */
const KEY_STEP = 0.05;

export class Face {
  #canvas = byId("face", HTMLCanvasElement);
  #marker = byId("marker", HTMLElement);
  #held = byId("held", HTMLElement);
  #ends = byId("ends", HTMLElement);
  /** Where a press began, and whether it has become a drag. @type {{x: number, y: number, drag: boolean} | null} */
  #press = null;
  /** Whether the face follows the mouse; it begins when the mouse has stayed. */
  #follows = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #dwell;
  /** Whether the mouse must move before the face follows. */
  #rests = false;
  /** Where the mouse was last. @type {[number, number]} */
  #place = [0, 0];

  /**
   * @param {App} app
   * @param {Dimensions} dimensions knows the names of the axes
   * @param {{dwell?: number, returns?: boolean}} [hand] how long the mouse must stay before the face follows, in ms, and
   *   whether leaving without a click brings back what was there
   */
  constructor(app, dimensions, { dwell = DWELL, returns = true } = {}) {
    this.app = app;
    this.hand = { dwell, returns };
    this.dimensions = dimensions;
    this.axes = [byId("axis-x", HTMLElement), byId("axis-y", HTMLElement)].map((axis) => ({
      name: inside(axis, ".axis-name", HTMLElement),
      value: inside(axis, "output", HTMLOutputElement),
    }));
    app.on("picture", (pixels) => this.#paint(pixels));
    app.on("change", () => this.#show());
    app.on("bundle", () => {
      document.body.classList.add("alive");
      this.#fit();
    });
    const canvas = this.#canvas;
    // A mouse that rests while the page is scrolled enters, too; only when it moves does the face follow.
    canvas.addEventListener("pointerenter", () => (this.#rests = true));
    canvas.addEventListener("pointerleave", (event) => this.#leave(event));
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => (this.#press = null));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("contextmenu", (event) => this.#press?.drag && event.preventDefault());
    new ResizeObserver(() => this.#fit()).observe(canvas);
  }

  /**
   * Another face, out of focus, until the model can draw the one that is wanted.
   * @param {Pixels} pixels
   */
  wait(pixels) {
    paint(this.#canvas, pixels, this.app.manifest.image_shape);
    this.#canvas.classList.add("waiting");
  }

  /** What began as a press here has become something else; the face follows again when the mouse moves. */
  forget() {
    this.#press = null;
    this.#rests = true;
  }

  /** @param {Pixels} pixels */
  #paint(pixels) {
    paint(this.#canvas, pixels, this.app.manifest.image_shape);
    this.#canvas.classList.remove("waiting");
  }

  #follow() {
    clearTimeout(this.#dwell);
    if (this.#follows) return;
    this.#follows = true;
    document.body.classList.add("following");
    this.app.follow();
    this.app.hover(...this.#place);
  }

  /** @param {PointerEvent} event */
  #leave(event) {
    if (event.pointerType !== "mouse") return;
    clearTimeout(this.#dwell);
    if (this.#follows && this.hand.returns) this.app.letGo();
    this.#follows = false;
    document.body.classList.remove("following");
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0) return;
    this.#press = { x: event.clientX, y: event.clientY, drag: false };
    if (event.pointerType !== "mouse") this.#canvas.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.app.alive) return;
    if (this.#rests && event.pointerType === "mouse") {
      this.#rests = false;
      clearTimeout(this.#dwell);
      this.#dwell = setTimeout(() => this.#follow(), this.hand.dwell);
    }
    const press = this.#press;
    const drags = press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > TAP;
    if (drags && !press.drag) {
      press.drag = true;
      if (event.pointerType !== "mouse") this.app.follow();
    }
    const box = this.#canvas.getBoundingClientRect();
    const x = (2 * (event.clientX - box.left)) / box.width - 1;
    const y = 1 - (2 * (event.clientY - box.top)) / box.height;
    this.#place = [clamp(x), clamp(y)];
    if (event.pointerType === "mouse" ? !this.#follows : !press?.drag) return;
    if (press?.drag && this.app.session.frozen) this.app.tell("The face is held. Tap it to release it.");
    this.app.hover(...this.#place);
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const press = this.#press;
    this.#press = null;
    if (!press || !this.app.alive || (press.drag && event.pointerType !== "mouse")) return;
    const { moving } = this.app;
    if (moving === "walk" || moving === "glide") return this.app.act(() => undefined);
    if (event.pointerType === "mouse") this.#follow(); // held is what lies under the hand
    this.app.act((session) => session.toggleFreeze());
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    if (!step || !this.app.ready || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const scale = event.shiftKey ? 5 * KEY_STEP : KEY_STEP;
    if (this.app.session.frozen) return this.app.tell("The face is held. Press space to release it.");
    this.app.act((session) => {
      const [x, y] = session.axes.map((dimension) => session.get(dimension) / session.range);
      session.move(stepped(x, step[0] * scale), stepped(y, step[1] * scale));
      const axis = step[0] ? 0 : 1;
      this.app.tell(`${this.dimensions.nameOf(session.axes[axis])} ${signed(session.get(session.axes[axis]))}`); // it is spoken
    });
  }

  #show() {
    const { session, moving, seen } = this.app;
    const values = session.axes.map((dimension) => seen[session.dimensions[dimension]]);
    this.axes.forEach(({ name, value }, k) => {
      write(name, this.dimensions.nameOf(session.axes[k]));
      write(value, signed(values[k]));
    });
    const poles = session.axes.flatMap((dimension) => this.dimensions.polesOf(dimension)); // as they stand in the page
    [...this.#ends.children].forEach((end, k) => write(end, poles[k]));
    const [x, y] = values.map((value) => clamp(value / session.range));
    this.#marker.style.setProperty("--x", x.toFixed(4));
    this.#marker.style.setProperty("--y", y.toFixed(4));
    this.#marker.classList.toggle("beyond", values.some((value) => Math.abs(value) > session.range * 1.001));
    const byItself = moving === "walk" || moving === "glide";
    this.#held.hidden = !session.frozen && !byItself;
    for (const [selector, click] of [[".mouse", "Click"], [".touch", "Tap"]]) {
      write(inside(this.#held, selector, HTMLElement), byItself ? `${click} to stop` : `Held. ${click} to release.`);
    }
    document.body.classList.toggle("frozen", session.frozen && !byItself);
    document.body.classList.toggle("inviting", moving === "invite");
  }

  /** The canvas has as many pixels as the screen shows. */
  #fit() {
    const { app } = this;
    const most = app.alive ? Math.min(LARGEST, LARGEST_FACTOR * app.manifest.image_shape[0]) : LARGEST;
    const side = Math.min(Math.round(this.#canvas.clientWidth * (window.devicePixelRatio || 1)), most);
    if (side < 16 || side === this.#canvas.width) return;
    const before = document.createElement("canvas");
    Object.assign(before, { width: this.#canvas.width, height: this.#canvas.height });
    before.getContext("2d")?.drawImage(this.#canvas, 0, 0);
    Object.assign(this.#canvas, { width: side, height: side });
    if (app.picture) paint(this.#canvas, app.picture, app.manifest.image_shape);
    else this.#canvas.getContext("2d")?.drawImage(before, 0, 0, side, side);
  }
}

/** @param {number} value */
function clamp(value) {
  return Math.min(Math.max(value, -1), 1);
}

/**
 * A step that stays in the square, or comes no further out of it.
 * @param {number} value
 * @param {number} step
 */
function stepped(value, step) {
  const edge = Math.max(1, Math.abs(value));
  return Math.min(Math.max(value + step, -edge), edge);
}

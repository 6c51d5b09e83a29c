/** The face under the hand: hover or drag moves it, a click or a tap holds it; the axes are named beside it. */

import { byId, inside, signed } from "./dom.js";
import { paint } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./dimensions.js").Dimensions} Dimensions
 */

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
  #freeze = byId("freeze", HTMLButtonElement);
  /** Where a press began, and whether it has become a drag. @type {{x: number, y: number, drag: boolean} | null} */
  #press = null;

  /**
   * @param {App} app
   * @param {Dimensions} dimensions knows the names of the axes
   */
  constructor(app, dimensions) {
    this.app = app;
    this.dimensions = dimensions;
    this.axes = [byId("axis-x", HTMLElement), byId("axis-y", HTMLElement)].map((axis) => ({
      name: inside(axis, ".axis-name", HTMLElement),
      value: inside(axis, "output", HTMLOutputElement),
      tick: inside(axis, ".tick", HTMLElement),
    }));
    app.on("picture", (pixels) => paint(this.#canvas, pixels, app.model.imageShape));
    app.on("change", () => this.#show());
    app.on("model", () => this.#fit());
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => (this.#press = null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("contextmenu", (event) => this.#press?.drag && event.preventDefault());
    new ResizeObserver(() => this.#fit()).observe(canvas);
  }

  /**
   * Show a still picture until the model is there.
   * @param {CanvasImageSource} picture
   */
  still(picture) {
    const context = this.#canvas.getContext("2d");
    if (!context) return;
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, this.#canvas.width, this.#canvas.height);
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0) return;
    this.#press = { x: event.clientX, y: event.clientY, drag: false };
    if (event.pointerType !== "mouse") this.#canvas.setPointerCapture(event.pointerId);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.app.ready) return;
    const press = this.#press;
    if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > TAP) press.drag = true;
    if (event.pointerType !== "mouse" && !press?.drag) return;
    const box = this.#canvas.getBoundingClientRect();
    const x = (2 * (event.clientX - box.left)) / box.width - 1;
    const y = 1 - (2 * (event.clientY - box.top)) / box.height;
    if (press?.drag && this.app.session.frozen) this.app.tell("The face is held. Tap it to release it.");
    this.app.hover(clamp(x), clamp(y));
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const press = this.#press;
    this.#press = null;
    if (!press || (press.drag && event.pointerType !== "mouse")) return;
    if (this.app.walk.running) this.app.act(() => undefined);
    else this.app.act((session) => session.toggleFreeze());
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.app.ready || event.ctrlKey || event.deltaY === 0) return;
    event.preventDefault();
    const notches = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 100 : event.deltaY;
    this.app.act((session) => session.widen(-clamp(notches))); // a touchpad sends many small ones
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    if (!step || !this.app.ready || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const scale = event.shiftKey ? 5 * KEY_STEP : KEY_STEP;
    if (this.app.session.frozen) this.app.tell("The face is held. Press space to release it.");
    this.app.act((session) => {
      const [x, y] = session.axes.map((dimension) => session.get(dimension) / session.range);
      session.move(stepped(x, step[0] * scale), stepped(y, step[1] * scale));
    });
  }

  #show() {
    const { session, walk } = this.app;
    const values = session.axes.map((dimension) => session.get(dimension));
    this.axes.forEach(({ name, value, tick }, k) => {
      name.textContent = this.dimensions.nameOf(session.axes[k]);
      value.textContent = signed(values[k]);
      const place = clamp(values[k] / session.range);
      tick.style.setProperty("--at", `${50 + 50 * place}%`);
      tick.classList.toggle("beyond", Math.abs(values[k]) > session.range * 1.001);
    });
    const [x, y] = values.map((value) => clamp(value / session.range));
    this.#marker.style.left = `${50 + 50 * x}%`;
    this.#marker.style.top = `${50 - 50 * y}%`;
    this.#marker.classList.toggle("beyond", values.some((value) => Math.abs(value) > session.range * 1.001));
    this.#held.hidden = !session.frozen;
    this.#freeze.setAttribute("aria-pressed", String(session.frozen));
    inside(this.#freeze, "span", HTMLElement).textContent = session.frozen ? "Release" : "Hold";
    document.body.classList.toggle("frozen", session.frozen);
    document.body.classList.toggle("walking", walk.running);
  }

  /** The canvas has as many pixels as the screen shows. */
  #fit() {
    const most = this.app.ready ? Math.min(LARGEST, LARGEST_FACTOR * this.app.model.imageShape[0]) : LARGEST;
    const side = Math.min(Math.round(this.#canvas.clientWidth * (window.devicePixelRatio || 1)), most);
    if (side < 16 || side === this.#canvas.width) return;
    const before = document.createElement("canvas");
    Object.assign(before, { width: this.#canvas.width, height: this.#canvas.height });
    before.getContext("2d")?.drawImage(this.#canvas, 0, 0);
    Object.assign(this.#canvas, { width: side, height: side });
    if (this.app.picture) paint(this.#canvas, this.app.picture, this.app.model.imageShape);
    else this.still(before);
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

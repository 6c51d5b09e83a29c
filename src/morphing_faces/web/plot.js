/** Plots on a canvas, with axes and numbers. Their marks answer to the pointer and to the arrow keys. */

import { context } from "./picture.js";

/**
 * @typedef {{box: [number, number, number, number], words: string, dimension: number}} Mark
 *   left, top, width, height in CSS pixels; what is said of it; which dimension it belongs to
 * @typedef {{c: CanvasRenderingContext2D, width: number, height: number, ink: Record<Colour, string>}} Pen
 * @typedef {"ink" | "faint" | "line" | "accent" | "wash" | "paper" | "edge"} Colour
 * @typedef {(pen: Pen) => Mark[]} Painter
 * @typedef {(value: number) => number} Scale
 */

const COLOURS = /** @type {Colour[]} */ (["ink", "faint", "line", "accent", "wash", "paper", "edge"]);
/** More would cost time and not be seen. */
const MOST_PIXELS = 2;
export const SMALL = "11px system-ui, sans-serif";

export class Plot {
  #due = false;
  /** @type {Mark[]} */
  #marks = [];
  /** Whether any of it is on the screen: what is not seen is not drawn. */
  #seen = false;

  /**
   * @param {HTMLCanvasElement} canvas where it has marks with the role of a slider: the arrow keys go from one to the next
   * @param {Painter} paint
   * @param {{point: (dimension: number | null) => void, pick: (dimension: number) => void, pointed: () => number | null}} hand
   *   told which dimension is pointed at or picked; `pointed` is the one that is pointed at in any plot
   */
  constructor(canvas, paint, hand) {
    this.canvas = canvas;
    this.paint = paint;
    this.hand = hand;
    new IntersectionObserver((entries) => {
      this.#seen = entries[entries.length - 1].isIntersecting;
      this.ask();
    }).observe(canvas);
    new ResizeObserver(() => this.ask()).observe(canvas);
    canvas.addEventListener("pointermove", (event) => this.#point(event));
    canvas.addEventListener("pointerdown", (event) => this.#point(event));
    canvas.addEventListener("pointerleave", () => hand.point(null));
    canvas.addEventListener("click", (event) => this.#at(event) && hand.pick(/** @type {Mark} */ (this.#at(event)).dimension));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => hand.point(null));
  }

  /** What is said of a dimension's mark, or nothing where it has none. @param {number | null} dimension */
  words(dimension) {
    return this.#marks.find((mark) => mark.dimension === dimension)?.words ?? "";
  }

  /** Draw it in the next frame, if it is seen then. */
  ask() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      if (this.#seen) this.#draw();
    });
  }

  #draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const scale = Math.min(window.devicePixelRatio || 1, MOST_PIXELS);
    const size = { width: Math.round(width * scale), height: Math.round(height * scale) };
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size);
    const style = getComputedStyle(canvas);
    const ink = /** @type {Record<Colour, string>} */ (
      Object.fromEntries(COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]))
    );
    const c = context(canvas);
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = SMALL;
    this.#marks = this.paint({ c, width, height, ink });
    if (canvas.getAttribute("role") !== "slider") return;
    const words = this.words(this.hand.pointed());
    canvas.setAttribute("aria-valuemax", String(Math.max(this.#marks.length - 1, 0)));
    canvas.setAttribute("aria-valuenow", String(this.hand.pointed() ?? 0));
    canvas.setAttribute("aria-valuetext", words || "Arrow keys go from mark to mark");
  }

  /** @param {MouseEvent} event */
  #at(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    return this.#marks.find(({ box }) => x >= box[0] && x < box[0] + box[2] && y >= box[1] && y < box[1] + box[3]);
  }

  /** @param {PointerEvent} event */
  #point(event) {
    this.hand.point(this.#at(event)?.dimension ?? null);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.#marks.length) return;
    const now = this.#marks.findIndex(({ dimension }) => dimension === this.hand.pointed());
    const last = this.#marks.length - 1;
    const steps = { ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1, Home: 0, End: last };
    if (event.key === "Enter" && now >= 0) this.hand.pick(this.#marks[now].dimension);
    else if (event.key in steps) {
      const next = steps[/** @type {keyof typeof steps} */ (event.key)];
      this.hand.point(this.#marks[Math.min(Math.max(next, 0), last)].dimension);
    } else return;
    event.preventDefault();
  }
}

/**
 * @param {readonly [number, number]} from
 * @param {readonly [number, number]} to
 * @returns {Scale} clamped to `to`
 */
export function linear([a, b], [low, high]) {
  return (value) => low + (high - low) * Math.min(Math.max((value - a) / (b - a), 0), 1);
}

/**
 * @param {readonly [number, number]} from above 0
 * @param {readonly [number, number]} to
 * @returns {Scale}
 */
export function logarithmic([a, b], to) {
  const scale = linear([Math.log(a), Math.log(b)], to);
  return (value) => scale(Math.log(Math.max(value, 1e-12)));
}

/**
 * Numbers and lines of a vertical axis, its name above it.
 * @param {Pen} pen
 * @param {{scale: Scale, ticks: number[], name: string, left: number, right: number, top: number, words?: (value: number) => string}} axis
 */
export function verticalAxis({ c, ink }, { scale, ticks, name, left, right, top, words = plain }) {
  c.lineWidth = 1;
  for (const tick of ticks) {
    const y = Math.round(scale(tick)) + 0.5;
    c.strokeStyle = ink.line;
    line(c, left, y, right, y);
    c.fillStyle = ink.faint;
    c.textAlign = "right";
    c.textBaseline = "middle";
    c.fillText(words(tick), left - 5, y);
  }
  c.fillStyle = ink.ink;
  c.textAlign = "left";
  c.textBaseline = "top";
  c.fillText(name, 0, top);
}

/**
 * Numbers of a horizontal axis, its name at the right end below them.
 * @param {Pen} pen
 * @param {{scale: Scale, ticks: number[], name: string, y: number, words?: (value: number) => string}} axis
 */
export function horizontalAxis({ c, ink, width }, { scale, ticks, name, y, words = plain }) {
  c.fillStyle = ink.faint;
  c.textAlign = "center";
  c.textBaseline = "top";
  for (const tick of ticks) c.fillText(words(tick), scale(tick), y + 4);
  c.textAlign = "right";
  c.fillStyle = ink.ink;
  c.fillText(name, width, y + 18);
}

/** A number with a true minus. @param {number} value */
export function plain(value) {
  return String(value).replace("-", "−");
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 */
export function line(c, x1, y1, x2, y2) {
  c.beginPath();
  c.moveTo(x1, y1);
  c.lineTo(x2, y2);
  c.stroke();
}

/** The panel of dimensions: a slider each, under small faces that show what it does to this face. */

import { byId, inside, signed, stamp } from "./dom.js";
import { context, paint } from "./picture.js";

/** @typedef {import("./app.js").App} App */

/** A slider reaches this far from 0, or as far as the range where that is wider. */
const REACH = 3;
/** Where on the slider the small faces stand, in parts of its reach. */
const PLACES = [-2 / 3, -1 / 3, 0, 1 / 3, 2 / 3];
/** Pixels of a small face, and of its place in the strip. */
const FACE = 56;
const CELL = 62;
/** The longest name that is kept. */
const LONGEST_NAME = 40;

/**
 * A dimension on the page.
 * @typedef {{element: HTMLElement, name: HTMLInputElement, slider: HTMLInputElement, value: HTMLOutputElement,
 *   x: HTMLButtonElement, y: HTMLButtonElement, lock: HTMLButtonElement, faces: HTMLCanvasElement,
 *   buttons: HTMLButtonElement[], inView: boolean, shown: Float32Array | null, reach: number, state: string}} Row
 */

export class Dimensions {
  #list = byId("dimensions", HTMLElement);
  #note = byId("dimensions-note", HTMLElement);
  /** @type {Row[]} */
  #rows = [];
  /** The person's own names. @type {Record<string, string>} */
  #names = {};
  /** Small faces are drawn only for rows that are seen. */
  #watch = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "80px" });

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    app.on("model", () => this.#build());
    app.on("change", () => this.#show());
    app.resting.add(() => this.#nextFace());
  }

  /**
   * The person's own name of a dimension, or its number.
   * @param {number} dimension
   */
  nameOf(dimension) {
    return this.#names[dimension] || `Dimension ${dimension}`;
  }

  #build() {
    const { model } = this.app;
    const count = model.dimensions.length;
    this.#note.textContent =
      `${count} of ${model.latentSize}, the one that changes the picture most first; ` +
      "the percentage is its share of the visible change.";
    this.#names = readNames(this.app.store.get(`names/${this.app.bundle}`), count);
    this.#watch.disconnect();
    this.#rows = model.dimensions.map((_, dimension) => this.#row(dimension));
    this.#list.replaceChildren(...this.#rows.map((row) => row.element));
    for (const row of this.#rows) this.#watch.observe(row.element);
  }

  /**
   * @param {number} dimension
   * @returns {Row}
   */
  #row(dimension) {
    const { app } = this;
    const element = stamp("dimension");
    const name = inside(element, ".name", HTMLInputElement);
    const slider = inside(element, "input[type=range]", HTMLInputElement);
    const button = (/** @type {string} */ selector, /** @type {string} */ label, /** @type {() => void} */ action) => {
      const found = inside(element, selector, HTMLButtonElement);
      found.setAttribute("aria-label", `${label}, dimension ${dimension}`);
      found.title = label;
      found.addEventListener("click", action);
      return found;
    };
    inside(element, ".number", HTMLElement).textContent = String(dimension);
    const { share } = app.model.manifest.dimensions[dimension];
    inside(element, ".share", HTMLElement).textContent = `${(100 * share).toFixed(1)}%`;
    name.value = this.#names[dimension] ?? "";
    name.setAttribute("aria-label", `Name of dimension ${dimension}`);
    name.addEventListener("input", () => this.#rename(dimension, name.value));
    name.addEventListener("keydown", ({ key }) => ["Enter", "Escape"].includes(key) && name.blur());
    slider.setAttribute("aria-label", `Dimension ${dimension}`);
    slider.addEventListener("input", () => {
      app.act((session) => session.set(dimension, slider.valueAsNumber, `slide ${dimension}`));
    });
    slider.addEventListener("change", () => app.act((session) => session.endGesture()));

    const buttons = PLACES.map(() => document.createElement("button"));
    buttons.forEach((small, k) => {
      small.type = "button";
      small.style.gridColumn = String(k + 1);
      small.tabIndex = -1; // the slider below does the same for the keyboard
      small.addEventListener("click", () => app.act((session) => session.set(dimension, PLACES[k] * this.#reach)));
    });
    const faces = inside(element, "canvas", HTMLCanvasElement); // one for all: each costs the browser a layer
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    Object.assign(faces, { width: PLACES.length * CELL * scale, height: FACE * scale });
    const corners = context(faces);
    corners.beginPath();
    PLACES.forEach((_, k) => corners.roundRect((CELL * (k + 0.5) - FACE / 2) * scale, 0, FACE * scale, FACE * scale, 6 * scale));
    corners.clip();
    inside(element, ".strip", HTMLElement).append(...buttons);
    button(".zero", "Reset to 0", () => app.act((session) => session.set(dimension, 0)));
    return {
      element, name, slider, faces, buttons, inView: false, shown: null, reach: 0, state: "",
      value: inside(element, "output", HTMLOutputElement),
      x: button(".pick-x", "Put on the horizontal axis", () => this.pick(dimension, 0)),
      y: button(".pick-y", "Put on the vertical axis", () => this.pick(dimension, 1)),
      lock: button(".lock", "Lock", () => app.act((session) => session.toggleLock(dimension))),
    };
  }

  /**
   * Put a dimension on an axis; where it is on the other one, the two change places.
   * @param {number} dimension
   * @param {0 | 1} axis
   */
  pick(dimension, axis) {
    this.app.act((session) => {
      const axes = /** @type {[number, number]} */ ([...session.axes]);
      if (axes[axis] === dimension) return;
      if (axes[1 - axis] === dimension) axes[1 - axis] = axes[axis];
      axes[axis] = dimension;
      session.select(...axes);
    });
  }

  get #reach() {
    return Math.max(REACH, this.app.session.range);
  }

  /**
   * @param {number} dimension
   * @param {string} name
   */
  #rename(dimension, name) {
    const { [dimension]: _, ...others } = this.#names;
    this.#names = name.trim() ? { ...others, [dimension]: name.trim() } : others;
    this.app.store.set(`names/${this.app.bundle}`, this.#names);
    this.app.change();
  }

  #show() {
    const { session } = this.app;
    const reach = this.#reach;
    this.#rows.forEach((row, dimension) => {
      const value = session.get(dimension);
      const locked = session.locked.has(dimension);
      const state = [value, reach, locked, ...session.axes.map((axis) => axis === dimension)].join();
      if (row.state === state) return; // most rows, while the hand moves two
      row.state = state;
      if (row.reach !== reach) {
        row.reach = reach;
        Object.assign(row.slider, { min: String(-reach), max: String(reach) });
        row.buttons.forEach((small, k) => (small.title = `Set to ${signed(PLACES[k] * reach)}`));
        row.buttons.forEach((small) => small.setAttribute("aria-label", `${small.title}, dimension ${dimension}`));
      }
      const text = signed(value);
      row.slider.value = String(value);
      row.value.textContent = text;
      row.slider.setAttribute("aria-valuetext", `${text}${locked ? ", locked" : ""}`);
      row.x.setAttribute("aria-pressed", String(session.axes[0] === dimension));
      row.y.setAttribute("aria-pressed", String(session.axes[1] === dimension));
      row.lock.setAttribute("aria-pressed", String(locked));
      row.element.classList.toggle("on-axis", session.axes.includes(dimension));
    });
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#rows.find(({ element }) => element === target);
      if (row) row.inView = isIntersecting;
    }
    this.app.resting.disturb();
  }

  /**
   * The drawing of the strip of the next row in view that is out of date.
   * @returns {(() => Promise<void>) | null}
   */
  #nextFace() {
    if (!this.app.ready || this.app.walk.running) return null;
    const { z } = this.app.session;
    const dimension = this.#rows.findIndex((row, k) => row.inView && !(row.shown && this.#same(row, k, z)));
    return dimension < 0 ? null : () => this.#drawStrip(dimension, z);
  }

  /**
   * Whether a strip still shows this face: its own coordinate does not count.
   * @param {Row} row
   * @param {number} dimension
   * @param {Float32Array} z
   */
  #same(row, dimension, z) {
    const own = this.app.model.dimensions[dimension];
    return z.every((value, k) => value === row.shown?.[k] || k === own) && row.element.dataset.reach === `${this.#reach}`;
  }

  /**
   * @param {number} dimension
   * @param {Float32Array<ArrayBuffer>} z
   */
  async #drawStrip(dimension, z) {
    const { app } = this;
    const { model } = app;
    const row = this.#rows[dimension];
    const reach = this.#reach;
    const scale = row.faces.height / FACE;
    for (const [k, place] of PLACES.entries()) {
      const u = z.slice();
      u[model.dimensions[dimension]] = place * reach;
      const pixels = await app.decode(u);
      const left = (CELL * (k + 0.5) - FACE / 2) * scale;
      paint(row.faces, pixels, model.imageShape, [left, 0, FACE * scale, FACE * scale]);
      if (app.session.z !== z) return; // the person went on; what is drawn is drawn again when they rest
    }
    row.shown = z;
    row.element.dataset.reach = String(reach);
    row.element.classList.add("drawn");
  }
}

/**
 * @param {unknown} kept what the store holds, of any kind
 * @param {number} count
 * @returns {Record<string, string>}
 */
function readNames(kept, count) {
  if (typeof kept !== "object" || kept === null) return {};
  return Object.fromEntries(
    Object.entries(kept)
      .filter(([key, name]) => Number(key) < count && typeof name === "string")
      .map(([key, name]) => [key, String(name).slice(0, LONGEST_NAME)]),
  );
}

/** The panel of dimensions: a name and a slider each, and for the one that is open five faces and its tools. */

import { byId, inside, signed, stamp, write } from "./dom.js";
import { context, paint } from "./picture.js";
import { onSlide, showValue } from "./slider.js";

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
/** Rows that are made at once: more would be felt. */
const ROWS = 4;

/**
 * A dimension on the page.
 * @typedef {{element: HTMLElement, name: HTMLButtonElement, words: HTMLElement, on: HTMLElement, slider: HTMLInputElement,
 *   value: HTMLOutputElement, state: string}} Row
 */

export class Dimensions {
  #list = byId("dimensions", HTMLOListElement);
  #note = byId("dimensions-note", HTMLElement);
  #detail;
  /** @type {Row[]} */
  #rows = [];
  /** The person's own names. @type {Record<string, string>} */
  #names = {};
  /** The row that Tab comes to. */
  #current = 0;
  /** Counts the bundles whose rows were begun. */
  #built = 0;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.#detail = new Detail(app, this, (dimension) => this.#rows[dimension]);
    app.on("bundle", () => void this.#build());
    app.on("change", () => this.#show());
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("focusin", ({ target }) => {
      const row = this.#rows.findIndex(({ element }) => target instanceof Node && element.contains(target));
      if (row >= 0) this.#enter(row);
    });
  }

  get #store() {
    return `names/${this.app.bundle}`;
  }

  /**
   * The person's own name of a dimension, or the model's, or its number.
   * @param {number} dimension
   */
  nameOf(dimension) {
    return this.#names[dimension] || this.app.manifest.dimensions[dimension].name || `Dimension ${dimension}`;
  }

  /**
   * What lies at the two ends of a dimension, in words; empty where the model does not say.
   * @param {number} dimension
   * @returns {[string, string]} the low end's and the high end's
   */
  polesOf(dimension) {
    const { low = "", high = "" } = this.app.manifest.dimensions[dimension];
    return this.#names[dimension] ? ["", ""] : [low, high];
  }

  /**
   * The person's own name of a dimension; empty where there is none.
   * @param {number} dimension
   */
  ownName(dimension) {
    return this.#names[dimension] ?? "";
  }

  /** Put the keyboard's focus on the list. */
  focus() {
    this.#rows[this.#current]?.name.focus();
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

  /**
   * @param {number} dimension
   * @param {string} name empty for the model's own
   */
  rename(dimension, name) {
    const { app } = this;
    const count = app.manifest.dimensions.length;
    const kept = app.store.update(this.#store, (value) => {
      const { [dimension]: _, ...others } = readNames(value, count);
      return name.trim() ? { ...others, [dimension]: name.trim() } : others;
    });
    this.#readNames();
    if (!kept) app.tell(`Names last until you close this page: ${app.store.trouble}.`, "error");
  }

  #readNames() {
    this.#names = readNames(this.app.store.get(this.#store), this.app.manifest.dimensions.length);
    for (const row of this.#rows) row.state = "";
    this.app.change();
  }

  get reach() {
    return Math.max(REACH, this.app.session.range);
  }

  async #build() {
    const { app } = this;
    const built = ++this.#built;
    const { dimensions, latent_size } = app.manifest;
    this.#note.textContent = `${dimensions.length} of ${latent_size}, the one that changes the picture most first.`;
    this.#detail.close();
    this.#rows = [];
    this.#current = 0;
    this.#list.replaceChildren();
    app.store.watch(this.#store, () => this.#readNames());
    this.#readNames();
    /** @type {Row[]} */
    const rows = [];
    for (let dimension = 0; dimension < dimensions.length; dimension++) {
      rows.push(this.#row(dimension));
      if (dimension % ROWS !== ROWS - 1) continue;
      await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between them
      if (built !== this.#built) return;
    }
    this.#rows = rows;
    this.#list.append(...rows.map(({ element }) => element)); // at once, so that nothing shifts twice
    this.#show();
  }

  /**
   * @param {number} dimension
   * @returns {Row}
   */
  #row(dimension) {
    const { app } = this;
    const element = stamp("dimension");
    const name = inside(element, ".name", HTMLButtonElement);
    const slider = inside(element, "input", HTMLInputElement);
    inside(element, ".number", HTMLElement).textContent = String(dimension);
    name.addEventListener("click", () => this.#detail.toggle(dimension));
    onSlide(
      slider,
      (value) => app.act((session) => session.set(dimension, value, `slide ${dimension}`)),
      () => app.act((session) => session.endGesture()),
    );
    name.tabIndex = slider.tabIndex = dimension === this.#current ? 0 : -1;
    return {
      element, name, slider, state: "",
      words: inside(element, ".words", HTMLElement),
      on: inside(element, ".on", HTMLElement),
      value: inside(element, "output", HTMLOutputElement),
    };
  }

  /**
   * Let Tab come to a row, and to no other: the list is one stop, and the arrow keys move in it.
   * @param {number} dimension
   */
  #enter(dimension) {
    if (dimension === this.#current) return;
    for (const [row, index] of [[this.#current, -1], [dimension, 0]]) {
      const { name, slider } = this.#rows[row];
      name.tabIndex = slider.tabIndex = index;
    }
    this.#current = dimension;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const target = event.target instanceof Element ? event.target : null;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !target?.matches(".name, .dimension > input")) return;
    event.preventDefault();
    const next = this.#rows[Math.min(Math.max(this.#current + step, 0), this.#rows.length - 1)];
    (target.matches(".name") ? next.name : next.slider).focus();
  }

  #show() {
    const { session, seen } = this.app;
    const { reach } = this;
    this.#rows.forEach((row, dimension) => {
      const value = seen[session.dimensions[dimension]];
      const locked = session.locked.has(dimension);
      const axis = session.axes.indexOf(dimension);
      const set = [reach, locked, axis].join();
      const state = `${set},${value}`;
      if (row.state === state) return; // most rows, while the hand moves two
      const name = this.nameOf(dimension);
      const [low, high] = this.polesOf(dimension);
      if (!row.state.startsWith(`${set},`)) { // not in every frame of a glide, in which all of them move
        Object.assign(row.slider, { min: String(-reach), max: String(reach), disabled: locked });
        row.slider.setAttribute("aria-label", name);
        write(row.words, name);
        row.name.title = low ? `${name}: ${low} – ${high}` : name;
        row.on.replaceChildren(...[...(axis < 0 ? [] : [axis ? "i-y" : "i-x"]), ...(locked ? ["i-lock"] : [])].map(icon));
        row.element.classList.toggle("on-axis", axis >= 0);
      }
      row.state = state;
      showValue(row.slider, value);
      const words = value < 0 ? low : high;
      row.slider.setAttribute("aria-valuetext", signed(value) + (words ? `, ${words}` : "") + (locked ? ", locked" : ""));
      write(row.value, signed(value));
    });
    this.#detail.show();
  }
}

/** What the open row holds beside its slider; there is one, and it goes from row to row. */
class Detail {
  #element = stamp("detail");
  #canvas = inside(this.#element, "canvas", HTMLCanvasElement);
  #strip = inside(this.#element, ".strip", HTMLElement);
  #own = inside(this.#element, ".own", HTMLInputElement);
  #x = inside(this.#element, ".pick-x", HTMLButtonElement);
  #y = inside(this.#element, ".pick-y", HTMLButtonElement);
  #lock = inside(this.#element, ".lock", HTMLButtonElement);
  #zero = inside(this.#element, ".zero", HTMLButtonElement);
  #buttons = PLACES.map(() => document.createElement("button"));
  /** The dimension whose row is open. @type {number | null} */
  #open = null;
  /** What the strip shows. @type {{z: Float32Array, still: import("./session.js").Still | null, dimension: number, reach: number} | null} */
  #shown = null;

  /**
   * @param {App} app
   * @param {Dimensions} dimensions
   * @param {(dimension: number) => Row} rowOf
   */
  constructor(app, dimensions, rowOf) {
    this.app = app;
    this.dimensions = dimensions;
    this.rowOf = rowOf;
    const onClick = (/** @type {HTMLButtonElement} */ button, /** @type {(dimension: number) => void} */ action) =>
      button.addEventListener("click", () => this.#open !== null && action(this.#open));
    onClick(this.#x, (dimension) => dimensions.pick(dimension, 0));
    onClick(this.#y, (dimension) => dimensions.pick(dimension, 1));
    onClick(this.#lock, (dimension) => app.act((session) => session.toggleLock(dimension)));
    onClick(this.#zero, (dimension) => app.act((session) => session.set(dimension, 0)));
    this.#buttons.forEach((small, k) => {
      small.type = "button";
      small.style.gridColumn = String(k + 1);
      small.tabIndex = -1; // the slider above does the same for the keyboard
      onClick(small, (dimension) => app.act((session) => session.set(dimension, PLACES[k] * dimensions.reach)));
    });
    this.#own.addEventListener("change", () => this.#open !== null && dimensions.rename(this.#open, this.#own.value));
    this.#own.addEventListener("keydown", ({ key }) => ["Enter", "Escape"].includes(key) && this.#own.blur());
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    Object.assign(this.#canvas, { width: PLACES.length * CELL * scale, height: FACE * scale });
    const corners = context(this.#canvas);
    corners.beginPath();
    PLACES.forEach((_, k) => corners.roundRect((CELL * (k + 0.5) - FACE / 2) * scale, 0, FACE * scale, FACE * scale, 6 * scale));
    corners.clip();
    this.#strip.append(...this.#buttons);
    app.resting.add(() => this.#next());
  }

  /** @param {number} dimension */
  toggle(dimension) {
    const before = this.#open;
    this.close();
    if (before === dimension) return;
    this.#open = dimension;
    this.#shown = null;
    const { element, name } = this.rowOf(dimension);
    element.append(this.#element);
    element.classList.add("open");
    name.setAttribute("aria-expanded", "true");
    const { app, dimensions } = this;
    this.#own.value = dimensions.ownName(dimension);
    const [low, high] = dimensions.polesOf(dimension);
    inside(this.#element, ".low", HTMLElement).textContent = low;
    inside(this.#element, ".high", HTMLElement).textContent = high;
    const { share } = app.manifest.dimensions[dimension];
    inside(this.#element, ".share", HTMLElement).textContent = `${(100 * share).toFixed(1)}%`;
    app.change();
  }

  close() {
    if (this.#open === null) return;
    const { element, name } = this.rowOf(this.#open);
    element.classList.remove("open");
    name.setAttribute("aria-expanded", "false");
    this.#element.remove();
    this.#open = null;
  }

  show() {
    const { app, dimensions } = this;
    const dimension = this.#open;
    if (dimension === null) return;
    const { session } = app;
    const name = dimensions.nameOf(dimension);
    for (const [button, words, pressed] of /** @type {const} */ ([
      [this.#x, "Put on the horizontal axis", session.axes[0] === dimension],
      [this.#y, "Put on the vertical axis", session.axes[1] === dimension],
      [this.#lock, "Lock", session.locked.has(dimension)],
      [this.#zero, "Set to 0", null],
    ])) {
      button.title = words;
      button.setAttribute("aria-label", `${words}: ${name}`);
      if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
    }
    this.#own.setAttribute("aria-label", `Your own name for ${name}`);
    this.#buttons.forEach((small, k) => {
      small.title = `Set to ${signed(PLACES[k] * dimensions.reach)}`;
      small.setAttribute("aria-label", `${small.title}: ${name}`);
    });
    this.#strip.classList.toggle("stale", !this.#isShown(session.z));
  }

  /**
   * Whether the strip shows this face: its own coordinate does not count.
   * @param {Float32Array} z
   */
  #isShown(z) {
    const { app, dimensions } = this;
    const shown = this.#shown;
    if (!shown || shown.dimension !== this.#open || shown.reach !== dimensions.reach) return false;
    if (shown.still !== app.session.still) return false;
    const own = app.session.dimensions[shown.dimension];
    return z.every((value, k) => value === shown.z[k] || k === own);
  }

  /** @returns {(() => Promise<void>) | null} */
  #next() {
    const { app, dimensions } = this;
    const dimension = this.#open;
    if (!app.ready || app.moving || dimension === null || this.#isShown(app.session.z)) return null;
    return async () => {
      const { model, session } = app;
      const { z, still } = session;
      const { reach } = dimensions;
      const latents = new Float32Array(PLACES.length * z.length);
      PLACES.forEach((place, k) => {
        latents.set(z, k * z.length);
        latents[k * z.length + session.dimensions[dimension]] = place * reach;
      });
      const pixels = await app.decode(latents, PLACES.length);
      if (!app.ready || app.model !== model || app.session.z !== z || session.still !== still || this.#open !== dimension) return; // the person went on
      const scale = this.#canvas.height / FACE;
      const size = pixels.length / PLACES.length;
      PLACES.forEach((_, k) => {
        const left = (CELL * (k + 0.5) - FACE / 2) * scale;
        paint(this.#canvas, pixels.slice(k * size, (k + 1) * size), model.imageShape, [left, 0, FACE * scale, FACE * scale]);
      });
      this.#shown = { z, still, dimension, reach };
      this.#strip.classList.remove("stale");
    };
  }
}

/** @param {string} id */
function icon(id) {
  const [svg, use] = ["svg", "use"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
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

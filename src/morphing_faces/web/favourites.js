/** Faces that the person keeps, in a strip, the way from one of them to another, and the mix of them all. */

import { byId, inside, onClick, stamp } from "./dom.js";
import * as link from "./link.js";
import { between, decoded, isSameFace, mixed } from "./morph.js";
import { paint } from "./picture.js";
import { onSlide, showValue } from "./slider.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {{fragment: string, bundle: string, state: import("./session.js").State, element: HTMLElement, canvas: HTMLCanvasElement,
 *   drawn: boolean, slider: HTMLInputElement, weight: number}} Favourite `weight` is its part in the mix, from 0 to 1, relative to
 *   the others'
 */

/** The weight with which a mix begins: there is room to both sides. */
const EQUAL = 0.5;
/** What the strip holds of each favourite, from top to bottom. */
const WEIGHT = ".favourite .weight";
const ROWS = [".favourite .show", WEIGHT, ".favourite-tools button"];

export class Favourites {
  #list = byId("favourites", HTMLElement);
  #none = byId("no-favourites", HTMLElement);
  #morph = byId("morph", HTMLElement);
  #slider = byId("morph-at", HTMLInputElement);
  #film = onClick("morph-film", () => this.app.attempt(() => this.#record()));
  #morphing = onClick("make-morph", () => this.#make(false));
  #mixing = onClick("make-mix", () => this.#make(true));
  /** Whether the strip shows the weights of a mix, not the ends of a morph. */
  #mixes = false;
  /** @type {Favourite[]} */
  #kept = [];
  /** The ends of the morph. @type {[Favourite | null, Favourite | null]} */
  #ends = [null, null];
  /** The favourite that Tab comes to. */
  #current = 0;

  /**
   * @param {App} app
   * @param {import("./recorder.js").Recorder} recorder
   */
  constructor(app, recorder) {
    this.app = app;
    this.recorder = recorder;
    onClick("favour", () => this.keep());
    app.on("bundle", () => {
      app.store.watch(this.#key, () => this.#read());
      this.#read();
    });
    app.resting.add(() => this.#nextPicture());
    this.#list.addEventListener("keydown", (event) => this.#step(event));
    onSlide(this.#slider, () => this.#go(), () => app.act((session) => session.endGesture()));
  }

  /** Keep the face that is shown. */
  keep() {
    const { app } = this;
    app.act(({ state }) => {
      if (this.#kept.some((one) => isSameFace(one.state, state))) {
        return app.tell("This face is among your favourites already.");
      }
      const fragment = link.write(state, app.shape);
      this.#change((fragments) => [...fragments, fragment], "Kept.");
    });
  }

  get #key() {
    return `favourites/${this.app.bundle}`;
  }

  /**
   * Change the list that is kept now, whichever tab wrote it, and say what came of it.
   * @param {(fragments: unknown[]) => unknown[]} change
   * @param {string} words
   * @param {import("./app.js").Remedy} [remedy]
   */
  #change(change, words, remedy) {
    const { store, tell } = this.app;
    const kept = store.update(this.#key, (value) => change(Array.isArray(value) ? value : []));
    this.#read();
    if (kept) tell(words, undefined, remedy);
    else tell(`Favourites last until you close this page: ${store.trouble}.`, "error", remedy);
  }

  /** Show the list that is kept; what is shown already stays. */
  #read() {
    const { app } = this;
    const kept = app.store.get(this.#key);
    const before = this.#kept;
    this.#kept = [];
    for (const fragment of Array.isArray(kept) ? kept : []) {
      const shown = before.find((one) => one.fragment === fragment && one.bundle === app.bundle);
      try {
        if (shown) this.#kept.push(shown);
        else if (link.isLink(fragment)) this.#kept.push(this.#favourite(fragment, link.read(fragment, app.shape)));
      } catch {
        console.info(`a favourite was left out, it is not a face of ${app.bundle}: ${fragment}`);
      }
    }
    this.#list.replaceChildren(...this.#kept.map(({ element }) => element));
    if (this.#kept.length < 2) this.#mixes = false;
    this.#ends = [this.#end(0), this.#end(1)];
    for (const favourite of this.#kept) {
      const free = this.#ends.indexOf(null);
      if (free >= 0 && !this.#ends.includes(favourite)) this.#ends[free] = favourite;
    }
    this.#show();
    app.resting.disturb();
  }

  /** @param {0 | 1} end */
  #end(end) {
    const favourite = this.#ends[end];
    return favourite && this.#kept.includes(favourite) ? favourite : null;
  }

  /**
   * @param {string} fragment
   * @param {import("./session.js").State} state
   * @returns {Favourite}
   */
  #favourite(fragment, state) {
    const element = stamp("favourite");
    const canvas = inside(element, "canvas", HTMLCanvasElement);
    const slider = inside(element, "input", HTMLInputElement);
    const weight = this.#mixes ? 0 : EQUAL; // what is kept meanwhile, the mix itself perhaps, does not change it
    /** @type {Favourite} */
    const favourite = { fragment, bundle: this.app.bundle, state, element, canvas, drawn: false, slider, weight };
    const button = (/** @type {string} */ selector, /** @type {() => void} */ action) =>
      inside(element, selector, HTMLButtonElement).addEventListener("click", action);
    button(".show", () => this.app.act((session) => session.show(state.z, state.origin, state.scale, null, state.still ?? null)));
    button(".remove", () => this.#remove(favourite));
    button(".from", () => this.#choose(favourite, 0));
    button(".to", () => this.#choose(favourite, 1));
    const weigh = (/** @type {number} */ value) => {
      favourite.weight = value;
      this.#mix();
    };
    onSlide(slider, weigh, () => this.app.act((session) => session.endGesture()));
    element.addEventListener("focusin", ({ target }) => this.#enter(this.#kept.indexOf(favourite), target));
    return favourite;
  }

  /** @param {Favourite} favourite */
  #remove(favourite) {
    const place = this.#kept.indexOf(favourite);
    const { fragment } = favourite;
    const back = (/** @type {unknown[]} */ list) => [...list.slice(0, place), fragment, ...list.slice(place)];
    const restore = { label: "Bring back", run: () => this.#change(back, "It is back.") };
    this.#change((list) => list.filter((one) => one !== fragment), "Removed.", restore);
    const next = this.#kept[Math.min(place, this.#kept.length - 1)];
    (next ? inside(next.element, ".show", HTMLElement) : byId("favour", HTMLElement)).focus();
  }

  /**
   * @param {Favourite} favourite
   * @param {0 | 1} end
   */
  #choose(favourite, end) {
    if (this.#ends[1 - end] === favourite) this.#ends[1 - end] = this.#ends[end];
    this.#ends[end] = favourite;
    this.#slider.value = "0";
    this.#show();
  }

  /**
   * Let Tab come to one favourite and no other. Its picture, its weight and its buttons are a stop each, and the arrow keys
   * move along them all.
   * @param {number} place
   * @param {EventTarget | null} [focused] the button or slider that has the focus
   */
  #enter(place, focused = null) {
    this.#current = Math.min(Math.max(place, 0), Math.max(this.#kept.length - 1, 0));
    this.#kept.forEach(({ element }, k) => {
      for (const row of ROWS) {
        const all = visible(element, row);
        const stop = all.find((one) => one === focused) ?? all[0];
        for (const one of all) one.tabIndex = k === this.#current && one === stop ? 0 : -1;
      }
    });
  }

  /**
   * Left and right move along the strip; on a weight they set it, and up and down move, as in the dimensions.
   * @param {KeyboardEvent} event
   */
  #step(event) {
    const { target, key } = event;
    const row = target instanceof HTMLElement && ROWS.find((one) => target.matches(one));
    if (!row) return;
    const [back, on] = row === WEIGHT ? ["ArrowUp", "ArrowDown"] : ["ArrowLeft", "ArrowRight"];
    if (key !== back && key !== on) return;
    event.preventDefault();
    const all = visible(this.#list, row);
    all[all.indexOf(target) + (key === on ? 1 : -1)]?.focus();
  }

  #show() {
    this.#none.hidden = this.#kept.length > 0;
    this.#kept.forEach((favourite, k) => {
      const { element } = favourite;
      const label = (/** @type {string} */ selector, /** @type {string} */ text) =>
        inside(element, selector, HTMLElement).setAttribute("aria-label", `${text} favourite ${k + 1}`);
      label(".show", "Show");
      label(".remove", "Remove");
      label(".from", "Morph from");
      label(".to", "Morph to");
      [".from", ".to"].forEach((selector, end) =>
        inside(element, selector, HTMLElement).setAttribute("aria-pressed", String(this.#ends[end] === favourite)),
      );
    });
    this.#showWeights();
    const [from, to] = this.#ends;
    this.#morph.hidden = !(from && to);
    for (const [id, end] of /** @type {const} */ ([["morph-from", from], ["morph-to", to]])) {
      const canvas = byId(id, HTMLCanvasElement);
      const number = end ? this.#kept.indexOf(end) + 1 : 0;
      canvas.setAttribute("aria-label", `favourite ${number}`);
      if (end) canvas.getContext("2d")?.drawImage(end.canvas, 0, 0);
    }
  }

  #showWeights() {
    const mixes = this.#mixes;
    this.#morphing.setAttribute("aria-pressed", String(!mixes));
    this.#mixing.setAttribute("aria-pressed", String(mixes));
    for (const one of document.querySelectorAll(".favourites .for-morph, .favourites .for-mix")) {
      if (one instanceof HTMLElement) one.hidden = one.matches(".for-mix") !== mixes;
    }
    const sum = this.#kept.reduce((so, { weight }) => so + weight, 0);
    this.#kept.forEach(({ element, canvas, slider, weight }, k) => {
      const share = `${Math.round((100 * weight) / (sum || 1))}%`;
      showValue(slider, weight);
      slider.setAttribute("aria-label", `Weight of favourite ${k + 1}`);
      slider.setAttribute("aria-valuetext", `${weight.toFixed(2)}, ${share} of the mix`);
      inside(element, ".part", HTMLElement).textContent = share;
      canvas.style.opacity = mixes ? String(0.3 + 0.7 * weight) : "";
    });
    this.#enter(this.#current, document.activeElement);
  }

  /** @returns {(() => Promise<void>) | null} */
  #nextPicture() {
    const favourite = this.app.ready && this.#kept.find(({ drawn }) => !drawn);
    if (!favourite) return null;
    return async () => {
      const { model } = this.app;
      paint(favourite.canvas, await model.decode(...decoded(favourite.state)), model.imageShape);
      favourite.drawn = true;
      this.#show();
    };
  }

  #go() {
    const [from, to] = this.#ends;
    if (!from || !to) return;
    const face = between(from.state, to.state, this.#slider.valueAsNumber);
    this.app.act((session) => session.show(face.z, null, 1, null, face.still, "morph"));
  }

  /**
   * Show what is made of the favourites: a way from one to another, or the mix of all, which is shown at once. Asked for
   * the mix again, it begins anew with equal weights.
   * @param {boolean} mixes
   */
  #make(mixes) {
    if (mixes && this.#mixes) for (const favourite of this.#kept) favourite.weight = EQUAL;
    this.#mixes = mixes;
    this.#showWeights();
    if (!mixes) return;
    this.#mix();
    this.app.act((session) => session.endGesture());
  }

  /** Show the mean of the favourites by their weights. A run of them is undone as one. */
  #mix() {
    this.#showWeights();
    const weights = this.#kept.map(({ weight }) => weight);
    if (!weights.some((weight) => weight > 0)) return this.app.tell("All weights are 0: give one of the faces some.");
    const face = mixed(this.#kept.map(({ state }) => state), weights);
    this.app.act((session) => session.show(face.z, null, 1, null, face.still, "mix"));
  }

  /** All favourites, one after the other, as a film without end. */
  async #record() {
    this.#film.disabled = true;
    try {
      await this.recorder.save(this.#kept.map(({ state }) => state));
    } finally {
      this.#film.disabled = false;
    }
  }
}

/**
 * Those elements that match and are not hidden, in the order of the page.
 * @param {Element} parent
 * @param {string} selector
 * @returns {HTMLElement[]}
 */
function visible(parent, selector) {
  return [...parent.querySelectorAll(selector)].filter((one) => one instanceof HTMLElement).filter((one) => !one.hidden);
}

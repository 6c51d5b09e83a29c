/** Faces that the person keeps, in a strip, and the way from one of them to another. */

import { byId, inside, onClick, stamp } from "./dom.js";
import * as link from "./link.js";
import { between, decoded, isSameFace } from "./morph.js";
import { paint } from "./picture.js";
import { onSlide } from "./slider.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {{fragment: string, bundle: string, state: import("./session.js").State, element: HTMLElement, canvas: HTMLCanvasElement,
 *   drawn: boolean}} Favourite
 */

export class Favourites {
  #list = byId("favourites", HTMLElement);
  #none = byId("no-favourites", HTMLElement);
  #morph = byId("morph", HTMLElement);
  #slider = byId("morph-at", HTMLInputElement);
  #film = onClick("morph-film", () => this.app.attempt(() => this.#record()));
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
    /** @type {Favourite} */
    const favourite = { fragment, bundle: this.app.bundle, state, element, canvas, drawn: false };
    const button = (/** @type {string} */ selector, /** @type {() => void} */ action) =>
      inside(element, selector, HTMLButtonElement).addEventListener("click", action);
    button(".show", () => this.app.act((session) => session.show(state.z, state.origin, state.scale, null, state.still ?? null)));
    button(".remove", () => this.#remove(favourite));
    button(".from", () => this.#choose(favourite, 0));
    button(".to", () => this.#choose(favourite, 1));
    element.addEventListener("focusin", () => this.#enter(this.#kept.indexOf(favourite)));
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
   * Let Tab come to one favourite and no other: the strip is one stop, and the arrow keys move in it.
   * @param {number} place
   */
  #enter(place) {
    this.#current = Math.min(Math.max(place, 0), Math.max(this.#kept.length - 1, 0));
    this.#kept.forEach(({ element }, k) => {
      for (const button of element.querySelectorAll("button")) button.tabIndex = k === this.#current ? 0 : -1;
    });
  }

  /** @param {KeyboardEvent} event */
  #step(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.#enter(this.#current + step);
    const favourite = this.#kept[this.#current];
    if (favourite) inside(favourite.element, ".show", HTMLElement).focus();
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
    this.#enter(this.#current);
    const [from, to] = this.#ends;
    this.#morph.hidden = !(from && to);
    for (const [id, end] of /** @type {const} */ ([["morph-from", from], ["morph-to", to]])) {
      const canvas = byId(id, HTMLCanvasElement);
      const number = end ? this.#kept.indexOf(end) + 1 : 0;
      canvas.setAttribute("aria-label", `favourite ${number}`);
      if (end) canvas.getContext("2d")?.drawImage(end.canvas, 0, 0);
    }
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

/** Faces that the person keeps, in a strip, and the way from one of them to another. */

import { byId, inside, onClick, download, stamp } from "./dom.js";
import { Film } from "./film.js";
import * as link from "./link.js";
import { ease, slerp } from "./morph.js";
import { paint } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./film.js").Format} Format
 * @typedef {{fragment: string, z: Float32Array<ArrayBuffer>, element: HTMLElement, canvas: HTMLCanvasElement,
 *   drawn: boolean}} Favourite
 */

/** There and back, in ms. */
const FILM_LENGTH = 5000;
const FILM_FRAME = 50;

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

  /**
   * @param {App} app
   * @param {() => Format} format in which films are written
   */
  constructor(app, format) {
    this.app = app;
    this.format = format;
    app.on("model", () => this.#build());
    app.resting.add(() => this.#nextPicture());
    this.#slider.addEventListener("input", () => this.#glide());
    this.#slider.addEventListener("change", () => app.act((session) => session.endGesture()));
  }

  /** Keep the face that is shown. */
  keep() {
    this.app.act((session) => {
      const fragment = link.write(session.state, this.app.shape);
      if (this.#kept.some(({ z }) => z.every((value, k) => value === session.z[k]))) {
        return this.app.tell("This face is among your favourites already.");
      }
      this.#add(fragment, session.z);
      this.#save();
      this.app.tell("Kept.");
    });
  }

  get #key() {
    return `favourites/${this.app.bundle}`;
  }

  #build() {
    this.#kept = [];
    this.#ends = [null, null];
    this.#list.replaceChildren();
    const kept = this.app.store.get(this.#key);
    for (const fragment of Array.isArray(kept) ? kept : []) {
      try {
        if (link.isLink(fragment)) this.#add(fragment, link.read(fragment, this.app.shape).z);
      } catch {
        console.info(`a favourite was left out, it is not a face of ${this.app.bundle}: ${fragment}`);
      }
    }
    this.#show();
  }

  /**
   * @param {string} fragment
   * @param {Float32Array<ArrayBuffer>} z
   */
  #add(fragment, z) {
    const element = stamp("favourite");
    const canvas = inside(element, "canvas", HTMLCanvasElement);
    /** @type {Favourite} */
    const favourite = { fragment, z, element, canvas, drawn: false };
    const button = (/** @type {string} */ selector, /** @type {() => void} */ action) =>
      inside(element, selector, HTMLButtonElement).addEventListener("click", action);
    button(".show", () => this.app.act((session) => session.set(z)));
    button(".remove", () => this.#remove(favourite));
    button(".from", () => this.#choose(favourite, 0));
    button(".to", () => this.#choose(favourite, 1));
    this.#kept.push(favourite);
    this.#list.append(element);
    const free = this.#ends.indexOf(null);
    if (free >= 0) this.#ends[free] = favourite;
    this.#show();
    this.app.resting.disturb();
  }

  /** @param {Favourite} favourite */
  #remove(favourite) {
    const place = this.#kept.indexOf(favourite);
    this.#kept.splice(place, 1);
    favourite.element.remove();
    this.#ends = [this.#ends[0] === favourite ? null : this.#ends[0], this.#ends[1] === favourite ? null : this.#ends[1]];
    this.#save();
    this.#show();
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

  #save() {
    this.app.store.set(this.#key, this.#kept.map(({ fragment }) => fragment));
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
      paint(favourite.canvas, await this.app.decode(favourite.z), model.imageShape);
      favourite.drawn = true;
      this.#show();
    };
  }

  #glide() {
    const [from, to] = this.#ends;
    if (!from || !to) return;
    this.app.act((session) => session.set(slerp(from.z, to.z, this.#slider.valueAsNumber), null, "morph"));
  }

  async #record() {
    const [from, to] = this.#ends;
    if (!from || !to) return;
    const { model } = this.app;
    const format = this.format();
    const film = new Film(format, model.imageShape);
    this.#film.disabled = true;
    try {
      const begun = performance.now();
      // A GIF is written frame by frame; a WebM is recorded while it plays.
      for (let at = 0; at <= FILM_LENGTH; at = format === "gif" ? at + FILM_FRAME : performance.now() - begun) {
        const there = 1 - Math.abs((2 * at) / FILM_LENGTH - 1);
        film.add(await this.app.decode(slerp(from.z, to.z, ease(there))), at);
        this.app.tell(`Making the film: ${Math.round((100 * at) / FILM_LENGTH)}%`);
        if (format === "webm") await new Promise((resolve) => requestAnimationFrame(resolve));
      }
      download(await film.finish(FILM_LENGTH), `morph-${this.app.bundle}.${format}`);
      this.app.tell("The film is saved.");
    } finally {
      this.#film.disabled = false;
    }
  }
}

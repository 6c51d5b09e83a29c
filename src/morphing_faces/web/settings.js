/** What holds for the whole face: how unusual it is, how far the hand reaches, which random face it is. */

import { byId, onClick } from "./dom.js";
import * as link from "./link.js";
import { checkSeed } from "./noise.js";
import { onSlide, showValue } from "./slider.js";

/** @typedef {import("./app.js").App} App */

export class Settings {
  #scale = byId("scale", HTMLInputElement);
  #range = byId("range", HTMLInputElement);
  #rangeValue = byId("range-value", HTMLOutputElement);
  #seed = byId("seed", HTMLInputElement);
  #number = byId("face-number", HTMLElement);
  /** What was shown last. @type {import("./session.js").State | null} */
  #shown = null;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    const done = () => app.act((session) => session.endGesture());
    onSlide(this.#scale, (value) => app.act((session) => session.setScale(value)), done);
    onSlide(this.#range, (value) => app.act((session) => session.setRange(value)), done);
    onClick("reset", () => app.act((session) => session.reset()));
    this.#seed.addEventListener("change", () => this.#useSeed());
    this.#seed.addEventListener("keydown", ({ key }) => {
      if (key === "Enter") this.#useSeed(true);
      if (key === "Escape") this.#seed.value = this.#usual;
    });
    app.on("change", () => this.#show());
  }

  /** The seed of the face that is shown, or from which the next will be. */
  get #usual() {
    const { origin, seed } = this.app.session;
    return String(origin ? origin[0] : seed);
  }

  /** @param {boolean} [again] the same seed, too, from its first face on */
  #useSeed(again = false) {
    const { app } = this;
    const text = this.#seed.value.trim();
    if (!app.ready || (text === this.#usual && !again)) return;
    void app.attempt(() => {
      const seed = checkSeed(/^\d+$/.test(text) ? Number(text) : /** @type {any} */ (`'${text}'`));
      app.act((session) => session.shuffle(seed));
    });
  }

  #show() {
    const { session } = this.app;
    if (session.state === this.#shown) return;
    this.#shown = session.state;
    if (document.activeElement !== this.#seed || this.#seed.value.trim() === this.#usual) this.#seed.value = this.#usual;
    this.#number.textContent = this.#which();
    showValue(this.#range, session.range);
    this.#rangeValue.textContent = `±${session.range.toFixed(2)}`;
    showValue(this.#scale, session.scale);
    this.#scale.setAttribute("aria-valuetext", `${session.scale.toFixed(2)} times the distance from the average face`);
  }

  /** Which of the seed's faces is shown, and how far from it. */
  #which() {
    const { session, shape } = this.app;
    const changed = link.differing(session.state, shape).length;
    if (changed > shape.dimensions.length) return "none of its faces";
    const face = session.origin ? `face ${session.origin[1]}` : "the average face";
    return changed ? `${face}, ${changed} moved` : face;
  }
}

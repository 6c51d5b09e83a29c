/** The knobs: a slider for each attribute that has a name, above the dimensions. */

import { byId, inside, signed, stamp, write } from "./dom.js";

/** @typedef {import("./app.js").App} App */

/** A slider reaches this many standard deviations from the average, or as far as the face is. */
const REACH = 3;

export class Knobs {
  #list = byId("knobs", HTMLElement);
  /** @type {Map<string, {slider: HTMLInputElement, value: HTMLOutputElement, lock: HTMLButtonElement}>} */
  #rows = new Map();
  /** The knob that Tab comes to. */
  #current = 0;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    app.on("bundle", () => this.#build());
    app.on("change", () => this.#show());
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("focusin", ({ target }) => {
      const place = [...this.#rows.values()].findIndex(({ slider, lock }) => target === slider || target === lock);
      if (place >= 0) this.#enter(place);
    });
  }

  #build() {
    const { attributes } = this.app.session;
    this.#rows.clear();
    const items = Object.entries(attributes).map(([name, { low, high }]) => {
      const item = stamp("knob");
      const slider = inside(item, "input", HTMLInputElement);
      const lock = inside(item, "button", HTMLButtonElement);
      const title = name[0].toUpperCase() + name.slice(1);
      inside(item, ".knob-name", HTMLElement).textContent = title;
      inside(item, ".low", HTMLElement).textContent = low;
      inside(item, ".high", HTMLElement).textContent = high;
      slider.setAttribute("aria-label", `${title}, from ${low} to ${high}`);
      slider.addEventListener("input", () => {
        const wanted = slider.valueAsNumber;
        this.app.act((session) => session.knob(name, wanted - session.read(name), `knob ${name}`));
      });
      slider.addEventListener("change", () => this.app.act((session) => session.endGesture()));
      lock.setAttribute("aria-label", `Hold: ${title}`);
      lock.addEventListener("click", () => this.app.act((session) => session.toggleHold(name)));
      this.#rows.set(name, { slider, value: inside(item, "output", HTMLOutputElement), lock });
      return item;
    });
    this.#list.hidden = !items.length;
    inside(this.#list, "ul", HTMLUListElement).replaceChildren(...items);
    this.#enter(0);
  }

  /**
   * Let Tab come to one knob and its lock, and to no other: up and down go from knob to knob.
   * @param {number} place
   */
  #enter(place) {
    this.#current = place;
    [...this.#rows.values()].forEach(({ slider, lock }, k) => (slider.tabIndex = lock.tabIndex = k === place ? 0 : -1));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { target } = event;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !(target instanceof Element) || !target.matches(".knob > *")) return;
    event.preventDefault();
    const rows = [...this.#rows.values()];
    const { slider, lock } = rows[Math.min(Math.max(this.#current + step, 0), rows.length - 1)];
    (target.matches(".lock") || slider.disabled ? lock : slider).focus();
  }

  #show() {
    const { session } = this.app;
    for (const [name, { slider, value, lock }] of this.#rows) {
      const reading = session.read(name);
      const reach = String(Math.max(REACH, Math.ceil(Math.abs(reading))));
      if (slider.max !== reach) Object.assign(slider, { min: `-${reach}`, max: reach });
      if (document.activeElement !== slider || Math.abs(slider.valueAsNumber - reading) > 0.02) {
        slider.value = String(reading);
      }
      write(value, signed(reading));
      const held = session.held.has(name);
      lock.setAttribute("aria-pressed", String(held));
      slider.disabled = held;
    }
  }
}

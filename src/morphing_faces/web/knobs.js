/** The knobs: a slider for each attribute that has a name, above the dimensions. */

import { byId, inside, signed, stamp } from "./dom.js";

/** @typedef {import("./app.js").App} App */

/** A slider reaches this many standard deviations from the average, or as far as the face is. */
const REACH = 3;

export class Knobs {
  #list = byId("knobs", HTMLElement);
  /** @type {Map<string, {slider: HTMLInputElement, value: HTMLOutputElement, lock: HTMLButtonElement}>} */
  #rows = new Map();

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    app.on("bundle", () => this.#build());
    app.on("change", () => this.#show());
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
      value.textContent = signed(reading);
      const held = session.held.has(name);
      lock.setAttribute("aria-pressed", String(held));
      slider.disabled = held;
    }
  }
}

/** The keys that do what the buttons do. */

import { byId } from "./dom.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {{keys: string, words: string, on: string[], run: (key: string) => void}} Command
 */

export class Keys {
  /**
   * @param {App} app
   * @param {Command[]} commands
   */
  constructor(app, commands) {
    this.app = app;
    this.commands = commands;
    this.#letters.checked = app.store.get("letters") !== false;
    this.#letters.addEventListener("change", () => app.store.set("letters", this.#letters.checked));
    document.addEventListener("keydown", (event) => this.#key(event));
    this.#list();
  }

  /** Single letters may get in the way of speech input and of shaking hands: they can be switched off. */
  #letters = byId("letters", HTMLInputElement);

  #list() {
    const arrows = { keys: "Arrows", words: "on the face: move it along the two axes; with Shift, further" };
    const escape = { keys: "Esc", words: "close what is open, end what moves by itself" };
    const rows = [arrows, ...this.commands, escape].map(({ keys, words }) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = keys;
      row.append(head, Object.assign(document.createElement("td"), { textContent: words }));
      return row;
    });
    byId("keys", HTMLElement).replaceChildren(...rows);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { app } = this;
    if (!app.ready || event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target instanceof HTMLElement ? event.target : document.body;
    const types = target instanceof HTMLInputElement && target.type === "text";
    if (types || target instanceof HTMLSelectElement) return;
    if (event.key === " " && target.matches("button, input, a")) return; // it presses them
    if (event.key === "Escape" && app.moving) {
      event.preventDefault();
      return app.act(() => undefined);
    }
    const control = event.ctrlKey || event.metaKey;
    const single = event.key.length === 1 && !control;
    if (single && !this.#letters.checked && !(event.key === " " && target.id === "face")) return;
    const name = (control ? "ctrl+" : "") + (control && event.shiftKey ? "shift+" : "") + event.key.toLowerCase();
    const command = this.commands.find(({ on }) => on.includes(name));
    if (!command) return;
    event.preventDefault();
    command.run(name);
  }
}

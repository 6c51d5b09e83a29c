/** The buttons under the face. */

import { byId, inside, onClick, write } from "./dom.js";
import { Glide, Walk } from "./motion.js";
import { PARTS } from "./rules.js";

/** @typedef {import("./app.js").App} App */

export class Tools {
  #undo = onClick("undo", () => this.undo());
  #redo = onClick("redo", () => this.redo());
  #freeze = onClick("freeze", () => this.app.act((session) => session.toggleFreeze()));
  #walk = onClick("walk", () => this.toggle(Walk));
  #glide = onClick("glide", () => this.toggle(Glide));
  #locks = PARTS.map((part) => onClick(`lock-${part}`, () => this.app.act((session) => session.toggleStill(part))));

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    onClick("random", () => app.act((session) => session.shuffle()));
    app.on("change", () => this.#show());
    app.on("bundle", () => this.#show()); // at once: what comes later would move what stands below
  }

  undo() {
    this.app.act((session) => session.undo() || this.app.tell("Nothing to undo."));
  }

  redo() {
    this.app.act((session) => session.redo() || this.app.tell("Nothing to redo."));
  }

  /**
   * Let the face move by itself, or stop it where it is.
   * @param {typeof Walk | typeof Glide} Kind
   */
  toggle(Kind) {
    const { app } = this;
    const kind = Kind === Walk ? "walk" : "glide";
    if (app.moving === kind) app.act(() => undefined);
    else app.start(Kind);
  }

  #show() {
    const { session, moving } = this.app;
    // Not "disabled": the keyboard's focus would be lost with the last step.
    this.#undo.setAttribute("aria-disabled", String(!session.canUndo));
    this.#redo.setAttribute("aria-disabled", String(!session.canRedo));
    byId("parts", HTMLElement).hidden = !session.hasShape;
    PARTS.forEach((part, k) => this.#locks[k].setAttribute("aria-pressed", String(session.still?.part === part)));
    this.#freeze.setAttribute("aria-pressed", String(session.frozen));
    for (const [button, kind, words, icon] of /** @type {const} */ ([
      [this.#walk, "walk", "Walk", "#i-play"],
      [this.#glide, "glide", "Glide", "#i-glide"],
    ])) {
      button.setAttribute("aria-pressed", String(moving === kind));
      write(inside(button, "span", HTMLElement), moving === kind ? "Stop" : words);
      const [use, wanted] = [inside(button, "use", SVGUseElement), moving === kind ? "#i-pause" : icon];
      if (use.getAttribute("href") !== wanted) use.setAttribute("href", wanted);
    }
  }
}

/** The buttons under the face, and the keys that do the same. */

import { byId, download, inside, onClick } from "./dom.js";
import { Film, LONGEST, formats } from "./film.js";
import * as link from "./link.js";
import { checkSeed } from "./noise.js";
import { png } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./favourites.js").Favourites} Favourites
 * @typedef {import("./film.js").Format} Format
 * @typedef {{keys: string, words: string, on: string[], run: (key: string) => void}} Command
 */

/** Sizes of saved pictures in pixels, beside the model's own. */
const SIZES = [512, 1024];

export class Tools {
  #seed = byId("seed", HTMLInputElement);
  #range = byId("range", HTMLInputElement);
  #rangeValue = byId("range-value", HTMLOutputElement);
  #faceNumber = byId("face-number", HTMLElement);
  #size = byId("save-size", HTMLSelectElement);
  #format = byId("film-format", HTMLSelectElement);
  #walk = onClick("walk", () => this.toggleWalk());
  #record = onClick("record", () => this.app.attempt(() => this.toggleFilm()));
  #undo = onClick("undo", () => this.undo());
  #redo = onClick("redo", () => this.redo());
  /** The film that is being recorded. @type {Film | null} */
  #film = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #filmEnds;

  /**
   * @param {App} app
   * @param {Favourites} favourites
   * @param {{photograph: () => void, explain: () => void, help: () => void}} others what opens elsewhere
   */
  constructor(app, favourites, others) {
    this.app = app;
    this.commands = this.#commands(favourites, others);
    onClick("random", () => app.act((session) => session.shuffle()));
    onClick("reset", () => app.act((session) => session.reset()));
    onClick("freeze", () => app.act((session) => session.toggleFreeze()));
    onClick("favour", () => favourites.keep());
    onClick("copy-link", () => app.attempt(() => this.copyLink()));
    onClick("save", () => app.attempt(() => this.save()));
    this.#range.addEventListener("input", () => app.act((session) => session.setRange(this.#range.valueAsNumber)));
    this.#seed.addEventListener("change", () => this.#useSeed());
    this.#seed.addEventListener("keydown", ({ key }) => {
      if (key === "Enter") this.#useSeed(true);
      if (key === "Escape") this.#seed.value = String(app.session.seed);
    });
    for (const format of formats()) this.#format.add(new Option(format === "webm" ? "WebM" : "GIF", format));
    app.on("model", () => this.#build());
    app.on("change", () => this.#show());
    app.on("picture", (pixels) => this.#film?.add(pixels));
    document.addEventListener("keydown", (event) => this.#key(event));
    this.#listKeys();
  }

  /** The format in which films are written. @returns {Format} */
  get format() {
    return this.#format.value === "webm" ? "webm" : "gif";
  }

  undo() {
    this.app.act((session) => session.undo() || this.app.tell("Nothing to undo."));
  }

  redo() {
    this.app.act((session) => session.redo() || this.app.tell("Nothing to redo."));
  }

  toggleWalk() {
    const { app } = this;
    if (!app.ready) return;
    if (app.walk.running) return app.act(() => undefined);
    app.act((session) => app.walk.start(session));
  }

  /** Write the face as a PNG of the chosen size. */
  async save() {
    const { app } = this;
    const { pictured, picture, model } = app;
    if (!picture || !pictured) return;
    const size = Number(this.#size.value);
    download(await png(picture, model.imageShape, size), `face-${this.#stem}-${size}.png`);
    app.tell("The picture is saved.");
  }

  /** Put a link to exactly this face on the clipboard and into the address bar. */
  async copyLink() {
    const { app } = this;
    app.act(() => undefined); // a walk ends where it is seen to be
    history.replaceState(null, "", `#${link.write(app.session.state, app.shape)}`);
    try {
      await navigator.clipboard.writeText(location.href);
      app.tell("The link is copied.");
    } catch {
      app.tell("The link is in the address bar; this browser did not let the page copy it.");
    }
  }

  /** Begin to record what the person does, or end it and save the film. */
  async toggleFilm() {
    const { app } = this;
    const film = this.#film;
    if (!film) {
      if (!app.picture) return;
      this.#film = new Film(this.format, app.model.imageShape);
      this.#film.add(app.picture);
      this.#filmEnds = setTimeout(() => app.attempt(() => this.toggleFilm()), LONGEST);
      app.tell(`Recording. It ends after ${LONGEST / 1000} seconds, or when you press it again.`);
      return this.#showFilm();
    }
    clearTimeout(this.#filmEnds);
    this.#film = null;
    this.#showFilm();
    if (app.picture) film.add(app.picture);
    app.tell("Writing the film");
    download(await film.finish(), `film-${this.#stem}.${film.format}`);
    app.tell("The film is saved.");
  }

  get #stem() {
    const { session, shape, bundle } = this.app;
    const changed = link.differing(session.state, shape);
    const near = session.origin && changed.length <= shape.dimensions.length;
    return near ? `${bundle}-${session.origin.join("-")}` : bundle;
  }

  #build() {
    const [height] = this.app.model.imageShape;
    if (this.#film) void this.app.attempt(() => this.toggleFilm());
    const sizes = [height, ...SIZES.filter((size) => size > height)];
    this.#size.replaceChildren(...sizes.map((size) => new Option(`${size} px`, String(size))));
    this.#size.value = String(sizes[1] ?? height);
  }

  /** @param {boolean} [again] the same seed, too, from its first face on */
  #useSeed(again = false) {
    const { app } = this;
    const text = this.#seed.value.trim();
    if (!app.ready || (text === String(app.session.seed) && !again)) return;
    void app.attempt(() => {
      const seed = checkSeed(/^\d+$/.test(text) ? Number(text) : /** @type {any} */ (`'${text}'`));
      app.act((session) => session.shuffle(seed));
    });
    this.#show();
  }

  #show() {
    const { session, walk } = this.app;
    this.#undo.disabled = !session.canUndo;
    this.#redo.disabled = !session.canRedo;
    if (document.activeElement !== this.#seed || Number(this.#seed.value) === session.seed) {
      this.#seed.value = String(session.seed);
    }
    this.#faceNumber.textContent = this.#whichFace();
    this.#range.value = String(session.range);
    this.#rangeValue.textContent = `±${session.range.toFixed(2)}`;
    this.#walk.setAttribute("aria-pressed", String(walk.running));
    inside(this.#walk, "span", HTMLElement).textContent = walk.running ? "Stop" : "Walk";
    inside(this.#walk, "use", SVGUseElement).setAttribute("href", walk.running ? "#i-pause" : "#i-play");
  }

  /** Which of the seed's faces is shown, and how far from it. */
  #whichFace() {
    const { session, shape } = this.app;
    const changed = link.differing(session.state, shape);
    if (changed.length > shape.dimensions.length) return "your own face";
    const face = session.origin ? `face ${session.origin[1]}` : "the average face";
    return changed.length ? `${face}, ${changed.length} moved` : face;
  }

  #showFilm() {
    const on = this.#film !== null;
    this.#record.setAttribute("aria-pressed", String(on));
    inside(this.#record, "span", HTMLElement).textContent = on ? "Stop" : "Record";
    this.#format.disabled = on;
  }

  // --- keys

  /**
   * @param {Favourites} favourites
   * @param {{photograph: () => void, explain: () => void, help: () => void}} others
   * @returns {Command[]}
   */
  #commands(favourites, others) {
    const { app } = this;
    const act = app.act.bind(app);
    return [
      { keys: "R", words: "another face at random", on: ["r"], run: () => act((session) => session.shuffle()) },
      { keys: "F, space", words: "hold or release the face", on: ["f", " "], run: () => act((session) => session.toggleFreeze()) },
      { keys: "Ctrl+Z, U", words: "undo", on: ["ctrl+z", "u"], run: () => this.undo() },
      { keys: "Ctrl+Y, Y", words: "redo", on: ["ctrl+y", "ctrl+shift+z", "y"], run: () => this.redo() },
      { keys: "0", words: "reset: the average face", on: ["0"], run: () => act((session) => session.reset()) },
      { keys: "W", words: "random walk; again to stop it", on: ["w"], run: () => this.toggleWalk() },
      { keys: "[ ]", words: "narrow or widen the range, as the wheel does", on: ["[", "]"], run: (key) => act((session) => session.widen(key === "]" ? 1 : -1)) },
      { keys: "D", words: "to the dimensions; Tab goes on from there", on: ["d"], run: () => this.#toDimensions() },
      { keys: "B", words: "keep the face among the favourites", on: ["b"], run: () => favourites.keep() },
      { keys: "L", words: "copy a link to exactly this face", on: ["l"], run: () => void app.attempt(() => this.copyLink()) },
      { keys: "S", words: "save a picture", on: ["s"], run: () => void app.attempt(() => this.save()) },
      { keys: "V", words: "record a film; again to end it", on: ["v"], run: () => void app.attempt(() => this.toggleFilm()) },
      { keys: "P", words: "your own photograph", on: ["p"], run: others.photograph },
      { keys: "E", words: "what is a VAE?", on: ["e"], run: others.explain },
      { keys: "?, H", words: "this help", on: ["?", "h"], run: others.help },
    ];
  }

  #listKeys() {
    const arrows = { keys: "Arrows", words: "on the face: move it along the two axes; with Shift, further" };
    const escape = { keys: "Esc", words: "close what is open, end a walk" };
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
    if (event.key === "Escape" && app.walk.running) {
      event.preventDefault();
      return app.act(() => undefined);
    }
    const control = event.ctrlKey || event.metaKey;
    const name = (control ? "ctrl+" : "") + (control && event.shiftKey ? "shift+" : "") + event.key.toLowerCase();
    const command = this.commands.find(({ on }) => on.includes(name));
    if (!command) return;
    event.preventDefault();
    command.run(name);
  }

  #toDimensions() {
    const first = document.querySelector("#dimensions input[type=range]");
    if (first instanceof HTMLElement) first.focus();
  }
}

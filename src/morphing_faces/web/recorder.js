/** Films of what the person does, and of the way through their favourites. */

import { byId, download, inside, onClick } from "./dom.js";
import { Film, LONGEST, NAMES, formats } from "./film.js";
import * as link from "./link.js";
import { loop } from "./loop.js";
import { shown } from "./picture.js";
import { idle } from "./rest.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./film.js").Format} Format
 */

export class Recorder {
  #format = byId("film-format", HTMLSelectElement);
  #button = onClick("record", () => this.toggle());
  /** The film that is being recorded. @type {Film | null} */
  #film = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #ends;

  /**
   * @param {App} app
   * @param {import("./photo-stage.js").PhotoStage} stage where a photograph may stand in the place of the face
   */
  constructor(app, stage) {
    this.app = app;
    this.stage = stage;
    this.#format.add(new Option(NAMES.gif, "gif")); // until it is known what else this browser writes
    void idle().then(formats).then((all) => this.#format.replaceChildren(...all.map((format) => new Option(NAMES[format], format))));
    app.on("bundle", () => this.#film && this.toggle()); // pictures of another model have another shape
    app.on("picture", () => stage.view || this.#add()); // a photograph comes after its face
    stage.onShown = () => this.#add();
  }

  /** What stands in the place of the face. */
  get #shown() {
    const { picture, manifest } = this.app;
    return this.stage.picture ?? (picture && shown(picture, manifest.image_shape));
  }

  #add() {
    const picture = this.#shown;
    if (picture) this.#film?.add(picture);
  }

  /** Begin to record what the person does, or end it and save the film. */
  toggle() {
    const { app } = this;
    const film = this.#film;
    clearTimeout(this.#ends);
    if (film) {
      this.#film = null;
      void app.attempt(() => this.#save(film));
    } else if (app.picture) {
      this.#film = new Film(this.#chosen, app.manifest.image_shape);
      this.#add();
      this.#ends = setTimeout(() => this.toggle(), LONGEST);
      app.tell(`Recording. It ends after ${LONGEST / 1000} seconds, or when you press it again.`);
    }
    const on = this.#film !== null;
    this.#button.setAttribute("aria-pressed", String(on));
    inside(this.#button, "span", HTMLElement).textContent = on ? "Stop" : "Record";
    this.#format.disabled = on;
  }

  /**
   * Save a film that goes from face to face and back to the first, without end: of a photograph, where one is shown.
   * @param {import("./morph.js").Face[]} faces two or more
   */
  async save(faces) {
    const { app } = this;
    const { view } = this.stage;
    const format = this.#chosen;
    const onProgress = (/** @type {number} */ part) => this.#tell(part);
    const file = await loop(app, faces, format, { view, comment: this.#comment, onProgress });
    download(file, `faces-${app.bundle}.${format}`);
    app.tell("The film is saved. It plays round and round without a jump.");
  }

  get #chosen() {
    return /** @type {Format} */ (this.#format.value);
  }

  /** The face that is shown, as a link: it travels inside the film. */
  get #comment() {
    return new URL(`#${link.write(this.app.session.state, this.app.shape)}`, location.href).href;
  }

  /** @param {Film} film */
  async #save(film) {
    const { app } = this;
    const file = await film.encode({ comment: this.#comment, onProgress: (part) => this.#tell(part) });
    download(file, `film-${app.bundle}.${film.format}`);
    app.tell("The film is saved.");
  }

  /** @param {number} part */
  #tell(part) {
    this.app.tell(`Making the film: ${Math.round(100 * part)}%`);
  }
}

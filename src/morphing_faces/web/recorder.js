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
  /** Whose face was recorded last: another model may be shown when the film is saved. @type {{bundle: string, link: () => string}} */
  #of = { bundle: "", link: () => "" };
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
    const picture = this.#film && this.#shown;
    if (!this.#film || !picture) return;
    this.#film.add(picture);
    const { bundle, shape } = this.app;
    const { state } = this.app.session;
    this.#of = { bundle, link: () => linkOf(state, shape) };
  }

  /** Begin to record what the person does, or end it and save the film. */
  toggle() {
    const { app } = this;
    const film = this.#film;
    clearTimeout(this.#ends);
    if (film) {
      this.#film = null;
      const { bundle, link } = this.#of;
      void app.attempt(() => this.#save(film, bundle, link()));
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
    const file = await loop(app, faces, format, { view, comment: linkOf(app.session.state, app.shape), onProgress });
    download(file, `faces-${app.bundle}.${format}`);
    app.tell("The film is saved. It plays round and round without a jump.");
  }

  get #chosen() {
    return /** @type {Format} */ (this.#format.value);
  }

  /**
   * @param {Film} film
   * @param {string} bundle whose faces it shows
   * @param {string} comment the link to its last face
   */
  async #save(film, bundle, comment) {
    const file = await film.encode({ comment, onProgress: (part) => this.#tell(part) });
    download(file, `film-${bundle}.${film.format}`);
    this.app.tell("The film is saved.");
  }

  /** @param {number} part */
  #tell(part) {
    this.app.tell(`Making the film: ${Math.round(100 * part)}%`);
  }
}

/**
 * A face as a link: it travels inside the film.
 * @param {import("./session.js").State} state
 * @param {import("./link.js").Shape} shape
 */
function linkOf(state, shape) {
  return new URL(`#${link.write(state, shape)}`, location.href).href;
}

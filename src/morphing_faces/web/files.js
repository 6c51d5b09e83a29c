/** What leaves the page: a link, a picture, a film of what the person does. */

import { byId, download, inside, onClick } from "./dom.js";
import { Film, LONGEST, formats } from "./film.js";
import * as link from "./link.js";
import { png } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./film.js").Format} Format
 */

/** Sizes of saved pictures in pixels, beside the model's own. */
const SIZES = [512, 1024];

export class Files {
  #size = byId("save-size", HTMLSelectElement);
  #format = byId("film-format", HTMLSelectElement);
  #record = onClick("record", () => this.app.attempt(() => this.toggleFilm()));
  /** The film that is being recorded. @type {Film | null} */
  #film = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #filmEnds;
  /** In which films are written. @type {Format} */
  format = formats()[0];

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    onClick("copy-link", () => app.attempt(() => this.copyLink()));
    onClick("save", () => app.attempt(() => this.save()));
    for (const format of formats()) this.#format.add(new Option(format === "webm" ? "WebM" : "GIF", format));
    this.#format.addEventListener("change", () => (this.format = this.#format.value === "webm" ? "webm" : "gif"));
    app.on("bundle", () => this.#build());
    app.on("picture", (pixels) => this.#film?.add(pixels));
  }

  /** Write the face as a PNG of the chosen size. */
  async save() {
    const { app } = this;
    const { pictured, picture, manifest } = app;
    if (!picture || !pictured) return;
    const size = Number(this.#size.value);
    download(await png(picture, manifest.image_shape, size), `face-${this.#stem}-${size}.png`);
    app.tell("The picture is saved.");
  }

  /** Put a link to exactly this face on the clipboard and into the address bar. */
  async copyLink() {
    const { app } = this;
    app.act(() => undefined); // what moves by itself ends where it is seen to be
    history.replaceState(history.state, "", `#${link.write(app.session.state, app.shape)}`);
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
      this.#film = new Film(this.format, app.manifest.image_shape);
      this.#film.add(app.picture);
      this.#filmEnds = setTimeout(() => app.attempt(() => this.toggleFilm()), LONGEST);
      app.tell(`Recording. It ends after ${LONGEST / 1000} seconds, or when you press it again.`);
      return this.#showFilm();
    }
    clearTimeout(this.#filmEnds);
    this.#film = null;
    this.#showFilm();
    const name = `film-${this.#stem}.${film.format}`;
    if (app.picture) film.add(app.picture);
    app.tell("Writing the film");
    download(await film.finish(), name);
    app.tell("The film is saved.");
  }

  get #stem() {
    const { session, shape, bundle } = this.app;
    const near = session.origin && link.differing(session.state, shape).length <= shape.dimensions.length;
    return near ? `${bundle}-${session.origin.join("-")}` : bundle;
  }

  #build() {
    const [height] = this.app.manifest.image_shape;
    if (this.#film) void this.app.attempt(() => this.toggleFilm()); // a film has one size of pictures
    const sizes = [height, ...SIZES.filter((size) => size > height)];
    this.#size.replaceChildren(...sizes.map((size) => new Option(`${size} px`, String(size))));
    this.#size.value = String(sizes[1] ?? height);
  }

  #showFilm() {
    const on = this.#film !== null;
    this.#record.setAttribute("aria-pressed", String(on));
    inside(this.#record, "span", HTMLElement).textContent = on ? "Stop" : "Record";
    this.#format.disabled = on;
  }
}

/** The face on its way out of the page, as a link, a picture or a file, and back in. */

import { byId, download, onClick } from "./dom.js";
import * as link from "./link.js";
import { png } from "./picture.js";
import { textOf, withText } from "./png-text.js";

/** @typedef {import("./app.js").App} App */

/** Sizes of saved pictures in pixels, beside the model's own. */
const SIZES = [512, 1024];
/** The picture that goes along with a shared link. */
const SHARED = 512;
/** The word under which a picture holds its link. */
export const KEYWORD = "Morphing Faces";
/** No face's file is larger than this, in bytes. */
const LARGEST_FILE = 1 << 20;

export class Share {
  #size = byId("save-size", HTMLSelectElement);
  #file = byId("open-face-file", HTMLInputElement);

  /**
   * @param {App} app
   * @param {{open: (fragment: string) => void, photograph: (file: Blob) => void}} others where a link is opened, and where
   *   a picture goes that holds no face
   */
  constructor(app, others) {
    this.app = app;
    this.others = others;
    onClick("copy-link", () => app.attempt(() => this.share()));
    onClick("save", () => app.attempt(() => this.save()));
    onClick("save-file", () => app.attempt(() => this.saveFile()));
    onClick("open-face", () => this.#file.click());
    this.#file.addEventListener("change", () => {
      const file = this.#file.files?.[0];
      this.#file.value = ""; // the same file may be chosen again
      if (file) void app.attempt(() => this.openFile(file));
    });
    app.on("bundle", () => this.#build());
    // Before the photograph's: a picture that holds a face is opened, not encoded.
    window.addEventListener("drop", (event) => this.#drop(event), { capture: true });
  }

  /** The address of exactly the face that is shown. */
  get address() {
    return new URL(`#${link.write(this.app.session.state, this.app.shape)}`, location.href).href;
  }

  /** The picture that is shown as a PNG that holds its link. @param {number} size of its height in pixels */
  async picture(size) {
    const { picture, manifest } = this.app;
    if (!picture) throw new Error("There is no face yet.");
    const address = this.address;
    return withText(await png(picture, manifest.image_shape, size), KEYWORD, address);
  }

  /** Write the face as a PNG of the chosen size. */
  async save() {
    const size = Number(this.#size.value);
    download(await this.picture(size), `face-${this.#stem}-${size}.png`);
    this.app.tell("The picture is saved. Dropped onto this page it opens this face again.");
  }

  /** Write the face as a file that the window opens, too. */
  saveFile() {
    const content = `${JSON.stringify(this.app.session.toObject())}\n`;
    download(new Blob([content], { type: "application/json" }), `face-${this.#stem}.json`);
    this.app.tell("The face is saved. The window opens it with load, this page with Open.");
  }

  /** Put a link to exactly this face on the clipboard and into the address bar. */
  async copyLink() {
    const { app } = this;
    app.act(() => undefined); // a walk ends where it is seen to be
    history.replaceState(history.state, "", this.address);
    try {
      await navigator.clipboard.writeText(location.href);
      app.tell("The link is copied.");
    } catch {
      app.tell("The link is in the address bar; this browser did not let the page copy it.");
    }
  }

  /** Hand the picture and its link to the system's sheet; where there is none, copy the link. */
  async share() {
    const { app } = this;
    app.act(() => undefined);
    if (!navigator.share) return this.copyLink();
    const file = new File([await this.picture(SHARED)], `face-${this.#stem}.png`, { type: "image/png" });
    const words = { title: "Morphing Faces", text: "A face that nobody has. Move over it, and it changes.", url: this.address };
    const whole = { ...words, files: [file] };
    try {
      await navigator.share(navigator.canShare?.(whole) ? whole : words);
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return; // the person closed the sheet
      await this.copyLink();
    }
  }

  /**
   * Show the face of a file: one that the window or this page saved, or a picture that holds its link.
   * @param {File} file
   */
  async openFile(file) {
    const fragment = await fragmentOf(file);
    if (fragment !== null) return this.others.open(fragment);
    const face = file.size > LARGEST_FILE ? null : await parsed(file);
    if (face === null) throw new Error(`The file ${file.name} holds no face. Choose a picture or a file that was saved here or by the window.`);
    const bundle = face?.bundle;
    if (typeof bundle === "string" && bundle !== this.app.bundle && link.isLink(`bundle=${bundle}`)) {
      throw new Error(`The file ${file.name} is a face of the model ${bundle}. Choose that model first.`);
    }
    this.app.act((session) => {
      try {
        session.fromObject(face);
      } catch (error) {
        throw error instanceof RangeError ? new RangeError(`the file ${file.name} ${error.message}`) : error;
      }
    });
  }

  /** @param {DragEvent} event */
  #drop(event) {
    const file = event.dataTransfer?.files[0];
    if (!file || !this.app.alive) return;
    const json = file.type === "application/json" || file.name.endsWith(".json");
    if (!json && file.type !== "image/png") return;
    event.preventDefault();
    event.stopPropagation();
    void this.app.attempt(async () => {
      if (json || (await fragmentOf(file)) !== null) await this.openFile(file);
      else this.others.photograph(file);
    });
  }

  get #stem() {
    const { session, shape, bundle } = this.app;
    const changed = link.differing(session.state, shape);
    const near = session.origin && changed.length <= shape.dimensions.length;
    return near ? `${bundle}-${session.origin.join("-")}` : bundle;
  }

  #build() {
    const [height] = this.app.manifest.image_shape;
    const sizes = [height, ...SIZES.filter((size) => size > height)];
    this.#size.replaceChildren(...sizes.map((size) => new Option(`${size} px`, String(size))));
    this.#size.value = String(sizes[1] ?? height);
  }
}

/**
 * The fragment of the link that a picture holds, or null. Only what stands behind the # is taken: a picture cannot lead away.
 * @param {Blob} file
 */
async function fragmentOf(file) {
  const text = await textOf(file, KEYWORD);
  const fragment = text?.slice(text.indexOf("#"));
  return fragment?.startsWith("#") && link.isLink(fragment) ? fragment : null;
}

/** @param {Blob} file */
async function parsed(file) {
  try {
    return JSON.parse((await file.text()).replace(/^\ufeff/, ""));
  } catch {
    return null;
  }
}

/** A cell of a notebook: the page's face and session, kept in step with a session of Python's. */

import { App } from "../web/app.js";
import { inside } from "../web/dom.js";
import { Face } from "../web/face.js";
import { loadModel, startWorkersWith } from "../web/model.js";
import { Session } from "../web/session.js";

/**
 * @typedef {import("../web/model.js").Model} PageModel
 * @typedef {import("../web/picture.js").Pixels} Pixels
 * @typedef {Float32Array<ArrayBuffer>} Floats
 * @typedef {{z: Floats, shape: Floats | null, resolve: (pixels: Pixels | null) => void}} Request
 * @typedef {{get(name: string): any, set(name: string, value: any): void, save_changes(): void,
 *   send(content: any, callbacks?: any, buffers?: ArrayBuffer[]): void,
 *   on(event: string, callback: (...values: any[]) => void): void,
 *   off(event: string, callback: (...values: any[]) => void): void}} Kernel the widget's model in the notebook
 * @typedef {{name: string, image_shape: [number, number, number], latent_size: number,
 *   dimensions: {latent: number, [key: string]: any}[], files: Record<string, any>, [key: string]: any}} Manifest
 */

/** At most one message to the kernel in this time, in ms; what came last always arrives. */
const PACE = 50;
/** The face is kept in the notebook when nothing has happened for this long, in ms. */
const REST = 600;
/** Where files are that were brought along: nowhere that could be asked. */
const BASE = "https://notebook.invalid/";

/**
 * Draws with whatever there is: the kernel at first, the browser as soon as the model is here. App sees one model.
 */
class Drawer {
  /** The model in this browser. @type {PageModel | null} */
  #here = null;
  /** What the kernel draws next. @type {Request | null} */
  #next = null;
  /** What it is drawing. @type {Request | null} */
  #drawing = null;

  /**
   * @param {Kernel} kernel
   * @param {Manifest} manifest
   */
  constructor(kernel, manifest) {
    this.kernel = kernel;
    this.manifest = manifest;
    this.name = manifest.name;
    this.imageShape = manifest.image_shape;
    this.latentSize = manifest.latent_size;
    this.dimensions = manifest.dimensions.map(({ latent }) => latent);
  }

  /**
   * From now on draw here, beginning with what the kernel was asked for last.
   * @param {PageModel} model
   */
  use(model) {
    this.#here = model;
    const last = this.#next ?? this.#drawing;
    if (this.#drawing !== last) this.#drawing?.resolve(null);
    this.#next = this.#drawing = null;
    if (last) void model.decodeLatest(last.z, last.shape).then(last.resolve);
  }

  /**
   * A face -> its picture, or null when a newer request came before this one could begin.
   * @param {Floats} z
   * @param {Floats | null} [shape] another point, whose shape the face has
   * @returns {Promise<Pixels | null>}
   */
  decodeLatest(z, shape = null) {
    if (this.#here) return this.#here.decodeLatest(z, shape);
    return new Promise((resolve) => {
      this.#next?.resolve(null);
      this.#next = { z, shape, resolve };
      this.#ask();
    });
  }

  #ask() {
    if (this.#drawing || !this.#next) return;
    this.#drawing = this.#next;
    this.#next = null;
    const { z, shape } = this.#drawing;
    this.kernel.send({ verb: "draw" }, undefined, [z, ...(shape ? [shape] : [])].map((point) => point.slice().buffer));
  }

  /** @param {DataView} bytes RGB or grey, height * width * channels */
  drawn(bytes) {
    if (!this.#drawing) return; // it is drawn here by now
    const [height, width, channels] = this.imageShape;
    const pixels = new Uint8ClampedArray(height * width * 4).fill(255);
    for (let from = 0, to = 0; to < pixels.length; from += channels, to += 4) {
      for (let k = 0; k < 3; k++) pixels[to + k] = bytes.getUint8(from + (channels === 3 ? k : 0));
    }
    this.#drawing.resolve(pixels);
    this.#drawing = null;
    this.#ask();
  }

  close() {
    this.#here?.close();
  }
}

/** Files that the kernel sends, a piece at a time, each asked for when the one before has come. */
class Files {
  /** @type {Map<string, {parts: DataView[], resolve: (content: Blob) => void, reject: (reason: Error) => void}>} */
  #coming = new Map();

  /** @param {Kernel} kernel */
  constructor(kernel) {
    this.kernel = kernel;
  }

  /**
   * @param {string} name
   * @returns {Promise<Blob>}
   */
  get(name) {
    return new Promise((resolve, reject) => {
      this.#coming.set(name, { parts: [], resolve, reject });
      this.kernel.send({ verb: "file", name, part: 0 });
    });
  }

  /**
   * @param {{name: string, part: number, of: number, gzip: boolean, error?: string}} content
   * @param {DataView[]} buffers
   */
  came({ name, part, of, gzip, error }, [bytes]) {
    const file = this.#coming.get(name);
    if (!file) return;
    if (error) return file.reject(new Error(error));
    file.parts.push(bytes);
    if (part + 1 < of) return this.kernel.send({ verb: "file", name, part: part + 1 });
    this.#coming.delete(name);
    const whole = new Blob(/** @type {BlobPart[]} */ (file.parts));
    if (!gzip) return file.resolve(whole);
    new Response(whole.stream().pipeThrough(new DecompressionStream("gzip"))).blob().then(file.resolve, file.reject);
  }
}

/**
 * Fetch the model and its runtime from the kernel, and start them in a worker of this browser.
 * @param {Files} files
 * @param {string[]} names addresses under the page's, and under the bundle's folder `bundle/`
 * @param {string} worker the worker's program
 * @returns {Promise<PageModel>}
 */
async function modelHere(files, names, worker) {
  /** @type {Record<string, string>} */
  const blobs = {};
  for (const name of names) {
    const type = name.endsWith(".mjs") ? "text/javascript" : name.endsWith(".wasm") ? "application/wasm" : "";
    blobs[BASE + name] = URL.createObjectURL(new Blob([await files.get(name)], { type }));
  }
  const begin = `self.morphingFacesFiles = ${JSON.stringify({ base: BASE, blobs })};\n`;
  const program = URL.createObjectURL(new Blob([begin, worker], { type: "text/javascript" }));
  startWorkersWith(() => new Worker(program, { type: "module" }));
  return loadModel(`${BASE}bundle`, { backend: "wasm" });
}

/**
 * @param {Kernel} kernel
 * @param {HTMLElement} root what `document` of these modules is the inside of
 * @param {string} worker the worker's program
 * @returns {() => void} undo all this
 */
export function show(kernel, root, worker) {
  /** @type {Manifest} */
  const manifest = JSON.parse(kernel.get("_manifest"));
  const element = (/** @type {string} */ name) => inside(root, `[data-part=${name}]`, HTMLElement);
  const [said, where] = [element("said"), element("where")];
  const range = inside(root, "input[type=range]", HTMLInputElement);
  const selects = [...root.querySelectorAll("select")];
  const nameOf = (/** @type {number} */ dimension) => manifest.dimensions[dimension].name ?? `Dimension ${dimension}`;
  const polesOf = (/** @type {number} */ dimension) => {
    const { low = "", high = "" } = manifest.dimensions[dimension];
    return [low, high];
  };
  const names = { nameOf, polesOf };

  const app = new App(/** @type {any} */ (null), (words) => (said.textContent = words));
  new Face(app, /** @type {any} */ (names), { dwell: 0, returns: false }); // the way leads from the face to the next cell
  const drawer = new Drawer(kernel, manifest);
  const files = new Files(kernel);
  let gone = false;

  for (const select of selects) {
    select.replaceChildren(...manifest.dimensions.map((_, dimension) => new Option(`${dimension}: ${nameOf(dimension)}`, String(dimension))));
  }
  const on = (/** @type {string} */ id, /** @type {(session: Session) => void} */ action) =>
    inside(root, `#${id}`, HTMLButtonElement).addEventListener("click", () => app.act(action));
  on("random", (session) => session.shuffle());
  on("undo", (session) => session.undo());
  on("redo", (session) => session.redo());
  on("freeze", (session) => session.toggleFreeze());
  selects.forEach((select, axis) =>
    select.addEventListener("change", () =>
      app.act((session) => {
        const axes = [...session.axes];
        const dimension = Number(select.value);
        if (axes[1 - axis] === dimension) axes[1 - axis] = axes[axis];
        axes[axis] = dimension;
        session.select(axes[0], axes[1]);
      }),
    ),
  );
  range.addEventListener("input", () => app.act((session) => session.setRange(range.valueAsNumber)));

  // --- in step with Python

  /** What both sides last agreed on. */
  let agreed = theirs();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let sending;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let resting;
  let sent = -Infinity;

  /** @param {string} key */
  function point(key) {
    /** @type {DataView} */
    const bytes = kernel.get(key);
    return new Float32Array(Uint8Array.from(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)).buffer);
  }

  /** The part that Python keeps still; only Python's verbs change that. */
  function still() {
    const part = /** @type {"shape" | "appearance" | ""} */ (kernel.get("_still_part"));
    return part ? { part, z: point("_still_z") } : null;
  }

  /** What Python holds. */
  function theirs() {
    const z = point("z");
    const axes = /** @type {number[]} */ ([...kernel.get("axes")]);
    return { z, axes, frozen: kernel.get("frozen"), range: kernel.get("range"), still: still() };
  }

  /** Take over what Python changed, as one step that can be undone. */
  function take() {
    const now = theirs();
    if (equal(now, agreed)) return; // what came from here
    agreed = now;
    const { z, axes, frozen, still } = now;
    app.act((session) =>
      session.restore({ ...session.state, z, axes: [axes[0], axes[1]], frozen, range: now.range, still, origin: same(z, session.z) ? session.origin : null }),
    );
  }

  /** Send what the hand did, not too often, the last always. */
  function give() {
    const { z, axes, frozen, range, still } = app.session;
    const now = { z, axes: [...axes], frozen, range, still };
    clearTimeout(resting);
    resting = setTimeout(() => kernel.send({ verb: "rest" }), REST);
    if (equal(now, agreed)) return;
    clearTimeout(sending);
    const wait = sent + PACE - performance.now();
    if (wait > 0) {
      sending = setTimeout(give, wait);
      return;
    }
    sent = performance.now();
    agreed = now;
    kernel.set("z", new DataView(z.slice().buffer));
    kernel.set("axes", now.axes);
    kernel.set("frozen", frozen);
    kernel.set("range", range);
    kernel.save_changes();
  }

  app.on("change", () => {
    const { session } = app;
    range.value = String(session.range);
    selects.forEach((select, axis) => (select.value = String(session.axes[axis])));
    inside(root, "#undo", HTMLButtonElement).setAttribute("aria-disabled", String(!session.canUndo));
    inside(root, "#redo", HTMLButtonElement).setAttribute("aria-disabled", String(!session.canRedo));
    const freeze = inside(root, "#freeze", HTMLButtonElement);
    freeze.setAttribute("aria-pressed", String(session.frozen));
    inside(freeze, "span", HTMLElement).textContent = session.frozen ? "Release" : "Hold";
    give();
  });
  app.on("picture", () => (root.dataset.pictures = String(app.stats.frames)));

  const keys = ["z", "axes", "frozen", "range", "_still_part", "_still_z"];
  for (const key of keys) kernel.on(`change:${key}`, take);
  const heard = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
    if (content.verb === "drawn") drawer.drawn(buffers[0]);
    else if (content.verb === "file") files.came(content, buffers);
  };
  kernel.on("msg:custom", heard);

  const hasShape = manifest.shape !== undefined;
  const shape = { name: manifest.name, latentSize: drawer.latentSize, dimensions: drawer.dimensions, hasShape };
  const { state } = new Session(shape, kernel.get("_seed"));
  const begun = Session.from(shape, { ...state, ...agreed, axes: [agreed.axes[0], agreed.axes[1]] });
  app.show(manifest.name, /** @type {any} */ (manifest), begun);
  app.use(/** @type {any} */ (drawer));
  where.textContent = "Drawn by the kernel.";
  root.dataset.where = "kernel";
  const wanted = /** @type {string[]} */ (kernel.get("_files"));
  if (wanted.length) {
    modelHere(files, wanted, worker).then(
      (model) => {
        if (gone) return model.close();
        drawer.use(model);
        where.textContent = "Drawn in this browser.";
        root.dataset.where = "browser";
        app.change();
      },
      (error) => {
        console.info(`The model stays in the kernel: ${error instanceof Error ? error.message : error}`);
        where.textContent = "Drawn by the kernel: this front end could not start the model.";
      },
    );
  }
  Object.assign(root, { morphingFaces: { app } }); // for tests and the curious

  return () => {
    gone = true;
    clearTimeout(sending);
    clearTimeout(resting);
    for (const key of keys) kernel.off(`change:${key}`, take);
    kernel.off("msg:custom", heard);
    app.close();
  };
}

/**
 * @typedef {{z: Float32Array, axes: readonly number[], frozen: boolean, range: number,
 *   still: import("../web/session.js").Still | null}} Shown
 * @param {Shown} a
 * @param {Shown} b
 */
function equal(a, b) {
  return (
    a.frozen === b.frozen && a.range === b.range && same(a.axes, b.axes) && same(a.z, b.z) &&
    a.still?.part === b.still?.part && same(a.still?.z ?? [], b.still?.z ?? [])
  );
}

/**
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
function same(a, b) {
  return a.length === b.length && Array.prototype.every.call(a, (value, k) => value === b[k]);
}

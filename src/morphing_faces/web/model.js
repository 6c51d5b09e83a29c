/** The page's handle on the worker that runs the networks. Everything is a promise; errors are sentences for people. */

import { costs } from "./grab.js";
import { normal } from "./noise.js";

/**
 * @typedef {import("./worker.js").Manifest} Manifest
 * @typedef {import("./worker.js").Progress} Progress
 * @typedef {import("./worker.js").Backend} Backend
 * @typedef {import("./worker.js").Request} Request
 * @typedef {import("./worker.js").Loaded} Loaded
 * @typedef {import("./worker.js").Decoded} Decoded
 * @typedef {import("./worker.js").Encoded} Encoded
 * @typedef {(progress: Progress) => void} OnProgress
 * @typedef {Uint8ClampedArray<ArrayBuffer>} Pixels
 * @typedef {Float32Array<ArrayBuffer>} Floats
 */

const BATCH = 5; // pictures in one call, a dimension's strip: a newer request never waits for more
/** A download of which nothing has come for so long, in ms, has failed. */
const STALL = 30_000;
/** A decode as quick as this, in ms, leaves WebGPU nothing to win that could be seen: it is a frame of 120 Hz. */
const QUICK = 8;
/** How long, in ms, a stream of newest requests may keep the others from their turn. */
const PATIENCE = 100;
/** A decode that takes longer than this, in ms, two frames of the screen, is worth waiting for a newer request. */
const SLOW = 34;
const STALLED = `Nothing has come for ${STALL / 1000} seconds. Check the connection and try again.`;
const TIMED_RUNS = 9;
const WARM_RUNS = 3; // the first decodes compile shaders
/** Pixels of the side of a picture with which the network that finds faces is started. */
const SMALL = 64;

/**
 * What a bundle is: its manifest, not yet checked.
 *
 * Rejects with an Error whose message says what happened and what to do; with an AbortError when `signal` is aborted.
 * @param {string} base the address of the bundle's folder
 * @param {AbortSignal} signal
 * @returns {Promise<Manifest>}
 */
export async function describe(base, signal) {
  const remedy = "Check the connection and try again.";
  const response = await fetch(`${base}/manifest.json`, { cache: "no-cache", signal }).catch(() => {
    signal.throwIfAborted();
    throw new Error(`The model's description could not be loaded. ${remedy}`);
  });
  if (!response.ok) throw new Error(`The model's description is missing (the server said ${response.status}). ${remedy}`);
  const found = await response.json().catch(() => null);
  signal.throwIfAborted();
  const whole = Number.isInteger(found?.latent_size) && Array.isArray(found.dimensions) && found.image_shape?.length === 3;
  if (!whole) throw new Error(`The model's description is not what it should be. ${remedy}`);
  return found;
}

/**
 * Load a bundle and start its decoder.
 *
 * Rejects with an Error whose message says what happened and what to do; with an AbortError when `signal` is aborted.
 * @param {string | URL} base the address of the bundle's folder
 * @param {{onProgress?: OnProgress, signal?: AbortSignal, manifest?: Manifest, backend?: "auto" | Backend}} [options]
 *   `manifest` spares its download; `auto`: WebAssembly, then WebGPU instead where it is there and measured to be faster
 * @returns {Promise<Model>}
 */
export async function loadModel(base, { onProgress, signal, manifest, backend = "auto" } = {}) {
  signal?.throwIfAborted();
  const folder = new URL(`${String(base).replace(/\/*$/, "")}/`, document.baseURI).href;
  const first = new Engine(backend === "webgpu" ? "webgpu" : "wasm");
  const stop = () => first.close(signal?.reason);
  signal?.addEventListener("abort", stop);
  try {
    const loaded = await first.load(folder, onProgress, manifest);
    return new Model(first, loaded, folder, backend === "auto", onProgress);
  } catch (error) {
    first.close();
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** How a worker is started. */
let startWorker = () => new Worker(new URL("worker.js", import.meta.url), { type: "module" });

/** The worker that early.js has started, once. @returns {Worker | undefined} */
function early() {
  const found = /** @type {{earlyWorker?: Worker}} */ (globalThis);
  const { earlyWorker } = found;
  if (earlyWorker) {
    earlyWorker.onerror = null;
    found.earlyWorker = undefined;
  }
  return earlyWorker;
}

/**
 * Start workers otherwise: for a notebook, where this module has no address.
 * @param {() => Worker} start
 */
export function startWorkersWith(start) {
  startWorker = start;
}

/** One worker and the requests that it has not yet answered. */
class Engine {
  #worker;
  #next = 0;
  /** @type {Map<number, {resolve: (result: any) => void, reject: (reason: any) => void, onProgress?: OnProgress}>} */
  #waiting = new Map();
  /** @type {unknown} */
  #closed = undefined;

  /** @param {Backend} backend its runtime starts at once */
  constructor(backend) {
    this.#worker = (backend === "wasm" && early()) || startWorker();
    this.#worker.addEventListener("message", ({ data }) => {
      const waiting = this.#waiting.get(data.id);
      if (!waiting) return;
      if (data.progress) return waiting.onProgress?.(data.progress);
      this.#waiting.delete(data.id);
      if (data.error === undefined) waiting.resolve(data.result);
      else waiting.reject(new Error(data.error));
    });
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      const reason = event.message ? ` (${event.message})` : "";
      this.close(
        new Error(
          `The model's worker could not run${reason}. Reload the page; if it happens again, use a current browser.`,
        ),
      );
    });
    this.ask({ verb: "wake", backend }).catch(() => undefined); // said when something is loaded
  }

  /**
   * @param {string} base
   * @param {OnProgress} [onProgress]
   * @param {Manifest} [manifest]
   * @returns {Promise<Loaded>}
   */
  load(base, onProgress, manifest) {
    return this.download({ verb: "load", base, manifest }, onProgress);
  }

  /**
   * Ask for something that has to be downloaded: it fails when nothing comes any more.
   * @param {Request} request
   * @param {OnProgress} [onProgress]
   * @returns {Promise<any>}
   */
  download(request, onProgress) {
    return new Promise((resolve, reject) => {
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let stalls;
      const heard = () => {
        clearTimeout(stalls);
        stalls = setTimeout(() => {
          reject(new Error(STALLED));
          this.ask({ verb: "stop downloads" }).catch(() => undefined); // or the next try would wait for this one
        }, STALL);
      };
      heard();
      const progress = (/** @type {Progress} */ said) => {
        heard();
        onProgress?.(said);
      };
      this.ask(request, progress).then(resolve, reject).finally(() => clearTimeout(stalls));
    });
  }

  /**
   * @param {Request} request
   * @param {OnProgress} [onProgress]
   * @returns {Promise<any>}
   */
  ask(request, onProgress) {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, ...request });
    });
  }

  /** @param {unknown} [reason] */
  close(reason = new DOMException("The model was closed.", "AbortError")) {
    this.#closed ??= reason;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(this.#closed);
    this.#waiting.clear();
  }
}

/**
 * The directions with names that a manifest describes.
 * @param {Manifest} manifest
 * @returns {Record<string, import("./session.js").Attribute>}
 */
export function attributesOf(manifest) {
  return Object.fromEntries(
    Object.entries(manifest.attributes ?? {}).map(([name, { direction, reading, low, high }]) => {
      return [name, { direction: Float64Array.from(direction), reading: Float64Array.from(reading), low, high }];
    }),
  );
}

/** A variational autoencoder in a worker. Made by `loadModel`; latents are in coordinates u, as in Python. */
export class Model {
  #engine;
  #busy = false;
  /** Requests that are all answered, in turn. @type {(() => Promise<void>)[]} */
  #queue = [];
  /** The newest of the requests of which only the newest counts. @type {{run: () => Promise<void>, drop: () => void} | null} */
  #newest = null;
  /** Whether what runs is one of them. */
  #leads = false;
  /** The next of them, where the worker has it already. @type {Promise<void> | null} */
  #ahead = null;
  /** When the queue had its last turn. */
  #turn = 0;
  /** What a decode took in the worker, in ms. */
  #took = 0;
  #onProgress;
  #base;
  /** What a way along each coordinate costs a pull. @type {Float64Array | undefined} */
  #costs;
  /** Whether the back end may be changed here. */
  #chooses;
  #closed = false;
  /** A worker that runs on WebGPU and is being measured. @type {Engine | undefined} */
  #candidate;

  /**
   * @param {Engine} engine
   * @param {Loaded} loaded
   * @param {string} base
   * @param {boolean} chooses whether to change to WebGPU where that is faster
   * @param {OnProgress} [onProgress]
   */
  constructor(engine, { manifest, backend, threads }, base, chooses, onProgress) {
    this.#engine = engine;
    this.#onProgress = onProgress;
    this.#base = base;
    this.#chooses = chooses;
    this.manifest = manifest;
    this.name = manifest.name;
    /** [height, width, channels] */
    this.imageShape = manifest.image_shape;
    this.latentSize = manifest.latent_size;
    /** The latent indices of the interesting dimensions, the one that changes the picture most first. */
    this.dimensions = manifest.dimensions.map((entry) => entry.latent);
    this.attributes = attributesOf(manifest);
    this.backend = backend;
    this.threads = threads;
    /** Whether the model tells shape and appearance apart, which moving a photograph needs. */
    this.hasShape = manifest.shape !== undefined;
    /** Settles when it is decided what the decoder runs on. */
    this.settled = chooses ? this.#preferFaster() : Promise.resolve();
  }

  /**
   * Latents -> pictures, all of them. Requests of `decodeLatest` go between its batches.
   * @param {Float32Array} u n * latentSize
   * @param {number} [n]
   * @param {Float32Array | null} [shape] of as many points, where the shape is of others than `u`
   * @returns {Promise<Pixels>} n * height * width * 4, RGBA, opaque
   */
  async decode(u, n = 1, shape = null) {
    this.#check(u, n);
    if (shape) this.#check(shape, n);
    const [height, width] = this.imageShape;
    const pixels = new Uint8ClampedArray(n * height * width * 4);
    /** @type {Promise<void>[]} */
    const parts = [];
    for (let first = 0; first < n; first += BATCH) {
      const count = Math.min(BATCH, n - first);
      const rows = /** @type {const} */ ([first * this.latentSize, (first + count) * this.latentSize]);
      const [part, others] = [u.slice(...rows), shape?.slice(...rows)];
      parts.push(
        this.#enqueue(async () => pixels.set(await this.#decodeNow(part, count, others), first * height * width * 4)),
      );
    }
    await Promise.all(parts);
    return pixels;
  }

  /**
   * One latent -> its picture, or null when a newer request came before this one could begin.
   * @param {Float32Array} u latentSize
   * @param {Float32Array | null} [shape] another point, whose shape the face has
   * @returns {Promise<Pixels | null>}
   */
  decodeLatest(u, shape = null) {
    this.#check(u, 1);
    if (shape) this.#check(shape, 1);
    const [latent, other] = [u.slice(), shape?.slice()];
    return new Promise((resolve, reject) => {
      this.#newest?.drop();
      this.#newest = {
        run: () => this.#decodeNow(latent, 1, other).then(resolve, reject),
        drop: () => resolve(null),
      };
      this.#pump();
    });
  }

  /**
   * A picture in the frame -> its approximate posterior. The first call loads the encoder.
   * @param {Float32Array} rgb height * width * channels in [0, 1]
   * @param {{onProgress?: OnProgress}} [options]
   * @returns {Promise<{mean: Floats, std: Floats}>} each latentSize long
   */
  async encode(rgb, { onProgress = this.#onProgress } = {}) {
    const [height, width, channels] = this.imageShape;
    if (rgb.length !== height * width * channels) {
      throw new RangeError(`the picture has ${rgb.length} values, expected ${height} * ${width} * ${channels}`);
    }
    const picture = rgb.slice();
    // The download first, outside the queue: the face stays alive while it lasts.
    await this.#engine.download({ verb: "fetch encoder" }, onProgress);
    return this.#enqueue(() => this.#ask({ verb: "encode", picture }, onProgress));
  }

  /**
   * A face in parts: its appearance in the mean frame and the field that leads there. For models with shape.
   * @param {Float32Array} u latentSize
   * @param {Float32Array | null} [shape] another point, whose shape the face has
   * @returns {Promise<import("./follow.js").Parts>}
   */
  async parts(u, shape = null) {
    this.#check(u, 1);
    if (shape) this.#check(shape, 1);
    const [latent, other] = [u.slice(), shape?.slice()];
    const { appearance, field } = await this.#enqueue(() => this.#ask({ verb: "parts", u: latent, shape: other }));
    const [height, width, channels] = this.imageShape;
    return { appearance, field, n: Math.sqrt(field.length / 2), height, width, channels };
  }

  /**
   * The fields of latents without their faces, for models with shape; the first call loads the small network for them.
   * @param {Float32Array<ArrayBuffer>} u n * latentSize; its buffer is kept
   * @param {number} n
   * @returns {Promise<Float32Array>} n * 16 * 16 * 2, in pixels
   */
  async fields(u, n) {
    this.#check(u, n);
    return (await this.#enqueue(() => this.#ask({ verb: "fields", u, n }, this.#onProgress))).fields;
  }

  /** What taking hold of the face needs, for `grab.js`; null where the model has no shape. @returns {import("./grab.js").Source | null} */
  get source() {
    if (!this.manifest.shape) return null;
    const { landmarks } = this.manifest.shape;
    this.#costs ??= costs(this.manifest.dimensions, this.latentSize);
    return { landmarks, costs: this.#costs, side: this.imageShape[0], fields: (u, n) => this.fields(u, n) };
  }

  /**
   * Run the network that finds faces, for `faces.js`; the first call loads it.
   * @param {Floats} pictures n * height * width * 3 in [0, 1]; its buffer is kept
   * @param {[number, number, number, number]} shape
   * @param {{onProgress?: OnProgress}} [options]
   * @returns {Promise<import("./worker.js").Found>}
   */
  find(pictures, shape, { onProgress = this.#onProgress } = {}) {
    return this.#enqueue(() => this.#ask({ verb: "find", pictures, shape }, onProgress));
  }

  /**
   * Load and start what a photograph needs, before there is one: the encoder and the network that finds faces. What goes
   * wrong is said when they are used.
   */
  async expectPhotograph() {
    const [height, width, channels] = this.imageShape;
    const onProgress = () => undefined;
    try {
      await this.find(new Float32Array(SMALL * SMALL * 3), [1, SMALL, SMALL, 3], { onProgress });
      await this.encode(new Float32Array(height * width * channels), { onProgress });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  }

  /** Stop the worker. What waits is rejected with an AbortError. */
  close() {
    this.#closed = true;
    this.#engine.close();
    this.#candidate?.close();
  }

  /**
   * @param {Float32Array} u
   * @param {number} n
   */
  #check(u, n) {
    if (u.length !== n * this.latentSize) {
      throw new RangeError(`u has ${u.length} values, expected ${n} * ${this.latentSize}`);
    }
    if (!u.every(Number.isFinite)) {
      throw new RangeError("u has values that are not finite; latents are real numbers, typically from -3 to 3");
    }
  }

  /**
   * @param {Floats} u
   * @param {number} n
   * @param {Floats} [shape]
   * @returns {Promise<Pixels>}
   */
  async #decodeNow(u, n, shape) {
    const { pixels, took } = await this.#ask({ verb: "decode", u, n, shape });
    this.#took = took / n;
    return pixels;
  }

  /**
   * @param {Request} request
   * @param {OnProgress} [onProgress]
   * @returns {Promise<any>}
   */
  async #ask(request, onProgress) {
    try {
      return await this.#engine.ask(request, onProgress);
    } catch (error) {
      if (!this.#chooses || this.#closed || this.backend !== "webgpu") throw error;
      console.info(`WebGPU has stopped, WebAssembly takes over: ${error instanceof Error ? error.message : error}`);
    }
    // A graphics card may go away, for example when a laptop sleeps.
    this.#engine.close();
    this.#engine = new Engine("wasm");
    await this.#engine.load(this.#base);
    this.backend = "wasm";
    return this.#engine.ask(request, onProgress);
  }

  /**
   * @template T
   * @param {() => Promise<T>} job
   * @returns {Promise<T>}
   */
  #enqueue(job) {
    return new Promise((resolve, reject) => {
      this.#queue.push(() => job().then(resolve, reject));
      this.#pump();
    });
  }

  /** Run what waits, in turn: the newest request first, unless the others have waited long. */
  async #pump() {
    if (this.#busy) return this.#sendAhead();
    this.#busy = true;
    for (this.#turn = performance.now(); ; ) {
      const newest = this.#takeNewest();
      const job = newest?.run ?? this.#queue.shift();
      if (!job) break;
      this.#leads = newest !== null;
      await job();
      for (let ahead = this.#ahead; ahead; ahead = this.#ahead) {
        this.#ahead = null;
        this.#sendAhead();
        await ahead;
      }
      if (!newest) this.#turn = performance.now();
    }
    this.#busy = false;
  }

  /** The newest request, unless there is none or it is the others' turn. */
  #takeNewest() {
    if (this.#queue.length && performance.now() - this.#turn >= PATIENCE) return null;
    const newest = this.#newest;
    this.#newest = null;
    return newest;
  }

  /**
   * Let the worker have the next of the newest requests while it runs one: or it would wait for this thread, which draws, after
   * each. A request that it has is not dropped any more, so where a decode takes long none is sent ahead.
   */
  #sendAhead() {
    if (!this.#leads || this.#ahead || this.backend !== "wasm" || this.#took > SLOW) return;
    this.#ahead = this.#takeNewest()?.run() ?? null;
  }

  /**
   * Try the decoder on WebGPU beside the one that runs, and keep the faster. Costs a download, so it is done only where
   * WebAssembly is slow enough for a person to notice, and never where the visitor asked to save data.
   */
  async #preferFaster() {
    const { connection, gpu } = /** @type {any} */ (navigator);
    if (!gpu || !("Suspending" in WebAssembly) || connection?.saveData) return;
    try {
      const adapter = await gpu.requestAdapter();
      if (!adapter || adapter.info?.isFallbackAdapter) return; // none, or one made of software
      const u = normal(0, 0, 1, this.latentSize);
      const slow = await this.#time(this.#engine, u);
      if (slow <= QUICK || this.#closed) return;
      this.#candidate = new Engine("webgpu");
      await this.#candidate.load(this.#base);
      await this.#time(this.#candidate, u, WARM_RUNS);
      const quick = await this.#time(this.#candidate, u);
      if (quick < slow) await this.#enqueue(async () => this.#useCandidate());
    } catch (error) {
      if (!this.#closed) console.info(`WebGPU is left alone: ${error instanceof Error ? error.message : error}`);
    }
    this.#candidate?.close();
    this.#candidate = undefined;
  }

  #useCandidate() {
    if (!this.#candidate) return;
    this.#engine.close();
    this.#engine = this.#candidate;
    this.#candidate = undefined;
    this.backend = "webgpu";
  }

  /**
   * The median time of a decode in ms.
   * @param {Engine} engine
   * @param {Floats} u
   * @param {number} [runs]
   * @returns {Promise<number>}
   */
  async #time(engine, u, runs = TIMED_RUNS) {
    return this.#enqueue(async () => (await engine.ask({ verb: "time", u, runs })).median);
  }
}

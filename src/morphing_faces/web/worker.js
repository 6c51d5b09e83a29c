/**
 * The worker that runs the networks: ONNX Runtime Web, one model, requests one after the other.
 *
 * A request is {id, verb, ...}; the answer {id, result} or {id, error}, with {id, progress} in between. Pictures go out
 * as RGBA, ready for a canvas; their buffers are transferred, not copied.
 */

/**
 * @typedef {import("onnxruntime-web")} Runtime
 * @typedef {import("onnxruntime-web").InferenceSession} InferenceSession
 * @typedef {import("onnxruntime-web").Tensor} Tensor
 * @typedef {{bytes: number, sha256: string}} FileEntry
 * @typedef {{latent: number, share: number, kl: number, active: boolean, name?: string, low?: string, high?: string}} Dimension
 * @typedef {{format: number, name: string, image_shape: [number, number, number], latent_size: number, shape?: {landmarks: [number, number][]},
 *   dimensions: Dimension[], files: Record<string, FileEntry>, [key: string]: any}} Manifest
 * @typedef {{loaded: number, total: number, what: string}} Progress bytes, and in words what they are
 * @typedef {"wasm" | "webgpu"} Backend
 * @typedef {{verb: "wake", backend: Backend} | {verb: "load", base: string, manifest?: Manifest} | {verb: "decode", u: Float32Array<ArrayBuffer>, n: number, shape?: Float32Array<ArrayBuffer>}
 *   | {verb: "parts", u: Float32Array<ArrayBuffer>, shape?: Float32Array<ArrayBuffer>}
 *   | {verb: "fields", u: Float32Array<ArrayBuffer>, n: number}
 *   | {verb: "find", pictures: Float32Array<ArrayBuffer>, shape: [number, number, number, number]}
 *   | {verb: "stop downloads"} | {verb: "fetch encoder"} | {verb: "encode", picture: Float32Array<ArrayBuffer>} | {verb: "time", u: Float32Array<ArrayBuffer>, runs: number}
 *   } Request
 * @typedef {{manifest: Manifest, backend: Backend, threads: number}} Loaded
 * @typedef {{appearance: Float32Array<ArrayBuffer>, field: Float32Array<ArrayBuffer>}} Parts
 * @typedef {{pixels: Uint8ClampedArray<ArrayBuffer>, took: number}} Decoded the pictures, and the time in ms
 * @typedef {{mean: Float32Array<ArrayBuffer>, std: Float32Array<ArrayBuffer>}} Encoded
 * @typedef {{scores: Float32Array<ArrayBuffer>, eyes: Float32Array<ArrayBuffer>}} Found n * rows * columns, and 4 for each
 */

const FORMATS = [1, 2]; // the versions of the bundle's format that this page reads; 2 is of models with shape
/**
 * A notebook has no addresses for files: whoever starts the worker there brings them along, as blobs, under a base that is
 * nowhere. Elsewhere the files are where this one is.
 * @type {{base: string, blobs: Record<string, string>}}
 */
const brought = /** @type {any} */ (self).morphingFacesFiles ?? { base: import.meta.url, blobs: {} };
const RUNTIME = new URL("vendor/onnxruntime-web-1.30.0/", brought.base);
/** The parts of the runtime for each back end: the module, what it imports, and the compiled code. */
const PARTS = {
  wasm: ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"],
  webgpu: ["ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm"],
};
const MOST_THREADS = 4;
const OLD_BROWSER = "Use a current Chrome, Edge, Firefox or Safari.";
const RELOAD = "Reload the page; if it happens again, the site's copy is damaged and its owner should write it anew.";

/** A function with one v128 instruction: valid only where WebAssembly has SIMD. */
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** A network that hands on its one number: ONNX, opset 17, Identity. */
const SMALLEST = new Uint8Array([
  8, 8, 58, 55, 10, 16, 10, 1, 120, 18, 1, 121, 34, 8, 73, 100, 101, 110, 116, 105, 116, 121, 18, 1, 103, 90, 15, 10, 1,
  120, 18, 10, 10, 8, 8, 1, 18, 4, 10, 2, 8, 1, 98, 15, 10, 1, 121, 18, 10, 10, 8, 8, 1, 18, 4, 10, 2, 8, 1, 66, 4, 10,
  0, 16, 17,
]);

/** A failure whose message is meant for the person in front of the page. */
class Failure extends Error {}

/** @type {Runtime | undefined} */
let runtime;
/** @type {InferenceSession | undefined} */
let decoder;
/** @type {InferenceSession | undefined} */
let encoder;
/** Draws fields alone. @type {Promise<InferenceSession> | undefined} */
let shaper;
/** Finds faces. @type {Promise<InferenceSession> | undefined} */
let finder;
/** What the encoder is made of, until it is made. @type {Promise<Uint8Array<ArrayBuffer>> | undefined} */
let encoderFile;
/** Those who wait for it and are told how much has come. @type {Set<(progress: Progress) => void>} */
const encoderReports = new Set();
/** @type {Manifest | undefined} */
let manifest;
let base = "";
/** @type {Backend} */
let backend = "wasm";
/** Settles when the runtime has started. @type {Promise<void> | undefined} */
let awake;

// --- files

/** Ends the downloads that are under way. */
let coming = new AbortController();

/** Downloads and checks files, and reports the sum of what has come of all of them. */
class Downloads {
  #sum = { loaded: 0, total: 0 };

  /** @param {(progress: Progress) => void} report */
  constructor(report = () => undefined) {
    this.report = report;
  }

  /**
   * @param {URL} address
   * @param {FileEntry} entry
   * @param {string} what
   */
  async download(address, entry, what) {
    this.#sum.total += entry.bytes;
    this.report({ ...this.#sum, what }); // how far it is to go is told before the first byte comes
    const title = what[0].toUpperCase() + what.slice(1);
    const response = await get(address, title, "default");
    const content = new Uint8Array(entry.bytes);
    let size = 0;
    try {
      for (const reader = stream(response); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        if (size + value.length <= content.length) content.set(value, size);
        size += value.length;
        this.#sum.loaded += value.length;
        this.report({ ...this.#sum, what });
      }
    } catch {
      throw new Failure(
        `${title} stopped coming after ${size} of ${entry.bytes} bytes. Check the connection, then reload the page.`,
      );
    }
    if (size !== entry.bytes) {
      throw new Failure(`${title} at ${address} has ${size} bytes, expected ${entry.bytes}. ${RELOAD}`);
    }
    const hash = await sha256(content);
    if (hash !== entry.sha256) {
      const [found, expected] = [hash.slice(0, 12), entry.sha256.slice(0, 12)];
      throw new Failure(`${title} at ${address} has SHA-256 ${found}..., expected ${expected}.... ${RELOAD}`);
    }
    return content;
  }
}

/** What comes before the first face: the runtime and the decoder. */
const arriving = new Downloads();

// --- requests

/** @type {Promise<void>} */
let last = Promise.resolve();

self.addEventListener("message", (event) => {
  const { id, ...request } = /** @type {{id: number} & Request} */ (event.data);
  const reply = async () => {
    try {
      const result = await answer(request, (progress) => self.postMessage({ id, progress }));
      const buffers = Object.values(result).filter(ArrayBuffer.isView);
      self.postMessage({ id, result }, { transfer: buffers.map((view) => view.buffer) });
    } catch (error) {
      self.postMessage({ id, error: explain(error) });
    }
  };
  const atOnce = request.verb === "fetch encoder" || request.verb === "stop downloads";
  if (atOnce) void reply(); // decodes go on while it comes
  else last = last.then(reply);
});

/**
 * @param {Request} request
 * @param {(progress: Progress) => void} report
 * @returns {Promise<{} | Loaded | Decoded | Encoded | Found | Parts | {fields: Float32Array} | {median: number}>}
 */
async function answer(request, report) {
  switch (request.verb) {
    case "wake":
      if (awake && backend === request.backend) return {}; // the page has been quicker than its own code
      backend = request.backend;
      awake = wake();
      awake.catch(() => undefined); // said when something is loaded
      return {};
    case "load":
      return load(request.base, request.manifest, report);
    case "decode": {
      const began = performance.now();
      const pixels = await decode(request.u, request.n, request.shape);
      return { pixels, took: performance.now() - began };
    }
    case "stop downloads":
      coming.abort();
      coming = new AbortController();
      return {};
    case "fetch encoder":
      await fetchEncoder(report);
      return {};
    case "encode":
      return encode(request.picture, report);
    case "parts":
      return parts(request.u, request.shape);
    case "fields":
      return { fields: await fields(request.u, request.n, report) };
    case "find":
      return find(request.pictures, request.shape, report);
    case "time":
      return { median: await time(request.u, request.runs) };
  }
}

/** @param {unknown} error */
function explain(error) {
  if (error instanceof Failure) return error.message;
  if (isMemory(error)) return "There is not enough memory for the model. Close other tabs, then reload the page.";
  return `The model stopped (${firstLine(error)}). Reload the page.`;
}

/** @param {unknown} error */
function isMemory(error) {
  return error instanceof RangeError || /out of memory|bad_alloc|allocat/i.test(firstLine(error));
}

/** @param {unknown} error */
function firstLine(error) {
  return String(error instanceof Error ? error.message : error).split("\n")[0];
}

// --- verbs

/**
 * Fetch, check and start the runtime. This needs no bundle, so it goes on while the page and the network still come.
 * @returns {Promise<void>}
 */
async function wake() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    throw new Failure(`This browser has no WebAssembly with SIMD, which the model needs. ${OLD_BROWSER}`);
  }
  if (backend === "webgpu" && !(await webGPUIsUsable())) {
    throw new Failure("This browser has no usable WebGPU. Choose the back end 'wasm', or 'auto'.");
  }
  const [module, glue, binary] = PARTS[backend].map((name) => new URL(name, RUNTIME).href);
  const code = json(new URL("vendor.json", RUNTIME), "The list of the runtime's files").then(({ files }) =>
    arriving.download(new URL(binary), files[PARTS[backend][2]], "the runtime"),
  );
  const [wasmBinary, imported] = await Promise.all([
    code,
    /** @type {Promise<Runtime>} */ (script(module)),
    script(glue), // the runtime imports it later; by then it is here
  ]);
  runtime = imported;
  runtime.env.logLevel = "error";
  runtime.env.wasm.wasmPaths = { mjs: placed(glue), wasm: binary };
  runtime.env.wasm.wasmBinary = wasmBinary;
  runtime.env.wasm.numThreads = threads();
  await (await start(SMALLEST, "the smallest network", ["x"], ["y"])).release();
  runtime.env.wasm.wasmBinary = undefined;
}

/**
 * Fetch and check a bundle's decoder, and start it.
 * @param {string} address of the bundle's folder
 * @param {Manifest | undefined} given spares its download
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Loaded>}
 */
async function load(address, given, report) {
  base = address;
  const [network] = await Promise.all([fetchDecoder(given, report), awake]);
  decoder = await start(network, "decoder.onnx", described().shape ? ["u", "shape"] : ["u"], ["picture"]);
  return { manifest: described(), backend, threads: threads() };
}

/**
 * @param {Manifest | undefined} given
 * @param {(progress: Progress) => void} report
 */
async function fetchDecoder(given, report) {
  manifest = checked(given ?? await json(new URL("manifest.json", base), "The model's description"));
  arriving.report = report; // not before: now it is known how much there is in all
  return arriving.download(bundleFile("decoder.onnx"), manifest.files["decoder.onnx"], "the model");
}

/** The runtime's build for WebGPU waits for the GPU by JavaScript Promise Integration, so it needs that, too. */
async function webGPUIsUsable() {
  const { gpu } = /** @type {any} */ (navigator);
  return "Suspending" in WebAssembly && Boolean(await gpu?.requestAdapter());
}

/** @param {string} address */
function script(address) {
  return import(placed(address)).catch(() => {
    throw new Failure(`The runtime could not be loaded from ${address}. Check the connection, then reload the page.`);
  });
}

/**
 * How many threads the runtime may use: more than one only where the page is cross-origin isolated, and one core fewer
 * than there are, for the page itself draws on one: with all of them a hover shows fewer frames, not more.
 */
function threads() {
  return self.crossOriginIsolated ? Math.max(1, Math.min(MOST_THREADS, (navigator.hardwareConcurrency || 1) - 1)) : 1;
}

/**
 * Latents -> pictures as RGBA bytes, rounded to the nearest as Python does.
 * @param {Float32Array<ArrayBuffer>} u n * latent_size
 * @param {number} n
 * @param {Float32Array<ArrayBuffer>} [shape] the latents whose shape the faces have, where those are others
 * @returns {Promise<Uint8ClampedArray<ArrayBuffer>>} n * height * width * 4
 */
async function decode(u, n, shape) {
  const { picture } = await ready(decoder).run(feeds(u, n, shape), ["picture"]);
  const values = /** @type {Float32Array} */ (await picture.getData());
  const channels = described().image_shape[2];
  const pixels = new Uint8ClampedArray((values.length / channels) * 4).fill(255);
  const [green, blue] = channels === 3 ? [1, 2] : [0, 0];
  for (let from = 0, to = 0; from < values.length; from += channels, to += 4) {
    // Storing into a clamped array rounds to the nearest even, as numpy.rint does; fround keeps the product float32.
    pixels[to] = Math.fround(values[from] * 255);
    pixels[to + 1] = Math.fround(values[from + green] * 255);
    pixels[to + 2] = Math.fround(values[from + blue] * 255);
  }
  picture.dispose();
  return pixels;
}

/**
 * What the decoder reads: latents, and where it tells them apart those of the shape.
 * @param {Float32Array<ArrayBuffer>} u
 * @param {number} n
 * @param {Float32Array<ArrayBuffer>} [shape]
 * @returns {Record<string, Tensor>}
 */
function feeds(u, n, shape) {
  const size = [n, described().latent_size];
  const latents = tensor(u, size);
  if (!described().shape) return { u: latents };
  return { u: latents, shape: shape ? tensor(shape, size) : latents };
}

/**
 * A picture in the frame -> the mean and standard deviation of its code, each latent_size long.
 * @param {Float32Array<ArrayBuffer>} picture height * width * channels in [0, 1]
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Encoded>}
 */
async function encode(picture, report) {
  if (!encoder) {
    encoder = await start(await fetchEncoder(report), "encoder.onnx", ["picture"], ["mean", "std"]);
    encoderFile = undefined;
  }
  const { mean, std } = await encoder.run({ picture: tensor(picture, [1, ...described().image_shape]) });
  return { mean: await floats(mean), std: await floats(std) };
}

/**
 * Fetch and check the encoder, once; after a failure it may be tried again.
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
function fetchEncoder(report) {
  if (encoder) return Promise.resolve(new Uint8Array());
  const entry = described().files["encoder.onnx"];
  if (!entry) return Promise.reject(new Failure("This model has no encoder, so it cannot read a picture. Choose another model."));
  encoderReports.add(report);
  encoderFile ??= new Downloads((progress) => encoderReports.forEach((tell) => tell(progress)))
    .download(bundleFile("encoder.onnx"), entry, "the encoder")
    .finally(() => encoderReports.clear());
  encoderFile.catch(() => (encoderFile = undefined));
  return encoderFile;
}

/**
 * A face in parts, where the model has shape.
 * @param {Float32Array<ArrayBuffer>} u latent_size
 * @param {Float32Array<ArrayBuffer>} [shape] the latent whose shape it has, where that is another
 * @returns {Promise<Parts>}
 */
async function parts(u, shape) {
  const found = await ready(decoder).run(feeds(u, 1, shape), ["appearance", "field"]);
  return { appearance: await floats(found.appearance), field: await floats(found.field) };
}

/**
 * The fields of latents without their faces, where the model has shape; the first call loads the small network for them.
 * It always runs on WebAssembly: it is too small for a GPU.
 * @param {Float32Array<ArrayBuffer>} u n * latent_size
 * @param {number} n
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Float32Array>} n * 16 * 16 * 2, in pixels
 */
async function fields(u, n, report) {
  shaper ??= startShaper(report);
  shaper.catch(() => (shaper = undefined)); // it may be tried again
  const { field } = await (await shaper).run({ u: tensor(u, [n, described().latent_size]) });
  return floats(field);
}

/** @param {(progress: Progress) => void} report */
async function startShaper(report) {
  const entry = described().files["shape.onnx"];
  if (!entry) throw new Failure("This model draws shape and appearance as one, so there is nothing to take hold of.");
  const content = await new Downloads(report).download(bundleFile("shape.onnx"), entry, "the face's handles");
  return start(content, "shape.onnx", ["u"], ["field"], "wasm");
}

/**
 * Run the network that finds faces; the first call fetches it. It always runs on WebAssembly: a GPU would compile its
 * shaders anew for each size of picture.
 * @param {Float32Array<ArrayBuffer>} pictures n * height * width * 3 in [0, 1]
 * @param {[number, number, number, number]} shape height and width are multiples of 8
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Found>}
 */
async function find(pictures, shape, report) {
  finder ??= startFinder(report);
  finder.catch(() => (finder = undefined)); // it may be tried again
  const { scores, eyes } = await (await finder).run({ picture: tensor(pictures, shape) });
  return { scores: await floats(scores), eyes: await floats(eyes) };
}

/** @param {(progress: Progress) => void} report */
async function startFinder(report) {
  const folder = new URL("finder/", brought.base);
  const { files } = await json(new URL("manifest.json", folder), "The description of what finds faces");
  const address = new URL("finder.onnx", folder);
  address.searchParams.set("sha256", files["finder.onnx"].sha256.slice(0, 16));
  const content = await new Downloads(report).download(address, files["finder.onnx"], "what finds faces");
  return start(content, "finder.onnx", ["picture"], ["scores", "eyes"], "wasm");
}

/**
 * The median time of a decode in milliseconds, from latents to bytes.
 * @param {Float32Array<ArrayBuffer>} u latent_size
 * @param {number} runs
 */
async function time(u, runs) {
  const times = [];
  for (let run = 0; run < runs; run++) {
    const began = performance.now();
    await decode(u, 1);
    times.push(performance.now() - began);
  }
  return times.sort((a, b) => a - b)[runs >> 1];
}

// --- the runtime

/**
 * @param {Uint8Array} content
 * @param {string} name
 * @param {string[]} inputs
 * @param {string[]} outputs
 * @param {Backend} [provider]
 */
async function start(content, name, inputs, outputs, provider = backend) {
  /** @type {InferenceSession} */
  let session;
  try {
    session = await loadedRuntime().InferenceSession.create(content, {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
      logSeverityLevel: 3,
    });
  } catch (error) {
    if (isMemory(error)) throw error;
    throw new Failure(`${name} is not a network that the runtime can start (${firstLine(error)}). ${RELOAD}`);
  }
  for (const [expected, found] of [[inputs, session.inputNames], [outputs, session.outputNames]]) {
    if (expected.some((key) => !found.includes(key))) {
      throw new Failure(`${name} has ${found.join(", ")}, expected ${expected.join(", ")}. ${RELOAD}`);
    }
  }
  return session;
}

/**
 * @param {Float32Array<ArrayBuffer>} values
 * @param {number[]} shape
 */
function tensor(values, shape) {
  return new (loadedRuntime().Tensor)("float32", values, shape);
}

/** @param {Tensor} from */
async function floats(from) {
  const values = Float32Array.from(/** @type {Float32Array} */ (await from.getData()));
  from.dispose();
  return values;
}

function loadedRuntime() {
  if (!runtime) throw new Error("nothing is loaded");
  return runtime;
}

function described() {
  if (!manifest) throw new Error("nothing is loaded");
  return manifest;
}

/** @param {InferenceSession | undefined} session */
function ready(session) {
  if (!session) throw new Error("nothing is loaded");
  return session;
}

// --- addresses and answers

/**
 * The address of one of the bundle's files. It holds the file's hash, so that it may be cached for ever.
 * @param {string} name
 */
function bundleFile(name) {
  const address = new URL(name, base);
  address.searchParams.set("sha256", described().files[name].sha256.slice(0, 16));
  return address;
}

/**
 * @param {any} found
 * @returns {Manifest}
 */
function checked(found) {
  if (!FORMATS.includes(found.format)) {
    throw new Failure(
      `The model's description has format ${found.format}, this page reads ${FORMATS.join(" and ")}. ` +
        "Reload the page to get its newest version, or export the bundle with this version of morphing-faces.",
    );
  }
  const entry = found.files?.["decoder.onnx"];
  if (!Number.isInteger(entry?.bytes) || !Array.isArray(found.dimensions) || found.image_shape?.length !== 3) {
    throw new Failure(`The model's description at ${base}manifest.json is incomplete. ${RELOAD}`);
  }
  return found;
}

/**
 * @param {URL} address
 * @param {string} what
 * @returns {Promise<any>}
 */
async function json(address, what) {
  const response = await get(address, what, "no-cache");
  try {
    return await response.json();
  } catch {
    throw new Failure(`${what} at ${address} is not valid JSON. ${RELOAD}`);
  }
}

/**
 * @param {URL} address
 * @param {string} what
 * @param {RequestCache} cache
 */
async function get(address, what, cache) {
  let response;
  try {
    response = await fetch(placed(address), { cache, signal: coming.signal });
  } catch {
    throw new Failure(`${what} could not be loaded from ${address}. Check the connection, then reload the page.`);
  }
  if (!response.ok) {
    throw new Failure(`${what} could not be loaded from ${address} (the server said ${response.status}). ${RELOAD}`);
  }
  return response;
}

/**
 * Where a file is: as a blob, where it was brought along.
 * @param {string | URL} address
 */
function placed(address) {
  const { origin, pathname } = new URL(address);
  return brought.blobs[origin + pathname] ?? String(address);
}

/** @param {Response} response */
function stream(response) {
  if (!response.body) throw new Error("no body");
  return response.body.getReader();
}

/**
 * In hexadecimal digits. Browsers have no crypto.subtle where the page came by plain HTTP from another machine.
 * @param {Uint8Array<ArrayBuffer>} content
 */
async function sha256(content) {
  if (!crypto.subtle) return (await import("./vendor/js-sha256-1.0.0/sha256.min.mjs")).sha256(content);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

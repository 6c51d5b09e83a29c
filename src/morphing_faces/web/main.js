/** Starts the page: chooses the bundle, loads the model, joins the views. */

import { App } from "./app.js";
import { Dimensions } from "./dimensions.js";
import { byId, onClick } from "./dom.js";
import { Face } from "./face.js";
import { Favourites } from "./favourites.js";
import { Inside } from "./inside.js";
import * as link from "./link.js";
import { loadModel } from "./model.js";
import { PhotoDialog } from "./photo-dialog.js";
import { Store } from "./store.js";
import { Tools } from "./tools.js";

/**
 * @typedef {{default: string, seed: number, names: string[]}} Index what `bundles/index.json` holds
 * @typedef {"loading" | "ready" | "failed"} State
 */

/** How long a message stays, in ms. */
const MESSAGE_TIME = 8000;

const choice = byId("bundle", HTMLSelectElement);
const progress = byId("progress", HTMLProgressElement);
const loadingText = byId("loading-text", HTMLElement);
const failure = byId("failure", HTMLElement);
const message = byId("message", HTMLElement);
const hint = byId("hint", HTMLElement);
const help = byId("help", HTMLDialogElement);
/** @type {ReturnType<typeof setTimeout> | undefined} */
let messageEnds;

const store = new Store((words) => tell(words, "error"));
const app = new App(store, tell);
const dimensions = new Dimensions(app);
const face = new Face(app, dimensions);
/** @type {Favourites} */
const favourites = new Favourites(app, () => tools.format);
const photograph = new PhotoDialog(app);
const inside = new Inside(app, dimensions, photograph);
/** @type {Tools} */
const tools = new Tools(app, favourites, {
  photograph: () => photograph.open(),
  explain: () => inside.toggle(),
  help: () => help.showModal(),
});

/** For benchmarks and the curious. */
Object.defineProperty(window, "morphingFaces", {
  value: {
    stats: app.stats,
    get model() {
      return app.ready ? app.model : null;
    },
    get session() {
      return app.ready ? app.session : null;
    },
    /** The latent of the picture that is on the screen. */
    get pictured() {
      return app.pictured;
    },
  },
});

/** The load that is under way: choosing another bundle ends it. @type {AbortController | null} */
let loading = null;
/** @type {Index | null} */
let index = null;

onClick("open-help", () => help.showModal());
onClick("theme", toggleTheme);
onClick("retry", () => location.reload());
choice.addEventListener("change", () => open(choice.value, ""));
for (const button of document.querySelectorAll("dialog [data-close]")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // a click beside it
}
window.addEventListener("hashchange", () => {
  if (link.isLink(location.hash)) void open(link.bundleOf(location.hash) ?? choice.value, location.hash);
});
app.on("change", showHint);
if (!("old" in document.documentElement.dataset)) await start();

async function start() {
  try {
    index = await readIndex();
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
  choice.replaceChildren(...index.names.map((name) => new Option(name, name)));
  choice.disabled = false;
  await open(link.bundleOf(location.hash) ?? index.default, location.hash);
}

/** @returns {Promise<Index>} */
async function readIndex() {
  const remedy = "Check the connection and load the page again.";
  const response = await fetch("bundles/index.json", { cache: "no-cache" }).catch(() => {
    throw new Error(`The list of models could not be loaded. ${remedy}`);
  });
  if (!response.ok) throw new Error(`The list of models is missing (${response.status}). ${remedy}`);
  return response.json();
}

/**
 * Show a bundle, from what a link says on, or from the first face.
 * @param {string} name
 * @param {string} fragment
 */
async function open(name, fragment) {
  if (!index) return;
  if (!index.names.includes(name)) {
    tell(`The link is for the model ${name}; there are ${index.names.join(", ")}. This is ${index.default}.`, "error");
    [name, fragment] = [index.default, ""];
  }
  choice.value = name;
  const { seed } = index;
  if (app.ready && app.bundle === name) {
    const linked = readLink(fragment, app.shape, seed);
    if (linked) app.act((session) => session.restore(linked));
    return;
  }
  loading?.abort();
  const { signal } = (loading = new AbortController());
  app.leave();
  setState("loading");
  void showStill(name, signal);
  try {
    const model = await loadModel(`bundles/${name}`, { signal, onProgress: showProgress });
    const { latentSize, dimensions } = model;
    app.use(model, name, seed, readLink(fragment, { name, latentSize, dimensions }, seed));
    setState("ready");
    showEngine();
    void model.settled.then(() => model === app.model && showEngine(), () => undefined);
  } catch (error) {
    if (!signal.aborted) fail(error instanceof Error ? error.message : String(error));
  }
}

/**
 * What a link says, or null where it says nothing; what is wrong with it is told.
 * @param {string} fragment
 * @param {link.Shape} shape
 * @param {number} seed where it names none
 */
function readLink(fragment, shape, seed) {
  if (!link.isLink(fragment)) return null;
  try {
    return link.read(fragment, shape, seed);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    tell(`This link is broken, so here is another face: ${error.message}.`, "error");
    return null;
  }
}

/**
 * A face of the bundle, to look at until the model is there.
 * @param {string} name
 * @param {AbortSignal} signal
 */
async function showStill(name, signal) {
  const picture = new Image();
  picture.src = `bundles/${encodeURIComponent(name)}/face.png`;
  try {
    await picture.decode();
  } catch {
    return; // the model will show its face soon
  }
  if (!signal.aborted && !app.picture) face.still(picture);
}

/** @param {import("./worker.js").Progress} progress */
function showProgress({ loaded, total, what }) {
  if (document.body.dataset.state !== "loading") return;
  progress.value = total ? loaded / total : 0;
  loadingText.textContent = `${what}: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
}

/** @param {State} state */
function setState(state) {
  document.body.dataset.state = state;
  const ready = state === "ready";
  for (const id of ["open-photo", "open-explain"]) byId(id, HTMLButtonElement).disabled = !ready;
  byId("tools", HTMLFieldSetElement).disabled = !ready;
  byId("loading", HTMLElement).hidden = ready;
  byId("retry", HTMLButtonElement).hidden = state !== "failed";
  failure.hidden = state !== "failed";
  progress.hidden = state !== "loading";
  if (state === "loading") {
    progress.removeAttribute("value");
    loadingText.textContent = "Loading";
  }
}

/** @param {string} words what happened and what to do */
function fail(words) {
  setState("failed");
  failure.textContent = words;
  loadingText.textContent = "The model is not running.";
}

function showEngine() {
  const { backend, threads } = app.model;
  const words = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  byId("engine", HTMLElement).textContent = `Running on ${words}.`;
}

/**
 * Say something under the face.
 * @param {string} words
 * @param {"error"} [kind]
 */
function tell(words, kind) {
  clearTimeout(messageEnds);
  message.textContent = words;
  message.classList.toggle("wrong", kind === "error");
  messageEnds = setTimeout(() => tell(""), kind ? 2 * MESSAGE_TIME : MESSAGE_TIME);
  if (!words) clearTimeout(messageEnds);
  showHint();
}

/** The hint is there until the person has held a face for the first time. */
function showHint() {
  if (app.ready && app.session.frozen && !store.get("hinted")) store.set("hinted", true);
  hint.hidden = message.textContent !== "" || store.get("hinted") === true;
}

function toggleTheme() {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  store.set("theme", theme);
}

/** Starts the page: chooses the bundle, loads the model, joins the views. */

import { App } from "./app.js";
import { Dimensions } from "./dimensions.js";
import { byId, onClick } from "./dom.js";
import { Inside } from "./inside.js";
import { Face } from "./face.js";
import { Favourites } from "./favourites.js";
import { Handles } from "./handles.js";
import { Keys } from "./keys.js";
import { Knobs } from "./knobs.js";
import * as link from "./link.js";
import { attributesOf, describe, loadModel } from "./model.js";
import { Glide, Walk } from "./motion.js";
import { Offline } from "./offline.js";
import { PhotoDialog } from "./photo-dialog.js";
import { PhotoStage } from "./photo-stage.js";
import { Recorder } from "./recorder.js";
import { SEED_LIMIT } from "./rules.js";
import { Session } from "./session.js";
import { Settings } from "./settings.js";
import { Share } from "./share.js";
import { Sheet } from "./sheet.js";
import { Store } from "./store.js";
import { Tools } from "./tools.js";

/**
 * @typedef {{default: string, names: string[], seed: number | null, starts: Record<string, number[]>}} Index what
 *   `bundles/index.json` holds: the seed that was asked for, or for each bundle seeds whose first face is drawn beforehand
 * @typedef {"loading" | "ready" | "failed"} State
 * @typedef {import("./worker.js").Manifest} Manifest
 */

/** How long a message stays, and an error, and how long nothing must change before the address tells of it, in ms. */
const MESSAGE_TIME = 8000;
const ERROR_TIME = 16_000;
const REST = 400;

const choice = byId("bundle", HTMLSelectElement);
const progress = byId("progress", HTMLProgressElement);
const loadingText = byId("loading-text", HTMLElement);
const failure = byId("failure", HTMLElement);
const message = byId("message", HTMLElement);
const help = byId("help", HTMLDialogElement);
/** @type {ReturnType<typeof setTimeout> | undefined} */
let messageEnds;

const store = new Store();
const app = new App(store, tell);
const dimensions = new Dimensions(app);
const face = new Face(app, dimensions);
const stage = new PhotoStage(app);
const recorder = new Recorder(app, stage);
const favourites = new Favourites(app, recorder);
new Knobs(app);
const handles = new Handles(app, face, stage);
const photograph = new PhotoDialog(app, (...used) => stage.begin(...used));
const inside = new Inside(app, dimensions, photograph);
const share = new Share(app, {
  open: (fragment) => void open(link.bundleOf(fragment) ?? choice.value, fragment),
  photograph: (file) => void photograph.show(file),
});
const tools = new Tools(app);
new Settings(app);
new Keys(app, [
  { keys: "R", words: "another face at random", on: ["r"], run: () => app.act((session) => session.shuffle()) },
  { keys: "F, space", words: "hold or release the face", on: ["f", " "], run: () => app.act((session) => session.toggleFreeze()) },
  { keys: "Ctrl+Z, U", words: "undo", on: ["ctrl+z", "u"], run: () => tools.undo() },
  { keys: "Ctrl+Y, Y", words: "redo", on: ["ctrl+y", "ctrl+shift+z", "y"], run: () => tools.redo() },
  { keys: "0", words: "the average face", on: ["0"], run: () => app.act((session) => session.reset()) },
  { keys: "G", words: "take hold of the face: handles to pull it by; again to leave", on: ["g"], run: () => handles.toggle() },
  { keys: "M", words: "glide from face to face; again to stop it", on: ["m"], run: () => tools.toggle(Glide) },
  { keys: "W", words: "the random walk of 2014; again to stop it", on: ["w"], run: () => tools.toggle(Walk) },
  { keys: "[ ]", words: "let the hand reach less far or further", on: ["[", "]"], run: (key) => app.act((session) => session.widen(key === "]" ? 1 : -1)) },
  { keys: "D", words: "to the dimensions: up and down choose one, Tab goes to its slider", on: ["d"], run: () => dimensions.focus() },
  { keys: "B", words: "keep the face", on: ["b"], run: () => favourites.keep() },
  { keys: "L", words: "share exactly this face", on: ["l"], run: () => void app.attempt(() => share.copyLink()) },
  { keys: "S", words: "save a picture", on: ["s"], run: () => void app.attempt(() => share.save()) },
  { keys: "V", words: "record a film; again to end it", on: ["v"], run: () => recorder.toggle() },
  { keys: "P", words: "your own photograph", on: ["p"], run: () => photograph.open() },
  { keys: "E", words: "what is a VAE?", on: ["e"], run: () => inside.toggle() },
  { keys: "?, H", words: "this help", on: ["?", "h"], run: () => help.showModal() },
]);

app.on("bundle", () => document.body.classList.add("known"));

new Offline(app, store);

/** For benchmarks and the curious. */
Object.defineProperty(window, "morphingFaces", {
  value: {
    stats: app.stats,
    get model() {
      return app.ready ? app.model : null;
    },
    get session() {
      return app.alive ? app.session : null;
    },
    /** What draws the photograph, while one follows. */
    get photograph() {
      return stage.view;
    },
    /** The latent of the picture that is on the screen. */
    get pictured() {
      return app.pictured;
    },
    get moving() {
      return app.moving;
    },
  },
});

/** The load that is under way: choosing another bundle ends it. @type {AbortController | null} */
let loading = null;
/** @type {Index | null} */
let index = null;
/** What was asked for last: the retry's. */
let asked = { name: "", fragment: "" };
/** The faces that were left for another bundle's. @type {Map<string, Session>} */
const sessions = new Map();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let rests;

onClick("open-help", () => help.showModal());
onClick("theme", toggleTheme);
onClick("retry", () => (index ? open(asked.name, asked.fragment) : start()));
choice.addEventListener("change", () => open(choice.value, ""));
for (const button of document.querySelectorAll("dialog [data-close]")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // a click beside it
}
window.addEventListener("hashchange", ({ newURL }) => {
  const { hash } = new URL(newURL); // the address itself may already be the shown face's again
  if (link.isLink(hash)) void open(link.bundleOf(hash) ?? choice.value, hash);
});
for (const event of ["pointerdown", "keydown"]) document.addEventListener(event, () => app.welcome(), { capture: true });
app.on("change", () => {
  clearTimeout(rests);
  rests = setTimeout(writeAddress, REST);
});
document.documentElement.dataset.started = "";
if (!("old" in document.documentElement.dataset)) await start();

async function start() {
  setState("loading");
  try {
    index = await readIndex();
  } catch (error) {
    return fail(error);
  }
  choice.replaceChildren(...index.names.map((name) => new Option(name, name)));
  choice.disabled = false;
  await open(link.bundleOf(location.hash) ?? index.default, location.hash);
}

/** @returns {Promise<Index>} */
async function readIndex() {
  const remedy = "Check the connection and try again.";
  const response = await fetch("bundles/index.json", { cache: "no-cache" }).catch(() => {
    throw new Error(`The list of models could not be loaded. ${remedy}`);
  });
  if (!response.ok) throw new Error(`The list of models is missing (${response.status}). ${remedy}`);
  const found = await response.json().catch(() => null); // a page that says "not found" politely, or half of the file
  if (!Array.isArray(found?.names)) throw new Error(`The list of models is not what it should be. ${remedy}`);
  return found;
}

/**
 * Show a bundle, from what a link says on, or from where it was left, or from a first face. What is shown stays until
 * the new model is there.
 * @param {string} name
 * @param {string} fragment
 */
async function open(name, fragment) {
  if (!index) return;
  if (!index.names.includes(name)) {
    tell(`The link is for the model ${name}; there are ${index.names.join(", ")}. This is ${index.default}.`, "error");
    [name, fragment] = [index.default, ""];
  }
  asked = { name, fragment };
  choice.value = name;
  loading?.abort();
  if (app.ready && app.bundle === name) {
    showLoading(false);
    const linked = readLink(fragment, app.shape, app.session.seed);
    if (linked) app.act((session) => session.restore(linked));
    return;
  }
  const { signal } = (loading = new AbortController());
  const folder = `bundles/${encodeURIComponent(name)}`;
  const beside = app.ready;
  if (!beside) setState("loading");
  showLoading(true);
  try {
    const manifest = await describe(folder, signal);
    const session = begin(name, manifest, fragment);
    if (!beside) {
      app.show(name, manifest, session);
      void showSheet(name, manifest, session, signal);
    }
    const model = await loadModel(folder, { signal, manifest, onProgress: (said) => signal.aborted || showProgress(said) });
    if (beside) {
      sessions.set(app.bundle, app.session);
      app.show(name, manifest, session);
    }
    app.use(model);
    setState("ready");
    showLoading(false);
    showEngine();
    void model.settled.then(() => model === app.model && showEngine(), () => undefined);
  } catch (error) {
    if (signal.aborted) return;
    if (!app.ready) return fail(error);
    showLoading(false);
    choice.value = app.bundle;
    tell(`${name} could not be loaded, so ${app.bundle} stays. ${reason(error)}`, "error");
  }
}

/**
 * The session that a bundle begins with.
 * @param {string} name
 * @param {Manifest} manifest
 * @param {string} fragment
 */
function begin(name, manifest, fragment) {
  const { latent_size: latentSize, dimensions: described } = manifest;
  const dimensions = described.map(({ latent }) => latent);
  const shape = { name, latentSize, dimensions, attributes: attributesOf(manifest), hasShape: manifest.shape !== undefined };
  const left = sessions.get(name);
  const linked = readLink(fragment, shape, index?.seed ?? 0);
  if (left && linked) left.restore(linked);
  if (left) return left;
  if (linked) return Session.from(shape, linked);
  if (index && index.seed !== null) return new Session(shape, index.seed);
  // A first face that is drawn beforehand; those that follow are nobody else's.
  const starts = index?.starts[name] ?? [];
  const first = starts[Math.floor(Math.random() * starts.length)] ?? 0;
  const { state } = new Session(shape, first);
  return Session.from(shape, { ...state, seed: Math.floor(Math.random() * (SEED_LIMIT + 1)), facesDrawn: 0 });
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
 * Faces of the bundle that were drawn beforehand, to play with until the model is there.
 * @param {string} name
 * @param {Manifest} manifest
 * @param {Session} session
 * @param {AbortSignal} signal
 */
async function showSheet(name, manifest, session, signal) {
  const seeds = index?.starts[name] ?? [];
  const seed = seeds.find((one) => session.origin?.[0] === one && session.origin[1] === 0) ?? seeds[0];
  if (seed === undefined) return;
  const picture = new Image();
  picture.src = `bundles/${encodeURIComponent(name)}/sheet-${seed}.webp`;
  try {
    await picture.decode();
  } catch {
    return; // the model will show its face soon
  }
  if (signal.aborted || app.ready) return;
  const sheet = new Sheet(picture, seed, {
    latentSize: manifest.latent_size, dimensions: session.dimensions, imageShape: manifest.image_shape,
  });
  if (!sheet.holds(session.z)) return face.wait(sheet.draw(sheet.z));
  app.useSheet(sheet);
  if (!link.isLink(asked.fragment)) app.invite();
}

/** @param {import("./worker.js").Progress} said */
function showProgress({ loaded, total, what }) {
  progress.value = total ? loaded / total : 0;
  loadingText.textContent = `${what}: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
}

/** @param {boolean} on */
function showLoading(on) {
  byId("loading", HTMLElement).hidden = !on;
  if (!on) return;
  progress.removeAttribute("value");
  loadingText.textContent = "Loading";
}

/** @param {State} state */
function setState(state) {
  document.body.dataset.state = state;
  const ready = state === "ready";
  for (const id of ["open-photo", "open-explain"]) byId(id, HTMLButtonElement).disabled = !ready;
  for (const id of ["tools", "panel-tools"]) byId(id, HTMLFieldSetElement).disabled = !ready;
  byId("retry", HTMLButtonElement).hidden = state !== "failed";
  failure.hidden = state !== "failed";
  progress.hidden = state !== "loading";
}

/** @param {unknown} error what happened and what to do */
function fail(error) {
  setState("failed");
  showLoading(true);
  failure.textContent = reason(error);
  loadingText.textContent = "The model is not running.";
}

/** @param {unknown} error */
function reason(error) {
  const words = error instanceof Error ? error.message : String(error);
  return navigator.onLine ? words : `This device is offline. ${words}`;
}

function showEngine() {
  const { backend, threads } = app.model;
  const words = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  byId("engine", HTMLElement).textContent = `Running on ${words}.`;
}

/**
 * Say something over the face.
 * @param {string} words
 * @param {"error"} [kind]
 * @param {import("./app.js").Remedy} [remedy]
 */
function tell(words, kind, remedy) {
  clearTimeout(messageEnds);
  message.textContent = words;
  message.classList.toggle("wrong", kind === "error");
  if (remedy) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: remedy.label });
    button.addEventListener("click", () => {
      tell("");
      remedy.run();
    });
    message.append(" ", button);
  }
  if (words) messageEnds = setTimeout(() => tell(""), kind || remedy ? ERROR_TIME : MESSAGE_TIME);
}

/** At rest the address is a link to exactly what is shown: reload, Back and a copied address bring it back. */
function writeAddress() {
  if (!app.ready || app.moving || document.body.dataset.state !== "ready") return;
  const fragment = `#${link.write(app.session.state, app.shape)}`;
  if (fragment !== location.hash) history.replaceState(history.state, "", fragment);
}

function toggleTheme() {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const theme = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  store.set("theme", theme);
}

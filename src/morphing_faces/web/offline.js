/** What the page keeps on this device: it says how much, keeps the page itself for use offline, and forgets it on request. */

import { byId, onClick } from "./dom.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./store.js").Store} Store
 */

/** Set where a person had everything forgotten: for the rest of their visit nothing is kept anew. */
const FORGOTTEN = "morphing-faces/forgotten";

export class Offline {
  #dialog = byId("kept", HTMLDialogElement);
  #forget = onClick("forget", () => void this.app.attempt(() => this.#forgetAll()));

  /**
   * @param {App} app
   * @param {Store} store
   */
  constructor(app, store) {
    this.app = app;
    this.store = store;
    onClick("open-kept", () => this.#open());
    app.on("model", () => this.#keep());
  }

  /** Keep the page and the model that is shown, when it is. */
  #keep() {
    const { serviceWorker } = navigator;
    const saves = /** @type {any} */ (navigator).connection?.saveData;
    if (!serviceWorker || saves || forgotten()) return; // plain HTTP from another machine has none
    const { bundle } = this.app;
    const files = ["manifest.json", "decoder.onnx", "face.png"];
    serviceWorker.register("service-worker.js").catch((error) => console.info(`The page is not kept: ${error.message}`));
    void serviceWorker.ready.then(({ active }) => active?.postMessage(files.map((file) => `bundles/${bundle}/${file}`)));
  }

  async #open() {
    this.#dialog.showModal();
    byId("kept-own", HTMLElement).textContent = size(this.store.size);
    const { usage = 0 } = (await navigator.storage?.estimate()) ?? {};
    const on = Boolean((await navigator.serviceWorker?.getRegistration("./"))?.active);
    byId("kept-page", HTMLElement).textContent = on ? size(usage) : "not kept";
    this.#forget.disabled = !on && this.store.size === 0;
  }

  async #forgetAll() {
    remember();
    this.store.forget();
    const registration = await navigator.serviceWorker?.getRegistration("./");
    await registration?.unregister();
    const own = `morphing-faces ${new URL("./", location.href).pathname}`;
    if ("caches" in window) await caches.delete(own);
    byId("kept-own", HTMLElement).textContent = byId("kept-page", HTMLElement).textContent = "forgotten";
    this.#dialog.querySelector("h2")?.focus(); // the button goes out of use, the focus stays here
    this.#forget.disabled = true;
  }
}

/** @param {number} bytes */
function size(bytes) {
  return bytes < 1e5 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function forgotten() {
  try {
    return sessionStorage.getItem(FORGOTTEN) !== null;
  } catch {
    return true; // storage is forbidden: then so is this
  }
}

function remember() {
  try {
    sessionStorage.setItem(FORGOTTEN, "1");
  } catch {
    // storage is forbidden: there is nothing to forget, and nothing will be kept
  }
}

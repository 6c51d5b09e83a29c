/**
 * What the page keeps between visits: JSON values in the browser's local storage, or in memory where that is refused.
 *
 * Other tabs write there, too: a value is read anew whenever it is needed, and changed by `update` only.
 */

const PREFIX = "morphing-faces/";

export class Store {
  /** What could not be written: it is there for the rest of this visit. @type {Map<string, unknown>} */
  #unkept = new Map();
  /** @type {Map<string, () => void>} */
  #listeners = new Map();
  /** Why the last value could not be kept. */
  trouble = "";

  constructor() {
    window.addEventListener("storage", ({ key }) => {
      for (const [name, listener] of this.#listeners) if (key === null || key === PREFIX + name) listener();
    });
  }

  /**
   * Be told when another tab has changed a value.
   * @param {string} key
   * @param {() => void} listener the only one for this key
   */
  watch(key, listener) {
    this.#listeners.set(key, listener);
  }

  /**
   * The value kept under a key, or `null`. What is there may be of any kind, or from another version: check it.
   * @param {string} key
   * @returns {unknown}
   */
  get(key) {
    if (this.#unkept.has(key)) return this.#unkept.get(key);
    try {
      return JSON.parse(window.localStorage.getItem(PREFIX + key) ?? "null");
    } catch {
      return null; // storage is forbidden, or holds something else
    }
  }

  /**
   * Keep a value.
   * @param {string} key
   * @param {unknown} value
   * @returns {boolean} whether it will be there after this visit; if not, `trouble` says why
   */
  set(key, value) {
    try {
      window.localStorage.setItem(PREFIX + key, JSON.stringify(value));
      this.#unkept.delete(key);
      return true;
    } catch (error) {
      this.#unkept.set(key, value);
      const full = error instanceof DOMException && error.name === "QuotaExceededError";
      this.trouble = full ? "the browser's storage for this page is full" : "the browser does not let this page keep anything";
      return false;
    }
  }

  /**
   * Change the value that is kept now, whoever wrote it.
   * @param {string} key
   * @param {(value: unknown) => unknown} change
   * @returns {boolean} as `set`
   */
  update(key, change) {
    return this.set(key, change(this.get(key)));
  }

  /** How much is kept, in bytes. */
  get size() {
    return this.#keys().reduce((total, key) => total + 2 * (key.length + (window.localStorage.getItem(key)?.length ?? 0)), 0);
  }

  /** Remove everything that is kept. */
  forget() {
    for (const key of this.#keys()) window.localStorage.removeItem(key);
  }

  #keys() {
    try {
      return Object.keys(window.localStorage).filter((key) => key.startsWith(PREFIX));
    } catch {
      return []; // storage is forbidden
    }
  }
}

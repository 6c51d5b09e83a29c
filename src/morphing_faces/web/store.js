/** What the page keeps between visits: JSON values in the browser's local storage, or in memory where that is refused. */

const PREFIX = "morphing-faces/";

export class Store {
  /** What was written or read in this visit; all there is where storage is refused. @type {Map<string, unknown>} */
  #memory = new Map();
  #told = false;

  /** @param {(message: string) => void} tell called once, when storage turns out to be full or forbidden */
  constructor(tell) {
    this.tell = tell;
  }

  /**
   * The value kept under a key, or `null`. What is there may be of any kind, or from another version: check it.
   * @param {string} key
   * @returns {unknown}
   */
  get(key) {
    if (this.#memory.has(key)) return this.#memory.get(key);
    let value = null;
    try {
      value = JSON.parse(window.localStorage.getItem(PREFIX + key) ?? "null");
    } catch (error) {
      if (!(error instanceof SyntaxError)) this.#trouble(error);
    }
    this.#memory.set(key, value);
    return value;
  }

  /**
   * Keep a value. It is there for the rest of this visit even where storage is full or forbidden.
   * @param {string} key
   * @param {unknown} value
   */
  set(key, value) {
    this.#memory.set(key, value);
    try {
      window.localStorage.setItem(PREFIX + key, JSON.stringify(value));
    } catch (error) {
      this.#trouble(error);
    }
  }

  /** @param {unknown} error */
  #trouble(error) {
    if (this.#told) return;
    this.#told = true;
    const full = error instanceof DOMException && error.name === "QuotaExceededError";
    const reason = full ? "the browser's storage for this page is full" : "the browser does not let this page keep anything";
    this.tell(`Favourites and names last until you close this page: ${reason}.`);
  }
}

/** Work that waits until the person rests, one small piece at a time, and stops as soon as they go on. */

/** How long nothing must have happened, in ms. */
const REST = 250;

/**
 * @typedef {() => Promise<void>} Job
 * @typedef {() => Job | null} Source the next piece of work, or null when there is none now
 */

export class RestingWork {
  /** Asked in order. @type {Source[]} */
  #sources = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Counts what the person did: work that began before the newest is stale. */
  #deeds = 0;
  #running = false;

  /** @param {Source} source */
  add(source) {
    this.#sources.push(source);
  }

  /** The person did something, or there is new work: begin again when they rest. */
  disturb() {
    this.#deeds++;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), REST);
  }

  async #run() {
    if (this.#running) return this.disturb(); // the piece in hand ends first
    this.#running = true;
    const deeds = this.#deeds;
    try {
      for (;;) {
        await idle();
        if (deeds !== this.#deeds) return;
        const job = this.#next();
        if (!job) return;
        await job();
      }
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) throw error; // the model was closed
    } finally {
      this.#running = false;
    }
  }

  #next() {
    for (const source of this.#sources) {
      const job = source();
      if (job) return job;
    }
    return null;
  }
}

/** Settles when the page has a moment, or half a second later. @returns {Promise<unknown>} */
export function idle() {
  return new Promise((resolve) => {
    if ("requestIdleCallback" in window) window.requestIdleCallback(resolve, { timeout: 500 });
    else setTimeout(resolve, 16);
  });
}

/**
 * Run an asynchronous job for the newest request only: those that come while it runs are superseded by the last of them.
 * @param {() => Promise<void>} job
 * @returns {() => Promise<void>} ask for a run
 */
export function newestOnly(job) {
  let running = false;
  let asked = false;
  return async () => {
    asked = true;
    if (running) return;
    running = true;
    try {
      while (asked) {
        asked = false;
        await job();
      }
    } finally {
      running = false;
    }
  };
}

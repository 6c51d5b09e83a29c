/** Films: WebM by the browser's own recorder, or GIF by a small encoder. */

import { GIFEncoder, applyPalette, quantize } from "./vendor/gifenc-1.0.3/gifenc.esm.js";
import { context, paint } from "./picture.js";

/**
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {import("./picture.js").Shape} Shape
 * @typedef {"webm" | "gif"} Format
 */

const SIDE = { webm: 512, gif: 256 };
const RATE = 30;
/** GIF counts in hundredths of a second, and viewers slow down anything under two. */
const GIF_FRAME = 50;
/** Longer films fill the memory: the recorder stops by itself, in ms. */
export const LONGEST = 60_000;
const WEBM = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];

/** The formats that this browser can write, the better one first. @returns {Format[]} */
export function formats() {
  const recorder = typeof MediaRecorder !== "undefined" && "captureStream" in HTMLCanvasElement.prototype;
  return recorder && WEBM.some((type) => MediaRecorder.isTypeSupported(type)) ? ["webm", "gif"] : ["gif"];
}

/** A film in the making: `add` each picture when it is shown, then `finish`. */
export class Film {
  #canvas = document.createElement("canvas");
  #begun = performance.now();
  /** @type {MediaRecorder | null} */
  #recorder = null;
  /** @type {Blob[]} */
  #parts = [];
  /** For a GIF: what was shown, and when. @type {{pixels: Pixels, at: number}[]} */
  #frames = [];

  /**
   * @param {Format} format
   * @param {Shape} shape of the pictures
   */
  constructor(format, shape) {
    this.format = format;
    this.shape = shape;
    const [height, width] = shape;
    const side = SIDE[format];
    Object.assign(this.#canvas, { height: side, width: 2 * Math.round((side * width) / height / 2) });
    if (format === "gif") return;
    context(this.#canvas); // a canvas has a stream only when it has a context
    const type = WEBM.find((kind) => MediaRecorder.isTypeSupported(kind));
    this.#recorder = new MediaRecorder(this.#canvas.captureStream(RATE), { mimeType: type, videoBitsPerSecond: 4e6 });
    this.#recorder.addEventListener("dataavailable", ({ data }) => data.size && this.#parts.push(data));
    this.#recorder.start(1000);
  }

  /**
   * A picture, shown from now on or, in a GIF, from `at` ms after the beginning.
   * @param {Pixels} pixels
   * @param {number} [at]
   */
  add(pixels, at = performance.now() - this.#begun) {
    if (this.format === "webm") return paint(this.#canvas, pixels, this.shape);
    const last = this.#frames.at(-1);
    const first = this.#frames.length < 2; // a film begins with the face that was there
    if (last && !first && at - last.at < GIF_FRAME) last.pixels = pixels;
    else this.#frames.push({ pixels, at });
  }

  /**
   * The film as a file.
   * @param {number} [length] in ms; of a GIF
   * @returns {Promise<Blob>}
   */
  async finish(length = performance.now() - this.#begun) {
    return this.#recorder ? this.#stop(this.#recorder) : this.#encode(length);
  }

  /**
   * @param {MediaRecorder} recorder
   * @returns {Promise<Blob>}
   */
  async #stop(recorder) {
    await new Promise((resolve, reject) => {
      recorder.addEventListener("stop", resolve);
      recorder.addEventListener("error", reject);
      recorder.stop();
    });
    for (const track of recorder.stream.getTracks()) track.stop();
    if (!this.#parts.length) throw new Error("Nothing was recorded. Record once more, or choose GIF.");
    return new Blob(this.#parts, { type: "video/webm" });
  }

  /** @param {number} length */
  async #encode(length) {
    const { width, height } = this.#canvas;
    const gif = GIFEncoder();
    const grey = this.shape[2] === 1;
    /** @type {[number, number, number][]} */
    let palette = Array.from({ length: 256 }, (_, level) => [level, level, level]);
    for (const [k, { pixels, at }] of this.#frames.entries()) {
      paint(this.#canvas, pixels, this.shape);
      const { data } = context(this.#canvas, { willReadFrequently: true }).getImageData(0, 0, width, height);
      if (!grey) palette = quantize(data, 256);
      const index = grey ? data.filter((_, byte) => byte % 4 === 0) : applyPalette(data, palette);
      const until = this.#frames[k + 1]?.at ?? Math.max(length, at + GIF_FRAME);
      gif.writeFrame(new Uint8Array(index), width, height, { palette, delay: Math.max(until - at, 20), repeat: 0 });
      await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between frames
    }
    gif.finish();
    return new Blob([gif.bytes()], { type: "image/gif" });
  }
}

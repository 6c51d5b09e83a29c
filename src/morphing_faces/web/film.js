/** Films: MP4 or WebM where the browser has an encoder (WebCodecs), GIF everywhere. */

import { GIFEncoder, applyPalette, quantize } from "./vendor/gifenc-1.0.3/gifenc.esm.js";
import { context } from "./picture.js";

/**
 * @typedef {import("./picture.js").Shape} Shape
 * @typedef {import("./picture.js").Shown} Shown
 * @typedef {"mp4" | "webm" | "gif"} Format
 * @typedef {(part: number) => void} OnProgress how much of the film is written, from 0 to 1
 */

/** The name of each format, as people know it. */
export const NAMES = { mp4: "MP4", webm: "WebM", gif: "GIF" };
const TYPES = { mp4: "video/mp4", webm: "video/webm", gif: "image/gif" };
/** Height of a film in pixels, and of one whose pictures have the detail for it; even, as video wants it. */
const SIDE = { mp4: 512, webm: 512, gif: 256 };
const LARGEST = { mp4: 720, webm: 720, gif: 384 };
/** Time of a frame in ms. GIF counts in hundredths of a second, and viewers slow down anything under two. */
export const FRAME = { mp4: 1000 / 30, webm: 1000 / 30, gif: 50 };
/** Longer films fill the memory: the recorder stops by itself, in ms. */
export const LONGEST = 60_000;
/** What a browser may be able to encode, for each container. @type {Record<"mp4" | "webm", {short: import("./vendor/mediabunny-1.61.0/mediabunny.min.mjs").VideoCodec, codec: string}[]>} */
const CODECS = {
  mp4: [{ short: "avc", codec: "avc1.64001f" }], // other codecs in an MP4 do not play everywhere: then rather WebM
  webm: [{ short: "vp9", codec: "vp09.00.31.08" }, { short: "vp8", codec: "vp8" }],
};

/** The formats that this browser can write, the one that plays in most places first. @returns {Promise<Format[]>} */
export async function formats() {
  const able = await Promise.all(/** @type {const} */ (["mp4", "webm"]).map(async (format) => ((await codecs(format)).length ? format : null)));
  return [...able.filter((format) => format !== null), "gif"];
}

/**
 * The codecs of a container that this browser encodes with.
 * @param {"mp4" | "webm"} format
 */
async function codecs(format) {
  if (typeof VideoEncoder === "undefined") return []; // an older browser, or plain HTTP from another machine
  const size = { width: LARGEST[format], height: LARGEST[format], framerate: 30, bitrate: 4e6 };
  const answers = await Promise.all(
    CODECS[format].map(({ codec }) => VideoEncoder.isConfigSupported({ ...size, codec }).then(({ supported }) => supported, () => false)),
  );
  return CODECS[format].filter((_, k) => answers[k]).map(({ short }) => short);
}

/** A film in the making: `add` each picture when it is shown, then `encode`. */
export class Film {
  #begun = performance.now();
  /** What was shown, and from when on, in ms. @type {{picture: Shown, at: number}[]} */
  #frames = [];

  /**
   * @param {Format} format
   * @param {Shape} shape of the model's pictures: the film is as wide for its height
   */
  constructor(format, shape) {
    this.format = format;
    this.shape = shape;
  }

  /**
   * A picture that is shown from `at` ms after the beginning until the next. Of those within one frame the last is kept.
   * @param {Shown} picture
   * @param {number} [at] now, if it is not given
   */
  add(picture, at = performance.now() - this.#begun) {
    const last = this.#frames.at(-1);
    const first = this.#frames.length < 2; // a film begins with the face that was there
    if (last && !first && at - last.at < FRAME[this.format] - 0.01) last.picture = picture;
    else this.#frames.push({ picture, at });
  }

  /**
   * The film as a file. Its frames have exactly the times at which they were added.
   * @param {{length?: number, comment?: string, onProgress?: OnProgress}} [options] `length` in ms, until now if it is not given
   * @returns {Promise<Blob>}
   */
  async encode({ length = performance.now() - this.#begun, comment = "", onProgress = () => undefined } = {}) {
    const canvas = document.createElement("canvas");
    const [height, width] = this.shape;
    const detail = Math.max(...this.#frames.map(({ picture }) => picture.detail));
    const side = 2 * Math.floor(Math.min(Math.max(detail, SIDE[this.format]), LARGEST[this.format]) / 2);
    Object.assign(canvas, { height: side, width: 2 * Math.round((side * width) / height / 2) });
    const bytes = this.format === "gif" ? await this.#gif(canvas, length, onProgress) : await this.#video(this.format, canvas, length, comment, onProgress);
    return new Blob([bytes], { type: TYPES[this.format] });
  }

  /**
   * Until when a frame is shown, in ms.
   * @param {number} k
   * @param {number} length
   */
  #until(k, length) {
    return this.#frames[k + 1]?.at ?? Math.max(length, this.#frames[k].at + FRAME[this.format]);
  }

  /**
   * @param {"mp4" | "webm"} format
   * @param {HTMLCanvasElement} canvas
   * @param {number} length
   * @param {string} comment
   * @param {OnProgress} onProgress
   */
  async #video(format, canvas, length, comment, onProgress) {
    const bunny = await import("./vendor/mediabunny-1.61.0/mediabunny.min.mjs").catch(() => {
      throw new Error("The writer of films could not be loaded. Check the connection, or choose GIF.");
    });
    const quality = bunny.QUALITY_HIGH;
    const size = { width: canvas.width, height: canvas.height, quality };
    const codec = await bunny.getFirstEncodableVideoCodec(await codecs(format), size);
    if (!codec) throw new Error(`This browser could not write ${NAMES[format]}. Choose another format.`);
    const target = new bunny.BufferTarget();
    const container = format === "mp4" ? new bunny.Mp4OutputFormat({ fastStart: "in-memory" }) : new bunny.WebMOutputFormat();
    const output = new bunny.Output({ format: container, target });
    context(canvas); // the source takes what is drawn, which needs a context
    const source = new bunny.CanvasSource(canvas, { codec, quality, keyFrameInterval: 2 });
    output.addVideoTrack(source);
    output.setMetadataTags({ title: "Morphing Faces", comment });
    await output.start();
    for (const [k, { picture, at }] of this.#frames.entries()) {
      picture.draw(canvas);
      await source.add(at / 1000, (this.#until(k, length) - at) / 1000);
      onProgress((k + 1) / this.#frames.length);
    }
    await output.finalize();
    if (!target.buffer) throw new Error(`This browser wrote no ${NAMES[format]}. Choose another format.`);
    return target.buffer;
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {number} length
   * @param {OnProgress} onProgress
   */
  async #gif(canvas, length, onProgress) {
    const { width, height } = canvas;
    const gif = GIFEncoder();
    const grey = this.#frames.every(({ picture }) => picture.grey);
    /** @type {[number, number, number][]} */
    let palette = Array.from({ length: 256 }, (_, level) => [level, level, level]);
    for (const [k, { picture, at }] of this.#frames.entries()) {
      picture.draw(canvas);
      const { data } = context(canvas, { willReadFrequently: true }).getImageData(0, 0, width, height);
      if (!grey) palette = quantize(data, 256);
      const index = grey ? data.filter((_, byte) => byte % 4 === 0) : applyPalette(data, palette);
      const delay = Math.max(this.#until(k, length) - at, 20);
      gif.writeFrame(new Uint8Array(index), width, height, { palette, delay, repeat: 0 });
      onProgress((k + 1) / this.#frames.length);
      await new Promise((resolve) => setTimeout(resolve)); // the page stays alive between frames
    }
    gif.finish();
    return gif.bytes();
  }
}

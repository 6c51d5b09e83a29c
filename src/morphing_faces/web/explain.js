/** What is a VAE? The way from a picture to its code and back, live. */

import { byId, onClick, signed } from "./dom.js";
import { normal } from "./noise.js";
import { paint, toInput } from "./picture.js";
import { newestOnly } from "./rest.js";
import { NOISE } from "./rules.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./dimensions.js").Dimensions} Dimensions
 * @typedef {import("./photo-dialog.js").PhotoDialog} PhotoDialog
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {{mean: Float32Array<ArrayBuffer>, std: Float32Array<ArrayBuffer>}} Posterior
 */

/** Plots of codes show values up to this. */
const REACH = 3.5;
/** The density of a normal distribution, 1 at its peak: standard deviations from the mean, level. */
const BELL = Array.from({ length: 65 }, (_, k) => [k / 8 - 4, Math.exp(-((k / 8 - 4) ** 2) / 2)]);

export class Explain {
  #section = byId("explain", HTMLElement);
  #toggle = onClick("open-explain", () => this.toggle());
  #state = byId("explain-state", HTMLElement);
  #noise = byId("noise", HTMLInputElement);
  #row = 0;
  #refresh = newestOnly(() => this.app.attempt(() => this.#run()));
  /** @type {Posterior | null} */
  #posterior = null;
  /** @type {Float32Array<ArrayBuffer> | null} */
  #z = null;

  /**
   * @param {App} app
   * @param {Dimensions} dimensions
   * @param {PhotoDialog} photograph
   */
  constructor(app, dimensions, photograph) {
    this.app = app;
    this.dimensions = dimensions;
    this.photograph = photograph;
    onClick("close-explain", () => this.toggle());
    onClick("new-noise", () => {
      this.#row++;
      this.#ask();
    });
    this.#noise.addEventListener("input", () => this.#ask());
    for (const choice of this.#choices) choice.addEventListener("change", () => this.#ask());
    app.on("picture", () => this.#ask());
    app.on("change", () => this.#isOpen && this.#posterior && this.#drawAxes());
    app.on("model", () => {
      this.#posterior = null;
      this.#choose("face");
    });
    document.addEventListener("keydown", (event) => {
      const busy = event.defaultPrevented || app.walk.running || document.querySelector("dialog[open]");
      if (event.key === "Escape" && this.#isOpen && !busy) this.toggle();
    });
    photograph.onEncoded = () => {
      for (const choice of this.#choices) choice.disabled = false;
      this.#ask();
    };
  }

  get #isOpen() {
    return !this.#section.hidden;
  }

  get #choices() {
    return [...this.#section.querySelectorAll("input")].filter(({ name }) => name === "explain-source");
  }

  /** @param {"face" | "photo"} source */
  #choose(source) {
    for (const choice of this.#choices) {
      choice.checked = choice.value === source;
      choice.disabled = choice.value === "photo" && !this.photograph.encoded;
    }
  }

  /** Open the panel and bring it into view, or close it. */
  toggle() {
    this.#section.hidden = this.#isOpen;
    this.#toggle.setAttribute("aria-expanded", String(this.#isOpen));
    if (!this.#isOpen) return this.#toggle.focus();
    this.#ask();
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#section.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
    byId("explain-title", HTMLElement).focus({ preventScroll: true });
  }

  #ask() {
    if (this.#isOpen && this.app.ready) void this.#refresh();
  }

  async #run() {
    const { app, photograph } = this;
    const { model } = app;
    const own = this.#choices.some(({ checked, value }) => checked && value === "photo") && photograph.encoded;
    if (!own && !app.picture) return;
    const pixels = own ? own.pixels : /** @type {Pixels} */ (app.picture);
    const input = own ? own.input : toInput(pixels, model.imageShape);
    const posterior = own || (await model.encode(input, { onProgress: (progress) => this.#progress(progress) }));
    const amount = this.#noise.valueAsNumber;
    const noise = normal(app.session.seed, this.#row, 1, model.latentSize, NOISE);
    const z = posterior.mean.map((mean, k) => mean + amount * posterior.std[k] * noise[k]);
    const decoded = await app.decode(z);
    if (model !== app.model) return;
    [this.#posterior, this.#z] = [posterior, z];
    this.#state.textContent = "";
    paint(byId("explain-in", HTMLCanvasElement), pixels, model.imageShape);
    paint(byId("explain-out", HTMLCanvasElement), decoded, model.imageShape);
    byId("noise-value", HTMLOutputElement).textContent = `${amount.toFixed(2)} σ`;
    byId("explain-error", HTMLElement).textContent = `${decibels(input, toInput(decoded, model.imageShape))} dB PSNR`;
    this.#drawCodes();
    this.#drawInformation();
    this.#drawAxes();
  }

  /** @param {{loaded: number, total: number}} progress */
  #progress({ loaded, total }) {
    const done = loaded >= total;
    this.#state.textContent = done
      ? "Starting the encoder"
      : `Loading the encoder: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`;
  }

  /** Mean, standard deviation and drawn z of each dimension that has a slider. */
  #drawCodes() {
    const { mean, std } = /** @type {Posterior} */ (this.#posterior);
    const z = /** @type {Float32Array} */ (this.#z);
    const { dimensions } = this.app.model;
    const [width, height] = [16 * dimensions.length, 200];
    const y = (/** @type {number} */ value) =>
      (height / 2) * (1 - Math.min(Math.max(value, -REACH), REACH) / REACH);
    const parts = [
      part("rect", { class: "prior", x: 0, y: y(1), width, height: y(-1) - y(1) }),
      part("line", { class: "zero", x1: 0, x2: width, y1: y(0), y2: y(0) }),
    ];
    dimensions.forEach((latent, k) => {
      const x = 16 * k + 8;
      const chosen = this.app.session.axes.includes(k) ? " chosen" : "";
      parts.push(
        part("line", { class: `sigma${chosen}`, x1: x, x2: x, y1: y(mean[latent] + std[latent]), y2: y(mean[latent] - std[latent]) }),
        part("circle", { class: `mu${chosen}`, cx: x, cy: y(mean[latent]), r: 3 }),
        part("circle", { class: "z", cx: x, cy: y(z[latent]), r: 5 }),
      );
    });
    draw("explain-codes", width, height, parts);
  }

  /** KL of each dimension, of this picture and on average. */
  #drawInformation() {
    const { mean, std } = /** @type {Posterior} */ (this.#posterior);
    const { model } = this.app;
    const all = Array.from(mean, (_, k) => divergence(mean[k], std[k]));
    const shown = model.dimensions.map((latent) => all[latent]);
    const average = model.manifest.dimensions.map(({ kl }) => kl);
    const [width, height] = [16 * shown.length, 120];
    const most = Math.max(...shown, ...average, 1);
    const parts = shown.flatMap((nats, k) => {
      const title = `dimension ${k}: ${nats.toFixed(2)} nats here, ${average[k].toFixed(2)} on average`;
      const bar = (height * nats) / most;
      const level = height - (height * average[k]) / most;
      return [
        part("rect", { class: "bar", x: 16 * k + 3, y: height - bar, width: 10, height: bar }, title),
        part("line", { class: "average", x1: 16 * k + 1, x2: 16 * k + 15, y1: level, y2: level }),
      ];
    });
    draw("explain-kl", width, height, parts);
    const sum = (/** @type {number[]} */ values) => values.reduce((total, value) => total + value, 0).toFixed(0);
    byId("explain-kl-text", HTMLElement).textContent =
      `Bars: the KL of this picture in each of the ${shown.length} dimensions, ${sum(shown)} nats together; ` +
      `in all ${model.latentSize}, ${sum(all)}. Lines: the average over training pictures.`;
  }

  /** Prior and posterior of the two axes. */
  #drawAxes() {
    const { mean, std } = /** @type {Posterior} */ (this.#posterior);
    const z = /** @type {Float32Array} */ (this.#z);
    const { session, model } = this.app;
    const [width, height, gap] = [400, 76, 26];
    const parts = session.axes.flatMap((dimension, k) => {
      const latent = model.dimensions[dimension];
      const [mu, sigma] = [mean[latent], std[latent]];
      const base = k * (height + gap) + height + 18;
      const x = (/** @type {number} */ value) => width * (0.5 + value / (2 * REACH));
      const curve = (/** @type {number} */ center, /** @type {number} */ spread) =>
        BELL.map(([at, level]) => `${x(center + spread * at).toFixed(1)},${(base - height * level).toFixed(1)}`);
      const words = `${this.dimensions.nameOf(dimension)}: μ ${signed(mu)}, σ ${sigma.toFixed(2)}, KL ${divergence(mu, sigma).toFixed(2)} nats`;
      return [
        part("text", { x: 0, y: base - height - 6 }, words, "text"),
        part("polygon", { class: "posterior", points: [`${x(mu - 4 * sigma)},${base}`, ...curve(mu, sigma), `${x(mu + 4 * sigma)},${base}`].join(" ") }),
        part("polyline", { class: "prior-curve", points: curve(0, 1).join(" ") }),
        part("line", { class: "zero", x1: 0, x2: width, y1: base, y2: base }),
        part("circle", { class: "z", cx: x(z[latent]), cy: base, r: 5 }),
      ];
    });
    draw("explain-axes", width, 2 * (height + gap), parts);
  }
}

/**
 * KL of N(mean, std^2) from N(0, 1), in nats: 1/2 (mean^2 + std^2 - 1 - ln std^2).
 * @param {number} mean
 * @param {number} std
 */
export function divergence(mean, std) {
  return (mean * mean + std * std - 1 - Math.log(std * std)) / 2;
}

/**
 * How near two pictures are: the peak signal-to-noise ratio.
 * @param {Float32Array} a values in [0, 1]
 * @param {Float32Array} b
 */
function decibels(a, b) {
  let error = 0;
  for (let k = 0; k < a.length; k++) error += (a[k] - b[k]) ** 2;
  return (-10 * Math.log10(Math.max(error / a.length, 1e-10))).toFixed(1);
}

/**
 * An element of a plot.
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {string} [words] a title, or the text
 * @param {"title" | "text"} [kind]
 */
function part(name, attributes, words, kind = "title") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (words && kind === "text") element.textContent = words;
  else if (words) element.append(part("title", {}, words, "text"));
  return element;
}

/**
 * @param {string} id
 * @param {number} width
 * @param {number} height
 * @param {Element[]} parts
 */
function draw(id, width, height, parts) {
  const plot = byId(id, SVGSVGElement);
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
  plot.replaceChildren(...parts);
}

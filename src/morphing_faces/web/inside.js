/** What is a VAE? The way from a picture to its code and back, in steps, live beside the face. */

import { byId, inside, onClick } from "./dom.js";
import { decibels, divergences, drawn, logLikelihood, pixelSigma, pulled, squaredError, sum } from "./elbo.js";
import { paintBalance, paintCodes, paintInformation, paintRanges } from "./inside-plots.js";
import { FaceMap } from "./map.js";
import { normal } from "./noise.js";
import { paint, toInput } from "./picture.js";
import { Plot } from "./plot.js";
import { newestOnly } from "./rest.js";
import { NOISE } from "./rules.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./dimensions.js").Dimensions} Dimensions
 * @typedef {import("./elbo.js").Posterior} Posterior
 * @typedef {import("./inside-plots.js").Coordinate} Coordinate
 * @typedef {import("./inside-plots.js").Price} Price
 * @typedef {import("./photo-dialog.js").PhotoDialog} PhotoDialog
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {{pixels: Pixels, input: Float32Array<ArrayBuffer>, posterior: Posterior | null}} Picture as pixels, as the encoder
 *   reads it, and what the encoder said of it
 * @typedef {"picture" | "encoder" | "range" | "sample" | "decoder" | "price" | "balance" | "map"} Step
 */

/** Draws of z that are shown side by side. */
const DRAWS = 5;
/** Where between posterior and prior the prices are computed. */
const PULLS = [0, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
/** A demonstration takes this long, in ms. */
const SHOW = 5000;
/** The difference of two pictures is drawn this much stronger. */
const STRONGER = 4;
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export class Inside {
  #section = byId("inside", HTMLElement);
  #toggle = onClick("open-explain", () => this.toggle());
  #tabs = [...this.#section.querySelectorAll("[role=tab]")].filter((tab) => tab instanceof HTMLElement);
  #state = byId("inside-state", HTMLElement);
  #retry = onClick("inside-retry", () => this.#ask());
  #readout = byId("inside-readout", HTMLElement);
  #noise = byId("noise", HTMLInputElement);
  #pull = byId("pull", HTMLInputElement);
  #back = onClick("inside-back", () => this.#go(this.#at - 1));
  #next = onClick("inside-next", () => this.#go(this.#at + 1));
  #show = onClick("inside-show", () => (this.#showing ? this.#stop() : this.#demonstrate()));
  #refresh = newestOnly(() => this.#run());
  /** @type {number} */
  #at = 0;
  #row = 0;
  /** The demonstration that runs. @type {number} */
  #showing = 0;
  /** The dimension whose marks are pointed at. @type {number | null} */
  #pointed = null;
  /** Of the model that the words and the grain are of. @type {import("./worker.js").Manifest | null} */
  #described = null;
  /** @type {Picture | null} */
  #x = null;
  /** @type {Price[]} */
  #prices = [];
  /** What the prices are those of. @type {Posterior | null} */
  #priced = null;

  /**
   * @param {App} app
   * @param {Dimensions} dimensions
   * @param {PhotoDialog} photograph
   */
  constructor(app, dimensions, photograph) {
    this.app = app;
    this.dimensions = dimensions;
    this.photograph = photograph;
    const hand = {
      point: (/** @type {number | null} */ dimension) => this.#point(dimension),
      pick: (/** @type {number} */ dimension) => dimensions.pick(dimension, 0),
      pointed: () => this.#pointed,
    };
    const plot = (/** @type {string} */ id, /** @type {import("./plot.js").Painter} */ painter) =>
      new Plot(byId(id, HTMLCanvasElement), (pen) => (app.ready && this.#x?.posterior ? painter(pen) : []), hand);
    this.plots = {
      encoder: plot("inside-codes", (pen) => paintCodes(pen, this.#coordinates(), this.#pointed)),
      range: plot("inside-ranges", (pen) => paintRanges(pen, this.#coordinates(), this.#axes())),
      price: plot("inside-kl", (pen) => paintInformation(pen, this.#coordinates(), this.#pointed)),
      balance: plot("inside-balance", (pen) => (this.#prices.length ? paintBalance(pen, this.#prices, this.#pull.valueAsNumber) : [])),
    };
    const isSeen = () => this.isOpen && this.#current().step === "map";
    this.map = new FaceMap(app, dimensions, isSeen, (words) => this.#tell(words));
    onClick("close-inside", () => this.toggle());
    onClick("new-noise", () => {
      this.#row++;
      this.#ask();
    });
    for (const slider of [this.#noise, this.#pull]) slider.addEventListener("input", () => this.#ask());
    for (const choice of this.#choices) choice.addEventListener("change", () => this.#ask());
    this.#tabs.forEach((tab, k) => tab.addEventListener("click", () => this.#go(k)));
    inside(this.#section, "[role=tablist]", HTMLElement).addEventListener("keydown", (event) => this.#key(event));
    this.#section.querySelectorAll(".draws").forEach((list) => this.#buildDraws(list));
    const picture = byId("inside-pixels", HTMLCanvasElement);
    picture.addEventListener("pointermove", (event) => this.#tellPixel(event));
    picture.addEventListener("pointerleave", () => this.#tell(""));
    app.on("picture", () => this.#ask());
    app.on("change", () => this.isOpen && this.#current().plot?.ask());
    app.on("bundle", () => {
      [this.#x, this.#prices, this.#priced] = [null, [], null];
      this.#choose("face");
      if (this.isOpen) this.#describe();
    });
    app.on("model", () => this.#ask());
    app.resting.add(() => this.#nextPrices());
    window.addEventListener("online", () => !this.#retry.hidden && this.#ask());
    document.addEventListener("keydown", (event) => {
      const busy = event.defaultPrevented || app.moving || document.querySelector("dialog[open]");
      if (event.key === "Escape" && this.isOpen && !busy) this.toggle();
    });
    photograph.onEncoded = () => {
      for (const choice of this.#choices) choice.disabled = false;
      this.#ask();
    };
    this.#go(0);
  }

  get isOpen() {
    return !this.#section.hidden;
  }

  get #choices() {
    return [...this.#section.querySelectorAll("input")].filter(({ name }) => name === "inside-source");
  }

  /** The step that is shown, and its plot. */
  #current() {
    const step = /** @type {Step} */ (this.#tabs[this.#at].dataset.step);
    return { step, plot: step in this.plots ? this.plots[/** @type {keyof Inside["plots"]} */ (step)] : null };
  }

  /** Open the panel beside the face, or close it. */
  toggle() {
    this.#stop();
    this.#section.hidden = this.isOpen;
    document.body.classList.toggle("inside-open", this.isOpen);
    this.#toggle.setAttribute("aria-expanded", String(this.isOpen));
    if (!this.isOpen) return this.#toggle.focus();
    this.#ask();
    this.#section.scrollIntoView({ block: "nearest" });
    byId("inside-title", HTMLElement).focus({ preventScroll: true });
  }

  /** @param {number} place of the step */
  #go(place) {
    this.#stop();
    this.#at = Math.min(Math.max(place, 0), this.#tabs.length - 1);
    this.#tabs.forEach((tab, k) => {
      const on = k === this.#at;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      byId(`step-${tab.dataset.step}`, HTMLElement).hidden = !on;
    });
    this.#point(null);
    // A focused button that is disabled would lose the focus.
    if (document.activeElement === this.#back && this.#at === 0) this.#next.focus();
    if (document.activeElement === this.#next && this.#at === this.#tabs.length - 1) this.#back.focus();
    this.#back.disabled = this.#at === 0;
    this.#next.disabled = this.#at === this.#tabs.length - 1;
    this.#pull.value = "0";
    this.#noise.value = "1";
    this.#ask();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.#tabs.length - 1;
    const place = { ArrowRight: this.#at + 1, ArrowLeft: this.#at - 1, Home: 0, End: last }[event.key];
    if (place === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.#go(place);
    this.#tabs[this.#at].focus();
  }

  #ask() {
    if (!this.isOpen || !this.app.ready) return;
    this.#describe();
    void this.#refresh();
  }

  // --- from the picture on

  async #run() {
    if (!this.isOpen) return; // closed while what was asked before still ran
    try {
      this.#sayState("");
      await this.#compute();
    } catch (error) {
      if (!(error instanceof Error) || (error instanceof DOMException && error.name === "AbortError")) return;
      this.#sayState(error.message, true);
    }
  }

  /** What the step that is shown needs, and no more. */
  async #compute() {
    const { app } = this;
    const { model } = app;
    const { step, plot } = this.#current();
    const own = this.#choices.some(({ checked, value }) => checked && value === "photo") && this.photograph.encoded;
    const pixels = own ? own.pixels : app.picture;
    if (!pixels) return;
    if (this.#x?.pixels !== pixels) {
      this.#x = { pixels, input: own ? own.input : toInput(pixels, model.imageShape), posterior: own || null };
    }
    const x = this.#x;
    if (step === "map") {
      this.map.show();
      return app.resting.disturb();
    }
    if (step === "picture") return paint(byId("inside-pixels", HTMLCanvasElement), pixels, model.imageShape);
    x.posterior ??= await model.encode(x.input, { onProgress: (progress) => this.#progress(progress) });
    if (model !== app.model) return;
    this.#sayState("");
    plot?.ask();
    this.#showPointed();
    if (step === "sample") await this.#draw(x, this.#noise.valueAsNumber);
    if (step === "decoder") await this.#reconstruct(x, this.#noise.valueAsNumber);
    if (step === "price") this.#tellInformation(x.posterior);
    if (step === "balance") await this.#weigh(x);
    if (step === "balance") app.resting.disturb();
  }

  /**
   * Five codes of a posterior, or of one on its way to the prior, decoded side by side.
   * @param {Picture} x
   * @param {number} amount of the noise
   * @param {number} [pull]
   * @returns {Promise<number[]>} the squared errors
   */
  async #draw(x, amount, pull = 0) {
    const { app } = this;
    const { model } = app;
    const posterior = pulled(/** @type {Posterior} */ (x.posterior), pull);
    const list = inside(byId(`step-${this.#current().step}`, HTMLElement), ".draws", HTMLElement);
    const buttons = [...list.querySelectorAll("button")];
    /** @type {Pixels[]} */
    const faces = [];
    const errors = [];
    byId("noise-value", HTMLOutputElement).textContent = `${amount.toFixed(1)} σ`;
    // One by one: a face that is moved meanwhile goes before the next.
    for (const [k, button] of buttons.entries()) {
      const z = drawn(posterior, this.#noiseOf(k), amount);
      const pixels = await app.decode(z);
      if (model !== app.model) return errors;
      faces.push(pixels);
      paint(inside(button, "canvas", HTMLCanvasElement), pixels, model.imageShape);
      button.onclick = () => app.act((session) => session.set(z));
      errors.push(squaredError(x.input, toInput(pixels, model.imageShape)));
    }
    const spread = list.querySelector(".spread canvas");
    if (spread instanceof HTMLCanvasElement) paint(spread, differences(faces), model.imageShape);
    return errors;
  }

  /**
   * @param {Picture} x
   * @param {number} amount of the noise
   */
  async #reconstruct(x, amount) {
    const { model } = this.app;
    const z = drawn(/** @type {Posterior} */ (x.posterior), this.#noiseOf(0), amount);
    const pixels = await this.app.decode(z);
    if (model !== this.app.model) return;
    paint(byId("inside-in", HTMLCanvasElement), x.pixels, model.imageShape);
    paint(byId("inside-out", HTMLCanvasElement), pixels, model.imageShape);
    paint(byId("inside-error", HTMLCanvasElement), differences([x.pixels, pixels]), model.imageShape);
    const error = squaredError(x.input, toInput(pixels, model.imageShape));
    const sigma = pixelSigma(model.manifest);
    const likelihood = sigma && `, ln p(x|z) ${nats(logLikelihood(error, sigma, x.input.length))} nats`;
    byId("inside-fidelity", HTMLElement).textContent = `${decibels(error, x.input.length).toFixed(1)} dB PSNR${likelihood ?? ""}`;
  }

  /** The ELBO of this picture, or what is left of it when its codes are pulled to the prior. @param {Picture} x */
  async #weigh(x) {
    const { model } = this.app;
    const pull = this.#pull.valueAsNumber;
    byId("pull-value", HTMLOutputElement).textContent = `${Math.round(100 * pull)}%`;
    const errors = await this.#draw(x, 1, pull);
    if (model !== this.app.model || errors.length < DRAWS) return;
    const sigma = pixelSigma(model.manifest);
    const kl = sum(divergences(pulled(/** @type {Posterior} */ (x.posterior), pull)));
    const likelihood = sigma && logLikelihood(sum(errors) / errors.length, sigma, x.input.length);
    const average = model.manifest.figures?.evaluation?.elbo;
    byId("elbo-likelihood", HTMLElement).textContent = likelihood === null ? "not measured" : nats(likelihood);
    byId("elbo-kl", HTMLElement).textContent = nats(kl);
    byId("elbo-sum", HTMLElement).textContent = likelihood === null ? "not measured" : nats(likelihood - kl);
    byId("elbo-average", HTMLElement).textContent = average ? nats(average) : "not measured";
    this.plots.balance.ask();
  }

  /** The prices along the way to the prior, when the person rests. @returns {(() => Promise<void>) | null} */
  #nextPrices() {
    const { app } = this;
    const posterior = this.#x?.posterior;
    if (!app.ready || !this.isOpen || this.#current().step !== "balance" || !posterior || this.#priced === posterior) return null;
    const sigma = pixelSigma(app.model.manifest);
    if (sigma === null) return null;
    return async () => {
      const x = /** @type {Picture} */ (this.#x);
      const { model } = app;
      const [height, width] = model.imageShape;
      const noise = this.#noiseOf(0);
      const posteriors = PULLS.map((pull) => pulled(posterior, pull));
      const u = new Float32Array(PULLS.length * model.latentSize);
      posteriors.forEach((one, k) => u.set(drawn(one, noise), k * model.latentSize));
      const pixels = await model.decode(u, PULLS.length);
      if (model !== app.model || this.#x !== x) return;
      const size = 4 * height * width;
      this.#prices = posteriors.map((one, k) => ({
        pull: PULLS[k],
        error: squaredError(x.input, toInput(pixels.subarray(k * size, (k + 1) * size), model.imageShape)) / (2 * sigma * sigma),
        kl: sum(divergences(one)),
      }));
      this.#priced = posterior;
      this.plots.balance.ask();
    };
  }

  /** @param {Posterior} posterior */
  #tellInformation(posterior) {
    const { model } = this.app;
    const all = divergences(posterior);
    const shown = model.dimensions.map((latent) => all[latent]);
    byId("inside-kl-text", HTMLElement).textContent =
      `This picture tells ${sum(shown).toFixed(0)} nats through the ${shown.length} dimensions here, ` +
      `${sum(all).toFixed(0)} through all ${model.latentSize}.`;
  }

  /** The noise of a draw. @param {number} draw */
  #noiseOf(draw) {
    return normal(this.app.session.seed, this.#row * DRAWS + draw, 1, this.app.model.latentSize, NOISE);
  }

  /** @returns {Coordinate[]} */
  #coordinates() {
    const { model, session } = this.app;
    const { mean, std } = /** @type {Posterior} */ (this.#x?.posterior);
    return model.dimensions.map((latent, k) => {
      const kl = (mean[latent] ** 2 + std[latent] ** 2 - 1) / 2 - Math.log(std[latent]);
      const chosen = session.axes.includes(k);
      return { name: this.dimensions.nameOf(k), mean: mean[latent], std: std[latent], kl, average: model.manifest.dimensions[k].kl ?? null, chosen };
    });
  }

  /** The two axes, with the values that were drawn. */
  #axes() {
    const { model, session } = this.app;
    const posterior = /** @type {Posterior} */ (this.#x?.posterior);
    const codes = Array.from({ length: DRAWS }, (_, k) => drawn(posterior, this.#noiseOf(k)));
    return session.axes.map((dimension) => ({ dimension, draws: codes.map((z) => z[model.dimensions[dimension]]) }));
  }

  // --- words

  /** What depends on the model alone: once for each, and not before it is looked at, for grain takes a while. */
  #describe() {
    const { manifest } = this.app;
    if (manifest === this.#described) return;
    this.#described = manifest;
    const { image_shape: imageShape, latent_size: latentSize, dimensions } = manifest;
    const [height, width, channels] = imageShape;
    const say = (/** @type {string} */ key, /** @type {string} */ words) =>
      this.#section.querySelectorAll(`[data-say=${key}]`).forEach((place) => (place.textContent = words));
    say("size", `${height} × ${width}${channels === 3 ? " × 3" : ""}`);
    say("values", whole.format(height * width * channels));
    say("latents", whole.format(latentSize));
    say("shown", String(dimensions.length));
    const weight = manifest.training?.recipe?.kl_weight;
    byId("inside-weight", HTMLElement).hidden = !(weight > 1);
    say("weight", String(weight));
    const random = byId("inside-random", HTMLCanvasElement);
    const colours = normal(0, 0, 1, height * width * channels, NOISE);
    const pixels = new Uint8ClampedArray(height * width * 4).fill(255);
    for (let k = 0; k < height * width; k++) {
      for (let part = 0; part < 3; part++) pixels[4 * k + part] = 128 + 64 * colours[channels * k + (channels === 3 ? part : 0)];
    }
    for (const canvas of [random, byId("inside-pixels", HTMLCanvasElement)]) Object.assign(canvas, { width, height });
    paint(random, pixels, imageShape);
  }

  /**
   * @param {string} words
   * @param {boolean} [failed]
   */
  #sayState(words, failed = false) {
    this.#state.textContent = words;
    this.#state.classList.toggle("wrong", failed);
    this.#retry.hidden = !failed;
  }

  /** @param {{loaded: number, total: number}} progress */
  #progress({ loaded, total }) {
    const done = loaded >= total;
    this.#sayState(done ? "Starting the encoder" : `Loading the encoder: ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB`);
  }

  /** @param {number | null} dimension */
  #point(dimension) {
    this.#pointed = dimension;
    this.#showPointed();
  }

  #showPointed() {
    const { plot } = this.#current();
    plot?.ask();
    const words = plot?.words(this.#pointed) ?? "";
    this.#tell(words && `${words}. Click to put it on the horizontal axis.`);
  }

  /** @param {string} words */
  #tell(words) {
    if (this.#readout.textContent !== words) this.#readout.textContent = words;
  }

  /** @param {PointerEvent} event */
  #tellPixel({ offsetX, offsetY }) {
    if (!this.#x || !this.app.ready) return;
    const canvas = byId("inside-pixels", HTMLCanvasElement);
    const [height, width, channels] = this.app.model.imageShape;
    const column = Math.min(Math.floor((offsetX / canvas.clientWidth) * width), width - 1);
    const row = Math.min(Math.floor((offsetY / canvas.clientHeight) * height), height - 1);
    const [red, green, blue] = this.#x.pixels.subarray(4 * (row * width + column));
    const colour = channels === 3 ? `red ${red}, green ${green}, blue ${blue}` : `grey ${red}`;
    this.#tell(`Row ${row}, column ${column}: ${colour}, of 255.`);
  }

  /** @param {"face" | "photo"} source */
  #choose(source) {
    for (const choice of this.#choices) {
      choice.checked = choice.value === source;
      choice.disabled = choice.value === "photo" && !this.photograph.encoded;
    }
  }

  /** @param {Element} list */
  #buildDraws(list) {
    for (let k = DRAWS - 1; k >= 0; k--) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Make this the face";
      button.setAttribute("aria-label", `Draw ${k + 1}: make this the face`);
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: 96, height: 96 });
      button.append(canvas);
      list.prepend(button);
    }
  }

  // --- demonstrations

  /** Move what the step is about, on the live figure, and bring it back. */
  #demonstrate() {
    const { app } = this;
    const { step } = this.#current();
    if (!app.ready) return;
    if (step === "picture") return app.act((session) => session.shuffle());
    const slider = step === "balance" ? this.#pull : step === "sample" || step === "decoder" ? this.#noise : null;
    if (!slider && app.session.frozen) return this.#tell("The face is held. Release it, and it will move.");
    const began = performance.now();
    const from = slider ? slider.valueAsNumber : 0;
    const [x, y] = app.session.axes.map((dimension) => app.session.get(dimension) / app.session.range);
    const move = (/** @type {number} */ now) => {
      const t = Math.min((now - began) / SHOW, 1);
      const out = Math.sin(Math.PI * t);
      if (slider) {
        slider.value = String(from + (Number(slider.max) - from) * out);
        this.#ask();
      } else app.hover(clamp(x + out * Math.sin(4 * Math.PI * t)), clamp(y + out * Math.sin(2 * Math.PI * t)));
      if (t < 1) this.#showing = requestAnimationFrame(move);
      else this.#stop();
    };
    this.#showing = requestAnimationFrame(move);
    this.#show.setAttribute("aria-pressed", "true");
  }

  #stop() {
    cancelAnimationFrame(this.#showing);
    this.#showing = 0;
    this.#show.setAttribute("aria-pressed", "false");
  }
}

/**
 * How far pictures are from each other in each pixel: their largest less their smallest value, drawn stronger.
 * @param {Pixels[]} pictures
 * @returns {Pixels}
 */
function differences(pictures) {
  const result = new Uint8ClampedArray(pictures[0].length);
  for (let k = 0; k < result.length; k++) {
    let [least, most] = [255, 0];
    for (const picture of pictures) {
      least = Math.min(least, picture[k]);
      most = Math.max(most, picture[k]);
    }
    result[k] = k % 4 === 3 ? 255 : STRONGER * (most - least);
  }
  return result;
}

/** @param {number} value */
function nats(value) {
  return whole.format(value).replace("-", "−");
}

/** @param {number} value */
function clamp(value) {
  return Math.min(Math.max(value, -1), 1);
}

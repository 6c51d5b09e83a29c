/** The map: faces laid out in order, the own one among them; to move on the map is to move the face. */

import { byId, signed } from "./dom.js";
import { arranged, coordinateOf, movedTo, placeOf, planeOfAxes, planeOfLooks, stepped } from "./map-layout.js";
import { normal } from "./noise.js";
import { context, luma } from "./picture.js";

/**
 * @typedef {import("./app.js").App} App
 * @typedef {import("./dimensions.js").Dimensions} Dimensions
 * @typedef {import("./map-layout.js").Plane} Plane
 * @typedef {import("./picture.js").Pixels} Pixels
 */

/** Faces in a row and in a column. */
const SIDE = 16;
const FACES = SIDE * SIDE;
/** Pixels of a face on the map. */
const CELL = 48;
/** Faces that are decoded at a time. */
const BATCH = 16;
/** Pixels to a side of what is compared of two pictures. */
const LOOK = 12;
/** The seed whose faces lie on the map. */
const SEED = 0;
/** A press of an arrow key moves this part of the map. */
const STEP = 1 / 32;

export class FaceMap {
  #canvas = byId("map", HTMLCanvasElement);
  #layout = byId("map-layout", HTMLSelectElement);
  #note = byId("map-note", HTMLElement);
  /** The faces in order of their numbers. */
  #atlas = document.createElement("canvas");
  /** The same as they are laid out. */
  #ground = document.createElement("canvas");
  /** @type {Float32Array<ArrayBuffer>[] | null} */
  #known = null;
  /** @type {Float64Array[]} */
  #looks = [];
  /** How many are decoded. */
  #drawn = 0;
  /** Where the faces lie now. @type {{key: string, plane: Plane} | null} */
  #arrangement = null;
  /** The axes' directions of the layout by looks, once all faces are there. @type {Plane | null} */
  #byLooks = null;
  #due = false;

  /**
   * @param {App} app
   * @param {Dimensions} dimensions
   * @param {() => boolean} isSeen whether the map is open
   * @param {(words: string) => void} tell
   */
  constructor(app, dimensions, isSeen, tell) {
    this.app = app;
    this.dimensions = dimensions;
    this.isSeen = isSeen;
    this.tell = tell;
    for (const canvas of [this.#atlas, this.#ground, this.#canvas]) Object.assign(canvas, { width: SIDE * CELL, height: SIDE * CELL });
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#moveTo(this.#placeOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#moveTo(this.#placeOf(event));
      else this.#tellPlace(this.#placeOf(event));
    });
    canvas.addEventListener("pointerleave", () => tell(""));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    this.#layout.addEventListener("change", () => this.show());
    app.on("change", () => this.show());
    app.on("picture", () => this.show());
    app.on("model", () => this.#begin());
    app.resting.add(() => this.#next());
  }

  /** Draw it in the next frame, if it is open. */
  show() {
    if (this.#due || !this.app.ready || !this.isSeen()) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      if (this.app.ready && this.isSeen()) this.#draw();
    });
  }

  /** The faces of the map: made when they are first asked for, which takes a while. */
  get #faces() {
    if (!this.#known) {
      const { latentSize } = this.app.model;
      const codes = normal(SEED, 0, FACES, latentSize);
      this.#known = Array.from({ length: FACES }, (_, face) => codes.slice(face * latentSize, (face + 1) * latentSize));
    }
    return this.#known;
  }

  #begin() {
    this.#known = null;
    [this.#looks, this.#drawn, this.#arrangement, this.#byLooks] = [[], 0, null, null];
    context(this.#atlas).clearRect(0, 0, SIDE * CELL, SIDE * CELL);
  }

  /** The next few faces, when the person rests. @returns {(() => Promise<void>) | null} */
  #next() {
    if (!this.app.ready || !this.isSeen() || this.#drawn >= FACES) return null;
    return async () => {
      const { model } = this.app;
      const [height, width] = model.imageShape;
      const first = this.#drawn;
      const u = new Float32Array(BATCH * model.latentSize);
      for (let k = 0; k < BATCH; k++) u.set(this.#faces[first + k], k * model.latentSize);
      const pixels = await model.decode(u, BATCH);
      if (!this.app.ready || model !== this.app.model) return;
      const atlas = context(this.#atlas);
      for (let k = 0; k < BATCH; k++) {
        const face = first + k;
        const own = pixels.slice(k * 4 * height * width, (k + 1) * 4 * height * width);
        const picture = await createImageBitmap(new ImageData(own, width, height), { resizeWidth: CELL, resizeHeight: CELL, resizeQuality: "high" });
        atlas.drawImage(picture, CELL * (face % SIDE), CELL * Math.floor(face / SIDE));
        picture.close();
        this.#looks.push(look(own, height, width));
      }
      this.#drawn += BATCH;
      this.#arrangement = null;
      this.show();
    };
  }

  /** By what the faces are laid out: the two axes, or how they look, once all are there. */
  #plane() {
    const { model, session } = this.app;
    const whole = this.#drawn >= FACES;
    if (this.#layout.value === "looks" && whole) return (this.#byLooks ??= planeOfLooks(this.#faces, this.#looks));
    const [x, y] = session.axes;
    return planeOfAxes(model.latentSize, [model.dimensions[x], model.dimensions[y]]);
  }

  #draw() {
    const { app } = this;
    const key = `${this.#layout.value} ${this.#drawn} ${app.session.axes}`;
    if (this.#arrangement?.key !== key) this.#arrange(key);
    const { plane } = /** @type {{plane: Plane}} */ (this.#arrangement);
    const c = context(this.#canvas);
    const side = SIDE * CELL;
    c.drawImage(this.#ground, 0, 0);
    const [x, y] = placeOf(app.session.z, plane);
    const radius = CELL * 0.9;
    const middle = [x * side, (1 - y) * side];
    c.save();
    c.beginPath();
    c.arc(middle[0], middle[1], radius, 0, 2 * Math.PI);
    c.clip();
    c.drawImage(byId("face", HTMLCanvasElement), middle[0] - radius, middle[1] - radius, 2 * radius, 2 * radius);
    c.restore();
    c.lineWidth = 4;
    c.strokeStyle = "#fff";
    c.stroke();
    c.beginPath();
    c.arc(middle[0], middle[1], radius + 3, 0, 2 * Math.PI);
    c.lineWidth = 2;
    c.strokeStyle = "#0b5fa8";
    c.stroke();
  }

  /** @param {string} key */
  #arrange(key) {
    const plane = this.#plane();
    const ground = context(this.#ground);
    ground.clearRect(0, 0, SIDE * CELL, SIDE * CELL);
    arranged(this.#faces, plane, SIDE).forEach((face, cell) => {
      if (face >= this.#drawn) return;
      ground.drawImage(this.#atlas, CELL * (face % SIDE), CELL * Math.floor(face / SIDE), CELL, CELL, CELL * (cell % SIDE), CELL * Math.floor(cell / SIDE), CELL, CELL);
    });
    this.#arrangement = { key, plane };
    const [x, y] = this.app.session.axes.map((axis) => this.dimensions.nameOf(axis));
    const left = FACES - this.#drawn;
    this.#note.textContent =
      this.#layout.value === "axes" ? `To the right more ${x}, upwards more ${y}.`
      : left ? `Faces are still being drawn: ${left} to go.`
      : "Faces that look alike lie together: along the two directions in which they differ most.";
  }

  /**
   * @param {PointerEvent} event
   * @returns {[number, number]}
   */
  #placeOf(event) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const part = (/** @type {number} */ value) => Math.min(Math.max(value, 0), 1);
    return [part((event.clientX - left) / width), 1 - part((event.clientY - top) / height)];
  }

  /** @param {[number, number]} place */
  #moveTo(place) {
    const plane = this.#arrangement?.plane;
    if (!plane) return;
    this.app.act((session) => session.set(movedTo(session.z, plane, place), null, "map"));
    this.#tellPlace(place);
  }

  /** @param {[number, number]} place */
  #tellPlace(place) {
    const [x, y] = place.map(coordinateOf);
    if (this.#layout.value === "looks") return this.tell("Drag to move the face.");
    const [across, up] = this.app.session.axes.map((axis) => this.dimensions.nameOf(axis));
    this.tell(`${across} ${signed(x)}, ${up} ${signed(y)}. Drag to move the face.`);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    const plane = this.#arrangement?.plane;
    if (!step || !plane || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.app.act((session) => {
      const z = stepped(session.z, plane, step, STEP);
      if (z) session.set(z, null, "map");
    });
    this.#tellPlace(placeOf(this.app.session.z, plane));
  }
}

/**
 * What of a picture is compared: its light and dark, small, whatever its exposure.
 * @param {Pixels} pixels
 * @param {number} height
 * @param {number} width
 */
function look(pixels, height, width) {
  const small = new Float64Array(LOOK * LOOK);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      small[Math.floor((y * LOOK) / height) * LOOK + Math.floor((x * LOOK) / width)] += luma(pixels[at], pixels[at + 1], pixels[at + 2]);
    }
  }
  const mean = small.reduce((total, value) => total + value, 0) / small.length;
  const deviation = Math.sqrt(small.reduce((total, value) => total + (value - mean) ** 2, 0) / small.length) || 1;
  return small.map((value) => (value - mean) / deviation);
}

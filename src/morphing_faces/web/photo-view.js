/** Draws a photograph whose face follows the model: in a WebGL2 shader, or pixel by pixel where there is none. */

import { context } from "./picture.js";
import { frame } from "./photo.js";
import { GRID, between, displacement, read, shading } from "./follow.js";

/**
 * @typedef {import("./photo.js").Point} Point
 * @typedef {import("./follow.js").Parts} Parts
 * @typedef {{x: number, y: number, width: number, height: number}} Box a part of the photograph, in its pixels
 * @typedef {{way: Float32Array<ArrayBuffer>, shade: {values: Float32Array<ArrayBuffer>, width: number, height: number}}} Move
 *   what becomes of the face: where its pixels go, and how they are shaded; see follow.js
 */

const VERTEX = `#version 300 es
in vec2 corner;
uniform vec4 box;
out vec2 place;
void main() {
  place = box.xy + box.zw * (corner * vec2(0.5, -0.5) + 0.5);
  gl_Position = vec4(corner, 0.0, 1.0);
}`;

/** Where a pixel lies in the frame, where it comes from, how it is shaded: the same as `#byHand` below. */
const FRAGMENT = `#version 300 es
precision highp float;
in vec2 place;
uniform sampler2D photograph;
uniform sampler2D way;
uniform sampler2D shade;
uniform vec2 size;
uniform vec2 origin;
uniform vec2 across;
uniform float side;
uniform float moved;
out vec4 colour;
void main() {
  vec2 from = place - origin;
  vec2 inside = vec2(dot(from, across), dot(from, vec2(-across.y, across.x))) / side;
  vec2 at = place;
  vec3 light = vec3(1.0);
  if (moved > 0.0 && all(greaterThan(inside, vec2(0.0))) && all(lessThan(inside, vec2(1.0)))) {
    vec2 step = texture(way, inside).xy * side;
    at += vec2(across.x * step.x - across.y * step.y, across.y * step.x + across.x * step.y);
    light += texture(shade, inside).rgb;
  }
  colour = vec4(texture(photograph, at / size).rgb * light, 1.0);
}`;

export class PhotoView {
  /** @type {WebGL2RenderingContext | null} */
  #gl = null;
  /** @type {WebGLProgram | null} */
  #program = null;
  /** @type {Record<"photograph" | "way" | "shade", WebGLTexture | null>} */
  #textures = { photograph: null, way: null, shade: null };
  /** What becomes of the face, `null` where it is as it was. @type {Move | null} */
  moved = null;
  /** The move whose textures the shader has. @type {Move | null} */
  #uploaded = null;
  /** Whether the shader is wanted. */
  #wanted;
  /** Time of the CPU in the newest frame, in ms. */
  spent = 0;

  /**
   * @param {HTMLCanvasElement} photograph upright
   * @param {[Point, Point]} eyes the one on the picture's left first
   * @param {Parts} own the face as it is
   * @param {{gl?: boolean, give?: number}} [options] `give` is the part of every way that the face goes
   */
  constructor(photograph, eyes, own, { gl = true, give = 1 } = {}) {
    this.photograph = photograph;
    this.frame = frame(...eyes);
    this.own = own;
    this.give = give;
    this.canvas = document.createElement("canvas");
    this.#wanted = gl;
    if (gl) this.#start();
  }

  get accelerated() {
    return this.#gl !== null && !this.#gl.isContextLost();
  }

  /**
   * Let the face be another. With its own parts the photograph is itself to the bit.
   * @param {Parts} parts
   */
  move(parts) {
    const began = performance.now();
    this.moved = this.moveTo(parts);
    this.spent = performance.now() - began;
  }

  /**
   * What becomes of the face when it is another.
   * @param {Parts} parts
   * @returns {Move | null}
   */
  moveTo(parts) {
    if (parts === this.own) return null;
    const there = this.give === 1 ? parts : between(this.own, parts, this.give);
    return { way: displacement(this.own, there), shade: shading(this.own, there) };
  }

  /**
   * The portrait with a move, for a film: small to keep, drawn at any size when the film is written.
   * @param {Move | null} move
   * @returns {import("./picture.js").Shown}
   */
  shown(move) {
    const draw = (/** @type {HTMLCanvasElement} */ canvas) =>
      context(canvas).drawImage(this.draw(this.portrait, canvas.width, canvas.height, move), 0, 0);
    return { draw, detail: Math.floor(this.portrait.height), grey: false };
  }

  /** A square of the photograph around the face, with something of what surrounds it. @returns {Box} */
  get portrait() {
    const { corner, side, across } = this.frame;
    const [width, height] = [this.photograph.width, this.photograph.height];
    const size = Math.min(1.7 * side, width, height);
    const x = corner.x + (side / 2) * (across.x - across.y) - size / 2;
    const y = corner.y + (side / 2) * (across.x + across.y) - size / 2;
    const within = (/** @type {number} */ v, /** @type {number} */ most) => Math.min(Math.max(v, 0), Math.max(most - size, 0));
    return { x: within(x, width), y: within(y, height), width: size, height: size };
  }

  /**
   * Where a place of the frame, in parts of its side, lies in the portrait, in parts of the portrait's side.
   * @param {number} u
   * @param {number} v
   * @returns {Point}
   */
  placeOf(u, v) {
    const { corner, side, across } = this.frame;
    const box = this.portrait;
    const x = corner.x + side * (u * across.x - v * across.y);
    const y = corner.y + side * (u * across.y + v * across.x);
    return { x: (x - box.x) / box.width, y: (y - box.y) / box.height };
  }

  /**
   * A way in the portrait, in parts of its side, as a way in the frame, in parts of the frame's.
   * @param {number} right
   * @param {number} down
   * @returns {Point}
   */
  wayInFrame(right, down) {
    const { side, across } = this.frame;
    const box = this.portrait;
    const [x, y] = [(right * box.width) / side, (down * box.height) / side];
    return { x: x * across.x + y * across.y, y: y * across.x - x * across.y };
  }

  /** All of the photograph. @returns {Box} */
  get whole() {
    return { x: 0, y: 0, width: this.photograph.width, height: this.photograph.height };
  }

  /**
   * Draw a part of the photograph into `canvas`.
   * @param {Box} box
   * @param {number} width of the drawing, in pixels
   * @param {number} height
   * @param {Move | null} [move] `null` for the photograph as it was
   */
  draw(box, width, height, move = this.moved) {
    const began = performance.now();
    if (this.#wanted && this.#gl?.isContextLost()) this.#start(); // the browser took it, or the view was closed
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    if (this.#gl && this.#program) this.#shaded(this.#gl, this.#program, box, move);
    else this.#byHand(box, move);
    this.spent += performance.now() - began;
    return this.canvas;
  }

  /** Give the graphics memory back. A film that is still to be written may draw it again, which takes it again. */
  close() {
    this.#gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  #start() {
    if (this.#gl) this.canvas = document.createElement("canvas");
    this.#gl = this.#program = this.#uploaded = null;
    const gl = this.canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });
    if (!gl) return;
    const program = gl.createProgram();
    for (const [kind, source] of /** @type {const} */ ([[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]])) {
      const shader = gl.createShader(kind);
      if (!shader) return;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      this.canvas = document.createElement("canvas"); // one that has given a WebGL context gives no other
      return;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.useProgram(program);
    /** @type {const} */ (["photograph", "way", "shade"]).forEach((name, unit) => {
      this.#textures[name] = gl.createTexture();
      gl.uniform1i(gl.getUniformLocation(program, name), unit);
    });
    [this.#gl, this.#program] = [gl, program];
    this.#bind(gl, "photograph");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, this.photograph);
    gl.generateMipmap(gl.TEXTURE_2D); // drawn smaller, it must not flicker; at its own size it is exact
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    this.#upload("way", 1, 1, "RG", new Float32Array(2));
    this.#upload("shade", 1, 1, "RGB", new Float32Array(3));
  }

  /**
   * @param {WebGL2RenderingContext} gl
   * @param {"photograph" | "way" | "shade"} name
   */
  #bind(gl, name) {
    gl.activeTexture(gl.TEXTURE0 + ["photograph", "way", "shade"].indexOf(name));
    gl.bindTexture(gl.TEXTURE_2D, this.#textures[name]);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
    for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, wrap, gl.CLAMP_TO_EDGE);
  }

  /**
   * @param {"way" | "shade"} name
   * @param {number} width
   * @param {number} height
   * @param {"RG" | "RGB"} form
   * @param {Float32Array} values
   */
  #upload(name, width, height, form, values) {
    const gl = this.#gl;
    if (!gl) return;
    this.#bind(gl, name);
    const inside = form === "RG" ? gl.RG16F : gl.RGB16F; // halves may be filtered everywhere, floats may not
    gl.texImage2D(gl.TEXTURE_2D, 0, inside, width, height, 0, gl[form], gl.FLOAT, values);
  }

  /**
   * @param {WebGL2RenderingContext} gl
   * @param {WebGLProgram} program
   * @param {Box} box
   * @param {Move | null} move
   */
  #shaded(gl, program, box, move) {
    const { corner, across, side } = this.frame;
    if (move && move !== this.#uploaded) {
      this.#upload("way", GRID, GRID, "RG", move.way);
      this.#upload("shade", move.shade.width, move.shade.height, "RGB", move.shade.values);
      this.#uploaded = move;
    }
    const at = (/** @type {string} */ name) => gl.getUniformLocation(program, name);
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.uniform4f(at("box"), box.x, box.y, box.width, box.height);
    gl.uniform2f(at("size"), this.photograph.width, this.photograph.height);
    gl.uniform2f(at("origin"), corner.x, corner.y);
    gl.uniform2f(at("across"), across.x, across.y);
    gl.uniform1f(at("side"), side);
    gl.uniform1f(at("moved"), move ? 1 : 0);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  /**
   * The shader's work on the CPU.
   * @param {Box} box
   * @param {Move | null} move
   */
  #byHand(box, move) {
    const { width, height } = this.canvas;
    const target = context(this.canvas);
    target.imageSmoothingQuality = "high";
    target.drawImage(this.photograph, box.x, box.y, box.width, box.height, 0, 0, width, height);
    if (!move) return;
    const source = target.getImageData(0, 0, width, height);
    const out = new ImageData(new Uint8ClampedArray(source.data), width, height);
    const { corner, across, side } = this.frame;
    const [sx, sy] = [box.width / width, box.height / height];
    const { way, shade } = move;
    for (let row = 0, k = 0; row < height; row++) {
      for (let column = 0; column < width; column++, k++) {
        const [x, y] = [box.x + (column + 0.5) * sx - corner.x, box.y + (row + 0.5) * sy - corner.y];
        const u = (x * across.x + y * across.y) / side;
        const v = (y * across.x - x * across.y) / side;
        if (!(u > 0 && u < 1 && v > 0 && v < 1)) continue;
        const a = side * read(way, GRID, GRID, 2, 0, u, v);
        const b = side * read(way, GRID, GRID, 2, 1, u, v);
        const fromX = (column + 0.5 + (across.x * a - across.y * b) / sx) / width;
        const fromY = (row + 0.5 + (across.y * a + across.x * b) / sy) / height;
        for (let c = 0; c < 3; c++) {
          const light = 1 + read(shade.values, shade.height, shade.width, 3, c, u, v);
          out.data[4 * k + c] = light * read(source.data, height, width, 4, c, fromX, fromY);
        }
      }
    }
    target.putImageData(out, 0, 0);
  }
}

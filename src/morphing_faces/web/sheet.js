/**
 * Faces drawn beforehand, so that the face moves under the hand before the model is there: a grid over the first two
 * dimensions of one random face, each from -reach to reach, the rows from the top of the square down.
 */

import * as noise from "./noise.js";
import { context } from "./picture.js";
import { SHEET_SIDE as SIDE } from "./rules.js";

/**
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {{latentSize: number, dimensions: readonly number[], imageShape: [number, number, number]}} Shape
 */

/**
 * How far the sheet of a face reaches: to the edge of the hover square, and to the face itself.
 * @param {Float32Array} z
 * @param {readonly number[]} dimensions
 */
export function reachOf(z, dimensions) {
  return Math.max(1, Math.abs(z[dimensions[0]]), Math.abs(z[dimensions[1]]));
}

export class Sheet {
  #canvas = document.createElement("canvas");

  /**
   * @param {CanvasImageSource} picture SIDE * SIDE faces
   * @param {number} seed whose first face it was drawn for
   * @param {Shape} shape
   */
  constructor(picture, seed, shape) {
    this.picture = picture;
    this.shape = shape;
    this.z = noise.normal(seed, 0, 1, shape.latentSize);
    this.reach = reachOf(this.z, shape.dimensions);
    const [height, width] = shape.imageShape;
    Object.assign(this.#canvas, { width, height });
  }

  /**
   * Whether a point lies on the sheet.
   * @param {Float32Array} z
   */
  holds(z) {
    const [x, y] = this.shape.dimensions;
    const within = (/** @type {number} */ value) => Math.abs(value) <= this.reach + 1e-6;
    return z.every((value, k) => (k === x || k === y ? within(value) : value === this.z[k]));
  }

  /**
   * The face at a point of the sheet, blended from the four around it.
   * @param {Float32Array} z
   * @returns {Pixels}
   */
  draw(z) {
    const [height, width] = this.shape.imageShape;
    const place = (/** @type {number} */ value) => Math.min(Math.max((value / this.reach + 1) / 2, 0), 1) * (SIDE - 1);
    const [x, y] = [place(z[this.shape.dimensions[0]]), SIDE - 1 - place(z[this.shape.dimensions[1]])];
    const [left, top] = [Math.min(Math.floor(x), SIDE - 2), Math.min(Math.floor(y), SIDE - 2)];
    const pen = context(this.#canvas, { willReadFrequently: true });
    pen.globalCompositeOperation = "copy";
    for (const [row, down] of [[top, 1 - (y - top)], [top + 1, y - top]]) {
      for (const [column, across] of [[left, 1 - (x - left)], [left + 1, x - left]]) {
        pen.globalAlpha = down * across;
        pen.drawImage(this.picture, column * width, row * height, width, height, 0, 0, width, height);
        pen.globalCompositeOperation = "lighter"; // the weights add up to 1
      }
    }
    const { data } = pen.getImageData(0, 0, width, height);
    for (let k = 3; k < data.length; k += 4) data[k] = 255;
    return /** @type {Pixels} */ (data);
  }
}

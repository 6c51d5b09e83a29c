/** A photograph into the frame: the square in which the model knows faces, set by the two eyes. */

import { context } from "./picture.js";
import { CUT_OUT, EYES_APART, EYES_MIDDLE, IN_FRAME } from "./rules.js";

/**
 * @typedef {{x: number, y: number}} Point in pixels of the photograph
 * @typedef {import("./picture.js").Pixels} Pixels
 * @typedef {import("./picture.js").Shape} Shape
 */

/** The middle between the eyes, in parts of the frame's side. */
const [ACROSS, DOWN] = EYES_MIDDLE;
/** The longest side of a photograph in memory: more shows nothing more in a frame of some hundred pixels. */
const LONGEST = 2048;
/** Pictures of up to this many pixels are decoded once more, whole, to see whether they are damaged; it takes memory. */
const CHECKED = 24e6;
/** The frame is cut at most this large before it is shrunk. */
const LARGEST_CUT = 2048;

/**
 * Read a photograph, upright as its EXIF orientation says, on white, and no larger than it needs to be.
 *
 * Rejects with an Error whose message is one line for people.
 * @param {Blob} file
 * @returns {Promise<HTMLCanvasElement>}
 */
export async function read(file) {
  const name = file instanceof File && file.name ? file.name : "This picture";
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    image.src = address;
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = () => reject(new Error(`${name} is not a picture that this browser can read: JPEG, PNG and WebP are.`));
    });
    const { naturalWidth: width, naturalHeight: height } = image;
    if (!width || !height) throw new Error(`${name} has no size of its own: save it as JPEG or PNG.`);
    const drawing = file.type.startsWith("image/svg"); // browsers make no bitmap of one, and an unsound one is not loaded
    const checked = drawing || width * height <= CHECKED;
    if (checked && !drawing && !(await whole(file))) throw new Error(damaged(name));
    const empty = `${name} is empty, all of it is transparent: take another picture.`;
    return upright(image, width, height, checked ? empty : damaged(name));
  } finally {
    URL.revokeObjectURL(address);
  }
}

/**
 * @param {HTMLImageElement} image
 * @param {number} width
 * @param {number} height
 * @param {string} blankness what to say where nothing of it can be seen
 */
function upright(image, width, height, blankness) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const target = context(canvas, { willReadFrequently: true });
  target.imageSmoothingQuality = "high";
  target.drawImage(image, 0, 0, canvas.width, canvas.height); // the browser decodes at about this size, not at its own
  if (blank(target)) throw new Error(blankness);
  target.globalCompositeOperation = "destination-over";
  target.fillStyle = "#fff";
  target.fillRect(0, 0, canvas.width, canvas.height);
  target.globalCompositeOperation = "source-over";
  return canvas;
}

/**
 * Whether all of a picture can be decoded: an image element shows what there is of a file that was cut short.
 * @param {Blob} file
 */
async function whole(file) {
  try {
    (await createImageBitmap(file)).close();
    return true;
  } catch {
    return false;
  }
}

/** @param {string} name */
function damaged(name) {
  return `${name} is damaged, not all of it can be decoded: take another copy, or save it as JPEG or PNG.`;
}

/** @param {CanvasRenderingContext2D} target */
function blank(target) {
  const { data } = target.getImageData(0, 0, target.canvas.width, target.canvas.height);
  for (let k = 3; k < data.length; k += 4) if (data[k]) return false;
  return true;
}

/**
 * Where the eyes may be: as in the frame where the picture is square and small, as cut-out faces are, else as in a portrait.
 * @param {number} width
 * @param {number} height
 * @returns {[Point, Point]}
 */
export function guess(width, height) {
  const cutOut = isCutOut(width, height);
  const apart = cutOut ? EYES_APART * width : 0.2 * Math.min(width, height);
  const y = (cutOut ? DOWN : 0.42) * height;
  return [{ x: width / 2 - apart / 2, y }, { x: width / 2 + apart / 2, y }];
}

/**
 * Whether a photograph is as small and square as faces are that somebody has cut out.
 * @param {number} width
 * @param {number} height
 */
export function isCutOut(width, height) {
  return width === height && width <= CUT_OUT;
}

/**
 * The eyes that were found, or where a square picture that is in the frame already has them, to use it as it is.
 * @param {[Point, Point]} eyes
 * @param {number} width
 * @param {number} height
 * @returns {[Point, Point]}
 */
export function settled(eyes, width, height) {
  const y = DOWN * height;
  const expected = [ACROSS - EYES_APART / 2, ACROSS + EYES_APART / 2].map((x) => ({ x: x * width, y }));
  const near = eyes.every((eye, k) => Math.max(Math.abs(eye.x - expected[k].x), Math.abs(eye.y - y)) < IN_FRAME * width);
  return width === height && near ? [expected[0], expected[1]] : [{ ...eyes[0] }, { ...eyes[1] }];
}

/**
 * The frame that two eyes set: its corner, its side, and the unit vector along its upper edge.
 * @param {Point} left the eye on the left of the picture
 * @param {Point} right
 * @returns {{corner: Point, side: number, across: Point}}
 */
export function frame(left, right) {
  const [dx, dy] = [right.x - left.x, right.y - left.y];
  const apart = Math.max(Math.hypot(dx, dy), 1);
  const across = { x: dx / apart, y: dy / apart };
  const side = apart / EYES_APART;
  const corner = {
    x: (left.x + right.x) / 2 - side * (ACROSS * across.x - DOWN * across.y),
    y: (left.y + right.y) / 2 - side * (ACROSS * across.y + DOWN * across.x),
  };
  return { corner, side, across };
}

/**
 * The frame cut out of a photograph, as large as the model's pictures. Outside of the photograph its edge goes on.
 * @param {HTMLCanvasElement} photograph
 * @param {Point} left
 * @param {Point} right
 * @param {Shape} shape
 * @returns {Pixels} RGBA, opaque
 */
export function cut(photograph, left, right, [height, width]) {
  const { corner, side, across } = frame(left, right);
  let halvings = 0;
  while (height * 2 ** halvings < side && height * 2 ** (halvings + 1) <= LARGEST_CUT) halvings++;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: width * 2 ** halvings, height: height * 2 ** halvings });
  const target = context(canvas, { willReadFrequently: true });
  target.imageSmoothingQuality = "high";
  const [sx, sy] = [canvas.width / side, canvas.height / side];
  const [a, b, c, d] = [across.x * sx, -across.y * sy, across.y * sx, across.x * sy];
  target.setTransform(a, b, c, d, -(a * corner.x + c * corner.y), -(b * corner.x + d * corner.y));
  drawWithEdges(target, photograph, side);
  let pixels = target.getImageData(0, 0, canvas.width, canvas.height).data;
  for (let k = halvings; k > 0; k--) pixels = halve(pixels, width * 2 ** k, height * 2 ** k);
  return new Uint8ClampedArray(pixels);
}

/**
 * The photograph, its edges drawn out on all sides.
 * @param {CanvasRenderingContext2D} target
 * @param {HTMLCanvasElement} photograph
 * @param {number} side of the frame: nothing further out is seen
 */
function drawWithEdges(target, photograph, side) {
  const { width, height } = photograph;
  const far = 4 * side + width + height;
  const spans = (/** @type {number} */ size) => [
    { from: 0, of: 1, at: -far, length: far + 0.5 },
    { from: size - 1, of: 1, at: size - 0.5, length: far },
    { from: 0, of: size, at: 0, length: size },
  ];
  for (const y of spans(height)) {
    for (const x of spans(width)) {
      target.drawImage(photograph, x.from, y.from, x.of, y.of, x.at, y.at, x.length, y.length);
    }
  }
}

/**
 * Shrink to half: every pixel the average of four, so that no detail aliases.
 * @param {Uint8ClampedArray} pixels RGBA
 * @param {number} width even
 * @param {number} height even
 */
function halve(pixels, width, height) {
  const out = new Uint8ClampedArray(pixels.length / 4);
  const [row, half] = [4 * width, width / 2];
  for (let y = 0; y < height / 2; y++) {
    for (let x = 0; x < half; x++) {
      const from = 2 * y * row + 8 * x;
      const to = 4 * (y * half + x);
      for (let c = from; c < from + 4; c++) {
        out[to + c - from] = (pixels[c] + pixels[c + 4] + pixels[c + row] + pixels[c + row + 4]) / 4;
      }
    }
  }
  return out;
}

/** Where the faces of a photograph are, and their eyes: the twin of faces.py, on the same network. */

import { context } from "./picture.js";
import {
  EYES_APART,
  FINDER_CENTRE,
  FINDER_CROP,
  FINDER_FAINT,
  FINDER_FIRST,
  FINDER_LAST,
  FINDER_LEAST,
  FINDER_MOST,
  FINDER_PROBABLE,
  FINDER_SECOND,
  FINDER_STRIDE,
  FINDER_SURE,
  FINDER_THIRD,
} from "./rules.js";

/**
 * @typedef {import("./photo.js").Point} Point
 * @typedef {{eyes: [Point, Point], score: number, side: number}} Face the eye on the picture's left first; `side` is
 *   that of the frame in pixels
 * @typedef {{x0: number, y0: number, x1: number, y1: number, score: number}} Row eyes in pixels of the photograph
 * @typedef {(pictures: Float32Array<ArrayBuffer>, shape: [number, number, number, number]) =>
 *   Promise<import("./worker.js").Found>} Network
 */

/**
 * The faces of an upright photograph, the largest first.
 * @param {HTMLCanvasElement} photograph
 * @param {Network} network
 * @returns {Promise<Face[]>}
 */
export async function findFaces(photograph, network) {
  const longest = Math.max(photograph.width, photograph.height);
  for (let most = FINDER_FIRST; ; most *= 2) {
    const candidates = await pyramid(photograph, Math.min(1, most / longest), network);
    const found = await sure(photograph, candidates, network);
    if (found.length || most >= Math.min(longest, FINDER_LAST)) {
      return found.sort((a, b) => apart(b) - apart(a)).map(({ x0, y0, x1, y1, score }) => {
        return { eyes: [{ x: x0, y: y0 }, { x: x1, y: y1 }], score, side: Math.hypot(x1 - x0, y1 - y0) / EYES_APART };
      });
    }
  }
}

/**
 * Places worth a second look, best first.
 * @param {HTMLCanvasElement} photograph
 * @param {number} scale
 * @param {Network} network
 */
async function pyramid(photograph, scale, network) {
  /** @type {Row[]} */
  const rows = [];
  /** @type {HTMLCanvasElement} */
  let picture = photograph;
  for (; ; scale /= 2) {
    const [width, height] = [photograph.width, photograph.height].map((n) => Math.max(1, Math.round(n * scale)));
    picture = resized(picture, width, height);
    const across = Math.ceil(width / FINDER_STRIDE) * FINDER_STRIDE;
    const down = Math.ceil(height / FINDER_STRIDE) * FINDER_STRIDE;
    const { data } = context(picture).getImageData(0, 0, width, height);
    const values = new Float32Array(down * across * 3);
    for (let y = 0, to = 0; y < down; y++) {
      for (let x = 0; x < across; x++) {
        const from = 4 * (Math.min(y, height - 1) * width + Math.min(x, width - 1)); // the edge goes on
        for (let c = 0; c < 3; c++) values[to++] = data[from + c] / 255;
      }
    }
    const { scores, eyes } = await network(values, [1, down, across, 3]);
    const columns = across / FINDER_STRIDE;
    const [sx, sy] = [photograph.width / width, photograph.height / height];
    for (let k = 0; k < scores.length; k++) {
      if (scores[k] <= FINDER_PROBABLE) continue;
      const [x, y] = [((k % columns) + 0.5) * FINDER_STRIDE, (Math.floor(k / columns) + 0.5) * FINDER_STRIDE];
      const [x0, y0, x1, y1] = eyes.subarray(4 * k, 4 * k + 4);
      rows.push({ x0: (x + x0) * sx, y0: (y + y0) * sy, x1: (x + x1) * sx, y1: (y + y1) * sy, score: scores[k] });
    }
    if (Math.max(width, height) < 2 * FINDER_LEAST) break;
  }
  rows.sort((a, b) => b.score - a.score);
  /** @type {Row[]} */
  const kept = [];
  for (const row of rows) if (apart(row) > 0 && !kept.some((other) => same(row, other))) kept.push(row);
  return kept.slice(0, FINDER_MOST);
}

/**
 * Look again at each candidate, turned upright and at the trained size; keeps those that are faces still.
 * @param {HTMLCanvasElement} photograph
 * @param {Row[]} candidates
 * @param {Network} network
 */
async function sure(photograph, candidates, network) {
  /** @type {Row[]} */
  const kept = [];
  for (const candidate of candidates) {
    if (kept.some((other) => same(candidate, other))) continue;
    const row = await look(photograph, await look(photograph, candidate, network, FINDER_SECOND), network, FINDER_THIRD);
    if (row.score >= FINDER_SURE && !kept.some((other) => same(row, other))) kept.push(row);
  }
  return kept;
}

/**
 * The eyes and the score as seen in crops that they set, and in their mirror images: the mean.
 * @param {HTMLCanvasElement} photograph
 * @param {Row} row
 * @param {Network} network
 * @param {readonly number[]} sizes the eyes' distances in the crops, in pixels
 * @returns {Promise<Row>}
 */
async function look(photograph, row, network, sizes) {
  const { x0, y0, x1, y1 } = row;
  const distance = apart(row);
  if (row.score < FINDER_PROBABLE) return row;
  const [c, s] = [(x1 - x0) / distance, (y1 - y0) / distance];
  const half = FINDER_CROP / 2;
  const maps = sizes.map((size) => {
    const scale = distance / size;
    const [a, b, d, e] = [c * scale, -s * scale, s * scale, c * scale];
    const left = (x0 + x1) / 2 - FINDER_CENTRE * (y1 - y0) - half * (a + b);
    const top = (y0 + y1) / 2 + FINDER_CENTRE * (x1 - x0) - half * (d + e);
    return { map: [a, b, left, d, e, top], scale };
  });
  const crops = maps.map(({ map, scale }) => crop(photograph, map, scale));
  const values = new Float32Array(crops.length * crops[0].length);
  crops.forEach((each, k) => values.set(each, k * each.length));
  const { scores, eyes } = await network(values, [2 * sizes.length, FINDER_CROP, FINDER_CROP, 3]);
  const columns = FINDER_CROP / FINDER_STRIDE;
  const cells = columns * columns;
  const best = Array.from({ length: 2 * sizes.length }, (_, n) =>
    scores.subarray(n * cells, (n + 1) * cells).reduce((most, value) => Math.max(most, value), 0),
  );
  /** @type {number[][]} */
  const found = [];
  sizes.forEach((size, n) => {
    const sum = [0, 0, 0, 0, 0];
    for (let k = 2 * n * cells; k < 2 * (n + 1) * cells; k++) {
      const picture = Math.floor(k / cells);
      if (scores[k] <= Math.max(0.5 * best[picture], FINDER_FAINT)) continue;
      const [x, y] = [((k % columns) + 0.5) * FINDER_STRIDE, (Math.floor((k % cells) / columns) + 0.5) * FINDER_STRIDE];
      let [u0, v0, u1, v1] = eyes.subarray(4 * k, 4 * k + 4);
      [u0, v0, u1, v1] = [u0 + x, v0 + y, u1 + x, v1 + y];
      if (picture % 2) [u0, v0, u1, v1] = [FINDER_CROP - u1, v1, FINDER_CROP - u0, v0]; // seen in the mirror
      if (Math.hypot((u0 + u1) / 2 - half, (v0 + v1) / 2 + FINDER_CENTRE * size - half) >= size / 2) continue;
      [u0, v0, u1, v1, 1].forEach((value, at) => (sum[at] += scores[k] * value));
    }
    if (!sum[4]) return;
    const [u0, v0, u1, v1] = sum.map((value) => value / sum[4]);
    const [a, b, left, d, e, top] = maps[n].map;
    found.push([left + a * u0 + b * v0, top + d * u0 + e * v0, left + a * u1 + b * v1, top + d * u1 + e * v1]);
  });
  if (!found.length) return { ...row, score: 0 };
  const mean = (/** @type {number} */ at) => found.reduce((sum, each) => sum + each[at], 0) / found.length;
  return { x0: mean(0), y0: mean(1), x1: mean(2), y1: mean(3), score: best.reduce((sum, b) => sum + b, 0) / best.length };
}

/**
 * The square that an affine map cuts out of a photograph, and its mirror image; black outside of the photograph.
 * @param {HTMLCanvasElement} photograph
 * @param {readonly number[]} map crop to photograph
 * @param {number} scale pixels of the photograph in one of the crop
 */
function crop(photograph, [a, b, left, d, e, top], scale) {
  const grown = 2 ** Math.max(0, Math.floor(Math.log2(scale))); // cut larger, then halved, so that no detail aliases
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = FINDER_CROP * Math.min(grown, 16);
  const target = context(canvas, { willReadFrequently: true });
  target.fillRect(0, 0, canvas.width, canvas.height);
  target.imageSmoothingQuality = "high";
  const zoom = canvas.width / FINDER_CROP / scale ** 2; // the inverse of a turn and a scale is the turn back over its square
  target.setTransform(a * zoom, b * zoom, d * zoom, e * zoom, -zoom * (a * left + d * top), -zoom * (b * left + e * top));
  target.drawImage(photograph, 0, 0);
  const { data } = context(resized(canvas, FINDER_CROP, FINDER_CROP)).getImageData(0, 0, FINDER_CROP, FINDER_CROP);
  const values = new Float32Array(2 * FINDER_CROP * FINDER_CROP * 3);
  for (let k = 0; k < FINDER_CROP * FINDER_CROP; k++) {
    const mirrored = FINDER_CROP * FINDER_CROP + k - (k % FINDER_CROP) + (FINDER_CROP - 1 - (k % FINDER_CROP));
    for (let c = 0; c < 3; c++) values[3 * k + c] = values[3 * mirrored + c] = data[4 * k + c] / 255;
  }
  return values;
}

/**
 * A smaller copy, halved step by step, so that no detail aliases.
 * @param {HTMLCanvasElement} picture
 * @param {number} width
 * @param {number} height
 */
function resized(picture, width, height) {
  let from = picture;
  while (from.width > width || from === picture) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(width, Math.ceil(from.width / 2));
    canvas.height = Math.max(height, Math.ceil(from.height / 2));
    if (from.width < 2 * width) [canvas.width, canvas.height] = [width, height];
    const target = context(canvas, { willReadFrequently: true });
    target.imageSmoothingQuality = "high";
    target.drawImage(from, 0, 0, canvas.width, canvas.height);
    from = canvas;
    if (canvas.width === width) break;
  }
  return from;
}

/** @param {Row} row */
function apart({ x0, y0, x1, y1 }) {
  return Math.hypot(x1 - x0, y1 - y0);
}

/**
 * Whether two rows are one face: their middles are nearer than most of an eye distance.
 * @param {Row} row
 * @param {Row} other
 */
function same(row, other) {
  const far = Math.hypot(row.x0 + row.x1 - other.x0 - other.x1, row.y0 + row.y1 - other.y0 - other.y1) / 2;
  return far < 0.8 * Math.max(apart(row), apart(other));
}

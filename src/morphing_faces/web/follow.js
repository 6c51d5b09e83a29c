/**
 * How a photograph follows a model's face: where its pixels go, and how much lighter or darker they become. The twin of
 * follow.py, in which the formulas are; positions in the frame are in parts of its side.
 */

import { at, inverse } from "./warp.js";

/**
 * A face in parts: its appearance in the mean frame, height * width * channels in [0, 1], and the field that leads there,
 * n * n * 2 in pixels of a picture `width` wide.
 * @typedef {{appearance: Float32Array, field: Float32Array, n: number, height: number, width: number, channels: number}} Parts
 */

/** Cells a side in which the displacement is computed. */
export const GRID = 32;
const HALVED = 96;
const FADE = 1 / 8;
const FLOOR = 0.08;
const DARKEST = 0.4;
const LIGHTEST = 2.5;

/**
 * Where in the old face the pixels of the new one come from, as the way there. Equal fields give exactly 0.
 * @param {Parts} old
 * @param {Parts} now
 * @returns {Float32Array<ArrayBuffer>} GRID * GRID * 2
 */
export function displacement(old, now) {
  const way = new Float32Array(GRID * GRID * 2);
  const [ease, scale] = [fade(GRID), 1 / now.width];
  for (let row = 0, k = 0; row < GRID; row++) {
    for (let column = 0; column < GRID; column++, k++) {
      const [x, y] = [column, row].map((cell) => ((cell + 0.5) * now.width) / GRID - 0.5);
      const there = at(now.field, 0, now.n, now.width, x, y);
      const [u, v] = inverse(old.field, 0, old.n, now.width, [x, y], [there.x, there.y]);
      way[2 * k] = u * scale * ease[k];
      way[2 * k + 1] = v * scale * ease[k];
    }
  }
  return way;
}

/**
 * How much lighter each place becomes: the quotient of two appearances less 1. Equal appearances give exactly 0.
 * @param {Parts} old
 * @param {Parts} now
 * @returns {{values: Float32Array<ArrayBuffer>, width: number, height: number}} height * width * 3
 */
export function shading(old, now) {
  const [before, after] = [softened(old), softened(now)];
  const { height, width, values } = after;
  const { channels, n } = now;
  const quotient = new Float32Array(values.length);
  for (let k = 0; k < quotient.length; k++) {
    quotient[k] = Math.min(Math.max((values[k] + FLOOR) / (before.values[k] + FLOOR), DARKEST), LIGHTEST) - 1;
  }
  const [out, ease] = [new Float32Array(height * width * 3), fade(height)];
  for (let row = 0, k = 0; row < height; row++) {
    for (let column = 0; column < width; column++, k++) {
      if (!ease[k]) continue;
      const [x, y] = [(column + 0.5) / width, (row + 0.5) / height];
      const u = x + read(now.field, n, n, 2, 0, x, y) / now.width;
      const v = y + read(now.field, n, n, 2, 1, x, y) / now.width;
      for (let c = 0; c < 3; c++) {
        out[3 * k + c] = ease[k] * read(quotient, height, width, channels, channels === 3 ? c : 0, u, v);
      }
    }
  }
  return { values: out, width, height };
}

/**
 * A face at a part of the way from one to another.
 * @param {Parts} old
 * @param {Parts} now
 * @param {number} part
 * @returns {Parts}
 */
export function between(old, now, part) {
  const [field, appearance] = /** @type {const} */ (["field", "appearance"]).map((key) =>
    now[key].map((value, k) => old[key][k] + part * (value - old[key][k])),
  );
  return { ...now, field, appearance };
}

/** @type {WeakMap<Parts, {values: Float32Array, width: number, height: number}>} */
const known = new WeakMap();

/**
 * An appearance halved, unless it is small, and smoothed.
 * @param {Parts} parts
 */
function softened(parts) {
  let found = known.get(parts);
  if (!found) {
    const { appearance, height, width, channels } = parts;
    const half = height >= HALVED && height % 2 === 0 && width % 2 === 0 ? 2 : 1;
    const [h, w] = [height / half, width / half];
    const values = half === 2 ? halved(appearance, h, w, channels) : appearance;
    found = { values: smooth(values, h, w, channels), width: w, height: h };
    known.set(parts, found);
  }
  return found;
}

/**
 * @param {Float32Array} x
 * @param {number} height of what comes out
 * @param {number} width
 * @param {number} channels
 */
function halved(x, height, width, channels) {
  const out = new Float32Array(height * width * channels);
  const line = 2 * width * channels;
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const from = 2 * row * line + 2 * column * channels;
      for (let k = from; k < from + channels; k++) out[to++] = (x[k] + x[k + channels] + x[k + line] + x[k + line + channels]) / 4;
    }
  }
  return out;
}

/**
 * 1 in the middle of the frame, 0 at its edge, smooth between.
 * @param {number} size
 */
export function fade(size) {
  const eased = Array.from({ length: size }, (_, k) => {
    const middle = (k + 0.5) / size;
    const near = Math.min(Math.min(middle, 1 - middle) / FADE, 1);
    return near * near * (3 - 2 * near);
  });
  return Float32Array.from({ length: size * size }, (_, k) => Math.min(eased[Math.floor(k / size)], eased[k % size]));
}

/**
 * Averaged over about a pixel each way, with the weights 1 2 1; the edge goes on.
 * @param {Float32Array} x height * width * channels
 * @param {number} height
 * @param {number} width
 * @param {number} channels
 */
function smooth(x, height, width, channels) {
  const [down, across] = [new Float32Array(x.length), new Float32Array(x.length)];
  const line = width * channels;
  for (let row = 0, k = 0; row < height; row++) {
    const [before, after] = [row ? line : 0, row < height - 1 ? line : 0];
    for (const end = k + line; k < end; k++) down[k] = (x[k - before] + 2 * x[k] + x[k + after]) / 4;
  }
  for (let row = 0, k = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [before, after] = [column ? channels : 0, column < width - 1 ? channels : 0];
      for (const end = k + channels; k < end; k++) across[k] = (down[k - before] + 2 * down[k] + down[k + after]) / 4;
    }
  }
  return across;
}

/**
 * One channel of a grid of values at its cells' middles, read at a place in parts of its sides; the edge goes on.
 * @param {ArrayLike<number>} grid height * width * channels, two cells each way or more
 * @param {number} height
 * @param {number} width
 * @param {number} channels
 * @param {number} channel
 * @param {number} across
 * @param {number} down
 */
export function read(grid, height, width, channels, channel, across, down) {
  const x = Math.min(Math.max(across * width - 0.5, 0), width - 1);
  const y = Math.min(Math.max(down * height - 0.5, 0), height - 1);
  const [x0, y0] = [Math.min(Math.floor(x), width - 2), Math.min(Math.floor(y), height - 2)];
  const [right, below] = [x - x0, y - y0];
  const k = (y0 * width + x0) * channels + channel;
  const upper = grid[k] * (1 - right) + grid[k + channels] * right;
  const next = k + width * channels;
  return upper * (1 - below) + (grid[next] * (1 - right) + grid[next + channels] * right) * below;
}

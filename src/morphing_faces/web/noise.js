/**
 * Seeded noise that is the same in Python and in the page: the twin of noise.py.
 *
 * Philox4x32-10 (Salmon et al. 2011), a counter-based generator: number k of a seed is a function of k, so nothing has
 * to be drawn before it. Box and Muller's transform makes the normals.
 */

import { FACES, SEED_LIMIT, WALK, say } from "./rules.js";

/**
 * The high 32 bits of the product of two 32-bit numbers.
 * @param {number} a
 * @param {number} b
 */
function multiplyHigh(a, b) {
  const [aHigh, aLow, bHigh, bLow] = [a >>> 16, a & 0xffff, b >>> 16, b & 0xffff];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16); // below 2^33, exact
  const carry = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/**
 * Ten rounds of Philox4x32 on a counter of four 32-bit words, with the key (low, high).
 * @param {number} a
 * @param {number} b
 * @param {number} c
 * @param {number} d
 * @param {number} low
 * @param {number} [high]
 * @returns {[number, number, number, number]} four unsigned 32-bit words
 */
export function philox(a, b, c, d, low, high = 0) {
  for (let round = 0; round < 10; round++) {
    const [left, right] = [Math.imul(a, 0xd2511f53), Math.imul(c, 0xcd9e8d57)];
    const [leftHigh, rightHigh] = [multiplyHigh(a, 0xd2511f53), multiplyHigh(c, 0xcd9e8d57)];
    [a, b, c, d] = [(rightHigh ^ b ^ low) >>> 0, right >>> 0, (leftHigh ^ d ^ high) >>> 0, left >>> 0];
    [low, high] = [(low + 0x9e3779b9) >>> 0, (high + 0xbb67ae85) >>> 0];
  }
  return [a, b, c, d];
}

/**
 * A seed is a whole number from 0 to 2^32 - 1; anything else is a RangeError.
 * @param {number} seed
 * @returns {number}
 */
export function checkSeed(seed) {
  if (!Number.isInteger(seed) || seed < 0 || seed > SEED_LIMIT) {
    throw new RangeError(say("seed", { seed, last: SEED_LIMIT }));
  }
  return seed;
}

/**
 * Rows `first` to `first + rows - 1` of the seed's endless table of N(0, 1) numbers.
 *
 * A row does not depend on how many are asked for: row 3 of ten is row 3 of a hundred.
 * @param {number} seed
 * @param {number} first
 * @param {number} rows
 * @param {number} columns
 * @param {number} [stream]
 * @returns {Float32Array<ArrayBuffer>} rows * columns values, row by row
 */
export function normal(seed, first, rows, columns, stream = FACES) {
  checkSeed(seed);
  const table = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; 4 * block < columns; block++) {
      const words = philox(block, (first + row) >>> 0, stream, 0, seed);
      const uniform = words.map((word) => (word + 0.5) / 2 ** 32); // inside (0, 1)
      for (let k = 0; k < 4 && 4 * block + k < columns; k++) {
        const pair = k & 2;
        const radius = Math.sqrt(-2 * Math.log(uniform[pair]));
        const angle = 2 * Math.PI * uniform[pair + 1];
        table[row * columns + 4 * block + k] = radius * (k & 1 ? Math.sin(angle) : Math.cos(angle));
      }
    }
  }
  return table;
}

/**
 * Number `index` of the seed's endless row of whole numbers from 0 to `below - 1`.
 * @param {number} seed
 * @param {number} index
 * @param {number} below
 * @param {number} [stream]
 * @returns {number}
 */
export function whole(seed, index, below, stream = WALK) {
  const [word] = philox(0, index >>> 0, stream, 1, checkSeed(seed));
  return Number((BigInt(word) * BigInt(below)) >> 32n);
}

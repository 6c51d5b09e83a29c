/** Fields: where a picture finds its colours in the mean frame. The twin of warp.py, in which their meaning is. */

/** @typedef {[number, number]} Pair x and y, in pixels */

/** Steps of Newton's method at most, by which a field is inverted. */
const STEPS = 10;
/** Pixels: after a step as short as this the next one would be far shorter still. */
const DONE = 0.01;
/** A place that is squeezed further than to this part of its area takes fixed-point steps instead. */
const SAFE = 0.1;

/**
 * A field at a place, bilinear, and how it changes there a pixel to the right and down, each x first.
 * @param {Float32Array} fields
 * @param {number} from where the field begins, of `cells` * `cells` * 2
 * @param {number} cells
 * @param {number} side
 * @param {number} x
 * @param {number} y
 */
export function at(fields, from, cells, side, x, y) {
  const scale = cells / side;
  const [wantedX, wantedY] = [(x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5];
  const across = Math.min(Math.max(wantedX, 0), cells - 1);
  const down = Math.min(Math.max(wantedY, 0), cells - 1);
  const [left, top] = [Math.min(Math.floor(across), cells - 2), Math.min(Math.floor(down), cells - 2)];
  const [u, v] = [across - left, down - top];
  const k = from + 2 * (top * cells + left);
  const line = k + 2 * cells;
  const [insideX, insideY] = [wantedX === across ? scale : 0, wantedY === down ? scale : 0];
  const [eastX, eastY] = [fields[k + 2] - fields[k], fields[k + 3] - fields[k + 1]];
  const [lowerEastX, lowerEastY] = [fields[line + 2] - fields[line], fields[line + 3] - fields[line + 1]];
  const [upperX, upperY] = [fields[k] + eastX * u, fields[k + 1] + eastY * u];
  const [southX, southY] = [fields[line] + lowerEastX * u - upperX, fields[line + 1] + lowerEastY * u - upperY];
  return {
    x: upperX + southX * v,
    y: upperY + southY * v,
    right: [(eastX + (lowerEastX - eastX) * v) * insideX, (eastY + (lowerEastY - eastY) * v) * insideX],
    below: [southX * insideY, southY * insideY],
  };
}

/**
 * The way d from a place p with d + field(p + d) = wanted, in pixels, by Newton's method.
 * @param {Float32Array} fields
 * @param {number} from where the field begins, of `cells` * `cells` * 2
 * @param {number} cells
 * @param {number} side
 * @param {Pair} place
 * @param {Pair} [wanted]
 * @param {Pair} [begin] a way to begin at
 * @param {number} [steps] at most
 * @returns {Pair}
 */
export function inverse(fields, from, cells, side, [px, py], wanted = [0, 0], begin = [0, 0], steps = STEPS) {
  let [x, y] = begin;
  const longest = side / cells;
  const short = (/** @type {number} */ value) => Math.min(Math.max(value, -longest), longest);
  for (let step = 0; step < steps; step++) {
    const there = at(fields, from, cells, side, px + x, py + y);
    const [missingX, missingY] = [wanted[0] - x - there.x, wanted[1] - y - there.y];
    const [a, b] = [1 + there.right[0], there.below[0]];
    const [c, d] = [there.right[1], 1 + there.below[1]];
    const determinant = a * d - b * c;
    const safe = determinant > SAFE;
    const wayX = short(safe ? (d * missingX - b * missingY) / determinant : missingX);
    const wayY = short(safe ? (a * missingY - c * missingX) / determinant : missingY);
    [x, y] = [x + wayX, y + wayY];
    if (Math.max(Math.abs(wayX), Math.abs(wayY)) < DONE) break;
  }
  return [x, y];
}

/**
 * The least part of its area to which a field squeezes the picture, its edge left out; at most 0 where it folds.
 * @param {Float32Array} fields
 * @param {number} from where the field begins, of `cells` * `cells` * 2
 * @param {number} cells
 * @param {number} side
 */
export function squeeze(fields, from, cells, side) {
  const step = side / cells;
  let least = Infinity;
  for (let row = 1; row < cells - 2; row++) {
    for (let column = 1; column < cells - 2; column++) {
      const k = from + 2 * (row * cells + column);
      const [right, below] = [k + 2, k + 2 * cells];
      const [xx, yx] = [(fields[right] - fields[k]) / step, (fields[right + 1] - fields[k + 1]) / step];
      const [xy, yy] = [(fields[below] - fields[k]) / step, (fields[below + 1] - fields[k + 1]) / step];
      least = Math.min(least, (1 + xx) * (1 + yy) - yx * xy);
    }
  }
  return least;
}

/** Where faces lie on the map: pure arithmetic. */

/**
 * A plane through latent space: two directions of length 1, at right angles.
 * @typedef {[Float64Array, Float64Array]} Plane
 */

/** Rounds of the power iteration; the two largest of a few hundred pictures are apart enough for that. */
const ROUNDS = 60;

/**
 * The plane of two coordinates.
 * @param {number} size of the latent space
 * @param {readonly [number, number]} latents
 * @returns {Plane}
 */
export function planeOfAxes(size, latents) {
  const unit = (/** @type {number} */ latent) => Float64Array.from({ length: size }, (_, k) => (k === latent ? 1 : 0));
  return [unit(latents[0]), unit(latents[1])];
}

/**
 * The plane in which faces differ most: the first two principal components of their pictures, each turned into the direction
 * in latent space that goes along with it, which is Cov(z, component), for z ~ N(0, I).
 * @param {Float32Array[]} faces latents
 * @param {Float64Array[]} looks what is compared of each picture
 * @returns {Plane}
 */
export function planeOfLooks(faces, looks) {
  const count = looks[0].length;
  const mean = new Float64Array(count);
  for (const look of looks) look.forEach((value, k) => (mean[k] += value / looks.length));
  const centred = looks.map((look) => look.map((value, k) => value - mean[k]));
  /** @type {Float64Array[]} */
  const components = [];
  for (let number = 0; number < 2; number++) {
    let component = unit(Float64Array.from({ length: count }, (_, k) => Math.sin(k + 1 + number)));
    for (let round = 0; round < ROUNDS; round++) {
      const next = new Float64Array(count);
      for (const look of centred) {
        const along = dot(look, component);
        for (let k = 0; k < count; k++) next[k] += along * look[k];
      }
      component = unit(without(next, components));
    }
    components.push(component);
  }
  /** @type {Float64Array[]} */
  const plane = [];
  for (const component of components) {
    const direction = new Float64Array(faces[0].length);
    faces.forEach((z, face) => {
      const along = dot(centred[face], component);
      for (let k = 0; k < z.length; k++) direction[k] += along * z[k];
    });
    plane.push(unit(without(direction, plane)));
  }
  return [plane[0], plane[1]];
}

/**
 * Where a face lies, from (0, 0), bottom left, to (1, 1): its coordinates in the plane as parts of all faces that have less.
 * @param {ArrayLike<number>} z
 * @param {Plane} plane
 * @returns {[number, number]}
 */
export function placeOf(z, plane) {
  return [below(dot(z, plane[0])), below(dot(z, plane[1]))];
}

/**
 * The face at a place that differs from another in the plane alone.
 * @param {ArrayLike<number>} z
 * @param {Plane} plane
 * @param {readonly [number, number]} place each from 0 to 1
 * @returns {Float32Array<ArrayBuffer>}
 */
export function movedTo(z, plane, place) {
  const steps = plane.map((direction, k) => coordinateOf(place[k]) - dot(z, direction));
  return Float32Array.from(z, (value, k) => value + steps[0] * plane[0][k] + steps[1] * plane[1][k]);
}

/**
 * The face a step further along one direction of the plane; null at the map's edge, and beyond it where the step leads away.
 * @param {ArrayLike<number>} z
 * @param {Plane} plane
 * @param {readonly number[]} step one of them 1 or -1, the other 0
 * @param {number} length in parts of the map's side
 */
export function stepped(z, plane, step, length) {
  const axis = step[0] ? 0 : 1;
  const there = coordinateOf(Math.min(Math.max(placeOf(z, plane)[axis] + step[axis] * length, 0), 1));
  const way = there - dot(z, plane[axis]);
  return Math.sign(way) === step[axis] ? Float32Array.from(z, (value, k) => value + way * plane[axis][k]) : null;
}

/**
 * A cell of a grid for each face, so that those to the right have more of the first coordinate, those above more of the second.
 * @param {Float32Array[]} faces side * side latents
 * @param {Plane} plane
 * @param {number} side of the grid
 * @returns {number[]} which face is in each cell, row by row from the top left
 */
export function arranged(faces, plane, side) {
  const places = faces.map((z, face) => ({ face, x: dot(z, plane[0]), y: dot(z, plane[1]) })).sort((a, b) => a.x - b.x);
  const cells = new Array(side * side);
  for (let column = 0; column < side; column++) {
    const down = places.slice(column * side, (column + 1) * side).sort((a, b) => b.y - a.y);
    down.forEach(({ face }, row) => (cells[row * side + column] = face));
  }
  return cells;
}

/** The part of a standard normal distribution below a value (Abramowitz and Stegun 26.2.17, to 7.5e-8). @param {number} value */
export function below(value) {
  const t = 1 / (1 + 0.2316419 * Math.abs(value));
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const tail = (Math.exp((-value * value) / 2) / Math.sqrt(2 * Math.PI)) * series;
  return value < 0 ? tail : 1 - tail;
}

/** The value that a part of a standard normal distribution is below, from -2.6 to 2.6: beyond lie no typical faces. @param {number} part */
export function coordinateOf(part) {
  let [low, high] = [-2.6, 2.6];
  for (let round = 0; round < 40; round++) {
    const middle = (low + high) / 2;
    if (below(middle) < part) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
function dot(a, b) {
  let total = 0;
  for (let k = 0; k < a.length; k++) total += a[k] * b[k];
  return total;
}

/** @param {Float64Array} vector */
function unit(vector) {
  const length = Math.sqrt(dot(vector, vector)) || 1;
  return vector.map((value) => value / length);
}

/**
 * What is left of a vector at right angles to others.
 * @param {Float64Array} vector
 * @param {Float64Array[]} others of length 1
 */
function without(vector, others) {
  for (const other of others) {
    const along = dot(vector, other);
    vector = vector.map((value, k) => value - along * other[k]);
  }
  return vector;
}

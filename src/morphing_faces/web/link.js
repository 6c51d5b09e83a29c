/**
 * A face as the fragment of a link: `#bundle=classic&seed=9&face=3&changed=...&axes=0,1`.
 *
 * Most faces are one of a seed's with a few coordinates moved, so a link names the seed, which of its faces, and the
 * moved coordinates, bit for bit; only a face that is far from its seed's carries all of them. Left out is what is usual:
 * face 0, axes 0 and 1, range 1, not frozen.
 */

import * as noise from "./noise.js";
import { RANGE_LIMITS } from "./session.js";

/** How many of the seed's newest faces are tried as the one that the person set out from. */
const FACES_TRIED = 64;
/** Faces of seeds that were compared with: while the hand moves it is done in every frame. @type {Map<string, Float32Array>} */
const faces = new Map();
/** Bytes of a moved coordinate: its latent index as uint16, its value as float32, little-endian. */
const RECORD = 6;

/**
 * @typedef {{name: string, latentSize: number, dimensions: readonly number[]}} Shape
 * @typedef {{seed: number, facesDrawn: number, z: Float32Array, axes: readonly [number, number], range: number,
 *   frozen: boolean}} Shown
 * @typedef {{seed: number, face: number, z: Float32Array<ArrayBuffer>, axes: [number, number], range: number,
 *   frozen: boolean}} Linked
 */

/**
 * @param {Shown} shown a session
 * @param {Shape} model
 * @returns {string} without the `#`
 */
export function write(shown, model) {
  const { face, changed } = nearest(shown, model);
  const parts = [`bundle=${encodeURIComponent(model.name)}`, `seed=${shown.seed}`];
  if (face) parts.push(`face=${face}`);
  if (changed.length * RECORD >= model.latentSize * 4) parts.push(`z=${toText(floats(shown.z))}`);
  else if (changed.length) parts.push(`changed=${toText(records(changed, shown.z))}`);
  if (shown.axes[0] !== 0 || shown.axes[1] !== 1) parts.push(`axes=${shown.axes.join(",")}`);
  if (shown.range !== 1) parts.push(`range=${shown.range}`);
  if (shown.frozen) parts.push("frozen=1");
  return parts.join("&");
}

/**
 * Whether a fragment is a link to a face at all; `#face`, say, is only a place on the page.
 * @param {unknown} fragment
 * @returns {fragment is string}
 */
export function isLink(fragment) {
  return typeof fragment === "string" && ["bundle", "seed"].some((key) => fields(fragment).has(key));
}

/**
 * The bundle that a link names, or `null` where it names none.
 * @param {string} fragment with or without the `#`
 */
export function bundleOf(fragment) {
  return fields(fragment).get("bundle");
}

/**
 * The seed that a link names, or `null`. Throws a RangeError with one line when it is not one.
 * @param {string} fragment
 */
export function seedOf(fragment) {
  const text = fields(fragment).get("seed");
  return text === null ? null : noise.checkSeed(whole(text, "seed", 2 ** 32 - 1));
}

/**
 * What a link shows, every field checked. Throws a RangeError with one line that names the field and what is allowed.
 * @param {string} fragment with or without the `#`
 * @param {Shape} model
 * @param {number} [seed] when the link names none
 * @returns {Linked}
 */
export function read(fragment, model, seed = 0) {
  const given = fields(fragment);
  const bundle = given.get("bundle") ?? model.name;
  if (bundle !== model.name) throw new RangeError(`the link is for the model ${bundle}, this is ${model.name}`);
  const text = (/** @type {string} */ key, /** @type {string} */ usual) => given.get(key) ?? usual;

  const last = model.dimensions.length - 1;
  const axes = text("axes", "0,1").split(",").map((word) => whole(word, "axes", last));
  if (axes.length !== 2 || axes[0] === axes[1]) {
    throw new RangeError(`the link's axes=${given.get("axes")}: must be two different dimensions from 0 to ${last}`);
  }
  const range = Number(text("range", "1"));
  if (!(range >= RANGE_LIMITS[0] && range <= RANGE_LIMITS[1])) {
    throw new RangeError(`the link's range=${given.get("range")}: must be from ${RANGE_LIMITS.join(" to ")}`);
  }
  const frozen = whole(text("frozen", "0"), "frozen", 1) === 1;
  const face = whole(text("face", "0"), "face", 2 ** 32 - 1);
  const start = seedOf(fragment) ?? seed;

  const everything = given.get("z");
  const z = everything === null ? noise.normal(start, face, 1, model.latentSize) : allOf(everything, model);
  const changed = given.get("changed");
  if (changed !== null) apply(changed, z, model);
  if (!z.every(Number.isFinite)) throw new RangeError("the link holds coordinates that are not finite: copy it again");
  return { seed: start, face, z, axes: [axes[0], axes[1]], range, frozen };
}

/** @param {string} fragment */
function fields(fragment) {
  return new URLSearchParams(fragment.replace(/^#/, ""));
}

/**
 * Which of the seed's newest faces is nearest, and which latents differ from it.
 * @param {Shown} shown
 * @param {Shape} model
 * @returns {{face: number, changed: number[]}}
 */
export function nearest(shown, model) {
  const newest = Math.max(shown.facesDrawn - 1, 0);
  let best = { face: newest, changed: differing(shown, newest, model) };
  for (let face = newest - 1; face >= 0 && face > newest - FACES_TRIED; face--) {
    if (best.changed.length <= model.dimensions.length) break;
    const changed = differing(shown, face, model);
    if (changed.length < best.changed.length) best = { face, changed };
  }
  return best;
}

/**
 * @param {Shown} shown
 * @param {number} face
 * @param {Shape} model
 */
function differing(shown, face, model) {
  const key = `${shown.seed} ${face} ${model.latentSize}`;
  const drawn = faces.get(key) ?? noise.normal(shown.seed, face, 1, model.latentSize);
  if (faces.size > 2 * FACES_TRIED) faces.clear();
  faces.set(key, drawn);
  return [...drawn.keys()].filter((latent) => !Object.is(drawn[latent], shown.z[latent]));
}

/**
 * @param {number[]} changed
 * @param {Float32Array} z
 */
function records(changed, z) {
  const view = new DataView(new ArrayBuffer(changed.length * RECORD));
  changed.forEach((latent, k) => {
    view.setUint16(k * RECORD, latent, true);
    view.setFloat32(k * RECORD + 2, z[latent], true);
  });
  return view;
}

/** @param {Float32Array} z */
function floats(z) {
  const view = new DataView(new ArrayBuffer(z.length * 4));
  z.forEach((value, k) => view.setFloat32(k * 4, value, true));
  return view;
}

/**
 * @param {string} text
 * @param {Float32Array} z changed in place
 * @param {Shape} model
 */
function apply(text, z, model) {
  const view = fromText(text, "changed");
  if (view.byteLength % RECORD) throw new RangeError("the link's changed=... is cut short: copy the link again");
  for (let at = 0; at < view.byteLength; at += RECORD) {
    const latent = view.getUint16(at, true);
    if (latent >= model.latentSize) {
      throw new RangeError(`the link changes coordinate ${latent}: there are ${model.latentSize}, counted from 0`);
    }
    z[latent] = view.getFloat32(at + 2, true);
  }
}

/**
 * @param {string} text
 * @param {Shape} model
 */
function allOf(text, model) {
  const view = fromText(text, "z");
  if (view.byteLength !== 4 * model.latentSize) {
    throw new RangeError(`the link's z=... has ${view.byteLength} bytes, expected ${4 * model.latentSize}: copy it again`);
  }
  return Float32Array.from({ length: model.latentSize }, (_, k) => view.getFloat32(4 * k, true));
}

/**
 * @param {string} word
 * @param {string} key
 * @param {number} last
 */
function whole(word, key, last) {
  const number = /^\d{1,10}$/.test(word) ? Number(word) : NaN;
  if (!(number <= last)) throw new RangeError(`the link's ${key}=${word}: must be whole, from 0 to ${last}`);
  return number;
}

/**
 * Bytes as base64 with the alphabet for links (RFC 4648, section 5), without padding.
 * @param {DataView} view
 */
function toText(view) {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/**
 * @param {string} text
 * @param {string} key
 */
function fromText(text, key) {
  let binary;
  try {
    binary = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  } catch {
    throw new RangeError(`the link's ${key}=... is not base64: copy the link again`);
  }
  return new DataView(Uint8Array.from(binary, (letter) => letter.charCodeAt(0)).buffer);
}

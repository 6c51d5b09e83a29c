/**
 * A face as the fragment of a link: `#bundle=classic&seed=9&face=3&changed=...&axes=0,1`.
 *
 * Most faces set out from one of a seed's, or from the average face (`face=average`), with a few coordinates moved, so a
 * link names that face and the moved coordinates, bit for bit; only a face that is far from there carries all of them.
 * Left out is what is usual: face 0, scale 1, axes 0 and 1, range 1, not frozen, nothing locked. `shape=...` or
 * `appearance=...` holds all coordinates of the point that this part is of, where it is kept still.
 */

import * as noise from "./noise.js";
import { COORDINATE_LIMIT, PARTS, RANGE_LIMITS, SCALE_LIMITS, SEED_LIMIT, say } from "./rules.js";

/** What a link calls the face at 0. */
const AVERAGE = "average";
/** Bytes of a moved coordinate: its latent index as uint16, its value as float32, little-endian. */
const RECORD = 6;
/** The face that was compared with last: while the hand moves it is the same one. @type {{key: string, z: Float32Array}} */
let compared = { key: "", z: new Float32Array() };

/**
 * @typedef {import("./session.js").State} State
 * @typedef {{name: string, latentSize: number, dimensions: readonly number[], hasShape?: boolean}} Shape
 */

/**
 * @param {State} state
 * @param {Shape} model
 * @returns {string} without the `#`
 */
export function write(state, model) {
  const changed = differing(state, model);
  const [seed, face] = state.origin ?? [state.seed, AVERAGE];
  const parts = [`bundle=${encodeURIComponent(model.name)}`, `seed=${seed}`];
  if (face) parts.push(`face=${face}`);
  if (state.scale !== 1) parts.push(`scale=${state.scale}`);
  if (changed.length * RECORD >= model.latentSize * 4) parts.push(`z=${toText(floats(state.z))}`);
  else if (changed.length) parts.push(`changed=${toText(records(changed, state.z))}`);
  if (state.axes[0] !== 0 || state.axes[1] !== 1) parts.push(`axes=${state.axes.join(",")}`);
  if (state.range !== 1) parts.push(`range=${state.range}`);
  if (state.frozen) parts.push("frozen=1");
  if (state.locked.size) parts.push(`locked=${[...state.locked].sort((a, b) => a - b).join(",")}`);
  if (state.still) parts.push(`${state.still.part}=${toText(floats(state.still.z))}`);
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
 * What a link shows, every field checked. Throws a RangeError with one line that names the field and what is allowed.
 * @param {string} fragment with or without the `#`
 * @param {Shape} model
 * @param {number} [usual] the seed when the link names none
 * @returns {State}
 */
export function read(fragment, model, usual = 0) {
  const given = fields(fragment);
  const bundle = given.get("bundle") ?? model.name;
  if (bundle !== model.name) throw new RangeError(`the link is for the model ${bundle}, this is ${model.name}`);
  const text = (/** @type {string} */ key, /** @type {string} */ otherwise) => given.get(key) ?? otherwise;

  const last = model.dimensions.length - 1;
  const axes = text("axes", "0,1").split(",").map((word) => whole(word, "axes", last));
  if (axes.length !== 2 || axes[0] === axes[1]) {
    throw new RangeError(`the link's axes=${given.get("axes")}: must be two different dimensions from 0 to ${last}`);
  }
  const locked = new Set(given.get("locked")?.split(",").map((word) => whole(word, "locked", last)));
  const range = within(text("range", "1"), "range", RANGE_LIMITS);
  const scale = within(text("scale", "1"), "scale", SCALE_LIMITS);
  const frozen = whole(text("frozen", "0"), "frozen", 1) === 1;
  const seed = whole(text("seed", String(usual)), "seed", SEED_LIMIT);
  const face = text("face", "0");
  /** @type {[number, number] | null} */
  const origin = face === AVERAGE ? null : [seed, whole(face, "face", SEED_LIMIT)];

  const everything = given.get("z");
  const z = everything === null ? start(origin, scale, model).slice() : allOf(everything, model, "z");
  const changed = given.get("changed");
  if (changed !== null) apply(changed, z, model);
  const part = PARTS.find((key) => given.has(key));
  if (part && !model.hasShape) throw new RangeError(say("no shape", { model: model.name }));
  const still = part ? { part, z: allOf(given.get(part) ?? "", model, part) } : null;
  if (![...z, ...(still?.z ?? [])].every((value) => Math.abs(value) <= COORDINATE_LIMIT)) {
    throw new RangeError(`the link holds coordinates beyond ±${COORDINATE_LIMIT}, or not finite: copy it again`);
  }
  const facesDrawn = origin ? origin[1] + 1 : 0;
  const counts = { facesDrawn, walkSteps: 0, anchors: 0 };
  return { z, seed, ...counts, origin, scale, axes: [axes[0], axes[1]], range, frozen, locked, still };
}

/** @param {string} fragment */
function fields(fragment) {
  return new URLSearchParams(fragment.replace(/^#/, ""));
}

/**
 * Which latents differ from the face that a state set out from.
 * @param {State} state
 * @param {{latentSize: number}} model
 * @returns {number[]}
 */
export function differing({ z, origin, scale }, model) {
  const from = start(origin, scale, model);
  return [...from.keys()].filter((latent) => from[latent] !== z[latent]);
}

/**
 * The point from which a face set out.
 * @param {readonly [number, number] | null} origin
 * @param {number} scale
 * @param {{latentSize: number}} model
 * @returns {Float32Array<ArrayBuffer>} not to be written to
 */
function start(origin, scale, { latentSize }) {
  const key = `${origin} ${scale} ${latentSize}`;
  if (compared.key !== key) {
    const z = origin ? noise.normal(...origin, 1, latentSize) : new Float32Array(latentSize);
    compared = { key, z: z.map((value) => value * scale) };
  }
  return /** @type {Float32Array<ArrayBuffer>} */ (compared.z);
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
 * @param {string} key
 */
function allOf(text, model, key) {
  const view = fromText(text, key);
  if (view.byteLength !== 4 * model.latentSize) {
    throw new RangeError(`the link's ${key}=... has ${view.byteLength} bytes, expected ${4 * model.latentSize}: copy it again`);
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
 * @param {string} word
 * @param {string} key
 * @param {readonly [number, number]} limits
 */
function within(word, key, [low, high]) {
  const number = word.trim() ? Number(word) : NaN;
  if (!(number >= low && number <= high)) throw new RangeError(`the link's ${key}=${word}: must be from ${low} to ${high}`);
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

/**
 * What the twins in Python and in the page share: limits, streams of random numbers, where the frame has the eyes, messages.
 *
 * Written by scripts/rules.py from rules.py: change that, not this.
 */

export const FACE_FORMAT = "morphing-faces face";
export const FACE_VERSION = 1;
export const FIRST_SEED = 40;
export const SEED_LIMIT = 4294967295;
export const FACES = 0;
export const WALK = 1;
export const NOISE = 2;
export const GLIDE = 3;
export const COORDINATE_LIMIT = 100.0;
export const RANGE_LIMITS = /** @type {const} */ ([0.25, 4.0]);
export const SCALE_LIMITS = /** @type {const} */ ([0.1, 2.0]);
export const WALK_STEP = 0.5;
export const WALK_LIMIT = 2.5;
export const WALK_TRIES = 200;
export const SHEET_SIDE = 9;
export const PARTS = /** @type {const} */ (["shape", "appearance"]);
export const UNDO_STEPS = 200;
export const WALK_SECONDS = 0.45;
export const GLIDE_SECONDS = 4.0;
export const EYES_MIDDLE = /** @type {const} */ ([0.5, 0.315]);
export const EYES_APART = 0.385;
export const CUT_OUT = 256;
export const IN_FRAME = 0.08;
export const FINDER_STRIDE = 8;
export const FINDER_CENTRE = 0.35;
export const FINDER_SMALLEST = 40;
export const FINDER_FIRST = 512;
export const FINDER_LAST = 2048;
export const FINDER_LEAST = 40;
export const FINDER_PROBABLE = 0.35;
export const FINDER_SURE = 0.5;
export const FINDER_FAINT = 0.1;
export const FINDER_CROP = 96;
export const FINDER_SECOND = /** @type {const} */ ([22.0]);
export const FINDER_THIRD = /** @type {const} */ ([16.0, 19.0, 22.0, 26.0, 30.0]);
export const FINDER_MOST = 64;
export const HANDLES = {
  "mouth-left": [
    48
  ],
  "mouth-right": [
    54
  ],
  "lip-upper": [
    51
  ],
  "lip-lower": [
    57
  ],
  "brow-left-outer": [
    17
  ],
  "brow-left": [
    19
  ],
  "brow-left-inner": [
    21
  ],
  "brow-right-inner": [
    22
  ],
  "brow-right": [
    24
  ],
  "brow-right-outer": [
    26
  ],
  "eye-left-outer": [
    36
  ],
  "lid-left": [
    37,
    38
  ],
  "eye-left-inner": [
    39
  ],
  "eye-right-inner": [
    42
  ],
  "lid-right": [
    43,
    44
  ],
  "eye-right-outer": [
    45
  ],
  "nose": [
    30
  ],
  "nose-left": [
    31
  ],
  "nose-right": [
    35
  ],
  "chin": [
    57,
    57,
    8
  ],
  "jaw-left": [
    4
  ],
  "jaw-right": [
    12
  ]
};
export const PULL_PROBE = 0.1;
export const PULL_DAMPING = 0.03;
export const PULL_VISIBLE = 1.0;
export const PULL_HOLD = 0.07;
export const PULL_NEAR = 20.0;
export const PULL_EASE = 6.0;
export const PULL_PIN = 3.0;
export const PULL_KNEE = 4.0;
export const PULL_LIMIT = 8.0;
export const PULL_STEPS = 12;
export const PULL_SETTLED = 0.02;
export const PULL_FOLD = 0.02;
export const PULL_BEHIND = 1.0;
export const TURNED = 0.13;
export const UNLIKE = 20.0;
export const FACE_RADII = /** @type {const} */ ([0.3, 0.36]);
export const PART_OF_WAY = 0.4;
export const LIKENESS_DAMPING = /** @type {const} */ ([1.0, 0.5, 0.5]);
export const LIKENESS_BLOCK = 100;
export const LIKENESS_PROBE = 1.0;
export const LIKENESS_PULL = 0.01;
export const LIKENESS_SIDE = 64;
export const LIKENESS_TRIES = /** @type {const} */ ([1.0, 0.5, 0.25]);
export const MESSAGES = {
  "seed": "seed {seed}: must be a whole number from 0 to {last}",
  "move": "move to ({x}, {y}): must be finite numbers, in the square from -1 to 1",
  "coordinate": "coordinate {value}: must be a finite number from -{limit} to {limit}",
  "point": "z has shape {shape}, expected ({size},), all finite and from -{limit} to {limit}",
  "dimension": "dimension {dimension}: dimensions are whole numbers from 0 to {last}",
  "same": "dimensions {first} and {second}: must be two different ones",
  "locked": "dimension {dimension} is locked: unlock it first",
  "attribute": "attribute '{name}': must be one of {names}",
  "held": "attribute '{name}' is held: let it go first",
  "amount": "amount {amount}: must be a finite number from -{limit} to {limit}",
  "range": "range {value}: must be from {low} to {high}",
  "widen": "widen by {steps} steps: must be a finite number",
  "scale": "scale {value}: must be from {low} to {high}",
  "glide": "glide by {steps}: must be a finite number, 0 or more",
  "still shape": "the shape is kept still, so nothing can be pulled: let it go first",
  "part": "part '{part}': must be one of {parts}",
  "handle": "handle '{name}': must be one of {names}",
  "pull": "pull by ({x}, {y}): must be finite numbers, in pixels of the frame",
  "no shape": "the model '{model}' has no shape: it draws shape and appearance as one; take one that has them apart",
  "turned": "turned too far: the photograph shows its face from the side, so it gives way less",
  "unlike": "a rough likeness: the model does not know such a face well, so the photograph gives way less",
  "taken": "the face has changed since the handle was taken: take it again",
  "weights": "weights {weights}: must be {count} numbers of 0 or more, and one of them above 0",
  "face": "is not a face saved by morphing-faces",
  "face version": "has version {found}, this program reads {version}: update morphing-faces",
  "face bundle": "is a face of bundle '{found}', this is '{bundle}': open it with that one",
  "face fields": "lacks z, axes, range or frozen, or one is not of its kind",
  "face z": "has {count} coordinates, expected {size}, all finite and from -{limit} to {limit}",
  "face axes": "has axes {axes}, expected two different ones from 0 to {last}",
  "face range": "has range {value}, expected {low} to {high}",
  "face still": "has a still part without a point, or one that is not of {parts}",
  "face locked": "has locked {locked}, expected different dimensions from 0 to {last}"
};

/**
 * A message, its values filled in.
 * @param {keyof typeof MESSAGES} key
 * @param {Record<string, unknown>} values
 * @returns {string}
 */
export function say(key, values) {
  return MESSAGES[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

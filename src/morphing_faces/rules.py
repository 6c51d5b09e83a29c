"""What the twins in Python and in the page share: limits, streams of random numbers, where the frame has the eyes, messages.

``web/rules.js`` is written from this module by ``scripts/rules.py``; a test compares the two.
"""

from __future__ import annotations

FACE_FORMAT, FACE_VERSION = "morphing-faces face", 1

FIRST_SEED = 40  # a first face is a first impression; this seed begins with a friendly one
SEED_LIMIT = 2**32 - 1  # seeds are whole numbers from 0 to this, so that they fit a link
FACES, WALK, NOISE, GLIDE = 0, 1, 2, 3  # streams of random numbers: what they are for

COORDINATE_LIMIT = 100.0  # no coordinate is further from 0: far beyond any face, and safe in float32
RANGE_LIMITS = (0.25, 4.0)  # how far from 0 the edge of the hover square may be
SCALE_LIMITS = (0.1, 2.0)  # the distance from the average face, in parts of what it was when the face was drawn
WALK_STEP = 0.5  # the 2014 random walk: one dimension at a time, this far up or down
WALK_LIMIT = 2.5  # it turns back here: beyond, no face is typical
WALK_TRIES = 200  # steps of the walk that may fall on locked dimensions before one that counts
SHEET_SIDE = 9  # faces along a side of a sheet that is drawn beforehand
PARTS = ("shape", "appearance")  # of a face, where the model draws them apart
UNDO_STEPS = 200  # the oldest are forgotten

WALK_SECONDS = 0.45  # one step of the walk, from standstill to standstill
GLIDE_SECONDS = 4.0  # the glide's way from one random face to the next

# The frame in which models know faces; lengths are in parts of its side.
EYES_MIDDLE = (0.5, 0.315)  # where the middle between the eyes lies
EYES_APART = 0.385  # how far apart they are, and level
CUT_OUT = 256  # a square picture up to this many pixels wide in which no face is found is taken to be in the frame
IN_FRAME = 0.08  # eyes that are as near as this to where the frame has them are in the frame

# How eyes are found in a photograph.
FINDER_STRIDE = 8  # pixels of the network's picture in a cell of its answer
FINDER_CENTRE = 0.35  # the middle of a face lies this far under the eyes' middle, in parts of the eyes' distance
FINDER_SMALLEST = 40  # pixels of the frame's side: with less there is nothing to encode
FINDER_FIRST, FINDER_LAST = 512, 2048  # the longest side in which faces are looked for, first and if none is found
FINDER_LEAST = 40  # pixels of the longest side of the pyramid's smallest picture
FINDER_PROBABLE = 0.35  # a score from which a cell is looked at
FINDER_SURE = 0.5  # a score that a face must have once it is seen upright at the trained size
FINDER_FAINT = 0.1  # a score below which a cell says nothing of the eyes
FINDER_CROP = 96  # pixels of the side of what is looked at again
FINDER_SECOND = (22.0,)  # pixels between the eyes there
FINDER_THIRD = (16.0, 19.0, 22.0, 26.0, 30.0)  # and in a third look, whose answers are averaged
FINDER_MOST = 64  # faces a picture, at most

# The handles by which a face can be taken hold of: the landmarks of the 300-W challenge whose mean each is. Left and
# right are the picture's.
HANDLES = {
    "mouth-left": [48],
    "mouth-right": [54],
    "lip-upper": [51],
    "lip-lower": [57],
    "brow-left-outer": [17],
    "brow-left": [19],
    "brow-left-inner": [21],
    "brow-right-inner": [22],
    "brow-right": [24],
    "brow-right-outer": [26],
    "eye-left-outer": [36],
    "lid-left": [37, 38],
    "eye-left-inner": [39],
    "eye-right-inner": [42],
    "lid-right": [43, 44],
    "eye-right-outer": [45],
    "nose": [30],
    "nose-left": [31],
    "nose-right": [35],
    "chin": [57, 57, 8],
    "jaw-left": [4],
    "jaw-right": [12],
}
# How the face gives way to a pull; lengths are in parts of 1/128 of the picture's side.
PULL_PROBE = 0.1  # how far each coordinate is moved to see where the handles go
PULL_DAMPING = 0.03  # what a face's distance from the one that was taken costs, against a handle's squared distance
PULL_VISIBLE = 1.0  # how much more a coordinate costs that changes the picture as much as the average one does
PULL_HOLD, PULL_NEAR, PULL_EASE = 0.07, 20.0, 6.0  # far handles are held by this; how far that is, and how gradual
PULL_PIN = 3.0  # by how much pinned ones are held; the one in the hand by 1
PULL_KNEE, PULL_LIMIT = 4.0, 8.0  # standard deviations along a pull where it becomes heavier, and where it ends
PULL_STEPS = 12  # of a whole drag, unless it has settled: a view takes one or two a frame
PULL_SETTLED = 0.02  # no handle moves by more
PULL_FOLD = 0.02  # no pull squeezes the picture anywhere to less than this part of its area
PULL_BEHIND = 1.0  # a handle this far from the hand has stayed behind
# Photographs that the model does not know well are moved by a part of the way only. Of a head's turn it sees less than there
# is: of held-out heads whose landmarks are turned by over 0.25 it has 98% beyond 0.13, of those under 0.15 2%.
TURNED = 0.13  # a head that it sees turned further
UNLIKE = 20.0  # a face that it draws with a smaller PSNR, in dB,
FACE_RADII = (0.3, 0.36)  # in this ellipse around the middle of the frame
PART_OF_WAY = 0.4
# How a photograph's latent is brought nearer to it than the encoder's answer is.
LIKENESS_DAMPING = (1.0, 0.5, 0.5)  # how much of the difference each question to the encoder takes
LIKENESS_BLOCK = 100  # dimensions that are fitted together, the most visible first
LIKENESS_PROBE = 1.0  # how far each is moved to see what it draws: far enough for pictures of 8 bits
LIKENESS_PULL = 0.01  # what a latent's squared length costs, against the squared errors of pixels in [0, 1]
LIKENESS_SIDE = 64  # pictures are compared at about this side
LIKENESS_TRIES = (1.0, 0.5, 0.25)  # parts of a step of which the best is taken, if it is any better

MESSAGES = {
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
    "face locked": "has locked {locked}, expected different dimensions from 0 to {last}",
}


def say(key: str, **values: object) -> str:
    """A message, its values filled in; whole floats are written without ``.0``, as JavaScript does."""
    return MESSAGES[key].format_map({name: _plain(value) for name, value in values.items()})


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_plain, value))
    if isinstance(value, str):
        return value
    text = repr(float(value)) if isinstance(value, float) else repr(value)
    return text.removesuffix(".0")

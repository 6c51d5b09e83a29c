"""Where the faces of a photograph are, and their eyes: a small network of this project's own on a pyramid of the picture.

``finder/`` holds the network and its manifest; :mod:`morphing_faces.train.faces` makes them. ``web/faces.js`` is the
twin of this module.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UserError
from .files import read_bytes, read_json
from .rules import (
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
    FINDER_SMALLEST,
    FINDER_STRIDE,
    FINDER_SURE,
    FINDER_THIRD,
)

if TYPE_CHECKING:
    import onnxruntime
    from PIL import Image

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

FINDER = Path(__file__).parent / "finder"
NETWORK = "finder.onnx"
FORMAT = 1
REMEDY = "install morphing-faces again, or export the finder with this version"


@dataclass(frozen=True)
class Face:
    """A face in an upright picture, in pixels from its top left corner.

    ``eyes`` are (x, y) of the person's right eye, which is on the picture's left, and of the left; ``box`` is (left,
    top, right, bottom) of the square around the face, cut to the picture; ``score`` is from 0 to 1.
    """

    eyes: tuple[tuple[float, float], tuple[float, float]]
    box: tuple[float, float, float, float]
    score: float

    @property
    def side(self) -> float:
        """The side in pixels of the frame that the eyes set."""
        (x0, y0), (x1, y1) = self.eyes
        return math.hypot(x1 - x0, y1 - y0) / EYES_APART


def find_faces(picture: np.ndarray, finder: Path = FINDER) -> list[Face]:
    """The faces of an upright picture, the largest first; turned up to about 40 degrees, and 40 pixels high or more.

    ``picture`` is uint8 (height, width, 3), (height, width, 1) or (height, width), as
    :func:`morphing_faces.pictures.read_picture` reads it; ``finder`` is the folder of another network. Raises
    ``ValueError`` for anything else.
    """
    from PIL import Image  # here and below, so that importing the package stays quick

    picture = np.asarray(picture)
    if (
        picture.dtype != np.uint8
        or picture.ndim not in (2, 3)
        or (picture.ndim == 3 and picture.shape[2] not in (1, 3))
    ):
        raise ValueError(f"picture is {picture.dtype} {picture.shape}, expected uint8 (height, width, 1 or 3)")
    if min(picture.shape[:2]) < 1:
        return []
    grey = picture.ndim == 2 or picture.shape[2] == 1
    image = Image.fromarray(picture.reshape(picture.shape[:2]) if grey else picture).convert("RGB")
    longest = max(image.size)
    run = functools.partial(_run, _network(finder))
    most = FINDER_FIRST
    while True:
        found = _sure(image, _candidates(image, min(1.0, most / longest), run), run)
        if found or most >= min(longest, FINDER_LAST):
            break
        most *= 2
    return [_face(row, image.size) for row in sorted(found, key=lambda row: -_apart(row))]


def largest(picture: np.ndarray, name: str = "the picture", found: list[Face] | None = None) -> Face:
    """The largest face of an upright picture, or of those that were ``found`` in it.

    Raises ``UserError``, with the remedy, where there is none, or only tiny ones.
    """
    found = find_faces(picture) if found is None else found
    remedy = "say where they are with --eyes X,Y,X,Y"
    if not found:
        raise UserError(f"{name}: no face was found, so the eyes are not known: {remedy}")
    if found[0].side < FINDER_SMALLEST:
        raise UserError(
            f"{name}: the largest face is {found[0].side:.0f} pixels wide, too few (at least {FINDER_SMALLEST}): "
            f"take a larger copy, or {remedy}"
        )
    return found[0]


def manifest(folder: Path = FINDER) -> dict[str, Any]:
    """A finder's ``manifest.json``: how its network was trained, its measured figures, its licence, its file's SHA-256.

    Raises ``UserError`` when the folder holds none that this program can use.
    """
    found = read_json(folder / "manifest.json")
    if not isinstance(found, dict) or found.get("format") != FORMAT or NETWORK not in found.get("files", {}):
        raise UserError(f"{folder} is no finder of faces that this program can use: {REMEDY}")
    return found


# --- the pyramid


def _candidates(image: Image.Image, scale: float, run: Run) -> list[np.ndarray]:
    """Places worth a second look, best first: rows of four eye coordinates in pixels of the picture, then the score."""
    from PIL import Image

    rows = []
    while True:
        width, height = (max(1, round(n * scale)) for n in image.size)
        small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        scores, eyes = run(np.asarray(small)[None])
        good = np.flatnonzero(scores[0] > FINDER_PROBABLE)
        places = eyes[0].reshape(-1, 4)[good] * ([image.width / width, image.height / height] * 2)
        rows += list(np.column_stack([places, scores[0].reshape(-1)[good]]))
        if max(width, height) < 2 * FINDER_LEAST:
            break
        scale /= 2
    rows.sort(key=lambda row: -row[4])
    kept: list[np.ndarray] = []
    for row in rows:
        if _apart(row) > 0 and not any(_same(row, other) for other in kept):
            kept.append(row)
    return kept[:FINDER_MOST]


def _sure(image: Image.Image, candidates: list[np.ndarray], run: Run) -> list[np.ndarray]:
    """Look again at each candidate, turned upright and at the trained size; keeps those that are faces still."""
    kept: list[np.ndarray] = []
    for candidate in candidates:
        if any(_same(candidate, other) for other in kept):
            continue
        row = _look(image, _look(image, candidate, run, FINDER_SECOND), run, FINDER_THIRD)
        if row[4] >= FINDER_SURE and not any(_same(row, other) for other in kept):
            kept.append(row)
    return kept


def _look(image: Image.Image, row: np.ndarray, run: Run, sizes: tuple[float, ...]) -> np.ndarray:
    """The eyes and the score as seen in crops that they set, and in their mirror images: the mean.

    ``sizes`` are the eyes' distances in the crops, in pixels.
    """
    (x0, y0, x1, y1), apart = row[:4], _apart(row)
    if row[4] < FINDER_PROBABLE:
        return row
    c, s = (x1 - x0) / apart, (y1 - y0) / apart
    middle_x, middle_y = (x0 + x1) / 2 - FINDER_CENTRE * (y1 - y0), (y0 + y1) / 2 + FINDER_CENTRE * (x1 - x0)
    half = FINDER_CROP / 2
    maps, crops = [], []
    for size in sizes:
        scale = apart / size  # pixels of the picture in one of the crop
        a, b, d, e = c * scale, -s * scale, s * scale, c * scale
        maps.append((a, b, middle_x - half * (a + b), d, e, middle_y - half * (d + e)))
        crop = _transform(image, maps[-1], FINDER_CROP, scale)
        crops += [crop, crop[:, ::-1]]
    scores, eyes = run(np.stack(crops))
    eyes[1::2] = np.stack(
        [FINDER_CROP - eyes[1::2, ..., 2], eyes[1::2, ..., 3], FINDER_CROP - eyes[1::2, ..., 0], eyes[1::2, ..., 1]], -1
    )
    best = scores.reshape(len(crops), -1).max(1)
    found = []
    for k, size in enumerate(sizes):
        pair = slice(2 * k, 2 * k + 2)
        middles = (eyes[pair, ..., :2] + eyes[pair, ..., 2:]) / 2
        far = np.hypot(middles[..., 0] - half, middles[..., 1] + FINDER_CENTRE * size - half)
        enough = scores[pair] > np.maximum(0.5 * best[pair], FINDER_FAINT)[:, None, None]
        weights = np.where(enough & (far < size / 2), scores[pair], 0)
        if weights.any():
            mean = (weights[..., None] * eyes[pair]).sum((0, 1, 2)) / weights.sum()
            a, b, x, d, e, y = maps[k]
            u, v = mean[0::2], mean[1::2]
            at_x, at_y = a * u + b * v + x, d * u + e * v + y
            found.append([at_x[0], at_y[0], at_x[1], at_y[1]])
    if not found:
        return np.array([*row[:4], 0.0])
    return np.array([*np.mean(found, 0), best.mean()])


def _transform(image: Image.Image, matrix: tuple[float, ...], side: int, scale: float) -> np.ndarray:
    """The square that an affine map cuts out of a picture, uint8 (side, side, 3); black outside of the picture."""
    from PIL import Image

    a, b, x, d, e, y = matrix
    corners = np.array([[x + a * u + b * v, y + d * u + e * v] for u in (0, side) for v in (0, side)])
    left, top = np.floor(corners.min(0)).astype(int) - 2
    right, bottom = np.ceil(corners.max(0)).astype(int) + 2
    shrink = max(1, int(scale))
    part = image.crop((int(left), int(top), int(right), int(bottom)))
    if shrink > 1:
        part = part.reduce(shrink)
    inner = (a / shrink, b / shrink, (x - left) / shrink, d / shrink, e / shrink, (y - top) / shrink)
    turned = part.transform((side, side), Image.Transform.AFFINE, inner, Image.Resampling.BILINEAR)
    return np.asarray(turned)


def _run(network: onnxruntime.InferenceSession, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (n, h, w, 3) -> scores (n, rows, columns) and eyes (n, rows, columns, 4) in pixels of the pictures."""
    _, height, width, _ = pictures.shape
    padding = ((0, 0), (0, -height % FINDER_STRIDE), (0, -width % FINDER_STRIDE), (0, 0))
    scores, eyes = network.run(
        ["scores", "eyes"], {"picture": np.pad(pictures, padding, mode="edge").astype(np.float32) / 255}
    )
    middles = [(np.arange(n, dtype=np.float32) + 0.5) * FINDER_STRIDE for n in scores.shape[1:]]
    eyes[..., 0::2] += middles[1][None, None, :, None]
    eyes[..., 1::2] += middles[0][None, :, None, None]
    return scores, eyes


def _apart(row: np.ndarray) -> float:
    return math.hypot(row[2] - row[0], row[3] - row[1])


def _same(row: np.ndarray, other: np.ndarray) -> bool:
    """Whether two rows are one face: their middles are nearer than most of an eye distance."""
    far = math.hypot(row[0] + row[2] - other[0] - other[2], row[1] + row[3] - other[1] - other[3]) / 2
    return far < 0.8 * max(_apart(row), _apart(other))


def _face(row: np.ndarray, size: tuple[int, int]) -> Face:
    x0, y0, x1, y1, score = (float(value) for value in row)
    x, y = (x0 + x1) / 2 - FINDER_CENTRE * (y1 - y0), (y0 + y1) / 2 + FINDER_CENTRE * (x1 - x0)
    half = _apart(row) / EYES_APART / 2
    box = (max(x - half, 0.0), max(y - half, 0.0), min(x + half, float(size[0])), min(y + half, float(size[1])))
    return Face(((x0, y0), (x1, y1)), box, min(score, 1.0))


@functools.cache
def _network(folder: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    content, entry = read_bytes(folder / NETWORK), manifest(folder)["files"][NETWORK]
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise UserError(f"{folder / NETWORK} is damaged: {REMEDY}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

"""How a photograph follows a model's face: where its pixels go, and how much lighter or darker they become.

``web/follow.js`` is the twin of this module. Positions in the frame are in parts of its side, from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from . import warp
from .align import Frame

GRID = 32  # cells a side in which the displacement is computed: twice as many as a field has
HALVED = 96  # an appearance with as many rows or more is halved before it is compared: what follows is smooth
FADE = 1 / 8  # within this part of the frame's side from its edge, everything fades to nothing
FLOOR = 0.08  # added to both appearances: the quotient of two dark values says nothing
DARKEST, LIGHTEST = 0.4, 2.5  # bounds of the quotient
STRIP = 1 << 20  # pixels that are computed at once


def displacement(field0: np.ndarray, field: np.ndarray, width: int) -> np.ndarray:
    """Where in the old face the pixels of the new one come from, as the way there: float32 (32, 32, 2), parts of the side.

    ``field0`` and ``field``, each (n, n, 2) in pixels of a picture ``width`` wide, lead from a position in a face to the
    same place of the mean face. The way d from p solves p + field(p) = p + d + field0(p + d); it fades to 0 at the frame's
    edge. Equal fields give exactly 0.
    """
    old, new = (np.asarray(f, np.float32)[None] for f in (field0, field))
    middles = (np.arange(GRID) + 0.5) * (width / GRID) - 0.5
    here = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
    way = warp.inverse(old, here, width, warp.at(new, here[None], width)) / width
    return way.reshape(GRID, GRID, 2).astype(np.float32) * fade(GRID)[..., None]


def shading(look0: np.ndarray, look: np.ndarray, field: np.ndarray) -> np.ndarray:
    """How much lighter each place becomes: the quotient of two appearances less 1, float32 (h / 2, w / 2, 3) or, of small ones, (h, w, 3).

    ``look0`` and ``look`` are appearances in the mean frame, (h, w, 1 or 3) in [0, 1]; ``field``, in pixels of them,
    leads there from the new face. The quotient is smoothed and bounded, as the expression ratio image of Liu, Shan and
    Zhang (2001) is, and fades to 0 at the frame's edge. Equal appearances give exactly 0.
    """
    side = look.shape[1]
    old, new = (smooth(halved(np.asarray(x, np.float32))) + np.float32(FLOOR) for x in (look0, look))
    height, width, channels = new.shape
    quotient = np.clip(new / old, DARKEST, LIGHTEST) - 1
    across = (np.arange(width, dtype=np.float32) + 0.5) / width
    down = (np.arange(height, dtype=np.float32) + 0.5) / height
    here = np.stack(np.meshgrid(across, down), -1)
    moved = bilinear(quotient, here + bilinear(np.asarray(field, np.float32) / np.float32(side), here))
    return np.repeat(moved, 3 // channels, 2) * fade(height)[..., None]


def between(old: np.ndarray, new: np.ndarray, part: float) -> np.ndarray:
    """A field or an appearance at a part of the way from one to another, float32."""
    start = np.asarray(old, np.float32)
    found: np.ndarray = start + np.float32(part) * (np.asarray(new, np.float32) - start)
    return found


def apply(picture: np.ndarray, frame: Frame, way: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """The whole picture, uint8 (height, width, 3), with the face in its frame moved and shaded; the rest to the bit as it was."""
    height, width = picture.shape[:2]
    a, b, x, d, e, y = frame.matrix(1.0)
    corners = np.array([[x + a * u + b * v, y + d * u + e * v] for u in (0, 1) for v in (0, 1)])
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int), (width, height))
    if right <= left or bottom <= top:
        return picture.copy()
    out = picture.copy()
    rows = max(1, STRIP // (right - left))
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        u, v = (_placed(way[..., k], frame, left, first, right, last) for k in (0, 1))
        shades = [_placed(shade[..., k], frame, left, first, right, last) for k in range(3)]
        at_x = np.arange(left, right, dtype=np.float32) + (a * u + b * v)
        at_y = np.arange(first, last, dtype=np.float32)[:, None] + (d * u + e * v)
        sampled = _sampled(picture, at_x, at_y)
        for k in range(3):
            sampled[..., k] *= 1 + shades[k]
        out[first:last, left:right] = np.rint(np.clip(sampled, 0, 255)).astype(np.uint8)
    return out


def fade(size: int) -> np.ndarray:
    """1 in the middle of the frame, 0 at its edge, smooth between: float32 (size, size)."""
    middles = (np.arange(size, dtype=np.float32) + 0.5) / size
    near = np.clip(np.minimum(middles, 1 - middles) / FADE, 0, 1)
    eased = near * near * (3 - 2 * near)
    return np.minimum(eased[:, None], eased)


def halved(x: np.ndarray) -> np.ndarray:
    """(h, w, c) -> (h / 2, w / 2, c), each pixel the mean of four; as it is where it is small, or a side is odd."""
    height, width, channels = x.shape
    if height < HALVED or height % 2 or width % 2:
        return x
    return x.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3), dtype=np.float32)


def smooth(x: np.ndarray) -> np.ndarray:
    """(h, w, c) -> averaged over about a pixel each way, with the weights 1 2 1; the edge goes on."""
    for axis in (0, 1):
        padded = np.pad(x, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
        before, here, after = (np.take(padded, np.arange(k, k + x.shape[axis]), axis) for k in range(3))
        x = (before + 2 * here + after) / 4
    return x


def bilinear(grid: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A grid (h, w, c) of values at its cells' middles, read at positions (..., 2) in parts of its sides: (..., c)."""
    height, width = grid.shape[:2]
    return _sampled(grid, positions[..., 0] * width - np.float32(0.5), positions[..., 1] * height - np.float32(0.5))


def _sampled(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(h, w, c) read at float32 x and y in cells, the first cell's middle at 0; the edge goes on."""
    height, width, channels = grid.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    x0, y0 = np.minimum(x.astype(np.intp), max(width - 2, 0)), np.minimum(y.astype(np.intp), max(height - 2, 0))
    right, down = (x - x0).astype(np.float32)[..., None], (y - y0).astype(np.float32)[..., None]
    flat = grid.reshape(-1, channels)
    at, east, south = y0 * width + x0, min(1, width - 1), width * min(1, height - 1)
    upper = flat.take(at, 0) * (1 - right) + flat.take(at + east, 0) * right
    lower = flat.take(at + south, 0) * (1 - right) + flat.take(at + south + east, 0) * right
    return upper * (1 - down) + lower * down


def _placed(values: np.ndarray, frame: Frame, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A channel of the frame, (n, n), drawn where the frame lies in a part of the picture; 0 outside of the frame."""
    n = len(values)
    (c, s), scale = frame.across, n / frame.side  # the inverse of the frame's map: cells in a pixel of the picture
    a, b, d, e = c * scale, s * scale, -s * scale, c * scale
    x, y = left - frame.corner[0], top - frame.corner[1]
    data = (a, b, a * x + b * y, d, e, d * x + e * y)
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(
        image.transform((right - left, bottom - top), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    )

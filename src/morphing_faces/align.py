"""The frame: the square in which every model knows faces, set by two eyes; cutting it out of a picture of any size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .errors import UserError
from .rules import EYES_APART, EYES_MIDDLE

Eyes = tuple[tuple[float, float], tuple[float, float]]
EYES_AT: Eyes = (  # where the frame has the eyes, in parts of its side
    (EYES_MIDDLE[0] - EYES_APART / 2, EYES_MIDDLE[1]),
    (EYES_MIDDLE[0] + EYES_APART / 2, EYES_MIDDLE[1]),
)


@dataclass(frozen=True)
class Frame:
    """A square in a picture: its ``corner`` (x, y), its ``side``, and ``across``, the unit vector along its upper edge.

    All in pixels of the picture, whose first pixel lies between 0 and 1.
    """

    corner: tuple[float, float]
    side: float
    across: tuple[float, float]

    @classmethod
    def of(cls, eyes: Eyes) -> Frame:
        """The frame that two eyes set; the one on the picture's left comes first.

        Raises ``UserError`` when they are at one place or not finite.
        """
        (x0, y0), (x1, y1) = ((float(x), float(y)) for x, y in eyes)
        apart = math.hypot(x1 - x0, y1 - y0)
        if not (math.isfinite(apart) and apart >= 1):
            raise UserError(
                f"the eyes are at ({x0:g}, {y0:g}) and ({x1:g}, {y1:g}): they must be at least 1 pixel apart"
            )
        c, s, side = (x1 - x0) / apart, (y1 - y0) / apart, apart / EYES_APART
        across, down = EYES_MIDDLE[0] * side, EYES_MIDDLE[1] * side
        x, y = (x0 + x1) / 2 - across * c + down * s, (y0 + y1) / 2 - across * s - down * c
        return cls((x, y), side, (c, s))

    def matrix(self, size: float) -> tuple[float, float, float, float, float, float]:
        """The affine map (a, b, x, d, e, y) from the frame drawn ``size`` pixels wide to the picture."""
        (c, s), scale = self.across, self.side / size
        return c * scale, -s * scale, self.corner[0], s * scale, c * scale, self.corner[1]


def cut(picture: np.ndarray, frame: Frame, size: int, grey: bool = False) -> np.ndarray:
    """The frame out of an upright picture, uint8 (height, width, 1 or 3) -> uint8 (size, size, 1 if ``grey`` else 3).

    Every pixel is the average of what it covers. Outside of the picture its edge goes on.
    """
    a, b, x, d, e, y = frame.matrix(size)
    corners = np.array([[x + a * u + b * v, y + d * u + e * v] for u in (0, size) for v in (0, size)])
    height, width = picture.shape[:2]
    left, top = (int(k) for k in np.floor(corners.min(0)) - 2)
    right, bottom = (int(k) for k in np.ceil(corners.max(0)) + 2)
    # The part that is needed; where it is outside of the picture, the nearest row and column stand in.
    shrink = max(1, int(frame.side / size / 2))  # so many pixels are averaged first: less to pad, and no aliasing
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    if right <= 0 or bottom <= 0 or left >= width or top >= height or frame.side > 8 * max(width, height):
        raise UserError(f"the frame around the eyes is {frame.side:.0f} pixels wide and hardly touches the picture")
    part = picture[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
    image = Image.fromarray(part[..., 0] if part.ndim == 3 and part.shape[2] == 1 else part).convert("RGB")
    if shrink > 1:
        image = image.reduce(shrink)
    finer = min(4, max(1, math.ceil(frame.side / size / shrink)))  # drawn larger, then averaged
    k = finer * shrink
    inner = (a / k, b / k, (x - left) / shrink, d / k, e / k, (y - top) / shrink)
    drawn = image.transform((size * finer, size * finer), Image.Transform.AFFINE, inner, Image.Resampling.BICUBIC)
    drawn = drawn.reduce(finer) if finer > 1 else drawn
    return np.asarray(drawn.convert("L"))[..., None] if grey else np.asarray(drawn)

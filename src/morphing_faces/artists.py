"""What the window draws: a face and texts, made by Pillow and painted straight into the canvas's pixels.

matplotlib's own scaling of pictures and its texts take ten times longer, and a frame has 16 ms.
A canvas's pixels are uint8 (height, width, 4), the top row first; places and boxes are matplotlib's, from the bottom left.
"""

from __future__ import annotations

import functools
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from .pictures import to_image, to_uint8

Box = tuple[int, int, int, int]  # left, bottom, width, height, in device pixels

PAPER, INK = "#16171a", "#e8e6e3"  # the colours of the canvas and of what is written on it
EDGE = 3  # device pixels of the coloured edge around a frozen face
FINE = 4  # a mark is drawn this many times larger and shrunk, for smooth edges


@dataclass(frozen=True)
class Mark:
    """A ring on the face at ``at``, in parts of its width and height from the top left; ``solid`` is a disc with a rim.

    ``strength`` from 0 to 1 is how clearly it is drawn. With ``hand``, a thin line leads from it to there.
    """

    at: tuple[float, float]
    color: str
    radius: float  # parts of the face's side
    solid: bool = False
    strength: float = 1.0
    hand: tuple[float, float] | None = None


class Face:
    """The picture, scaled smoothly to ``box``."""

    def __init__(self, size: int, worker: Executor) -> None:
        self.box: Box = (0, 0, size, size)
        self._worker = worker  # scales the upper half of it while the caller scales the lower one
        self.pixels: np.ndarray | None = None  # uint8 (height, width, channels), the model's own size
        self.edge: str | None = None  # the colour of an edge around it
        self.marks: list[Mark] = []

    def show(self, picture: np.ndarray) -> None:
        """Take a float picture (height, width, channels) in [0, 1]."""
        self.pixels = to_uint8(picture)

    def paint(self, canvas: np.ndarray) -> Box:
        """Paint it, and return what was painted."""
        if self.pixels is None:
            return (0, 0, 0, 0)
        left, bottom, width, height = self.box
        top = canvas.shape[0] - bottom - height
        target = canvas[top : top + height, left : left + width]
        # Four bytes a pixel, as the canvas has them and Pillow works with inside: nothing is rearranged afterwards.
        picture = to_image(self.pixels).convert("RGB").convert("RGBX")
        half = height // 2
        upper = self._worker.submit(self._paint_rows, picture, target[:half], 0, half)
        self._paint_rows(picture, target[half:], half, height)
        upper.result()
        for mark in self.marks:
            _stamp(target, mark)
        if self.edge:
            color = _bytes(self.edge)
            for border in (target[:EDGE], target[-EDGE:], target[:, :EDGE], target[:, -EDGE:]):
                border[..., :3] = color
        return self.box

    def _paint_rows(self, picture: Image.Image, target: np.ndarray, first: int, end: int) -> None:
        """Paint the rows ``first`` to ``end`` of the scaled picture, and the lines that lead to hands."""
        _, _, width, height = self.box
        rows = (0.0, picture.height * first / height, float(picture.width), picture.height * end / height)
        scaled = picture.resize((width, end - first), Image.Resampling.BICUBIC, box=rows)
        for mark in self.marks:
            if mark.hand:
                ends = [(x * width, y * height - first) for x, y in (mark.at, mark.hand)]
                ImageDraw.Draw(scaled).line(ends, fill=(*_bytes(mark.color), 255), width=max(1, width // 256))
        target[...] = np.asarray(scaled)[: target.shape[0], : target.shape[1]]


def _stamp(target: np.ndarray, mark: Mark) -> None:
    """Paint a mark into the face's pixels (height, width, 4); what lies outside is cut off."""
    height, width = target.shape[:2]
    disc = _disc(mark.color, max(3, round(mark.radius * width)), mark.solid, mark.strength)
    size = len(disc)
    left, top = (round(part * side - size / 2) for part, side in zip(mark.at, (width, height), strict=True))
    x, y = max(left, 0), max(top, 0)
    under = target[y : max(top + size, 0), x : max(left + size, 0)]
    seen = disc[y - top :, x - left :][: under.shape[0], : under.shape[1]]
    alpha = seen[..., 3:].astype(np.uint16)
    under[..., :3] = (seen[..., :3] * alpha + under[..., :3] * (255 - alpha) + 127) // 255


@functools.lru_cache(64)
def _disc(color: str, radius: int, solid: bool, strength: float) -> np.ndarray:
    """A ring, or a disc, with a dark rim that shows on light skin: uint8 RGBA (size, size, 4)."""
    size = 2 * radius + 4
    image = Image.new("RGBA", (size * FINE, size * FINE), (0, 0, 0, 0))
    edge, middle = round(FINE * 1.5), size * FINE / 2
    draw = ImageDraw.Draw(image)

    def ring(r: float, ink: str, fill: str | None = None) -> None:
        box = (middle - r, middle - r, middle + r, middle + r)
        draw.ellipse(box, (*_bytes(fill), 255) if fill else None, (*_bytes(ink), 255), edge)

    ring(radius * FINE + edge / 2, PAPER)
    ring(radius * FINE - edge / 2, color, color if solid else None)
    pixels = np.array(image.resize((size, size), Image.Resampling.BOX))
    pixels[..., 3] = np.rint(pixels[..., 3] * strength)
    return pixels


class Label:
    """A text at a place, aligned there; ``turned`` reads upwards, ``backdrop`` puts a dark panel under it."""

    def __init__(
        self, across: str, along: str, *, turned: bool = False, monospace: bool = False, backdrop: bool = False
    ):
        self.across, self.along, self.turned, self.monospace, self.backdrop = across, along, turned, monospace, backdrop
        self.text, self.color, self.at, self.height = "", INK, (0.0, 0.0), 14

    @property
    def look(self) -> tuple[str, str, int, tuple[float, float]]:
        """All that decides how it looks: while this stays the same, it need not be painted again."""
        return self.text, self.color, self.height, self.at

    def paint(self, canvas: np.ndarray) -> Box:
        """Paint it, and return what was painted."""
        if not self.text:
            return (0, 0, 0, 0)
        picture = self._picture()
        height, width = picture.shape[:2]
        left = round(self.at[0] - {"left": 0, "center": width / 2, "right": width}[self.across])
        bottom = round(self.at[1] - {"bottom": 0, "middle": height / 2, "top": height}[self.along])
        top = canvas.shape[0] - bottom - height
        x, y = max(left, 0), max(top, 0)  # what lies outside the canvas is cut off
        target = canvas[y : max(top + height, 0), x : max(left + width, 0)]
        seen = picture[y - top :, x - left :][: target.shape[0], : target.shape[1]]
        alpha = seen[..., 3:].astype(np.uint16)
        target[..., :3] = (seen[..., :3] * alpha + target[..., :3] * (255 - alpha) + 127) // 255
        return left, bottom, width, height

    def _picture(self) -> np.ndarray:
        """The text as uint8 RGBA (height, width, 4)."""
        pixels = _written(self.text, self.color, self.height, self.monospace, self.backdrop)
        return np.rot90(pixels) if self.turned else pixels


@functools.lru_cache(256)  # the same coordinates come again and again; 3 MB
def _written(text: str, color: str, height: int, monospace: bool, backdrop: bool) -> np.ndarray:
    font = _font(monospace, round(height * (0.8 if monospace else 1)))
    pad, spacing = height if backdrop else 1, round(height * 0.45)
    _, _, right, below = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
        (0, 0), text, font=font, spacing=spacing
    )
    size, ink = (round(right) + 2 * pad, round(below) + 2 * pad), _bytes(color)
    image = Image.new("RGBA", size, (*_bytes(PAPER), 225) if backdrop else (*ink, 0))
    ImageDraw.Draw(image).multiline_text((pad, pad), text, font=font, spacing=spacing, fill=ink)
    return np.asarray(image)


@functools.cache
def _font(monospace: bool, size: int) -> ImageFont.FreeTypeFont:
    name = "DejaVuSansMono.ttf" if monospace else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


@functools.cache
def _bytes(color: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return red, green, blue

"""Faces drawn beforehand: the page moves the face on such a sheet until its model is there."""

from __future__ import annotations

import io

import numpy as np

from .bundle import Bundle
from .noise import normal
from .rules import SHEET_SIDE

MOST_BYTES = 150_000  # of a sheet; its quality goes down until it fits


def file_name(seed: int) -> str:
    """What a sheet is called, in a bundle and on the page."""
    return f"sheet-{seed}.webp"


def is_sheet(file: str) -> bool:
    """Whether a file of a bundle is a sheet."""
    return file.startswith("sheet-") and file.endswith(".webp")


def reach(z: np.ndarray, dimensions: tuple[int, ...]) -> float:
    """How far a sheet goes from 0 along both axes: to the edge of the hover square, and to the face itself."""
    return max(1.0, abs(float(z[dimensions[0]])), abs(float(z[dimensions[1]])))


def draw(bundle: Bundle, seed: int) -> bytes:
    """The seed's first face over the first two dimensions, as a WebP of SHEET_SIDE x SHEET_SIDE faces without gaps.

    Columns are the first dimension from ``-reach`` to ``reach``, rows the second, from the top of the square down.
    """
    from .model import Model
    from .render import grid, to_uint8

    model = Model(bundle)
    z = normal(seed, 0, 1, model.latent_size)[0]
    edge = reach(z, model.dimensions)
    values = np.linspace(-edge, edge, SHEET_SIDE, dtype=np.float32)
    latents = np.repeat(z[None], SHEET_SIDE**2, axis=0)
    latents[:, model.dimensions[0]] = np.tile(values, SHEET_SIDE)
    latents[:, model.dimensions[1]] = np.repeat(values[::-1], SHEET_SIDE)
    pictures = to_uint8(np.concatenate([model.decode(row) for row in latents.reshape(SHEET_SIDE, SHEET_SIDE, -1)]))
    sheet = grid(pictures, SHEET_SIDE, gap=0)
    for quality in range(85, 5, -10):
        file = io.BytesIO()
        sheet.save(file, "WEBP", quality=quality, method=4)
        if file.tell() <= MOST_BYTES:
            break
    return file.getvalue()

"""Pictures in, picture files out: grids, traversals, films. Pictures are uint8 (n, height, width, channels) here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from .model import Model
    from .session import Session

FILMS = (".gif", ".png", ".webp")  # what `walk` writes; .png is an animated PNG


def to_uint8(pictures: np.ndarray) -> np.ndarray:
    """Float pictures in [0, 1] of any shape -> uint8, rounded to the nearest of 0 to 255."""
    return np.rint(np.clip(pictures, 0.0, 1.0) * 255).astype(np.uint8)


def to_image(picture: np.ndarray) -> Image.Image:
    """uint8 (height, width, channels), one or three channels -> a Pillow image, mode L or RGB."""
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)


def enlarge(pictures: np.ndarray, size: int) -> np.ndarray:
    """Scale pictures smoothly (bicubic) to the height ``size``, keeping their proportions."""
    n, height, width, channels = pictures.shape
    if size == height or n == 0:
        return pictures
    shape = (max(1, round(width * size / height)), size)
    scaled = [np.asarray(to_image(p).resize(shape, Image.Resampling.BICUBIC)) for p in pictures]
    return np.stack(scaled).reshape(n, shape[1], shape[0], channels)


def grid(pictures: np.ndarray, columns: int, gap: int = 2) -> Image.Image:
    """One picture of rows of ``columns`` pictures, ``gap`` pixels apart, on white."""
    n, height, width, channels = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return to_image(sheet)


def traversal(model: Model, z: np.ndarray, dimensions: Sequence[int], steps: int, reach: float) -> np.ndarray:
    """What each dimension does to one face: uint8 (len(dimensions) * steps, height, width, channels), a row a dimension.

    ``z`` is (latent_size,); ``dimensions`` are numbers into ``model.dimensions``; the coordinate goes from ``-reach``
    to ``reach`` in ``steps`` equal steps while the others stay as they are.
    """
    values = np.linspace(-reach, reach, steps, dtype=np.float32)
    latents = np.repeat(z[None], len(dimensions) * steps, axis=0)
    for row, dimension in enumerate(dimensions):
        latents[row * steps : (row + 1) * steps, model.dimensions[dimension]] = values
    return to_uint8(model.decode(latents))


def walk(model: Model, session: Session, steps: int, frames_per_step: int) -> np.ndarray:
    """The 2014 random walk as frames: ``steps`` steps of the session's walk, ``frames_per_step`` frames each, eased."""
    t = np.linspace(0, 1, frames_per_step, endpoint=False, dtype=np.float32)[:, None]
    eased = t * t * (3 - 2 * t)
    latents = []
    for _ in range(steps):
        begin = session.z
        session.walk()
        latents.append(begin + eased * (session.z - begin))
    return to_uint8(model.decode(np.concatenate(latents)))


def save_film(frames: np.ndarray, path: str | os.PathLike[str], seconds: float, size: int) -> None:
    """Write frames as an animated GIF, PNG or WebP, by the path's suffix, that plays for ``seconds`` and repeats."""
    suffix = Path(path).suffix.lower()
    if suffix not in FILMS:
        raise ValueError(f"{path}: a film ends in {', '.join(FILMS)}")
    images = [to_image(frame) for frame in enlarge(frames, size)]
    # A GIF counts in hundredths of a second, and viewers slow down anything under two.
    each = max(20, round(100 * seconds / len(images)) * 10) if suffix == ".gif" else 1000 * seconds / len(images)
    by_suffix: dict[str, dict[str, Any]] = {".webp": {"quality": 90, "method": 4}, ".gif": {"optimize": True}}
    options = by_suffix.get(suffix, {})
    images[0].save(
        path, format=suffix[1:].upper(), save_all=True, append_images=images[1:], duration=each, loop=0, **options
    )


def save_picture(picture: np.ndarray, path: str | os.PathLike[str], size: int) -> None:
    """Write one uint8 picture (height, width, channels), enlarged smoothly to ``size`` pixels, in the suffix's format."""
    to_image(enlarge(picture[None], size)[0]).save(path)

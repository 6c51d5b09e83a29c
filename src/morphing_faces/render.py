"""Grids, traversals, films. Pictures are uint8 (n, height, width, channels) here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from . import mp4
from .errors import UserError, need
from .files import atomic_write, replace_folder
from .noise import normal
from .pictures import check_size, enlarge, save_picture, to_image, to_uint8

if TYPE_CHECKING:
    from .model import Model
    from .session import Session

FILMS = (".gif", ".png", ".webp", ".mp4")  # .png is an animated PNG; .mp4 needs the extra [mp4]
FILM_PIXELS = 120_000_000  # of all frames together: an encoder keeps them in memory
GIF_RATE = 50  # frames a second: a GIF counts in hundredths, and viewers slow down anything under two
CHUNK = 64  # faces decoded at a time


# --- sheets


def grid(pictures: np.ndarray, columns: int, gap: int = 2) -> Image.Image:
    """One picture of rows of ``columns`` pictures, ``gap`` pixels apart, on white."""
    n, height, width, channels = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = gap + k // columns * (height + gap), gap + k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return to_image(sheet)


def pairs(originals: np.ndarray, others: np.ndarray, columns: int) -> np.ndarray:
    """Rows of ``columns`` pictures in turn from ``originals`` and ``others``; what is left of the last is white."""
    rows = []
    for first in range(0, len(originals), columns):
        for part in (originals[first : first + columns], others[first : first + columns]):
            blank = np.full((columns - len(part), *part.shape[1:]), 255, np.uint8)
            rows.append(np.concatenate([part, blank]))
    return np.concatenate(rows)


def check_sheet(
    count: int, columns: int, size: int, image_shape: tuple[int, int, int], path: str | os.PathLike[str]
) -> None:
    """Raise ``UserError`` when a grid of ``count`` pictures of the height ``size`` is too large for a file."""
    width = max(1, round(image_shape[1] * size / image_shape[0]))
    remedy = "ask for fewer or smaller faces (--size), or for a folder (-o DIR) where the command writes one"
    check_size(columns * (width + 2) + 2, -(-count // columns) * (size + 2) + 2, path, remedy)


def save_sheet(pictures: np.ndarray, path: Path, columns: int, size: int | None, gap: int = 2) -> None:
    """Write a grid of pictures, enlarged to the height ``size``, whole or not at all."""
    with atomic_write(path) as temporary:
        grid(enlarge(pictures, size or pictures.shape[1]), columns, gap).save(temporary)


def save_samples(model: Model, number: int, seed: int, path: Path, size: int | None, columns: int | None) -> None:
    """Write the first ``number`` faces of a seed as one picture; without ``columns`` it is about square."""
    columns = columns or int(np.ceil(np.sqrt(number)))
    check_sheet(number, columns, size or model.image_shape[0], model.image_shape, path)
    save_sheet(np.concatenate(list(_samples(model, number, seed))), path, columns, size, gap=0 if number == 1 else 2)


def save_each_sample(model: Model, number: int, seed: int, folder: Path, size: int | None) -> None:
    """Write the first ``number`` faces of a seed as one PNG each into a new folder; memory does not grow with them."""
    digits = max(5, len(str(number - 1)))
    row = 0
    with replace_folder(folder) as out:
        for pictures in _samples(model, number, seed):
            for picture in pictures:
                save_picture(picture, out / f"{row:0{digits}}.png", size or model.image_shape[0])
                row += 1


def _samples(model: Model, number: int, seed: int) -> Iterator[np.ndarray]:
    for first in range(0, number, CHUNK):
        z = normal(seed, first, min(CHUNK, number - first), model.latent_size)
        yield to_uint8(model.decode(z))


def decode_uint8(model: Model, latents: np.ndarray, shape: np.ndarray | None = None) -> np.ndarray:
    """Latents (n, latent_size) -> uint8 pictures, with ``shape`` as many again; a quarter of the memory of all at once."""
    parts = [
        to_uint8(model.decode(latents[part], None if shape is None else shape[part]))
        for first in range(0, len(latents), CHUNK)
        for part in (slice(first, first + CHUNK),)
    ]
    return np.concatenate(parts) if parts else np.empty((0, *model.image_shape), np.uint8)


def traversal(model: Model, z: np.ndarray, dimensions: Sequence[int], steps: int, reach: float) -> np.ndarray:
    """What each dimension does to one face: uint8 (len(dimensions) * steps, height, width, channels), a row a dimension.

    ``z`` is (latent_size,); ``dimensions`` are numbers into ``model.dimensions``; the coordinate goes from ``-reach``
    to ``reach`` in ``steps`` equal steps while the others stay as they are.
    """
    values = np.linspace(-reach, reach, steps, dtype=np.float32)
    latents = np.repeat(z[None], len(dimensions) * steps, axis=0)
    for row, dimension in enumerate(dimensions):
        latents[row * steps : (row + 1) * steps, model.dimensions[dimension]] = values
    return decode_uint8(model, latents)


def attribute_traversal(model: Model, z: np.ndarray, steps: int, reach: float) -> np.ndarray:
    """What each of the model's attributes does to one face: as :func:`traversal`, from ``-reach`` to ``reach`` away."""
    values = np.linspace(-reach, reach, steps)
    ways = [attribute.direction for attribute in model.attributes.values()]
    latents = [z + value * way for way in ways for value in values]
    return decode_uint8(model, np.asarray(latents, np.float32))


# --- films


def walk(model: Model, session: Session, steps: int, frames_per_step: int) -> np.ndarray:
    """The 2014 random walk as frames: ``steps`` steps of the session's walk, ``frames_per_step`` frames each, eased."""
    t = np.linspace(0, 1, frames_per_step, endpoint=False, dtype=np.float32)[:, None]
    eased = t * t * (3 - 2 * t)
    latents = []
    for _ in range(steps):
        begin = session.z
        session.walk()
        latents.append(begin + eased * (session.z - begin))
    appearance, shape = session.parts(np.concatenate(latents))
    return decode_uint8(model, appearance, shape)


def check_film(frames: int, size: int, rate: float, path: str | os.PathLike[str]) -> None:
    """Raise ``UserError`` when a film is too large to encode, too quick for its format, or what writes it is missing."""
    if Path(path).suffix.lower() == ".mp4":
        need("av", "writing MP4")
    if frames * size * size > FILM_PIXELS:
        most = FILM_PIXELS // (size * size)
        raise UserError(
            f"{frames:,} frames of {size} x {size} pixels: at most {most:,} of this --size; take fewer frames"
        )
    if Path(path).suffix.lower() == ".gif" and rate > GIF_RATE:
        raise UserError(f"--rate {rate:g}: a GIF plays at most {GIF_RATE} frames a second; write a .webp or .png")


def save_film(frames: np.ndarray, path: str | os.PathLike[str], seconds: float, size: int) -> None:
    """Write frames as an animated GIF, PNG or WebP, that plays for ``seconds`` and repeats, or as MP4; by the suffix.

    Raises ``UserError`` when the suffix is another, or what writes MP4 is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".mp4":
        return mp4.write((enlarge(frame[None], size)[0] for frame in frames), path, len(frames) / seconds)
    if suffix not in FILMS:
        raise UserError(f"{path}: a film ends in {', '.join(FILMS)}")
    ends = np.arange(1, len(frames) + 1) * (1000 * seconds / len(frames))
    step = 10 if suffix == ".gif" else 1  # a GIF counts in hundredths of a second; rounding does not add up
    durations = np.diff(np.rint(ends / step).astype(int) * step, prepend=0)
    by_suffix: dict[str, dict[str, Any]] = {".webp": {"quality": 90, "method": 4}, ".gif": {"optimize": True}}
    images = [to_image(enlarge(frame[None], size)[0]) for frame in frames]
    images[0].save(
        path, format=suffix[1:].upper(), save_all=True, append_images=images[1:], duration=[int(d) for d in durations],
        loop=0, **by_suffix.get(suffix, {}),
    )  # fmt: skip

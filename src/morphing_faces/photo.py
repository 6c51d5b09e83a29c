"""A photograph -> the frame: the square, upright picture of a set size that a model reads."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

READ_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    Image.DecompressionBombError,
)  # what a broken or hostile picture makes Pillow raise


def open_frame(path: str | os.PathLike[str], image_shape: tuple[int, int, int]) -> np.ndarray:
    """A picture file -> uint8 (height, width, channels), as :func:`frame` does.

    Raises ``ValueError`` with one line that names the file and says why it cannot be read.
    """
    try:
        with Image.open(Path(path)) as picture:
            return frame(picture, image_shape[0], grey=image_shape[2] == 1)
    except READ_ERRORS as error:
        raise ValueError(f"{path}: {read_failure(error)}") from None


def read_failure(error: BaseException) -> str:
    """Why a picture could not be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP and GIF can)"
    if isinstance(error, Image.DecompressionBombError):
        return f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: make it smaller"
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def frame(picture: Image.Image, size: int, grey: bool) -> np.ndarray:
    """A picture -> uint8 (size, size, channels): upright, the middle square, Lanczos. Alpha is laid on white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I;16", "I;16B", "I", "F"):
        picture = Image.fromarray(to_uint8(np.asarray(picture)))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = (left, top, left + side, top + side)
    resized = picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS, box=square)
    pixels = np.asarray(resized.convert("L") if grey else resized)
    return pixels[..., None] if grey else pixels


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Any numeric picture array -> uint8; floats are 0 to 1 or 0 to 255, wider integers are 16 bits deep."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if not np.isfinite(array).all():
        raise ValueError("has values that are not finite")
    scaled = array.astype(np.float64)
    if array.dtype.kind == "f":
        scaled = scaled * 255 if scaled.max(initial=0) <= 1 else scaled
    elif scaled.max(initial=0) > 255:
        scaled = scaled / 257
    if scaled.min(initial=0) < 0 or scaled.max(initial=0) > 255.5:
        raise ValueError(f"has values from {array.min()} to {array.max()}, expected 0 to 1 or 0 to 255")
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)

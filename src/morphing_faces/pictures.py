"""From a picture to an array and back. What is read comes out upright, 8 bits deep, on white, in grey or RGB."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import UserError, one_line, reason
from .files import read_bytes

WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # the suffixes of pictures that can be written
MAX_PIXELS = 89_478_485  # of a picture that is read or written: Pillow's own bound against decompression bombs
MAX_SIDES = {".jpg": 65_535, ".jpeg": 65_535, ".webp": 16_383}  # pixels of the longer side that a format can hold
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# --- in


def open_picture(source: str | os.PathLike[str] | bytes, name: str = "the picture") -> Image.Image:
    """A picture file, or its bytes, of any format that Pillow reads -> an upright Pillow image of mode L or RGB.

    Sixteen bits become eight by their type, never by their content; what is transparent lies on white; of an animation
    it is the first frame. Raises ``UserError`` with one line that names the file (bytes: ``name``) and says why not.
    """
    picture, turn = _decode(source, name)
    return picture if turn is None else picture.transpose(turn)


def read_picture(source: str | os.PathLike[str] | bytes, name: str = "the picture") -> np.ndarray:
    """:func:`open_picture` as an array: uint8 (height, width, 3), grey repeated."""
    return np.asarray(open_picture(source, name).convert("RGB"))


def open_frame(
    source: str | os.PathLike[str] | bytes, image_shape: tuple[int, int, int], name: str = "the picture"
) -> np.ndarray:
    """A picture file, or its bytes -> uint8 ``image_shape``, cut and scaled as :func:`frame` does. Raises ``UserError``."""
    picture, turn = _decode(source, name)
    pixels = frame(picture, image_shape)
    if turn is None:
        return pixels
    turned = to_image(pixels).transpose(turn)  # after scaling: the whole picture is not copied for it
    return np.asarray(turned).reshape(image_shape)


def frame(picture: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The middle square of a picture, scaled (Lanczos) to the frame of a model: uint8 (height, width, channels)."""
    height, width, channels = image_shape
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = (left, top, left + side, top + side)
    resized = _plain(picture).convert("RGB").resize((width, height), Image.Resampling.LANCZOS, box=square)
    return np.asarray(resized.convert("L") if channels == 1 else resized).reshape(image_shape)


def _decode(source: str | os.PathLike[str] | bytes, name: str) -> tuple[Image.Image, Image.Transpose | None]:
    """The picture as it is stored, in mode L or RGB, and the turn that makes it upright."""
    if not isinstance(source, bytes):
        name, source = os.fspath(source), read_bytes(source)
    if is_heic(source):
        _register_heic(name)
    try:
        with Image.open(io.BytesIO(source)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.width} x {picture.height}"
                raise UserError(f"has {size} pixels, more than {MAX_PIXELS:,} together: make it smaller")
            picture.load()
            return _plain(picture), UPRIGHT.get(_orientation(picture))
    except UserError as error:
        raise UserError(f"{name} {error}") from None
    except UnidentifiedImageError:
        raise UserError(
            f"{name} is not a picture that can be read (PNG, JPEG, WebP, AVIF, TIFF, BMP and GIF can)"
        ) from None
    except Image.DecompressionBombError:
        raise UserError(f"{name} has more than {MAX_PIXELS:,} pixels: make it smaller") from None
    except Exception as error:  # on a damaged file Pillow's decoders raise nearly everything there is
        raise UserError(f"{name} cannot be read: {reason(error)}") from None


def is_picture(begin: bytes) -> bool:
    """Whether a file that begins with these bytes (32 are enough) is a picture of a common format."""
    return (
        begin.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP"))
        or (begin[:4] == b"RIFF" and begin[8:12] == b"WEBP")
        or (begin[4:8] == b"ftyp" and begin[8:12] in {b"avif", b"avis", *HEIC_BRANDS})
    )


def is_heic(begin: bytes) -> bool:
    """Whether a file that begins with these bytes (12 are enough) is what iPhones write, and Pillow alone cannot read."""
    return begin[4:8] == b"ftyp" and begin[8:12] in HEIC_BRANDS and b"avif" not in begin[16:64]


def _register_heic(name: str) -> None:
    try:
        import pillow_heif
    except ImportError:
        raise UserError(
            f"{name} is an HEIC picture: save it as JPEG, or install what reads it: pip install 'morphing-faces[heic]'"
        ) from None
    pillow_heif.register_heif_opener()


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the tag is missing, or the whole of the EXIF is broken."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises nearly everything on broken EXIF; the picture itself can still be read
        return 1


def _plain(picture: Image.Image) -> Image.Image:
    """The same picture in mode L or RGB, 8 bits a channel."""
    mode = picture.mode
    if mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if mode.startswith("I;16"):
        return Image.fromarray(to_uint8(np.asarray(picture).astype(np.uint16)))
    if mode == "I":  # 16-bit pictures, in a type that is wider
        values = np.asarray(picture)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65_535:
            raise UserError(f"has values from {values.min()} to {values.max()}, expected 0 to 65535")
        return Image.fromarray(to_uint8(values.astype(np.uint16)))
    if mode == "F":
        return Image.fromarray(to_uint8(np.asarray(picture)))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("L" if mode == "1" else "RGB")


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Pictures of any shape -> uint8, the depth by their type: floats are 0 to 1, uint16 is 0 to 65535.

    Every other whole number is 0 to 255, and booleans are black and white. Raises ``UserError`` when a value is not
    finite or out of its type's range, beyond what rounding brings about.
    """
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind not in "iuf":
        raise UserError(f"has values of type {array.dtype}, expected numbers")
    if kind == "f":
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
        if not (low >= -1 / 255 and high <= 1 + 1 / 255):  # false for NaN, too
            raise UserError(f"has values from {low:g} to {high:g}, expected numbers from 0 to 1")
        return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    if array.dtype == np.uint16:
        return np.rint(array / np.float32(257)).astype(np.uint8)
    low, high = array.min(initial=0), array.max(initial=0)
    if low < 0 or high > 255:
        raise UserError(f"has values from {low} to {high}, expected 0 to 255; pictures of 16 bits are uint16")
    return array.astype(np.uint8)


# --- out


def to_image(picture: np.ndarray) -> Image.Image:
    """uint8 (height, width, channels), one or three channels -> a Pillow image, mode L or RGB."""
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)


def enlarge(pictures: np.ndarray, size: int) -> np.ndarray:
    """Scale uint8 pictures (n, height, width, channels) smoothly (bicubic) to the height ``size``, in proportion."""
    n, height, width, channels = pictures.shape
    if size == height or n == 0:
        return pictures
    shape = (max(1, round(width * size / height)), size)
    scaled = [np.asarray(to_image(p).resize(shape, Image.Resampling.BICUBIC)) for p in pictures]
    return np.stack(scaled).reshape(n, shape[1], shape[0], channels)


def save_picture(picture: np.ndarray, path: str | os.PathLike[str], size: int) -> None:
    """Write one uint8 picture (height, width, channels), enlarged smoothly to ``size`` pixels, in the suffix's format."""
    to_image(enlarge(picture[None], size)[0]).save(path)


def check_size(width: int, height: int, path: str | os.PathLike[str], remedy: str) -> None:
    """Raise ``UserError``, which ends in the remedy, when a picture of this size is too large to make or to write."""
    most = MAX_SIDES.get(Path(path).suffix.lower())
    if width * height > MAX_PIXELS:
        allowed = f"{MAX_PIXELS:,} together"
    elif most and max(width, height) > most:
        allowed = f"{most:,} a side in a {Path(path).suffix}"
    else:
        return
    raise UserError(
        f"{one_line(os.fspath(path))} would have {width:,} x {height:,} pixels, more than {allowed}: {remedy}"
    )

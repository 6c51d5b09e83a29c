"""From any picture file to an upright array of 8 bits, and back."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from conftest import drawn_face, drawn_faces
from morphing_faces.errors import UserError
from morphing_faces.pictures import check_size, frame, is_heic, open_frame, open_picture, read_picture, to_uint8

FACE = drawn_faces(1, size=32, seed=3)[0]
GREY = np.asarray(Image.fromarray(FACE).convert("L"))


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_exif(exif: bytes) -> bytes:
    """A JPEG whose EXIF block is these bytes."""
    whole = saved(Image.fromarray(FACE).rotate(90, expand=True), "JPEG", quality=95)
    block = b"Exif\0\0" + exif
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]


def tags(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A little-endian TIFF header with one directory: tag, type, count and four bytes of each."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries
    ) + bytes(4)  # fmt: skip


ORIENTATION = (0x0112, 3, 1, b"\x06\0\0\0")


@pytest.mark.parametrize(
    "exif",
    [
        tags(ORIENTATION),
        tags(ORIENTATION, (0x011A, 2, 4, b"72/1")),  # a resolution that is a text
        tags(ORIENTATION, (0x011A, 5, 1, b"\xff\xff\xff\x7f")),  # one that lies behind the end
        tags(ORIENTATION, (0x8769, 4, 1, b"\xff\xff\xff\x7f")),  # a directory that lies there
    ],
)
def test_a_photograph_is_upright_even_where_its_exif_is_broken(exif: bytes) -> None:
    content = with_exif(exif)
    upright = read_picture(content)
    assert np.abs(upright.astype(int) - FACE).mean() < 8
    assert np.abs(open_frame(content, (32, 32, 3)).astype(int) - upright).max() <= 1


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"\xff" * 40, tags((0x0112, 3, 1, b"\x63\0\0\0"))])
def test_exif_that_says_nothing_turns_nothing(exif: bytes) -> None:
    assert np.abs(read_picture(with_exif(exif)).astype(int) - np.rot90(FACE)).mean() < 8


@pytest.mark.parametrize("turn", range(1, 9))
def test_all_eight_orientations_are_turned_back(turn: int) -> None:
    stored = {
        1: FACE, 2: FACE[:, ::-1], 3: FACE[::-1, ::-1], 4: FACE[::-1], 5: FACE.transpose(1, 0, 2),
        6: np.rot90(FACE), 7: FACE[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(FACE, -1),
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    content = saved(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(read_picture(content), FACE)
    assert np.array_equal(open_frame(content, (32, 32, 3)), FACE)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "BMP", "JPEG"])
def test_a_picture_is_known_by_its_content_whatever_its_name(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("AVIF", "JPEG") else {}
    (tmp_path / "face").write_bytes(saved(Image.fromarray(FACE), kind, **options))
    assert np.abs(read_picture(tmp_path / "face").astype(int) - FACE).mean() < 6


def test_cmyk_is_a_picture_too() -> None:
    content = saved(Image.fromarray(FACE).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read_picture(content).astype(int) - FACE).mean() < 10


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_mode_becomes_grey_or_rgb(mode: str) -> None:
    picture = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(FACE).convert(mode)
    opened = open_picture(saved(picture, "PNG"))
    assert opened.mode in ("L", "RGB")
    if mode not in ("1", "P"):  # those two have few colours
        assert np.abs(np.asarray(opened.convert("L")).astype(int) - GREY).mean() < 3


# --- the depth is the type's, whatever the values


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0, 200, 255], np.uint8), [0, 200, 255]),
        (np.array([0, 200, 300, 65535], np.uint16), [0, 1, 1, 255]),
        (np.array([0, 200, 255], np.int64), [0, 200, 255]),
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0.001, 0.002], np.float32), [0, 1]),
        (np.array([False, True]), [0, 255]),
        (np.zeros((0, 3)), []),
    ],
)
def test_depth_by_type(array: np.ndarray, expected: list[int]) -> None:
    assert to_uint8(array).ravel().tolist() == expected
    assert to_uint8(array).dtype == np.uint8


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([0, 300]), "0 to 300, expected 0 to 255"),
        (np.array([-1, 3], np.int16), "-1 to 3"),
        (np.array([0.0, 200.0]), "0 to 200, expected numbers from 0 to 1"),
        (np.array([0.0, np.nan]), "nan"),
        (np.array([np.inf, 0.0]), "inf"),
        (np.array(["a"]), "expected numbers"),
        (np.array([1j]), "expected numbers"),
    ],
)
def test_values_out_of_the_range_of_their_type_are_refused(array: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        to_uint8(array)


@pytest.mark.parametrize("value", [200, 300, 60_000])
def test_a_dark_picture_of_16_bits_stays_dark(value: int) -> None:
    opened = np.asarray(open_picture(saved(Image.fromarray(np.full((8, 8), value, np.uint16)), "PNG")))
    assert opened.ravel()[0] == round(value / 257)


# --- what cannot be read


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a picture that can be read"),
        (b"\x89PNG\r\n\x1a\n", "it "),
        (saved(Image.fromarray(FACE), "PNG")[:200], "it "),
        (saved(Image.fromarray(FACE), "JPEG")[:300], "it "),
        (lambda: saved(Image.new("1", (30_000, 30_000)), "PNG"), "more than 89,478,485"),
        (lambda: saved(Image.new("L", (10_000, 10_000)), "PNG"), "10000 x 10000"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(100), "not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture that can be read"),
    ],
    ids=["nothing", "a mark", "half a PNG", "half a JPEG", "a bomb", "too large", "HEIC", "SVG"],
)
def test_what_cannot_be_read_is_one_line(content: bytes | Callable[[], bytes], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        open_picture(content if isinstance(content, bytes) else content(), "it")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("it ")


@pytest.mark.parametrize("orientation", [1, 6])
def test_what_an_iphone_writes_is_read_upright(orientation: int) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = saved(drawn_face(), "HEIF", quality=95, exif=exif.tobytes())
    assert is_heic(content)
    upright = drawn_face() if orientation == 1 else drawn_face().transpose(Image.Transpose.ROTATE_270)
    assert np.abs(read_picture(content).astype(int) - np.asarray(upright)).mean() < 2


def test_without_what_reads_heic_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r"IMG_1 is an HEIC picture: save it as JPEG, .*morphing-faces\[heic\]"):
        open_picture(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(100), "IMG_1")


def test_heic_and_avif_are_told_apart() -> None:
    assert is_heic(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic")
    assert not is_heic(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif")
    assert not is_heic(saved(Image.fromarray(FACE), "AVIF"))


def test_the_middle_square_becomes_the_frame() -> None:
    wide = Image.new("RGB", (64, 32), "red")
    wide.paste(Image.fromarray(FACE), (16, 0))
    assert np.array_equal(frame(wide, (32, 32, 3)), FACE)
    assert frame(wide, (16, 16, 1)).shape == (16, 16, 1)


def test_pictures_too_large_to_write_are_told_before_they_are_made() -> None:
    check_size(1000, 1000, "a.png", "no")
    with pytest.raises(UserError, match=r"a\.png would have 100,000 x 100,000 pixels, .*: ask for fewer"):
        check_size(100_000, 100_000, "a.png", "ask for fewer")
    with pytest.raises(UserError, match=r"16,383 a side in a \.webp"):
        check_size(20_000, 10, "a.webp", "ask for fewer")

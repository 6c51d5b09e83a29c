"""Pictures from anywhere -> one array: what is read, what is skipped, what is held out, and that nothing is left half done."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from conftest import drawn_faces
from morphing_faces import prepare as preparing
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError

FACES = drawn_faces(40, size=16, seed=5)


def prepare(*sources: Path | str, out: Path, size: int = 16, **options: Any) -> tuple[dict[str, Any], Dataset]:
    record = preparing.prepare([str(source) for source in sources], out, size=size, progress=False, **options)
    return record, open_dataset(out)


def save_faces(folder: Path, faces: np.ndarray = FACES, name: str = "{:03}.png") -> Path:
    for row, face in enumerate(faces):
        path = folder / name.format(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(path)
    return folder


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return file


def save_one(folder: Path, picture: Image.Image, name: str = "one.png", **options: Any) -> Path:
    folder.mkdir()
    picture.save(folder / name, **options)
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(message: str) -> str:
    assert message.strip()
    assert "\n" not in message
    return message


# --- what is read


def test_a_folder_is_read_at_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save_faces(folder, FACES[:1], "a{}.png")
    save_faces(folder, FACES[1:2], "b/c{}.png")
    save_faces(folder, FACES[2:3], "b/d/e/f{}.bmp")
    (folder / "notes.txt").write_text("not a picture")
    save_faces(folder, FACES[3:4], ".hidden{}.png")
    record, data = prepare(folder, out=tmp_path / "out")
    assert np.array_equal(data.images, FACES[:3])
    assert record["skipped"] == []
    assert record["sources"] == [{"source": "in", "found": 3, "used": 3}]


def test_a_zip_gives_the_pictures_and_labels_of_its_folder(tmp_path: Path) -> None:
    folder = save_faces(tmp_path / "in", FACES[:5], "some/{:03}.png")
    (folder / "labels.csv").write_text("file,smile,age\nsome/001.png,yes,30\n003.png,no,\n", encoding="utf-8")
    _, data = prepare(zipped(folder, tmp_path / "in.zip"), out=tmp_path / "from_zip")
    assert np.array_equal(data.images, FACES[:5])
    assert data.labels == {"smile": ["", "yes", "", "no", ""], "age": ["", "30", "", "", ""]}
    _, same = prepare(folder, out=tmp_path / "from_folder")
    assert np.array_equal(same.images, data.images)
    assert same.labels == data.labels


def test_labels_without_a_file_column_are_refused_with_the_columns_there_are(tmp_path: Path) -> None:
    folder = save_faces(tmp_path / "in", FACES[:1])
    (folder / "labels.csv").write_text("picture,smile\n000.png,yes\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no 'file' column") as caught:
        prepare(folder, out=tmp_path / "out")
    assert "picture" in one_line(str(caught.value))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda faces: faces,
        lambda faces: np.moveaxis(faces, 3, 1),
        lambda faces: faces.astype(np.float32) / 255,
        lambda faces: faces.astype(np.float64),
        lambda faces: np.moveaxis(faces, 3, 1).astype(np.float32) / 255,
        lambda faces: faces.astype(np.uint16) * 257,
        lambda faces: faces.astype(np.int64),
    ],
    ids=["uint8", "NCHW", "float 0 to 1", "float 0 to 255", "NCHW float", "uint16", "int64"],
)
def test_an_array_of_any_layout_and_type_is_the_same_pictures(
    change: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    np.save(tmp_path / "faces.npy", change(FACES))
    _, data = prepare(tmp_path / "faces.npy", out=tmp_path / "out")
    assert np.array_equal(data.images, FACES)


def test_an_npz_gives_pictures_and_its_columns_as_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "faces.npz", images=FACES[:3], smile=np.array([1, 0, 1]), who=np.array(["ann", "bob", "cy"]))
    record, data = prepare(tmp_path / "faces.npz", out=tmp_path / "out")
    assert data.labels == {"smile": ["1", "0", "1"], "who": ["ann", "bob", "cy"]}
    assert record["labels"] == ["smile", "who"]
    assert np.array_equal(data.images, FACES[:3])


def test_an_npz_with_two_arrays_of_pictures_is_refused_with_their_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "faces.npz", a=FACES[:2], b=FACES[2:5])
    with pytest.raises(ValueError, match="expected one array of pictures") as caught:
        prepare(tmp_path / "faces.npz", out=tmp_path / "out")
    assert "(2, 16, 16, 3)" in one_line(str(caught.value))
    assert "(3, 16, 16, 3)" in str(caught.value)


def test_a_pickle_inside_an_array_file_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return (Path.write_text, (tmp_path / "exploded", "it ran"))

    np.save(tmp_path / "bomb.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"bomb\.npy is not a readable array"):
        prepare(tmp_path / "bomb.npy", out=tmp_path / "out")
    assert not (tmp_path / "exploded").exists()


def test_grey_and_colour_are_turned_into_what_was_asked_for(tmp_path: Path) -> None:
    grey = np.asarray(Image.fromarray(FACES[0]).convert("L"))
    np.save(tmp_path / "grey.npy", grey[None])
    np.save(tmp_path / "colour.npy", FACES[:1])
    _, one = prepare(tmp_path / "grey.npy", out=tmp_path / "gg", grey=True)
    _, two = prepare(tmp_path / "colour.npy", out=tmp_path / "cg", grey=True)
    _, three = prepare(tmp_path / "grey.npy", out=tmp_path / "gc")
    assert one.image_shape == two.image_shape == (16, 16, 1)
    assert np.array_equal(one.images[0, ..., 0], grey)
    assert np.array_equal(two.images, one.images)
    assert np.array_equal(three.images[0], np.repeat(grey[..., None], 3, axis=2))


def test_several_sources_stand_one_after_the_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=FACES[:2], smile=np.array([1, 0]))
    save_faces(tmp_path / "b", FACES[2:4])
    record, data = prepare(tmp_path / "a.npz", tmp_path / "b", out=tmp_path / "out")
    assert np.array_equal(data.images, FACES[:4])
    assert data.labels == {"smile": ["1", "0", "", ""]}
    assert [source["source"] for source in record["sources"]] == ["a.npz", "b"]


def test_a_picture_is_turned_upright_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    turned = Image.fromarray(FACES[0]).rotate(90)
    _, data = prepare(save_one(tmp_path / "in", turned, exif=exif), out=tmp_path / "out")
    assert np.array_equal(data.images[0], FACES[0])


def test_the_middle_square_of_an_oblong_picture_is_taken(tmp_path: Path) -> None:
    wide = Image.new("RGB", (40, 16), "red")
    wide.paste(Image.fromarray(FACES[0]), (12, 0))
    _, data = prepare(save_one(tmp_path / "in", wide), out=tmp_path / "out")
    assert np.array_equal(data.images[0], FACES[0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str, tmp_path: Path) -> None:
    if mode == "P":
        picture = Image.new("P", (16, 16), 1)
        picture.putpalette([0, 0, 0, 10, 20, 30])
        picture.paste(0, (0, 0, 8, 16))
        folder = save_one(tmp_path / "in", picture, transparency=0)
        opaque = [10, 20, 30]
    else:
        picture = Image.new(mode, (16, 16), (10, 20, 30, 255) if mode == "RGBA" else (50, 255))
        picture.paste((0, 0, 0, 0) if mode == "RGBA" else (0, 0), (0, 0, 8, 16))
        folder = save_one(tmp_path / "in", picture)
        opaque = [10, 20, 30] if mode == "RGBA" else [50, 50, 50]
    _, data = prepare(folder, out=tmp_path / "out")
    assert data.images[0, 8, 1].tolist() == [255, 255, 255]
    assert data.images[0, 8, 14].tolist() == opaque


def test_a_16_bit_picture_keeps_its_brightness(tmp_path: Path) -> None:
    grey = np.asarray(Image.fromarray(FACES[0]).convert("L"))
    folder = save_one(tmp_path / "in", Image.fromarray(grey.astype(np.uint16) * 257))
    _, data = prepare(folder, out=tmp_path / "out", grey=True)
    assert np.array_equal(data.images[0, ..., 0], grey)


# --- what people and their tools really hand over


def encrypted(archive: bytes, name: bytes) -> bytes:
    """The same zip, its headers saying that a member is encrypted."""
    content = bytearray(archive)
    at = content.rindex(b"PK\x01\x02", 0, content.rindex(name))
    content[at + 8] |= 1
    content[content.index(b"PK\x03\x04", 0, content.index(name) + 1) + 6] |= 1
    return bytes(content)


def with_method(archive: bytes, name: bytes, method: int) -> bytes:
    content = bytearray(archive)
    content[content.rindex(b"PK\x01\x02", 0, content.rindex(name)) + 10] = method
    return bytes(content)


def labelled_zip(labels: bytes = b"file,smile\na.png,yes\n") -> bytes:
    file = io.BytesIO()
    picture = io.BytesIO()
    Image.fromarray(FACES[0]).save(picture, "PNG")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("labels.csv", labels)
        archive.writestr("a.png", picture.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content.replace(b"a.png,yes", b"a.png,not"), "Bad CRC-32"),
        (lambda content: encrypted(content, b"labels.csv"), "encrypted"),
        (lambda content: with_method(content, b"labels.csv", 9), "compression method"),
        (lambda content: content[:100], "is not a readable zip"),
    ],
    ids=["another checksum", "encrypted", "an unknown method", "cut"],
)
def test_a_zip_whose_labels_cannot_be_read_is_one_line(
    damage: Callable[[bytes], bytes], said: str, tmp_path: Path
) -> None:
    (tmp_path / "in.zip").write_bytes(damage(labelled_zip()))
    with pytest.raises(UserError, match=said) as caught:
        prepare(tmp_path / "in.zip", out=tmp_path / "out")
    assert "in.zip" in one_line(str(caught.value))
    assert left_in(tmp_path) == ["in.zip"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("file,größe\na.png,5\n".encode("latin-1"), "not UTF-8"),
        (b"file,file\na.png,a\n", "two columns"),
        (b'file,x\n"' + b"a" * 200_000 + b"\n", "field larger"),
    ],
    ids=["latin-1", "twice the same", "a cell without end"],
)
def test_a_table_of_labels_that_cannot_be_read_is_named(labels: bytes, said: str, tmp_path: Path) -> None:
    folder = save_faces(tmp_path / "in", FACES[:1])
    (folder / "labels.csv").write_bytes(labels)
    (tmp_path / "in.zip").write_bytes(labelled_zip(labels))
    for source in (folder, tmp_path / "in.zip"):
        with pytest.raises(UserError, match=said) as caught:
            prepare(source, out=tmp_path / "out")
        assert "labels.csv" in one_line(str(caught.value))


def test_a_column_called_row_is_a_label_like_any_other(tmp_path: Path) -> None:
    folder = save_faces(tmp_path / "in", FACES[:2])
    (folder / "labels.csv").write_text("file,row\n000.png,999\n001.png,7\n", encoding="utf-8-sig")
    _, data = prepare(folder, out=tmp_path / "out")
    assert data.labels == {"row": ["999", "7"]}


def test_two_members_of_one_name_are_two_pictures(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for face in FACES[:2]:
            content = io.BytesIO()
            Image.fromarray(face).save(content, "PNG")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("a.png", content.getvalue())
    _, data = prepare(tmp_path / "in.zip", out=tmp_path / "out")
    assert np.array_equal(data.images, FACES[:2])


def test_what_unpacks_to_too_much_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "PICTURE_LIMIT", 1000)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(100_000))
        content = io.BytesIO()
        Image.fromarray(FACES[0]).save(content, "PNG")
        archive.writestr("a.png", content.getvalue())
    record, data = prepare(tmp_path / "in.zip", out=tmp_path / "out")
    assert "unpacks to more than 1,000 bytes" in record["skipped"][0]["why"]
    assert len(data.images) == 1


def test_pictures_of_a_phone_are_read_or_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    folder = tmp_path / "in"
    folder.mkdir()
    face = Image.fromarray(FACES[0])
    face.save(folder / "a.avif", "AVIF", quality=100)
    face.save(folder / "b.jfif", "JPEG", quality=100)
    face.save(folder / "c", "PNG")
    (folder / "d.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(40))
    (folder / "notes").write_text("no picture, and no suffix")
    record, data = prepare(folder, out=tmp_path / "out")
    assert len(data.images) == 3
    (skipped,) = record["skipped"]
    assert skipped["picture"] == "d.HEIC"
    assert "morphing-faces[heic]" in skipped["why"]


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    save_faces(tmp_path / "elsewhere", FACES[:2])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    _, data = prepare(tmp_path / "in", out=tmp_path / "out")
    assert np.array_equal(data.images, FACES[:2])


@pytest.mark.parametrize("maximum", [200, 300, 60_000])
def test_a_dark_array_of_16_bits_stays_dark(maximum: int, tmp_path: Path) -> None:
    np.save(tmp_path / "dark.npy", np.full((3, 16, 16), maximum, np.uint16))
    _, data = prepare(tmp_path / "dark.npy", out=tmp_path / "out", grey=True)
    assert int(data.images[0, 0, 0, 0]) == round(maximum / 257)


def test_texts_and_headers_that_are_no_arrays_are_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': ((1,), "
    (tmp_path / "paren.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    for name in ("text.npz", "paren.npy"):
        with pytest.raises(UserError, match=name) as caught:
            prepare(tmp_path / name, out=tmp_path / "out")
        one_line(str(caught.value))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_is_skipped_and_printed_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_faces(tmp_path / "in", FACES[:1])
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9\x1b[31m.png")).write_bytes(b"junk")
    record, _ = prepare(folder, out=tmp_path / "out")
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "udce9" in said
    json.dumps(record).encode("utf-8")


def test_a_source_is_never_what_is_replaced(tmp_path: Path) -> None:
    prepare(save_faces(tmp_path / "in", FACES[:2]), out=tmp_path / "out")
    with pytest.raises(UserError, match="holds the source"):
        prepare(tmp_path / "out" / "images.npy", out=tmp_path / "out", overwrite=True)
    assert len(open_dataset(tmp_path / "out").images) == 2


# --- what is held out


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return save_faces(tmp_path / "many", drawn_faces(150, size=12, seed=9))


def test_the_held_out_pictures_do_not_depend_on_size_colour_or_packing(many: Path, tmp_path: Path) -> None:
    _, folder = prepare(many, out=tmp_path / "a", size=12)
    _, archive = prepare(zipped(many, tmp_path / "many.zip"), out=tmp_path / "b", size=12)
    _, small = prepare(many, out=tmp_path / "c", size=8, grey=True)
    assert 0 < folder.held_out.sum() < 30
    assert np.array_equal(folder.held_out, archive.held_out)
    assert np.array_equal(folder.held_out, small.held_out)


def test_the_held_out_pictures_do_not_depend_on_names_or_order(many: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    names = sorted(path.name for path in many.iterdir())
    for old, new in zip(names, reversed(names), strict=True):
        (renamed / new).write_bytes((many / old).read_bytes())
    _, one = prepare(many, out=tmp_path / "a", size=12)
    _, two = prepare(renamed, out=tmp_path / "b", size=12)
    assert np.array_equal(one.held_out, two.held_out[::-1])
    assert np.array_equal(one.images, two.images[::-1])


def test_an_array_in_another_order_holds_out_the_same_pictures(tmp_path: Path) -> None:
    faces = drawn_faces(150, size=12, seed=9)
    np.save(tmp_path / "a.npy", faces)
    np.save(tmp_path / "b.npy", faces[::-1])
    _, one = prepare(tmp_path / "a.npy", out=tmp_path / "a", size=12)
    _, two = prepare(tmp_path / "b.npy", out=tmp_path / "b", size=12)
    assert one.held_out.any()
    assert np.array_equal(one.held_out, two.held_out[::-1])


def test_about_a_twentieth_is_held_out_and_no_picture_is_in_both_parts(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4000, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    record, data = prepare(tmp_path / "noise.npy", out=tmp_path / "out", size=8, grey=True)
    assert 140 <= record["held_out"] <= 260  # 200 expected, a standard deviation is 14
    train, held_out = data.training, data.validation
    assert len(held_out) == record["held_out"]
    assert sorted([*train, *held_out]) == list(range(4000))


def test_copies_of_a_picture_fall_on_the_same_side(tmp_path: Path) -> None:
    faces = drawn_faces(60, size=12, seed=9)
    np.save(tmp_path / "twice.npy", np.concatenate([faces, faces]))
    _, data = prepare(tmp_path / "twice.npy", out=tmp_path / "out", size=12)
    assert data.held_out.any()
    assert np.array_equal(data.held_out[:60], data.held_out[60:])


# --- what is broken


def test_broken_pictures_are_skipped_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_faces(tmp_path / "in", FACES[:3])
    (folder / "junk.png").write_bytes(b"this is no picture")
    whole = (folder / "000.png").read_bytes()
    (folder / "short.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    record, data = prepare(folder, out=tmp_path / "out")
    assert np.array_equal(data.images, FACES[:3])
    assert sorted(entry["picture"] for entry in record["skipped"]) == ["empty.jpg", "junk.png", "short.png"]
    assert all(one_line(entry["why"]) for entry in record["skipped"])
    assert record["sources"] == [{"source": "in", "found": 6, "used": 3}]
    said = capsys.readouterr()
    for name in ("empty.jpg", "junk.png", "short.png"):
        assert name in said.out + said.err


def test_a_damaged_member_of_a_zip_is_skipped(tmp_path: Path) -> None:
    folder = save_faces(tmp_path / "in", FACES[:3])
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
        place = archive.getinfo("001.png").header_offset + 30 + len("001.png")
    content = bytearray((tmp_path / "in.zip").read_bytes())
    content[place : place + 40] = b"\xff" * 40
    (tmp_path / "in.zip").write_bytes(content)
    record, data = prepare(tmp_path / "in.zip", out=tmp_path / "out")
    assert [entry["picture"] for entry in record["skipped"]] == ["001.png"]
    assert np.array_equal(data.images, FACES[[0, 2]])


def test_rows_that_are_not_finite_are_skipped(tmp_path: Path) -> None:
    faces = FACES[:3].astype(np.float32) / 255
    faces[1, 0, 0, 0] = np.nan
    np.save(tmp_path / "faces.npy", faces)
    record, data = prepare(tmp_path / "faces.npy", out=tmp_path / "out")
    assert [entry["picture"] for entry in record["skipped"]] == ["faces.npy[1]"]
    assert np.array_equal(data.images, FACES[[0, 2]])


def test_when_no_picture_is_readable_that_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "junk.png").write_bytes(b"this is no picture")
    with pytest.raises(ValueError, match="no readable picture in") as caught:
        prepare(tmp_path / "in", out=tmp_path / "out")
    assert "junk.png" in one_line(str(caught.value))
    assert "1 skipped" in str(caught.value)
    assert left_in(tmp_path) == ["in"]


def test_an_empty_folder_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"no readable picture in .*in \(0 skipped\)"):
        prepare(tmp_path / "in", out=tmp_path / "out")
    assert left_in(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("name", "said"), [("faces", "does not exist"), ("faces.tar", "is neither a folder, a zip, .npy nor .npz")]
)
def test_an_unknown_source_is_refused_with_what_can_be_given(name: str, said: str, tmp_path: Path) -> None:
    if "." in name:
        (tmp_path / name).write_bytes(b"tar")
    with pytest.raises(ValueError, match="source") as caught:
        prepare(tmp_path / name, out=tmp_path / "out")
    message = one_line(str(caught.value))
    assert repr(str(tmp_path / name)) in message
    assert said in message
    for kind in ("a folder", "a zip", ".npy", ".npz", "lfw", "olivetti"):
        assert kind in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["faces.zip", "faces.npz", "faces.npy"])
def test_a_source_that_is_not_what_its_name_says_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"this is neither a zip nor an array")
    with pytest.raises(ValueError, match=f"{name} is not a readable (zip|array)") as caught:
        prepare(tmp_path / name, out=tmp_path / "out")
    one_line(str(caught.value))
    assert left_in(tmp_path) == [name]


@pytest.mark.parametrize("size", [7, 1025, -48])
def test_a_size_out_of_range_is_refused_with_the_range(size: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--size {size}: must be from 8 to 1024 pixels"):
        prepare(save_faces(tmp_path / "in", FACES[:1]), out=tmp_path / "out", size=size)


# --- whole or not at all


def test_what_exists_is_refused_and_untouched(tmp_path: Path) -> None:
    source = save_faces(tmp_path / "in", FACES[:2])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"already exists; .* --overwrite") as caught:
        prepare(source, out=tmp_path / "out")
    assert str(tmp_path / "out") in one_line(str(caught.value))
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"
    assert left_in(tmp_path / "out") == ["mine.txt"]
    assert left_in(tmp_path) == ["in", "out"]


def test_overwrite_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    np.savez(tmp_path / "one" / "a.npz", images=FACES[:2], smile=np.array([1, 0]))
    prepare(tmp_path / "one" / "a.npz", out=tmp_path / "out")
    _, data = prepare(save_faces(tmp_path / "two", FACES[2:5]), out=tmp_path / "out", overwrite=True)
    assert np.array_equal(data.images, FACES[2:5])
    assert not (tmp_path / "out" / "labels.csv").exists()
    assert left_in(tmp_path) == ["one", "out", "two"]


def stop_at_the_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    original, seen = preparing.open_frame, []

    def open_frame(*arguments: Any) -> np.ndarray:
        seen.append(1)
        if len(seen) == 10:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(preparing, "open_frame", open_frame)


def test_an_interrupt_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_faces(tmp_path / "in")
    stop_at_the_tenth(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out=tmp_path / "out")
    assert left_in(tmp_path) == ["in"]


def test_an_interrupt_while_overwriting_leaves_the_old_data_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(save_faces(tmp_path / "one", FACES[:2]), out=tmp_path / "out")
    source = save_faces(tmp_path / "two")
    stop_at_the_tenth(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out=tmp_path / "out", overwrite=True)
    assert np.array_equal(open_dataset(tmp_path / "out").images, FACES[:2])
    assert left_in(tmp_path) == ["one", "out", "two"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(preparing.np, "save", save)
    with pytest.raises(OSError, match="No space left"):
        prepare(save_faces(tmp_path / "in", FACES[:2]), out=tmp_path / "out")
    assert left_in(tmp_path) == ["in"]


# --- faces from scikit-learn


@pytest.mark.parametrize(("source", "fetch"), [("lfw", "fetch_lfw_people"), ("olivetti", "fetch_olivetti_faces")])
def test_without_a_network_one_line_says_so(
    source: str, fetch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(**_: Any) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"sklearn.datasets.{fetch}", offline)
    with pytest.raises(ValueError, match="could not be downloaded") as caught:
        prepare(source, out=tmp_path / "out")
    message = one_line(str(caught.value))
    assert f"source '{source}'" in message
    assert "Temporary failure in name resolution" in message
    assert "connect to the network, or give a folder of pictures" in message
    assert left_in(tmp_path) == []


def test_lfw_becomes_pictures_with_the_people_as_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*, color: bool, **_: Any) -> SimpleNamespace:
        assert color
        names = np.array(["Ann Bee", "Cy Dee"])
        return SimpleNamespace(
            images=FACES[:3].astype(np.float32) / 255, target=np.array([1, 0, 1]), target_names=names
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch)
    record, data = prepare("lfw", out=tmp_path / "out")
    assert np.array_equal(data.images, FACES[:3])
    assert data.labels == {"person": ["Cy Dee", "Ann Bee", "Cy Dee"]}
    assert record["sources"] == [{"source": "lfw", "found": 3, "used": 3}]


def test_olivetti_becomes_pictures_with_the_people_as_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.stack([np.asarray(Image.fromarray(face).convert("L")) for face in FACES[:2]])
    bunch = SimpleNamespace(images=grey.astype(np.float32) / 255, target=np.array([0, 39]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sklearn.datasets.fetch_olivetti_faces", lambda: bunch)
    _, data = prepare("olivetti", out=tmp_path / "out", grey=True)
    assert np.array_equal(data.images[..., 0], grey)
    assert data.labels == {"person": ["0", "39"]}


# --- what is written, and reading it again


def test_the_record_says_what_went_in(tmp_path: Path) -> None:
    folder = save_faces(tmp_path / "in", FACES[:4])
    (folder / "junk.png").write_bytes(b"junk")
    record, data = prepare(folder, out=tmp_path / "out", grey=True)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8")) == record == data.record
    assert record["format"] == 1
    assert record["shape"] == [4, 16, 16, 1] == list(data.images.shape)
    assert record["held_out"] == int(data.held_out.sum())
    assert record["labels"] == []
    assert record["skipped"][0]["picture"] == "junk.png"
    assert record["sha256"] == hashlib.sha256((tmp_path / "out" / "images.npy").read_bytes()).hexdigest()
    assert record["made_by"].startswith("morphing-faces ")
    assert str(tmp_path) not in json.dumps(record["sources"]), "the record goes into bundles: no path of this machine"


def test_the_pictures_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 256, (600, 64, 64), dtype=np.uint8))
    _, data = prepare(tmp_path / "noise.npy", out=tmp_path / "out", size=64, grey=True)
    assert data.images.nbytes > 2_000_000
    assert isinstance(data.images, np.memmap)
    assert not data.images.flags.writeable
    assert np.array_equal(data.images[..., 0], np.load(tmp_path / "noise.npy"))


def test_a_folder_that_was_not_prepared_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no dataset\.json") as caught:
        open_dataset(tmp_path)
    message = one_line(str(caught.value))
    assert str(tmp_path) in message
    assert "morphing-faces prepare" in message


def truncate(folder: Path) -> None:
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(content[: len(content) - 100])


def empty(folder: Path) -> None:
    (folder / "images.npy").write_bytes(b"")


def other_format(folder: Path) -> None:
    record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**record, "format": 99}), encoding="utf-8")


def other_split(folder: Path) -> None:
    np.save(folder / "held_out.npy", np.zeros(3, bool))


def short_labels(folder: Path) -> None:
    (folder / "labels.csv").write_text("row,smile\n0,yes\n", encoding="utf-8")


def no_json(folder: Path) -> None:
    (folder / "dataset.json").write_text("{", encoding="utf-8")


def a_list(folder: Path) -> None:
    (folder / "dataset.json").write_text("[]", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, ""),
        (empty, ""),
        (lambda folder: (folder / "images.npy").unlink(), "images.npy"),
        (other_format, "format 99, this program reads 1"),
        (other_split, "held_out.npy holds bool (3,), expected bool (5,)"),
        (short_labels, "labels.csv has 1 rows, expected 5"),
        (no_json, ""),
        (a_list, ""),
    ],
    ids=["truncated", "empty", "no images", "format", "split", "labels", "not JSON", "JSON of another kind"],
)
def test_a_damaged_data_set_is_refused_with_the_remedy(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    prepare(save_faces(tmp_path / "in", FACES[:5]), out=tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(ValueError, match=r"is damaged: .*; prepare it again") as caught:
        open_dataset(tmp_path / "out")
    message = one_line(str(caught.value))
    assert str(tmp_path / "out") in message
    assert said in message

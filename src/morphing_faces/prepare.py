"""Pictures from anywhere -> one memory-mapped array, a fixed split, labels, and a record of what went in."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import itertools
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import click
import numpy as np
from PIL import Image

from . import __version__, errors
from .dataset import FORMAT
from .errors import UserError, one_line, reason
from .faces import find_faces
from .files import DATA_SET, decode_text, output_folder, read_bytes, read_text, replace_folder
from .landmarks import find_landmarks, must_be_installed, usable
from .photo import SUFFIXES, framed, is_cut_out
from .pictures import MAX_PIXELS, frame, is_picture, open_frame, read_picture, to_image, to_uint8
from .rules import FINDER_SMALLEST

PICTURE_LIMIT = 256 << 20  # bytes of a picture's file, and of what a zip's member unpacks to
LABELS_LIMIT = 64 << 20  # bytes of a labels.csv
NPZ_LIMIT = 1 << 30  # bytes of an array in an .npz, which is read whole; an .npy is read in place
HELD_OUT_PERCENT = 5
LOADERS = ("lfw", "olivetti")
NAMED = 20  # pictures without a face that are named at once; the record names all

Into = Callable[[bytes | Image.Image], np.ndarray]  # a picture, or the bytes of its file, into the frame


@dataclass(frozen=True)
class Item:
    """One picture still to be read: ``read`` gives the bytes that identify it, and it in the frame."""

    name: str
    read: Callable[[Into], tuple[bytes, np.ndarray]]
    labels: dict[str, str] = field(default_factory=dict)


def prepare(
    sources: list[str],
    out: str | Path,
    *,
    size: int,
    grey: bool = False,
    landmarks: bool = False,
    align: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Make a data set from ``sources`` and return its record.

    A source is a folder (any depth), a zip, a ``.npy`` or ``.npz`` array, ``"lfw"`` or ``"olivetti"``. Pictures that
    are not square are cut to the square in their middle, then resized (Lanczos) to ``size`` x ``size``; with ``align``
    the largest face of each is found and cut out in the frame, and pictures without one are skipped.
    5% are held out, chosen by the SHA-256 of the picture's own bytes, so that the choice does not depend on the
    order, the folder or the size. The folder appears whole or not at all; ``overwrite`` replaces a data set.

    With ``landmarks`` 68 points a face are found and stored beside the pictures, which must be in the frame; those in which
    none are found are named, stay, and are left out of the training of models with shape.

    Raises ``UserError`` when a source cannot be used, no picture is readable, or ``out`` cannot be written.
    """
    if not 8 <= size <= 1024:
        raise UserError(f"--size {size}: must be from 8 to 1024 pixels")
    shape = (size, size, 1 if grey else 3)
    if landmarks:
        must_be_installed()  # said now, not after minutes of work
    into = functools.partial(_into_frame, shape=shape, align=align)
    target = output_folder(out, DATA_SET, overwrite=overwrite)
    for source in sources:
        if Path(os.path.realpath(source)).is_relative_to(target):
            raise UserError(f"{out} holds the source {source!r}, which would be replaced: choose another place")
    with replace_folder(out, DATA_SET, overwrite=overwrite) as folder:
        skipped: list[dict[str, str]] = []
        held_out: list[bool] = []
        labels: list[dict[str, str]] = []
        used: list[dict[str, Any]] = []
        names: list[str] = []
        with (folder / "images.npy").open("wb") as file:
            _write_header(file, 0, shape)
            for source in sources:
                items = list(_items(source))
                before = len(held_out)
                for item, result in _in_parallel(items, into, progress, source):
                    if isinstance(result, str):
                        name = one_line(item.name)
                        skipped.append({"source": one_line(source), "picture": name, "why": result})
                        click.echo(f"skipped {one_line(source)}: {name}: {result}", err=True)
                        continue
                    digest, pixels = result
                    file.write(pixels)
                    held_out.append(int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT)
                    labels.append(item.labels)
                    names.append(f"{one_line(Path(source).name)}: {one_line(item.name)}")
                used.append(
                    {"source": one_line(Path(source).name), "found": len(items), "used": len(held_out) - before}
                )
            count = len(held_out)
            if count == 0:
                first = f"; the first was {skipped[0]['picture']}: {skipped[0]['why']}" if skipped else ""
                raise UserError(f"no readable picture in {', '.join(sources)} ({len(skipped)} skipped{first})")
            file.seek(0)
            _write_header(file, count, shape)
        np.save(folder / "held_out.npy", np.array(held_out))
        columns = sorted({key for row in labels for key in row})
        if columns:
            with (folder / "labels.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as text:
                writer = csv.writer(text)
                writer.writerow(["row", *columns])  # the first is the row's number, whatever the others are called
                writer.writerows([row, *(known.get(key, "") for key in columns)] for row, known in enumerate(labels))
        sha256 = _sha256(folder / "images.npy")
        record = {
            "format": FORMAT,
            "made_by": f"morphing-faces {__version__}",
            "shape": [count, *shape],
            "held_out": int(sum(held_out)),
            "labels": columns,
            "sources": used,
            "skipped": skipped,
            "sha256": sha256,
        }
        if landmarks:
            record["landmarks"] = _find_landmarks(folder, names, sha256, progress)
        (folder / "dataset.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _find_landmarks(folder: Path, names: list[str], sha256: str, progress: bool) -> dict[str, Any]:
    """Find and store the landmarks of a folder's pictures; returns what its record says of them."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    bar = click.progressbar(length=len(images), label="landmarks", file=sys.stderr) if progress else nullcontext()
    with bar as shown:
        found = find_landmarks(images, lambda: shown.update(1) if shown is not None else None)
    faces = np.isfinite(found).all((1, 2))
    without = [name for name, face in zip(names, faces, strict=True) if not face]
    for name in without[:NAMED]:
        click.echo(f"no face found in {name}", err=True)
    if len(without) > NAMED:
        click.echo(f"and in {len(without) - NAMED} more; dataset.json names them all", err=True)
    return store_landmarks(folder, found, sha256, without)


def store_landmarks(folder: Path, landmarks: np.ndarray, sha256: str, without: list[str]) -> dict[str, Any]:
    """Write landmarks (n, 68, 2) beside the pictures whose hash is ``sha256``; returns the record that ties them together."""
    np.save(folder / "landmarks.npy", landmarks.astype(np.float32))
    faces = int(np.isfinite(landmarks).all((1, 2)).sum())
    return {"found": faces, "usable": int(usable(landmarks).sum()), "without": without, "sha256": sha256}


def _in_parallel(
    items: list[Item], into: Into, progress: bool, source: str
) -> Iterator[tuple[Item, tuple[bytes, bytes] | str]]:
    """Read items in their order, in as many threads as there are cores (Pillow decodes outside Python's lock)."""

    def work(item: Item) -> tuple[bytes, bytes] | str:
        try:
            content, pixels = item.read(into)
            return hashlib.sha256(content).digest(), pixels.tobytes()
        except (UserError, OSError, MemoryError) as error:
            return reason(error)

    queue = iter(items)
    workers = os.cpu_count() or 1
    label = one_line(Path(source).name, 40)
    bar = click.progressbar(length=len(items), label=label, file=sys.stderr) if progress else nullcontext()
    with ThreadPoolExecutor(workers) as pool, bar as shown:
        pending = [(item, pool.submit(work, item)) for item in itertools.islice(queue, 16 * workers)]
        while pending:
            item, future = pending.pop(0)
            yield item, future.result()
            if shown is not None:
                shown.update(1)
            for following in itertools.islice(queue, 1):
                pending.append((following, pool.submit(work, following)))


def _items(source: str) -> Iterator[Item]:
    path = Path(source)
    kind = "does not exist"
    try:
        if path.is_dir() and source.strip():
            return _folder(path)
        if path.is_file():
            if path.suffix.lower() == ".zip":
                return _zip(path)
            if path.suffix.lower() in (".npy", ".npz"):
                return _array(path)
        elif source in LOADERS:
            return _scikit_learn(source)
        if path.exists():
            kind = "is neither a folder, a zip, .npy nor .npz"
    except (OSError, ValueError) as error:  # a name that no system takes
        if isinstance(error, UserError):
            raise
        kind = f"cannot be read ({reason(error)})"
    raise UserError(
        f"source {one_line(repr(source))} {kind}: give a folder, a zip, an array (.npy, .npz), or {' or '.join(LOADERS)}"
    )


# --- folders and zips


def _labels_by_file(text: str, name: str) -> dict[str, dict[str, str]]:
    """A ``labels.csv`` with a ``file`` column -> labels for each file name. Raises ``UserError`` that names it."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{name} is not a readable table: {error}") from None
    columns = [column.strip() for column in rows[0]] if rows else []
    if "file" not in columns:
        raise UserError(f"{name} has columns {columns[:20]}, but no 'file' column: add one with file names")
    if len(set(columns)) < len(columns):
        raise UserError(f"{name} has two columns of one name among {columns[:20]}: rename one")
    at = columns.index("file")
    return {
        row[at]: {column: value for column, value in zip(columns, row, strict=False) if column not in ("", "file")}
        for row in rows[1:]
        if len(row) > at
    }


def _into_frame(source: bytes | Image.Image, shape: tuple[int, int, int], align: bool) -> np.ndarray:
    """A picture, or the bytes of its file, in the frame: its middle square, or with ``align`` its largest face."""
    if not align:
        return frame(source, shape) if isinstance(source, Image.Image) else open_frame(source, shape, "it")
    picture = np.asarray(source.convert("RGB")) if isinstance(source, Image.Image) else read_picture(source, "it")
    found = find_faces(picture)
    if not found and not is_cut_out(picture):
        raise UserError("no face was found")
    if found and found[0].side < FINDER_SMALLEST:
        raise UserError(f"the largest face is {found[0].side:.0f} pixels wide, fewer than {FINDER_SMALLEST}")
    return framed(picture, shape, found=found)


def _framed(content: bytes, into: Into) -> tuple[bytes, np.ndarray]:
    try:
        return content, into(content)
    except UserError as error:
        raise UserError(str(error).removeprefix("it ")) from None


def _looks_like_picture(name: str, begin: Callable[[], bytes]) -> bool:
    """By its suffix, or, where it has none, by its first bytes."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix in SUFFIXES or (not suffix and is_picture(begin()))


def _folder(path: Path) -> Iterator[Item]:
    known: dict[str, dict[str, str]] = {}
    if (path / "labels.csv").is_file():
        known = _labels_by_file(read_text(path / "labels.csv", LABELS_LIMIT), str(path / "labels.csv"))
    for file in _files(path):
        if _looks_like_picture(file.name, functools.partial(_first_bytes, file)):

            def read(into: Into, file: Path = file) -> tuple[bytes, np.ndarray]:
                return _framed(read_bytes(file, PICTURE_LIMIT), into)

            name = file.relative_to(path).as_posix()
            yield Item(name, read, known.get(name) or known.get(file.name) or {})


def _files(folder: Path) -> list[Path]:
    """All files at any depth, sorted; links to folders are followed, each folder once, what begins with a dot is not."""
    found: list[Path] = []
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, followlinks=True):
        inside = Path(parent)
        kept = []
        for name in folders:
            real = os.path.realpath(inside / name)
            if real not in seen and not name.startswith("."):
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        found += [inside / name for name in names if not name.startswith(".") and (inside / name).is_file()]
    return sorted(found)


def _first_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(64)
    except OSError:
        return b""


def _zip(path: Path) -> Iterator[Item]:
    try:
        archive = zipfile.ZipFile(path)
        members = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
    except Exception as error:  # the library raises nearly everything on a damaged file
        raise UserError(f"{path} is not a readable zip: {reason(error)}") from None
    known: dict[str, dict[str, str]] = {}
    for info in members:
        if PurePosixPath(info.filename).name == "labels.csv":
            name = f"{path}: {one_line(info.filename)}"
            try:
                content = _unpacked(archive, info, LABELS_LIMIT)
            except UserError as error:
                raise UserError(f"{name} cannot be read: {error}") from None
            known.update(_labels_by_file(decode_text(content, name), name))
    for info in members:
        pure = PurePosixPath(info.filename)
        if pure.name.startswith(".") or "__MACOSX" in pure.parts:
            continue
        if _looks_like_picture(pure.name, functools.partial(_begin_of, archive, info)):

            def read(into: Into, info: zipfile.ZipInfo = info) -> tuple[bytes, np.ndarray]:
                return _framed(_unpacked(archive, info, PICTURE_LIMIT), into)

            yield Item(info.filename, read, known.get(info.filename) or known.get(pure.name) or {})


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """The content of a member, of at most ``limit`` bytes whatever its header says. Raises ``UserError``."""
    try:
        with archive.open(info) as member:
            content = member.read(limit + 1)
    except Exception as error:  # encrypted, of an unknown method, damaged: the library has a type for each
        raise UserError(reason(error)) from None
    if len(content) > limit:
        raise UserError(f"unpacks to more than {limit:,} bytes")
    return content


def _begin_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(info) as member:
            return member.read(64)
    except Exception:  # told when it is read, if its suffix says that it is a picture
        return b""


# --- arrays


def _array(path: Path) -> Iterator[Item]:
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                large = next((info for info in archive.infolist() if info.file_size > NPZ_LIMIT), None)
            if large:
                raise UserError(f"holds an array of {large.file_size:,} bytes: save it as .npy, which is read in place")
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        tables = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # the library raises nearly everything on a damaged header
        raise UserError(f"{path} is not a readable array: {reason(error)}") from None
    tables = {name: table for name, table in tables.items() if isinstance(table, np.ndarray)}  # no texts of an .npz
    pictures = {name: a for name, a in tables.items() if a.dtype.kind in "buif" and (a.ndim == 3 or a.ndim == 4)}
    if len(pictures) != 1:
        shapes = ", ".join(f"{one_line(name) or path.name} {a.dtype}{a.shape}" for name, a in tables.items())
        raise UserError(
            f"{path} holds {shapes or 'no array'}: expected one array of pictures, (n, height, width[, 1, 3 or 4])"
        )
    ((key, array),) = pictures.items()
    columns = {name: a for name, a in tables.items() if name != key and a.shape == (len(array),)}
    return _from_array(array, columns, path.name)


def _from_array(array: np.ndarray, columns: dict[str, np.ndarray], name: str) -> Iterator[Item]:
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, 3)
    sides = array.shape[1:3]
    if (array.ndim == 4 and array.shape[3] not in (1, 3, 4)) or 0 in sides or sides[0] * sides[1] > MAX_PIXELS:
        raise UserError(f"{name} has shape {array.shape}: expected (n, height, width[, 1, 3 or 4])")
    scale = _scale(array)

    def read(row: int, into: Into) -> tuple[bytes, np.ndarray]:
        pixels = np.asarray(array[row])
        pixels = to_uint8(pixels / scale if scale != 1 else pixels)
        pixels = np.ascontiguousarray(pixels[..., None] if pixels.ndim == 2 else pixels)
        picture = Image.fromarray(pixels, "RGBA") if pixels.shape[2] == 4 else to_image(pixels)
        return pixels.tobytes(), into(picture)

    for row in range(len(array)):
        labels = {key: str(column[row]) for key, column in columns.items()}
        yield Item(f"{name}[{row}]", functools.partial(read, row), labels)


def _scale(array: np.ndarray) -> float:
    """What white is in an array of floats: 255 where any value of the whole array is above 1, else 1."""
    if array.dtype.kind != "f":
        return 1.0
    rows = max(1, (32 << 20) // max(1, array[:1].nbytes))
    parts = (np.asarray(array[first : first + rows]) for first in range(0, len(array), rows))
    return 255.0 if any(bool((part[np.isfinite(part)] > 1 + 1 / 255).any()) for part in parts) else 1.0


def _scikit_learn(source: str) -> Iterator[Item]:
    errors.need("sklearn", f"source {source!r}")
    from sklearn import datasets

    try:
        if source == "olivetti":
            bunch = datasets.fetch_olivetti_faces()
            return _from_array(bunch.images, {"person": bunch.target}, source)
        bunch = datasets.fetch_lfw_people(color=True, resize=1.0, slice_=(slice(68, 196), slice(61, 189)))
    except OSError as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise UserError(
            f"source {source!r} could not be downloaded ({reason}): connect to the network, or give a folder of pictures"
        ) from None
    return _from_array(bunch.images, {"person": bunch.target_names[bunch.target]}, source)


def _write_header(file: Any, count: int, shape: tuple[int, int, int]) -> None:
    """The .npy header; numpy pads it so that it may be written again with the final count."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()

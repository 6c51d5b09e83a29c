"""Pictures from anywhere -> one memory-mapped array, a fixed split, labels, and a record of what went in."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from . import __version__
from .dataset import FORMAT
from .files import whole_folder
from .photo import READ_ERRORS, frame, read_failure, to_uint8

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
HELD_OUT_PERCENT = 5
LOADERS = ("lfw", "olivetti")


@dataclass(frozen=True)
class Item:
    """One picture still to be read: ``read`` gives the bytes that identify it, and the picture."""

    name: str
    read: Callable[[], tuple[bytes, Image.Image]]
    labels: dict[str, str] = field(default_factory=dict)


def prepare(
    sources: list[str],
    out: str | Path,
    *,
    size: int,
    grey: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Make a data set from ``sources`` and return its record.

    A source is a folder (any depth), a zip, a ``.npy`` or ``.npz`` array, ``"lfw"`` or ``"olivetti"``. Pictures that
    are not square are cut to the square in their middle, then resized (Lanczos) to ``size`` x ``size``.
    5% are held out, chosen by the SHA-256 of the picture's own bytes, so that the choice does not depend on the
    order, the folder or the size. The folder appears whole or not at all.

    Raises ``ValueError`` when a source cannot be used or no picture is readable, ``FileExistsError`` when ``out``
    holds something already.
    """
    if not 8 <= size <= 1024:
        raise ValueError(f"--size {size}: must be from 8 to 1024 pixels")
    channels = 1 if grey else 3
    with whole_folder(out, overwrite=overwrite) as folder:
        skipped: list[dict[str, str]] = []
        held_out: list[bool] = []
        labels: list[dict[str, str]] = []
        used: list[dict[str, Any]] = []
        with (folder / "images.npy").open("wb") as file:
            _write_header(file, 0, size, channels)
            for source in sources:
                items = list(_items(source))
                before = len(held_out)
                for item, result in _in_parallel(items, size, grey, progress, source):
                    if isinstance(result, str):
                        skipped.append({"source": source, "picture": item.name, "why": result})
                        tqdm.write(f"skipped {source}: {item.name}: {result}")
                        continue
                    digest, pixels = result
                    file.write(pixels)
                    held_out.append(int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT)
                    labels.append(item.labels)
                used.append({"source": Path(source).name, "found": len(items), "used": len(held_out) - before})
            count = len(held_out)
            if count == 0:
                first = f"; the first was {skipped[0]['picture']}: {skipped[0]['why']}" if skipped else ""
                raise ValueError(f"no readable picture in {', '.join(sources)} ({len(skipped)} skipped{first})")
            file.seek(0)
            _write_header(file, count, size, channels)
        np.save(folder / "held_out.npy", np.array(held_out))
        columns = sorted({key for row in labels for key in row})
        if columns:
            with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as text:
                writer = csv.DictWriter(text, ["row", *columns], restval="")
                writer.writeheader()
                writer.writerows({"row": row, **known} for row, known in enumerate(labels))
        record = {
            "format": FORMAT,
            "made_by": f"morphing-faces {__version__}",
            "shape": [count, size, size, channels],
            "held_out": int(sum(held_out)),
            "labels": columns,
            "sources": used,
            "skipped": skipped,
            "sha256": _sha256(folder / "images.npy"),
        }
        (folder / "dataset.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _in_parallel(
    items: list[Item], size: int, grey: bool, progress: bool, source: str
) -> Iterator[tuple[Item, tuple[bytes, bytes] | str]]:
    """Read items in their order, in as many threads as there are cores (Pillow decodes outside Python's lock)."""

    def work(item: Item) -> tuple[bytes, bytes] | str:
        try:
            content, picture = item.read()
            return hashlib.sha256(content).digest(), frame(picture, size, grey).tobytes()
        except READ_ERRORS as error:
            return read_failure(error)

    queue = iter(items)
    workers = os.cpu_count() or 1
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(items), unit=" pictures", desc=Path(source).name, disable=not progress) as bar,
    ):
        pending = [(item, pool.submit(work, item)) for item in itertools.islice(queue, 16 * workers)]
        while pending:
            item, future = pending.pop(0)
            yield item, future.result()
            bar.update()
            for following in itertools.islice(queue, 1):
                pending.append((following, pool.submit(work, following)))


def _items(source: str) -> Iterator[Item]:
    path = Path(source)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        if path.suffix.lower() == ".zip":
            return _zip(path)
        if path.suffix.lower() in (".npy", ".npz"):
            return _array(path)
    elif source in LOADERS:
        return _scikit_learn(source)
    kind = "is neither a folder, a zip, .npy nor .npz" if path.exists() else "does not exist"
    raise ValueError(
        f"source {source!r} {kind}: give a folder, a zip, an array (.npy, .npz), or {' or '.join(LOADERS)}"
    )


def _labels_by_file(text: str) -> dict[str, dict[str, str]]:
    """``labels.csv`` with a ``file`` column -> labels for each file name."""
    reader = csv.DictReader(io.StringIO(text))
    if "file" not in (reader.fieldnames or ()):
        raise ValueError(f"labels.csv has columns {reader.fieldnames}, but no 'file' column: add one with file names")
    return {row["file"]: {k: v for k, v in row.items() if k not in (None, "file") and v is not None} for row in reader}


def _open(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def _folder(path: Path) -> Iterator[Item]:
    known: dict[str, dict[str, str]] = {}
    if (path / "labels.csv").is_file():
        known = _labels_by_file((path / "labels.csv").read_text(encoding="utf-8-sig"))
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith("."):

            def read(file: Path = file) -> tuple[bytes, Image.Image]:
                content = file.read_bytes()
                return content, _open(content)

            name = file.relative_to(path).as_posix()
            yield Item(name, read, known.get(name) or known.get(file.name) or {})


def _zip(path: Path) -> Iterator[Item]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a readable zip: {error}") from None
    names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    known: dict[str, dict[str, str]] = {}
    for name in names:
        if PurePosixPath(name).name == "labels.csv":
            known.update(_labels_by_file(archive.read(name).decode("utf-8-sig")))
    for name in names:
        pure = PurePosixPath(name)
        if pure.suffix.lower() in SUFFIXES and not pure.name.startswith(".") and "__MACOSX" not in pure.parts:

            def read(name: str = name) -> tuple[bytes, Image.Image]:
                content = archive.read(name)
                return content, _open(content)

            yield Item(name, read, known.get(name) or known.get(pure.name) or {})


def _array(path: Path) -> Iterator[Item]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        tables = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable array: {error}") from None
    pictures = {name: a for name, a in tables.items() if a.dtype.kind in "buif" and (a.ndim == 3 or a.ndim == 4)}
    if len(pictures) != 1:
        shapes = ", ".join(f"{name or path.name} {a.dtype}{a.shape}" for name, a in tables.items())
        raise ValueError(f"{path} holds {shapes}: expected one array of pictures, (n, height, width[, 1, 3 or 4])")
    ((key, array),) = pictures.items()
    columns = {name: a for name, a in tables.items() if name != key and a.shape == (len(array),)}
    return _from_array(array, columns, path.name)


def _from_array(array: np.ndarray, columns: dict[str, np.ndarray], name: str) -> Iterator[Item]:
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = np.moveaxis(array, 1, 3)
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4):
        raise ValueError(f"{name} has shape {array.shape}: expected (n, height, width[, 1, 3 or 4])")
    whole_range = array.dtype.kind == "f" and len(array) > 0 and float(np.max(array[:256])) > 1

    def read(row: int) -> tuple[bytes, Image.Image]:
        pixels = np.asarray(array[row])
        pixels = to_uint8(pixels / 255 if whole_range else pixels)
        pixels = np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        return pixels.tobytes(), Image.fromarray(pixels)

    for row in range(len(array)):
        labels = {key: str(column[row]) for key, column in columns.items()}
        yield Item(f"{name}[{row}]", functools.partial(read, row), labels)


def _scikit_learn(source: str) -> Iterator[Item]:
    try:
        from sklearn import datasets
    except ImportError:
        raise ValueError(f"source {source!r} needs scikit-learn: pip install 'morphing-faces[train]'") from None
    try:
        if source == "olivetti":
            bunch = datasets.fetch_olivetti_faces()
            return _from_array(bunch.images, {"person": bunch.target}, source)
        bunch = datasets.fetch_lfw_people(color=True, resize=1.0, slice_=(slice(68, 196), slice(61, 189)))
    except OSError as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise ValueError(
            f"source {source!r} could not be downloaded ({reason}): connect to the network, or give a folder of pictures"
        ) from None
    return _from_array(bunch.images, {"person": bunch.target_names[bunch.target]}, source)


def _write_header(file: Any, count: int, size: int, channels: int) -> None:
    """The .npy header; numpy pads it so that it may be written again with the final count."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, channels)}
    np.lib.format.write_array_header_1_0(file, header)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()

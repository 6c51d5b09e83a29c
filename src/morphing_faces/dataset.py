"""A prepared data set: a memory-mapped array of pictures, read in seeded batches."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bundle import LANDMARKS
from .errors import UserError, reason
from .files import read_json, read_text

FORMAT = 1  # version of the folder's layout; written by prepare, checked here


@dataclass(frozen=True)
class Dataset:
    """A folder made by ``morphing-faces prepare``.

    ``images`` is uint8 (n, height, width, channels), memory-mapped, so that it may be larger than memory;
    ``held_out`` is bool (n,), the fixed 5%; ``labels`` maps a column to a list of n strings ("" where unknown).
    ``landmarks`` are float32 (n, 68, 2), in pixels, NaN where no face was found; None where they were not looked for.
    """

    folder: Path
    images: np.ndarray
    held_out: np.ndarray
    labels: dict[str, list[str]]
    record: dict[str, Any]
    landmarks: np.ndarray | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def training(self) -> np.ndarray:
        """Row numbers of the pictures to train on, ascending int64."""
        return np.flatnonzero(~self.held_out)

    @property
    def validation(self) -> np.ndarray:
        """Row numbers of the held-out pictures, ascending int64."""
        return np.flatnonzero(self.held_out)

    def must_have(self, rows: np.ndarray, what: str) -> None:
        """Raise ``UserError`` with the remedy when there are no ``rows`` of what is wanted."""
        if len(rows) == 0:
            raise UserError(f"{self.folder} has no {what} pictures; prepare it from more pictures")


def open_dataset(folder: str | Path) -> Dataset:
    """Open a prepared folder. Raises ``UserError`` with the remedy when it is not one, or is damaged."""
    folder = Path(folder)
    if not (folder / "dataset.json").is_file():
        raise UserError(f"{folder} is not a prepared data set (no dataset.json): make one with morphing-faces prepare")
    try:
        record = read_json(folder / "dataset.json")
        if not isinstance(record, dict):
            raise UserError("dataset.json holds no record")
        if record.get("format") != FORMAT:
            raise UserError(f"format {record.get('format')!r:.40}, this program reads {FORMAT}")
        images, held_out = _array(folder / "images.npy", mapped=True), _array(folder / "held_out.npy")
        shape = record.get("shape")
        if images.dtype != np.uint8 or images.ndim != 4 or list(images.shape) != shape or 0 in images.shape:
            raise UserError(f"images.npy holds {images.dtype} {images.shape}, expected uint8 {shape!r:.80}")
        if held_out.shape != images.shape[:1] or held_out.dtype != np.bool_:
            raise UserError(f"held_out.npy holds {held_out.dtype} {held_out.shape}, expected bool ({len(images)},)")
        labels = _labels(folder / "labels.csv", len(images)) if (folder / "labels.csv").is_file() else {}
        for key, kinds in (("held_out", int), ("sources", list), ("sha256", str)):
            if not isinstance(record.get(key), kinds):
                raise UserError(f"dataset.json: {key} = {record.get(key)!r:.80}, expected {kinds.__name__}")
        landmarks = _landmarks(folder / "landmarks.npy", len(images), record)
    except UserError as error:
        raise UserError(f"{folder} is damaged: {error}; prepare it again") from None
    return Dataset(folder, images, held_out, labels, record, landmarks)


def _landmarks(path: Path, count: int, record: dict[str, Any]) -> np.ndarray | None:
    """The landmarks of a prepared folder, None where there are none. Raises ``UserError`` where they are others'."""
    if not path.is_file():
        return None
    landmarks, expected = _array(path), (count, LANDMARKS, 2)
    if landmarks.shape != expected or landmarks.dtype != np.float32:
        raise UserError(f"{path.name} holds {landmarks.dtype} {landmarks.shape}, expected float32 {expected}")
    known = record.get("landmarks")
    if not isinstance(known, dict) or known.get("sha256") != record["sha256"]:
        raise UserError(f"{path.name} was not made for these pictures")
    return landmarks


def _array(path: Path, mapped: bool = False) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception as error:  # the library raises nearly everything on a damaged header
        raise UserError(f"{path.name} cannot be read: {reason(error)}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path.name} holds no array")
    return array


def _labels(path: Path, count: int) -> dict[str, list[str]]:
    try:
        first, *rows = csv.reader(io.StringIO(read_text(path), newline=""))
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path.name} is not a readable table: {reason(error)}") from None
    if len(rows) != count or any(len(row) != len(first) for row in rows):
        raise UserError(f"{path.name} has {len(rows)} rows, expected {count} of {len(first)} cells")
    return {key: [row[column] for row in rows] for column, key in enumerate(first) if column > 0}


def belongs(run: Path, dataset: Dataset) -> bool:
    """Whether the run in the folder ``run`` was begun on ``dataset``."""
    record = read_json(run / "data.json")
    return isinstance(record, dict) and record.get("sha256") == dataset.record["sha256"]


def must_belong(run: Path, dataset: Dataset) -> None:
    """Raise ``UserError`` with the remedy unless the run in the folder ``run`` was begun on ``dataset``."""
    if not belongs(run, dataset):
        raise UserError(
            f"{run} was trained on other pictures than {dataset.folder}: give --data the folder it was trained on, "
            "or train into a new folder"
        )


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of ``rows``, evenly spread over them, so that every source is there."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)] if len(rows) else rows


def steps_in_epoch(count: int, batch: int) -> int:
    """Whole batches in one pass over ``count`` pictures; at least 1 (a small set repeats pictures within a batch)."""
    return max(count // batch, 1)


def epoch_order(rows: np.ndarray, epoch: int, batch: int, seed: int) -> np.ndarray:
    """The order in which an epoch reads ``rows``: a function of its arguments alone, so that resuming is exact.

    A set smaller than one batch repeats itself to fill it.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return np.resize(order, batch) if len(order) < batch else order


def batch_rows(
    rows: np.ndarray, first_step: int, batch: int, seed: int, rank: int = 0, world: int = 1
) -> Iterator[np.ndarray]:
    """The rows that each step reads, from ``first_step`` on, without end: (batch // world,), ascending.

    The processes' shares together make the batch. Ascending, so that neighbours on disk are read together.
    """
    per_epoch = steps_in_epoch(len(rows), batch)
    epoch, order = -1, rows
    for step in itertools.count(first_step):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = epoch_order(rows, epoch, batch, seed)
        first = step % per_epoch * batch
        yield np.sort(order[first : first + batch][rank::world])

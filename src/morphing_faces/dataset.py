"""A prepared data set: a memory-mapped array of pictures, read in seeded batches."""

from __future__ import annotations

import csv
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1  # version of the folder's layout; written by prepare, checked here


@dataclass(frozen=True)
class Dataset:
    """A folder made by ``morphing-faces prepare``.

    ``images`` is uint8 (n, height, width, channels), memory-mapped, so that it may be larger than memory;
    ``held_out`` is bool (n,), the fixed 5%; ``labels`` maps a column to a list of n strings ("" where unknown).
    """

    folder: Path
    images: np.ndarray
    held_out: np.ndarray
    labels: dict[str, list[str]]
    record: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of ``"train"`` or ``"held_out"``, ascending int64."""
        return np.flatnonzero(self.held_out if split == "held_out" else ~self.held_out)


def open_dataset(folder: str | Path) -> Dataset:
    """Open a prepared folder. Raises ``ValueError`` with the remedy when it is not one, or is damaged."""
    folder = Path(folder)
    if not (folder / "dataset.json").is_file():
        raise ValueError(f"{folder} is not a prepared data set (no dataset.json): make one with morphing-faces prepare")
    try:
        record = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("dataset.json holds no record")
        if record.get("format") != FORMAT:
            raise ValueError(f"format {record.get('format')!r}, this program reads {FORMAT}")
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        held_out = np.load(folder / "held_out.npy", allow_pickle=False)
        if images.dtype != np.uint8 or images.ndim != 4 or list(images.shape) != record["shape"]:
            raise ValueError(f"images.npy holds {images.dtype} {images.shape}, expected uint8 {record['shape']}")
        if held_out.shape != images.shape[:1] or held_out.dtype != np.bool_:
            raise ValueError(f"held_out.npy holds {held_out.dtype} {held_out.shape}, expected bool ({len(images)},)")
        labels: dict[str, list[str]] = {}
        if (folder / "labels.csv").is_file():
            with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            if len(rows) != len(images):
                raise ValueError(f"labels.csv has {len(rows)} rows, expected {len(images)}")
            labels = {key: [row[key] for row in rows] for key in (rows[0] if rows else {}) if key != "row"}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{folder} is damaged: {error}; prepare it again") from None
    return Dataset(folder, images, held_out, labels, record)


def must_belong(run: Path, dataset: Dataset) -> None:
    """Raise ``ValueError`` with the remedy unless the run in the folder ``run`` was begun on ``dataset``."""
    record = json.loads((run / "data.json").read_text(encoding="utf-8"))
    if record["sha256"] != dataset.record["sha256"]:
        raise ValueError(
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


def batches(
    dataset: Dataset, split: str, first_step: int, last_step: int, batch: int, seed: int, rank: int = 0, world: int = 1
) -> Iterator[np.ndarray]:
    """uint8 batches (batch // world, height, width, channels) for the steps named, read ahead by a thread."""
    rows = dataset.rows(split)
    if len(rows) == 0:
        raise ValueError(f"{dataset.folder} has no {split} pictures; prepare it from more pictures")
    shelf: queue.Queue[np.ndarray | BaseException | None] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def put(item: np.ndarray | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return shelf.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            per_epoch = steps_in_epoch(len(rows), batch)
            epoch, order = -1, rows
            for step in range(first_step, last_step):
                if stop.is_set():
                    return
                if step // per_epoch != epoch:
                    epoch = step // per_epoch
                    order = epoch_order(rows, epoch, batch, seed)
                first = step % per_epoch * batch
                share = order[first : first + batch][rank::world]  # the processes' shares together make the batch
                put(dataset.images[np.sort(share)])  # sorted: neighbours on disk are read together
            put(None)
        except BaseException as error:  # handed to the training loop, which is where a person looks
            put(error)

    threading.Thread(target=read, daemon=True, name="read-ahead").start()
    try:
        while (item := shelf.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()

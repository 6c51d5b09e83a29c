"""How well faces are found: on photographs whose eyes are known, and on scenes pasted of held-out faces."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageFilter

from . import faces
from .canvases import Canvases, scenes
from .dataset import Dataset
from .errors import UserError
from .files import atomic_write
from .pictures import read_picture

FOUND = 0.25  # a face is found when its eyes are on average nearer than this, in parts of their distance
Say = Callable[[str], None]
Known = tuple[np.ndarray, np.ndarray]  # a picture, uint8 (h, w, 3), and its faces' eyes (k, 2, 2), the largest first


def evaluate(
    folder: Path, dataset: Dataset | None, photographs: Path | None, scenes: int, seed: int, say: Say = lambda _: None
) -> dict[str, Any]:
    """All figures of a finder: ``scenes`` pasted of held-out faces, and ``photographs`` where they are given."""
    figures: dict[str, Any] = {}
    if photographs:
        say("photographs")
        figures["photographs"] = measure(folder, known_photographs(photographs))
    if dataset:
        say("scenes")
        figures["scenes"] = measure(folder, pasted(dataset, scenes, seed))
    if not figures:
        raise UserError("nothing to measure on: give --data, or --photographs, or both")
    return figures


def measure(folder: Path, pictures: Iterable[Known]) -> dict[str, float]:
    """Found, false and exact: ``found`` counts the largest face of each picture, ``recall`` all of them.

    ``error`` is the mean distance of the found faces' eyes from the known ones, in parts of the eyes' distance;
    ``error_95`` its 95th percentile; ``false`` the number of others found, a picture.
    """
    count = largest = every = matched = others = 0
    errors: list[float] = []
    for picture, eyes in pictures:
        found = faces.find_faces(picture, folder)
        count, every = count + 1, every + len(eyes)
        free = list(range(len(found)))
        for number, known in enumerate(eyes):
            apart = float(np.linalg.norm(known[1] - known[0]))
            far = {k: float(np.linalg.norm(np.array(found[k].eyes) - known, axis=1).mean()) / apart for k in free}
            best = min(far, key=lambda k: far[k], default=None)
            if best is None or far[best] > FOUND:
                continue
            free.remove(best)
            errors.append(far[best])
            matched += 1
            largest += number == 0
        others += len(free)
    if not errors:
        raise UserError("no face was found in any picture, so there is nothing to measure")
    values = {
        "pictures": count,
        "faces": every,
        "found": largest / count,
        "recall": matched / every,
        "error": float(np.mean(errors)),
        "error_95": float(np.quantile(errors, 0.95)),
        "false": others / count,
    }
    return {key: round(value, 4) for key, value in values.items()}


def known_photographs(source: Path) -> Iterator[Known]:
    """A zip or a folder with ``images/`` and ``eyes.csv`` (file and two eyes, x and y in pixels): one face a picture."""
    try:
        archive = zipfile.ZipFile(source) if source.is_file() else None
        read = archive.read if archive else lambda name: (source / name).read_bytes()
        table = read("eyes.csv").decode("utf-8-sig")
        for row in csv.DictReader(io.StringIO(table)):
            name = row.pop("file")
            eyes = np.array([float(value) for value in row.values()]).reshape(2, 2)
            yield read_picture(read(f"images/{name}"), name), eyes[np.argsort(eyes[:, 0])][None]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source} holds no images/ with eyes.csv (file, x, y, x, y): {error}") from None


def pasted(dataset: Dataset, count: int, seed: int) -> Iterator[Known]:
    """Scenes with one to four held-out faces: 60 to 2,000 pixels high, turned by up to 30 degrees, a quarter of them dark."""
    rows = dataset.validation
    if len(rows) < 8:
        raise UserError(f"{dataset.folder} holds out {len(rows)} pictures: give it more")
    canvases = Canvases(dataset.images[rows], scenes(), seed, backgrounds=0)
    for number in range(count):
        rng = canvases.rng = np.random.default_rng([seed, number])
        height = round(60 * math.exp(rng.uniform(0, math.log(2000 / 60))))
        width = round(height * rng.uniform(0.6, 1.7))
        canvas = canvases.clutter(max(height, width)).crop((0, 0, width, height))
        most = 0.3 * min(height, width)
        wanted = 1 if rng.random() < 0.6 else int(rng.integers(2, 5))
        eyes: list[np.ndarray] = []
        for face in range(wanted):
            apart = math.exp(rng.uniform(math.log(min(max(16.0, 0.06 * height), most)), math.log(most)))
            for _ in range(20):
                x, y = rng.uniform(1.1 * apart, width - 1.1 * apart), rng.uniform(0.9 * apart, height - 1.4 * apart)
                if all(
                    np.hypot(*((e[0] + e[1]) / 2 - (x, y))) > 1.6 * (apart + np.linalg.norm(e[1] - e[0])) for e in eyes
                ):
                    turn = math.radians(rng.uniform(-30, 30))
                    placed = canvases.paste(canvas, x, y, apart, turn, extended=face == 0 and wanted == 1)
                    eyes.append(placed.reshape(2, 2))
                    break
        if rng.random() < 0.25:
            canvas = canvas.filter(ImageFilter.GaussianBlur(0.5))
        pixels: np.ndarray = np.asarray(canvas, np.float32)
        if rng.random() < 0.25:
            pixels = pixels * rng.uniform(0.15, 0.5)
        pixels = pixels + rng.normal(0, rng.uniform(0, 6), pixels.shape)
        eyes.sort(key=lambda e: -float(np.linalg.norm(e[1] - e[0])))
        if eyes:
            yield np.clip(pixels, 0, 255).astype(np.uint8), np.stack(eyes)


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [f"{'':<14}{'pictures':>9}{'found':>8}{'all faces':>11}{'mean error':>12}{'95%':>8}{'false':>8}"]
    for name, f in figures.items():
        cells = f"{f['pictures']:>9}{f['found']:>8.1%}{f['recall']:>11.1%}{f['error']:>12.1%}{f['error_95']:>8.1%}"
        lines.append(f"{name:<14}{cells}{f['false']:>8.2f}")
    lines.append(
        "found: the largest face of a picture; errors of the eyes in parts of their distance; false: a picture"
    )
    return "\n".join(lines)


def add_figures(folder: Path, figures: dict[str, Any]) -> None:
    """Put figures into a finder's manifest."""
    described = faces.manifest(folder)
    described["figures"] = {**described.get("figures", {}), **figures}
    with atomic_write(folder / "manifest.json") as path:
        path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def folder_of(name: str) -> Path | None:
    """The folder of a finder, ``faces`` being the shipped one; ``None`` where the name is of something else."""
    if name == "faces":
        return faces.FINDER
    return Path(name) if (Path(name) / faces.NETWORK).is_file() else None

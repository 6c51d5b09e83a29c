"""Bundles side by side: what they draw of the same seeds, what their first dimensions do, what they make of the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .dataset import Dataset, spread
from .errors import UserError
from .evaluate import ROWS, Settings, evaluate
from .model import Model
from .pictures import enlarge, to_image, to_uint8
from .render import grid, traversal

MOST = 4_000  # training pictures that are measured on, at most: as many as the eigenfaces take
REACH = 2.5  # of a traversal
GAP = 2  # pixels between pictures, as in `grid`
MARGIN, LINE = 12, 22  # pixels around a bundle's part, and of a line of text

Say = Callable[[str], None]


def fitted(dataset: Dataset, image_shape: tuple[int, int, int]) -> Dataset:
    """The held-out pictures, and some of the others, as a model of another shape wants them: the same people for all.

    Colour is turned to grey where a model sees no colour; a grey picture becomes three times the same.
    """
    rows = np.sort(np.concatenate([dataset.validation, spread(dataset.training, MOST)]))
    height, width, channels = image_shape
    mode = "L" if channels == 1 else "RGB"
    images = np.empty((len(rows), *image_shape), np.uint8)
    for at, row in enumerate(rows):
        picture = to_image(dataset.images[row]).convert(mode)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        images[at] = np.asarray(picture).reshape(image_shape)
    labels = {key: [values[row] for row in rows] for key, values in dataset.labels.items()}
    landmarks = dataset.landmarks
    if landmarks is not None:
        before = np.array(dataset.images.shape[2:0:-1], np.float32)  # landmarks are x, y in pixels
        landmarks = landmarks[rows] * (np.array([width, height], np.float32) / before)
    return Dataset(dataset.folder, images, dataset.held_out[rows], labels, dataset.record, landmarks)


def names(models: Sequence[Model]) -> list[str]:
    """What the bundles are called beside each other: their names, numbered where two have the same."""
    found: list[str] = []
    for model in models:
        number = sum(other.name == model.name for other in models[: len(found)])
        found.append(model.name if not number else f"{model.name} ({number + 1})")
    return found


def picture(
    models: Sequence[Model],
    dataset: Dataset | None,
    *,
    seed: int = 0,
    columns: int = 8,
    dimensions: int = 4,
    size: int = 96,
) -> Image.Image:
    """One part for each bundle, side by side; in each part the same rows, of ``columns`` pictures of ``size`` pixels.

    The first faces of ``seed``; traversals of the first ``dimensions`` dimensions of the first of them; and with a
    ``dataset``, held-out pictures above what a bundle makes of them, where it has an encoder.
    """
    originals = None
    if dataset is not None:
        held_out = dataset.validation
        originals = held_out[spread(np.arange(len(held_out)), columns)]
    parts = [_part(model, dataset, originals, seed, columns, dimensions, size) for model in models]
    width = columns * (size + GAP) + GAP
    height = max(sum(LINE + sheet.height for _, sheet in part) for part in parts) + LINE
    sheet = Image.new("RGB", (len(models) * (width + MARGIN) + MARGIN, height + 2 * MARGIN), "white")
    for column, (title, part) in enumerate(zip(names(models), parts, strict=True)):
        own = Image.new("RGB", (width, height), "white")  # of its own, so that no words reach into the next
        draw = ImageDraw.Draw(own)
        draw.text((0, 0), title, "black", ImageFont.load_default(17))
        top = LINE
        for words, pictures in part:
            draw.text((0, top + 3), words, "#444", ImageFont.load_default(14))
            own.paste(pictures, (0, top + LINE))
            top += LINE + pictures.height
        sheet.paste(own, (MARGIN + column * (width + MARGIN), MARGIN))
    return sheet


def _part(
    model: Model, dataset: Dataset | None, rows: np.ndarray | None, seed: int, columns: int, dimensions: int, size: int
) -> list[tuple[str, Image.Image]]:
    """The rows of one bundle, each with its words."""

    def sheet(pictures: np.ndarray) -> Image.Image:
        return grid(enlarge(pictures, size), columns, GAP).convert("RGB")

    z = model.sample(columns, seed)
    chosen = range(min(dimensions, len(model.dimensions)))
    found = [
        (f"faces of seed {seed}", sheet(to_uint8(model.decode(z)))),
        (
            f"dimensions 0 to {len(chosen) - 1}, from -{REACH:g} to {REACH:g}",
            sheet(traversal(model, z[0], chosen, columns, REACH)),
        ),
    ]
    if dataset is None or rows is None:
        return found
    if not model.has_encoder:
        return [*found, ("no encoder: no reconstructions", Image.new("RGB", (1, 1), "white"))]
    small = fitted(_only(dataset, rows), model.image_shape).images
    again = to_uint8(model.decode(model.encode(small).mean))
    return [*found, ("held-out pictures, and what it makes of them", sheet(np.concatenate([small, again])))]


def _only(dataset: Dataset, rows: np.ndarray) -> Dataset:
    return Dataset(dataset.folder, dataset.images[rows], np.ones(len(rows), bool), {}, dataset.record, None)


def figures(
    models: Sequence[Model], dataset: Dataset, settings: Settings, say: Say = lambda words: None
) -> list[dict[str, Any]]:
    """:func:`evaluate`'s figures of each bundle, on the same pictures. Raises ``UserError`` when there are too few."""
    found = []
    for name, model in zip(names(models), models, strict=True):

        def under_way(what: str, name: str = name) -> None:
            say(f"{name}: {what}")

        found.append(evaluate(model, fitted(dataset, model.image_shape), settings, under_way))
    return found


def table(titles: Sequence[str], found: Sequence[dict[str, Any]]) -> str:
    """Figures with their standard errors, a column for each bundle, as lines of text."""
    rows = [
        *ROWS,
        ("elbo_bits_per_dimension", "ELBO (bits/dim)", ".4f"),
        ("iwae_bits_per_dimension", "IWAE (bits/dim)", ".4f"),
        ("kl", "KL (nats)", ".1f"),
        ("active_units", "active units", "d"),
    ]
    width = max(20, *(len(title) + 2 for title in titles))
    lines = [f"{'':<50}" + "".join(f"{title:>{width}}" for title in titles)]
    for key, label, form in rows:
        if any(key in one for one in found):
            lines.append(f"{label:<50}" + "".join(f"{_cell(one, key, form):>{width}}" for one in found))
    lines.append("± is one standard error; bits and PSNR are comparable only between bundles of one size and colour")
    return "\n".join(lines)


def _cell(one: dict[str, Any], key: str, form: str) -> str:
    if key not in one:
        return "-"
    error = one.get(f"{key}_error")
    return format(one[key], form) + (f" ± {format(error, form)}" if error is not None else "")


def must_differ(models: Sequence[Model]) -> None:
    """Raise ``UserError`` unless there are at least two bundles."""
    if len(models) < 2:
        raise UserError("compare needs two bundles or more: compare BUNDLE BUNDLE")

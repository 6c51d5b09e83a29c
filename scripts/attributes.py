"""Find directions with names (smile, age, glasses ...) in a bundle's latent space and write them into its manifest.

    morphing-faces prepare portraits-128.zip ages-128.zip expressions-128.zip attributes-64.zip -o DATA --size 128
    python scripts/attributes.py BUNDLE --data DATA --write

A quantity is a label of the pictures (CelebA's attributes, an age, an expression) or is measured on dlib's 68
landmarks. Each is standardised over real pictures, so that 1 is one standard deviation between people. A ridge
regression from codes to quantities gives the *readings* w; the *directions* are the columns of W (W'W)^-1, so that a
step along one moves what is read of it by 1 and what is read of every other by 0, gender included, for which there is
no knob. What a step does is then measured on decoded faces by judges that know nothing of the latent space: the
landmarks, or a ridge regression on pixels. A knob that moves its own quantity little, or another one more, is left out.

Needs the extras [metrics] and [train]; minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import morphing_faces as mf
from morphing_faces.dataset import Dataset, open_dataset, spread
from morphing_faces.landmarks import predictor_path
from morphing_faces.metrics import Describer  # noqa: F401  (says what to install)
from morphing_faces.pictures import to_uint8

MEASURED = 2000  # real pictures whose landmarks are measured
LABELLED = 4000  # pictures with a label that are encoded, at most, for each set of labels
FACES, SCREENED = 100, 30  # random faces on which a knob is judged, and before that, to leave out the weak ones
STEP = 1.5  # how far each way
LEAST = 0.35  # standard deviations of its own quantity that a knob must move in one unit
RIDGE = 30.0
GENDER = 0.45  # standard deviations by which a knob may move what is read of gender


@dataclass(frozen=True)
class Quantity:
    """What a knob moves: the words at its ends, and where its values come from."""

    low: str
    high: str
    labels: tuple[tuple[str, float], ...] = ()  # columns of labels.csv and their weights
    landmarks: bool = False
    knob: bool = True


QUANTITIES = {
    "smile": Quantity("serious", "smiling", landmarks=True),
    "mouth open": Quantity("closed", "open", landmarks=True),
    "age": Quantity("younger", "older", labels=(("age", 1.0),)),
    "turn": Quantity("to the left", "to the right", landmarks=True),
    "nod": Quantity("up", "down", landmarks=True),
    "brows raised": Quantity("low", "raised", landmarks=True),
    "brows tilted": Quantity("outer ends up", "inner ends up", landmarks=True),
    "eyes open": Quantity("narrow", "wide", landmarks=True),
    "face width": Quantity("narrow", "broad", landmarks=True),
    "glasses": Quantity("none", "glasses", labels=(("Eyeglasses", 1.0),)),
    "hair": Quantity("dark", "fair", labels=(("Blond_Hair", 1.0), ("Black_Hair", -1.0))),
    "fringe": Quantity("bare forehead", "fringe", labels=(("Bangs", 1.0),)),
    "gender": Quantity("", "", labels=(("Male", 1.0),), knob=False),  # held still: no knob may move it
}


def main() -> None:
    """Measure, print a table, and with ``--write`` put the knobs into the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True, help="made by prepare, with the labels")
    parser.add_argument("--write", action="store_true", help="put the knobs into the bundle's manifest")
    parser.add_argument("--cache", type=Path, help="a folder that keeps codes and landmarks between runs")
    arguments = parser.parse_args()
    model, dataset = mf.load(arguments.bundle), open_dataset(arguments.data)
    knobs, left_out = find(model, dataset, arguments.cache)
    print(table(knobs, left_out))
    if arguments.write:

        def edit(manifest: dict[str, Any]) -> None:
            manifest["attributes"] = knobs
            manifest["figures"]["attributes_left_out"] = left_out

        model.bundle.change(edit)


def find(model: mf.Model, dataset: Dataset, cache: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The knobs as the manifest holds them, and the figures of those that were too weak."""
    landmarker = Landmarker()
    values, rows = quantities(dataset, landmarker, cache)
    every = np.unique(np.concatenate(list(rows.values())))
    codes = kept(cache, f"codes-{model.bundle.manifest['files']['encoder.onnx']['sha256'][:12]}", every, lambda: encode(model, dataset, every))  # fmt: skip
    place = {row: k for k, row in enumerate(every)}
    names, readings, correlations = list(QUANTITIES), [], []
    for name in names:
        u, y = codes[[place[row] for row in rows[name]]], values[name]
        held = dataset.held_out[rows[name]]
        weights = balance(y)
        w, offset = ridge(u[~held], y[~held], weights[~held], RIDGE)
        seen = u[~held] @ w + offset  # the penalty shrinks it: 1 must be one standard deviation again
        w = w * np.cov(seen, y[~held], aweights=weights[~held])[0, 1] / np.cov(seen, aweights=weights[~held])
        readings.append(w)
        correlations.append(float(np.corrcoef(u[held] @ w, y[held])[0, 1]))
    judges = {n: Judge(dataset, rows[n], values[n]) for n in names if not QUANTITIES[n].landmarks}
    chosen, rejected = names, dict[str, Any]()
    for faces in (SCREENED, SCREENED, FACES):  # what is left out is no longer held still, which changes the others
        knobs, left_out = judged(
            model, landmarker, judges, chosen, np.stack([readings[names.index(n)] for n in chosen], 1), faces
        )
        rejected |= left_out
        chosen = [n for n in chosen if n not in left_out]
    for name, figures in (*knobs.items(), *rejected.items()):
        figures["correlation"] = round(correlations[names.index(name)], 2)
    return knobs, rejected


def judged(
    model: mf.Model, landmarker: Landmarker, judges: dict[str, Judge], names: list[str], w: np.ndarray, faces: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What steps of ``STEP`` both ways along each direction do to random faces, in standard deviations a unit."""
    directions = w @ np.linalg.inv(w.T @ w)
    z = model.sample(faces, seed=1)
    knobs: dict[str, Any] = {}
    left_out: dict[str, Any] = {}

    def seen(latents: np.ndarray) -> dict[str, np.ndarray]:
        pictures = to_uint8(model.decode(latents))
        measured = landmarker.quantities(pictures)
        return {n: measured[n] if n in measured else judges[n](pictures) for n in names}

    for k, name in enumerate(names):
        quantity = QUANTITIES[name]
        if not quantity.knob:
            continue
        low, high = seen(z - STEP * directions[:, k]), seen(z + STEP * directions[:, k])
        effects = {n: float(np.median(high[n] - low[n]) / (2 * STEP)) for n in names}
        others = {n: round(e, 2) for n, e in effects.items() if n != name}
        worst = max(others, key=lambda n: abs(others[n]))
        entry: dict[str, Any] = {
            "low": quantity.low,
            "high": quantity.high,
            "effect": round(effects[name], 2),
            "moved": round(float(np.mean(high[name] > low[name])), 3),
            "others": others,
            "length": round(float(np.linalg.norm(directions[:, k])), 2),
            "direction": [round(float(v), 4) for v in directions[:, k]],
            "reading": [round(float(v), 5) for v in w[:, k]],
        }
        good = (
            effects[name] >= LEAST
            and entry["moved"] >= 0.9
            and abs(others[worst]) <= effects[name]
            and abs(others.get("gender", 0)) <= GENDER
        )
        if good:
            knobs[name] = entry
        else:
            left_out[name] = {key: entry[key] for key in ("effect", "moved", "others", "length")}
    return knobs, left_out


def quantities(
    dataset: Dataset, landmarker: Landmarker, cache: Path | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Standardised values of every quantity, and the rows of the data set that have it."""
    values, rows = {}, {}
    some = spread(np.flatnonzero([not text for text in dataset.labels["Eyeglasses"]]), MEASURED)  # those are soft
    points = kept(cache, "landmarks", some, lambda: landmarker(dataset.images[some]))
    measured = landmarker.fit(points)
    for name, quantity in QUANTITIES.items():
        if quantity.landmarks:
            values[name], rows[name] = measured[name], some
            continue
        known = spread(np.flatnonzero([text != "" for text in dataset.labels[quantity.labels[0][0]]]), LABELLED)
        y = sum(
            weight * np.array([float(dataset.labels[column][row]) for row in known])
            for column, weight in quantity.labels
        )
        values[name], rows[name] = (y - np.mean(y)) / np.std(y), known
    return values, rows


def kept(cache: Path | None, name: str, rows: np.ndarray, make: Any) -> np.ndarray:
    """What was made for these rows before, or made now."""
    path = cache / f"{name}.npz" if cache else None
    if path and path.is_file():
        with np.load(path) as found:
            if np.array_equal(found["rows"], rows):
                return found["values"]
    values: np.ndarray = make()
    if path:
        np.savez(path, rows=rows, values=values)
    return values


def encode(model: mf.Model, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Codes (n, latent_size) of pictures of the data set."""
    return np.concatenate([model.encode(dataset.images[rows[k : k + 64]]).mean for k in range(0, len(rows), 64)])


def balance(y: np.ndarray) -> np.ndarray:
    """Weights that let both sides of a label count alike, however rare one is; ones where there are many values."""
    if len(np.unique(y)) > 3:
        return np.ones(len(y))
    weights = np.ones(len(y))
    for value in np.unique(y):
        weights[y == value] = len(y) / (len(np.unique(y)) * (y == value).sum())
    return weights


def ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """Weighted least squares with an offset: y ~ x w + b; the penalty is ``strength`` of the features' variance."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    middle, level = np.average(x, axis=0, weights=weights), np.average(y, weights=weights)
    centred = x - middle
    gram = (centred * weights[:, None]).T @ centred
    w = np.linalg.solve(
        gram + strength * np.eye(len(gram)) * np.trace(gram) / len(x), (centred * weights[:, None]).T @ (y - level)
    )
    return w, float(level - middle @ w)


class Judge:
    """A quantity read from pixels alone: ridge regression on a small colour picture, fitted on real pictures."""

    def __init__(self, dataset: Dataset, rows: np.ndarray, values: np.ndarray):
        x = self.features(dataset.images[rows])
        held = dataset.held_out[rows]
        self.w, self.offset = ridge(x[~held], values[~held], balance(values)[~held], 20.0)
        own = x[held] @ self.w + self.offset
        self.spread = float(own.std())
        self.correlation = float(np.corrcoef(own, values[held])[0, 1])

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        return (self.features(pictures) @ self.w + self.offset) / self.spread

    @staticmethod
    def features(pictures: np.ndarray) -> np.ndarray:
        small = [np.asarray(Image.fromarray(p).resize((24, 24), Image.Resampling.BOX)) for p in pictures]
        edges = [
            np.asarray(Image.fromarray(p).convert("L").resize((48, 48), Image.Resampling.BOX), np.float32)
            for p in pictures
        ]
        flat = np.stack(small).reshape(len(small), -1) / 255.0
        e = np.stack(edges) / 255.0
        gradient = np.hypot(np.diff(e, axis=1)[:, :, :-1], np.diff(e, axis=2)[:, :-1])
        pooled = gradient[:, :46, :46].reshape(len(e), 23, 2, 23, 2).mean((2, 4)).reshape(len(e), -1) * 3
        return np.hstack([flat, pooled])


class Landmarker:
    """dlib's 68 landmarks in the frame, and the quantities that are measured on them."""

    def __init__(self) -> None:
        import dlib

        self.predictor = dlib.shape_predictor(str(predictor_path()))
        self.rectangle = dlib.rectangle
        self.scale: dict[str, tuple[float, float]] = {}

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (n, 128, 128, 3) -> (n, 68, 2), pixels of the frame: enlarged four times, for dlib answers in whole pixels."""
        out = np.empty((len(pictures), 68, 2), np.float32)
        for k, picture in enumerate(pictures):
            large = np.asarray(Image.fromarray(picture).resize((512, 512), Image.Resampling.BICUBIC))
            large = np.ascontiguousarray(np.pad(large, ((160, 160), (160, 160), (0, 0)), mode="edge"))
            points = [self.predictor(large, self.rectangle(172 + dx, 232, 660 + dx, 720)).parts() for dx in (-6, 6)]
            out[k] = np.mean([[(p.x - 160, p.y - 160) for p in found] for found in points], 0) / 4
        return out

    @staticmethod
    def raw(points: np.ndarray) -> dict[str, np.ndarray]:
        """Quantities of landmarks, in parts of the eyes' distance."""
        left, right = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
        apart = np.linalg.norm(right - left, axis=1)
        across = (right - left) / apart[:, None]
        down = np.stack([-across[:, 1], across[:, 0]], 1)
        p = points - ((left + right) / 2)[:, None]
        x, y = (p @ across[:, :, None])[..., 0] / apart[:, None], (p @ down[:, :, None])[..., 0] / apart[:, None]
        width = x[:, 54] - x[:, 48]
        lift = (y[:, 62] + y[:, 66]) / 2 - (y[:, 48] + y[:, 54]) / 2
        brows = y[:, 17:27]
        return {
            "smile": width + lift,
            "mouth open": y[:, 65:68].mean(1) - y[:, 61:64].mean(1),
            "turn": x[:, 30] - (x[:, 2] + x[:, 14]) / 2,
            "nod": y[:, 30] - (y[:, 2] + y[:, 14]) / 2,
            "brows raised": -brows.mean(1),
            "brows tilted": (y[:, 17] + y[:, 26] - y[:, 21] - y[:, 22]) / 2,
            "eyes open": ((y[:, [41, 40, 47, 46]] - y[:, [37, 38, 43, 44]]).mean(1)),
            "face width": x[:, 13] - x[:, 3],
            "mouth width": width,
        }

    def fit(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Standardised quantities of real pictures; remembers their means and deviations."""
        raw = self.raw(points)
        self.scale = {name: (float(np.median(v)), float(v.std())) for name, v in raw.items()}
        return {name: np.clip((v - self.scale[name][0]) / self.scale[name][1], -4, 4) for name, v in raw.items()}

    def quantities(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """The same of other pictures, in the same units."""
        return {name: (v - self.scale[name][0]) / self.scale[name][1] for name, v in self.raw(self(pictures)).items()}


def table(knobs: dict[str, Any], left_out: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [f"{'':<14}{'effect':>8}{'moved':>8}{'r':>6}{'length':>8}  largest effects on others"]
    for title, entries in (("", knobs), ("left out: ", left_out)):
        for name, entry in entries.items():
            most = sorted(entry["others"].items(), key=lambda item: -abs(item[1]))[:3]
            others = ", ".join(f"{other} {value:+.2f}" for other, value in most)
            r = entry.get("correlation", math.nan)
            lines.append(
                f"{title + name:<14}{entry['effect']:>8.2f}{entry['moved']:>8.0%}{r:>6.2f}{entry['length']:>8.2f}  {others}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

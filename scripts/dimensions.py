"""What the dimensions of a bundle do: the evidence for their names, which a person then writes.

    python scripts/dimensions.py BUNDLE FOLDER --faces FACES

writes into FOLDER `traversal.webp`, the average face along each dimension, a row each, from -3 to 3, and
`correlations.json`: for each dimension the labels, landmarks and measures of pictures that it goes with, strongest first.

FACES is a folder of zips of labelled pictures (ages-128, expressions-128, attributes-64), each with a `labels.csv`. Every
picture is encoded by the bundle; a figure is Pearson's r between the mean of its code and a label (0 or 1), an age, a
landmark's measure or a measure of its pixels. What mixes several of them gets an honest name: "light and background".

The names go into src/morphing_faces/recipes/names/NAME.toml and from there into the bundle by `morphing-faces export`
(`--names`) or `morphing-faces names`.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

import morphing_faces as mf
from morphing_faces.landmarks import predictor_path
from morphing_faces.render import enlarge, grid, to_uint8

SETS = ("attributes-64", "expressions-128", "ages-128")
TRAVERSAL = (-3, -2, -1, 0, 1, 2, 3)
LEFT_EYE, RIGHT_EYE, BROWS, NOSE = slice(36, 42), slice(42, 48), slice(17, 27), 30


def labelled(archive: Path, most: int, seed: int) -> tuple[list[Image.Image], list[dict[str, float]]]:
    """Up to ``most`` pictures of a zip and what their labels say, as numbers."""
    with zipfile.ZipFile(archive) as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file.open("labels.csv"), "utf-8")))
        chosen = np.random.default_rng(seed).permutation(len(rows))[:most]
        pictures = [Image.open(io.BytesIO(file.read(f"images/{rows[k]['file']}"))).convert("RGB") for k in chosen]
    return pictures, [numbers(rows[k]) for k in chosen]


def numbers(row: dict[str, str]) -> dict[str, float]:
    """A row of labels as numbers: -1 and 1 as they are, an age as its years, a word as a label of its own."""
    found: dict[str, float] = {}
    for key, value in row.items():
        if key == "file" or not value:
            continue
        if value.lstrip("-").isdigit():
            found[key] = float(value)
        else:
            found[f"{key}={value}"] = 1.0
    return found


def of_pixels(picture: np.ndarray) -> dict[str, float]:
    """Measures of a picture, (128, 128, 3) in [0, 1]."""
    grey = picture.mean(axis=2)
    middle, sides = grey[44:110, 40:88], np.concatenate([grey[:60, :14], grey[:60, -14:]], axis=1)
    return {
        "brightness of the face": middle.mean(),
        "contrast of the face": middle.std(),
        "light from the right": grey[40:110, 70:100].mean() - grey[40:110, 28:58].mean(),
        "light from below": grey[84:112, 44:84].mean() - grey[44:60, 44:84].mean(),
        "brightness of the background": sides.mean(),
        "background, right brighter": grey[:, -14:].mean() - grey[:, :14].mean(),
        "brightness of the forehead": grey[6:24, 44:84].mean(),
        "brightness below the chin": grey[-8:].mean(),
        "warmth": (picture[..., 0] - picture[..., 2]).mean(),
        "greenness": (picture[..., 1] - picture[..., [0, 2]].mean(axis=2)).mean(),
        "redness of the mouth": (picture[88:104, 48:80, 0] - picture[88:104, 48:80, 1]).mean(),
    }


def of_landmarks(points: np.ndarray) -> dict[str, float]:
    """Measures of 68 landmarks, (68, 2), in parts of the distance between the eyes."""
    left, right = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    unit = max(float(np.linalg.norm(right - left)), 1.0)
    middle = (left + right) / 2
    eyes = points[[37, 38, 43, 44]][:, 1].mean(), points[[40, 41, 46, 47]][:, 1].mean()
    return {
        "turned to the right": (points[NOSE, 0] - middle[0]) / unit,
        "nose low": (points[NOSE, 1] - middle[1]) / unit,
        "mouth wide": (points[54, 0] - points[48, 0]) / unit,
        "mouth open": (points[66, 1] - points[62, 1]) / unit,
        "mouth low": (points[51, 1] - middle[1]) / unit,
        "corners of the mouth up": (points[[62, 66], 1].mean() - points[[48, 54], 1].mean()) / unit,
        "chin low": (points[8, 1] - middle[1]) / unit,
        "face wide": (points[14, 0] - points[2, 0]) / unit,
        "jaw wide": (points[11, 0] - points[5, 0]) / unit,
        "brows high": (middle[1] - points[BROWS, 1].mean()) / unit,
        "eyes open": (eyes[1] - eyes[0]) / unit,
        "nose wide": (points[35, 0] - points[31, 0]) / unit,
        "head tilted": (points[8, 0] - middle[0]) / unit,
    }


def landmark_finder() -> object:
    """dlib's 68 landmarks, in the box that our frame gives."""
    import dlib

    return dlib.shape_predictor(str(predictor_path()))


def main() -> None:
    """Measure a bundle and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("out", type=Path)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--most", type=int, default=1500, help="pictures of each zip")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = mf.load(options.bundle)
    height, width, channels = model.image_shape
    draw_traversal(model, options.out / "traversal.webp")

    import dlib

    finder = landmark_finder()
    codes, said = [], []
    for name in SETS:
        pictures, labels = labelled(options.faces / f"{name}.zip", options.most, options.seed)
        for picture, label in zip(pictures, labels, strict=True):
            large = picture.resize((128, 128), Image.Resampling.BICUBIC)
            pixels = np.asarray(large, np.float32) / 255
            enlarged = np.asarray(picture.resize((512, 512), Image.Resampling.BICUBIC))
            shape = finder(enlarged, dlib.rectangle(60, 60, 452, 500))  # type: ignore[operator]
            points = np.array([(p.x, p.y) for p in shape.parts()], float)
            measures = of_landmarks(points) | of_pixels(pixels)
            if name == "expressions-128":  # grey, without a colour to be measured
                measures.pop("warmth"), measures.pop("greenness"), measures.pop("redness of the mouth")
            said.append({**label, **measures})
            small = picture.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BOX)
            codes.append(model.encode(np.asarray(small)).mean[0])
    report = correlate(np.stack(codes)[:, list(model.dimensions)], said)
    (options.out / "correlations.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for dimension, found in report.items():
        print(f"{dimension:>2}", "  ".join(f"{key} {r:+.2f}" for key, r in list(found.items())[:7]))


def draw_traversal(model: mf.Model, path: Path) -> None:
    """The average face along each dimension."""
    rows = []
    for latent in model.dimensions:
        z = np.zeros((len(TRAVERSAL), model.latent_size), np.float32)
        z[:, latent] = TRAVERSAL
        rows.append(to_uint8(model.decode(z)))
    grid(enlarge(np.concatenate(rows), 96), len(TRAVERSAL)).save(path, quality=90)


def correlate(codes: np.ndarray, said: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Pearson's r of each dimension with everything that was said of at least 200 pictures; what is below 0.1 is left out."""
    keys = sorted({key for one in said for key in one})
    words = {key.split("=")[0] for key in keys if "=" in key}
    report: dict[str, dict[str, float]] = {}
    for dimension, column in enumerate(codes.T):
        found = {}
        for key in keys:
            family = key.split("=")[0]
            known = [
                key in one or (family in words and any(other.startswith(f"{family}=") for other in one)) for one in said
            ]
            values = np.array([one.get(key, 0.0) for one, is_known in zip(said, known, strict=True) if is_known])
            if len(values) < 200 or values.std() == 0:
                continue
            found[key] = float(np.corrcoef(values, column[np.array(known)])[0, 1])
        strongest = sorted(found.items(), key=lambda item: -abs(item[1]))
        report[str(dimension)] = {key: round(r, 3) for key, r in strongest if abs(r) >= 0.1}
    return report


if __name__ == "__main__":
    main()

"""How near a photograph's own latent comes to it.

    python benchmarks/likeness.py [--bundle color] --data DATA [--pictures 40]

Of held-out pictures, frontal ones where the data set has landmarks: the mean of each one's PSNR, inside the face where there are
landmarks. Of the encoder's answer, of the encoder asked again, and of the latent that is fitted, which is what `encode`, `edit` and
the page use; beside them eigenfaces with as many components, and what each takes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import morphing_faces as mf
from morphing_faces.dataset import open_dataset, spread
from morphing_faces.evaluate import Eigenfaces, inside_face
from morphing_faces.landmarks import usable
from morphing_faces.photo import asked_again, fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="color")
    parser.add_argument("--data", required=True)
    parser.add_argument("--pictures", type=int, default=40)
    arguments = parser.parse_args()
    model, dataset = mf.load(arguments.bundle), open_dataset(arguments.data)
    rows, inside = dataset.validation, np.ones(model.image_shape[:2], bool)
    if dataset.landmarks is not None:
        rows, inside = rows[usable(dataset.landmarks[rows])], inside_face(dataset.landmarks, model.image_shape)
    pictures = dataset.images[spread(rows, arguments.pictures)].astype(np.float32) / 255

    def decibels(drawn: np.ndarray) -> float:
        return float(-10 * np.log10(np.square(drawn - pictures)[:, inside].mean((1, 2))).mean())

    first = model.encode(pictures).mean
    again = asked_again(model, pictures)
    found, seconds = [], []
    for picture, z in zip(pictures, again, strict=True):
        began = time.perf_counter()
        found.append(fitted(model, picture, z))
        seconds.append(time.perf_counter() - began)
    pca = Eigenfaces(dataset, model.latent_size)
    rows_of = {
        "the encoder's answer": model.decode(first),
        "asked again": model.decode(again),
        "fitted": model.decode(np.stack(found)),
        f"eigenfaces, {model.latent_size} components": pca.reconstruct(np.round(255 * pictures).astype(np.uint8)),
    }
    for name, drawn in rows_of.items():
        print(f"{name:<32}{decibels(drawn):6.2f} dB")
    print(f"median of {len(seconds)} fits: {statistics.median(seconds):.2f} s")
    lengths = [float(np.square(each).sum(-1).mean()) for each in (first, again, np.stack(found))]
    print(
        f"mean squared length of the latents: {', '.join(f'{each:.0f}' for each in lengths)} ({model.latent_size} is typical)"
    )


if __name__ == "__main__":
    main()

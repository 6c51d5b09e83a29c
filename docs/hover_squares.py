"""The corners of many hover squares: ``python docs/hover_squares.py [--bundle NAME|DIR] [--range 1] [-o FILE.webp]``.

A row is a random face (seeds 0 to 19), a column a pair of the first ten dimensions, a cell the faces in the four corners
of that square, where something would break first. With the extra [metrics], says in how many of them a detector finds a
face, and in which squares it misses one.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

import morphing_faces as mf
from morphing_faces import render

FACES, DIMENSIONS, SIDE, GAP = 20, 10, 32, 3
CORNERS = ((-1, 1), (1, 1), (-1, -1), (1, -1))  # as they lie on the screen, y up


def corners(model: mf.Model, reach: float) -> np.ndarray:
    """uint8 pictures (faces, pairs, 4, height, width, channels)."""
    pairs = list(itertools.combinations(range(DIMENSIONS), 2))
    rows = []
    for seed in range(FACES):
        z = np.repeat(model.sample(1, seed), len(pairs) * len(CORNERS), axis=0)
        for k, ((x, y), place) in enumerate(itertools.product(pairs, CORNERS)):
            z[k, [model.dimensions[x], model.dimensions[y]]] = np.multiply(place, reach)
        rows.append(render.to_uint8(model.decode(z)).reshape(len(pairs), len(CORNERS), *model.image_shape))
    return np.stack(rows)


def sheet(pictures: np.ndarray) -> Image.Image:
    """All of them, small."""
    faces, pairs = pictures.shape[:2]
    cell = 2 * SIDE + GAP
    page = np.full((faces * cell + GAP, pairs * cell + GAP, 3), 255, np.uint8)
    for row, column, corner in np.ndindex(pictures.shape[:3]):
        small = render.to_image(pictures[row, column, corner]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
        top, left = GAP + row * cell + corner // 2 * SIDE, GAP + column * cell + corner % 2 * SIDE
        page[top : top + SIDE, left : left + SIDE] = np.asarray(small)
    return Image.fromarray(page)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="color")
    parser.add_argument("--range", dest="reach", type=float, default=1.0)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/hover-squares.webp"))
    arguments = parser.parse_args()
    pictures = corners(mf.load(arguments.bundle), arguments.reach)
    sheet(pictures).save(arguments.out, quality=60, method=6)
    print(f"{arguments.out}: {pictures.shape[0]} faces, {pictures.shape[1]} squares each, range {arguments.reach:g}")
    try:
        from morphing_faces.metrics import Describer

        describer = Describer()
    except (ImportError, ValueError):
        return
    found = np.array([[describer.found(square) for square in face] for face in pictures])
    print(f"a face is found in {found.mean():.1%} of the {4 * found.size} corners")
    for face, pair in np.argwhere(found < 1):
        x, y = list(itertools.combinations(range(DIMENSIONS), 2))[pair]
        print(f"  face {face}, dimensions {x} and {y}: in {found[face, pair]:.0%}")


if __name__ == "__main__":
    main()

"""Fields: where a picture finds its colours in the mean frame. NumPy only; what a bundle's ``field`` means, in code.

A field (n, 16, 16, 2) holds displacements in pixels of a frame of ``side`` pixels, x first, at the centres of 16 x 16
squares; between the centres it is bilinear, beyond them constant. ``picture(p) = appearance(p + field(p))``; positions are
in pixels, and the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import numpy as np

STEPS = 12  # of the fixed-point iteration that inverts a field


def at(field: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """Fields (n, k, k, 2) at points (n, m, 2), in pixels of a frame of ``side``: displacements (n, m, 2), bilinear."""
    cells = field.shape[1]
    place = np.clip((points + 0.5) * (cells / side) - 0.5, 0, cells - 1)
    first = np.minimum(place.astype(np.intp), cells - 2)
    x, y = first[..., 0], first[..., 1]
    a, b = np.moveaxis(place - first, -1, 0)[..., None]
    rows = np.arange(len(field))[:, None]
    top = field[rows, y, x] * (1 - a) + field[rows, y, x + 1] * a
    bottom = field[rows, y + 1, x] * (1 - a) + field[rows, y + 1, x + 1] * a
    displaced: np.ndarray = top * (1 - b) + bottom * b
    return displaced


def landmarks(field: np.ndarray, mean: np.ndarray, side: int) -> np.ndarray:
    """Where the mean frame's points (m, 2) lie in the pictures of fields (n, 16, 16, 2): (n, m, 2) float32.

    A point p of a picture lies at p + field(p) in the mean frame; that is inverted by fixed-point steps.
    """
    points = np.broadcast_to(mean, (len(field), *mean.shape)).astype(np.float32)
    for _ in range(STEPS):
        points = (mean - at(field, points, side)).astype(np.float32)
    return points


def jacobian(field: np.ndarray, side: int) -> np.ndarray:
    """The determinant of d (p + field(p)) / d p between neighbouring centres, (n, 15, 15): at most 0 where a picture folds."""
    step = side / field.shape[1]
    dx = (field[:, :-1, 1:] - field[:, :-1, :-1]) / step
    dy = (field[:, 1:, :-1] - field[:, :-1, :-1]) / step
    determinant: np.ndarray = (1 + dx[..., 0]) * (1 + dy[..., 1]) - dx[..., 1] * dy[..., 0]
    return determinant

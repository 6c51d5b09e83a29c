"""Fields: where a picture finds its colours in the mean frame. NumPy only; what a bundle's ``field`` means, in code.

A field (n, 16, 16, 2) holds displacements in pixels of a frame of ``side`` pixels, x first, at the centres of 16 x 16
squares; between the centres it is bilinear, beyond them constant. ``picture(p) = appearance(p + field(p))``; positions are
in pixels, and the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import numpy as np

STEPS = 10  # of Newton's method at most, by which a field is inverted
DONE = 0.01  # pixels: after a step as short as this the next one would be far shorter still
SAFE = 0.1  # a place that is squeezed further than to this part of its area takes fixed-point steps instead


def at(field: np.ndarray, points: np.ndarray, side: int) -> np.ndarray:
    """Fields (n, k, k, 2) at points (n, m, 2), in pixels of a frame of ``side``: displacements (n, m, 2), bilinear."""
    return _slopes(field, points, side)[0]


def inverse(
    field: np.ndarray,
    points: np.ndarray,
    side: int,
    wanted: np.ndarray | float = 0.0,
    way: np.ndarray | None = None,
    steps: int = STEPS,
) -> np.ndarray:
    """The ways d from points p (m, 2) with d + field(p + d) = ``wanted``, for fields (n, k, k, 2): (n, m, 2) float64.

    All are in pixels of a frame of ``side``, x first; ``wanted`` is (n, m, 2) or a number. Newton's method finds them also
    where a field changes so fast that fixed-point steps lead away. It begins at ``way`` (m, 2), by default 0, and takes
    ``steps`` at most.
    """
    shape = (len(field), *points.shape)
    way = np.zeros(shape) if way is None else np.array(np.broadcast_to(way, shape), np.float64)
    longest = side / field.shape[1]
    for _ in range(steps):
        there, across, down = _slopes(field, points + way, side)
        missing = wanted - way - there
        x, y = missing[..., 0], missing[..., 1]
        a, b = 1 + across[..., 0], down[..., 0]
        c, d = across[..., 1], 1 + down[..., 1]
        determinant = a * d - b * c
        step = np.empty(shape)
        step[..., 0], step[..., 1] = d * x - b * y, a * y - c * x
        safe = determinant > SAFE
        step = np.where(safe[..., None], step / np.where(safe, determinant, 1)[..., None], missing)
        step = np.minimum(np.maximum(step, -longest), longest)
        way += step
        if not step.size or np.abs(step).max() < DONE:
            break
    return way


def landmarks(field: np.ndarray, mean: np.ndarray, side: int) -> np.ndarray:
    """Where the mean frame's points (m, 2) lie in the pictures of fields (n, 16, 16, 2): (n, m, 2) float32.

    A point p of a picture lies at p + field(p) in the mean frame.
    """
    return (mean + inverse(field, mean, side)).astype(np.float32)


def jacobian(field: np.ndarray, side: int) -> np.ndarray:
    """The determinant of d (p + field(p)) / d p between neighbouring centres, (n, 15, 15): at most 0 where a picture folds."""
    step = side / field.shape[1]
    dx = (field[:, :-1, 1:] - field[:, :-1, :-1]) / step
    dy = (field[:, 1:, :-1] - field[:, :-1, :-1]) / step
    determinant: np.ndarray = (1 + dx[..., 0]) * (1 + dy[..., 1]) - dx[..., 1] * dy[..., 0]
    return determinant


def _slopes(field: np.ndarray, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields (n, k, k, 2) at points (n, m, 2), bilinear, and how they change there a pixel to the right and down."""
    cells = field.shape[1]
    scale = cells / side
    wanted = (points + 0.5) * scale - 0.5
    place = np.minimum(np.maximum(wanted, 0), cells - 1)
    first = np.minimum(place.astype(np.intp), cells - 2)
    share = place - first
    a, b = share[..., :1], share[..., 1:]
    flat = field.reshape(-1, 2)
    at = first[..., 1] * cells + first[..., 0] + np.arange(0, len(flat), cells * cells)[:, None]
    corners = flat.take(at + np.array([0, 1, cells, cells + 1])[:, None, None], 0)
    left = corners[::2]
    east = corners[1::2] - left  # along the upper line and the lower one
    top, bottom = left + east * a
    south = bottom - top
    inside = (wanted == place) * scale
    return top + south * b, (east[0] + (east[1] - east[0]) * b) * inside[..., :1], south * inside[..., 1:]

"""The directions of a latent space that change the picture most, found by finite differences: any decoder, no gradients.

With J the Jacobian of the picture with respect to the latent, the directions are the eigenvectors of E[J' J] over
z ~ N(0, I), and a direction's share is its eigenvalue's part of the trace: of the visible change E[|dx/dz|^2].

A column of J costs one decode, so the whole of it costs k + 1. It is taken at a few points. What comes first there spans a
subspace in which E[J' J] is then averaged over many more points, at one decode for each of the subspace's dimensions.
The number of points decides how well neighbouring directions are told apart: their effect differs from face to face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import noise

SUBSPACE = 32  # dimensions that are looked at again at many points: those that a person can pick, and a few
WHOLE = 4  # points at which the whole Jacobian is taken, where a quarter of the budget allows it
COARSE = 128  # pixels of a side: of larger pictures the means of blocks are compared
BATCH = 32  # pictures in one call of the decoder
STEPS = (0.02, 0.1, 0.5)  # lengths of a difference, in standard deviations of the latent
STEADY = 0.99  # cosine of differences at a step and at twice the step, from which on the step is wide enough

Decode = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Directions:
    """``rotation`` (k, k) float64: orthonormal columns, the direction that changes the picture most first.

    ``share`` (k,) is each one's part of the visible change. A direction's sign is such that going along it brightens the
    picture, on average.
    """

    rotation: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Plan:
    """How many decodes are spent on what: ``whole`` Jacobians, then ``points`` in a subspace of so many dimensions."""

    latent_size: int
    whole: int
    points: int
    subspace: int

    @property
    def decodes(self) -> int:
        """Pictures that the decoder will draw."""
        return self.whole * (self.latent_size + 1) + self.points * (self.subspace + 1)


def plan(latent_size: int, decodes: int) -> Plan:
    """Spend at most ``decodes`` decodes, but never less than one whole Jacobian takes, ``latent_size`` + 1."""
    subspace = min(SUBSPACE, latent_size)
    whole = min(max(1, decodes // 4 // (latent_size + 1)), WHOLE)
    points = max(0, decodes - whole * (latent_size + 1)) // (subspace + 1)
    return Plan(latent_size, whole, points, subspace)


def principal_directions(
    decode: Decode,
    spend: Plan,
    *,
    seed: int = 0,
    step: float = STEPS[0],
    batch: int = BATCH,
    progress: Progress = lambda done, total: None,
) -> Directions:
    """The directions of ``decode``, (n, k) float32 -> (n, height, width, channels) float, over z ~ N(0, I).

    ``step`` is that of :func:`steady_step`; ``batch`` is how many pictures are drawn in one call.
    ``progress`` hears how many of the decodes are done, of how many.
    """
    k, done = spend.latent_size, 0
    z = noise.normal(seed, 0, spend.whole + spend.points, k)
    rng = np.random.default_rng(seed)
    everything = np.eye(k)

    def gram(point: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(J B)' (J B) and the sums of J B over the picture, for the columns of B."""
        nonlocal done
        # Signs at random: what the far side of a difference or the rounding of the near one adds to all alike cancels.
        signs = rng.choice([-1.0, 1.0], (basis.shape[1], 1))
        changes = signs * differences(decode, point, signs * basis.T, step, batch)
        done += 1 + len(changes)
        progress(done, spend.decodes)
        return changes @ changes.T, changes.sum(1)

    found = [gram(point, everything) for point in z[: spend.whole]]
    effect = np.mean([square for square, _ in found], 0)
    brightness = np.mean([sums for _, sums in found], 0)
    values, vectors = np.linalg.eigh(effect)
    values, vectors = values[::-1], vectors[:, ::-1]

    basis = vectors[:, : spend.subspace]
    within, light = basis.T @ effect @ basis * spend.whole, basis.T @ brightness * spend.whole
    for point in z[spend.whole :]:
        square, sums = gram(point, basis)
        within += square
        light += sums
    first, turn = np.linalg.eigh(within / (spend.whole + spend.points))
    values = np.concatenate([first, values[spend.subspace :]]).clip(0)
    vectors = np.concatenate([basis @ turn, vectors[:, spend.subspace :]], 1)
    sums = np.concatenate([turn.T @ light, vectors[:, spend.subspace :].T @ brightness])

    order = np.argsort(-values, kind="stable")
    rotation = vectors[:, order] * np.where(sums[order] < 0, -1.0, 1.0)
    return Directions(rotation, values[order] / max(values.sum(), np.finfo(np.float64).tiny))


def steady_step(decode: Decode, latent_size: int, *, seed: int = 0, batch: int = BATCH, looked_at: int = 8) -> float:
    """The smallest step at which differences are the picture's and not its rounding: wider for float16 and quantised networks."""
    z, *offsets = noise.normal(seed, 0, 1 + looked_at, latent_size)
    directions = np.array(offsets) / np.linalg.norm(offsets, axis=1, keepdims=True)
    for step in STEPS:
        near, far = (differences(decode, z, directions, width, batch).astype(np.float64) for width in (step, 2 * step))
        lengths = np.linalg.norm(near, axis=1) * np.linalg.norm(far, axis=1)
        if np.median((near * far).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)) >= STEADY:
            return step
    return STEPS[-1]


def differences(decode: Decode, z: np.ndarray, directions: np.ndarray, step: float, batch: int = BATCH) -> np.ndarray:
    """Differences at ``z`` (k,) along each of ``directions`` (m, k) -> (m, values of a coarse picture) float32."""
    here = coarse(decode(z[None].astype(np.float32))).reshape(-1)
    points = z + step * directions
    rows = []
    for first in range(0, len(points), batch):
        there = coarse(decode(points[first : first + batch].astype(np.float32)))
        rows.append((there.reshape(len(there), -1) - here) / np.float32(step))
    return np.concatenate(rows)


def coarse(pictures: np.ndarray, side: int = COARSE) -> np.ndarray:
    """Pictures (n, height, width, channels) of at most ``side`` pixels a side: means of blocks, as they are when smaller."""
    for axis in (1, 2):
        length = pictures.shape[axis]
        if length > side:
            edges = np.arange(side) * length // side
            sizes = np.diff(np.append(edges, length)).astype(np.float32)
            shape = [1] * pictures.ndim
            shape[axis] = side
            pictures = np.add.reduceat(pictures, edges, axis, np.float32) / sizes.reshape(shape)
    return pictures.astype(np.float32, copy=False)

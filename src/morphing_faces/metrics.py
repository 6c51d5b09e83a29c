"""Faces described by a network that this project does not train, and distances between sets of descriptions.

The network is dlib's face descriptor (a ResNet trained to tell people apart, 128 numbers a face). Frechet distance as in
Heusel et al. (2017), arXiv:1706.08500; precision and recall of Kynkaanniemi et al. (2019), arXiv:1904.06991.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import UserError

INNER, EDGE, SEEN = 200, 40, 150  # a picture's side, the replicated edge around it, and the side the descriptor reads
NEIGHBOURS = 3  # k of precision and recall


class MissingMetrics(ValueError):
    """The libraries that describe faces are not installed."""

    def __init__(self, what: str):
        super().__init__(
            f"{what} is not installed: pip install 'morphing-faces[metrics]', or leave them out: --no-faces"
        )


class Describer:
    """dlib's frontal face detector and face descriptor. Raises :class:`MissingMetrics`."""

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError:
            raise MissingMetrics("dlib") from None
        # The package that carries the weights fails to import beside a recent setuptools; only its files are needed.
        found = importlib.util.find_spec("face_recognition_models")
        if found is None or not found.submodule_search_locations:
            raise MissingMetrics("face_recognition_models")
        folder = Path(next(iter(found.submodule_search_locations))) / "models"
        self._network = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))
        self._detector = dlib.get_frontal_face_detector()

    def describe(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 (n, height, width, 1 or 3) in the frame -> float64 (n, 128)."""
        seen = [
            np.asarray(Image.fromarray(each).resize((SEEN, SEEN), Image.Resampling.BICUBIC))
            for each in framed(pictures)
        ]
        return np.array([self._network.compute_face_descriptor(each) for each in seen]).reshape(len(seen), 128)

    def found(self, pictures: np.ndarray) -> float:
        """The fraction of pictures in which the detector finds a face, not enlarging them, at threshold 0."""
        hits = [bool(self._detector.run(each, 0, 0.0)[0]) for each in framed(pictures)]
        return float(np.mean(hits)) if hits else float("nan")


def framed(pictures: np.ndarray) -> Any:
    """Each picture as RGB, 200x200, with 40 pixels of replicated edge on every side: uint8 (280, 280, 3)."""
    for picture in pictures:
        image = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).convert("RGB")
        inner = np.asarray(image.resize((INNER, INNER), Image.Resampling.BICUBIC))
        yield np.pad(inner, ((EDGE, EDGE), (EDGE, EDGE), (0, 0)), mode="edge")


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each of two sets of uint8 pictures (n, ...): (n,), at most 100."""
    error = np.square(a.astype(np.float64) - b).reshape(len(a), -1).mean(1) / 255**2
    return -10 * np.log10(np.maximum(error, 1e-10))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to two sets of descriptions, (n, d) and (m, d), times 1000.

    ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2)``; the trace of the root is the sum of the roots of the
    eigenvalues of ``C_a^1/2 C_b C_a^1/2``, which is symmetric.
    """
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance_b @ root).clip(0)).sum()
    distance = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return float(1000 * distance)


def frechet_error(a: np.ndarray, b: np.ndarray, groups: int = 10) -> float:
    """The standard error of :func:`frechet`, by the jackknife: a tenth of each set is left out in turn.

    Its bias, which grows as the sets get smaller, is no part of it.
    """
    parts = [np.arange(len(points)) % groups for points in (a, b)]
    left = [frechet(a[parts[0] != group], b[parts[1] != group]) for group in range(groups)]
    return float(np.sqrt((groups - 1) * np.var(left)))


def precision_recall(real: np.ndarray, made: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Precision: the fraction of ``made`` (m, d) within the manifold of ``real`` (n, d); recall: the reverse.

    A set's manifold is the union of balls around its points, each reaching to its k-th nearest neighbour in the set.
    Raises ``UserError`` when a set has no more than k points.
    """
    if min(len(real), len(made)) <= k:
        raise UserError(f"{len(real)} and {len(made)} pictures: precision and recall need more than {k} of each")

    def covered(points: np.ndarray, others: np.ndarray) -> float:
        radius = np.sort(distances(points, points), 1)[:, k]  # column 0 is the point itself
        return float((distances(others, points) <= radius).any(1).mean())

    return covered(real, made), covered(made, real)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances between the rows of (n, d) and (m, d): (n, m)."""
    square = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    return np.sqrt(square.clip(0))

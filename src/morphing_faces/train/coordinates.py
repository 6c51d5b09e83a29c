"""Latent coordinates in which N(0, I) gives typical faces and dimension 0 changes the picture most.

``raw = mean + L R u``: mean and L L' are those of the aggregate posterior, R orders the whitened directions by their
effect on the picture. Both are linear, so they fold into the decoder's first and the encoder's last layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .data import Dataset
from .networks import VAE


def to_pictures(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 (n, height, width, channels) -> float32 (n, channels, height, width) in [0, 1]."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"])).to(device).permute(0, 3, 1, 2).float() / 255


def pictures_for(model: VAE, images: np.ndarray) -> Tensor:
    """The same on the model's device and of the side that it reads now."""
    x = to_pictures(images, model.mean_face.device)
    return F.avg_pool2d(x, 2) if model.small else x


@dataclass(frozen=True)
class Posterior:
    """Posterior means and variances in raw coordinates of many pictures, each (n, latent_size) float32."""

    means: Tensor
    variances: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (latent_size,) and covariance (latent_size, latent_size) of the aggregate posterior, float64.

        The covariance of a mixture: Cov(means) + E[diag(variances)].
        """
        means = self.means.double()
        centre = means.mean(0)
        spread = (means - centre).T @ (means - centre) / len(means)
        return centre, spread + torch.diag(self.variances.double().mean(0))


@torch.no_grad()
def encode_all(model: VAE, dataset: Dataset, rows: np.ndarray, mirror: bool, batch: int = 256) -> Posterior:
    """Encode the pictures of ``rows``, and after them, when training mirrored them, their mirror images."""
    parts = []
    for flipped in (False, True)[: 1 + mirror]:
        for first in range(0, len(rows), batch):
            x = pictures_for(model, dataset.images[rows[first : first + batch]])
            parts.append(model.encode(x.flip(3) if flipped else x))
    means, log_variances = (torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True))
    return Posterior(means, log_variances.exp())


def whitening(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Mean and lower Cholesky factor L of the aggregate posterior, float64."""
    mean, covariance = posterior.moments()
    return mean, torch.linalg.cholesky(covariance)


def effect(model: VAE, mean: Tensor, factor: Tensor, probes: int, seed: int, batch: int = 64) -> Tensor:
    """E[J' J] (latent_size, latent_size) float64, J = d picture / d u at u ~ N(0, I), ``raw = mean + factor u``.

    Estimated without forming J: for v ~ N(0, I) in picture space E[(J' v)(J' v)'] = J' J, and J' v is one backward
    pass. The relative error of an entry falls as sqrt(1 / probes).
    """
    generator = torch.Generator().manual_seed(seed)
    device = model.mean_face.device
    mean, factor = mean.float().to(device), factor.float().to(device)
    total = torch.zeros(model.latent_size, model.latent_size, dtype=torch.float64)
    for first in range(0, probes, batch):
        n = min(batch, probes - first)
        u = torch.randn(n, model.latent_size, generator=generator).to(device).requires_grad_()
        picture, _ = model.decode(mean + u @ factor.T)
        v = torch.randn(picture.shape, generator=generator).to(device)
        (gradient,) = torch.autograd.grad((picture * v).sum(), u)
        g = gradient.double().cpu()
        total += g.T @ g
    return total / probes


@dataclass(frozen=True)
class Coordinates:
    """``raw = mean + matrix u`` and ``u = inverse (raw - mean)``; ``share`` is each dimension's part of E[|dx/du|^2]."""

    mean: Tensor
    matrix: Tensor
    inverse: Tensor
    share: Tensor


def find_coordinates(model: VAE, posterior: Posterior | None, probes: int, seed: int) -> Coordinates:
    """Whiten the aggregate posterior, then turn it so that dimension 0 changes the picture most. All float64.

    Without a posterior the prior is only turned: u ~ N(0, I) is then the raw latent's own N(0, I). The sign of a
    dimension is chosen so that growing ``u`` brightens the picture.
    """
    if posterior:
        mean, factor = whitening(posterior)
    else:
        mean = torch.zeros(model.latent_size, dtype=torch.float64)
        factor = torch.eye(model.latent_size, dtype=torch.float64)
    gram = effect(model, mean, factor, probes, seed)
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    matrix = factor @ vectors
    matrix = matrix * _brightening(model, mean, matrix, seed)
    inverse = torch.linalg.inv(matrix)
    return Coordinates(mean, matrix, inverse, values.clamp_min(0) / values.clamp_min(0).sum())


def _brightening(model: VAE, mean: Tensor, matrix: Tensor, seed: int, count: int = 1024) -> Tensor:
    """+1 or -1 for each dimension: the sign of its mean effect on the picture's brightness."""
    device = model.mean_face.device
    u = (
        torch.randn(count, model.latent_size, generator=torch.Generator().manual_seed(seed + 1))
        .to(device)
        .requires_grad_()
    )
    picture, _ = model.decode(mean.float().to(device) + u @ matrix.float().to(device).T)
    (gradient,) = torch.autograd.grad(picture.sum(), u)
    return torch.where(gradient.double().mean(0).cpu() < 0, -1.0, 1.0).double()

"""Latent coordinates in which N(0, I) gives typical faces and dimension 0 changes the picture most.

``raw = mean + L T(R u)``: mean and L L' are those of the aggregate posterior, T is the flow fitted to what it is beyond
them (or nothing), R orders the directions by their effect on the picture. All but T is linear, so it folds into the
decoder's first and the encoder's last layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..dataset import Dataset
from .networks import VAE

if TYPE_CHECKING:
    from .flow import Flow

ENCODED = 20_000  # pictures that the aggregate posterior is estimated from, at most, and as many mirror images


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


def effect(model: VAE, latents: Callable[[Tensor], Tensor], probes: int, seed: int, batch: int = 64) -> Tensor:
    """E[J' J] (latent_size, latent_size) float64, J = d picture / d x at x ~ N(0, I), ``latents`` from x to raw ones.

    Estimated without forming J: for v ~ N(0, I) in picture space E[(J' v)(J' v)'] = J' J, and J' v is one backward
    pass. The relative error of an entry falls as sqrt(1 / probes).
    """
    generator = torch.Generator().manual_seed(seed)
    device = model.mean_face.device
    total = torch.zeros(model.latent_size, model.latent_size, dtype=torch.float64)
    for first in range(0, probes, batch):
        n = min(batch, probes - first)
        x = torch.randn(n, model.latent_size, generator=generator).to(device).requires_grad_()
        picture, _ = model.decode(latents(x))
        v = torch.randn(picture.shape, generator=generator).to(device)
        (gradient,) = torch.autograd.grad((picture * v).sum(), x)
        g = gradient.double().cpu()
        total += g.T @ g
    return total / probes


def directions(model: VAE, latents: Callable[[Tensor], Tensor], probes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and, as columns, eigenvectors of :func:`effect`, what changes the picture most first. float64."""
    values, vectors = torch.linalg.eigh(effect(model, latents, probes, seed))
    return values.flip(0), vectors.flip(1)


@dataclass(frozen=True)
class Coordinates:
    """``raw = mean + factor T(rotation u)``, float64; ``share`` is each dimension's part of E[|dx/du|^2].

    ``flow`` is T; without one, T(x) = x.
    """

    mean: Tensor
    factor: Tensor
    rotation: Tensor
    share: Tensor
    flow: Flow | None = None

    @property
    def matrix(self) -> Tensor:
        """d raw / d u where there is no flow."""
        return self.factor @ self.rotation

    @property
    def inverse(self) -> Tensor:
        """d u / d raw where there is no flow."""
        return torch.linalg.inv(self.matrix)

    def raw(self, u: Tensor) -> Tensor:
        """(n, latent_size) -> raw latents, float64."""
        x = u.double() @ self.rotation.T
        return self.mean + (self._exact()(x) if self.flow else x) @ self.factor.T

    def u(self, raw: Tensor) -> Tensor:
        """The inverse of ``raw``, float64."""
        w = (raw.double() - self.mean) @ torch.linalg.inv(self.factor).T
        return (self._exact().inverse(w)[0] if self.flow else w) @ self.rotation

    def _exact(self) -> Flow:
        return copy.deepcopy(self.flow).double()  # type: ignore[union-attr]


def find_coordinates(
    model: VAE, posterior: Posterior | None, probes: int, seed: int, flow: Flow | None = None
) -> Coordinates:
    """Whiten the aggregate posterior, then turn it so that dimension 0 changes the picture most. All float64.

    Without a posterior the prior is only turned: u ~ N(0, I) is then the raw latent's own N(0, I). With a ``flow`` its
    moments are taken, not the posterior's. The sign of a dimension is chosen so that growing ``u`` brightens the
    picture.
    """
    if flow:
        mean, factor = flow.mean.double().cpu(), flow.factor.double().cpu()
    elif posterior:
        mean, factor = whitening(posterior)
    else:
        mean = torch.zeros(model.latent_size, dtype=torch.float64)
        factor = torch.eye(model.latent_size, dtype=torch.float64)
    device = model.mean_face.device
    centre, width = mean.float().to(device), factor.float().to(device)

    def latents(x: Tensor) -> Tensor:
        return centre + (flow(x) if flow else x) @ width.T

    values, vectors = directions(model, latents, probes, seed)
    rotation = vectors * _brightening(model, latents, vectors, seed)
    return Coordinates(mean, factor, rotation, values.clamp_min(0) / values.clamp_min(0).sum(), flow)


def _brightening(
    model: VAE, latents: Callable[[Tensor], Tensor], vectors: Tensor, seed: int, count: int = 1024
) -> Tensor:
    """+1 or -1 for each dimension: the sign of its mean effect on the picture's brightness."""
    device = model.mean_face.device
    u = (
        torch.randn(count, model.latent_size, generator=torch.Generator().manual_seed(seed + 1))
        .to(device)
        .requires_grad_()
    )
    picture, _ = model.decode(latents(u @ vectors.float().to(device).T))
    (gradient,) = torch.autograd.grad(picture.sum(), u)
    return torch.where(gradient.double().mean(0).cpu() < 0, -1.0, 1.0).double()

"""What users see of the latent space: z ~ N(0, I) gives typical faces, and dimension 0 changes the picture most.

The network's own latent is called the code here. ``code = flow(S R z)``: the flow takes N(0, I) to the aggregate posterior,
the codes of the training pictures; the rotation R orders directions by their effect on the picture; the diagonal S says how far
random faces go along the flow's coordinates. A flow of no layers is
the aggregate posterior's Gaussian, which is linear and folds into the networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..dataset import Dataset, spread
from .flow import Flow, visible_of
from .recipe import Recipe
from .trainer import Codes, autocast, to_pictures, training_rows
from .vae import VAE

MAX_CODES = 20_000  # pictures that the aggregate posterior is estimated from, at most, and as many mirror images

REFINED_AT_ONCE = 100
STEPS = 2500  # of BATCH codes; held-out ones are still told shorter at the end
BATCH = 512
LEARNING_RATE = 1e-3
PROBES = 2048  # vector-Jacobian products that tell which these are


@dataclass(frozen=True)
class Posterior:
    """Posterior means and variances of many pictures' codes, each (n, latent_size) float32."""

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
def encode_all(model: VAE, images: np.ndarray, rows: np.ndarray, mirror: bool, batch: int = 256) -> Posterior:
    """Encode the pictures ``images[rows]``, and after them, when training mirrored them, their mirror images."""
    parts = []
    for flipped in (False, True)[: 1 + mirror]:
        for first in range(0, len(rows), batch):
            x = to_pictures(images[rows[first : first + batch]], model.device)
            parts.append(model.encode(x.flip(3) if flipped else x))
    means, log_variances = (torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True))
    return Posterior(means, log_variances.exp())


def aggregate_posterior(
    model: VAE, images: np.ndarray, rows: np.ndarray, recipe: Recipe, codes: Tensor | None = None
) -> Posterior:
    """The codes that a prior is fitted to: of at most ``MAX_CODES`` of the pictures ``images[rows]`` and of their mirror images.

    Where training stored ``codes`` (2, images, latent_size), their means are those of the pictures that it has visited. Else
    the recipe may say that codes are refined; that takes its time, and then every second batch is of mirror images.
    """
    rows = spread(rows, MAX_CODES)
    if codes is not None:
        encoded = encode_all(model, images, rows, recipe.mirror)
        means = codes[: 1 + recipe.mirror, torch.from_numpy(rows)].flatten(0, 1).float().cpu()
        visited = means.isfinite().all(1)
        return Posterior(means[visited], encoded.variances[visited])
    if not recipe.refine:
        return encode_all(model, images, rows, recipe.mirror)
    parts = []
    for count, first in enumerate(range(0, len(rows), REFINED_AT_ONCE)):
        x = to_pictures(images[rows[first : first + REFINED_AT_ONCE]], model.device)
        with autocast(recipe, model.device):
            parts.append(model.refine(x.flip(3) if recipe.mirror and count % 2 else x, recipe.refine, recipe.kl_weight))
    means, log_variances = (torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True))
    return Posterior(means, log_variances.exp())


def fit_prior(model: VAE, dataset: Dataset, recipe: Recipe, codes: Tensor | None = None) -> Flow:
    """The flow of the aggregate posterior of a recipe's training pictures, by their stored ``codes`` where there are any."""
    posterior = aggregate_posterior(model, dataset.images, training_rows(recipe, dataset), recipe, codes)
    return fit(posterior, model, recipe.flow_layers, recipe.seed)


def fit(posterior: Posterior, model: VAE, layers: int, seed: int) -> Flow:
    """The flow of an aggregate posterior: its moments, then the layers by maximum likelihood.

    With layers its first coordinates are the most visible ones.

    Depends on its arguments alone; leaves the global random state as it is. On the model's device.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = Flow(model.latent_size, layers)
        mean, covariance = posterior.moments()
        flow.mean.copy_(mean)
        flow.root.copy_(torch.linalg.cholesky(covariance))
        flow.to(model.device)
        if layers:
            flow.root.copy_(flow.root @ directions(model, flow, PROBES, seed)[1].to(flow.root))
            _maximize_likelihood(flow, posterior)
    return flow.requires_grad_(False).eval()


def _maximize_likelihood(flow: Flow, posterior: Posterior) -> None:
    device = flow.mean.device
    whitening = flow.whitening()
    means, deviations = posterior.means.to(device), posterior.variances.sqrt().to(device)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(STEPS):
        left = 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * left
        rows = torch.randint(len(means), (BATCH,), device=device)
        code = means[rows] + deviations[rows] * torch.randn(BATCH, means.shape[1], device=device)
        loss = flow.length(code, whitening).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
        optimizer.step()


def mean_jtj(model: VAE, codes: Codes, probes: int, seed: int, batch: int = 64) -> Tensor:
    """E[J' J] (latent_size, latent_size) float64, J = d picture / d x at x ~ N(0, I), ``codes`` from x to codes.

    Estimated without forming J: for v ~ N(0, I) in picture space E[(J' v)(J' v)'] = J' J, and J' v is one backward
    pass. The relative error of an entry falls as sqrt(1 / probes).
    """
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(model.latent_size, model.latent_size, dtype=torch.float64)
    for first in range(0, probes, batch):
        n = min(batch, probes - first)
        x = torch.randn(n, model.latent_size, generator=generator).to(model.device).requires_grad_()
        picture, _ = model.decode(codes(x))
        v = torch.randn(picture.shape, generator=generator).to(model.device)
        (gradient,) = torch.autograd.grad((picture * v).sum(), x)
        g = gradient.double().cpu()
        total += g.T @ g
    return total / probes


def directions(model: VAE, codes: Codes, probes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and, as columns, eigenvectors of :func:`mean_jtj`, what changes the picture most first. float64."""
    values, vectors = torch.linalg.eigh(mean_jtj(model, codes, probes, seed))
    return values.flip(0), vectors.flip(1)


@dataclass(frozen=True)
class Latents:
    """``code = flow(S R z)``; ``share`` is each dimension's part of the visible change, E[|d picture / d z|^2].

    ``turn`` is S R and ``turn_back`` the transpose of its inverse, both (latent_size, latent_size) float64.
    """

    flow: Flow
    turn: Tensor
    turn_back: Tensor
    share: Tensor

    def code(self, z: Tensor) -> Tensor:
        """(n, latent_size) -> codes."""
        return self.flow(z @ self.turn.T.to(z))

    def z(self, code: Tensor) -> Tensor:
        """The inverse of ``code``."""
        return self.flow.inverse(code) @ self.turn_back.to(code)


def find_latents(model: VAE, flow: Flow, probes: int, seed: int, spread: Sequence[float] = (1.0, 1.0, 1.0)) -> Latents:
    """Turn the flow's N(0, I) so that dimension 0 changes the picture most, and growing z brightens the picture.

    ``spread`` is how far it goes along the flow's visible coordinates, the others that it maps, and the rest.
    """
    size = model.latent_size
    visible, mapped = visible_of(flow.mapped), flow.mapped
    far = torch.tensor(spread, dtype=torch.float64).repeat_interleave(
        torch.tensor([visible, mapped - visible, size - mapped])
    )
    values, vectors = directions(model, lambda x: flow(x * far.to(x)), probes, seed)
    values = values.clamp_min(0)
    signs = _brightening(model, lambda z: flow(z @ vectors.T.to(z) * far.to(z)), seed + 1)
    rotation = vectors * signs
    return Latents(flow, far[:, None] * rotation, rotation / far[:, None], values / values.sum())


def _brightening(model: VAE, codes: Codes, seed: int, count: int = 1024, batch: int = 128) -> Tensor:
    """+1 or -1 for each dimension: the sign of its mean effect on the picture's brightness. float64."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(model.latent_size, dtype=torch.float64)
    for _ in range(count // batch):
        z = torch.randn(batch, model.latent_size, generator=generator).to(model.device).requires_grad_()
        (gradient,) = torch.autograd.grad(model.decode(codes(z))[0].sum(), z)
        total += gradient.double().sum(0).cpu()
    return torch.where(total < 0, -1.0, 1.0).double()

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
from torch import Tensor, nn
from torch.nn import functional as F

from ..dataset import spread
from .checkpoint import load_into
from .recipe import Recipe
from .trainer import Codes, autocast, to_pictures
from .vae import VAE

MAX_CODES = 20_000  # pictures that the aggregate posterior is estimated from, at most, and as many mirror images

REFINED_AT_ONCE = 100
WIDTH = 112  # of a coupling layer's hidden layers
STEPS = 2500  # of BATCH codes; held-out ones are still told shorter at the end
BATCH = 512
LEARNING_RATE = 1e-3
DROPOUT = 0.1
VISIBLE = 40  # directions mapped by themselves, or half of them all where that is fewer
MAPPED = 128  # directions that are mapped at all: what is less visible stays as the Gaussian has it
PROBES = 2048  # vector-Jacobian products that tell which these are
MAX_LOG_SCALE = 0.5  # of one layer: its inverse stays tame, too


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


class Coupling(nn.Module):
    """An affine coupling layer (Dinh et al., 2017, arXiv:1605.08803), which begins at doing nothing.

    Of the coordinates, ``reads`` are read, ``moves`` are scaled and shifted by what was read, the rest is left alone. They
    come and go in the layer's own ``order``, those three after one another; ``back`` leads back to that of the flow.
    """

    order: Tensor
    back: Tensor

    def __init__(self, size: int, reads: Tensor, moves: Tensor, width: int):
        super().__init__()
        chosen = torch.cat([reads, moves])
        left = torch.tensor(sorted(set(range(size)) - set(chosen.tolist())), dtype=torch.long)
        order = torch.cat([chosen, left])
        self.register_buffer("order", order)
        self.register_buffer("back", torch.argsort(order))
        self.sizes = [len(reads), len(moves), len(left)]
        self.input = nn.Linear(len(reads), width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, 2 * len(moves))
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        read, moved, left = x.split(self.sizes, 1)
        h = F.silu(self.input(read))
        h = h + F.silu(self.hidden(self.dropout(h)))
        log_scale, shift = self.output(self.dropout(h)).chunk(2, 1)
        return read, moved, left, MAX_LOG_SCALE * torch.tanh(log_scale), shift

    def forward(self, x: Tensor) -> Tensor:
        """(n, size) -> (n, size), towards the code."""
        read, moved, left, log_scale, shift = self._parts(x)
        return torch.cat([read, moved * torch.exp(log_scale) + shift, left], 1)

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Away from the code, and the logarithm of that map's determinant, (n,)."""
        read, moved, left, log_scale, shift = self._parts(x)
        return torch.cat([read, (moved - shift) * torch.exp(-log_scale), left], 1), -log_scale.sum(1)


def coupling_layers(size: int, count: int, width: int) -> nn.ModuleList:
    """In turn: half of the visible coordinates by the other half, and half of the others by all visible and their other half.

    So the visible ones stay their own, which keeps the visible change in few dimensions, and nothing is lost by it: any
    density is that of the visible coordinates times that of the others, given them.
    """
    visible = visible_of(size)
    layers = nn.ModuleList()
    for k in range(count):
        first, last = (0, visible) if k % 2 == 0 and visible > 1 else (visible, size)
        shuffled = first + torch.randperm(last - first, generator=torch.Generator().manual_seed(k // 4))
        moves, reads = shuffled.tensor_split(2)
        if k % 4 > 1 and len(reads):
            moves, reads = reads, moves
        if first:
            reads = torch.cat([torch.arange(visible), reads])
        layers.append(Coupling(size, reads, moves, width))
    return layers


def visible_of(size: int) -> int:
    """How many of ``size`` mapped coordinates are mapped by themselves."""
    return min(VISIBLE, size // 2)


class Flow(nn.Module):
    """N(0, I) -> codes, (n, latent_size) both: coupling layers on the first ``MAPPED`` coordinates, then ``mean + root w``.

    ``root root'`` is the aggregate posterior's covariance; its first column is the direction most visible.
    """

    mean: Tensor
    root: Tensor

    def __init__(self, size: int, layers: int, width: int = WIDTH):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("root", torch.eye(size))
        self.mapped = min(MAPPED, size)
        self.layers = coupling_layers(self.mapped, layers, width)
        self.link()

    def link(self) -> None:
        """Find the ways from each layer's order to the next one's, and from the last to the flow's own, both ways through."""
        for name, layers in (("bend", [*self.layers]), ("straighten", [*reversed(self.layers)])):
            at = torch.arange(self.mapped, device=self.mean.device)
            for k, layer in enumerate(layers):
                self.register_buffer(f"{name}_{k}", at[layer.order], persistent=False)
                at = layer.back  # type: ignore[assignment]
            self.register_buffer(f"{name}_{len(layers)}", at, persistent=False)

    def _turned(self, x: Tensor, name: str, k: int) -> Tensor:
        return x.index_select(1, getattr(self, f"{name}_{k}"))

    def forward(self, x: Tensor) -> Tensor:
        """N(0, I) -> codes."""
        return self.mean + self.bend(x) @ self.root.T

    def bend(self, x: Tensor) -> Tensor:
        """N(0, I) -> whitened codes: the layers alone."""
        w, rest = x[:, : self.mapped], x[:, self.mapped :]
        for k, layer in enumerate(self.layers):
            w = layer(self._turned(w, "bend", k))
        return torch.cat([self._turned(w, "bend", len(self.layers)), rest], 1)

    def inverse(self, code: Tensor) -> Tensor:
        """Codes -> N(0, I)."""
        return self.straighten((code - self.mean) @ torch.linalg.inv(self.root).T)[0]

    def straighten(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened codes -> N(0, I), and the logarithm of that map's determinant, (n,)."""
        x, rest = w[:, : self.mapped], w[:, self.mapped :]
        log_determinant = torch.zeros_like(w[:, 0])
        for k, layer in enumerate(reversed(self.layers)):
            x, more = layer.inverse(self._turned(x, "straighten", k))  # type: ignore[operator]
            log_determinant = log_determinant + more
        return torch.cat([self._turned(x, "straighten", len(self.layers)), rest], 1), log_determinant


def fit(posterior: Posterior, model: VAE, layers: int, seed: int) -> Flow:
    """The flow of an aggregate posterior: its moments, then the layers by maximum likelihood.

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


def restored(state: dict[str, Tensor], layers: int) -> Flow:
    """The flow that was saved as ``state``. Raises ``UserError`` when its layers are others than this program's."""
    width = len(state.get("layers.0.input.bias", ())) or WIDTH
    flow = Flow(len(state["mean"]), layers, width)
    load_into(flow, state, "the run's flow")
    flow.link()
    return flow.requires_grad_(False).eval()


def _maximize_likelihood(flow: Flow, posterior: Posterior) -> None:
    device = flow.mean.device
    whiten = torch.linalg.inv(flow.root.double()).T.float()
    means, deviations = posterior.means.to(device), posterior.variances.sqrt().to(device)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(STEPS):
        left = 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * left
        rows = torch.randint(len(means), (BATCH,), device=device)
        code = means[rows] + deviations[rows] * torch.randn(BATCH, means.shape[1], device=device)
        x, log_determinant = flow.straighten((code - flow.mean) @ whiten)
        loss = (0.5 * x.square().sum(1) - log_determinant).mean()  # the code's length in nats, but for a constant
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

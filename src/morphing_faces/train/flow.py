"""An invertible map between N(0, I) and the aggregate posterior: its Gaussian, and layers that bend what is left.

The Gaussian has the aggregate posterior's mean and covariance; faces are not Gaussian beyond these, and a decoder draws
codes badly that no face has. So affine coupling layers (Dinh et al., 2017, arXiv:1605.08803), which begin at doing
nothing, are fitted to codes of the training pictures by maximum likelihood.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .coordinates import Posterior, directions, whitening
from .networks import VAE
from .recipe import Config

BATCH = 512  # codes a step
LEARNING_RATE = 1e-3
DROPOUT = 0.1  # a few ten thousand codes are soon learned by heart
VISIBLE = 32  # directions mapped by themselves, or half of them all where that is fewer
PROBES = 2048  # vector-Jacobian products that tell which these are
STEEPEST = 0.5  # bound of |log scale| of a layer: its inverse stays tame, too


class Coupling(nn.Module):
    """Some coordinates are read, others scaled and shifted by what was read, the rest left alone."""

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
        self.read = nn.Linear(len(reads), width)
        self.think = nn.Linear(width, width)
        self.say = nn.Linear(width, 2 * len(moves))
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        read, moved, left = x[:, self.order].split(self.sizes, 1)
        h = F.silu(self.read(read))
        h = h + F.silu(self.think(self.dropout(h)))
        scale, shift = self.say(self.dropout(h)).chunk(2, 1)
        return read, moved, left, STEEPEST * torch.tanh(scale), shift

    def forward(self, x: Tensor) -> Tensor:
        """(n, size) -> (n, size), towards the code."""
        read, moved, left, scale, shift = self._parts(x)
        return torch.cat([read, moved * torch.exp(scale) + shift, left], 1)[:, self.back]

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Away from the code, and the logarithm of that map's determinant, (n,)."""
        read, moved, left, scale, shift = self._parts(x)
        return torch.cat([read, (moved - shift) * torch.exp(-scale), left], 1)[:, self.back], -scale.sum(1)


def layers_for(size: int, count: int, width: int) -> nn.ModuleList:
    """Every third layer maps half of the visible directions by the other half; the others, half of what is not visible.

    The latter read all visible directions and the other half of those that are not.
    """
    visible = min(VISIBLE, size // 2)
    layers = nn.ModuleList()
    for k in range(count):
        generator = torch.Generator().manual_seed(k if k % 3 != 1 else 1)
        if k % 3 == 1 and visible > 1:
            halves = torch.randperm(visible, generator=generator).tensor_split(2)
            reads, moves = halves if k % 2 else halves[::-1]
        else:
            halves = (visible + torch.randperm(size - visible, generator=generator)).tensor_split(2)
            reads, moves = torch.cat([torch.arange(visible), halves[1]]), halves[0]
        layers.append(Coupling(size, reads, moves, width))
    return layers


class Flow(nn.Module):
    """N(0, I) -> raw latents; with 0 layers their Gaussian. All are (n, latent_size), the most visible direction first."""

    mean: Tensor
    factor: Tensor

    def __init__(self, size: int, layers: int, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("factor", torch.eye(size))
        self.layers = layers_for(size, layers, width)

    def forward(self, x: Tensor) -> Tensor:
        """N(0, I) -> whitened codes."""
        for layer in self.layers:
            x = layer(x)
        return x

    def inverse(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened codes -> N(0, I), and the logarithm of that map's determinant, (n,)."""
        log_determinant = torch.zeros_like(w[:, 0])
        for layer in reversed(self.layers):
            w, more = layer.inverse(w)  # type: ignore[operator]
            log_determinant = log_determinant + more
        return w, log_determinant

    def raw(self, x: Tensor) -> Tensor:
        """N(0, I) -> raw latents."""
        return self.mean + self(x) @ self.factor.T


def fit(posterior: Posterior, config: Config, model: VAE | None = None) -> Flow:
    """The map for the aggregate posterior of many pictures: its moments, then ``config.flow_steps`` of the layers.

    What is visible is what changes the pictures of ``model``, on whose device the map comes to be; without a model it is
    the first directions of the whitened code. Depends on its arguments alone; leaves the global random state as it is.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        flow = Flow(posterior.means.shape[1], config.flow_layers, config.flow_width)
        mean, factor = whitening(posterior)
        if model and config.flow_layers:
            factor = factor @ _by_visibility(model, mean, factor, config.seed)
        flow.mean.copy_(mean)
        flow.factor.copy_(factor)
        flow.to(model.mean_face.device if model else "cpu")
        if config.flow_layers:
            _teach(flow, posterior, factor, config)
    return flow.requires_grad_(False).eval()


def _by_visibility(model: VAE, mean: Tensor, factor: Tensor, seed: int) -> Tensor:
    """A rotation of the whitened code: its columns are directions, the one that changes pictures most first. float64."""
    still = copy.deepcopy(model).eval().requires_grad_(False)
    centre, width = mean.float().to(model.mean_face.device), factor.float().to(model.mean_face.device)
    return directions(still, lambda x: centre + x @ width.T, PROBES, seed)[1]


def restored(state: dict[str, Tensor], config: Config) -> Flow:
    """The map that was saved as ``state``."""
    flow = Flow(len(state["mean"]), config.flow_layers, config.flow_width)
    flow.load_state_dict(state)
    return flow.requires_grad_(False).eval()


def _teach(flow: Flow, posterior: Posterior, factor: Tensor, config: Config) -> None:
    device = flow.mean.device
    whiten = torch.linalg.inv(factor).T.float().to(device)
    means, deviations = posterior.means.to(device), posterior.variances.sqrt().to(device)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(config.flow_steps):
        left = 0.5 * (1 + math.cos(math.pi * step / config.flow_steps))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * left
        rows = torch.randint(len(means), (BATCH,), device=device)
        z = means[rows] + deviations[rows] * torch.randn(BATCH, means.shape[1], device=device)
        x, log_determinant = flow.inverse((z - flow.mean) @ whiten)
        loss = (0.5 * x.square().sum(1) - log_determinant).mean()  # the code's length in nats, but for a constant
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 50.0)
        optimizer.step()

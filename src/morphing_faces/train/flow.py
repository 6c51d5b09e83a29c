"""An invertible map between N(0, I) and the aggregate posterior: its Gaussian, and layers that bend what is left.

The Gaussian has the aggregate posterior's mean and covariance; faces are not Gaussian beyond these, and a decoder draws
codes badly that no face has. So affine coupling layers (Dinh et al., 2017, arXiv:1605.08803), which begin at doing
nothing, are fitted to codes of the training pictures by maximum likelihood.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import Config
from .coordinates import Posterior, whitening

BATCH = 512  # codes a step
LEARNING_RATE = 1e-3
DROPOUT = 0.1  # a few ten thousand codes are soon learned by heart
STEEPEST = 0.5  # bound of |log scale| of a layer: its inverse stays tame, too


class Coupling(nn.Module):
    """Half of the coordinates, chosen at random, scale and shift the other half."""

    order: Tensor
    back: Tensor

    def __init__(self, size: int, width: int, seed: int):
        super().__init__()
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("order", order)
        self.register_buffer("back", torch.argsort(order))
        self.read = nn.Linear(size // 2, width)
        self.think = nn.Linear(width, width)
        self.say = nn.Linear(width, 2 * (size - size // 2))
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kept, moved = x[:, self.order].split([self.read.in_features, self.say.out_features // 2], 1)
        h = F.silu(self.read(kept))
        h = h + F.silu(self.think(self.dropout(h)))
        scale, shift = self.say(self.dropout(h)).chunk(2, 1)
        return kept, moved, STEEPEST * torch.tanh(scale), shift

    def forward(self, x: Tensor) -> Tensor:
        """(n, size) -> (n, size), towards the code."""
        kept, moved, scale, shift = self._halves(x)
        return torch.cat([kept, moved * torch.exp(scale) + shift], 1)[:, self.back]

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Away from the code, and the logarithm of that map's determinant, (n,)."""
        kept, moved, scale, shift = self._halves(x)
        return torch.cat([kept, (moved - shift) * torch.exp(-scale)], 1)[:, self.back], -scale.sum(1)


class Flow(nn.Module):
    """N(0, I) -> raw latents; with 0 layers their Gaussian. All are (n, latent_size)."""

    mean: Tensor
    factor: Tensor

    def __init__(self, size: int, layers: int, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("factor", torch.eye(size))
        self.layers = nn.ModuleList(Coupling(size, width, seed) for seed in range(layers))

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


def fit(posterior: Posterior, config: Config, device: torch.device | str = "cpu") -> Flow:
    """The map for the aggregate posterior of many pictures: its moments, then ``config.flow_steps`` of the layers.

    Depends on its arguments alone; leaves the global random state as it is.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        flow = Flow(posterior.means.shape[1], config.flow_layers, config.flow_width)
        mean, factor = whitening(posterior)
        flow.mean.copy_(mean)
        flow.factor.copy_(factor)
        flow.to(device)
        if config.flow_layers:
            _teach(flow, posterior, factor, config)
    return flow.requires_grad_(False).eval()


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

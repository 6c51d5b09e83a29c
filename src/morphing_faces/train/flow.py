"""A normalizing flow: an invertible map between N(0, I) and the codes that a decoder draws from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checkpoint import load_into
from .recipe import Recipe

WIDTH = 112  # of a coupling layer's hidden layers
DROPOUT = 0.1
VISIBLE = 40  # directions mapped by themselves, or half of them all where that is fewer
MAPPED = 128  # directions that are mapped at all: what is less visible stays as the Gaussian has it
MAX_LOG_SCALE = 0.5  # of one layer: its inverse stays tame, too


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
        return self.straighten((code - self.mean) @ self.whitening())[0]

    def whitening(self) -> Tensor:
        """(latent_size, latent_size): ``(code - mean) @ whitening`` are whitened codes."""
        return torch.linalg.inv(self.root.double()).T.float()

    def length(self, code: Tensor, whitening: Tensor) -> Tensor:
        """-log p(code) in nats, but for a constant, (n,). ``whitening`` is :meth:`whitening`, which is computed once."""
        x, log_determinant = self.straighten((code - self.mean) @ whitening)
        return 0.5 * x.square().sum(1) - log_determinant

    def straighten(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened codes -> N(0, I), and the logarithm of that map's determinant, (n,)."""
        x, rest = w[:, : self.mapped], w[:, self.mapped :]
        log_determinant = torch.zeros_like(w[:, 0])
        for k, layer in enumerate(reversed(self.layers)):
            x, more = layer.inverse(self._turned(x, "straighten", k))  # type: ignore[operator]
            log_determinant = log_determinant + more
        return torch.cat([self._turned(x, "straighten", len(self.layers)), rest], 1), log_determinant


def left_by(trainer: dict[str, Any], recipe: Recipe) -> Flow | None:
    """The prior that a run leaves in its trainer's state, for its export and for the run that goes on from it.

    There is none where codes were refined since it was fitted: theirs is another.
    """
    if "flow" not in trainer or recipe.code_weight:
        return None
    return restored(trainer["flow"], recipe.flow_layers)


def restored(state: dict[str, Tensor], layers: int) -> Flow:
    """The flow that was saved as ``state``. Raises ``UserError`` when its layers are others than this program's."""
    width = len(state.get("layers.0.input.bias", ())) or WIDTH
    flow = Flow(len(state["mean"]), layers, width)
    load_into(flow, state, "the run's flow")
    flow.link()
    return flow.requires_grad_(False).eval()

"""A code of its own for every training picture, which goes down the gradient of the bound with each visit.

An encoder has to answer at once for every face, and falls short of the codes that the bound is best at, so the decoder never
learns to draw from those: the amortization gap (Cremer et al., 2018, arXiv:1801.03558). Stochastic variational inference
(Hoffman et al., 2013, arXiv:1206.7055) keeps the parameters of each picture's own posterior instead. Here its mean is kept, its
variance is the encoder's, and the encoder learns to answer the mean. It costs no pass through the networks: the one that
trains the decoder gives the code's gradient, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .processes import gathered
from .recipe import Recipe
from .vae import VAE

RATE = 0.1  # of a visit's step, in units of the encoder's variance; the curvature is up to about 20 across
LONGEST = 1.5  # of a visit's step, in standard deviations, along each dimension: where the curvature is more, no code runs away


class StoredCodes:
    """Means of q(z|x), (2, rows, latent_size) float16: of each picture of the data, and of its mirror image.

    They are not a number where a picture was not visited yet. Half a unit in the last place is a hundredth of a step.
    """

    def __init__(self, means: Tensor):
        self.means = means

    def of(self, rows: Tensor | None, mirror: Tensor) -> Tensor:
        """The codes (n, latent_size) of the pictures in ``rows`` (n,), or of their mirror images where ``mirror`` says so."""
        return self.means[_places(rows, mirror)].float()

    def visit(self, model: VAE, x: Tensor, rows: Tensor | None, mirror: Tensor, recipe: Recipe) -> Tensor:
        """As ``of``, to be learned; where pictures ``x`` (n, c, h, w) are new, they begin at the encoder's answer, refined."""
        codes = self.of(rows, mirror)
        new = codes.isnan().any(1)
        if new.any():
            codes[new] = model.refine(x[new], recipe.refine, recipe.kl_weight)[0]
        return codes.requires_grad_()

    def descend(self, codes: Tensor, gradient: Tensor, variance: Tensor, rows: Tensor | None, mirror: Tensor) -> None:
        """A step of each code down its ``gradient``, in units of the price of the code; one that is not finite is not taken.

        All are (n, latent_size). Each process keeps the codes of all.
        """
        codes = codes.detach()
        sigma = variance.sqrt()
        moved = codes - sigma * (RATE * sigma * gradient).clamp(-LONGEST, LONGEST)
        self.put(moved, codes, rows, mirror)

    def put(self, moved: Tensor, codes: Tensor, rows: Tensor | None, mirror: Tensor) -> None:
        """Store ``moved``, the codes of those pictures; where one is not finite, what it was in ``codes`` before."""
        moved = torch.where(moved.half().isfinite().all(1, keepdim=True), moved, codes).half()
        for means, *places in zip(*map(gathered, (moved, *_places(rows, mirror))), strict=True):
            self.means[tuple(places)] = means


def _places(rows: Tensor | None, mirror: Tensor) -> tuple[Tensor, Tensor]:
    if rows is None:
        raise ValueError("stored codes are found by the pictures' rows: give them to the step")
    return mirror.long(), rows

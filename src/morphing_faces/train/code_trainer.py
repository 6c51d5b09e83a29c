"""Stored codes made ordinary: what a prior has to tell of a picture beside what is seen of it.

In the bound that stored codes go down, a nat of their own length weighs little beside tens of thousands of nats of likelihood,
so they wander where the picture hardly changes, and a prior that is fitted to them has to cover all of it: its random faces
break there. Here both networks rest, and every code goes down the gradient of what its drawing misses plus ``code_weight`` times
its length under a prior fitted before. The same picture is then told by a code that is far more ordinary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dataset import Dataset
from ..errors import UserError
from .flow import Flow
from .latents import fit_prior
from .networks import log_likelihood
from .recipe import Recipe
from .trainer import Metrics, Trainer, to_pictures, training_rows
from .vae import VAE

RATE, MOMENTUM = 0.06, 0.6  # of the descent, in units of the encoder's variance
LONGEST = 1.0  # of a step's gradient, in standard deviations, along each dimension


class CodeTrainer(Trainer):
    """Goes on from a trained VAE, whose networks rest: a step refines the stored codes of a batch and of its mirror images."""

    def __init__(self, recipe: Recipe, model: VAE, device: torch.device, rank: int = 0, world: int = 1):
        # Not wrapped for several processes: no weights are learned.
        super().__init__(recipe, model.requires_grad_(False), device, rank)

    def begin(self, dataset: Dataset, codes: Tensor | None = None, flow: Flow | None = None) -> None:
        """Fit the prior, under which codes are to be short, to the codes there are; pictures without one begin at the encoder's.

        Raises ``UserError`` where there are fewer than latent dimensions.
        """
        super().begin(dataset, codes)
        rows = training_rows(self.recipe, dataset)
        known = (
            0 if codes is None else int(codes[: 1 + self.recipe.mirror, torch.from_numpy(rows)].isfinite().all(2).sum())
        )
        if known < self.recipe.latent_size:
            raise UserError(
                f"code_weight = {self.recipe.code_weight:g}: needs a stored code for each of the {self.recipe.latent_size} latent "
                f"dimensions at least, and there are {known} of these pictures: name a run with stored_codes = true, trained on "
                "the same data, with --from"
            )
        self.flow = fit_prior(self.model, dataset, self.recipe, codes)

    def step(
        self, step: int, done: float, images: Tensor, landmarks: Tensor | None = None, rows: Tensor | None = None
    ) -> Metrics:
        """Refine the codes of pictures; as for a VAE. ``length`` is that of a code in nats, but for a constant."""
        if self.codes is None or self.flow is None:
            raise ValueError("there are no stored codes: begin before the first step")
        count = 1 + self.recipe.mirror
        pictures = to_pictures(images, self.device)
        x = torch.cat([pictures, pictures.flip(3)][:count])
        mirror = torch.arange(count, device=self.device).repeat_interleave(len(images)) > 0
        rows = rows if rows is None else rows.repeat(count)
        with torch.no_grad():
            mean, log_variance = self.model.encode(x)
        codes = self.codes.of(rows, mirror)
        codes = torch.where(codes.isnan(), mean, codes)
        refined, metrics = self.refine(self.flow, x, codes, torch.exp(0.5 * log_variance))
        self.codes.put(refined, codes, rows, mirror)
        return metrics

    def refine(self, flow: Flow, x: Tensor, codes: Tensor, sigma: Tensor) -> tuple[Tensor, Metrics]:
        """Codes (n, latent_size) of pictures ``x`` (n, c, h, w) after ``recipe.refine`` steps, and figures of the last one.

        ``sigma`` (n, latent_size) is the encoder's standard deviation of each.
        """
        whitening = flow.whitening()
        velocity = torch.zeros_like(codes)
        for _ in range(self.recipe.refine):
            codes = codes.detach().requires_grad_()
            with self.autocast:
                picture, log_sigma = self.model.decode(codes)
            likelihood = log_likelihood(x, picture.float(), log_sigma.float())
            length = flow.length(codes, whitening)
            (gradient,) = torch.autograd.grad((self.recipe.code_weight * length - likelihood).sum(), codes)
            step = (RATE * sigma * gradient / self.recipe.kl_weight).clamp(-LONGEST, LONGEST)
            velocity = MOMENTUM * velocity - sigma * step
            codes = codes + velocity
        return codes.detach(), {
            "log_likelihood": likelihood.detach().mean(),
            "length": length.detach().mean(),
            "mse": (picture.detach() - x).square().mean(),
            "bad": torch.tensor(float(not codes.isfinite().all(1).any())),
        }

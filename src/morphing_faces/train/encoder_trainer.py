"""The decoder rests, as a critic or another run left it, and the encoder learns to read what it draws."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dataset import Dataset, spread
from .flow import Flow
from .latents import encode_all, fit
from .recipe import Recipe
from .trainer import Trainer, training_rows
from .vae import VAE

MEASURED = 4096  # training pictures, and as many mirror images, that tell what a second look sees, at most


class EncoderTrainer(Trainer):
    """Goes on from a trained VAE, whose decoder rests."""

    def __init__(self, recipe: Recipe, model: VAE, device: torch.device, rank: int = 0, world: int = 1):
        model.decoder.requires_grad_(False)
        super().__init__(recipe, model, device, rank, world)

    def begin(self, dataset: Dataset, codes: Tensor | None = None, flow: Flow | None = None) -> None:
        """As of a VAE. The ``flow`` that was fitted for the decoder goes along, and a second look that is new begins."""
        super().begin(dataset, codes, flow)
        if flow is not None and len(flow.layers) == self.recipe.flow_layers:
            self.flow = flow.to(self.device)
        look = self.model.encoder.second_look
        if look is not None and not look.begun:
            seen = self._most_visible(dataset)
            look.begin(self.model.decoder, seen.mean, seen.whitening(), seen.root)

    def _most_visible(self, dataset: Dataset) -> Flow:
        """A flow whose first coordinates are the most visible ones."""
        if self.flow is not None and len(self.flow.layers):
            return self.flow
        rows = spread(training_rows(self.recipe, dataset), MEASURED)
        posterior = encode_all(self.model, dataset.images, rows, self.recipe.mirror)
        return fit(posterior, self.model, 0, self.recipe.seed, visible_first=True)

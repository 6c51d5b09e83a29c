"""The decoder rests, as a critic or another run left it, and the encoder learns to read what it draws."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dataset import Dataset
from .flow import Flow
from .recipe import Recipe
from .trainer import Trainer
from .vae import VAE


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
            look.begin(self.model.decoder)

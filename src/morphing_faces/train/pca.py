"""Principal components of the pictures' low frequencies, in which the convolutional networks read and draw faces.

A fully connected layer is the fastest thing a processor does, and 512 numbers hold what is smooth in a face (27.5 dB of a
photograph at 128x128): networks that work on components see many times more pictures a second than ones on pixels.
"""

from __future__ import annotations

import numpy as np
import torch

from .coordinates import to_pictures
from .data import Dataset
from .networks import VAE, ConvDecoder, ConvEncoder

PARTS = 512  # pictures read at once


@torch.no_grad()
def find_components(model: VAE, dataset: Dataset, kl_weight: float, mirror: bool) -> None:
    """Compute the components of the training pictures and put them into encoder and decoder, in place.

    ``floor`` becomes what a linear VAE would take for noise in a component: ``kl_weight`` times the variance that the
    components leave over (Lucas et al., 2019, arXiv:1911.02469). Raises ``ValueError`` when there are too few pictures.
    """
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, ConvEncoder)
    assert isinstance(decoder, ConvDecoder)
    low, count = encoder.components.low, len(encoder.components.spread)
    rows = dataset.rows("train")
    if len(rows) < count:
        raise ValueError(f"components = {count}: must be at most the number of training pictures, {len(rows)}")
    total = torch.zeros(low.size, low.size, device=model.mean_face.device)
    energy = 0.0
    for first in range(0, len(rows), PARTS):
        x = to_pictures(dataset.images[rows[first : first + PARTS]], model.mean_face.device)
        x = (x - model.mean_face) / model.scale
        energy += float(x.square().sum())
        for kept in (low.keep(x), low.keep(x.flip(3)))[: 1 + mirror]:
            total += kept.T @ kept
    values, vectors = torch.linalg.eigh(total.double() / (len(rows) * (1 + mirror)))
    values, basis = values.flip(0)[:count].clamp_min(1e-12), vectors.flip(1)[:, :count].T
    left = (energy / len(rows) - float(values.sum())) / float(np.prod(dataset.image_shape))
    for components in (encoder.components, decoder.components):
        components.basis.copy_(basis)
        components.spread.copy_(values.sqrt())
        components.floor.fill_((kl_weight * max(left, 1e-12)) ** 0.5)

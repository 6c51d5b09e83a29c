"""A head start: the convolutional networks begin at the optimum of the linear VAE.

The best linear encoder and decoder are known in closed form, they are probabilistic principal component analysis (Tipping
and Bishop, 1999), which is also where a linear VAE trained on the ELBO ends (Lucas et al., 2019, arXiv:1911.02469). On
pictures made small they take seconds to compute; the convolutional networks, which begin at zero, then learn only what
the linear ones leave over. A KL weight beta acts as beta times the noise's variance.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .coordinates import to_pictures
from .data import Dataset, spread
from .networks import VAE, ConvDecoder, ConvEncoder

PARTS = 512  # pictures read at once
RESIDUAL = 1024  # pictures from which the noise that is left over is estimated


@torch.no_grad()
def begin_at_pca(model: VAE, dataset: Dataset, kl_weight: float, mirror: bool) -> None:
    """Set the linear maps, the posterior's variances and sigma of ``model`` (with ``linear_side``) to PCA's, in place.

    Raises ``ValueError`` when there are fewer pictures than latent dimensions.
    """
    encoder, decoder = model.encoder, model.decoder
    assert isinstance(encoder, ConvEncoder)
    assert isinstance(decoder, ConvDecoder)
    small = encoder.small
    assert small and encoder.linear and decoder.linear  # noqa: PT018
    rows, device = dataset.rows("train"), model.mean_face.device
    if min(len(rows), small.size) < model.latent_size:
        raise ValueError(
            f"linear_side = {small.side}: {len(rows)} training pictures of {small.size} values give fewer principal "
            f"components than latent_size = {model.latent_size}: set linear_side=0 or a smaller latent_size"
        )

    def centred(part: np.ndarray) -> Tensor:
        return (to_pictures(dataset.images[part], device) - model.mean_face) / model.scale

    total = torch.zeros(small.size, small.size, device=device)
    for first in range(0, len(rows), PARTS):
        x = centred(rows[first : first + PARTS])
        for vectors in (small.shrink(x), small.shrink(x.flip(3)))[: 1 + mirror]:
            total += vectors.T @ vectors
    values, vectors = torch.linalg.eigh(total.double() / (len(rows) * (1 + mirror)))
    values = values.flip(0)[: model.latent_size].clamp_min(1e-12)
    basis = vectors.flip(1)[:, : model.latent_size]

    # What the components leave over, at full size: sigma of p(x|z).
    few, error, project = spread(rows, RESIDUAL), 0.0, (basis @ basis.T).float()
    for first in range(0, len(few), PARTS):
        x = centred(few[first : first + PARTS])
        error += float((x - small.enlarge(small.shrink(x) @ project, x.shape[-1])).square().sum())
    variance = error / (len(few) * math.prod(dataset.image_shape))

    # Of a component with variance v and noise n the decoder's factor is sqrt(v - n), the encoder's that over v, and n / v
    # the posterior's variance.
    noise = kl_weight * variance
    kept = (values - noise).clamp_min(0.01 * values)
    encoder.linear.weight.copy_(((kept.sqrt() / values) * basis).T)
    encoder.mean.weight.zero_()
    encoder.log_variance.weight.zero_()
    encoder.log_variance.bias.copy_((noise / values).clamp(1e-5, 1).log())
    decoder.linear.weight.copy_(kept.sqrt() * basis)
    decoder.picture.weight.zero_()
    sigma = max(math.sqrt(variance) * float(model.scale), 1.001 * math.exp(model.log_sigma_min))
    # The inverse of the soft lower bound in VAE.decode.
    log_sigma = model.log_sigma_min + math.log(math.expm1(math.log(sigma) - model.log_sigma_min))
    model.log_sigma_tenth.fill_((log_sigma - math.log(float(model.scale))) / 10)

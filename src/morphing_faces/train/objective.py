"""The evidence lower bound of Kingma and Welling (2014), arXiv:1312.6114, for Gaussian networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_2_PI = math.log(2 * math.pi)


def gaussian_log_likelihood(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(x; mean, sigma^2 I) in nats, (n,): summed over pixels and channels, never averaged.

    ``x`` and ``mean`` are (n, c, h, w) in [0, 1]; ``log_sigma`` is (n, 1) or (1, 1), one value a picture.
    """
    squared_error = (x - mean).square().flatten(1).sum(1)
    log_sigma = log_sigma.squeeze(1)
    return -0.5 * (squared_error * torch.exp(-2 * log_sigma) + x[0].numel() * (2 * log_sigma + LOG_2_PI))


def kl_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, sigma^2) || N(0, 1)) of each dimension in nats, the shape of ``mean``.

    ``-1/2 (1 + log sigma^2 - mean^2 - sigma^2)``, the closed form of appendix B of the paper.
    """
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp())


def active_units(means: Tensor, threshold: float = 0.01) -> Tensor:
    """Which dimensions are active, (latent_size,) bool: Cov_x(E[z|x]) > threshold.

    ``means`` are posterior means of many pictures, (n, latent_size). Burda et al. (2016), arXiv:1509.00519, section 5.
    """
    return means.var(0) > threshold

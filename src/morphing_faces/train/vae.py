"""The variational autoencoder: an encoder, a decoder, and the evidence lower bound of Kingma and Welling (2014), arXiv:1312.6114."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..bundle import LANDMARKS
from .networks import Batch, ImageShape, build, log_likelihood
from .recipe import Recipe

LOG_VARIANCE_LIMIT = 12.0  # |log sigma^2| of the approximate posterior; keeps exp() finite in the first steps
# Of the descent that refines codes: in units of the encoder's own variance its curvature is about 1, but up to 20 across.
REFINE_RATE, REFINE_MOMENTUM = 0.1, 0.6


class Terms(NamedTuple):
    """One pass: log p(x|z), KL(q(z|x) | p(z)), what the guide misses and how far the encoder is from stored codes.

    Each in nats, (n,); and the mean pictures, and the variance of q(z|x), (n, latent_size).
    """

    log_likelihood: Tensor
    kl: Tensor
    guide: Tensor
    gap: Tensor
    picture: Tensor
    variance: Tensor


class VAE(nn.Module):
    """A VAE of pictures (n, c, h, w) in [0, 1]. With ``shape`` its decoder draws shape and appearance apart.

    ``landmarks`` are the mean landmarks that the mean frame is made of, (68, 2) in pixels; there are none without shape.
    Raises ``UserError`` when the pictures do not fit the network.
    """

    landmarks: Tensor

    def __init__(self, recipe: Recipe, image_shape: ImageShape, shape: bool = False):
        super().__init__()
        self.image_shape = image_shape
        self.latent_size = recipe.latent_size
        self.shape = shape
        self.encoder, self.decoder = build(recipe, image_shape, shape)
        if shape:
            self.register_buffer("landmarks", torch.zeros(LANDMARKS, 2))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.mean.weight.device

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) in [0, 1] -> mean and log variance of q(z|x), each (n, latent_size), float32."""
        mean, log_variance = self.encoder(x)
        return mean.float(), log_variance.float().clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (n, latent_size) -> mean picture (n, c, h, w), not clipped, and log sigma, which broadcasts to it."""
        picture, log_sigma = self.decoder(z)
        return picture, log_sigma

    def refine(self, x: Tensor, steps: int, kl_weight: float) -> tuple[Tensor, Tensor]:
        """As ``encode``, but the mean goes ``steps`` steps down the gradient of ``kl_weight |z|^2 / 2 - log p(x|z)``.

        An encoder has to answer at once for every face, and falls short of the code that the bound is best at: the
        amortization gap (Cremer et al., 2018, arXiv:1801.03558). Of all codes on the way the best is kept, so that none is
        worse than the encoder's. Each step costs a pass through the decoder and back.
        """
        with torch.no_grad():
            mean, log_variance = self.encode(x)
        step_size = REFINE_RATE * log_variance.exp() / kl_weight
        best, least = mean, torch.full((len(x),), torch.inf, device=x.device)
        z, velocity = mean, torch.zeros_like(mean)
        for _ in range(steps):
            with torch.enable_grad():
                z.requires_grad_()
                loss = self._price(x, z, kl_weight)
                (gradient,) = torch.autograd.grad(loss.sum(), z)
            best, least = _better(z.detach(), loss.detach(), best, least)
            velocity = REFINE_MOMENTUM * velocity - step_size * gradient
            z = z.detach() + velocity
        with torch.no_grad():
            best, _ = _better(z, self._price(x, z, kl_weight), best, least)
        return best, log_variance

    def _price(self, x: Tensor, z: Tensor, kl_weight: float) -> Tensor:
        """What a code costs of each picture, in nats, (n,): its own length and what its drawing misses."""
        picture, log_sigma = self.decode(z)
        return kl_weight * 0.5 * z.square().sum(1) - log_likelihood(x, picture, log_sigma.float())

    def forward(self, batch: Batch, noise: Tensor, codes: Tensor | None = None) -> Terms:
        """The terms of the bound, with one draw each by the reparametrization trick: ``z = mean + sigma * noise``.

        ``codes`` (n, latent_size), where there are any, stand in for the encoder's mean. The gap is then
        KL(N(codes, sigma^2) | N(mean, sigma^2)), and it is the encoder's mean alone that learns by it.
        """
        mean, log_variance = self.encode(batch.x)
        gap = torch.zeros_like(mean[:, 0])
        if codes is not None:
            gap = 0.5 * ((mean - codes.detach()).square() * torch.exp(-log_variance.detach())).sum(1)
            mean = codes
        drawing = self.decoder.draw(mean + torch.exp(0.5 * log_variance) * noise, batch)
        return Terms(
            log_likelihood(batch.x, drawing.picture, drawing.log_sigma),
            kl_from_prior(mean, log_variance).sum(1),
            drawing.guide,
            gap,
            drawing.picture,
            log_variance.exp(),
        )


def _better(z: Tensor, loss: Tensor, best: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of the smaller loss, and that loss; one that is not a number is no smaller."""
    better = loss < least
    return torch.where(better[:, None], z, best), torch.where(better, loss, least)


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

"""The networks. Pictures are NCHW float32 in [0, 1]; latents are (n, latent_size), here in raw coordinates."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import Config

LOG_VARIANCE_LIMIT = 12.0  # |log sigma^2| of the approximate posterior; keeps exp() finite in the first steps


class Encoder(nn.Module):
    """q(z|x) of the 2014 model: hidden layers of rectified linear units, then mean and log variance, each (n, latent)."""

    def __init__(self, pixels: int, hidden: tuple[int, ...], latent_size: int, dropout: float = 0.0):
        super().__init__()
        widths = (pixels, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.mean = nn.Linear(widths[-1], latent_size)
        self.log_variance = nn.Linear(widths[-1], latent_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x.flatten(1)
        for layer in self.hidden:
            h = self.dropout(F.relu(layer(h)))
        return self.mean(h), self.log_variance(h).clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)


class Decoder(nn.Module):
    """p(x|z) of the 2014 model: the mean picture (n, pixels) and one unbounded log sigma a picture, (n, 1)."""

    def __init__(self, latent_size: int, hidden: tuple[int, ...], pixels: int):
        super().__init__()
        widths = (latent_size, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.picture = nn.Linear(widths[-1], pixels)
        self.log_sigma = nn.Linear(widths[-1], 1)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        h = z
        for layer in self.hidden:
            h = F.relu(layer(h))
        return self.picture(h), self.log_sigma(h)


class VAE(nn.Module):
    """A variational autoencoder with centred data.

    The networks see ``(x - mean_face) / scale`` and answer in the same units, so that they begin at the mean face.
    """

    mean_face: Tensor
    scale: Tensor

    def __init__(self, config: Config, image_shape: tuple[int, int, int]):
        super().__init__()
        height, width, channels = image_shape
        self.image_shape = image_shape
        self.latent_size = config.latent_size
        self.log_sigma_min = math.log(config.sigma_min)
        self.register_buffer("mean_face", torch.full((1, channels, height, width), 0.5))
        self.register_buffer("scale", torch.tensor(0.25))
        pixels = height * width * channels
        self.encoder = Encoder(pixels, config.hidden, config.latent_size, config.dropout)
        self.decoder = Decoder(config.latent_size, config.hidden[::-1], pixels)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for layer in (self.encoder.mean, self.encoder.log_variance, self.decoder.picture, self.decoder.log_sigma):
            nn.init.normal_(layer.weight, std=0.01)  # begin at the prior and at the mean face

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) in [0, 1] -> mean and log variance of q(z|x), each (n, latent_size), float32."""
        mean, log_variance = self.encoder((x - self.mean_face) / self.scale)
        return mean.float(), log_variance.float()

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, latent_size) -> mean picture (n, c, h, w), not clipped, and log sigma (n, 1), float32."""
        picture, log_sigma = self.decoder(z)
        height, width, channels = self.image_shape
        picture = picture.float().reshape(-1, channels, height, width) * self.scale + self.mean_face
        # A soft lower bound: sigma never falls below sigma_min, and the gradient never vanishes abruptly.
        log_sigma = self.log_sigma_min + F.softplus(log_sigma.float() + math.log(0.2) - self.log_sigma_min)
        return picture, log_sigma

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One pass of the reparametrization trick: ``z = mean + sigma * noise``.

        Returns the mean picture, log sigma of p(x|z), and mean and log variance of q(z|x).
        """
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * noise
        picture, log_sigma = self.decode(z)
        return picture, log_sigma, mean, log_variance

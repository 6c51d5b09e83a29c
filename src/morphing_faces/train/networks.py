"""The networks. Pictures are NCHW float32 in [0, 1]; latents are (n, latent_size), here in raw coordinates."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .recipe import Config

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
        return self.mean(h), self.log_variance(h)


class Decoder(nn.Module):
    """p(x|z) of the 2014 model: the mean picture (n, pixels) and one unbounded log sigma a picture, (n, 1)."""

    def __init__(self, latent_size: int, hidden: tuple[int, ...], pixels: int):
        super().__init__()
        widths = (latent_size, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.picture = nn.Linear(widths[-1], pixels)
        self.log_sigma = nn.Linear(widths[-1], 1)

    def readers(self) -> list[nn.Linear]:
        """The layers that read the latent, each linear: coordinates fold into them."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        return [first]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        h = z
        for layer in self.hidden:
            h = F.relu(layer(h))
        return self.picture(h), self.log_sigma(h)


def bend(x: Tensor) -> Tensor:
    """The convolutional networks' nonlinearity; in the page a rectifier costs a tenth of a sigmoid's time."""
    return F.leaky_relu(x, 0.2)


class Bottleneck(nn.Module):
    """A residual block at half the width within: three convolutions at a fifth of the cost of two wide ones.

    He et al. (2016), arXiv:1512.03385; without normalization, as in Child (2021), arXiv:2011.10650. Where a latent is
    given, it scales and shifts the features that the block reads.

    Where a ``side`` is given, each inner feature has so much ``grain`` added as it learns to need: noise, another one for
    every picture while training, later always the same. From it the decoder makes hair and skin, which no code tells
    it; without it, told by a critic to be less smooth, it draws strokes (Karras et al., 2019, arXiv:1812.04948).
    """

    noise: Tensor

    def __init__(self, width: int, latent_size: int = 0, side: int = 0):
        super().__init__()
        inner = max(width // 2, 1)
        self.grain_tenth = nn.Parameter(torch.zeros(inner)) if side else None  # a tenth: AdamW's steps are small
        if side:
            still = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(side))
            self.register_buffer("noise", still, persistent=False)
        self.style = nn.Linear(latent_size, 2 * width) if latent_size else None
        self.narrow = nn.Conv2d(width, inner, 1)
        self.middle = nn.Conv2d(inner, inner, 3, padding=1)
        self.widen = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        h = x
        if self.style is not None:
            scale, shift = self.style(z)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        h = bend(self.narrow(bend(h)))
        if self.grain_tenth is not None:
            noise = torch.randn(len(h), 1, *h.shape[2:], device=h.device) if self.training else self.noise
            h = h + (10 * self.grain_tenth[:, None, None] * noise).to(h.dtype)
        return x + self.widen(bend(self.middle(h)))


class ConvEncoder(nn.Module):
    """q(z|x) for larger pictures: convolutions from half the picture's side down.

    What the first width adds begins at zero; ``small`` pictures, of half the side, are read without it.
    """

    def __init__(self, channels: int, side: int, config: Config):
        super().__init__()
        widths = config.encoder_widths
        self.fine_stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.fine_blocks = nn.Sequential(*(Bottleneck(widths[0]) for _ in range(config.encoder_blocks[0])))
        self.fine_join = nn.Conv2d(widths[0], widths[1], 1)
        self.stem = nn.Conv2d(4 * channels, widths[1], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width) for _ in range(count)))
            for width, count in zip(widths[1:], config.encoder_blocks[1:], strict=True)
        )
        self.narrower = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths[1:]))
        self.dropout = nn.Dropout(config.dropout)
        features = widths[-1] * (side >> len(widths)) ** 2
        self.mean = nn.Linear(features, config.latent_size)
        self.log_variance = nn.Linear(features, config.latent_size)

    def fine(self) -> list[nn.Module]:
        """The layers that read the finest details."""
        return [self.fine_stem, self.fine_blocks, self.fine_join]

    def forward(self, x: Tensor, small: bool = False) -> tuple[Tensor, Tensor]:
        h = self.stem(F.pixel_unshuffle(x if small else F.avg_pool2d(x, 2), 2))
        if not small:
            fine = self.fine_blocks(self.fine_stem(F.pixel_unshuffle(x, 2)))
            h = h + self.fine_join(F.avg_pool2d(bend(fine), 2))
        for blocks, project in itertools.zip_longest(self.blocks, self.narrower):
            h = blocks(h)
            if project is not None:
                h = project(F.avg_pool2d(h, 2))
        h = self.dropout(bend(h).flatten(1))
        return self.mean(h), self.log_variance(h)


class ConvDecoder(nn.Module):
    """p(x|z)'s mean for larger pictures: convolutions up to half the picture's side, then a pixel shuffle.

    The picture is that of half the side, smoothed and enlarged, and what the last width adds, which begins at zero: a
    network can learn ``small`` pictures first (Karras et al., 2018, arXiv:1710.10196). That no convolution runs at the
    full side keeps it fast enough for a hand.
    """

    def __init__(self, channels: int, side: int, config: Config):
        super().__init__()
        widths, latent_size = config.decoder_widths[::-1], config.latent_size
        counts = config.decoder_blocks[::-1]
        self.bottom = side >> len(widths)
        self.first = nn.Linear(latent_size, widths[0] * self.bottom**2)
        self.blocks = nn.ModuleList(
            nn.ModuleList(Bottleneck(width, latent_size) for _ in range(count))
            for width, count in zip(widths[:-1], counts[:-1], strict=True)
        )
        self.narrower = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths[:-1]))
        self.picture = nn.Conv2d(widths[-2], 4 * channels, 3, padding=1)
        self.fine_join = nn.Conv2d(widths[-2], widths[-1], 1)
        self.fine_blocks = nn.ModuleList(Bottleneck(widths[-1], latent_size, side // 2) for _ in range(counts[-1]))
        self.fine_picture = nn.Conv2d(widths[-1], 4 * channels, 3, padding=1)

    def fine(self) -> list[nn.Module]:
        """The layers that draw the finest details."""
        return [self.fine_join, self.fine_blocks, self.fine_picture]

    def readers(self) -> list[nn.Linear]:
        """The layers that read the latent, each linear: coordinates fold into them."""
        styles = [module.style for module in self.modules() if isinstance(module, Bottleneck)]
        return [self.first, *(style for style in styles if style is not None)]

    def forward(self, z: Tensor, small: bool = False) -> Tensor:
        h = self.first(z).unflatten(1, (-1, self.bottom, self.bottom))
        for blocks, project in itertools.zip_longest(self.blocks, self.narrower):
            for block in blocks:  # type: ignore[union-attr]
                h = block(h, z)
            if project is not None:
                h = enlarge(project(h))
        picture = F.pixel_shuffle(self.picture(bend(h)), 2)
        if small:
            return picture
        h = enlarge(self.fine_join(h))
        for block in self.fine_blocks:
            h = block(h, z)
        return enlarge(smooth(picture)) + F.pixel_shuffle(self.fine_picture(bend(h)), 2)


def enlarge(x: Tensor) -> Tensor:
    """Twice the side. Bilinear: "nearest" leaves a grid."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


def smooth(x: Tensor) -> Tensor:
    """Weighted 1 2 1 both ways: what alternates from pixel to pixel, as a pixel shuffle's does, goes."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2, stride=1)


class VAE(nn.Module):
    """A variational autoencoder with centred data.

    The networks see ``(x - mean_face) / scale`` and answer in the same units, so that they begin at the mean face.
    Raises ``ValueError`` when the pictures do not fit the network.
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
        self.encoder: Encoder | ConvEncoder
        self.decoder: Decoder | ConvDecoder
        if config.network == "mlp":
            pixels = height * width * channels
            self.encoder = Encoder(pixels, config.hidden, config.latent_size, config.dropout)
            self.decoder = Decoder(config.latent_size, config.hidden[::-1], pixels)
        else:
            need = max(2 ** len(config.encoder_widths), 2 ** len(config.decoder_widths))
            if height != width or height % need:
                raise ValueError(
                    f"the pictures are {width}x{height}, but this network needs squares whose side is a multiple of {need}: "
                    "prepare them with another --size, or change the recipe's widths"
                )
            self.encoder = ConvEncoder(channels, height, config)
            self.decoder = ConvDecoder(channels, height, config)
        if config.sigma == "shared":
            # Ten times the logarithm's own scale: Adam's steps are as large as the learning rate, whatever they move.
            self.log_sigma_tenth = nn.Parameter(torch.zeros(1))
        self.shared_sigma = config.sigma == "shared"
        self.small = False  # True: pictures have half the side, and the layers of the finest details rest
        self._begin()

    def _begin(self) -> None:
        """Initial weights: residual blocks are the identity, the codes the prior, the picture the mean face."""
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for block in self.modules():
            if isinstance(block, Bottleneck):
                nn.init.zeros_(block.widen.weight)
                if block.style is not None:
                    nn.init.zeros_(block.style.weight)
        last: list[nn.Linear | nn.Conv2d] = [self.encoder.mean, self.encoder.log_variance, self.decoder.picture]
        if isinstance(self.decoder, Decoder):
            last.append(self.decoder.log_sigma)
        else:
            nn.init.zeros_(self.decoder.fine_picture.weight)
        if isinstance(self.encoder, ConvEncoder):
            nn.init.zeros_(self.encoder.fine_join.weight)
        for output in last:
            nn.init.normal_(output.weight, std=0.01)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) in [0, 1] -> mean and log variance of q(z|x), each (n, latent_size), float32."""
        x = (x - self._mean_face()) / self.scale
        mean, log_variance = self.encoder(x) if isinstance(self.encoder, Encoder) else self.encoder(x, self.small)
        return mean.float(), log_variance.float().clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, latent_size) -> mean picture (n, c, h, w), not clipped, and log sigma (n, 1), float32."""
        if isinstance(self.decoder, Decoder):
            picture, log_sigma = self.decoder(z)
            height, width, channels = self.image_shape
            picture = picture.reshape(-1, channels, height, width)
            log_sigma = log_sigma.float() + math.log(0.2)
        else:
            picture = self.decoder(z, self.small)
        log_sigma = self._shared_log_sigma(z.shape[0]) if self.shared_sigma else self._bounded(log_sigma)
        return picture.float() * self.scale + self._mean_face(), log_sigma

    def _mean_face(self) -> Tensor:
        return F.avg_pool2d(self.mean_face, 2) if self.small else self.mean_face

    def _shared_log_sigma(self, count: int) -> Tensor:
        return self._bounded((10 * self.log_sigma_tenth + self.scale.log()).expand(count, 1))

    def _bounded(self, log_sigma: Tensor) -> Tensor:
        """A soft lower bound: sigma never falls below sigma_min, and the gradient never vanishes abruptly."""
        return self.log_sigma_min + F.softplus(log_sigma - self.log_sigma_min)

    def forward(self, x: Tensor, noise: Tensor, more: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One pass of the reparametrization trick: ``z = mean + sigma * noise``.

        Returns the mean picture, log sigma of p(x|z), and mean and log variance of q(z|x). The pictures of the raw
        latents ``more`` (m, latent_size) follow those of ``x``.
        """
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * noise
        picture, log_sigma = self.decode(z if more is None else torch.cat([z, more]))
        return picture, log_sigma[: len(x)], mean, log_variance

    def weigh_grain(self, factor: float) -> None:
        """Multiply the strength of the decoder's noise. Raises ``ValueError`` where there is none, or for a negative."""
        blocks = [block for block in self.modules() if isinstance(block, Bottleneck) and block.grain_tenth is not None]
        if not blocks or not 0 <= factor < math.inf:
            why = "must be a number from 0 up" if blocks else "this network has no grain; leave it at 1"
            raise ValueError(f"grain = {factor:g}: {why}")
        for block in blocks:
            assert block.grain_tenth is not None
            block.grain_tenth.data.mul_(factor)

    def fine(self) -> list[nn.Parameter]:
        """The parameters that rest while pictures are ``small``."""
        if isinstance(self.encoder, Encoder) or isinstance(self.decoder, Decoder):
            return []
        return [p for layer in [*self.encoder.fine(), *self.decoder.fine()] for p in layer.parameters()]

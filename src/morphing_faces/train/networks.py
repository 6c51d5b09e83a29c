"""The networks. Pictures are NCHW float32 in [0, 1]; latents are (n, latent_size), here in raw coordinates."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from .config import Config

LOG_VARIANCE_LIMIT = 12.0  # |log sigma^2| of the approximate posterior; keeps exp() finite in the first steps
SMALLEST = 4  # side of the convolutional networks' smallest feature maps


class Encoder(nn.Module):
    """q(z|x) of the 2014 model: hidden layers of rectified linear units, then mean and log variance, each (n, latent)."""

    def __init__(self, pixels: int, hidden: tuple[int, ...], latent_size: int, dropout: float = 0.0):
        super().__init__()
        widths = (pixels, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.mean = nn.Linear(widths[-1], latent_size)
        self.log_variance = nn.Linear(widths[-1], latent_size)

    def writers(self) -> list[nn.Linear]:
        """The layers whose outputs add up to the mean, each linear: coordinates fold into them."""
        return [self.mean]

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


def group_norm(width: int, affine: bool = True) -> nn.GroupNorm:
    """Wu and He (2018), arXiv:1803.08494, with 16 channels a group where the width divides by 16."""
    return nn.GroupNorm(max(width // 16, 1) if width % max(width // 16, 1) == 0 else 1, width, affine=affine)


class Bottleneck(nn.Module):
    """A residual block at half the width within: three convolutions at an eighth of the cost of two wide ones.

    He et al. (2016), arXiv:1512.03385. Where a latent is given, it scales and shifts the normalized features (the
    adaptive group normalization of Dhariwal and Nichol, 2021, arXiv:2105.05233).
    """

    def __init__(self, width: int, latent_size: int = 0):
        super().__init__()
        inner = max(width // 2, 1)
        self.norm = group_norm(width, affine=not latent_size)  # the latent's own scale and shift take its place
        self.style = nn.Linear(latent_size, 2 * width) if latent_size else None
        self.narrow = nn.Conv2d(width, inner, 1)
        self.middle = nn.Conv2d(inner, inner, 3, padding=1)
        self.widen = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        h = self.norm(x)
        if self.style is not None:
            scale, shift = self.style(z)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        h = F.silu(self.narrow(F.silu(h)))
        return x + self.widen(F.silu(self.middle(h)))


class Residual(nn.Module):
    """A residual block of two 3x3 convolutions, for the 4x4 feature maps, where width is cheap."""

    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList(group_norm(width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            h = convolution(F.silu(norm(h)))
        return x + h


class SmallPicture(nn.Module):
    """Pictures (n, c, h, w) as short vectors (n, size): brightness at ``side``, colour at a quarter of it, as JPEG does.

    Colours are turned orthogonally and each value is scaled by what it stands for, so that a vector is about as long as
    its picture.
    """

    colours: Tensor

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.channels, self.side, self.coarse = channels, side, max(side // 4, 1)
        colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
        colours = colours / colours.norm(dim=1, keepdim=True)
        self.register_buffer("colours", (colours if channels == 3 else torch.eye(channels))[:, :, None, None])
        self.size = side**2 + (channels - 1) * self.coarse**2

    def shrink(self, x: Tensor) -> Tensor:
        """Pictures whose side is a multiple of ``side`` -> vectors."""
        x = F.conv2d(x, self.colours)
        bright, colour = x.shape[-1] // self.side, x.shape[-1] // self.coarse
        parts = [F.avg_pool2d(x[:, :1], bright).flatten(1) * bright]
        if self.channels > 1:
            parts.append(F.avg_pool2d(x[:, 1:], colour).flatten(1) * colour)
        return torch.cat(parts, 1)

    def enlarge(self, vectors: Tensor, side: int) -> Tensor:
        """Vectors -> pictures of that side, smooth between the values."""
        bright, colour = float(side // self.side), float(side // self.coarse)
        first = vectors[:, : self.side**2].reshape(-1, 1, self.side, self.side) / bright
        parts = [F.interpolate(first, scale_factor=bright, mode="bilinear")]
        if self.channels > 1:
            rest = vectors[:, self.side**2 :].reshape(-1, self.channels - 1, self.coarse, self.coarse) / colour
            parts.append(F.interpolate(rest, scale_factor=colour, mode="bilinear"))
        return F.conv2d(torch.cat(parts, 1), self.colours.transpose(0, 1))


class ConvEncoder(nn.Module):
    """q(z|x) for larger pictures: pixels to channels, then bottlenecks, halving the side down to 4x4.

    With a ``linear_side`` a linear map of the picture, made that small, is part of the mean: see ``pca.py``.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], latent_size: int, dropout: float = 0.0, linear_side: int = 0
    ):
        super().__init__()
        self.stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.narrower = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        inner = [nn.ModuleList([Bottleneck(width), Bottleneck(width)]) for width in widths[1:-1]]
        self.blocks = nn.ModuleList([*inner, nn.ModuleList([Residual(widths[-1])])])
        self.norm = group_norm(widths[-1])
        self.dropout = nn.Dropout(dropout)
        features = widths[-1] * SMALLEST**2
        self.mean = nn.Linear(features, latent_size)
        self.log_variance = nn.Linear(features, latent_size)
        self.small = SmallPicture(channels, linear_side) if linear_side else None
        self.linear = nn.Linear(self.small.size, latent_size, bias=False) if self.small else None

    def writers(self) -> list[nn.Linear]:
        """The layers whose outputs add up to the mean, each linear: coordinates fold into them."""
        return [self.mean, *([self.linear] if self.linear else [])]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.stem(F.pixel_unshuffle(x, 2))
        for project, blocks in zip(self.narrower, self.blocks, strict=True):
            h = project(F.avg_pool2d(h, 2))
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                h = block(h)
        h = self.dropout(F.silu(self.norm(h)).flatten(1))
        mean = self.mean(h)
        if self.small and self.linear:
            mean = mean + self.linear(self.small.shrink(x))
        return mean, self.log_variance(h)


class ConvDecoder(nn.Module):
    """p(x|z)'s mean for larger pictures: a linear layer to 4x4, bottlenecks that double the side, channels to pixels.

    The last convolution runs at half the picture's side, which is what keeps it fast enough for a hand. With a
    ``linear_side`` a picture that small, linear in the latent, is enlarged and added: see ``pca.py``.
    """

    def __init__(self, latent_size: int, widths: tuple[int, ...], channels: int, linear_side: int = 0):
        super().__init__()
        self.width = widths[0]
        self.first = nn.Linear(latent_size, widths[0] * SMALLEST**2)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Bottleneck(width, latent_size), Bottleneck(width, latent_size)]) for width in widths[:-1]
        )
        self.wider = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        self.norm = group_norm(widths[-1])
        self.picture = nn.Conv2d(widths[-1], 4 * channels, 3, padding=1)
        self.small = SmallPicture(channels, linear_side) if linear_side else None
        self.linear = nn.Linear(latent_size, self.small.size) if self.small else None

    def readers(self) -> list[nn.Linear]:
        """The layers that read the latent, each linear: coordinates fold into them."""
        styles = [module.style for module in self.modules() if isinstance(module, Bottleneck)]
        return [self.first, *(style for style in styles if style is not None), *([self.linear] if self.linear else [])]

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z).reshape(-1, self.width, SMALLEST, SMALLEST)
        for blocks, project in zip(self.blocks, self.wider, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                h = block(h, z)
            h = F.interpolate(project(h), scale_factor=2.0, mode="bilinear")  # "nearest" leaves a grid in the picture
        picture = F.pixel_shuffle(self.picture(F.silu(self.norm(h))), 2)
        if self.small and self.linear:
            picture = picture + self.small.enlarge(self.linear(z), picture.shape[-1])
        return picture


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
            side = 2 * SMALLEST * 2 ** (len(config.encoder_widths) - 1)
            if (height, width) != (side, side):
                raise ValueError(
                    f"the pictures are {width}x{height}, but {len(config.encoder_widths)} encoder_widths and "
                    f"decoder_widths make {side}x{side}: prepare them with --size {side}, or give other widths"
                )
            if config.linear_side and side % config.linear_side:
                raise ValueError(f"linear_side = {config.linear_side}: must divide the pictures' side, {side}")
            linear_side = config.linear_side
            self.encoder = ConvEncoder(channels, config.encoder_widths, config.latent_size, config.dropout, linear_side)
            self.decoder = ConvDecoder(config.latent_size, config.decoder_widths, channels, linear_side)
        if config.sigma == "shared":
            # Ten times the logarithm's own scale: Adam's steps are as large as the learning rate, whatever they move.
            self.log_sigma_tenth = nn.Parameter(torch.zeros(1))
        self.shared_sigma = config.sigma == "shared"
        self._begin()

    def _begin(self) -> None:
        """Initial weights: residual blocks are the identity, the codes the prior, the picture the mean face."""
        for layer in self.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for block in self.modules():
            if isinstance(block, Bottleneck):
                nn.init.zeros_(block.widen.weight)
                if block.style is not None:
                    nn.init.zeros_(block.style.weight)
            elif isinstance(block, Residual):
                nn.init.zeros_(block.convolutions[-1].weight)  # type: ignore[arg-type]
        last: list[nn.Linear | nn.Conv2d] = [self.encoder.mean, self.encoder.log_variance, self.decoder.picture]
        if isinstance(self.decoder, Decoder):
            last.append(self.decoder.log_sigma)
        for layer in last:
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(self.decoder, ConvDecoder) and self.decoder.linear:
            nn.init.zeros_(self.decoder.linear.weight)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) in [0, 1] -> mean and log variance of q(z|x), each (n, latent_size), float32."""
        mean, log_variance = self.encoder((x - self.mean_face) / self.scale)
        return mean.float(), log_variance.float().clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (n, latent_size) -> mean picture (n, c, h, w), not clipped, and log sigma (n, 1), float32."""
        if isinstance(self.decoder, Decoder):
            picture, log_sigma = self.decoder(z)
            height, width, channels = self.image_shape
            picture = picture.reshape(-1, channels, height, width)
            log_sigma = log_sigma.float() + math.log(0.2)
        else:
            picture = self.decoder(z)
        if self.shared_sigma:
            log_sigma = (10 * self.log_sigma_tenth + self.scale.log()).expand(z.shape[0], 1)
        # A soft lower bound: sigma never falls below sigma_min, and the gradient never vanishes abruptly.
        log_sigma = self.log_sigma_min + F.softplus(log_sigma - self.log_sigma_min)
        return picture.float() * self.scale + self.mean_face, log_sigma

    def forward(self, x: Tensor, noise: Tensor, more: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One pass of the reparametrization trick: ``z = mean + sigma * noise``.

        Returns the mean picture, log sigma of p(x|z), and mean and log variance of q(z|x). The pictures of the raw
        latents ``more`` (m, latent_size) follow those of ``x``.
        """
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * noise
        picture, log_sigma = self.decode(z if more is None else torch.cat([z, more]))
        return picture, log_sigma[: len(x)], mean, log_variance


class Critic(nn.Module):
    """Tells pictures from photographs, patch by patch; its features are the learned similarity.

    Spectrally normalized convolutions (Miyato et al., 2018, arXiv:1802.05957), each halving the side.
    """

    def __init__(self, channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.stem = spectral_norm(nn.Conv2d(4 * channels, widths[0], 3, padding=1))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in itertools.pairwise(widths)
        )
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pictures (n, c, h, w) in [0, 1] -> scores (n, patches), the higher the more real, and features by layer."""
        h = F.leaky_relu(self.stem(F.pixel_unshuffle(4 * x - 2, 2)), 0.2)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return self.score(h).flatten(1).float(), features

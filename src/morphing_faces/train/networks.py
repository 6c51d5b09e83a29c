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


class LowFrequencies(nn.Module):
    """Pictures (n, c, side, side) as short vectors (n, size): their lowest frequencies, those of colour fewer, as in JPEG.

    Colours are turned and the cosine transform is taken orthogonally, so a vector is as long as what it stands for, and
    ``restore`` is both the inverse and the transpose of ``keep``.
    """

    colours: Tensor
    bright: Tensor
    tint: Tensor

    def __init__(self, channels: int, side: int, kept: int):
        super().__init__()
        self.channels, self.kept, self.coarse = channels, kept, max(kept // 4, 1)
        turn = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]])
        turn = turn / turn.norm(dim=1, keepdim=True)
        self.register_buffer("colours", turn if channels == 3 else torch.eye(channels))
        cosines = torch.cos(math.pi * torch.outer(torch.arange(kept), torch.arange(side) + 0.5) / side)
        cosines = cosines * math.sqrt(2 / side)
        cosines[0] /= math.sqrt(2)
        self.register_buffer("bright", cosines)
        self.register_buffer("tint", cosines[: self.coarse].clone())
        self.size = kept**2 + (channels - 1) * self.coarse**2

    def keep(self, x: Tensor) -> Tensor:
        """Pictures -> vectors."""
        x = (self.colours @ x.flatten(2)).reshape(x.shape)
        parts = [(self.bright @ x[:, :1] @ self.bright.T).flatten(1)]
        if self.channels > 1:
            parts.append((self.tint @ x[:, 1:] @ self.tint.T).flatten(1))
        return torch.cat(parts, 1)

    def restore(self, vectors: Tensor) -> Tensor:
        """Vectors -> pictures that have these frequencies and no others."""
        first = vectors[:, : self.kept**2].reshape(-1, 1, self.kept, self.kept)
        x = self.bright.T @ first @ self.bright
        if self.channels > 1:
            rest = vectors[:, self.kept**2 :].reshape(-1, self.channels - 1, self.coarse, self.coarse)
            x = torch.cat([x, self.tint.T @ rest @ self.tint], 1)
        return (self.colours.T @ x.flatten(2)).reshape(x.shape)


class Components(nn.Module):
    """The pictures' principal components among their low frequencies: fixed maps, computed once (see ``pca.py``).

    ``basis`` is (components, size), its rows orthonormal; ``spread`` the components' standard deviations and ``floor``
    that of what is noise, so that a network sees numbers of the order of one.
    """

    basis: Tensor
    spread: Tensor
    floor: Tensor

    def __init__(self, low: LowFrequencies, count: int):
        super().__init__()
        self.low = low
        self.register_buffer("basis", torch.eye(count, low.size))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("floor", torch.zeros(()))

    def read(self, x: Tensor) -> Tensor:
        """Pictures -> components (n, components)."""
        return self.low.keep(x) @ self.basis.T / (self.spread.square() + self.floor.square()).sqrt()

    def write(self, components: Tensor) -> Tensor:
        """Components -> vectors of low frequencies (n, size)."""
        return (components * self.spread) @ self.basis


class ConvEncoder(nn.Module):
    """q(z|x) for larger pictures: fully connected layers read principal components and, beside them, convolutions.

    ``details`` holds what the convolutions find; it begins at zero.
    """

    def __init__(self, channels: int, side: int, config: Config):
        super().__init__()
        widths, hidden = config.encoder_widths, config.hidden
        self.components = Components(LowFrequencies(channels, side, config.low_side), config.components)
        layers = itertools.pairwise((config.components, *hidden))
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in layers)
        self.dropout = nn.Dropout(config.dropout)
        self.mean = nn.Linear(hidden[-1], config.latent_size)
        self.log_variance = nn.Linear(hidden[-1], config.latent_size)
        self.stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.narrower = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(Bottleneck(width) for width in widths[1:])
        self.norm = group_norm(widths[-1])
        self.details = nn.Linear(widths[-1] * (side >> len(widths)) ** 2, hidden[0])

    def forward(self, x: Tensor, detailed: bool = True) -> tuple[Tensor, Tensor]:
        h = self.hidden[0](self.components.read(x))
        if detailed:
            g = self.stem(F.pixel_unshuffle(x, 2))
            for project, block in zip(self.narrower, self.blocks, strict=True):
                g = block(project(F.avg_pool2d(g, 2)))
            h = h + self.details(F.silu(self.norm(g)).flatten(1))
        h = self.dropout(F.silu(h))
        for layer in itertools.islice(self.hidden, 1, None):
            h = self.dropout(F.silu(layer(h)))
        return self.mean(h), self.log_variance(h)


class ConvDecoder(nn.Module):
    """p(x|z)'s mean for larger pictures: fully connected layers draw its low frequencies, convolutions the rest.

    The convolutions are a small U-Net (Ronneberger et al., 2015, arXiv:1505.04597) that sees the smooth picture and the
    latent. Its first and last layers run at half the picture's side, which keeps it fast enough for a hand.
    """

    def __init__(self, channels: int, side: int, config: Config):
        super().__init__()
        widths, hidden, latent_size = config.decoder_widths, config.hidden, config.latent_size
        self.components = Components(LowFrequencies(channels, side, config.low_side), config.components)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise((latent_size, *hidden)))
        self.drawn = nn.Linear(hidden[-1], config.components)
        self.stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths))
        # One block on the way down but at the bottom, where there are two, and one on the way up; none at half side.
        self.before = nn.ModuleList(Bottleneck(width, latent_size) for width in widths[1:])
        self.after = nn.ModuleList(Bottleneck(width, latent_size) for width in widths[1:])
        self.norm = group_norm(widths[0])
        self.picture = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)

    def readers(self) -> list[nn.Linear]:
        """The layers that read the latent, each linear: coordinates fold into them."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        styles = [module.style for module in self.modules() if isinstance(module, Bottleneck)]
        return [first, *(style for style in styles if style is not None)]

    def smooth(self, z: Tensor) -> Tensor:
        """The low frequencies of the picture, (n, size)."""
        h = z
        for layer in self.hidden:
            h = F.silu(layer(h))
        return self.components.write(self.drawn(h))

    def forward(self, z: Tensor) -> Tensor:
        smooth = self.components.low.restore(self.smooth(z))
        h = self.stem(F.pixel_unshuffle(smooth, 2))
        passed = []
        for project, block in zip(self.down, self.before, strict=True):
            passed.append(h)
            h = block(project(F.avg_pool2d(h, 2)), z)
        for project, block in zip(reversed(self.up), reversed(self.after), strict=True):  # type: ignore[call-overload]
            h = project(block(h, z))
            h = F.interpolate(h, scale_factor=2.0, mode="bilinear") + passed.pop()  # "nearest" leaves a grid
        return smooth + F.pixel_shuffle(self.picture(F.silu(self.norm(h))), 2)


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
            if height != width or height % need or height < config.low_side:
                raise ValueError(
                    f"the pictures are {width}x{height}, but this network needs squares whose side is a multiple of {need} "
                    f"and at least low_side, {config.low_side}: prepare them with another --size, or change the recipe"
                )
            self.encoder = ConvEncoder(channels, height, config)
            self.decoder = ConvDecoder(channels, height, config)
            if config.components > self.encoder.components.low.size:
                raise ValueError(
                    f"components = {config.components}: {width}x{height} pictures have "
                    f"{self.encoder.components.low.size} low frequencies; lower it, or raise low_side"
                )
        if config.sigma == "shared":
            # Ten times the logarithm's own scale: Adam's steps are as large as the learning rate, whatever they move.
            self.log_sigma_tenth = nn.Parameter(torch.zeros(1))
        self.shared_sigma = config.sigma == "shared"
        self.detailed = True  # False: leave the convolutions out, which begin at zero, and answer in low frequencies
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
        last: list[nn.Linear] = [self.encoder.mean, self.encoder.log_variance]
        if isinstance(self.encoder, ConvEncoder):
            nn.init.zeros_(self.encoder.details.weight)
        if isinstance(self.decoder, Decoder):
            last += [self.decoder.picture, self.decoder.log_sigma]
        else:
            last.append(self.decoder.drawn)
            nn.init.zeros_(self.decoder.picture.weight)
        for layer in last:
            nn.init.normal_(layer.weight, std=0.01)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) in [0, 1] -> mean and log variance of q(z|x), each (n, latent_size), float32."""
        x = (x - self.mean_face) / self.scale
        mean, log_variance = self.encoder(x) if isinstance(self.encoder, Encoder) else self.encoder(x, self.detailed)
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
        log_sigma = self._shared_log_sigma(z.shape[0]) if self.shared_sigma else self._bounded(log_sigma)
        return picture.float() * self.scale + self.mean_face, log_sigma

    def _shared_log_sigma(self, count: int) -> Tensor:
        return self._bounded((10 * self.log_sigma_tenth + self.scale.log()).expand(count, 1))

    def _bounded(self, log_sigma: Tensor) -> Tensor:
        """A soft lower bound: sigma never falls below sigma_min, and the gradient never vanishes abruptly."""
        return self.log_sigma_min + F.softplus(log_sigma - self.log_sigma_min)

    def forward(self, x: Tensor, noise: Tensor, more: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One pass of the reparametrization trick: ``z = mean + sigma * noise``.

        Returns the mean picture, log sigma of p(x|z), and mean and log variance of q(z|x). The pictures of the raw
        latents ``more`` (m, latent_size) follow those of ``x``. When not ``detailed`` a picture is what
        ``squared_error`` takes as well, its low frequencies (n, size).
        """
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * noise
        if self.detailed or isinstance(self.decoder, Decoder):
            picture, log_sigma = self.decode(z if more is None else torch.cat([z, more]))
        else:
            picture, log_sigma = self.decoder.smooth(z).float(), self._shared_log_sigma(z.shape[0])
        return picture, log_sigma[: len(x)], mean, log_variance

    def squared_error(self, x: Tensor, picture: Tensor) -> Tensor:
        """|x - picture|^2 of each picture, (n,): summed over pixels and channels.

        ``x`` is (n, c, h, w) in [0, 1]; ``picture`` the same or, from a network that is not ``detailed``, low frequencies.
        They are an orthogonal part of the picture: the rest of ``x`` is missing from it.
        """
        if picture.ndim == 4:
            return (x - picture).square().flatten(1).sum(1)
        assert isinstance(self.decoder, ConvDecoder)
        x = (x - self.mean_face) / self.scale
        kept = self.decoder.components.low.keep(x)
        missing = x.square().flatten(1).sum(1) - kept.square().sum(1)
        return (missing + (kept - picture).square().sum(1)) * self.scale.square()

    def dense(self) -> list[nn.Parameter]:
        """The parameters that train when not ``detailed``."""
        layers = [self.encoder.hidden, self.encoder.mean, self.encoder.log_variance, self.decoder.hidden]
        parameters = [p for layer in layers for p in layer.parameters()]
        if isinstance(self.decoder, ConvDecoder):
            parameters += self.decoder.drawn.parameters()
        return [*parameters, *([self.log_sigma_tenth] if self.shared_sigma else [])]


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

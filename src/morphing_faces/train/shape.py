"""Shape: the mean frame, the warp between it and a picture, and what the landmarks say of both.

In the mean frame the eyes, nose and mouth of every face lie at the same places, those of the training pictures' mean
landmarks. A picture is an appearance, drawn in the mean frame, and a field that says where each of its pixels finds its
colour there: ``picture(p) = appearance(p + field(p))``. Apart, both are nearly linear in the code and nearly Gaussian, as
in the active appearance models of Cootes, Edwards and Taylor (1998).

Positions and displacements are (x, y) in pixels; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..landmarks import mirrored

# Landmarks that the warp follows: all but the inner lips, which nearly touch in the mean frame. What is between the lips is
# for the appearance to paint: a warp would have to make an open mouth of nothing.
FOLLOWED = 60
CELLS = 16  # the field is CELLS x CELLS displacements, enlarged bilinearly
UNIT = 128.0  # the spline is computed in a frame of this side, whatever the pictures' side is
STIFFNESS = 60.0  # of the spline, in units of its kernel: landmarks are followed to about a pixel, not exactly
RING = (-30.0, 158.0, 170.0)  # a ring of points around the picture stays: its left and top, its right, its bottom
FINE = 32  # the side at which a field is inverted
INVERSE_STEPS = 10
EDGE = 3 / 128  # of the side: an appearance is drawn less well so near its edge, for convolutions see nothing beyond it


def pixel_positions(side: int, cells: int | None = None) -> Tensor:
    """Centres of ``cells`` x ``cells`` squares, as a rule the pixels, of a picture of ``side``: (cells, cells, 2)."""
    count = cells or side
    line = (torch.arange(count) + 0.5) * (side / count) - 0.5
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def sample(image: Tensor, position: Tensor, side: int, padding: str = "border") -> Tensor:
    """Image (n, c, k, k), spread over a frame of ``side`` pixels, at positions (n, h, w, 2): (n, c, h, w), bilinear."""
    return F.grid_sample(image, (position + 0.5) * (2 / side) - 1, padding_mode=padding, align_corners=False)


def warp(appearance: Tensor, field: Tensor) -> Tensor:
    """Appearance (n, c, side, side) seen through the field (n, 2, CELLS, CELLS), in pixels: pictures of the same shape.

    Positions are held inside the appearance, ``EDGE`` from its edge, as if what is there went on: the one form of the
    operation that every back end of ONNX Runtime computes quickly and alike.
    """
    side = appearance.shape[-1]
    grown = F.interpolate(
        field, scale_factor=side / CELLS, mode="bilinear"
    )  # a scale, not a size: ONNX has it constant
    grid = (pixel_positions(side).to(field) + grown.permute(0, 2, 3, 1) + 0.5) * (2 / side) - 1
    edge = 1 - (1 + 2 * round(EDGE * side)) / side
    return F.grid_sample(appearance, grid.clamp(-edge, edge), padding_mode="zeros", align_corners=False)


def at_rest(device: torch.device | None = None) -> Tensor:
    """How much of a displacement is left in each cell, (1, 1, CELLS, CELLS): none at the picture's edge, half beside it.

    So nothing from beyond the mean frame is ever asked for, and the edge shows no seam.
    """
    inner = torch.ones(1, 1, CELLS - 4, CELLS - 4, device=device)
    return F.pad(F.pad(inner, (1, 1, 1, 1), value=0.5), (1, 1, 1, 1), value=0.0)


class ShapeHead(nn.Module):
    """Codes (n, latent_size) -> fields (n, 2, CELLS, CELLS), in pixels: linear, and a little more. Begins at no displacement.

    The cells at the picture's edge stay at zero.
    """

    def __init__(self, latent_size: int, hidden: int = 256):
        super().__init__()
        inner = CELLS - 2
        self.linear = nn.Linear(latent_size, 2 * inner**2)
        self.hidden = nn.Linear(latent_size, hidden)
        self.out = nn.Linear(hidden, 2 * inner**2)
        for layer in (self.linear, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        field = self.linear(z) + self.out(F.leaky_relu(self.hidden(z), 0.2))
        inner = CELLS - 2
        return F.pad(field.float().unflatten(1, (2, inner, inner)), (1, 1, 1, 1))


class MeanFrame(nn.Module):
    """The mean landmarks (68, 2), in pixels of pictures of ``side``, and the thin-plate spline through them.

    The spline (Bookstein, 1989) takes landmarks to a displacement at every pixel of the mean frame, linear in their
    offsets from the mean. It has nothing to learn; its buffers follow the model's device and are not saved.
    """

    landmarks: Tensor
    weights: Tensor
    fine_weights: Tensor

    def __init__(self, landmarks: Tensor, side: int):
        super().__init__()
        self.side = side
        self.register_buffer("landmarks", landmarks.float(), persistent=False)
        self.register_buffer("weights", self._spline(side), persistent=False)
        self.register_buffer("fine_weights", self._spline(FINE), persistent=False)

    def _spline(self, cells: int) -> Tensor:
        """(cells^2, FOLLOWED): times the offsets, the displacement at each of cells x cells places."""
        scale = UNIT / self.side
        points = ((self.landmarks[:FOLLOWED].double() + 0.5) * scale - 0.5).cpu().numpy()
        near, right, bottom = RING
        xs, ys = np.linspace(near, right, 6), np.linspace(near, bottom, 6)
        ring = [(x, y) for x in xs for y in ys if x in (near, right) or y in (near, bottom)]
        centres = np.concatenate([points, ring])

        def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            square = ((a[:, None] - b) ** 2).sum(-1)
            return np.where(square > 0, 0.5 * square * np.log(np.maximum(square, 1e-9)), 0.0)

        affine = np.c_[np.ones(len(centres)), centres]
        bending = kernel(centres, centres) + STIFFNESS * np.eye(len(centres))
        system = np.block([[bending, affine], [affine.T, np.zeros((3, 3))]])
        places = pixel_positions(int(UNIT), cells).double().reshape(-1, 2).numpy()
        rows = np.c_[kernel(places, centres), np.ones(len(places)), places]
        fade = F.interpolate(at_rest(), size=(cells, cells), mode="bilinear").reshape(-1, 1)
        return torch.from_numpy(np.linalg.solve(system.T, rows.T).T[:, :FOLLOWED]).float() * fade

    def displacement(self, landmarks: Tensor, fine: bool = False) -> Tensor:
        """Landmarks (n, 68, 2) -> where each place of the mean frame lies in the picture, less itself: (n, k, k, 2).

        k is the side, or FINE.
        """
        weights = self.fine_weights if fine else self.weights
        k = math.isqrt(len(weights))
        moved = torch.einsum("gk,nkc->ngc", weights, (landmarks - self.landmarks)[:, :FOLLOWED])
        return moved.reshape(-1, k, k, 2)

    def appearance(self, x: Tensor, landmarks: Tensor) -> Tensor:
        """Pictures (n, c, side, side) and their landmarks -> the pictures in the mean frame, of the same shape."""
        places = pixel_positions(self.side).to(x) + self.displacement(landmarks)
        return sample(x, places, self.side)

    def field(self, landmarks: Tensor) -> Tensor:
        """Landmarks (n, 68, 2) -> the field that takes the mean frame to the picture, (n, 2, CELLS, CELLS), in pixels.

        It is the inverse of the displacement, found by fixed-point steps.
        """
        forward = self.displacement(landmarks, fine=True).permute(0, 3, 1, 2)
        places = pixel_positions(self.side, FINE).to(forward)
        field = -forward
        for _ in range(INVERSE_STEPS):
            field = -sample(forward, places + field.permute(0, 2, 3, 1), self.side)
        edge = (at_rest(field.device) > 0).float()
        return F.avg_pool2d(field, FINE // CELLS) * edge


def mean_landmarks(landmarks: np.ndarray, side: int, mirror: bool) -> np.ndarray:
    """The mean of landmarks (n, 68, 2), made symmetric where training mirrors the pictures: (68, 2) float64."""
    mean = landmarks.mean(0, dtype=np.float64)
    return (mean + mirrored(mean[None], side)[0]) / 2 if mirror else mean

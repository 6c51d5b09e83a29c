"""Scenes with faces pasted into them, whose eyes are known."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

from morphing_faces.rules import EYES_APART, EYES_MIDDLE


def paste(scene: Image.Image, face: np.ndarray, x: float, y: float, apart: float, degrees: float) -> np.ndarray:
    """Put a face into a scene, the middle of its eyes at (x, y), its edge feathered; returns its eyes (2, 2)."""
    side, turn = len(face), math.radians(degrees)
    scale = EYES_APART * side / apart  # pixels of the face in one of the scene
    c, s = math.cos(turn) * scale, math.sin(turn) * scale
    data = (c, s, EYES_MIDDLE[0] * side - c * x - s * y, -s, c, EYES_MIDDLE[1] * side + s * x - c * y)
    mask = np.zeros((side, side), np.uint8)
    mask[3:-3, 3:-3] = 255
    soft = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(3))
    shown, through = (
        image.transform(scene.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        for image in (Image.fromarray(face), soft)
    )
    scene.paste(shown, (0, 0), through)
    middle, half = np.array([x, y]), 0.5 * apart * np.array([math.cos(turn), math.sin(turn)])
    return np.stack([middle - half, middle + half])


def background(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft blots of colour."""
    small = np.random.default_rng(seed).integers(60, 200, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

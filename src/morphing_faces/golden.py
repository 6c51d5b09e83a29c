"""What every reader of a bundle must reproduce, ``golden.json``: random numbers, latents with their pixels, codes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from . import noise
from .pictures import to_uint8

FACES = 4
WALKED = 29  # dimensions of the walk whose steps are kept


def golden_values(
    latent_size: int,
    decode: Callable[[np.ndarray], np.ndarray],
    encode: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None,
) -> dict[str, Any]:
    """The values of a decoder, u (n, latent_size) -> pictures in [0, 1], and an encoder, pictures -> mean and std of u."""
    u = noise.normal(0, 0, FACES, latent_size)
    pixels = to_uint8(decode(u))
    codes = []
    if encode:
        mean, std = encode(pixels[:1].astype(np.float32) / 255)
        codes.append({"pixels_of_face": 0, "mean": decimals(mean[0]), "std": decimals(std[0])})
    return {
        "noise": {
            "seed": 0,
            "normal": decimals(noise.normal(0, 0, 1, 8)[0]),
            "seed_7_row_3": decimals(noise.normal(7, 3, 1, 8)[0]),
            "walk": [noise.whole(0, k, 2 * WALKED) for k in range(8)],
        },
        "faces": [
            {"seed": 0, "row": row, "u": decimals(u[row]), "pixels": base64.b64encode(pixels[row].tobytes()).decode()}
            for row in range(FACES)
        ],
        "codes": codes,
    }


def decimals(values: np.ndarray) -> list[float]:
    """float32 values (n,) as the shortest decimals that give them back."""
    return [float(str(value)) for value in values.astype(np.float32)]

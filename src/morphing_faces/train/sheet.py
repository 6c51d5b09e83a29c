"""The sheet that goes with every checkpoint: what a person looks at to judge the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..dataset import Dataset
from ..files import whole_file
from ..render import enlarge, grid, to_uint8
from .coordinates import pictures_for
from .networks import VAE


@torch.no_grad()
def save_sheet(model: VAE, dataset: Dataset, rows: np.ndarray, z: Tensor, path: Path) -> None:
    """Two rows: pictures and their reconstructions (mean code); below, the faces of the raw latents ``z``."""
    x = pictures_for(model, dataset.images[rows])
    parts = torch.cat([x, model.decode(model.encode(x)[0])[0], model.decode(z)[0]])
    pictures = to_uint8(parts.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())
    with whole_file(path) as temporary:
        grid(enlarge(pictures, 2 * pictures.shape[1]), columns=len(rows)).save(temporary, format="PNG")

"""How a run is doing: figures on held-out pictures, and a sheet that a person looks at to judge it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from ..dataset import Dataset, spread
from ..files import atomic_write
from ..pictures import enlarge, to_uint8
from ..render import grid
from .latents import Codes, encode_all, fit
from .networks import log_likelihood
from .recipe import Recipe
from .trainer import to_pictures, training_rows
from .vae import VAE, active_units, kl_from_prior

SAMPLES = 64  # random faces on a sheet
PAIRS = 16  # pictures and their reconstructions on a sheet


@torch.no_grad()
def validate(
    model: VAE, recipe: Recipe, dataset: Dataset, sheet: Path | None, prior: Codes | None = None, most: int = 1024
) -> dict[str, float]:
    """Figures on held-out pictures (at most ``most``), and a PNG ``sheet`` of reconstructions and of random faces.

    Random faces are those of ``prior``, which takes N(0, I) to codes; without one, of the Gaussian of the aggregate
    posterior of ``most`` training pictures. A set too small to hold out any is measured on its training pictures.
    """
    split = "held_out" if len(dataset.validation) else "train"
    rows = spread(dataset.validation if len(dataset.validation) else dataset.training, most)
    generator = torch.Generator(model.device).manual_seed(0)
    sums = {"elbo": 0.0, "kl": 0.0, "mse": 0.0}
    for first in range(0, len(rows), 128):
        x = to_pictures(dataset.images[rows[first : first + 128]], model.device)
        mean, log_variance = model.encode(x)
        noise = torch.randn(mean.shape, generator=generator, device=model.device)
        picture, log_sigma = model.decode(mean + torch.exp(0.5 * log_variance) * noise)
        kl = kl_from_prior(mean, log_variance).sum(1)
        sums["elbo"] += (log_likelihood(x, picture, log_sigma) - kl).sum().item()
        sums["kl"] += kl.sum().item()
        sums["mse"] += (model.decode(mean)[0].clamp(0, 1) - x).square().mean((1, 2, 3)).sum().item()
    posterior = encode_all(model, dataset.images, spread(training_rows(recipe, dataset), most), recipe.mirror)
    if sheet:
        write_sheet(model, dataset.images, rows, prior or fit(posterior, model, 0, recipe.seed), sheet)
    means = {f"{split}/{key}": value / len(rows) for key, value in sums.items()}
    active = float(active_units(posterior.means).sum())
    return {**means, f"{split}/psnr": -10 * math.log10(max(means[f"{split}/mse"], 1e-12)), "active_units": active}


@torch.no_grad()
def write_sheet(model: VAE, images: np.ndarray, rows: np.ndarray, prior: Codes, path: Path) -> None:
    """Two rows: pictures and their reconstructions (mean code); below, random faces. The same ones on every sheet."""
    x = to_pictures(images[spread(rows, PAIRS)], model.device)
    z = torch.randn(SAMPLES, model.latent_size, generator=torch.Generator().manual_seed(1)).to(model.device)
    drawn = torch.cat([x, model.decode(model.encode(x)[0])[0], model.decode(prior(z))[0]])
    pictures = to_uint8(drawn.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())
    with atomic_write(path) as temporary:
        grid(enlarge(pictures, 2 * pictures.shape[1]), columns=len(x)).save(temporary, format="PNG")

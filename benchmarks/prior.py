"""Can a classifier tell the codes of photographs from what random faces are drawn from? The less, the better the prior fits.

    python benchmarks/prior.py BUNDLE... --data DATA [--pictures 8000]

A classifier two-sample test (Lopez-Paz and Oquab, 2017, arXiv:1610.06545). In the coordinates u of a bundle random faces are drawn
from N(0, I). A small network learns to tell such draws from draws of training pictures' posteriors, and is tried on held-out
pictures: the area under its ROC curve is 0.5 where it cannot tell and 1 where it always can. Once for all dimensions, once for
those that the bundle shows, which a person sees.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import morphing_faces as mf
from morphing_faces.dataset import open_dataset, spread
from morphing_faces.evaluate import codes
from morphing_faces.landmarks import usable

STEPS, BATCH, WIDTH = 800, 512, 512
TRIED = 4000  # draws of either kind


def classifier(size: int) -> nn.Module:
    """(n, size) -> (n, 1), the higher the more like a photograph's code."""

    def layer(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Dropout(0.3)]

    return nn.Sequential(*layer(size), *layer(WIDTH), *layer(WIDTH), nn.Linear(WIDTH, 1))


def area(real: Tensor, drawn: Tensor) -> float:
    """The chance that a real code scores higher than a drawn one."""
    ordered = drawn.sort()[0]
    return float(torch.searchsorted(ordered, real).double().mean() / len(drawn))


def draws(posteriors: list[Tensor], count: int) -> Tensor:
    """(count, latent_size): draws of posteriors, given as means and standard deviations, of pictures chosen at random."""
    mean, std = posteriors
    rows = torch.randint(len(mean), (count,))
    return mean[rows] + std[rows] * torch.randn(count, mean.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--data", required=True)
    parser.add_argument("--pictures", type=int, default=8000, help="training pictures that are encoded")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data)
    good = np.arange(len(dataset.images)) if dataset.landmarks is None else np.flatnonzero(usable(dataset.landmarks))
    parts = [np.intersect1d(rows, good) for rows in (spread(dataset.training, arguments.pictures), dataset.validation)]
    for name in arguments.bundles:
        model = mf.load(name)
        shown = len(model.bundle.dimensions)
        posteriors = [[torch.from_numpy(part) for part in codes(model, dataset, rows)] for rows in parts]
        for size in (model.latent_size, shown):
            torch.manual_seed(0)
            network = classifier(size)
            optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=STEPS)
            for _ in range(STEPS):
                real, drawn = network(draws(posteriors[0], BATCH)[:, :size]), network(torch.randn(BATCH, size))
                loss = F.softplus(-real).mean() + F.softplus(drawn).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            network.eval()
            with torch.no_grad():
                found = area(
                    network(draws(posteriors[1], TRIED)[:, :size]).squeeze(1),
                    network(torch.randn(TRIED, size)).squeeze(1),
                )
            print(f"{name}: area under the curve {found:.3f} by the first {size} dimensions", flush=True)


if __name__ == "__main__":
    main()

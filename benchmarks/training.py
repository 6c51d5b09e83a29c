"""Training pictures a second against pythae 0.1.2: same network, batch and pictures, each at its best precision.

    pip install pythae==0.1.2
    python benchmarks/training.py --data data/faces-128 [--recipe color] [--rounds 3] [--steps 60]

The same network is one without shape and stored codes, which pythae has no place for. What the recipe itself takes, with
both, is measured beside it. All take turns, so that a busy machine slows all; the medians' ratio is printed beside its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from morphing_faces.dataset import Dataset, batch_rows, open_dataset
from morphing_faces.train.loop import Reader
from morphing_faces.train.processes import find_device, has_bf16
from morphing_faces.train.recipe import Recipe, recipe
from morphing_faces.train.trainer import Trainer, new_model, to_pictures, training_rows
from morphing_faces.train.vae import VAE
from pythae_vae import networks

LIMIT = 2.0
WARM = 2  # steps in which memory is allocated


def ours(settings: Recipe, dataset: Dataset, steps: int) -> float:
    """Pictures a second of the project's own steps, reading, augmentation, averaging and clipping included."""
    device = find_device("auto")
    trainer = Trainer(settings, new_model(settings, dataset), device)
    # Stored codes as after the first epoch: a picture's first visit takes longer.
    trainer.begin(
        dataset, torch.zeros(2, len(dataset.images), settings.latent_size).half() if settings.stored_codes else None
    )
    read, rows = Reader(dataset, device), batch_rows(training_rows(settings, dataset), 0, settings.batch, settings.seed)
    began = 0.0
    for step in range(WARM + steps):
        if step == WARM:
            began = time.perf_counter()
        metrics = trainer.step(step, 0.0, *read(next(rows)))
    float(metrics["elbo"])  # a GPU is done when this is read
    return steps * settings.batch / (time.perf_counter() - began)


def theirs(recipe: Recipe, dataset: Dataset, steps: int) -> float:
    """Pictures a second of pythae's trainer on the same encoder and decoder, in fp32: its amp is for GPUs only."""
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(0)
    encoder, decoder = networks(VAE(recipe, dataset.image_shape))
    height, width, channels = dataset.image_shape
    count = steps * recipe.batch
    rows = dataset.training[:count]
    pictures = to_pictures(np.resize(dataset.images[rows], (count, height, width, channels)), "cpu")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        model = models.VAE(
            models.VAEConfig(
                input_dim=(channels, height, width), latent_dim=recipe.latent_size, reconstruction_loss="mse"
            ),
            encoder=encoder,
            decoder=decoder,
        )
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            learning_rate=1e-4,
            per_device_train_batch_size=recipe.batch,
            optimizer_cls="AdamW",
            amp=torch.cuda.is_available(),
        )
        trainer = BaseTrainer(model, BaseDataset(pictures, torch.ones(count)), training_config=settings)
        trainer.prepare_training()
        began = time.perf_counter()
        trainer.train_step(1)
        return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="color")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        import pythae  # noqa: F401
    except ImportError:
        sys.exit("pythae is not installed: pip install pythae==0.1.2")
    whole, dataset = recipe(arguments.recipe), open_dataset(arguments.data)
    settings = whole.replace(shape=False, stored_codes=False)
    device = find_device("auto")
    precision = "bf16" if has_bf16(device) else "fp32"
    rates: dict[str, list[float]] = {"ours": [], "whole": [], "pythae": []}
    for _ in range(arguments.rounds):
        rates["ours"].append(ours(settings, dataset, arguments.steps))
        rates["pythae"].append(theirs(settings, dataset, arguments.steps))
        rates["whole"].append(ours(whole, dataset, arguments.steps))
        print(", ".join(f"{key} {values[-1]:.1f}" for key, values in rates.items()), "pictures/s", flush=True)
    own, itself, other = (statistics.median(rates[key]) for key in ("ours", "whole", "pythae"))
    verdict = "met" if own >= LIMIT * other else "MISSED"
    print(f"recipe {settings.name}, {device}, ours in {precision}: {own:.1f} against {other:.1f} pictures/s,", end=" ")
    print(f"ratio {own / other:.2f}, limit {LIMIT:g}, {verdict}; the recipe itself {itself:.1f}")


if __name__ == "__main__":
    main()

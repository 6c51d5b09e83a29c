"""Training pictures a second against pythae 0.1.2: same network, batch and pictures, each at its best precision.

    pip install pythae==0.1.2
    python benchmarks/training.py --data data/faces-128 [--recipe color] [--rounds 3] [--steps 60]

The two take turns, so that a busy machine slows both; the medians' ratio is printed beside its limit.
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
from typing import Any

import numpy as np
import torch

from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.train.coordinates import to_pictures
from morphing_faces.train.loop import has_bf16, train
from morphing_faces.train.networks import VAE
from morphing_faces.train.recipe import Config, recipe
from pythae_vae import networks

LIMIT = 2.0


def ours(config: Config, dataset: Dataset, steps: int) -> float:
    """Pictures a second of the project's own loop, its reading, augmentation, averaging and clipping included."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        few = config.replace(steps=steps + 2, checkpoint_minutes=1e6, adversarial=0.0, small_steps=0)
        began: list[float] = []
        ended: list[float] = []

        from morphing_faces.train import loop

        original, look = loop.learning_rate, loop.look

        def rate(config: Config, step: int) -> float:
            if step == 2:  # after two steps in which memory is allocated
                began.append(time.perf_counter())
            return original(config, step)

        def stop(*_arguments: Any, **_options: Any) -> dict[str, float]:
            ended.append(time.perf_counter())
            return {}

        loop.learning_rate, loop.look = rate, stop
        try:
            train(few, dataset, run, progress=False)
        finally:
            loop.learning_rate, loop.look = original, look
        return steps * config.batch / (ended[0] - began[0])  # writing the checkpoint, under a second, is in it


def theirs(config: Config, dataset: Dataset, steps: int) -> float:
    """Pictures a second of pythae's trainer on the same encoder and decoder, in fp32: its amp is for GPUs only."""
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    torch.manual_seed(0)
    encoder, decoder = networks(VAE(config, dataset.image_shape))
    height, width, channels = dataset.image_shape
    count = steps * config.batch
    rows = dataset.rows("train")[:count]
    pictures = to_pictures(np.resize(dataset.images[rows], (count, height, width, channels)))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        model = models.VAE(
            models.VAEConfig(
                input_dim=(channels, height, width), latent_dim=config.latent_size, reconstruction_loss="mse"
            ),
            encoder=encoder,
            decoder=decoder,
        )
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1,
            learning_rate=1e-4,
            per_device_train_batch_size=config.batch,
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
    config, dataset = recipe(arguments.recipe), open_dataset(arguments.data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16" if has_bf16(device) else "fp32"
    rates: dict[str, list[float]] = {"ours": [], "pythae": []}
    for _ in range(arguments.rounds):
        rates["ours"].append(ours(config, dataset, arguments.steps))
        rates["pythae"].append(theirs(config, dataset, arguments.steps))
        print(f"ours {rates['ours'][-1]:.1f}, pythae {rates['pythae'][-1]:.1f} pictures/s", flush=True)
    own, other = (statistics.median(rates[key]) for key in ("ours", "pythae"))
    verdict = "met" if own >= LIMIT * other else "MISSED"
    print(f"recipe {config.name}, {device}, ours in {precision}: {own:.1f} against {other:.1f} pictures/s,", end=" ")
    print(f"ratio {own / other:.2f}, limit {LIMIT:g}, {verdict}")


if __name__ == "__main__":
    main()

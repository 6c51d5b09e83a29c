"""A VAE trained by pythae 0.1.2, as a run that this project's own commands export and measure.

    pip install pythae==0.1.2
    python benchmarks/pythae_vae.py --data data/faces-128 --minutes 15 -o runs/pythae [--recipe color]
    morphing-faces export runs/pythae --data data/faces-128 -o pythae
    morphing-faces evaluate ./pythae --data data/faces-128

The networks, what they are given to begin with, the batch and the pictures (mirrored at random) are the recipe's; all
else is pythae's: its loss, its trainer, its optimizer and its learning rate. It samples from N(0, I), so the run's flow does
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.train import checkpoint
from morphing_faces.train.flow import Flow
from morphing_faces.train.loop import RECIPE
from morphing_faces.train.processes import machine
from morphing_faces.train.recipe import Recipe, recipe
from morphing_faces.train.trainer import new_model, to_pictures
from morphing_faces.train.vae import VAE

CHUNK = 64  # batches between two looks at the clock


def networks(own: VAE) -> tuple[Any, Any]:
    """The project's encoder and decoder in the clothes that pythae asks for."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = own.encoder

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_variance = own.encode(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = own.decoder

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=own.decode(z)[0])

    return Encoder(), Decoder()


class Pictures(torch.utils.data.Dataset[Any]):
    """So many training pictures, drawn anew and mirrored at random each time one is asked for."""

    def __init__(self, dataset: Dataset, count: int, seed: int):
        self.images, self.rows, self.count = dataset.images, dataset.training, count
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, _: int) -> Any:
        from pythae.data.datasets import DatasetOutput

        picture = to_pictures(self.images[self.rng.choice(self.rows)][None], "cpu")[0]
        return DatasetOutput(data=picture.flip(2) if self.rng.random() < 0.5 else picture)


def train(settings: Recipe, dataset: Dataset, minutes: float, run: Path) -> None:
    """Train for so many minutes, then write a run's folder."""
    from pythae import models
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    own = new_model(settings, dataset)
    height, width, channels = dataset.image_shape
    encoder, decoder = networks(own)
    model = models.VAE(
        models.VAEConfig(
            input_dim=(channels, height, width), latent_dim=settings.latent_size, reconstruction_loss="mse"
        ),
        encoder=encoder,
        decoder=decoder,
    )
    steps, seconds = 0, 0.0
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        configuration = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, per_device_train_batch_size=settings.batch, train_dataloader_num_workers=0,
            amp=torch.cuda.is_available(),
        )  # fmt: skip
        pictures = Pictures(dataset, CHUNK * settings.batch, settings.seed)
        trainer = BaseTrainer(model, pictures, training_config=configuration)
        trainer.prepare_training()
        began = time.monotonic()
        while seconds < 60 * minutes:
            loss = float(trainer.train_step(1))
            steps += CHUNK
            seconds = time.monotonic() - began
            print(f"{seconds / 60:.1f} of {minutes:g} minutes, step {steps}, loss {loss:.1f}", flush=True)
    state = {
        "step": steps, "bad_steps": 0, "seconds": seconds, "past": [],
        "machine": f"pythae 0.1.2, {machine(own.device, 1)}",
    }  # fmt: skip
    weights = {key: tensor.cpu() for key, tensor in own.state_dict().items()}  # pythae averages nothing
    run.mkdir(parents=True)
    (run / RECIPE).write_text(settings.to_toml(), encoding="utf-8")
    (run / "data.json").write_text(json.dumps(dataset.record, indent=1) + "\n", encoding="utf-8")
    prior = Flow(settings.latent_size, 0).state_dict()  # N(0, I) itself
    checkpoint.save(run, {"trainer": {"model": weights, "average": weights, "flow": prior}, "state": state})
    print(f"{run}: {steps} steps of {settings.batch} pictures in {seconds / 60:.1f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="color")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    settings = recipe(arguments.recipe).replace(name="pythae", shape=False, flow_layers=0)
    train(settings, open_dataset(arguments.data), arguments.minutes, arguments.out)


if __name__ == "__main__":
    main()

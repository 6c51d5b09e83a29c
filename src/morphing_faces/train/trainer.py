"""One optimization step after another: what a run computes, without files, clocks or signals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ..dataset import Dataset, spread
from ..landmarks import usable
from .augment import augment, which_mirrored
from .flow import Flow, restored
from .networks import Batch
from .processes import has_bf16
from .recipe import Recipe
from .shape import MeanFrame, mean_landmarks
from .stored_codes import StoredCodes
from .vae import VAE

LEARNING_RATE_END = 0.02  # what is left of the learning rate at the end, as a fraction of its peak
WEIGHT_DECAY = 0.01  # decoupled (AdamW), on matrices only
MEASURED = 20_000  # training pictures that mean and standard deviation are taken from, at most

Metrics = dict[str, Tensor]
Codes = Callable[[Tensor], Tensor]


class Trainer:
    """A VAE, its averaged weights and its optimizer.

    ``average`` is what is shown and exported. ``step`` does everything of one step; ``state`` and ``load`` are all that a
    checkpoint needs of it. On ``world`` processes each is given its share of every batch.
    """

    betas = (0.9, 0.99)  # a shorter memory than 0.999: gradients of a VAE change scale as sigma shrinks

    def __init__(self, recipe: Recipe, model: VAE, device: torch.device, rank: int = 0, world: int = 1):
        self.recipe, self.device, self.rank = recipe, device, rank
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = AveragedModel(self.model, multi_avg_fn=_ema(recipe.ema))
        self.averaged.requires_grad_(False).eval()
        self.optimizer = make_optimizer(self.model, recipe.learning_rate, self.betas)
        self.frame = MeanFrame(model.landmarks, model.image_shape[0]).to(device) if model.shape else None
        network: Any = DistributedDataParallel(self.model) if world > 1 else self.model
        use_compile = recipe.compile == "on" or (recipe.compile == "auto" and device.type == "cuda")
        self.network = torch.compile(network) if use_compile else network
        self.autocast = autocast(recipe, device)
        self.random = torch.Generator(device)
        self.codes: StoredCodes | None = None
        self.flow: Flow | None = None  # the prior of random faces, where training needs one or goes on with it

    @property
    def average(self) -> VAE:
        """The averaged weights."""
        return self.averaged.module  # type: ignore[return-value]

    def step(
        self, step: int, done: float, images: Tensor, landmarks: Tensor | None = None, rows: Tensor | None = None
    ) -> Metrics:
        """One step on pictures, uint8 (n, height, width, channels), and with shape their landmarks (n, 68, 2).

        ``rows`` (n,) are the pictures' rows in the data, by which stored codes are found. ``step`` counts from 0 and seeds
        what is random; ``done`` is how much of the run is over, from 0 to 1, and sets the learning rate. The metrics are
        scalars, not read yet: reading makes a GPU wait. A step whose gradient is not finite changes nothing; its ``bad`` is 1.
        """
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, done)
        batch, mirror = self.batch(step, images, landmarks)
        noise = torch.randn(len(images), recipe.latent_size, generator=self.random, device=self.device)
        stored = self.codes if recipe.stored_codes else None
        if recipe.stored_codes and stored is None:
            raise ValueError("there are no stored codes: begin before the first step")
        with self.autocast:
            codes = stored.visit(self.model, batch.x, rows, mirror, recipe) if stored else None
            terms = self.network(batch, noise, codes)
        log_likelihood, kl, guide, gap = (term.mean() for term in terms[:4])
        kl_weight = recipe.kl_weight * min(1.0, (step + 1) / max(recipe.kl_warmup, 1))
        size = batch.x[0].numel()
        loss = (kl_weight * (kl + gap) - log_likelihood + guide) / size  # nats per pixel value
        metrics = {
            "elbo": (log_likelihood - kl).detach(),
            "kl": kl.detach(),
            "guide": guide.detach(),
            "gap": gap.detach(),
            "mse": (terms.picture.detach() - batch.x).square().mean(),
            **self.descend(loss),
        }
        if stored and codes is not None and codes.grad is not None:
            stored.descend(codes, codes.grad * (size * len(codes) / kl_weight), terms.variance.detach(), rows, mirror)
        return metrics

    def descend(self, loss: Tensor) -> Metrics:
        """One step of the optimizer down ``loss``, and of the averaged weights; none where the gradient is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return self.apply()

    def apply(self) -> Metrics:
        """A step of the optimizer and the averaged weights by the gradients there are; none where they are not finite."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        good = bool(torch.isfinite(norm))  # the same on every process: gradients were averaged
        if good:
            self.optimizer.step()
            self.averaged.update_parameters(self.model)
        return {"gradient_norm": norm, "bad": torch.tensor(float(not good))}

    def batch(self, step: int, images: Tensor, landmarks: Tensor | None) -> tuple[Batch, Tensor]:
        """Augmented pictures, with shape what the landmarks say of them, and which of them are mirrored, (n,) bool.

        Seeded by the step: resuming is exact.
        """
        self.random.manual_seed((self.recipe.seed * 1_000_003 + step) * 4099 + self.rank)
        mirror = which_mirrored(len(images), self.recipe, self.random)
        x, landmarks = augment(to_pictures(images, self.device), landmarks, mirror, self.recipe, self.random)
        if self.frame is None or landmarks is None:
            return Batch(x), mirror
        return Batch(x, self.frame.appearance(x, landmarks), self.frame.field(landmarks)), mirror

    def begin(self, dataset: Dataset, codes: Tensor | None = None, flow: Flow | None = None) -> None:
        """What a new run does before its first step: take over the stored codes of the run that it goes on from, if any.

        ``flow`` is the prior that was fitted for that run's decoder.
        """
        if codes is None and self.recipe.stored_codes:
            codes = torch.full((2, len(dataset.images), self.recipe.latent_size), torch.nan, dtype=torch.float16)
        self.codes = None if codes is None else StoredCodes(codes.to(self.device))

    @property
    def prior(self) -> Codes | None:
        """What takes N(0, I) to the codes of random faces, where there is such a thing already."""
        return self.flow

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "averaged": self.averaged.n_averaged,
            "optimizer": self.optimizer.state_dict(),
            **({} if self.codes is None else {"codes": self.codes.means}),
            **({} if self.flow is None else {"flow": self.flow.state_dict()}),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.averaged.n_averaged.copy_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.codes = StoredCodes(state["codes"].to(self.device)) if "codes" in state else None
        if "flow" in state:
            self.flow = restored(state["flow"], self.recipe.flow_layers).to(self.device)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The precision that a recipe's passes are computed in."""
    enabled = recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """Linear warm-up to the peak, rest, and a fall over the last ``cooldown`` of the run.

    It falls by one minus the square root of what is done of the fall (Hagele et al., 2024, arXiv:2405.18392).
    """
    fallen = max(done - (1 - recipe.cooldown), 0) / recipe.cooldown if recipe.cooldown else 0.0
    left = 1 - math.sqrt(min(fallen, 1.0))
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return recipe.learning_rate * min(warm, LEARNING_RATE_END + (1 - LEARNING_RATE_END) * left)


def make_optimizer(model: torch.nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW on what is trained; biases are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if (p.ndim > 1) == matrix], "weight_decay": WEIGHT_DECAY * matrix}
        for matrix in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def new_model(recipe: Recipe, dataset: Dataset) -> VAE:
    """A model at its initial weights, with the data's mean faces, standard deviation and, with shape, mean landmarks.

    It has shape where the recipe wants it and the pictures have landmarks. Both means are symmetric where training
    mirrors pictures, and the standard deviation is measured around them.
    """
    torch.manual_seed(recipe.seed)
    rows = training_rows(recipe, dataset)
    shape = has_shape(recipe, dataset)
    model = VAE(recipe, dataset.image_shape, shape)
    frame = None
    if shape:
        assert dataset.landmarks is not None
        mean = mean_landmarks(dataset.landmarks[rows], dataset.image_shape[0], recipe.mirror)
        model.landmarks.copy_(torch.from_numpy(mean))
        frame = MeanFrame(model.landmarks, dataset.image_shape[0])
    rows = spread(rows, MEASURED)
    total = torch.zeros(2, *model.encoder.units.mean_face.shape[1:], dtype=torch.float64)
    square = torch.zeros_like(total[0])
    for first in range(0, len(rows), 256):
        part = rows[first : first + 256]
        x = to_pictures(dataset.images[part], "cpu")
        drawn = x
        if frame is not None:
            assert dataset.landmarks is not None
            drawn = frame.appearance(x, torch.from_numpy(dataset.landmarks[part]))
        total += torch.stack([x.double().sum(0), drawn.double().sum(0)])
        square += x.double().square().sum(0)
    plain, drawn_mean = total / len(rows)
    face = (plain + plain.flip(2)) / 2 if recipe.mirror else plain
    drawn_face = (drawn_mean + drawn_mean.flip(2)) / 2 if recipe.mirror else drawn_mean
    variance = (square / len(rows) - 2 * plain * face + face.square()).mean()  # around the mean face
    for units, mean_face in ((model.encoder.units, face), (model.decoder.units, drawn_face)):
        units.mean_face.copy_(mean_face)
        units.scale.fill_(max(math.sqrt(variance), 1e-3))
    return model


def has_shape(recipe: Recipe, dataset: Dataset) -> bool:
    """Whether a model of this recipe, trained on these pictures, has shape."""
    return recipe.shape and recipe.network == "conv" and dataset.landmarks is not None


def training_rows(recipe: Recipe, dataset: Dataset) -> np.ndarray:
    """The rows trained on: with shape, those of pictures whose landmarks are right and whose heads are not turned too far."""
    rows = dataset.training
    if has_shape(recipe, dataset):
        assert dataset.landmarks is not None
        rows = rows[usable(dataset.landmarks[rows])]
    dataset.must_have(rows, "training")
    return rows


def to_pictures(images: np.ndarray | Tensor, device: torch.device | str) -> Tensor:
    """uint8 (n, height, width, channels) -> float32 (n, channels, height, width) in [0, 1]."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    return images.to(device).permute(0, 3, 1, 2).float() / 255


def _ema(decay: float) -> Any:
    """An exponential moving average whose decay grows to its value, so that early weights are forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update

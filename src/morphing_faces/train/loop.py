"""The training loop, to be read from top to bottom: read, step, log, save."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..dataset import Dataset, batch_rows, belongs, must_belong
from ..errors import UserError
from ..files import atomic_write, clear_leftovers, lock_folder
from . import checkpoint
from .code_trainer import CodeTrainer
from .critic import CriticTrainer
from .encoder_trainer import EncoderTrainer
from .flow import left_by
from .from_bundle import from_bundle, is_bundle
from .networks import ImageShape, new_parts, without_second_look
from .processes import Interrupted, largest, machine, processes, signals
from .recipe import FIELDS, Recipe, from_toml
from .trainer import Metrics, Trainer, has_shape, new_model, training_rows
from .vae import VAE
from .validate import validate

RECIPE = "recipe.toml"  # in a run's folder
VALIDATED = 512  # held-out pictures measured with every checkpoint, at most
LOG_EVERY = 20  # steps between two readings of the metrics; reading them makes a GPU wait
MAX_BAD_STEPS = 20  # steps in a row that are not finite, after which the run stops
GPU_SHARE = 0.5  # pictures are held on the GPU when they take at most this part of its free memory


def train(
    recipe: Recipe,
    dataset: Dataset,
    run: Path,
    *,
    begin: Path | None = None,
    device: str = "auto",
    minutes: float | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train ``recipe`` on ``dataset`` into the folder ``run``, or resume what is there; returns the last metrics.

    A new run begins at the averaged weights of the run ``begin``, or at those of a bundle, where one is given; its
    optimizer begins anew. With ``minutes`` the run ends after so many more, whatever ``steps`` says, and the learning rate
    follows the clock. Under ``torchrun`` every process calls this; each reads its share of every batch. On a CPU a run
    resumed without ``minutes`` is the uninterrupted one bit for bit.

    Raises ``UserError`` when ``run`` holds another recipe or other data, is being trained by another process, or too many
    steps in a row are not finite; ``Interrupted`` after Ctrl-C or SIGTERM, with the checkpoint written.
    """
    if minutes is not None and not 0 < minutes < 1e6:
        raise UserError(f"--minutes {minutes:g}: must be more than 0 and less than a million")
    with processes(device) as (place, rank, world), alone(run, rank):
        if recipe.batch % world:
            raise UserError(f"batch = {recipe.batch}: must be divisible by the {world} processes")
        trainer, state = start(recipe, dataset, run, begin, place, rank, world)
        saver, clock = Saver(run, recipe, dataset, trainer, state), Clock(recipe.steps, minutes)
        step, bad, bad_in_a_row = state["step"], 0, 0
        if clock.done(step) >= 1:
            return saver.metrics
        if rank == 0:
            saver.open()
        read = Reader(dataset, place)
        rows = training_rows(recipe, dataset)
        with signals() as received, bar(recipe.steps, step, minutes, progress and rank == 0) as shown:
            for chosen in batch_rows(rows, step, recipe.batch, recipe.seed, rank, world):
                done = largest(clock.done(step), place, world)
                metrics = trainer.step(step, done, *read(chosen))
                step += 1
                bad_in_a_row = bad_in_a_row + 1 if metrics["bad"] else 0
                bad += bool(bad_in_a_row)
                if bad_in_a_row >= MAX_BAD_STEPS:
                    raise UserError(
                        f"{bad_in_a_row} steps in a row were not finite (step {step}): lower learning_rate (now "
                        f"{recipe.learning_rate}), raise sigma_min (now {recipe.sigma_min}), or set precision=fp32; "
                        f"the last checkpoint is kept in {run}"
                    )

                # All processes leave at the same step: at the end, or when one of them was asked to stop.
                stop = int(largest(received[0] if received else 0, place, world))
                leave = bool(stop) or largest(clock.done(step), place, world) >= 1
                if step % LOG_EVERY == 0 or leave:
                    saver.note(step, metrics, bad)
                    bad = 0
                    shown.set_postfix_str(summary(saver.metrics), refresh=False)
                shown.update()
                if rank == 0 and (leave or saver.due()):
                    saver.save(step)
                    shown.set_postfix_str(summary(saver.metrics))
                if stop:
                    raise Interrupted(stop)
                if leave:
                    break
        saver.close()
        return saver.metrics


@contextlib.contextmanager
def alone(run: Path, rank: int) -> Iterator[None]:
    """Hold the run's folder, so that it has one writer; a folder in which nothing came to be is removed again.

    Raises ``UserError`` that says who holds it.
    """
    if rank:
        yield
        return
    must_be_run(run)
    try:
        with lock_folder(run):
            clear_leftovers(run)
            yield
    finally:
        with contextlib.suppress(OSError):  # it holds something
            run.rmdir()


def must_be_run(folder: Path) -> None:
    """Raise ``UserError`` where ``folder`` holds something and no run: what is there is not a run's to write among."""
    if folder.is_dir() and not checkpoint.exists(folder) and not (folder / RECIPE).is_file():
        others = sorted(entry.name for entry in folder.iterdir() if entry.name != ".lock")
        if others:
            raise UserError(f"{folder} holds {others[0]!r} and no run: choose a new folder, or the folder of a run")


def bar(steps: int, first: int, minutes: float | None, progress: bool) -> Any:
    """The progress bar: of all steps, or of as many as come where minutes are the bound."""
    total = None if minutes else steps
    return tqdm(total=total, initial=first, unit=" steps", disable=not progress, smoothing=0.05)


def start(
    recipe: Recipe, dataset: Dataset, run: Path, begin: Path | None, device: torch.device, rank: int, world: int
) -> tuple[Trainer, dict[str, Any]]:
    """The trainer of a new run, of one that goes on from another or from a bundle, or of one that is resumed; and its state."""
    kind = trainer_of(recipe)
    if checkpoint.exists(run):
        saved = checkpoint.load(run)
        must_resume(run, recipe, dataset, saved["state"]["step"])
        trainer = kind(recipe, build(recipe, dataset, saved["trainer"]["model"], run), device, rank, world)
        trainer.load(saved["trainer"])
        return trainer, saved["state"]
    past: list[dict[str, Any]] = []
    codes = flow = None
    if begin and is_bundle(begin):
        model, past = from_bundle(recipe, dataset, begin)
    elif begin:
        saved = checkpoint.load(begin)
        torch.manual_seed(recipe.seed)
        model = build(recipe, dataset, saved["trainer"]["average"], begin, anew=True)
        if "codes" in saved["trainer"] and belongs(begin, dataset):  # they are of these pictures, row by row
            codes = saved["trainer"]["codes"]
        earlier = from_toml(begin / RECIPE)
        flow = left_by(saved["trainer"], earlier)
        done = {key: saved["state"][key] for key in ("step", "seconds", "machine")}
        past = [*saved["state"]["past"], {"recipe": dataclasses.asdict(earlier), **done}]
    elif recipe.goes_on:
        key = recipe.goes_on
        raise UserError(
            f"{key} = {getattr(recipe, key)!r}: goes on from a trained model; name its run, or a bundle, with --from"
        )
    else:
        model = new_model(recipe, dataset)
    torch.manual_seed(recipe.seed)
    trainer = kind(recipe, model, device, rank, world)
    trainer.begin(dataset, codes, flow)
    return trainer, {"step": 0, "bad_steps": 0, "seconds": 0.0, "machine": machine(device, world), "past": past}


def trainer_of(recipe: Recipe) -> type[Trainer]:
    """The trainer that a recipe needs."""
    if recipe.critic:
        return CriticTrainer
    if recipe.code_weight:
        return CodeTrainer
    return EncoderTrainer if recipe.encoder_only else Trainer


def build(recipe: Recipe, dataset: Dataset, tensors: dict[str, torch.Tensor], run: Path, *, anew: bool = False) -> VAE:
    """A model of saved weights. Where a run begins ``anew`` at them, some parts of it may be new, and a second look may be left.

    Raises ``UserError`` where they are another recipe's, or the pictures lack its landmarks.
    """
    model = VAE(recipe, dataset.image_shape, has_shape(recipe, dataset))
    if anew:
        new = new_parts(model, tensors)
        if model.encoder.second_look is None:
            tensors = without_second_look(tensors)
        tensors = {**tensors, **{name: own for name, own in model.state_dict().items() if name.startswith(new)}}
    checkpoint.load_into(model, tensors, run)
    return model


def load_run(run: Path, image_shape: ImageShape) -> tuple[VAE, Recipe, dict[str, Any]]:
    """The averaged weights of a run, on the CPU, with its recipe and the whole checkpoint."""
    saved = checkpoint.load(run)
    recipe = from_toml(run / RECIPE)
    tensors = saved["trainer"]["average"]
    model = VAE(recipe, image_shape, shape="landmarks" in tensors)
    checkpoint.load_into(model, tensors, run)
    return model.eval().requires_grad_(False), recipe, saved


def saved_recipe(run: Path) -> Recipe:
    """The recipe of the run in ``run``. Raises ``UserError`` where there is none to resume."""
    if not (run / RECIPE).is_file():
        raise UserError(f"{run} holds no run to resume: name a recipe with --recipe to begin one")
    return from_toml(run / RECIPE)


def must_resume(run: Path, recipe: Recipe, dataset: Dataset, step: int) -> None:
    """Raise ``UserError`` unless the run in ``run``, at ``step``, was begun with this recipe on these pictures.

    What changes no result may differ; so may the run's length, for as long as its learning rate has not begun to fall.
    """
    saved = from_toml(run / RECIPE)
    free = {"checkpoint_minutes"}
    if all(step <= each.steps * (1 - each.cooldown) for each in (saved, recipe)):
        free |= {"steps", "cooldown"}
    changed = [key for key in FIELDS if key not in free and getattr(saved, key) != getattr(recipe, key)]
    if changed:
        listed = ", ".join(f"{key} was {getattr(saved, key)!r}, now {getattr(recipe, key)!r}" for key in changed)
        raise UserError(
            f"{run} was begun with other settings ({listed}): resume with those, or train into a new folder"
        )
    must_belong(run, dataset)


class Reader:
    """Rows of a data set -> pictures, landmarks and the rows themselves for a step. On a GPU that has the room they are held there."""

    def __init__(self, dataset: Dataset, device: torch.device):
        self.images: np.ndarray | torch.Tensor = dataset.images
        self.landmarks = None if dataset.landmarks is None else torch.from_numpy(dataset.landmarks).to(device)
        self.device = device
        if device.type == "cuda" and dataset.images.nbytes < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.images = torch.from_numpy(np.array(dataset.images)).to(device)

    def __call__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        index = torch.from_numpy(rows).to(self.device)
        landmarks = None if self.landmarks is None else self.landmarks[index]
        if isinstance(self.images, np.ndarray):
            return torch.from_numpy(self.images[rows]), landmarks, index
        return self.images[index], landmarks, index


class Clock:
    """How much of a run is over, from 0 to 1: by steps, or where there is a bound by minutes since now."""

    def __init__(self, steps: int, minutes: float | None):
        self.steps, self.minutes = steps, minutes
        self.started = time.monotonic()

    def done(self, step: int) -> float:
        if self.minutes is None:
            return step / self.steps
        return (time.monotonic() - self.started) / (60 * self.minutes)


class Saver:
    """What a run leaves in its folder: recipe, record of the data, checkpoint, log, sheets, TensorBoard's files."""

    def __init__(self, run: Path, recipe: Recipe, dataset: Dataset, trainer: Trainer, state: dict[str, Any]):
        self.run, self.recipe, self.dataset, self.trainer, self.state = run, recipe, dataset, trainer, state
        self.metrics: dict[str, Any] = state.get("metrics", {})
        self.started = self.saved = time.monotonic()
        self.first_step, self.first_seconds = state["step"], state["seconds"]
        self.writer: Any = None

    def open(self) -> None:
        """Make the folder, write what describes the run, and mend a log that a kill has cut short."""
        self.run.mkdir(parents=True, exist_ok=True)
        _write_text(self.run / RECIPE, self.recipe.to_toml())
        if not (self.run / "data.json").is_file():
            _write_text(self.run / "data.json", json.dumps(self.dataset.record, indent=1) + "\n")
        self._log_up_to(self.state["step"])

    def note(self, step: int, metrics: Metrics, bad: int) -> None:
        """Read the metrics of a step."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        self.state["bad_steps"] += bad
        self.metrics = {key: value.item() for key, value in metrics.items() if key != "bad"}
        self.metrics["pictures_per_second"] = (step - self.first_step) * self.recipe.batch / seconds
        self.metrics["bad_steps"] = self.state["bad_steps"]
        if self.writer and step % (10 * LOG_EVERY) == 0:
            self._tensorboard({f"train/{key}": value for key, value in self.metrics.items()}, step)

    def due(self) -> bool:
        return time.monotonic() - self.saved > 60 * self.recipe.checkpoint_minutes

    def save(self, step: int) -> None:
        """Write the checkpoint, then the sheet with the figures of held-out pictures, and a line of the log."""
        trainer = self.trainer
        sheet = self.run / "sheets" / f"step-{step:07d}.png"
        sheet.parent.mkdir(exist_ok=True)
        self.metrics |= validate(trainer.average, self.recipe, self.dataset, sheet, trainer.prior, VALIDATED)
        seconds = self.first_seconds + time.monotonic() - self.started
        self.state |= {"step": step, "seconds": seconds, "metrics": self.metrics}
        checkpoint.save(self.run, {"trainer": trainer.state(), "state": self.state})
        self._log_up_to(step)
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.run / "tensorboard"))
        self._tensorboard(self.metrics, step)
        self.saved = time.monotonic()

    def _log_up_to(self, step: int) -> None:
        """The log's rows up to ``step``, whose own is in the state; a cut row, or one of a lost step, is left out."""
        path = self.run / "log.jsonl"
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] < step:
                    rows.append(line)
        if step:
            seconds = round(self.state["seconds"], 1)
            rows.append(json.dumps({"step": step, "seconds": seconds, **self.state.get("metrics", {})}))
        if rows:
            _write_text(path, "\n".join(rows) + "\n")

    def _tensorboard(self, values: dict[str, float], step: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def close(self) -> None:
        if self.writer:
            self.writer.close()


def summary(metrics: dict[str, Any]) -> str:
    """Metrics in a few words, for the progress bar."""
    parts = [f"{metrics.get('pictures_per_second', 0):.0f} pictures/s"]
    for key, label in (("elbo", "ELBO"), ("kl", "KL"), ("critic", "critic"), ("active_units", "active")):
        if key in metrics:
            parts.append(f"{label} {metrics[key]:.{2 * (key == 'critic')}f}")
    if "held_out/psnr" in metrics:
        parts.append(f"held out {metrics['held_out/psnr']:.2f} dB")
    if metrics.get("bad_steps"):
        parts.append(f"{metrics['bad_steps']} skipped")
    return ", ".join(parts)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

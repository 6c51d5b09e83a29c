"""The training loop, to be read from top to bottom: learning rate, forward, backward, clip, step, log, save."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import json
import math
import os
import platform
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..dataset import Dataset, batches, must_belong, spread
from ..files import whole_file
from . import checkpoint
from .adversary import Adversary
from .coordinates import encode_all, pictures_for, to_pictures, whitening
from .critic import must_be_installed
from .flow import Flow
from .networks import VAE
from .objective import active_units, gaussian_log_likelihood, kl_from_prior
from .recipe import FIELDS, Config, from_toml
from .sheet import save_sheet

LOG_EVERY = 20  # steps between two readings of the metrics; reading them makes a GPU wait


class Interrupted(Exception):
    """Training was asked to stop (Ctrl-C, SIGTERM); the checkpoint is written. ``signal`` is the number received."""

    def __init__(self, number: int):
        self.signal = number
        super().__init__(signal.Signals(number).name)


def train(
    config: Config,
    dataset: Dataset,
    run: Path,
    *,
    begin: Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Train ``config`` on ``dataset`` into the folder ``run``, or resume what is there; returns the last metrics.

    A new run begins at the averaged weights of the run ``begin``, where one is given; its optimizer begins anew. Under
    ``torchrun`` every process calls this; each reads its share of every batch. On a CPU a resumed run is the
    uninterrupted one bit for bit. Raises ``ValueError`` when ``run`` holds another configuration or other data,
    ``FloatingPointError`` when too many steps in a row are not finite, ``Interrupted`` after Ctrl-C or SIGTERM.
    """
    with _processes(device) as (place, rank, world):
        return _train(config, dataset, run, begin, place, rank, world, progress and rank == 0)


def _train(
    config: Config,
    dataset: Dataset,
    run: Path,
    begin: Path | None,
    device: torch.device,
    rank: int,
    world: int,
    progress: bool,
) -> dict[str, Any]:
    for key in ("batch", *(["small_batch"] if config.small_steps else [])):
        if getattr(config, key) % world:
            raise ValueError(f"{key} = {getattr(config, key)}: must divide by the {world} processes")
    if config.adversarial and config.steps > config.adversarial_from:
        must_be_installed()  # said now, not when the critic comes in
    torch.manual_seed(config.seed)
    model = VAE(config, dataset.image_shape).to(device)
    past: list[dict[str, Any]] = []  # of the runs that this one began from
    resuming = checkpoint.has_one(run)
    if begin and not resuming:
        past = begin_from(model, begin)
    elif not resuming:
        set_data_statistics(model, dataset)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimizer = make_optimizer(model, config)
    step, bad_steps, seconds = 0, 0, 0.0
    critic: dict[str, dict[str, Tensor]] = {}

    if resuming:
        groups, state = checkpoint.load(run)
        _check_same_run(run, config, dataset, state["step"])
        if rank == 0:
            _write_text(run / "config.toml", config.to_toml())
        checkpoint.load_into(model, groups["model"], run)
        checkpoint.load_into(average, groups["ema"], run)
        checkpoint.load_moments(optimizer, model, groups.get("optimizer", {}))
        step, bad_steps, seconds, past = state["step"], state["bad_steps"], state["seconds"], state.get("past", [])
        critic = {key: tensors for key, tensors in groups.items() if key.startswith("critic") or key == "prior"}
    elif rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        _write_text(run / "config.toml", config.to_toml())
        _write_text(run / "data.json", json.dumps(dataset.record, indent=1) + "\n")

    use_bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bf16(device))
    use_compile = config.compile == "on" or (config.compile == "auto" and device.type == "cuda")
    adversary: Adversary | None = None
    network: Any = None
    writer = _tensorboard(run) if rank == 0 else None
    noise_source = torch.Generator(device)
    metrics: dict[str, Any] = {}
    bad_in_a_row = 0
    seen, started, saved = 0, time.monotonic(), time.monotonic()

    def elapsed() -> float:
        return seconds + time.monotonic() - started

    def save() -> None:
        nonlocal metrics
        if rank == 0:
            state = {"step": step, "bad_steps": bad_steps, "seconds": elapsed(), "machine": machine(device, world)}
            state |= {"past": past} if past else {}
            moments = checkpoint.moments(optimizer, model)
            groups = {"model": model.state_dict(), "ema": average.state_dict(), "optimizer": moments}
            if adversary:
                moments = checkpoint.moments(adversary.optimizer, adversary.critic)
                groups |= {"critic": adversary.critic.state_dict(), "critic_optimizer": moments}
                groups |= {"prior": adversary.prior.state_dict()}
            checkpoint.save(run, groups, state)
            prior = adversary.prior if adversary else None
            sheet = run / "sheets" / f"step-{step:07d}.png"
            metrics = {**metrics, **look(average, dataset, sheet, config.mirror, prior=prior)}
            _append_json(run / "log.jsonl", {"step": step, "seconds": round(elapsed(), 1), **metrics})
            if writer:
                for key, value in metrics.items():
                    writer.add_scalar(key, value, step)
                writer.flush()

    with (
        _signals() as received,
        tqdm(total=config.steps, initial=step, unit=" steps", disable=not progress, smoothing=0.05) as bar,
    ):
        for images in _batches(config, dataset, step, rank, world):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)

            # Small pictures first, then whole ones.
            if network is None or step == config.small_steps > 0:
                if step == config.small_steps > 0:  # go on from the averaged weights, the best there are
                    model.load_state_dict(average.state_dict())
                model.small = average.small = step < config.small_steps
                for parameter in model.fine():
                    parameter.requires_grad_(not model.small)
                network = _wrap(model, world, use_compile)

            # From here on the encoder is what it will be, and the decoder follows a critic as well.
            if config.adversarial and step >= config.adversarial_from and adversary is None:
                if step == config.adversarial_from:  # both go on from the averaged weights, the best there are
                    model.load_state_dict(average.state_dict())
                model.encoder.requires_grad_(False)
                torch.manual_seed(config.seed + 1)
                adversary = Adversary(config, model, dataset, world, critic.get("prior"))
                if critic:
                    checkpoint.load_into(adversary.critic, critic["critic"], run)
                    moments = critic.get("critic_optimizer", {})
                    checkpoint.load_moments(adversary.optimizer, adversary.critic, moments)
                network = _wrap(model, world, use_compile)

            # Augmentation and noise come from a generator of their own, seeded by the step: resuming is exact.
            noise_source.manual_seed((config.seed * 1_000_003 + step) * 4099 + rank)
            x = augment(to_pictures(images, device), config, noise_source)
            if model.small:
                x = F.avg_pool2d(x, 2)
            noise = torch.randn(len(x), config.latent_size, generator=noise_source, device=device)
            torch.manual_seed((config.seed * 1_000_033 + step) * 4099 + rank)  # of dropout and grain

            # Forward and backward: the negative evidence lower bound, in nats per pixel value.
            more = adversary.latents(len(x), noise_source) if adversary else None
            with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
                pictures, log_sigma, mean, log_variance = network(x, noise, more)
            # After the reconstructions come the faces of ``more``.
            log_likelihood = gaussian_log_likelihood(x, pictures[: len(x)], log_sigma).mean()
            kl = kl_from_prior(mean, log_variance).sum(1).mean()
            kl_weight = config.kl_weight * min(1.0, (step + 1) / max(config.kl_warmup, 1))
            # A nat of the code costs as much of a small picture's nats a pixel value as of a whole one's.
            loss = kl_weight * kl / model.mean_face.numel() - log_likelihood / x[0].numel()
            if adversary:
                with torch.autocast(device.type, torch.bfloat16, enabled=use_bf16):
                    critic_loss, push = adversary.learn(x, pictures, noise_source)
                loss = loss + (pictures * push).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()

            # Step. A gradient that is not finite is the same on every process (they were averaged): all skip it.
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            if torch.isfinite(norm):
                optimizer.step()
                update_average(average, model, config.ema, step)
                bad_in_a_row = 0
            else:
                bad_steps += 1
                bad_in_a_row += 1
            if bad_in_a_row >= config.max_bad_steps:
                raise FloatingPointError(
                    f"{bad_in_a_row} steps in a row were not finite (step {step}, loss {loss.item()}): lower "
                    f"learning_rate (now {config.learning_rate}), raise sigma_min (now {config.sigma_min}), "
                    f"or set precision=fp32; the last checkpoint is kept in {run}"
                )
            step += 1
            seen += len(x) * world

            # Log.
            if step % LOG_EVERY == 0 or step == config.steps:
                metrics |= {
                    "elbo": (log_likelihood - kl).item(),
                    "kl": kl.item(),
                    "mse": F.mse_loss(pictures[: len(x)], x).item(),
                    "sigma": log_sigma.exp().mean().item(),
                    "gradient_norm": norm.item(),
                    "pictures_per_second": seen / (time.monotonic() - started),
                    "bad_steps": bad_steps,
                    **({"critic": critic_loss.item()} if adversary else {}),
                }
                bar.set_postfix_str(_summary(metrics), refresh=False)
                if writer and step % (10 * LOG_EVERY) == 0:
                    for key, value in metrics.items():
                        writer.add_scalar(f"train/{key}", value, step)
            bar.update()

            # Save: at the interval, at the end, and when asked to stop. All processes leave at the same step.
            stop = _agree(received[0] if received else 0, device, world)
            due = time.monotonic() - saved > 60 * config.checkpoint_minutes
            if step == config.steps or stop or due:
                save()
                saved = time.monotonic()
                bar.set_postfix_str(_summary(metrics))
            if stop:
                raise Interrupted(stop)
    if step >= config.steps and not metrics:
        metrics = look(average, dataset, run / "sheets" / f"step-{step:07d}.png", config.mirror) if rank == 0 else {}
    if writer:
        writer.close()
    return metrics


def begin_from(model: VAE, run: Path) -> list[dict[str, Any]]:
    """Give ``model`` the averaged weights of ``run``, what it centres pictures by included; returns that run's past."""
    if not checkpoint.has_one(run):
        raise ValueError(f"--from {run}: no run with a checkpoint is there")
    groups, state = checkpoint.load(run)
    checkpoint.load_into(model, groups["ema"], run)
    recipe = dataclasses.asdict(from_toml(run / "config.toml"))
    return [*state.get("past", []), {"recipe": recipe, **{key: state[key] for key in ("step", "seconds", "machine")}}]


def learning_rate(config: Config, step: int) -> float:
    """Linear warm-up to the peak, then down to ``learning_rate_end`` times the peak.

    Down by half a cosine over what is left; or, with ``cooldown``, over that many last steps by one minus the square
    root of what is done of them (Hagele et al., 2024, arXiv:2405.18392). It comes down twice where a critic comes in:
    the encoder, which rests from then on, has to be at its best, and the decoder begins anew.
    """
    small, critic = config.small_steps, config.adversarial_from if config.adversarial else math.inf
    peak, begin, end = config.learning_rate, 0 if step < small else small, int(min(critic, config.steps))
    if step >= critic:
        peak, begin, end = peak * config.adversarial_pace, config.adversarial_from, config.steps
    if step - begin < config.warmup:  # the finest details, and the critic's push, warm up as well
        return peak * (step - begin + 1) / config.warmup
    warm = max(begin, small) + config.warmup
    first = max(end - config.cooldown, warm) if config.cooldown else warm
    done = min(max(step - first, 0) / max(end - first, 1), 1.0)
    left = 1 - math.sqrt(done) if config.cooldown else 0.5 * (1 + math.cos(math.pi * done))
    return peak * (config.learning_rate_end + (1 - config.learning_rate_end) * left)


def make_optimizer(model: VAE, config: Config) -> torch.optim.Optimizer:
    """AdamW; biases are not decayed."""
    groups = [
        {
            "params": [p for p in model.parameters() if (p.ndim > 1) == matrix],
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for matrix in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta_2), fused=True)


def _batches(config: Config, dataset: Dataset, step: int, rank: int, world: int) -> Iterator[np.ndarray]:
    small = config.small_steps
    if step < small:
        last = min(small, config.steps)
        yield from batches(dataset, "train", step, last, config.small_batch, config.seed, rank, world)
    first, seed = max(step - small, 0), config.seed + bool(small)
    yield from batches(dataset, "train", first, config.steps - small, config.batch, seed, rank, world)


@torch.no_grad()
def update_average(average: VAE, model: VAE, decay: float, step: int) -> None:
    """Exponential moving average of the weights; the decay grows to its value, so that early weights are forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def augment(x: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Mirror, shift, zoom and change the contrast of pictures (n, c, h, w) at random, as the settings say."""
    n, _, height, width = x.shape

    def uniform(extent: float) -> Tensor:
        return (torch.rand(n, generator=generator, device=x.device) * 2 - 1) * extent

    mirror = torch.rand(n, generator=generator, device=x.device) < 0.5
    if config.shift or config.zoom:
        zoom = 1 + uniform(config.zoom)
        flip = torch.where(mirror & config.mirror, -1.0, 1.0)
        affine = torch.zeros(n, 2, 3, device=x.device)
        affine[:, 0, 0], affine[:, 1, 1] = zoom * flip, zoom
        affine[:, 0, 2], affine[:, 1, 2] = uniform(2 * config.shift / width), uniform(2 * config.shift / height)
        grid = F.affine_grid(affine, list(x.shape), align_corners=False)
        # Bicubic, because bilinear blurs what the decoder then learns to draw; it overshoots a little, hence the clamp.
        x = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(0, 1)
    elif config.mirror:
        x = torch.where(mirror[:, None, None, None], x.flip(3), x)
    if config.contrast:
        middle = x.mean((1, 2, 3), keepdim=True)
        gain, offset = 1 + uniform(config.contrast), uniform(config.contrast / 2)
        x = ((x - middle) * gain[:, None, None, None] + middle + offset[:, None, None, None]).clamp(0, 1)
    return x


def set_data_statistics(model: VAE, dataset: Dataset, most: int = 50_000) -> None:
    """Put the training pictures' mean face and standard deviation (of at most ``most``, evenly spread) into the model."""
    rows = dataset.rows("train")
    if len(rows) == 0:
        raise ValueError(f"{dataset.folder} has no training pictures; prepare it from more pictures")
    rows = spread(rows, most)
    total = np.zeros(dataset.image_shape)
    for first in range(0, len(rows), 1024):
        total += dataset.images[rows[first : first + 1024]].sum(0, dtype=np.float64)
    mean = total / len(rows) / 255
    variance = sum(
        float(((dataset.images[rows[i : i + 1024]] / np.float32(255) - mean) ** 2).sum(dtype=np.float64))
        for i in range(0, len(rows), 1024)
    )
    face = torch.from_numpy(mean).float().permute(2, 0, 1)[None]
    model.mean_face.copy_((face + face.flip(3)) / 2)  # mirrored pictures are trained on as well
    model.scale.fill_(max(math.sqrt(variance / len(rows) / mean.size), 1e-3))


@torch.no_grad()
def look(
    model: VAE, dataset: Dataset, sheet: Path, mirror: bool, most: int = 1024, prior: Flow | None = None
) -> dict[str, float]:
    """Metrics on held-out pictures (at most ``most``), and a sheet of reconstructions and samples.

    The aggregate posterior is that of ``most`` training pictures and, when training mirrored them, their mirror images.
    Samples are its Gaussian's, or those of ``prior``.
    """
    split = "held_out" if dataset.held_out.any() else "train"  # a tiny set may hold out none
    rows = spread(dataset.rows(split), most)
    device = model.mean_face.device
    generator = torch.Generator(device).manual_seed(0)
    sums = {"elbo": 0.0, "kl": 0.0, "mse": 0.0}
    for first in range(0, len(rows), 256):
        x = pictures_for(model, dataset.images[rows[first : first + 256]])
        mean, log_variance = model.encode(x)
        noise = torch.randn(mean.shape, generator=generator, device=device)
        picture, log_sigma = model.decode(mean + torch.exp(0.5 * log_variance) * noise)
        kl = kl_from_prior(mean, log_variance).sum(1)
        sums["elbo"] += (gaussian_log_likelihood(x, picture, log_sigma) - kl).sum().item()
        sums["kl"] += kl.sum().item()
        sums["mse"] += F.mse_loss(model.decode(mean)[0].clamp(0, 1), x).item() * len(x)
    posterior = encode_all(model, dataset, spread(dataset.rows("train"), most), mirror)
    u = torch.randn(64, model.latent_size, generator=torch.Generator().manual_seed(1))
    if prior:
        z = prior.raw(u.to(device))
    else:
        centre, factor = whitening(posterior)
        z = (centre + u.double() @ factor.T).float().to(device)
    save_sheet(model, dataset, spread(rows, 16), z, sheet)
    means = {f"{split}/{key}": value / len(rows) for key, value in sums.items()}
    active = float(active_units(posterior.means).sum())
    return {**means, f"{split}/psnr": -10 * math.log10(means[f"{split}/mse"]), "active_units": active}


def has_bf16(device: torch.device) -> bool:
    """Whether the machine multiplies bfloat16 natively; elsewhere it is emulated and slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def machine(device: torch.device, world: int) -> str:
    """What the run ran on, in words."""
    if device.type == "cuda":
        return f"{world} x {torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{world} process(es) of {threads} CPU threads, {platform.machine()}, torch {torch.__version__}"


def _summary(metrics: dict[str, Any]) -> str:
    parts = [f"{metrics.get('pictures_per_second', 0):.0f} pictures/s"]
    for key, label in (("elbo", "ELBO"), ("kl", "KL"), ("mse", "MSE"), ("active_units", "active")):
        if key in metrics:
            parts.append(f"{label} {metrics[key]:.4f}" if key == "mse" else f"{label} {metrics[key]:.0f}")
    if "held_out/elbo" in metrics:
        parts.append(f"held out {metrics['held_out/elbo']:.0f}")
    if metrics.get("bad_steps"):
        parts.append(f"{metrics['bad_steps']} skipped")
    return ", ".join(parts)


@contextlib.contextmanager
def _processes(device: str) -> Iterator[tuple[torch.device, int, int]]:
    """This process's device, rank and the number of processes; joins the group when torchrun started us."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(kind)
    except RuntimeError:
        raise ValueError(f"--device {device!r}: must be auto, cpu, cuda, cuda:N or mps") from None
    if place.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"--device {device!r}: PyTorch finds no such GPU here; use --device cpu")
        if place.index is None:
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if world == 1:
        yield place, 0, 1
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place, rank, world
        dist.barrier()  # the first process writes last; one that left before it took connections away under its feet
    finally:
        gc.collect()  # what holds on to the group goes before it
        dist.destroy_process_group()


def _agree(number: int, device: torch.device, world: int) -> int:
    """The largest signal number that any process received: all of them stop at the same step."""
    if world == 1:
        return number
    flag = torch.tensor([number], device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return int(flag.item())


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; a second one acts as usual."""
    received: list[int] = []
    old: dict[int, Any] = {}

    def note(number: int, _frame: Any) -> None:
        received.append(number)
        for each, handler in old.items():
            signal.signal(each, handler)

    with contextlib.suppress(ValueError):  # only the main thread may listen to signals
        for number in (signal.SIGINT, signal.SIGTERM):
            old[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)


def _check_same_run(run: Path, config: Config, dataset: Dataset, step: int) -> None:
    saved = from_toml(run / "config.toml")
    free = {"checkpoint_minutes", "max_bad_steps"}  # may change between two parts of a run: they change no result
    # Nor does what lies ahead: an end that the learning rate knows nothing of yet, and a critic that has not come in.
    if all(learning_rate(saved, done) == learning_rate(config, done) for done in range(step)):
        free |= {"steps", "cooldown", "adversarial_pace"}
        without = {each.adversarial_from if each.adversarial else math.inf for each in (saved, config)}
        if step <= min(without):
            others = (key for key in FIELDS if key.startswith("critic_"))
            free |= {"adversarial", "adversarial_from", "adversarial_faces", "feature_matching", *others}
    changed = [k for k in FIELDS if k not in free and getattr(saved, k) != getattr(config, k)]
    if changed:
        listed = ", ".join(f"{k} was {getattr(saved, k)!r}, now {getattr(config, k)!r}" for k in changed)
        raise ValueError(
            f"{run} was begun with other settings ({listed}): resume with those, or train into a new folder"
        )
    must_belong(run, dataset)


def _wrap(model: VAE, world: int, use_compile: bool) -> Any:
    """The model as the loop calls it; made anew when the encoder is frozen, for what has no gradient is not averaged."""
    network: Any = DistributedDataParallel(model) if world > 1 else model
    return torch.compile(network) if use_compile else network


def _tensorboard(run: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run / "tensorboard"))


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _append_json(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")

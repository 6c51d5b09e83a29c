"""Devices, processes under torchrun, and the signals that ask a run to stop."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import signal
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from ..errors import UserError


class Interrupted(Exception):
    """Training was asked to stop (Ctrl-C, SIGTERM); the checkpoint is written. ``signal`` is the number received."""

    def __init__(self, number: int):
        self.signal = number
        super().__init__(signal.Signals(number).name)


@contextlib.contextmanager
def processes(device: str) -> Iterator[tuple[torch.device, int, int]]:
    """This process's device, rank and the number of processes; joins the group when torchrun started us.

    Raises ``UserError`` where the device is unknown or absent.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = find_device(device)
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


def find_device(device: str) -> torch.device:
    """``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"`` -> a device that is there, or ``UserError``."""
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    allowed = "must be auto, cpu, cuda, cuda:N or mps"
    try:
        place = torch.device(kind)
    except RuntimeError:
        raise UserError(f"--device {device!r}: {allowed}") from None
    if place.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if place.index is None:
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if (place.index or 0) >= count:
            raise UserError(f"--device {device!r}: PyTorch finds {count} GPUs here; use --device cpu")
        torch.cuda.set_device(place)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif place.type == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(f"--device {device!r}: PyTorch finds no such GPU here; use --device cpu")
    elif place.type != "cpu":
        raise UserError(f"--device {device!r}: {allowed}")
    return place


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


def largest(number: float, device: torch.device, world: int) -> float:
    """The largest of the processes' numbers: so all of them stop, or take the time, at the same step."""
    if world == 1:
        return number
    value = torch.tensor([number], dtype=torch.float32, device=device)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return float(value.item())


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
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


def gathered(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of one shape that all processes have, in the order of their ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return parts

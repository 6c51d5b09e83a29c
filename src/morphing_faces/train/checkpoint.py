"""A heavy, resumable checkpoint: one safetensors file (never a pickle), replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files import whole_file

FORMAT = "1"
FILE = "checkpoint.safetensors"


def save(folder: Path, groups: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Write tensors as ``group/name`` and ``state`` as JSON in the header. Either all of it is there, or the old file."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    with whole_file(folder / FILE) as path:
        try:
            save_file(tensors, path, metadata={"format": FORMAT, "state": json.dumps(state)})
        except SafetensorError as error:  # a full disk, too: the library does not raise OSError
            raise OSError(
                f"{folder / FILE} cannot be written ({error}): free some space; the last checkpoint is kept"
            ) from None


def load(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what ``save`` wrote. Raises ``ValueError`` with the remedy when it is damaged or of another version."""
    path = folder / FILE
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{path} has format {metadata.get('format')!r}, this program reads {FORMAT!r}")
            for key in file.keys():  # noqa: SIM118 - the file is no mapping
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete the folder to start again") from None
    return groups, json.loads(metadata["state"])


def has_one(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint to resume from."""
    return (folder / FILE).is_file()


def load_into(module: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy tensors into a module; one missing, misshapen or too many is named with its expected and found shape."""
    state = module.state_dict()
    for name in tensors:
        if name not in state:
            raise ValueError(
                f"{path}: {name}: expected nothing, found shape {tuple(tensors[name].shape)}; was the recipe changed?"
            )
    for name, own in state.items():
        found = tensors.get(name)
        if found is None or found.shape != own.shape:
            shape = "nothing" if found is None else tuple(found.shape)
            raise ValueError(
                f"{path}: {name}: expected shape {tuple(own.shape)}, found {shape}; was the recipe changed?"
            )
    module.load_state_dict(tensors)


def moments(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> dict[str, Tensor]:
    """Adam's moments and steps by the names of the module's parameters; of those that have had a gradient."""
    names = {id(p): name for name, p in module.named_parameters()}
    return {f"{key}/{names[id(p)]}": value for p, entry in optimizer.state.items() for key, value in entry.items()}


def load_moments(optimizer: torch.optim.Optimizer, module: torch.nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer what ``moments`` took from one."""
    for name, p in module.named_parameters():
        if f"step/{name}" not in tensors:  # a parameter that has had no gradient yet
            continue
        # In the weight's own memory format: the fused optimizer walks both as they lie in memory.
        entry = {key: torch.empty_like(p).copy_(tensors[f"{key}/{name}"]) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": tensors[f"step/{name}"].to(p.device), **entry}

"""A heavy, resumable checkpoint: one file with a checksum over all of it, replaced atomically."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files import atomic_write

FORMAT = 2
FILE = "checkpoint.pt"
DIGEST = 64  # bytes of SHA-256 in hexadecimal, which stand before everything else


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state``, tensors and plain values in nested dictionaries. Either all of it is there, or the old file.

    Raises ``UserError`` where it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    content = buffer.getbuffer()
    with atomic_write(folder / FILE) as path, path.open("wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode())
        file.write(content)


def load(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what ``save`` wrote. Raises ``UserError`` with the remedy when it is missing, damaged or of another version.

    Only tensors and plain values are read: the file cannot run code.
    """
    path = folder / FILE
    remedy = "delete the folder to start again, or put back a copy"
    if not path.is_file():
        raise UserError(f"{folder} has no checkpoint: run morphing-faces train first")
    try:
        with path.open("rb") as file:
            digest, content = file.read(DIGEST), file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise UserError(f"{path} is damaged (its SHA-256 is another one than was written): {remedy}")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no checkpoint ({str(error).splitlines()[0]}): {remedy}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise UserError(f"{path} has format {found!r}, this program reads {FORMAT}: {remedy}")
    return state


def exists(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint to resume from."""
    return (folder / FILE).is_file()


def load_into(module: nn.Module, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Copy tensors into a module. Raises ``UserError`` with the expected and found shape of one that does not fit."""
    own = module.state_dict()
    for name in {**own, **tensors}:
        expected, found = (tuple(each[name].shape) if name in each else "nothing" for each in (own, tensors))
        if expected != found:
            raise UserError(f"{source}: {name}: expected {expected}, found {found}; was the recipe changed?")
    module.load_state_dict(tensors)

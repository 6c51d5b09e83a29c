"""What the dimensions of a bundle are called: a name, and a word for each end. Read from a file, put into a bundle."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .rules import SEED_LIMIT

LONGEST = 40  # characters of a name, and of a word for an end


@dataclass(frozen=True)
class DimensionName:
    """A dimension's name, and what lies at its negative and at its positive end; the words may be empty."""

    name: str
    low: str = ""
    high: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.ends})" if self.ends else self.name

    @property
    def ends(self) -> str:
        """``"dark - light"``, or nothing where the ends have no words."""
        return f"{self.low} - {self.high}" if self.low and self.high else ""


@dataclass(frozen=True)
class Names:
    """The names of all dimensions, in order, and the seeds whose first faces are good to begin with.

    ``decoder`` is the SHA-256, or its beginning, of the network that was looked at: the names fit no other.
    """

    decoder: str
    dimensions: tuple[DimensionName, ...]
    starts: tuple[int, ...] = ()


def of(entries: list[dict[str, Any]]) -> tuple[DimensionName, ...]:
    """The names in a manifest's ``dimensions``; a dimension without one is called by its number."""
    return tuple(
        DimensionName(str(entry.get("name") or f"dimension {k}"), str(entry.get("low", "")), str(entry.get("high", "")))
        for k, entry in enumerate(entries)
    )


def read(path: str | os.PathLike[str]) -> Names:
    """Names from a TOML file: ``decoder``, ``starts``, and ``dimensions``, a list of [name, low end, high end].

    Raises ``UserError`` with one line that names the file and what is wrong.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise UserError(f"{path} is not valid TOML: {error}") from None
    if unknown := set(found) - {"decoder", "starts", "dimensions"}:
        raise UserError(f"{path}: unknown key {min(unknown)!r}; there are decoder, starts and dimensions")
    decoder, starts, rows = found.get("decoder"), found.get("starts", []), found.get("dimensions")
    if not (isinstance(decoder, str) and len(decoder) >= 12):
        raise UserError(f"{path}: decoder = {decoder!r}: must be the first 12 or more digits of decoder.onnx's SHA-256")
    if not (isinstance(starts, list) and all(type(n) is int and 0 <= n <= SEED_LIMIT for n in starts)):
        raise UserError(
            f"{path}: starts = {starts!r:.60}: must be a list of seeds, whole numbers from 0 to {SEED_LIMIT}"
        )
    if not isinstance(rows, list):
        raise UserError(f"{path}: dimensions is missing: a list of [name, low end, high end]")
    for k, row in enumerate(rows):
        words = isinstance(row, list) and len(row) == 3 and all(isinstance(word, str) for word in row)
        if not (words and row[0].strip() and all(len(word) <= LONGEST and word.isprintable() for word in row)):
            raise UserError(
                f"{path}: dimension {k} is {row!r:.60}: must be [name, low end, high end], each at most {LONGEST} letters"
            )
    return Names(decoder, tuple(DimensionName(*row) for row in rows), tuple(starts))


def put(folder: str | os.PathLike[str], names: Names) -> None:
    """Write names into a bundle's manifest, in place of those that are there, and the sheets of the faces it starts with.

    Raises ``UserError`` when they are of another network or of another number of dimensions.
    """
    from . import bundle as bundles
    from . import sheet
    from .files import atomic_write

    found = bundles.find(folder)
    manifest = found.manifest
    expected = manifest["files"]["decoder.onnx"]["sha256"]
    if not expected.startswith(names.decoder):
        raise UserError(
            f"the names are of the decoder {names.decoder[:12]}..., that of {found.name} is {expected[:12]}...: "
            "look at its dimensions (scripts/dimensions.py) and write the names anew"
        )
    if len(names.dimensions) != len(manifest["dimensions"]):
        raise UserError(f"{len(names.dimensions)} names, {found.name} has {len(manifest['dimensions'])} dimensions")
    drawn = {sheet.file_name(seed): sheet.draw(found, seed) for seed in names.starts}

    def edit(manifest: dict[str, Any]) -> None:
        for entry, name in zip(manifest["dimensions"], names.dimensions, strict=True):
            entry.update(name=name.name, low=name.low, high=name.high)
        manifest["starts"] = list(names.starts)
        for old in [file for file in manifest["files"] if sheet.is_sheet(file)]:
            del manifest["files"][old]
            (found.folder / old).unlink(missing_ok=True)
        for file, content in drawn.items():
            with atomic_write(found.folder / file) as path:
                path.write_bytes(content)
            manifest["files"][file] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    found.change(edit)

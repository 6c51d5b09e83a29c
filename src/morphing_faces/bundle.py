"""A bundle: the folder that holds a model. Everything that reads a model reads its manifest and types no constant twice."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import whole_file

FORMAT = 1
DEFAULT = "color"
FILES = ("decoder.onnx", "encoder.onnx", "golden.json")
ENCODER = FILES[1]  # the one that may be missing: a decoder can be adopted without it
SHIPPED = Path(__file__).parent / "bundles"

_KINDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "image_shape": list,
    "channel_order": str,
    "value_range": list,
    "latent_size": int,
    "dimensions": list,
    "attributes": dict,
    "training": dict,
    "figures": dict,
    "licence": str,
    "files": dict,
}


class BundleError(ValueError):
    """The folder is not a bundle that this program can use; the message says why and what to do."""


@dataclass(frozen=True)
class Bundle:
    """A checked folder. ``manifest`` is its ``manifest.json``; files are read, hashed and compared by ``read``."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.manifest["image_shape"]
        return height, width, channels

    @property
    def latent_size(self) -> int:
        return int(self.manifest["latent_size"])

    @property
    def dimensions(self) -> tuple[int, ...]:
        """The latent indices of the interesting dimensions, the one that changes the picture most first."""
        return tuple(entry["latent"] for entry in self.manifest["dimensions"])

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the bundle's files beside its manifest: those of ``FILES`` that it has."""
        return tuple(name for name in FILES if name != ENCODER or self.has_encoder)

    @property
    def has_encoder(self) -> bool:
        """Whether pictures can be turned into codes."""
        return ENCODER in self.manifest["files"]

    def read(self, name: str) -> bytes:
        """The bytes of one of the bundle's files. Raises ``BundleError`` when it is missing, truncated or altered."""
        expected = self.manifest["files"][name]
        path = self.folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}); {REMEDY}") from None
        if len(content) != expected["bytes"]:
            raise BundleError(f"{path} has {len(content)} bytes, expected {expected['bytes']}; {REMEDY}")
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected["sha256"]:
            raise BundleError(f"{path} has SHA-256 {digest[:12]}..., expected {expected['sha256'][:12]}...; {REMEDY}")
        return content

    def golden(self) -> dict[str, Any]:
        """``golden.json``: a few latents with their pixels, a picture with its code, the first random numbers."""
        golden: dict[str, Any] = json.loads(self.read("golden.json"))
        return golden

    def note(self, **figures: Any) -> None:
        """Put measured figures into the manifest, here and on disk. Raises ``OSError`` when it cannot be written."""
        self.manifest["figures"].update(figures)
        with whole_file(self.folder / "manifest.json") as path:
            path.write_text(json.dumps(self.manifest, indent=1) + "\n", encoding="utf-8")


REMEDY = "copy or export the bundle again"


def names() -> list[str]:
    """The names of the shipped bundles, the default first."""
    found = sorted(path.parent.name for path in SHIPPED.glob("*/manifest.json"))
    return sorted(found, key=lambda name: name != DEFAULT)


def find(name_or_path: str | os.PathLike[str] | None = None) -> Bundle:
    """A shipped bundle by name, any other by the path of its folder, the default by ``None``.

    Checks the manifest's version and fields; the other files are checked when they are read.
    Raises ``BundleError``, a ``ValueError``.
    """
    wanted = os.fspath(DEFAULT if name_or_path is None else name_or_path)
    shipped = names()
    if wanted in shipped:
        return _open(SHIPPED / wanted)
    if Path(wanted).is_dir():
        return _open(Path(wanted))
    near = difflib.get_close_matches(wanted, shipped, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise BundleError(f"no bundle {wanted!r}: {hint}give the path of a bundle's folder, or one of {', '.join(shipped)}")


def _open(folder: Path) -> Bundle:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"{folder} is not a bundle: {path.name} cannot be read ({error.strerror}); {REMEDY}"
        ) from None
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); {REMEDY}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BundleError(f"{path} has no 'format': it is not a bundle's manifest; {REMEDY}")
    if manifest["format"] != FORMAT:
        raise BundleError(
            f"{path} has format {manifest['format']!r}, this program reads {FORMAT}: "
            "update morphing-faces, or export the bundle with this version"
        )
    for key, kind in _KINDS.items():
        if not isinstance(manifest.get(key), kind):
            found = "nothing" if key not in manifest else type(manifest[key]).__name__
            raise BundleError(f"{path}: {key!r} is {found}, expected {getattr(kind, '__name__', kind)}; {REMEDY}")
    _check_values(path, manifest)
    return Bundle(folder, manifest)


def _check_values(path: Path, manifest: dict[str, Any]) -> None:
    def need(ok: bool, key: str, allowed: str) -> None:
        if not ok:
            raise BundleError(f"{path}: {key} = {manifest[key]!r:.80}: must be {allowed}; {REMEDY}")

    shape = manifest["image_shape"]
    whole = all(type(n) is int and n > 0 for n in shape)
    need(len(shape) == 3 and whole and shape[2] in (1, 3), "image_shape", "[height, width, 1 or 3]")
    need(
        manifest["channel_order"] == ("grey" if shape[2] == 1 else "RGB"), "channel_order", "'grey' for 1, 'RGB' for 3"
    )
    need(manifest["value_range"] == [0, 1], "value_range", "[0, 1]")
    size = manifest["latent_size"]
    need(size > 0, "latent_size", "more than 0")
    latents = [entry.get("latent") if isinstance(entry, dict) else None for entry in manifest["dimensions"]]
    good = all(type(n) is int and 0 <= n < size for n in latents) and len(set(latents)) == len(latents) >= 2
    need(good, "dimensions", f"at least two, each with another 'latent' from 0 to {size - 1}")
    good = all(
        isinstance(entry := manifest["files"].get(name), dict)
        and isinstance(entry.get("sha256"), str)
        and isinstance(entry.get("bytes"), int)
        for name in FILES
        if name != ENCODER or name in manifest["files"]
    )
    need(good, "files", f"{', '.join(FILES)}, each with sha256 and bytes; only {ENCODER} may be missing")

"""A bundle: the folder that holds a model. Everything that reads a model reads its manifest and types no constant twice."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import textwrap
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, one_line
from .files import atomic_write, parse_json, read_bytes, read_json
from .names import LONGEST, DimensionName
from .names import of as names_of

FORMAT, FORMAT_WITH_SHAPE = 1, 2  # the versions this program writes and reads; 2 has a decoder of two latents
DEFAULT = "color"
FILES = ("decoder.onnx", "encoder.onnx", "golden.json")
ENCODER = FILES[1]  # the one that may be missing: a decoder can be adopted without it
SHAPE = "shape.onnx"  # the one that bundles with shape have beside them
LANDMARKS = 68  # points of a face
SHIPPED = Path(__file__).parent / "bundles"
REMEDY = "copy or export the bundle again"
FILE_LIMIT = 512 << 20  # bytes of one file
MAX_SIDE, MAX_LATENTS = 2048, 16_384

_KINDS: dict[str, type] = {
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


class BundleError(UserError):
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
    def dimension_names(self) -> tuple[DimensionName, ...]:
        """What the interesting dimensions are called, and what lies at their ends; without a name, their numbers."""
        return names_of(self.manifest["dimensions"])

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the bundle's files beside its manifest: those of ``FILES`` that it has."""
        shape = (SHAPE,) if self.has_shape else ()
        return (*(name for name in FILES if name != ENCODER or self.has_encoder), *shape)

    @property
    def has_encoder(self) -> bool:
        """Whether pictures can be turned into codes."""
        return ENCODER in self.manifest["files"]

    @property
    def has_shape(self) -> bool:
        """Whether the decoder draws shape and appearance apart."""
        return "shape" in self.manifest

    def read(self, name: str) -> bytes:
        """The bytes of one of the bundle's files. Raises ``BundleError`` when it is missing, truncated or altered."""
        expected = self.manifest["files"][name]
        path = self.folder / name
        try:
            content = read_bytes(path, FILE_LIMIT)
        except UserError as error:
            raise BundleError(f"{error}; {REMEDY}") from None
        if len(content) != expected["bytes"]:
            raise BundleError(f"{path} has {len(content)} bytes, expected {expected['bytes']}; {REMEDY}")
        digest = hashlib.sha256(content).hexdigest()
        if digest != expected["sha256"]:
            raise BundleError(f"{path} has SHA-256 {digest[:12]}..., expected {expected['sha256'][:12]}...; {REMEDY}")
        return content

    def golden(self) -> dict[str, Any]:
        """``golden.json``: a few latents with their pixels, a picture with its code, the first random numbers."""
        golden: dict[str, Any] = parse_json(self.read("golden.json"), str(self.folder / "golden.json"))
        return golden

    def note(self, **figures: Any) -> None:
        """Put measured figures into the manifest, here and on disk. Raises as :meth:`change` does."""
        self.change(lambda manifest: manifest["figures"].update(figures))

    def change(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Let ``edit`` change the manifest as it is on disk now: what others have put there meanwhile stays.

        Raises ``UserError`` when the decoder has become another meanwhile, ``OSError`` when nothing can be written.
        """
        now = _open(self.folder).manifest
        if now["files"]["decoder.onnx"]["sha256"] != self.manifest["files"]["decoder.onnx"]["sha256"]:
            raise UserError(f"{self.folder} has another decoder than a moment ago: nothing is written; do it again")
        edit(now)
        with atomic_write(self.folder / "manifest.json") as path:
            path.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.manifest.clear()
        self.manifest.update(now)


def names() -> list[str]:
    """The names of the shipped bundles, the default first."""
    found = sorted(path.parent.name for path in SHIPPED.glob("*/manifest.json"))
    return sorted(found, key=lambda name: name != DEFAULT)


def find(name_or_path: str | os.PathLike[str] | None = None) -> Bundle:
    """A shipped bundle by name, any other by the path of its folder, the default by ``None``.

    Checks the manifest's version and fields; the other files are checked when they are read.
    Raises ``BundleError``, a ``UserError``.
    """
    wanted = os.fspath(DEFAULT if name_or_path is None else name_or_path)
    shipped = names()
    if wanted in shipped:
        return _open(SHIPPED / wanted)
    folder = None
    with suppress(RuntimeError, ValueError, OSError):  # no home; a zero byte, or a name longer than any
        if wanted and Path(wanted).expanduser().is_dir():
            folder = Path(wanted).expanduser()
    if folder is not None:
        return _open(folder)
    near = difflib.get_close_matches(wanted, shipped, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    given = one_line(repr(wanted), 200)
    raise BundleError(f"no bundle {given}: {hint}give the path of a bundle's folder, or one of {', '.join(shipped)}")


def _open(folder: Path) -> Bundle:
    path = folder / "manifest.json"
    try:
        manifest = read_json(path)
    except UserError as error:
        what = str(error) if path.exists() else f"{folder} is not a bundle: {error}"
        raise BundleError(f"{what}; {REMEDY}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise BundleError(f"{path} has no 'format': it is not a bundle's manifest; {REMEDY}")
    if manifest["format"] != (FORMAT_WITH_SHAPE if "shape" in manifest else FORMAT):
        raise BundleError(
            f"{path} has format {_shown(manifest['format'])}, this program reads {FORMAT}, and {FORMAT_WITH_SHAPE} of one with shape: "
            "update morphing-faces, or export the bundle with this version"
        )
    for key, kind in _KINDS.items():
        if type(manifest.get(key)) is not kind:
            found = "nothing" if key not in manifest else type(manifest[key]).__name__
            raise BundleError(f"{path}: {key!r} is {found}, expected {kind.__name__}; {REMEDY}")
    _check_values(path, manifest)
    return Bundle(folder, manifest)


def _check_values(path: Path, manifest: dict[str, Any]) -> None:
    def need(ok: bool, key: str, allowed: str) -> None:
        if not ok:
            raise BundleError(f"{path}: {key} = {_shown(manifest[key])}: must be {allowed}; {REMEDY}")

    name = manifest["name"]
    need(0 < len(name) <= 100 and name.isprintable(), "name", "1 to 100 characters that can be printed")
    shape = manifest["image_shape"]
    whole = all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)
    need(len(shape) == 3 and whole and shape[2] in (1, 3), "image_shape", f"[height, width, 1 or 3], up to {MAX_SIDE}")
    need(
        manifest["channel_order"] == ("grey" if shape[2] == 1 else "RGB"), "channel_order", "'grey' for 1, 'RGB' for 3"
    )
    need(manifest["value_range"] == [0, 1], "value_range", "[0, 1]")
    size = manifest["latent_size"]
    need(0 < size <= MAX_LATENTS, "latent_size", f"more than 0, at most {MAX_LATENTS}")
    entries = manifest["dimensions"]
    latents = [entry.get("latent") if isinstance(entry, dict) else None for entry in entries]
    good = all(type(n) is int and 0 <= n < size for n in latents) and len(set(latents)) == len(latents) >= 2
    need(good, "dimensions", f"at least two, each with another 'latent' from 0 to {size - 1}")
    for entry in entries:
        for key, kinds, what in (("share", (int, float), "a number"), ("kl", (int, float), "a number"), ("active", (bool,), "true or false")):  # fmt: skip
            if key in entry and (type(entry[key]) not in kinds or not abs(entry[key]) < 1e9):
                raise BundleError(
                    f"{path}: {key} of dimension {entry['latent']} = {_shown(entry[key])}: must be {what}; {REMEDY}"
                )
        for key in ("name", "low", "high"):
            if key in entry and not (
                isinstance(entry[key], str) and len(entry[key]) <= LONGEST and entry[key].isprintable()
            ):
                what = f"a text of at most {LONGEST} characters"
                raise BundleError(
                    f"{path}: {key} of dimension {entry['latent']} = {_shown(entry[key])}: must be {what}; {REMEDY}"
                )
    for name, entry in manifest["attributes"].items():
        if not _is_attribute(name, entry, size):
            raise BundleError(
                f"{path}: attribute {name!r:.80} lacks low, high, effect, or a direction and a reading of {size} numbers; {REMEDY}"
            )
    with_shape = "shape" in manifest
    if with_shape:
        points = manifest["shape"].get("landmarks") if isinstance(manifest["shape"], dict) else None
        good = isinstance(points, list) and len(points) == LANDMARKS and all(map(_is_point, points))
        need(good, "shape", f"{{'landmarks': {LANDMARKS} finite [x, y]}}")
    good = all(
        isinstance(entry := manifest["files"].get(file), dict)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("bytes")) is int
        for file in (*FILES, *((SHAPE,) if with_shape else ()))
        if file != ENCODER or file in manifest["files"]
    )
    need(good, "files", f"{', '.join(FILES)}, each with sha256 and bytes; only {ENCODER} may be missing")


def _is_point(value: Any) -> bool:
    return _are_numbers(value, 2)


def _is_attribute(name: str, entry: Any, size: int) -> bool:
    if not isinstance(entry, dict):
        return False
    words = [name, entry.get("low"), entry.get("high")]
    return (
        all(isinstance(word, str) and word.isprintable() for word in words)
        and _are_numbers([entry.get("effect")], 1)
        and all(_are_numbers(entry.get(key), size) for key in ("direction", "reading"))
    )


def _are_numbers(value: Any, count: int) -> bool:
    """Whether it is a list of so many numbers, none of them beyond a million."""
    numbers = isinstance(value, list) and len(value) == count and all(type(v) in (int, float) for v in value)
    return numbers and all(abs(v) < 1e6 for v in value)


# --- what is in one, as text


def title(bundle: Bundle) -> str:
    """Name, shape and latent dimensions in a line."""
    height, width, _ = bundle.image_shape
    order = bundle.manifest["channel_order"]
    return f"{bundle.name:<12}{height}x{width} {order}, {bundle.latent_size} latent dimensions"


def describe(bundle: Bundle, table: Callable[[str, Any], str]) -> str:
    """What ``morphing-faces info`` says: lines of text. ``table`` draws the figures of an evaluation."""
    manifest = bundle.manifest
    height, width, _ = bundle.image_shape
    lines = [
        f"{bundle.name}: {height}x{width} {manifest['channel_order']}, {bundle.latent_size} latent dimensions",
        f"folder   {one_line(str(bundle.folder))}",
    ]
    for part in ("training", "figures"):
        lines.append(part)
        for key, value in manifest[part].items():
            if key == "evaluation":
                lines.append("  " + table(bundle.name, value).replace("\n", "\n  "))
            else:
                lines += _row(key, _runs(value) if key == "past" else _short(value))
    lines.append("dimension  latent  share of the visible change  KL (nats)  active  name")
    for number, (entry, name) in enumerate(zip(manifest["dimensions"], bundle.dimension_names, strict=True)):
        share, kl = (
            format(entry[key], form) if key in entry else "" for key, form in (("share", ".1%"), ("kl", ".2f"))
        )
        active = ("yes" if entry["active"] else "no") if "active" in entry else ""
        lines.append(f"{number:>9}{entry['latent']:>8}{share:>27}{kl:>11}{active:>8}  {name}".rstrip())
    if manifest["attributes"]:
        lines.append("knob                   effect of one unit, in standard deviations")
        for name, entry in manifest["attributes"].items():
            ends = one_line(f"{entry['low']} - {entry['high']}", 80)
            lines.append(f"{one_line(name, 20):<22}{float(entry['effect']):>5.2f}  {ends}")
    lines += [f"{file:<14}{manifest['files'][file]['bytes']:>11,} bytes, SHA-256 checked" for file in bundle.files]
    return "\n".join([*lines, f"licence  {one_line(manifest['licence'])}"])


def _row(key: str, value: str) -> list[str]:
    """A key and its value, which goes on in further lines where it is long."""
    first, *others = textwrap.wrap(one_line(value, 4000), 100) or [""]
    return [f"  {one_line(key, 80):<26}{first}", *(f"{'':<28}{line}" for line in others)]


def _runs(value: Any) -> str:
    """The runs that one began from: their names and how long they were, for what each was told is long."""
    if not (isinstance(value, list) and all(isinstance(run, dict) for run in value)):
        return _short(value)
    parts = []
    for run in value:
        recipe = run.get("recipe")
        name = recipe.get("name", "?") if isinstance(recipe, dict) else "?"
        parts.append(f"{_short(name)}, {_short(run.get('step', '?'))} steps")
    return "; then ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    return f"{value:,}" if type(value) is int else str(value)


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value), 80)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"

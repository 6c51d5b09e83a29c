"""The settings of a training run: one frozen dataclass, read from TOML."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from ..errors import UserError, one_line, reason
from ..files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_LATENT = 4096
MAX_WIDTH = 16_384
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. Each default stands with its reason.

    Raises ``UserError`` naming the key, its value and what is allowed.
    """

    # --- the model
    name: str = "untitled"  # the bundle's name when it is exported
    # "mlp" is the 2014 network: fully connected, rectified linear units; "conv" is for larger pictures.
    network: str = "mlp"
    latent_size: int = 400  # as on the 2014 page; most of them switch themselves off
    # mlp: widths of the encoder's hidden layers; the decoder's are the same reversed.
    hidden: tuple[int, ...] = (2000, 2000)
    # conv: channels at half the picture's side, at a quarter, ..., in both networks.
    widths: tuple[int, ...] = (32, 64, 128, 224, 320)
    # conv: residual blocks at each of those sides.
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 1, 2)
    decoder_blocks: tuple[int, ...] = (1, 1, 2, 2, 2)
    # conv: shape and appearance apart, where the pictures have landmarks.
    shape: bool = True
    # Lower bound of p(x|z)'s standard deviation, pixel range 0 to 1; without one the density diverges.
    sigma_min: float = 0.02

    # --- the objective
    kl_weight: float = 1.0  # 1 is the evidence lower bound itself
    # Steps over which the KL weight grows from 0, so that latents are used before they are priced.
    kl_warmup: int = 2000
    # Weight of a critic's opinion; 0 trains without one. With one the run goes on from another, by --from.
    critic: float = 0.0
    # The decoder rests: when a critic has changed what it draws, the encoder learns to read it anew. Goes on by --from, too.
    encoder_only: bool = False
    # conv, encoder_only: channels of the coarsest features of a smaller decoder by which the encoder draws its own answer, to
    # correct it by what the drawing misses. It begins as the decoder, which is why it comes last. 0: it looks once.
    second_look: int = 0

    # --- the prior
    # Layers of an invertible map between u and the code, fitted to the aggregate posterior; 0 is its Gaussian alone.
    flow_layers: int = 0
    # Steps down the gradient that bring each picture's code nearer to the bound's optimum than the encoder's answer is, before
    # the prior is fitted to the codes; 0 takes the encoder's. A decoder draws more of a face than its encoder asks of it.
    refine: int = 0
    # Weight of a stored code's length under the prior, in nats; more than 0: both networks rest, and the codes of the run that
    # this one goes on from, by --from, are refined by so many steps each. The prior that is fitted to them next breaks fewer faces.
    code_weight: float = 0.0
    # Every training picture keeps a code of its own, which goes down the bound's gradient with each visit, instead of the
    # encoder's answer, and the encoder learns to answer it; a first code is refined.
    stored_codes: bool = False
    # How far random faces go in u, in parts of how far the pictures' codes go: along the flow's visible directions, along the
    # others that it maps, and along the rest. A flow fits what lies far out worst.
    spread: tuple[float, ...] = (1.0, 1.0, 1.0)

    # --- the data
    mirror: bool = True  # a mirrored face is a face: doubles the data
    shift: float = 0.0  # random shift of the training pictures, in pixels either way
    zoom: float = 0.0  # random zoom of the training pictures, as a fraction either way

    # --- the optimizer
    batch: int = 256  # pictures a step, over all processes together
    steps: int = 20_000  # length of the run; the learning rate ends here
    learning_rate: float = 1e-3  # peak
    warmup: int = 500  # steps over which the learning rate grows from 0: AdamW's second moments are noise at first
    # The learning rate rests at its peak and falls over this last part of the run: until it falls, the run can be made
    # longer.
    cooldown: float = 0.3
    clip: float = 1.0  # gradient norm, in nats per pixel value
    ema: float = 0.999  # decay of the averaged weights, which are the ones exported

    # --- the machine
    seed: int = 0
    precision: str = "auto"  # "bf16" or "fp32"; auto takes bf16 where the processor multiplies it natively
    compile: str = "auto"  # "on" or "off"; auto compiles on a GPU, where it helps, and not on a CPU
    checkpoint_minutes: float = 5.0  # at most this much is lost when the machine dies

    def __post_init__(self) -> None:
        def need(ok: bool, key: str, allowed: str) -> None:
            if not ok:
                raise UserError(f"{key} = {_shown(getattr(self, key))}: must be {allowed}")

        need(0 < len(self.name) <= 100 and self.name.isprintable(), "name", "1 to 100 characters that can be printed")
        need(self.network in ("mlp", "conv"), "network", "'mlp' or 'conv'")
        need(self.precision in ("auto", "bf16", "fp32"), "precision", "'auto', 'bf16' or 'fp32'")
        need(self.compile in ("auto", "on", "off"), "compile", "'auto', 'on' or 'off'")
        need(2 <= self.latent_size <= MAX_LATENT, "latent_size", f"from 2 to {MAX_LATENT}")
        for key in ("hidden", "widths"):
            values = getattr(self, key)
            whole = 0 < len(values) <= 16 and all(0 < value <= MAX_WIDTH for value in values)
            need(whole, key, f"a list of 1 to 16 widths from 1 to {MAX_WIDTH}")
        need(1 < len(self.widths) <= 10, "widths", "a list of 2 to 10 widths")
        for key in ("encoder_blocks", "decoder_blocks"):
            values = getattr(self, key)
            fits = self.network == "mlp" or (len(values) == len(self.widths) and all(0 < n <= 64 for n in values))
            need(fits, key, f"a list of {len(self.widths)} numbers from 1 to 64, one for each width")
        for key, most in (("batch", 65_536), ("steps", 10**9)):
            need(1 <= getattr(self, key) <= most, key, f"from 1 to {most}")
        for key, most in (
            ("kl_warmup", 10**9),
            ("warmup", 10**9),
            ("seed", 2**32 - 1),
            ("flow_layers", 64),
            ("refine", 64),
        ):
            need(0 <= getattr(self, key) <= most, key, f"from 0 to {most}")
        for key in ("shift", "kl_weight", "critic", "code_weight", "checkpoint_minutes"):
            need(0 <= getattr(self, key) < 1e6, key, "from 0 to a million")
        need(
            len(self.spread) == 3 and all(0.1 <= part <= 10 for part in self.spread),
            "spread",
            "3 numbers from 0.1 to 10",
        )
        need(self.flow_layers > 0 or set(self.spread) == {1.0}, "spread", "1 each time when flow_layers is 0")
        need(0 < self.learning_rate <= 1, "learning_rate", "more than 0 and at most 1")
        need(1e-4 <= self.sigma_min <= 1, "sigma_min", "from 0.0001 to 1")
        need(0 < self.clip < math.inf, "clip", "more than 0 and finite")
        need(
            self.kl_weight > 0 or not self.refine,
            "refine",
            "0 when kl_weight is 0: a code without a price has no optimum",
        )
        need(
            not self.stored_codes or (self.kl_weight > 0 and not self.shift and not self.zoom),
            "stored_codes",
            "false when kl_weight is 0, or with shift or zoom: a picture that is another each time has no code of its own",
        )
        for key in ("ema", "zoom"):
            need(0 <= getattr(self, key) < 1, key, "at least 0 and less than 1")
        need(0 <= self.cooldown <= 1, "cooldown", "from 0 to 1")
        need(self.network == "conv" or not self.critic, "critic", "0 when network is 'mlp'")
        need(
            not self.code_weight or (self.refine > 0 and self.stored_codes),
            "code_weight",
            "0 unless there are stored codes and steps to refine them by",
        )
        need(
            not (self.code_weight and (self.critic or self.encoder_only)),
            "code_weight",
            "0 with a critic or encoder_only, which teach a network: refine codes in a run of their own",
        )
        need(
            not (self.critic and self.encoder_only),
            "encoder_only",
            "false when there is a critic, which teaches the decoder",
        )
        last = self.widths[-1]
        need(0 <= self.second_look <= last, "second_look", f"from 0 to the last of widths, {last}")
        need(
            not self.second_look or (self.encoder_only and self.network == "conv"),
            "second_look",
            "0 unless encoder_only is true and network is 'conv'",
        )

    @property
    def goes_on(self) -> str:
        """The key by which a run of this recipe has to go on from another, "" where it may begin by itself."""
        return next((key for key in ("critic", "encoder_only", "code_weight") if getattr(self, key)), "")

    def must_fit(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ``UserError`` unless the convolutions can halve pictures of this shape as often as there are widths."""
        height, width, _ = image_shape
        unit = 2 ** len(self.widths)
        if height != width or height % unit:
            raise UserError(
                f"the pictures are {width}x{height}, but this network needs squares whose side is a multiple of {unit}: "
                "prepare them with another --size, or change the recipe's widths"
            )

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some settings changed; unknown keys are refused as in TOML."""
        return from_dict({**dataclasses.asdict(self), **changes})

    def to_toml(self) -> str:
        """The settings as TOML text which ``from_toml`` reads back."""
        return tomli_w.dumps(dataclasses.asdict(self))


FIELDS: dict[str, Any] = typing.get_type_hints(Recipe)


def from_dict(settings: dict[str, Any], where: str = "settings") -> Recipe:
    """Build a ``Recipe``, refusing unknown keys and wrong types with a line that names them."""
    for key in settings:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(FIELDS)}"
            raise UserError(one_line(f"{where}: unknown key {key!r:.80}{hint}"))
    return Recipe(**{key: _coerce(value, FIELDS[key], f"{where}: {key}") for key, value in settings.items()})


def from_toml(path: str | Path) -> Recipe:
    """Read a recipe file, UTF-8 with or without a byte order mark. Raises ``UserError`` naming the file and what is wrong."""
    text = read_text(path, MAX_FILE_BYTES)
    try:
        settings = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a whole number of thousands of digits is a ValueError, too
        raise UserError(f"{path}: not valid TOML: {reason(error)}") from None
    return from_dict(settings, where=str(path))


def recipe(name_or_path: str) -> Recipe:
    """A shipped recipe by name (``"classic"``) or any TOML file by path."""
    shipped = {
        entry.name.removesuffix(".toml"): entry
        for entry in resources.files("morphing_faces").joinpath("recipes").iterdir()
        if entry.name.endswith(".toml")
    }
    if name_or_path in shipped:
        with resources.as_file(shipped[name_or_path]) as path:
            return from_toml(path)
    if Path(name_or_path).is_file():
        return from_toml(name_or_path)
    raise UserError(f"no recipe {_shown(name_or_path)}: give a TOML file, or one of {', '.join(sorted(shipped))}")


def parse_overrides(pairs: typing.Iterable[str]) -> dict[str, Any]:
    """Turn ``["batch=64", "hidden=[100, 100]"]`` into a dictionary; values are read as TOML, bare words as text."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set {_shown(pair)}: must be key=value, for example --set batch=64")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            overrides[key.strip()] = text.strip()
    return overrides


def _coerce(value: Any, kind: Any, where: str) -> Any:
    if typing.get_origin(kind) is tuple:
        item_kind = typing.get_args(kind)[0]
        what = {int: "whole numbers", float: "numbers"}[item_kind]
        allowed = (int,) if item_kind is int else (int, float)
        if not isinstance(value, (list, tuple)) or any(type(item) not in allowed for item in value):
            raise UserError(f"{where} = {_shown(value)}: must be a list of {what}")
        return tuple(_coerce(item, item_kind, where) for item in value)
    if kind is float and type(value) is int and abs(value) < 10**15:
        return float(value)
    if type(value) is kind:
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
    raise UserError(f"{where} = {_shown(value)}: must be {names[kind]}")


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value), 80)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"

"""The settings of a training run: one frozen dataclass, read from TOML."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
import types
import typing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Config:
    """Everything that decides what a run computes. Each default stands with its reason.

    Raises ``ValueError`` naming the key, its value and what is allowed.
    """

    # --- the model
    name: str = "untitled"  # the bundle's name when it is exported
    # "mlp" is the 2014 network: fully connected, rectified linear units; "conv" is for larger pictures.
    network: str = "mlp"
    latent_size: int = 400  # as on the 2014 page; most of them switch themselves off
    # mlp: widths of the encoder's hidden layers; the decoder's are the same reversed.
    hidden: tuple[int, ...] = (2000, 2000)
    # conv: channels at half the picture's side, at a quarter, ...
    encoder_widths: tuple[int, ...] = (32, 64, 128, 224, 320)
    decoder_widths: tuple[int, ...] = (32, 64, 128, 224, 320)
    # conv: residual blocks at each of those sides.
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 1, 2)
    decoder_blocks: tuple[int, ...] = (1, 1, 2, 2, 2)
    # conv: so many first steps, of so many pictures, are done at half the side, without the first of the widths.
    small_steps: int = 0
    small_batch: int = 32
    # p(x|z)'s standard deviation: one the decoder says of each "picture", or one "shared" by all.
    sigma: str = "picture"
    # Lower bound of p(x|z)'s standard deviation, pixel range 0 to 1; without one the density diverges.
    sigma_min: float = 0.02

    # --- the objective
    kl_weight: float = 1.0  # 1 is the evidence lower bound itself
    # Steps over which the KL weight grows from 0, so that latents are used before they are priced.
    kl_warmup: int = 2000

    # --- the prior
    # Layers of an invertible map between u and the code, fitted to the aggregate posterior; 0 is its Gaussian alone.
    flow_layers: int = 0
    flow_width: int = 256  # of each layer's hidden layers
    flow_steps: int = 1000  # of 512 codes; twice as many begin to learn 46,000 codes by heart

    # --- the learned similarity; adversarial = 0 leaves it out
    # Weight of what the critic has to say against the likelihood, in nats per pixel value for each of its own nats.
    adversarial: float = 0.0
    adversarial_from: int = 0  # the step at which the critic comes in and the encoder, with its posterior, is final
    # How much more the critic pushes new faces than reconstructions: the likelihood does not hold them back, and
    # what is done to them costs PSNR only by the weights that both share.
    adversarial_faces: float = 1.0
    # Peak of the decoder's learning rate from then on, as a fraction of learning_rate: it refines what is there.
    adversarial_pace: float = 0.1
    feature_matching: float = 1.0  # weight of the distance of features, relative to their size, against the scores'
    critic_width: int = 64  # channels of what it learns, at every scale
    critic_learning_rate: float = 2e-4  # constant
    # The critic sees pictures shifted by up to this many pixels: few pictures are soon learned by heart.
    critic_shift: int = 8
    critic_colour: float = 0.2  # and with brightness, contrast and saturation changed by up to this fraction

    # --- the data
    mirror: bool = True  # a mirrored face is a face: doubles the data
    shift: float = 0.0  # random shift of the training pictures, in pixels either way
    zoom: float = 0.0  # random zoom of the training pictures, as a fraction either way
    contrast: float = 0.0  # random gain around the picture's mean and random offset, as a fraction either way

    # --- the optimizer
    batch: int = 256  # pictures a step, over all processes together
    steps: int = 20_000  # length of the run; the learning rate ends here
    learning_rate: float = 1e-3  # peak
    learning_rate_end: float = 0.02  # what is left of it at the end, as a fraction of the peak
    # 0: the learning rate follows half a cosine over the whole run. More: it rests at the peak and falls over this many
    # last steps, so that a run can be made longer for as long as it has not begun to fall. With a critic it falls
    # twice: before it comes in, and at the end.
    cooldown: int = 0
    warmup: int = 500  # steps over which the learning rate grows from 0: AdamW's second moments are noise at first
    beta_2: float = 0.99  # a shorter memory than 0.999: gradients of a VAE change scale as sigma shrinks
    weight_decay: float = 0.01  # decoupled (AdamW), on matrices only
    dropout: float = 0.0  # in the encoder's hidden layers: a small set of pictures is otherwise learned by heart
    clip: float = 1.0  # gradient norm, in nats per pixel value
    ema: float = 0.999  # decay of the averaged weights, which are the ones exported
    max_bad_steps: int = 20  # non-finite steps in a row after which the run stops

    # --- the machine
    seed: int = 0
    precision: str = "auto"  # "bf16" or "fp32"; auto takes bf16 where the processor multiplies it natively
    compile: str = "auto"  # "on" or "off"; auto compiles on a GPU, where it helps, and not on a CPU
    checkpoint_minutes: float = 5.0  # at most this much is lost when the machine dies

    def __post_init__(self) -> None:
        def need(ok: bool, key: str, allowed: str) -> None:
            if not ok:
                raise ValueError(f"{key} = {getattr(self, key)!r}: must be {allowed}")

        need(self.network in ("mlp", "conv"), "network", "'mlp' or 'conv'")
        need(self.sigma in ("picture", "shared"), "sigma", "'picture' or 'shared'")
        need(self.network == "mlp" or self.sigma == "shared", "sigma", "'shared' when network is 'conv'")
        need(self.precision in ("auto", "bf16", "fp32"), "precision", "'auto', 'bf16' or 'fp32'")
        need(self.compile in ("auto", "on", "off"), "compile", "'auto', 'on' or 'off'")
        for key in ("hidden", "encoder_widths", "decoder_widths"):
            need(len(getattr(self, key)) > 0 and min(getattr(self, key)) > 0, key, "a list of positive widths")
        for key in ("batch", "steps", "max_bad_steps", "small_batch", "flow_width", "flow_steps"):
            need(getattr(self, key) >= 1, key, "at least 1")
        need(self.critic_width >= 2, "critic_width", "at least 2")
        need(self.latent_size >= 2, "latent_size", "at least 2")
        for key in ("encoder", "decoder"):
            widths, blocks = getattr(self, f"{key}_widths"), getattr(self, f"{key}_blocks")
            need(len(widths) > 1, f"{key}_widths", "at least two widths")
            if self.network == "conv":
                fits = len(blocks) == len(widths) and min(blocks) > 0
                need(fits, f"{key}_blocks", f"a list of {len(widths)} positive numbers, one for each width")
        need(self.network == "conv" or not self.small_steps, "small_steps", "0 when network is 'mlp'")
        late = not self.adversarial or self.adversarial_from >= self.small_steps
        need(late, "adversarial_from", f"at least small_steps, {self.small_steps}")
        for key in ("kl_warmup", "warmup", "seed", "shift", "weight_decay", "kl_weight", "checkpoint_minutes",
                    "adversarial", "adversarial_from", "adversarial_faces", "feature_matching", "critic_shift", "cooldown", "small_steps", "flow_layers"):  # fmt: skip
            need(getattr(self, key) >= 0, key, "0 or more")
        for key in ("learning_rate", "critic_learning_rate", "adversarial_pace", "sigma_min", "clip"):
            need(0 < getattr(self, key) < math.inf, key, "more than 0 and finite")
        for key in ("ema", "dropout", "zoom", "contrast", "critic_colour", "beta_2"):
            need(0 <= getattr(self, key) < 1, key, "at least 0 and less than 1")
        need(0 <= self.learning_rate_end <= 1, "learning_rate_end", "from 0 to 1")

    def replace(self, **changes: Any) -> Config:
        """A copy with some settings changed; unknown keys are refused as in TOML."""
        return from_dict({**dataclasses.asdict(self), **changes})

    def to_toml(self) -> str:
        """The settings as TOML text which ``from_toml`` reads back."""
        return "".join(f"{key} = {_toml_value(value)}\n" for key, value in dataclasses.asdict(self).items())


FIELDS: dict[str, Any] = typing.get_type_hints(Config)


def from_dict(settings: dict[str, Any], where: str = "settings") -> Config:
    """Build a ``Config``, refusing unknown keys and wrong types with a line that names them."""
    for key in settings:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(FIELDS)}"
            raise ValueError(f"{where}: unknown key {key!r}{hint}")
    return Config(**{key: _coerce(value, FIELDS[key], f"{where}: {key}") for key, value in settings.items()})


def from_toml(path: str | Path) -> Config:
    """Read a recipe file. Raises ``ValueError`` when it is not TOML or a key is unknown, ``FileNotFoundError``."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    return from_dict(settings, where=str(path))


def recipe(name_or_path: str) -> Config:
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
    raise ValueError(f"no recipe {name_or_path!r}: give a TOML file, or one of {', '.join(sorted(shipped))}")


def parse_overrides(pairs: typing.Iterable[str]) -> dict[str, Any]:
    """Turn ``["batch=64", "hidden=[100, 100]"]`` into a dictionary; values are read as TOML, bare words as text."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"--set {pair!r}: must be key=value, for example --set batch=64")
        try:
            overrides[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            overrides[key.strip()] = text.strip()
    return overrides


def _coerce(value: Any, kind: Any, where: str) -> Any:
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
            raise ValueError(f"{where} = {value!r}: must be a list of whole numbers")
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, types.UnionType) or type(value) is kind:
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
    raise ValueError(f"{where} = {value!r}: must be {names[kind]}")


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's basic strings are JSON's
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return repr(value)

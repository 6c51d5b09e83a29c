"""A run -> a bundle: coordinates folded in, ONNX with fp16 weights that compress, checked before anything is written."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from .. import __version__, noise
from ..bundle import FORMAT, FORMAT_WITH_SHAPE
from ..dataset import Dataset, must_belong, spread
from ..errors import UserError
from ..files import BUNDLE, output_folder, replace_folder
from ..golden import decimals, golden_values
from ..pictures import to_uint8
from .flow import left_by
from .latents import Latents, Posterior, encode_all, find_latents, fit_prior
from .loop import load_run
from .onnx_export import (
    FP16_TOLERANCE,
    FP32_TOLERANCE,
    QUANTILE,
    check_exact,
    must_agree,
    run_onnx,
    to_onnx,
    with_half_weights,
)
from .recipe import Recipe
from .rounding import rounded, with_known
from .trainer import training_rows
from .vae import VAE, active_units, kl_from_prior
from .validate import validate

INTERESTING = 29  # dimensions a person can pick, as on the 2014 page
CHECKED = 128  # faces whose pictures are compared
ROUNDED = 0.7 * FP16_TOLERANCE  # what rounding may change of them; the rest is for faces that it did not see
ROUNDED_BY = 16  # of these faces
DRAWS = 64  # of each code's posterior, that its deviation in z is measured from where there is a flow
PROBES = 8192  # vector-Jacobian products that order the dimensions
VALIDATED = 4096  # held-out pictures measured, at most
SUMMED_UP = 4096  # codes that KL and activity of each dimension are taken from, at most: with a flow each costs DRAWS

Say = Callable[[str], None]
Modules = dict[str, nn.Module]  # by file of the bundle
Inputs = dict[str, dict[str, Tensor]]
Outputs = dict[str, list[str]]


class Entry(nn.Module):
    """z -> what the folded decoder reads: with coupling layers the rotated and bent z, else z itself."""

    rotation: Tensor

    def __init__(self, latents: Latents):
        super().__init__()
        self.flow = latents.flow
        self.register_buffer("rotation", latents.turn.T.float().contiguous())

    def forward(self, z: Tensor) -> Tensor:
        return self.flow.bend(z @ self.rotation) if self.flow.layers else z


class PictureDecoder(nn.Module):
    """z (n, latent_size) -> picture (n, height, width, channels) in [0, 1], the ``decoder.onnx`` of a bundle without shape."""

    def __init__(self, model: VAE, latents: Latents):
        super().__init__()
        self.decoder, self.entry = model.decoder, Entry(latents)

    def forward(self, u: Tensor) -> Tensor:
        return to_nhwc(self.decoder(self.entry(u))[0])


class PartsDecoder(nn.Module):
    """The appearance of ``u`` on the shape of ``shape``: the ``decoder.onnx`` of a bundle with shape.

    Both are (n, latent_size) -> picture and appearance (n, height, width, channels) in [0, 1], and field (n, 16, 16, 2).
    """

    def __init__(self, model: VAE, latents: Latents):
        super().__init__()
        self.decoder, self.entry = model.decoder, Entry(latents)

    def forward(self, u: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.entry.flow.layers:
            # Both through the flow together: its many small steps take as long for two as for one.
            both = self.entry(torch.stack([u, shape], 1).flatten(0, 1)).unflatten(0, (-1, 2))
            u, shape = both[:, 0], both[:, 1]
        picture, appearance, field = self.decoder.parts(u, shape)  # type: ignore[operator]
        return to_nhwc(picture), to_nhwc(appearance), field.permute(0, 2, 3, 1)


class FieldDecoder(nn.Module):
    """z (n, latent_size) -> field (n, 16, 16, 2) in pixels, the bundle's small ``shape.onnx``."""

    def __init__(self, model: VAE, latents: Latents):
        super().__init__()
        self.shape, self.entry = model.decoder.shape, Entry(latents)

    def forward(self, u: Tensor) -> Tensor:
        field: Tensor = self.shape(self.entry(u))  # type: ignore[operator]
        return field.permute(0, 2, 3, 1)


class PictureEncoder(nn.Module):
    """picture (n, height, width, channels) in [0, 1] -> mean and std of q(z|x), the bundle's ``encoder.onnx``.

    q(code|x) is diagonal; turned into z it is not, and ``std`` is the root of the diagonal of its covariance: exact where
    z is linear in the code, else measured from ``DRAWS`` draws, the same for every picture.
    """

    unroot: Tensor
    rotation: Tensor
    draws: Tensor

    def __init__(self, model: VAE, latents: Latents):
        super().__init__()
        self.encoder, self.flow = model.encoder, latents.flow
        unroot = torch.linalg.inv(latents.flow.root.double()).T
        self.register_buffer(
            "unroot", (unroot if self.flow.layers else unroot @ latents.turn_back).float().contiguous()
        )
        self.register_buffer("rotation", latents.turn_back.float().contiguous())
        half = torch.randn(DRAWS // 2, model.latent_size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("draws", torch.cat([half, -half]) if self.flow.layers else torch.zeros(0))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(picture.permute(0, 3, 1, 2))
        return self.answer(mean, torch.exp(0.5 * log_variance.clamp(-12, 12)))

    def answer(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """What the folded encoder says, mean (n, latent_size), and the code's own std -> mean and std of z."""
        if not self.flow.layers:
            return mean, (std.square() @ self.unroot.square()).sqrt()
        drawn = mean[:, None] + (std[:, None] * self.draws) @ self.unroot
        codes = torch.cat([mean[:, None], drawn], 1)
        z = (self.flow.straighten(codes.flatten(0, 1))[0] @ self.rotation).unflatten(0, (-1, 1 + DRAWS))
        own, drawn = z[:, 0], z[:, 1:]
        centre = drawn.sum(1, keepdim=True) / DRAWS
        return own, ((drawn - centre).square().sum(1) / DRAWS).sqrt()


def to_nhwc(picture: Tensor) -> Tensor:
    """The networks' pictures -> those of a bundle, (n, height, width, channels) in [0, 1]."""
    return picture.clamp(0, 1).permute(0, 2, 3, 1)


@torch.no_grad()
def fold(model: VAE, latents: Latents) -> None:
    """Let the decoder's first layers read z and the encoder's mean answer in z. In place; done in float64.

    With coupling layers they read and answer in whitened codes, between the layers and the networks. Only the mean is
    folded: the encoder's variances stay those of the code.
    """
    flow = latents.flow
    mean, matrix = flow.mean.double(), flow.root.double()
    if not flow.layers:
        matrix = matrix @ latents.turn
    inverse = torch.linalg.inv(matrix)

    def into(layer: nn.Linear) -> None:
        weight = layer.weight.double()
        layer.bias.copy_((layer.bias.double() + weight @ mean).float())
        layer.weight.copy_((weight @ matrix).float())

    readers = model.decoder.readers()
    if (look := model.encoder.second_look) is not None:
        readers += look.drawer.readers()
        look.correction.weight.copy_((inverse @ look.correction.weight.double() @ matrix).float())
    for layer in readers:
        into(layer)
    last = model.encoder.mean
    last.bias.copy_((inverse @ (last.bias.double() - mean)).float())
    last.weight.copy_((inverse @ last.weight.double()).float())


def export(
    run: Path,
    dataset: Dataset,
    out: Path,
    *,
    licence: str,
    overwrite: bool = False,
    probes: int = PROBES,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Write the bundle of ``run`` into the folder ``out`` and return its manifest. ``say`` hears what is under way.

    Raises ``UserError`` when the run, the data or the place cannot be used, and ``Disagreement`` when PyTorch and ONNX
    Runtime differ by more than 1e-4 in fp32, or the stored weights change pictures by more than 1/255 at the 99.9th
    percentile. Either way nothing is written.
    """
    output_folder(out, BUNDLE, overwrite=overwrite)  # said now, not after minutes of work
    model, recipe, saved = load_run(run, dataset.image_shape)
    must_belong(run, dataset)
    rows = training_rows(recipe, dataset)
    if len(rows) < recipe.latent_size:
        raise UserError(
            f"{dataset.folder} has {len(rows)} training pictures, fewer than the {recipe.latent_size} latent dimensions"
        )
    flow = left_by(saved["trainer"], recipe)  # a critic's decoder learned to draw what it gives
    if flow is None:
        say("encoding the training pictures")
        flow = fit_prior(model, dataset, recipe, saved["trainer"].get("codes"))
    say("finding the latent coordinates")
    latents = find_latents(model, flow, probes, recipe.seed, recipe.spread)
    say("measuring held-out pictures")
    sheet = run / "sheets" / "export.png" if os.access(run, os.W_OK) else None  # a run that may only be read has none
    figures = validate(model, recipe, dataset, sheet, flow, VALIDATED)

    say("writing the networks")
    reference = copy.deepcopy(model)
    fold(model, latents)
    z = torch.from_numpy(noise.normal(0, 0, CHECKED, recipe.latent_size))
    modules, inputs, outputs = networks(model, latents, z)
    must_fold(reference, latents, modules["decoder.onnx"], inputs["decoder.onnx"])
    exact = {
        name: to_onnx(module, {key: tensor[:2] for key, tensor in inputs[name].items()}, outputs[name])
        for name, module in modules.items()
    }
    say("rounding the weights")
    half = rounded_together({name: with_half_weights(proto) for name, proto in exact.items()}, inputs)
    differences = compare(modules, exact, half, inputs)

    posterior = encode_all(reference, dataset.images, spread(rows, SUMMED_UP), recipe.mirror)
    means, variances = posterior_in_z(posterior, latents, modules["encoder.onnx"])
    kl = kl_from_prior(means, variances.log()).mean(0)
    active = active_units(means)
    files = {name: proto.SerializeToString() for name, proto in half.items()}
    files["golden.json"] = (json.dumps(make_golden(half, recipe.latent_size)) + "\n").encode()
    measured = {key: round(value, 4) for key, value in figures.items()} | differences
    manifest = make_manifest(model, recipe, latents.share, kl, active, measured, files)
    manifest |= {"training": training_record(recipe, dataset, saved["state"]), "licence": licence}
    with replace_folder(out, BUNDLE, overwrite=overwrite) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def make_manifest(
    model: VAE,
    recipe: Recipe,
    share: Tensor,
    kl: Tensor,
    active: Tensor,
    figures: dict[str, float],
    files: dict[str, bytes],
) -> dict[str, Any]:
    """What a bundle says of its model, all but its training and its licence.

    ``share``, ``kl`` and ``active``, each (latent_size,), are each dimension's part of the visible change, its KL in nats
    and whether it is used at all.
    """
    height, width, channels = model.image_shape
    dimension = [
        {"latent": i, "share": round(float(share[i]), 6), "kl": round(float(kl[i]), 4), "active": bool(active[i])}
        for i in range(recipe.latent_size)
    ]
    first = dimension[:INTERESTING]
    return {
        "format": FORMAT_WITH_SHAPE if model.shape else FORMAT,
        "name": recipe.name,
        "image_shape": [height, width, channels],
        "channel_order": "grey" if channels == 1 else "RGB",
        "value_range": [0, 1],
        "latent_size": recipe.latent_size,
        "dimensions": first,
        "latents": {key: [entry[key] for entry in dimension] for key in ("share", "kl", "active")},
        "attributes": {},
        **({"shape": {"landmarks": np.round(model.landmarks.tolist(), 3).tolist()}} if model.shape else {}),
        "figures": {
            **figures,
            "active_u": int(active.sum()),
            "share_of_first_29": round(sum(entry["share"] for entry in first), 4),
        },
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        },
    }


@torch.no_grad()
def networks(model: VAE, latents: Latents, z: Tensor) -> tuple[Modules, Inputs, Outputs]:
    """The folded networks of a bundle by file, with inputs to try them on and the names of their outputs."""
    encoder = PictureEncoder(model, latents).eval()
    if model.shape:
        parts = PartsDecoder(model, latents).eval()
        return (
            {"decoder.onnx": parts, "shape.onnx": FieldDecoder(model, latents).eval(), "encoder.onnx": encoder},
            {
                "decoder.onnx": {"u": z, "shape": z.flip(0)},
                "shape.onnx": {"u": z},
                "encoder.onnx": {"picture": parts(z, z)[0]},
            },
            {
                "decoder.onnx": ["picture", "appearance", "field"],
                "shape.onnx": ["field"],
                "encoder.onnx": ["mean", "std"],
            },
        )
    plain = PictureDecoder(model, latents).eval()
    return (
        {"decoder.onnx": plain, "encoder.onnx": encoder},
        {"decoder.onnx": {"u": z}, "encoder.onnx": {"picture": plain(z)}},
        {"decoder.onnx": ["picture"], "encoder.onnx": ["mean", "std"]},
    )


@torch.no_grad()
def must_fold(reference: VAE, latents: Latents, decoder: nn.Module, inputs: dict[str, Tensor]) -> None:
    """Raise ``Disagreement`` unless the folded decoder draws from z what the network as trained draws from its codes."""
    u = inputs["u"]
    found = decoder(*(u for _ in inputs))
    expected = to_nhwc(reference.decode(latents.code(u))[0])
    gap = float(((found if isinstance(found, Tensor) else found[0]) - expected).abs().max())
    must_agree("folding the coordinates changes pixels: that", gap, 10 * FP32_TOLERANCE)


def rounded_together(models: dict[str, onnx.ModelProto], inputs: Inputs) -> dict[str, onnx.ModelProto]:
    """A bundle's networks with weights that compress; see :mod:`.rounding`. What two have in common stays the same in both."""
    latents = {key: tensor[:ROUNDED_BY].numpy() for key, tensor in inputs["decoder.onnx"].items()}
    pictures = inputs["encoder.onnx"]["picture"][:ROUNDED_BY].numpy()
    decoder = models["decoder.onnx"]

    def draw(model: onnx.ModelProto) -> np.ndarray:
        return run_onnx(model, **latents)[0]

    def draw_again(model: onnx.ModelProto) -> np.ndarray:
        return run_onnx(decoder, **dict.fromkeys(latents, run_onnx(model, picture=pictures)[0]))[0]

    known: dict[bytes, np.ndarray] = {}
    draws = {"decoder.onnx": draw, "encoder.onnx": draw_again}
    found = {name: rounded(models[name], draws[name], ROUNDED, known) for name in draws}
    return {name: found[name] if name in found else with_known(model, known) for name, model in models.items()}


@torch.no_grad()
def compare(modules: Modules, exact: dict[str, Any], half: dict[str, Any], inputs: Inputs) -> dict[str, float]:
    """Differences between PyTorch, ONNX fp32 and ONNX as it is stored. Raises ``Disagreement`` over the bounds."""
    found = {
        f"{name.removesuffix('.onnx')}_fp32_difference": check_exact(
            name.removesuffix(".onnx"), module, exact[name], inputs[name]
        )
        for name, module in modules.items()
    }
    arrays = {key: tensor.numpy() for key, tensor in inputs["decoder.onnx"].items()}
    fp32, fp16 = (run_onnx(models["decoder.onnx"], **arrays)[0] for models in (exact, half))
    pictures = inputs["encoder.onnx"]["picture"].numpy()
    codes = [run_onnx(models["encoder.onnx"], picture=pictures)[0] for models in (exact, half)]
    again = [run_onnx(exact["decoder.onnx"], **dict.fromkeys(arrays, code))[0] for code in codes]
    for what, (a, b) in (("decoder", (fp32, fp16)), ("encoder", again)):
        key = f"{what}_fp16_difference"
        found[key] = must_agree(key, float(np.quantile(np.abs(a - b), QUANTILE)), FP16_TOLERANCE)
    return found


@torch.no_grad()
def posterior_in_z(posterior: Posterior, latents: Latents, encoder: nn.Module) -> tuple[Tensor, Tensor]:
    """Means and variances in z of at most ``SUMMED_UP`` pictures' codes, each (n, latent_size) float64."""
    flow = latents.flow
    rows = torch.from_numpy(spread(np.arange(len(posterior.means)), SUMMED_UP))
    posterior = Posterior(posterior.means[rows], posterior.variances[rows])
    w = (posterior.means.double() - flow.mean.double()) @ torch.linalg.inv(flow.root.double()).T
    if not flow.layers:
        w = w @ latents.turn_back
    parts = [
        encoder.answer(mean, variance.sqrt())  # type: ignore[operator]
        for mean, variance in zip(w.float().split(256), posterior.variances.split(256), strict=True)
    ]
    means, deviations = (torch.cat(tensors).double() for tensors in zip(*parts, strict=True))
    return means, deviations.square()


def training_record(recipe: Recipe, dataset: Dataset, state: dict[str, Any]) -> dict[str, Any]:
    """How and on what the model was trained, for the manifest; ``past`` are the runs that this one began from, in order."""
    return {
        "recipe": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(recipe).items()},
        "steps": state["step"],
        "hours": round(state["seconds"] / 3600, 2),
        **({"past": state["past"]} if state["past"] else {}),
        "machine": state["machine"],
        "pictures": {
            **{key: dataset.record[key] for key in ("shape", "held_out", "sources", "sha256")},
            "trained_on": len(training_rows(recipe, dataset)),
        },
        "made_by": f"morphing-faces {__version__}",
    }


def make_golden(models: dict[str, onnx.ModelProto], latent_size: int) -> dict[str, Any]:
    """What every reader of the bundle must reproduce; with shape also a mixed face, and a field.

    ``mixed`` is the appearance of face 0 on the shape of face 1; ``field`` is that of face 0, in pixels.
    """
    shaped = "shape.onnx" in models

    def decode(u: np.ndarray) -> np.ndarray:
        return run_onnx(models["decoder.onnx"], **({"u": u, "shape": u} if shaped else {"u": u}))[0]

    def encode(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, std = run_onnx(models["encoder.onnx"], picture=pictures)
        return mean, std

    golden = golden_values(latent_size, decode, encode)
    if shaped:
        u = noise.normal(0, 0, 2, latent_size)
        mixed, _, _ = run_onnx(models["decoder.onnx"], u=u[:1], shape=u[1:])
        (field,) = run_onnx(models["shape.onnx"], u=u[:1])
        pixels = base64.b64encode(to_uint8(mixed).tobytes()).decode()
        golden |= {"mixed": {"u": 0, "shape": 1, "pixels": pixels}, "field": decimals(field.flatten())}
    return golden

"""A run -> a bundle: coordinates folded into the networks, ONNX with fp16 weights, checked before anything is written."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from .. import __version__, noise
from ..bundle import FORMAT
from ..dataset import Dataset, must_belong, spread
from ..files import must_be_free, whole_folder
from ..render import to_uint8
from . import checkpoint
from .coordinates import ENCODED, Coordinates, encode_all, find_coordinates
from .flow import Flow, fit, restored
from .loop import look
from .networks import VAE
from .objective import active_units, kl_from_prior
from .recipe import Config, from_toml

INTERESTING = 29  # dimensions a person can pick, as on the 2014 page
FP32_TOLERANCE = 1e-4  # PyTorch against ONNX Runtime, largest difference, of pixels in 0 to 1
FP16_TOLERANCE = 1 / 255  # fp16 against fp32 weights, 99.9th percentile, of pixels in 0 to 1
GOLDEN_FACES = 4
OPSET = 18


class Disagreement(ValueError):
    """PyTorch, ONNX Runtime and the folded networks do not agree; nothing was written."""


class PictureDecoder(nn.Module):
    """u (n, latent_size) -> picture (n, height, width, channels) in [0, 1], the bundle's ``decoder.onnx``."""

    rotation: Tensor

    def __init__(self, model: VAE, coordinates: Coordinates):
        super().__init__()
        self.model = model
        self.flow = copy.deepcopy(coordinates.flow).float() if coordinates.flow else None
        self.register_buffer("rotation", coordinates.rotation.T.float().contiguous())

    def forward(self, u: Tensor) -> Tensor:
        picture, _ = self.model.decode(self.flow(u @ self.rotation) if self.flow else u)
        return picture.clamp(0, 1).permute(0, 2, 3, 1)


class PictureEncoder(nn.Module):
    """picture (n, height, width, channels) in [0, 1] -> mean and std of q(u|x), the bundle's ``encoder.onnx``.

    q(raw|x) is diagonal; turned into u it is not, and ``std`` is the root of the diagonal of its covariance. A flow is
    left out of that: it changes lengths little.
    """

    squares: Tensor
    rotation: Tensor

    def __init__(self, model: VAE, coordinates: Coordinates):
        super().__init__()
        self.model = model
        self.flow = copy.deepcopy(coordinates.flow).float() if coordinates.flow else None
        self.register_buffer("rotation", coordinates.rotation.float().contiguous())
        self.register_buffer("squares", coordinates.inverse.square().T.float().contiguous())

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.model.encode(picture.permute(0, 3, 1, 2))
        if self.flow:
            mean = self.flow.inverse(mean)[0] @ self.rotation
        return mean, (log_variance.exp() @ self.squares).sqrt()


def load_run(run: Path, image_shape: tuple[int, int, int]) -> tuple[VAE, Config, dict[str, Any]]:
    """The averaged weights of a run, on the CPU, with its settings and its state."""
    if not checkpoint.has_one(run):
        raise ValueError(f"{run} has no checkpoint yet: run morphing-faces train first")
    config = from_toml(run / "config.toml")
    groups, state = checkpoint.load(run)
    model = VAE(config, image_shape)
    checkpoint.load_into(model, groups["ema"], run)
    return model.eval().requires_grad_(False), config, state


def blend(model: VAE, run: Path, part: float, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Give ``model`` that ``part`` of the averaged weights of another run, the one that its own began from. In place.

    Between a network and what it was before its critic came lie networks that draw something between the two (network
    interpolation, Wang et al., 2018, arXiv:1809.00219). Returns what the manifest says of it.
    """
    if not 0 <= part <= 1:
        raise ValueError(f"blend = {part:g}: must be a number from 0 to 1")
    other, config, state = load_run(run, image_shape)
    own, theirs = model.state_dict(), other.state_dict()
    if {key: tensor.shape for key, tensor in own.items()} != {key: tensor.shape for key, tensor in theirs.items()}:
        raise ValueError(f"{run} has another network than the run to export: blend it with the run that it began from")
    for key, tensor in own.items():
        tensor.lerp_(theirs[key], part)
    return {"part": part, "recipe": config.name, "steps": state["step"]}


def saved_prior(run: Path, config: Config) -> Flow | None:
    """The map that a critic of the run was shown faces of; None where there was no critic."""
    state = checkpoint.load(run)[0].get("prior")
    return restored(state, config) if state else None


@torch.no_grad()
def fold(model: VAE, coordinates: Coordinates) -> None:
    """Let the decoder's first layers read u and the encoder's last layer answer in u. In place; done in float64.

    Only the mean is folded: the encoder's variances stay raw, :class:`PictureEncoder` turns them. With a flow what is
    read and answered is the whitened code, on the other side of it.
    """
    matrix = coordinates.factor if coordinates.flow else coordinates.matrix
    inverse = torch.linalg.inv(matrix)
    for layer in model.decoder.readers():
        weight = layer.weight.double()
        layer.bias.copy_((layer.bias.double() + weight @ coordinates.mean).float())
        layer.weight.copy_((weight @ matrix).float())
    last = model.encoder.mean
    last.bias.copy_((inverse @ (last.bias.double() - coordinates.mean)).float())
    last.weight.copy_((inverse @ last.weight.double()).float())


def export(
    run: Path,
    dataset: Dataset,
    out: Path,
    *,
    licence: str,
    overwrite: bool = False,
    probes: int = 32_768,
    prior: bool = False,
    grain: float = 1.0,
    blended: tuple[Path, float] | None = None,
) -> dict[str, Any]:
    """Write the bundle of ``run`` into the folder ``out`` and return its manifest.

    With ``prior`` the coordinates leave the aggregate posterior out: u ~ N(0, I) is the raw latent's prior, which shows
    what a VAE's samples look like without them. ``grain``, 0 or more, multiplies the strength of the decoder's noise: less
    is calmer, as a lower temperature is. ``blended``, another run and a number from 0 to 1, is for :func:`blend`.

    Raises :class:`Disagreement` when PyTorch and ONNX Runtime differ by more than 1e-4 in fp32, or the fp16 weights
    change pictures by more than 1/255 at the 99.9th percentile; then nothing is written.
    """
    if not overwrite:
        must_be_free(out)  # said now, not after minutes of work
    model, config, state = load_run(run, dataset.image_shape)
    must_belong(run, dataset)
    mixture = blend(model, *blended, dataset.image_shape) if blended else None
    if grain != 1:
        model.weigh_grain(grain)
    figures = look(model, dataset, run / "sheets" / "export.png", config.mirror, most=4096)
    rows = spread(dataset.rows("train"), ENCODED)
    posterior = encode_all(model, dataset, rows, config.mirror)
    if len(rows) < config.latent_size:
        raise ValueError(
            f"{dataset.folder} has {len(rows)} training pictures, fewer than the {config.latent_size} latent dimensions"
        )
    flow = None if prior or not config.flow_layers else (saved_prior(run, config) or fit(posterior, config, model))
    coordinates = find_coordinates(model, None if prior else posterior, probes, config.seed, flow)

    # Per dimension, in u: KL and activity of the aggregate.
    u_means = coordinates.u(posterior.means)
    u_variances = posterior.variances.double() @ coordinates.inverse.square().T
    kl = kl_from_prior(u_means, u_variances.log()).mean(0)
    active = active_units(u_means)

    unfolded = raw_pictures(model, coordinates)
    fold(model, coordinates)
    decoder, encoder = PictureDecoder(model, coordinates).eval(), PictureEncoder(model, coordinates).eval()
    u = torch.from_numpy(noise.normal(0, 0, 256, config.latent_size))
    if (gap := float((decoder(u) - unfolded(u)).abs().max())) > FP32_TOLERANCE * 10:
        raise Disagreement(f"folding the coordinates changes pixels by {gap:.2g}, allowed {FP32_TOLERANCE * 10:g}")
    pictures = decoder(u)
    exact = {
        "decoder.onnx": to_onnx(decoder, u[:2], ["u"], ["picture"]),
        "encoder.onnx": to_onnx(encoder, pictures[:2], ["picture"], ["mean", "std"]),
    }
    half = {name: with_half_weights(content) for name, content in exact.items()}
    differences = compare(decoder, encoder, exact, half, u, pictures)

    golden = make_golden(half, config.latent_size)
    files = {**{name: proto.SerializeToString() for name, proto in half.items()}}
    files["golden.json"] = (json.dumps(golden) + "\n").encode()
    height, width, channels = dataset.image_shape
    manifest = {
        "format": FORMAT,
        "name": config.name,
        "image_shape": [height, width, channels],
        "channel_order": "grey" if channels == 1 else "RGB",
        "value_range": [0, 1],
        "latent_size": config.latent_size,
        "dimensions": [
            {
                "latent": i,
                "share": round(float(coordinates.share[i]), 6),
                "kl": round(float(kl[i]), 4),
                "active": bool(active[i]),
            }
            for i in range(min(INTERESTING, config.latent_size))
        ],
        "latents": {
            "share": [round(float(value), 6) for value in coordinates.share],
            "kl": [round(float(value), 4) for value in kl],
            "active": [bool(value) for value in active],
        },
        "attributes": {},
        "training": {
            "recipe": {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(config).items()},
            "steps": state["step"],
            **({} if grain == 1 else {"grain": grain}),
            **({"blend": mixture} if mixture else {}),
            "hours": round(state["seconds"] / 3600, 2),
            # The runs that this one began from, the first first, each with its recipe, steps, seconds and machine.
            **({"past": state["past"]} if state.get("past") else {}),
            "machine": state["machine"],
            "pictures": {key: dataset.record[key] for key in ("shape", "held_out", "sources", "sha256")},
            "made_by": f"morphing-faces {__version__}",
        },
        "figures": {
            **{key: round(value, 4) for key, value in figures.items()},
            "active_u": int(active.sum()),
            "share_of_first_29": round(float(coordinates.share[:INTERESTING].sum()), 4),
            **{key: float(f"{value:.3g}") for key, value in differences.items()},
        },
        "licence": licence,
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        },
    }
    with whole_folder(out, overwrite=overwrite) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def raw_pictures(model: VAE, coordinates: Coordinates) -> Any:
    """The slow reference for :func:`fold`: pictures from u by way of raw coordinates, in the original weights."""
    original, c = copy.deepcopy(model), copy.deepcopy(coordinates)

    def pictures(u: Tensor) -> Tensor:
        return original.decode(c.raw(u).float())[0].clamp(0, 1).permute(0, 2, 3, 1)

    return pictures


def to_onnx(module: nn.Module, example: Tensor, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """A module with one input of n rows -> an ONNX model in fp32, n free."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=1 << 20)},),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    proto = onnx.ModelProto()
    proto.CopyFrom(program.model_proto)
    del proto.metadata_props[:]
    proto.doc_string = ""
    for node in proto.graph.node:  # the exporter notes source lines and paths of the machine it ran on
        del node.metadata_props[:]
        node.doc_string = ""
    for values in (proto.graph.input, proto.graph.output, proto.graph.value_info, proto.graph.initializer):
        for value in values:
            del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    onnx.checker.check_model(proto)
    return proto


def with_half_weights(model: onnx.ModelProto, smallest: int = 1024) -> onnx.ModelProto:
    """The same model with its large fp32 weights stored as fp16; a Cast turns them back when the model is loaded."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for tensor in half.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < smallest:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise Disagreement(f"weight {tensor.name} reaches {np.abs(values).max():g}, more than fp16 holds")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_fp16"))
        casts.append(helper.make_node("Cast", [name + "_fp16"], [name], to=TensorProto.FLOAT))
    nodes = list(half.graph.node)
    del half.graph.node[:]
    half.graph.node.extend(casts + nodes)
    onnx.checker.check_model(half)
    return half


def run_onnx(model: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    """All outputs of a model for the inputs, on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


@torch.no_grad()
def compare(
    decoder: nn.Module, encoder: nn.Module, exact: dict[str, Any], half: dict[str, Any], u: Tensor, pictures: Tensor
) -> dict[str, float]:
    """Differences between PyTorch, ONNX fp32 and ONNX with fp16 weights. Raises :class:`Disagreement` over the bounds."""
    (fp32,) = run_onnx(exact["decoder.onnx"], u=u.numpy())
    (fp16,) = run_onnx(half["decoder.onnx"], u=u.numpy())
    codes = [tensor.numpy() for tensor in encoder(pictures)]
    codes32 = run_onnx(exact["encoder.onnx"], picture=pictures.numpy())
    codes16 = run_onnx(half["encoder.onnx"], picture=pictures.numpy())
    again32, again16 = (run_onnx(exact["decoder.onnx"], u=code)[0] for code in (codes32[0], codes16[0]))
    found = {
        "decoder_fp32_difference": float(np.abs(fp32 - decoder(u).numpy()).max()),
        "encoder_fp32_difference": max(float(np.abs(a - b).max()) for a, b in zip(codes, codes32, strict=True)),
        "decoder_fp16_difference": float(np.quantile(np.abs(fp16 - fp32), 0.999)),
        "encoder_fp16_difference": float(np.quantile(np.abs(again16 - again32), 0.999)),
    }
    for key, value in found.items():
        # Codes reach about 10 where pixels reach 1: the bound on codes is relative to their largest.
        scale = max(1.0, float(np.abs(codes[0]).max())) if key == "encoder_fp32_difference" else 1.0
        allowed = (FP32_TOLERANCE if "fp32" in key else FP16_TOLERANCE) * scale
        if not value <= allowed:
            raise Disagreement(f"{key} is {value:.3g}, allowed {allowed:.3g}: nothing was written")
    return found


def make_golden(models: dict[str, onnx.ModelProto], latent_size: int) -> dict[str, Any]:
    """What every reader of the bundle must reproduce: random numbers, latents with their pixels, a picture with its code."""
    u = noise.normal(0, 0, GOLDEN_FACES, latent_size)
    (faces,) = run_onnx(models["decoder.onnx"], u=u)
    pixels = to_uint8(faces)
    mean, std = run_onnx(models["encoder.onnx"], picture=pixels[:1].astype(np.float32) / 255)
    walk = [noise.whole(0, k, 2 * INTERESTING) for k in range(8)]
    return {
        "noise": {
            "seed": 0,
            "normal": _list(u[0, :8]),
            "seed_7_row_3": _list(noise.normal(7, 3, 1, 8)[0]),
            "walk": walk,
        },
        "faces": [
            {"seed": 0, "row": row, "u": _list(u[row]), "pixels": base64.b64encode(pixels[row].tobytes()).decode()}
            for row in range(GOLDEN_FACES)
        ],
        "codes": [{"pixels_of_face": 0, "mean": _list(mean[0]), "std": _list(std[0])}],
    }


def _list(values: np.ndarray) -> list[float]:
    return [float(str(value)) for value in values.astype(np.float32)]

"""A bundle -> the weights that a new run begins at: another's model goes on with other settings or other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from .. import bundle as bundles
from ..dataset import Dataset, spread
from ..errors import UserError
from ..model import Model
from .networks import new_parts, without_second_look
from .recipe import Recipe
from .trainer import new_model, training_rows
from .vae import VAE

MEASURED = 512  # training pictures that the codes' mean variances are measured on, at most
LEAST_VARIANCE = 1e-4


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` is to be read as a bundle, not as a run: one is there, or it is the name of a shipped one."""
    return (folder / "manifest.json").is_file() or (not folder.exists() and str(folder) in bundles.names())


def from_bundle(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[VAE, list[dict[str, Any]]]:
    """A model of ``recipe`` at the weights of the bundle in ``folder``, and what the bundle was trained by, in order.

    It draws what the bundle draws. Its codes are the whitened ones that the bundle's networks speak to each other in,
    without flow and rotation. Sigma is not in a bundle and begins anew, as does shape where the bundle has none; of the
    codes' variances only the mean over training pictures is kept. Residual blocks that only the recipe has begin at the
    identity. A second look of other parts, or of a recipe without one, is left.

    Raises ``UserError`` when the networks are not those of the recipe, or the pictures not of the bundle's size.
    """
    bundle = bundles.find(folder)
    if bundle.image_shape != dataset.image_shape:
        raise UserError(
            f"{folder} draws pictures of {bundle.image_shape}, and those of {dataset.folder} are {dataset.image_shape}"
        )
    found = Model(bundle)
    found.need_encoder()
    model = new_model(recipe, dataset)
    same_parts = bundle.has_shape == model.shape
    decoder, encoder = (initializers(bundle.read(name)) for name in ("decoder.onnx", "encoder.onnx"))
    if not same_parts or model.encoder.second_look is None:
        encoder = without_second_look(encoder)
    tensors = model.state_dict()
    theirs = {name: name_in(encoder if name.startswith("encoder.") else decoder, name) for name in tensors}
    new = new_parts(model, [name for name, (_, value) in theirs.items() if value is not None])
    for name, own in tensors.items():
        _, value = theirs[name]
        frame = "units." in name and name.startswith("decoder.")  # of another frame where one has shape and one has not
        if value is not None and value.shape == own.shape and (same_parts or not frame):
            own.copy_(value)
        elif not (name.startswith(new) or begins_anew(name, same_parts)):
            shape = "nothing" if value is None else tuple(value.shape)
            raise UserError(
                f"{folder}: its networks are not those of the recipe {recipe.name!r}: {name} is {shape}, expected "
                f"{tuple(own.shape)}; begin at a bundle that was trained by this recipe, or change the recipe's widths and blocks"
            )
    blocks = {name for name in (*decoder, *encoder) if name.endswith(".narrow.weight")}
    if lost := sorted(blocks - {their for their, _ in theirs.values()}):
        raise UserError(
            f"{folder}: its networks have more residual blocks than the recipe {recipe.name!r}: {lost[0]} would be lost; "
            "raise the recipe's encoder_blocks or decoder_blocks"
        )
    if bundle.has_shape and model.shape:
        tensors["landmarks"].copy_(torch.tensor(bundle.manifest["shape"]["landmarks"]))
    tensors["encoder.log_variance.weight"].zero_()
    rows = spread(training_rows(recipe, dataset), MEASURED)
    variance = torch.from_numpy(np.square(found.encode(dataset.images[rows]).std).mean(0))
    if "entry.rotation" in decoder:  # with a flow: the networks speak of turned z
        variance = decoder["entry.rotation"].T.square() @ variance
    tensors["encoder.log_variance.bias"].copy_(variance.clamp_min(LEAST_VARIANCE).log())
    model.load_state_dict(tensors)
    training = bundle.manifest["training"]
    record = {
        "recipe": training.get("recipe", {}),
        "step": training.get("steps", 0),
        "seconds": 3600 * training.get("hours", 0),
        "machine": training.get("machine", ""),
        "decoder": bundle.manifest["files"]["decoder.onnx"]["sha256"],
    }
    return model, [*training.get("past", []), record]


def begins_anew(name: str, same_parts: bool) -> bool:
    """Whether a weight of that name may be missing in a bundle."""
    always = ("units.", "log_sigma", "landmarks", "encoder.log_variance.")
    return any(part in name for part in always) or (not same_parts and name.startswith("decoder.shape."))


def initializers(content: bytes) -> dict[str, Tensor]:
    """The weights in an ONNX file by the names that they had in PyTorch, float32."""
    graph = onnx.load_model_from_string(content).graph
    found = {
        tensor.name.removesuffix("_fp16"): torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }
    # Of equal tensors the exporter keeps one: a bias is the one that stands beside the weight.
    for node in graph.node:
        if len(node.input) == 3 and node.input[1].endswith(".weight") and node.input[2] in found:
            found[node.input[1].removesuffix("weight") + "bias"] = found[node.input[2]]
    return found


def name_in(source: dict[str, Tensor], name: str) -> tuple[str, Tensor | None]:
    """What the weight ``name`` is called in the bundle's ``source``, and the weight; empty and None where it is not there."""
    their = next((other for other in other_names(name) if other in source), "")
    return their, source.get(their)


def other_names(name: str) -> list[str]:
    """What a weight may be called in a bundle: of a model without shape, or of the first bundles, which had no parts."""
    names = [name, name.replace("decoder.appearance.", "decoder."), name.replace("decoder.", "decoder.appearance.")]
    names += [other.replace("encoder.wider.", "encoder.narrower.") for other in names]
    if "units." in name:
        names.append(name.partition("units.")[2])
    return [*names, *(f"model.{other}" for other in names)]

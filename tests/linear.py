"""A bundle made without training: eigenfaces of the drawn faces. A decoder, an encoder and all that belongs to them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from morphing_faces import noise
from morphing_faces.pictures import to_uint8

STD = 0.2  # of every code that the encoder answers


def write(folder: Path, pictures: np.ndarray, latents: int, licence: str) -> None:
    """Write the bundle of uint8 ``pictures`` (n, height, width, channels), called as its folder is."""
    shape, count = list(pictures.shape[1:]), len(pictures)
    flat = pictures.reshape(count, -1).astype(np.float64) / 255
    mean = flat.mean(0)
    _, singular, components = np.linalg.svd(flat - mean, full_matrices=False)
    deviation = singular[:latents] / np.sqrt(count)
    decoder = (components[:latents] * deviation[:, None]).astype(np.float16)
    encoder = (components[:latents] / deviation[:, None]).T.astype(np.float16)
    networks = {
        "decoder.onnx": _network(
            [("u", ["n", latents])], [("picture", ["n", *shape])],
            [helper.make_node("Gemm", ["u", "wide", "mean"], ["flat"]), helper.make_node("Reshape", ["flat", "shape"], ["all"]),
             helper.make_node("Clip", ["all", "zero", "one"], ["picture"])],
            {"weight": decoder, "mean": mean.astype(np.float32), "shape": np.array([-1, *shape]), "zero": np.float32(0),
             "one": np.float32(1)},
        ),
        "encoder.onnx": _network(
            [("picture", ["n", *shape])], [("mean", ["n", latents]), ("std", ["n", latents])],
            [helper.make_node("Reshape", ["picture", "shape"], ["flat"]), helper.make_node("Sub", ["flat", "center"], ["centered"]),
             helper.make_node("MatMul", ["centered", "wide"], ["mean"]), helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
             helper.make_node("Add", ["nothing", "deviation"], ["std"])],
            {"weight": encoder, "center": mean.astype(np.float32), "shape": np.array([-1, len(mean)]), "zero": np.float32(0),
             "deviation": np.full(latents, STD, np.float32)},
        ),
    }  # fmt: skip
    folder.mkdir()
    files = {name: network.SerializeToString() for name, network in networks.items()}
    files["golden.json"] = json.dumps(_golden(files, latents)).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    share = np.square(deviation) / np.square(deviation).sum()
    kl = 0.5 * (1 + STD**2 - 1 - 2 * np.log(STD))
    entry = [
        {"latent": k, "share": round(float(share[k]), 6), "kl": round(kl, 4), "active": True} for k in range(latents)
    ]
    manifest = {
        "format": 1, "name": folder.name, "image_shape": shape, "channel_order": "grey" if shape[2] == 1 else "RGB",
        "value_range": [0, 1], "latent_size": latents, "dimensions": entry[:29], "attributes": {}, "licence": licence,
        "latents": {key: [each[key] for each in entry] for key in ("share", "kl", "active")},
        "training": {"recipe": {"name": folder.name, "latent_size": latents}, "steps": 0, "hours": 0.0},
        "figures": {"share_of_first_29": round(float(share[:29].sum()), 4), "held_out/mse": 0.001},
        "files": {name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _network(
    inputs: list[Any], outputs: list[Any], nodes: list[Any], constants: dict[str, np.ndarray]
) -> onnx.ModelProto:
    """A network whose constant "weight", in fp16, is read by its nodes as "wide", in fp32."""
    wide = helper.make_node("Cast", ["weight"], ["wide"], to=TensorProto.FLOAT)
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in part]
        for part in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph([wide, *nodes], "linear", *values, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _golden(files: dict[str, bytes], latents: int) -> dict[str, Any]:
    def run(name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return list(onnxruntime.InferenceSession(files[name], providers=["CPUExecutionProvider"]).run(None, inputs))

    def numbers(values: np.ndarray) -> list[float]:
        return [float(str(value)) for value in values]

    u = noise.normal(0, 0, 4, latents)
    pixels = to_uint8(run("decoder.onnx", u=u)[0])
    mean, std = run("encoder.onnx", picture=pixels[:1].astype(np.float32) / 255)
    return {
        "noise": {
            "seed": 0,
            "normal": numbers(u[0, :8]),
            "seed_7_row_3": numbers(noise.normal(7, 3, 1, 8)[0]),
            "walk": [noise.whole(0, k, 58) for k in range(8)],
        },
        "faces": [
            {"seed": 0, "row": row, "u": numbers(u[row]), "pixels": base64.b64encode(pixels[row].tobytes()).decode()}
            for row in range(4)
        ],
        "codes": [{"pixels_of_face": 0, "mean": numbers(mean[0]), "std": numbers(std[0])}],
    }

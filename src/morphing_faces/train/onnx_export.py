"""PyTorch modules -> ONNX models with fp16 weights, compared with each other before anything is written."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18  # GridSample of 20 has no kernel in WebGPU
FP32_TOLERANCE = 1e-4  # PyTorch against ONNX Runtime, largest difference, of values in 0 to 1
FP16_TOLERANCE = 1 / 255  # stored against fp32 weights, of pixels in 0 to 1, at this quantile of all pixels:
QUANTILE = 0.999


class Disagreement(RuntimeError):
    """PyTorch, ONNX Runtime and the folded networks do not agree; nothing was written."""


def to_onnx(module: nn.Module, examples: dict[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    """A module whose inputs, named as in ``examples``, have n rows each -> an ONNX model in fp32, n free."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    rows = torch.export.Dim("n", min=1, max=1 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(examples.values()),
            dynamo=True,
            input_names=list(examples),
            output_names=outputs,
            dynamic_shapes=tuple({0: rows} for _ in examples),
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


def must_agree(what: str, value: float, allowed: float) -> float:
    """``value``, a difference, to three digits. Raises :class:`Disagreement` when it is more than what is allowed."""
    if not value <= allowed:
        raise Disagreement(f"{what} is {value:.3g}, allowed {allowed:.3g}: nothing was written")
    return float(f"{value:.3g}")


@torch.no_grad()
def check_exact(name: str, module: nn.Module, model: onnx.ModelProto, inputs: dict[str, Tensor]) -> float:
    """The largest difference between PyTorch and ONNX Runtime in fp32, relative to each output's largest value over 1."""
    answers = module(*inputs.values())
    found = run_onnx(model, **{key: tensor.numpy() for key, tensor in inputs.items()})
    worst = 0.0
    for ours, theirs in zip([answers] if isinstance(answers, Tensor) else answers, found, strict=True):
        scale = max(1.0, float(ours.abs().max()))
        worst = max(worst, float(np.abs(ours.numpy() - theirs).max()) / scale)
    return must_agree(f"{name}_fp32_difference", worst, FP32_TOLERANCE)

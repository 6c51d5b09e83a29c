"""Somebody else's ONNX file: read without trusting it, and joined with what has to stand before and behind its graph.

What could do harm is refused here: operators of other domains, weights in files elsewhere, loops that need not end.
:mod:`.onnx_guard` then judges what a run takes, as it does with every bundle.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, compose, helper, inliner, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

from .errors import UserError
from .files import read_bytes

DOMAINS = ("", "ai.onnx")  # ONNX's own operators
LARGEST_FILE = (1 << 31) - 1  # bytes, weights beside it included: what a protobuf may hold
OPSET = 9  # from here on all that is put around a graph means the same
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
GIVEN = "given/"  # before each name of the given graph, so that none meets one of ours


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: ``shape`` holds None where the file names no size, ``kind`` is TensorProto's."""

    name: str
    shape: tuple[int | None, ...] | None
    kind: int

    def __str__(self) -> str:
        sizes = "unknown shape" if self.shape is None else "x".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name!r} ({TensorProto.DataType.Name(self.kind).lower()} {sizes})"


def read(path: Path) -> ModelProto:
    """A file's model, with all weights in it and its own functions written out. Raises ``UserError``."""
    content = read_bytes(path, LARGEST_FILE)
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's DecodeError, which has no public home
        raise UserError(f"{path} is not an ONNX file, or not all of it is there: export it again") from None
    if not model.graph.node or not model.opset_import:
        raise UserError(f"{path} holds no network: give the .onnx file that an exporter wrote")
    _refuse_strange_weights(model, path)
    load_external_data_for_model(model, str(path.parent))
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        _refuse_strange_operators(model, path)
        onnx.checker.check_model(model)
    except UserError:
        raise
    except Exception as error:  # the checker and the inliner raise what C++ gives them
        raise UserError(f"{path} is not a valid ONNX network: {first_line(error)}") from None
    opset = opset_of(model)
    if opset < OPSET:
        raise UserError(f"{path} is of opset {opset}: export it with {OPSET} or later")
    return model


def ports(model: ModelProto) -> tuple[list[Port], list[Port]]:
    """Inputs that are not weights, and outputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_port(i) for i in model.graph.input if i.name not in weights], [_port(o) for o in model.graph.output]


def fixed_to_one(model: ModelProto) -> ModelProto:
    """The model for one row alone: with all sizes known, what is computed of sizes becomes constant."""
    fixed = copy.deepcopy(model)
    weights = {tensor.name for tensor in fixed.graph.initializer}
    del fixed.graph.value_info[:]
    for value in [*(each for each in fixed.graph.input if each.name not in weights), *fixed.graph.output]:
        for dimension in value.type.tensor_type.shape.dim[:1]:
            dimension.dim_value = 1
    return fixed


def sized(model: ModelProto, row: tuple[int, ...]) -> ModelProto:
    """The model with the shape of one row of its input written down, where the file leaves it open."""
    said = copy.deepcopy(model)
    weights = {tensor.name for tensor in said.graph.initializer}
    for value in said.graph.input:
        if value.name not in weights:
            for dimension, size in zip(value.type.tensor_type.shape.dim[1:], row, strict=True):
                dimension.dim_value = size
    return said


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model asks for; 0 where it asks for none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def first_line(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def free_batch(model: ModelProto) -> ModelProto:
    """The model with the first axis of its inputs and outputs free, which a fixed size may be written into.

    Reshapes to a constant shape whose first size is that of the batch take it from what they get. Whether the result
    computes the same must be tried: a graph may use its batch in other ways.
    """
    freed = copy.deepcopy(model)
    graph = freed.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in weights]
    batch = {d.dim_value for value in given for d in value.type.tensor_type.shape.dim[:1] if d.HasField("dim_value")}
    del graph.value_info[:]
    for value in [*given, *graph.output]:
        for dimension in value.type.tensor_type.shape.dim[:1]:
            dimension.dim_param = "n"
    constants = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2:
            continue
        tensor = weights.get(node.input[1]) or constants.get(node.input[1])
        if tensor is None or any(a.name == "allowzero" and a.i for a in node.attribute):
            continue
        shape = numpy_helper.to_array(tensor).copy()
        if shape.ndim == 1 and len(shape) > 1 and int(shape[0]) in batch:
            shape[0] = 0  # as many as there are
            name = f"{node.output[0]}/shape with a free batch"
            graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name
    return freed


class Joined:
    """A given model being joined with nodes before it and behind it; names of the given graph get a prefix."""

    def __init__(self, model: ModelProto):
        self.given = compose.add_prefix(model, GIVEN)
        weights = {tensor.name for tensor in self.given.graph.initializer}
        self.inputs = [value.name for value in self.given.graph.input if value.name not in weights]
        self.outputs = [value.name for value in self.given.graph.output]
        self.graph = helper.make_graph([], "bundle", [], [], list(self.given.graph.initializer))

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """One node with one output, whose name is returned."""
        self.graph.node.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def add_given(self) -> None:
        """The given nodes; what was added before stands before them."""
        self.graph.node.extend(self.given.graph.node)

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """A constant, whose name is returned."""
        return _constant(self.graph, name, np.asarray(values, dtype))

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], made_by: str) -> ModelProto:
        """All of it, checked; float32 inputs and outputs by name with their shapes."""
        for values, shapes in ((self.graph.input, inputs), (self.graph.output, outputs)):
            values.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in shapes.items())
        imports = [entry for entry in self.given.opset_import if entry.domain in DOMAINS]
        version = max(8, self.given.ir_version)  # before 4, weights were inputs, too
        model = helper.make_model(self.graph, opset_imports=imports, ir_version=version, producer_name=made_by)
        onnx.checker.check_model(model)
        return model


def _constant(graph: onnx.GraphProto, name: str, values: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        return Port(value.name, None, kind.elem_type)
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    return Port(value.name, shape, kind.elem_type)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes."""
    waiting = [graph]
    while waiting:
        here = waiting.pop()
        yield here
        waiting += _inner(here.node)


def _inner(nodes: Any) -> list[onnx.GraphProto]:
    return [
        inner
        for node in nodes
        for attribute in node.attribute
        for inner in (attribute.g, *attribute.graphs)
        if inner.node
    ]


def _refuse_strange_operators(model: ModelProto, path: Path) -> None:
    for graph in _graphs(model.graph):
        for node in graph.node:
            if node.domain not in DOMAINS:
                raise UserError(
                    f"{path} uses {node.op_type!r} of the domain {node.domain!r}, which is not one of ONNX Runtime's own "
                    "operators: export it without"
                )
            if node.op_type == "Loop":
                raise UserError(f"{path} has a Loop, which need not end: export it unrolled")


def _refuse_strange_weights(model: ModelProto, path: Path) -> None:
    """Weights in files of their own: only plain files in the folder, each as long as is asked for."""
    total = 0
    for tensor in _tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        folder, file = path.parent.resolve(), (path.parent / location).resolve()
        if not location or folder not in file.parents:
            raise UserError(
                f"{path} takes weights from {location!r}, which is not in its folder: export it as one file"
            )
        if not file.is_file():
            raise UserError(f"{path} takes weights from {location!r}, which is not there: put it beside the file")
        try:
            offset, size = int(entries.get("offset", 0)), file.stat().st_size
            length = int(entries.get("length", size - offset))
        except ValueError:
            raise UserError(
                f"{path}: where {tensor.name!r} lies in {location!r} is no number: export it again"
            ) from None
        if offset < 0 or length < 0 or offset + length > size:
            raise UserError(f"{path}: {tensor.name!r} lies beyond the end of {location!r}: copy both files again")
        total += length
    if total > LARGEST_FILE:
        raise UserError(f"{path} has weights of {total:,} bytes: at most {LARGEST_FILE:,}")


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor that a model holds: weights, constants, those of inner graphs and of functions."""
    pending = [model.graph, *(inner for function in model.functions for inner in _inner(function.node))]
    nodes = [node for function in model.functions for node in function.node]
    for root in pending:
        for graph in _graphs(root):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)

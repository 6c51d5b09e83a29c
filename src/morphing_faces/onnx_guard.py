"""Judges a stranger's ONNX file before the runtime sees it: what it would read, compute and keep in memory.

A network of a bundle is one graph of known operators over tensors that lie in the file itself. Everything else that the
format can say (tensors in other files, loops, functions, operators of other domains) is refused, and the shapes of all
values are worked out for one picture, so that time and memory of a first run are known beforehand. The format is
protocol buffers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto has the numbers of the fields.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import UserError, one_line

MAX_NODES = 5_000
MAX_RANK = 8
MAX_VALUES = 256_000_000  # numbers in all values of one run together, weights included: 1 GB in fp32
MAX_PRODUCTS = 100_000_000_000  # multiplications of one run: some seconds on one core

Shape = tuple[int, ...]


class RefusedError(UserError):
    """The network is none that a bundle may hold; the message is a part of a line, "uses the operator 'Loop' ..."."""


@dataclass(frozen=True)
class Cost:
    """What one run for one picture or latent takes: multiplications, and numbers in all values that it computes."""

    products: int
    values: int


def check(content: bytes, inputs: dict[str, Shape]) -> Cost:
    """Judge an ONNX file that is fed with ``inputs``, by their name and shape for one picture or latent.

    Raises :class:`RefusedError`.
    """
    try:
        return _Graph(memoryview(content), inputs).run()
    except (struct.error, IndexError, ValueError, OverflowError, TypeError, KeyError) as error:
        if isinstance(error, RefusedError):
            raise
        raise RefusedError("is not a usable ONNX model: its structure is damaged") from None


# --- the wire format


def _fields(buffer: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message: their number, and an int (varint or fixed) or a memoryview (length-delimited)."""
    at, end = 0, len(buffer)
    while at < end:
        key, at = _varint(buffer, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(buffer, at)
            yield number, value
        elif wire == 2:
            size, at = _varint(buffer, at)
            if size > end - at:
                raise ValueError("truncated")
            yield number, buffer[at : at + size]
            at += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield number, struct.unpack_from("<q" if wire == 1 else "<i", buffer, at)[0]
            at += size
        else:
            raise ValueError("a wire type of old")


def _varint(buffer: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = buffer[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without end")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _integers(value: Any) -> list[int]:
    """A repeated integer field: packed, or one at a time."""
    if isinstance(value, int):
        return [_signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_signed(number))
    return found


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")


# --- the parts of a model

_FLOAT, _INT32, _INT64 = 1, 6, 7  # types of tensors
_SMALL = 4096  # numbers of a constant that may steer shapes


@dataclass
class _Tensor:
    name: str
    shape: Shape
    integers: list[int] | None = None  # its numbers, where it is a small one of integers
    floats: list[float] | None = None  # or of float32


def _tensor(buffer: memoryview, size: int) -> _Tensor:
    dims: list[int] = []
    name, kind, raw = "", 0, None
    listed: list[int] = []
    floats: list[float] = []
    for number, value in _fields(buffer):
        if number == 1:
            dims += _integers(value)
        elif number == 2:
            kind = value
        elif number == 4 and len(floats) <= _SMALL:
            packed = struct.pack("<i", value) if isinstance(value, int) else bytes(value[: 4 * _SMALL])
            floats += struct.unpack(f"<{len(packed) // 4}f", packed[: len(packed) // 4 * 4])
        elif number in (5, 7) and len(listed) <= _SMALL:
            listed += _integers(value)
        elif number == 6:
            raise RefusedError("holds a tensor of texts")
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
        elif number == 13 or (number == 14 and value):
            raise RefusedError("wants to read another file (external data), which a bundle's networks never do")
    count = _count(tuple(dims))
    if count > size:
        raise RefusedError(f"holds a tensor of {count:,} numbers, more than the file has bytes")
    tensor = _Tensor(name, tuple(dims))
    if kind == _FLOAT and count <= _SMALL:
        tensor.floats = list(struct.unpack(f"<{count}f", raw)) if raw is not None else floats[:count]
    elif kind in (_INT64, _INT32) and count <= _SMALL:
        if raw is not None:
            tensor.integers = list(struct.unpack(f"<{count}{'q' if kind == _INT64 else 'i'}", raw))
        else:
            tensor.integers = listed[:count]
    return tensor


@dataclass
class _Node:
    operator: str
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


def _node(buffer: memoryview, size: int) -> _Node:
    node, domain = _Node(""), ""
    attributes = []
    for number, value in _fields(buffer):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.operator = _text(value)
        elif number == 5:
            attributes.append(value)
        elif number == 7:
            domain = _text(value)
    if domain not in ("", "ai.onnx") or node.operator not in _OPERATORS:
        raise RefusedError(f"uses the operator {_quoted(domain, node.operator)}, which no network of a bundle needs")
    node.attributes = dict(_attribute(each, size) for each in attributes)
    return node


def _attribute(buffer: memoryview, size: int) -> tuple[str, Any]:
    name, found = "", None
    integers: list[int] = []
    for number, value in _fields(buffer):
        if number == 1:
            name = _text(value)
        elif number == 2:
            found = struct.unpack("<f", struct.pack("<i", value))[0]
        elif number == 3:
            found = _signed(value)
        elif number == 4:
            found = _text(value)
        elif number == 5:
            found = _tensor(value, size)
        elif number == 8:
            integers += _integers(value)
        elif number in (6, 10, 11, 14, 15, 21, 22, 23):
            raise RefusedError(f"has an attribute {one_line(name, 40)!r} of a kind that no network of a bundle needs")
    return name, integers or found


def _declared(buffer: memoryview) -> tuple[str, list[int | str]]:
    """The name of an input of the graph, and its shape as the file says it."""
    name, shape = "", []
    for number, value in _fields(buffer):
        if number == 1:
            name = _text(value)
        elif number == 2:  # type -> tensor_type -> shape -> dim, and of each its value or the name it is given
            tensors = [part for key, part in _fields(value) if key == 1]
            shapes = [part for tensor in tensors for key, part in _fields(tensor) if key == 2]
            for each in shapes:
                for _, dim in _fields(each):
                    parts = dict(_fields(dim))
                    shape.append(_signed(parts[1]) if 1 in parts else _text(parts[2]) if 2 in parts else "?")
    return name, shape


def _quoted(domain: str, operator: str) -> str:
    return repr(one_line(f"{domain}.{operator}" if domain else operator, 60))


def _count(shape: Sequence[int]) -> int:
    if len(shape) > MAX_RANK or any(n < 0 for n in shape):
        raise RefusedError(f"has a value of shape {list(shape)[:12]}, which cannot be")
    return math.prod(shape)


class _Graph:
    def __init__(self, content: memoryview, inputs: dict[str, Shape]):
        graph = None
        for number, value in _fields(content):
            if number == 7:
                graph = value
            elif number in (20, 25):
                raise RefusedError("holds functions or training steps, which no network of a bundle needs")
        if graph is None:
            raise RefusedError("is not a usable ONNX model: it has no graph")
        self.nodes: list[_Node] = []
        self.shapes: dict[str, Shape] = {"": ()}
        self.constants: dict[str, list[int]] = {}
        self.floats: dict[str, list[float]] = {}
        self.weights = 0
        declared: list[str] = []
        for number, value in _fields(graph):
            if number == 1:
                self.nodes.append(_node(value, len(content)))
                if len(self.nodes) > MAX_NODES:
                    raise RefusedError(f"has more than {MAX_NODES:,} nodes")
            elif number == 5:
                self.keep(_tensor(value, len(content)))
            elif number == 11:
                name, shape = _declared(value)
                declared.append(name)
                if name in inputs and shape and shape[1:] != list(inputs[name][1:]):
                    raise RefusedError(f"takes {name!r} of shape {shape}, the manifest says {['n', *inputs[name][1:]]}")
            elif number == 15:
                raise RefusedError("holds a sparse tensor, which no network of a bundle needs")
        wrong = [name for name in declared if name not in inputs and name not in self.shapes]
        if wrong:
            raise RefusedError(f"has an input {one_line(wrong[0], 60)!r}, expected {', '.join(inputs)} alone")
        self.shapes |= inputs

    def keep(self, tensor: _Tensor) -> None:
        """Note a constant under its name."""
        self.shapes[tensor.name] = tensor.shape
        self.weights += _count(tensor.shape)
        if tensor.integers is not None:
            self.constants[tensor.name] = tensor.integers
        if tensor.floats is not None:
            self.floats[tensor.name] = tensor.floats

    def run(self) -> Cost:
        """Work out the shapes of all values in the order of the nodes, which is the order of computing."""
        products = values = 0
        for node in self.nodes:
            try:
                shapes = _OPERATORS[node.operator](self, node)
            except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
                if isinstance(error, RefusedError):
                    raise
                raise RefusedError(
                    f"has a node {node.operator!r} whose shapes do not fit or are not known beforehand"
                ) from None
            for name, shape in zip(node.outputs, shapes, strict=False):
                self.shapes[name] = shape
                values += _count(shape)
            products += self.products(node, shapes[0])
            if values + self.weights > MAX_VALUES:
                raise RefusedError(f"would keep more than {MAX_VALUES:,} numbers in memory for one picture")
            if products > MAX_PRODUCTS:
                raise RefusedError(f"would take more than {MAX_PRODUCTS:,} multiplications for one picture")
        return Cost(products, values)

    def products(self, node: _Node, out: Shape) -> int:
        """Multiplications of a node; those with one a number do not count."""
        if node.operator == "Conv":
            return math.prod(out) * math.prod(self.shapes[node.inputs[1]][1:])
        if node.operator == "ConvTranspose":
            return math.prod(self.shape(node)) * math.prod(self.shapes[node.inputs[1]][1:])
        if node.operator in ("MatMul", "Gemm"):
            first = self.shapes[node.inputs[0]]
            return math.prod(out) * (first[0] if node.attributes.get("transA") else first[-1])
        if node.operator in ("AveragePool", "MaxPool"):
            return math.prod(out) * math.prod(node.attributes["kernel_shape"])
        return 0

    def shape(self, node: _Node, index: int = 0) -> Shape:
        """The shape of a node's input."""
        return self.shapes[node.inputs[index]]

    def has(self, node: _Node, index: int) -> bool:
        """Whether a node has an optional input."""
        return len(node.inputs) > index and node.inputs[index] != ""

    def constant(self, node: _Node, index: int) -> list[int]:
        """The numbers of a node's input, which must be a constant."""
        return self.constants[node.inputs[index]]


# --- operators: each gives the shapes of its outputs

_Rule = Callable[[_Graph, _Node], list[Shape]]


def _same(graph: _Graph, node: _Node) -> list[Shape]:
    return [graph.shape(node)]


def _broadcast(graph: _Graph, node: _Node) -> list[Shape]:
    shapes = [graph.shape(node, k) for k in range(len(node.inputs))]
    return [_together(shapes)]


def _together(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    result = []
    for sizes in columns:
        larger = {size for size in sizes if size != 1}
        if len(larger) > 1:
            raise ValueError("not broadcastable")
        result.append(larger.pop() if larger else 1)
    return tuple(result)


def _matmul(graph: _Graph, node: _Node) -> list[Shape]:
    a, b = graph.shape(node, 0), graph.shape(node, 1)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError("inner sizes differ")
    return [(*_together([a[:-2], b[:-2]]), a[-2], b[-1])]


def _gemm(graph: _Graph, node: _Node) -> list[Shape]:
    (m, k), (j, n) = graph.shape(node, 0), graph.shape(node, 1)
    m, k = (k, m) if node.attributes.get("transA") else (m, k)
    j, n = (n, j) if node.attributes.get("transB") else (j, n)
    if j != k:
        raise ValueError("inner sizes differ")
    return [(m, n)]


def _windows(graph: _Graph, node: _Node, kernel: Sequence[int]) -> Shape:
    """The sides of what a convolution or pooling leaves."""
    settings, sides = node.attributes, graph.shape(node)[2:]
    rank = len(sides)
    strides, dilations = settings.get("strides") or [1] * rank, settings.get("dilations") or [1] * rank
    pads = settings.get("pads") or [0] * 2 * rank
    if settings.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or settings.get("ceil_mode"):
        raise ValueError("padding that is not written down")
    if min((*strides, *dilations, *kernel)) < 1 or not len(kernel) == len(strides) == len(dilations) == rank:
        raise ValueError("no window")
    return tuple(
        (side + pads[d] + pads[d + rank] - dilations[d] * (kernel[d] - 1) - 1) // strides[d] + 1
        for d, side in enumerate(sides)
    )


def _conv(graph: _Graph, node: _Node) -> list[Shape]:
    x, weight = graph.shape(node, 0), graph.shape(node, 1)
    if x[1] != weight[1] * (node.attributes.get("group") or 1):
        raise ValueError("channels differ")
    return [(x[0], weight[0], *_windows(graph, node, weight[2:]))]


def _conv_transpose(graph: _Graph, node: _Node) -> list[Shape]:
    x, weight, settings = graph.shape(node, 0), graph.shape(node, 1), node.attributes
    rank = len(x) - 2
    strides, dilations = settings.get("strides") or [1] * rank, settings.get("dilations") or [1] * rank
    pads, more = settings.get("pads") or [0] * 2 * rank, settings.get("output_padding") or [0] * rank
    if settings.get("auto_pad", "NOTSET") != "NOTSET" or settings.get("output_shape") or x[1] != weight[0]:
        raise ValueError("padding that is not written down, or other channels")
    sides = tuple(
        strides[d] * (x[2 + d] - 1) + more[d] + (weight[2 + d] - 1) * dilations[d] + 1 - pads[d] - pads[d + rank]
        for d in range(rank)
    )
    return [(x[0], weight[1] * (settings.get("group") or 1), *sides)]


def _pool(graph: _Graph, node: _Node) -> list[Shape]:
    return [(*graph.shape(node)[:2], *_windows(graph, node, node.attributes["kernel_shape"]))]


def _global_pool(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    return [(*shape[:2], *(1,) * (len(shape) - 2))]


def _reshape(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    wanted = [shape[d] if n == 0 and not node.attributes.get("allowzero") else n for d, n in enumerate(graph.constant(node, 1))]  # fmt: skip
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) > 1 or min(wanted) < -1:
        raise ValueError("no shape")
    result = tuple(math.prod(shape) // known if n == -1 else n for n in wanted)
    if math.prod(result) != math.prod(shape):
        raise ValueError("not as many numbers")
    return [result]


def _flatten(graph: _Graph, node: _Node) -> list[Shape]:
    shape, axis = graph.shape(node), node.attributes.get("axis", 1)
    return [(math.prod(shape[:axis]), math.prod(shape[axis:]))]


def _transpose(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    order = node.attributes.get("perm") or list(range(len(shape)))[::-1]
    if sorted(order) != list(range(len(shape))):
        raise ValueError("no permutation")
    return [tuple(shape[d] for d in order)]


def _axes(graph: _Graph, node: _Node, rank: int) -> list[int]:
    axes = graph.constant(node, 1) if graph.has(node, 1) else node.attributes.get("axes") or list(range(rank))
    axes = [axis + rank if axis < 0 else axis for axis in axes]
    if any(not 0 <= axis < rank for axis in axes):
        raise ValueError("no axis")
    return axes


def _unsqueeze(graph: _Graph, node: _Node) -> list[Shape]:
    count = len(graph.constant(node, 1) if graph.has(node, 1) else node.attributes["axes"])
    shape = list(graph.shape(node))
    for axis in sorted(_axes(graph, node, len(shape) + count)):
        shape.insert(axis, 1)
    return [tuple(shape)]


def _squeeze(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    axes = _axes(graph, node, len(shape))
    return [tuple(n for d, n in enumerate(shape) if d not in axes)]


def _reduce(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    axes = _axes(graph, node, len(shape))
    if node.attributes.get("keepdims", 1):
        return [tuple(1 if d in axes else n for d, n in enumerate(shape))]
    return [tuple(n for d, n in enumerate(shape) if d not in axes)]


def _concat(graph: _Graph, node: _Node) -> list[Shape]:
    shapes = [graph.shape(node, k) for k in range(len(node.inputs))]
    axis = node.attributes["axis"] % len(shapes[0])
    return [(*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])]


def _split(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    axis = node.attributes.get("axis", 0) % len(shape)
    count = len(node.outputs)
    each = -(-shape[axis] // count)
    sizes = graph.constant(node, 1) if graph.has(node, 1) else [each] * (count - 1) + [shape[axis] - each * (count - 1)]
    if len(sizes) != count or sum(sizes) != shape[axis] or min(sizes) < 0:
        raise ValueError("parts do not fit")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _slice(graph: _Graph, node: _Node) -> list[Shape]:
    shape = list(graph.shape(node))
    starts, ends = graph.constant(node, 1), graph.constant(node, 2)
    axes = graph.constant(node, 3) if graph.has(node, 3) else list(range(len(starts)))
    steps = graph.constant(node, 4) if graph.has(node, 4) else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        shape[axis] = len(range(*slice(start, end, step).indices(shape[axis])))
    return [tuple(shape)]


def _gather(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    axis = node.attributes.get("axis", 0) % len(shape)
    return [(*shape[:axis], *graph.shape(node, 1), *shape[axis + 1 :])]


def _gather_nd(graph: _Graph, node: _Node) -> list[Shape]:
    shape, indices = graph.shape(node), graph.shape(node, 1)
    return [(*indices[:-1], *shape[node.attributes.get("batch_dims", 0) + indices[-1] :])]


def _pad(graph: _Graph, node: _Node) -> list[Shape]:
    shape = list(graph.shape(node))
    pads = graph.constant(node, 1)
    axes = graph.constant(node, 3) if graph.has(node, 3) else list(range(len(shape)))
    for k, axis in enumerate(axes):
        shape[axis] += pads[k] + pads[k + len(axes)]
    return [tuple(shape)]


def _expand(graph: _Graph, node: _Node) -> list[Shape]:
    return [_together([graph.shape(node), tuple(graph.constant(node, 1))])]


def _depth_to_space(graph: _Graph, node: _Node) -> list[Shape]:
    n, channels, height, width = graph.shape(node)
    side = node.attributes["blocksize"]
    return [(n, channels // (side * side), height * side, width * side)]


def _space_to_depth(graph: _Graph, node: _Node) -> list[Shape]:
    n, channels, height, width = graph.shape(node)
    side = node.attributes["blocksize"]
    return [(n, channels * side * side, height // side, width // side)]


def _grid_sample(graph: _Graph, node: _Node) -> list[Shape]:
    (n, channels, _, _), (_, height, width, _) = graph.shape(node, 0), graph.shape(node, 1)
    return [(n, channels, height, width)]


def _resize(graph: _Graph, node: _Node) -> list[Shape]:
    shape = graph.shape(node)
    if graph.has(node, 3):
        return [tuple(graph.constant(node, 3))]
    scales = graph.floats[node.inputs[2]]
    return [tuple(math.floor(n * scale) for n, scale in zip(shape, scales, strict=True))]


def _constant(graph: _Graph, node: _Node) -> list[Shape]:
    if "value" in node.attributes:
        tensor = node.attributes["value"]
        graph.keep(replace(tensor, name=node.outputs[0]))
        return [tensor.shape]
    value = next(iter(node.attributes.values()))
    integers = value if isinstance(value, list) else [value]
    if all(isinstance(n, int) for n in integers):
        graph.constants[node.outputs[0]] = integers
    return [(len(integers),) if isinstance(value, list) else ()]


_OPERATORS: dict[str, _Rule] = {
    **dict.fromkeys(
        ("Abs", "BatchNormalization", "Cast", "Ceil", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu",
         "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization",
         "LeakyRelu", "Log", "LogSoftmax", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin",
         "Softmax", "Softplus", "Sqrt", "Tanh"),
        _same,
    ),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu", "Where", "Less", "Greater"), _broadcast),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"), _reduce),
    "AveragePool": _pool, "Concat": _concat, "Constant": _constant, "Conv": _conv, "ConvTranspose": _conv_transpose, "DepthToSpace": _depth_to_space,
    "Expand": _expand, "Flatten": _flatten, "Gather": _gather, "GatherND": _gather_nd, "Gemm": _gemm,
    "GlobalAveragePool": _global_pool, "GridSample": _grid_sample, "MatMul": _matmul, "MaxPool": _pool, "Pad": _pad,
    "Reshape": _reshape, "Resize": _resize, "Slice": _slice, "SpaceToDepth": _space_to_depth, "Split": _split,
    "Squeeze": _squeeze, "Transpose": _transpose, "Unsqueeze": _unsqueeze,
}  # fmt: skip

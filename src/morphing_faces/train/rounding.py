"""Stored weights rounded to steps as coarse as no eye can tell, so that they compress.

16-bit weights are nearly noise: no compressor takes much off. Rounded to multiples of a step they stay 16-bit numbers that
every reader knows, and a network sent with Brotli shrinks by a third.

How coarse each tensor may be is measured. An error of ``step`` in each of the N weights of a tensor changes the picture by a
mean square of about N sensitivity step^2, and takes N log2(step) bits off; so for the least bits at a given error every weight
must contribute the same: step^2 is in inverse proportion to the sensitivity (reverse water-filling; Cover and Thomas, Elements
of Information Theory, 10.3.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .onnx_export import QUANTILE

# A network -> pictures that it draws, or that are drawn from its answers.
Draw = Callable[[onnx.ModelProto], np.ndarray]

WORTH = 1 << 20  # weights of a network that is worth it: less is nothing to wait for
LEAST = 4096  # weights of a tensor that is rounded
TRIED = 1 / 64  # the step at which the sensitivity is measured, in standard deviations of the tensor
TAIL = 5  # the quantile of the pictures' changes, in roots of their mean square, about
COARSEST = 8  # of that step: what the pictures tried do not show others may
TRIALS = 7  # by which the steps' common factor is found, between 3 octaves less and more than expected


def with_known(model: onnx.ModelProto, known: dict[bytes, np.ndarray]) -> onnx.ModelProto:
    """A copy of a network in which the tensors that others have, too, are what they have become there; see :func:`rounded`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        found = known.get(numpy_helper.to_array(tensor).tobytes())
        if found is not None:
            _put(tensor, found)
    return copy


def rounded(model: onnx.ModelProto, draw: Draw, allowed: float, known: dict[bytes, np.ndarray]) -> onnx.ModelProto:
    """A copy of a network whose large fp16 weights are multiples of steps, each a power of 2.

    At the ``QUANTILE`` of all pixels the pictures change by at most ``allowed``. ``known`` has the rounded tensors of other
    networks by the bytes that they were: what networks have in common stays in common. Those of this one are added to it.
    Networks of less than ``WORTH`` weights are left as they are.
    """
    copy = with_known(model, known)
    tensors = [one for one in copy.graph.initializer if one.data_type == TensorProto.FLOAT16]
    exact = {one.name: numpy_helper.to_array(one) for one in tensors}
    if sum(value.size for value in exact.values()) < WORTH:
        return copy
    done = {value.tobytes() for value in known.values()}
    free = [one for one in tensors if exact[one.name].size >= LEAST and exact[one.name].tobytes() not in done]

    reference = draw(copy)
    steps, coarsest = {}, {}
    for one in free:
        value = exact[one.name]
        step = TRIED * float(value.std(dtype=np.float64))
        if not step:
            continue
        _put(one, _on_steps(value, step))
        error = float(np.square(draw(copy) - reference).mean())
        _put(one, value)
        if error:  # else it is on steps already, as places of pixels are, or of no account
            coarsest[one.name] = COARSEST * step
            steps[one.name] = step * math.sqrt(value.size / error)
    free = [one for one in free if one.name in steps]
    if not free:
        return copy

    def put(factor: float) -> None:
        for one in free:
            step = min(steps[one.name] * factor, coarsest[one.name])
            _put(one, _on_steps(exact[one.name], step))

    expected = math.log2(allowed / TAIL / math.sqrt(sum(exact[one.name].size for one in free)))
    low, high = expected - 3, expected + 3
    for _ in range(TRIALS):
        middle = (low + high) / 2
        put(2**middle)
        change = float(np.quantile(np.abs(draw(copy) - reference), QUANTILE))
        low, high = (middle, high) if change <= allowed else (low, middle)
    put(2**low)
    known |= {exact[one.name].tobytes(): numpy_helper.to_array(one) for one in free}
    return copy


def _on_steps(value: np.ndarray, step: float) -> np.ndarray:
    """The nearest multiples of the power of 2 that is nearest to ``step``, as fp16."""
    power = 2.0 ** round(math.log2(step))
    found: np.ndarray = (np.round(value.astype(np.float64) / power) * power).astype(np.float16)
    return found


def _put(tensor: TensorProto, value: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))

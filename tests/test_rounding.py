"""Rounded weights: how much they change, how much they compress, and what is left alone."""

from __future__ import annotations

import brotli
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from morphing_faces.train.onnx_export import QUANTILE, run_onnx
from morphing_faces.train.rounding import rounded, with_known

ALLOWED = 0.75 / 255
Z = np.random.default_rng(1).standard_normal((16, 400)).astype(np.float32)
Values = dict[str, np.ndarray]
Known = dict[bytes, np.ndarray]


def values(hidden: int = 2048) -> Values:
    rng = np.random.default_rng(0)
    into = rng.standard_normal((400, hidden)) / 20
    out = rng.standard_normal((hidden, 256)) / np.sqrt(hidden) / 4
    places = np.tile(np.arange(256.0), (64, 1))
    return {"into": into, "out": out, "places": places}


def network(weights: Values) -> onnx.ModelProto:
    """picture = tanh(z into) out, and of ``places`` all the same."""
    tensors = [numpy_helper.from_array(value.astype(np.float16), f"{name}_16") for name, value in weights.items()]
    nodes = [helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT) for name in weights]
    nodes += [
        helper.make_node("MatMul", ["z", "into"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "out"], ["c"]),
        helper.make_node("ReduceMean", ["places"], ["middle"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["middle", "scale"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["picture"]),
    ]
    tensors.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", s]) for n, s in (("z", 400), ("picture", 256))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def draw(model: onnx.ModelProto) -> np.ndarray:
    return run_onnx(model, z=Z)[0]


def stored(model: onnx.ModelProto) -> Values:
    return {one.name.removesuffix("_16"): numpy_helper.to_array(one) for one in model.graph.initializer}


@pytest.fixture(scope="module")
def known() -> Known:
    return {}


@pytest.fixture(scope="module")
def before() -> onnx.ModelProto:
    return network(values())


@pytest.fixture(scope="module")
def after(before: onnx.ModelProto, known: Known) -> onnx.ModelProto:
    return rounded(before, draw, ALLOWED, known)


def test_pictures_change_by_less_than_a_level_of_grey_and_almost_as_much_as_is_allowed(
    before: onnx.ModelProto, after: onnx.ModelProto
) -> None:
    change = np.quantile(np.abs(draw(after) - draw(before)), QUANTILE)
    assert 0.5 * ALLOWED < change <= ALLOWED
    others = np.random.default_rng(2).standard_normal((64, 400)).astype(np.float32)
    (a,), (b,) = (run_onnx(model, z=others) for model in (before, after))
    assert np.quantile(np.abs(a - b), QUANTILE) < 1 / 255


def test_weights_stay_16_bit_numbers_on_steps_and_compress(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    for name, value in stored(after).items():
        if name in ("into", "out"):
            assert value.dtype == np.float16
            least = np.abs(value[value != 0]).min()
            assert np.log2(least) % 1 == 0
            assert (value.astype(np.float64) / least % 1 == 0).all()
    sizes = [len(brotli.compress(model.SerializeToString(), quality=5)) for model in (before, after)]
    assert sizes[1] < 0.8 * sizes[0]
    assert before.SerializeToString() != after.SerializeToString()


def test_places_of_pixels_are_left_alone(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    assert np.array_equal(stored(after)["places"], stored(before)["places"])


def test_what_another_network_has_too_stays_the_same_in_both(
    before: onnx.ModelProto, after: onnx.ModelProto, known: Known
) -> None:
    small = network({**values(), "out": values()["out"] * 2})
    for other in (with_known(small, known), rounded(small, draw, ALLOWED, dict(known))):
        assert np.array_equal(stored(other)["into"], stored(after)["into"])
    assert np.array_equal(stored(with_known(small, known))["out"], stored(small)["out"])


def test_small_networks_are_left_as_they_are() -> None:
    small = network(values(hidden=64))
    assert rounded(small, draw, ALLOWED, {}) == small

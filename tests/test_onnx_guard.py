"""Networks of strangers: what they would read, compute and keep is known before the runtime sees them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import morphing_faces as mf
from morphing_faces import bundle, onnx_guard
from morphing_faces.bundle import BundleError
from test_bundle import change_file

Node = Any


def network(nodes: list[Node], constants: dict[str, np.ndarray] | None = None, **changes: Any) -> Any:
    """A decoder u (n, 32) -> picture (n, 16, 16, 1)."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("u", ["n", 32]), ("picture", ["n", 16, 16, 1]))
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)], **changes)


SHAPES = {
    "axis": np.array([1]), "rows": np.array([-1, 1, 1, 1]), "wide": np.array([1, 16, 16, 1]),
    "huge": np.array([750, 1_000_000]), "million": np.array([1, 1, 1_000_000, 1]), "zero": np.float32(0),
}  # fmt: skip
END = [
    helper.make_node("ReduceSum", ["u", "axis"], ["sum"], keepdims=1),
    helper.make_node("Reshape", ["sum", "rows"], ["one"]),
    helper.make_node("Expand", ["one", "wide"], ["picture"]),
]


def external(name: str) -> Any:
    model = network(END, SHAPES)
    tensor = TensorProto(name="secret", data_type=TensorProto.UINT8, dims=[1024], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", name), ("offset", "0"), ("length", "1024")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    model.graph.initializer.append(tensor)
    return model


def loop() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["a", "a"], ["b"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )  # fmt: skip
    trips = {"trips": np.int64(2**62), "go": np.bool_(True)}
    nodes = [END[0], helper.make_node("Loop", ["trips", "go", "sum"], ["sum2"], body=body)]
    return network([*nodes, helper.make_node("Reshape", ["sum2", "rows"], ["one"]), END[2]], SHAPES | trips)


def doubling(times: int) -> Any:
    nodes = [helper.make_node("Concat", [f"x{k}", f"x{k}"], [f"x{k + 1}"], axis=1) for k in range(times)]
    nodes[0].input[:] = ["u", "u"]
    return network([*nodes, *END], SHAPES)


def outer() -> Any:
    nodes = [
        helper.make_node("Reshape", ["u", "column"], ["c"]), helper.make_node("Reshape", ["u", "row"], ["r"]),
        helper.make_node("Concat", ["c"] * 1000, ["cc"], axis=1), helper.make_node("Concat", ["r"] * 1000, ["rr"], axis=2),
        helper.make_node("Mul", ["cc", "rr"], ["product"]),
    ]  # fmt: skip
    return network([*nodes, *END], SHAPES | {"column": np.array([1, 32, 1]), "row": np.array([1, 1, 32])})


def slow() -> Any:
    nodes = [helper.make_node("Conv", ["image", "kernel"], ["x0"], pads=[8] * 4)]
    nodes += [helper.make_node("Conv", [f"x{k}", "kernel2"], [f"x{k + 1}"], pads=[8] * 4) for k in range(50)]
    constants = {"image": np.zeros((1, 1, 512, 512), np.float32), "kernel": np.zeros((16, 1, 17, 17), np.float32)}
    return network([*nodes, *END], SHAPES | constants | {"kernel2": np.zeros((16, 16, 17, 17), np.float32)})


def function() -> Any:
    model = network(END, SHAPES)
    model.functions.add().name = "f"
    return model


HOSTILE: dict[str, tuple[Any, list[str]]] = {
    "external data": (external("secret.txt"), ["another file"]),
    "external data elsewhere": (external("/etc/passwd"), ["another file"]),
    "a loop": (loop(), ["'Loop'"]),
    "3 GB": (network([helper.make_node("ConstantOfShape", ["huge"], ["big"]), *END], SHAPES), ["'ConstantOfShape'"]),
    "an expansion": (network([END[0], END[1], helper.make_node("Expand", ["one", "million"], ["a"]), helper.make_node("Tile", ["a", "wide"], ["picture"])], SHAPES), ["'Tile'"]),
    "doubled and doubled": (doubling(40), ["numbers in memory"]),
    "an outer product": (outer(), ["numbers in memory"]),
    "no end of multiplications": (slow(), ["multiplications"]),
    "another domain": (network([helper.make_node("Sum", ["u"], ["v"], domain="com.evil"), *END], SHAPES), ["'com.evil.Sum'"]),
    "a function": (function(), ["functions"]),
    "a shape that is computed": (network([helper.make_node("Cast", ["u"], ["s"], to=TensorProto.INT64), helper.make_node("Reshape", ["u", "s"], ["x"]), *END], SHAPES), ["'Reshape'", "beforehand"]),
    "another input": (network([helper.make_node("Relu", ["v"], ["w"]), *END], SHAPES), ["'Relu'"]),
    "ten thousand nodes": (network([*(helper.make_node("Relu", ["u"], [f"r{k}"]) for k in range(10_000)), *END], SHAPES), ["5,000 nodes"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_network_is_refused_before_it_runs(
    kind: str, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, words = HOSTILE[kind]
    (bundle_copy / "secret.txt").write_bytes(b"s" * 1024)
    monkeypatch.chdir(bundle_copy)
    change_file(bundle_copy, "decoder.onnx", model.SerializeToString())
    began = time.process_time()
    with pytest.raises(BundleError) as caught:
        mf.load(".")
    assert time.process_time() - began < 20
    message = str(caught.value)
    assert "\n" not in message
    assert "decoder.onnx" in message
    assert bundle.REMEDY in message
    for word in words:
        assert word in message


def test_what_fails_only_when_it_is_run_is_one_line_too(bundle_copy: Path) -> None:
    shapes = SHAPES | {"index": np.array([1000])}
    nodes = [helper.make_node("Gather", ["u", "index"], ["picked"], axis=1), *END]
    change_file(bundle_copy, "decoder.onnx", network(nodes, shapes).SerializeToString())
    with pytest.raises(BundleError, match=r"decoder\.onnx (fails when it is run|is not a usable)") as caught:
        mf.load(bundle_copy).decode(np.zeros(32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", bundle.names())
def test_the_shipped_networks_pass_and_their_cost_is_known(name: str) -> None:
    found = bundle.find(name)
    code = (1, found.latent_size)
    inputs: dict[str, Any] = {"u": code, "shape": code} if found.has_shape else {"u": code}
    decoder = onnx_guard.check(found.read("decoder.onnx"), inputs)
    encoder = onnx_guard.check(found.read("encoder.onnx"), {"picture": (1, *found.image_shape)})
    small = [onnx_guard.check(found.read("shape.onnx"), {"u": code})] if found.has_shape else []
    assert all(cost.products < 0.1 * decoder.products for cost in small)
    for cost in (decoder, encoder):
        assert 1e6 < cost.products < 1e9
        assert cost.values < 1e8


def test_scales_of_a_resize_count() -> None:
    image = {"image": np.zeros((1, 1, 64, 64), np.float32)}
    for scale, refused in ((2.0, False), (500.0, True)):
        scales = np.array([1, 1, scale, scale], np.float32)
        model = network([helper.make_node("Resize", ["image", "", "scales"], ["large"]), *END], SHAPES | image | {"scales": scales})  # fmt: skip
        content = model.SerializeToString()
        if refused:
            with pytest.raises(onnx_guard.RefusedError, match="numbers in memory"):
                onnx_guard.check(content, {"u": (1, 32)})
        else:
            assert onnx_guard.check(content, {"u": (1, 32)}).values > 128 * 128

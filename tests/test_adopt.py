"""Other people's decoders become bundles, or are refused with one line; the graphs are made here."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import morphing_faces as mf
from conftest import Run, drawn_faces, leave_uncompressed
from hand import Serve, Visit, open_page, until
from morphing_faces import bundle as bundles
from morphing_faces import trial
from morphing_faces.adopt import adopt
from morphing_faces.dataset import open_dataset
from morphing_faces.errors import UserError
from morphing_faces.evaluate import Settings, evaluate, table
from morphing_faces.network_file import Joined
from morphing_faces.pictures import to_uint8
from morphing_faces.prepare import prepare
from morphing_faces.principal import coarse, plan, principal_directions, steady_step

SIDE, K = 16, 6
RNG = np.random.default_rng(3)
Parts = dict[str, Any]


def linear(channels: int = 3, k: int = K, side: int = SIDE) -> np.ndarray:
    """A Jacobian (k, pixels) whose directions differ in strength, around a grey picture."""
    rows = np.linalg.qr(RNG.standard_normal((side * side * channels, k)))[0].T
    turn = np.linalg.qr(RNG.standard_normal((k, k)))[0]
    return turn @ np.diag(0.8 * 0.6 ** np.arange(k)) @ rows


def network(nodes: list[Any], weights: dict[str, np.ndarray], **parts: Any) -> onnx.ModelProto:
    """A graph from z to picture; ``parts`` change what its input, output, opset or domains are."""
    kind = parts.get("kind", TensorProto.FLOAT)
    inputs = parts.get("inputs", [helper.make_tensor_value_info("z", kind, parts.get("z", ["n", K]))])
    outputs = parts.get("outputs", [helper.make_tensor_value_info("x", kind, parts.get("x", ["n", 3, SIDE, SIDE]))])
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    imports = [
        helper.make_opsetid("", parts.get("opset", 17)),
        *(helper.make_opsetid(d, 1) for d in parts.get("domains", [])),
    ]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, producer_name="a test")


def decoder(
    jacobian: np.ndarray | None = None, shape: tuple[int, ...] = (3, SIDE, SIDE), batch: int | None = None, rank: int = 2,
    dtype: Any = np.float32, scale: float = 1.0, shift: float = 0.5, named: bool = True, **parts: Any,
) -> onnx.ModelProto:  # fmt: skip
    """z -> z J + shift, all times ``scale``: a decoder of which everything is known."""
    jacobian = linear(int(np.prod(shape)) // SIDE**2) if jacobian is None else jacobian
    k = len(jacobian)
    weights: dict[str, np.ndarray] = {
        "w": (scale * jacobian).astype(dtype),
        "b": np.full(int(np.prod(shape)), scale * shift, dtype),
        "flat": np.array([batch or -1, k], np.int64),
        "picture": np.array([batch or -1, *shape], np.int64),
    }
    nodes = [helper.make_node("Reshape", ["z", "flat"], ["row"])] if rank == 4 else []
    nodes += [
        helper.make_node("Gemm", ["row" if rank == 4 else "z", "w", "b"], ["y"]),
        helper.make_node("Reshape", ["y", "picture"], ["x"]),
    ]
    size = batch or "n"
    ends = {"z": [size, k, 1, 1][:rank] if named else ["n", "k"], "x": [size, *shape]}
    return network(nodes, weights, **{"kind": helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), **ends, **parts})


def written(model: onnx.ModelProto | bytes, folder: Path, name: str = "decoder.onnx") -> Path:
    path = folder / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def matrix(folder: Path) -> np.ndarray:
    """d raw / d u of an adopted bundle, as its graph holds it."""
    graph = onnx.load(folder / "decoder.onnx").graph
    found: np.ndarray = numpy_helper.to_array(next(each for each in graph.initializer if each.name == "matrix")).T
    return found


# --- what is found


def test_the_directions_of_a_linear_decoder_are_its_singular_vectors(tmp_path: Path) -> None:
    jacobian = linear()
    adopt(written(decoder(jacobian), tmp_path), tmp_path / "out", decodes=256)
    values, vectors = np.linalg.svd(jacobian.T, full_matrices=False)[1:]
    found = matrix(tmp_path / "out")
    signs = np.sign((found * vectors.T).sum(0))
    assert np.abs(found * signs - vectors.T).max() < 1e-3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    shares = [entry["share"] for entry in manifest["dimensions"]]
    assert shares == pytest.approx(values**2 / (values**2).sum(), abs=1e-4)


def test_codes_of_real_pictures_become_the_unit_of_the_coordinates(tmp_path: Path) -> None:
    jacobian, centre = linear(), RNG.standard_normal(K)
    spread = RNG.standard_normal((K, K)) * 0.3 + np.eye(K)
    codes = centre + RNG.standard_normal((4000, K)) @ spread.T
    np.save(tmp_path / "codes.npy", codes.astype(np.float32))
    adopt(
        written(decoder(jacobian), tmp_path),
        tmp_path / "out",
        codes=tmp_path / "codes.npy",
        decodes=256,
        value_range="0,1",
    )
    found = matrix(tmp_path / "out")
    assert found @ found.T == pytest.approx(np.cov(codes, rowvar=False), rel=1e-3, abs=1e-3)
    effect = found.T @ jacobian @ jacobian.T @ found  # diagonal, the largest first
    assert np.abs(effect - np.diag(np.diag(effect))).max() < 1e-3 * effect[0, 0]
    assert (np.diff(np.diag(effect)) < 0).all()
    average = mf.load(tmp_path / "out").decode(np.zeros(K))[0]
    expected = (codes.mean(0) @ jacobian + 0.5).reshape(3, SIDE, SIDE).transpose(1, 2, 0).clip(0, 1)
    assert average == pytest.approx(expected, abs=1e-4)


def test_each_dimension_brightens_the_picture(tmp_path: Path) -> None:
    adopt(written(decoder(), tmp_path), tmp_path / "out", decodes=256)
    model = mf.load(tmp_path / "out")
    assert (model.decode(np.eye(K)).mean((1, 2, 3)) >= model.decode(np.zeros(K)).mean() - 1e-6).all()


def test_the_shipped_decoder_finds_its_first_dimensions_again(tmp_path: Path) -> None:
    """Turned at random, so that its coordinates are gone. benchmarks/adopt.py does it with more pictures, in color."""
    shipped = bundles.find("classic")
    k = shipped.latent_size
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((k, k)))[0]
    joined = Joined(onnx.load_model_from_string(shipped.read("decoder.onnx")))
    joined.add("MatMul", ["z", joined.constant("turn", turn.T)], joined.inputs[0])
    joined.add_given()
    joined.add("Transpose", [joined.outputs[0]], "x", perm=[0, 3, 1, 2])
    height, width, channels = shipped.image_shape
    turned = joined.model({"z": ["n", k]}, {"x": ["n", channels, height, width]}, "a test")
    adopt(written(turned, tmp_path), tmp_path / "out", decodes=3000)
    cosines = np.abs((turn @ matrix(tmp_path / "out")).diagonal()[:3])
    assert (cosines > 0.9).all(), cosines


# --- whatever the form


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "from 0 to 1"),
        ({"shape": (SIDE, SIDE, 3)}, "NHWC"),
        ({"shape": (1, SIDE, SIDE)}, "16x16 grey, NCHW"),
        ({"shape": (SIDE, SIDE, 1)}, "16x16 grey, NHWC"),
        ({"batch": 1}, "from 0 to 1"),
        ({"batch": 5}, "from 0 to 1"),
        ({"rank": 4}, "from 0 to 1"),
        ({"rank": 4, "batch": 1, "shape": (SIDE, SIDE, 3)}, "NHWC"),
        ({"scale": 2.0, "shift": 0.0}, "from -1 to 1"),
        ({"scale": 255.0}, "from 0 to 255"),
        ({"dtype": np.float16}, "from 0 to 1"),
        ({"dtype": np.float64}, "from 0 to 1"),
        ({"opset": 9}, "opset 9"),
        ({"opset": 21}, "opset 21"),
    ],
)
def test_decoders_of_all_forms_draw_what_they_drew(parts: Parts, said: str, tmp_path: Path) -> None:
    jacobian = linear(1 if 1 in parts.get("shape", ()) else 3)
    path = written(decoder(jacobian, **parts), tmp_path)
    words: list[str] = []
    adopt(path, tmp_path / "out", decodes=200, say=words.append)
    assert said in "\n".join(words)
    model = mf.load(tmp_path / "out")
    u = model.sample(70, seed=4)
    shape = parts.get("shape", (3, SIDE, SIDE))
    values = (u @ matrix(tmp_path / "out").T @ jacobian).reshape(-1, *shape)
    values = values / 1 + 0.5 if "shift" not in parts else values + 0.5  # -1 to 1 is 0 to 1, twice as wide
    expected = values if shape[2] in (1, 3) else values.transpose(0, 2, 3, 1)
    assert np.abs(model.decode(u) - expected.clip(0, 1)).max() < (0.01 if parts.get("dtype") is np.float16 else 1e-4)


def test_a_latent_whose_length_is_not_said_is_asked_for(tmp_path: Path) -> None:
    path = written(decoder(named=False), tmp_path)
    with pytest.raises(UserError, match="say it with --latent-size"):
        adopt(path, tmp_path / "out")
    adopt(path, tmp_path / "out", latent_size=K, decodes=100)
    assert mf.load(tmp_path / "out").latent_size == K


def test_sizes_that_a_graph_computes_are_computed_beforehand(tmp_path: Path) -> None:
    """What older exporters write for ``x.view(x.size(0), ...)``."""
    weights: dict[str, np.ndarray] = {
        "w": linear().astype(np.float32), "zero": np.array(0, np.int64), "axis": np.array([0], np.int64),
        "rest": np.array([3, SIDE, SIDE], np.int64), "half": np.array(0.5, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["z", "w"], ["y"]),
        helper.make_node("Shape", ["y"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axis"], ["ns"]),
        helper.make_node("Concat", ["ns", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["y", "shape"], ["x0"]),
        helper.make_node("Add", ["x0", "half"], ["x"]),
    ]
    adopt(written(network(nodes, weights), tmp_path), tmp_path / "out", decodes=100)
    model = mf.load(tmp_path / "out")
    u = model.sample(3, seed=1)
    expected = (u @ matrix(tmp_path / "out").T @ weights["w"] + 0.5).reshape(3, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    assert model.decode(u) == pytest.approx(expected.clip(0, 1), abs=1e-4)


def built_in() -> onnx.ModelProto:
    """Only the first row counts: a batch of one that cannot be freed."""
    weights: dict[str, np.ndarray] = {
        "w": linear().astype(np.float32), "shape": np.array([1, 3, SIDE, SIDE], np.int64),
        "low": np.array([0], np.int64), "high": np.array([1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["z", "low", "high"], ["first"]),
        helper.make_node("MatMul", ["first", "w"], ["y"]),
        helper.make_node("Reshape", ["y", "shape"], ["x0"]),
        helper.make_node("Sigmoid", ["x0"], ["x"]),
    ]
    return network(nodes, weights, z=[1, K], x=[1, 3, SIDE, SIDE])


def test_weights_beside_the_file_come_along(tmp_path: Path) -> None:
    model = decoder()
    onnx.save(model, tmp_path / "decoder.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    adopt(tmp_path / "decoder.onnx", tmp_path / "out", decodes=100)
    (tmp_path / "weights.bin").unlink()
    assert mf.load(tmp_path / "out").decode(np.zeros(K)) == pytest.approx(0.5)


# --- with an encoder


def encoder(jacobian: np.ndarray, names: tuple[str, str], spread: float, batch: int | None = None) -> onnx.ModelProto:
    """The inverse of ``decoder``, with the same spread for every code."""
    inverse = np.linalg.pinv(jacobian)
    weights: dict[str, np.ndarray] = {
        "flat": np.array([batch or -1, inverse.shape[0]], np.int64), "w": inverse.astype(np.float32),
        "grey": np.array(0.5, np.float32), "nothing": np.array(0, np.float32), "spread": np.array(spread, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["x", "grey"], ["centred"]),
        helper.make_node("Reshape", ["centred", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], [names[0]]),
        helper.make_node("Mul", [names[0], "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "spread"], [names[1]]),
    ]
    size = batch or "n"
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 3, SIDE, SIDE])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, K]) for name in names]
    return network(nodes, weights, inputs=[picture], outputs=outputs)


@pytest.mark.parametrize(
    ("names", "spread", "std", "said"),
    [
        (("mu", "log_var"), -2.0, np.exp(-1), "logarithm of the variance is 'log_var' (by their names)"),
        (("mean", "std"), 0.3, 0.3, "standard deviation is 'std' (by their names)"),
        (("embedding", "log_covariance"), -2.0, np.exp(-1), "logarithm of the variance is 'log_covariance'"),
        (("a", "b"), -2.0, np.exp(-1), "logarithm of the variance is 'b' (by their order"),
        (("a", "b"), 0.3, 0.3, "standard deviation is 'b' (by their order"),
        (("mu", "log_sigma"), -1.0, np.exp(-1), "logarithm of the standard deviation is 'log_sigma'"),
    ],
)
def test_an_encoder_answers_in_the_coordinates(
    names: tuple[str, str], spread: float, std: float, said: str, tmp_path: Path
) -> None:
    jacobian = linear()
    words: list[str] = []
    path = written(encoder(jacobian, names, spread, batch=1), tmp_path, "encoder.onnx")
    adopt(written(decoder(jacobian), tmp_path), tmp_path / "out", encoder=path, decodes=100, say=words.append)
    assert said in "\n".join(words)
    model = mf.load(tmp_path / "out")
    u = 0.3 * model.sample(3, seed=2)
    found = model.encode(model.decode(u))
    assert found.mean == pytest.approx(u, abs=2e-3)
    assert found.std == pytest.approx(std, rel=1e-3)  # a turned sphere is the same sphere


# --- a bundle like any other


def test_an_adopted_bundle_works_where_bundles_work(
    tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_uncompressed(monkeypatch)  # they show nothing here
    written(decoder(), tmp_path)
    done = command("adopt", "decoder.onnx", "-o", "mine", "--decodes", 200, "--licence", "free")
    assert done.returncode == 0, done.stderr
    assert "6 latent dimensions to 16x16 RGB, NCHW" in done.stdout
    for arguments in (
        ("sample", "-n", 4, "-b", "mine", "-o", "faces.png"),
        ("traverse", "-b", "mine", "-o", "t.png"),
        ("walk", "--steps", 2, "-b", "mine", "-o", "w.gif"),
        ("info", "mine"),
        ("site", "page", "-b", "mine"),
    ):
        done = command(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    done = command("reconstruct", "faces.png", "-b", "mine", "-o", "r.png")
    assert done.returncode == 1
    assert "has no encoder" in done.stderr or "16x16" in done.stderr
    assert not (tmp_path / "page" / "bundles" / "mine" / "encoder.onnx").exists()


def test_evaluate_measures_what_needs_no_encoder_and_says_what_does(tmp_path: Path) -> None:
    np.savez(tmp_path / "faces.npz", images=drawn_faces(200, size=SIDE))
    prepare([str(tmp_path / "faces.npz")], tmp_path / "data", size=SIDE, progress=False)
    adopt(written(decoder(), tmp_path), tmp_path / "out", decodes=100)
    found = evaluate(
        mf.load(tmp_path / "out"), open_dataset(tmp_path / "data"), Settings(faces=False, eigenfaces=False)
    )
    assert "elbo" not in found
    assert table("out", found).endswith("no encoder: no bounds and no reconstructions")


def test_the_page_shows_an_adopted_bundle_and_says_that_it_cannot_read_pictures(
    tmp_path: Path, serve: Serve, visit: Visit
) -> None:
    jacobian = linear()
    path = written(decoder(jacobian), tmp_path)
    adopt(path, tmp_path / "blind", decodes=100)
    reader = written(encoder(jacobian, ("mean", "log_var"), -2.0), tmp_path, "encoder.onnx")
    adopt(path, tmp_path / "seeing", encoder=reader, decodes=100)
    hand = open_page(visit, serve(tmp_path / "blind", tmp_path / "seeing"))
    hand.at_rest()
    before = hand.shown()
    hand.page.evaluate("morphingFaces.session.shuffle()")
    hand.hover(0.5, 0.5)
    assert hand.shown() != before
    said = """async () => { try { await morphingFaces.model.encode(new Float32Array(16 * 16 * 3)); return ""; }
        catch (error) { return error.message; } }"""
    assert hand.page.evaluate(said) == "This model has no encoder, so it cannot read a picture. Choose another model."
    hand.page.select_option("#bundle", "seeing")
    until(lambda: hand.page.evaluate("morphingFaces.model?.name") == "seeing", "the other one is there")
    assert hand.page.evaluate(said) == ""


def test_the_golden_values_are_what_the_bundle_gives(tmp_path: Path) -> None:
    adopt(written(decoder(), tmp_path), tmp_path / "out", decodes=100)
    model = mf.load(tmp_path / "out")
    golden = model.bundle.golden()
    assert len(golden["faces"]) == 4
    for face in golden["faces"]:
        assert to_uint8(model.decode(np.float32(face["u"]))).tobytes() == base64.b64decode(face["pixels"])
    assert golden["codes"] == []


def test_adopting_twice_gives_the_same_bytes_and_asks_before_it_replaces(tmp_path: Path) -> None:
    path = written(decoder(), tmp_path)
    first, second = (adopt(path, tmp_path / name, decodes=100, name="mine")["files"] for name in ("a", "b"))
    assert first == second
    with pytest.raises(FileExistsError, match="--overwrite"):
        adopt(path, tmp_path / "a")


# --- directions


def test_a_plan_spends_what_it_is_given_and_never_less_than_one_jacobian() -> None:
    for k, decodes in ((2, 64), (32, 1000), (400, 16_384), (2048, 16_384), (2048, 64)):
        spend = plan(k, decodes)
        assert spend.whole >= 1
        assert spend.decodes <= max(decodes, k + 1)
    assert plan(400, 16_384).points > 400


def test_a_coarsely_rounded_picture_gets_a_wider_step() -> None:
    jacobian = linear().astype(np.float32)

    def exact(z: np.ndarray) -> np.ndarray:
        return (z @ jacobian + 0.5).reshape(-1, SIDE, SIDE, 3)

    def rounded(z: np.ndarray) -> np.ndarray:
        return np.rint(exact(z) * 64) / 64

    assert steady_step(exact, K) < steady_step(rounded, K)
    found = principal_directions(rounded, plan(K, 4000), step=steady_step(rounded, K)).rotation[:, 0]
    first = np.linalg.svd(jacobian.T, full_matrices=False)[2][0]
    assert abs(found @ first) > 0.98


def test_large_pictures_are_compared_by_the_means_of_blocks() -> None:
    picture = RNG.random((2, 256, 200, 3)).astype(np.float32)
    small = coarse(picture, 128)
    assert small.shape == (2, 128, 128, 3)
    assert small[0, 0, 0] == pytest.approx(picture[0, :2, :1].mean((0, 1)), abs=1e-6)
    assert coarse(picture, 256) is picture


# --- what is refused: forty files, one line each, nothing written


def external(location: str, length: int = 8) -> onnx.ModelProto:
    model = decoder()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return model


def changed(change: Callable[[onnx.ModelProto], object], **parts: Any) -> onnx.ModelProto:
    model = decoder(**parts)
    change(model)
    return model


def info(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def ended(operator: str, **attributes: Any) -> onnx.ModelProto:
    """The decoder with one more operator behind it."""
    model = decoder()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node(operator, ["before"], ["x"], **attributes))
    return model


def huge() -> onnx.ModelProto:
    """A few hundred bytes that ask for 32 GB."""
    weights: dict[str, np.ndarray] = {
        "size": np.array([8 << 30], np.int64),
        "shape": np.array([-1, 3, SIDE, SIDE], np.int64),
    }
    weights["w"] = linear().astype(np.float32)
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["z", "w"], ["y"]),
        helper.make_node("Add", ["y", "sum"], ["y2"]),
        helper.make_node("Reshape", ["y2", "shape"], ["x"]),
    ]
    return network(nodes, weights)


def endless() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])], "b",
        [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("v", ["n", K])],
        [info("c2", [], TensorProto.BOOL), info("v2", ["n", K])],
    )  # fmt: skip
    model = decoder()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.insert(0, helper.make_node("Loop", ["", "yes", "z"], ["looped"], body=body))
    model.graph.node[1].input[0] = "looped"
    return model


def noisy() -> onnx.ModelProto:
    model = decoder()
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(
        [
            helper.make_node("RandomNormalLike", ["before"], ["noise"]),
            helper.make_node("Add", ["before", "noise"], ["x"]),
        ]
    )
    return model


def constant_picture(value: float) -> onnx.ModelProto:
    """z * 0 + value."""
    return decoder(np.zeros((K, 3 * SIDE * SIDE)), shift=value)


GOOD = decoder().SerializeToString()
WRONG: dict[str, tuple[Callable[[], onnx.ModelProto | bytes], str]] = {
    "empty": (lambda: b"", "holds no network"),
    "text": (lambda: b"import torch\nmodel = VAE()\n", "is not an ONNX file"),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(64), "is not an ONNX file"),
    "a pickle": (lambda: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.", "is not an ONNX file"),
    "truncated early": (lambda: GOOD[:40], "is not an ONNX file"),
    "truncated in the middle": (lambda: GOOD[: len(GOOD) // 2], "is not an ONNX file"),
    "truncated at the end": (lambda: GOOD[:-3], "is not an ONNX file"),
    "no nodes": (lambda: changed(lambda m: m.graph.ClearField("node")), "holds no network"),
    "no opset": (lambda: changed(lambda m: m.ClearField("opset_import")), "holds no network"),
    "opset 7": (lambda: decoder(opset=7), "opset 7"),
    "opset of the future": (lambda: decoder(opset=900), "one line"),
    "input rank 1": (lambda: decoder(z=[K]), "is no latent"),
    "input rank 3": (lambda: decoder(z=["n", K, 1]), "is no latent"),
    "input a picture": (lambda: decoder(z=["n", 3, SIDE, SIDE]), "is no latent"),
    "input without a shape": (lambda: changed(lambda m: m.graph.input[0].type.tensor_type.ClearField("shape")), "one line"),
    "two inputs": (lambda: changed(lambda m: m.graph.input.append(info("label", ["n", 10]))), "has 2"),
    "no input": (lambda: changed(lambda m: m.graph.ClearField("input")), "one line"),
    "two outputs": (lambda: changed(lambda m: m.graph.output.append(info("y", ["n", 768]))), "a decoder has one output"),
    "no output": (lambda: changed(lambda m: m.graph.ClearField("output")), "has 0"),
    "integer input": (lambda: decoder(inputs=[info("z", ["n", K], TensorProto.INT64)]), "not of floating point"),
    "integer output": (
        lambda: changed(lambda m: m.graph.output[0].type.tensor_type.__setattr__("elem_type", TensorProto.UINT8)),
        "not of floating point",
    ),
    "a string": (lambda: decoder(inputs=[info("z", ["n", K], TensorProto.STRING)]), "not of floating point"),
    "latent of 1": (lambda: decoder(linear()[:1]), "has 1 latent dimensions: must be 2 to 2048"),
    "latent of 5000": (lambda: decoder(z=["n", 5000]), "has 5000 latent dimensions: must be 2 to 2048"),
    "output rank 2": (lambda: decoder(shape=(768,), x=["n", 768]), "is no picture"),
    "output rank 5": (lambda: decoder(shape=(1, 3, SIDE, SIDE), x=["n", 1, 3, SIDE, SIDE]), "is no picture"),
    "two channels": (lambda: decoder(linear(2), shape=(2, SIDE, SIDE)), "c 1 or 3"),
    "four channels": (lambda: decoder(linear(4), shape=(4, SIDE, SIDE)), "c 1 or 3"),
    "not square": (lambda: decoder(linear(3), shape=(3, 32, 8)), "square, 16 to 1024 pixels"),
    "8 pixels": (lambda: decoder(linear(3, side=8), shape=(3, 8, 8)), "16 to 1024 pixels"),
    "10 GB, as it says": (lambda: decoder(x=["n", 3, 30_000, 30_000]), "16 to 1024 pixels"),
    "10 GB, as it does not say": (huge, "uses the operator 'ConstantOfShape'"),
    "NaN": (lambda: constant_picture(float("nan")), "not finite"),
    "infinite": (lambda: constant_picture(float("inf")), "not finite"),
    "grey": (lambda: constant_picture(0.5), "draws the same picture whatever its latent is"),
    "black": (lambda: constant_picture(0.0), "say what black and white are with --range"),
    "values without a range": (lambda: decoder(scale=9000.0), "say what black and white are with --range"),
    "a custom operator": (lambda: changed(lambda m: m.graph.node.append(helper.make_node("Run", ["z"], ["r"], domain="evil")), domains=["evil"]), "which is not one of ONNX Runtime's own"),
    "an unknown operator": (lambda: ended("Teleport"), "one line"),
    "a loop without end": (endless, "which need not end"),
    "noise of its own": (noisy, "uses the operator 'RandomNormalLike'"),
    "a batch that is built in": (built_in, "its batch is built in as 1"),
    "weights elsewhere": (lambda: external("../secret.bin"), "which is not in its folder"),
    "weights at an absolute path": (lambda: external("/etc/passwd"), "which is not in its folder"),
    "weights that are missing": (lambda: external("gone.bin"), "which is not there"),
    "weights beyond the end": (lambda: external("decoder.onnx", 1 << 40), "lies beyond the end"),
    "weights of another size": (lambda: changed(lambda m: m.graph.initializer[0].__setattr__("raw_data", b"1234")), "one line"),
}  # fmt: skip


def test_there_are_forty_wrong_files() -> None:
    assert len(WRONG) >= 40


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_refused_with_one_line(kind: str, tmp_path: Path) -> None:
    make, reason = WRONG[kind]
    path = written(make(), tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError) as caught:
        adopt(path, tmp_path / "here" / "out", decodes=64)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert reason in message or reason == "one line", message
    assert list((tmp_path / "here").iterdir()) == []


def test_what_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.01)
    with pytest.raises(UserError, match=r"does not start within 0\.01 s"):
        trial.simplified(written(decoder(), tmp_path), tmp_path / "simpler.onnx", "it")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (np.zeros((100, K + 1)), "codes of 7 numbers"),
        (np.zeros((K, K)), "give more codes than numbers"),
        (np.full((100, K), np.nan), "not finite"),
        (np.zeros((100, K), np.int64), "array of floats"),
        (np.zeros(100), "array of floats"),
        (b"nothing", "is not an array of numbers"),
    ],
)
def test_wrong_codes_are_refused(content: Any, reason: str, tmp_path: Path) -> None:
    codes = tmp_path / "codes.npy"
    codes.write_bytes(content) if isinstance(content, bytes) else np.save(codes, content)
    with pytest.raises(UserError, match=reason):
        adopt(written(decoder(), tmp_path), tmp_path / "out", codes=codes)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (decoder, "is no picture"),
        (lambda: encoder(linear(1), ("mu", "log_var"), 0.0), "answers|is not|does not run"),
        (lambda: changed(lambda m: m.graph.output.pop(), x=["n", 3, SIDE, SIDE]), "inputs|picture"),
    ],
)
def test_wrong_encoders_are_refused(make: Callable[[], onnx.ModelProto], reason: str, tmp_path: Path) -> None:
    path = written(make(), tmp_path, "encoder.onnx")
    with pytest.raises(UserError, match=reason):
        adopt(written(decoder(), tmp_path), tmp_path / "out", encoder=path, decodes=64)
    assert not (tmp_path / "out").exists()

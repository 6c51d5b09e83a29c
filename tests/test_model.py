"""The shipped bundle through the public names, the golden values, and the contract's shapes."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morphing_faces as mf
from morphing_faces import bundle as bundles
from morphing_faces import noise
from morphing_faces.render import to_uint8


@pytest.fixture(scope="module", params=["tiny", *bundles.names()])
def model(request: pytest.FixtureRequest) -> mf.Model:
    return mf.load(request.getfixturevalue("tiny_bundle") if request.param == "tiny" else request.param)


def test_a_shipped_bundle_keeps_the_contract() -> None:
    model = mf.load()
    assert model.latent_size == 400
    assert model.image_shape == (128, 128, 3)
    assert len(model.dimensions) == 29
    assert mf.load("classic").image_shape == (48, 48, 1)
    shares = [entry["share"] for entry in model.bundle.manifest["dimensions"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) > 0.85
    assert "research" in model.bundle.manifest["licence"].lower()


def test_golden_values(model: mf.Model) -> None:
    golden = model.bundle.golden()
    assert noise.normal(0, 0, 1, 8)[0] == pytest.approx(golden["noise"]["normal"], abs=1e-6)
    assert noise.normal(7, 3, 1, 8)[0] == pytest.approx(golden["noise"]["seed_7_row_3"], abs=1e-6)
    assert [noise.whole(0, k, 58) for k in range(8)] == golden["noise"]["walk"]
    for face in golden["faces"]:
        u = np.array(face["u"], np.float32)
        assert np.array_equal(model.sample(face["row"] + 1, face["seed"])[-1], u)
        pixels = np.frombuffer(base64.b64decode(face["pixels"]), np.uint8).reshape(model.image_shape)
        assert np.abs(to_uint8(model.decode(u))[0].astype(int) - pixels).max() <= 1
    for code in golden["codes"]:
        pixels = np.frombuffer(base64.b64decode(golden["faces"][code["pixels_of_face"]]["pixels"]), np.uint8)
        posterior = model.encode(pixels.reshape(model.image_shape))
        assert posterior.mean[0] == pytest.approx(code["mean"], abs=1e-3)
        assert posterior.std[0] == pytest.approx(code["std"], abs=1e-3)


def test_shapes_types_and_ranges(model: mf.Model) -> None:
    z = model.sample(70, seed=1)
    assert z.shape == (70, model.latent_size)
    assert z.dtype == np.float32
    x = model.decode(z)
    assert x.shape == (70, *model.image_shape)
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() <= 1
    q = model.encode(x)
    assert q.mean.shape == q.std.shape == z.shape
    assert (q.std > 0).all()
    assert model.decode(z[3]) == pytest.approx(x[3:4], abs=1e-5)
    assert model.decode(z[:0]).shape == (0, *model.image_shape)
    assert model.sample(0).shape == (0, model.latent_size)


def test_encoding_a_decoded_face_gives_the_face_back(model: mf.Model) -> None:
    x = model.decode(model.sample(20, seed=2))
    again = model.decode(model.encode(x).mean)
    assert np.mean((again - x) ** 2) < 0.5 * np.mean((x - x.mean(0)) ** 2)


def test_uint8_and_float_pictures_are_the_same_to_the_encoder(model: mf.Model) -> None:
    pixels = to_uint8(model.decode(model.sample(3)))
    a, b = model.encode(pixels), model.encode(pixels.astype(np.float64) / 255)
    assert a.mean == pytest.approx(b.mean, abs=1e-5)


def test_a_grey_picture_may_lack_its_last_axis(tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    pixels = to_uint8(model.decode(model.sample(2)))
    assert np.array_equal(model.encode(pixels[..., 0]).mean, model.encode(pixels).mean)
    assert np.array_equal(model.encode(pixels[0, ..., 0]).mean, model.encode(pixels[:1]).mean)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.decode(np.zeros((2, 7))), r"z has shape \(2, 7\), expected \(n, 32\)"),
        (lambda m: m.decode(np.full(32, np.nan)), "not finite"),
        (lambda m: m.encode(np.zeros((1, 64, 64, 3), np.uint8)), r"expected \(n, 16, 16, 1\)"),
        (lambda m: m.encode(np.zeros((16, 16), np.int64)), "pictures are int64, expected uint8"),
        (lambda m: m.encode(np.full((16, 16), 200.0)), "values from 200.0 to 200.0, expected 0 to 1"),
        (lambda m: m.sample(-1), "n = -1: must be 0 or more"),
    ],
)
def test_wrong_input_is_named(tiny_bundle: Path, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(mf.load(tiny_bundle))


def test_the_runtime_never_needs_pytorch() -> None:
    """In a process that cannot import torch, everything but training works."""
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnx", "onnxscript", "safetensors", "sklearn", "tqdm", "tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
import morphing_faces as mf
model = mf.load()
session = mf.Session(model)
session.move(0.5, 0.5)
assert model.encode(model.decode(session.z)).mean.shape == (1, 400)
import morphing_faces.cli, morphing_faces.window, morphing_faces.render, morphing_faces.pictures
assert not any(name in sys.modules for name in ("torch", "matplotlib"))
sys.argv = ["morphing-faces", "train", "--recipe", "classic", "--data", ".", "-o", "run"]
morphing_faces.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip() == (
        "morphing-faces: this command needs PyTorch, which is not installed: pip install 'morphing-faces[train]'"
    )


def test_the_import_is_light() -> None:
    program = "import sys, morphing_faces; print([m for m in ('onnxruntime', 'matplotlib', 'torch', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

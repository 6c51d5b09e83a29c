"""A run that begins at a bundle's weights: it draws what the bundle draws, and says where it began."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import morphing_faces as mf
from conftest import SHAPED
from morphing_faces.dataset import open_dataset
from morphing_faces.errors import UserError
from morphing_faces.train import checkpoint
from morphing_faces.train import from_bundle as from_bundles
from morphing_faces.train.export import to_nhwc
from morphing_faces.train.from_bundle import from_bundle, initializers
from morphing_faces.train.loop import load_run, train
from morphing_faces.train.recipe import from_dict
from morphing_faces.train.shape import EDGE
from morphing_faces.train.trainer import to_pictures
from morphing_faces.train.vae import VAE


def drawn_by(model: VAE, z: np.ndarray) -> np.ndarray:
    """The pictures of codes z as a bundle gives them."""
    return to_nhwc(model.decode(torch.from_numpy(z))[0]).numpy()


@pytest.mark.parametrize("kind", ["exported", "shaped"])
def test_the_model_draws_and_encodes_what_the_bundle_does(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_bundle")
    run: Path = request.getfixturevalue({"exported": "tiny_run", "shaped": "shaped_run"}[kind])
    data = open_dataset(request.getfixturevalue({"exported": "tiny_data", "shaped": "shaped_data"}[kind]))
    _, recipe, _ = load_run(run, data.image_shape)
    model, past = from_bundle(recipe, data, folder)
    bundle = mf.load(folder)
    pictures = data.images[data.training[:8]]
    with torch.no_grad():
        mean, log_variance = model.encode(to_pictures(pictures, "cpu"))
        drawn = drawn_by(model, bundle.sample(8))
    posterior = bundle.encode(pictures)
    # The bundles have no flow, so the codes that its networks speak in are z itself.
    np.testing.assert_allclose(drawn, bundle.decode(bundle.sample(8)), atol=2e-3)
    np.testing.assert_allclose(mean.numpy(), posterior.mean, atol=2e-2)
    measured = bundle.encode(data.images[data.training[:512]]).std
    np.testing.assert_allclose(log_variance.exp()[0].numpy(), np.square(measured).mean(0).clip(1e-4), rtol=1e-2)
    assert past[-1]["decoder"] == bundle.bundle.manifest["files"]["decoder.onnx"]["sha256"]
    assert past[-1]["step"] == bundle.bundle.manifest["training"]["steps"]


def test_a_run_begins_at_a_bundle_and_its_record_says_so(
    shaped_bundle: Path, shaped_data: Path, tmp_path: Path
) -> None:
    data = open_dataset(shaped_data)
    recipe = from_dict({**SHAPED, "steps": 2, "warmup": 10**6})
    train(recipe, data, tmp_path / "run", begin=shaped_bundle, device="cpu", progress=False)
    state = checkpoint.load(tmp_path / "run")["state"]
    assert [set(past) for past in state["past"]] == [{"recipe", "step", "seconds", "machine", "decoder"}]
    model, _, _ = load_run(tmp_path / "run", data.image_shape)
    bundle = mf.load(shaped_bundle)
    with torch.no_grad():
        drawn = drawn_by(model, bundle.sample(4))
    np.testing.assert_allclose(drawn, bundle.decode(bundle.sample(4)), atol=5e-3)


def test_a_bundle_without_shape_teaches_a_model_with_shape_what_it_knows_of_appearance(
    shaped_data: Path, tmp_path: Path
) -> None:
    data = open_dataset(shaped_data)
    plain = from_dict({**SHAPED, "shape": False, "steps": 30})
    train(plain, data, tmp_path / "plain", device="cpu", progress=False)
    from morphing_faces.train.export import export

    export(tmp_path / "plain", data, tmp_path / "bundle", licence="none", probes=64)
    model, _ = from_bundle(from_dict(SHAPED), data, tmp_path / "bundle")
    assert model.shape
    field = model.decoder.shape(torch.randn(3, model.latent_size))  # type: ignore[operator]
    assert not field.any(), "shape begins at no displacement"
    bundle = mf.load(tmp_path / "bundle")
    z = bundle.sample(4)
    with torch.no_grad():
        drawn = model.decode(torch.from_numpy(z))[0].permute(0, 2, 3, 1).numpy()
    # The same departures from the mean face, on the mean face of the mean frame, clear of its edge.
    own = (drawn - drawn.mean(0)) / model.decoder.units.scale.item()  # type: ignore[union-attr]
    theirs = bundle.decode(z)
    edge = round(EDGE * theirs.shape[1])
    own, theirs = (x[:, edge:-edge, edge:-edge] for x in (own, theirs))
    inside = ((theirs > 0.02) & (theirs < 0.98)).all(0)
    theirs = theirs - theirs.mean(0)
    scale = float((own * theirs)[:, inside].sum() / np.square(own[:, inside]).sum())
    np.testing.assert_allclose((own * scale)[:, inside], theirs[:, inside], atol=5e-3)


def test_networks_of_another_size_are_refused_by_the_weight_that_differs(
    exported_bundle: Path, tiny_data: Path, tiny_run: Path, shaped_bundle: Path, tmp_path: Path
) -> None:
    data = open_dataset(tiny_data)
    _, recipe, _ = load_run(tiny_run, data.image_shape)
    other = recipe.replace(hidden=[7, 9], latent_size=recipe.latent_size)
    with pytest.raises(UserError, match="its networks are not those of the recipe") as caught:
        train(other, data, tmp_path / "run", begin=exported_bundle, device="cpu", progress=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="draws pictures of"):
        train(recipe, data, tmp_path / "run", begin=shaped_bundle, device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_deeper_network_begins_as_the_bundle_and_a_shallower_one_is_refused(
    shaped_bundle: Path, shaped_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset(shaped_data)
    pictures = data.images[data.training[:4]]
    bundle = mf.load(shaped_bundle)
    model, _ = from_bundle(
        from_dict({**SHAPED, "encoder_blocks": [1, 2, 3], "decoder_blocks": [2, 1, 2]}), data, shaped_bundle
    )
    with torch.no_grad():
        mean, _ = model.encode(to_pictures(pictures, "cpu"))
        drawn = drawn_by(model, bundle.sample(4))
    np.testing.assert_allclose(drawn, bundle.decode(bundle.sample(4)), atol=2e-3)
    np.testing.assert_allclose(mean.numpy(), bundle.encode(pictures).mean, atol=2e-2)

    more = {"encoder.blocks.0.1.narrow.weight": torch.zeros(6, 12, 1, 1)}
    monkeypatch.setattr(from_bundles, "initializers", lambda content: initializers(content) | more)
    with pytest.raises(UserError, match="more residual blocks than the recipe 'shaped'") as caught:
        from_bundle(from_dict(SHAPED), data, shaped_bundle)
    assert "\n" not in str(caught.value)


def test_a_damaged_bundle_is_refused_before_anything_is_written(
    exported_bundle: Path, tiny_data: Path, tiny_run: Path, tmp_path: Path
) -> None:
    data = open_dataset(tiny_data)
    _, recipe, _ = load_run(tiny_run, data.image_shape)
    shutil.copytree(exported_bundle, tmp_path / "bundle")
    content = bytearray((tmp_path / "bundle" / "decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bundle" / "decoder.onnx").write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        train(recipe, data, tmp_path / "run", begin=tmp_path / "bundle", device="cpu", progress=False)
    shutil.copy(exported_bundle / "decoder.onnx", tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    del manifest["files"]["encoder.onnx"]
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="encoder"):
        train(recipe, data, tmp_path / "run", begin=tmp_path / "bundle", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_codes_of_a_bundle_with_a_flow_are_those_between_flow_and_networks(tiny_data: Path, flow_export: Path) -> None:
    data = open_dataset(tiny_data)
    _, recipe, _ = load_run(flow_export / "run", data.image_shape)
    model, _ = from_bundle(recipe.replace(flow_layers=0, spread=[1.0] * 3), data, flow_export / "bundle")
    bundle = mf.load(flow_export / "bundle")
    pictures = data.images[data.training[:8]]
    with torch.no_grad():
        drawn = model.decode(model.encode(to_pictures(pictures, "cpu"))[0])[0].clamp(0, 1).permute(0, 2, 3, 1).numpy()
    # There and back, the flow and the rotation cancel.
    np.testing.assert_allclose(drawn, bundle.decode(bundle.encode(pictures).mean), atol=1e-2)

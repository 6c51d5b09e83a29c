"""From a run to a bundle: the coordinates mean what they say, ONNX agrees with PyTorch, or nothing is written."""

from __future__ import annotations

import base64
import getpass
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import morphing_faces as mf
from morphing_faces import noise
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.train import export as exporting
from morphing_faces.train import latents as latent_space
from morphing_faces.train import onnx_export
from morphing_faces.train.latents import Latents, Posterior, encode_all, find_latents, fit
from morphing_faces.train.loop import load_run
from morphing_faces.train.trainer import to_pictures
from morphing_faces.train.vae import VAE


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Dataset:
    return open_dataset(tiny_data)


@pytest.fixture(scope="module")
def raw(tiny_run: Path, data: Dataset) -> VAE:
    """The run's averaged weights, before coordinates are folded in."""
    return load_run(tiny_run, data.image_shape)[0]


@pytest.fixture(scope="module")
def posterior(raw: VAE, data: Dataset) -> Posterior:
    return encode_all(raw, data.images, data.training, mirror=True)  # as the tiny run was trained


@pytest.fixture(scope="module")
def latents(raw: VAE, posterior: Posterior) -> Latents:
    """Those that the tiny bundle was made with: 512 probes, seed 0."""
    return find_latents(raw, fit(posterior, raw, 0, 0), probes=512, seed=0)


@pytest.fixture(scope="module")
def model(exported_bundle: Path) -> mf.Model:
    return mf.load(exported_bundle)


def folded(tiny_run: Path, data: Dataset, latents: Latents) -> VAE:
    network = load_run(tiny_run, data.image_shape)[0]
    exporting.fold(network, latents)
    return network


# --- the coordinates


def test_a_folded_decoder_draws_from_z_what_the_raw_one_draws_from_its_code(
    raw: VAE, latents: Latents, tiny_run: Path, data: Dataset
) -> None:
    z = torch.from_numpy(noise.normal(3, 0, 50, 32))
    with torch.no_grad():
        expected, _ = raw.decode(latents.code(z))
        found, _ = folded(tiny_run, data, latents).decode(z)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert expected.std(0).mean() > 1e-3, "the pictures are all alike: this shows nothing"


def test_a_folded_encoder_answers_in_z(raw: VAE, latents: Latents, tiny_run: Path, data: Dataset) -> None:
    x = to_pictures(data.images[np.arange(20)], "cpu")
    with torch.no_grad():
        mean, log_variance = raw.encode(x)
        found, std = exporting.PictureEncoder(folded(tiny_run, data, latents), latents)(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(found, latents.z(mean), rtol=1e-3, atol=1e-3)
    inverse = torch.linalg.inv(latents.flow.root.double() @ latents.turn)
    one = inverse @ torch.diag(log_variance[0].double().exp()) @ inverse.T
    torch.testing.assert_close(std[0].double(), one.diagonal().sqrt(), rtol=1e-3, atol=1e-4)


def test_codes_drawn_for_the_training_pictures_have_mean_zero_and_covariance_one_in_z(
    posterior: Posterior, latents: Latents
) -> None:
    generator = torch.Generator().manual_seed(0)
    means, stds = posterior.means, posterior.variances.sqrt()
    drawn = torch.cat([means + stds * torch.randn(means.shape, generator=generator) for _ in range(200)])
    z = latents.z(drawn)
    assert z.mean(0).abs().max() < 0.03
    assert (torch.cov(z.T, correction=0) - torch.eye(32)).abs().max() < 0.05


def test_the_bundle_encodes_the_training_pictures_to_mean_zero_and_variance_one(model: mf.Model, data: Dataset) -> None:
    pictures = data.images[data.training]
    code = model.encode(np.concatenate([pictures, pictures[:, :, ::-1]]))  # it was trained on mirror images, too
    assert np.abs(code.mean.mean(0)).max() < 0.02
    assert np.abs(code.mean.var(0) + np.square(code.std).mean(0) - 1).max() < 0.05


def test_the_shares_descend_and_sum_to_one(latents: Latents, exported_bundle: Path) -> None:
    share = latents.share
    assert (share[:-1] >= share[1:]).all()
    assert (share >= 0).all()
    assert float(share.sum()) == pytest.approx(1)
    manifest = json.loads((exported_bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["latents"]["share"] == pytest.approx(share.tolist(), abs=1e-4)
    assert [entry["share"] for entry in manifest["dimensions"]] == manifest["latents"]["share"][:29]
    assert [entry["latent"] for entry in manifest["dimensions"]] == list(range(29))
    assert manifest["figures"]["share_of_first_29"] == pytest.approx(float(share[:29].sum()), abs=1e-3)


def test_dimension_0_changes_the_picture_most_and_each_as_much_as_its_share_says(model: mf.Model) -> None:
    u, step = model.sample(200, seed=11), np.float32(0.05)
    change = np.empty(32)
    for dimension in range(32):
        nudge = step * np.eye(32, dtype=np.float32)[dimension]
        difference = (model.decode(u + nudge) - model.decode(u - nudge)) / (2 * step)
        change[dimension] = np.square(difference).sum((1, 2, 3)).mean()
    assert change.argmax() == 0
    share = np.array(model.bundle.manifest["latents"]["share"])
    found = change / change.sum()
    assert np.abs(found - share).max() < 0.05
    assert np.corrcoef(found, share)[0, 1] > 0.98


def test_growing_dimension_0_brightens_the_picture(model: mf.Model) -> None:
    u, nudge = model.sample(400, seed=12), np.zeros(32, np.float32)
    nudge[0] = 0.5
    assert model.decode(u + nudge).mean() > model.decode(u - nudge).mean()


def test_no_fewer_pictures_than_latent_dimensions_are_needed(tiny_run: Path, data: Dataset, tmp_path: Path) -> None:
    few = Dataset(data.folder, data.images[:20], np.zeros(20, bool), {}, data.record)
    with pytest.raises(ValueError, match="20 training pictures, fewer than the 32 latent dimensions"):
        exporting.export(tiny_run, few, tmp_path / "out", licence="none")
    assert list(tmp_path.iterdir()) == []


# --- ONNX


def test_the_fp16_weights_draw_what_pytorch_draws(
    model: mf.Model, tiny_run: Path, data: Dataset, latents: Latents
) -> None:
    u = noise.normal(5, 0, 100, 32)
    with torch.no_grad():
        expected = exporting.PictureDecoder(folded(tiny_run, data, latents), latents)(torch.from_numpy(u)).numpy()
    difference = np.abs(model.decode(u) - expected)
    assert np.quantile(difference, 0.999) <= 1 / 255
    assert difference.max() > 0, "these are not two ways of computing"


def test_fp32_onnx_is_pytorch_for_any_number_of_rows(tiny_run: Path, data: Dataset, latents: Latents) -> None:
    decoder = exporting.PictureDecoder(folded(tiny_run, data, latents), latents).eval()
    proto = onnx_export.to_onnx(decoder, {"u": torch.zeros(2, 32)}, ["picture"])
    for rows in (1, 2, 7):
        u = noise.normal(6, 0, rows, 32)
        with torch.no_grad():
            expected = decoder(torch.from_numpy(u)).numpy()
        (found,) = onnx_export.run_onnx(proto, u=u)
        assert found.shape == expected.shape == (rows, 16, 16, 1)
        assert np.abs(found - expected).max() <= 1e-4


def test_the_figures_keep_what_was_compared(exported_bundle: Path) -> None:
    figures = json.loads((exported_bundle / "manifest.json").read_text(encoding="utf-8"))["figures"]
    assert 0 <= figures["decoder_fp32_difference"] <= 1e-4
    assert 0 < figures["decoder_fp16_difference"] <= 1 / 255
    assert 0 < figures["encoder_fp16_difference"] <= 1 / 255
    assert figures["encoder_fp32_difference"] >= 0


@pytest.mark.parametrize("name", ["decoder.onnx", "encoder.onnx"])
def test_the_networks_use_no_operation_that_back_ends_disagree_on(name: str, exported_bundle: Path) -> None:
    proto = onnx.load(exported_bundle / name)
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}
    assert "ConvTranspose" not in {node.op_type for node in proto.graph.node}
    assert not [a for node in proto.graph.node for a in node.attribute if a.name == "auto_pad"]
    assert len(proto.functions) == 0


@pytest.mark.parametrize("name", ["decoder.onnx", "encoder.onnx"])
def test_large_weights_are_stored_in_fp16(name: str, exported_bundle: Path) -> None:
    proto = onnx.load(exported_bundle / name)
    large = [tensor for tensor in proto.graph.initializer if np.prod(tensor.dims) >= 1024]
    assert large
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("name", ["decoder.onnx", "encoder.onnx", "golden.json", "manifest.json"])
def test_nothing_of_this_machine_is_in_a_bundle(
    name: str, exported_bundle: Path, tiny_run: Path, data: Dataset
) -> None:
    content = (exported_bundle / name).read_bytes()
    package = Path(mf.__file__).resolve().parent
    places = [
        package,
        package.parents[1],
        Path.cwd(),
        exported_bundle,
        tiny_run,
        data.folder,
        Path(torch.__file__).parent,
    ]
    for secret in [*map(str, places), "site-packages", ".py", str(Path.home()) + "/"]:
        assert secret.encode() not in content, f"{secret} is in {name}"
    if name.endswith(".onnx"):  # the words of the manifest may be anybody's name
        for secret in (getpass.getuser(), socket.gethostname()):
            if len(secret) >= 4:
                assert secret.encode() not in content, f"{secret} is in {name}"


def test_a_weight_that_fp16_cannot_hold_is_refused_by_name() -> None:
    large = onnx.numpy_helper.from_array(np.full(2000, 1e6, np.float32), "big")
    value = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2000])
    node = onnx.helper.make_node("Identity", ["big"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [], [value], [large])
    with pytest.raises(onnx_export.Disagreement, match=r"weight big reaches 1e\+06, more than fp16 holds"):
        onnx_export.with_half_weights(onnx.helper.make_model(graph))


converted: dict[tuple[str, ...], onnx.ModelProto] = {}


@pytest.mark.parametrize("which", ["decoder", "encoder"])
def test_when_onnx_runtime_disagrees_nothing_is_written(
    which: str, tiny_run: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, convert = onnx_export.run_onnx, exporting.to_onnx

    def to_onnx(module: nn.Module, examples: dict[str, torch.Tensor], outputs: list[str]) -> onnx.ModelProto:
        """The conversion takes seconds: both cases share it."""
        key = tuple(outputs)
        if key not in converted:
            converted[key] = convert(module, examples, outputs)
        return converted[key]

    def run_onnx(proto: Any, **inputs: np.ndarray) -> list[np.ndarray]:
        outputs = original(proto, **inputs)
        off = 1e-3 if which == "decoder" else 1e-3 * max(1.0, float(np.abs(outputs[0]).max()))
        return [out + np.float32(off) for out in outputs] if ("u" in inputs) == (which == "decoder") else outputs

    monkeypatch.setattr(exporting, "to_onnx", to_onnx)
    monkeypatch.setattr(onnx_export, "run_onnx", run_onnx)
    with pytest.raises(onnx_export.Disagreement, match=f"{which}_fp32_difference is 0?.*, allowed") as caught:
        exporting.export(tiny_run, data, tmp_path / "out", licence="none", probes=64)
    message = str(caught.value)
    assert "\n" not in message
    assert "nothing was written" in message
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_fold_is_noticed(
    tiny_run: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = exporting.fold

    def fold(network: VAE, latents: Latents) -> None:
        original(network, latents)
        with torch.no_grad():
            network.decoder.readers()[0].bias.add_(0.1)

    monkeypatch.setattr(exporting, "fold", fold)
    with pytest.raises(onnx_export.Disagreement, match="folding the coordinates changes pixels"):
        exporting.export(tiny_run, data, tmp_path / "out", licence="none", probes=64)
    assert list(tmp_path.iterdir()) == []


# --- the bundle as a whole


def test_the_golden_values_are_what_the_bundle_gives(model: mf.Model) -> None:
    golden = model.bundle.golden()
    assert len(golden["faces"]) == 4
    height, width, channels = model.image_shape
    for face in golden["faces"]:
        u = np.array(face["u"], np.float32)
        assert np.array_equal(u, model.sample(face["row"] + 1, seed=face["seed"])[face["row"]])
        pixels = np.frombuffer(base64.b64decode(face["pixels"]), np.uint8).reshape(height, width, channels)
        assert np.abs(model.decode(u)[0] * 255 - pixels).max() <= 0.51
    (code,) = golden["codes"]
    pixels = np.frombuffer(base64.b64decode(golden["faces"][code["pixels_of_face"]]["pixels"]), np.uint8)
    found = model.encode(pixels.reshape(height, width, channels))
    assert np.allclose(found.mean[0], code["mean"], atol=1e-4)
    assert np.allclose(found.std[0], code["std"], atol=1e-4)
    assert golden["noise"]["normal"] == pytest.approx(noise.normal(0, 0, 1, 8)[0].tolist())
    assert golden["noise"]["seed_7_row_3"] == pytest.approx(noise.normal(7, 3, 1, 8)[0].tolist())
    assert golden["noise"]["walk"] == [noise.whole(0, k, 58) for k in range(8)]


def test_the_manifest_says_how_and_on_what_the_model_was_trained(model: mf.Model, data: Dataset) -> None:
    training = model.bundle.manifest["training"]
    assert training["steps"] == 400
    assert training["recipe"]["hidden"] == [48]
    assert training["pictures"]["sha256"] == data.record["sha256"]
    assert training["pictures"]["shape"] == [500, 16, 16, 1]


def test_a_run_without_a_checkpoint_is_refused_with_the_remedy(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match="has no checkpoint: run morphing-faces train first") as caught:
        exporting.export(tmp_path / "run", data, tmp_path / "out", licence="none")
    assert str(tmp_path / "run") in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_exists_is_refused_and_untouched(tiny_run: Path, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="--overwrite"):
        exporting.export(tiny_run, data, tmp_path / "out", licence="none", probes=64)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_pictures_that_the_run_was_not_trained_on_are_refused(tiny_run: Path, data: Dataset, tmp_path: Path) -> None:
    """The manifest names the pictures by their hash: it must not name others."""
    others = Dataset(data.folder, data.images, data.held_out, {}, {**data.record, "sha256": "0" * 64})
    with pytest.raises(ValueError, match="other pictures"):
        exporting.export(tiny_run, others, tmp_path / "out", licence="none", probes=64)
    assert list(tmp_path.iterdir()) == []


# --- a bundle with shape


@pytest.fixture(scope="module")
def shaped(shaped_bundle: Path) -> mf.Model:
    return mf.load(shaped_bundle)


def test_a_bundle_with_shape_draws_what_the_run_draws(shaped: mf.Model, shaped_run: Path, shaped_data: Path) -> None:
    network = load_run(shaped_run, shaped.image_shape)[0]
    dataset = open_dataset(shaped_data)
    posterior = encode_all(network, dataset.images, dataset.training, mirror=True)
    latents = find_latents(network, fit(posterior, network, 0, 0), probes=256, seed=0)
    z, other = shaped.sample(10, seed=3), shaped.sample(10, seed=4)
    with torch.no_grad():
        codes = [latents.code(torch.from_numpy(each)) for each in (z, other)]
        picture, appearance, field = (part.numpy() for part in network.decoder.parts(*codes))  # type: ignore[operator]
    found = shaped.decode(z, shape=other)
    assert np.quantile(np.abs(found - picture.clip(0, 1).transpose(0, 2, 3, 1)), 0.999) <= 1 / 255
    parts = shaped.parts(z)
    assert np.quantile(np.abs(parts.appearance - appearance.clip(0, 1).transpose(0, 2, 3, 1)), 0.999) <= 1 / 255
    assert np.abs(shaped.parts(other).field - field.transpose(0, 2, 3, 1)).max() < 0.05
    assert np.abs(found - shaped.decode(z)).max() > 2 / 255, "the shapes are alike: this shows nothing"
    assert np.array_equal(shaped.decode(z, shape=z), shaped.decode(z))


def test_the_golden_values_of_a_bundle_with_shape_are_what_it_gives(shaped: mf.Model) -> None:
    golden, z = shaped.bundle.golden(), shaped.sample(4, seed=0)
    mixed = golden["mixed"]
    pixels = np.frombuffer(base64.b64decode(mixed["pixels"]), np.uint8).reshape(shaped.image_shape)
    found = shaped.decode(z[mixed["u"]], shape=z[mixed["shape"]])[0]
    assert np.abs(found * 255 - pixels).max() <= 0.51
    assert np.allclose(shaped.parts(z[:1]).field.flatten(), golden["field"], atol=1e-4)
    assert shaped.bundle.manifest["format"] == 2


def test_the_small_network_of_shape_has_the_landmarks_of_the_whole(shaped: mf.Model) -> None:
    z = shaped.sample(100, seed=5)
    assert np.allclose(shaped.landmarks(z), shaped.parts(z).landmarks, atol=1e-4)
    assert shaped.landmarks(z[:0]).shape == (0, 68, 2)


def test_a_model_without_shape_says_so_in_one_line(model: mf.Model) -> None:
    z = model.sample(1)
    for ask in (lambda: model.parts(z), lambda: model.landmarks(z), lambda: model.decode(z, shape=z)):
        with pytest.raises(UserError, match="'tiny' has no shape") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_shapes_must_be_as_many_as_faces(shaped: mf.Model) -> None:
    with pytest.raises(UserError, match="shape has 2 rows, expected 3 as z has, or 1"):
        shaped.decode(shaped.sample(3), shape=shaped.sample(2))


# --- a bundle with a flow


def test_a_bundle_with_a_flow_draws_and_encodes_as_the_run_does(flow_export: Path, data: Dataset) -> None:
    network, recipe, _ = load_run(flow_export / "run", data.image_shape)
    posterior = encode_all(network, data.images, data.training, mirror=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_space, "STEPS", 60)
        own = find_latents(network, fit(posterior, network, 3, 0), 128, 0, recipe.spread)
    model = mf.load(flow_export / "bundle")
    z, pictures = model.sample(20, seed=3), data.images[:20]
    with torch.no_grad():
        expected = network.decode(own.code(torch.from_numpy(z)))[0].clamp(0, 1).permute(0, 2, 3, 1).numpy()
        mean, log_variance = network.encode(to_pictures(pictures, "cpu"))
        noise_source = torch.Generator().manual_seed(1)
        draws = torch.randn(2000, *mean.shape, generator=noise_source)
        exact = own.z((mean + torch.exp(0.5 * log_variance) * draws).flatten(0, 1)).unflatten(0, (2000, -1)).std(0)
    assert np.quantile(np.abs(model.decode(z) - expected), 0.999) <= 1 / 255
    found = model.encode(pictures)
    assert np.quantile(np.abs(found.mean - own.z(mean).numpy()), 0.999) <= 0.02
    assert np.abs(found.std / exact.numpy() - 1).mean() < 0.15, "the deviation is that of z, through the flow"
    linear = own.flow.mean + torch.from_numpy(z) @ (own.flow.root @ own.turn.float()).T
    assert (own.code(torch.from_numpy(z)) - linear).abs().max() > 0.01, "the flow does nothing: this shows nothing"

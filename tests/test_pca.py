"""Low frequencies, their principal components, and the steps in which only the fully connected layers train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import drawn_faces
from morphing_faces.train import checkpoint
from morphing_faces.train.config import Config, from_dict
from morphing_faces.train.coordinates import to_pictures
from morphing_faces.train.data import Dataset, open_dataset
from morphing_faces.train.loop import make_optimizer, set_data_statistics, train
from morphing_faces.train.networks import VAE, ConvDecoder, ConvEncoder, LowFrequencies
from morphing_faces.train.pca import find_components
from morphing_faces.train.prepare import prepare

DENSE: dict[str, Any] = {
    "name": "dense", "network": "conv", "sigma": "shared", "latent_size": 12, "hidden": [32, 24], "components": 30,
    "low_side": 16, "encoder_widths": [8, 12], "decoder_widths": [8, 12], "dense_steps": 6, "dense_batch": 20, "batch": 16,
    "steps": 14, "warmup": 2, "kl_warmup": 0,
}  # fmt: skip


@pytest.fixture(scope="module", params=["colour", "grey"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """160 drawn faces, 32x32."""
    folder = tmp_path_factory.mktemp("dense")
    np.save(folder / "faces.npy", drawn_faces(160, size=32, seed=4))
    grey = request.param == "grey"
    prepare([str(folder / "faces.npy")], folder / "prepared", size=32, grey=grey, progress=False)
    return open_dataset(folder / "prepared")


def config(**changes: Any) -> Config:
    return from_dict({**DENSE, **changes})


def begun(data: Dataset, **changes: Any) -> VAE:
    torch.manual_seed(0)
    settings = config(**changes)
    model = VAE(settings, data.image_shape)
    set_data_statistics(model, data)
    find_components(model, data, settings.kl_weight, settings.mirror)
    return model.eval().requires_grad_(False)


def decoder(model: VAE) -> ConvDecoder:
    assert isinstance(model.decoder, ConvDecoder)
    return model.decoder


# --- low frequencies


@pytest.mark.parametrize("channels", [1, 3])
def test_low_frequencies_are_an_orthogonal_part_of_the_picture(channels: int) -> None:
    low = LowFrequencies(channels, 32, 8)
    x = torch.rand(5, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = low.keep(x)
    assert kept.shape == (5, low.size) == (5, 64 + 4 * (channels - 1))
    part = low.restore(kept)
    torch.testing.assert_close(low.keep(part), kept, rtol=0, atol=1e-4)
    torch.testing.assert_close(part.flatten(1).norm(dim=1), kept.norm(dim=1))
    assert (part * (x - part)).sum().abs() < 1e-2 * x.square().sum(), "the rest is at right angles to it"


def test_a_smooth_picture_in_colour_is_all_low_frequencies() -> None:
    low = LowFrequencies(3, 32, 8)
    place = torch.arange(32) + 0.5
    wave = torch.cos(torch.pi * place / 32)[:, None] * torch.ones(32)
    x = torch.stack([0.3 * wave + 0.1, -0.2 * wave, 0.4 * wave.T])[None]
    torch.testing.assert_close(low.restore(low.keep(x)), x, rtol=0, atol=1e-5)


def test_fast_changes_of_colour_are_left_out_before_those_of_brightness() -> None:
    low = LowFrequencies(3, 32, 8)
    stripes = torch.cos(torch.pi * (torch.arange(32) + 0.5) * 5 / 32).expand(32, 32)
    bright = stripes.expand(1, 3, 32, 32)
    colour = torch.stack([stripes, torch.zeros_like(stripes), -stripes])[None]
    torch.testing.assert_close(low.restore(low.keep(bright)), bright, rtol=0, atol=1e-5)
    assert low.keep(colour).abs().max() < 1e-4


# --- the components


def test_the_components_are_pcas_and_are_the_same_for_both_networks(data: Dataset) -> None:
    model = begun(data)
    components, low = decoder(model).components, decoder(model).components.low
    x = (to_pictures(data.images[data.rows("train")]) - model.mean_face) / model.scale
    kept = torch.cat([low.keep(x), low.keep(x.flip(3))])
    _, values, basis = torch.linalg.svd(kept, full_matrices=False)
    torch.testing.assert_close(components.spread, values[:30] / len(kept) ** 0.5, rtol=1e-2, atol=1e-3)
    same = (components.basis @ basis[:10].T).square().sum(0)
    torch.testing.assert_close(same, torch.ones(10), rtol=0, atol=1e-2)
    torch.testing.assert_close(components.basis @ components.basis.T, torch.eye(30), rtol=0, atol=1e-4)
    assert isinstance(model.encoder, ConvEncoder)
    for name, tensor in model.encoder.components.state_dict().items():
        assert torch.equal(tensor, components.state_dict()[name])


def test_what_is_read_is_of_the_order_of_one_and_is_written_back(data: Dataset) -> None:
    model = begun(data, kl_weight=1e-9)
    components = decoder(model).components
    x = (to_pictures(data.images[data.rows("train")]) - model.mean_face) / model.scale
    read = components.read(x)
    assert 0.3 < read.std() < 2
    picture = components.low.restore(components.write(read))
    assert (picture - x).square().mean() < 0.1 * x.square().mean()


def test_more_components_than_pictures_are_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"components = 200: must be at most the number of training pictures, 1\d\d"):
        begun(data, components=200)


# --- the dense steps


def test_the_squared_error_is_the_same_with_and_without_the_convolutions_that_begin_at_zero(data: Dataset) -> None:
    model = begun(data)
    x = to_pictures(data.images[:9])
    noise = torch.randn(9, 12, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(decoder(model).drawn.weight, std=0.2)
    whole = model(x, noise)
    model.detailed = False
    short = model(x, noise)
    assert whole[0].shape == x.shape
    assert short[0].shape == (9, decoder(model).components.low.size)
    for a, b in zip(whole[1:], short[1:], strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(model.squared_error(x, whole[0]), model.squared_error(x, short[0]), rtol=1e-3, atol=1e-3)


def test_only_the_dense_layers_train_in_the_dense_steps_and_all_after_them(data: Dataset, tmp_path: Path) -> None:
    settings = config()
    start = begun(data).state_dict()
    train(config(steps=6), data, tmp_path / "dense", device="cpu", progress=False)
    dense = checkpoint.load(tmp_path / "dense")[0]["model"]
    names = {name for name, p in VAE(settings, data.image_shape).named_parameters()}
    model = VAE(settings, data.image_shape)
    trained = {id(p) for p in model.dense()}
    for name, p in model.named_parameters():
        assert torch.equal(start[name], dense[name]) == (id(p) not in trained), name
    train(settings, data, tmp_path / "whole", device="cpu", progress=False)
    whole = checkpoint.load(tmp_path / "whole")[0]["model"]
    still = {name for name in names if torch.equal(dense[name], whole[name])}
    assert not still, "all have moved"


def test_the_dense_layers_go_on_at_a_tenth_of_the_pace(data: Dataset) -> None:
    model = VAE(config(), data.image_shape)
    optimizer = make_optimizer(model, config())
    paces = {id(p): group["pace"] for group in optimizer.param_groups for p in group["params"]}
    assert len(paces) == sum(1 for _ in model.parameters())
    assert {pace for p, pace in paces.items() if p in {id(p) for p in model.dense()}} == {0.1}
    assert sum(pace == 0.1 for pace in paces.values()) == len(model.dense())
    alone = make_optimizer(model, config(dense_steps=0))
    assert {group["pace"] for group in alone.param_groups} == {1.0}

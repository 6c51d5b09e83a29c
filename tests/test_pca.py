"""The head start: small pictures, and networks that begin at probabilistic principal component analysis."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import drawn_faces
from morphing_faces.train.config import Config, from_dict
from morphing_faces.train.coordinates import encode_all, to_pictures, whitening
from morphing_faces.train.data import Dataset, open_dataset
from morphing_faces.train.loop import look, make_optimizer, set_data_statistics, train
from morphing_faces.train.networks import VAE, ConvDecoder, ConvEncoder, SmallPicture
from morphing_faces.train.pca import begin_at_pca
from morphing_faces.train.prepare import prepare

SMALL: dict[str, Any] = {
    "name": "linear", "network": "conv", "sigma": "shared", "latent_size": 12, "encoder_widths": [8, 12, 16],
    "decoder_widths": [16, 12, 8], "batch": 16, "steps": 4, "warmup": 2, "kl_warmup": 0, "kl_weight": 2.0, "linear_side": 16,
}  # fmt: skip


@pytest.fixture(scope="module", params=["colour", "grey"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """160 drawn faces, 32x32."""
    folder = tmp_path_factory.mktemp("linear")
    np.save(folder / "faces.npy", drawn_faces(160, size=32, seed=4))
    grey = request.param == "grey"
    prepare([str(folder / "faces.npy")], folder / "prepared", size=32, grey=grey, progress=False)
    return open_dataset(folder / "prepared")


def config(**changes: Any) -> Config:
    return from_dict({**SMALL, **changes})


def begun(data: Dataset, **changes: Any) -> VAE:
    torch.manual_seed(0)
    settings = config(**changes)
    model = VAE(settings, data.image_shape)
    set_data_statistics(model, data)
    begin_at_pca(model, data, settings.kl_weight, settings.mirror)
    return model.eval().requires_grad_(False)


# --- small pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_a_smooth_picture_survives_being_small(channels: int) -> None:
    small = SmallPicture(channels, 8)
    ramp = torch.linspace(-1, 1, 32)
    x = (ramp[:, None] + 0.5 * ramp)[None, None].expand(1, channels, 32, 32) * torch.linspace(0.5, 1, channels)[
        :, None, None
    ]
    vectors = small.shrink(x)
    assert vectors.shape == (1, 64 + 4 * (channels - 1))
    again = small.enlarge(vectors, 32)
    inner = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    torch.testing.assert_close(again[inner], x[inner], rtol=0, atol=1e-5)
    assert float(vectors.norm() / x.norm()) == pytest.approx(1, abs=0.05)


def test_colour_is_kept_and_is_coarse() -> None:
    small = SmallPicture(3, 8)
    x = torch.zeros(1, 3, 32, 32)
    x[:, 0], x[:, 2] = 0.3, -0.2
    torch.testing.assert_close(small.enlarge(small.shrink(x), 32), x)
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[..., 0::8], stripes[..., 4::8] = 0.0, 0.0
    stripes[:, 0, :, :] = torch.tensor([1.0, -1.0]).repeat_interleave(4).repeat(4)
    stripes[:, 2, :, :] = -stripes[:, 0, :, :]  # as bright everywhere, two colours a quarter of a value of colour wide
    assert small.enlarge(small.shrink(stripes), 32).abs().max() < 1e-5


# --- the beginning


def test_it_begins_near_what_pca_reconstructs(data: Dataset) -> None:
    model = begun(data, kl_weight=0.01)
    rows = data.rows("train")
    x = to_pictures(data.images[rows])
    flat = torch.cat([x, x.flip(3)]).flatten(1)
    centred = flat - flat.mean(0)
    _, _, basis = torch.linalg.svd(centred, full_matrices=False)
    best = (centred - centred @ basis[:12].T @ basis[:12]).square().mean()
    mean, _ = model.encode(x)
    picture, _ = model.decode(mean)
    error = (picture - x).square().mean()
    assert isinstance(model.encoder, ConvEncoder)
    small = model.encoder.small
    assert small
    resized = (x - model.mean_face - small.enlarge(small.shrink(x - model.mean_face), 32)).square().mean()
    assert best <= error * 1.001
    assert error < 1.2 * (best + resized)
    assert error < 0.5 * (x - x.mean(0)).square().mean()


def test_the_aggregate_posterior_begins_as_the_prior(data: Dataset) -> None:
    model = begun(data)
    mean, factor = whitening(encode_all(model, data, data.rows("train"), mirror=True))
    assert mean.abs().max() < 0.05
    torch.testing.assert_close(factor @ factor.T, torch.eye(12, dtype=torch.float64), rtol=0, atol=0.08)


def test_a_larger_kl_weight_spreads_the_posterior_and_sigma_is_what_is_left_over(data: Dataset) -> None:
    one, four = begun(data, kl_weight=1.0), begun(data, kl_weight=4.0)
    x = to_pictures(data.images[data.rows("train")])
    (mean, narrow), (_, wide) = one.encode(x), four.encode(x)
    assert (wide >= narrow - 1e-6).all()
    picture, log_sigma = one.decode(mean)
    left = math.sqrt(float((picture - x).square().mean()))
    assert float(log_sigma[0].exp()) == pytest.approx(left, rel=0.1)


def test_the_beginning_is_better_than_without_and_training_keeps_it(data: Dataset, tmp_path: Path) -> None:
    with_start = train(config(), data, tmp_path / "with", device="cpu", progress=False)
    without = train(config(linear_side=0), data, tmp_path / "without", device="cpu", progress=False)
    start = look(begun(data), data, tmp_path / "start.png", mirror=True)
    assert start["held_out/psnr"] > without["held_out/psnr"] + 3
    assert with_start["held_out/psnr"] > without["held_out/psnr"] + 3


def test_the_linear_maps_learn_at_a_tenth_of_the_pace(data: Dataset) -> None:
    model = VAE(config(), data.image_shape)
    assert isinstance(model.encoder, ConvEncoder)
    assert isinstance(model.decoder, ConvDecoder)
    paces = {id(p): group["pace"] for group in make_optimizer(model, config()).param_groups for p in group["params"]}
    assert len(paces) == sum(1 for _ in model.parameters())
    slow = {name for name, p in model.named_parameters() if paces[id(p)] == 0.1}
    assert slow == {"encoder.linear.weight", "decoder.linear.weight", "decoder.linear.bias"}


# --- what is refused


def test_too_few_pictures_for_the_components_are_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"linear_side = 4: .* latent_size = 40: set linear_side=0 or a smaller"):
        begun(data, linear_side=4, latent_size=40)


def test_a_side_that_does_not_divide_the_pictures_is_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match="linear_side = 12: must divide the pictures' side, 32"):
        VAE(config(linear_side=12), data.image_shape)

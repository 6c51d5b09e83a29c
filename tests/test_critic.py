"""The second recipe: a critic sharpens what a trained VAE draws, and an anchor holds it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import SHAPED
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.train import checkpoint
from morphing_faces.train import critic as critics
from morphing_faces.train.critic import Critic, CriticTrainer, diff_augment
from morphing_faces.train.flow import restored
from morphing_faces.train.loop import load_run, train
from morphing_faces.train.processes import Interrupted
from morphing_faces.train.recipe import Recipe, from_dict, recipe
from test_training import assert_same_checkpoint, on_two_processes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(shaped_data: Path) -> Dataset:
    return open_dataset(shaped_data)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critics, "WARMUP", 2)


def sharp(**changes: Any) -> Recipe:
    return from_dict({**SHAPED, "critic": 1.0, "steps": 8, "warmup": 2, "learning_rate": 2e-4, "clip": 50.0, **changes})


@pytest.fixture
def trainer(shaped_run: Path, data: Dataset) -> CriticTrainer:
    model = load_run(shaped_run, data.image_shape)[0]
    trainer = CriticTrainer(sharp(), model, CPU)
    trainer.begin(data)
    return trainer


def pictures(data: Dataset, first: int = 0) -> torch.Tensor:
    return torch.from_numpy(data.images[data.training[first : first + 16]])


def test_the_critic_begins_as_the_encoder_and_scores_every_picture(trainer: CriticTrainer, data: Dataset) -> None:
    encoder = trainer.model.encoder
    x = torch.rand(8, 3, 32, 32)
    assert torch.equal(trainer.critic.trunk.features(x), encoder.features(x))
    assert trainer.critic(x).shape == (8,)
    trainer.critic.trunk.stem.weight.data.add_(1)  # type: ignore[operator, union-attr]
    assert not torch.equal(trainer.critic.trunk.features(x), encoder.features(x)), "it is a copy"


def test_the_critic_sees_that_faces_are_all_alike(shaped_run: Path, data: Dataset) -> None:
    torch.manual_seed(0)
    critic = Critic(load_run(shaped_run, data.image_shape)[0].encoder)
    x = torch.rand(1, 3, 32, 32).expand(8, -1, -1, -1)
    alike = critic(x)
    torch.testing.assert_close(alike, alike[:1].expand(8))
    others = torch.cat([x[:4], torch.rand(4, 3, 32, 32)])
    assert (critic(others)[0] - alike[0]).abs() > 1e-6, "what stands beside a picture changes its score"


def test_encoder_shape_and_sigma_rest_while_appearances_change(trainer: CriticTrainer, data: Dataset) -> None:
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    for step in range(5):
        metrics = trainer.step(step, step / 8, pictures(data), None)
        assert all(torch.isfinite(value).all() for value in metrics.values())
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("decoder.appearance.") and "sigma" not in name for name in changed)


def test_the_decoder_does_not_hear_the_critic_at_first(trainer: CriticTrainer, data: Dataset) -> None:
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.step(0, 0.0, pictures(data), None)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_critic_learns_to_tell_photographs_from_faces(trainer: CriticTrainer, data: Dataset) -> None:
    for group in trainer.critic_optimizer.param_groups:
        group["lr"] = 1e-3  # a tiny critic may learn fast
    losses = []
    for first in range(6, 96, 6):
        torch.manual_seed(first)
        trainer.recipe = sharp(critic=0.0)  # the decoder stays, so that the critic has something to learn
        losses.append(float(trainer.step(1, 0.0, pictures(data, first), None)["critic"]))  # no step of the penalty
    assert losses[0] == pytest.approx(np.log(2), abs=0.2)
    assert np.mean(losses[-5:]) < 0.75 * losses[0]


def test_the_anchor_pulls_new_faces_back_to_the_vaes(trainer: CriticTrainer, data: Dataset) -> None:
    """Moved away from what the VAE draws, and without a critic's opinion, new faces come back when averaged."""
    trainer.recipe = sharp(critic=0.0, learning_rate=1e-3, warmup=0)
    with torch.no_grad():
        trainer.model.decoder.appearance.picture.bias.add_(0.5)  # type: ignore[union-attr, operator]
    drifts = [float(trainer.step(2 + step, 0.0, pictures(data), None)["drift"]) for step in range(20)]
    assert np.mean(drifts[-5:]) < 0.5 * drifts[0]


def test_augmentation_of_what_the_critic_sees_lets_the_gradient_through_and_shifts_whole_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, 24, 24, generator=generator).requires_grad_()
    seen = diff_augment(x, generator)
    seen.sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).float().mean() > 0.5
    flat = torch.full((4, 3, 24, 24), 0.5)
    assert float(diff_augment(flat, generator).std((1, 2, 3)).max()) < 1e-6, "shifting repeats the edge"


def test_a_critic_goes_on_from_a_trained_model(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name its run, or a bundle, with --from"):
        train(sharp(), data, tmp_path / "run", device="cpu", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_critic_resumes_bit_for_bit(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    train(sharp(), data, tmp_path / "whole", begin=shaped_run, device="cpu", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critics.CriticTrainer, "step", _stop_at(4, critics.CriticTrainer.step))
        with pytest.raises(Interrupted):
            train(sharp(), data, tmp_path / "parts", begin=shaped_run, device="cpu", progress=False)
    torch.manual_seed(999)
    train(sharp(), data, tmp_path / "parts", device="cpu", progress=False)
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")


def _stop_at(step: int, original: Any) -> Any:
    def stepping(self: Any, now: int, *arguments: Any) -> Any:
        if now == step:
            signal.raise_signal(signal.SIGTERM)
        return original(self, now, *arguments)

    return stepping


def test_the_prior_that_the_critic_was_shown_is_kept(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    train(sharp(steps=3), data, tmp_path / "run", begin=shaped_run, device="cpu", progress=False)
    saved = checkpoint.load(tmp_path / "run")
    flow = restored(saved["trainer"]["flow"], 0)
    x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    model = load_run(shaped_run, data.image_shape)[0]
    with torch.no_grad():
        faces = model.decode(flow(x[:64]))[0]
    assert 0.1 < float(faces.mean()) < 0.9
    assert not torch.equal(flow.root, torch.eye(16))


def test_two_processes_teach_one_critic(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    (tmp_path / "sharp.toml").write_text(sharp(steps=3).to_toml(), encoding="utf-8")
    (tmp_path / "spy.py").write_text(
        "import os, runpy, sys, torch\n"
        "from morphing_faces.train import critic\n"
        "critic.WARMUP = 0\n"
        "original = critic.CriticTrainer.step\n"
        "def step(self, *a):\n"
        "    out = original(self, *a)\n"
        "    parts = [p.detach().double().sum() for n in (self.critic, self.model) for p in n.parameters()]\n"
        "    open(f'sum-{os.environ[\"RANK\"]}', 'a').write(f'{float(sum(parts)):.12f}\\n')\n"
        "    return out\n"
        "critic.CriticTrainer.step = step\n"
        f"sys.argv += ['--from', {str(shaped_run)!r}]\n"
        "runpy.run_module('morphing_faces', run_name='__main__', alter_sys=True)\n",
        encoding="utf-8",
    )
    on_two_processes("spy.py", "sharp.toml", data, tmp_path, torchrun=False)
    one, two = ((tmp_path / f"sum-{rank}").read_text() for rank in (0, 1))
    assert one == two
    assert len(one.splitlines()) == 3


def test_the_recipes_of_color_fit_each_other() -> None:
    first, codes, sharp, encoder = map(recipe, ("color", "color-codes", "color-sharp", "color-encoder"))
    for each in (codes, sharp, encoder):
        for key in (
            "name",
            "network",
            "latent_size",
            "widths",
            "encoder_blocks",
            "decoder_blocks",
            "shape",
            "sigma_min",
        ):
            assert getattr(first, key) == getattr(each, key), key
        for key in ("flow_layers", "spread", "mirror"):  # the critic learns what the prior gives
            assert getattr(first, key) == getattr(each, key), key
    assert first.kl_weight == codes.kl_weight == sharp.kl_weight
    assert (first.goes_on, codes.goes_on, sharp.goes_on) == ("", "code_weight", "critic")
    assert encoder.goes_on == "encoder_only"

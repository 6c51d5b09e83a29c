"""Training with a code of its own for every picture."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import SHAPED
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.train import checkpoint, latents
from morphing_faces.train import critic as critics
from morphing_faces.train.code_trainer import CodeTrainer
from morphing_faces.train.flow import left_by
from morphing_faces.train.latents import aggregate_posterior, encode_all
from morphing_faces.train.loop import Reader, load_run, train
from morphing_faces.train.networks import log_likelihood
from morphing_faces.train.processes import Interrupted
from morphing_faces.train.recipe import Recipe, from_dict
from morphing_faces.train.trainer import Trainer, to_pictures, training_rows
from test_training import assert_same_checkpoint, at_step

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(shaped_data: Path) -> Dataset:
    return open_dataset(shaped_data)


def stored(**changes: Any) -> Recipe:
    own = {
        "stored_codes": True,
        "refine": 2,
        "steps": 6,
        "warmup": 2,
        "kl_warmup": 0,
        "kl_weight": 2.0,
        "precision": "fp32",
    }
    return from_dict({**SHAPED, **own, **changes})


@pytest.fixture
def trainer(shaped_run: Path, data: Dataset) -> Trainer:
    model = load_run(shaped_run, data.image_shape)[0].requires_grad_(True)
    trainer = Trainer(stored(learning_rate=1e-6), model, CPU)
    trainer.begin(data)
    return trainer


def test_codes_begin_refined_and_come_nearer_with_every_visit(trainer: Trainer, data: Dataset) -> None:
    """The networks hardly move here: what falls is what the codes still miss, and the encoder's distance from them grows."""
    rows = training_rows(trainer.recipe, data)[:16]
    read = Reader(data, CPU)
    prices = []
    for _ in range(30):
        metrics = trainer.step(0, 0.0, *read(rows))  # the same step: the same mirror images and noise each time
        prices.append(
            float(trainer.recipe.kl_weight * metrics["kl"] - metrics["elbo"] - metrics["kl"] + metrics["guide"])
        )
    assert prices[-1] < prices[0] - 1
    assert float(metrics["gap"]) > 0.5
    assert trainer.codes is not None
    known = trainer.codes.means.isfinite().all(2)
    assert int(known.sum()) == 16
    assert known[:, rows].sum(0).tolist() == [1] * 16, "each picture, or its mirror image"


def test_a_first_code_is_the_encoders_answer_refined(trainer: Trainer, data: Dataset) -> None:
    rows = torch.from_numpy(training_rows(trainer.recipe, data)[:8])
    x, mirror = to_pictures(data.images[rows.numpy()], CPU), torch.tensor([False, True] * 4)
    assert trainer.codes is not None
    first = trainer.codes.visit(trainer.model, x, rows, mirror, trainer.recipe)
    torch.testing.assert_close(first.detach(), trainer.model.refine(x, 2, 2.0)[0])
    gradient = torch.ones_like(first)
    gradient[3], gradient[5] = torch.nan, 1e6
    trainer.codes.descend(first, gradient, torch.full_like(first, 0.5), rows, mirror)
    again = trainer.codes.visit(trainer.model, x, rows, mirror, trainer.recipe)
    moved = (first - again).detach()
    torch.testing.assert_close(moved[[0, 1, 2, 4, 6, 7]], torch.full((6, 16), 0.05), atol=2e-3, rtol=0)
    assert moved[3].abs().max() < 2e-3, "a step that is not finite is not taken"
    torch.testing.assert_close(moved[5], torch.full((16,), 1.5 * 0.5**0.5), atol=2e-3, rtol=0)
    assert trainer.codes.of(rows, ~mirror).isnan().all()


def test_the_encoder_learns_to_answer_the_codes(shaped_run: Path, data: Dataset) -> None:
    model = load_run(shaped_run, data.image_shape)[0].requires_grad_(True)
    with torch.no_grad():
        model.encoder.mean.bias.add_(2.0)
    trainer = Trainer(stored(learning_rate=1e-3, refine=20), model, CPU)
    trainer.begin(data)
    read = Reader(data, CPU)(training_rows(trainer.recipe, data)[:16])
    gaps = [float(trainer.step(0, 0.0, *read)["gap"]) for _ in range(60)]
    assert gaps[-1] < 0.5 * gaps[0]


def test_a_resumed_run_with_codes_is_the_uninterrupted_one(
    shaped_run: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: str) -> None:
        train(stored(), data, tmp_path / folder, begin=shaped_run, device="cpu", progress=False)

    run("whole")
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            run("parts")
    run("parts")
    # Compared as numbers where there are some: what is not a number equals nothing.
    whole, parts = (checkpoint.load(tmp_path / name) for name in ("whole", "parts"))
    one, other = (each["trainer"].pop("codes") for each in (whole, parts))
    assert torch.equal(one.nan_to_num(9), other.nan_to_num(9))
    assert int(one.isfinite().all(2).sum()) > 60
    for name, each in (("whole", whole), ("parts", parts)):
        each.pop("format")
        checkpoint.save(tmp_path / name, each)
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")


def test_codes_go_with_the_model_to_the_critic_and_to_the_prior(
    shaped_run: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(critics, "WARMUP", 0)
    train(stored(), data, tmp_path / "codes", begin=shaped_run, device="cpu", progress=False)
    sharp = stored(stored_codes=False, critic=1.0, steps=2)
    train(sharp, data, tmp_path / "sharp", begin=tmp_path / "codes", device="cpu", progress=False)
    train(
        stored(stored_codes=False, encoder_only=True, steps=2),
        data, tmp_path / "last", begin=tmp_path / "sharp", device="cpu", progress=False,
    )  # fmt: skip
    model, recipe, saved = load_run(tmp_path / "last", data.image_shape)
    codes = saved["trainer"]["codes"]
    first = checkpoint.load(tmp_path / "codes")["trainer"]["codes"]
    assert torch.equal(codes.nan_to_num(9), first.nan_to_num(9))
    rows = training_rows(recipe, data)
    prior = aggregate_posterior(model, data.images, rows, recipe, codes)
    known = codes[:, torch.from_numpy(rows)].flatten(0, 1).float()
    visited = known.isfinite().all(1)
    assert 60 < int(visited.sum()) < len(visited)
    assert torch.equal(prior.means, known[visited])
    assert torch.equal(prior.variances, encode_all(model, data.images, rows, recipe.mirror).variances[visited])


def ordinary(**changes: Any) -> Recipe:
    return stored(**{"code_weight": 20.0, "refine": 8, "flow_layers": 3, "batch": 16, "steps": 4, **changes})


@pytest.fixture
def code_trainer(shaped_run: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> CodeTrainer:
    monkeypatch.setattr(latents, "STEPS", 20)
    trainer = CodeTrainer(ordinary(), load_run(shaped_run, data.image_shape)[0], CPU)
    rows = torch.from_numpy(training_rows(trainer.recipe, data))
    codes = torch.full((2, len(data.images), 16), torch.nan, dtype=torch.float16)
    codes[0, rows] = encode_all(trainer.model, data.images, rows.numpy(), mirror=False).means.half()
    trainer.begin(data, codes)
    return trainer


def test_codes_made_ordinary_are_shorter_and_draw_no_worse(code_trainer: CodeTrainer, data: Dataset) -> None:
    """The networks rest; each picture's code and its mirror image's go down what the drawing misses plus their length."""
    trainer, model = code_trainer, code_trainer.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = training_rows(trainer.recipe, data)[:16]
    read = Reader(data, CPU)(rows)
    assert trainer.codes is not None
    assert trainer.flow is not None
    assert trainer.prior is trainer.flow
    x = to_pictures(data.images[rows], CPU)

    def prices() -> tuple[float, float]:
        assert trainer.codes is not None
        assert trainer.flow is not None
        codes = trainer.codes.of(read[2], torch.ones(16, dtype=torch.bool))
        with torch.no_grad():
            picture, log_sigma = model.decode(codes)
            missed = -log_likelihood(x.flip(3), picture, log_sigma).mean()
            return float(missed), float(trainer.flow.length(codes, trainer.flow.whitening()).mean())

    first = model.encode(x.flip(3))[0]
    trainer.codes.put(first, first, read[2], torch.ones(16, dtype=torch.bool))
    missed, length = prices()
    trainer.codes.means[1] = torch.nan  # a picture without a code begins there, too
    figures = [{key: float(value) for key, value in trainer.step(k, 0.0, *read).items()} for k in range(2)]
    missed_after, length_after = prices()
    assert missed_after + 20 * length_after < missed + 20 * length - 20
    assert length_after < length
    assert figures[1]["length"] <= figures[0]["length"]
    assert not figures[0]["bad"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    known = trainer.codes.means.isfinite().all(2)
    assert known[:, rows].all()
    assert int(known[1].sum()) == 16, "of those pictures, and of their mirror images"


def test_a_code_that_cannot_be_refined_stays(
    code_trainer: CodeTrainer, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = code_trainer
    images, landmarks, rows = Reader(data, CPU)(training_rows(trainer.recipe, data)[:16])
    assert trainer.codes is not None
    trainer.codes.means[:, rows] = 1.0
    decode = trainer.model.decode

    def decode_but_one(codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        picture, log_sigma = decode(codes)
        scale = torch.ones(len(codes), 1, 1, 1)
        scale[3] = torch.nan
        return picture * scale, log_sigma

    monkeypatch.setattr(trainer.model, "decode", decode_but_one)
    assert not trainer.step(0, 0.0, images, landmarks, rows)["bad"], "one of many"
    assert (trainer.codes.means[0, rows[3]] == 1.0).all()
    assert (trainer.codes.means[0, rows[4]] != 1.0).any()
    monkeypatch.setattr(trainer.model, "decode", lambda codes: (decode(codes)[0] * torch.nan, decode(codes)[1]))
    assert trainer.step(1, 0.0, images, landmarks, rows)["bad"]
    assert trainer.codes.means[:, rows].isfinite().all()
    trainer.codes = None
    with pytest.raises(ValueError, match="begin before the first step"):
        trainer.step(0, 0.0, images, landmarks, rows)


def test_codes_are_refined_in_a_run_that_resumes_and_go_on_to_the_critic_and_the_prior(
    shaped_run: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "STEPS", 20)
    monkeypatch.setattr(latents, "PROBES", 64)
    monkeypatch.setattr(critics, "WARMUP", 0)

    def run(recipe: Recipe, folder: str, begin: Path) -> dict[str, Any]:
        train(recipe, data, tmp_path / folder, begin=begin, device="cpu", progress=False)
        return checkpoint.load(tmp_path / folder)["trainer"]

    run(stored(), "vae", shaped_run)
    whole = run(ordinary(), "whole", tmp_path / "vae")
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda: signal.raise_signal(signal.SIGINT), CodeTrainer)
        with pytest.raises(Interrupted):
            run(ordinary(), "parts", tmp_path / "vae")
    parts = run(ordinary(), "parts", tmp_path / "vae")
    assert torch.equal(whole["codes"].nan_to_num(9), parts["codes"].nan_to_num(9))
    assert not torch.equal(
        whole["codes"].nan_to_num(9), checkpoint.load(tmp_path / "vae")["trainer"]["codes"].nan_to_num(9)
    )
    for name, tensor in whole["flow"].items():
        assert torch.equal(tensor, parts["flow"][name]), name

    sharp = run(ordinary(code_weight=0.0, stored_codes=False, critic=1.0, steps=1), "sharp", tmp_path / "whole")
    assert torch.equal(sharp["codes"].nan_to_num(9), whole["codes"].nan_to_num(9))
    assert not torch.equal(sharp["flow"]["mean"], whole["flow"]["mean"]), (
        "the prior is fitted anew, to what they have become"
    )
    alone = ordinary(code_weight=0.0, stored_codes=False, encoder_only=True, steps=1)
    last = run(alone, "last", tmp_path / "sharp")
    for name, tensor in sharp["flow"].items():
        assert torch.equal(tensor, last["flow"][name]), "the decoder rests, and so does its prior"
    assert "flow" not in run(alone, "anew", tmp_path / "whole"), "the one that codes were refined under is not theirs"
    for name, left in (("whole", False), ("sharp", True), ("last", True)):
        _, recipe, saved = load_run(tmp_path / name, data.image_shape)
        assert (left_by(saved["trainer"], recipe) is not None) == left, name
    other = run(alone.replace(flow_layers=2), "other", tmp_path / "sharp")
    assert "flow" not in other, "a prior of other layers is fitted anew"


def test_codes_are_refined_only_where_that_makes_sense(shaped_run: Path, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are 0 of these pictures: name a run with stored_codes = true"):
        train(ordinary(), data, tmp_path / "run", begin=shaped_run, device="cpu", progress=False)
    with pytest.raises(UserError, match=r"code_weight = 20\.0: goes on from a trained model; name its run"):
        train(ordinary(), data, tmp_path / "run", device="cpu", progress=False)
    changes: list[dict[str, Any]] = [{"refine": 0}, {"stored_codes": False}, {"critic": 1.0}, {"encoder_only": True}]
    for wrong in changes[:2]:
        with pytest.raises(UserError, match=r"code_weight = 20\.0: must be 0 unless there are stored codes and steps"):
            ordinary(**wrong)
    for wrong in changes[2:]:
        with pytest.raises(UserError, match=r"code_weight = 20\.0: must be 0 with a critic or encoder_only"):
            ordinary(**wrong)


def test_codes_of_other_pictures_are_left_behind(shaped_run: Path, data: Dataset, tmp_path: Path) -> None:
    train(stored(steps=2), data, tmp_path / "codes", begin=shaped_run, device="cpu", progress=False)
    (tmp_path / "codes" / "data.json").write_text('{"sha256": "another set"}', encoding="utf-8")
    train(stored(steps=1), data, tmp_path / "next", begin=tmp_path / "codes", device="cpu", progress=False)
    codes = checkpoint.load(tmp_path / "next")["trainer"]["codes"]
    assert int(codes.isfinite().all(2).sum()) == 16, "only those of its own one step"


def test_a_step_without_rows_or_without_codes_is_told(trainer: Trainer, data: Dataset) -> None:
    images, landmarks, rows = Reader(data, CPU)(training_rows(trainer.recipe, data)[:16])
    with pytest.raises(ValueError, match="found by the pictures' rows"):
        trainer.step(0, 0.0, images, landmarks)
    trainer.codes = None
    with pytest.raises(ValueError, match="begin before the first step"):
        trainer.step(0, 0.0, images, landmarks, rows)

"""A decoder rests, and its encoder learns to read what it draws; a second look shows the encoder what its answer misses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import SHAPED
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.train import checkpoint, latents
from morphing_faces.train import export as exporting
from morphing_faces.train import from_bundle as from_bundles
from morphing_faces.train.encoder_trainer import EncoderTrainer
from morphing_faces.train.from_bundle import from_bundle, initializers
from morphing_faces.train.latents import encode_all, find_latents, fit
from morphing_faces.train.loop import load_run, start, train
from morphing_faces.train.networks import SECOND_LOOK, SecondLook
from morphing_faces.train.onnx_export import check_exact, run_onnx, to_onnx
from morphing_faces.train.recipe import Recipe, from_dict
from morphing_faces.train.trainer import to_pictures
from morphing_faces.train.vae import VAE
from test_training import assert_same_checkpoint

CPU = torch.device("cpu")
SEEN = 10  # of the 16 channels of the coarsest features


@pytest.fixture(scope="module")
def data(shaped_data: Path) -> Dataset:
    return open_dataset(shaped_data)


@pytest.fixture(autouse=True)
def fewer_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "PROBES", 256)


def alone(**changes: Any) -> Recipe:
    return from_dict({**SHAPED, "encoder_only": True, **changes})


def looking(data: Dataset, run: Path, folder: Path, size: int = SEEN, **changes: Any) -> EncoderTrainer:
    """What goes on from ``run`` with a second look."""
    trainer, _ = start(alone(second_look=size, **changes), data, folder / "new", run, CPU, 0, 1)
    assert isinstance(trainer, EncoderTrainer)
    return trainer


def look_of(model: VAE) -> SecondLook:
    assert model.encoder.second_look is not None
    return model.encoder.second_look


def test_an_encoder_learns_to_read_a_decoder_that_rests(data: Dataset, shaped_run: Path) -> None:
    """Led astray, the encoder alone finds back to codes of which the same decoder draws the pictures."""
    model = load_run(shaped_run, data.image_shape)[0].requires_grad_(True)
    with torch.no_grad():
        model.encoder.mean.bias.add_(2.0)
    trainer = EncoderTrainer(alone(learning_rate=3e-3), model, CPU)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = data.training[:16]
    assert data.landmarks is not None
    marks = torch.from_numpy(data.landmarks[rows])
    x = to_pictures(data.images[rows], "cpu")

    def error() -> float:
        with torch.no_grad():
            return float((model.decode(model.encode(x)[0])[0] - x).square().mean())

    astray = error()
    for step in range(25):
        trainer.step(step, 0.0, torch.from_numpy(data.images[rows]), marks)
    assert error() < 0.8 * astray
    for each in (model, trainer.average):
        rests = {name for name, tensor in each.state_dict().items() if torch.equal(tensor, before[name])}
        assert rests == {name for name in before if name.startswith(("decoder.", "landmarks", "encoder.units."))}


def test_a_deeper_encoder_goes_on_from_a_shallower_one(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    """It answers at first what that one did, though blocks are new, and then all of it learns."""
    deeper = alone(encoder_blocks=[2, 1, 3], steps=1)
    trainer, _ = start(deeper, data, tmp_path / "run", shaped_run, CPU, 0, 1)
    model = load_run(shaped_run, data.image_shape)[0]
    x = to_pictures(data.images[:8], "cpu")
    with torch.no_grad():
        torch.testing.assert_close(trainer.model.encode(x), model.encode(x))
    assert len(list(trainer.model.parameters())) > len(list(model.parameters()))
    again, _ = start(deeper, data, tmp_path / "run", shaped_run, CPU, 0, 1)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), f"{name} depends on the seed alone"
    (tmp_path / "deeper").mkdir()
    checkpoint.save(tmp_path / "deeper", {"trainer": {"average": trainer.average.state_dict()}})
    with pytest.raises(UserError, match="was the recipe changed"):  # fewer blocks would lose what was learned
        start(alone(), data, tmp_path / "run", tmp_path / "deeper", CPU, 0, 1)


def test_an_encoder_alone_needs_a_decoder_to_read(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name its run, or a bundle, with --from"):
        train(alone(), data, tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(UserError, match="encoder_only = True: must be false when there is a critic"):
        alone(critic=1.0)


# --- a second look


def test_a_second_look_begins_as_the_decoder_that_rests(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    """With all channels it draws the same; with some it draws the nearer, the more it has."""
    codes = encode_all(load_run(shaped_run, data.image_shape)[0], data.images, data.training[:40], mirror=False).means
    misses = []
    for size in (1, SEEN, 16):
        model = looking(data, shaped_run, tmp_path, size).model
        with torch.no_grad():
            drawn, expected = look_of(model).draw(codes), model.decode(codes)[0]
            average = model.decode(codes.mean(0, keepdim=True))[0]
        misses.append(float((drawn - expected).square().mean() / (average - expected).square().mean()))
    assert misses[0] > misses[1] > misses[2]
    assert misses[1] < 0.3, "ten of sixteen channels tell most of how faces differ"
    assert misses[2] < 1e-6


def test_a_narrower_decoder_draws_the_average_face_exactly(data: Dataset, shaped_run: Path) -> None:
    """What is lost of the coarsest features is lost of what differs between faces."""
    model = load_run(shaped_run, data.image_shape)[0]
    with torch.no_grad():
        for layer in model.decoder.readers():
            layer.weight.mul_(1e-3)
    recipe = alone(second_look=SEEN)
    drawer = look_of(VAE(recipe, data.image_shape, shape=True)).drawer
    drawer.begin_as(model.decoder)
    nowhere = torch.zeros(1, 16)
    with torch.no_grad():
        torch.testing.assert_close(drawer.mean_picture(nowhere), model.decode(nowhere)[0], atol=2e-3, rtol=0)


def test_the_answer_is_corrected_by_what_its_drawing_misses(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    first = load_run(shaped_run, data.image_shape)[0]
    model = looking(data, shaped_run, tmp_path, 16).model
    x = to_pictures(data.images[data.validation], "cpu")
    with torch.no_grad():
        mean, log_variance = first.encode(x)
        expected = mean
        for _ in range(SecondLook.TIMES):
            again, _ = first.encode(first.decode(expected)[0])
            expected = expected + SecondLook.CORRECTED * (mean - again)
        found, same = model.encode(x)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(same, log_variance)
    with torch.no_grad():
        before, after = ((mean - first.encode(first.decode(code)[0])[0]).square().mean() for code in (mean, found))
    assert after < 0.9 * before, "drawn, the corrected code is read more nearly as the picture is"


def test_a_second_look_is_learned_and_resumes_bit_for_bit(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    recipe = alone(second_look=SEEN, steps=6, warmup=2)
    for name, parts in (("whole", (6,)), ("parts", (3, 6))):
        for steps in parts:
            train(
                recipe.replace(steps=steps, cooldown=0.0),
                data,
                tmp_path / name,
                begin=shaped_run,
                device="cpu",
                progress=False,
            )
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")
    begun = looking(data, shaped_run, tmp_path).model.state_dict()
    model, _, _ = load_run(tmp_path / "whole", data.image_shape)
    rests = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, begun[name])}
    assert {name for name in rests if name.startswith(SECOND_LOOK)} == {
        name for name in begun if name.startswith(SECOND_LOOK) and ("units." in name or "log_sigma" in name)
    }
    assert {name for name in begun if name.startswith("decoder.")} <= rests


def test_what_was_seen_is_kept_by_a_run_that_looks_on_and_left_by_one_that_does_not(
    data: Dataset, shaped_run: Path, tmp_path: Path
) -> None:
    trainer = looking(data, shaped_run, tmp_path)
    with torch.no_grad():
        look_of(trainer.average).correction.weight.add_(0.01)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text(trainer.recipe.to_toml(), encoding="utf-8")
    state = {"trainer": trainer.state(), "state": {"step": 1, "seconds": 0.0, "machine": "", "past": []}}
    state["trainer"]["average"] = trainer.average.state_dict()
    checkpoint.save(tmp_path / "run", state)
    on = looking(data, tmp_path / "run", tmp_path).model
    assert torch.equal(look_of(on).correction.weight, look_of(trainer.average).correction.weight)
    off, _ = start(from_dict(SHAPED), data, tmp_path / "off", tmp_path / "run", CPU, 0, 1)
    assert off.model.encoder.second_look is None
    for name, tensor in off.model.state_dict().items():
        assert torch.equal(tensor, trainer.average.state_dict()[name]), name


@pytest.mark.parametrize("layers", [0, 3])
def test_a_folded_second_look_answers_in_z(
    layers: int, data: Dataset, shaped_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does the ONNX file that a bundle holds."""
    monkeypatch.setattr(latents, "STEPS", 40)
    model = looking(data, shaped_run, tmp_path).model.eval().requires_grad_(False)
    look_of(model).correction.weight.add_(0.1 * torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))
    own = find_latents(model, fit(encode_all(model, data.images, data.training, False), model, layers, 0), 128, 0)
    pictures = torch.from_numpy(data.images[:6] / np.float32(255))
    expected = own.z(model.encode(pictures.permute(0, 3, 1, 2))[0])
    folded = copy.deepcopy(model)
    exporting.fold(folded, own)
    encoder = exporting.PictureEncoder(folded, own).eval()
    torch.testing.assert_close(encoder(pictures)[0], expected, atol=2e-3, rtol=2e-3)
    if layers:
        proto = to_onnx(encoder, {"picture": pictures[:2]}, ["mean", "std"])
        check_exact("encoder", encoder, proto, {"picture": pictures})
        np.testing.assert_allclose(run_onnx(proto, picture=pictures[:1].numpy())[0], expected[:1], atol=5e-3)
        theirs, state = initializers(proto.SerializeToString()), folded.state_dict()
        for name in (
            "correction.weight",
            "drawer.appearance.first.weight",
            "drawer.appearance.first_wider.weight",
            "drawer.shape.out.bias",
        ):
            torch.testing.assert_close(theirs[SECOND_LOOK + name], state[SECOND_LOOK + name], msg=name)


def test_a_bundles_second_look_goes_on_or_is_left(
    shaped_bundle: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = from_bundle(alone(second_look=SEEN), data, shaped_bundle)
    assert not look_of(first).begun, "the bundle has none"
    trainer = EncoderTrainer(alone(second_look=SEEN), first, CPU)
    trainer.begin(data)
    assert look_of(first).begun
    seen = {name: tensor.clone() for name, tensor in first.state_dict().items() if name.startswith(SECOND_LOOK)}
    written = (shaped_bundle / "encoder.onnx").read_bytes()
    monkeypatch.setattr(
        from_bundles, "initializers", lambda content: initializers(content) | (seen if content == written else {})
    )
    on, _ = from_bundle(alone(second_look=SEEN), data, shaped_bundle)
    for name, tensor in seen.items():
        assert torch.equal(on.state_dict()[name], tensor), name
    without, _ = from_bundle(from_dict(SHAPED), data, shaped_bundle)
    assert without.encoder.second_look is None
    with pytest.raises(UserError, match="its networks are not those of the recipe"):
        from_bundle(alone(second_look=SEEN - 1), data, shaped_bundle)


def test_two_processes_begin_a_second_look_alike(data: Dataset, shaped_run: Path, tmp_path: Path) -> None:
    """Each begins it by itself: what it begins at depends on run, pictures and recipe alone."""
    one, two = (looking(data, shaped_run, tmp_path).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"second_look": 17}, r"second_look = 17: must be from 0 to the last of widths, 16"),
        ({"second_look": -1}, r"second_look = -1: must be from 0 to the last of widths, 16"),
        ({"second_look": 4, "encoder_only": False}, r"second_look = 4: must be 0 unless encoder_only is true"),
        ({"second_look": 4, "network": "mlp"}, r"second_look = 4: must be 0 unless .* network is 'conv'"),
    ],
)
def test_a_second_look_that_cannot_be_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        alone(**changes)
    assert "\n" not in str(caught.value)

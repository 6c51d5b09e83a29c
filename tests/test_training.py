"""The training loop: it learns, it resumes exactly, and it survives what happens to long runs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Run, drawn_faces
from morphing_faces import files
from morphing_faces.dataset import Dataset, batch_rows, epoch_order, open_dataset, steps_in_epoch
from morphing_faces.errors import UserError
from morphing_faces.prepare import prepare
from morphing_faces.train import checkpoint, loop
from morphing_faces.train.loop import RECIPE, train
from morphing_faces.train.processes import Interrupted
from morphing_faces.train.recipe import Recipe, from_dict, from_toml
from morphing_faces.train.trainer import Metrics, Trainer, learning_rate, new_model
from morphing_faces.train.vae import VAE
from morphing_faces.train.validate import validate

SMALL: dict[str, Any] = {
    "name": "small", "latent_size": 4, "hidden": [16], "batch": 20, "steps": 8, "warmup": 2, "kl_warmup": 3, "mirror": True
}  # fmt: skip
PATIENCE = 120  # seconds after which a child process is given up


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """90 drawn faces, 8x8 grey."""
    folder = tmp_path_factory.mktemp("small")
    np.save(folder / "faces.npy", drawn_faces(90, size=8, seed=9))
    prepare([str(folder / "faces.npy")], folder / "prepared", size=8, grey=True, progress=False)
    return open_dataset(folder / "prepared")


def run(config: Recipe, data: Dataset, folder: Path) -> dict[str, Any]:
    return train(config, data, folder, device="cpu", progress=False)


def small(**changes: Any) -> Recipe:
    return from_dict({**SMALL, **changes})


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def on_two_processes(script: str, recipe: str, data: Dataset, folder: Path, torchrun: bool = True) -> str:
    """``torchrun script train`` into ``folder/run``, where script and recipe are -> what it printed.

    Without torchrun the two are started here, in the environment that it would give them.
    """
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"] if torchrun else []
    command = [
        sys.executable, *launcher, script, "train", "--recipe", recipe, "--data", str(data.folder), "-o", "run", "--device", "cpu",
    ]  # fmt: skip
    environments: list[dict[str, str]] = [{}]
    if not torchrun:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
        environments = [{**group, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]
    started = [
        subprocess.Popen(
            command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", **own},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for own in environments
    ]  # fmt: skip
    said = [each.communicate(timeout=PATIENCE) for each in started]
    for each, (_, error) in zip(started, said, strict=True):
        assert each.returncode == 0, error
    return "".join(printed for printed, _ in said)


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, do: Callable[[], None], kind: type[Trainer] = Trainer) -> None:
    """Call ``do`` once, as that step of a trainer of this ``kind`` begins."""
    original, done = kind.step, list[int]()

    def hooked(self: Trainer, now: int, *arguments: Any) -> Metrics:
        if now == step and not done:
            done.append(now)
            do()
        return original(self, now, *arguments)

    monkeypatch.setattr(kind, "step", hooked)


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Nested dictionaries and lists of tensors and values are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f"{where} differs"
    elif isinstance(a, dict):
        assert set(a) == set(b), where
        for key, value in a.items():
            assert_same(value, b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for k, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}/{k}")
    else:
        assert a == b, f"{where}: {a} is not {b}"


def assert_same_checkpoint(one: Path, other: Path) -> None:
    a, b = checkpoint.load(one), checkpoint.load(other)
    assert set(a["trainer"]) >= {"model", "average", "optimizer"}
    assert_same(a["trainer"], b["trainer"])
    for key in ("step", "bad_steps"):
        assert a["state"][key] == b["state"][key]


def one_line(message: str) -> str:
    assert message.strip()
    assert "\n" not in message
    return message


# --- learning


def test_training_improves_the_held_out_bound(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_data)
    config = from_toml(tiny_run / RECIPE)
    before = validate(new_model(config, dataset).eval(), config, dataset, tmp_path / "sheet.png")
    after = log(tiny_run)[-1]
    # Nats per pixel value; the mean face alone, with the best sigma, is what the fresh network begins at.
    assert (after["held_out/elbo"] - before["held_out/elbo"]) / 256 > 0.1
    assert after["held_out/mse"] < before["held_out/mse"]
    assert after["active_units"] > before["active_units"]


def test_a_run_leaves_its_settings_its_log_its_sheets_and_tensorboard_files(tiny_run: Path, tiny_data: Path) -> None:
    assert from_toml(tiny_run / RECIPE).name == "tiny"
    last = log(tiny_run)[-1]
    assert last["step"] == 400
    assert {"seconds", "elbo", "kl", "mse", "gradient_norm", "pictures_per_second", "bad_steps"} <= set(last)
    assert {"held_out/elbo", "held_out/kl", "held_out/mse", "held_out/psnr", "active_units"} <= set(last)
    assert all(np.isfinite(value) for value in last.values())
    assert (tiny_run / "sheets" / "step-0000400.png").read_bytes().startswith(b"\x89PNG")
    assert [
        path for path in (tiny_run / "tensorboard").iterdir() if "tfevents" in path.name and path.stat().st_size > 0
    ]
    record = json.loads((tiny_run / "data.json").read_text(encoding="utf-8"))
    assert record["sha256"] == open_dataset(tiny_data).record["sha256"]
    assert not list(tiny_run.glob(".*")), "temporary files were left"


@pytest.mark.parametrize("mirror", [True, False])
def test_the_mean_face_and_the_scale_around_it_are_those_of_what_is_trained_on(data: Dataset, mirror: bool) -> None:
    model = new_model(small(mirror=mirror), data)
    pictures = data.images[data.training] / 255
    if mirror:
        pictures = np.concatenate([pictures, pictures[:, :, ::-1]])
    for units in (model.encoder.units, model.decoder.units):
        assert np.allclose(units.mean_face[0].permute(1, 2, 0).numpy(), pictures.mean(0), atol=1e-6)
        assert float(units.scale) == pytest.approx((pictures - pictures.mean(0)).std(), rel=1e-4)


# --- resuming


AUGMENTED: dict[str, Any] = {"shift": 1.0, "zoom": 0.1}


@pytest.mark.parametrize(("changes", "step"), [({}, 5), (AUGMENTED, 2)], ids=["plain", "augmented"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    changes: dict[str, Any], step: int, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(**changes)
    run(config, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted, match="SIGINT"):
            run(config, data, tmp_path / "parts")
    assert checkpoint.load(tmp_path / "parts")["state"]["step"] == step + 1
    torch.manual_seed(999)  # resuming must not lean on the state of this process's generator
    run(config, data, tmp_path / "parts")
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")
    assert checkpoint.load(tmp_path / "parts")["state"]["step"] == config.steps


def test_saving_often_changes_no_result(data: Dataset, tmp_path: Path) -> None:
    config = small(steps=4)
    run(config, data, tmp_path / "seldom")
    run(config.replace(checkpoint_minutes=0.0), data, tmp_path / "often")
    assert [row["step"] for row in log(tmp_path / "often")] == [1, 2, 3, 4]
    assert_same_checkpoint(tmp_path / "seldom", tmp_path / "often")


def test_an_interrupt_gives_the_signal_and_restores_the_handlers(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    at_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        run(small(), data, tmp_path / "run")
    assert caught.value.signal == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_finished_run_is_not_trained_further(data: Dataset, tmp_path: Path) -> None:
    first = run(small(steps=2), data, tmp_path / "run")
    content = (tmp_path / "run" / checkpoint.FILE).read_bytes()
    again = run(small(steps=2), data, tmp_path / "run")
    assert (tmp_path / "run" / checkpoint.FILE).read_bytes() == content
    assert again == first
    sheet = tmp_path / "run" / "sheets" / "step-0000002.png"
    sheet.unlink()
    run(small(steps=2), data, tmp_path / "run")
    assert not sheet.exists(), "nothing to do is nothing done"


def test_other_settings_are_refused_with_each_key_and_both_values(data: Dataset, tmp_path: Path) -> None:
    run(small(steps=6), data, tmp_path / "run")
    content = (tmp_path / "run" / checkpoint.FILE).read_bytes()
    with pytest.raises(ValueError, match="was begun with other settings") as caught:
        run(small(steps=7, batch=10), data, tmp_path / "run")
    message = one_line(str(caught.value))
    assert "batch was 20, now 10" in message
    assert "steps was 6, now 7" in message
    assert "into a new folder" in message
    assert str(tmp_path / "run") in message
    assert "seed" not in message
    assert (tmp_path / "run" / checkpoint.FILE).read_bytes() == content
    run(small(steps=6, checkpoint_minutes=1.0), data, tmp_path / "run")  # this changes no result


def stopped_at(step: int, config: Recipe, data: Dataset, folder: Path) -> None:
    """Begin a run and stop it after ``step`` steps."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step - 1, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(config, data, folder)


def test_a_run_whose_learning_rate_rests_can_be_made_longer(data: Dataset, tmp_path: Path) -> None:
    config = small(steps=10, cooldown=0.3)
    run(config, data, tmp_path / "whole")
    stopped_at(5, small(steps=8, cooldown=0.25), data, tmp_path / "longer")
    run(config, data, tmp_path / "longer")
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "longer")
    assert from_toml(tmp_path / "longer" / RECIPE) == config
    with pytest.raises(ValueError, match="steps was 10, now 20"):  # by now it has fallen
        run(small(steps=20, cooldown=0.3), data, tmp_path / "longer")


def test_a_run_whose_learning_rate_will_have_fallen_is_not_made_shorter(data: Dataset, tmp_path: Path) -> None:
    stopped_at(5, small(steps=10, cooldown=0.3), data, tmp_path / "run")
    with pytest.raises(ValueError, match="steps was 10, now 6"):
        run(small(steps=6, cooldown=0.3), data, tmp_path / "run")


def test_minutes_bound_a_run_and_its_learning_rate_falls_by_the_clock(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    done: list[float] = []
    original = Trainer.step

    def slow(self: Trainer, step: int, part: float, *arguments: Any) -> Metrics:
        done.append(part)
        now[0] += 6.0
        return original(self, step, part, *arguments)

    monkeypatch.setattr(Trainer, "step", slow)
    config = small(steps=5, checkpoint_minutes=100.0)
    for expected in (10, 20):  # twice a minute of 6 seconds a step, whatever steps says; the second resumes
        train(config, data, tmp_path / "run", device="cpu", minutes=1.0, progress=False)
        assert checkpoint.load(tmp_path / "run")["state"]["step"] == expected
    assert done == pytest.approx([k / 10 for k in range(10)] * 2)
    with pytest.raises(ValueError, match="--minutes nan: must be more than 0"):
        train(config, data, tmp_path / "run", device="cpu", minutes=float("nan"), progress=False)


def test_a_run_begins_at_another_ones_averaged_weights(data: Dataset, tmp_path: Path) -> None:
    run(small(steps=3), data, tmp_path / "first")
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 0, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(small(kl_weight=2.0, warmup=10**6), data, tmp_path / "second", begin=tmp_path / "first", device="cpu", progress=False)  # fmt: skip
    first, second = (checkpoint.load(tmp_path / name) for name in ("first", "second"))
    before = first["trainer"]
    for name, tensor in before["average"].items():  # one step with next to no learning rate
        torch.testing.assert_close(second["trainer"]["model"][name], tensor, atol=1e-5, rtol=1e-4)
    (past,) = second["state"]["past"]
    assert (past["step"], past["recipe"]["kl_weight"]) == (3, small().kl_weight)
    assert not torch.equal(before["model"]["decoder.picture.weight"], before["average"]["decoder.picture.weight"])


def test_a_run_cannot_begin_where_there_is_none(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no checkpoint: run morphing-faces train first") as caught:
        train(small(), data, tmp_path / "run", begin=tmp_path / "gone", device="cpu", progress=False)
    one_line(str(caught.value))
    assert not (tmp_path / "run").exists()


def test_other_pictures_are_refused_with_their_folder(data: Dataset, tmp_path: Path) -> None:
    run(small(steps=1), data, tmp_path / "run")
    np.save(tmp_path / "others.npy", drawn_faces(90, size=8, seed=10))
    prepare([str(tmp_path / "others.npy")], tmp_path / "others", size=8, grey=True, progress=False)
    with pytest.raises(ValueError, match="was trained on other pictures") as caught:
        run(small(steps=1), open_dataset(tmp_path / "others"), tmp_path / "run")
    assert str(tmp_path / "others") in one_line(str(caught.value))
    assert "into a new folder" in str(caught.value)


@pytest.mark.parametrize("left", [0, 5, 400, -1])
def test_a_truncated_checkpoint_is_refused_with_the_remedy(left: int, data: Dataset, tmp_path: Path) -> None:
    run(small(steps=1), data, tmp_path / "run")
    file = tmp_path / "run" / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(UserError, match=r"is damaged .*: delete the folder to start again") as caught:
        run(small(steps=1), data, tmp_path / "run")
    assert str(file) in one_line(str(caught.value))


def test_every_flipped_bit_of_a_checkpoint_is_noticed(data: Dataset, tmp_path: Path) -> None:
    run(small(steps=1), data, tmp_path / "run")
    file = tmp_path / "run" / checkpoint.FILE
    whole = file.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 50):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(place) % 8
        file.write_bytes(broken)
        with pytest.raises(UserError, match="is damaged"):
            checkpoint.load(tmp_path / "run")
    file.write_bytes(whole)
    assert checkpoint.load(tmp_path / "run")["state"]["step"] == 1


def test_a_checkpoint_of_another_version_is_refused_with_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 9)
        checkpoint.save(tmp_path, {})
    with pytest.raises(UserError, match="has format 9, this program reads 2"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"trainer": Path("a class of its own")})
    with pytest.raises(UserError, match="is no checkpoint"):
        checkpoint.load(tmp_path)


def test_a_weight_of_another_shape_is_named_with_both_shapes(data: Dataset) -> None:
    model, wider = VAE(small(), data.image_shape), VAE(small(hidden=[17]), data.image_shape)
    with pytest.raises(UserError, match=r"expected \(4, 16\), found \(4, 17\)") as caught:
        checkpoint.load_into(model, wider.state_dict(), Path("run"))
    more = {**model.state_dict(), "decoder.other": torch.zeros(2, 3)}
    with pytest.raises(UserError, match=r"run: decoder\.other: expected nothing, found \(2, 3\)"):
        checkpoint.load_into(model, more, Path("run"))
    assert "encoder.mean.weight" in one_line(str(caught.value))


def test_a_log_that_a_kill_cut_short_has_its_last_row_after_resuming(data: Dataset, tmp_path: Path) -> None:
    stopped_at(3, small(checkpoint_minutes=0.0), data, tmp_path / "run")
    file = tmp_path / "run" / "log.jsonl"
    whole = file.read_text(encoding="utf-8")
    assert [row["step"] for row in log(tmp_path / "run")] == [1, 2, 3]
    rows = whole.splitlines(keepends=True)
    file.write_text("".join(rows[:2]) + rows[2][:30], encoding="utf-8")
    run(small(checkpoint_minutes=0.0), data, tmp_path / "run")
    assert [row["step"] for row in log(tmp_path / "run")] == list(range(1, 9))
    assert file.read_text(encoding="utf-8").startswith(whole)


# --- disks


def test_a_full_disk_while_saving_keeps_the_old_checkpoint(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, contents = files._flush_to_disk, []
    file = tmp_path / "run" / checkpoint.FILE

    def flush(path: Path) -> None:
        if path.suffix == file.suffix and file.exists():
            contents.append(file.read_bytes())
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path)

    monkeypatch.setattr(files, "_flush_to_disk", flush)
    with pytest.raises(UserError, match="No space left on device"):
        run(small(checkpoint_minutes=0.0), data, tmp_path / "run")
    assert contents == [file.read_bytes()]
    assert checkpoint.load(tmp_path / "run")["state"]["step"] == 1
    assert not list((tmp_path / "run").glob(".*")), "the half written file was left"


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
def test_a_disk_that_refuses_the_checkpoint_is_one_line(data: Dataset, tmp_path: Path, process: Run) -> None:
    import resource

    (tmp_path / "small.toml").write_text(small().to_toml(), encoding="utf-8")
    done = process(
        "train", "--recipe", "small.toml", "--data", data.folder, "-o", "run", "--device", "cpu", "--set", "hidden=[200]",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("morphing-faces: ")
    assert not list((tmp_path / "run").glob("*.pt"))
    assert not list((tmp_path / "run").glob(".*.pt"))


# --- steps that are not finite


def spoil(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """Make the loss of the training steps (counted from 0) for which ``bad`` holds not a number."""
    original, steps = VAE.forward, iter(range(10_000))

    def spoiled(self: VAE, *arguments: Any) -> Any:
        terms = original(self, *arguments)
        return terms._replace(log_likelihood=terms.log_likelihood * float("nan")) if bad(next(steps)) else terms

    monkeypatch.setattr(VAE, "forward", spoiled)


def test_steps_that_are_not_finite_are_skipped_and_counted(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda step: step in (2, 3, 6))
    metrics = run(small(steps=8), data, tmp_path / "run")
    assert metrics["bad_steps"] == 3
    saved = checkpoint.load(tmp_path / "run")
    assert (saved["state"]["step"], saved["state"]["bad_steps"]) == (8, 3)
    assert {int(moments["step"]) for moments in saved["trainer"]["optimizer"]["state"].values()} == {5}
    assert all(torch.isfinite(tensor).all() for tensor in saved["trainer"]["model"].values())


def test_a_skipped_step_changes_no_weight(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[Any] = []
    original = checkpoint.save

    def save(folder: Path, state: dict[str, Any]) -> None:
        weights.append(copy.deepcopy(state["trainer"]))
        original(folder, state)

    spoil(monkeypatch, lambda step: step == 2)
    monkeypatch.setattr(checkpoint, "save", save)
    run(small(steps=4, checkpoint_minutes=0.0), data, tmp_path / "run")
    first, before, after, last = (part["model"]["encoder.mean.weight"] for part in weights)
    assert torch.equal(before, after)
    assert not torch.equal(first, before)
    assert not torch.equal(after, last)
    assert_same(weights[1]["average"], weights[2]["average"])
    assert_same(weights[1]["optimizer"]["state"], weights[2]["optimizer"]["state"])


def test_many_bad_steps_in_a_row_stop_the_run_with_what_to_change(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_BAD_STEPS", 3)
    spoil(monkeypatch, lambda step: step in (1, 3, 4, 5, 6))
    with pytest.raises(UserError, match="3 steps in a row were not finite") as caught:
        run(small(steps=20, checkpoint_minutes=0.0), data, tmp_path / "run")
    message = one_line(str(caught.value))
    for word in ("learning_rate (now 0.001)", "sigma_min (now 0.02)", "precision=fp32", str(tmp_path / "run")):
        assert word in message
    assert checkpoint.load(tmp_path / "run")["state"]["step"] == 5


def test_a_run_stopped_before_its_first_good_step_resumes(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        spoil(patch, lambda step: step == 0)
        at_step(patch, 0, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            run(small(steps=3), data, tmp_path / "run")
    run(small(steps=3), data, tmp_path / "run")
    assert checkpoint.load(tmp_path / "run")["state"]["step"] == 3
    assert checkpoint.load(tmp_path / "run")["state"]["bad_steps"] == 1


# --- the learning rate


def test_the_learning_rate_warms_up_rests_and_falls_over_the_cooldown() -> None:
    config = Recipe(learning_rate=0.5, warmup=10, steps=100, cooldown=0.4)
    rates = [learning_rate(config, step, step / config.steps) for step in range(101)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10:61] == pytest.approx([0.5] * 51)
    assert all(a > b for a, b in itertools.pairwise(rates[60:]))
    assert rates[70] == pytest.approx((0.5 + 0.01) / 2)  # 1 - sqrt(1/4)
    assert rates[100] == pytest.approx(0.01)
    assert learning_rate(config, 1000, 10.0) == pytest.approx(0.01)


def test_the_learning_rate_without_warm_up_or_cooldown_rests_at_its_peak() -> None:
    config = Recipe(learning_rate=0.5, warmup=0, cooldown=0.0)
    assert [learning_rate(config, step, done) for step, done in ((0, 0.0), (9, 0.9), (10, 1.0))] == [0.5] * 3


# --- batches


def some(
    data: Dataset, first: int, last: int, batch: int, seed: int = 0, rank: int = 0, world: int = 1
) -> list[list[int]]:
    rows = batch_rows(data.training, first, batch, seed, rank, world)
    return [next(rows).tolist() for _ in range(first, last)]


def test_an_epoch_reads_each_picture_once_in_an_order_of_its_own(data: Dataset) -> None:
    steps = steps_in_epoch(len(data.training), 20)
    first, second = (some(data, k * steps, (k + 1) * steps, 20) for k in (0, 1))
    for epoch in (first, second):
        read = [row for batch in epoch for row in batch]
        assert len(read) == len(set(read)) == steps * 20
        assert set(read) <= set(data.training.tolist())
    assert first != second


def test_batches_begun_in_the_middle_are_those_of_the_whole_run(data: Dataset) -> None:
    assert some(data, 0, 10, 20, seed=3)[6:] == some(data, 6, 10, 20, seed=3)
    assert some(data, 6, 7, 20, seed=4) != some(data, 6, 7, 20, seed=3)


def test_the_shares_of_the_processes_are_disjoint_and_together_the_batch(data: Dataset) -> None:
    whole = some(data, 0, 9, 20)
    shares = [some(data, 0, 9, 20, rank=rank, world=4) for rank in range(4)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [len(part) for part in parts] == [5] * 4
        assert sorted(row for part in parts for row in part) == batch


def test_a_set_smaller_than_a_batch_repeats_itself(data: Dataset) -> None:
    (rows,) = some(data, 0, 1, 200)
    assert len(rows) == 200
    counts = np.unique(rows, return_counts=True)[1]
    assert len(counts) == len(data.training)
    assert counts.max() - counts.min() <= 1


def test_a_data_set_without_training_pictures_is_refused(data: Dataset, tmp_path: Path) -> None:
    nothing = dataclasses.replace(data, held_out=np.ones(len(data.images), bool))
    with pytest.raises(ValueError, match="has no training pictures; prepare it from more pictures"):
        run(small(), nothing, tmp_path / "run")


# --- real processes


def rows_of(data: Dataset, pictures: np.ndarray) -> list[int]:
    """Which row of the data each picture is (the drawn faces all differ)."""
    where = {picture.tobytes(): row for row, picture in enumerate(data.images)}
    assert len(where) == len(data.images)
    return [where[picture.tobytes()] for picture in pictures]


def begin(data: Dataset, folder: Path) -> subprocess.Popen[str]:
    """``morphing-faces train`` that saves at every step, once its first checkpoint is there."""
    (folder / "small.toml").write_text(small(steps=1_000_000, checkpoint_minutes=0.0).to_toml(), encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "-m", "morphing_faces", "train", "--recipe", "small.toml", "--data", str(data.folder), "-o", "run",
         "--device", "cpu"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not checkpoint.exists(folder / "run"):
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            pytest.fail(f"no checkpoint came: {child.communicate()[1]}")
        time.sleep(0.05)
    return child


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_saves_and_one_line_says_how_to_go_on(number: signal.Signals, data: Dataset, tmp_path: Path) -> None:
    child = begin(data, tmp_path)
    child.send_signal(number)
    _, said = child.communicate(timeout=PATIENCE)
    assert child.returncode == 128 + number
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last == f"morphing-faces: stopped by {number.name}; the checkpoint is written, the same command resumes"
    assert checkpoint.load(tmp_path / "run")["state"]["step"] == log(tmp_path / "run")[-1]["step"]
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_run_leaves_a_checkpoint_that_resumes(data: Dataset, tmp_path: Path) -> None:
    child = begin(data, tmp_path)
    child.kill()
    child.communicate(timeout=PATIENCE)
    assert child.returncode == -signal.SIGKILL
    saved = checkpoint.load(tmp_path / "run")
    assert saved["state"]["step"] >= 1
    assert all(torch.isfinite(tensor).all() for tensor in saved["trainer"]["model"].values())


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun")
def test_two_processes_share_every_batch_and_finish(data: Dataset, tmp_path: Path) -> None:
    """``torchrun -m morphing_faces train``, with the pictures that each process sees written down, and its stored codes."""
    (tmp_path / "small.toml").write_text(small(mirror=False, steps=3, stored_codes=True).to_toml(), encoding="utf-8")
    (tmp_path / "spy.py").write_text(
        textwrap.dedent("""
            import os, runpy
            import numpy as np
            from morphing_faces.train.trainer import Trainer

            def spied(self, step, done, images, *rest, original=Trainer.step):
                np.save(f"seen-{os.environ['RANK']}-{step}.npy", images)
                metrics = original(self, step, done, images, *rest)
                np.save(f"codes-{os.environ['RANK']}-{step}.npy", self.codes.means.numpy())
                return metrics

            Trainer.step = spied
            runpy.run_module("morphing_faces", run_name="__main__", alter_sys=True)
        """),
        encoding="utf-8",
    )
    printed = on_two_processes("spy.py", "small.toml", data, tmp_path)
    assert printed.count("run: done; ") == 1, "only the first process reports"
    assert checkpoint.load(tmp_path / "run")["state"]["step"] == 3
    assert [row["step"] for row in log(tmp_path / "run")] == [3]
    order = epoch_order(data.training, 0, 20, 0)
    for step in range(3):
        one, two = (rows_of(data, np.load(tmp_path / f"seen-{rank}-{step}.npy")) for rank in (0, 1))
        assert not set(one) & set(two)
        assert sorted(one + two) == sorted(order[20 * step : 20 * step + 20].tolist())
        codes, same = (np.load(tmp_path / f"codes-{rank}-{step}.npy") for rank in (0, 1))
        np.testing.assert_array_equal(codes, same)
        assert set(np.flatnonzero(np.isfinite(codes[0]).all(1))) == set(order[: 20 * step + 20])


def test_a_second_run_into_the_folder_is_told_who_holds_it(data: Dataset, tmp_path: Path) -> None:
    with loop.alone(tmp_path / "run", 0), pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
        run(small(), data, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing came to be in it"


def test_a_folder_that_holds_something_else_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "me.jpg").write_bytes(b"a photograph")
    with pytest.raises(UserError, match=r"holds 'me\.jpg' and no run: choose a new folder"):
        run(small(), data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["me.jpg"]


def test_a_batch_that_the_processes_cannot_share_is_refused(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "processes", lambda _: contextlib.nullcontext((torch.device("cpu"), 0, 3)))
    with pytest.raises(UserError, match="batch = 20: must be divisible by the 3 processes"):
        run(small(), data, tmp_path / "run")


@pytest.mark.parametrize(
    ("device", "said"),
    [("gpu9", "must be auto, cpu, cuda"), ("meta", "must be auto"), ("mps", "use --device cpu"), ("cuda:99", "use --device cpu")],
)  # fmt: skip
def test_a_device_that_is_unknown_or_absent_is_refused(device: str, said: str, data: Dataset, tmp_path: Path) -> None:
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("it is here")
    with pytest.raises(UserError, match=f"--device '{device}': .*{said}") as caught:
        train(small(), data, tmp_path / "run", device=device, progress=False)
    one_line(str(caught.value))
    assert not (tmp_path / "run").exists()

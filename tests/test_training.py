"""The training loop: it learns, it resumes exactly, and it survives what happens to long runs."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Run, drawn_faces
from morphing_faces.dataset import Dataset, batches, epoch_order, open_dataset, steps_in_epoch
from morphing_faces.prepare import prepare
from morphing_faces.train import checkpoint, loop
from morphing_faces.train.loop import Interrupted, learning_rate, look, train
from morphing_faces.train.networks import VAE
from morphing_faces.train.recipe import Config, from_dict, from_toml

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


def run(config: Config, data: Dataset, folder: Path) -> dict[str, Any]:
    return train(config, data, folder, device="cpu", progress=False)


def small(**changes: Any) -> Config:
    return from_dict({**SMALL, **changes})


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def on_two_processes(script: str, recipe: str, data: Dataset, folder: Path) -> subprocess.CompletedProcess[str]:
    """``torchrun script train`` into ``folder/run``, where script and recipe are."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", script, "train",
         "--recipe", recipe, "--data", str(data.folder), "-o", "run", "--device", "cpu"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, do: Callable[[], None]) -> None:
    """Call ``do`` once, in the middle of that step."""
    original = loop.learning_rate
    done: list[int] = []

    def hooked(config: Config, now: int) -> float:
        if now == step and not done:
            done.append(now)
            do()
        return original(config, now)

    monkeypatch.setattr(loop, "learning_rate", hooked)


def assert_same_checkpoint(one: Path, other: Path) -> None:
    (a, state_a), (b, state_b) = checkpoint.load(one), checkpoint.load(other)
    assert {group: set(members) for group, members in a.items()} == {
        group: set(members) for group, members in b.items()
    }
    assert set(a) >= {"model", "ema", "optimizer"}
    for group, members in a.items():
        for name, tensor in members.items():
            assert torch.equal(tensor, b[group][name]), f"{group}/{name} differs"
    for key in ("step", "bad_steps"):
        assert state_a[key] == state_b[key]


def one_line(message: str) -> str:
    assert message.strip()
    assert "\n" not in message
    return message


# --- learning


def test_training_improves_the_held_out_bound(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_data)
    config = loop.from_toml(tiny_run / "config.toml")
    torch.manual_seed(config.seed)
    fresh = VAE(config, dataset.image_shape).eval()
    loop.set_data_statistics(fresh, dataset)
    before = look(fresh, dataset, tmp_path / "sheet.png", mirror=True)
    after = log(tiny_run)[-1]
    # Nats per pixel value; the mean face alone, with the best sigma, is what the fresh network begins at.
    assert (after["held_out/elbo"] - before["held_out/elbo"]) / 256 > 0.1
    assert after["held_out/mse"] < before["held_out/mse"]
    assert after["active_units"] > before["active_units"]


def test_a_run_leaves_its_settings_its_log_its_sheets_and_tensorboard_files(tiny_run: Path, tiny_data: Path) -> None:
    assert loop.from_toml(tiny_run / "config.toml").name == "tiny"
    last = log(tiny_run)[-1]
    assert last["step"] == 400
    assert {"seconds", "elbo", "kl", "mse", "sigma", "gradient_norm", "pictures_per_second", "bad_steps"} <= set(last)
    assert {"held_out/elbo", "held_out/kl", "held_out/mse", "held_out/psnr", "active_units"} <= set(last)
    assert all(np.isfinite(value) for value in last.values())
    assert (tiny_run / "sheets" / "step-0000400.png").read_bytes().startswith(b"\x89PNG")
    assert [
        path for path in (tiny_run / "tensorboard").iterdir() if "tfevents" in path.name and path.stat().st_size > 0
    ]
    record = json.loads((tiny_run / "data.json").read_text(encoding="utf-8"))
    assert record["sha256"] == open_dataset(tiny_data).record["sha256"]
    assert not list(tiny_run.glob(".*")), "temporary files were left"


def test_the_mean_face_is_that_of_the_training_pictures_and_their_mirror(data: Dataset) -> None:
    model = VAE(small(), data.image_shape)
    loop.set_data_statistics(model, data)
    pictures = data.images[data.rows("train")] / 255
    mean = (pictures.mean(0) + pictures.mean(0)[:, ::-1]) / 2
    assert np.allclose(model.mean_face[0].permute(1, 2, 0).numpy(), mean, atol=1e-6)
    assert float(model.scale) == pytest.approx((pictures - pictures.mean(0)).std(), rel=1e-4)


# --- resuming


AUGMENTED: dict[str, Any] = {"shift": 1.0, "zoom": 0.1, "contrast": 0.2, "dropout": 0.3}


@pytest.mark.parametrize(("changes", "step"), [({}, 5), (AUGMENTED, 2)], ids=["plain", "augmented, with dropout"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    changes: dict[str, Any], step: int, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(**changes)
    run(config, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted, match="SIGINT"):
            run(config, data, tmp_path / "parts")
    assert checkpoint.load(tmp_path / "parts")[1]["step"] == step + 1
    torch.manual_seed(999)  # resuming must not lean on the state of this process's generator
    run(config, data, tmp_path / "parts")
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "parts")
    assert checkpoint.load(tmp_path / "parts")[1]["step"] == config.steps


def test_saving_often_changes_no_result(data: Dataset, tmp_path: Path) -> None:
    config = small(steps=4, dropout=0.3)
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
    assert again["held_out/elbo"] == first["held_out/elbo"]


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
    run(small(steps=6, checkpoint_minutes=1.0, max_bad_steps=3), data, tmp_path / "run")  # these change no result


def test_a_run_whose_learning_rate_rests_can_be_made_longer(data: Dataset, tmp_path: Path) -> None:
    config = small(steps=9, cooldown=3)
    run(config, data, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 4, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(small(steps=7, cooldown=2, adversarial_from=8), data, tmp_path / "longer")
    run(config, data, tmp_path / "longer")
    assert_same_checkpoint(tmp_path / "whole", tmp_path / "longer")
    assert from_toml(tmp_path / "longer" / "config.toml") == config
    with pytest.raises(ValueError, match="steps was 9, now 20"):  # by now it has fallen
        run(small(steps=20, cooldown=3), data, tmp_path / "longer")


def test_a_run_whose_learning_rate_will_have_fallen_is_not_made_shorter(data: Dataset, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 4, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(small(steps=9, cooldown=3), data, tmp_path / "run")
    with pytest.raises(ValueError, match="steps was 9, now 6"):
        run(small(steps=6, cooldown=3), data, tmp_path / "run")


def test_a_run_begins_at_another_ones_averaged_weights(data: Dataset, tmp_path: Path) -> None:
    run(small(steps=3), data, tmp_path / "first")
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 0, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(small(kl_weight=2.0, warmup=10**6), data, tmp_path / "second", begin=tmp_path / "first", device="cpu", progress=False)  # fmt: skip
    (first, _), (second, state) = (checkpoint.load(tmp_path / name) for name in ("first", "second"))
    for name, tensor in first["ema"].items():  # one step with next to no learning rate
        torch.testing.assert_close(second["model"][name], tensor, atol=1e-5, rtol=1e-4)
    (past,) = state["past"]
    assert (past["step"], past["recipe"]["kl_weight"]) == (3, small().kl_weight)
    assert not torch.equal(first["model"]["decoder.picture.weight"], first["ema"]["decoder.picture.weight"])


def test_a_run_cannot_begin_where_there_is_none(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run with a checkpoint is there") as caught:
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
    with pytest.raises(ValueError, match=r"cannot be read .*: delete the folder to start again") as caught:
        run(small(steps=1), data, tmp_path / "run")
    assert str(file) in one_line(str(caught.value))


def test_a_checkpoint_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    checkpoint.save_file({"a": torch.zeros(1)}, tmp_path / checkpoint.FILE, metadata={"format": "9", "state": "{}"})
    with pytest.raises(ValueError, match="has format '9', this program reads '1'"):
        checkpoint.load(tmp_path)


def test_a_weight_of_another_shape_is_named_with_both_shapes(data: Dataset) -> None:
    model, wider = VAE(small(), data.image_shape), VAE(small(hidden=[17]), data.image_shape)
    with pytest.raises(ValueError, match=r"expected shape \(16, 64\), found \(17, 64\)") as caught:
        checkpoint.load_into(model, wider.state_dict(), Path("run"))
    more = {**model.state_dict(), "decoder.other": torch.zeros(2, 3)}
    with pytest.raises(ValueError, match=r"run: decoder\.other: expected nothing, found shape \(2, 3\)"):
        checkpoint.load_into(model, more, Path("run"))
    assert "encoder.hidden.0.weight" in one_line(str(caught.value))


# --- disks


def test_a_full_disk_while_saving_keeps_the_old_checkpoint(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, contents = checkpoint.save_file, []
    file = tmp_path / "run" / checkpoint.FILE

    def save_file(tensors: Any, path: Path, metadata: Any) -> None:
        if file.exists():
            contents.append(file.read_bytes())
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", save_file)
    with pytest.raises(OSError, match="No space left on device"):
        run(small(checkpoint_minutes=0.0), data, tmp_path / "run")
    assert contents == [file.read_bytes()]
    assert checkpoint.load(tmp_path / "run")[1]["step"] == 1
    assert not list((tmp_path / "run").glob(".*")), "the half written file was left"


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
def test_a_disk_that_refuses_the_checkpoint_is_one_line(data: Dataset, tmp_path: Path, command: Run) -> None:
    """The library that writes checkpoints has errors of its own, which are no ``OSError``."""
    import resource

    (tmp_path / "small.toml").write_text(small().to_toml(), encoding="utf-8")
    done = command(
        "train", "--recipe", "small.toml", "--data", data.folder, "-o", "run", "--device", "cpu", "--set", "hidden=[200]",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("morphing-faces: ")
    assert "checkpoint.safetensors" in last
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert not list((tmp_path / "run").glob(".*.safetensors"))


# --- steps that are not finite


def spoil(monkeypatch: pytest.MonkeyPatch, bad: Callable[[int], bool]) -> None:
    """Make the loss of the training steps (counted from 0) for which ``bad`` holds not a number."""
    original, steps = loop.gaussian_log_likelihood, iter(range(10_000))

    def spoiled(x: torch.Tensor, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
        result = original(x, mean, log_sigma)
        return result * float("nan") if torch.is_grad_enabled() and bad(next(steps)) else result

    monkeypatch.setattr(loop, "gaussian_log_likelihood", spoiled)


def test_steps_that_are_not_finite_are_skipped_and_counted(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda step: step in (2, 3, 6))
    metrics = run(small(steps=8, max_bad_steps=3), data, tmp_path / "run")
    assert metrics["bad_steps"] == 3
    groups, state = checkpoint.load(tmp_path / "run")
    assert (state["step"], state["bad_steps"]) == (8, 3)
    assert {int(tensor) for name, tensor in groups["optimizer"].items() if name.startswith("step/")} == {5}
    assert all(torch.isfinite(tensor).all() for members in groups.values() for tensor in members.values())


def test_a_skipped_step_changes_no_weight(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(steps=4, checkpoint_minutes=0.0)
    weights: list[dict[str, dict[str, torch.Tensor]]] = []
    original = checkpoint.save

    def save(folder: Path, groups: dict[str, dict[str, torch.Tensor]], state: dict[str, Any]) -> None:
        weights.append({key: {name: t.clone() for name, t in members.items()} for key, members in groups.items()})
        original(folder, groups, state)

    spoil(monkeypatch, lambda step: step == 2)
    monkeypatch.setattr(checkpoint, "save", save)
    run(config, data, tmp_path / "run")
    first, before, after, last = (part["model"]["encoder.mean.weight"] for part in weights)
    assert torch.equal(before, after)
    assert not torch.equal(first, before)
    assert not torch.equal(after, last)
    for group in ("ema", "optimizer"):
        assert all(torch.equal(tensor, weights[2][group][name]) for name, tensor in weights[1][group].items())


def test_many_bad_steps_in_a_row_stop_the_run_with_what_to_change(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda step: step in (1, 3, 4, 5, 6))
    with pytest.raises(FloatingPointError, match="3 steps in a row were not finite") as caught:
        run(small(steps=20, max_bad_steps=3, checkpoint_minutes=0.0), data, tmp_path / "run")
    message = one_line(str(caught.value))
    for word in ("learning_rate (now 0.001)", "sigma_min (now 0.02)", "precision=fp32", str(tmp_path / "run")):
        assert word in message
    assert checkpoint.load(tmp_path / "run")[1]["step"] == 5


def test_a_run_stopped_before_its_first_good_step_resumes(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        spoil(patch, lambda step: step == 0)
        at_step(patch, 0, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted):
            run(small(steps=3), data, tmp_path / "run")
    run(small(steps=3), data, tmp_path / "run")
    assert checkpoint.load(tmp_path / "run")[1]["step"] == 3
    assert checkpoint.load(tmp_path / "run")[1]["bad_steps"] == 1


# --- the learning rate


def test_the_learning_rate_warms_up_to_its_peak_and_ends_where_it_should() -> None:
    config = Config(learning_rate=2.0, learning_rate_end=0.1, warmup=10, steps=110)
    rates = [learning_rate(config, step) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == pytest.approx(2.0)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[60] == pytest.approx((2.0 + 0.2) / 2)  # half way down the cosine
    assert rates[110] == pytest.approx(0.2)
    assert learning_rate(config, 1000) == pytest.approx(0.2)


def test_the_learning_rate_rests_and_then_falls_over_the_cooldown() -> None:
    config = Config(learning_rate=2.0, learning_rate_end=0.1, warmup=10, steps=110, cooldown=40)
    rates = [learning_rate(config, step) for step in range(111)]
    assert rates[10:71] == pytest.approx([2.0] * 61)
    assert all(a > b for a, b in itertools.pairwise(rates[70:]))
    assert rates[80] == pytest.approx((2.0 + 0.2) / 2)  # 1 - sqrt(1/4)
    assert rates[110] == pytest.approx(0.2)
    short = Config(learning_rate=2.0, warmup=10, steps=20, cooldown=40)
    assert learning_rate(short, 10) == 2.0


def test_with_a_critic_the_learning_rate_falls_twice() -> None:
    settings = {"learning_rate": 2.0, "learning_rate_end": 0.1, "warmup": 10, "steps": 200, "cooldown": 40}
    critic = {"adversarial": 0.2, "adversarial_from": 110, "adversarial_pace": 0.5}
    config = Config(**settings, **critic)  # type: ignore[arg-type]
    rates = [learning_rate(config, step) for step in range(201)]
    alone = Config(**{**settings, "steps": 110})  # type: ignore[arg-type]
    assert rates[:110] == [learning_rate(alone, step) for step in range(110)]
    assert rates[110:120] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[120:161] == pytest.approx([1.0] * 41)
    assert all(a > b for a, b in itertools.pairwise(rates[160:]))
    assert rates[200] == pytest.approx(0.1)


def test_the_learning_rate_without_warm_up_begins_at_its_peak() -> None:
    config = Config(learning_rate=2.0, warmup=0, steps=1)
    assert learning_rate(config, 0) == 2.0


# --- batches


def rows_of(data: Dataset, pictures: np.ndarray) -> list[int]:
    """Which row of the data each picture is (the drawn faces all differ)."""
    where = {picture.tobytes(): row for row, picture in enumerate(data.images)}
    assert len(where) == len(data.images)
    return [where[picture.tobytes()] for picture in pictures]


def test_an_epoch_reads_each_picture_once_in_an_order_of_its_own(data: Dataset) -> None:
    train_rows = data.rows("train")
    steps = steps_in_epoch(len(train_rows), 20)
    first, second = (
        [rows_of(data, b) for b in batches(data, "train", k * steps, (k + 1) * steps, 20, 0)] for k in (0, 1)
    )
    for epoch in (first, second):
        read = [row for batch in epoch for row in batch]
        assert len(read) == len(set(read)) == steps * 20
        assert set(read) <= set(train_rows.tolist())
    assert first != second


def test_batches_begun_in_the_middle_are_those_of_the_whole_run(data: Dataset) -> None:
    whole = list(batches(data, "train", 0, 10, 20, seed=3))
    part = list(batches(data, "train", 6, 10, 20, seed=3))
    assert len(whole) == 10
    assert all(np.array_equal(a, b) for a, b in zip(whole[6:], part, strict=True))
    other = next(batches(data, "train", 6, 10, 20, seed=4))
    assert not np.array_equal(other, part[0])


def test_the_shares_of_the_processes_are_disjoint_and_together_the_batch(data: Dataset) -> None:
    whole = list(batches(data, "train", 0, 9, 20, seed=0))
    shares = [list(batches(data, "train", 0, 9, 20, 0, rank=rank, world=4)) for rank in range(4)]
    for step, batch in enumerate(whole):
        parts = [rows_of(data, share[step]) for share in shares]
        assert [len(part) for part in parts] == [5] * 4
        together = [row for part in parts for row in part]
        assert sorted(together) == sorted(rows_of(data, batch))
        assert len(set(together)) == 20


def test_a_set_smaller_than_a_batch_repeats_itself(data: Dataset) -> None:
    pictures = next(batches(data, "train", 0, 1, 200, seed=0))
    assert len(pictures) == 200
    counts = np.unique(rows_of(data, pictures), return_counts=True)[1]
    assert len(counts) == len(data.rows("train"))
    assert counts.max() - counts.min() <= 1


class Shelf:
    """Stands for the array of pictures; notes what is read, and fails when told to."""

    def __init__(self, data: Dataset, fail_at: int = 10_000):
        self.images, self.fail_at, self.reads = data.images, fail_at, 0
        self.third = threading.Event()

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.reads += 1
        if self.reads >= 3:
            self.third.set()
        if self.reads >= self.fail_at:
            raise OSError(errno.EIO, "the disk is gone")
        return np.asarray(self.images[rows])


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_batches_are_read_ahead_but_not_without_bound_and_the_reader_ends(data: Dataset) -> None:
    before = set(readers())
    shelf = Shelf(data)
    stream = batches(dataclasses.replace(data, images=shelf), "train", 0, 1000, 20, 0)  # type: ignore[arg-type]
    next(stream)
    assert shelf.third.wait(PATIENCE), "nothing is read while a batch is in use"
    assert shelf.reads <= 6  # one in use, four on the shelf, one in hand
    (reader,) = set(readers()) - before
    stream.close()  # type: ignore[attr-defined]
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_what_goes_wrong_while_reading_is_raised_where_a_person_looks(data: Dataset) -> None:
    stream = batches(dataclasses.replace(data, images=Shelf(data, fail_at=3)), "train", 0, 10, 20, 0)  # type: ignore[arg-type]
    assert next(stream).shape == next(stream).shape == (20, 8, 8, 1)
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


def test_a_data_set_without_training_pictures_is_refused(data: Dataset, tmp_path: Path) -> None:
    nothing = dataclasses.replace(data, held_out=np.ones(len(data.images), bool))
    with pytest.raises(ValueError, match="has no training pictures; prepare it from more pictures"):
        run(small(), nothing, tmp_path / "run")


# --- real processes


def begin(data: Dataset, folder: Path) -> subprocess.Popen[str]:
    """``morphing-faces train`` that saves at every step, once its first checkpoint is there."""
    (folder / "small.toml").write_text(small(steps=1_000_000, checkpoint_minutes=0.0).to_toml(), encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "-m", "morphing_faces", "train", "--recipe", "small.toml", "--data", str(data.folder), "-o", "run",
         "--device", "cpu"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not checkpoint.has_one(folder / "run"):
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
    assert checkpoint.load(tmp_path / "run")[1]["step"] == log(tmp_path / "run")[-1]["step"]
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_killed_run_leaves_a_checkpoint_that_resumes(data: Dataset, tmp_path: Path) -> None:
    child = begin(data, tmp_path)
    child.kill()
    child.communicate(timeout=PATIENCE)
    assert child.returncode == -signal.SIGKILL
    groups, state = checkpoint.load(tmp_path / "run")
    assert state["step"] >= 1
    assert all(torch.isfinite(tensor).all() for tensor in groups["model"].values())


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun")
def test_two_processes_share_every_batch_and_finish(data: Dataset, tmp_path: Path) -> None:
    """``torchrun -m morphing_faces train``, with the pictures that each process sees written down."""
    (tmp_path / "small.toml").write_text(small(mirror=False, steps=3).to_toml(), encoding="utf-8")
    (tmp_path / "spy.py").write_text(
        textwrap.dedent("""
            import os, runpy
            import numpy as np
            from morphing_faces.train import loop

            def spied(*arguments, original=loop.batches):
                for step, images in enumerate(original(*arguments)):
                    np.save(f"seen-{os.environ['RANK']}-{step}.npy", images)
                    yield images

            loop.batches = spied
            runpy.run_module("morphing_faces", run_name="__main__", alter_sys=True)
        """),
        encoding="utf-8",
    )
    done = on_two_processes("spy.py", "small.toml", data, tmp_path)
    assert done.stdout.count("3 steps done") == 1, "only the first process reports"
    assert checkpoint.load(tmp_path / "run")[1]["step"] == 3
    assert [row["step"] for row in log(tmp_path / "run")] == [3]
    order = epoch_order(data.rows("train"), 0, 20, 0)
    for step in range(3):
        one, two = (rows_of(data, np.load(tmp_path / f"seen-{rank}-{step}.npy")) for rank in (0, 1))
        assert not set(one) & set(two)
        assert sorted(one + two) == sorted(order[20 * step : 20 * step + 20].tolist())


def test_a_batch_that_the_processes_cannot_share_is_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch = 20: must divide by the 3 processes"):
        loop._train(small(), data, tmp_path / "run", None, torch.device("cpu"), rank=0, world=3, progress=False)


def test_an_unknown_device_is_refused_with_those_there_are(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--device 'gpu9': must be auto, cpu, cuda") as caught:
        train(small(), data, tmp_path / "run", device="gpu9", progress=False)
    one_line(str(caught.value))

"""The command line: what it writes, and one line with a non-zero exit when something is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from morphing_faces.cli import main
from morphing_faces.render import to_uint8

Command = Callable[..., Any]


def refused(done: Any, *words: str) -> None:
    """It failed with one line that holds all the words."""
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("morphing-faces: ")
    for word in words:
        assert word in lines[0]


def test_sample_writes_the_faces_of_the_seed(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    done = command("sample", "-n", 6, "--seed", 4, "-b", tiny_bundle, "-o", "faces.png", "--columns", 3)
    assert done.returncode == 0, done.stderr
    sheet = np.asarray(Image.open(tmp_path / "faces.png"))
    assert sheet.shape == (2 * 18 + 2, 3 * 18 + 2)
    model = mf.load(tiny_bundle)
    expected = to_uint8(model.decode(model.sample(6, seed=4)))[4, :, :, 0]
    assert np.abs(sheet[20:36, 20:36].astype(int) - expected).max() <= 1


def test_sample_writes_a_folder(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    assert command("sample", "-n", 3, "--size", 64, "-b", tiny_bundle, "-o", "faces").returncode == 0
    names = sorted(path.name for path in (tmp_path / "faces").iterdir())
    assert names == ["00000.png", "00001.png", "00002.png"]
    assert Image.open(tmp_path / "faces" / names[0]).size == (64, 64)
    refused(command("sample", "-b", tiny_bundle, "-o", "faces"), "already exists")


def test_traverse_draws_a_row_a_dimension(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    done = command("traverse", "-d", "0-2,5", "--steps", 5, "-b", tiny_bundle, "-o", "t.png")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "t.png").size == (5 * 18 + 2, 4 * 18 + 2)
    refused(command("traverse", "-d", "29", "-b", tiny_bundle, "-o", "t.png"), "'29'", "0 to 28")
    refused(command("traverse", "-d", "a", "-b", tiny_bundle, "-o", "t.png"), "'a'", "0-9")


def test_walk_writes_films_that_move(command: Command, tmp_path: Path) -> None:
    for suffix, frames in (("gif", 12), ("webp", 3), ("png", 12)):  # encoders may merge frames that look alike
        done = command("walk", "--steps", 6, "--frames", 4, "--size", 32, "-o", f"w.{suffix}")
        assert done.returncode == 0, done.stderr
        film: Any = Image.open(tmp_path / f"w.{suffix}")
        assert film.n_frames >= frames
        assert film.size == (32, 32)
    refused(command("walk", "-o", "w.avi"), ".avi", ".gif")


def test_reconstruct_pairs_pictures_with_their_reconstructions(
    command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    model = mf.load(tiny_bundle)
    for row, picture in enumerate(to_uint8(model.decode(model.sample(2)))):
        Image.fromarray(picture[..., 0]).resize((40, 40)).convert("RGB").save(tmp_path / f"{row}.jpg")
    done = command("reconstruct", "0.jpg", "1.jpg", "-b", tiny_bundle, "-o", "pairs.png")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "pairs.png").size == (2 * 18 + 2, 2 * 18 + 2)
    assert min(map(float, re.findall(r"(\d+\.\d)", done.stdout))) > 15


def test_a_broken_picture_is_named(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"\xff\xd8 this is not a picture")
    refused(
        command("reconstruct", "no.jpg", "-b", tiny_bundle, "-o", "p.png"), "no.jpg", "not a picture that can be read"
    )
    refused(command("reconstruct", "gone.jpg", "-b", tiny_bundle, "-o", "p.png"), "gone.jpg", "No such file")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    refused(command("reconstruct", "cut.png", "-b", tiny_bundle, "-o", "p.png"), "cut.png")
    assert not (tmp_path / "p.png").exists()


def test_bundles_and_info(command: Command, tiny_bundle: Path) -> None:
    done = command("bundles")
    assert re.search(r"^color .* RGB, .*\(default\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^classic .* grey, [^(]*$", done.stdout, re.MULTILINE)
    done = command("info", tiny_bundle)
    assert done.returncode == 0, done.stderr
    assert "tiny: 16x16 grey, 32 latent dimensions" in done.stdout
    assert len(re.findall(r"%\s+-?\d+\.\d\d\s+(?:yes|no)\b.*\n", done.stdout)) == 29
    assert "decoder.onnx" in done.stdout
    assert "drawn faces" in done.stdout


def test_info_names_the_runs_before_and_the_knobs_in_lines_that_fit(command: Command) -> None:
    said = command("info", "color").stdout
    assert re.search(r"^  past +color, [\d,]+ steps; then color, [\d,]+ steps", said, re.MULTILINE)
    assert re.search(r"^smile +\d\.\d\d  serious - smiling$", said, re.MULTILINE)
    assert max(map(len, said.splitlines())) < 150


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "clasic"], ["'clasic'", "did you mean 'classic'"]),
        (["sample", "-b", "nowhere", "-o", "a.png"], ["'nowhere'", "classic"]),
        (["sample", "-o", "a.xyz"], [".xyz", ".png"]),
        (["sample", "--seed", "-3", "-o", "a.png"], ["seed -3", "0 to 4294967295"]),
        (["train", "--recipe", "clasic", "--data", ".", "-o", "run"], ["'clasic'", "classic"]),
        (["train", "--recipe", "classic", "--data", "gone", "-o", "run"], ["gone", "morphing-faces prepare"]),
        (["train", "--recipe", "classic", "--set", "btach=3", "--data", ".", "-o", "run"], ["btach", "'batch'"]),
        (
            ["train", "--recipe", "classic", "--set", "batch=0", "--data", ".", "-o", "run"],
            ["batch = 0", "from 1 to 65536"],
        ),
        (["prepare", "gone", "-o", "data"], ["'gone'", "does not exist"]),
        (["prepare", ".", "--size", "4", "-o", "data"], ["--size 4", "8 to 1024"]),
        (["prepare", ".", "-o", "data"], ["no readable picture"]),
        (["export", ".", "--data", "gone", "-o", "b"], ["gone"]),
    ],
)
def test_wrong_words_get_one_line(command: Command, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    refused(command(*arguments), *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "-o", ""], ["the path is empty"]),
        (["sample", "-n", "0", "-o", "a.png"], ["0", "1<=x<=100000", "sample --help"]),
        (["smaple"], ["smaple"]),
        (["sample", "-n", "100000", "-o", "a.png"], ["pixels, more than", "-o DIR"]),
        (["traverse", "-d", "0-9999999999", "-o", "t.png"], ["'0-9999999999'", "0 to 28"]),
        (["traverse", "-d", "3-1", "-o", "t.png"], ["'3-1'", "upwards"]),
        (["traverse", "-d", "1,1", "-o", "t.png"], ["'1,1'", "at most once"]),
        (["traverse", "--face", "gone.json", "-o", "t.png"], ["gone.json", "No such file"]),
        (["walk", "--rate", "60", "-o", "w.gif"], ["--rate 60", "at most 50"]),
        (["walk", "--steps", "10000", "--frames", "120", "-o", "w.webp"], ["1,200,000 frames"]),
        (["sample", "-o", "a\x1b[31m.png"], ["\\x1b"]),
        (["sample", "-o", "/proc"], ["mount point"]),
        (["window"], ["no display"]),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    command: Command, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    refused(command(*arguments), *words)
    assert not list(tmp_path.iterdir())


def test_a_photograph_is_never_replaced_by_what_is_made_of_it(
    command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "me.png")
    before = (tmp_path / "me.png").read_bytes()
    refused(command("reconstruct", "me.png", "-b", tiny_bundle, "-o", "me.png"), "one of the files that are read")
    assert (tmp_path / "me.png").read_bytes() == before


def test_a_fault_is_an_apology_and_its_traceback_comes_with_debug(
    command: Command, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(mf.Model, "sample", broken)
    monkeypatch.setattr("morphing_faces.render.normal", broken)
    arguments = ("sample", "-b", tiny_bundle, "-o", "a.png")
    done = command(*arguments)
    refused(done, "sorry, this is a fault of morphing-faces", "operands could not be broadcast", "--debug")
    assert done.returncode == 70
    for words in (("--debug", *arguments), (*arguments, "--debug")):
        assert "Traceback" in command(*words).stderr
    refused(command(*arguments), "sorry")  # not for ever


def test_damaged_bundles_get_one_line(command: Command, bundle_copy: Path) -> None:
    decoder = bundle_copy / "decoder.onnx"
    whole = decoder.read_bytes()
    decoder.write_bytes(whole[:1000])
    refused(command("sample", "-b", bundle_copy, "-o", "a.png"), "decoder.onnx has 1000 bytes", "copy or export")
    decoder.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(command("sample", "-b", bundle_copy, "-o", "a.png"), "decoder.onnx has SHA-256", "expected")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_nothing_half_written_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tmp_path: Path
) -> None:
    def full(_self: Any, _path: Any, **_options: Any) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SystemExit) as caught:
        main(["sample", "-b", str(tiny_bundle), "-o", str(tmp_path / "a.png")])
    assert caught.value.code == 1
    assert "No space left on device; free some space or write elsewhere" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_without_a_display_the_program_says_so_and_serves_the_page(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")}
    program = subprocess.Popen(
        [sys.executable, "-u", "-m", "morphing_faces"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    said = program.stdout.readline() + program.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/", said)
    assert address, said
    with urllib.request.urlopen(address[0], timeout=60) as answer:
        assert b"<html" in answer.read()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    assert program.returncode == 0
    assert errors.startswith("morphing-faces: no display")
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_leaves_early_is_no_error(tiny_bundle: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "morphing_faces", "info", str(tiny_bundle)]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert "Traceback" not in done.stderr


def test_every_option_is_in_the_readme() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert isinstance(main.commands, dict)
    for name, verb in main.commands.items():
        assert f"morphing-faces {name}" in readme, f"README.md lacks the command {name}"
        for parameter in verb.params:
            names = [option for option in (*parameter.opts, *parameter.secondary_opts) if option.startswith("--")]
            assert not names or any(option in readme for option in names), f"README.md lacks {name} {names}"

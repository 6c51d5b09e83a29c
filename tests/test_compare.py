"""Bundles side by side: one picture, one table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from conftest import Run, drawn_faces
from morphing_faces import compare
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.evaluate import Settings
from morphing_faces.prepare import prepare

QUICK = Settings(samples=8, pictures=2, k=1, faces=False, eigenfaces=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "faces.npz", images=drawn_faces(200, size=48))
    prepare([str(folder / "faces.npz")], folder / "prepared", size=48, progress=False)
    return folder / "prepared"


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    return open_dataset(data)


def test_every_model_gets_the_same_pictures_in_its_own_shape(dataset: Dataset) -> None:
    grey, large = compare.fitted(dataset, (48, 48, 1)), compare.fitted(dataset, (128, 128, 3))
    assert grey.images.shape[1:] == (48, 48, 1)
    assert large.images.shape[1:] == (128, 128, 3)
    assert np.array_equal(grey.held_out, large.held_out)
    assert grey.held_out.sum() == dataset.held_out.sum()
    expected = Image.fromarray(dataset.images[0]).convert("L")
    assert np.array_equal(grey.images[0, ..., 0], np.asarray(expected))


def test_the_picture_has_a_part_for_each_bundle(dataset: Dataset) -> None:
    classic = mf.load("classic")
    one = compare.picture([classic], dataset, columns=4, dimensions=2, size=32)
    two = compare.picture([classic, classic], dataset, columns=4, dimensions=2, size=32)
    assert two.height == one.height
    assert two.width == 2 * one.width - compare.MARGIN
    left, right = np.asarray(two)[40:, : one.width], np.asarray(two)[40:, one.width - compare.MARGIN :]
    assert np.array_equal(left, right)


def test_bundles_of_one_name_are_told_apart() -> None:
    classic = mf.load("classic")
    assert compare.names([classic, classic, classic]) == ["classic", "classic (2)", "classic (3)"]


def test_figures_come_with_their_errors(dataset: Dataset) -> None:
    classic = mf.load("classic")
    found = compare.figures([classic, classic], dataset, QUICK)
    text = compare.table(["a", "b"], found)
    row = next(line for line in text.splitlines() if line.startswith("reconstruction PSNR"))
    assert row.count("±") == 2
    assert f"{found[0]['psnr']:.2f} ± {found[0]['psnr_error']:.2f}" in row
    assert "-" in compare.table(["a", "b"], [found[0], {}])


def test_the_command_writes_both(command: Run, data: Path, tmp_path: Path) -> None:
    arguments = ("--data", data, "--no-faces", "--pictures", 2, "--k", 1, "-o", "side.png", "--json", "--size", 32)
    done = command("compare", "classic", "classic", *arguments)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"classic", "classic (2)"}
    assert Image.open(tmp_path / "side.png").width > 500
    done = command("compare", "classic", "-o", "one.png")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "two bundles or more" in done.stderr
    assert not (tmp_path / "one.png").exists()

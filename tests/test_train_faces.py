"""The finder of faces is trained, written and measured: on drawn faces, for a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import drawn_faces
from morphing_faces import evaluate_finder, faces
from morphing_faces.canvases import CANVAS, Canvases, scenes
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.prepare import prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("faces")
    np.savez(folder / "faces.npz", images=drawn_faces(200, 64))
    prepare([str(folder / "faces.npz")], folder / "data", size=64, progress=False)
    return open_dataset(folder / "data")


def test_canvases_know_where_the_eyes_are() -> None:
    face = np.zeros((128, 128, 3), np.uint8)
    face[36:45, 34:43] = face[36:45, 85:94] = 255  # two white squares where the frame has the eyes
    canvases = Canvases(face[None], [], 0, backgrounds=1)
    hits = []
    for _ in range(20):
        from PIL import Image

        canvas = Image.new("RGB", (CANVAS, CANVAS))
        eyes = canvases.paste(canvas, 64, 50, 40, 0.3, extended=False).reshape(2, 2)
        pixels = np.asarray(canvas.convert("L"), int)
        hits += [pixels[round(y - 0.5), round(x - 0.5)] > 0.7 * pixels.max() for x, y in eyes]
    assert np.mean(hits) > 0.9


def test_a_finder_is_trained_resumed_exported_and_measured(data: Dataset, tmp_path: Path) -> None:
    from morphing_faces.train import faces as train

    settings = train.Settings(steps=4, batch=2, backgrounds=4)
    train.train(settings, data, tmp_path / "run")
    again = train.train(settings, data, tmp_path / "run")  # finished: nothing is done anew
    described = train.export(tmp_path / "run", tmp_path / "finder", "for tests")
    assert described["training"]["steps"] == 4
    assert described["licence"] == "for tests"
    with pytest.raises(UserError, match="other settings"):
        train.train(train.Settings(steps=5, batch=2, backgrounds=4), data, tmp_path / "run")
    assert faces.find_faces(np.zeros((64, 64, 3), np.uint8), tmp_path / "finder") == []
    assert not again.training


def test_targets_mark_the_cells_of_a_face() -> None:
    from morphing_faces.train.faces import targets

    eyes = [np.array(rows, np.float32).reshape(-1, 4) for rows in ([[50, 60, 74, 60]], [[10, 10, 12, 10]], [])]
    wanted, offsets, apart = targets(eyes, 16)
    assert set(np.unique(wanted[0])) == {-1, 0, 1}
    row, column = np.argwhere(wanted[0] == 1)[0]
    x, y = (column + 0.5) * 8, (row + 0.5) * 8
    assert offsets[0, row, column] == pytest.approx([50 - x, 60 - y, 74 - x, 60 - y])
    assert apart[0, row, column] == 24
    assert not (wanted[1] == 1).any()  # too small for this level of the pyramid
    assert not wanted[2].any()


def test_the_shipped_finder_is_measured_on_scenes(data: Dataset) -> None:
    known = list(evaluate_finder.pasted(data, 3, seed=1))
    for picture, eyes in known:
        assert picture.dtype == np.uint8
        assert eyes.shape[1:] == (2, 2)
        assert (eyes[:, 0, 0] < eyes[:, 1, 0]).all()
    assert len(scenes()) > 10


def test_wrong_settings_are_refused() -> None:
    from morphing_faces.train.faces import Settings

    assert Settings.changed(["steps=7", "learning_rate=0.01"]) == Settings(steps=7, learning_rate=0.01)
    for change, words in (("stepz=1", "has steps"), ("steps=x", "must be a number"), ("steps=0", "1 or more")):
        with pytest.raises(UserError, match=words):
            Settings.changed([change])

"""Handles on the face in the real window, and the words of the prompt that pull and pin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import morphing_faces as mf
from morphing_faces import grab
from morphing_faces.cli import FIRST_SEED
from morphing_faces.window import Handles
from test_window import Desk, until

SIDE = 32


@pytest.fixture(scope="module")
def shaped(shaped_bundle: Path) -> mf.Model:
    return mf.load(shaped_bundle)


@pytest.fixture
def desk(display: str, shaped_bundle: Path, tmp_path: Path) -> Iterator[Desk]:
    running = Desk(display, shaped_bundle, tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def z_of(desk: Desk) -> np.ndarray:
    return np.array(desk.state()["z"], np.float32)


def move(desk: Desk, x: float, y: float) -> None:
    """Move the mouse to a place of the frame, in its pixels."""
    desk.hover(2 * (x + 0.5) / SIDE - 1, 1 - 2 * (y + 0.5) / SIDE)


def place(model: mf.Model, z: np.ndarray, name: str) -> tuple[float, float]:
    x, y = grab.places(model.fields(z), model.mean_landmarks, SIDE)[0][grab.NAMES.index(name)]
    return float(x), float(y)


def test_a_handle_is_dragged_with_the_mouse_pinned_by_a_click_and_undone(desk: Desk, shaped: mf.Model) -> None:
    z = z_of(desk)
    desk.key("g")
    x, y = place(shaped, z, "mouth-left")
    before = desk.colors()
    move(desk, x, y)
    assert np.array_equal(z_of(desk), z), "a hover moves nothing now"
    assert (desk.colors() != before).any(), "the nearest handle is lit"
    desk.xdotool("mousedown", "1")
    for part in (0.5, 1.0):
        move(desk, x + part * 1.2, y - part * 0.8)
    desk.xdotool("mouseup", "1")
    found = z_of(desk)
    session = mf.Session(shaped, FIRST_SEED)
    session.grab("mouth-left", (1.2, -0.8))
    assert np.abs(found - z).max() > 0.3
    assert np.abs(found - session.z).max() < 0.25, "to the pixels of the screen"
    desk.key("u")
    assert np.array_equal(z_of(desk), z)
    move(desk, *place(shaped, z, "nose"))
    desk.click()
    x, y = place(shaped, z, "mouth-left")
    move(desk, x, y)
    desk.xdotool("mousedown", "1")
    move(desk, x + 1.2, y - 0.8)
    desk.xdotool("mouseup", "1")
    pinned = z_of(desk)
    nose = [np.array(place(shaped, one, "nose")) for one in (z, found, pinned)]
    assert np.abs(nose[2] - nose[0]).max() < 0.3
    assert not np.array_equal(pinned, found)
    desk.key("Escape")
    desk.hover(0.4, -0.4)
    assert not np.array_equal(z_of(desk), pinned), "a hover moves the face again"


def test_the_mouse_leaves_the_window_in_a_drag_and_esc_takes_it_back(desk: Desk, shaped: mf.Model) -> None:
    z = z_of(desk)
    desk.key("g")
    x, y = place(shaped, z, "mouth-left")
    move(desk, x, y)
    desk.xdotool("mousedown", "1")
    move(desk, -2, y)
    assert not np.array_equal(z_of(desk), z)
    desk.key("Escape")
    desk.xdotool("mouseup", "1")
    assert np.array_equal(z_of(desk), z)


def test_tab_chooses_a_handle_and_arrows_move_it(desk: Desk, shaped: mf.Model) -> None:
    z = z_of(desk)
    desk.key("g")
    desk.key("Tab")
    desk.key("shift+Right", "shift+Right")
    found = z_of(desk)
    moved = np.subtract(place(shaped, found, "mouth-left"), place(shaped, z, "mouth-left"))
    assert 0.3 < moved[0] < 3
    desk.key("Return")
    desk.key("u", "u")
    assert np.array_equal(z_of(desk), z)


def test_the_prompt_pulls_and_pins(desk: Desk, shaped: mf.Model) -> None:
    session = mf.Session(shaped, FIRST_SEED)
    desk.say("pin nose")
    desk.say("grab mouth-left 1 -0.5")
    session.pin("nose")
    session.grab("mouth-left", (1, -0.5))
    assert np.abs(z_of(desk) - session.z).max() < 1e-3
    until(lambda: "nose is pinned" in desk.output.read_text(), "the pin is told")
    desk.say("grab mouthleft 1 1")
    until(lambda: "did you mean 'mouth-left'?" in desk.output.read_text(), "a wrong handle is told")
    desk.say("grab nose 1")
    until(
        lambda: "grab takes 3 arguments, got 2: grab HANDLE DX DY" in desk.output.read_text(),
        "a missing number is told",
    )


def test_handles_lie_on_the_shape_that_is_kept_still(shaped: mf.Model) -> None:
    session = mf.Session(shaped, FIRST_SEED)
    session.toggle_still("shape")
    kept = np.array(list(session.handles.values()))
    session.shuffle()
    window: Any = SimpleNamespace(session=session, model=shaped, ink="#ffffff")
    handles = Handles(window)
    handles.show(True)
    found = np.array([mark.at for mark in handles.marks(session.z)])
    np.testing.assert_allclose(found, np.clip((kept + 0.5) / SIDE, 0.01, 0.99), atol=1e-6)


def test_a_model_without_shape_says_so(display: str, tiny_bundle: Path, tmp_path: Path) -> None:
    desk = Desk(display, tiny_bundle, tmp_path)
    z = z_of(desk)
    for line in ("handles", "grab nose 1 1", "pin nose"):
        desk.say(line)
    until(lambda: desk.output.read_text().count("ERROR: the model 'tiny' has no shape") == 3, "it is told")
    desk.key("g")
    assert np.array_equal(z_of(desk), z)
    desk.hover(0.3, 0.3)
    assert not np.array_equal(z_of(desk), z), "everything else is there"
    desk.process.kill()
    desk.process.wait()

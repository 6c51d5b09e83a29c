"""Attributes as knobs: what moves, what stays, what is held."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hand import MOST_SHIFT, WATCH_SHIFT, Serve, Visit, open_page
from morphing_faces import Session
from morphing_faces.errors import UserError
from morphing_faces.model import Attribute
from test_access import MOST_STOPS, STOPS


@pytest.fixture
def session() -> Session:
    """A session of a model with two attributes that are not at right angles."""
    rng = np.random.default_rng(0)
    readings = rng.standard_normal((12, 2))
    readings[:, 1] += 0.7 * readings[:, 0]
    directions = readings @ np.linalg.inv(readings.T @ readings)
    attributes = {
        name: Attribute(directions[:, k], readings[:, k], "less", "more", 1.0)
        for k, name in enumerate(("smile", "age"))
    }
    model = SimpleNamespace(name="knobs", latent_size=12, dimensions=tuple(range(6)), attributes=attributes)
    return Session(model, seed=1)  # type: ignore[arg-type]


def test_a_knob_moves_its_own_attribute_and_no_other(session: Session) -> None:
    smile, age = session.read("smile"), session.read("age")
    session.knob("smile", 1.5)
    assert session.read("smile") == pytest.approx(smile + 1.5, abs=1e-4)
    assert session.read("age") == pytest.approx(age, abs=1e-4)
    assert session.undo()
    assert session.read("smile") == pytest.approx(smile)


def test_what_is_held_stays_whatever_else_moves(session: Session) -> None:
    session.toggle_hold("age")
    session.toggle_lock(2)
    age, locked = session.read("age"), session.get(2)
    session.move(0.9, -0.9)
    session.set(3, 2.0)
    session.knob("smile", -2)
    session.shuffle()
    assert session.read("age") == pytest.approx(age, abs=1e-4)
    assert session.get(2) == locked
    with pytest.raises(UserError, match="'age' is held"):
        session.knob("age", 1)
    session.toggle_hold("age")
    session.toggle_lock(2)  # a locked dimension would take its part of the knob's way
    session.knob("age", 1)
    assert session.read("age") == pytest.approx(age + 1, abs=1e-4)


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), 1e9])
def test_a_wrong_amount_or_name_is_refused_and_changes_nothing(session: Session, amount: float) -> None:
    before = session.z
    with pytest.raises(UserError, match="amount"):
        session.knob("smile", amount)
    with pytest.raises(UserError, match="'beard': must be one of smile,age"):
        session.knob("beard", 1)
    assert session.z is before


def test_all_knobs_are_one_stop_of_the_keyboard_and_their_locks_another(visit: Visit, serve: Serve) -> None:
    hand = open_page(visit, serve("color"), script=WATCH_SHIFT)
    assert hand.page.evaluate("shift") <= MOST_SHIFT, "knobs and parts come without moving what is seen"
    names = hand.page.evaluate("Object.keys(morphingFaces.session.attributes)")
    assert hand["#knobs .knob"].count() == len(names) > 2
    assert hand["#knobs"].evaluate("list => list.scrollHeight <= list.clientHeight"), "none is cut off"
    assert hand.page.evaluate(STOPS) <= MOST_STOPS
    slider = "document.activeElement.closest('.knob').querySelector('.knob-name').textContent.toLowerCase()"
    hand["#knobs .knob input"].first.focus()
    hand.press("ArrowDown")
    assert hand.page.evaluate(slider) == names[1]
    before = hand.page.evaluate("(name) => morphingFaces.session.read(name)", names[1])
    hand.press("ArrowRight")
    assert hand.page.evaluate("(name) => morphingFaces.session.read(name)", names[1]) > before
    hand.page.keyboard.press("Shift+Tab")
    hand.press("Enter")
    assert hand.page.evaluate("[...morphingFaces.session.held]") == [names[1]]
    hand.press("ArrowUp")
    assert hand.page.evaluate(slider) == names[0]
    assert hand.page.evaluate("document.activeElement.matches('.lock')")

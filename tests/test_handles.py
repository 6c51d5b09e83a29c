"""Handles on the face in a real browser: dragged, pinned, undone, by mouse, by touch and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import morphing_faces as mf
from conftest import drawn_face, tidy, visits
from hand import PHONE, Hand, Serve, Visit, centre, open_page, pick, picture_file, pixels, until
from morphing_faces import grab
from morphing_faces.cli import FIRST_SEED
from morphing_faces.rules import HANDLES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SIDE = 32  # of the model's pictures
RULES = Path(mf.__file__).parent / "web" / "rules.js"


@pytest.fixture(scope="module")
def shaped(shaped_bundle: Path) -> mf.Model:
    return mf.load(shaped_bundle)


@pytest.fixture(scope="module")
def shaped_address(serve: Serve, shaped_bundle: Path, tiny_bundle: Path) -> str:
    return serve(shaped_bundle, tiny_bundle)


@pytest.fixture(scope="module")
def opened(browser: Browser, shaped_address: str) -> Iterator[tuple[Hand, list[str]]]:
    """One page for all tests that need no other."""
    with visits(browser) as (go, errors):
        yield open_page(go, shaped_address), errors


@pytest.fixture
def hand(opened: tuple[Hand, list[str]]) -> Iterator[Hand]:
    hand, errors = opened
    hand.press("r")  # so that there is another face to go back to, which comes before what a test does
    tidy(hand, "shaped")
    yield hand
    assert not errors, "\n".join(errors)


def show(hand: Hand) -> None:
    hand.press("g")
    hand[".handles.ready"].wait_for()


def dot(name: str) -> str:
    return f'[data-handle="{name}"]'


def at(hand: Hand, name: str) -> tuple[float, float]:
    """Where a handle is on the screen."""
    return centre(hand[dot(name)])


def scale(hand: Hand) -> float:
    """CSS pixels in a pixel of the frame."""
    box = hand["#handles"].bounding_box()
    assert box
    return box["width"] / SIDE


def drag(hand: Hand, name: str, dx: float, dy: float, up: bool = True) -> None:
    """Drag a handle by pixels of the frame."""
    x, y = at(hand, name)
    wide = scale(hand)
    mouse = hand.page.mouse
    mouse.move(x, y)
    mouse.down()
    for part in (0.3, 0.7, 1):
        mouse.move(x + part * dx * wide, y + part * dy * wide)
    if up:
        mouse.up()


def changed(hand: Hand, z: np.ndarray) -> bool:
    return not np.array_equal(hand.z, z)


def nothing_left_to_undo(hand: Hand, z: np.ndarray) -> bool:
    """Whether what is undone next is the way to ``z``, the face that a test began with; it is done again."""
    hand.press("u")
    left = changed(hand, z)
    hand.press("y")
    return left and not changed(hand, z)


def settled(hand: Hand) -> np.ndarray:
    """The face when nothing moves any more."""
    last: list[np.ndarray] = []

    def same() -> bool:
        hand["#handles:not([aria-busy=true])"].wait_for(state="attached")
        hand.at_rest()
        last.append(hand.z)
        return len(last) > 3 and all(np.array_equal(last[-1], z) for z in last[-4:])

    until(same, "the face has settled")
    return last[-1]


def test_a_dragged_handle_comes_to_the_hand_as_in_python_and_is_undone_as_one(hand: Hand, shaped: mf.Model) -> None:
    z = hand.z
    show(hand)
    assert hand[".handle"].count() == len(HANDLES)
    drag(hand, "mouth-left", 0.8, -0.5)
    found = settled(hand)
    session = mf.Session(shaped, FIRST_SEED)
    assert np.abs(session.z - z).max() < 1e-5
    session.grab("mouth-left", (0.8, -0.5))
    assert np.abs(session.z - found).max() < 0.1
    assert np.abs(found - z).max() > 0.3
    hand.press("u")
    assert np.array_equal(hand.z, z)
    assert nothing_left_to_undo(hand, z)
    hand.press("y")
    assert np.array_equal(hand.z, found)


def test_the_handles_lie_on_the_face(hand: Hand, shaped: mf.Model) -> None:
    show(hand)
    box = hand["#handles"].bounding_box()
    assert box
    expected = grab.places(shaped.fields(hand.z), shaped.mean_landmarks, SIDE)[0]
    seen = np.array([at(hand, name) for name in HANDLES])
    places = (seen - (box["x"], box["y"])) / scale(hand) - 0.5
    assert np.abs(places - expected).max() < 0.15
    hand.press("r")
    hand.at_rest()
    expected = grab.places(shaped.fields(hand.z), shaped.mean_landmarks, SIDE)[0]

    def moved() -> bool:
        now = np.array([at(hand, name) for name in HANDLES])
        return bool(np.abs((now - (box["x"], box["y"])) / scale(hand) - 0.5 - expected).max() < 0.15)

    until(moved, "the handles are on the new face")


def test_while_handles_are_shown_a_hover_moves_nothing_and_lights_the_nearest(hand: Hand) -> None:
    z = hand.z
    show(hand)
    x, y = at(hand, "nose")
    hand.page.mouse.move(x + 4, y + 3)
    hand[f"{dot('nose')}.near"].wait_for()
    assert hand[".handle.near"].count() == 1
    assert np.array_equal(hand.z, z)
    hand.press("Escape")
    assert not hand["#handles"].is_visible()
    hand.hover(0.5, 0.5)
    assert changed(hand, z)


def test_a_click_pins_and_pinned_ones_stay(hand: Hand) -> None:
    show(hand)
    hand.page.mouse.click(*at(hand, "nose"))
    hand[f"{dot('nose')}[aria-pressed=true]"].wait_for()
    hand.says("nose is pinned")
    z, nose = hand.z, at(hand, "nose")
    drag(hand, "mouth-left", 0.8, -0.5)
    until(lambda: changed(hand, z), "the face moves")
    settled(hand)
    assert np.abs(np.subtract(at(hand, "nose"), nose)).max() < 0.3 * scale(hand)
    hand.page.mouse.click(*at(hand, "nose"))
    hand[f"{dot('nose')}[aria-pressed=false]"].wait_for()


def test_a_hand_beyond_the_edge_leaves_the_handle_behind_and_esc_takes_the_drag_back(hand: Hand) -> None:
    z = hand.z
    show(hand)
    drag(hand, "mouth-left", -40, 3, up=False)
    hand[f"{dot('mouth-left')}.behind"].wait_for()
    box = hand["#handles"].bounding_box()
    assert box
    assert box["x"] < at(hand, "mouth-left")[0] < box["x"] + box["width"]
    assert changed(hand, z)
    hand.press("Escape")
    until(lambda: np.array_equal(hand.z, z), "the drag is taken back")
    hand.page.mouse.up()
    assert hand["#handles"].is_visible()
    assert np.array_equal(settled(hand), z)
    assert nothing_left_to_undo(hand, z)


@pytest.mark.parametrize("moved", [False, True])
def test_a_drag_ends_where_the_hand_lets_go_even_at_once(hand: Hand, moved: bool) -> None:
    """The second begins before the first has settled, or even before it has moved the face."""
    z = hand.z
    show(hand)
    drag(hand, "mouth-left", 0.6, -0.4)
    if moved:
        until(lambda: changed(hand, z), "the face moves")
    drag(hand, "mouth-right", 0.6, -0.4)
    until(lambda: changed(hand, z), "the face moves")
    hand.carries("aria-busy", "false", "#handles")
    settled(hand)
    hand.press("u")
    assert changed(hand, z), "each is undone by itself"
    hand.press("u")
    assert np.array_equal(hand.z, z)
    assert nothing_left_to_undo(hand, z)


def test_another_face_in_the_middle_of_a_drag_ends_it(hand: Hand) -> None:
    show(hand)
    before = hand.z
    drag(hand, "mouth-left", 0.8, -0.5, up=False)
    until(lambda: changed(hand, before), "the face moves")
    hand.press("r")
    z = settled(hand)
    hand.page.mouse.move(*at(hand, "chin"))
    hand.page.mouse.up()
    assert np.array_equal(settled(hand), z)


def test_the_model_changes_in_the_middle_of_a_drag(hand: Hand) -> None:
    show(hand)
    drag(hand, "mouth-left", 0.8, -0.5, up=False)
    hand["#bundle"].select_option("tiny")
    until(lambda: hand.page.evaluate("morphingFaces.model?.name") == "tiny", "the other model is there")
    hand.page.mouse.move(10, 10)
    hand.page.mouse.up()
    assert not hand["#handles"].is_visible()
    assert not hand["#grab"].is_visible()
    hand.press("g")
    hand.says("The model 'tiny' has no shape")
    assert not hand["#handles"].is_visible()
    hand["#bundle"].select_option("shaped")
    until(lambda: hand.page.evaluate("morphingFaces.model?.name") == "shaped", "the first model is there again")
    show(hand)


def test_arrows_move_the_handle_in_focus_and_enter_pins_it(hand: Hand) -> None:
    z = hand.z
    show(hand)
    hand["#face"].focus()
    hand.press("Tab")
    focused = hand.page.evaluate("document.activeElement.dataset.handle")
    assert focused == "mouth-left"
    before = at(hand, focused)
    for _ in range(3):
        hand.press("Shift+ArrowRight")
    until(lambda: changed(hand, z), "the face moves")
    settled(hand)
    moved = np.subtract(at(hand, focused), before) / scale(hand)
    assert moved[0] == pytest.approx(3 * 4 * SIDE / 128, abs=1.2)
    assert moved[0] > 0.5
    hand.press("Enter")
    hand[f"{dot(focused)}[aria-pressed=true]"].wait_for()
    hand.press("u")
    hand.press("u")
    assert np.array_equal(hand.z, z)
    hand.press("ArrowLeft")
    until(lambda: changed(hand, z), "the face moves again, from where it is")
    hand.press("Escape")
    assert hand.page.evaluate("document.activeElement.id") == "face"


def test_the_button_shows_and_hides_them_with_reduced_motion_too(hand: Hand) -> None:
    hand.page.emulate_media(reduced_motion="reduce")
    z = hand.z
    hand.click("#grab")
    hand[".handles.ready"].wait_for()
    hand.carries("aria-pressed", "true", "#grab")
    drag(hand, "lip-lower", 0, 0.8)
    until(lambda: changed(hand, z), "the face moves")
    settled(hand)
    hand.click("#grab")
    assert not hand["#handles"].is_visible()
    hand.page.emulate_media(reduced_motion="null")


def test_a_long_press_asks_for_the_handles_and_a_finger_drags_one(visit: Visit, shaped_address: str) -> None:
    hand = open_page(visit, shaped_address, **PHONE)
    z = hand.z
    touch = hand.page.context.new_cdp_session(hand.page)

    def finger(kind: str, *place: float) -> None:
        points = [{"x": place[0], "y": place[1]}] if place else []
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    x, y = centre(hand["#face"])
    finger("Start", x, y)
    hand[".handles.ready"].wait_for()
    finger("End")
    assert np.array_equal(hand.z, z)
    assert not hand.state("frozen")
    x, y = at(hand, "mouth-left")
    finger("Start", x, y)
    for part in (0.4, 0.8, 1):
        finger("Move", x + part * 0.8 * scale(hand) * 2, y - part * 0.5 * scale(hand) * 2)
    finger("End")
    until(lambda: changed(hand, z), "the face moves")
    found = settled(hand)
    finger("Start", *at(hand, "nose"))
    finger("End")
    hand[f"{dot('nose')}[aria-pressed=true]"].wait_for()
    assert np.array_equal(hand.z, found)


def test_a_link_and_the_python_session_keep_the_result(hand: Hand, visit: Visit, shaped_address: str) -> None:
    show(hand)
    z = hand.z
    drag(hand, "mouth-left", 0.8, -0.5)
    until(lambda: changed(hand, z), "the face moves")
    settled(hand)
    hand.press("Escape")
    address = hand.address()
    found = hand.z
    other = open_page(visit, address)
    assert np.array_equal(other.z, found)


# --- a photograph


def use_photograph(hand: Hand) -> None:
    hand.press("p")
    pick(hand, picture_file(drawn_face()))
    hand["#photo-use:not([disabled])"].wait_for()
    hand.click("#photo-use")
    hand["#photo-bar:not([hidden])"].wait_for()
    hand.at_rest()


def test_a_photograph_is_pulled_itself(hand: Hand) -> None:
    use_photograph(hand)
    z, before = hand.z, pixels(hand, "#photo-stage")
    show(hand)
    x, y = at(hand, "mouth-left")
    drag(hand, "mouth-left", 1.0, -0.6)
    until(lambda: changed(hand, z), "the face moves")
    settled(hand)
    until(lambda: np.abs(pixels(hand, "#photo-stage") - before).max() > 4, "the photograph moves")
    hand.press("u")
    until(lambda: np.array_equal(pixels(hand, "#photo-stage"), before), "the photograph is itself again")
    until(lambda: np.abs(np.subtract(at(hand, "mouth-left"), (x, y))).max() < 1, "the handle is where it was")


def answer(body: str, route: Any) -> None:
    route.fulfill(body=body, content_type="text/javascript")


def way(hand: Hand) -> float:
    """How far a handle of a photograph goes with the hand, in CSS pixels."""
    use_photograph(hand)
    show(hand)
    x, z = at(hand, "mouth-left")[0], hand.z
    drag(hand, "mouth-left", 1.2, 0)
    until(lambda: changed(hand, z), "the face moves")
    settled(hand)
    return at(hand, "mouth-left")[0] - x


def test_a_photograph_that_is_hard_gives_less_and_it_is_told(hand: Hand, visit: Visit, shaped_address: str) -> None:
    whole = way(hand)
    assert not re.search("Turned too far|A rough likeness", hand["#message"].inner_text())
    page = visit(f"{shaped_address}icon.svg", allow=("favicon.ico",))
    for turned, unlike, said in (("-1", "0", "Turned too far"), ("9", "99", "A rough likeness")):
        rules = re.sub(r"TURNED = [\d.]+", f"TURNED = {turned}", RULES.read_text())
        rules = re.sub(r"UNLIKE = [\d.]+", f"UNLIKE = {unlike}", rules)
        page.unroute_all()
        page.route("**/rules.js", partial(answer, rules))
        page.goto(shaped_address)
        other = Hand(page)
        other["body[data-state=ready]"].wait_for()
        part = way(other)
        other.says(said)
        assert part < 0.7 * whole

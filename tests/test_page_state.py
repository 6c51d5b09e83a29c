"""What a person has set: undo, locks, favourites in two tabs, the address; and the hand that must not ruin it."""

from __future__ import annotations

import base64
import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import morphing_faces as mf
from conftest import FIRST_SEED
from hand import PHONE, Hand, Serve, Visit, centre, follow, open_page, pick, picture_file, pixels, row, until
from morphing_faces.pictures import to_uint8


def test_undo_brings_back_seed_range_and_held_too(hand: Hand) -> None:
    first = hand.z
    hand["#seed"].fill("77")
    hand.press("Enter")
    hand.slide("#range", 2)
    hand.click("#freeze")
    assert [hand.state(key) for key in ("seed", "range", "frozen")] == [77, 2, True]
    for _ in range(3):
        hand.click("#undo")
    assert [hand.state(key) for key in ("seed", "range", "frozen")] == [FIRST_SEED, 1, False]
    assert np.array_equal(hand.z, first)
    hand.click("#random")
    hand.says("face 1", "#face-number")


def test_at_rest_the_address_is_a_short_link_and_reload_brings_the_face_back(hand: Hand) -> None:
    page = hand.page

    def address() -> str:
        return str(page.evaluate("location.hash"))

    hand.put(0.3, -0.4)
    hand.slide("#range", 1.5)
    assert "range=1.5" in hand.address()
    z = hand.z
    page.reload()
    hand["body[data-state=ready]"].wait_for()
    assert np.array_equal(hand.z, z)
    assert hand.state("range") == 1.5
    hand.click("#reset")
    until(lambda: "face=average" in address(), "so it does of the average face")
    assert len(address()) < 80
    page.reload()
    hand["body[data-state=ready]"].wait_for()
    assert not hand.z.any()
    hand.click("#random")
    hand.click("#undo")
    until(lambda: "face=average" in address(), "an undone step leaves a short link, too")
    hand.slide("#scale", 0.5)
    hand.click("#random")
    hand.slide("#scale", 0.5)
    until(lambda: "scale=0.5" in address() and len(address()) < 80, "ordinary faces have short links")


def test_models_keep_their_faces_while_the_page_lives(hand: Hand) -> None:
    hand.click("#random")
    z = hand.z
    hand["#bundle"].select_option("classic")
    until(lambda: hand.page.evaluate("morphingFaces.session.z.length") == 400, "the other model is there")
    hand["#bundle"].select_option("tiny")
    until(lambda: hand.page.evaluate("morphingFaces.session.z.length") == 32, "the first model is back")
    assert np.array_equal(hand.z, z)
    hand.click("#undo")
    assert not np.array_equal(hand.z, z)


def test_nothing_moves_a_locked_dimension(hand: Hand) -> None:
    hand.click("#favour")
    hand.click("#random")
    for dimension in (1, 0):
        hand.open_row(dimension)
        hand.click(f"{row(dimension)} .lock")
    locked = hand.z[:2]
    hand.hover(0.9, 0.9)
    hand.hover(-0.9, 0.2)
    hand.page.mouse.move(2, 2)
    hand.click(f"{row(0)} .strip button >> nth=4")
    hand.says("Dimension 0 is locked: unlock it first.")
    assert hand[f"{row(0)} > input"].is_disabled()
    for act in ("#reset", "#random", "#favourites .show"):
        hand.click(act)
        assert np.array_equal(hand.z[:2], locked), act
    assert hand.z[2:].any()
    pick(hand, picture_file(Image.new("RGB", (64, 64), (200, 150, 120))))
    hand["#photo-use:not([disabled])"].wait_for()
    hand.click("#photo-use")
    assert np.array_equal(hand.z[:2], locked)
    for _ in range(5):  # photograph, favourite, random, reset, lock: nothing that changed nothing is a step
        hand.click("#undo")
    assert hand.page.evaluate("[...morphingFaces.session.locked]") == [1]


def test_a_walk_while_held_says_what_a_click_does(hand: Hand) -> None:
    hand.click("#freeze")
    hand.reads("Held. Click to release.", "#held")
    hand.click("#walk")
    hand.says("Click to stop", "#held")
    hand.page.mouse.click(*centre(hand["#face"]))
    until(lambda: hand.page.evaluate("morphingFaces.moving") is None, "a click stops it")
    assert hand.state("frozen") is True
    hand.reads("Held. Click to release.", "#held")


def test_a_glide_goes_on_from_face_to_face_and_is_undone_as_one(hand: Hand) -> None:
    before = hand.z
    hand.press("m")
    hand.reads("Stop", "#glide")
    until(lambda: (np.abs(hand.z - before) > 0.2).sum() > 10, "all of the face moves")
    hand.press("m")
    stopped = hand.z
    hand.at_rest()
    assert np.array_equal(hand.z, stopped)
    hand.click("#undo")
    assert np.array_equal(hand.z, before)


def test_a_link_with_coordinates_beyond_all_faces_is_refused(hand: Hand) -> None:
    before = hand.z
    record = base64.urlsafe_b64encode(struct.pack("<Hf", 0, 1e30)).decode().rstrip("=")
    follow(hand, f"bundle=tiny&changed={record}")
    hand.says("beyond ±100")
    assert np.array_equal(hand.z, before)


def test_the_last_undo_keeps_the_focus(hand: Hand) -> None:
    hand.click("#random")
    hand["#undo"].focus()
    while hand["#undo"].get_attribute("aria-disabled") == "false":
        hand.press("Enter")
    assert hand["#undo"].evaluate("button => button === document.activeElement")
    hand.press("Enter")
    hand.says("Nothing to undo.")


def test_a_removed_favourite_can_be_brought_back(hand: Hand) -> None:
    for _ in range(2):
        hand.click("#favour")
        hand.click("#random")
    kept = hand.page.evaluate("localStorage['morphing-faces/favourites/tiny']")
    hand.click("#favourites li:nth-child(1) .remove")
    assert hand["#favourites li"].count() == 1
    hand.click("#message button")
    assert hand["#favourites li"].count() == 2
    assert hand.page.evaluate("localStorage['morphing-faces/favourites/tiny']") == kept


def test_two_tabs_share_favourites_and_names(visit: Visit, address: str) -> None:
    one = open_page(visit, address)
    other = Hand(one.page.context.new_page())
    other.page.goto(address)
    other["body[data-state=ready]"].wait_for()
    other.press("Shift")
    one.click("#favour")
    until(lambda: other["#favourites li"].count() == 1, "the other tab hears of it")
    other.click("#random")
    other.click("#favour")
    until(lambda: one["#favourites li"].count() == 2, "and keeps its own beside it")
    one.name_row(0, "Light")
    other.name_row(1, "Pose")
    for tab in (one, other):
        until(lambda tab=tab: "Light" in tab["#axis-x"].inner_text(), "both have the first name")  # type: ignore[misc]
        until(lambda tab=tab: "Pose" in tab["#axis-y"].inner_text(), "both have the second name")  # type: ignore[misc]


SCROLLED = """(async () => {
  for (let [last, same] = [-1, 0]; same < 15; same = scrollY === last ? same + 1 : 0, last = scrollY) {
    await new Promise(requestAnimationFrame);
  }
})()"""  # a page that was flung goes on for a while, and a finger that comes down meanwhile only stops it


def test_a_face_that_is_scrolled_under_a_resting_mouse_stays_until_the_mouse_moves(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, viewport={"width": 390, "height": 844})
    hand.page.mouse.move(20, 5)
    assert hand.page.evaluate("document.elementFromPoint(20, 5).id") != "face"
    before = hand.z
    hand.page.evaluate(
        "document.getElementById('face').addEventListener('pointerenter', () => (window.entered = true))"
    )
    hand.page.evaluate("scrollBy(0, 900)")
    until(lambda: hand.page.evaluate("window.entered"), "the browser tells that the face is under the mouse")
    hand.page.wait_for_timeout(600)  # longer than a mouse must stay for the face to follow
    assert not hand["body.following"].count()
    assert np.array_equal(hand.z, before)
    hand.page.mouse.move(22, 5)
    hand["body.following"].wait_for()
    until(lambda: not np.array_equal(hand.z, before), "the face follows the mouse")


def test_a_finger_that_scrolls_past_a_slider_leaves_it_alone(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, **PHONE)
    hand[f"{row(12)} > input"].scroll_into_view_if_needed()
    before = hand.z
    finger = hand.page.context.new_cdp_session(hand.page)
    x, y = centre(hand[f"{row(12)} > input"])

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": across, "y": down} for across, down in places]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    scrolled = hand.page.evaluate("scrollY")
    touch("Start", (x + 30, y))
    for step in range(1, 12):
        touch("Move", (x + 30, y - 8 * step))
    touch("End")
    until(lambda: abs(hand.page.evaluate("scrollY") - scrolled) > 20, "the page scrolls")
    hand.page.evaluate(SCROLLED)
    assert np.array_equal(hand.z, before)
    hand[f"{row(12)} > input"].evaluate("one => scrollBy(0, one.getBoundingClientRect().top - 650)")  # below the face
    hand.page.evaluate(SCROLLED)
    x, y = centre(hand[f"{row(12)} > input"])
    touch("Start", (x, y))
    for step in range(1, 6):
        touch("Move", (x + 6 * step, y))
    touch("End")
    until(lambda: hand.z[12] != before[12], "a finger that goes along it moves it")


def test_drawings_are_read_and_transparent_pictures_are_told(hand: Hand) -> None:
    hand.click("#open-photo")
    clear = io.BytesIO()
    Image.new("RGBA", (80, 80)).save(clear, "PNG")
    pick(hand, clear.getvalue(), "clear.png")
    hand.says("clear.png is empty, all of it is transparent", "#photo-message")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90" height="60" fill="red"/></svg>'
    )
    file: Any = {"name": "drawing.svg", "mimeType": "image/svg+xml", "buffer": svg.encode()}
    hand["#photo-file"].set_input_files(file)
    until(
        lambda: hand["#photo-canvas"].evaluate("c => [c.width, c.height]") == [90, 60], "the drawing is on the canvas"
    )


def test_a_row_shows_the_faces_of_this_face_and_no_other(hand: Hand) -> None:
    hand.open_row(4)
    strip = f"{row(4)} .strip"
    until(lambda: "stale" not in str(hand[strip].get_attribute("class")), "it is drawn")
    hand.click("#random")
    until(lambda: hand.page.evaluate("morphingFaces.moving") is None, "it is at rest")
    classes = hand.page.evaluate(
        """async (strip) => {
          document.getElementById('random').click();
          await new Promise(requestAnimationFrame);
          await new Promise(requestAnimationFrame);
          return document.querySelector(strip).className;
        }""",
        strip,
    )
    assert re.search("stale", classes), "the faces of the one before are faded at once"


# --- shape and appearance


def drawn(hand: Hand) -> np.ndarray:
    """The face on the screen as it was decoded, (height, width, 3)."""
    hand.at_rest()
    found = hand.page.evaluate(
        """async () => {
          const [z, shape] = morphingFaces.session.parts();
          return Array.from(await morphingFaces.model.decode(z, 1, shape));
        }"""
    )
    return np.array(found, float).reshape(*hand.page.evaluate("morphingFaces.model.imageShape.slice(0, 2)"), 4)[..., :3]


def test_two_locks_keep_the_shape_or_the_appearance(visit: Visit, serve: Serve, shaped_bundle: Path) -> None:
    model = mf.load(shaped_bundle)
    hand = open_page(visit, serve(shaped_bundle))
    first = hand.z
    hand.click("#lock-shape")
    hand.carries("aria-pressed", "true", "#lock-shape")
    before = hand.shown()
    hand.click("#random")
    second = hand.z
    assert not np.array_equal(first, second)
    assert hand.shown() != before
    assert np.abs(drawn(hand) - to_uint8(model.decode(second, shape=first))[0]).max() <= 2

    mixed = hand.shown()
    hand.click("#lock-appearance")  # the two change places: the face looks as before
    assert [hand[f"#lock-{part}"].get_attribute("aria-pressed") for part in ("shape", "appearance")] == [
        "false",
        "true",
    ]
    assert hand.shown() == mixed
    hand.click("#random")
    assert np.abs(drawn(hand) - to_uint8(model.decode(second, shape=hand.z))[0]).max() <= 2
    hand.click("#favour")
    hand["#favourites li"].wait_for()
    hand.at_rest()
    changed = pixels(hand, "#face")

    hand.click("#lock-appearance")
    assert np.abs(drawn(hand) - to_uint8(model.decode(hand.z))[0]).max() <= 2
    hand.click("#favourites .show")
    until(lambda: np.abs(pixels(hand, "#face") - changed).max() <= 1, "the favourite has both of its parts")
    hand.click("#undo")
    hand.click("#undo")
    until(lambda: np.abs(pixels(hand, "#face") - changed).max() <= 1, "the step before was letting go")
    address = hand.address()
    assert "&appearance=" in address
    points = "morphingFaces.session.parts().map((point) => Array.from(point))"
    expected = hand.page.evaluate(points)
    hand.page.close()
    other = open_page(visit, address)
    assert other.page.evaluate(points) == expected
    other.carries("aria-pressed", "true", "#lock-appearance")


def test_a_model_without_shape_has_no_locks(hand: Hand) -> None:
    assert hand["#parts"].is_hidden()

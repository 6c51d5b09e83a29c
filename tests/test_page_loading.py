"""The first seconds, and what goes wrong in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conftest import FIRST_SEED
from hand import MOST_SHIFT, PHONE, WATCH_SHIFT, Hand, Visit, open_page, until
from morphing_faces import noise


def test_the_face_follows_the_hand_before_the_model_is_there(visit: Visit, address: str) -> None:
    held: list[Any] = []
    page = visit(address + "how-it-works.html")
    page.route("**/decoder.onnx*", lambda route: held.append(route))  # noqa: PLW0108 (a built-in cannot be marked)
    page.goto(address)
    hand = Hand(page)
    hand["body.inviting"].wait_for()
    until(lambda: page.evaluate("morphingFaces.stats.frames") > 5, "an untouched page moves by itself")
    assert np.array_equal(hand.z, noise.normal(FIRST_SEED, 0, 1, 32)[0]), "which changes nothing"
    assert hand["#random"].is_disabled()
    until(lambda: re.search(r"of \d+\.\d MB", hand["#loading-text"].inner_text()), "the way to go is told")
    pictures = set()
    for x, y in ((-0.8, -0.8), (0.8, 0.8), (0.1, 0.2)):
        hand.hover(x, y)
        pictures.add(page.evaluate("document.getElementById('face').toDataURL()"))
    assert len(pictures) == 3
    assert page.evaluate("document.body.dataset.state") == "loading"
    seen = np.array(
        page.evaluate("Array.from(document.getElementById('face').getContext('2d').getImageData(0, 0, 128, 128).data)")
    )
    held[0].continue_()
    hand["body[data-state=ready]"].wait_for()
    until(lambda: page.evaluate("morphingFaces.stats.decodes") > 0, "the model draws")
    hand.at_rest()
    after = np.array(
        page.evaluate("Array.from(document.getElementById('face').getContext('2d').getImageData(0, 0, 128, 128).data)")
    )
    assert np.abs(seen - after).mean() < 12, "the model takes over without a jump"
    assert not hand["#loading"].is_visible()


def test_a_visitor_who_wants_no_motion_gets_none(visit: Visit, address: str) -> None:
    hand = Hand(visit(address, reduced_motion="reduce"))
    hand["body[data-state=ready]"].wait_for()
    hand.at_rest()
    assert hand.page.evaluate("morphingFaces.moving") is None


@pytest.fixture
def resized(hand: Hand) -> Iterator[Hand]:
    """The page in a window that a test may resize."""
    before = hand.page.viewport_size
    yield hand
    assert before
    hand.page.set_viewport_size(before)


def test_the_face_has_its_share_of_every_window(resized: Hand) -> None:
    hand = resized
    for width, height, share in (
        (1366, 768, 0.35),
        (390, 844, 0.4),
        (844, 390, 0.35),
        (1920, 1080, 0.35),
        (320, 568, 0.3),
    ):
        hand.page.set_viewport_size({"width": width, "height": height})
        side = hand.page.evaluate("document.getElementById('face').getBoundingClientRect().width")
        assert side**2 / (width * height) >= share, (width, height, side)
        box = hand["#face"].bounding_box()
        assert box
        assert box["y"] + box["height"] <= height, (width, height)
        assert hand.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, height)
        # At the very end of the page the footer pushes it up.
        hand.page.evaluate("scrollTo(0, Math.min(400, (document.documentElement.scrollHeight - innerHeight) / 2))")
        box = hand["#face"].bounding_box()
        assert box
        assert box["y"] >= -0.1 * height, ("it stays in view", width, height)
        hand.page.evaluate("scrollTo(0, 0)")


def test_nothing_shifts_while_the_page_loads(visit: Visit, address: str) -> None:
    for options in ({}, PHONE):
        hand = open_page(visit, address, script=WATCH_SHIFT, **options)
        assert hand.page.evaluate("shift") <= MOST_SHIFT


def test_a_model_that_cannot_be_loaded_leaves_the_one_that_works(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, allow=("404",))
    hand.page.route("**/classic/decoder.onnx*", lambda route: route.fulfill(status=404, body="gone"))
    hand["#bundle"].select_option("classic")
    hand.says("classic could not be loaded, so tiny stays.")
    hand.says("404")
    assert hand["#bundle"].input_value() == "tiny"
    before = hand.z
    hand.click("#random")
    assert not np.array_equal(hand.z, before)
    hand.at_rest()


def test_a_part_of_the_page_that_does_not_come_is_told_and_can_be_tried_again(visit: Visit, address: str) -> None:
    page = visit(address + "how-it-works.html", allow=("ERR_FAILED",))
    page.route("**/tools.js", lambda route: route.abort())
    page.goto(address)
    hand = Hand(page)
    hand["body[data-state=failed]"].wait_for()
    hand.says("A part of the page did not come", "#failure")
    page.unroute("**/tools.js")
    page.click("#retry")
    hand["body[data-state=ready]"].wait_for()


def test_a_download_that_stops_coming_is_told(visit: Visit, address: str) -> None:
    page = visit(address + "how-it-works.html", allow=("ERR",))
    held: list[Any] = []
    page.route("**/decoder.onnx*", lambda route: held.append(route))  # noqa: PLW0108 (a built-in cannot be marked)
    page.clock.install()
    page.goto(address)
    hand = Hand(page)
    until(lambda: page.evaluate("1") and held, "the decoder is asked for")
    hand.says("of", "#loading-text")
    page.clock.fast_forward(31_000)
    hand["body[data-state=failed]"].wait_for()
    hand.says("Nothing has come for 30 seconds", "#failure")
    page.unroute("**/decoder.onnx*")
    page.click("#retry")
    hand["body[data-state=ready]"].wait_for()


def test_a_polite_page_instead_of_the_list_of_models_is_told(visit: Visit, address: str) -> None:
    page = visit(address + "how-it-works.html")
    page.route("**/index.json", lambda route: route.fulfill(body="<h1>Welcome</h1>", content_type="text/html"))
    page.goto(address)
    hand = Hand(page)
    hand["body[data-state=failed]"].wait_for()
    assert (
        hand["#failure"].inner_text()
        == "The list of models is not what it should be. Check the connection and try again."
    )


def test_changing_models_while_a_film_is_recorded_saves_the_film(hand: Hand) -> None:
    hand["#film-format"].select_option("gif")
    hand.click("#record")
    name, content = hand.download(lambda: hand["#bundle"].select_option("classic"))
    assert name == "film-tiny.gif"
    assert content.startswith(b"GIF89a")

"""The page in a real browser, as a visitor uses it. Nothing waits for a time, only for what is to be seen."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from conftest import drawn_face, plain_site
from hand import (
    PHONE,
    Hand,
    Serve,
    Visit,
    centre,
    crop,
    follow,
    open_page,
    pick,
    picture_file,
    pixels,
    row,
    slerp,
    until,
)
from morphing_faces import morph, noise
from morphing_faces.cli import FIRST_SEED
from morphing_faces.photo import likeness
from morphing_faces.pictures import to_uint8
from scene import background, paste

# --- the first seconds


def test_it_opens_on_the_first_face_of_the_seed_as_python_does(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    np.testing.assert_allclose(hand.z, model.sample(1, FIRST_SEED)[0], atol=1e-6)
    assert hand["#seed"].input_value() == str(FIRST_SEED)
    hand.says("WebAssembly", "#engine")


def test_a_missing_model_is_told_with_the_remedy(visit: Visit, address: str) -> None:
    page = visit(address + "how-it-works.html", allow=("404",))
    page.route("**/decoder.onnx*", lambda route: route.fulfill(status=404, body="gone"))
    page.goto(address)
    hand = Hand(page)
    hand["body[data-state=failed]"].wait_for()
    hand.says("decoder.onnx", "#failure")
    assert hand["#retry"].is_visible()
    page.unroute("**/decoder.onnx*")
    page.click("#retry")
    hand["body[data-state=ready]"].wait_for()


def test_no_list_of_models_is_told(visit: Visit, address: str) -> None:
    page = visit(address + "how-it-works.html", allow=("ERR_FAILED",))
    page.route("**/index.json", lambda route: route.abort())
    page.goto(address)
    Hand(page)["body[data-state=failed]"].wait_for()
    assert "Check the connection" in Hand(page)["#failure"].inner_text()


def test_an_old_browser_is_told(visit: Visit, address: str) -> None:
    page = visit(address, script="delete window.WebAssembly", allow=("WebAssembly",))
    hand = Hand(page)
    hand["body[data-state=failed]"].wait_for()
    hand.says("current Chrome, Edge, Firefox or Safari", "#failure")


def test_without_javascript_it_says_what_is_needed(visit: Visit, address: str) -> None:
    page = visit(address, java_script_enabled=False)
    assert "JavaScript" in page.locator("noscript").inner_text()


def test_it_runs_on_one_thread_from_a_plain_file_server(visit: Visit, tiny_bundle: Path, tmp_path: Path) -> None:
    plain_site(tmp_path / "site", tiny_bundle)
    program = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tmp_path / "site"),
    ]
    server = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port
        hand = open_page(visit, f"http://127.0.0.1:{port[1]}/")
        assert hand.page.evaluate("crossOriginIsolated") is False
        hand.says("1 thread.", "#engine")
    finally:
        server.kill()
        server.wait()


# --- the face


def test_hovering_sets_two_coordinates_from_corner_to_corner_and_changes_the_picture(hand: Hand) -> None:
    before, picture = hand.z, hand.shown()
    for x, y in ((-0.95, -0.95), (0.95, 0.95), (0.0, 0.5)):
        hand.hover(x, y)
        assert hand.z[:2] == pytest.approx([x, y], abs=0.01)
        assert np.array_equal(hand.z[2:], before[2:])
    assert hand.shown() != picture
    assert hand["#axis-x"].inner_text().split() == ["Dimension", "0", "+0.00"]
    assert hand["#axis-y"].inner_text().split() == ["Dimension", "1", "+0.50"]
    hand.page.mouse.move(2, 2)
    hand.at_rest()
    assert np.array_equal(hand.z, before), "who leaves without a click leaves the face as it was"


def test_a_click_holds_the_face_and_another_releases_it(hand: Hand) -> None:
    hand.hover(0.4, -0.6)
    hand.page.mouse.click(*centre(hand["#face"]))  # moves there first: the face is held where it is clicked
    until(lambda: hand.state("frozen"), "held")
    kept = hand.z
    assert kept[:2] == pytest.approx([0, 0], abs=0.01)
    hand.hover(-0.8, 0.8)
    assert np.array_equal(hand.z, kept)
    assert hand["#held"].is_visible()
    hand.page.mouse.click(*centre(hand["#face"]))
    until(lambda: not hand.state("frozen"), "released")
    hand.hover(0.3, 0.1)
    assert hand.z[:2] == pytest.approx([0.3, 0.1], abs=0.01)


def test_the_wheel_scrolls_and_the_slider_sets_the_range(hand: Hand) -> None:
    hand.page.set_viewport_size({"width": 1280, "height": 560})
    hand.hover(0.5, 0.5)
    hand.page.mouse.wheel(0, 200)
    until(lambda: hand.page.evaluate("scrollY") > 50, "the page scrolls")
    assert hand.state("range") == 1
    hand.page.set_viewport_size({"width": 1280, "height": 720})
    hand.slide("#range", 2)
    assert hand.state("range") == 2
    hand.reads("±2.00", "#range-value")
    hand.hover(0.5, -0.5)
    assert hand.z[:2] == pytest.approx([1, -1], abs=0.02)


def test_on_a_phone_dragging_moves_a_tap_holds_and_the_face_stays_in_view(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, **PHONE)
    hand.says("Drag over it", ".what")
    x, y = centre(hand["#face"])
    finger = hand.page.context.new_cdp_session(hand.page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": across, "y": down} for across, down in places]
        finger.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})

    touch("Start", (x, y))
    for step in range(1, 9):
        touch("Move", (x + 10 * step, y - 5 * step))
    touch("End")
    hand.page.evaluate("new Promise(requestAnimationFrame)")
    side = hand.page.evaluate("document.getElementById('face').clientWidth")
    assert hand.z[:2] == pytest.approx([160 / side, 80 / side], abs=0.02)
    assert hand.page.evaluate("scrollY") == 0
    assert hand.state("frozen") is False
    hand.page.touchscreen.tap(x, y)
    until(lambda: hand.state("frozen"), "a tap holds")

    assert hand.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
    hand["#dimensions li >> nth=20"].scroll_into_view_if_needed()
    box = hand["#face"].bounding_box()
    assert box
    assert box["y"] >= 0
    assert box["y"] + box["height"] < 500
    bar = hand["#random"].bounding_box()
    assert bar
    assert bar["y"] + bar["height"] <= 844
    assert bar["height"] >= 44


# --- the dimensions


def test_every_dimension_has_a_slider_its_share_and_its_faces(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    assert hand["#dimensions li"].count() == len(model.dimensions)
    share = model.bundle.manifest["dimensions"][0]["share"]
    hand.open_row(0)
    hand.reads(f"{share:.1%}", f"{row(0)} .share")
    z = hand.z
    z[0] = 2
    expected = Image.fromarray(to_uint8(model.decode(z))[0, :, :, 0]).resize((56, 56), Image.Resampling.BICUBIC)

    def error() -> float:
        strip = pixels(hand, f"{row(0)} canvas")[..., 0].reshape(56, 5, 62)
        return float(np.abs(strip[:, 4, 3:59] - np.asarray(expected, float)).mean())

    until(lambda: error() < 4, "the last small face is this face at +2")


def test_sliders_and_small_faces_set_a_coordinate_and_a_drag_is_undone_as_one(hand: Hand) -> None:
    before = hand.z
    slider = hand[f"{row(2)} > input"]
    slider.evaluate("""slider => {
      for (const value of [0.5, 1, 1.5]) {
        slider.value = value;
        slider.dispatchEvent(new Event('input', { bubbles: true }));
      }
      slider.dispatchEvent(new Event('change', { bubbles: true }));
    }""")
    assert hand.z[2] == pytest.approx(1.5)
    hand.says("+1.50", f"{row(2)} output")
    hand.open_row(3)
    hand.click(f"{row(3)} .strip button >> nth=0")
    assert hand.z[3] == pytest.approx(-2)
    hand.click("#undo")
    hand.click("#undo")
    assert np.array_equal(hand.z, before)


def test_two_dimensions_are_put_on_the_axes_and_what_was_set_stays(hand: Hand) -> None:
    hand.put(0.4, -0.6)
    kept = hand.z[:2]
    hand.open_row(3)
    hand.click(f"{row(3)} .pick-x")
    hand.open_row(5)
    hand.click(f"{row(5)} .pick-y")
    assert hand.state("axes") == [3, 5]
    hand.put(0.3, 0.1)
    assert np.array_equal(hand.z[:2], kept)
    assert [hand.z[3], hand.z[5]] == pytest.approx([0.3, 0.1], abs=0.01)
    hand.click(f"{row(5)} .pick-x")
    assert hand.state("axes") == [5, 3], "a dimension on the other axis changes places"
    hand.carries("aria-pressed", "true", f"{row(5)} .pick-x")


def test_a_locked_dimension_is_left_alone(hand: Hand) -> None:
    hand.put(0.4, -0.6)
    hand.open_row(0)
    hand.click(f"{row(0)} .lock")
    locked = hand.z[0]
    hand.put(-0.5, 0.5)
    assert hand.z[0] == locked
    assert hand.z[1] == pytest.approx(0.5, abs=0.01)
    before = hand.z
    hand.click("#random")
    assert hand.z[0] == locked
    assert (hand.z[1:] != before[1:]).all()
    hand.page.evaluate("for (let k = 0; k < 100; k++) morphingFaces.session.walk()")
    assert hand.z[0] == locked
    hand.click("#reset")
    assert hand.z[0] == locked
    assert not hand.z[1:].any()
    hand.click(f"{row(0)} .zero")
    hand.says("Dimension 0 is locked: unlock it first.")
    assert hand.z[0] == locked
    hand.click(f"{row(0)} .lock")
    hand.click(f"{row(0)} .zero")
    assert hand.z[0] == 0


def test_a_name_shows_on_the_axis_and_stays(hand: Hand) -> None:
    hand.name_row(0, "Light")
    hand.says("Light", "#axis-x")
    hand.page.reload()
    hand["body[data-state=ready]"].wait_for()
    hand.reads("Light", f"{row(0)} .words")
    hand.reads("Dimension 1", f"{row(1)} .words")


# --- the tools


def test_random_faces_undo_redo_and_reset(hand: Hand, tiny_bundle: Path) -> None:
    faces = mf.load(tiny_bundle).sample(3, FIRST_SEED)
    hand.click("#random")
    hand.click("#random")
    np.testing.assert_allclose(hand.z, faces[2], atol=1e-6)
    hand.reads("face 2", "#face-number")
    hand.click("#undo")
    np.testing.assert_allclose(hand.z, faces[1], atol=1e-6)
    hand.says("face 1", "#face-number")
    hand.click("#redo")
    np.testing.assert_allclose(hand.z, faces[2], atol=1e-6)
    hand.carries("aria-disabled", "true", "#redo")
    hand.put(0.5, 0.5)
    hand.says("face 2, 2 moved", "#face-number")
    hand.click("#reset")
    assert not hand.z.any()
    hand.says("the average face", "#face-number")


def test_another_seed_shows_its_first_face_and_a_wrong_one_is_told(hand: Hand, tiny_bundle: Path) -> None:
    hand["#seed"].fill("123")
    hand.press("Enter")
    first = mf.load(tiny_bundle).sample(1, 123)[0]
    np.testing.assert_allclose(hand.z, first, atol=1e-6)
    hand.click("#random")
    hand["#seed"].focus()
    hand.press("Enter")
    np.testing.assert_allclose(hand.z, first, atol=1e-6)
    for wrong in ("4294967296", "-1", "dog"):
        hand["#seed"].fill(wrong)
        hand.press("Enter")
        hand.says(f"{wrong}")
        hand.says("must be a whole number from 0 to 4294967295")
        assert hand.state("seed") == 123


def test_a_walk_moves_until_it_is_stopped_and_is_undone_as_one(hand: Hand) -> None:
    before = hand.z
    hand.click("#walk")
    until(lambda: hand.page.evaluate("morphingFaces.stats.frames") > 5, "the face walks")
    hand.reads("Stop", "#walk")
    hand.click("#walk")
    stopped = hand.z
    assert (stopped != before).any()
    hand.at_rest()
    hand.click("#undo")
    assert np.array_equal(hand.z, before)


def test_keys_do_what_the_buttons_do(hand: Hand, tiny_bundle: Path) -> None:
    first = hand.z
    hand.press("r")
    second = hand.z
    assert (second != first).all()
    hand.press("Control+z")
    assert np.array_equal(hand.z, first)
    hand.press("Control+y")
    assert np.array_equal(hand.z, second)
    hand.press("0")  # inside the hover square, whatever the face was
    hand["#face"].focus()
    hand.press("ArrowRight")
    hand.press("ArrowUp")
    assert hand.z[:2] == pytest.approx(0.05, abs=1e-6)
    hand.press("u")
    assert not hand.z.any(), "a run of steps is undone as one"
    hand.press("u")
    assert np.array_equal(hand.z, second)
    hand.press("f")
    assert hand.state("frozen") is True
    hand.press("Space")
    assert hand.state("frozen") is False
    hand.press("]")
    assert hand.state("range") == pytest.approx(1.1)
    hand.press("[")
    assert hand.state("range") == 1
    hand.press("w")
    hand.carries("aria-pressed", "true", "#walk")
    hand.press("Escape")
    hand.carries("aria-pressed", "false", "#walk")
    hand.press("0")
    assert not hand.z.any()
    hand.press("b")
    assert hand["#favourites li"].count() == 1
    hand.press("d")
    assert hand[f"{row(0)} > .name"].evaluate("name => name === document.activeElement")
    hand.press("ArrowDown")
    assert hand[f"{row(1)} > .name"].evaluate("name => name === document.activeElement")
    hand.press("ArrowUp")
    hand.press("Tab")
    assert hand[f"{row(0)} > input"].evaluate("slider => slider === document.activeElement")
    hand.press("ArrowRight")
    assert hand.z[0] == pytest.approx(0.01)
    hand.open_row(0)
    hand[f"{row(0)} .own"].focus()
    hand.page.keyboard.type("rusty")
    assert hand.z[0] == pytest.approx(0.01), "typing a name presses no keys"
    hand.press("Enter")
    hand.press("?")
    assert hand["#help"].is_visible()
    assert hand["#keys tr"].count() > 12
    hand.press("r")
    assert hand.z[0] == pytest.approx(0.01), "an open dialog takes the keys"
    hand.press("Escape")
    assert not hand["#help"].is_visible()
    hand.press("p")
    assert hand["#photo"].is_visible()
    hand.press("Escape")
    hand.press("e")
    assert hand["#inside"].is_visible()


def test_a_picture_is_saved_at_each_size(hand: Hand, tiny_bundle: Path) -> None:
    sizes = [int(text.split()[0]) for text in hand["#save-size option"].all_inner_texts()]
    assert sizes == [16, 512, 1024]
    model = mf.load(tiny_bundle)
    for size in sizes:
        hand["#save-size"].select_option(str(size))
        name, content = hand.download(lambda: hand.page.click("#save"))
        assert name == f"face-tiny-{FIRST_SEED}-0-{size}.png"
        picture = Image.open(io.BytesIO(content)).convert("L")
        assert picture.size == (size, size)
        small = np.asarray(picture.resize((16, 16), Image.Resampling.BOX), float)
        drawn = Image.fromarray(to_uint8(model.decode(hand.z))[0, :, :, 0])
        enlarged = drawn.resize((size, size), Image.Resampling.BILINEAR)
        assert np.abs(small - np.asarray(enlarged.resize((16, 16), Image.Resampling.BOX), float)).max() < 6


# --- links


def test_a_link_brings_back_exactly_this_face(hand: Hand, visit: Visit) -> None:
    hand.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    hand.click("#random")
    hand.open_row(3)
    hand.click(f"{row(3)} .pick-x")
    hand.slide("#range", 1.5)
    hand.hover(0.31, -0.77)
    hand.page.mouse.click(*centre(hand["#face"]))
    hand.click("#copy-link")
    hand.says("copied")
    link = hand.page.evaluate("navigator.clipboard.readText()")
    hand.page.context.clear_permissions()
    assert len(link) < 160, "a face near its seed has a short link"
    z, picture = hand.z, hand.decoded()

    closed = "navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    other = open_page(visit, link, script=f"if (navigator.clipboard) {closed}")
    assert np.array_equal(other.z, z)
    assert other.decoded() == picture
    assert [other.state(key) for key in ("axes", "range", "frozen", "seed")] == [[3, 1], 1.5, True, FIRST_SEED]
    other.carries("aria-disabled", "true", "#undo")
    other.click("#random")
    other.reads("face 2", "#face-number")

    other.page.evaluate("history.replaceState(null, '', '#'); morphingFaces.session.set(Array(32).fill(0.123))")
    other.press("l")
    other.says("address bar")  # this visitor's clipboard is closed
    far = other.page.url
    assert "z=" in far
    hand.page.evaluate("link => { location.href = link }", far)
    until(lambda: np.array_equal(hand.z, np.full(32, 0.123, np.float32)), "a link opened in the same tab is shown")
    hand.click("#undo")
    assert np.array_equal(hand.z, z)


BROKEN = {
    "bundle=nobody": "nobody",
    "bundle=tiny&seed=-1": "seed=-1: must be whole, from 0 to 4294967295",
    "bundle=tiny&seed=99999999999": "seed=99999999999",
    "bundle=tiny&axes=3,3": "axes=3,3",
    "bundle=tiny&axes=0,99": "axes=99: must be whole, from 0 to 28",
    "bundle=tiny&range=1000": "range=1000: must be from 0.25 to 4",
    "bundle=tiny&changed=AAA": "changed=... is cut short",
    "bundle=tiny&changed=!!!": "changed=... is not base64",
    "bundle=tiny&changed=__8AAIA_": "coordinate 65535",
    "bundle=tiny&changed=AAAAAMB_": "not finite",
    "bundle=tiny&scale=3": "scale=3: must be from 0.1 to 2",
    "bundle=tiny&locked=0,77": "locked=77: must be whole, from 0 to 28",
    "bundle=tiny&z=AAAA": "z=... has 3 bytes, expected 128",
}


def test_a_broken_link_is_told_in_one_line_and_changes_nothing(hand: Hand) -> None:
    before = hand.z
    for fragment, words in BROKEN.items():
        follow(hand, fragment)
        hand.says(words)
        assert "\n" not in hand["#message"].inner_text()
        assert np.array_equal(hand.z, before)


def test_a_link_is_followed_although_the_address_is_written_meanwhile(hand: Hand) -> None:
    hand.page.evaluate("""() => {
      location.hash = "bundle=tiny&seed=-1";
      history.replaceState(null, "", "#bundle=tiny&seed=7");
    }""")
    hand.says("seed=-1: must be whole")


def test_a_page_opened_by_a_broken_link_shows_the_first_face(visit: Visit, address: str, tiny_bundle: Path) -> None:
    hand = open_page(visit, f"{address}#bundle=tiny&seed=-1")
    hand.says("seed=-1: must be whole")
    np.testing.assert_allclose(hand.z, mf.load(tiny_bundle).sample(1, FIRST_SEED)[0], atol=1e-6)


# --- favourites


def test_favourites_are_kept_shown_and_removed(hand: Hand) -> None:
    first = hand.z
    hand.click("#favour")
    hand.click("#favour")
    hand.says("already")
    hand.click("#random")
    hand.click("#favour")
    second = hand.z
    assert hand["#favourites li"].count() == 2
    hand.page.reload()
    hand["body[data-state=ready]"].wait_for()
    hand.click("#favourites li:nth-child(2) .show")
    assert np.array_equal(hand.z, second)
    hand.click("#favourites li:nth-child(1) .show")
    assert np.array_equal(hand.z, first)
    hand.click("#favourites li:nth-child(1) .remove")
    assert hand["#favourites li"].count() == 1
    assert not hand["#morph"].is_visible()
    hand.page.reload()
    hand["body[data-state=ready]"].wait_for()
    assert hand["#favourites li"].count() == 1


def test_two_favourites_morph_along_the_great_circle(hand: Hand) -> None:
    faces = []
    for _ in range(3):
        hand.click("#favour")
        faces.append(hand.z)
        hand.click("#random")
    hand.click("#favourites li:nth-child(3) .to")
    before = hand.z
    for t in (0.25, 0.5, 1):
        hand.slide("#morph-at", t)
        np.testing.assert_allclose(hand.z, slerp(faces[0], faces[2], t), atol=1e-5)
    for _ in range(3):
        hand.click("#undo")
    assert np.array_equal(hand.z, before)


def test_all_favourites_mix_by_their_weights_as_in_python(hand: Hand) -> None:
    assert not hand["#make-mix"].is_visible()
    faces = []
    for _ in range(3):
        hand.click("#favour")
        faces.append(hand.z)
        hand.click("#random")
    before = hand.z
    hand.click("#make-mix")
    np.testing.assert_allclose(hand.z, morph.mean(faces), atol=1e-5)
    equal = hand.z
    weight = "#favourites li:nth-child({}) .weight".format
    assert not hand["#morph-at"].is_visible()
    hand.slide(weight(2), 1)
    hand.slide(weight(3), 0.25)
    np.testing.assert_allclose(hand.z, morph.mean(faces, [0.5, 1, 0.25]), atol=1e-5)
    assert hand["#favourites .part"].all_inner_texts() == ["29%", "57%", "14%"]
    hand.carries("aria-valuetext", "1.00, 57% of the mix", weight(2))
    hand.click("#favour")  # the mix itself: it does not change what it is of
    assert hand["#favourites .part"].all_inner_texts() == ["29%", "57%", "14%", "0%"]
    for _ in range(2):
        hand.click("#undo")
    assert np.array_equal(hand.z, equal)
    hand.click("#undo")
    assert np.array_equal(hand.z, before)
    for number in (1, 2, 3):
        hand.slide(weight(number), 0)
    hand.says("All weights are 0")
    np.testing.assert_allclose(hand.z, faces[2], atol=1e-5)
    hand.click("#make-mix")
    assert hand["#favourites .part"].all_inner_texts() == ["25%"] * 4
    hand.click("#make-morph")
    assert hand["#morph-at"].is_visible()
    assert not hand[weight(1)].is_visible()


def test_a_drag_of_a_weight_is_undone_as_one_and_the_keyboard_reaches_all(hand: Hand) -> None:
    for _ in range(3):
        hand.click("#favour")
        hand.click("#random")
    hand.click("#make-mix")
    before = hand.z
    weights = hand["#favourites .weight"]
    x, y = centre(weights.first)
    hand.page.mouse.move(x, y)
    hand.page.mouse.down()
    for step in range(1, 5):
        hand.page.mouse.move(x + 4 * step, y)
    hand.page.mouse.up()
    assert not np.array_equal(hand.z, before)
    hand.click("#undo")
    assert np.array_equal(hand.z, before)
    hand["#favourites .show"].first.focus()
    hand.press("ArrowRight")
    hand.press("Tab")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Weight of favourite 2"
    hand.press("ArrowDown")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Weight of favourite 3"
    hand.press("ArrowRight")
    assert float(weights.nth(2).input_value()) == pytest.approx(0.51)
    hand.press("ArrowUp")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Weight of favourite 2"
    hand.press("Tab")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Remove favourite 2"
    hand.click("#make-morph")
    hand["#favourites .to"].nth(1).focus()
    hand.press("ArrowRight")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Remove favourite 2"
    hand.press("ArrowRight")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Morph from favourite 3"
    hand.press("Shift+Tab")
    assert hand.page.evaluate("document.activeElement.ariaLabel") == "Show favourite 3"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }", "is full"),
        (
            "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })",
            "does not let this page keep anything",
        ),
    ],
    ids=["full", "forbidden"],
)
def test_storage_that_is_full_or_forbidden_is_told_and_memory_serves(
    visit: Visit, address: str, script: str, words: str
) -> None:
    hand = open_page(visit, address, script=script)
    hand.click("#favour")
    hand.says(words)
    hand.says("until you close this page")
    assert hand["#favourites li"].count() == 1
    hand.name_row(0, "Light")
    hand.says("Names last until you close this page")
    hand.says("Light", "#axis-x")
    hand.click("#theme")


def test_rubbish_in_the_storage_does_no_harm(visit: Visit, address: str) -> None:
    rubbish = """if (location.protocol === 'http:') {
      localStorage['morphing-faces/favourites/tiny'] = '["bundle=tiny&z=AAAA", 7, {}, "seed=3"]';
      localStorage['morphing-faces/names/tiny'] = '{"0": 5, "999": "x", "1": "Pose"}';
      localStorage['morphing-faces/theme'] = 'dark';
    }"""
    hand = open_page(visit, address, script=rubbish)
    assert hand["#favourites li"].count() == 1
    hand.reads("Pose", f"{row(1)} .words")


# --- the photograph


@pytest.fixture(scope="module")
def color_faces() -> np.ndarray:
    """Eight faces of the default bundle, uint8 (8, 128, 128, 3)."""
    model = mf.load()
    return to_uint8(model.decode(0.8 * model.sample(8, seed=3)))


MIDDLE, APART = (0.5, 0.315), 0.385  # the frame, as the README has it


def put_eyes(hand: Hand, left: tuple[float, float], right: tuple[float, float], size: tuple[int, int]) -> None:
    """Drag the dots to places in a photograph of a size."""
    board = hand["#photo-canvas"].bounding_box()
    assert board
    for dot, (x, y) in (("#eye-left", left), ("#eye-right", right)):
        hand.page.mouse.move(*centre(hand[dot]))
        hand.page.mouse.down()
        hand.page.mouse.move(
            board["x"] + x * board["width"] / size[0], board["y"] + y * board["height"] / size[1], steps=3
        )
        hand.page.mouse.up()


def test_a_picture_in_the_frame_is_encoded_as_python_does(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    face = drawn_face().resize((16, 16), Image.Resampling.BOX)
    hand.click("#open-photo")
    hand.says("Nothing leaves your browser", "#photo")
    pick(hand, picture_file(face))
    hand["#photo-use:not([disabled])"].wait_for()
    hand.reads("", "#photo-message")  # it has come as near as it can
    before = hand.z
    hand.click("#photo-use")
    expected = likeness(model, np.asarray(face.convert("L"))[None, ..., None])[0]
    # The page's pictures have 8 bits, so its answer is a little different; the face is the same.
    np.testing.assert_allclose(model.decode(hand.z), model.decode(expected), atol=0.06)
    assert hand.state("frozen") is True, "the way back over the face does not change it"
    assert not hand["#photo"].is_visible()
    hand.click("#favour")
    hand.click("#undo")
    assert np.array_equal(hand.z, before)


def test_dragged_dots_set_the_frame_turned_and_scaled(hand: Hand) -> None:
    # A photograph that is a slope in x and another in y: what the crop shows tells where it was cut.
    width, height = 640, 480
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    slopes = np.stack([x * 255 / width, y * 255 / height, np.zeros_like(x)], axis=2)
    hand.click("#open-photo")
    pick(hand, picture_file(Image.fromarray(slopes.astype(np.uint8))))
    hand.says("No face was found", "#photo-message")
    assert hand["#photo-use"].is_disabled(), "what no person has placed is not offered"
    left, right = (250.0, 200.0), (330.0, 230.0)
    put_eyes(hand, left, right, (width, height))
    along = np.subtract(right, left)
    side = np.hypot(*along) / APART
    along = along / np.hypot(*along)
    middle = np.add(left, right) / 2
    down = np.array([-along[1], along[0]])

    def luma(across: float, below: float) -> float:
        place = middle + side * ((across - MIDDLE[0]) * along + (below - MIDDLE[1]) * down)
        red, green = np.clip(place, 0, (width, height)) / (width, height) * 255
        return float(0.299 * red + 0.587 * green)

    spots = ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9), (0.5, 0.315), (0.5, 0.5))

    def follows() -> bool:
        shown = crop(hand)
        return all(abs(shown[int(v * 192), int(u * 192), 0] - luma(u, v)) < 5 for u, v in spots)

    until(follows, "the crop follows the dots")


def test_the_dots_move_with_the_keys_too(hand: Hand) -> None:
    hand.click("#open-photo")
    pick(hand, picture_file(Image.linear_gradient("L").resize((400, 300))))
    hand.says("No face was found", "#photo-message")
    before = crop(hand)
    assert hand["#eye-left"].evaluate("dot => dot === document.activeElement")
    place = centre(hand["#eye-left"])
    for _ in range(5):
        hand.press("Shift+ArrowUp")
    assert centre(hand["#eye-left"])[1] < place[1] - 10
    until(lambda: np.abs(crop(hand) - before).max() > 10, "the frame follows")


def test_a_photograph_is_turned_upright_and_can_be_dropped_or_pasted(hand: Hand) -> None:
    lying = Image.new("RGB", (400, 200), "white")
    lying.paste((255, 0, 0), (0, 0, 200, 200))
    exif = Image.Exif()
    exif[0x112] = 6  # the camera was turned: left is the top
    content = picture_file(lying, "JPEG", exif=exif)
    for event in ("drop", "paste"):
        hand.page.evaluate(
            """([event, bytes]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], 'lying.jpg', { type: 'image/jpeg' }));
              const options = { bubbles: true, cancelable: true };
              document.dispatchEvent(event === 'drop'
                ? new DragEvent('drop', { ...options, dataTransfer: data })
                : new ClipboardEvent('paste', { ...options, clipboardData: data }));
            }""",
            [event, list(content)],
        )
        hand.says("No face was found", "#photo-message")
        size = hand["#photo-canvas"].evaluate("c => [c.width, c.height]")
        assert size == [200, 400]
        top, bottom = (
            hand["#photo-canvas"].evaluate(f"c => Array.from(c.getContext('2d').getImageData(100, {y}, 1, 1).data)")
            for y in (20, 380)
        )
        assert top[1] < 60
        assert bottom[1] > 200
        hand.press("Escape")


def test_a_photograph_ends_what_the_page_does_by_itself(visit: Visit, address: str) -> None:
    hand = Hand(visit(address))
    hand["body[data-state=ready]"].wait_for()
    assert hand.page.evaluate("morphingFaces.moving") == "invite", "it moves by itself"
    pick(hand, picture_file(drawn_face()))
    hand["#photo[open]"].wait_for()
    until(lambda: hand.page.evaluate("morphingFaces.moving") != "invite", "the networks have the photograph alone")


def test_damaged_photographs_are_told_in_one_line(hand: Hand) -> None:
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 255, (200, 200, 3), np.uint8))
    hand.click("#open-photo")
    jpeg, png = picture_file(noisy, "JPEG"), picture_file(noisy)
    for name, content in (
        ("text.jpg", b"this is no picture"),
        ("noise.jpg", b"\xff\xd8\xff" + bytes(rng.integers(0, 255, 4000, np.uint8))),
        ("cut.jpg", jpeg[: len(jpeg) // 2]),
        ("cut.png", png[: len(png) // 2]),
        ("empty.png", b""),
    ):
        pick(hand, content, name)
        hand.says(name, "#photo-message")
        said = hand["#photo-message"].inner_text()
        assert re.search("not a picture|is damaged", said)
        assert "\n" not in said
    pick(hand, png)
    hand["#photo-use:not([disabled])"].wait_for()
    hand.reads("", "#photo-message")


def test_what_a_photograph_needs_comes_while_the_person_looks_for_one(visit: Visit, address: str) -> None:
    hand = open_page(visit, address)
    asked: list[str] = []
    hand.page.on("request", lambda request: asked.extend(re.findall(r"(\w+\.onnx)", request.url)))
    hand.page.dispatch_event("body", "dragenter")
    assert not asked, "something else than a file is dragged over the page"
    hand.click("#open-photo")
    until(lambda: hand.page.evaluate("1") and len(asked) > 1, "the networks are asked for")
    hand.page.keyboard.press("Escape")
    hand.click("#open-photo")
    hand.page.evaluate("morphingFaces.model.expectPhotograph()")
    assert sorted(asked) == ["encoder.onnx", "finder.onnx"], "once is enough"


def test_the_eyes_are_found_and_other_faces_can_be_chosen(hand: Hand, color_faces: np.ndarray) -> None:
    scene = background(1200, 800)
    eyes = [paste(scene, color_faces[1], 350, 300, 150, 14), paste(scene, color_faces[4], 850, 330, 90, -6)]
    hand.click("#open-photo")
    pick(hand, picture_file(scene))
    hand["#photo-use:not([disabled])"].wait_for()
    board = hand["#photo-canvas"].bounding_box()
    assert board

    def off(face: np.ndarray) -> float:
        """How far the dots are from a face's eyes, in parts of their distance."""
        scale = 1200 / board["width"]
        places = [
            np.subtract(centre(hand[dot]), (board["x"], board["y"])) * scale for dot in ("#eye-left", "#eye-right")
        ]
        return float(np.abs(np.array(places) - face).max() / np.linalg.norm(face[1] - face[0]))

    assert off(eyes[0]) < 0.15
    assert hand["#photo-faces button"].count() == 2
    hand.click("#photo-faces button:nth-child(2)")
    until(lambda: off(eyes[1]) < 0.15, "the dots go to the other face")
    hand.carries("aria-pressed", "true", "#photo-faces button:nth-child(2)")


def test_a_photograph_of_12000_pixels_is_made_small(hand: Hand) -> None:
    large = Image.new("RGB", (12000, 9000), (90, 120, 60))
    hand.click("#open-photo")
    pick(hand, picture_file(large, "JPEG"), "large.jpg")
    hand.says("No face was found", "#photo-message")
    hand["#eye-left"].press("ArrowUp")
    hand["#photo-use:not([disabled])"].wait_for()
    assert hand["#photo-canvas"].evaluate("c => [c.width, c.height]") == [2048, 1536]
    assert crop(hand) == pytest.approx(np.full((192, 192, 3), 0.299 * 90 + 0.587 * 120 + 0.114 * 60), abs=2)


def test_grey_is_pillows_grey(hand: Hand) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (500, 1, 3), np.uint8)
    grey = hand.page.evaluate(
        "async (colours) => { const { luma } = await import('/picture.js'); return colours.map((c) => luma(...c)) }",
        colours[:, 0].tolist(),
    )
    assert grey == np.asarray(Image.fromarray(colours).convert("L"))[:, 0].tolist()


# --- colour


def test_a_model_in_colour_shows_films_and_encodes_colours(visit: Visit, serve: Serve, colour_bundle: Path) -> None:
    model = mf.load(colour_bundle)
    hand = open_page(visit, f"{serve(colour_bundle)}#seed=18")
    hand.slide("#range", 4)
    shown = np.array(hand.decoded(), float).reshape(16, 16, 4)[..., :3]
    assert np.abs(shown - to_uint8(model.decode(hand.z))[0]).max() <= 2
    assert np.ptp(shown, axis=2).max() > 5, "it has colours"

    hand["#film-format"].select_option("gif")
    hand.click("#record")
    hand.hover(0.9, 0.9)
    _, content = hand.download(lambda: hand.page.click("#record"))
    film = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)
    small = np.asarray(Image.fromarray(film.astype(np.uint8)).resize((16, 16), Image.Resampling.BOX), float)
    assert np.abs(small - shown).mean() < 6

    face = drawn_face().resize((16, 16), Image.Resampling.BOX)
    hand.click("#open-photo")
    pick(hand, picture_file(face))
    hand["#photo-use:not([disabled])"].wait_for()
    assert np.ptp(crop(hand), axis=2).max() > 20
    hand.reads("", "#photo-message")
    hand.click("#photo-use")
    expected = likeness(model, np.asarray(face)[None])[0]
    np.testing.assert_allclose(model.decode(hand.z), model.decode(expected), atol=0.06)


# --- the text


def test_how_it_works_is_the_same_text_and_the_link_leads_there(hand: Hand, visit: Visit, address: str) -> None:
    script = Path(__file__).parents[1] / "scripts" / "how_it_works.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hand.carries("href", "how-it-works.html", "#inside a")
    page = visit(address + "how-it-works.html")
    assert page.title().startswith("How it works")
    assert page.locator("math").count() > 50
    figures = page.locator("img")
    until(lambda: figures.evaluate_all("all => all.every((one) => one.complete)"), "the figures are loaded")
    assert figures.evaluate_all("all => all.length > 5 && all.every((one) => one.naturalWidth > 0)")


# --- models, colours, access


def test_another_model_keeps_the_page_and_has_its_own_names_and_favourites(hand: Hand, tiny_bundle: Path) -> None:
    hand.click("#favour")
    hand.name_row(0, "Light")
    assert hand["#bundle option"].all_inner_texts() == ["tiny", "classic"]
    hand["#bundle"].select_option("classic")
    hand["body[data-state=ready]"].wait_for()
    until(lambda: len(hand.z) == 400, "the other model is there")
    np.testing.assert_allclose(hand.z, noise.normal(FIRST_SEED, 0, 1, 400)[0], atol=1e-6)
    hand.at_rest()
    assert hand["#favourites li"].count() == 0
    assert hand[f"{row(0)} .words"].inner_text() != "Light"
    hand.says("of 400", "#dimensions-note")
    hand["#bundle"].select_option("tiny")
    until(lambda: hand.page.evaluate("morphingFaces.session?.z.length") == 32, "the first model is back")
    assert hand["#favourites li"].count() == 1
    hand.reads("Light", f"{row(0)} .words")


def test_dark_and_light_follow_the_system_or_the_button_and_can_be_read(hand: Hand) -> None:
    hand.page.emulate_media(color_scheme="dark")
    dark = contrasts(hand)
    hand.click("#theme")
    light = contrasts(hand)
    assert dark["paper"] != light["paper"]
    for theme in (dark, light):
        for pair in ("ink on paper", "faint on paper", "accent on paper", "wrong on paper", "on-accent on accent"):
            assert theme[pair] >= 4.5, pair
    hand.page.reload()
    assert contrasts(hand) == light, "the choice stays"
    hand["body[data-state=ready]"].wait_for()
    hand.page.emulate_media(color_scheme="null")
    hand.page.evaluate("delete document.documentElement.dataset.theme")


def contrasts(hand: Hand) -> dict[str, Any]:
    """The contrast of the colours that stand on each other, as WCAG defines it."""
    names = ("paper", "ink", "faint", "accent", "on-accent", "wrong")
    read = "name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
    colours = {name: hand.page.evaluate(read, name) for name in names}

    def light(name: str) -> float:
        text = colours[name].lstrip("#")
        text = "".join(2 * digit for digit in text) if len(text) == 3 else text
        parts = np.array([int(text[k : k + 2], 16) for k in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05

    pairs = [("ink", "paper"), ("faint", "paper"), ("accent", "paper"), ("wrong", "paper"), ("on-accent", "accent")]
    found = {f"{a} on {b}": max(light(a), light(b)) / min(light(a), light(b)) for a, b in pairs}
    return {**found, "paper": colours["paper"]}


def test_everything_that_can_be_used_has_a_name_and_is_reached_by_tab(hand: Hand) -> None:
    nameless = hand.page.evaluate("""() => [...document.querySelectorAll('button, input, select, canvas, a')]
      .filter((one) => one.checkVisibility() && !one.closest('.strip, .show'))
      .filter((one) => !(one.getAttribute('aria-label') || one.labels?.length || one.innerText?.trim()))
      .map((one) => one.outerHTML)""")
    assert nameless == []
    hand[".skip"].focus()
    reached = set()
    for _ in range(24):
        hand.press("Tab")
        reached.add(hand.page.evaluate("document.activeElement.id"))
    assert {"bundle", "open-photo", "open-explain", "theme", "open-help", "face", "random", "walk", "seed"} <= reached


def test_nothing_is_asked_of_another_host(visit: Visit, address: str) -> None:
    page = visit(address + "how-it-works.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    hand = Hand(page)
    hand["body[data-state=ready]"].wait_for()
    hand.click("#open-explain")
    hand.click("#tab-price")
    hand.says("through all 32", "#inside-kl-text")
    assert asked
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []

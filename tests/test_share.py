"""The face on its way out of the page and back in: links inside pictures, the system's sheet, files of the window."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import morphing_faces as mf
from conftest import drawn_face
from hand import Hand, follow, picture_file, until

SHEET = """() => {
  navigator.canShare = (data) => data.files.every((file) => file.type === 'image/png');
  navigator.share = async (data) => {
    window.shared = { title: data.title, url: data.url, files: data.files.map((file) => file.name),
      bytes: Array.from(new Uint8Array(await data.files[0].arrayBuffer())) };
  };
}"""


def drop(hand: Hand, content: bytes, name: str, kind: str) -> None:
    hand.page.evaluate(
        """([bytes, name, type]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name, { type }));
          document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }));
        }""",
        [list(content), name, kind],
    )


def test_a_saved_picture_carries_its_link_and_dropped_it_is_the_face_again(hand: Hand) -> None:
    hand.click("#random")
    hand.put(0.4, -0.3)
    z = hand.z
    _, content = hand.download(lambda: hand.page.click("#save"))
    picture = Image.open(io.BytesIO(content))
    picture.load()
    link = picture.info["Morphing Faces"]  # a chunk that other programs read, too
    assert link.startswith(hand.page.url.split("#")[0] + "#bundle=tiny&seed=")
    hand.click("#random")
    drop(hand, content, "face.png", "image/png")
    until(lambda: np.array_equal(hand.z, z), "the dropped picture's face is shown")
    hand.click("#undo")
    assert not np.array_equal(hand.z, z)
    hand["#open-face-file"].set_input_files({"name": "face.png", "mimeType": "image/png", "buffer": content})
    until(lambda: np.array_equal(hand.z, z), "the chosen picture's face is shown")


def test_a_picture_without_a_face_is_a_photograph(hand: Hand) -> None:
    before = hand.z
    lying = PngInfo()
    lying.add_text("Morphing Faces", "javascript:alert(1)")
    for content in (picture_file(drawn_face()), picture_file(drawn_face(), pnginfo=lying)):
        drop(hand, content, "photo.png", "image/png")
        hand["#photo-use:not([disabled])"].wait_for()
        assert np.array_equal(hand.z, before)
        hand.press("Escape")


def test_a_link_in_a_picture_cannot_lead_to_another_page(hand: Hand) -> None:
    foreign = PngInfo()
    foreign.add_text("Morphing Faces", "https://elsewhere.invalid/#bundle=tiny&seed=5")
    drop(hand, picture_file(drawn_face(), pnginfo=foreign), "face.png", "image/png")
    until(lambda: hand.state("seed") == 5, "its face is shown, here")
    assert "elsewhere" not in hand.page.url


def test_faces_of_the_window_open_here_and_the_other_way_round(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    session = mf.Session(model, seed=7)
    session.select(3, 5)
    session.move(0.25, -0.75)
    content = json.dumps(session.to_dict()).encode()
    drop(hand, content, "face.json", "application/json")
    until(lambda: np.array_equal(hand.z, session.z), "the window's face is shown")
    assert hand.state("axes") == [3, 5]
    hand.hover(0.5, 0.5)
    name, saved = hand.download(lambda: hand.page.click("#save-file"))
    assert name.endswith(".json")
    again = mf.Session(model)
    again.from_dict(json.loads(saved))
    assert np.array_equal(again.z, hand.z)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no face", "The file face.json holds no face"),
        (b'{"format": "else"}', "The file face.json is not a face saved by morphing-faces"),
        (b'{"format": "morphing-faces face", "version": 1, "bundle": "classic"}', "of the model classic. Choose that"),
    ],
)
def test_a_file_that_holds_no_face_is_told_and_changes_nothing(hand: Hand, content: bytes, words: str) -> None:
    before = hand.z
    drop(hand, content, "face.json", "application/json")
    hand.says(words)
    assert np.array_equal(hand.z, before)


@pytest.fixture
def sheet(hand: Hand) -> Iterator[Hand]:
    """The page in a browser whose system has a sheet for sharing, and lets the clipboard be read."""
    hand.page.evaluate(SHEET)
    hand.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield hand
    hand.page.context.clear_permissions()
    hand.page.evaluate("() => { delete navigator.share; delete navigator.canShare; delete window.shared }")


def test_share_opens_the_systems_sheet_with_picture_and_link(sheet: Hand) -> None:
    hand = sheet
    hand.click("#random")
    hand.click("#copy-link")
    until(lambda: hand.page.evaluate("window.shared"), "the sheet opens")
    shared = hand.page.evaluate("window.shared")
    assert shared["title"] == "Morphing Faces"
    picture = Image.open(io.BytesIO(bytes(shared["bytes"])))
    picture.load()
    assert picture.size == (512, 512)
    assert picture.info["Morphing Faces"] == shared["url"]
    z = hand.z
    hand.click("#random")
    follow(hand, shared["url"].split("#")[1])
    assert np.array_equal(hand.z, z)


def test_a_sheet_that_fails_copies_the_link_and_one_that_is_closed_says_nothing(sheet: Hand) -> None:
    hand = sheet
    hand.page.evaluate("() => { navigator.share = () => Promise.reject(new DOMException('no', window.refusal)) }")
    hand.page.evaluate("window.refusal = 'NotAllowedError'")
    hand.click("#copy-link")
    hand.says("The link is copied.")
    hand.page.evaluate("window.refusal = 'AbortError'; navigator.clipboard.writeText('untouched')")
    hand.click("#copy-link")
    assert hand.page.evaluate("navigator.clipboard.readText()") == "untouched"

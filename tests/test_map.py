"""The map in a real browser: faces in order, the own one among them; to move on the map is to move the face."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import morphing_faces as mf
from hand import Hand, pixels, until
from morphing_faces.render import to_uint8

CELLS = 16


def open_map(hand: Hand) -> None:
    hand.click("#open-explain")
    hand.click("#tab-map")
    until(lambda: hand["#map-note"].inner_text() != "", "the map is drawn")


def module(hand: Hand, script: str, argument: Any = None) -> Any:
    return hand.page.evaluate(
        f"async (argument) => {{ const layout = await import('/map-layout.js'); {script} }}", argument
    )


def test_places_are_parts_of_the_normal_distribution_and_back(hand: Hand) -> None:
    normal = NormalDist()
    values = np.linspace(-2.5, 2.5, 21).tolist()
    parts = module(hand, "return argument.map(layout.below)", values)
    assert parts == pytest.approx([normal.cdf(value) for value in values], abs=1e-6)
    assert module(hand, "return argument.map(layout.coordinateOf)", parts) == pytest.approx(values, abs=1e-4)


def test_faces_are_in_order_and_each_has_its_cell(hand: Hand) -> None:
    faces = np.random.default_rng(0).standard_normal((64, 5)).astype(np.float32)
    cells = np.array(
        module(
            hand,
            "const faces = argument.map((z) => Float32Array.from(z));"
            "return layout.arranged(faces, layout.planeOfAxes(5, [3, 1]), 8)",
            faces.tolist(),
        )
    ).reshape(8, 8)
    assert sorted(cells.ravel()) == list(range(64))
    across, up = faces[cells, 3], faces[cells, 1]
    assert (across[:, :-1].max(axis=0) <= across[:, 1:].min(axis=0)).all(), "to the right there is more of the first"
    assert (up[:-1] >= up[1:]).all(), "above there is more of the second"


def test_the_plane_of_looks_finds_what_the_pictures_differ_in(hand: Hand) -> None:
    rng = np.random.default_rng(1)
    faces = rng.standard_normal((256, 6)).astype(np.float32)
    looks = faces @ np.diag([0.1, 3, 0.1, 0.1, 2, 0.1]) @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    plane = np.array(
        module(
            hand,
            "const faces = argument[0].map((z) => Float32Array.from(z));"
            "const looks = argument[1].map((look) => Float64Array.from(look));"
            "return layout.planeOfLooks(faces, looks).map((direction) => [...direction])",
            [faces.tolist(), looks.tolist()],
        )
    )
    assert plane @ plane.T == pytest.approx(np.eye(2), abs=1e-9)
    assert abs(plane[0, 1]) > 0.95
    assert abs(plane[1, 4]) > 0.95


def test_moving_on_the_map_moves_the_two_coordinates_and_the_drag_is_undone_as_one(hand: Hand) -> None:
    open_map(hand)
    before = hand.z
    hand["#map"].evaluate("map => map.scrollIntoView({ block: 'nearest' })")
    box = hand["#map"].bounding_box()
    assert box
    places = [(0.3, 0.4), (0.5, 0.6), (0.75, 0.9)]
    for k, (x, y) in enumerate(places):
        hand.page.mouse.move(box["x"] + x * box["width"], box["y"] + (1 - y) * box["height"])
        if k == 0:
            hand.page.mouse.down()
    hand.page.mouse.up()
    there = [NormalDist().inv_cdf(0.75), NormalDist().inv_cdf(0.9)]
    until(lambda: hand.z[:2] == pytest.approx(there, abs=0.02), "the face is where the hand let go")
    assert hand.z[2:] == pytest.approx(before[2:], abs=1e-6)
    hand.says("+0.67", "#inside-readout")
    hand.click("#undo")
    assert np.array_equal(hand.z, before)
    hand["#map"].focus()
    hand.press("ArrowRight")
    assert hand.z[0] > before[0]
    hand.page.evaluate("morphingFaces.session.set(0, 4)")  # beyond the map's edge
    hand.press("Shift")
    far = hand.z
    hand.press("ArrowRight")
    assert np.array_equal(hand.z, far), "an arrow never leads the other way"
    hand.press("ArrowUp")
    assert hand.z[0] == far[0], "nor anywhere but along itself"
    assert hand.z[1] > far[1]
    hand.press("ArrowLeft")
    assert 1 < hand.z[0] < far[0]


def test_drawn_faces_are_the_models_and_their_looks_are_a_layout_too(hand: Hand, tiny_bundle: Path) -> None:
    open_map(hand)
    hand["#map-layout"].select_option("looks")
    hand.says("look alike lie together", "#map-note")
    moved = hand.z
    hand["#map"].evaluate("map => map.scrollIntoView({ block: 'nearest' })")
    box = hand["#map"].bounding_box()
    assert box
    hand.page.mouse.click(box["x"] + 0.99 * box["width"], box["y"] + 0.99 * box["height"])
    assert (np.abs(hand.z - moved) > 0.01).sum() > 5, "along directions of many coordinates"
    hand["#map-layout"].select_option("axes")
    model = mf.load(tiny_bundle)
    faces = model.sample(CELLS**2, 0)
    x, y = model.dimensions[:2]
    column = np.argsort(faces[:, x])[:CELLS]  # the leftmost
    top = column[np.argmax(faces[column, y])]
    expected = to_uint8(model.decode(faces[top]))[0, :, :, 0].astype(float)

    def error() -> float:
        cell = pixels(hand, "#map")[:48, :48, 0].reshape(16, 3, 16, 3).mean(axis=(1, 3))
        return float(np.abs(cell - expected).mean())

    until(lambda: error() < 5, "top left is the face with least of the first and most of the second")

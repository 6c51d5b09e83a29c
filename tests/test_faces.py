"""Faces are found in scenes that these tests paste together of faces that a shipped model draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

import morphing_faces as mf
from morphing_faces import faces
from morphing_faces.align import Frame, cut
from morphing_faces.errors import UserError
from morphing_faces.pictures import to_uint8
from morphing_faces.rules import EYES_APART, EYES_MIDDLE
from scene import background, paste


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Eight faces of the default bundle, uint8 (8, 128, 128, 3)."""
    model = mf.load()
    return to_uint8(model.decode(0.8 * model.sample(8, seed=3)))


def error(found: faces.Face, eyes: np.ndarray) -> float:
    """The mean distance of the eyes from where they are, in parts of their distance."""
    return float(np.linalg.norm(np.array(found.eyes) - eyes, axis=1).mean() / np.linalg.norm(eyes[1] - eyes[0]))


@pytest.mark.parametrize(
    ("size", "apart", "degrees"),
    [((90, 90), 22, 0), ((400, 300), 30, -28), ((640, 480), 150, 12), ((1500, 2000), 420, 25), ((2000, 900), 60, -8)],
)
def test_a_face_is_found_wherever_it_is(drawn: np.ndarray, size: tuple[int, int], apart: float, degrees: float) -> None:
    for k in range(0, len(drawn), 3):
        scene = background(*size, seed=k)
        eyes = paste(scene, drawn[k], 0.52 * size[0], 0.4 * size[1], apart, degrees)
        found = mf.find_faces(np.asarray(scene))
        assert found, f"face {k}"
        assert error(found[0], eyes) < 0.12
        assert found[0].eyes[0][0] < found[0].eyes[1][0]


def test_the_largest_of_several_comes_first(drawn: np.ndarray) -> None:
    scene = background(700, 300)
    eyes = [paste(scene, drawn[k], 110 + 220 * k, 140, 35 + 15 * k, 0) for k in range(3)]
    found = mf.find_faces(np.asarray(scene))
    assert len(found) == 3
    for face, expected in zip(found, reversed(eyes), strict=True):
        assert error(face, expected) < 0.12
        left, top, right, bottom = face.box
        assert left < expected[0][0] < right
        assert top < expected[0][1] < bottom


def test_a_dark_and_a_grey_face_are_found(drawn: np.ndarray) -> None:
    scene = background(300, 300)
    eyes = paste(scene, drawn[1], 150, 130, 60, 5)
    dark = (np.asarray(scene) * 0.25).astype(np.uint8)
    for picture in (dark, np.asarray(scene.convert("L")), np.asarray(scene.convert("L"))[..., None]):
        assert error(mf.find_faces(picture)[0], eyes) < 0.12


def test_where_there_is_no_face_none_is_found(drawn: np.ndarray) -> None:
    scene = background(400, 400)
    paste(scene, drawn[0], 200, 180, 70, 180)  # upside down
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    for picture in (np.asarray(scene), noise, np.full((200, 100, 3), 90, np.uint8), np.zeros((1, 1, 3), np.uint8)):
        assert mf.find_faces(picture) == []
        with pytest.raises(UserError, match=r"no face was found.*--eyes"):
            faces.largest(picture, "a.png")


def test_a_tiny_face_is_refused_with_the_remedy(drawn: np.ndarray) -> None:
    scene = background(200, 200)
    eyes = paste(scene, drawn[2], 100, 90, 14, 0)
    tiny = faces.Face(tuple(map(tuple, eyes)), (0, 0, 1, 1), 0.9)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"b\.png: the largest face is 36 pixels wide.*--eyes"):
        faces.largest(np.asarray(scene), "b.png", [tiny])


@pytest.mark.parametrize("picture", [np.zeros((8, 8)), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)])
def test_what_is_no_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        mf.find_faces(picture)


def test_the_network_is_small_and_described() -> None:
    manifest, content = faces.manifest(), (faces.FINDER / faces.NETWORK).read_bytes()
    assert len(content) <= 600_000
    assert manifest["files"][faces.NETWORK]["bytes"] == len(content)


# --- the frame


def test_the_frame_is_cut_where_the_eyes_say() -> None:
    face = np.zeros((128, 128, 3), np.uint8)
    places = [(128 * (EYES_MIDDLE[0] + side * EYES_APART / 2), 128 * EYES_MIDDLE[1]) for side in (-1, 1)]
    for x, y in places:
        face[round(y) - 3 : round(y) + 3, round(x) - 3 : round(x) + 3] = 255
    scene = background(500, 420).point([0] * 768)
    eyes = paste(scene, face, 260, 200, 110, 17)
    again = cut(np.asarray(scene), Frame.of(tuple(map(tuple, eyes))), 128)  # type: ignore[arg-type]
    assert again.shape == (128, 128, 3)
    assert np.abs(again.astype(int) - face).mean() < 3
    small = cut(np.asarray(scene), Frame.of(tuple(map(tuple, eyes))), 32, grey=True)  # type: ignore[arg-type]
    assert small.shape == (32, 32, 1)
    averaged = face.reshape(32, 4, 32, 4, 3).mean((1, 3, 4))
    assert np.abs(small[..., 0] - averaged).mean() < 3


def test_outside_of_the_picture_its_edge_goes_on() -> None:
    picture = np.full((50, 50, 3), 77, np.uint8)
    assert (cut(picture, Frame.of(((5, 5), (45, 5))), 64) == 77).all()


@pytest.mark.parametrize("eyes", [((3, 3), (3, 3)), ((0, 0), (math.nan, 1)), ((0, 0), (math.inf, 1))])
def test_eyes_at_one_place_are_refused(eyes: tuple[tuple[float, float], tuple[float, float]]) -> None:
    with pytest.raises(UserError, match="at least 1 pixel apart"):
        Frame.of(eyes)


def test_a_frame_beside_the_picture_is_refused() -> None:
    with pytest.raises(UserError, match="hardly touches"):
        cut(np.zeros((40, 40, 3), np.uint8), Frame.of(((500, 500), (520, 500))), 32)

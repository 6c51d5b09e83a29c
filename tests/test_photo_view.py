"""The page's photograph in a real browser: against Python, drawn in both ways, and in films."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from conftest import visits
from hand import Hand, Serve, open_page, pick, picture_file, pixels, row, until
from morphing_faces import follow, morph
from morphing_faces.align import Frame
from morphing_faces.pictures import to_uint8
from scene import background, paste

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EYES = ((122.3, 118.9), (187.6, 131.2))
HEIGHT, WIDTH = 261, 307  # of the photograph: no power of two, and odd
BAR = ("#photo-bar > span", "#photo-compare", "#photo-save", "#photo-leave")
CELLS, LOOK = 16, 128  # a side of a field, and of an appearance

# Brings arrays over, and lays out a photograph and a face's parts as the page has them.
PREPARE = """async ([height, width, photograph]) => {
  const { displacement, shading } = await import('/follow.js');
  const { PhotoView } = await import('/photo-view.js');
  const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const floats = (text) => new Float32Array(bytes(text).buffer);
  const plain = (values) => btoa(Array.from(new Uint8Array(values.buffer), (one) => String.fromCharCode(one)).join(''));
  const picture = Object.assign(document.createElement('canvas'), { height, width });
  picture.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(bytes(photograph)), width, height), 0, 0);
  const parts = ([appearance, field], channels, side, n) =>
    ({ appearance: floats(appearance), field: floats(field), n, height: side, width: side, channels });
  const drawn = (canvas) => {
    const copy = Object.assign(document.createElement('canvas'), { height: canvas.height, width: canvas.width });
    const pen = copy.getContext('2d');
    pen.drawImage(canvas, 0, 0);
    return plain(pen.getImageData(0, 0, copy.width, copy.height).data);
  };
  window.twin = { floats, plain, parts, drawn, picture, displacement, shading, PhotoView };
}"""
DRAW = """([eyes, own, moved, gl, sides, give]) => {
  const { PhotoView, parts, drawn, picture } = window.twin;
  const [at, there] = [own, moved].map((one) => parts(one, 3, 128, 16));
  const view = new PhotoView(picture, eyes.map(([x, y]) => ({ x, y })), at, { gl, give });
  const found = { gl: view.accelerated };
  const whole = () => drawn(view.draw(view.whole, picture.width, picture.height));
  found.first = whole();
  view.move(there);
  found.moved = whole();
  found.portraits = sides.map((side) => drawn(view.draw(view.portrait, side, side)));
  view.move(at);
  found.back = whole();
  view.close();
  return found;
}"""

Face = tuple[np.ndarray, np.ndarray]


def sent(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def received(text: str, kind: Any, *shape: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def face(rng: np.random.Generator, channels: int = 3, side: int = LOOK, cells: int = CELLS) -> Face:
    """The appearance and the field of a face that nobody has: both smooth, as a model's are."""
    across = np.linspace(0, np.pi, cells)
    bump = np.sin(across)[:, None] * np.sin(across)
    field = (bump[..., None] * rng.normal(0, 5 * side / 128, 2)).astype(np.float32)
    coarse = rng.uniform(0.1, 0.9, (8, 8, channels)).astype(np.float32)
    middles = (np.arange(side, dtype=np.float32) + 0.5) / side
    return follow.bilinear(coarse, np.stack(np.meshgrid(middles, middles), -1)).astype(np.float32), field


@pytest.fixture(scope="module")
def photograph(rng: np.random.Generator) -> np.ndarray:
    """Soft blots and fine grain, uint8 (height, width, 3)."""
    down, across = np.mgrid[:HEIGHT, :WIDTH]
    waves = [90 * np.sin(across / (9 + k)) * np.cos(down / (7 + k)) for k in range(3)]
    return np.rint(128 + np.stack(waves, -1) + rng.uniform(-20, 20, (HEIGHT, WIDTH, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def page(browser: Browser, address: str, photograph: np.ndarray) -> Iterator[Page]:
    """A document of the page's origin on which nothing runs by itself, with what the tests share."""
    with visits(browser) as (go, errors):
        page = go(f"{address}icon.svg", allow=("favicon.ico",))
        page.goto(f"{address}how-it-works.html")  # a document that has canvases
        opaque = np.dstack([photograph, np.full((HEIGHT, WIDTH), 255, np.uint8)])
        page.evaluate(PREPARE, [HEIGHT, WIDTH, sent(opaque)])
        yield page
        assert not errors, "\n".join(errors)


def test_the_mean_of_faces_is_pythons_with_and_without_a_part_kept(page: Page, rng: np.random.Generator) -> None:
    z = rng.standard_normal((4, 40)).astype(np.float32)
    weights = [0.5, 1, 0, 0.25]
    found = page.evaluate(
        """async ([z, weights]) => {
          const { mean, mixed } = await import('/morph.js');
          const points = z.map((one) => Float32Array.from(one));
          const faces = points.map((one) => ({ z: one, still: null }));
          const kept = [{ z: points[0], still: { part: 'appearance', z: points[3] } }, faces[1], faces[2]];
          const both = mixed(kept, [1, 2, 3]);
          const message = (odd) => { try { mean(points, odd); return null; } catch (error) { return error.message; } };
          return {
            equal: Array.from(mean(points)), weighted: Array.from(mean(points, weights)),
            none: mixed(faces, weights).still, opposite: Array.from(mean([points[0], points[0].map((v) => -v)])),
            z: Array.from(both.z), part: both.still.part, shape: Array.from(both.still.z),
            refused: [message([1, 1]), message([0, 0, 0, 0]), message([1, -1, 1, 1]), message([1, NaN, 1, 1])],
          };
        }""",
        [z.tolist(), weights],
    )
    assert found["equal"] == pytest.approx(morph.mean(list(z)), abs=1e-5)
    assert found["weighted"] == pytest.approx(morph.mean(list(z), weights), abs=1e-5)
    assert found["opposite"] == pytest.approx(morph.mean([z[0], -z[0]]), abs=1e-5)
    assert found["none"] is None
    assert found["z"] == pytest.approx(morph.mean([z[3], z[1], z[2]], [1, 2, 3]), abs=1e-5)
    assert found["part"] == "shape"
    assert found["shape"] == pytest.approx(morph.mean([z[0], z[1], z[2]], [1, 2, 3]), abs=1e-5)
    assert found["refused"][0] == "weights 1,1: must be 4 numbers of 0 or more, and one of them above 0"
    assert all(said.startswith("weights") for said in found["refused"])


@pytest.mark.parametrize(("channels", "side"), [(3, 128), (1, 128), (3, 32)])
def test_displacement_and_shading_are_pythons(page: Page, rng: np.random.Generator, channels: int, side: int) -> None:
    old, new = face(rng, channels, side), face(rng, channels, side)
    way, shade = page.evaluate(
        """([old, now, channels, side]) => {
          const { parts, plain, displacement, shading } = window.twin;
          const [a, b] = [old, now].map((one) => parts(one, channels, side, 16));
          return [plain(displacement(a, b)), plain(shading(a, b).values)];
        }""",
        [[sent(part) for part in old], [sent(part) for part in new], channels, side],
    )
    expected = follow.displacement(old[1], new[1], side)
    assert np.abs(expected).max() > 0.02, "nothing moves: this shows nothing"
    assert np.abs(received(way, np.float32, *expected.shape) - expected).max() < 1e-5
    expected = follow.shading(old[0], new[0], new[1])
    assert np.abs(expected).max() > 0.3
    assert np.abs(received(shade, np.float32, *expected.shape) - expected).max() < 1e-5


def draw(page: Page, own: Face, moved: Face, gl: bool, sides: tuple[int, ...] = (), give: float = 1) -> dict[str, Any]:
    """The photograph at its own size, RGB: as it is first, moved, and back; and portraits of a side, moved."""
    faces = [[sent(part) for part in one] for one in (own, moved)]
    found: dict[str, Any] = page.evaluate(DRAW, [EYES, *faces, gl, sides, give])
    for key in ("first", "moved", "back"):
        found[key] = received(found[key], np.uint8, HEIGHT, WIDTH, 4)[..., :3]
    portraits = zip(found["portraits"], sides, strict=True)
    found["portraits"] = [received(text, np.uint8, side, side, 4)[..., :3] for text, side in portraits]
    return found


def test_both_ways_of_drawing_are_one_and_pythons_and_leave_the_own_face_to_the_bit(
    page: Page, rng: np.random.Generator, photograph: np.ndarray
) -> None:
    own, moved = face(rng), face(rng)
    sides = (256, 128)  # larger than the photograph has it, and smaller
    shader, by_hand = (draw(page, own, moved, gl, sides) for gl in (True, False))
    assert not by_hand["gl"]
    assert shader["gl"], "this browser has no WebGL2: the shader was not tested"
    for found in (shader, by_hand):
        assert np.array_equal(found["first"], photograph)
        assert np.array_equal(found["back"], photograph)
    way = follow.displacement(own[1], moved[1], LOOK)
    expected = follow.apply(photograph, Frame.of(EYES), way, follow.shading(own[0], moved[0], moved[1])).astype(int)
    assert np.abs(expected - photograph).mean() > 5, "nothing moves: this shows nothing"
    for found, most in ((shader, 8), (by_hand, 1)):  # the shader's displacement and shading are halves
        off = np.abs(found["moved"] - expected)
        assert off.mean() < 0.1
        assert off.max() <= most
    half = draw(page, own, moved, gl=True, give=0.5)
    field, look = (follow.between(own[k], moved[k], 0.5) for k in (1, 0))
    way = follow.displacement(own[1], field, LOOK)
    expected = follow.apply(photograph, Frame.of(EYES), way, follow.shading(own[0], look, field)).astype(int)
    assert np.abs(half["moved"] - expected).mean() < 0.1, "a part of the way is the same in both"
    assert np.array_equal(half["back"], photograph)
    for one, other in zip(shader["portraits"], by_hand["portraits"], strict=True):
        assert np.abs(one.astype(int) - other).mean() < 5, "they scale by different filters, and no further apart"


# --- in the place of the face


@pytest.fixture(scope="module")
def followed(browser: Browser, serve: Serve) -> Iterator[Hand]:
    """A page on which a photograph follows, at its own face, which is held."""
    model = mf.load()
    scene = background(300, 260)
    paste(scene, to_uint8(model.decode(0.8 * model.sample(2, seed=3)))[1], 150, 100, 48, 9)
    with visits(browser) as (go, errors):
        hand = open_page(go, serve("color"))
        hand.press("p")
        pick(hand, picture_file(scene))
        hand["#photo-use:not([disabled])"].wait_for()
        hand.click("#photo-use")
        hand["#photo-bar:not([hidden])"].wait_for()
        hand.at_rest()
        yield hand
        assert not errors, "\n".join(errors)


# How far the pixels of a canvas are from what they were at first, at most.
FURTHEST = """() => {
  const read = (canvas) => {
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
    const pen = copy.getContext('2d', { willReadFrequently: true });
    pen.drawImage(canvas, 0, 0);
    return pen.getImageData(0, 0, copy.width, copy.height).data;
  };
  const first = read(document.getElementById('photo-stage'));
  window.furthest = (canvas) => read(canvas).reduce((most, value, k) => Math.max(most, Math.abs(value - first[k])), 0);
}"""


def stage(hand: Hand) -> np.ndarray:
    return pixels(hand, "#photo-stage")


def test_whatever_moves_the_face_moves_the_photograph_and_undo_brings_it_back(followed: Hand) -> None:
    hand, z = followed, followed.z
    hand.page.evaluate(FURTHEST)

    def moves(what: str) -> None:
        hand.watch("(canvas) => furthest(canvas) > 20", f"{what} moves the photograph", "#photo-stage")

    def is_itself() -> None:
        hand.watch("(canvas) => furthest(canvas) === 0", "the photograph is itself again", "#photo-stage")

    def comes_back() -> None:
        while not np.array_equal(hand.z, z) or not hand.state("frozen"):
            hand.click("#undo")
        is_itself()

    for what, act in (
        ("a dimension", lambda: hand.slide(f"{row(0)} input", 2.5)),
        ("a knob", lambda: hand.slide("#knobs li:nth-child(1) input", 3)),
        ("random", lambda: hand.click("#random")),
        ("the average face", lambda: hand.click("#reset")),
        ("how ordinary it is", lambda: hand.slide("#scale", 2)),
        ("a walk", lambda: hand.click("#walk")),
        ("a glide", lambda: hand.click("#glide")),
    ):
        act()
        moves(what)
        comes_back()
    hand.page.evaluate("scrollTo(0, 0)")
    hand.press("f")
    hand.hover(-0.9, 0.8)
    moves("the hand")
    hand.page.mouse.move(2, 2)  # gone without a click
    is_itself()
    hand.press("f")
    hand.slide("#knobs li:nth-child(1) input", 3)
    moves("a knob")
    hand.click("#photo-compare")
    assert hand["#photo-stage"].evaluate("(canvas) => furthest(canvas)") == 0
    hand.click("#photo-compare")
    comes_back()


@pytest.mark.parametrize("size", [(1366, 768), (768, 1024), (768, 600), (390, 844), (844, 390)])
def test_the_bar_of_the_photograph_is_beside_it_and_whole_in_every_window(
    followed: Hand, size: tuple[int, int]
) -> None:
    page = followed.page
    before = page.viewport_size
    assert before
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.evaluate("scrollTo(0, 0)")
    try:
        boxes = [followed[where].bounding_box() for where in (*BAR, "#random", "#photo-stage")]
        *bar, tools, picture = [(b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for b in boxes if b]
        for left, top, right, bottom in bar:
            assert left >= 8
            assert right <= size[0] - 8
            assert bottom <= size[1]
            for other in (tools, picture):
                assert right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3], "they overlap"
        assert max(top for _, top, _, _ in bar) < min(bottom for *_, bottom in bar), "they are one row"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_viewport_size(before)


def close_to(frame: Image.Image, wanted: np.ndarray) -> float:
    """How far a frame is from a picture, on average over its pixels, of 255."""
    there = Image.fromarray(wanted.astype(np.uint8)).resize(frame.size, Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(frame.convert("RGB"), float) - np.asarray(there)).mean())


def test_films_are_of_the_photograph_while_it_is_shown(followed: Hand) -> None:
    model, hand, itself = mf.load(), followed, stage(followed)
    hand["#film-format"].select_option(label="GIF")
    hand.click("#favour")
    hand.click("#record")
    hand.slide("#knobs li:nth-child(1) input", 3)
    hand.at_rest()
    until(lambda: np.abs(stage(hand) - itself).max() > 30, "the photograph follows")
    moved, face = stage(hand), to_uint8(model.decode(hand.z))[0]
    _, content = hand.download(lambda: hand.page.click("#record"))
    film: Any = Image.open(io.BytesIO(content))
    assert close_to(film, itself) < 6
    film.seek(film.n_frames - 1)
    assert close_to(film, moved) < 6
    assert close_to(film, face) > 20

    hand.click("#favour")
    hand.click("#random")  # what is shown meanwhile does not matter
    hand.page.evaluate("import('/film.js').then(({ FRAME }) => { FRAME.gif = 500; })")  # a tenth of the frames: quick
    _, content = hand.download(lambda: hand.page.click("#morph-film"))
    film = Image.open(io.BytesIO(content))
    assert film.n_frames == 10
    for number, wanted in ((0, itself), (5, moved)):
        film.seek(number)
        assert close_to(film, wanted) < 6

    hand.click("#record")
    hand.click("#photo-leave")  # the film goes on with the face, and what it has of the photograph is still drawn
    _, content = hand.download(lambda: hand.page.click("#record"))
    film = Image.open(io.BytesIO(content))
    film.seek(film.n_frames - 1)
    assert close_to(film, to_uint8(model.decode(hand.z))[0]) < 6
    film.seek(0)
    assert close_to(film, to_uint8(model.decode(hand.z))[0]) > 20

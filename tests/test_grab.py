"""Take hold of the face: the arithmetic, the session's verbs, and the twin in the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import morphing_faces as mf
from conftest import drawn_face
from hand import Serve, Visit
from morphing_faces import grab, warp
from morphing_faces.cli import main
from morphing_faces.errors import UserError
from morphing_faces.landmarks import MIRRORED
from morphing_faces.rules import HANDLES, PULL_LIMIT, PULL_SETTLED, PULL_STEPS
from morphing_faces.session import Session

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIDE, LATENTS = 128, 24
PULLS: list[tuple[str, tuple[float, float]]] = [
    ("mouth-left", (-1.2, -1.0)),
    ("lip-lower", (0.0, 1.5)),
    ("brow-right", (0.5, -1.0)),
    ("nose", (1.0, 0.3)),
    ("jaw-left", (-1.0, 0.0)),
]


class Linear:
    """Fields that are smooth and linear in z, of a face whose landmarks lie in four rows."""

    landmarks = np.stack([20 + 88 * (np.arange(68) % 17) / 16, 30 + 22 * (np.arange(68) // 17)], 1).astype(np.float32)

    def __init__(self, strength: float = 1.5) -> None:
        rng = np.random.default_rng(3)
        across, down = np.meshgrid(*[(np.arange(16) + 0.5) / 16] * 2)
        fade = np.sin(np.pi * across) * np.sin(np.pi * down)
        waves = [
            fade * np.cos(np.pi * (a * across + b * down) + rng.uniform(0, 6))
            for a in range(4)
            for b in range(LATENTS // 4)
        ]
        self.basis = np.stack([wave[..., None] * rng.normal(0, strength, 2) for wave in waves]).astype(np.float32)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        field: np.ndarray = np.tensordot(z.astype(np.float32), self.basis, 1)
        return field


@pytest.fixture
def linear() -> Linear:
    return Linear()


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(LATENTS).astype(np.float32)


def settle(held: grab.Grab, by: tuple[float, float]) -> grab.Grab:
    for _ in range(PULL_STEPS):
        held.step(by)
        if held.change < PULL_SETTLED:
            break
    return held


def take(linear: Linear, z: np.ndarray, name: str, **options: Any) -> grab.Grab:
    return grab.Grab(linear, linear.landmarks, SIDE, z, name, **options)


# --- the handles


def test_handles_come_in_mirrored_pairs_of_landmarks() -> None:
    assert 18 <= len(HANDLES) <= 24
    known = {frozenset(points) for points in HANDLES.values()}
    for name, points in HANDLES.items():
        mirror = frozenset(int(MIRRORED[point]) for point in points)
        assert mirror in known, name
        swapped = name.replace("left", "x").replace("right", "left").replace("x", "right")
        assert frozenset(HANDLES[swapped]) == mirror
    assert not {60, 61, 62, 63, 64, 65, 66, 67} & {point for points in HANDLES.values() for point in points}


def test_places_are_where_the_field_says(linear: Linear, z: np.ndarray) -> None:
    field = linear(z[None])
    found = grab.places(field, linear.landmarks, SIDE)
    assert np.allclose(found + warp.at(field, found, SIDE), grab.middles(linear.landmarks), atol=0.02)


# --- the pull


@pytest.mark.parametrize("name", ["mouth-left", "nose", "brow-right-inner", "eye-left-outer"])
def test_a_pulled_handle_comes_to_the_hand(linear: Linear, z: np.ndarray, name: str) -> None:
    held = take(linear, z, name)
    before = held.places[held.index]
    settle(held, (3.0, -2.0))
    assert held.places[held.index] - before == pytest.approx([3, -2], abs=0.3)
    assert held.left < 0.3
    assert not held.behind
    seen = grab.places(linear(held.z[None]), linear.landmarks, SIDE)[0]
    assert held.places == pytest.approx(seen, abs=1e-4)


def test_a_hand_that_goes_back_brings_back_the_face(linear: Linear, z: np.ndarray) -> None:
    held = take(linear, z, "mouth-left")
    for by in ((2, 1), (4, 3), (-3, 2), (1, 0)):
        held.step(by)
    assert not np.array_equal(held.z, z)
    assert np.array_equal(held.step((0, 0)), z)


def test_the_result_depends_on_where_the_hand_is_not_on_its_way(linear: Linear, z: np.ndarray) -> None:
    there = settle(take(linear, z, "mouth-left"), (3, -2)).z
    wandering = take(linear, z, "mouth-left")
    for by in ((-4, 0), (0, 4), (5, 5)):
        wandering.step(by)
    assert settle(wandering, (3, -2)).z == pytest.approx(there, abs=0.02)


def test_pinned_handles_stay_and_far_ones_move_less_than_near_ones(linear: Linear, z: np.ndarray) -> None:
    pins = ("nose", "eye-right-inner")
    free, held = (settle(take(linear, z, "mouth-left", pins=dict.fromkeys(p)), (4, 2)) for p in ((), pins))
    home = grab.places(linear(z[None]), linear.landmarks, SIDE)[0]
    moved = [np.linalg.norm(g.places - home, axis=1) for g in (free, held)]
    for pin in pins:
        assert moved[1][grab.NAMES.index(pin)] < 0.3
        assert moved[1][grab.NAMES.index(pin)] < 0.5 * moved[0][grab.NAMES.index(pin)]
    assert held.left < 0.5


def test_pinned_handles_stay_where_they_were_pinned_over_many_pulls(linear: Linear, z: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    names = [name for name in grab.NAMES if name not in ("nose", "brow-left")]
    home = grab.places(linear(z[None]), linear.landmarks, SIDE)[0]
    pins: Any = {"nose": None, "brow-left": None}
    for _ in range(30):
        held = settle(take(linear, z, names[rng.integers(len(names))], pins=pins), tuple(rng.uniform(-5, 5, 2)))
        z, pins = held.z, held.pins
    for pin in pins:
        index = grab.NAMES.index(pin)
        assert pins[pin] == pytest.approx(tuple(home[index]))
        assert held.places[index] == pytest.approx(home[index], abs=0.3)


def test_a_pull_beyond_the_limit_gives_way_for_what_is_held(linear: Linear, z: np.ndarray) -> None:
    held = settle(take(linear, z, "mouth-left", pins={"nose": None}), (60, 20))
    assert held.behind
    home = grab.places(linear(z[None]), linear.landmarks, SIDE)[0]
    index = grab.NAMES.index("nose")
    assert held.places[index] == pytest.approx(home[index], abs=0.3)
    rng = np.random.default_rng(0)
    for length in (0.5, 5.0, 50.0):
        rest, pull = rng.standard_normal(LATENTS), length * rng.standard_normal(LATENTS)
        part, whole = grab.typical(np.zeros(LATENTS), rest, pull)
        eased = grab.ease(np.zeros(LATENTS), rest + pull)
        assert np.linalg.norm(whole) == pytest.approx(eased * np.linalg.norm(rest + pull))
        assert whole == pytest.approx(rest + part * pull)
    assert grab.typical(np.zeros(2), np.array([20.0, 0]), np.zeros(2))[0] == 0


def test_the_pull_grows_heavier_until_the_handle_stays_behind(linear: Linear, z: np.ndarray) -> None:
    lefts, reached = [], []
    for far in (2, 8, 20, 60):
        held = settle(take(linear, z, "mouth-left"), (far, 0))
        way = held.z.astype(float) - z
        lefts.append(held.left / far)
        reached.append(held.z @ way / np.linalg.norm(way))
    assert lefts == sorted(lefts)
    assert lefts[0] < 0.1
    assert held.behind
    assert max(reached) <= PULL_LIMIT + 0.01


def test_the_limit_on_a_pull_is_smooth_and_never_pushes_a_face_back() -> None:
    start = np.zeros(3)
    lengths = np.linspace(0.01, 30, 400)
    reached = [length * grab.ease(start, np.array([length, 0, 0])) for length in lengths]
    assert (np.diff(reached) >= 0).all()
    assert np.diff(reached).max() < 1.01 * (lengths[1] - lengths[0])
    assert reached[-1] < PULL_LIMIT
    assert grab.ease(start, start) == 1
    far = np.array([2 * PULL_LIMIT, 0, 0])
    assert 0 < grab.ease(far, np.array([1.0, 0, 0])) < 1
    assert grab.ease(far, np.array([-5.0, 0, 0])) == 1


def test_nothing_folds(z: np.ndarray) -> None:
    strong = Linear(6.0)
    calm = 0.1 * z
    assert warp.jacobian(strong(calm[None]), SIDE).min() > grab.PULL_FOLD
    for name in grab.NAMES[:8]:
        held = settle(take(strong, calm, name), (40, 25))
        assert warp.jacobian(strong(held.z[None]), SIDE).min() >= grab.PULL_FOLD


def test_what_is_held_stays(linear: Linear, z: np.ndarray) -> None:
    free = np.ones(LATENTS)
    free[[0, 3]] = 0
    reading = np.random.default_rng(1).standard_normal((2, LATENTS))
    held = settle(take(linear, z, "nose", free=free, readings=reading), (3, 1))
    assert np.array_equal(held.z[[0, 3]], z[[0, 3]])
    assert reading @ held.z == pytest.approx(reading @ z, abs=1e-4)
    assert held.left < 0.5


# --- the session


@pytest.fixture(scope="module")
def shaped(shaped_bundle: Path) -> mf.Model:
    return mf.load(shaped_bundle)


def test_a_session_grabs_as_one_step_of_undo(shaped: mf.Model) -> None:
    session = Session(shaped, seed=3)
    z, before = session.z, session.handles
    session.toggle_freeze()
    left = session.grab("mouth-left", (1.0, -0.5))
    after = session.handles
    off = np.add(before["mouth-left"], (1.0, -0.5)) - after["mouth-left"]
    assert left == pytest.approx(float(np.hypot(*off)), abs=1e-3)
    assert left < 1.1
    assert session.scale == 1
    assert session.origin == (3, 0)
    session.undo()
    assert session.z is z
    session.redo()
    assert session.handles == after


def test_a_session_keeps_its_locks_and_pins(shaped: mf.Model) -> None:
    session = Session(shaped, seed=3)
    session.toggle_lock(0)
    session.pin("nose")
    assert session.pinned == {"nose"}
    z, nose = session.z, session.handles["nose"]
    session.grab("mouth-left", (1.0, -0.5))
    assert not np.array_equal(session.z, z)
    assert session.get(0) == z[shaped.dimensions[0]]
    assert session.handles["nose"] == pytest.approx(nose, abs=0.3)
    session.pin("nose")
    assert not session.pinned


def pinned_at(session: Session, name: str) -> tuple[float, float]:
    assert session.state.pins is not None
    return session.state.pins[name]


def test_a_pin_is_where_it_was_pinned_until_something_else_changes_the_face(shaped: mf.Model) -> None:
    session = Session(shaped, seed=3)
    session.pin("nose")
    nose = session.handles["nose"]
    for name, by in PULLS[:3] * 3:
        session.grab(name, by)
        assert pinned_at(session, "nose") == pytest.approx(nose)
    assert session.handles["nose"] == pytest.approx(nose, abs=0.3)
    session.undo()
    assert pinned_at(session, "nose") == pytest.approx(nose)
    pulled = session.state
    session.set(0, 1.0)
    pins = session.state.pins
    assert pins is None
    nose = session.handles["nose"]
    session.grab("mouth-left", (1.0, 0.0))
    assert pinned_at(session, "nose") == pytest.approx(nose)
    session.restore(pulled)
    assert session.state.pins == pulled.pins
    session.pin("nose")
    session.grab("nose", (1.5, 1.0))
    session.pin("nose")
    moved = session.handles["nose"]
    session.grab("mouth-left", (0.5, 0.0))
    assert pinned_at(session, "nose") == pytest.approx(moved), "pinned anew, it is held where it is now"
    fresh = Session(shaped, seed=3)
    fresh.pin("nose")
    state = fresh.state
    fresh.pull(fresh.take("mouth-left"), (0, 0))
    assert fresh.state is state, "a pull of nothing is no step of undo"


def test_what_cannot_be_grabbed_is_said(shaped: mf.Model, tiny_bundle: Path) -> None:
    session = Session(shaped)
    with pytest.raises(UserError, match="handle 'ear': must be one of mouth-left,mouth-right,"):
        session.grab("ear", (1, 1))
    with pytest.raises(UserError, match="handle 'ear'"):
        session.pin("ear")
    with pytest.raises(UserError, match=r"pull by \(nan, 1\): must be finite"):
        session.grab("nose", (float("nan"), 1))
    assert not session.can_undo
    plain = Session(mf.load(tiny_bundle))
    for verb in (lambda: plain.grab("nose", (1, 1)), lambda: plain.pin("nose"), lambda: plain.handles):
        with pytest.raises(UserError, match="the model 'tiny' has no shape"):
            verb()


def test_a_handle_in_the_hand_belongs_to_the_face_it_was_taken_from(shaped: mf.Model) -> None:
    session = Session(shaped, seed=3)
    taken = session.take("nose")
    session.pull(taken, (0.5, 0))
    session.pull(taken, (1, 0))
    session.undo()
    assert not session.can_undo
    with pytest.raises(UserError, match="the face has changed since"):
        session.pull(taken, (1, 0))


# --- a photograph

EYES = "90,80,140,86"


def test_edit_pulls_a_photograph(shaped_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = drawn_face().resize((260, 200))
    source.save(tmp_path / "a.png")

    def edit(*arguments: str) -> tuple[str, np.ndarray]:
        out = tmp_path / "b.png"
        line = ["edit", str(tmp_path / "a.png"), "-o", str(out), "-b", str(shaped_bundle), "--eyes", EYES, *arguments]
        done = CliRunner().invoke(main, line)
        return done.output, np.asarray(Image.open(out), float) if out.exists() else np.empty(0)

    monkeypatch.setattr("morphing_faces.photo.TURNED", 9.0)
    monkeypatch.setattr("morphing_faces.photo.UNLIKE", 0.0)
    assert "must be a handle, = and two numbers, as mouth-left=-4,-5" in edit("--grab", "mouth-left=1")[0]
    assert "handle 'ear': must be one of" in edit("--grab", "ear=1,1")[0]
    said, pulled = edit("--grab", "mouth-left=2,-1", "--grab", "lip-lower=0,1")
    way = np.abs(pulled - np.asarray(source, float)).max(2)
    assert "turned" not in said
    assert way.max() > 10
    assert not way[:8].any()
    monkeypatch.setattr("morphing_faces.photo.TURNED", -1.0)
    said, less = edit("--grab", "mouth-left=2,-1", "--grab", "lip-lower=0,1")
    assert "turned too far: the photograph shows its face from the side" in said
    assert np.abs(less - np.asarray(source, float)).mean() < 0.8 * np.abs(pulled - np.asarray(source, float)).mean()


# --- the twin

PULL = """async ([base, verbs]) => {
  const { loadModel } = await import('/model.js');
  const { Session } = await import('/session.js');
  const { places } = await import('/grab.js');
  const model = await loadModel(base, { backend: 'wasm' });
  const session = new Session(model, 3);
  const answers = [];
  for (const [verb, ...values] of verbs) {
    const left = verb === 'grab' ? await session.grab(model.source, ...values) : session[verb](...values);
    const field = await model.fields(session.z.slice(), 1);
    answers.push({ left: left ?? null, z: Array.from(session.z), places: places(field, model.source), undo: session.canUndo });
  }
  const said = [];
  for (const wrong of [() => session.grab(model.source, 'ear', [1, 1]), () => session.grab(model.source, 'nose', [NaN, 1])]) {
    await wrong().catch((error) => said.push(error.message));
  }
  try { session.pin('ear'); } catch (error) { said.push(error.message); }
  return { answers, said };
}"""


def blank(visit: Visit, address: str) -> Page:
    return visit(f"{address}icon.svg", allow=("favicon.ico",))


def test_the_twins_grab_alike(visit: Visit, serve: Serve, shaped_bundle: Path, shaped: mf.Model) -> None:
    """The same pulls, with locks and pins between them, leave the same face in Python and in the page."""
    verbs: list[list[Any]] = [["grab", name, list(by)] for name, by in PULLS]
    verbs += [
        ["pin", "nose"],
        ["toggleLock", 1],
        ["grab", "mouth-right", [0.5, -0.8]],
        ["undo"],
        ["undo"],
        ["undo"],
        ["grab", "nose", [9, 9]],  # far beyond what is typical; from there the least difference grows
        ["undo"],
        ["pin", "chin"],
        *[["grab", name, list(by)] for name, by in PULLS * 2],
        ["pin", "chin"],
        ["grab", "chin", [0.4, 0.6]],
        ["pin", "chin"],
        ["grab", "mouth-left", [0.5, 0.2]],
    ]
    got = blank(visit, serve(shaped_bundle)).evaluate(PULL, [f"bundles/{shaped_bundle.name}", verbs])
    session = Session(shaped, 3)
    for (verb, *values), answer in zip(verbs, got["answers"], strict=True):
        name = {"toggleLock": "toggle_lock"}.get(verb, verb)
        left = getattr(session, name)(*values)
        assert np.abs(session.z - answer["z"]).max() < 0.1, (verb, values)
        assert np.abs(np.array(list(session.handles.values())) - answer["places"]).max() < 0.05
        if verb == "grab":
            assert answer["left"] == pytest.approx(left, abs=0.02)
        assert answer["undo"] == session.can_undo
    for said, wrong in zip(
        got["said"],
        [
            lambda: session.grab("ear", (1, 1)),
            lambda: session.grab("nose", (float("nan"), 1)),
            lambda: session.pin("ear"),
        ],
        strict=True,
    ):
        with pytest.raises(UserError) as caught:
            wrong()
        assert said.lower() == str(caught.value).lower()


def test_a_shape_that_is_kept_still_cannot_be_pulled(shaped_bundle: Path) -> None:
    session = Session(mf.load(shaped_bundle), seed=3)
    session.toggle_still("appearance")
    session.grab("mouth-left", (0.5, 0))
    session.toggle_still("shape")  # the two change places
    places = session.handles
    with pytest.raises(UserError, match="the shape is kept still, so nothing can be pulled"):
        session.grab("mouth-left", (1, 0))
    session.shuffle()
    assert session.handles == places, "the handles are those of the shape that stays"

"""The session's verbs, faces as files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from morphing_faces import noise
from morphing_faces.errors import UserError
from morphing_faces.rules import UNDO_STEPS
from morphing_faces.session import Session


@pytest.fixture
def session() -> Session:
    model: Any = SimpleNamespace(latent_size=40, dimensions=tuple(range(39, 10, -1)), name="toy")
    return Session(model, seed=3)


def test_philox_gives_the_published_numbers() -> None:
    """The known answers of Random123, the authors' own library."""
    ones = np.full((1, 4), 0xFFFFFFFF, np.uint32)
    assert [f"{w:08x}" for w in noise.philox(ones, 2**64 - 1)[0]] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
    pi = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint32)
    assert [f"{w:08x}" for w in noise.philox(pi, 0x299F31D0A4093822)[0]] == [
        "d16cfe09",
        "94fdcceb",
        "5001e420",
        "24126ea1",
    ]


def test_noise_is_normal_and_a_row_does_not_depend_on_how_many_are_asked() -> None:
    table = noise.normal(11, 0, 500, 400)
    assert abs(table.mean()) < 0.01
    assert table.var() == pytest.approx(1, abs=0.01)
    assert (table**4).mean() == pytest.approx(3, abs=0.1)
    assert abs(np.corrcoef(table[:, :20].T) - np.eye(20)).max() < 0.2
    assert np.array_equal(noise.normal(11, 3, 1, 400)[0], table[3])
    assert not np.array_equal(noise.normal(12, 3, 1, 400)[0], table[3])
    assert {noise.whole(0, k, 6) for k in range(200)} == set(range(6))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "7", True])
def test_a_wrong_seed_is_named(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed .*: must be a whole number from 0 to 4294967295"):
        noise.normal(seed, 0, 1, 4)


def test_the_first_face_is_the_seeds_first(session: Session) -> None:
    assert np.array_equal(session.z, noise.normal(3, 0, 1, 40)[0])
    session.shuffle()
    assert np.array_equal(session.z, noise.normal(3, 1, 1, 40)[0])


def test_move_sets_the_two_chosen_coordinates_only(session: Session) -> None:
    before = session.get()
    session.select(0, 5)
    session.move(-1, 0.25)
    changed = np.flatnonzero(session.z != before)
    assert sorted(changed) == sorted((session.dimensions[0], session.dimensions[5]))
    assert (session.get(0), session.get(5)) == (-1, 0.25)


def test_frozen_coordinates_behave_as_in_2014(session: Session) -> None:
    session.move(0.5, -0.5)
    session.toggle_freeze()
    session.move(1, 1)
    session.select(2, 3)
    session.move(1, 1)
    assert (session.get(0), session.get(1)) == (0.5, -0.5)
    session.toggle_freeze()
    session.move(0.1, 0.2)
    assert [session.get(d) for d in range(4)] == pytest.approx([0.5, -0.5, 0.1, 0.2])


def test_shuffle_works_while_frozen_and_keeps_axes(session: Session) -> None:
    session.select(4, 2)
    session.toggle_freeze()
    z = session.get()
    session.shuffle()
    assert not np.array_equal(session.z, z)
    assert (session.axes, session.frozen) == ((4, 2), True)


def test_shuffle_to_a_seed_shows_its_first_face(session: Session) -> None:
    first = session.get()
    session.shuffle(8)
    assert np.array_equal(session.z, noise.normal(8, 0, 1, 40)[0])
    session.shuffle()
    assert np.array_equal(session.z, noise.normal(8, 1, 1, 40)[0])
    with pytest.raises(ValueError, match="seed -1"):
        session.shuffle(-1)
    assert session.undo()
    assert session.undo()
    assert np.array_equal(session.z, first)


def test_undo_takes_a_run_of_moves_as_one_and_redo_brings_it_back(session: Session) -> None:
    first = session.get()
    for x in np.linspace(-1, 1, 50):
        session.move(float(x), 0)
    moved = session.get()
    session.shuffle()
    assert session.undo()
    assert np.array_equal(session.z, moved)
    assert session.undo()
    assert np.array_equal(session.z, first)
    assert not session.undo()
    assert session.redo()
    assert np.array_equal(session.z, moved)
    session.set(0, 2.0)
    assert not session.redo()


def test_undo_brings_back_all_that_was_set(session: Session, tmp_path: Path) -> None:
    """The face with its seed and number, axes, range, frozen and locks: one value."""
    session.save(tmp_path / "plain.json")
    session.shuffle(8)
    first = session.state
    session.set_range(4)
    session.toggle_freeze()
    session.toggle_lock(3)
    session.select(4, 2)
    session.save(tmp_path / "face.json")
    before = session.state
    session.load(tmp_path / "plain.json")
    assert (session.range, session.frozen, session.locked) == (1, False, frozenset())
    session.undo()
    assert session.state is before
    for _ in range(4):
        assert session.undo()
    assert session.state is first
    session.load(tmp_path / "face.json")
    session.undo()
    assert (session.range, session.frozen) == (1, False)
    following = noise.normal(8, 1, 1, 40)[0]
    session.shuffle()
    assert np.array_equal(session.z, following)
    session.undo()
    session.shuffle()
    assert np.array_equal(session.z, following), "no face is skipped"


def test_what_changes_nothing_is_no_step_of_undo(session: Session) -> None:
    session.move(0.5, 0.5)
    for dimension in (0, 1):
        session.toggle_lock(dimension)
    locked = session.state
    for x in (-1, 0, 1):
        session.move(x, x)
    session.end_gesture()
    session.set(2, session.get(2))
    session.set_range(1)
    assert session.state is locked
    assert session.undo()
    assert session.locked == {0}


def test_undo_is_bounded(session: Session) -> None:
    for _ in range(2 * UNDO_STEPS):
        session.shuffle()
    assert sum(iter(session.undo, False)) == UNDO_STEPS


@pytest.mark.parametrize(
    "verb",
    [
        lambda s: s.move(0.9, -0.9),
        lambda s: s.shuffle(),
        lambda s: s.shuffle(7),
        lambda s: s.reset(),
        lambda s: s.set(np.full(40, 0.25)),
        lambda s: s.show(np.full(40, 0.25), (3, 0), 1.5),
        lambda s: s.set_scale(0.5),
        lambda s: [s.walk() for _ in range(100)],
        lambda s: [s.glide(0.3) for _ in range(20)],
        lambda s: s.settle(np.full(40, 0.25)),
    ],
)
def test_no_verb_moves_a_locked_dimension(session: Session, verb: Any) -> None:
    for dimension in (0, 5):
        session.toggle_lock(dimension)
    before = session.get()
    verb(session)
    assert [session.get(d) for d in (0, 5)] == [float(before[session.dimensions[d]]) for d in (0, 5)]
    assert not np.array_equal(session.z, before)
    with pytest.raises(UserError, match="dimension 5 is locked: unlock it first"):
        session.set(5, 1.0)
    session.toggle_lock(5)
    session.set(5, 1.0)
    assert session.get(5) == 1


def test_a_walk_with_everything_locked_stands_still(session: Session) -> None:
    for dimension in range(29):
        session.toggle_lock(dimension)
    before = session.state
    session.walk()
    assert session.state is before


def test_a_glide_is_smooth_endless_and_as_typical_as_random_faces() -> None:
    model: Any = SimpleNamespace(latent_size=400, dimensions=tuple(range(29)), name="toy")
    session = Session(model, seed=5)
    first = session.get()
    points = [first]
    for _ in range(400):
        session.glide(0.05)
        points.append(session.get())
    way = np.stack(points).astype(float)
    norms = np.linalg.norm(way, axis=1)
    assert norms == pytest.approx(20, rel=0.1), "a random face of 400 coordinates is at about 20"
    speed = np.linalg.norm(np.diff(way, axis=0), axis=1)
    assert speed[40:] == pytest.approx(speed[40:].mean(), rel=0.15), "and its speed is even"
    assert np.linalg.norm(np.diff(way, n=2, axis=0), axis=1).max() < 0.15, "no corner"
    assert np.abs(way[1] - way[0]).max() < 0.2, "it begins at the face that is shown"
    assert np.linalg.norm(way[-1] - way[0]) > 20, "it goes somewhere else"
    session.end_gesture()
    session.glide(1)
    assert not any(np.array_equal(session.z, point) for point in points), "it goes on to faces that it has not shown"
    assert session.undo()
    assert session.undo()
    assert np.array_equal(session.z, first)


def test_ordinary_and_unusual_scale_the_face_and_1_brings_it_back_exactly(session: Session) -> None:
    session.set(3, 0.7)
    face = session.get()
    for value in (0.3, 1.7, 0.1, 2.0, 1.0):
        session.set_scale(value)
        assert session.z == pytest.approx(face * value, rel=1e-5)
    session.shuffle()
    session.undo()
    moved = session.dimensions[3]
    assert np.array_equal(np.delete(session.z, moved), np.delete(face, moved))
    session.undo()
    assert np.array_equal(session.z, face)


@pytest.mark.parametrize("value", [1e39, -1e39, 1e30, 101, math.inf, math.nan])
def test_no_coordinate_is_too_large_for_float32_or_the_model(session: Session, value: float, tmp_path: Path) -> None:
    before = session.state
    actions: list[Any] = [
        lambda: session.set(0, value),
        lambda: session.move(value, 0),
        lambda: session.set(np.full(40, value)),
        lambda: session.settle([value] * 40),
        lambda: session.from_dict({**session.to_dict(), "z": [value] * 40}),
        lambda: session.set_range(value),
        lambda: session.set_scale(value),
    ]
    for action in actions:
        with pytest.raises(UserError):
            action()
    assert session.state is before
    session.save(tmp_path / "face.json")
    session.load(tmp_path / "face.json")
    assert session.state is before
    for steps in (math.nan, math.inf):
        with pytest.raises(UserError, match="must be a finite number"):
            session.widen(steps)
    session.widen(1e5)
    assert session.range == 4


def test_range_stretches_the_square(session: Session) -> None:
    session.set_range(2)
    session.move(1, -0.5)
    assert (session.get(0), session.get(1)) == (2, -1)
    session.widen(1000)
    assert session.range == 4
    session.widen(-1000)
    assert session.range == 0.25


def test_z_cannot_be_written_behind_the_sessions_back(session: Session) -> None:
    with pytest.raises(ValueError, match="read-only"):
        session.z[0] = 1


def test_the_walk_is_that_of_2014_but_stays_among_faces(session: Session) -> None:
    for _ in range(300):
        before = session.get()
        session.walk()
        changed = np.flatnonzero(session.z != before)
        assert len(changed) == 1
        assert changed[0] in session.dimensions
        assert abs(session.z[changed[0]] - before[changed[0]]) == pytest.approx(0.5, abs=1e-5)
    assert np.abs(session.z).max() < 5
    assert session.undo()
    assert np.array_equal(session.z, noise.normal(3, 0, 1, 40)[0])


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda s: s.select(0, 29), "dimension 29: dimensions are whole numbers from 0 to 28"),
        (lambda s: s.select(-1, 2), "dimension -1: dimensions are"),
        (lambda s: s.select(1.5, 2), "dimension 1.5: dimensions are"),
        (lambda s: s.select(4, 4), "must be two different ones"),
        (lambda s: s.move(math.nan, 0), "must be finite numbers"),
        (lambda s: s.set(0, math.inf), "must be a finite number"),
        (lambda s: s.set(np.zeros(39)), r"z has shape \(39,\), expected \(40,\)"),
        (lambda s: s.set_range(9), "range 9: must be from 0.25 to 4"),
    ],
)
def test_a_wrong_action_changes_nothing_and_says_what_is_allowed(session: Session, action: Any, message: str) -> None:
    before, axes = session.get(), session.axes
    with pytest.raises(ValueError, match=message):
        action(session)
    assert np.array_equal(session.z, before)
    assert session.axes == axes
    assert not session.undo()


def test_a_saved_face_comes_back_exactly(session: Session, tmp_path: Path) -> None:
    session.select(7, 1)
    session.move(0.3, 1 / 3)
    session.toggle_freeze()
    session.set_range(1.5)
    saved = session.get()
    session.save(tmp_path / "face.json")
    assert (tmp_path / "face.json").stat().st_size < 40 * 16 + 300
    session.shuffle()
    session.toggle_freeze()
    session.select(0, 1)
    session.load(tmp_path / "face.json")
    assert np.array_equal(session.z, saved)
    assert (session.axes, session.frozen, session.range) == ((7, 1), True, 1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "cat"}, "is not a face saved by morphing-faces"),
        ({"version": 2}, "has version 2, this program reads 1"),
        ({"bundle": "color"}, "is a face of bundle 'color', this is 'toy'"),
        ({"z": [0.0] * 39}, "has 39 coordinates, expected 40"),
        ({"z": [math.nan] * 40}, "all finite"),
        ({"axes": [0, 29]}, "has axes .* expected two different ones from 0 to 28"),
        ({"axes": None}, "lacks z, axes, range or frozen"),
        ({"range": 100}, "has range 100"),
    ],
)
def test_a_wrong_face_file_is_refused_whole(
    session: Session, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "face.json"
    path.write_text(json.dumps({**session.to_dict(), **change}))
    session.shuffle()
    before = session.get()
    with pytest.raises(ValueError, match=message) as caught:
        session.load(path)
    assert str(path) in str(caught.value)
    assert np.array_equal(session.z, before)


def test_an_unreadable_face_file_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        session.load(tmp_path / "nowhere.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is not valid JSON: nested too deeply"):
        session.load(tmp_path / "deep.json")
    (tmp_path / "cut.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="is not valid JSON"):
        session.load(tmp_path / "cut.json")
    (tmp_path / "noise.json").write_bytes(bytes(range(128, 256)))
    with pytest.raises(ValueError, match="is not valid JSON: it is not UTF-8 text"):
        session.load(tmp_path / "noise.json")


# --- shape and appearance


@pytest.fixture
def shaped() -> Session:
    model: Any = SimpleNamespace(latent_size=40, dimensions=tuple(range(39, 10, -1)), name="toy", has_shape=True)
    return Session(model, seed=3)


def test_a_part_that_is_still_keeps_its_point_while_the_other_goes_on(shaped: Session) -> None:
    first = shaped.z
    assert shaped.parts() == (first, None)
    shaped.toggle_still("shape")
    shaped.shuffle()
    shaped.move(0.5, 0.5)
    appearance, shape = shaped.parts()
    assert appearance is shaped.z
    np.testing.assert_array_equal(shape, first)  # type: ignore[arg-type]
    rows = np.stack([first, shaped.z])
    appearance, shape = shaped.parts(rows)
    np.testing.assert_array_equal(appearance, rows)
    np.testing.assert_array_equal(shape, np.stack([first, first]))  # type: ignore[arg-type]
    shaped.toggle_still("shape")
    assert shaped.parts() == (shaped.z, None)


def test_asked_for_the_other_part_the_two_change_places_and_the_face_stays(shaped: Session) -> None:
    shaped.toggle_still("shape")
    shaped.toggle_lock(3)
    shaped.shuffle()
    appearance, shape = shaped.parts()
    shaped.toggle_still("appearance")
    for before, now in zip((appearance, shape), shaped.parts(), strict=True):
        np.testing.assert_array_equal(before, now)  # type: ignore[arg-type]
    shaped.shuffle()
    np.testing.assert_array_equal(shaped.parts()[0], appearance)
    assert not np.array_equal(shaped.parts()[1], shape)  # type: ignore[arg-type]


def test_undo_brings_back_what_was_still(shaped: Session) -> None:
    shaped.toggle_still("appearance")
    still = shaped.still
    shaped.toggle_still("appearance")
    assert shaped.still is None
    shaped.undo()
    assert shaped.still is still
    shaped.undo()
    assert shaped.still is None


def test_a_saved_face_keeps_both_of_its_parts(shaped: Session, tmp_path: Path) -> None:
    shaped.toggle_still("appearance")
    shaped.shuffle()
    before = shaped.parts()
    shaped.save(tmp_path / "face.json")
    shaped.shuffle(9)
    shaped.toggle_still("appearance")
    shaped.load(tmp_path / "face.json")
    for expected, found in zip(before, shaped.parts(), strict=True):
        np.testing.assert_array_equal(found, expected)  # type: ignore[arg-type]
    face = shaped.to_dict()
    for still, message in [
        ({"part": "nose", "z": [0.0] * 40}, "has a still part without a point, or one that is not of shape,appearance"),
        ({"part": "shape"}, "has a still part without a point"),
        ([], "has a still part without a point"),
        ({"part": "shape", "z": [0.0] * 39}, "has 39 coordinates, expected 40"),
        ({"part": "shape", "z": [math.nan] * 40}, "all finite"),
    ]:
        with pytest.raises(UserError, match=message):
            shaped.from_dict({**face, "still": still})
    for expected, found in zip(before, shaped.parts(), strict=True):
        np.testing.assert_array_equal(found, expected)  # type: ignore[arg-type]


def test_a_model_without_shape_says_so_and_a_part_that_is_none_is_named(session: Session, shaped: Session) -> None:
    for ask in (lambda: session.toggle_still("shape"), lambda: session.from_dict({**session.to_dict(), "still": {"part": "shape", "z": [0.0] * 40}})):  # fmt: skip
        with pytest.raises(UserError, match="the model 'toy' has no shape"):
            ask()
    with pytest.raises(UserError, match="part 'nose': must be one of shape,appearance"):
        shaped.toggle_still("nose")

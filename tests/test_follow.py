"""How a photograph follows a face: exact where nothing changes, right where a known thing does."""

from __future__ import annotations

import numpy as np
import pytest

from morphing_faces import follow, morph, warp
from morphing_faces.align import Frame
from morphing_faces.errors import UserError


def field(rng: np.random.Generator, strength: float) -> np.ndarray:
    """A smooth field (16, 16, 2), pixels of a picture 128 wide."""
    down, across = np.mgrid[:16, :16] / 15
    waves = [np.sin(np.pi * across) * np.sin(np.pi * down * k) for k in (1, 2)]
    return np.stack([w * rng.normal(0, strength) for w in waves], -1).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_same_face_leaves_the_photograph_to_the_bit(rng: np.random.Generator) -> None:
    f, look = field(rng, 4), rng.random((128, 128, 3), np.float32)
    way, shade = follow.displacement(f, f, 128), follow.shading(look, look, f)
    assert not way.any()
    assert not shade.any()
    picture = rng.integers(0, 256, (300, 400, 3), np.uint8)
    frame = Frame.of(((150.3, 120.2), (230.9, 140.4)))
    assert np.array_equal(follow.apply(picture, frame, way, shade), picture)


def test_a_displacement_solves_its_equation(rng: np.random.Generator) -> None:
    old, new = field(rng, 5), field(rng, 5)
    way = follow.displacement(old, new, 128)
    middles = (np.arange(follow.GRID, dtype=np.float32) + 0.5) / follow.GRID
    here = np.stack(np.meshgrid(middles, middles), -1)
    whole = follow.fade(follow.GRID) == 1
    left = here + follow.bilinear(new / 128, here)
    right = here + way + follow.bilinear(old / 128, here + way)
    assert np.abs(left - right)[whole].max() < 1e-4
    assert np.abs(way[0]).max() < 0.01 * np.abs(way).max()  # it fades at the frame's edge


def test_a_way_between_fields_that_do_not_fold_does_not_fold() -> None:
    """Where the old field changes by more than a pixel a pixel, as on turned heads, fixed-point steps would lead away."""
    slopes = [0, 0, -0.6, -0.6, -0.6, -0.6, 1.6, 1.6, 1.6, -0.6, -0.6, -0.6, -0.6, 0, 0]
    steep = np.zeros((16, 16, 2), np.float32)
    steep[:, 1:, 0] = 8 * np.cumsum(slopes)
    gentle = 0.8 * steep
    for old, new in ((steep, gentle), (gentle, steep)):
        assert min(warp.jacobian(f[None], 128).min() for f in (old, new)) > 0
        way = follow.displacement(old, new, 128)
        inner = slice(4, -4)
        assert (1 + np.diff(way[..., 0], axis=1) * follow.GRID)[:, inner].min() > 0
        middles = (np.arange(follow.GRID, dtype=np.float32) + 0.5) / follow.GRID
        here = np.stack(np.meshgrid(middles, middles), -1)
        left, right = follow.bilinear(new / 128, here), way + follow.bilinear(old / 128, here + way)
        assert np.abs(left - right)[inner, inner].max() < 1e-4


def test_what_moves_is_what_the_field_says() -> None:
    still = np.zeros((16, 16, 2), np.float32)
    shifted = still.copy()
    shifted[..., 0] = 8  # a place of the new face is 8 pixels further right in the mean frame: things move left
    look = np.full((128, 128, 3), 0.5, np.float32)
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[118:138, 118:138] = 200
    frame = Frame((0.0, 0.0), 256.0, (1.0, 0.0))
    out = follow.apply(picture, frame, follow.displacement(still, shifted, 128), follow.shading(look, look, shifted))
    columns = np.flatnonzero(out[128, :, 0] > 100)
    assert (columns.min(), columns.max()) == pytest.approx((102, 121), abs=1)


def test_shading_follows_the_appearance_and_is_bounded() -> None:
    still = np.zeros((16, 16, 2), np.float32)
    old, new = np.full((128, 128, 3), 0.4, np.float32), np.full((128, 128, 3), 0.4, np.float32)
    new[50:80, 50:80] = 0.8
    new[85:100, 50:80] = 0.0
    shade = follow.shading(old, new, still)
    assert shade[32, 32] == pytest.approx([0.88 / 0.48 - 1] * 3, abs=1e-3)
    assert shade[46, 32] == pytest.approx([follow.DARKEST - 1] * 3, abs=1e-3)
    assert not shade[10:20, 10:20].any()
    grey = follow.shading(old[..., :1], new[..., :1], still)
    assert grey == pytest.approx(shade)


def test_outside_of_the_frame_nothing_changes(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (200, 220, 3), np.uint8)
    frame = Frame.of(((80, 70), (120, 76)))
    way = follow.displacement(field(rng, 6), field(rng, 6), 128)
    before, after = rng.random((2, 128, 128, 3), np.float32)
    shade = follow.shading(before, after, field(rng, 1))
    out = follow.apply(picture, frame, way, shade)
    changed = (out != picture).any(2)
    assert changed.any()
    a, b, x, d, e, y = frame.matrix(1.0)
    inside = np.zeros_like(changed)
    rows, columns = np.nonzero(np.ones_like(changed))
    place = np.linalg.solve([[a, b], [d, e]], [columns + 0.5 - x, rows + 0.5 - y])
    inside[rows, columns] = ((place > -0.01) & (place < 1.01)).all(0)
    assert not (changed & ~inside).any()


def test_a_frame_that_reaches_out_of_the_picture(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, (60, 60, 3), np.uint8)
    way = follow.displacement(field(rng, 6), field(rng, 6), 128)
    shade = np.zeros((64, 64, 3), np.float32)
    assert follow.apply(picture, Frame.of(((5, 5), (50, 5))), way, shade).shape == picture.shape
    beside = follow.apply(picture, Frame.of(((500, 500), (540, 500))), way, shade)
    assert np.array_equal(beside, picture)


# --- ways between faces


def test_the_great_circle_keeps_faces_typical(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 400)).astype(np.float32)
    assert np.array_equal(morph.slerp(a, b, 0), a)
    assert np.array_equal(morph.slerp(a, b, 1), b)
    middle = np.linalg.norm(morph.slerp(a, b, 0.5))
    assert middle == pytest.approx((np.linalg.norm(a) + np.linalg.norm(b)) / 2, rel=1e-5)
    assert morph.slerp(a, np.zeros(400), 0.25) == pytest.approx(0.75 * a, abs=1e-6)
    assert morph.slerp(a, -a, 0.25) == pytest.approx(0.5 * a, abs=1e-6)


def test_a_timetable_begins_and_ends_at_faces() -> None:
    table = morph.timetable(3, 21, loop=False)
    assert table[0] == (0, 1, 0.0)
    assert table[10] == (1, 2, 0.0)
    assert table[-1] == (1, 2, 1.0)
    looped = morph.timetable(3, 21, loop=True)
    assert looped[0] == (0, 1, 0.0)
    assert looped[-1][:2] == (2, 0)
    assert 0.9 < looped[-1][2] < 1
    assert len(looped) == 21


def test_a_mean_is_between_the_plain_one_and_as_far_out_as_its_faces(rng: np.random.Generator) -> None:
    z = rng.standard_normal((3, 400))
    mean = morph.mean(list(z))
    plain = z.mean(0)
    assert mean / np.linalg.norm(mean) == pytest.approx(plain / np.linalg.norm(plain), abs=1e-6)
    ends = np.linalg.norm(plain), np.linalg.norm(z, axis=1).mean()
    assert np.linalg.norm(mean) == pytest.approx(np.sqrt(ends[0] * ends[1]), rel=1e-5)
    assert morph.mean(list(z), [0, 1, 0]) == pytest.approx(z[1], abs=1e-6)
    for weights in ([1, 1], [0, 0, 0], [1, -1, 1], [1, float("nan"), 1]):
        with pytest.raises(UserError, match="weights"):
            morph.mean(list(z), weights)

"""Shape: landmarks, the mean frame, the warp, and a network that draws shape and appearance apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from conftest import SHAPED, drawn_faces, drawn_landmarks
from morphing_faces import landmarks as finding
from morphing_faces import warp as plain
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.errors import UserError
from morphing_faces.landmarks import MIRRORED, mirrored, turn, usable
from morphing_faces.prepare import prepare, store_landmarks
from morphing_faces.train.augment import augment, which_mirrored
from morphing_faces.train.latents import encode_all, fit
from morphing_faces.train.loop import load_run, train
from morphing_faces.train.networks import SmoothShuffle
from morphing_faces.train.recipe import Recipe, from_dict
from morphing_faces.train.shape import CELLS, EDGE, FOLLOWED, MeanFrame, mean_landmarks, pixel_positions, sample, warp
from morphing_faces.train.trainer import Trainer, new_model, to_pictures, training_rows
from morphing_faces.train.vae import VAE

SIDE = 64


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return drawn_landmarks(40, SIDE)


@pytest.fixture(scope="module")
def frame(points: np.ndarray) -> MeanFrame:
    return MeanFrame(torch.from_numpy(mean_landmarks(points, SIDE, mirror=True)), SIDE)


# --- landmarks


def test_the_mirror_of_the_mirror_is_the_face(points: np.ndarray) -> None:
    assert sorted(MIRRORED) == list(range(68))
    assert np.array_equal(MIRRORED[MIRRORED], np.arange(68))
    assert np.allclose(mirrored(mirrored(points, SIDE), SIDE), points, atol=1e-4)
    assert not np.allclose(mirrored(points, SIDE), points, atol=0.5)


def test_turned_heads_and_missing_faces_are_not_usable(points: np.ndarray) -> None:
    known = points[:3].copy()
    known[1, 30, 0] += 0.5 * SIDE
    known[2] = np.nan
    assert turn(known)[1] > turn(known)[0]
    assert usable(known).tolist() == [True, False, False]


def test_landmarks_of_a_real_face_are_where_the_frame_has_its_eyes_and_noise_has_none() -> None:
    """The shipped model's own faces, found by the detector that prepare --landmarks uses."""
    import morphing_faces as mf

    model = mf.load("color")
    faces = (model.decode(model.sample(6, seed=22)) * 255).round().astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (2, 128, 128, 3), dtype=np.uint8)
    found = finding.find_landmarks(np.concatenate([faces, noise]))
    assert np.isnan(found[6:]).all()
    seen = np.isfinite(found[:6]).all((1, 2))
    assert seen.sum() >= 4
    eyes = np.stack([found[:6][seen][:, part].mean(1) for part in (finding.RIGHT_EYE, finding.LEFT_EYE)], 1)
    assert np.abs(eyes - (np.array(finding.EYES_AT) * 128 - 0.5)).max() < 6
    assert len(np.unique(found[:6][seen] % 1)) >= 4, "finer than whole pixels"


def test_landmarks_are_stored_beside_the_pictures_and_those_without_a_face_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).integers(0, 255, (3, 48, 48, 1), dtype=np.uint8))
    record = prepare(
        [str(tmp_path / "noise.npy")], tmp_path / "out", size=48, grey=True, landmarks=True, progress=False
    )
    assert record["landmarks"]["found"] == record["landmarks"]["usable"] == 0
    assert (
        record["landmarks"]["without"] == [f"noise.npy: {row}" for row in range(3)]
        or len(record["landmarks"]["without"]) == 3
    )
    assert "no face found in noise.npy" in "".join(capsys.readouterr())
    data = open_dataset(tmp_path / "out")
    assert data.landmarks is not None
    assert np.isnan(data.landmarks).all()
    with pytest.raises(UserError, match="has no training pictures"):
        training_rows(from_dict({**SHAPED, "widths": [8, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]}), data)


def test_landmarks_of_other_pictures_are_refused(shaped_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shaped_data, tmp_path / "data"))
    record = json.loads((folder / "dataset.json").read_text())
    store_landmarks(folder, drawn_landmarks(299, 32), record["sha256"], [])
    with pytest.raises(UserError, match=r"landmarks.npy holds float32 \(299, 68, 2\), expected float32 \(300, 68, 2\)"):
        open_dataset(folder)
    record["landmarks"] = store_landmarks(folder, drawn_landmarks(300, 32), "another hash", [])
    (folder / "dataset.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="was not made for these pictures"):
        open_dataset(folder)


# --- the mean frame


def test_the_mean_landmarks_are_symmetric_where_pictures_are_mirrored(points: np.ndarray) -> None:
    mean = mean_landmarks(points, SIDE, mirror=True)
    assert np.allclose(mirrored(mean[None], SIDE)[0], mean)
    assert np.allclose(mean_landmarks(points, SIDE, mirror=False), points.mean(0), atol=1e-4)


def test_the_spline_takes_the_mean_landmarks_to_a_faces_own(frame: MeanFrame, points: np.ndarray) -> None:
    known = torch.from_numpy(points)
    moved = frame.displacement(known).permute(0, 3, 1, 2)
    places = frame.landmarks[None, :FOLLOWED, None].expand(len(known), -1, -1, -1)
    found = places[:, :, 0] + sample(moved, places, SIDE)[..., 0].permute(0, 2, 1)
    inside = slice(17, FOLLOWED)  # the jaw is at the picture's edge, where the warp rests
    off = (found - known[:, :FOLLOWED])[:, inside].norm(dim=-1)
    before = (frame.landmarks - known)[:, inside.start : inside.stop].norm(dim=-1)
    assert off.mean() < 0.4 * before.mean()
    assert off.mean() < 0.5


def test_the_field_is_the_inverse_of_the_spline(frame: MeanFrame, points: np.ndarray) -> None:
    known = torch.from_numpy(points)
    field = frame.field(known)
    assert field.shape == (40, 2, CELLS, CELLS)
    there = pixel_positions(SIDE) + F.interpolate(field, size=(SIDE, SIDE), mode="bilinear").permute(0, 2, 3, 1)
    back = there + sample(frame.displacement(known).permute(0, 3, 1, 2), there, SIDE).permute(0, 2, 3, 1)
    assert (back - pixel_positions(SIDE)).abs().mean() < 0.15
    assert field.abs().max() > 1, "nothing moves: this shows nothing"


def test_nothing_moves_at_the_pictures_edge(frame: MeanFrame, points: np.ndarray) -> None:
    field = frame.field(torch.from_numpy(points))
    edge = torch.cat([field[:, :, 0], field[:, :, -1], field[:, :, :, 0], field[:, :, :, -1]], 2)
    assert not edge.any()
    forward = frame.displacement(torch.from_numpy(points))
    assert not forward[:, 0].any()
    assert not forward[:, :, -1].any()


def test_the_mean_of_the_field_over_the_faces_is_about_zero(frame: MeanFrame, points: np.ndarray) -> None:
    both = torch.from_numpy(np.concatenate([points, mirrored(points, SIDE)]))
    field = frame.field(both)
    assert field.mean(0).abs().max() < 0.25
    assert field.std(0).max() > 0.4, "nothing moves: this shows nothing"


# --- the warp


def test_the_warp_repeats_what_is_near_the_edge_and_at_no_displacement_is_the_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    edge = round(EDGE * SIDE)
    inner = image[:, :, edge:-edge, edge:-edge]
    resting = warp(image, torch.zeros(2, 2, CELLS, CELLS))
    assert torch.allclose(resting, F.pad(inner, (edge, edge, edge, edge), mode="replicate"), atol=1e-6)
    field = 6 * torch.randn(2, 2, CELLS, CELLS, generator=generator)
    there = pixel_positions(SIDE) + F.interpolate(field, size=(SIDE, SIDE), mode="bilinear").permute(0, 2, 3, 1)
    held = there.clamp(edge, SIDE - 1 - edge)
    assert torch.allclose(warp(image, field), sample(image, held, SIDE), atol=1e-5)


def test_numpy_inverts_a_field_as_the_definition_says() -> None:
    rng = np.random.default_rng(0)
    field = rng.uniform(-1.5, 1.5, (3, 16, 16, 2)).astype(np.float32)
    mean = rng.uniform(4, SIDE - 4, (68, 2)).astype(np.float32)
    found = plain.landmarks(field, mean, SIDE)
    assert np.allclose(found + plain.at(field, found, SIDE), mean, atol=0.02)
    torches = sample(torch.from_numpy(field).permute(0, 3, 1, 2), torch.from_numpy(found)[:, :, None], SIDE)
    assert np.allclose(plain.at(field, found, SIDE), torches[..., 0].permute(0, 2, 1).numpy(), atol=1e-4)


def test_the_jacobian_is_one_at_rest_and_negative_in_a_fold() -> None:
    field = np.zeros((1, 16, 16, 2), np.float32)
    assert np.allclose(plain.jacobian(field, SIDE), 1)
    field[0, 8, 8, 0] = 6  # the next centre is 4 pixels away: this one passes it
    assert plain.jacobian(field, SIDE).min() < 0


# --- augmentation and training


def test_landmarks_follow_the_pictures_through_augmentation() -> None:
    """A white dot at a landmark is still at it after mirroring, shifting and zooming."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.uniform(20, 44, (30, 1, 2)), 68, 1).astype(np.float32)
    y, x = np.mgrid[:SIDE, :SIDE]
    dots = np.exp(-((x - points[:, :1, :1]) ** 2 + (y - points[:, :1, 1:]) ** 2) / 8)[:, None]
    recipe = Recipe(shift=5.0, zoom=0.2)
    random = torch.Generator().manual_seed(0)
    moved, known = augment(
        torch.from_numpy(dots).float(), torch.from_numpy(points), which_mirrored(30, recipe, random), recipe, random
    )
    assert known is not None
    weight = moved[:, 0].clamp_min(0) / moved[:, 0].clamp_min(0).sum((1, 2), keepdim=True)
    centre = torch.stack([(weight * torch.from_numpy(x)).sum((1, 2)), (weight * torch.from_numpy(y)).sum((1, 2))], 1)
    assert (centre - known[:, 0]).abs().max() < 0.2
    assert (known[:, 0] - torch.from_numpy(points)[:, 0]).abs().mean() > 2


def test_the_appearance_has_every_face_at_the_mean_landmarks(shaped_data: Path) -> None:
    """Warped by their landmarks, faces differ less from one another than they did: their parts lie on each other."""
    dataset = open_dataset(shaped_data)
    assert dataset.landmarks is not None
    frame = MeanFrame(torch.from_numpy(mean_landmarks(dataset.landmarks, 32, False)), 32)
    x = to_pictures(dataset.images[:200], "cpu")
    appearance = frame.appearance(x, torch.from_numpy(dataset.landmarks[:200]))
    around_eyes = (slice(None), slice(None), slice(8, 14), slice(6, 26))
    normal = [part / part.mean((1, 2, 3), keepdim=True) for part in (x[around_eyes], appearance[around_eyes])]
    assert normal[1].var(0).mean() < 0.8 * normal[0].var(0).mean()


def test_a_model_with_shape_learns_the_landmarks_field(shaped_run: Path, shaped_data: Path) -> None:
    dataset = open_dataset(shaped_data)
    assert dataset.landmarks is not None
    model, _, _ = load_run(shaped_run, dataset.image_shape)
    assert model.shape
    rows = dataset.validation
    target = MeanFrame(model.landmarks, 32).field(torch.from_numpy(dataset.landmarks[rows]))
    x = to_pictures(dataset.images[rows], "cpu")
    with torch.no_grad():
        code = model.encode(x)[0]
        picture, appearance, field = model.decoder.parts(code, code)  # type: ignore[operator]
    assert (field - target).square().mean() < 0.7 * target.square().mean()
    assert torch.allclose(warp(appearance, field), picture)
    assert (picture.clamp(0, 1) - x).square().mean() < 0.02


def test_random_faces_have_no_folds(shaped_run: Path, shaped_data: Path) -> None:
    dataset = open_dataset(shaped_data)
    model, recipe, _ = load_run(shaped_run, dataset.image_shape)
    flow = fit(encode_all(model, dataset.images, training_rows(recipe, dataset), True), model, 0, 0)
    with torch.no_grad():
        field = model.decoder.shape(flow(torch.randn(500, 16, generator=torch.Generator().manual_seed(0))))  # type: ignore[operator]
    determinant = plain.jacobian(field.permute(0, 2, 3, 1).numpy(), 32)
    assert (determinant > 0).mean() > 0.999


def test_random_faces_of_the_shipped_model_have_no_folds_inside_the_face() -> None:
    from matplotlib.path import Path as Outline

    import morphing_faces as mf

    model = mf.load()
    determinant = plain.jacobian(model.fields(model.sample(300, seed=5)), 128)
    between = (np.arange(15) + 1) * 8 - 0.5  # the places of its values, in pixels
    places = np.stack(np.meshgrid(between, between), -1).reshape(-1, 2)
    jaw_and_brows = model.mean_landmarks[[*range(17), *range(26, 16, -1)]]
    inside = Outline(jaw_and_brows).contains_points(places).reshape(15, 15)
    assert inside.sum() > 50
    assert (determinant[:, inside] > 0).mean() > 0.999


def test_a_data_set_without_landmarks_trains_without_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "faces.npy", drawn_faces(60, 32))
    prepare([str(tmp_path / "faces.npy")], tmp_path / "data", size=32, progress=False)
    dataset = open_dataset(tmp_path / "data")
    recipe = from_dict({**SHAPED, "steps": 2, "latent_size": 4})
    train(recipe, dataset, tmp_path / "run", device="cpu", progress=False)
    model, _, _ = load_run(tmp_path / "run", dataset.image_shape)
    assert not model.shape


def test_one_step_is_a_function_of_its_arguments(shaped_data: Path) -> None:
    dataset: Dataset = open_dataset(shaped_data)
    recipe = from_dict(SHAPED)
    rows = training_rows(recipe, dataset)[:16]
    answers = []
    for _ in range(2):
        trainer = Trainer(recipe, new_model(recipe, dataset), torch.device("cpu"))
        assert dataset.landmarks is not None
        metrics = trainer.step(
            0, 0.0, torch.from_numpy(dataset.images[rows]), torch.from_numpy(dataset.landmarks[rows])
        )
        answers.append({key: float(value) for key, value in metrics.items()})
    assert answers[0] == answers[1]
    assert answers[0]["guide"] != 0
    assert answers[0]["bad"] == 0


def test_the_initial_model_is_the_mean_face_at_rest(shaped_data: Path) -> None:
    model: VAE = new_model(from_dict(SHAPED), open_dataset(shaped_data))
    with torch.no_grad():
        _, appearance, field = model.decoder.parts(torch.randn(3, 16), torch.randn(3, 16))  # type: ignore[operator]
    assert not field.any()
    assert (appearance - model.decoder.units.mean_face).abs().mean() < 0.1


def test_a_smooth_shuffle_is_a_pixel_shuffle_and_a_smoothing() -> None:
    x = torch.rand(2, 12, 6, 6, generator=torch.Generator().manual_seed(0))
    found = SmoothShuffle(3)(x)
    weights = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (weights[:, None] * weights).expand(3, 1, 3, 3)
    torch.testing.assert_close(found, F.conv2d(F.pixel_shuffle(x, 2), kernel, padding=1, groups=3))


def test_a_smooth_shuffle_leaves_no_grid() -> None:
    """Channels that differ, as those of a pixel shuffle's do, make stripes of one pixel; none are left inside."""
    x = torch.tensor([1.0, -1.0, -1.0, 1.0]).reshape(1, 4, 1, 1).expand(1, 4, 8, 8)
    assert F.pixel_shuffle(x, 2).std() == pytest.approx(1, abs=0.01)
    assert not SmoothShuffle(1)(x)[:, :, 2:-2, 2:-2].any()

"""The figures of a bundle: formulas against known cases, what is wrong said in one line, and the command."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morphing_faces as mf
from conftest import Run, drawn_faces
from morphing_faces import evaluate as evaluating
from morphing_faces.dataset import Dataset, open_dataset
from morphing_faces.evaluate import (
    Eigenfaces,
    Settings,
    bounds,
    evaluate,
    inception_frechet,
    inside_face,
    reconstruction,
    table,
)
from morphing_faces.metrics import Describer, MissingMetrics, framed, frechet, precision_recall
from morphing_faces.render import to_uint8


@pytest.fixture(scope="module")
def data(tiny_data: Path) -> Dataset:
    return open_dataset(tiny_data)


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> mf.Model:
    return mf.load(tiny_bundle)


# --- distances between sets


def test_the_frechet_distance_of_a_set_to_itself_is_zero() -> None:
    a = np.random.default_rng(0).standard_normal((300, 6))
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_is_scipys_formula() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5)), rng.standard_normal((250, 5)) * 2 + 1
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet(a, b) == pytest.approx(1000 * expected, rel=1e-6)


def test_the_frechet_distance_of_shifted_gaussians_is_the_squared_shift() -> None:
    a = np.random.default_rng(2).standard_normal((500, 3))
    assert frechet(a, a + np.array([0.3, 0, 0.4])) == pytest.approx(1000 * 0.25, rel=1e-6)


def test_precision_and_recall_of_equal_sets_are_one_and_of_distant_sets_zero() -> None:
    a = np.random.default_rng(3).standard_normal((60, 4))
    assert precision_recall(a, a) == (1.0, 1.0)
    assert precision_recall(a, a + 100) == (0.0, 0.0)


def test_half_of_the_modes_give_full_precision_and_half_recall() -> None:
    rng = np.random.default_rng(4)
    left, right = rng.normal(0, 0.1, (100, 2)), rng.normal(10, 0.1, (100, 2))
    precision, recall = precision_recall(np.concatenate([left, right]), left + rng.normal(0, 0.001, left.shape))
    assert precision == 1.0
    assert recall == pytest.approx(0.5, abs=0.05)


def test_the_radius_is_the_distance_to_the_third_neighbour() -> None:
    real = np.array([[0.0], [1], [2], [3], [4]])  # the third neighbour of 0 is at 3, of 4 too, of 1 at 2, of 2 at 2
    assert precision_recall(real, np.array([[-2.9], [7.1], [6.9], [50]]))[0] == 0.5


def test_too_few_pictures_for_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 10 pictures: precision and recall need more than 3 of each"):
        precision_recall(np.zeros((3, 2)), np.zeros((10, 2)))


# --- faces


def test_pictures_are_framed_as_the_figures_say() -> None:
    picture = np.zeros((16, 16, 1), np.uint8)
    picture[0, 0] = 255
    (seen,) = framed(picture[None])
    assert seen.shape == (280, 280, 3)
    assert (seen[:40, :40] == seen[40, 40]).all(), "the edge is replicated"
    assert seen[40, 40].min() > 200
    assert seen[100, 100].max() == 0


def test_a_face_of_the_shipped_model_is_found_and_described_and_grey_is_not() -> None:
    shipped = mf.load("classic")
    faces = to_uint8(shipped.decode(shipped.sample(3, seed=9)))
    describer = Describer()
    assert describer.found(faces) == 1.0
    assert describer.found(np.full((2, 48, 48, 1), 128, np.uint8)) == 0.0
    one, other = describer.describe(faces[:2])
    assert one.shape == (128,)
    assert np.linalg.norm(one - describer.describe(faces[:1])[0]) < 1e-6 < np.linalg.norm(one - other)


@pytest.mark.parametrize("absent", ["dlib", "face_recognition_models"])
def test_what_is_missing_is_named_with_the_remedy(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    if absent == "dlib":
        monkeypatch.setitem(sys.modules, "dlib", None)
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(
        MissingMetrics, match=rf"{absent} is not installed: pip install 'morphing-faces\[metrics\]'.*--no-faces"
    ):
        Describer()


# --- bounds and reconstructions


class Linear:
    """A linear Gaussian model, whose likelihood is known: x = u / 2 + noise, four pixels, two latent dimensions."""

    name, image_shape, latent_size = "linear", (2, 2, 1), 2
    sigma = 0.25

    def decode(self, u: np.ndarray) -> np.ndarray:
        u = np.asarray(u, np.float32)
        return np.concatenate([u / 2, u * 0], 1).reshape(-1, 2, 2, 1)

    def encode(self, pictures: np.ndarray) -> Any:
        x = pictures.reshape(len(pictures), 4)[:, :2] / np.float32(255)
        precision = 1 + 0.25 / self.sigma**2
        return mf.model.Posterior(x * 0.5 / self.sigma**2 / precision, np.full_like(x, precision**-0.5))


def test_the_bounds_are_those_of_a_model_whose_likelihood_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    model, count = Linear(), 2000
    x = model.decode(rng.standard_normal((count, 2))) + model.sigma * rng.standard_normal((count, 2, 2, 1))
    held_out = np.arange(count) % 2 == 0
    # The pixels go below 0 and above 1, which a picture's never do; the formulas do not mind.
    data = Dataset(Path(), (x * 255).astype(np.float32), held_out, {}, {})
    found = bounds(model, data, Settings(pictures=1000, k=4))  # type: ignore[arg-type]
    variances = np.array([0.25 + model.sigma**2] * 2 + [model.sigma**2] * 2)
    flat = x[held_out].reshape(-1, 4)
    exact = (-0.5 * (np.square(flat) / variances + np.log(2 * np.pi * variances)).sum(1)).mean()
    assert found["sigma"] == pytest.approx(model.sigma, rel=0.05)
    # With the exact posterior both bounds are the likelihood itself.
    assert found["elbo"] == pytest.approx(exact, abs=0.05)
    assert found["iwae"] == pytest.approx(exact, abs=0.05)
    assert found["elbo_bits_per_dimension"] == pytest.approx(-found["elbo"] / 4 / math.log(2) + 8)
    assert found["aggregate_gap"] < 0.02
    assert found["active_units"] == 2
    assert found["kl"] == pytest.approx(sum(found["kl_per_dimension"]), rel=1e-4)


def test_the_importance_weighted_bound_grows_with_k_and_is_above_the_elbo(model: mf.Model, data: Dataset) -> None:
    one, many = (bounds(model, data, Settings(pictures=1000, k=k)) for k in (1, 16))
    assert many["iwae"] > one["iwae"]
    assert many["iwae"] > many["elbo"]
    assert one["elbo_error"] > 0


def test_psnr_and_ssim_of_a_known_error(data: Dataset) -> None:
    rows = data.validation
    same = reconstruction(data, rows, lambda x: x / np.float32(255))
    assert same["psnr"] > 100
    assert same["ssim"] == pytest.approx(1)
    off = reconstruction(data, rows, lambda x: x / np.float32(255) + np.float32(0.1))
    assert off["psnr"] == pytest.approx(20, abs=0.01)
    assert off["ssim"] < 1


def test_errors_inside_the_face_are_counted_by_themselves(shaped_data: Path) -> None:
    data = open_dataset(shaped_data)
    assert data.landmarks is not None
    inside = inside_face(data.landmarks, data.image_shape)
    assert 0.2 < inside.mean() < 0.7
    assert inside[16, 16], "the middle of the face"
    assert not inside[0].any(), "the hair"

    def spoil(x: np.ndarray) -> np.ndarray:
        made = x / np.float32(255)
        made[:, ~inside] += np.float32(0.1)
        made[:, inside] += np.float32(0.01)
        return made

    found = reconstruction(data, data.validation, spoil, inside)
    assert found["psnr_inside"] == pytest.approx(40, abs=0.01)
    assert 20 < found["psnr"] < 24


class Corners:
    """Describes pictures quickly, by their smallest version."""

    def describe(self, pictures: np.ndarray) -> np.ndarray:
        small = pictures[:, ::16, ::16].reshape(len(pictures), -1) / 255.0
        return small + np.random.default_rng(0).normal(0, 1e-3, small.shape)

    def found(self, pictures: np.ndarray) -> float:
        return 1.0


def test_frontal_faces_are_measured_beside_all(
    shaped_bundle: Path, shaped_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "Describer", Corners)
    data = open_dataset(shaped_data)
    assert data.landmarks is not None
    turned = data.landmarks.copy()
    turned[data.validation[:5], 30, 0] += 16
    turned[data.validation[5]] = np.nan
    figures = evaluate(
        mf.load(shaped_bundle),
        dataclasses.replace(data, landmarks=turned),
        Settings(samples=12, pictures=8, k=2, eigenfaces=False),
    )
    assert figures["frontal"]["pictures"] == figures["pictures"] - 6
    assert {"psnr", "psnr_inside", "frechet", "recall", "precision"} <= set(figures["frontal"])
    assert "frontal" in table("shaped", figures).splitlines()[0]
    assert "inside the face" in table("shaped", figures)


def test_eigenfaces_reconstruct_what_they_were_made_of_and_sample_their_variance(data: Dataset) -> None:
    pca = Eigenfaces(data, 20)
    rows = data.training
    assert (
        reconstruction(data, rows, pca.reconstruct)["psnr"]
        > reconstruction(data, rows, Eigenfaces(data, 2).reconstruct)["psnr"]
    )
    made = pca.sample(200, np.random.default_rng(0))
    assert made.shape == (200, *data.image_shape)
    assert made.std(0).mean() == pytest.approx((data.images[rows] / 255).std(0).mean(), rel=0.25)


# --- the whole


def test_all_figures_are_there_and_finite(model: mf.Model, data: Dataset) -> None:
    heard: list[str] = []
    figures = evaluate(model, data, Settings(samples=8, pictures=8, k=2), heard.append)
    assert {
        "elbo",
        "iwae",
        "kl",
        "active_units",
        "psnr",
        "ssim",
        "frechet",
        "precision",
        "recall",
        "face_found",
    } <= set(figures)
    assert set(figures["reference"]) == {"real", "eigenfaces"}
    assert "frechet" in figures["aggregate"]
    assert all(math.isfinite(figures[key]) for key in ("elbo", "iwae", "psnr", "ssim", "frechet", "aggregate_gap"))
    assert len(figures["kl_per_dimension"]) == model.latent_size
    assert heard
    text = table("tiny", figures)
    for title in ("tiny", "eigenfaces", "real", "IWAE, k = 2", "bits/dim"):
        assert title in text


def test_the_same_seed_gives_the_same_figures(model: mf.Model, data: Dataset) -> None:
    settings = Settings(pictures=8, k=2, faces=False, eigenfaces=False)
    assert evaluate(model, data, settings) == evaluate(model, data, settings)


def test_pictures_that_do_not_fit_are_refused_with_the_remedy(data: Dataset) -> None:
    with pytest.raises(
        ValueError, match=r"pictures of shape \(16, 16, 1\), classic needs \(48, 48, 1\).*--size 48 --grey"
    ):
        evaluate(mf.load("classic"), data, Settings())


@pytest.mark.parametrize(
    ("key", "value", "least"), [("samples", 7, 8), ("pictures", 1, 2), ("k", 0, 1), ("seed", -1, 0)]
)
def test_a_setting_out_of_range_is_refused(key: str, value: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"{key} = {value}: must be {least} or more"):
        Settings(**{key: value})  # type: ignore[arg-type]


def test_inception_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r"torch-fidelity is not installed: pip install 'morphing-faces\[inception\]'"):
        inception_frechet(drawn_faces(2), drawn_faces(2))


def test_inception_gives_the_library_both_sets_and_says_when_its_network_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = types.ModuleType("torch_fidelity")
    seen: dict[str, int] = {}

    def calculate(input1: str, input2: str, **_: Any) -> dict[str, float]:
        seen.update(made=len(list(Path(input1).glob("*.png"))), real=len(list(Path(input2).glob("*.png"))))
        return {"frechet_inception_distance": 42.0}

    def refuse(**_: Any) -> dict[str, float]:
        raise OSError("no route")

    monkeypatch.setitem(sys.modules, "torch_fidelity", library)
    monkeypatch.setattr(library, "calculate_metrics", calculate, raising=False)
    assert inception_frechet(drawn_faces(3), drawn_faces(2)) == 42.0
    assert seen == {"real": 3, "made": 2}
    monkeypatch.setattr(library, "calculate_metrics", refuse)
    with pytest.raises(ValueError, match=r"cannot be downloaded \(no route\): leave out --inception"):
        inception_frechet(drawn_faces(2), drawn_faces(2))


# --- the command


def test_the_command_prints_a_table_or_json_and_writes_into_the_manifest(
    bundle_copy: Path, tiny_data: Path, command: Run
) -> None:
    few = ("--pictures", 8, "--k", 2, "--no-faces", "--no-eigenfaces")
    shown = command("evaluate", bundle_copy, "--data", tiny_data, *few)
    assert shown.returncode == 0, shown.stderr
    assert "reconstruction PSNR" in shown.stdout
    assert "evaluation" not in json.loads((bundle_copy / "manifest.json").read_text())["figures"]
    written = command("evaluate", bundle_copy, "--data", tiny_data, *few, "--json", "--write")
    assert written.returncode == 0, written.stderr
    figures = json.loads(written.stdout)
    del figures["kl_per_dimension"]  # the manifest has these from the export
    assert json.loads((bundle_copy / "manifest.json").read_text())["figures"]["evaluation"] == figures
    assert "reconstruction PSNR" in command("info", bundle_copy).stdout
    assert mf.load(bundle_copy).name == "tiny", "the bundle stays usable"


def test_the_command_says_what_is_wrong_in_one_line(tiny_bundle: Path, tmp_path: Path, command: Run) -> None:
    result = command("evaluate", tiny_bundle, "--data", tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "is not a prepared data set" in result.stderr


def test_a_describer_is_used_only_when_faces_are_wanted(
    model: mf.Model, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise AssertionError("faces were not asked for")

    monkeypatch.setattr(evaluating, "Describer", refuse)
    evaluate(model, data, Settings(pictures=8, k=1, faces=False, eigenfaces=False))

"""Photographs: into the frame, into the latent space, and moved at their own sharpness."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import morphing_faces as mf
from conftest import drawn_landmarks
from morphing_faces import morph, photo
from morphing_faces.align import Frame
from morphing_faces.cli import main
from morphing_faces.errors import UserError
from morphing_faces.model import Attribute
from morphing_faces.pictures import to_uint8
from scene import background, paste


class Shaped:
    """A model with shape, as small as can be: z[0] is how light the face is, z[1] moves its middle, z[2] and z[3] nothing.

    Its encoder sees half of the lightness only, as encoders do.
    """

    name = "shaped"
    image_shape = (32, 32, 3)
    latent_size = 4
    dimensions = (0, 1, 2, 3)
    has_shape = True
    mean_landmarks = drawn_landmarks(1, 32)[0]
    attributes: ClassVar[dict[str, Attribute]] = {
        "light": Attribute(np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 0, 0]), "dark", "light", 1.0)
    }

    def need_shape(self) -> None:
        if not self.has_shape:
            raise UserError("the model 'shaped' has no shape")

    def decode(self, z: Any) -> np.ndarray:
        z = np.atleast_2d(np.asarray(z, np.float32))
        return np.broadcast_to((0.5 + 0.2 * z[:, 0])[:, None, None, None], (len(z), 32, 32, 3)).clip(0, 1)

    def encode(self, pictures: np.ndarray) -> Any:
        x = pictures / np.float32(255) if pictures.dtype == np.uint8 else pictures
        mean = np.zeros((len(x), 4), np.float32)
        mean[:, 0] = 0.5 * (x.mean((1, 2, 3)) - 0.5) / 0.2
        return SimpleNamespace(mean=mean, std=np.ones_like(mean))

    def parts(self, z: Any) -> Any:
        z = np.atleast_2d(np.asarray(z, np.float32))
        field = np.zeros((len(z), 16, 16, 2), np.float32)
        field[:, 6:10, 6:10, 0] = z[:, 1, None, None]
        return SimpleNamespace(appearance=self.decode(z), field=field, landmarks=np.zeros((len(z), 68, 2)))

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


EYES = ((90.0, 80.0), (140.0, 86.0))


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(60, 200, (20, 26, 3), np.uint8))
    return np.asarray(small.resize((260, 200), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def face_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph: a face of the default bundle, turned and pasted into a scene."""
    model = mf.load()
    scene = background(520, 400)
    paste(scene, to_uint8(model.decode(0.8 * model.sample(2, seed=3)))[1], 280, 170, 90, 9)
    path = tmp_path_factory.mktemp("photographs") / "person.png"
    scene.save(path)
    return path


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is done with a likeness: not as near as it could be, and at once."""
    monkeypatch.setattr(photo, "fitted", lambda model, target, z: z)


# --- moved


def test_at_its_own_face_a_photograph_is_itself_to_the_bit(picture: np.ndarray) -> None:
    photograph = photo.Photograph(Shaped(), picture, EYES)  # type: ignore[arg-type]
    assert np.array_equal(photograph.at(photograph.z0), picture)
    nearly = photograph.z0.copy()
    nearly[3] = 1  # does nothing
    assert np.array_equal(photograph.at(nearly), picture)


def test_a_photograph_follows_light_and_shape(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphing_faces.photo.UNLIKE", 0.0)  # the stand-in draws nobody's face
    photograph = photo.Photograph(Shaped(), picture, EYES)  # type: ignore[arg-type]
    x, y = np.array(Frame.of(EYES).corner) + Frame.of(EYES).side * np.array([0.45, 0.5])
    lighter = photograph.z0 + np.array([1, 0, 0, 0], np.float32)
    middle = np.s_[round(y) - 8 : round(y) + 8, round(x) - 8 : round(x) + 8]
    assert photograph.at(lighter)[middle].mean() > 1.15 * picture[middle].mean()
    moved = photograph.at(photograph.z0 + np.array([0, 3, 0, 0], np.float32))
    assert (moved[middle] != picture[middle]).mean() > 0.5
    assert abs(moved[middle].mean() / picture[middle].mean() - 1) < 0.1
    assert np.array_equal(moved[:10], picture[:10])
    assert photograph.face_at(lighter, 96).shape == (96, 96, 3)


@pytest.mark.parametrize(("limit", "value", "hard"), [("TURNED", -1.0, "turned"), ("UNLIKE", 99.0, "unlike")])
def test_a_photograph_that_is_hard_is_moved_less(
    picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, hard: str
) -> None:
    monkeypatch.setattr("morphing_faces.photo.UNLIKE", 0.0)
    photograph = photo.Photograph(Shaped(), picture, EYES)  # type: ignore[arg-type]
    there = photograph.z0 + np.array([1, 1, 0, 0], np.float32)
    whole = np.abs(photograph.at(there).astype(int) - picture)
    face = photograph.face_at(there, 96)
    assert not photograph.hard
    monkeypatch.setattr(f"morphing_faces.photo.{limit}", value)
    assert photograph.hard == hard
    part = np.abs(photograph.at(there).astype(int) - picture)
    assert 0.2 * whole.mean() < part.mean() < 0.6 * whole.mean()
    assert np.array_equal(photograph.at(photograph.z0), picture)
    assert np.array_equal(photograph.face_at(there, 96), face), "in a film it has to meet another face"


def test_a_bundle_without_shape_moves_no_photograph(picture: np.ndarray) -> None:
    model = Shaped()
    model.has_shape = False
    with pytest.raises(UserError, match="no shape"):
        photo.Photograph(model, picture, EYES)  # type: ignore[arg-type]


def test_edit_writes_the_whole_picture(picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("morphing_faces.model.load", lambda _: Shaped())
    Image.fromarray(picture).save(tmp_path / "a.png")
    eyes = ",".join(str(v) for eye in EYES for v in eye)

    def run(*arguments: str) -> Any:
        line = ["edit", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--eyes", eyes, *arguments]
        return CliRunner().invoke(main, line)

    assert run("--knob", "light=0").exit_code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), picture)
    assert run("--knob", "light=1", "--dimension", "1=2").exit_code == 0
    assert (np.asarray(Image.open(tmp_path / "b.png")) != picture).any()
    monkeypatch.setattr("morphing_faces.photo.TURNED", -1.0)
    assert "turned too far" in run("--knob", "light=1").output
    assert "turned too far" not in run("--knob", "light=0").output
    monkeypatch.setattr("morphing_faces.photo.TURNED", 9.0)
    monkeypatch.setattr("morphing_faces.photo.UNLIKE", 99.0)
    assert "a rough likeness" in run("--knob", "light=1").output
    for wrong, words in (
        (("--knob", "beard=1"), "attribute 'beard': must be one of light"),
        (("--knob", "light"), "must be a name, = and a number"),
        (("--dimension", "9=1"), "dimensions are whole numbers from 0 to 3"),
        (("--dimension", "x=1"), "dimensions are 0 to 3"),
    ):
        result = run(*wrong)
        assert result.exit_code
        assert words in result.output


# --- into the latent space


def test_the_refined_likeness_is_nearer_and_never_worse() -> None:
    model = Shaped()
    pictures = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (60, 127, 200)])
    wanted = pictures / np.float32(255)

    def error(z: np.ndarray) -> Any:
        return np.square(model.decode(z) - wanted).mean((1, 2, 3))

    first, refined = model.encode(pictures).mean, photo.likeness(model, pictures)  # type: ignore[arg-type]
    assert (error(refined) <= error(first)).all()
    assert error(refined)[[0, 2]].max() < 0.1 * error(first)[[0, 2]].min()


def test_a_real_model_comes_nearer_to_faces() -> None:
    model = mf.load()
    pictures = to_uint8(model.decode(1.2 * model.sample(1, seed=5)))[:, :, ::-1]  # mirrored: never decoded so
    wanted = pictures / np.float32(255)

    def db(z: np.ndarray) -> float:
        return float(np.mean(-10 * np.log10(np.square(model.decode(z) - wanted).mean((1, 2, 3)))))

    first, asked = model.encode(pictures).mean, photo.asked_again(model, wanted)
    assert db(asked) > db(first) + 0.2
    assert db(photo.likeness(model, pictures)) > db(asked) + 1.0


def test_a_fitted_latent_is_never_further_and_stays_where_nothing_is_nearer() -> None:
    model = Shaped()
    wanted = np.full((32, 32, 3), 0.7, np.float32)
    near = photo.fitted(model, wanted, np.array([-1, 2, 0, 0], np.float32))  # type: ignore[arg-type]
    np.testing.assert_allclose(near[0], 1.0, atol=0.02)
    assert not near[2:].any(), "what is not seen is left alone"
    np.testing.assert_allclose(model.decode(near)[0], wanted, atol=0.005)
    there = photo.fitted(model, model.decode(near)[0], near)  # type: ignore[arg-type]
    assert np.array_equal(there, near), "nothing is nearer than the face itself"


def test_pictures_are_averaged_to_about_the_side_at_which_they_are_compared() -> None:
    for side, part in ((130, 2), (128, 2), (64, 1), (48, 1), (200, 3)):
        picture = np.random.default_rng(0).random((1, side, side, 2))
        small, area = photo.shrunk(picture)
        assert area == part**2
        count = side // part
        assert small.shape == (1, count * count * 2)
        np.testing.assert_allclose(
            small.reshape(count, count, 2)[-1, 0], picture[0, (count - 1) * part : count * part, :part].mean((0, 1))
        )


def test_what_is_in_the_frame_is_only_resized() -> None:
    model = mf.load()
    face = to_uint8(model.decode(0.7 * model.sample(1, seed=3)))[0]
    assert np.array_equal(photo.framed(face, (128, 128, 3)), face)


def test_a_face_in_a_scene_comes_into_the_frame(face_file: Path) -> None:
    model = mf.load()
    face = to_uint8(model.decode(0.8 * model.sample(2, seed=3)))[1]
    again = photo.framed(np.asarray(Image.open(face_file)), (128, 128, 3))
    assert np.abs(again[20:110, 15:113].astype(int) - face[20:110, 15:113]).mean() < 12


# --- the command line


def test_encode_and_what_goes_on_from_there(face_file: Path, tmp_path: Path, rough: None) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    face = tmp_path / "face.json"
    run("encode", str(face_file), "-o", str(face))
    session = mf.Session(mf.load())
    session.load(face)
    assert session.frozen
    run("align", str(face_file), "-o", str(tmp_path / "aligned.png"), "--size", "100")
    assert Image.open(tmp_path / "aligned.png").size == (100, 100)
    assert "PSNR" in run("reconstruct", str(face_file), "-o", str(tmp_path / "pair.png"))
    run("mix", str(face), "seed:3", "-o", str(tmp_path / "mean.json"), "--weights", "1,0")
    mixed = mf.Session(mf.load())
    mixed.load(tmp_path / "mean.json")
    assert mixed.z == pytest.approx(session.z, abs=1e-5)
    run("morph", str(face), "seed:3", "-o", str(tmp_path / "f.mp4"), "--seconds", "0.4", "--rate", "10", "--size", "64")
    av = pytest.importorskip("av", reason="of the extra [test]")
    with av.open(str(tmp_path / "f.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape == (64, 64, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 5


def test_one_bad_picture_does_not_stop_the_others(face_file: Path, tmp_path: Path, rough: None) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("one.png", "two.PNG"):
        (folder / name).write_bytes(face_file.read_bytes())
    (folder / "bad.jpg").write_bytes(b"no picture")
    Image.new("RGB", (80, 60), "blue").save(folder / "empty.png")
    result = CliRunner().invoke(main, ["encode", str(folder), "-o", str(out)])
    assert result.exit_code == 1
    assert "bad.jpg is not a picture" in result.output
    assert "empty.png: no face was found" in result.output
    assert "2 of 4 pictures could not be used" in result.output
    assert sorted(path.name for path in out.iterdir()) == ["one.json", "two.json"]
    assert json.loads((out / "one.json").read_text())["frozen"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["morph", "seed:1", "-o", "f.gif"], "at least two faces"),
        (["morph", "seed:x", "seed:1", "-o", "f.gif"], "seed: and a whole number"),
        (["morph", "seed:1", "seed:2", "-o", "f.avi"], "must end in"),
        (["mix", "seed:1", "seed:2", "-o", "m.png", "--weights", "1,a"], "must be 2 numbers"),
        (["mix", "seed:1", "none.json", "-o", "m.png"], "none.json cannot be read"),
        (["align", "none.png", "-o", "m.png"], "none.png"),
        (["align", "a.png", "b.png", "-o", "m.png"], "give the name of one"),
        (["align", "a.png", "-o", "m.png", "--eyes", "1,2,3"], "must be four numbers"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code
    assert words in result.output
    assert not list(tmp_path.iterdir())


def test_a_film_of_photographs_fades_from_one_to_the_other(picture: np.ndarray) -> None:
    a = photo.Photograph(Shaped(), picture, EYES)  # type: ignore[arg-type]
    b = photo.Photograph(Shaped(), 255 - picture, EYES)  # type: ignore[arg-type]
    frames = list(morph.film([a, b], 5, 48, loop=False))
    assert np.array_equal(frames[0], a.face_at(a.z0, 48))
    assert np.array_equal(frames[-1], b.face_at(b.z0, 48))
    ends = (frames[0].astype(int) + frames[-1]) / 2
    assert np.abs(frames[2] - ends).mean() < 25


def test_a_saved_face_that_keeps_a_shape_keeps_it_in_films_and_mixes(shaped_bundle: Path, tmp_path: Path) -> None:
    model = mf.load(shaped_bundle)
    session = mf.Session(model, 3)
    shape = session.z
    session.toggle_still("shape")
    session.shuffle()
    session.save(tmp_path / "kept.json")
    look, own = morph.face(model, str(tmp_path / "kept.json"))
    np.testing.assert_allclose(look, session.z, atol=1e-6)
    np.testing.assert_allclose(np.array(own), shape, atol=1e-6)
    people = [morph.person(model, text) for text in (str(tmp_path / "kept.json"), "seed:7")]
    first, between, last = morph.film(people, 3, model.image_shape[0], loop=False)
    assert np.array_equal(first, to_uint8(model.decode(look, own))[0])
    seven = model.sample(1, 7)[0]
    assert np.array_equal(last, to_uint8(model.decode(seven))[0])
    half = model.decode(morph.slerp(look, seven, 0.5), morph.slerp(shape, seven, 0.5))
    assert np.array_equal(between, to_uint8(half)[0])
    morph.save_mix(model, [str(tmp_path / "kept.json"), "seed:7"], "1,3", tmp_path / "mix.json", None)
    mixed, mixed_shape = morph.face(model, str(tmp_path / "mix.json"))
    np.testing.assert_allclose(mixed, morph.mean([look, seven], [1, 3]), atol=1e-4)
    np.testing.assert_allclose(np.array(mixed_shape), morph.mean([shape, seven], [1, 3]), atol=1e-4)


def test_prepare_aligns_and_skips_what_has_no_face(face_file: Path, tmp_path: Path) -> None:
    from morphing_faces.dataset import open_dataset
    from morphing_faces.prepare import prepare

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "person.png").write_bytes(face_file.read_bytes())
    Image.new("RGB", (400, 300), "blue").save(folder / "empty.png")
    record = prepare([str(folder)], tmp_path / "out", size=64, align=True, progress=False)
    assert [each["why"] for each in record["skipped"]] == ["no face was found"]
    (aligned,) = open_dataset(tmp_path / "out").images
    assert np.abs(aligned.astype(int) - photo.framed(np.asarray(Image.open(face_file)), (64, 64, 3))).max() == 0

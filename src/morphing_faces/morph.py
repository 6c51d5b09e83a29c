"""Ways between faces, and their mean: on the great circle, so that what lies between is as typical as the ends."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import UserError, tell
from .files import atomic_write
from .noise import check_seed
from .photo import Photograph, framed, likeness, open_photograph, pictures_of
from .pictures import enlarge, read_picture, save_picture, to_uint8
from .rules import say
from .session import Session, Still

if TYPE_CHECKING:
    from .model import Model


class Drawn:
    """A face that the model draws: ``z0`` (latent_size,) is its latent, ``shape0`` that of its shape where it has another's."""

    def __init__(self, model: Model, z0: np.ndarray, shape0: np.ndarray | None = None):
        self.model, self.z0, self.shape0 = model, z0, shape0

    def face_at(self, z: np.ndarray, size: int, shape: np.ndarray | None = None) -> np.ndarray:
        """The face at ``z``, or its appearance on the shape of ``shape``: uint8 (size, size, 3)."""
        picture = enlarge(to_uint8(self.model.decode(z, shape)), size)[0]
        return np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture


Person = Drawn | Photograph


def face(model: Model, text: str) -> tuple[np.ndarray, np.ndarray | None]:
    """A face by what names it, ``seed:N``, a saved face (.json) or a photograph -> its latent, and its shape's.

    Each is (latent_size,); the second is ``None`` where the face has its own shape, as all have but saved faces of which
    a part was kept.
    """
    if text.startswith("seed:"):
        number = text.removeprefix("seed:")
        if not (number.isascii() and number.isdigit() and len(number) < 12):
            raise UserError(f"{text}: must be seed: and a whole number, as seed:7")
        return model.sample(1, check_seed(int(number)))[0], None
    if Path(text).suffix.lower() == ".json":
        session = Session(model)
        session.load(text)
        return session.parts(session.z)
    return likeness(model, framed(read_picture(text), model.image_shape, None, text)[None])[0], None


def person(model: Model, text: str) -> Person:
    """Who takes part in a morph: as :func:`face` reads them; a photograph at its own sharpness where the model can."""
    picture = not text.startswith("seed:") and Path(text).suffix.lower() != ".json"
    if picture and model.has_shape:
        return open_photograph(model, text)
    return Drawn(model, *face(model, text))


def people(model: Model, texts: Sequence[str]) -> tuple[list[Person], list[str]]:
    """Everybody who is named, those of folders included, and a line for each who cannot take part.

    Raises ``UserError`` when fewer than two can.
    """
    named: list[str] = []
    for text in texts:
        named += [os.fspath(p) for p in pictures_of((Path(text),))] if Path(text).is_dir() else [text]
    found: list[Person] = []
    wrong: list[str] = []
    for text in named:
        try:
            found.append(person(model, text))
        except (UserError, OSError) as error:
            wrong.append(tell(error))
    if len(found) < 2:
        raise UserError("; ".join([*wrong, f"a morph needs at least two faces, here are {len(found)}"]))
    return found, wrong


def save_mix(model: Model, texts: Sequence[str], weights: str | None, path: Path, size: int | None) -> None:
    """Write the mean of several faces as a picture, or as a face that a session loads (.json)."""
    try:
        numbers = [float(part) for part in weights.split(",")] if weights else None
    except ValueError:
        raise UserError(f"--weights {weights}: must be {len(texts)} numbers, as {','.join('1' * len(texts))}") from None
    faces = [face(model, text) for text in texts]
    z = mean([look for look, _ in faces], numbers)
    shapes = _shapes(faces)
    shape = mean(shapes, numbers) if shapes else None
    if path.suffix.lower() == ".json":
        session = Session(model)
        session.show(z, frozen=True, still=None if shape is None else Still("shape", shape))
        return session.save(path)
    with atomic_write(path) as temporary:
        save_picture(to_uint8(model.decode(z, shape))[0], temporary, size or model.image_shape[0])


def film(people: Sequence[Person], frames: int, size: int, loop: bool) -> Iterator[np.ndarray]:
    """Pictures uint8 (size, size, 3) of the way from person to person, each at ``z`` on the great circle.

    Where one of them has another's shape, appearance and shape go their own ways.
    Photographs move themselves; between two of them, or a photograph and a drawn face, both move and the one fades into
    the other.
    """
    for first, second, t in timetable(len(people), frames, loop):
        a, b = people[first], people[second]
        z, shapes = slerp(a.z0, b.z0, t), _shapes([(a.z0, a.shape0), (b.z0, b.shape0)])
        shape = slerp(shapes[0], shapes[1], t) if shapes else None
        if t == 0 or (isinstance(a, Drawn) and isinstance(b, Drawn)):
            yield a.face_at(z, size, shape)
        elif t == 1:
            yield b.face_at(z, size, shape)
        else:
            mixed = (1 - t) * a.face_at(z, size, shape).astype(np.float32) + t * b.face_at(z, size, shape)
            yield np.rint(mixed).astype(np.uint8)


def _shapes(faces: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> list[np.ndarray]:
    """The latents of the shapes of faces, as :func:`face` gives them; none where all of them have their own."""
    if all(shape is None for _, shape in faces):
        return []
    return [look if shape is None else shape for look, shape in faces]


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The point at ``t`` between two latents, each (latent_size,), 0 giving the first and 1 the second: float32.

    With a = r0 e0, b = r1 e1, |e| = 1 and the angle w between e0 and e1:
    ((1 - t) r0 + t r1) (sin((1 - t) w) e0 + sin(t w) e1) / sin w. The direction turns evenly and the norm grows evenly;
    a straight line would pass closer to 0, through faces blander than both. Where the circle is not defined (an end at
    0, or the ends in line) the straight line is taken.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    r0, r1 = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    cosine = min(max(float(a @ b) / (r0 * r1), -1.0), 1.0) if r0 > 0 and r1 > 0 else 1.0
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    if t in (0, 1):
        return (b if t else a).astype(np.float32)
    if sine < 1e-6:
        return ((1 - t) * a + t * b).astype(np.float32)
    p, q = np.sin((1 - t) * angle) / (sine * r0), np.sin(t * angle) / (sine * r1)
    return (((1 - t) * r0 + t * r1) * (p * a + q * b)).astype(np.float32)


def ease(t: float) -> float:
    """From 0 to 1, slow at both ends."""
    return t * t * (3 - 2 * t)


def timetable(faces: int, frames: int, loop: bool) -> list[tuple[int, int, float]]:
    """``frames`` frames from face to face as (from, to, t), slow at each of them; with ``loop`` back to the first.

    A film that repeats with ``loop`` shows the first face once: its last frame is just before it.
    """
    legs = faces if loop else faces - 1
    last = frames if loop else frames - 1
    out = []
    for frame in range(frames):
        at = legs * frame / max(last, 1)
        leg = min(int(at), legs - 1)
        out.append((leg, (leg + 1) % faces, ease(at - leg)))
    return out


def mean(latents: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """The mean of latents, each (latent_size,), on the way back to where they are: float32 (latent_size,).

    The plain mean of n unrelated faces lies 1 / sqrt(n) as far from 0 as they do, where faces are bland. As far out as they
    are, what they have in common would be exaggerated by sqrt(n). So the norm is between the two, their geometric mean.
    Raises ``UserError`` unless there is a weight of 0 or more for each, and one above 0.
    """
    z = np.stack([np.asarray(latent, np.float64) for latent in latents])
    w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    if w.shape != (len(z),) or not (np.isfinite(w).all() and (w >= 0).all() and w.sum() > 0):
        raise UserError(say("weights", weights=w.tolist(), count=len(z)))
    w = w / w.sum()
    total = w @ z
    norm = float(np.linalg.norm(total))
    wanted = float(w @ np.linalg.norm(z, axis=1))
    return (total * (math.sqrt(wanted / norm) if norm > 1e-6 else 1.0)).astype(np.float32)

"""A person's own photograph: into the frame, into the latent space, and moved itself, at its own sharpness."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import faces, follow, grab
from .align import EYES_AT, Eyes, Frame, cut
from .errors import UserError
from .files import atomic_write, output_file
from .metrics import psnr
from .pictures import WRITTEN, read_picture, save_picture, to_uint8
from .rules import (
    CUT_OUT,
    FACE_RADII,
    IN_FRAME,
    LIKENESS_BLOCK,
    LIKENESS_DAMPING,
    LIKENESS_PROBE,
    LIKENESS_PULL,
    LIKENESS_SIDE,
    LIKENESS_TRIES,
    PART_OF_WAY,
    TURNED,
    UNLIKE,
    say,
)
from .session import Session

if TYPE_CHECKING:
    from .model import Model

SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".jp2", ".pbm", ".pgm", ".png",
     ".ppm", ".tif", ".tiff", ".webp"}
)  # fmt: skip  # what is taken for a picture in a folder


def framed(
    picture: np.ndarray,
    image_shape: tuple[int, int, int],
    eyes: Eyes | None = None,
    name: str = "the picture",
    found: list[faces.Face] | None = None,
) -> np.ndarray:
    """Any upright picture, uint8 (height, width, 1 or 3) -> its largest face in the frame, uint8 of ``image_shape``.

    With ``eyes``, (x, y) of the one on the picture's left and of the other, no face is looked for; ``found`` are those that were found already. A picture that is
    in the frame already is only resized. Raises ``UserError`` where there is no face.
    """
    size, grey = image_shape[0], image_shape[2] == 1
    height, width = picture.shape[:2]
    whole = Frame((0.0, 0.0), float(width), (1.0, 0.0))
    if eyes is None:
        found = faces.find_faces(picture) if found is None else found
        if height == width and (_is_framed(found, width) or (not found and is_cut_out(picture))):
            return cut(picture, whole, size, grey)
        eyes = faces.largest(picture, name, found).eyes
    return cut(picture, Frame.of(eyes), size, grey)


def is_cut_out(picture: np.ndarray) -> bool:
    """Whether a picture is as small and square as faces are that somebody has cut out."""
    height, width = picture.shape[:2]
    return bool(height == width <= CUT_OUT)


def _is_framed(found: list[faces.Face], side: int) -> bool:
    if not found:
        return False
    return bool(np.abs(np.array(found[0].eyes) / side - EYES_AT).max() < IN_FRAME)


def likeness(model: Model, pictures: np.ndarray) -> np.ndarray:
    """Latents (n, latent_size) whose decoded faces are nearer to ``pictures`` than those of the encoder's first answer.

    ``pictures`` are as :meth:`Model.encode` takes them, (n, height, width, channels). First :func:`asked_again`, then
    :func:`fitted`: in all about as many decodes a picture as there are dimensions, one or two seconds on one core.
    """
    x = np.asarray(pictures)
    target = x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)
    return np.stack([fitted(model, picture, z) for picture, z in zip(target, asked_again(model, target), strict=True)])


def asked_again(model: Model, target: np.ndarray) -> np.ndarray:
    """Latents (n, latent_size) for pictures (n, height, width, channels) in [0, 1], a little nearer than the encoder's.

    What the encoder misses is asked of it again: z <- z + a (E(x) - E(D(z))), a few times and damped; of all answers the
    one with the smallest squared error is kept, so that it is never worse. It takes four decodes and encodes.
    """
    first = model.encode(target).mean
    z = best = first
    least = np.full(len(target), np.inf)
    for damping in (*LIKENESS_DAMPING, 0.0):
        decoded = model.decode(z)
        error = np.square(decoded - target).mean((1, 2, 3))
        best = np.where((error < least)[:, None], z, best)
        least = np.minimum(error, least)
        if damping:
            z = z + damping * (first - model.encode(decoded).mean)
    return best


def fitted(model: Model, target: np.ndarray, z: np.ndarray) -> np.ndarray:
    """A latent (latent_size,) whose face is nearer than that of ``z`` to ``target``, (height, width, channels) in [0, 1].

    Gauss-Newton steps, one for each block of ``LIKENESS_BLOCK`` dimensions, the most visible first. The Jacobian is measured: each
    dimension is moved by ``LIKENESS_PROBE`` and drawn. Of a step that part is taken which is nearest, or none: the answer
    is never further than ``z``.
    """
    size, face = len(z), model.decode(z)
    least = float(np.square(face - target).sum())
    wanted, area = shrunk(target[None])
    for first in range(0, size, LIKENESS_BLOCK):
        block = slice(first, min(first + LIKENESS_BLOCK, size))
        own, _ = shrunk(face)
        moved, _ = shrunk(model.decode(z + LIKENESS_PROBE * np.eye(size, dtype=np.float32)[block]))
        jacobian = (moved - own) / LIKENESS_PROBE
        system = area * jacobian @ jacobian.T + LIKENESS_PULL * np.eye(len(jacobian))
        step = np.linalg.solve(system, area * jacobian @ (wanted - own)[0] - LIKENESS_PULL * z[block])
        tried = np.tile(z, (len(LIKENESS_TRIES), 1))
        tried[:, block] += np.outer(LIKENESS_TRIES, step).astype(z.dtype)
        faces = model.decode(tried)
        errors = np.square(faces - target).sum((1, 2, 3))
        best = errors.argmin()
        if errors[best] < least:
            least, z, face = float(errors[best]), tried[best], faces[best][None]
    return z


def shrunk(pictures: np.ndarray) -> tuple[np.ndarray, int]:
    """Pictures (n, height, width, channels), averaged to about ``LIKENESS_SIDE`` pixels, as (n, k); and pixels in one of these."""
    count, height, width, channels = pictures.shape
    part = max(min(height, width) // LIKENESS_SIDE, 1)
    cut = pictures[:, : height // part * part, : width // part * part]
    return cut.reshape(count, height // part, part, width // part, part, channels).mean((2, 4)).reshape(
        count, -1
    ), part**2


def resemblance(drawn: np.ndarray, picture: np.ndarray) -> float:
    """PSNR in dB of a drawn face against a picture, both uint8 (height, width, channels), where the frame has the face."""
    height, width = picture.shape[:2]
    down, across = (
        ((np.arange(n) + 0.5) / n - 0.5) / r for n, r in zip((height, width), FACE_RADII[::-1], strict=True)
    )
    inside = np.square(down)[:, None] + np.square(across) < 1
    return float(psnr(drawn[inside][None], picture[inside][None])[0])


class Photograph:
    """A photograph that follows a model with shape: itself at ``z0``, moved and shaded elsewhere.

    ``picture`` is uint8 (height, width, 3), upright; ``frame`` is the face's place in it, ``z0`` (latent_size,) the
    face's own latent.
    """

    shape0: np.ndarray | None = None  # a photograph's face has its own shape

    def __init__(self, model: Model, picture: np.ndarray, eyes: Eyes | None = None, name: str = "the picture"):
        model.need_shape()
        self.model = model
        self.picture = np.repeat(picture, 3, 2) if picture.shape[2] == 1 else picture
        self.frame = Frame.of(eyes if eyes is not None else faces.largest(picture, name).eyes)
        height, _, channels = model.image_shape
        face = cut(self.picture, self.frame, height, channels == 1)
        self.z0 = likeness(model, face[None])[0]
        self._own = model.parts(self.z0)
        self._turn = grab.turned(self._own.field, model.mean_landmarks, height)
        self._resemblance = resemblance(to_uint8(model.decode(self.z0))[0], face)

    @property
    def hard(self) -> str:
        """Why the photograph is moved a part of the way only, as a key of ``rules.MESSAGES``; "" where all of it.

        "turned": the head is turned too far for the warp. "unlike": the model draws the face only roughly.
        """
        if self._turn > TURNED:
            return "turned"
        return "unlike" if self._resemblance < UNLIKE else ""

    def at(self, z: np.ndarray) -> np.ndarray:
        """The whole photograph, uint8, its face moved from ``z0`` to ``z``. At ``z0`` it is the photograph to the bit.

        One that is :attr:`hard` is moved by ``PART_OF_WAY``.
        """
        if np.array_equal(z, self.z0):
            return self.picture.copy()
        return follow.apply(self.picture, self.frame, *self._maps(z, give=PART_OF_WAY if self.hard else 1.0))

    def face_at(self, z: np.ndarray, size: int, shape: np.ndarray | None = None) -> np.ndarray:
        """The frame alone, uint8 (size, size, 3), its face moved from ``z0`` to ``z``, or to the shape of ``shape``.

        All of the way, however hard that is: in a film it has to meet another face.
        """
        square = Frame((0.0, 0.0), float(size), (1.0, 0.0))
        return follow.apply(cut(self.picture, self.frame, size), square, *self._maps(z, shape))

    def _maps(self, z: np.ndarray, shape: np.ndarray | None = None, give: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        parts, own = self.model.parts(z), self._own
        field, look = parts.field[0] if shape is None else self.model.fields(shape)[0], parts.appearance[0]
        if give != 1:
            field, look = (follow.between(a, b, give) for a, b in ((own.field[0], field), (own.appearance[0], look)))
        way = follow.displacement(own.field[0], field, self.model.image_shape[1])
        return way, follow.shading(own.appearance[0], look, field)


def open_photograph(model: Model, path: str | os.PathLike[str], eyes: Eyes | None = None) -> Photograph:
    """A photograph from a file of any format. Raises ``UserError`` that names the file."""
    return Photograph(model, read_picture(path), eyes, os.fspath(path))


def pictures_of(paths: tuple[Path, ...]) -> list[Path]:
    """The pictures that are named, and those of the folders that are, at any depth, in order.

    Raises ``UserError`` when a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not inside:
            raise UserError(f"{path} holds no pictures ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found


# --- what the command line does with one picture


def targets(pictures: Sequence[Path], out: Path, suffix: str) -> Callable[[Path], Path]:
    """Where what is made of each picture goes: into the file ``out``, or into that folder under the picture's name.

    No two get the same name. Raises ``UserError`` when ``out`` names a file and there are several.
    """
    if len(pictures) == 1 and not pictures[0].is_dir() and out.suffix:
        single = output_file(out, (suffix,) if suffix == ".json" else WRITTEN, pictures)
        return lambda _: single
    if out.suffix:
        raise UserError(f"--out {out}: several pictures go into a folder, so give the name of one")
    taken: set[str] = set()

    def named(picture: Path) -> Path:
        number = 1
        while (name := picture.stem + ("" if number == 1 else f"-{number}") + suffix).lower() in taken:
            number += 1
        taken.add(name.lower())
        return output_file(out / name, inputs=[picture])

    return named


def cut_out(source: Path, path: Path, size: int, eyes: Eyes | None) -> None:
    """Write the largest face of a picture, in the frame and ``size`` pixels wide."""
    face = framed(read_picture(source), (size, size, 3), eyes, os.fspath(source))
    with atomic_write(path) as temporary:
        save_picture(face, temporary, size)


def save_code(model: Model, source: Path, path: Path, eyes: Eyes | None) -> None:
    """Write the latent of a picture's largest face as a face that a session loads."""
    session = Session(model)
    face = framed(read_picture(source), model.image_shape, eyes, os.fspath(source))
    session.show(likeness(model, face[None])[0], frozen=True)
    with atomic_write(path) as temporary:
        session.save(temporary)


def edit(
    model: Model, source: Path, path: Path, knobs: Iterable[tuple[str, float]],
    dimensions: Iterable[tuple[str, float]], eyes: Eyes | None, pulls: Iterable[tuple[str, tuple[float, float]]] = (),
) -> str:  # fmt: skip
    """Write a photograph with its face moved -> what to tell, "" for nothing.

    Dimensions are set, then attributes moved by so many standard deviations, then handles pulled by pixels of the frame.
    A photograph that is hard to move is moved less, and it is told why.
    """
    photograph = open_photograph(model, source, eyes)
    session = Session(model)
    session.show(photograph.z0)
    for text, value in dimensions:
        if not (text.isascii() and text.isdigit()):
            raise UserError(f"--dimension {text}={value:g}: dimensions are 0 to {len(model.dimensions) - 1}")
        session.set(int(text), value)
    for name, amount in knobs:
        session.knob(name, amount)
    for name, by in pulls:
        session.grab(name, by)
    picture = photograph.at(session.z)
    with atomic_write(path) as temporary:
        save_picture(picture, temporary, len(picture))
    return say(photograph.hard) if photograph.hard and not np.array_equal(session.z, photograph.z0) else ""

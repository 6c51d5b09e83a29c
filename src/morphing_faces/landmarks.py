"""68 landmarks a face, at a fraction of a pixel: what a model with shape learns shape from. Needs the extra ``[landmarks]``.

The points are those of the 300-W challenge: 0-16 the jaw from the person's right ear to the left, 17-26 the brows, 27-35
the nose, 36-41 and 42-47 the eyes, 48-67 the lips. They are found by dlib's shape predictor (an ensemble of regression
trees, Kazemi and Sullivan, 2014), whose terms forbid commercial use.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .align import EYES_AT
from .bundle import LANDMARKS
from .errors import UserError

# The point that each becomes when a picture is mirrored.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
     45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
     *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
)  # fmt: skip
OUTLINE = [*range(17), *range(26, 16, -1)]  # around the face: along the jaw, then back over the brows
RIGHT_EYE, LEFT_EYE, NOSE_TIP = slice(36, 42), slice(42, 48), 30  # the person's right eye is on the left
MAX_OFF = 0.3  # eyes farther than this from their place, in distances between the eyes, were not found
MAX_TURN = 0.33  # heads turned further fold a warp between them and the mean face

INNER, EDGE = 512, 160  # the side that pictures are enlarged to, and the replicated edge around it
BOX = (172, 232, 660, 720)  # where the predictor is told that the face is, by the frame
LEAST_SCORE = -0.3  # of dlib's detector, which answers 0 and more where it is sure
NUDGES = (0, -8, 8)  # pixels by which the box is moved; the median of the answers is steadier than one


def find_landmarks(images: np.ndarray, advance: Callable[[], object] = lambda: None) -> np.ndarray:
    """Pictures in the frame, uint8 (n, side, side, 1 or 3) -> landmarks (n, 68, 2) float32, x and y in pixels.

    A picture in which no upright face is found, or whose eyes are not where the frame has them, has NaN. The centre of
    the first pixel is (0, 0). ``advance`` is called after each picture. Raises ``UserError`` where dlib or its
    models are not installed.
    """
    must_be_installed()
    found = np.full((len(images), LANDMARKS, 2), np.nan, np.float32)
    with ProcessPoolExecutor(os.cpu_count() or 1) as pool:
        for row, points in enumerate(pool.map(_landmarks, images, chunksize=16)):
            if points is not None:
                found[row] = points
            advance()
    return found


def must_be_installed() -> None:
    """Raise ``UserError`` where what finds landmarks is not installed."""
    for module in ("dlib", "face_recognition_models"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"--landmarks needs {module}, which is not installed: pip install 'morphing-faces[landmarks]'"
            )


def turn(landmarks: np.ndarray) -> np.ndarray:
    """How far heads are turned, (n,): the nose tip's distance from the middle of the eyes, in distances between them."""
    right, left = landmarks[:, RIGHT_EYE].mean(1), landmarks[:, LEFT_EYE].mean(1)
    distance = np.linalg.norm(left - right, axis=1)
    return np.abs(landmarks[:, NOSE_TIP, 0] - (right + left)[:, 0] / 2) / distance


def usable(landmarks: np.ndarray) -> np.ndarray:
    """Which pictures a model with shape can learn from, (n,) bool: a face was found, and is not turned too far."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(landmarks).all((1, 2)) & (turn(landmarks) <= MAX_TURN)


def mirrored(landmarks: np.ndarray, side: int) -> np.ndarray:
    """The landmarks (n, 68, 2) of the mirrored pictures, whose side is ``side`` pixels."""
    return landmarks[:, MIRRORED] * np.array((-1, 1), landmarks.dtype) + np.array((side - 1, 0), landmarks.dtype)


_tools: tuple[Any, Any] | None = None  # dlib's detector and predictor, one pair in each process


def _landmarks(image: np.ndarray) -> np.ndarray | None:
    """One picture (side, side, channels) -> its landmarks (68, 2), or None."""
    global _tools  # noqa: PLW0603
    import dlib

    if _tools is None:
        _tools = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor_path()))
    detector, predictor = _tools
    side = len(image)
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    large = np.asarray(picture.resize((INNER, INNER), Image.Resampling.BICUBIC))
    padded = np.ascontiguousarray(np.pad(large, ((EDGE, EDGE), (EDGE, EDGE), (0, 0)), mode="edge"))
    small = np.ascontiguousarray(np.asarray(Image.fromarray(padded).reduce(4)))
    if not detector.run(small, 0, LEAST_SCORE)[0]:
        return None
    left, top, right, bottom = BOX
    answers = []
    for nudge in NUDGES:
        box = dlib.rectangle(left + nudge, top, right + nudge, bottom)
        answers.append([(p.x, p.y) for p in predictor(padded, box).parts()])
    points = (np.median(answers, 0) - EDGE + 0.5) * (side / INNER) - 0.5
    eyes = np.stack([points[RIGHT_EYE].mean(0), points[LEFT_EYE].mean(0)])
    place = np.array(EYES_AT) * side - 0.5
    if np.linalg.norm(eyes - place, axis=1).max() > MAX_OFF * np.linalg.norm(place[1] - place[0]):
        return None
    return points.astype(np.float32)


def predictor_path() -> Path:
    """The file of dlib's predictor of 68 landmarks."""
    # The package fails to import beside a recent setuptools; only its files are needed.
    spec = importlib.util.find_spec("face_recognition_models")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "models" / "shape_predictor_68_face_landmarks.dat"

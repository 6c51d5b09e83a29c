"""A handle of the face in the hand: how the rest of the face gives way. NumPy only; ``web/grab.js`` is the twin.

The places p of the handles are a function of the latent u. A pull asks for the face nearest to the one that was taken,
u0, whose handle is where the hand is, while the others are held, each by its weight w:

    least  sum_i w_i^2 |goal_i - p_i(u)|^2  +  DAMPING |u - u0|^2.

With the Jacobian J of p at u0, a step of damped least squares (Levenberg, 1944) solves it for the movement d = u - u0:

    d = J' W (W J J' W + DAMPING I)^-1 W (goal - p(u) + J (u - u0)).

It is a system of as many unknowns as there are coordinates of handles, not of latents. p(u) is exact at every step, so the
steps converge to where p is, not to where J says that it is. The result depends on where the hand is and not on its way
there: a hand that goes back brings back the face.

Typical faces have u ~ N(0, I), so the coordinate of u along d, u . d / |d|, has a standard deviation of 1. Beyond a few of
them the pull becomes heavier and ends, and the handle stays behind the hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from . import warp
from .errors import UserError
from .rules import (
    HANDLES,
    PULL_BEHIND,
    PULL_DAMPING,
    PULL_EASE,
    PULL_FOLD,
    PULL_HOLD,
    PULL_KNEE,
    PULL_LIMIT,
    PULL_NEAR,
    PULL_PIN,
    PULL_PROBE,
    say,
)

Fields = Callable[[np.ndarray], np.ndarray]  # latents (n, latent_size) float32 -> fields (n, k, k, 2), pixels
NAMES = tuple(HANDLES)
UNIT = 128  # lengths in the rules are in parts of 1/128 of the side
HALVINGS = 4  # of a step that would fold the picture


def check_handle(name: object) -> str:
    """The name of a handle, or a ``UserError`` that lists them."""
    if name not in NAMES:
        raise UserError(say("handle", name=str(name), names=NAMES))
    return str(name)


def middles(landmarks: np.ndarray) -> np.ndarray:
    """The mean frame's landmarks (68, 2) -> the handles there, (22, 2), in the order of ``NAMES``."""
    return np.stack([np.asarray(landmarks, np.float64)[points].mean(0) for points in HANDLES.values()])


def places(field: np.ndarray, landmarks: np.ndarray, side: int) -> np.ndarray:
    """Where the handles lie in the pictures of fields (n, k, k, 2): (n, 22, 2) float64, pixels, x first."""
    mean = middles(landmarks)
    points = np.broadcast_to(mean, (len(field), *mean.shape))
    for _ in range(warp.STEPS):  # as warp.landmarks, in float64: what follows takes small differences
        points = mean - warp.at(field, points, side)
    return points


def turned(field: np.ndarray, landmarks: np.ndarray, side: int) -> float:
    """How far the head of a field (1, k, k, 2) is turned: see :func:`morphing_faces.landmarks.turn`."""
    from .landmarks import turn  # here, because it imports what looks for landmarks

    return float(turn(warp.landmarks(field, landmarks, side))[0])


class Grab:
    """One handle in the hand, from taking it to letting it go.

    ``z`` (latent_size,) float32 is the face as it is now, ``places`` (22, 2) where the handles lie in it, in pixels;
    ``left`` is how far the handle is from the hand, in pixels, and ``behind`` whether it has stayed behind it.
    """

    def __init__(
        self,
        fields: Fields,
        landmarks: np.ndarray,
        side: int,
        z: np.ndarray,
        name: str,
        *,
        pins: Collection[str] = (),
        free: np.ndarray | None = None,
        readings: np.ndarray | None = None,
        give: float = 1.0,
    ):
        """``landmarks`` (68, 2) are the mean frame's, ``side`` the picture's, in pixels.

        ``free`` (latent_size,) says which coordinates may move; ``readings`` (m, latent_size) are directions along which
        the face must stay. The handle follows the hand by the part ``give`` of its way. Raises ``UserError`` where there is no such handle.
        """
        self.name, self.index = check_handle(name), NAMES.index(name)
        self._fields, self._landmarks, self._side, self._give = fields, np.asarray(landmarks), side, give
        self._scale = UNIT / side
        self._start = np.array(z, np.float64)
        size = len(self._start)
        probes = np.repeat(np.asarray(z, np.float32)[None], size + 1, 0)
        probes[np.arange(size), np.arange(size)] += np.float32(PULL_PROBE)
        probed = fields(probes)
        found = places(probed, self._landmarks, side) * self._scale
        self._home = found[-1].ravel()
        jacobian = (found[:-1] - found[-1]).reshape(size, -1).T / PULL_PROBE
        self._jacobian = _within(jacobian, free, readings)
        self._floor = min(PULL_FOLD, float(warp.jacobian(probed[-1:], side).min()))
        self._weight = np.repeat(self._weights(frozenset(pins)), 2)
        self._system = self._weight[:, None] * (self._jacobian @ self._jacobian.T) * self._weight
        self._system += PULL_DAMPING * np.eye(len(self._system))
        self.z = np.asarray(z, np.float32)
        self._at = self._home  # where the handles are, in units
        self._moved = np.zeros(size)
        self.left, self.change = 0.0, 0.0

    @property
    def places(self) -> np.ndarray:
        return self._at.reshape(-1, 2) / self._scale

    @property
    def home(self) -> np.ndarray:
        """Where the handle was taken, (2,) in pixels."""
        return self._home.reshape(-1, 2)[self.index] / self._scale

    @property
    def behind(self) -> bool:
        return self.left * self._scale > PULL_BEHIND

    def step(self, by: tuple[float, float]) -> np.ndarray:
        """One step towards the face whose handle is where the hand is: ``by`` pixels from where it took it -> ``z``."""
        hand = np.asarray(by, np.float64) * (self._give * self._scale)
        goal = self._home.copy()
        goal[2 * self.index : 2 * self.index + 2] += hand
        if not hand.any():
            wanted = np.zeros_like(self._moved)
        else:
            missing = self._weight * (goal - self._at + self._jacobian @ self._moved)
            wanted = self._jacobian.T @ (self._weight * np.linalg.solve(self._system, missing))
            wanted *= ease(self._start, wanted)
        self._take(wanted)
        off = (goal - self._at).reshape(-1, 2)[self.index]
        self.left = float(np.hypot(*off)) / self._scale
        return self.z

    def _take(self, wanted: np.ndarray) -> None:
        """Move to ``wanted`` from the start, or part of the way there where the picture would fold."""
        before = self._at
        for _ in range(HALVINGS if wanted.any() else 1):
            z = (self._start + wanted).astype(np.float32)
            field = self._fields(z[None])
            if not wanted.any() or float(warp.jacobian(field, self._side).min()) >= self._floor:
                self.z, self._moved = z, wanted
                self._at = (places(field, self._landmarks, self._side)[0] * self._scale).ravel()
                break
            wanted = (wanted + self._moved) / 2
        self.change = float(np.abs(self._at - before).max()) / self._scale

    def _weights(self, pins: Collection[str]) -> np.ndarray:
        where = middles(self._landmarks) * self._scale
        far = (np.linalg.norm(where - where[self.index], axis=1) - PULL_NEAR) / PULL_EASE
        weights = PULL_HOLD / (1 + np.exp(-far))
        weights[[name in pins for name in NAMES]] = PULL_PIN
        weights[self.index] = 1
        return weights


def ease(start: np.ndarray, wanted: np.ndarray) -> float:
    """The part of a movement ``wanted`` from ``start``, each (latent_size,), that a typical face allows: 0 to 1.

    The coordinate along the movement grows freely up to ``PULL_KNEE`` standard deviations, then ever more slowly, never
    by more than ``PULL_LIMIT`` allows. Where it is beyond already, it is counted from there.
    """
    length = float(np.linalg.norm(wanted))
    if length == 0:
        return 1.0
    begin = float(start @ wanted) / length
    knee, room = max(PULL_KNEE, begin), PULL_LIMIT - PULL_KNEE
    beyond = begin + length - knee
    if beyond <= 0:
        return 1.0
    return float(knee + room * (1 - np.exp(-beyond / room)) - begin) / length


def _within(jacobian: np.ndarray, free: np.ndarray | None, readings: np.ndarray | None) -> np.ndarray:
    """The Jacobian (m, latent_size) along what may move alone: its rows lie where nothing that is held changes."""
    if free is not None:
        jacobian = jacobian * free
    if readings is not None and len(readings):
        held = readings if free is None else readings * free
        jacobian = jacobian - np.linalg.solve(held @ held.T, held @ jacobian.T).T @ held
    return jacobian

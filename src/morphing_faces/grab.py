"""A handle of the face in the hand: how the rest of the face gives way. NumPy only; ``web/grab.js`` is the twin.

The places p of the handles are a function of the latent u. A pull asks for the face nearest to the one that was taken,
u0, whose handle is where the hand is, while the others are held, each by its weight w:

    least  sum_i w_i^2 |goal_i - p_i(u)|^2  +  DAMPING sum_k cost_k (u_k - u0_k)^2.

Coordinates that change the picture much, by its light or its hair, cost more, so that the person stays the same one.
With the Jacobian J of p at u0, a step of damped least squares (Levenberg, 1944) solves it for the movement d = u - u0:

    d = C^-1 J' W (W J C^-1 J' W + DAMPING I)^-1 W (goal - p(u) + J (u - u0)).

Goals are where the handles are at u0; those of pinned ones are where they were pinned, so that they do not creep from pull
to pull.

It is a system of as many unknowns as there are coordinates of handles, not of latents. p(u) is exact at every step, so the
steps converge to where p is, not to where J says that it is. The result depends on where the hand is and not on its way
there: a hand that goes back brings back the face.

Typical faces have u ~ N(0, I), so the coordinate of u along d, u . d / |d|, has a standard deviation of 1. Beyond a few of
them the pull becomes heavier and ends: the hand's way counts for less, what is held stays held, and the handle stays behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

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
    PULL_SETTLED,
    PULL_VISIBLE,
    say,
)

Fields = Callable[[np.ndarray], np.ndarray]  # latents (n, latent_size) float32 -> fields (n, k, k, 2), pixels
Place = tuple[float, float]  # x and y, in pixels
NAMES = tuple(HANDLES)
UNIT = 128  # lengths in the rules are in parts of 1/128 of the side
HALVINGS = 3  # of a step that would fold the picture, or lead away
WORSE = 1.05  # a step whose whole is worse by more leads away; J is that of the start, so small steps back do not
NEWTON_NEAR = 3  # steps at most by which places are found that are about known
_MEANS = np.array([np.bincount(points, minlength=68) / len(points) for points in HANDLES.values()])  # of landmarks


def check_handle(name: object) -> str:
    """The name of a handle, or a ``UserError`` that lists them."""
    if name not in NAMES:
        raise UserError(say("handle", name=str(name), names=NAMES))
    return str(name)


def middles(landmarks: np.ndarray) -> np.ndarray:
    """The mean frame's landmarks (68, 2) -> the handles there, (22, 2), in the order of ``NAMES``."""
    means: np.ndarray = _MEANS @ np.asarray(landmarks, np.float64)
    return means


def places(field: np.ndarray, landmarks: np.ndarray, side: int, near: np.ndarray | None = None) -> np.ndarray:
    """Where the handles lie in the pictures of fields (n, k, k, 2): (n, 22, 2) float64, pixels, x first.

    ``near`` (22, 2) is where they are about, and spares steps.
    """
    mean = middles(landmarks)
    if near is None:
        return mean + warp.inverse(field, mean, side)
    return mean + warp.inverse(field, mean, side, way=near - mean, steps=NEWTON_NEAR)


def _squeeze(field: np.ndarray, side: int) -> float:
    """The least part of its area to which a field (1, k, k, 2) squeezes the picture, its edge left out."""
    return float(warp.jacobian(field, side)[:, 1:-1, 1:-1].min())


def turned(field: np.ndarray, landmarks: np.ndarray, side: int) -> float:
    """How far the head of a field (1, k, k, 2) is turned: see :func:`morphing_faces.landmarks.turn`."""
    from .landmarks import turn  # here, because it imports what looks for landmarks

    return float(turn(warp.landmarks(field, landmarks, side))[0])


class Grab:
    """One handle in the hand, from taking it to letting it go.

    ``z`` (latent_size,) float32 is the face as it is now, ``places`` (22, 2) where the handles lie in it, in pixels;
    ``left`` is how far the handle is from the hand, in pixels, and ``behind`` whether it has stayed behind it. ``pins``
    has the pinned handles with the places that they are held at, (x, y) in pixels.
    """

    def __init__(
        self,
        fields: Fields,
        landmarks: np.ndarray,
        side: int,
        z: np.ndarray,
        name: str,
        *,
        pins: Mapping[str, Place | None] | None = None,
        free: np.ndarray | None = None,
        readings: np.ndarray | None = None,
        costs: np.ndarray | None = None,
    ):
        """``landmarks`` (68, 2) are the mean frame's, ``side`` the picture's, in pixels.

        ``pins`` are the handles that stay, each with the place that it is held at, (x, y) in pixels, or ``None``: where it
        is. ``free`` (latent_size,) says which coordinates may move, 1 or 0; ``costs`` (latent_size,) what a way along each
        costs, see :func:`costs`; ``readings`` (m, latent_size) are directions along which the face must stay. Raises
        ``UserError`` where there is no such handle.
        """
        self.name, self.index = check_handle(name), NAMES.index(name)
        self._fields, self._landmarks, self._side = fields, np.asarray(landmarks), side
        self._scale = UNIT / side
        self._start = np.array(z, np.float64)
        size = len(self._start)
        probes = np.repeat(np.asarray(z, np.float32)[None], size + 1, 0)
        probes[np.arange(size), np.arange(size)] += np.float32(PULL_PROBE)
        probed = fields(probes)
        found = places(probed, self._landmarks, side) * self._scale
        self._home = found[-1].ravel()
        self._jacobian = (found[:-1] - found[-1]).reshape(size, -1).T / PULL_PROBE
        self._costs = np.ones(size) if costs is None else costs
        self._gain = _cheapest(self._jacobian, self._costs, free, readings)
        self._floor = min(PULL_FOLD, _squeeze(probed[-1:], side) - PULL_FOLD)
        self._goals, self.pins = self._home.copy(), {}
        for pin, place in (pins or {}).items():
            spot = self._goals.reshape(-1, 2)[NAMES.index(check_handle(pin))]
            if pin != name:
                spot[:] = spot if place is None else np.multiply(place, self._scale)
                self.pins[pin] = float(spot[0] / self._scale), float(spot[1] / self._scale)
        self._weight = np.repeat(self._weights(), 2)
        system = self._weight[:, None] * (self._gain @ self._jacobian.T) * self._weight
        self._inverse = np.linalg.inv(system + PULL_DAMPING * np.eye(len(system)))
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
        hand = np.asarray(by, np.float64) * self._scale
        handle = slice(2 * self.index, 2 * self.index + 2)
        goal, before = self._goals.copy(), self._at
        if hand.any():
            rest = self._way(goal - self._at + self._jacobian @ self._moved)
            goal[handle] += hand
            pull = self._way(goal - self._goals)
            part, wanted = typical(self._start, rest, pull)
            goal[handle] -= (1 - part) * hand
            self._take(wanted, goal)
        else:
            self.z, self._at, self._moved = self._start.astype(np.float32), self._home, np.zeros_like(self._moved)
        self.change = float(np.abs(self._at - before).max()) / self._scale
        self.left = float(np.hypot(*(self._home[handle] + hand - self._at[handle]))) / self._scale
        return self.z

    def _way(self, missing: np.ndarray) -> np.ndarray:
        """The movement, (latent_size,), by which the handles move as ``missing`` says, as far as it is worth it."""
        way: np.ndarray = self._gain.T @ (self._weight * (self._inverse @ (self._weight * missing)))
        return way

    def _take(self, wanted: np.ndarray, goal: np.ndarray) -> None:
        """Move to ``wanted`` from the start, or part of the way there: where nothing folds and the whole is not worse."""
        most = self._price(goal, self._at, self._moved)
        for _ in range(HALVINGS):
            z = (self._start + wanted).astype(np.float32)
            field = self._fields(z[None])
            at = (places(field, self._landmarks, self._side, self.places)[0] * self._scale).ravel()
            folds = _squeeze(field, self._side) < self._floor
            if not folds and self._price(goal, at, wanted) <= most * WORSE:
                self.z, self._at, self._moved = z, at, wanted
                break
            way = wanted - self._moved
            if np.abs(self._jacobian @ way).max() < PULL_SETTLED * self._scale:
                break  # a part of it would not be seen
            wanted = self._moved + way / 2

    def _price(self, goal: np.ndarray, at: np.ndarray, moved: np.ndarray) -> float:
        """What is made as small as possible."""
        return float(np.sum((self._weight * (goal - at)) ** 2) + PULL_DAMPING * np.sum(self._costs * moved**2))

    def _weights(self) -> np.ndarray:
        where = middles(self._landmarks) * self._scale
        far = (np.linalg.norm(where - where[self.index], axis=1) - PULL_NEAR) / PULL_EASE
        weights = PULL_HOLD / (1 + np.exp(-far))
        weights[[name in self.pins for name in NAMES]] = PULL_PIN
        weights[self.index] = 1
        return weights


def typical(start: np.ndarray, rest: np.ndarray, pull: np.ndarray) -> tuple[float, np.ndarray]:
    """The part of a ``pull`` that a typical face allows, 0 to 1, and the movement with it, each movement (latent_size,).

    ``rest`` is what else moves, so that what is held stays where it is held. The whole becomes as short as :func:`ease`
    says, and the pull gives way for it.
    """
    whole = rest + pull
    eased = ease(start, whole)
    if eased == 1:
        return 1.0, whole
    length = eased * float(np.linalg.norm(whole))
    square, both = float(pull @ pull), float(rest @ pull)
    under = max(both**2 - square * (float(rest @ rest) - length**2), 0)
    part = min(max((math.sqrt(under) - both) / square, 0), 1) if square else 0.0
    whole = rest + part * pull
    return part, whole * min(1, length / float(np.linalg.norm(whole)))


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


def costs(shares: dict[int, float], size: int) -> np.ndarray:
    """What a way along each of ``size`` coordinates costs, (size,): more where it changes the picture more.

    ``shares`` has the interesting dimensions' latent indices with their share of the visible change; the other
    coordinates have what is left over, each as much.
    """
    rest = max(1 - sum(shares.values()), 0) / max(size - len(shares), 1)
    found = np.full(size, rest)
    for latent, share in shares.items():
        found[latent] = share
    return 1 + PULL_VISIBLE * size * found


def _cheapest(
    jacobian: np.ndarray, costs: np.ndarray, free: np.ndarray | None, readings: np.ndarray | None
) -> np.ndarray:
    """The cheapest ways, (m, latent_size), along which places move as ``jacobian`` says and nothing that is held changes."""
    gain = (jacobian if free is None else jacobian * free) / costs
    if readings is None or not len(readings):
        return gain
    held = readings if free is None else readings * free
    cheap: np.ndarray = gain - np.linalg.solve((held / costs) @ held.T, held @ gain.T).T @ (held / costs)
    return cheap

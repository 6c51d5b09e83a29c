"""What a person is doing: a face, two axes, frozen or not. Pure state; every view shows this and nothing more.

Nothing here draws, prints or waits.
"""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import grab as grabbing
from . import names, noise
from .errors import UserError
from .files import atomic_write, read_json
from .rules import (
    COORDINATE_LIMIT,
    FACE_FORMAT,
    FACE_VERSION,
    GLIDE,
    PARTS,
    PULL_SETTLED,
    PULL_STEPS,
    RANGE_LIMITS,
    SCALE_LIMITS,
    UNDO_STEPS,
    WALK_LIMIT,
    WALK_STEP,
    WALK_TRIES,
    say,
)

if TYPE_CHECKING:
    from .model import Attribute, Model

FACE_LIMIT = 1 << 20  # bytes of a face's file


@dataclass(frozen=True, eq=False)
class Still:
    """A part of the face that stays, ``"shape"`` or ``"appearance"``, and the point that it is of, (latent_size,)."""

    part: str
    z: np.ndarray


@dataclass(frozen=True, eq=False)
class State:
    """Everything that a person has set, as one value: what a step of undo brings back, and what a view may keep.

    ``z`` is (latent_size,) float32, read-only. ``origin`` is the random face that it set out from, as (seed, number),
    or ``None`` for the average face; ``scale`` is how far from the average face it is, in parts of the distance at which
    it was drawn. ``faces_drawn``, ``walk_steps`` and ``anchors`` count what was taken of the seed's endless rows. ``pins``
    are the places, (x, y) in pixels, where the pinned handles of a face that was pulled were pinned; ``None`` where
    something else has changed the face since, so that they belong where they are.
    """

    z: np.ndarray
    seed: int
    faces_drawn: int = 1
    walk_steps: int = 0
    anchors: int = 0
    origin: tuple[int, int] | None = None
    scale: float = 1.0
    axes: tuple[int, int] = (0, 1)
    range: float = 1.0
    frozen: bool = False
    locked: frozenset[int] = frozenset()
    held: frozenset[str] = frozenset()
    still: Still | None = None
    pinned: frozenset[str] = frozenset()
    pins: Mapping[str, grabbing.Place] | None = None

    def same(self, other: State) -> bool:
        """Whether the two hold the same, every coordinate included."""
        return all(_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(State))


class Session:
    """The state behind the window, the prompt and the page.

    ``z`` is the point in latent space, (latent_size,) float32, not to be written to; ``axes`` the two chosen
    dimensions, numbers into ``model.dimensions``; ``frozen`` whether moves are ignored; ``range`` the latent coordinate
    at the edge of the hover square; ``locked`` the dimensions and ``held`` the attributes that no verb moves. A seed decides the faces that
    :meth:`shuffle` shows: the first is row 0 of ``model.sample(..., seed)``, then row 1, and so on. A face whose shape or
    appearance is kept ``still`` is drawn from two points: see :meth:`parts`.

    Every verb changes the state through one door, :meth:`_write`: it checks the point, leaves locked dimensions where
    they are and remembers what was there before. What is refused raises ``UserError`` and changes nothing.
    """

    def __init__(self, model: Model, seed: int = 0):
        self.model = model
        self.latent_size = model.latent_size
        self.dimensions = model.dimensions
        self.dimension_names = getattr(model, "dimension_names", None) or names.of([{}] * len(self.dimensions))
        self.bundle_name = model.name
        self.attributes = getattr(model, "attributes", None) or {}
        self.has_shape = bool(getattr(model, "has_shape", False))
        seed = noise.check_seed(seed)
        self._state = State(_fixed(noise.normal(seed, 0, 1, self.latent_size)[0]), seed, origin=(seed, 0))
        self._past: deque[State] = deque(maxlen=UNDO_STEPS)
        self._future: deque[State] = deque(maxlen=UNDO_STEPS)
        self._gesture: str | None = None  # what goes on: all of it is undone as one
        self._glide: tuple[np.ndarray, int, float] | None = None  # where a glide began, its first anchor, how far it is
        self._watchers: list[Callable[[], None]] = []

    # --- what is shown

    @property
    def state(self) -> State:
        """All of it, as one value that never changes; :meth:`restore` brings it back."""
        return self._state

    @property
    def z(self) -> np.ndarray:
        """The point in latent space, (latent_size,) float32, read-only."""
        return self._state.z

    @property
    def seed(self) -> int:
        """Whose faces :meth:`shuffle` shows."""
        return self._state.seed

    @property
    def faces_drawn(self) -> int:
        """The number of the face that :meth:`shuffle` shows next."""
        return self._state.faces_drawn

    @property
    def walk_steps(self) -> int:
        """The number of the random walk's next step."""
        return self._state.walk_steps

    @property
    def origin(self) -> tuple[int, int] | None:
        """The random face that this one set out from, as (seed, number), or ``None``: the average face."""
        return self._state.origin

    @property
    def scale(self) -> float:
        """How far from the average face it is, in parts of the distance at which it was drawn."""
        return self._state.scale

    @property
    def axes(self) -> tuple[int, int]:
        """The dimensions under the mouse, x then y."""
        return self._state.axes

    @property
    def range(self) -> float:
        """The latent coordinate at the edge of the hover square."""
        return self._state.range

    @property
    def frozen(self) -> bool:
        """Whether moves are ignored."""
        return self._state.frozen

    @property
    def locked(self) -> frozenset[int]:
        """The dimensions that no verb moves."""
        return self._state.locked

    @property
    def held(self) -> frozenset[str]:
        """The names of the attributes that no verb moves, unless it names them."""
        return self._state.held

    @property
    def still(self) -> Still | None:
        """The part that no verb moves, with its point, or ``None``: shape and appearance are both of ``z``."""
        return self._state.still

    def parts(self, z: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """The points whose appearance and whose shape a face has, as ``model.decode`` takes them.

        ``z`` is (latent_size,) or (n, latent_size), by default the point that is shown; the shape is ``None``, which means
        the same point, where nothing is still.
        """
        z = self.z if z is None else z
        if self.still is None:
            return z, None
        still = np.broadcast_to(self.still.z, z.shape)
        return (z, still) if self.still.part == "shape" else (still, z)

    @property
    def pinned(self) -> frozenset[str]:
        """The handles that stay where they are while others are pulled."""
        return self._state.pinned

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        return bool(self._future)

    def get(self, dimension: int | None = None) -> Any:
        """One coordinate as a float, or with no argument a copy of the whole point, (latent_size,) float32."""
        return self.z.copy() if dimension is None else float(self.z[self._latent(dimension)])

    # --- verbs

    def move(self, x: float, y: float) -> None:
        """Set the two chosen coordinates from a place in the hover square.

        Bottom-left is (-1, -1), top-right (1, 1); the place times ``range`` is the coordinate. Ignored while frozen.
        A run of moves is undone as one.
        """
        if not (math.isfinite(x) and math.isfinite(y)):
            raise UserError(say("move", x=x, y=y))
        if self.frozen:
            return
        across, up = (self.dimensions[axis] for axis in self.axes)
        self._write("move", z=self._with({across: x * self.range, up: y * self.range}))

    def select(self, dimension_0: int, dimension_1: int) -> None:
        """Choose the dimensions under the mouse, x then y. Coordinates set before stay as they are."""
        for dimension in (dimension_0, dimension_1):
            self._latent(dimension)
        if dimension_0 == dimension_1:
            raise UserError(say("same", first=dimension_0, second=dimension_1))
        self._write(axes=(int(dimension_0), int(dimension_1)))

    def toggle_freeze(self) -> None:
        """Freeze the face, so that moves are ignored, or unfreeze it."""
        self._write(frozen=not self.frozen)

    def toggle_lock(self, dimension: int) -> None:
        """Lock a dimension, so that no verb moves it, or unlock it."""
        self._latent(dimension)
        self._write(locked=self.locked ^ {int(dimension)})

    def toggle_still(self, part: str) -> None:
        """Keep the face's ``"shape"`` or its ``"appearance"`` still, so that every verb changes the other alone, or let it go.

        Let go, the face has both of ``z``. Asked for the other part than the one that is still, the two change places, and
        the face looks as before. Raises ``UserError`` where the model has no shape, or there is no such part.
        """
        if not self.has_shape:
            raise UserError(say("no shape", model=self.bundle_name))
        if part not in PARTS:
            raise UserError(say("part", part=str(part), parts=list(PARTS)))
        if self.still is None:
            self._write(still=Still(part, self.z))
        elif self.still.part == part:
            self._write(still=None)
        else:
            self._write(masked=False, z=self.still.z, scale=1.0, still=Still(part, self.z))

    def knob(self, name: str, amount: float, gesture: str | None = None) -> None:
        """Move an attribute, ``smile`` for example, by ``amount`` standard deviations; the other attributes stay.

        Works while frozen, too. With a ``gesture``, any word, a run of them with the same word is undone as one.
        """
        attribute = self._attribute(name)
        if name in self.held:
            raise UserError(say("held", name=name))
        if not abs(amount) <= COORDINATE_LIMIT:
            raise UserError(say("amount", amount=amount, limit=COORDINATE_LIMIT))
        self._write(gesture, z=self.z + amount * attribute.direction)

    def read(self, name: str) -> float:
        """How much of an attribute there is, in standard deviations from the average."""
        return float(self._attribute(name).reading @ self.z)

    def toggle_hold(self, name: str) -> None:
        """Hold an attribute, so that it stays as it is while others and dimensions move, or let it go."""
        self._attribute(name)
        self._write(held=self.held ^ {name})

    @property
    def handles(self) -> dict[str, tuple[float, float]]:
        """The handles of the face and where they lie, in pixels of the frame, x first; the first pixel's centre is (0, 0).

        Left and right are the picture's. Raises ``UserError`` where the model has no shape.
        """
        places = self.handle_places(self.z)
        return {name: (float(x), float(y)) for name, (x, y) in zip(grabbing.NAMES, places, strict=True)}

    def handle_places(self, z: np.ndarray) -> np.ndarray:
        """Where the handles lie in the face at ``z``, (22, 2) in pixels, as :attr:`handles` has them of the one shown."""
        self.model.need_shape()
        appearance, shape = self.parts(z)
        fields = self.model.fields(appearance if shape is None else shape)
        return grabbing.places(fields, self.model.mean_landmarks, self.model.image_shape[0])[0]

    def grab(self, name: str, by: tuple[float, float]) -> float:
        """Take a handle, ``"mouth-left"`` for example, pull it ``by`` (dx, dy) pixels of the frame, and let it go.

        The rest of the face follows as it does in faces; pinned handles, locked dimensions and held attributes stay.
        Works while frozen, too, and is undone as one. Returns how far the handle has stayed behind the hand, in pixels.
        Raises ``UserError`` where there is no such handle, where a number is not finite, or where the model has no shape.
        """
        taken = self.take(name)
        for _ in range(PULL_STEPS):
            self.pull(taken, by)
            if taken.change < PULL_SETTLED:
                break
        self.end_gesture()
        return taken.left

    def take(self, name: str) -> grabbing.Grab:
        """Take a handle into the hand, for :meth:`pull`; :meth:`end_gesture` lets it go. See :meth:`grab`."""
        grabbing.check_handle(name)
        self.model.need_shape()
        if self.still and self.still.part == "shape":
            raise UserError(say("still shape"))
        self.end_gesture()
        free = np.ones(self.latent_size)
        free[[self.dimensions[dimension] for dimension in self.locked]] = 0
        readings = [self.attributes[held].reading for held in sorted(self.held)]
        known = self._state.pins or {}
        return grabbing.Grab(
            self.model.fields, self.model.mean_landmarks, self.model.image_shape[0], self.z, name,
            pins={pin: known.get(pin) for pin in self.pinned}, free=free, readings=np.stack(readings) if readings else None,
            costs=grabbing.costs(self.model.shares, self.latent_size),
        )  # fmt: skip

    def pull(self, taken: grabbing.Grab, by: tuple[float, float]) -> None:
        """A step of a handle in the hand towards ``by``, pixels from where it was taken. A run is undone as one.

        Raises ``UserError`` when something else has changed the face since.
        """
        x, y = by
        if not (math.isfinite(x) and math.isfinite(y)):
            raise UserError(say("pull", x=x, y=y))
        if taken.z is not self.z:
            raise UserError(say("taken"))
        self._write("grab", z=taken.step((x, y)), pins=taken.pins)
        taken.z = self.z

    def pin(self, name: str) -> None:
        """Pin a handle, so that it stays where it is while others are pulled, or let it go. See :attr:`handles`."""
        grabbing.check_handle(name)
        self.model.need_shape()
        others = self._state.pins and {pin: place for pin, place in self._state.pins.items() if pin != name}
        self._write(pinned=self.pinned ^ {name}, pins=others)

    def shuffle(self, seed: int | None = None) -> None:
        """Another face at random; with a seed, that seed's first. Axes, range, frozen and locked stay as they are."""
        if seed is None:
            seed, number, walk_steps, anchors = self.seed, self.faces_drawn, self.walk_steps, self._state.anchors
        else:
            seed, number, walk_steps, anchors = noise.check_seed(seed), 0, 0, 0
        z = noise.normal(seed, number, 1, self.latent_size)[0]
        counts: dict[str, Any] = {"faces_drawn": number + 1, "walk_steps": walk_steps, "anchors": anchors}
        self._write(z=z, seed=seed, origin=(seed, number), scale=1.0, **counts)

    def reset(self) -> None:
        """Every coordinate to 0: the average face."""
        self._write(z=np.zeros(self.latent_size), origin=None, scale=1.0)

    def set(self, target: int | ArrayLike, value: float | None = None, gesture: str | None = None) -> None:
        """``set(dimension, value)`` sets one coordinate, ``set(z)`` the whole point. Works while frozen, too.

        With a ``gesture``, any word, a run of them with the same word is undone as one.
        """
        if value is None:
            return self._write(gesture, z=self._point(target), scale=1.0)
        latent = self._latent(target)
        if target in self.locked:
            raise UserError(say("locked", dimension=target))
        self._write(gesture, z=self._with({latent: value}))

    def show(
        self, z: ArrayLike, origin: tuple[int, int] | None = None, scale: float = 1.0, frozen: bool | None = None,
        still: Still | EllipsisType | None = ..., gesture: str | None = None,
    ) -> None:  # fmt: skip
        """Set the whole point, what it set out from, whether it is frozen (``None``: as it is), and what is still
        (``...``: as it is), as one step.

        With a ``gesture``, any word, a run of them with the same word is undone as one.
        """
        frozen = self.frozen if frozen is None else frozen
        still = self.still if isinstance(still, EllipsisType) else still
        self._write(gesture, z=self._point(z), origin=origin, scale=float(scale), frozen=frozen, still=still)

    def set_range(self, value: float) -> None:
        """Set the latent coordinate at the edge of the hover square, from 0.25 to 4. A run of them is undone as one."""
        low, high = RANGE_LIMITS
        if not low <= value <= high:
            raise UserError(say("range", value=value, low=low, high=high))
        self._write("range", range=float(value))

    def widen(self, steps: float) -> None:
        """Widen the range by a tenth a step of the mouse wheel; negative steps narrow it. Stops at the limits."""
        if not math.isfinite(steps):
            raise UserError(say("widen", steps=steps))
        low, high = RANGE_LIMITS
        wider = self.range * 1.1 ** min(max(steps, -100), 100)
        self._write("range", range=min(max(math.floor(wider * 1e6 + 0.5) / 1e6, low), high))

    def set_scale(self, value: float) -> None:
        """Put the face further from the average face or nearer, from 0.1 to 2 times the distance at which it was drawn.

        A run of them is undone as one, and going back to 1 brings back every coordinate.
        """
        low, high = SCALE_LIMITS
        if not low <= value <= high:
            raise UserError(say("scale", value=value, low=low, high=high))
        start = self._origin_point()
        untouched = self.z == (start * self.scale).astype(np.float32)
        z = np.where(untouched, start * float(value), self.z.astype(np.float64) * (value / self.scale))
        self._write("scale", z=z, scale=float(value))

    def walk(self) -> None:
        """One step of the 2014 random walk: one of the dimensions, half a unit up or down. A run is undone as one.

        Steps that fall on a locked dimension are passed over; where all are locked, nothing moves.
        """
        for steps in range(self.walk_steps, self.walk_steps + WALK_TRIES):
            draw = noise.whole(self.seed, steps, 2 * len(self.dimensions))
            if draw // 2 in self.locked:
                continue
            latent = self.dimensions[draw // 2]
            step = WALK_STEP if draw % 2 else -WALK_STEP
            if abs(self.z[latent] + step) > WALK_LIMIT:
                step = -math.copysign(WALK_STEP, self.z[latent])
            return self._write("walk", z=self._with({latent: self.z[latent] + step}), walk_steps=steps + 1)

    def glide(self, steps: float) -> None:
        """Go on along a smooth, endless way through the seed's random faces, ``steps`` times the way to the next one.

        It begins at the face that is shown. A run of them is undone as one; any other verb ends it.

        Between the anchors a_0 and a_1 the point is, with the angle w from 0 to pi / 2,
        ((1 - sin w) a_-1 + (1 + cos w) a_0 + (1 + sin w) a_1 + (1 - cos w) a_2) / sqrt(6): the squares of the weights
        add up to 1, so with anchors of N(0, I) the point is N(0, I) everywhere; those of their derivatives add up to a
        constant, so the speed is even; and there is no corner where the next anchor comes. The first anchor is chosen
        so that the way begins at the face that is shown.
        """
        if not (math.isfinite(steps) and steps >= 0):
            raise UserError(say("glide", steps=steps))
        start, first, at = self._glide or (self.z, self._state.anchors, 0.0)
        at += steps
        z, last = self._gliding(start, first, at)
        self._write("glide", z=z, scale=1.0, anchors=last)
        self._glide = (start, first, at)

    def settle(self, z: ArrayLike) -> None:
        """End a walk where it is seen to be, between two steps."""
        self._write("walk", z=self._point(z))
        self.end_gesture()

    def end_gesture(self) -> None:
        """Let what follows be undone by itself, of whatever kind it is."""
        self._gesture = self._glide = None

    def cancel_gesture(self, gesture: str) -> None:
        """Take back what goes on, if it is of that kind ("move", "walk", ...), as if it had not been."""
        if self._gesture == gesture:
            self._state = self._past.pop()
        self.end_gesture()

    def restore(self, state: State) -> None:
        """Show a whole state, its locks included: one that :attr:`state` gave, or that a link says."""
        self._write(masked=False, **{field.name: getattr(state, field.name) for field in fields(State)})

    def undo(self) -> bool:
        """Go back before the last action; a run of moves counts as one. Returns whether there was one.

        All that a person set comes back: the face, its seed and number, axes, range, frozen, locks.
        """
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Take an undo back. Returns whether there was one."""
        return self._travel(self._future, self._past)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` after each change of :attr:`state`."""
        self._watchers.append(watcher)

    # --- a face as a file

    def to_dict(self) -> dict[str, Any]:
        """The face as JSON-ready values; ``from_dict`` brings back exactly this ``z``."""
        return {
            "format": FACE_FORMAT,
            "version": FACE_VERSION,
            "bundle": self.bundle_name,
            "axes": list(self.axes),
            "frozen": self.frozen,
            "range": self.range,
            "locked": sorted(self.locked),
            "z": _decimals(self.z),
            **({"still": {"part": self.still.part, "z": _decimals(self.still.z)}} if self.still else {}),
        }

    def from_dict(self, face: Any) -> None:
        """Show a face from :meth:`to_dict`. Raises ``UserError`` and changes nothing when it is not a face for this model."""
        if not isinstance(face, dict) or face.get("format") != FACE_FORMAT:
            raise UserError(say("face"))
        if face.get("version") != FACE_VERSION:
            raise UserError(say("face version", found=_short(face.get("version")), version=FACE_VERSION))
        if face.get("bundle") != self.bundle_name:
            raise UserError(say("face bundle", found=_short(face.get("bundle")), bundle=self.bundle_name))
        found: tuple[Any, ...] = tuple(face.get(key) for key in ("z", "axes", "range", "frozen"))
        values, axes, width, frozen = found
        locked: Any = face.get("locked", [])
        lists = all(isinstance(value, list) for value in (values, axes, locked))
        if not (lists and _is_number(width) and isinstance(frozen, bool)):
            raise UserError(say("face fields"))
        z = self._read_point(values)
        last = len(self.dimensions) - 1
        if not (len(axes) == 2 and _different(axes, last)):
            raise UserError(say("face axes", axes=_short(axes), last=last))
        if not RANGE_LIMITS[0] <= width <= RANGE_LIMITS[1]:
            raise UserError(say("face range", value=width, low=RANGE_LIMITS[0], high=RANGE_LIMITS[1]))
        if not _different(locked, last):
            raise UserError(say("face locked", locked=_short(locked), last=last))
        still = self._read_still(face.get("still"))
        shown: dict[str, Any] = {
            "still": still,
            "axes": (axes[0], axes[1]),
            "range": float(width),
            "frozen": frozen,
            "locked": frozenset(locked),
        }
        self._write(masked=False, z=z, scale=1.0, **shown)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the face as a small JSON file, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Show a saved face. Raises ``UserError`` that names the file and what is wrong with it."""
        face = read_json(path, FACE_LIMIT)
        try:
            self.from_dict(face)
        except UserError as error:
            raise UserError(f"{path} {error}") from None

    def _read_point(self, values: list[Any]) -> np.ndarray:
        z = _numbers(values)
        if len(z) != self.latent_size or not (abs(z) <= COORDINATE_LIMIT).all():
            raise UserError(say("face z", count=len(z), size=self.latent_size, limit=COORDINATE_LIMIT))
        return z

    def _read_still(self, still: Any) -> Still | None:
        if still is None:
            return None
        if not (isinstance(still, dict) and still.get("part") in PARTS and isinstance(still.get("z"), list)):
            raise UserError(say("face still", parts=list(PARTS)))
        if not self.has_shape:
            raise UserError(say("no shape", model=self.bundle_name))
        return Still(still["part"], _fixed(self._read_point(still["z"]).astype(np.float32)))

    # --- inside

    def _write(self, gesture: str | None = None, *, masked: bool = True, **changes: Any) -> None:
        """The one door through which the state changes.

        A new ``z`` is cast to float32 and checked; unless ``masked`` is false, :meth:`_masked` keeps what must stay.
        What was there is remembered, once for a run of the same ``gesture``; where nothing changes, nothing is.
        """
        if "z" in changes:
            z = self._cast(changes["z"])
            z = self._masked(z) if masked else z
            same = np.array_equal(z, self.z)
            changes["z"] = self.z if same else _fixed(z)
            changes["pins"] = self._state.pins if same else changes.get("pins")
        state = replace(self._state, **changes)
        if gesture != "glide":
            self._glide = None
        if state.same(self._state):
            return
        if gesture is None or gesture != self._gesture:
            self._past.append(self._state)
        self._future.clear()
        self._gesture = gesture
        self._state = state
        self._tell()

    def _masked(self, z: np.ndarray) -> np.ndarray:
        """The point of all that respects what the person holds on to, nearest to ``z``; ``z`` may be written to."""
        for dimension in self.locked:
            z[self.dimensions[dimension]] = self.z[self.dimensions[dimension]]
        if self.held:
            free = np.ones(self.latent_size, bool)
            free[[self.dimensions[dimension] for dimension in self.locked]] = False
            readings = np.stack([self.attributes[name].reading for name in sorted(self.held)])
            missing = readings @ (self.z.astype(np.float64) - z)
            readings = readings[:, free]
            z[free] += readings.T @ np.linalg.solve(readings @ readings.T, missing)
        return z

    def _cast(self, z: np.ndarray) -> np.ndarray:
        """A copy as float32, (latent_size,), every coordinate finite and within the limit, or a ``UserError``."""
        wrong = ~(np.abs(z) <= COORDINATE_LIMIT)
        if wrong.any():
            raise UserError(say("coordinate", value=float(z[wrong.argmax()]), limit=COORDINATE_LIMIT))
        return np.array(z, np.float32)

    def _point(self, target: Any) -> np.ndarray:
        try:
            z = np.asarray(target, np.float64)
        except (TypeError, ValueError):
            z = np.empty(0)
        if z.shape != (self.latent_size,) or not (np.abs(z) <= COORDINATE_LIMIT).all():
            raise UserError(say("point", shape=str(z.shape), size=self.latent_size, limit=COORDINATE_LIMIT))
        return z

    def _with(self, coordinates: dict[int, float]) -> np.ndarray:
        """The point with some of its coordinates changed, float64, so that nothing overflows before it is checked."""
        z = self.z.astype(np.float64)
        for latent, value in coordinates.items():
            z[latent] = value
        return z

    def _origin_point(self) -> np.ndarray:
        if self.origin is None:
            return np.zeros(self.latent_size)
        return noise.normal(*self.origin, 1, self.latent_size)[0].astype(np.float64)

    def _gliding(self, start: np.ndarray, first: int, at: float) -> tuple[np.ndarray, int]:
        """The point of a glide, float64, and the first anchor that it has not used."""
        step = math.floor(at)
        sine, cosine = math.sin((at - step) * math.pi / 2), math.cos((at - step) * math.pi / 2)
        root = math.sqrt(6)

        def anchor(number: int) -> np.ndarray:
            if number == 0:
                return (root * start.astype(np.float64) - anchor(-1) - anchor(1)) / 2
            return noise.normal(self.seed, first + max(number, 0), 1, self.latent_size, GLIDE)[0].astype(np.float64)

        z = (1 - sine) * anchor(step - 1) + (1 + cosine) * anchor(step)
        z = z + (1 + sine) * anchor(step + 1) + (1 - cosine) * anchor(step + 2)
        return z / root, first + step + 3

    def _attribute(self, name: str) -> Attribute:
        if name not in self.attributes:
            raise UserError(say("attribute", name=str(name), names=list(self.attributes)))
        return self.attributes[name]

    def _latent(self, dimension: Any) -> int:
        last = len(self.dimensions) - 1
        if isinstance(dimension, bool) or not isinstance(dimension, (int, np.integer)) or not 0 <= dimension <= last:
            raise UserError(say("dimension", dimension=_short(dimension), last=last))
        return self.dimensions[int(dimension)]

    def _travel(self, source: deque[State], target: deque[State]) -> bool:
        self.end_gesture()
        if not source:
            return False
        target.append(self._state)
        self._state = source.pop()
        self._tell()
        return True

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Still) and isinstance(b, Still):
        return a.part == b.part and np.array_equal(a.z, b.z)
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def _decimals(z: np.ndarray) -> list[float]:
    """The shortest decimals that give each float32 back."""
    return [float(str(value)) for value in z]


def _fixed(z: np.ndarray) -> np.ndarray:
    z.setflags(write=False)
    return z


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(values: list[Any]) -> np.ndarray:
    """float64; what is no number, or too large for one, is NaN."""
    return np.array([float(v) if _is_number(v) and abs(v) < 1e300 else math.nan for v in values], np.float64)


def _different(numbers: Iterable[Any], last: int) -> bool:
    """Whether they are whole numbers from 0 to ``last``, no two the same."""
    numbers = list(numbers)
    whole = all(type(number) is int and 0 <= number <= last for number in numbers)
    return whole and len(set(numbers)) == len(numbers)


def _short(value: Any) -> str:
    """A value of a file in a message, not too long for a line."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."

"""What a person is doing: a face, two axes, frozen or not. Pure state; every view shows this and nothing more.

Also the grammar of the prompt. Nothing here draws, prints or waits.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import noise
from .files import whole_file

if TYPE_CHECKING:
    from .model import Model

FACE_FORMAT, FACE_VERSION = "morphing-faces face", 1
RANGE_LIMITS = (0.25, 4.0)  # how far from 0 the edge of the hover square may be
WALK_STEP = 0.5  # the 2014 random walk: one dimension at a time, this far up or down
WALK_LIMIT = 2.5  # it turns back here: beyond, no face is typical


@dataclass(frozen=True)
class _State:
    z: np.ndarray
    axes: tuple[int, int]


class Session:
    """The state behind the window, the prompt and the page.

    ``z`` is the point in latent space, (latent_size,) float32, not to be written to; ``axes`` the two chosen
    dimensions, numbers into ``model.dimensions``; ``frozen`` whether moves are ignored; ``range`` the latent coordinate
    at the edge of the hover square. A seed decides the faces that :meth:`shuffle` shows: the first is row 0 of
    ``model.sample(..., seed)``, then row 1, and so on.
    """

    def __init__(self, model: Model, seed: int = 0):
        self.latent_size = model.latent_size
        self.dimensions = model.dimensions
        self.bundle_name = model.name
        self.seed = noise.check_seed(seed)
        self.faces_drawn = 0
        self.walk_steps = 0
        self.axes: tuple[int, int] = (0, 1)
        self.frozen = False
        self.range = 1.0
        self.z = self._next_face()
        self._past: list[_State] = []
        self._future: list[_State] = []
        self._gesture = False  # whether the last thing done was a move: a run of moves is undone as one

    # --- verbs

    def move(self, x: float, y: float) -> None:
        """Set the two chosen coordinates from a place in the hover square.

        Bottom-left is (-1, -1), top-right (1, 1); the place times ``range`` is the coordinate. Ignored while frozen.
        """
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"move to ({x}, {y}): must be finite numbers, in the square from -1 to 1")
        if self.frozen:
            return
        self.begin_gesture()
        z = self.z.copy()
        z[self.dimensions[self.axes[0]]] = x * self.range
        z[self.dimensions[self.axes[1]]] = y * self.range
        self.z = _fixed(z)

    def select(self, dimension_0: int, dimension_1: int) -> None:
        """Choose the dimensions under the mouse, x then y. Coordinates set before stay as they are."""
        for dimension in (dimension_0, dimension_1):
            self._latent(dimension)
        if dimension_0 == dimension_1:
            raise ValueError(f"dimensions {dimension_0} and {dimension_1}: must be two different ones")
        self._remember()
        self.axes = (int(dimension_0), int(dimension_1))

    def toggle_freeze(self) -> None:
        """Freeze the face, so that moves are ignored, or unfreeze it."""
        self.frozen = not self.frozen
        self._gesture = False

    def shuffle(self, seed: int | None = None) -> None:
        """Another face at random; with a seed, that seed's first. Axes, range and frozen stay as they are."""
        if seed is not None:
            self.seed = noise.check_seed(seed)
            self.faces_drawn = self.walk_steps = 0
        self._remember()
        self.z = self._next_face()

    def get(self, dimension: int | None = None) -> Any:
        """One coordinate as a float, or with no argument a copy of the whole point, (latent_size,) float32."""
        return self.z.copy() if dimension is None else float(self.z[self._latent(dimension)])

    def set(self, target: int | ArrayLike, value: float | None = None) -> None:
        """``set(dimension, value)`` sets one coordinate, ``set(z)`` the whole point. Works while frozen, too."""
        if value is not None:
            if not math.isfinite(value):
                raise ValueError(f"coordinate {value!r}: must be a finite number")
            z = self.z.copy()
            z[self._latent(target)] = value  # type: ignore[arg-type]
        else:
            z = np.array(target, np.float32)
            if z.shape != (self.latent_size,) or not np.isfinite(z).all():
                raise ValueError(f"z has shape {z.shape}, expected ({self.latent_size},), all finite")
        self._remember()
        self.z = _fixed(z)

    def set_range(self, value: float) -> None:
        """Set the latent coordinate at the edge of the hover square, from 0.25 to 4."""
        low, high = RANGE_LIMITS
        if not low <= value <= high:
            raise ValueError(f"range {value:g}: must be from {low:g} to {high:g}")
        self.range = float(value)

    def widen(self, steps: float) -> None:
        """Widen the range by a tenth a step of the mouse wheel; negative steps narrow it. Stops at the limits."""
        low, high = RANGE_LIMITS
        self.range = min(max(self.range * 1.1**steps, low), high)
        if abs(self.range - 1) < 1e-6:
            self.range = 1.0

    def walk(self) -> None:
        """One step of the 2014 random walk: one of the dimensions, half a unit up or down."""
        self.begin_gesture()
        draw = noise.whole(self.seed, self.walk_steps, 2 * len(self.dimensions))
        self.walk_steps += 1
        latent = self.dimensions[draw // 2]
        z = self.z.copy()
        step = WALK_STEP if draw % 2 else -WALK_STEP
        if abs(z[latent] + step) > WALK_LIMIT:
            step = -math.copysign(WALK_STEP, z[latent])
        z[latent] += step
        self.z = _fixed(z)

    def begin_gesture(self) -> None:
        """Let what follows, moves or steps of a walk, be undone as one."""
        if not self._gesture:
            self._remember()
            self._gesture = True

    def settle(self, z: np.ndarray) -> None:
        """End a walk where it is seen to be, between two steps."""
        self.begin_gesture()
        self.z = _fixed(np.array(z, np.float32))
        self._gesture = False

    def undo(self) -> bool:
        """Go back before the last action; a run of moves counts as one. Returns whether there was one."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Take an undo back. Returns whether there was one."""
        return self._travel(self._future, self._past)

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
            "z": [float(str(value)) for value in self.z],  # the shortest decimals that give the float32 back
        }

    def from_dict(self, face: Any) -> None:
        """Show a face from :meth:`to_dict`. Raises ``ValueError`` and changes nothing when it is not a face for this model."""
        if not isinstance(face, dict) or face.get("format") != FACE_FORMAT:
            raise ValueError("is not a face saved by morphing-faces")
        if face.get("version") != FACE_VERSION:
            raise ValueError(
                f"has version {face.get('version')!r}, this program reads {FACE_VERSION}: update morphing-faces"
            )
        if face.get("bundle") != self.bundle_name:
            raise ValueError(
                f"is a face of bundle {face.get('bundle')!r}, this is {self.bundle_name!r}: open it with that one"
            )
        try:
            z = np.array(face["z"], np.float32)
            axes = (face["axes"][0], face["axes"][1])
            width, frozen = float(face["range"]), face["frozen"]
        except (KeyError, TypeError, ValueError, IndexError):
            raise ValueError("lacks z, axes, range or frozen, or one is not of its kind") from None
        if z.shape != (self.latent_size,) or not np.isfinite(z).all():
            raise ValueError(f"has {z.size} coordinates, expected {self.latent_size}, all finite")
        if any(type(a) is not int or not 0 <= a < len(self.dimensions) for a in axes) or axes[0] == axes[1]:
            raise ValueError(f"has axes {list(axes)}, expected two different ones from 0 to {len(self.dimensions) - 1}")
        if not RANGE_LIMITS[0] <= width <= RANGE_LIMITS[1] or not isinstance(frozen, bool):
            raise ValueError(f"has range {width!r} and frozen {frozen!r}, expected 0.25 to 4 and true or false")
        self._remember()
        self.z, self.axes, self.range, self.frozen = _fixed(z), axes, width, frozen

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the face as a small JSON file, whole or not at all."""
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict()) + "\n", encoding="utf-8")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Show a saved face. Raises ``ValueError`` that names the file and what is wrong with it."""
        try:
            face = json.loads(Path(path).read_text(encoding="utf-8"))
            self.from_dict(face)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a face saved by morphing-faces") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None

    # --- inside

    def _latent(self, dimension: Any) -> int:
        last = len(self.dimensions) - 1
        if isinstance(dimension, bool) or not isinstance(dimension, (int, np.integer)) or not 0 <= dimension <= last:
            raise ValueError(f"dimension {dimension!r}: dimensions are whole numbers from 0 to {last}")
        return self.dimensions[int(dimension)]

    def _next_face(self) -> np.ndarray:
        z = noise.normal(self.seed, self.faces_drawn, 1, self.latent_size)[0]
        self.faces_drawn += 1
        return _fixed(z)

    def _remember(self) -> None:
        self._past.append(_State(self.z, self.axes))
        self._future.clear()
        self._gesture = False

    def _travel(self, source: list[_State], target: list[_State]) -> bool:
        self._gesture = False
        if not source:
            return False
        target.append(_State(self.z, self.axes))
        state = source.pop()
        self.z, self.axes = state.z, state.axes
        return True


def _fixed(z: np.ndarray) -> np.ndarray:
    z.setflags(write=False)
    return z


# --- the prompt's grammar


@dataclass(frozen=True)
class Verb:
    """A word of the prompt: what follows it and what it does, as the help shows it."""

    arguments: str
    help: str


VERBS: dict[str, Verb] = {
    "h": Verb("", "Display this help message"),
    "q": Verb("", "Quit the program"),
    "r": Verb("", "Randomize face"),
    "d": Verb("D1 D2", "Select dimensions D1 and D2"),
    "f": Verb("", "Freeze / unfreeze the face, as a click does"),
    "u": Verb("", "Undo"),
    "redo": Verb("", "Undo the undo"),
    "set": Verb("D X", "Set dimension D to X"),
    "range": Verb("X", "Let the mouse reach from -X to X, as the wheel does"),
    "walk": Verb("", "Random walk; any key or command stops it"),
    "save": Verb("FILE", "Save the face (.json), or its picture (.png)"),
    "load": Verb("FILE", "Load a face saved before (.json)"),
}


def help_message(dimensions: int) -> str:
    """What ``h`` shows: the 2014 words first."""
    rows = [f"    {f'{name} {verb.arguments}':<14}{verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "",
            "Move your mouse over the image to make it morph, click it to",
            "freeze / unfreeze the image.",
            "",
            "COMMANDS:",
            *rows,
            "",
            f"Dimensions are 0 to {dimensions - 1}, the one that changes the picture most first.",
            "",
        ]
    )


def parse(line: str, dimensions: int) -> tuple[str, tuple[Any, ...]]:
    """A line of the prompt -> its verb and arguments, converted: ``"d 0 5"`` -> ``("d", (0, 5))``.

    An empty line is ``("", ())``. Raises ``ValueError`` with one line that says what is wrong and what is allowed.
    """
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    if not name:
        return "", ()
    if name not in VERBS:
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown command {name!r}: {hint}type h for help")
    wanted = VERBS[name].arguments.split()
    if wanted == ["FILE"]:
        if not rest:
            raise ValueError(f"{name} needs a file: {name} FILE")
        return name, (rest.strip("\"'"),)
    words = rest.split()
    if len(words) != len(wanted):
        if name == "d":
            raise ValueError("need two dimensions to select: d D1 D2")
        raise ValueError(
            f"{name} takes {len(wanted) or 'no'} arguments, got {len(words)}: {name} {' '.join(wanted)}".rstrip()
        )
    return name, tuple(_argument(kind, word, dimensions) for kind, word in zip(wanted, words, strict=True))


def _argument(kind: str, word: str, dimensions: int) -> int | float:
    if kind.startswith("D"):
        try:
            dimension = int(word)
        except ValueError:
            dimension = -1
        if not 0 <= dimension < dimensions:
            raise ValueError(f"dimension {word!r}: dimensions are whole numbers from 0 to {dimensions - 1}")
        return dimension
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{word!r}: must be a number")
    return number

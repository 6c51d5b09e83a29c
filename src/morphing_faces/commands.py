"""The words of the prompt, the keys of the window and the help: one table, from which all of them are made."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import UserError, one_line
from .files import AnyPath, output_file
from .names import DimensionName
from .rules import HANDLES, PARTS, say
from .session import Session


class View(Protocol):
    """What shows a session, as far as a command has to do with it."""

    @property
    def session(self) -> Session:
        """What the person is doing."""

    def close(self) -> None:
        """End the view."""

    def start_walk(self) -> None:
        """Walk at random until something else is done."""

    def start_glide(self) -> None:
        """Glide from face to face until something else is done."""

    def toggle_handles(self) -> None:
        """Show handles to pull the face by, or hide them. Raises ``UserError`` where the model has no shape."""

    def save_picture(self, path: Path) -> None:
        """Write the face as a picture, in the format of the suffix."""


@dataclass(frozen=True)
class Command:
    """A word of the prompt.

    ``arguments`` are what follows it, as the help shows them: D is a dimension, X a number, DX and DY pixels, FILE a path,
    HANDLE a handle of the face, PART the shape or the appearance, NAME one of the model's attributes, which may have several
    words. ``action`` does
    it and returns what to tell the person, "" for nothing. ``keys`` are the keys of the window, by matplotlib's names;
    where the word takes arguments, they open a line that begins with it. ``others`` are words that mean the same.
    """

    arguments: str
    help: str
    action: Callable[..., str]
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


# --- what the words do


def _help(view: View) -> str:
    return help_message(len(view.session.dimensions), view.session.dimension_names)


def _quit(view: View) -> str:
    view.close()
    return ""


def _randomize(view: View) -> str:
    view.session.shuffle()
    return ""


def _select(view: View, first: int, second: int) -> str:
    view.session.select(first, second)
    across, up = (view.session.dimension_names[dimension] for dimension in (first, second))
    return f"across: {across}; up: {up}" if across.ends or up.ends else ""


def _freeze(view: View) -> str:
    view.session.toggle_freeze()
    return ""


def _undo(view: View) -> str:
    return "" if view.session.undo() else "nothing to undo"


def _redo(view: View) -> str:
    return "" if view.session.redo() else "nothing to redo"


def _set(view: View, dimension: int, value: float) -> str:
    view.session.set(dimension, value)
    return ""


def _knob(view: View, name: str, amount: float) -> str:
    view.session.knob(name, amount)
    return f"{name} is at {view.session.read(name):+.2f}"


def _range(view: View, value: float) -> str:
    view.session.set_range(value)
    return ""


def _walk(view: View) -> str:
    view.start_walk()
    return "walking; any key or command stops"


def _glide(view: View) -> str:
    view.start_glide()
    return "gliding; any key or command stops"


def _handles(view: View) -> str:
    view.toggle_handles()
    return ""


def _grab(view: View, handle: str, dx: float, dy: float) -> str:
    left = view.session.grab(handle, (dx, dy))
    return f"{handle} stays {left:.1f} pixels behind" if left >= 0.5 else ""


def _pin(view: View, handle: str) -> str:
    view.session.pin(handle)
    return f"{handle} {'is pinned' if handle in view.session.pinned else 'moves again'}"


def _lock(view: View, dimension: int) -> str:
    view.session.toggle_lock(dimension)
    done = "is locked" if dimension in view.session.locked else "moves again"
    return f"{view.session.dimension_names[dimension].name} {done}"


def _keep(view: View, part: str) -> str:
    view.session.toggle_still(part)
    return f"{part} stays" if view.session.still else f"{part} moves again"


def _scale(view: View, value: float) -> str:
    view.session.set_scale(value)
    return ""


def _save(view: View, name: AnyPath) -> str:
    from .pictures import WRITTEN  # here, because it imports Pillow, and a window is not always open

    path = output_file(name)
    suffix = path.suffix.lower()
    if suffix in WRITTEN:
        view.save_picture(path)
    elif suffix in ("", ".json"):
        view.session.save(path)
    else:
        raise UserError(f"{name}: a face is saved as .json, its picture as {', '.join(WRITTEN)}")
    return f"saved {one_line(str(name))}"


def _load(view: View, name: AnyPath) -> str:
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:  # no home
        raise UserError(f"{name} cannot be read: {error}") from None
    view.session.load(path)
    return ""


COMMANDS: dict[str, Command] = {
    "h": Command("", "Display this help message", _help, ("h", "?"), ("help", "?")),
    "q": Command("", "Quit the program", _quit, ("q",), ("quit", "exit")),
    "r": Command("", "Randomize face", _randomize, ("r",), ("random",)),
    "d": Command("D1 D2", "Select dimensions D1 and D2", _select, ("d",)),
    "f": Command("", "Freeze / unfreeze the face, as a click does", _freeze, ("f", " "), ("freeze", "unfreeze")),
    "u": Command("", "Undo", _undo, ("u", "ctrl+z"), ("undo",)),
    "redo": Command("", "Undo the undo", _redo, ("y", "ctrl+y", "ctrl+shift+z")),
    "set": Command("D X", "Set dimension D to X", _set),
    "knob": Command("NAME X", "Move smile, age ... by X standard deviations", _knob),
    "range": Command("X", "Let the mouse reach from -X to X, as the wheel does", _range),
    "walk": Command("", "Random walk; any key or command stops it", _walk, ("w",)),
    "glide": Command("", "Glide from face to face; any key or command stops it", _glide, ("m",)),
    "handles": Command("", "Show handles to pull the face by, or hide them", _handles, ("g",)),
    "grab": Command("HANDLE DX DY", "Pull a handle by pixels, right and down; the face follows", _grab),
    "pin": Command("HANDLE", "Let a handle stay while others are pulled, or move again", _pin),
    "scale": Command("X", "Set how unusual the face is: 1 as drawn, 0.1 average, up to 2", _scale),
    "lock": Command("D", "Let no other command move dimension D, or move it again", _lock),
    "keep": Command("PART", "Keep the shape or the appearance still while the other changes, or let it go", _keep),
    "save": Command("FILE", "Save the face (.json), or its picture (.png)", _save, ("s",)),
    "load": Command("FILE", "Load a face saved before (.json)", _load, ("l",)),
}
WORDS = {word: name for name, command in COMMANDS.items() for word in (name, *command.others)}
LINE_KEYS = (":", "/")  # open an empty line

# What a key of the window does: the command it stands for; one that ends in a space, or is empty, opens a line.
KEYS: dict[str, str] = {
    key: f"{name} " if command.arguments else name for name, command in COMMANDS.items() for key in command.keys
} | dict.fromkeys(LINE_KEYS, "")


# --- the help


def rows() -> list[str]:
    """A line for each word: the word with its arguments, and what it does."""
    return [f"{f'{name} {command.arguments}':<18}{command.help}" for name, command in COMMANDS.items()]


def help_message(dimensions: int, names: Sequence[DimensionName] = ()) -> str:
    """What ``h`` shows: the 2014 words first, then the dimensions that have names."""
    named = [f"    {number:>2}  {name}" for number, name in enumerate(names) if name.ends]
    return "\n".join(
        [
            "",
            "Move your mouse over the image to make it morph, click it to",
            "freeze / unfreeze the image.",
            "",
            "COMMANDS:",
            *(f"    {row}" for row in rows()),
            "",
            f"Dimensions are 0 to {dimensions - 1}, the one that changes the picture most first.",
            *named,
            "",
        ]
    )


def key_help() -> str:
    """What the window's help says of its keys, in two lines."""
    plain = [key for key, command in KEYS.items() if command and not command.endswith(" ") and len(key) == 1]
    same = " ".join(key for key in plain if key == KEYS[key])
    named = ", ".join(f"{key} {KEYS[key]}" for key in plain if key.isalpha() and key != KEYS[key])
    lines = ", ".join(command.strip() if key == command.strip() else f"{key} ({command.strip()})" for key, command in KEYS.items() if command.endswith(" "))  # fmt: skip
    return (
        f"Keys here: {same} as above, {named};\n"
        f"{lines} and {LINE_KEYS[0]} (anything) open a line, Esc closes it. The wheel: range."
    )


# --- the grammar


def parse(line: str, dimensions: int) -> tuple[str, tuple[Any, ...]]:
    """A line of the prompt -> its word and arguments, converted: ``"d 0 5"`` -> ``("d", (0, 5))``.

    An empty line is ``("", ())``. Raises ``UserError`` with one line that says what is wrong and what is allowed.
    """
    word, *following = line.split(None, 1) or [""]
    rest = following[0].strip() if following else ""
    if not word:
        return "", ()
    name = WORDS.get(word)
    if name is None:
        near = difflib.get_close_matches(word, WORDS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown command {_shown(word)}: {hint}type h for help")
    wanted = COMMANDS[name].arguments.split()
    if wanted == ["FILE"]:
        path = rest.strip("\"'")
        if not path:
            raise UserError(f"{name} needs a file: {name} FILE")
        return name, (path,)
    if wanted == ["PART"]:
        if rest not in PARTS:
            raise UserError(f"{name} {_shown(rest)}: must be {' or '.join(f'{name} {part}' for part in PARTS)}")
        return name, (rest,)
    if wanted[:1] == ["NAME"]:
        text, _, number = rest.rpartition(" ")
        if not text.strip():
            raise UserError(f"{name} takes 2 arguments: {name} {' '.join(wanted)}, as {name} smile 1.5")
        return name, (text.strip(), _argument("X", number, dimensions))
    words = rest.split()
    if len(words) != len(wanted):
        if name == "d":
            raise UserError("need two dimensions to select: d D1 D2")
        raise UserError(
            f"{name} takes {len(wanted) or 'no'} arguments, got {len(words)}: {name} {' '.join(wanted)}".rstrip()
        )
    return name, tuple(_argument(kind, text, dimensions) for kind, text in zip(wanted, words, strict=True))


def perform(view: View, word: str, arguments: tuple[Any, ...]) -> str:
    """Do what :func:`parse` has read and return what to tell the person. Raises ``UserError`` with one line."""
    return COMMANDS[word].action(view, *arguments) if word else ""


def _argument(kind: str, text: str, dimensions: int) -> int | float | str:
    if kind == "HANDLE":
        if text not in HANDLES:
            near = difflib.get_close_matches(text, HANDLES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(say("handle", name=one_line(text, 40), names=list(HANDLES)) + hint)
        return text
    if kind == "D" or kind[1:].isdigit():
        dimension = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not 0 <= dimension < dimensions:
            raise UserError(f"dimension {_shown(text)}: dimensions are whole numbers from 0 to {dimensions - 1}")
        return dimension
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{_shown(text)}: must be a number")
    return number


def _shown(text: str) -> str:
    return one_line(repr(text), 80)

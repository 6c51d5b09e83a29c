"""What a person can mend, said in one line. Any other exception is a fault of this program."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
import traceback

EXTRAS = {
    # module: (what it is called, the extra that brings it)
    "torch": ("PyTorch", "train"),
    "torchvision": ("torchvision", "train"),
    "onnx": ("onnx", "adopt"),  # [train] brings it, too, and torch is what is missed first there
    "anywidget": ("anywidget", "notebook"),
    "onnxscript": ("onnxscript", "train"),
    "safetensors": ("safetensors", "train"),
    "sklearn": ("scikit-learn", "train"),
    "tensorboard": ("tensorboard", "train"),
    "tqdm": ("tqdm", "train"),
    "dlib": ("dlib", "metrics"),
    "face_recognition_models": ("face_recognition_models", "metrics"),
    "skimage": ("scikit-image", "metrics"),
    "torch_fidelity": ("torch-fidelity", "inception"),
    "pillow_heif": ("pillow-heif", "heic"),
    "av": ("PyAV", "mp4"),
}


class UserError(ValueError):
    """What was given cannot be used. The message is one line: it names the value, what is allowed and the remedy.

    The command line tells it and leaves with a non-zero exit; the prompt tells it and reads on.
    """


class AlreadyExistsError(UserError, FileExistsError):
    """Something is in the place where a folder should be written."""


def need(module: str, purpose: str) -> None:
    """Raise :class:`UserError` with the extra to install unless ``module`` can be imported.

    ``purpose`` begins the line: "this command", "describing faces".
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(missing(module, purpose))


def missing(module: str, purpose: str) -> str:
    """The line that tells which extra brings a module that is not installed."""
    name, extra = EXTRAS.get(module.partition(".")[0], (module, "train"))
    return f"{purpose} needs {name}, which is not installed: pip install 'morphing-faces[{extra}]'"


def reason(error: BaseException) -> str:
    """Why something failed, in one line without paths: of an ``OSError`` the system's own words."""
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return error.strerror + ("; free some space or write elsewhere" if full else "")
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return one_line(str(error)) or type(error).__name__


def one_line(text: str, longest: int = 2000) -> str:
    """Text as one line that is safe on a terminal: no line breaks, no control characters, of a bounded length."""
    plain = "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in text)
    plain = plain.encode("utf-8", "backslashreplace").decode()  # file names may hold bytes that are no text
    return plain if len(plain) <= longest else f"{plain[: longest - 3]}..."


# --- everything else


def tell(error: BaseException) -> str:
    """One line for any exception: what a person can mend as it is, anything else as a fault of this program.

    The traceback of a fault goes to standard error when :func:`debug` was called.
    """
    if isinstance(error, UserError):
        return one_line(str(error))
    if isinstance(error, MemoryError):
        return "not enough memory; ask for fewer or smaller pictures"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRAS:
        return missing(error.name or "", "this command")
    if isinstance(error, OSError):
        where = f"{one_line(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        return f"{where}{reason(error)}"
    if _debugging:
        traceback.print_exception(error, file=sys.stderr)
    what = f"{type(error).__name__}: {one_line(str(error), 200)}" if str(error) else type(error).__name__
    return f"sorry, this is a fault of morphing-faces ({what}): run it again with --debug and report what that prints"


def debug(on: bool = True) -> None:
    """Print the traceback of every fault that is told from now on."""
    global _debugging  # noqa: PLW0603 - a switch of the process, set once by the command line
    _debugging = on


_debugging = False

"""The doors for files: what is read is bounded and told in one line, what is written appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import AlreadyExistsError, UserError, one_line, reason

AnyPath = str | os.PathLike[str]

JSON_LIMIT = 16 << 20  # bytes of a JSON file; the largest that this program writes is a golden.json of some 100 kB
TEXT_LIMIT = 64 << 20  # bytes of any other text
STALE = 600  # seconds after which a temporary file that nobody writes to was left behind by a kill
LONGEST_NAME = 200  # bytes: file systems take 255, and names beside the file get a little longer
REFUSED_CHARACTERS = '<>:"|?*\\'  # by Windows, and so by what people exchange with it
REFUSED_NAMES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
)


# --- what comes in


def read_bytes(path: AnyPath, limit: int | None = None) -> bytes:
    """The content of a regular file of at most ``limit`` bytes. Raises ``UserError`` that names it and says why not."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UserError(f"{path} cannot be read: not a file but {_sort(found.st_mode)}")
            if limit is not None and found.st_size > limit:
                raise UserError(f"{path} has {found.st_size:,} bytes, more than the {limit:,} that are read")
            return file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from None
    except ValueError as error:  # a zero byte in the name
        if isinstance(error, UserError):
            raise
        raise UserError(f"{one_line(os.fspath(path))} cannot be read: {reason(error)}") from None


def read_text(path: AnyPath, limit: int = TEXT_LIMIT) -> str:
    """A text file in UTF-8, or in UTF-16 with its mark. Raises ``UserError`` that names the file and its encoding."""
    return decode_text(read_bytes(path, limit), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Bytes of the file ``name`` as text; a byte order mark is not part of it. Raises ``UserError``."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = content[error.start : error.start + 1].hex()
        raise UserError(
            f"{name} is not UTF-8 text (byte 0x{wrong} at {error.start}): save it with the encoding UTF-8"
        ) from None


def read_json(path: AnyPath, limit: int = JSON_LIMIT) -> Any:
    """The value in a JSON file. Raises ``UserError`` when it is missing, too large, nested too deeply or no JSON."""
    return parse_json(read_bytes(path, limit), str(path))


def parse_json(content: bytes, name: str) -> Any:
    """Bytes of the file ``name`` as a JSON value, in which numbers may be NaN or infinite. Raises ``UserError``."""
    try:
        return json.loads(decode_text(content, "it"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not valid JSON: {reason(error)}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open without waiting for a writer, which a named pipe may never get."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _sort(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


# --- where something may be written


@dataclass(frozen=True)
class Kind:
    """A kind of folder that this program writes, and so may replace.

    ``mark`` is the JSON file by which one is known; ``files`` are the others it may hold, beside those that the mark
    itself lists under "files" and "written".
    """

    name: str
    mark: str
    files: frozenset[str] = frozenset()

    def contents(self, folder: Path) -> set[str] | None:
        """The files, relative to it, that a folder of this kind may hold; ``None`` when it is not of this kind."""
        try:
            mark = read_json(folder / self.mark)
        except UserError:
            return None
        if not isinstance(mark, dict) or not {"format", "made by"} & mark.keys():
            return None
        listed = [mark.get(key) for key in ("files", "written")]
        names = [str(name) for part in listed if isinstance(part, (dict, list)) for name in part]
        return {self.mark, *self.files, *names}


DATA_SET = Kind("data set", "dataset.json", frozenset({"images.npy", "held_out.npy", "labels.csv", "landmarks.npy"}))
BUNDLE = Kind("bundle", "manifest.json", frozenset({"decoder.onnx", "encoder.onnx", "shape.onnx", "golden.json"}))
SITE = Kind("site", "site.json")
FINDER = Kind("finder of faces", "manifest.json", frozenset({"finder.onnx"}))


def output_file(path: AnyPath, suffixes: Collection[str] = (), inputs: Collection[AnyPath] = ()) -> Path:
    """Check that a file can be written at ``path`` before work is done for it; ``~`` is the home folder.

    ``suffixes`` are those allowed, in lower case with their dot; ``inputs`` are the files that it must not replace.
    Raises ``UserError`` with the remedy.
    """
    target = _writable(path)
    if suffixes and target.suffix.lower() not in suffixes:
        raise UserError(f"{path}: the name must end in {', '.join(suffixes)}")
    if target.exists() and not target.is_file():
        raise UserError(f"{path} is {_sort(target.stat().st_mode)}: choose the name of a file")
    for each in inputs:
        same = False
        with suppress(OSError, ValueError):  # either is not there, or has a name that no system takes
            same = target.samefile(each)
        if same:
            raise UserError(f"{path} is one of the files that are read: choose another name for what is written")
    return target


def output_folder(path: AnyPath, kind: Kind | None = None, *, overwrite: bool = False) -> Path:
    """Check that a new folder can be written at ``path`` before work is done for it; ``~`` is the home folder.

    What is there already may be an empty folder or, with ``overwrite``, one of ``kind`` that holds nothing else.
    Raises ``UserError`` with the remedy.
    """
    target = _writable(path)
    if target == target.parent or _is_mount_point(target):
        raise UserError(f"{path} is a mount point, which cannot be replaced: choose a folder inside, as {path}/new")
    inside = False
    with suppress(FileNotFoundError):  # that folder is gone
        inside = Path.cwd().is_relative_to(target)
    if inside:
        raise UserError(f"{path} is the folder that you are in: choose a new one")
    if not target.exists():
        return target
    if not target.is_dir():
        raise AlreadyExistsError(f"{path} already exists and is no folder: choose another place")
    present = _files_in(target)
    if not present:
        return target
    if kind is None or not overwrite:
        remedy = f", or pass --overwrite to replace a {kind.name}" if kind else ""
        raise AlreadyExistsError(f"{path} already exists; choose another place{remedy}")
    own = kind.contents(target)
    if own is None:
        raise AlreadyExistsError(
            f"{path} was not made by morphing-faces, as no {kind.name} is in it: --overwrite leaves it alone; choose another"
        )
    if other := sorted(present - own):
        raise AlreadyExistsError(
            f"{path} holds {other[0]!r}, which is no part of a {kind.name}: --overwrite leaves it alone; "
            "move that away, or choose another place"
        )
    return target


def _writable(path: AnyPath) -> Path:
    text = os.fspath(path)
    if not text.strip():
        raise UserError("the name of what to write is empty: give one")
    try:
        given = Path(text).expanduser()
        target = Path(os.path.realpath(given))
    except (RuntimeError, ValueError, OSError) as error:  # no home, a zero byte, a circle of links
        raise UserError(f"{one_line(text)} cannot be written: {reason(error)}") from None
    name = given.name
    wrong = next((c for c in name if c in REFUSED_CHARACTERS or not c.isprintable()), None)
    if wrong is not None:
        raise UserError(f"{one_line(text)}: not every system takes {wrong!a} in a name: choose another")
    if name.endswith((" ", ".")) and name not in ("", ".", ".."):
        raise UserError(f"{text}: not every system takes a name that ends in {name[-1]!r}: choose another")
    if name.partition(".")[0].upper() in REFUSED_NAMES:
        raise UserError(f"{text}: Windows keeps the name {name!r} for itself: choose another")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(f"{one_line(text, 80)}: the name is longer than {LONGEST_NAME} bytes: choose a shorter one")
    parent = target.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise UserError(f"{text} cannot be written: {parent} is no folder")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{text} cannot be written: you may not write into {parent}")
    return target


def _is_mount_point(path: Path) -> bool:
    """Whether the folder is a mount point; a folder bound onto its own disk is one, too, which ``ismount`` misses."""
    if os.path.ismount(path):
        return True
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    escaped = os.fsencode(path)
    for character in (b"\\", b" ", b"\t", b"\n"):
        escaped = escaped.replace(character, b"\\%03o" % character[0])
    return any(line.split(b" ")[4:5] == [escaped] for line in mounts)


def _files_in(folder: Path) -> set[str]:
    """Everything that is no folder, at any depth, and the folders that are empty; relative, with forward slashes."""
    found: set[str] = set()
    for parent, folders, names in os.walk(folder):
        inside = Path(parent).relative_to(folder)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found |= {(inside / name).as_posix() for name in (*names, *links)}
        if inside != Path() and not folders and not names:
            found.add(inside.as_posix())
    return found


# --- writing


@contextmanager
def atomic_write(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block succeeds it replaces ``path`` in one step.

    If the block raises (a full disk, Ctrl-C), ``path`` is left as it was and the temporary file is removed. Raises
    ``UserError`` when the file cannot be written.
    """
    target = output_file(path)
    made = _make_parents(target.parent)
    temporary = None
    try:
        clear_leftovers(target.parent, target.name, older_than=STALE)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=f".partial{target.suffix}")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None or temporary is None or str(error.filename) == str(temporary):
            raise UserError(f"{path} cannot be written: {reason(error)}") from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        _remove_empty(made)


def clear_leftovers(folder: Path, name: str = "", older_than: float = 0) -> None:
    """Remove what :func:`atomic_write` left in ``folder`` when it was killed: of the file ``name``, or of every file.

    Call it with ``older_than`` (seconds since the last change) of 0 only while holding the folder's lock.
    """
    before = time.time() - older_than
    for entry in folder.glob(f".{_escaped(name)}*.partial*" if name else ".*.partial*"):
        with suppress(OSError):
            if entry.is_file() and entry.stat().st_mtime <= before:
                entry.unlink()


@contextmanager
def replace_folder(path: AnyPath, kind: Kind | None = None, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder beside ``path``; when the block succeeds it becomes ``path``.

    What is there already is judged as :func:`output_folder` does, before the block and again after it, for it may have
    appeared meanwhile. A lock beside the folder keeps other processes out and is released by a kill; what a killed one
    left behind is removed. Raises ``UserError``.
    """
    target = output_folder(path, kind, overwrite=overwrite)
    partial, replaced = _beside(target, "partial"), _beside(target, "replaced")
    try:
        made = _make_parents(target.parent)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {reason(error)}") from None
    try:
        with lock(_beside(target, "lock"), path):
            if replaced.exists() and not target.exists():  # killed between the two renames below
                os.rename(replaced, target)
            shutil.rmtree(replaced, ignore_errors=True)
            shutil.rmtree(partial, ignore_errors=True)
            output_folder(path, kind, overwrite=overwrite)
            partial.mkdir()
            try:
                yield partial
                output_folder(path, kind, overwrite=overwrite)
                _swap(partial, target, replaced, path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(replaced, ignore_errors=True)
    finally:
        _remove_empty(made)


def _swap(partial: Path, target: Path, replaced: Path, path: AnyPath) -> None:
    moved = False
    try:
        if target.exists() and any(target.iterdir()):
            os.rename(target, replaced)
            moved = True
        elif os.name == "nt" and target.exists():
            target.rmdir()
        os.rename(partial, target)
    except BaseException as error:
        if moved and not target.exists():
            os.rename(replaced, target)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be replaced: {reason(error)}; choose another place") from error
        raise


@contextmanager
def lock(file: Path, what: AnyPath) -> Iterator[None]:
    """Hold the lock ``file`` while the block runs, so that ``what`` has one writer; a kill releases it.

    Raises ``UserError`` that says who holds it.
    """
    from filelock import FileLock, Timeout  # here, because its import takes as long as the whole package's

    guard = FileLock(file, timeout=0, thread_local=False)
    try:
        guard.acquire()
    except Timeout:
        try:
            holder = one_line(file.read_text(encoding="utf-8", errors="replace"), 200).strip() or "another process"
        except OSError:
            holder = "another process"
        raise UserError(f"{what} is being written by {holder}: wait until that has ended, or stop it") from None
    except OSError as error:
        raise UserError(f"{what} cannot be written: {reason(error)}") from None
    try:
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        command = " ".join(Path(sys.argv[0]).name.split() + sys.argv[1:2]) if sys.argv else "Python"
        with suppress(OSError):
            file.write_text(f"process {os.getpid()} on {socket.gethostname()} ({command}, {started})", encoding="utf-8")
        yield
    finally:
        if os.name != "nt":
            file.unlink(missing_ok=True)  # while it is held: whoever waits for it notices and makes a new one
        guard.release()
        if os.name == "nt":
            with suppress(OSError):  # another holds it by now
                file.unlink(missing_ok=True)


def lock_folder(folder: Path) -> Any:
    """Hold ``folder/.lock``, for folders that grow in place, as a run's; the folder is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {reason(error)}") from None
    return lock(folder / ".lock", folder)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.morphing-faces-{what}")


def _make_parents(folder: Path) -> list[Path]:
    """Make a folder with its parents -> those that were made, the innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    if missing:
        missing[0].mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    with suppress(OSError):  # the first that holds something ends it
        for folder in folders:
            folder.rmdir()


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())

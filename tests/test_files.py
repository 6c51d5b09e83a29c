"""The doors for files: what is read ends in a value or in one line; what is written appears whole, or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from morphing_faces import files
from morphing_faces.errors import UserError
from morphing_faces.files import BUNDLE, DATA_SET, SITE, Kind, atomic_write, output_file, output_folder, replace_folder

MARK = {BUNDLE: '{"format": 1}', DATA_SET: '{"format": 1}', SITE: '{"made by": "morphing-faces site", "files": []}'}


def refusal(call: Callable[[], object], *words: str) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert message.strip()
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- in


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 200_000, ["nested too deeply"]),
        (b'{"a": ' * 200_000, ["nested too deeply"]),
        (b"9" * 10_000, []),
        (b"", []),
        (b"caf\xe9", ["UTF-8", "0xe9 at 3"]),
        (b"\xff\xfe\x00", ["UTF-8"]),
        (b'"\xed\xa0\x80"', ["UTF-8"]),
        (b"{'a': 1}", []),
    ],
)
def test_what_is_no_json_is_told_with_the_name(content: bytes, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        files.read_json(path)  # ten thousand digits are a number to some versions of Python
    except UserError:
        refusal(lambda: files.read_json(path), str(path), "is not valid JSON", *words)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.json").write_text('{"é": 1}', encoding=encoding)
        assert files.read_json(tmp_path / "a.json") == {"é": 1}


def test_only_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"1" * 101)
    refusal(lambda: files.read_bytes(tmp_path / "large", 100), "large", "101 bytes", "100")
    refusal(lambda: files.read_bytes(tmp_path), "cannot be read")
    refusal(lambda: files.read_bytes(tmp_path / "none"), "No such file")
    refusal(lambda: files.read_bytes("a\0b"), "a\\x00b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        refusal(lambda: files.read_bytes(tmp_path / "pipe"), "a device or a pipe")  # and does not wait for a writer
        refusal(lambda: files.read_bytes("/dev/zero"), "a device or a pipe")


# --- where something may be written


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", ["empty"]),
        ("  ", ["empty"]),
        ("a?.png", ["'?'", "not every system"]),
        ("12:30.png", ["':'"]),
        ("a\nb.png", ["'\\n'"]),
        ("\x1b[31m.png", ["\\x1b"]),
        ("trailing. ", ["' '"]),
        ("aux.png", ["Windows", "'aux.png'"]),
        ("n" * 250 + ".png", ["longer than 200 bytes"]),
        ("a\0.png", ["cannot be written"]),
        ("some/face.png/b.png", ["no folder"]),
        ("some", ["a folder"]),
        ("face.gif", [".png, .jpg"]),
    ],
)
def test_names_that_cannot_be_are_told_before_the_work(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "face.png").write_bytes(b"")
    refusal(lambda: output_file(name, (".png", ".jpg")) if name != "some" else output_file(name), *words)
    assert names(tmp_path) == ["some"]


def test_the_home_folder_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert output_file("~/a.png") == tmp_path.resolve() / "a.png"
    with atomic_write("~/a.png") as temporary:
        temporary.write_bytes(b"1")
    assert names(tmp_path) == ["a.png"]


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "me.png").write_bytes(b"1")
    (tmp_path / "link.png").symlink_to(tmp_path / "me.png")
    for name in ("me.png", "link.png", "../" + tmp_path.name + "/me.png"):
        refusal(lambda name=name: output_file(tmp_path / name, (), [tmp_path / "me.png"]), "one of the files")  # type: ignore[misc]
    assert output_file(tmp_path / "other.png", (), [tmp_path / "me.png"])


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux's list of mounts")
def test_a_mount_point_is_told_before_the_work() -> None:
    refusal(lambda: output_folder("/proc"), "mount point")
    refusal(lambda: output_folder("/"), "mount point")


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(lambda: output_folder("."), "the folder that you are in")


# --- folders


@pytest.mark.parametrize("kind", [BUNDLE, DATA_SET, SITE])
def test_a_folder_is_replaced_only_when_it_is_ours_and_holds_nothing_else(kind: Kind, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(overwrite: bool) -> None:
        with replace_folder(out, kind, overwrite=overwrite) as folder:
            (folder / kind.mark).write_text(MARK[kind])

    write(overwrite=False)
    refusal(lambda: write(overwrite=False), "already exists", "--overwrite")
    write(overwrite=True)
    (out / "thesis").mkdir()
    (out / "thesis" / "chapter.tex").write_text("years of work")
    refusal(lambda: write(overwrite=True), "'thesis/chapter.tex'", "leaves it alone")
    assert (out / "thesis" / "chapter.tex").read_text() == "years of work"
    (out / "thesis" / "chapter.tex").rename(tmp_path / "chapter.tex")
    (out / "thesis").rmdir()
    (out / ".git").mkdir()
    refusal(lambda: write(overwrite=True), "'.git'")
    (out / ".git").rmdir()
    (out / kind.mark).unlink()
    (out / "other.txt").write_text("")
    refusal(lambda: write(overwrite=True), "was not made by morphing-faces", kind.name)
    assert names(tmp_path) == ["chapter.tex", "out"]


def test_what_appears_meanwhile_is_looked_at_again(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def work() -> None:
        with replace_folder(out, DATA_SET) as folder:
            (folder / "mine").write_text("1")
            out.mkdir()
            (out / "other.npy").write_text("hours of work")

    refusal(work, "already exists")
    assert names(out) == ["other.npy"]
    assert names(tmp_path) == ["out"]


def test_a_second_writer_is_told_who_is_there(tmp_path: Path) -> None:
    with replace_folder(tmp_path / "out", BUNDLE):
        words = (f"process {os.getpid()}", "wait until that has ended")
        refusal(lambda: replace_folder(tmp_path / "out", BUNDLE).__enter__(), str(tmp_path / "out"), *words)
    with files.lock_folder(tmp_path / "run"):
        refusal(lambda: files.lock_folder(tmp_path / "run").__enter__(), f"process {os.getpid()}")
    assert names(tmp_path / "run") == []


KILLED = """
import sys, time
from pathlib import Path
from morphing_faces.files import BUNDLE, replace_folder
with replace_folder(sys.argv[1], BUNDLE, overwrite=True) as folder:
    (folder / "manifest.json").write_text('{"format": 2}')
    print("working", flush=True)
    time.sleep(1000)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_releases_the_lock_and_the_next_leaves_nothing_beside(number: int, tmp_path: Path) -> None:
    out = tmp_path / "some" / "out"
    with replace_folder(out, BUNDLE) as folder:
        (folder / "manifest.json").write_text('{"format": 1}')
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "working\n"
    refusal(lambda: replace_folder(out, BUNDLE, overwrite=True).__enter__(), f"process {killed.pid}")
    killed.send_signal(number)
    killed.wait(30)
    assert (out / "manifest.json").read_text() == '{"format": 1}'
    with replace_folder(out, BUNDLE, overwrite=True) as folder:
        (folder / "manifest.json").write_text('{"format": 3}')
    assert (out / "manifest.json").read_text() == '{"format": 3}'
    assert names(tmp_path / "some") == ["out"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / ".out.morphing-faces-replaced").mkdir()
    (tmp_path / ".out.morphing-faces-replaced" / "manifest.json").write_text('{"format": 1}')
    (tmp_path / ".out.morphing-faces-partial").mkdir()
    refusal(lambda: replace_folder(tmp_path / "out", BUNDLE).__enter__(), "already exists")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == {"format": 1}
    assert names(tmp_path) == ["out"]


def test_an_error_leaves_nothing_not_even_the_parents_it_made(tmp_path: Path) -> None:
    for write in (lambda: replace_folder(tmp_path / "a" / "b", BUNDLE), lambda: atomic_write(tmp_path / "c" / "d.png")):
        with pytest.raises(KeyboardInterrupt), write():
            raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_leftovers_of_a_killed_write_go_with_the_next(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.png.xyz.partial.png", tmp_path / ".a.png.abc.partial.png"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    with atomic_write(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"whole")
    assert names(tmp_path) == [new.name, "a.png"], "another process may still write the new one"
    files.clear_leftovers(tmp_path)
    assert names(tmp_path) == ["a.png"]

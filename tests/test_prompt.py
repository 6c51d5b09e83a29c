"""The prompt on a pseudo-terminal, as a person types into it."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="pseudo-terminals are POSIX's")

CTRL_D, CTRL_C, UP, TAB = "\x04", "\x03", "\x1b[A", "\t"


class Terminal:
    """A child process on a pseudo-terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path):
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(sys.executable, [sys.executable, *arguments], environment)
        self.seen = ""

    def read(self, wait: float = 0.1) -> str:
        while select.select([self.end], [], [], wait)[0]:
            try:
                part = os.read(self.end, 4096)
            except OSError:  # Linux says so when the child is gone
                break
            if not part:
                break
            text = part.decode(errors="replace")
            self.seen += text
            if "\x1b[6n" in text:  # prompt_toolkit asks where the cursor is; a terminal answers
                os.write(self.end, b"\x1b[1;1R")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)  # what it says, without where

    def expect(self, text: str, patience: float = 60) -> None:
        end = time.monotonic() + patience
        while text not in self.read():
            assert time.monotonic() < end, f"{text!r} did not appear in {self.seen[-2000:]!r}"

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def ends(self, patience: float = 60) -> int:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running; it said {self.seen[-2000:]!r}")


@pytest.fixture
def start(display: str, tiny_bundle: Path, tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    terminals: list[Terminal] = []

    def begin() -> Terminal:
        environment = {**os.environ, "DISPLAY": display, "HOME": str(tmp_path), "TERM": "xterm", "NO_COLOR": "1"}
        terminals.append(Terminal(["-m", "morphing_faces", "window", "-b", str(tiny_bundle)], environment, tmp_path))
        terminals[-1].expect("Type a command:")
        return terminals[-1]

    yield begin
    for terminal in terminals:
        if terminal.pid:
            os.kill(terminal.pid, 9)
            os.waitpid(terminal.pid, 0)
        os.close(terminal.end)


def test_the_2014_words(start: Callable[[], Terminal], tmp_path: Path) -> None:
    terminal = start()
    assert "click it to" in terminal.seen
    assert "d D1 D2" in terminal.seen
    terminal.type("d 0 29\r")
    terminal.expect("ERROR: dimension '29': dimensions are whole numbers from 0 to 28")
    terminal.type("d 0 28\r")
    terminal.type("r\r")
    terminal.type("save face.json\r")
    terminal.expect("saved face.json")
    assert '"axes": [0, 28]' in (tmp_path / "face.json").read_text()
    terminal.type("q\r")
    assert terminal.ends() == 0


def test_history_comes_back_in_the_next_start(start: Callable[[], Terminal], tmp_path: Path) -> None:
    terminal = start()
    terminal.type("save remembered.json\r")
    terminal.expect("saved remembered.json")
    terminal.type("q\r")
    assert terminal.ends() == 0
    (tmp_path / "remembered.json").unlink()
    again = start()
    again.type(UP + UP)
    again.type("\r")
    again.expect("saved remembered.json")
    assert (tmp_path / "remembered.json").exists()


def test_tab_completes_a_command(start: Callable[[], Terminal]) -> None:
    terminal = start()
    terminal.seen = ""
    terminal.type("wa" + TAB)
    terminal.expect("lk")  # the two letters that the completion adds; it comes from another thread
    terminal.type("\r")
    terminal.expect("walking; any key or command stops")
    terminal.type("u\r")


def test_ctrl_d_ends_it(start: Callable[[], Terminal]) -> None:
    terminal = start()
    terminal.type(CTRL_D)
    assert terminal.ends() == 0


def test_ctrl_c_ends_it(start: Callable[[], Terminal]) -> None:
    terminal = start()
    terminal.type(CTRL_C)
    assert terminal.ends() in (0, 130)
    assert "Traceback" not in terminal.seen

"""The real window under a virtual screen: a mouse that moves, clicks and scrolls, keys, and commands from a pipe."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageGrab

import morphing_faces as mf
from conftest import drawn_faces

PATIENCE = 60  # seconds; the machines are shared


def until(check: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := check():
            return result
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


class Desk:
    """A running `morphing-faces window`, and the hands that use it."""

    def __init__(self, display: str, bundle: Path, folder: Path, *arguments: str, backend: str | None = None):
        self.display, self.folder, self.saves = display, folder, 0
        self.environment = {**os.environ, "DISPLAY": display, "HOME": str(folder)}
        self.others = self._windows()
        self.output = folder / "output.txt"
        self.first = folder / "state-1.json"
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "morphing_faces", "window", "-b", str(bundle), *arguments],
                env=self.environment, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, text=True, cwd=folder,
            )  # fmt: skip
        self.window = until(self._find, "the window is there")
        self.xdotool("windowfocus", "--sync", self.window)
        until(lambda: self.picture().std() > 8, "a face is drawn")

    def _windows(self) -> list[str]:
        done = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", "Morphing Faces"],
            env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.split()

    def _find(self) -> str:
        assert self.process.poll() is None, self.output.read_text()
        return next((window for window in self._windows() if window not in self.others), "")

    def xdotool(self, *words: str) -> str:
        done = subprocess.run(["xdotool", *words], env=self.environment, check=True, capture_output=True, text=True)
        return done.stdout

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width, height of the window on the screen."""
        text = self.xdotool("getwindowgeometry", "--shell", self.window)
        values = dict(line.split("=") for line in text.split())
        return int(values["X"]), int(values["Y"]), int(values["WIDTH"]), int(values["HEIGHT"])

    def screen(self) -> Image.Image:
        left, top, width, height = self.box()
        return ImageGrab.grab((left, top, left + width, top + height), xdisplay=self.display)

    def picture(self) -> np.ndarray:
        """The pixels well inside the face."""
        screen = np.asarray(self.screen().convert("L"), float)
        height, width = screen.shape
        return screen[height // 4 : -height // 4, width // 4 : -width // 4]

    def colors(self) -> np.ndarray:
        return np.asarray(self.screen().convert("RGB"), int)

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place in the hover square."""
        left, top, width, height = self.box()
        side = min(width, height) * 512 / 624
        across, down = left + width / 2 + x * side / 2, top + height / 2 - y * side / 2
        self.xdotool("mousemove", "--sync", str(round(across)), str(round(down)))
        time.sleep(0.3)

    def click(self) -> None:
        self.xdotool("click", "1")
        time.sleep(0.3)

    def key(self, *keys: str) -> None:
        self.xdotool("key", *keys)
        time.sleep(0.3)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def state(self) -> dict[str, Any]:
        """What the session holds now, by way of `save`."""
        self.saves += 1
        path = self.folder / f"state-{self.saves}.json"
        self.say(f"save {path}")
        until(path.exists, "the face is saved")
        return dict(json.loads(path.read_text()))

    def close_button(self) -> None:
        """Ask the window to close, as a window manager does (there is none on the virtual screen)."""

        class ClientMessage(ctypes.Structure):
            _fields_ = (
                ("type", ctypes.c_int), ("serial", ctypes.c_ulong), ("send_event", ctypes.c_int),
                ("display", ctypes.c_void_p), ("window", ctypes.c_ulong), ("message_type", ctypes.c_ulong),
                ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("padding", ctypes.c_long * 24),
            )  # fmt: skip

        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        screen = ctypes.c_void_p(x11.XOpenDisplay(self.display.encode()))
        protocols = x11.XInternAtom(screen, b"WM_PROTOCOLS", 0)
        delete = x11.XInternAtom(screen, b"WM_DELETE_WINDOW", 0)
        client_message = 33
        event = ClientMessage(type=client_message, window=int(self.window), message_type=protocols, format=32)
        event.data[0] = delete
        x11.XSendEvent(screen, ctypes.c_ulong(int(self.window)), 0, ctypes.c_long(0), ctypes.byref(event))
        x11.XCloseDisplay(screen)

    def ends(self) -> int:
        return self.process.wait(PATIENCE)

    def begin_again(self) -> None:
        """Everything as it was at the start, with nothing typed and the help closed."""
        self.key("Escape")
        self.say(f"load {self.first}")
        self.state()  # it is there
        self.output.write_text("")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def one_desk(display: str, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(display, tiny_bundle, tmp_path_factory.mktemp("desk"))
    desk.state()
    yield desk
    desk.end()


@pytest.fixture
def desk(one_desk: Desk) -> Desk:
    """The window that the tests share, as it is at the start."""
    one_desk.begin_again()
    return one_desk


@pytest.fixture
def own_desk(display: str, tiny_bundle: Path, tmp_path: Path) -> Iterator[Desk]:
    """A window of its own, for a test that ends it."""
    desk = Desk(display, tiny_bundle, tmp_path)
    yield desk
    desk.end()


def test_hovering_sets_two_coordinates_from_corner_to_corner(desk: Desk) -> None:
    before = desk.state()["z"]
    for x, y in ((-0.95, -0.95), (0.95, 0.95), (0.0, 0.5)):
        desk.hover(x, y)
        z = desk.state()["z"]
        assert z[:2] == pytest.approx([x, y], abs=0.02)
        assert z[2:] == before[2:]


def test_the_face_on_the_screen_is_the_decoded_face_upright(desk: Desk, tiny_bundle: Path) -> None:
    desk.hover(0.5, -0.5)
    z = np.array(desk.state()["z"], np.float32)
    expected = mf.load(tiny_bundle).decode(z)[0, :, :, 0] * 255
    shown = desk.screen().convert("L")
    width, height = shown.size
    side = round(min(width, height) * 512 / 624)
    left, top = (width - side) // 2, (height - side) // 2
    small = np.asarray(shown.crop((left, top, left + side, top + side)).resize((16, 16), Image.Resampling.BOX), float)
    assert np.abs(small - expected)[2:-2, 2:-2].mean() < 6
    assert np.corrcoef(small.ravel(), expected.ravel())[0, 1] > 0.97


def test_hovering_outside_the_face_does_nothing(desk: Desk) -> None:
    desk.hover(0.2, 0.2)
    before = desk.state()["z"]
    desk.hover(1.1, 0.2)
    assert desk.state()["z"] == before


def test_a_click_freezes_other_dimensions_are_picked_a_click_unfreezes_and_the_earlier_two_stay(desk: Desk) -> None:
    desk.hover(0.4, -0.6)
    desk.click()
    assert desk.state()["frozen"] is True
    desk.hover(-0.8, 0.8)
    kept = desk.state()["z"]
    assert kept[:2] == pytest.approx([0.4, -0.6], abs=0.02)
    desk.say("d 4 7")
    desk.click()
    desk.hover(0.3, 0.1)
    state = desk.state()
    assert (state["frozen"], state["axes"]) == (False, [4, 7])
    assert state["z"][:2] == kept[:2]
    assert [state["z"][4], state["z"][7]] == pytest.approx([0.3, 0.1], abs=0.02)


def test_frozen_is_seen(desk: Desk) -> None:
    desk.hover(0, 0)
    loose = desk.colors()
    desk.click()

    def blue() -> int:
        frozen = desk.colors()
        return int((frozen[..., 2] > frozen[..., 0] + 60).sum() - (loose[..., 2] > loose[..., 0] + 60).sum())

    until(lambda: blue() > 4 * 400, "there is an edge around the face and a word above it")


def test_the_wheel_widens_the_range(desk: Desk) -> None:
    desk.hover(0.5, 0.5)
    desk.xdotool("click", "--repeat", "5", "4")
    wide = until(lambda: (s := desk.state())["range"] > 1.5 and s, "the range is wider")
    assert wide["z"][0] == pytest.approx(0.5 * wide["range"], abs=0.05)


def test_keys_do_what_the_prompt_does(desk: Desk) -> None:
    first = desk.state()["z"]
    desk.key("r")
    second = desk.state()["z"]
    assert second != first
    desk.key("u")
    assert desk.state()["z"] == first
    desk.key("y")
    assert desk.state()["z"] == second
    desk.key("f")
    assert desk.state()["frozen"] is True
    desk.key("d", "3", "space", "5", "Return")
    assert desk.state()["axes"] == [3, 5]
    face = desk.folder / "k"
    desk.key("s", "k", "Return")
    until(face.exists, "the file named in the window is there")
    assert json.loads(face.read_text())["z"] == second


def test_a_wrong_line_is_answered_in_the_window(desk: Desk) -> None:
    desk.hover(0.9, -0.9)
    calm = desk.colors()
    desk.key("d", "0", "space", "2", "9", "Return")

    def red() -> int:
        alarmed = desk.colors()
        return int((alarmed[..., 0] > alarmed[..., 1] + 60).sum() - (calm[..., 0] > calm[..., 1] + 60).sum())

    until(lambda: red() > 100, "the line is told in red")
    assert desk.state()["axes"] == [0, 1]


def test_a_walk_moves_until_any_key_stops_it(desk: Desk) -> None:
    desk.say("walk")
    until(lambda: "walking; any key" in desk.output.read_text(), "the walk has begun")
    first = desk.picture()
    until(lambda: np.abs(desk.picture() - first).max() > 3, "the face walks")
    desk.key("x")

    def rests() -> bool:
        still = desk.picture()
        time.sleep(1)  # of two steps
        return np.array_equal(desk.picture(), still)

    until(rests, "the face stands still")
    assert rests()


def test_the_prompt_answers_wrong_lines_and_lives_on(desk: Desk) -> None:
    for line in ("d 0 29", "d 1", "d a b", "d 2 2", "nonsense", "load nowhere.json", "set 0 many", "range 100"):
        desk.say(line)
    desk.state()
    said = desk.output.read_text()
    for message in (
        "dimension '29': dimensions are whole numbers from 0 to 28",
        "need two dimensions to select: d D1 D2",
        "dimension 'a': dimensions are whole numbers from 0 to 28",
        "dimensions 2 and 2: must be two different ones",
        "unknown command 'nonsense': type h for help",
        "nowhere.json cannot be read: No such file or directory",
        "'many': must be a number",
        "range 100: must be from 0.25 to 4",
    ):
        assert f"  ERROR: {message}\n" in said
    assert "Traceback" not in said


def test_a_saved_face_comes_back_and_its_picture_too(desk: Desk) -> None:
    desk.hover(0.3, 0.3)
    saved = desk.state()
    desk.say("r")
    desk.say(f"load {desk.folder / f'state-{desk.saves}.json'}")
    desk.say(f"save {desk.folder / 'face.png'}")
    until((desk.folder / "face.png").exists, "the picture is saved")
    assert desk.state()["z"] == saved["z"]
    assert Image.open(desk.folder / "face.png").size == (512, 512)


@pytest.mark.parametrize("how", ["q", "the key q", "end of a script", "closing the window"])
def test_it_ends_with(how: str, own_desk: Desk) -> None:
    assert own_desk.process.stdin is not None
    if how == "q":
        own_desk.say("q")
    elif how == "the key q":
        own_desk.key("q")
    elif how == "end of a script":
        own_desk.say("r")
        own_desk.process.stdin.close()
    else:
        own_desk.close_button()
    assert own_desk.ends() == 0
    assert "Traceback" not in own_desk.output.read_text()


def test_where_nothing_can_be_read_the_window_stays(own_desk: Desk) -> None:
    assert own_desk.process.stdin is not None
    own_desk.process.stdin.close()  # as a desktop's icon has it
    time.sleep(1)
    own_desk.hover(0.5, 0.5)
    assert own_desk.process.poll() is None
    own_desk.process.send_signal(signal.SIGTERM)
    assert own_desk.ends() == 128 + signal.SIGTERM


@pytest.mark.parametrize("walking", [False, True])
def test_ctrl_c_closes_it_and_in_the_middle_of_a_frame_too(walking: bool, own_desk: Desk) -> None:
    if walking:
        own_desk.say("walk")  # frame after frame
    own_desk.process.send_signal(signal.SIGINT)
    assert own_desk.ends() == 130
    assert "Traceback" not in own_desk.output.read_text()


def test_what_a_script_gets_wrong_is_told_and_the_rest_is_done(display: str, tiny_bundle: Path, tmp_path: Path) -> None:
    def face(**changes: Any) -> str:
        whole = {"format": "morphing-faces face", "version": 1, "bundle": "tiny", "axes": [0, 1], "frozen": False,
                 "range": 1, "z": [0.0] * 32}  # fmt: skip
        return json.dumps(whole | changes)

    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "big.json").write_text(face(range=10**400))
    (tmp_path / "digits.json").write_text('{"format": ' + "9" * 10_000 + "}")
    (tmp_path / "mark.json").write_bytes(b"\xef\xbb\xbf" + face(axes=[7, 8]).encode())
    os.mkfifo(tmp_path / "pipe.json")
    lines = [
        b"\xef\xbb\xbfd 2 3\r", b"load deep.json", b"load big.json", b"load digits.json", b"load pipe.json", b"load .",
        b"set 0 1e39", b"save caf\xe9.json", b"save face.txt", b"save missing\x00.json", b"x" * 200_000, b"save one.json",
        b"load mark.json", b"?", b"undo", b"save two.json",
    ]  # fmt: skip
    environment = {**os.environ, "DISPLAY": display, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        [sys.executable, "-m", "morphing_faces", "window", "-b", str(tiny_bundle)], env=environment, cwd=tmp_path,
        input=b"\n".join([*lines, b""]), capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    said = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads((tmp_path / "one.json").read_text())["axes"] == [2, 3]
    assert json.loads((tmp_path / "two.json").read_text())["axes"] == [2, 3]
    for words in ("deep.json is not valid JSON: nested too deeply", "big.json", "digits.json is not valid JSON",
                  "pipe.json cannot be read: not a file", "line 8 is not UTF-8 text", "face.txt: a face is saved as .json",
                  "line 11 is longer than 65,536 bytes"):  # fmt: skip
        assert re.search(rf"  ERROR: [^\n]*{re.escape(words)}", said), f"{words!r} is not in {said}"
    assert said.count("ERROR") == 10


def test_nobody_to_read_what_it_says_is_no_reason_to_stop(display: str, tiny_bundle: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "morphing_faces", "window", "-b", str(tiny_bundle)], cwd=tmp_path, stdout=writer,
        env={**os.environ, "DISPLAY": display}, input=b"h\nsave a.json\n", stderr=subprocess.PIPE, timeout=120, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.json").exists()


def test_a_piped_script_works(display: str, tiny_bundle: Path, tmp_path: Path) -> None:
    script = "d 2 3\nset 2 1.5\nr\nu\nsave out.json\nsave out.png\n"
    done = subprocess.run(
        [sys.executable, "-m", "morphing_faces", "window", "-b", str(tiny_bundle), "--seed", "5"],
        env={**os.environ, "DISPLAY": display}, cwd=tmp_path, input=script, text=True, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    face = json.loads((tmp_path / "out.json").read_text())
    assert (face["axes"], face["z"][2]) == ([2, 3], 1.5)
    assert face["z"][3:] == pytest.approx(mf.load(tiny_bundle).sample(1, seed=5)[0, 3:])
    assert (tmp_path / "out.png").exists()


def test_the_window_can_be_resized(desk: Desk) -> None:
    desk.xdotool("windowsize", "--sync", desk.window, "400", "500")
    time.sleep(0.5)
    desk.hover(0.6, 0.6)  # the margin stays, so the face is a little smaller than in proportion
    assert desk.state()["z"][:2] == pytest.approx([0.7, 0.7], abs=0.06)
    assert desk.picture().std() > 8
    desk.xdotool("windowsize", "--sync", desk.window, "624", "624")


def test_without_a_display_the_window_says_so(command: Callable[..., Any]) -> None:
    done = command("window")
    assert done.returncode == 2
    assert done.stderr.startswith("morphing-faces: no display: DISPLAY is not set")
    assert len(done.stderr.splitlines()) == 1


def test_a_display_that_does_not_answer_is_said(process: Callable[..., Any]) -> None:
    done = process("window", env={**os.environ, "DISPLAY": ":9999"})
    assert done.returncode == 2
    assert "no window can be opened" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("side", [512, 701, 97])
def test_a_face_that_is_scaled_in_halves_has_no_seam(side: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from morphing_faces.artists import Face

    picture = drawn_faces(1, size=48, seed=4)[0]
    canvas = np.zeros((side + 20, side + 10, 4), np.uint8)
    with ThreadPoolExecutor(1) as worker:
        face = Face(side, worker)
        face.box = (4, 7, side, side)
        face.show(picture / np.float32(255))
        assert face.paint(canvas) == face.box
    whole = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), int)
    painted = canvas[side + 20 - 7 - side : side + 20 - 7, 4 : 4 + side, :3]
    assert np.abs(painted - whole).max() <= 2
    canvas[side + 20 - 7 - side : side + 20 - 7, 4 : 4 + side] = 0
    assert not canvas.any(), "nothing is painted beside it"

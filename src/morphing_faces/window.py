"""The window: a thin, blitted view of a Session. What a person types in it goes the way of the prompt's commands."""

from __future__ import annotations

import importlib.util
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from . import commands, errors, grab
from .files import atomic_write
from .pictures import save_picture, to_uint8
from .prompt import Prompt
from .rules import GLIDE_SECONDS, PULL_SETTLED, PULL_STEPS, WALK_SECONDS
from .session import Session

if TYPE_CHECKING:
    from .artists import Box, Label, Mark
    from .grab import Grab
    from .model import Model

FACE = 512  # pixels of the face's side when the window opens
MARGIN = 56  # pixels around the face, where the axes are named
FRAME_MS = 8  # no two frames begin closer together; a frame takes about this long, and 16.7 is a 60 Hz display's rhythm
POLL_MS = 30  # how often commands typed elsewhere are looked for
GRACE = 5  # seconds after a signal in which the window may close

FAINT, ICE, ALARM = "#8b8d93", "#7cc4ff", "#ff8a80"

REACH = 12.0  # a handle this near to the mouse, in parts of 1/128 of the face's side, is lit and can be taken
CLICK = 3  # device pixels: who moves less clicks, who moves more drags
STEPS_A_FRAME = 2
ARROWS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
SHIFTED = 4.0  # times as far

HANDLES_HINT = "drag a handle  ·  click pins it  ·  Tab and arrows  ·  Esc leaves"
HINT = "hover to morph  ·  click to freeze  ·  r new face  ·  d dimensions  ·  h help"


class NoDisplay(RuntimeError):
    """No window can be opened here; the message says why and what to do."""


def choose_backend() -> str:
    """``"TkAgg"`` or ``"QtAgg"``, whichever can open a window here. Raises :class:`NoDisplay`."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise NoDisplay("no display: DISPLAY is not set (on a server use ssh -X, or xvfb-run for a virtual screen)")
    reason = "this Python has no tkinter"
    if importlib.util.find_spec("_tkinter"):
        import tkinter

        try:
            tkinter.Tk().destroy()
            return "TkAgg"
        except tkinter.TclError as error:
            reason = str(error)
    if any(importlib.util.find_spec(name) for name in ("PySide6", "PyQt6")):
        return "QtAgg"
    remedy = "pip install 'morphing-faces[qt]'" if "tkinter" in reason else "check DISPLAY, or use ssh -X"
    raise NoDisplay(f"no window can be opened: {reason}; {remedy}")


def open_window(model: Model, seed: int, prompt: bool) -> int:
    """Run the window until it is closed, with the prompt in a thread beside it -> 0, or the signal that closed it.

    Raises :class:`NoDisplay` when there is no display or no toolkit.
    """
    view = Window(model, Session(model, seed), choose_backend())
    terminal = Prompt(view.submit, len(model.dimensions)) if prompt else None
    with _closed_by_signals(view) as received:
        if terminal:
            terminal.say(commands.help_message(len(model.dimensions), model.dimension_names))
            terminal.start()
        try:
            view.run()
        finally:
            if terminal:
                terminal.stop()
    return received[0] if received else 0


@contextmanager
def _closed_by_signals(view: Window) -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM close the window between two frames -> those received.

    A thread is told of them, too: it ends the process when the window has not closed after :data:`GRACE` seconds,
    which is when the main thread is in foreign code and Python's handlers do not run.
    """
    received: list[int] = []
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    gone = threading.Event()

    def leave(number: int, _frame: Any) -> None:
        received.append(number)
        view.leaving = True  # not close(): this may be the middle of a frame, which goes on drawing afterwards

    def watch() -> None:
        with suppress(OSError):
            while number := reader.recv(1):
                if number[0] in numbers and not gone.wait(GRACE):
                    os._exit(128 + number[0])

    def install() -> None:
        for number in numbers:
            signal.signal(number, leave)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    numbers = (signal.SIGINT, signal.SIGTERM)
    old = {number: signal.getsignal(number) for number in numbers}
    old_descriptor = signal.set_wakeup_fd(-1)
    threading.Thread(target=watch, name="signals", daemon=True).start()
    install()
    view.on_start = install  # again in the toolkit's loop, for matplotlib puts its own handler there
    try:
        yield received
    finally:
        gone.set()
        signal.set_wakeup_fd(old_descriptor)
        for number, handler in old.items():
            signal.signal(number, handler)
        writer.close()


class Window:
    """A matplotlib window with the face at 512 pixels. :meth:`run` returns when it is closed.

    No exception leaves one of its callbacks: what a person can mend is told in the window, anything else is told as a
    fault, and the window lives on. Raises :class:`NoDisplay` when there is no display or no toolkit.
    """

    def __init__(self, model: Model, session: Session, backend: str | None = None):
        self.model, self.session = model, session
        backend = backend or choose_backend()
        import matplotlib

        settings: dict[Any, Any] = {key: [] for key in matplotlib.rcParams if key.startswith("keymap.")}
        settings |= {"toolbar": "None", "figure.raise_window": True}
        matplotlib.rcParams.update(settings)
        from .artists import INK, PAPER, Face, Label

        try:
            matplotlib.use(backend, force=True)
            from matplotlib import pyplot

            side = FACE + 2 * MARGIN
            self.figure = pyplot.figure(figsize=(side / 100, side / 100), dpi=100, facecolor=PAPER)
        except (ImportError, RuntimeError) as error:  # Qt's backend says RuntimeError when the display does not answer
            raise NoDisplay(f"no window can be opened: {error}") from None
        self.canvas = cast(Any, self.figure.canvas)
        self.canvas.manager.set_window_title(f"Morphing Faces: {model.name}")

        self.ink = INK
        self.worker = ThreadPoolExecutor(1, "beside")  # computes faces, and scales half of each
        self.face = Face(FACE, self.worker)
        self.x_name = Label("center", "top")
        self.y_name = Label("right", "middle", turned=True)
        self.state = Label("left", "bottom")
        self.note = Label("left", "bottom")
        self.help = Label("left", "top", monospace=True, backdrop=True)
        self.labels = [self.x_name, self.y_name, self.state, self.note]
        self.painted: dict[Label, tuple[Any, Box]] = {}  # how each label looked when it was painted, and where
        self.background: np.ndarray | None = None  # the canvas without face and labels; None until it is drawn
        self.help_painted = False

        self.pointer: tuple[float, float] | None = None  # the newest place in the hover square not yet shown
        self.handles = Handles(self)
        self.line: str | None = None  # the command being typed in the window
        self.message, self.message_is_error = "", False
        self.walk_from: tuple[np.ndarray, float] | None = None  # where the running step of a walk began, and when
        self.glide_from: float | None = None  # when the glide that runs was last moved on
        self.waiting: queue.Queue[tuple[str, tuple[Any, ...], Future[str]]] = queue.Queue()
        self.on_start: Callable[[], None] | None = None  # called once the toolkit's loop runs
        self.leaving = False  # set it from anywhere, a signal's handler too: the window closes between two frames
        self.closed = False
        self.frames = 0
        self.last_frame = 0.0
        self.frame_timer = self.canvas.new_timer(interval=1)
        self.frame_timer.single_shot = True
        self.frame_timer.add_callback(self._safely(self._frame))
        self.frame_due = False
        self.poll_timer = self.canvas.new_timer(interval=POLL_MS)
        self.poll_timer.add_callback(self._safely(self._poll))
        for name, callback in (
            ("motion_notify_event", self._on_move),
            ("button_press_event", self._on_click),
            ("button_release_event", self._on_release),
            ("scroll_event", self._on_scroll),
            ("key_press_event", self._on_key),
            ("draw_event", self._on_draw),
            ("resize_event", self._on_resize),
            ("close_event", self._on_close),
        ):
            self.canvas.mpl_connect(name, self._safely(callback))
        self._lay_out()

    # --- running

    def run(self) -> None:
        """Show the window and wait until it is closed, by its button or by ``q``."""
        from matplotlib import pyplot

        self.poll_timer.start()
        pyplot.show(block=True)
        self._on_close()

    def submit(self, word: str, arguments: tuple[Any, ...]) -> Future[str]:
        """Hand a command over from another thread.

        The future brings its message or whatever exception it raised; it is cancelled when the window is gone.
        """
        future: Future[str] = Future()
        self.waiting.put((word, arguments, future))
        if self.closed:  # asked after the command was put there: one of the two sides always sees it
            future.cancel()
        return future

    def close(self) -> None:
        """Close the window; ``run`` returns."""
        from matplotlib import pyplot

        pyplot.close(self.figure)
        self._on_close()

    def perform(self, word: str, arguments: tuple[Any, ...]) -> str:
        """Do a command of the prompt and return what to tell the person. Raises ``UserError`` with one line."""
        self._stop_walk()
        self._show_pointer()  # the hand was there before the command
        try:
            return commands.perform(self, word, arguments)
        finally:
            self._want_frame()

    def start_walk(self) -> None:
        """Walk at random until something else is done."""
        self.session.end_gesture()
        self.walk_from = (self.session.z, time.monotonic())
        self.session.walk()

    def start_glide(self) -> None:
        """Glide from face to face until something else is done."""
        self.session.end_gesture()
        self.glide_from = time.monotonic()

    def toggle_handles(self) -> None:
        """Show handles to pull the face by, or hide them. Raises ``UserError`` where the model has no shape."""
        self.model.need_shape()
        self.session.end_gesture()
        self.handles.show(not self.handles.shown)

    @property
    def moving(self) -> bool:
        """Whether the face moves by itself."""
        return self.walk_from is not None or self.glide_from is not None

    def save_picture(self, path: Path) -> None:
        """Write the face as a picture of 512 pixels, in the format of the suffix. Raises ``UserError``."""
        picture = to_uint8(self.model.decode(*self.session.parts()))[0]
        with atomic_write(path) as temporary:
            save_picture(picture, temporary, FACE)

    def _safely(self, callback: Callable[..., None]) -> Callable[..., None]:
        """A callback that tells what goes wrong and never raises: an exception would stop the toolkit's timer."""

        def run(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:
                self.pointer = None  # or the next frame would fail at the same place again
                self._tell(errors.tell(error), error=True)

        return run

    # --- events

    def _on_move(self, event: Any) -> None:
        x, y = self._place(event)
        if self.handles.shown and not self.moving:
            if self.handles.move(x, y):
                self._want_frame()
        elif abs(x) <= 1 and abs(y) <= 1 and not self.moving:
            self.pointer = (x, y)
            self._want_frame()

    def _place(self, event: Any) -> tuple[float, float]:
        left, bottom, side, _ = self.face.box
        return 2 * (event.x - left) / side - 1, 2 * (event.y - bottom) / side - 1

    def _on_click(self, event: Any) -> None:
        if event.button != 1:
            return
        x, y = self._place(event)
        if abs(x) > 1 or abs(y) > 1:
            return
        if self.help.text:
            self.help.text = ""
        elif self.moving:
            self._stop_walk()
        elif self.handles.shown:
            self.handles.press(x, y)
        else:
            self._show_pointer()  # freeze what the person sees under the hand, not the frame before
            self.session.toggle_freeze()
        self._tell("")

    def _on_release(self, event: Any) -> None:
        if event.button == 1 and self.handles.shown:
            self.handles.move(*self._place(event))
            self._tell(self.handles.release())

    def _on_scroll(self, event: Any) -> None:
        self.session.widen(event.step)
        x, y = self._place(event)
        if abs(x) <= 1 and abs(y) <= 1 and not self.moving and not self.handles.shown:
            self.pointer = (x, y)
        self._tell(f"the mouse reaches from {-self.session.range:.2f} to {self.session.range:.2f}")

    def _on_key(self, event: Any) -> None:
        key = event.key or ""
        if self.moving:
            self._stop_walk()
            return self._tell("")
        if self.line is not None:
            return self._type(key)
        if self.help.text:
            self.help.text = ""
            if commands.KEYS.get(key) == "h" or key == "escape":
                return self._tell("")
        if self.handles.shown and (said := self.handles.key(key)) is not None:
            return self._tell(said)
        command = commands.KEYS.get(key)
        if command is None:
            return self._tell("")
        if command.endswith(" ") or not command:
            self.line = command
            return self._tell("")
        self._do(command)

    def _type(self, key: str) -> None:
        line = self.line or ""
        if key in ("enter", "return"):
            self.line = None
            return self._do(line)
        if key == "escape":
            self.line = None
        elif key == "backspace":
            self.line = line[:-1]
        elif len(key) == 1 and key.isprintable():
            self.line = line + key
        self._tell("")

    def _do(self, line: str) -> None:
        word, arguments = commands.parse(line, len(self.session.dimensions))
        message = self.perform(word, arguments)
        if word == "h":
            self.help.text = f"{message.strip()}\n\n{commands.key_help()}"
            message = ""
        self._tell(message)

    def _tell(self, message: str, error: bool = False) -> None:
        self.message, self.message_is_error = message, error
        self._want_frame()

    def _poll(self) -> None:
        started, self.on_start = self.on_start, None
        if started is not None:
            started()
        if self.leaving and not self.closed:
            self.close()
        while not self.closed:
            try:
                word, arguments, future = self.waiting.get_nowait()
            except queue.Empty:
                break
            try:
                message = self.perform(word, arguments)
                self.message = ""
                future.set_result(message)
            except Exception as error:  # the one that waits for it tells it
                future.set_exception(error)
        if self.moving:
            self._want_frame()

    def _on_close(self, _event: Any = None) -> None:
        self.closed = True
        self.poll_timer.stop()
        self.frame_timer.stop()
        self.worker.shutdown(wait=False)
        while not self.waiting.empty():
            self.waiting.get_nowait()[2].cancel()

    # --- drawing

    def _want_frame(self) -> None:
        if self.frame_due or self._gone():
            return
        self.frame_due = True
        wait = FRAME_MS - int(1000 * (time.monotonic() - self.last_frame))
        self.frame_timer.interval = max(1, wait)
        self.frame_timer.start()

    def _gone(self) -> bool:
        """Whether the window is closed or closing: matplotlib takes the canvas away first and tells it afterwards."""
        return self.closed or self.figure.canvas is not self.canvas

    def _frame(self) -> None:
        self.frame_due = False
        if self._gone() or self.background is None:
            return
        self.last_frame = time.monotonic()
        try:
            self._show_pointer()
            if self.handles.pull():
                self._want_frame()
            z = self._moved() if self.moving else self.session.z
            # The texts are painted while the face is computed.
            drawn = self.worker.submit(self.model.decode, *self.session.parts(z))
            self._name_things()
            plain = self._paint_labels()
            self.face.marks = self.handles.marks(z)
            self.face.show(drawn.result()[0])
        except Exception as error:  # the last face stays, and the message is shown beside it
            self.pointer = self.walk_from = self.glide_from = None
            self.handles.let_go()
            self.message, self.message_is_error = errors.tell(error), True
            self._name_things()
            plain = self._paint_labels()
        if plain:
            self._blit(self.face.paint(self._canvas()))
        else:
            self._paint_all()
        self.frames += 1

    def _show_pointer(self) -> None:
        if self.pointer is not None:
            x, y = self.pointer
            self.pointer = None
            self.session.move(x, y)

    def _moved(self) -> np.ndarray:
        """The point to be shown while the face moves by itself.

        Of a walk, it lies between the last step and the next, which is taken when it has arrived.
        """
        if self.glide_from is not None:
            now = time.monotonic()
            self.session.glide(min(now - self.glide_from, 0.1) / GLIDE_SECONDS)  # after a pause it does not jump
            self.glide_from = now
            return self.session.z
        assert self.walk_from is not None
        begin, when = self.walk_from
        done = (time.monotonic() - when) / WALK_SECONDS
        if done >= 1:
            self.walk_from = (self.session.z, time.monotonic())
            begin, done = self.session.z, 0.0
            self.session.walk()
        eased = done * done * (3 - 2 * done)
        return begin + np.float32(eased) * (self.session.z - begin)

    def _stop_walk(self) -> None:
        if self.glide_from is not None:
            self.glide_from = None
            self.session.end_gesture()
        if self.walk_from is not None:
            here = self._moved()
            self.walk_from = None
            self.session.settle(here)

    def _name_things(self) -> None:
        session = self.session
        first, second = session.axes
        ink = FAINT if session.frozen else self.ink
        self.x_name.text, self.x_name.color = f"{session.dimension_names[first]}  →  {session.get(first):+.2f}", ink
        self.y_name.text, self.y_name.color = f"{session.dimension_names[second]}  →  {session.get(second):+.2f}", ink
        frozen = "frozen: click to unfreeze" if session.frozen else ""
        still = f"{session.still.part} kept" if session.still else ""
        wide = f"range ±{session.range:.2f}" if session.range != 1 else ""
        self.state.text, self.state.color = "     ".join(filter(None, (frozen, still, wide))), ICE
        self.face.edge = ICE if session.frozen else None
        if self.line is not None:
            self.note.text, self.note.color = f"> {self.line}▏", self.ink
        else:
            self.note.text, self.note.color = (
                self.message or (HANDLES_HINT if self.handles.shown else HINT),
                ALARM if self.message_is_error else FAINT,
            )

    def _lay_out(self) -> None:
        width, height = self.figure.bbox.width, self.figure.bbox.height
        margin = MARGIN * self.canvas.device_pixel_ratio
        side = max(int(min(width, height) - 2 * margin), 16)
        left, bottom = int((width - side) / 2), int((height - side) / 2)
        self.face.box = (left, bottom, side, side)
        gap = margin / 7
        for label in (*self.labels, self.help):
            label.height = round(margin / 4.2)
        self.x_name.at = (left + side / 2, bottom - gap)
        self.y_name.at = (left - gap, bottom + side / 2)
        self.state.at = (left, bottom + side + gap)
        self.note.at = (left, gap)
        self.help.at = (left + 2 * gap, bottom + side - 2 * gap)

    def _on_resize(self, _event: Any) -> None:
        self.background = None
        self._lay_out()

    def _on_draw(self, _event: Any) -> None:
        """The whole canvas was drawn: keep it as the background, and paint on it before it is shown."""
        if self._gone():
            return
        canvas = self._canvas()
        self.background = canvas.copy()
        if self.face.pixels is None:
            self.face.show(self.model.decode(*self.session.parts())[0])
        self._name_things()
        self._paint_on(canvas)
        self._want_frame()

    def _canvas(self) -> np.ndarray:
        """The pixels of the canvas, to be painted on: uint8 (height, width, 4)."""
        return np.asarray(self.canvas.buffer_rgba())

    def _paint_labels(self) -> bool:
        """Paint and show those texts that have changed, each by itself; false where all has to be painted anew."""
        canvas, background = self._canvas(), self.background
        if background is None or background.shape != canvas.shape or self.help.text or self.help_painted:
            return False
        for label in self.labels:
            look, box = self.painted[label]
            if label.look != look:
                left, bottom, width, height = box
                rows = slice(max(canvas.shape[0] - bottom - height, 0), max(canvas.shape[0] - bottom, 0))
                columns = slice(max(left, 0), max(left + width, 0))
                canvas[rows, columns] = background[rows, columns]
                painted = label.paint(canvas)
                self.painted[label] = (label.look, painted)
                self._blit(_around(box, painted))
        return True

    def _paint_all(self) -> None:
        """Paint everything on the background and show it; the help lies over the face."""
        canvas, background = self._canvas(), self.background
        if background is None or background.shape != canvas.shape:
            self.canvas.draw_idle()  # it was resized: the draw event paints all
            return
        canvas[...] = background
        self._paint_on(canvas)
        self.canvas.blit(self.figure.bbox)

    def _paint_on(self, canvas: np.ndarray) -> None:
        self.face.paint(canvas)
        self.painted = {label: (label.look, label.paint(canvas)) for label in self.labels}
        self.help.paint(canvas)
        self.help_painted = bool(self.help.text)

    def _blit(self, box: Box) -> None:
        """Show a part of the canvas."""
        from matplotlib.transforms import Bbox

        left, bottom, width, height = box
        if width and height:
            self.canvas.blit(Bbox.from_bounds(left, bottom, width, height))


class Handles:
    """The handles on the face in the window: the nearest is lit, one may be in the hand, by the mouse or by arrow keys."""

    def __init__(self, window: Window):
        self.window, self.session = window, window.session
        self.shown = False
        self.chosen: int | None = None
        # Where they lie on the screen, in parts of the frame from its top left.
        self.places = np.zeros((len(grab.NAMES), 2))
        self.taken: Grab | None = None
        self.hand = (0.0, 0.0)  # how far the hand is from where it took the handle, in pixels of the frame
        self._pressed: tuple[float, float] | None = None
        self._by_key = False
        self._settled = True

    def show(self, shown: bool) -> None:
        """Show them, or hide them."""
        self.let_go()
        self.shown, self.chosen = shown, None

    def let_go(self) -> None:
        """Leave the face as it is."""
        if self.taken is not None:
            self.session.end_gesture()
        self.taken = self._pressed = None
        self._by_key = False

    def move(self, x: float, y: float) -> bool:
        """The mouse is at a place of the hover square -> whether a frame is wanted."""
        at = (x + 1) / 2, (1 - y) / 2
        if self._pressed is None:
            chosen = self._nearest(at)
            changed = chosen != self.chosen and (chosen is not None or not self._by_key)
            if changed:
                self.let_go()
                self.chosen = chosen
            return changed
        side, screen = self._side, self.window.face.box[2]
        way = (at[0] - self._pressed[0]), (at[1] - self._pressed[1])
        if self.taken is None and max(map(abs, way)) * screen > CLICK:
            self._take()
        self.hand = way[0] * side, way[1] * side
        self._settled = False
        return self.taken is not None

    def press(self, x: float, y: float) -> None:
        """A button of the mouse goes down at a place of the hover square."""
        self.let_go()
        at = (x + 1) / 2, (1 - y) / 2
        self.chosen = self._nearest(at)
        self._pressed = at if self.chosen is not None else None

    def release(self) -> str:
        """The button is up: a drag ends, a click pins -> what to tell."""
        pressed, taken = self._pressed, self.taken
        if taken is not None and self.shown:
            for _ in range(PULL_STEPS):  # to where the hand is, whether or not a frame came between
                if not self.pull():
                    break
        self.let_go()
        if pressed is None or taken is not None or self.chosen is None:
            return ""
        return self._pin(self.chosen)

    def key(self, key: str) -> str | None:
        """What a key does to the handles -> what to tell, or ``None`` where it is not for them."""
        if key == "escape":
            if self.taken is not None and not self._by_key:
                self.session.cancel_gesture("grab")
                self.let_go()
            else:
                self.show(False)
            return ""
        if key == "tab":
            self.let_go()
            self.chosen = 0 if self.chosen is None else (self.chosen + 1) % len(grab.NAMES)
            self._by_key = True
            return grab.NAMES[self.chosen]
        if self.chosen is None:
            return None
        if key in ("enter", "return"):
            return self._pin(self.chosen)
        step = ARROWS.get(key.removeprefix("shift+"))
        if step is None:
            return None
        far = self._side / grab.UNIT * (SHIFTED if key.startswith("shift+") else 1)
        if self.taken is None or self.taken.z is not self.session.z:
            self._take()
        self._by_key, self._settled = True, False
        self.hand = self.hand[0] + step[0] * far, self.hand[1] + step[1] * far
        return grab.NAMES[self.chosen]

    def pull(self) -> bool:
        """Let the face follow the handle in the hand -> whether it goes on moving."""
        taken = self.taken
        if taken is not None and taken.z is not self.session.z:
            self.let_go()  # another command has changed the face
        elif taken is not None and not self._settled:
            for _ in range(STEPS_A_FRAME):
                self.session.pull(taken, self.hand)
                self._settled = taken.change < PULL_SETTLED
                if self._settled:
                    break
            return not self._settled
        return False

    def marks(self, z: np.ndarray) -> list[Mark]:
        """What is drawn of them on the face at ``z``."""
        from .artists import Mark

        if not self.shown:
            return []
        side = self._side
        places = self.taken.places if self.taken is not None and self.taken.z is z else self.session.handle_places(z)
        self.places = np.clip((places + 0.5) / side, 0.01, 0.99)
        drawn = []
        for number, (name, at) in enumerate(zip(grab.NAMES, self.places, strict=True)):
            lit, pinned = number == self.chosen, name in self.session.pinned
            behind = lit and self.taken is not None and self.taken.behind
            color = ALARM if behind else ICE if lit or pinned else self.window.ink
            place, hand = (float(at[0]), float(at[1])), None
            if behind and self.taken is not None:
                x, y = (self.taken.home + self.hand + 0.5) / side
                hand = float(x), float(y)
            drawn.append(Mark(place, color, 0.016 if lit else 0.011, pinned, 1.0 if lit or pinned else 0.55, hand))
        return drawn

    @property
    def _side(self) -> int:
        return self.window.model.image_shape[0]

    def _take(self) -> None:
        if self.chosen is not None:
            self.taken, self.hand = self.session.take(grab.NAMES[self.chosen]), (0.0, 0.0)

    def _pin(self, number: int) -> str:
        return commands.perform(self.window, "pin", (grab.NAMES[number],))

    def _nearest(self, at: tuple[float, float]) -> int | None:
        far = np.hypot(*(self.places - at).T)
        return int(far.argmin()) if far.min() * grab.UNIT < REACH else None


def _around(a: Box, b: Box) -> Box:
    """The smallest box that holds two, of which either may be empty."""
    boxes = [box for box in (a, b) if box[2] and box[3]]
    if not boxes:
        return (0, 0, 0, 0)
    left, bottom = min(box[0] for box in boxes), min(box[1] for box in boxes)
    return left, bottom, max(x + w for x, _, w, _ in boxes) - left, max(y + h for _, y, _, h in boxes) - bottom

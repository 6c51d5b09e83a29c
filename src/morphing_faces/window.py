"""The window: a thin, blitted view of a Session. What a person types in it goes the way of the prompt's commands."""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import whole_file
from .render import save_picture, to_image, to_uint8
from .session import Session, help_message, parse

if TYPE_CHECKING:
    from .model import Model

FACE = 512  # pixels of the face's side when the window opens
MARGIN = 56  # pixels around the face, where the axes are named
FRAME_MS = 8  # no two frames begin closer together; a frame takes about this long, and 16.7 is a 60 Hz display's rhythm
POLL_MS = 30  # how often commands typed elsewhere are looked for
WALK_MS = 450  # one step of the random walk, from standstill to standstill

PAPER, INK, FAINT, ICE, ALARM = "#16171a", "#e8e6e3", "#8b8d93", "#7cc4ff", "#ff8a80"

# Keys and the commands they stand for; those that end in a space open a line to be completed.
KEYS = {
    "h": "h", "q": "q", "r": "r", "u": "u", "f": "f", "w": "walk", "y": "redo", "ctrl+z": "u", "ctrl+y": "redo",
    "ctrl+shift+z": "redo", " ": "f", "d": "d ", "s": "save ", "l": "load ", ":": "", "/": "",
}  # fmt: skip
KEY_HELP = """Keys here: h q r u f as above, w walk, y redo; d, s (save), l (load)
and : (anything) open a line, Esc closes it. The wheel: range."""
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


class Window:
    """A matplotlib window with the face at 512 pixels. :meth:`run` returns when it is closed.

    Raises :class:`NoDisplay` when there is no display or no toolkit.
    """

    def __init__(self, model: Model, session: Session, backend: str | None = None):
        self.model, self.session = model, session
        backend = backend or choose_backend()
        import matplotlib

        settings: dict[Any, Any] = {key: [] for key in matplotlib.rcParams if key.startswith("keymap.")}
        settings |= {"toolbar": "None", "figure.raise_window": True}
        matplotlib.rcParams.update(settings)
        try:
            matplotlib.use(backend, force=True)
            from matplotlib import pyplot

            side = FACE + 2 * MARGIN
            self.figure = pyplot.figure(figsize=(side / 100, side / 100), dpi=100, facecolor=PAPER)
        except (ImportError, RuntimeError) as error:  # Qt's backend says RuntimeError when the display does not answer
            raise NoDisplay(f"no window can be opened: {error}") from None
        self.canvas = cast(Any, self.figure.canvas)
        self.canvas.manager.set_window_title(f"Morphing Faces: {model.name}")

        self.face, label = _artists()
        self.x_name = label("center", "top")
        self.y_name = label("right", "middle", turned=True)
        self.state = label("left", "bottom")
        self.note = label("left", "bottom")
        self.help = label("left", "top", monospace=True, backdrop=True)
        self.animated = [self.face, self.x_name, self.y_name, self.state, self.note, self.help]
        self.background: Any = None

        self.pointer: tuple[float, float] | None = None  # the newest place in the hover square not yet shown
        self.line: str | None = None  # the command being typed in the window
        self.message, self.message_is_error = "", False
        self.walk_from: tuple[np.ndarray, float] | None = None  # where the running step of a walk began, and when
        self.commands: queue.Queue[tuple[str, tuple[Any, ...], Future[str]]] = queue.Queue()
        self.leaving = False  # set it from anywhere, a signal's handler too: the window closes between two frames
        self.closed = False
        self.frames = 0
        self.last_frame = 0.0
        self.frame_timer = self.canvas.new_timer(interval=1)
        self.frame_timer.single_shot = True
        self.frame_timer.add_callback(self._frame)
        self.frame_due = False
        self.poll_timer = self.canvas.new_timer(interval=POLL_MS)
        self.poll_timer.add_callback(self._poll)
        connect: Any = self.canvas.mpl_connect
        for name, callback in (
            ("motion_notify_event", self._on_move),
            ("button_press_event", self._on_click),
            ("scroll_event", self._on_scroll),
            ("key_press_event", self._on_key),
            ("draw_event", self._on_draw),
            ("resize_event", self._on_resize),
            ("close_event", self._on_close),
        ):
            connect(name, callback)
        self._lay_out()

    # --- running

    def run(self) -> None:
        """Show the window and wait until it is closed, by its button or by ``q``."""
        from matplotlib import pyplot

        self.poll_timer.start()
        pyplot.show(block=True)
        self._on_close()

    def submit(self, verb: str, arguments: tuple[Any, ...]) -> Future[str]:
        """Hand a command over from another thread; the future brings its message or its ``ValueError``."""
        future: Future[str] = Future()
        if self.closed:
            future.cancel()
        else:
            self.commands.put((verb, arguments, future))
        return future

    def close(self) -> None:
        """Close the window; ``run`` returns."""
        from matplotlib import pyplot

        pyplot.close(self.figure)
        self._on_close()

    def perform(self, verb: str, arguments: tuple[Any, ...]) -> str:
        """Do a command of the prompt and return what to tell the person. Raises ``ValueError`` with one line."""
        session = self.session
        self._stop_walk()
        self._show_pointer()  # the hand was there before the command
        message = ""
        if verb == "h":
            message = help_message(len(session.dimensions))
        elif verb == "q":
            self.close()
        elif verb == "r":
            session.shuffle()
        elif verb == "d":
            session.select(*arguments)
        elif verb == "f":
            session.toggle_freeze()
        elif verb == "u":
            message = "" if session.undo() else "nothing to undo"
        elif verb == "redo":
            message = "" if session.redo() else "nothing to redo"
        elif verb == "set":
            session.set(*arguments)
        elif verb == "range":
            session.set_range(*arguments)
        elif verb == "walk":
            session.end_gesture()
            self.walk_from = (session.z, time.monotonic())
            session.walk()
            message = "walking; any key or command stops"
        elif verb == "save":
            message = self._save(arguments[0])
        elif verb == "load":
            session.load(arguments[0])
        self._want_frame()
        return message

    def _save(self, name: str) -> str:
        try:
            if name.lower().endswith(".png"):
                with whole_file(name) as temporary:
                    save_picture(to_uint8(self.model.decode(self.session.z))[0], temporary, FACE)
            else:
                self.session.save(name)
        except OSError as error:
            raise ValueError(f"{name} cannot be written: {error.strerror or error}") from None
        return f"saved {name}"

    # --- events

    def _on_move(self, event: Any) -> None:
        x, y = self._place(event)
        if abs(x) <= 1 and abs(y) <= 1 and self.walk_from is None:
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
        elif self.walk_from is not None:
            self._stop_walk()
        else:
            self._show_pointer()  # freeze what the person sees under the hand, not the frame before
            self.session.toggle_freeze()
        self._tell("")

    def _on_scroll(self, event: Any) -> None:
        self.session.widen(event.step)
        x, y = self._place(event)
        if abs(x) <= 1 and abs(y) <= 1 and self.walk_from is None:
            self.pointer = (x, y)
        self._tell(f"the mouse reaches from {-self.session.range:.2f} to {self.session.range:.2f}")

    def _on_key(self, event: Any) -> None:
        key = event.key or ""
        if self.walk_from is not None:
            self._stop_walk()
            return self._tell("")
        if self.line is not None:
            return self._type(key)
        if self.help.text:
            self.help.text = ""
            if key in ("h", "escape"):
                return self._tell("")
        if key not in KEYS:
            return self._tell("")
        command = KEYS[key]
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
        try:
            verb, arguments = parse(line, len(self.session.dimensions))
            message = self.perform(verb, arguments) if verb else ""
        except ValueError as error:
            return self._tell(str(error), error=True)
        if verb == "h":
            self.help.text = f"{message.strip()}\n\n{KEY_HELP}"
            message = ""
        if not self.closed:
            self._tell(message)

    def _tell(self, message: str, error: bool = False) -> None:
        self.message, self.message_is_error = message, error
        self._want_frame()

    def _poll(self) -> None:
        if self.leaving and not self.closed:
            self.close()
        while not self.closed:
            try:
                verb, arguments, future = self.commands.get_nowait()
            except queue.Empty:
                break
            try:
                message = self.perform(verb, arguments)
                self.message = ""
                future.set_result(message)
            except ValueError as error:
                future.set_exception(error)
        if self.walk_from is not None:
            self._want_frame()

    def _on_close(self, _event: Any = None) -> None:
        self.closed = True
        self.poll_timer.stop()
        self.frame_timer.stop()
        while not self.commands.empty():
            self.commands.get_nowait()[2].cancel()

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
        self._show_pointer()
        z = self._walked() if self.walk_from is not None else self.session.z
        self.face.show(self.model.decode(z)[0])
        self._name_things()
        self._blit()
        self.frames += 1

    def _show_pointer(self) -> None:
        if self.pointer is not None:
            self.session.move(*self.pointer)
            self.pointer = None

    def _walked(self) -> np.ndarray:
        """The point between the walk's last step and its next; takes the next step when it has arrived."""
        assert self.walk_from is not None
        begin, when = self.walk_from
        done = (time.monotonic() - when) * 1000 / WALK_MS
        if done >= 1:
            self.walk_from = (self.session.z, time.monotonic())
            begin, done = self.session.z, 0.0
            self.session.walk()
        eased = done * done * (3 - 2 * done)
        return begin + np.float32(eased) * (self.session.z - begin)

    def _stop_walk(self) -> None:
        if self.walk_from is not None:
            here = self._walked()
            self.walk_from = None
            self.session.settle(here)

    def _name_things(self) -> None:
        session = self.session
        first, second = session.axes
        ink = FAINT if session.frozen else INK
        self.x_name.text, self.x_name.color = f"dimension {first}  →  {session.get(first):+.2f}", ink
        self.y_name.text, self.y_name.color = f"dimension {second}  →  {session.get(second):+.2f}", ink
        frozen = "frozen: click to unfreeze" if session.frozen else ""
        wide = f"range ±{session.range:.2f}" if session.range != 1 else ""
        self.state.text, self.state.color = "     ".join(filter(None, (frozen, wide))), ICE
        self.face.edge = ICE if session.frozen else None
        if self.line is not None:
            self.note.text, self.note.color = f"> {self.line}▏", INK
        else:
            self.note.text, self.note.color = self.message or HINT, ALARM if self.message_is_error else FAINT

    def _lay_out(self) -> None:
        width, height = self.figure.bbox.width, self.figure.bbox.height
        margin = MARGIN * self.canvas.device_pixel_ratio
        side = max(int(min(width, height) - 2 * margin), 16)
        left, bottom = int((width - side) / 2), int((height - side) / 2)
        self.face.box = (left, bottom, side, side)
        gap = margin / 7
        for label in (self.x_name, self.y_name, self.state, self.note, self.help):
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
        if self._gone():
            return
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)
        if self.face.pixels is None:
            self.face.show(self.model.decode(self.session.z)[0])
        self.face.rescale()
        self._name_things()
        for artist in self.animated:
            self.figure.draw_artist(artist)
        self._want_frame()

    def _blit(self) -> None:
        self.canvas.restore_region(self.background)
        for artist in self.animated:
            self.figure.draw_artist(artist)
        self.canvas.blit(self.figure.bbox)


def _artists() -> tuple[Any, Any]:
    """The face, and the class of the labels. Made late, so that importing this module does not import matplotlib.

    Both are pictures made by Pillow and copied as they are: matplotlib's own resampling and text take 10 times longer.
    """
    import matplotlib
    from matplotlib.artist import Artist
    from matplotlib.colors import to_rgba

    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")

    def to_bytes(color: str) -> tuple[int, ...]:
        return tuple(round(255 * part) for part in to_rgba(color))

    class Face(Artist):
        """The picture, scaled smoothly to the box."""

        def __init__(self) -> None:
            super().__init__()
            self.set_animated(True)
            self.box = (0, 0, FACE, FACE)  # left, bottom, width, height in device pixels
            self.pixels: np.ndarray | None = None  # uint8 (height, width, channels), the model's own size
            self.scaled: np.ndarray | None = None  # uint8 RGBA at the size of the box, bottom row first
            self.edge: str | None = None

        def show(self, picture: np.ndarray) -> None:
            """Take a float picture (height, width, channels) in [0, 1]."""
            self.pixels = to_uint8(picture)
            self.rescale()

        def rescale(self) -> None:
            assert self.pixels is not None
            size = self.box[2:]
            resized = to_image(self.pixels[::-1]).resize(size, Image.Resampling.BICUBIC)
            if self.scaled is None or self.scaled.shape[1::-1] != size:
                self.scaled = np.full((size[1], size[0], 4), 255, np.uint8)
            values = np.asarray(resized)
            self.scaled[..., :3] = values[..., None] if values.ndim == 2 else values

        def draw(self, renderer: Any) -> None:
            if self.scaled is None:
                return
            if self.edge:
                for border in (self.scaled[:3], self.scaled[-3:], self.scaled[:, :3], self.scaled[:, -3:]):
                    border[...] = to_bytes(self.edge)
            renderer.draw_image(renderer.new_gc(), self.box[0], self.box[1], self.scaled)

    class Label(Artist):
        """A text at a place in device pixels, aligned there; ``turned`` reads upwards."""

        def __init__(
            self, across: str, along: str, *, turned: bool = False, monospace: bool = False, backdrop: bool = False
        ):
            super().__init__()
            self.set_animated(True)
            self.across, self.along, self.turned, self.backdrop = across, along, turned, backdrop
            self.file = str(fonts / ("DejaVuSansMono.ttf" if monospace else "DejaVuSans.ttf"))
            self.small = monospace
            self.text, self.color, self.at, self.height = "", INK, (0.0, 0.0), 14
            self._made: tuple[Any, np.ndarray] | None = None

        def picture(self) -> np.ndarray:
            """The text as uint8 RGBA, bottom row first; remade when it changed."""
            key = (self.text, self.color, self.height)
            if self._made is None or self._made[0] != key:
                font = ImageFont.truetype(self.file, round(self.height * (0.8 if self.small else 1)))
                pen = ImageDraw.Draw(Image.new("L", (1, 1)))
                pad = self.height if self.backdrop else 1
                spacing = round(self.height * 0.45)
                _, _, right, below = pen.multiline_textbbox((0, 0), self.text, font=font, spacing=spacing)
                size = (round(right) + 2 * pad, round(below) + 2 * pad)
                paper = (*to_bytes(PAPER)[:3], 225) if self.backdrop else (*to_bytes(self.color)[:3], 0)
                image = Image.new("RGBA", size, paper)
                ImageDraw.Draw(image).multiline_text(
                    (pad, pad), self.text, font=font, spacing=spacing, fill=to_bytes(self.color)
                )
                pixels = np.asarray(image)
                pixels = np.rot90(pixels) if self.turned else pixels
                self._made = (key, np.ascontiguousarray(pixels[::-1]))
            return self._made[1]

        def draw(self, renderer: Any) -> None:
            if not self.text:
                return
            picture = self.picture()
            height, width = picture.shape[:2]
            left = self.at[0] - {"left": 0, "center": width / 2, "right": width}[self.across]
            bottom = self.at[1] - {"bottom": 0, "middle": height / 2, "top": height}[self.along]
            renderer.draw_image(renderer.new_gc(), round(left), round(bottom), picture)

    return Face(), Label

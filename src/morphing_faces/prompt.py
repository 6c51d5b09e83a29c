"""The prompt in the terminal: reads lines, hands commands to the window, prints one line when something is wrong."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import errors
from .commands import COMMANDS, WORDS, parse
from .rules import HANDLES

PROMPT = "Type a command: "
LONGEST_LINE = 64 << 10  # bytes of a script's line
HISTORY = "~/.morphing_faces_history"

Submit = Callable[[str, tuple[Any, ...]], "Future[str]"]


class Prompt:
    """Runs in a thread of its own until ``q``, Ctrl-D, the end of a script, or the window is gone.

    Where standard input is at its end before any line was read (a desktop's icon, nohup), it leaves the window open.
    """

    def __init__(self, submit: Submit, dimensions: int):
        self.submit, self.dimensions = submit, dimensions
        self._session: Any = None  # prompt_toolkit's, when a person is at a terminal
        self._thread = threading.Thread(target=self._run, name="prompt", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading and give the terminal back as it was."""
        if self._session is not None and self._thread.is_alive():
            app = self._session.app
            if app.loop is not None and app.is_running:
                app.loop.call_soon_threadsafe(lambda: app.is_running and app.exit(exception=EOFError))
            self._thread.join(timeout=2)

    def _run(self) -> None:
        quits = self._at_terminal()  # Ctrl-D is a word of its own there
        try:
            for line in self._lines():
                quits = True
                if self._obey(line) == "q":
                    return
        except Exception as error:
            self.say(f"  ERROR: {errors.tell(error)}; the prompt ends here, the window stays")
            return
        if quits:
            self._obey("q")

    def _obey(self, line: str) -> str:
        """Do one line and return its command, ``"q"`` when there is nothing left to read for."""
        try:
            word, arguments = parse(line, self.dimensions)
            message = self.submit(word, arguments).result() if word else ""
        except CancelledError:
            return "q"  # the window is gone
        except Exception as error:
            self.say(f"  ERROR: {errors.tell(error)}")
            return ""
        if message:
            self.say(message if "\n" in message else f"  {message}")
        return word

    def say(self, text: str) -> None:
        """Print a text. Nobody may be there to read it (a closed pipe, no standard output at all): the window goes on."""
        with suppress(OSError, ValueError, AttributeError):
            encoding = sys.stdout.encoding or "utf-8"
            print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)

    def _lines(self) -> Iterator[str]:
        if self._at_terminal():
            yield from self._typed()
        elif sys.stdin is not None:
            yield from self._piped(sys.stdin)

    @staticmethod
    def _at_terminal() -> bool:
        with suppress(ValueError):  # it is closed
            return sys.stdin is not None and sys.stdin.isatty()
        return False

    def _typed(self) -> Iterator[str]:
        self._session = _line_editor()
        while True:
            try:
                yield self._session.prompt(PROMPT, handle_sigint=False)
            except (EOFError, KeyboardInterrupt):
                return

    def _piped(self, source: Any) -> Iterator[str]:
        """The lines of a script; one that is not UTF-8 is told and skipped. A byte order mark is no part of the first."""
        stream = getattr(source, "buffer", None) or io.BytesIO(source.read().encode("utf-8", "surrogateescape"))
        number, rest = 0, False  # whether what follows is the rest of a line that was too long
        while content := stream.readline(LONGEST_LINE):
            whole = content.endswith(b"\n") or len(content) < LONGEST_LINE
            number, rest, skipped = number + (not rest), not whole, rest
            if skipped:
                continue
            if not whole:
                self.say(f"  ERROR: line {number} is longer than {LONGEST_LINE:,} bytes: skipped")
                continue
            try:
                yield content.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                self.say(f"  ERROR: line {number} is not UTF-8 text ({error.reason}): skipped")


def _line_editor() -> Any:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import NestedCompleter, PathCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class History(FileHistory):
        """Lines typed before; where they cannot be kept, they are forgotten without a word."""

        def store_string(self, string: str) -> None:
            with suppress(OSError):
                super().store_string(string)

        def load_history_strings(self) -> Any:
            try:
                return list(super().load_history_strings())
            except OSError:
                return []

    files = PathCompleter(expanduser=True)
    handles = dict.fromkeys(HANDLES)
    kinds: dict[str, Any] = {"FILE": files, "HANDLE": handles}
    words: Any = {word: kinds.get(COMMANDS[name].arguments.partition(" ")[0]) for word, name in WORDS.items()}
    try:
        history: Any = History(str(Path(HISTORY).expanduser()))
    except RuntimeError:  # no home
        history = InMemoryHistory()
    return PromptSession(history=history, completer=NestedCompleter(words), complete_while_typing=False)

"""The prompt in the terminal: reads lines, hands commands to the window, prints one line when something is wrong."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

from .session import VERBS, parse

PROMPT = "Type a command: "
HISTORY = Path.home() / ".morphing_faces_history"

Submit = Callable[[str, tuple[Any, ...]], "Future[str]"]


class Prompt:
    """Runs in a thread of its own until ``q``, Ctrl-D, the end of input, or the window is gone."""

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
        for line in self._lines():
            if self._obey(line) == "q":
                return
        self._obey("q")

    def _obey(self, line: str) -> str:
        try:
            verb, arguments = parse(line, self.dimensions)
            message = self.submit(verb, arguments).result() if verb else ""
        except ValueError as error:
            print(f"  ERROR: {error}", flush=True)
            return ""
        except CancelledError:
            return "q"  # the window is gone
        if message:
            print(message if "\n" in message else f"  {message}", flush=True)
        return verb

    def _lines(self) -> Iterator[str]:
        if sys.stdin is None:
            return
        if not sys.stdin.isatty():
            yield from sys.stdin
            return
        self._session = _line_editor()
        while True:
            try:
                yield self._session.prompt(PROMPT, handle_sigint=False)
            except (EOFError, KeyboardInterrupt):
                return


def _line_editor() -> Any:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import NestedCompleter, PathCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    files = PathCompleter(expanduser=True)
    completer = NestedCompleter({verb: files if "FILE" in VERBS[verb].arguments else None for verb in VERBS})
    try:
        HISTORY.touch()
        history: Any = FileHistory(str(HISTORY))
    except OSError:
        history = InMemoryHistory()
    return PromptSession(history=history, completer=completer, complete_while_typing=False)

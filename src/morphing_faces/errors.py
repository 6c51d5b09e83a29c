"""Errors that a person can mend: raised on purpose, one line, told without a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """What was given cannot be used. The message is one line: it names the value, what is allowed and the remedy.

    The command line tells it and leaves with a non-zero exit. Any other exception is a fault of this program.
    """

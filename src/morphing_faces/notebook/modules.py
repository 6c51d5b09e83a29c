"""The page's modules as one: a notebook's front end is given one string, and modules there have no addresses to import from."""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parent

_IMPORT = re.compile(r'^import (?:(?P<names>\{[^}]*\})|\* as (?P<all>\w+)) from "(?P<path>[^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?P<kind>(?:async )?function\*?|class|const|let) (?P<name>\w+)", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def joined(entry: Path) -> str:
    """JavaScript that defines ``modules(document)``, which runs a module and all that it imports and returns its exports.

    Each call makes them anew, and what they call ``document`` is what was given: so that several faces live in one
    notebook, each in its own part of it. Raises ``ValueError`` on a form of import or export that it does not know.
    """
    texts: dict[str, str] = {}
    _add(entry.resolve(), texts, ())
    parts = [f"  found[{json.dumps(name)}] = (() => {{\n{text}\n  }})();" for name, text in texts.items()]
    names = ["function modules(document) {", "  const found = {};", *parts]
    return "\n".join([*names, f"  return found[{json.dumps(_name(entry.resolve()))}];", "}"])


def _add(path: Path, texts: dict[str, str], importers: tuple[Path, ...]) -> None:
    """A module's text after those that it imports."""
    if _name(path) in texts:
        return
    if path in importers:
        raise ValueError(f"{_name(path)} imports itself by way of {_name(importers[-1])}")
    text = path.read_text(encoding="utf-8")

    def imported(match: re.Match[str]) -> str:
        other = (path.parent / match["path"]).resolve()
        _add(other, texts, (*importers, path))
        names = re.sub(r"(\w+) as (\w+)", r"\1: \2", match["names"]) if match["names"] else match["all"]
        return f"const {names} = found[{json.dumps(_name(other))}];"

    exports = [match["name"] for match in _EXPORT.finditer(text)]
    plain = _EXPORT.sub(r"\g<kind> \g<name>", _IMPORT.sub(imported, text))
    if left := _LEFT.search(plain):
        raise ValueError(f"{path}: {left[0]!r} is a form that cannot be joined")
    texts[_name(path)] = f"{plain}\nreturn {{ {', '.join(exports)} }};"


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name

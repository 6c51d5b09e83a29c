"""Make two of the page's texts: how-it-works.html, with its figures, and model-card.html. Formulas become MathML.

python scripts/how_it_works.py            write
python scripts/how_it_works.py --check    compare what is there with what would be written
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Sequence
from pathlib import Path

import latex2mathml.converter
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

HERE = Path(__file__).resolve().parent.parent
SOURCE = HERE / "docs" / "how-it-works.md"
CARD = HERE / "MODEL_CARD.md"
# What a visitor who has only the page asks, and who has the project knows.
CARD_END = """
## Source

The code that prepares the pictures, trains, measures and draws the models, and all of this page, is the Python package
`morphing-faces`, under the MIT licence. The page's own files are plain modules, as they were written: what runs is what can
be read.
"""
WEB = HERE / "src" / "morphing_faces" / "web"
PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{title}: Morphing Faces</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <link rel="icon" href="icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="style.css">
  <script src="early.js"></script>
</head>
<body class="reading">
<header class="top"><p><a href="./">Morphing Faces</a></p></header>
<main>
{body}</main>
</body>
</html>
"""


def render(title: str, markdown: str) -> bytes:
    """The text as a whole HTML page; its headings can be linked to."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.use(dollarmath_plugin, renderer=_mathml, allow_space=False, double_inline=True)
    parser.use(anchors_plugin, max_level=3)
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.children:
            token.children = _without_local_links(token.children)
    return PAGE.format(title=title, body=parser.renderer.render(tokens, parser.options, {})).encode()


def _mathml(formula: str, options: dict[str, bool]) -> str:
    display = "block" if options["display_mode"] else "inline"
    return str(latex2mathml.converter.convert(html.unescape(formula), display=display))


def _without_local_links(tokens: Sequence[Token]) -> list[Token]:
    """Links into the repository lead nowhere from a web page: their words stay, the link goes."""
    kept: list[Token] = []
    dropped = False
    for token in tokens:
        if token.type == "link_open":
            dropped = not str(token.attrs["href"]).startswith(("https://", "#"))
        if not (dropped and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept


def files() -> dict[Path, bytes]:
    """What is to be written, by path: the two texts, and the figures that they show."""
    text = SOURCE.read_text(encoding="utf-8")
    made = {
        WEB / "how-it-works.html": render("How it works", text),
        WEB / "model-card.html": render("Model card", CARD.read_text(encoding="utf-8") + CARD_END),
    }
    for figure in sorted((SOURCE.parent / "figures").iterdir()):
        if f"(figures/{figure.name})" in text:
            made[WEB / "figures" / figure.name] = figure.read_bytes()
    return made


def main() -> int:
    """Write, or only check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare, and name what differs")
    check = parser.parse_args().check
    stale = [path for path, content in files().items() if not path.exists() or path.read_bytes() != content]
    for path in stale:
        if check:
            print(f"{path.relative_to(HERE)} is not what its text says; run scripts/how_it_works.py", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(files()[path])
            print(f"wrote {path.relative_to(HERE)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Writes web/rules.js from rules.py, so that the page and Python share one set of limits and messages.

python scripts/rules.py           write it
python scripts/rules.py --check   leave with 1 when it is not what would be written
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from morphing_faces import rules

OUT = Path(rules.__file__).parent / "web" / "rules.js"

HEAD = """/**
 * What the twins in Python and in the page share: limits, streams of random numbers, where the frame has the eyes, messages.
 *
 * Written by scripts/rules.py from rules.py: change that, not this.
 */
"""

TAIL = """
/**
 * A message, its values filled in.
 * @param {keyof typeof MESSAGES} key
 * @param {Record<string, unknown>} values
 * @returns {string}
 */
export function say(key, values) {
  return MESSAGES[key].replace(/\\{(\\w+)\\}/g, (_, name) => String(values[name]));
}
"""


def source() -> str:
    """The JavaScript module."""
    lines = []
    for name, value in vars(rules).items():
        if name.isupper():
            text = json.dumps(value, indent=2 if isinstance(value, dict) else None, ensure_ascii=False)
            if isinstance(value, (list, tuple)):
                text = f"/** @type {{const}} */ ({text})"
            lines.append(f"export const {name} = {text};\n")
    return HEAD + "\n" + "".join(lines) + TAIL


def main() -> int:
    """Write the module, or check it; returns the exit status."""
    if "--check" in sys.argv[1:]:
        return int(OUT.read_text(encoding="utf-8") != source())
    OUT.write_text(source(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

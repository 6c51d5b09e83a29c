"""Take docs/page.png, the README's picture of the page, from a page that is served: morphing-faces web --no-browser

python docs/page.py http://127.0.0.1:8000/
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from morphing_faces.cli import FIRST_SEED

OUT = Path(__file__).parent / "page.png"


def main() -> None:
    """Keep some faces, open a row, move the mouse over the face, and take the picture."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
        for visit in range(2):  # what is kept is there on the second, too
            page.goto("about:blank")
            page.goto(f"{sys.argv[1]}#seed={FIRST_SEED}")
            page.wait_for_selector("body[data-state=ready]")
            for _ in range(0 if visit else 5):
                page.click("#random")
                page.click("#favour")
        page.click("#dimensions li:nth-child(18) > .name")
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        box = page.locator("#face").bounding_box()
        assert box
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.45 * box["height"])
        page.wait_for_timeout(12_000)  # messages go, small faces come
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").resize((1080, 675), Image.Resampling.LANCZOS).save(OUT, optimize=True)
    print(f"wrote {OUT}, {OUT.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()

"""A visitor's hand on the page, and what tests of the page share. Nothing waits for a time, only for what is to be seen."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Visit = Callable[..., "Page"]
Serve = Callable[..., str]

PATIENCE = 60  # seconds; the machines are shared
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
MOST_SHIFT = 0.005  # of a page's layout while it loads
WATCH_SHIFT = """window.shift = 0;
  new PerformanceObserver((list) => { for (const one of list.getEntries()) window.shift += one.value; })
    .observe({ type: 'layout-shift', buffered: true });"""
TOLD = """(async () => {
  const link = await import('/link.js');
  const { state, latentSize, dimensions, hasShape } = morphingFaces.session;
  const name = document.getElementById('bundle').value;
  const told = location.hash === `#${link.write(state, { name, latentSize, dimensions, hasShape })}`;
  return told && location.href;
})()"""
UP_TO_DATE = "morphingFaces.pictured !== null && morphingFaces.pictured === morphingFaces.session.z"


WATCH = """([look, patience, given]) => new Promise((resolve) => {
  const [check, end] = [CHECK, performance.now() + 1000 * patience];
  const again = () => {
    const found = check(look, given);
    if (found || performance.now() > end) resolve(Boolean(found));
    else setTimeout(again, 10);
  };
  again();
})"""


def until(check: Callable[[], Any], what: str | Callable[[], str]) -> Any:
    """What ``check`` finds in the end; ``what`` was waited for, looked at anew where it is a function."""
    end, pause = time.monotonic() + PATIENCE, 0.01
    while time.monotonic() < end:
        if result := check():
            return result
        time.sleep(pause)  # a look costs the browser and its driver as much time as 4 ms of work
        pause = min(1.5 * pause, 0.1)
    raise AssertionError(f"not within {PATIENCE} s: {what() if callable(what) else what}")


class Hand:
    """A visitor's hand on the page."""

    def __init__(self, page: Page):
        self.page = page

    def __getitem__(self, selector: str) -> Locator:
        return self.page.locator(selector)

    @property
    def z(self) -> np.ndarray:
        return np.array(self.page.evaluate("Array.from(morphingFaces.session.z)"), np.float32)

    def state(self, key: str) -> Any:
        return self.page.evaluate(f"morphingFaces.session.{key}")

    def watch(self, check: str, what: str | Callable[[], str], look: str = "", given: Any = None) -> None:
        """As :func:`until`, but the page itself looks: at ``check``, a function of what is at the selector ``look``, and of ``given``."""
        script = WATCH.replace("CHECK", f"(look, given) => ({check})(look && document.querySelector(look), given)")
        if not self.page.evaluate(script, [look, PATIENCE, given]):
            raise AssertionError(f"not within {PATIENCE} s: {what() if callable(what) else what}")

    def at_rest(self) -> None:
        """Wait until the face on the screen is the session's."""
        self.watch(f"() => {UP_TO_DATE}", "the face is drawn")

    def hover(self, x: float, y: float) -> None:
        """Move the mouse to a place in the hover square, and stay until the face follows."""
        box = self["#face"].bounding_box()
        assert box
        self.page.mouse.move(box["x"] + (x + 1) / 2 * box["width"], box["y"] + (1 - y) / 2 * box["height"])
        self["body.following"].wait_for()
        self.page.evaluate("new Promise(requestAnimationFrame)")
        self.at_rest()

    def put(self, x: float, y: float) -> None:
        """Move the face to a place in the hover square and leave it there: held, then released by another click."""
        self.hover(x, y)
        for frozen in ("true", "false"):
            self.page.mouse.down()
            self.page.mouse.up()
            self[f"#freeze[aria-pressed={frozen}]"].wait_for()

    def open_row(self, dimension: int) -> None:
        """Open a dimension's row, with its faces and tools."""
        if self[f"{row(dimension)} > .name"].get_attribute("aria-expanded") == "false":
            self.click(f"{row(dimension)} > .name")

    def name_row(self, dimension: int, name: str) -> None:
        """Give a dimension a name of one's own."""
        self.open_row(dimension)
        self[f"{row(dimension)} .own"].fill(name)
        self.press("Enter")

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.page.evaluate("new Promise(requestAnimationFrame)")

    def click(self, selector: str) -> None:
        self[selector].evaluate("one => one.scrollIntoView({ block: 'nearest' })")  # rows out of view are not laid out
        self.page.click(selector)
        self.page.evaluate("new Promise(requestAnimationFrame)")

    def slide(self, selector: str, value: float) -> None:
        """Set a slider as a person does who drags and lets go."""
        self[selector].fill(str(value))
        self.page.evaluate("new Promise(requestAnimationFrame)")

    def says(self, words: str, where: str = "#message") -> None:
        self.watch(
            "(one, words) => one?.innerText.includes(words)",
            lambda: f"{where} says {words!r}, not {self[where].inner_text()!r}",
            where,
            words,
        )

    def reads(self, words: str, where: str) -> None:
        """What it says, word for word: the page writes in the next frame, which a busy machine lets wait."""
        read = self[where].inner_text
        self.watch(
            "(one, words) => one?.innerText === words", lambda: f"{where} reads {words!r}, not {read()!r}", where, words
        )

    def address(self) -> str:
        """The page's address, once it tells of the face as it is."""
        return str(until(lambda: self.page.evaluate(TOLD), "the address tells of the face"))

    def carries(self, attribute: str, value: str, where: str) -> None:
        """Its attribute has this value, or gets it within the next frames."""
        read = self[where].get_attribute
        self.watch(
            "(one, [attribute, value]) => one?.getAttribute(attribute) === value",
            lambda: f"{attribute} of {where} is {value!r}, not {read(attribute)!r}",
            where,
            [attribute, value],
        )

    def shown(self) -> str:
        """The pixels on the screen."""
        self.at_rest()
        return str(self.page.evaluate("document.getElementById('face').toDataURL()"))

    def decoded(self) -> list[int]:
        """The pixels of the face as the model decodes it."""
        script = "morphingFaces.model.decode(morphingFaces.session.z).then((pixels) => Array.from(pixels))"
        found: list[int] = self.page.evaluate(script)
        return found

    def download(self, act: Callable[[], Any]) -> tuple[str, bytes]:
        with self.page.expect_download() as waiting:
            act()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def follow(hand: Hand, fragment: str) -> None:
    """Open a link in the same tab."""
    hand.page.evaluate("document.documentElement.dispatchEvent(new PointerEvent('pointerdown', { bubbles: true }))")
    hand.page.evaluate(
        """(fragment) => {
          history.replaceState(null, '', ' ');
          const heard = new Promise((resolve) => addEventListener('hashchange', resolve, { once: true }));
          location.hash = fragment;
          return heard;
        }""",
        fragment,
    )
    hand["body[data-state=ready]"].wait_for()


def open_page(visit: Visit, address: str, **options: Any) -> Hand:
    hand = Hand(visit(address, **options))
    hand["body[data-state=ready]"].wait_for()
    hand.press("Shift")  # a page that is not touched moves by itself
    hand.at_rest()
    return hand


def centre(locator: Locator) -> tuple[float, float]:
    box = locator.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def row(dimension: int) -> str:
    return f"#dimensions li:nth-child({dimension + 1})"


def picture_file(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def pick(hand: Hand, content: bytes, name: str = "photo.png") -> None:
    kind = "image/jpeg" if name.endswith("jpg") else "image/png"
    hand["#photo-file"].set_input_files({"name": name, "mimeType": kind, "buffer": content})


def crop(hand: Hand) -> np.ndarray:
    """What the model sees, as it is shown."""
    return pixels(hand, "#photo-crop")


def pixels(hand: Hand, canvas: str) -> np.ndarray:
    """What a canvas shows, (height, width, 3)."""
    address = hand[canvas].evaluate("canvas => canvas.toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(picture.convert("RGB"), float)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The point at ``t`` of the way between two latents along the great circle."""
    ra, rb = np.linalg.norm(a), np.linalg.norm(b)
    angle = np.arccos(a @ b / (ra * rb))
    way = np.sin((1 - t) * angle) * a / ra + np.sin(t * angle) * b / rb
    return np.asarray(((1 - t) * ra + t * rb) * way / np.sin(angle))

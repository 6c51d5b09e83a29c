"""The page in headless Chromium against DESIGN's limits: decode, bytes, time to the first face, frames, memory.

    python benchmarks/page.py [--bundle NAME|DIR] [--minutes 10] [--chromium PATH]

Each figure is printed with its limit and the ratio of the two. The page is the real one, from the real server; what goes
over the wire is counted in the server, heads not included.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, Playwright, sync_playwright
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from morphing_faces import bundle, server, site
from morphing_faces.bundle import Bundle
from morphing_faces.cli import FIRST_SEED

LIMITS = {
    "decode, WASM, one thread, median": (16.0, "ms"),
    "decode, WASM, threads, median": (16.0, "ms"),
    "over the wire before the first face": (18.0, "MB"),
    "time to the first face, median of 5": (2.0, "s"),
    "moves of the mouse for each frame": (1.1, "moves"),
    "memory after hovering, of before": (1.1, "times"),
}
RUNS = 5
CHROMIUM = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"

# Before the page's own scripts: notes when it became ready and every drawing of the face.
WATCH = """
  window.watched = { ready: null, drawn: [], display: 0 };
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (...values) {
    if (this.canvas.id === 'face') {
      watched.drawn.push(performance.now());
      if (document.body.dataset.state === 'ready') watched.ready ??= performance.now();
    }
    return draw.apply(this, values);
  };
  const count = () => { watched.display++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
"""
DECODE = """async ([base, runs]) => {
  const { loadModel } = await import('/model.js');
  const { normal } = await import('/noise.js');
  const model = await loadModel(base, { backend: 'wasm' });
  const times = [];
  for (let run = -10; run < runs; run++) {
    const u = normal(0, run + 10, 1, model.latentSize);
    const began = performance.now();
    await model.decode(u);
    if (run >= 0) times.push(performance.now() - began);
  }
  model.close();
  return { times, threads: model.threads };
}"""


def report(name: str, value: float, note: str = "", limits: dict[str, tuple[float, str]] = LIMITS) -> None:
    limit, unit = limits[name]
    verdict = "met" if value <= limit else "MISSED"
    print(
        f"{name:<37}{value:>8.3g} {unit:<14} limit {limit:.3g}, ratio {value / limit:.2f}, {verdict}  {note}",
        flush=True,
    )


class Counter:
    """Counts the bytes of every answer's body, by address."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.bytes: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.body":
                self.bytes[scope["path"]] = self.bytes.get(scope["path"], 0) + len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counted)


@contextlib.contextmanager
def served(shown: list[Bundle]) -> Iterator[tuple[str, Counter]]:
    """The address of the page, and what it has sent."""
    counter = Counter(server.application(shown, FIRST_SEED, server.LOOPBACK))
    program = uvicorn.Server(uvicorn.Config(counter, log_level="warning", lifespan="off"))
    listener = server.listen("127.0.0.1", 0)
    thread = threading.Thread(target=program.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield server.url(listener), counter
    finally:
        program.should_exit = program.force_exit = True
        thread.join(10)


def decode(browser: Browser, shown: list[Bundle], *, isolated: bool) -> tuple[float, int]:
    """Median ms from latents to pixels in the page, and the threads that it used."""
    headers = dict(site.HEADERS)
    if not isolated:  # as from a host that does not send these: browsers then give one thread
        del site.HEADERS["Cross-Origin-Embedder-Policy"]
    try:
        with served(shown) as (address, _):
            page = browser.new_page()
            page.goto(f"{address}icon.svg")
            found = page.evaluate(DECODE, [f"bundles/{site.folder_names(shown)[0]}", 200])
            page.close()
    finally:
        site.HEADERS.update(headers)
    return statistics.median(found["times"]), found["threads"]


def first_face(browser: Browser, address: str) -> float:
    """Seconds from opening the address, with nothing cached, to the first face that the model drew."""
    context = browser.new_context()
    page = opened(context.new_page(), address)
    seconds = float(page.evaluate("watched.ready")) / 1000
    context.close()
    return seconds


def opened(page: Page, address: str) -> Page:
    page.add_init_script(WATCH)
    page.goto(address)
    page.wait_for_selector("body[data-state=ready]", timeout=120_000)
    while page.evaluate("watched.ready") is None:  # wait_for_function is eval, which the page's policy forbids
        time.sleep(0.01)
    return page


def hover(page: Page, seconds: float) -> tuple[float, float, float]:
    """Move the mouse over the face -> a second: frames of the face, moves of the mouse, frames of the display."""
    box = page.locator("#face").bounding_box()
    assert box
    count = "({ drawn: watched.drawn.length, display: watched.display, now: performance.now() })"
    before = page.evaluate(count)
    until, step = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        step += 1
        x, y = 0.5 + 0.45 * math.sin(step / 41), 0.5 + 0.45 * math.sin(step / 67)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    after = page.evaluate(count)
    page.evaluate("watched.drawn = []")
    elapsed = (after["now"] - before["now"]) / 1000
    frames, display = after["drawn"] - before["drawn"], after["display"] - before["display"]
    return frames / elapsed, step / elapsed, display / elapsed


def memory(page: Page) -> float:
    """Megabytes of the page and its worker, after a collection of garbage."""
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    found: Any = page.evaluate("performance.measureUserAgentSpecificMemory().then((found) => found.bytes)")
    return float(found) / 1e6


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of a benchmark of the page, with the bundle and the browser that each takes."""
    parser.add_argument("--bundle")
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    if not options.chromium:
        parser.error("no chromium in PATH: install it, or say where it is with --chromium")
    return options


def launched(playwright: Playwright, chromium: str, shown: Bundle) -> Browser:
    """The browser; prints what is measured, and where."""
    browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM.split())
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    machine = f"{platform.machine()}, {os.cpu_count()} cores{load}"
    print(f"Chromium {browser.version}, bundle {shown.name}, {machine}")
    return browser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parsed(parser)
    shown = [bundle.find(options.bundle)]
    with sync_playwright() as playwright:
        browser = launched(playwright, options.chromium, shown[0])
        measure(browser, shown, options.minutes)
        browser.close()


def visited(browser: Browser, address: str) -> None:
    """A first visit, and the time in which the server compresses the networks that were asked for."""
    first_face(browser, address)
    time.sleep(server.PATIENCE + 3)


def measure(browser: Browser, shown: list[Bundle], minutes: float) -> None:
    for isolated, name in ((False, "one thread"), (True, "threads")):
        median, threads = decode(browser, shown, isolated=isolated)
        report(f"decode, WASM, {name}, median", median, f"({threads} thread{'s' * (threads > 1)})")
    with served(shown) as (address, counter):
        visited(browser, address)
        counter.bytes.clear()
        first_face(browser, address)
        sent = dict(counter.bytes)
        largest = ", ".join(f"{Path(path).name} {size / 1e6:.1f}" for path, size in sorted(
            sent.items(), key=lambda item: -item[1])[:2])  # fmt: skip
        report("over the wire before the first face", sum(sent.values()) / 1e6, f"({largest})")
        report(
            "time to the first face, median of 5", statistics.median(first_face(browser, address) for _ in range(RUNS))
        )
        page = opened(browser.new_context().new_page(), address)
        faces, moves, display = hover(page, 10)
        rates = f"({faces:.0f} frames a second, {moves:.0f} moves, the display {display:.0f})"
        report("moves of the mouse for each frame", min(moves, display) / faces, rates)
        before = memory(page)
        hover(page, 60 * minutes)
        after = memory(page)
        report(
            "memory after hovering, of before", after / before, f"({before:.0f} MB, {after:.0f} after {minutes:g} min)"
        )


if __name__ == "__main__":
    main()

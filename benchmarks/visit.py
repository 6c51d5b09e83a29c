"""What a visitor of the page waits for, in headless Chromium: a slow line, the explanation open, a photograph of 12 megapixels.

    python benchmarks/visit.py [--bundle NAME|DIR] [--chromium PATH]

- On a line of 10 Mbit/s with the page's own thread slowed four times: seconds from the first byte to the first face that is
  drawn from the sheet under a moving hand, and to the first that the model draws.
- On a quick line: the longest task while the page loads, and how much its layout shifts.
- New faces a second while the mouse hovers, with *What is a VAE?* closed and open, and the ratio of the two.
- Seconds from a photograph being handed over to the portrait that follows; and the page's time for each further frame of it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

import morphing_faces as mf
from morphing_faces import bundle, site
from morphing_faces.pictures import to_uint8
from page import WATCH, hover, launched, opened, parsed, report, served, visited

LOOKING = 2.0  # seconds that a person looks for a photograph, at least; what it needs is loaded meanwhile
LIMITS = {
    "10 Mbit/s: a face of the sheet": (3.0, "s"),
    "10 Mbit/s: a face of the model": (14.0, "s"),
    "longest task while loading": (100.0, "ms"),
    "layout shift": (0.005, ""),
    "closed, of faces with it open": (60 / 45, "times"),
    "photograph to portrait, dropped at once": (2.5, "s"),
    "photograph to portrait": (2.5, "s"),
    "a frame of the portrait": (4.0, "ms"),
}
RUNS = 5
LINE = {"offline": False, "latency": 40, "downloadThroughput": 10e6 / 8, "uploadThroughput": 5e6 / 8}
SLOWED = 4
WINDOW: ViewportSize = {"width": 1366, "height": 768}
PHOTOGRAPH = (4000, 3000)
EYES = ((908.5, 689.0), (1139.5, 689.0))  # in the page's copy, at most 2048 pixels wide

NOTE = """
  window.noted = { longest: 0, shift: 0 };
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) noted.longest = Math.max(noted.longest, task.duration);
  }).observe({ type: 'longtask', buffered: true });
  new PerformanceObserver((list) => {
    for (const shift of list.getEntries()) if (!shift.hadRecentInput) noted.shift += shift.value;
  }).observe({ type: 'layout-shift', buffered: true });
"""
FRAMES = """async ([base, width, height, eyes]) => {
  const { loadModel } = await import('/model.js');
  const { PhotoView } = await import('/photo-view.js');
  const { normal } = await import('/noise.js');
  const model = await loadModel(base, { backend: 'wasm' });
  const photograph = Object.assign(document.createElement('canvas'), { width, height });
  photograph.getContext('2d').fillRect(0, 0, width / 2, height / 2);
  const parts = [];
  for (let k = 0; k < 20; k++) parts.push(await model.parts(normal(0, k, 1, model.latentSize)));
  const view = new PhotoView(photograph, eyes.map(([x, y]) => ({ x, y })), parts[0]);
  const [moves, draws] = [[], []];
  for (let k = 0; k < 120; k++) {
    view.move(parts[1 + k % 19]);
    moves.push(view.spent);
    view.spent = 0;
    view.draw(view.portrait, 1024, 1024);
    draws.push(view.spent);
    await new Promise(requestAnimationFrame);
  }
  const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  const found = { move: median(moves), draw: median(draws), shader: view.accelerated };
  view.close();
  model.close();
  return found;
}"""


def slow_line(browser: Browser, address: str) -> tuple[float, float]:
    """Seconds from the first byte to the first face under the hand, and to the first that the model draws."""
    context = browser.new_context(viewport=WINDOW)
    page = context.new_page()
    page.add_init_script(WATCH)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", LINE)
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED})
    page.goto(address, wait_until="commit")
    step = 0
    while page.evaluate("window.watched?.ready ?? null") is None:
        step += 1
        page.mouse.move(WINDOW["width"] * (0.3 + 0.02 * (step % 9)), WINDOW["height"] * (0.4 + 0.02 * (step % 7)))
        time.sleep(0.05)
    first, ready, begun = page.evaluate(
        "[watched.drawn[0], watched.ready, performance.getEntriesByType('navigation')[0].responseStart]"
    )
    context.close()
    return (first - begun) / 1000, (ready - begun) / 1000


def loading(browser: Browser, address: str) -> tuple[float, float]:
    """The longest task, in ms, and the layout shift of a page that loads on a quick line."""
    context = browser.new_context(viewport=WINDOW)
    page = context.new_page()
    page.add_init_script(NOTE)
    opened(page, address)
    time.sleep(2)  # what the page does once the model is there
    longest, shift = page.evaluate("[noted.longest, noted.shift]")
    context.close()
    return longest, shift


def explained(browser: Browser, address: str) -> tuple[float, float, float]:
    """New faces a second while the mouse hovers: with the explanation closed, and open; and frames of the display."""
    context = browser.new_context(viewport=WINDOW)
    page = opened(context.new_page(), address)
    closed, _, _ = hover(page, 8)
    page.click("#open-explain")
    page.wait_for_selector("#inside:not([hidden])")
    time.sleep(2)
    opened_rate, _, display = hover(page, 8)
    context.close()
    return closed, opened_rate, display


def photograph(model: mf.Model, path: Path) -> None:
    """Write a photograph of 12 megapixels: a face of the model, 1,100 pixels high, in front of noise."""
    rng = np.random.default_rng(0)
    width, height = PHOTOGRAPH
    coarse = Image.fromarray(rng.integers(40, 200, (9, 12, 3), np.uint8))
    scene = coarse.resize(PHOTOGRAPH, Image.Resampling.BICUBIC)
    face = Image.fromarray(to_uint8(model.decode(0.7 * model.sample(1, seed=3)))[0])
    side = 1100
    mask = Image.new("L", (64, 64))
    mask.paste(255, (6, 6, 58, 58))
    scene.paste(
        face.resize((side, side), Image.Resampling.BICUBIC),
        ((width - side) // 2, (height - side) // 2),
        mask.resize((side, side), Image.Resampling.BICUBIC),
    )
    scene.save(path, quality=92)


def portrait(page: Page, path: Path) -> float:
    """Seconds from a photograph being handed over to the first portrait of it."""
    began = time.perf_counter()
    page.set_input_files("#photo-file", path)
    page.click("#photo-use:not([disabled])", timeout=60_000)
    page.wait_for_selector("#photo-bar:not([hidden])")
    seconds = time.perf_counter() - began
    page.click("#photo-leave")
    return seconds


def dropped(browser: Browser, address: str, path: Path) -> float:
    """The same on a new page, once it is ready and still moves by itself."""
    context = browser.new_context(viewport=WINDOW)
    page = opened(context.new_page(), address)
    time.sleep(2)
    seconds = portrait(page, path)
    context.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = parsed(parser)
    shown = [bundle.find(options.bundle)]
    model = mf.Model(shown[0])
    with sync_playwright() as playwright, served(shown) as (address, _), tempfile.TemporaryDirectory() as folder:
        browser = launched(playwright, options.chromium, shown[0])
        visited(browser, address)
        lines = [slow_line(browser, address) for _ in range(3)]
        for name, times in zip(("10 Mbit/s: a face of the sheet", "10 Mbit/s: a face of the model"), zip(*lines, strict=True), strict=True):  # fmt: skip
            report(name, statistics.median(times), "(median of 3)", LIMITS)
        found = [loading(browser, address) for _ in range(RUNS)]
        report(
            "longest task while loading",
            statistics.median(longest for longest, _ in found),
            f"(median of {RUNS})",
            LIMITS,
        )
        report("layout shift", max(shift for _, shift in found), f"(most of {RUNS})", LIMITS)
        closed, with_it, display = explained(browser, address)
        rates = f"({closed:.0f} a second closed, {with_it:.0f} open, the display {display:.0f})"
        report("closed, of faces with it open", closed / with_it, rates, LIMITS)
        if model.has_shape:
            path = Path(folder) / "photograph.jpg"
            photograph(model, path)
            at_once = statistics.median(dropped(browser, address, path) for _ in range(3))
            report("photograph to portrait, dropped at once", at_once, "(median of 3 new pages)", LIMITS)
            page = opened(browser.new_context(viewport=WINDOW).new_page(), address)
            page.click("#open-photo")
            page.wait_for_timeout(1000 * LOOKING)
            waits = [portrait(page, path) for _ in range(RUNS)]
            note = f"(median of {RUNS}; {waits[0]:.2f} s the first time, {LOOKING:g} s after the dialog was opened)"
            report("photograph to portrait", statistics.median(waits), note, LIMITS)
            page.goto(f"{address}how-it-works.html")
            frames = page.evaluate(FRAMES, [f"bundles/{site.folder_names(shown)[0]}", 2048, 1536, EYES])
            note = f"(its way {frames['move']:.1f}, its drawing {frames['draw']:.1f}; shader: {frames['shader']})"
            report("a frame of the portrait", frames["move"] + frames["draw"], note, LIMITS)
        browser.close()


if __name__ == "__main__":
    main()

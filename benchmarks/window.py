"""Hover to finished frame in the real window, resident memory, import and cold start, against DESIGN's limits.

Run where a display is, or under a virtual one:  xvfb-run python benchmarks/window.py [--bundle NAME|DIR]
Each figure is printed with its limit and the ratio of the two; medians of repeated runs where a run is short.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMITS = {
    "hover to finished frame, p95": (16.7, "ms"),
    "import morphing_faces": (0.3, "s"),
    "sample -n 1, cold start": (1.0, "s"),
    "resident memory of the window": (300.0, "MB"),
}


def report(name: str, value: float, note: str = "") -> None:
    limit, unit = LIMITS[name]
    verdict = "met" if value <= limit else "MISSED"
    print(f"{name:<34}{value:>9.3g} {unit:<3} limit {limit:g} {unit}, ratio {value / limit:.2f}, {verdict}  {note}")


def hover(bundle: str | None, moves: int) -> tuple[list[float], float]:
    """Latencies in ms from a mouse event to the end of its frame's drawing, and resident memory in MB."""
    from morphing_faces.model import load
    from morphing_faces.session import Session
    from morphing_faces.window import Window

    model = load(bundle)
    view = Window(model, Session(model), "TkAgg")
    widget = view.canvas.get_tk_widget()
    view.canvas.manager.show()
    settled = time.monotonic() + 1
    while time.monotonic() < settled:
        widget.update()
    rng = np.random.default_rng(0)
    left, _, side, _ = view.face.box
    latencies: list[float] = []
    x, y = left + side / 2, left + side / 2
    for _ in range(moves):
        x, y = np.clip([x + rng.normal(0, 25), y + rng.normal(0, 25)], left + 2, left + side - 2)
        time.sleep(rng.uniform(0, 0.016))  # a hand's events come at any phase of the display
        seen = view.frames
        began = time.perf_counter()
        widget.event_generate("<Motion>", x=int(x), y=int(y))
        while view.frames == seen:
            widget.update()
            if time.perf_counter() - began > 5:
                raise SystemExit("no frame within 5 s of a mouse event")
        widget.update_idletasks()
        latencies.append(1000 * (time.perf_counter() - began))
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * resource.getpagesize() / 1e6
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    view.close()
    return latencies, memory


def seconds(arguments: list[str], runs: int = 7) -> float:
    """Median wall time of a fresh Python."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle")
    parser.add_argument("--moves", type=int, default=400)
    options = parser.parse_args()
    load_average = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}{load_average}")
    empty = seconds(["-c", "pass"])
    report(
        "import morphing_faces", seconds(["-c", "import morphing_faces"]) - empty, f"(an empty Python: {empty:.3f} s)"
    )
    with tempfile.TemporaryDirectory() as folder:
        bundle = ["--bundle", options.bundle] if options.bundle else []
        sample = ["-m", "morphing_faces", "sample", "-n", "1", "-o", f"{folder}/face.png", *bundle]
        report("sample -n 1, cold start", seconds(sample))
    latencies, memory = hover(options.bundle, options.moves)
    middle = statistics.median(latencies)
    report(
        "hover to finished frame, p95",
        float(np.quantile(latencies, 0.95)),
        f"(median {middle:.1f} ms, {len(latencies)} moves)",
    )
    report("resident memory of the window", memory)


if __name__ == "__main__":
    main()

"""A soak of the window: hover, click, pick dimensions and walk for some minutes, and watch memory and frames.

Run where a display is, or under a virtual one:  xvfb-run python benchmarks/soak.py [--minutes 10] [--bundle NAME|DIR]
Prints a line a minute. Memory is flat when the last line's is that of the second: the first minute fills caches.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np


def resident() -> float:
    """Resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    from morphing_faces.model import load
    from morphing_faces.session import Session
    from morphing_faces.window import Window

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    model = load(options.bundle)
    view = Window(model, Session(model), "TkAgg")
    view.poll_timer.start()
    widget = view.canvas.get_tk_widget()
    view.canvas.manager.show()
    rng = np.random.default_rng(0)
    began = minute = time.monotonic()
    frames, events, processor = 0, 0, time.process_time()
    print("minute  MB resident  frames/s  moves a frame  processor time a frame (ms)  threads", flush=True)
    while time.monotonic() - began < 60 * options.minutes:
        left, _, side, _ = view.face.box
        x, y = rng.uniform(left, left + side, 2)
        widget.event_generate("<Motion>", x=int(x), y=int(y))
        events += 1
        chance = rng.uniform()
        if chance < 0.01:
            first = int(rng.integers(28))
            view.perform("d", (first, first + 1))
        elif chance < 0.02:
            view.perform(str(rng.choice(["r", "f", "u", "walk"])), ())
        widget.update()
        time.sleep(0.004)
        if time.monotonic() - minute >= 60:
            shown, spent, now = view.frames - frames, time.process_time() - processor, time.monotonic()
            threads = len(os.listdir("/proc/self/task"))
            print(
                f"{(now - began) / 60:6.1f}{resident():13.1f}{shown / (now - minute):10.1f}{events / max(shown, 1):15.2f}"
                f"{1000 * spent / max(shown, 1):29.1f}{threads:9}",
                flush=True,
            )
            frames, events, processor, minute = view.frames, 0, time.process_time(), now
    view.close()


if __name__ == "__main__":
    main()

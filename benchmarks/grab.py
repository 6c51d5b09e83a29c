"""How well a face follows a pulled handle, and how long a step takes.

    python benchmarks/grab.py --bundle DIR [--faces 100] [--sheet grab.png] [--no-page]

Each handle of each face is pulled by 5 to 8 pixels of 128, in a random direction. Prints the distance left between handle
and hand, the movement of pinned handles, and the median time of a step in Python and in the page, in headless Chromium,
beside their limits. ``--sheet`` draws 100 faces before and after a pull of 8 pixels, to be looked at.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

import morphing_faces as mf
from morphing_faces import grab, rules
from morphing_faces.pictures import to_uint8

PINS = ("nose", "eye-left-outer", "eye-right-outer", "mouth-right")
PAGE = """async (base) => {
  const { loadModel } = await import('/model.js');
  const { Session } = await import('/session.js');
  const model = await loadModel(base, { backend: 'wasm' });
  const session = new Session(model, 0);
  const [takes, steps] = [[], []];
  for (const name of ['mouth-left', 'lip-lower', 'brow-right', 'nose', 'eye-left-outer', 'jaw-right']) {
    let began = performance.now();
    const taken = await session.take(model.source, name);
    takes.push(performance.now() - began);
    for (let step = 0; step < 40; step++) {
      began = performance.now();
      await session.pull(taken, [step / 8, -step / 10]);
      steps.push(performance.now() - began);
    }
    session.undo();
  }
  const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  return [median(takes.slice(1)), median(steps)];
}"""


def distances(model: mf.Model, faces: int) -> None:
    """Print how far handles stay behind the hand, and how far pinned ones move."""
    unit = model.image_shape[0] / grab.UNIT
    rng = np.random.default_rng(0)
    left: dict[str, list[float]] = {name: [] for name in grab.NAMES}
    pinned, takes, steps = [], [], []
    session = mf.Session(model, 0)
    for face in range(faces):
        session.shuffle()
        for pins in ((), PINS) if face % 5 == 0 else ((),):
            for name in grab.NAMES:
                angle, far = rng.uniform(0, 2 * np.pi), unit * rng.uniform(5, 8)
                by = far * np.cos(angle), far * np.sin(angle)
                for pin in pins:
                    session.pin(pin)
                began = time.perf_counter()
                taken = session.take(name)
                takes.append(time.perf_counter() - began)
                home = taken.places
                for _ in range(rules.PULL_STEPS):
                    began = time.perf_counter()
                    session.pull(taken, by)
                    steps.append(time.perf_counter() - began)
                    if taken.change < rules.PULL_SETTLED:
                        break
                if pins:
                    moved = np.linalg.norm(taken.places - home, axis=1) / unit
                    pinned += [moved[grab.NAMES.index(pin)] for pin in pins if pin != name]
                else:
                    left[name].append(taken.left / unit)
                session.undo()
                for pin in pins:
                    session.pin(pin)
                session.end_gesture()
    everything = np.concatenate(list(left.values()))
    print(f"left after a pull of 5 to 8 px: mean {everything.mean():.2f} px, median {np.median(everything):.2f}, p90 {np.quantile(everything, 0.9):.2f} (limit of the mean 0.5)")  # fmt: skip
    for name, values in left.items():
        print(f"    {name:<18}{np.mean(values):.2f}")
    print(f"pinned handles: mean {np.mean(pinned):.2f} px, p99 {np.quantile(pinned, 0.99):.2f} (limit 0.3)")
    print(f"in Python: a step {1000 * statistics.median(steps):.2f} ms (limit 3), taking a handle {1000 * statistics.median(takes):.0f} ms")  # fmt: skip


def sheet(model: mf.Model, path: Path, faces: int = 100, columns: int = 10, size: int = 128) -> None:
    """Write pairs of faces, before and after a pull of 8 pixels of 128 of one handle after the other."""
    session = mf.Session(model, 1)
    rng = np.random.default_rng(1)
    unit = model.image_shape[0] / grab.UNIT
    rows = []
    for face in range(faces):
        session.shuffle()
        before = session.z
        angle = rng.uniform(0, 2 * np.pi)
        session.grab(grab.NAMES[face % len(grab.NAMES)], (8 * unit * np.cos(angle), 8 * unit * np.sin(angle)))
        pair = to_uint8(model.decode(np.stack([before, session.z])))
        rows.append(np.concatenate([np.asarray(Image.fromarray(x).resize((size, size), 3)) for x in pair], 1))
    lines = [np.concatenate(rows[k : k + columns], 1) for k in range(0, faces, columns)]
    Image.fromarray(np.concatenate(lines)).save(path)
    print(f"{path}: {faces} faces, before and after; handles in turn: {', '.join(grab.NAMES)}")


def page(bundle: Path) -> None:
    """Print the median times in the page."""
    import uvicorn
    from playwright.sync_api import sync_playwright

    from morphing_faces import bundle as bundles
    from morphing_faces import server

    listener = server.listen("127.0.0.1", 0)
    application = server.application([bundles.find(bundle)], 0, ["127.0.0.1"])
    program = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
    threading.Thread(target=program.run, kwargs={"sockets": [listener]}, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page()
        tab.goto(f"{server.url(listener)}icon.svg")
        took, step = tab.evaluate(PAGE, f"bundles/{bundles.find(bundle).name}")
        print(f"in the page: a step {step:.2f} ms (limit 3), taking a handle {took:.0f} ms")
        browser.close()
    program.should_exit = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="the folder of a bundle with shape")
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--no-page", action="store_true")
    arguments = parser.parse_args()
    model = mf.load(arguments.bundle)
    distances(model, arguments.faces)
    if arguments.sheet:
        sheet(model, arguments.sheet)
    if not arguments.no_page:
        page(arguments.bundle)


if __name__ == "__main__":
    main()

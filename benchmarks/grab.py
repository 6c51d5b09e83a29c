"""How well a face follows a pulled handle, and how long a step takes.

    python benchmarks/grab.py --bundle DIR [--faces 100] [--sheet grab.png] [--no-page]

Each handle of each face is pulled by 5 to 8 pixels of 128, in a random direction. Prints the distance left between handle
and hand, the same where nothing is held and nothing limited, the movement of pinned handles, after one pull and after 30,
and the median time of a step in Python and in the page, in headless Chromium, beside their limits. ``--sheet`` draws 100
faces before and after a pull of 8 pixels, to be looked at.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from PIL import Image

import morphing_faces as mf
from morphing_faces import grab, rules
from morphing_faces.pictures import to_uint8

PINS = ("nose", "eye-left-outer", "eye-right-outer", "mouth-right")
GROUPS = {
    "mouth and lips": ("mouth", "lip"),
    "brows": ("brow",),
    "eyes": ("eye", "lid"),
    "nose": ("nose",),
    "chin": ("chin",),
    "jaw": ("jaw",),
}
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


class Drag(NamedTuple):
    """A pull: the distance ``left`` to the hand and how far each handle ``moved``, (22,), in pixels of 128; the length of
    the ``way`` in u; the ``times`` of taking the handle and of each step, in seconds."""

    name: str
    left: float
    moved: np.ndarray
    way: float
    times: list[float]


def drags(model: mf.Model, faces: int, pins: tuple[str, ...] = ()) -> Iterator[Drag]:
    """A pull of each handle of each face by 5 to 8 pixels in a random direction, each from the face as it was drawn."""
    unit = model.image_shape[0] / grab.UNIT
    rng = np.random.default_rng(0)
    session = mf.Session(model, 0)
    for pin in pins:
        session.pin(pin)
    for _ in range(faces):
        session.shuffle()
        for name in grab.NAMES:
            angle, far = rng.uniform(0, 2 * np.pi), unit * rng.uniform(5, 8)
            before = session.z
            began = time.perf_counter()
            taken = session.take(name)
            times = [time.perf_counter() - began]
            home = taken.places
            for _ in range(rules.PULL_STEPS):
                began = time.perf_counter()
                session.pull(taken, (far * np.cos(angle), far * np.sin(angle)))
                times.append(time.perf_counter() - began)
                if taken.change < rules.PULL_SETTLED:
                    break
            moved = np.linalg.norm(taken.places - home, axis=1) / unit
            yield Drag(name, taken.left / unit, moved, float(np.linalg.norm(session.z - before)), times)
            session.undo()


def distances(model: mf.Model, faces: int) -> None:
    """Print how far handles stay behind the hand, how far pinned ones move, and how long a step takes."""
    free = list(drags(model, faces))
    left = np.array([drag.left for drag in free])
    print(f"left after a pull of 5 to 8 px: mean {left.mean():.2f} px, median {np.median(left):.2f}, p90 {np.quantile(left, 0.9):.2f} (limit of the mean 0.5)")  # fmt: skip
    print_groups(free)
    with unlimited():
        reach = list(drags(model, max(faces // 5, 1)))
    print(f"with nothing held and no limit: mean {np.mean([drag.left for drag in reach]):.2f} px")
    print_groups(reach)
    held = [np.delete(drag.moved, grab.NAMES.index(drag.name)) for drag in free]
    print(f"other handles: mean {np.mean(held):.2f} px")
    pinned = [drag.moved[grab.NAMES.index(pin)] for drag in drags(model, max(faces // 5, 1), PINS) for pin in PINS if pin != drag.name]  # fmt: skip
    print(f"pinned handles: mean {np.mean(pinned):.2f} px, p99 {np.quantile(pinned, 0.99):.2f} (limit 0.3)")
    takes = [drag.times[0] for drag in free]
    steps = [seconds for drag in free for seconds in drag.times[1:]]
    print(f"in Python: a step {1000 * statistics.median(steps):.2f} ms (limit 3), taking a handle {1000 * statistics.median(takes):.0f} ms")  # fmt: skip


def print_groups(found: list[Drag]) -> None:
    """Print the distance left for each kind of handle, and how far the face went for it."""
    for group, names in GROUPS.items():
        those = [drag for drag in found if drag.name.startswith(names)]
        left, way = np.mean([drag.left for drag in those]), np.mean([drag.way for drag in those])
        print(f"    {group:<18}{left:.2f} px, the way in u {way:.1f}")


@contextmanager
def unlimited() -> Iterator[None]:
    """Pulls that hold nothing and go as far as it takes, folds or not: what the model could reach at all."""
    far = {"PULL_HOLD": 0.0, "PULL_DAMPING": 1e-3, "PULL_VISIBLE": 0.0, "PULL_KNEE": 1e3, "PULL_LIMIT": 2e3, "PULL_FOLD": -1e9}  # fmt: skip
    with patch.dict(vars(grab), far):
        yield


def creep(model: mf.Model, faces: int, pulls: int = 30) -> None:
    """Print how far pinned handles are from where they were pinned after many pulls of others by 3 to 8 pixels."""
    unit = model.image_shape[0] / grab.UNIT
    rng = np.random.default_rng(0)
    session = mf.Session(model, 2)
    for pin in PINS:
        session.pin(pin)
    others = [name for name in grab.NAMES if name not in PINS]
    off = []
    for _ in range(faces):
        session.shuffle()
        home = session.handles
        for _ in range(pulls):
            angle, far = rng.uniform(0, 2 * np.pi), unit * rng.uniform(3, 8)
            session.grab(others[rng.integers(len(others))], (far * np.cos(angle), far * np.sin(angle)))
        places = session.handles
        off += [np.hypot(*np.subtract(places[pin], home[pin])) / unit for pin in PINS]
    print(f"pinned handles after {pulls} pulls: mean {np.mean(off):.2f} px, most {np.max(off):.2f} (limit 0.3)")


def sheet(model: mf.Model, path: Path, faces: int = 100, columns: int = 10, size: int = 192) -> None:
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
    creep(model, max(arguments.faces // 5, 1))
    if arguments.sheet:
        sheet(model, arguments.sheet)
    if not arguments.no_page:
        page(arguments.bundle)


if __name__ == "__main__":
    main()

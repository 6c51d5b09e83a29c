"""Fixtures: drawn faces, and a data set, a run and a bundle made of them by the project's own code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from PIL import Image, ImageDraw

from hand import Hand, follow, open_page
from morphing_faces.cli import FIRST_SEED

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny networks run faster on one thread than on all of them."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


def drawn_faces(count: int, size: int = 24, seed: int = 0) -> np.ndarray:
    """Faces drawn from a few random numbers each: uint8 (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    faces = []
    for _ in range(count):
        skin, back, hair = (int(rng.integers(low, high)) for low, high in ((120, 240), (0, 120), (0, 110)))
        turn, smile = rng.uniform(-2, 2), rng.uniform(-1, 6)
        picture = Image.new("RGB", (96, 96), (back, back, back + 20))
        draw = ImageDraw.Draw(picture)
        draw.ellipse((14, 0, 82, 96), fill=(hair, hair, hair))
        draw.ellipse((20, 10, 76, 94), fill=(skin, skin - 20, skin - 40))
        for x in (30, 66):
            draw.ellipse((x - 5 + turn, 26, x + 5 + turn, 35), fill="white")
            draw.ellipse((x - 2 + 2 * turn, 28, x + 2 + 2 * turn, 33), fill="black")
        draw.chord((34 + turn, 62 - smile, 62 + turn, 70 + smile), 0, 180, fill=(140, 40, 40))
        faces.append(np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(faces)


@pytest.fixture(scope="session")
def made_once(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[[str, Callable[[Path], object]], Path]:
    """``made_once(name, make)`` is a folder that ``make(folder)`` has filled, once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "made"

    def get(name: str, make: Callable[[Path], object]) -> Path:
        shared.mkdir(exist_ok=True)
        with FileLock(shared / f"{name}.lock"):
            if not (shared / f"{name}.done").exists():
                make(shared / name)
                (shared / f"{name}.done").touch()
        return shared / name

    return get


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def tiny_data(made_once: MadeOnce) -> Path:
    """A prepared data set of 500 drawn faces, 16x16 grey."""
    from morphing_faces.prepare import prepare

    def make(folder: Path) -> None:
        source = folder.with_name("faces.npz")
        np.savez(source, images=drawn_faces(500))
        prepare([str(source)], folder, size=16, grey=True, progress=False)

    return made_once("tiny-data", make)


def drawn_face() -> Image.Image:
    """One of them, larger."""
    return Image.fromarray(drawn_faces(1, size=96, seed=5)[0])


def drawn_landmarks(count: int, size: int = 24, seed: int = 0) -> np.ndarray:
    """The 68 landmarks of the faces that ``drawn_faces`` draws, in pixels: float32 (count, 68, 2)."""
    rng = np.random.default_rng(seed)
    points = []
    for _ in range(count):
        for low, high in ((120, 240), (0, 120), (0, 110)):
            rng.integers(low, high)
        turn, smile = rng.uniform(-2, 2), rng.uniform(-1, 6)
        angle = np.linspace(0, np.pi, 17)
        jaw = np.c_[48 - 28 * np.cos(angle), 40 + 52 * np.sin(angle)]
        brows = [(x + dx, 22 - abs(dx) / -8) for x in (30, 66) for dx in (-8, -4, 0, 4, 8)]
        nose = [(48 + turn, y) for y in (34, 40, 46, 52)] + [(48 + dx + turn, 56) for dx in (-6, -3, 0, 3, 6)]
        eyes = [
            (x + 5 * dx + turn, 30.5 + 4.5 * dy)
            for x in (30, 66)
            for dx, dy in ((-1, 0), (-0.4, -1), (0.4, -1), (1, 0), (0.4, 1), (-0.4, 1))
        ]
        corner = smile / 3
        lips = [(48 - 14 + 28 * k / 6 + turn, 66 - corner * abs(k - 3) / 3) for k in range(7)]
        lips += [(48 + 14 - 28 * k / 6 + turn, 66 + (4 + smile) * np.sin(np.pi * k / 6)) for k in range(1, 6)]
        inner = [(48 - 11 + 22 * k / 4 + turn, 66.0) for k in range(5)] + [
            (48 + 6 - 6 * k + turn, 67.0) for k in range(3)
        ]
        points.append(np.concatenate([jaw, brows, nose, eyes, lips, inner]))
    return ((np.stack(points) + 0.5) * (size / 96) - 0.5).astype(np.float32)


def prepared_with_landmarks(folder: Path, count: int, size: int) -> Path:
    """A prepared data set of drawn faces in colour whose landmarks are known."""
    from morphing_faces.prepare import prepare, store_landmarks

    folder.mkdir(exist_ok=True)
    np.savez(folder / "faces.npz", images=drawn_faces(count, size))
    record = prepare([str(folder / "faces.npz")], folder / "prepared", size=size, progress=False)
    landmarks = drawn_landmarks(count, size)
    record["landmarks"] = store_landmarks(folder / "prepared", landmarks, record["sha256"], [])
    (folder / "prepared" / "dataset.json").write_text(json.dumps(record))
    return folder / "prepared"


@pytest.fixture(scope="session")
def shaped_data(made_once: MadeOnce) -> Path:
    """A prepared data set of 300 drawn faces, 32x32 in colour, with landmarks."""
    return made_once("shaped-data", lambda folder: prepared_with_landmarks(folder, 300, 32)) / "prepared"


SHAPED = {
    "name": "shaped", "network": "conv", "latent_size": 16, "widths": [8, 12, 16],
    "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1], "batch": 16, "steps": 120, "warmup": 10, "kl_warmup": 10,
}  # fmt: skip


@pytest.fixture(scope="session")
def shaped_run(shaped_data: Path, made_once: MadeOnce) -> Path:
    """A finished run of a tiny network with shape on ``shaped_data``. Not to be changed."""
    from morphing_faces.dataset import open_dataset
    from morphing_faces.train.loop import train
    from morphing_faces.train.recipe import from_dict

    def make(run: Path) -> None:
        train(from_dict(SHAPED), open_dataset(shaped_data), run, device="cpu", progress=False)

    return made_once("shaped-run", make)


@pytest.fixture(scope="session")
def shaped_bundle(shaped_run: Path, shaped_data: Path, made_once: MadeOnce) -> Path:
    """The bundle exported from ``shaped_run``. Not to be changed."""
    from morphing_faces.dataset import open_dataset
    from morphing_faces.train.export import export

    def make(out: Path) -> None:
        export(shaped_run, open_dataset(shaped_data), out, licence="drawn faces, no rights reserved", probes=256)

    return made_once("shaped", make)


TINY = {"name": "tiny", "latent_size": 32, "hidden": [48], "batch": 32, "steps": 400, "warmup": 20, "kl_warmup": 10}


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, made_once: MadeOnce) -> Path:
    """A finished run of a tiny network on ``tiny_data``."""
    from morphing_faces.dataset import open_dataset
    from morphing_faces.train.loop import train
    from morphing_faces.train.recipe import from_dict

    def make(run: Path) -> None:
        train(from_dict(TINY), open_dataset(tiny_data), run, device="cpu", progress=False)

    return made_once("tiny-run", make)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_data: Path, made_once: MadeOnce) -> Path:
    """A bundle of eigenfaces of ``tiny_data``, made without training. Not to be changed: copy it with ``bundle_copy``."""
    import linear
    from morphing_faces.dataset import open_dataset

    pictures = open_dataset(tiny_data).images
    return made_once("tiny", lambda out: linear.write(out, pictures, 32, "drawn faces, no rights reserved"))


@pytest.fixture(scope="session")
def exported_bundle(tiny_run: Path, tiny_data: Path, made_once: MadeOnce) -> Path:
    """The bundle exported from ``tiny_run``. Not to be changed."""
    from morphing_faces.dataset import open_dataset
    from morphing_faces.train.export import export

    def make(out: Path) -> None:
        export(tiny_run, open_dataset(tiny_data), out, licence="drawn faces, no rights reserved", probes=512)

    return made_once("exported", make)


@pytest.fixture(scope="session")
def flow_export(tiny_run: Path, tiny_data: Path, made_once: MadeOnce) -> Path:
    """A folder with ``run``, which is ``tiny_run`` with a flow of 3 layers, fitted in 60 steps, and its ``bundle``."""
    from morphing_faces.dataset import open_dataset
    from morphing_faces.train import latents
    from morphing_faces.train.export import export
    from morphing_faces.train.recipe import from_dict

    def make(folder: Path) -> None:
        shutil.copytree(tiny_run, folder / "run")
        recipe = from_dict(TINY).replace(flow_layers=3, spread=[0.9, 1.1, 1.5])
        (folder / "run" / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(latents, "STEPS", 60)
            export(folder / "run", open_dataset(tiny_data), folder / "bundle", licence="none", probes=128)

    return made_once("flow", make)


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``morphing-faces ARGUMENTS`` in ``tmp_path``, without a display, in this process; return what came out."""
    from morphing_faces.cli import main

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        words = [str(argument) for argument in arguments]
        done = CliRunner().invoke(main, words, prog_name="morphing-faces")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Run ``morphing-faces ARGUMENTS`` in ``tmp_path``, without a display, as a process of its own."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        environment["OMP_NUM_THREADS"] = "1"
        settings = {"cwd": tmp_path, "env": environment, "timeout": 300, "stdin": subprocess.DEVNULL, **options}
        return subprocess.run(
            [sys.executable, "-m", "morphing_faces", *map(str, arguments)],
            capture_output=True, text=True, check=False, **settings,  # type: ignore[call-overload]
        )  # fmt: skip

    return run


def needed(program: str) -> str:
    """The path of a program the test needs; without it the test is skipped, but never in CI."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed, and nothing is skipped in CI")
        pytest.skip(f"{program} is not installed")
    return path


@pytest.fixture(scope="session")
def display() -> Iterator[str]:
    """A virtual screen of its own, on a free number."""
    needed("xdotool")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [needed("Xvfb"), "-displayfd", str(writer), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
        pass_fds=(writer,), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as numbers:
        number = numbers.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """``serve()`` serves the page on a free port and returns its address; ``serve("classic", folder)`` with these bundles."""
    import uvicorn

    from morphing_faces import bundle, server

    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(*names: str | Path, seed: int = FIRST_SEED) -> str:
        listener = server.listen("127.0.0.1", 0)
        application = server.application([bundle.find(name) for name in names or bundle.names()], seed, ["127.0.0.1"])
        program = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=program.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((program, thread))
        return server.url(listener)

    yield start
    for program, _ in running:
        program.should_exit = program.force_exit = True
    end = time.monotonic() + 3  # a daemon that takes longer ends with the process
    for _, thread in running:
        thread.join(max(end - time.monotonic(), 0))


def leave_uncompressed(patch: pytest.MonkeyPatch) -> None:
    """Let sites be written without the compressed forms beside their files, which take seconds."""
    patch.setattr("morphing_faces.site._compressed_forms", lambda *_: [])


def plain_site(out: Path, bundle: Path, url: str | None = None) -> None:
    """The page with one bundle as plain files, none of them compressed."""
    from morphing_faces import bundle as bundles
    from morphing_faces import site

    with pytest.MonkeyPatch.context() as patch:
        leave_uncompressed(patch)
        site.write(out, [bundles.find(bundle)], FIRST_SEED, url=url)


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Browser]]:
    """``launch(flag, ...)`` starts the system's Chromium, without a window.

    Where the headless shell is there it is taken: the same engine without what a browser's own windows cost, which is a
    third of what it costs to open a page.
    """
    path = shutil.which("chromium-headless-shell") or needed("chromium")
    from playwright.sync_api import sync_playwright

    quiet = "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-sync"
    lazy = (
        "--js-flags=--wasm-tiering-budget=100000000"  # only what runs for long is compiled a second time, to run faster
    )
    with sync_playwright() as playwright:
        programs: list[Browser] = []

        def start(*flags: str) -> Browser:
            programs.append(
                playwright.chromium.launch(
                    executable_path=path, args=[*quiet.split(), lazy, "--disable-component-update", *flags]
                )
            )
            return programs[-1]

        yield start
        for program in programs:
            program.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Browser]) -> Browser:
    """Chromium without a GPU."""
    return launch("--disable-gpu")


@contextlib.contextmanager
def visits(browser: Browser) -> Iterator[tuple[Callable[..., Page], list[str]]]:
    """How a test opens pages, and the list in which errors of the console and uncaught ones are noted."""
    contexts: list[Any] = []
    errors: list[str] = []

    def go(address: str, allow: tuple[str, ...] = (), script: str = "", **options: Any) -> Page:
        # Requests that a service worker makes cannot be held up or refused: only its own tests have one.
        context = browser.new_context(**{"service_workers": "block", **options})
        contexts.append(context)
        context.set_default_timeout(60_000)
        if script:
            context.add_init_script(script)

        def note(text: str) -> None:
            if not any(word in text for word in allow):
                errors.append(text)

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                note(f"{message.text} ({message.location.get('url', '')})")

        context.on("console", on_console)
        context.on("weberror", lambda error: note(str(error.error)))
        page: Page = context.new_page()
        page.goto(address)
        return page

    yield go, errors
    for context in contexts:
        context.unroute_all(behavior="ignoreErrors")
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")
        context.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``visit(address)`` opens a page, in a context of its own made with the other arguments (viewport, has_touch ...).

    Any error in the console and any uncaught one fails the test, save those that hold one of ``allow``.
    """
    with visits(browser) as (go, errors):
        yield go
    assert not errors, "\n".join(errors)


@pytest.fixture(scope="session")
def address(serve: Callable[..., str], tiny_bundle: Path) -> str:
    """The page with a tiny model and ``classic``."""
    return serve(tiny_bundle, "classic")


def tidy(hand: Hand, bundle: str) -> None:
    """Leave a page as one that has just been opened, but for what can be undone."""
    page = hand.page
    page.mouse.move(2, 2)
    for dialog in ("#photo", "#help"):
        hand[dialog].evaluate("dialog => dialog.close()")
    if hand["#inside"].is_visible():
        hand.click("#close-inside")
    if hand["#handles"].is_visible():
        hand.click("#grab")
    page.evaluate("""() => {
      document.activeElement.blur();
      document.querySelector('.dimension .name[aria-expanded=true]')?.click();
      localStorage.clear();
      dispatchEvent(new StorageEvent('storage', { key: null })); // as when another tab clears it
      scrollTo(0, 0);
    }""")
    follow(hand, f"bundle={bundle}&seed={FIRST_SEED}")
    hand.watch("(_, name) => morphingFaces.session?.bundleName === name", f"{bundle} is back", given=bundle)
    hand.at_rest()


@pytest.fixture(scope="session")
def shared(browser: Browser, address: str) -> Iterator[tuple[Hand, list[str]]]:
    """One page for all tests that leave it as they found it, or that ``hand`` can tidy up after."""
    with visits(browser) as (go, errors):
        yield open_page(go, address), errors


@pytest.fixture
def hand(shared: tuple[Hand, list[str]]) -> Iterator[Hand]:
    """The shared page at its first face: nothing kept, named, locked, held or open."""
    hand, errors = shared
    tidy(hand, "tiny")
    yield hand
    assert not errors, "\n".join(errors)


@pytest.fixture(scope="session")
def colour_bundle(made_once: MadeOnce) -> Path:
    """A bundle of eigenfaces in colour, 16x16."""
    import linear

    return made_once(
        "bright", lambda out: linear.write(out, drawn_faces(200, 16), 32, "drawn faces, no rights reserved")
    )

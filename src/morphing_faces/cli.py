"""The command line: one file of thin verbs. Errors become one line and a non-zero exit here, and only here."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np

from . import __version__
from . import bundle as bundles
from .noise import check_seed

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

FIRST_SEED = 22  # the window's first face is a first impression; this seed begins with a friendly one

MISSING_TORCH = "this command needs PyTorch, which is not installed: pip install 'morphing-faces[train]'"


class Commands(click.Group):
    """A click group that turns the library's errors into one line on standard error and a non-zero exit."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, FileExistsError, FloatingPointError) as error:
            fail(str(error))
        except ModuleNotFoundError as error:
            if error.name == "sklearn":
                fail("scikit-learn is not installed: pip install 'morphing-faces[train]'")
            if error.name and error.name.split(".")[0] in ("torch", "onnx", "onnxscript", "safetensors", "tqdm"):
                fail(MISSING_TORCH)
            raise
        except MemoryError:
            fail("not enough memory; ask for fewer or smaller pictures")
        except BrokenPipeError:  # `morphing-faces info | head`
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            raise SystemExit(141) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            remedy = "; free some space or write elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            fail(f"{where}{error.strerror or error}{remedy}")


def fail(message: str, code: int = 1) -> NoReturn:
    """Say one line on standard error and leave."""
    click.echo(f"morphing-faces: {' '.join(message.splitlines())}", err=True)
    raise SystemExit(code)


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="morphing-faces")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Morph a face under the mouse. Without a command: the window."""
    if ctx.invoked_subcommand is None:
        from .window import NoDisplay

        try:
            open_window(None, FIRST_SEED, prompt=True)
        except NoDisplay as error:
            _without_display(str(error))


bundle_option = click.option(
    "-b", "--bundle", metavar="NAME|DIR", help="A shipped bundle's name, or a bundle's folder."
)
seed_option = click.option("--seed", default=0, show_default=True, help="The same seed shows the same faces.")
out_option = click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Where to write.")
first_seed_option = click.option(
    "--seed", default=FIRST_SEED, show_default=True, help="The same seed shows the same faces."
)
size_option = click.option(
    "--size", type=click.IntRange(8, 4096), help="Pixels of a face's side.  [default: the model's]"
)


# --- the window


@main.command()
@bundle_option
@first_seed_option
@click.option("--prompt/--no-prompt", default=True, help="Read commands from the terminal beside the window.")
def window(bundle: str | None, seed: int, prompt: bool) -> None:
    """Open the window: a face that follows the mouse, and the prompt beside it."""
    from .window import NoDisplay

    try:
        open_window(bundle, seed, prompt)
    except NoDisplay as error:
        fail(str(error), code=2)


def open_window(bundle: str | None, seed: int, prompt: bool) -> None:
    """Run the window until it is closed; the prompt reads the terminal in a thread beside it."""
    import signal

    from .model import load
    from .prompt import Prompt
    from .session import Session, help_message
    from .window import Window, choose_backend

    backend = choose_backend()
    model = load(bundle)
    view = Window(model, Session(model, seed), backend)
    interrupted = []

    def interrupt(_number: int, _frame: Any) -> None:
        interrupted.append(True)
        view.leaving = True  # not close(): this may be the middle of a frame, which goes on drawing afterwards

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    terminal = Prompt(view.submit, len(model.dimensions)) if prompt else None
    if terminal:
        click.echo(help_message(len(model.dimensions)))
        terminal.start()
    try:
        view.run()
    finally:
        if terminal:
            terminal.stop()
    if interrupted:
        raise SystemExit(130)


def _without_display(reason: str) -> None:
    """What the program offers where no window can open: the page."""
    click.echo(f"morphing-faces: {reason}", err=True)
    click.echo("No window can open here, so this is the page; `morphing-faces sample --help` writes pictures.")
    serve_page(None, FIRST_SEED, "127.0.0.1", None, browser=True)


# --- the page


@main.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0: for other machines, too."
)
@click.option("--port", type=click.IntRange(1, 65535), help="[default: 8000, or any free one when that is taken]")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
@first_seed_option
@bundle_option
def web(host: str, port: int | None, browser: bool, seed: int, bundle: str | None) -> None:
    """Serve the page on this machine: the model runs in the browser. Ctrl-C ends it."""
    serve_page(bundle, seed, host, port, browser)


def serve_page(bundle: str | None, seed: int, host: str, port: int | None, browser: bool) -> None:
    """Serve the page with all shipped bundles, opening with ``bundle``, until Ctrl-C."""
    import webbrowser

    from . import server

    check_seed(seed)
    first = bundles.find(bundle)
    shipped = [bundles.find(name) for name in bundles.names()]
    shown = [first, *(other for other in shipped if other.folder != first.folder)]
    listener = server.listen(host, port)
    address = server.url(listener)
    if not server.is_loopback(listener):
        click.echo("Other machines can reach this page; there it runs on one thread, as browsers want HTTPS for more.")
    click.echo(f"Morphing Faces is at {address}  (Ctrl-C ends it)")
    if browser and server.can_open_browser():
        webbrowser.open(address)  # it listens already; the answer comes once the server runs
    server.serve(listener, shown, seed)


@main.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "-b",
    "--bundle",
    "chosen",
    multiple=True,
    metavar="NAME|DIR",
    help="A bundle to put in; may be repeated, the first is shown first.  [default: all shipped]",
)
@first_seed_option
@click.option("--overwrite", is_flag=True, help="Replace a site that this command wrote.")
def site(out: Path, chosen: tuple[str, ...], seed: int, overwrite: bool) -> None:
    """Write the page as plain files into the folder OUT, for any static host."""
    from .site import write

    check_seed(seed)
    shown = [bundles.find(name) for name in chosen or bundles.names()]
    count, size = write(out, shown, seed, overwrite=overwrite)
    click.echo(f"wrote {count} files, {size / 1e6:.1f} MB, to {out}; docs/hosting.md says how to put them on a host")


# --- pictures


@main.command()
@click.option("-n", "--number", type=click.IntRange(1, 100_000), default=1, show_default=True, help="How many faces.")
@seed_option
@out_option
@size_option
@bundle_option
@click.option("--columns", type=click.IntRange(1), help="Faces in a row of the sheet.  [default: about square]")
def sample(number: int, seed: int, out: Path, size: int | None, bundle: str | None, columns: int | None) -> None:
    """Random faces: one picture of all (-o faces.png), or a folder with one picture each (-o DIR)."""
    from .files import whole_folder
    from .model import load
    from .render import enlarge, grid, save_picture, to_uint8

    model = load(bundle)
    side = size or model.image_shape[0]
    z = model.sample(number, seed)
    if not out.suffix:
        with whole_folder(out) as folder:
            for row in range(number):
                picture = to_uint8(model.decode(z[row]))[0]
                save_picture(picture, folder / f"{row:0{max(5, len(str(number - 1)))}}.png", side)
    else:
        with _new_picture(out) as temporary:
            pictures = enlarge(to_uint8(model.decode(z)), side)
            sheet = grid(pictures, columns or _square(number), gap=0 if number == 1 else 2)
            sheet.save(temporary)
    click.echo(f"wrote {number} face{'s' * (number > 1)} to {out}")


@main.command()
@click.option("-d", "--dimensions", metavar="LIST", help="For example 0-9 or 0,3,7.  [default: all]")
@click.option("--steps", type=click.IntRange(2, 101), default=9, show_default=True, help="Pictures in a row.")
@click.option("--reach", type=click.FloatRange(0.1, 10), default=2.5, show_default=True, help="From -REACH to REACH.")
@click.option(
    "--face", type=click.Path(path_type=Path, dir_okay=False), help="A face saved before, instead of a random one."
)
@seed_option
@out_option
@size_option
@bundle_option
def traverse(
    dimensions: str | None,
    steps: int,
    reach: float,
    face: Path | None,
    seed: int,
    out: Path,
    size: int | None,
    bundle: str | None,
) -> None:
    """What each dimension does to a face: a row of pictures for each."""
    from .model import load
    from .render import enlarge, grid, traversal
    from .session import Session

    model = load(bundle)
    session = Session(model, seed)
    if face:
        session.load(face)
    chosen = _dimension_list(dimensions, len(model.dimensions))
    pictures = enlarge(traversal(model, session.z, chosen, steps, reach), size or model.image_shape[0])
    with _new_picture(out) as temporary:
        grid(pictures, steps).save(temporary)
    click.echo(f"wrote {len(chosen)} rows (dimensions {', '.join(map(str, chosen))}) to {out}")


@main.command()
@click.option("--steps", type=click.IntRange(1, 10_000), default=24, show_default=True, help="Steps of the walk.")
@click.option("--frames", type=click.IntRange(1, 120), default=10, show_default=True, help="Frames a step.")
@click.option("--rate", type=click.FloatRange(1, 60), default=25.0, show_default=True, help="Frames a second.")
@seed_option
@out_option
@size_option
@bundle_option
def walk(steps: int, frames: int, rate: float, seed: int, out: Path, size: int | None, bundle: str | None) -> None:
    """A film of the 2014 random walk: -o walk.gif, .png (animated) or .webp."""
    from . import render
    from .model import load
    from .session import Session

    if out.suffix.lower() not in render.FILMS:
        raise ValueError(f"--out {out}: a film ends in {', '.join(render.FILMS)}")
    model = load(bundle)
    pictures = render.walk(model, Session(model, seed), steps, frames)
    with _new_picture(out, render.FILMS) as temporary:
        render.save_film(pictures, temporary, len(pictures) / rate, size or 256)
    click.echo(f"wrote {len(pictures)} frames to {out}")


@main.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option
@size_option
@bundle_option
def reconstruct(pictures: tuple[Path, ...], out: Path, size: int | None, bundle: str | None) -> None:
    """Encode and decode PICTURES that are already in the frame; each above its reconstruction (the mean code)."""
    from .model import load
    from .photo import open_frame
    from .render import enlarge, grid, to_uint8

    model = load(bundle)
    originals = np.stack([open_frame(path, model.image_shape) for path in pictures])
    decoded = to_uint8(model.decode(model.encode(originals).mean))
    columns = min(len(pictures), 10)
    rows = []
    for first in range(0, len(pictures), columns):
        for part in (originals[first : first + columns], decoded[first : first + columns]):
            blank = np.full((columns - len(part), *model.image_shape), 255, np.uint8)
            rows.append(np.concatenate([part, blank]))
    with _new_picture(out) as temporary:
        grid(enlarge(np.concatenate(rows), size or model.image_shape[0]), columns).save(temporary)
    error = np.mean((originals.astype(float) - decoded) ** 2, axis=(1, 2, 3)) / 255**2
    psnr = -10 * np.log10(np.maximum(error, 1e-10))
    click.echo(
        f"wrote {len(pictures)} pair{'s' * (len(pictures) > 1)} to {out}; PSNR {', '.join(f'{p:.1f}' for p in psnr[:10])} dB"
    )


# --- bundles


@main.command(name="bundles")
def list_bundles() -> None:
    """List the shipped bundles."""
    for name in bundles.names():
        bundle = bundles.find(name)
        height, width, _ = bundle.image_shape
        mark = "  (default)" if name == bundles.DEFAULT else ""
        click.echo(
            f"{name:<12}{height}x{width} {bundle.manifest['channel_order']}, {bundle.latent_size} latent dimensions{mark}"
        )


@main.command()
@click.argument("name", required=False)
def info(name: str | None) -> None:
    """What is in a bundle: shape, dimensions, training, figures, licence. Checks its files."""
    from .model import load

    model = load(name)
    manifest = model.bundle.manifest
    height, width, _ = model.image_shape
    click.echo(f"{model.name}: {height}x{width} {manifest['channel_order']}, {model.latent_size} latent dimensions")
    click.echo(f"folder   {model.bundle.folder}")
    for title in ("training", "figures"):
        click.echo(title)
        for key, value in manifest[title].items():
            if key == "evaluation":
                from .evaluate import table

                click.echo("  " + table(model.name, value).replace("\n", "\n  "))
            else:
                click.echo(f"  {key:<26}{_short(value)}")
    click.echo("dimension  latent  share of the visible change  KL (nats)  active")
    for number, entry in enumerate(manifest["dimensions"]):
        values = f"{entry.get('share', 0):>27.1%}{entry.get('kl', 0):>11.2f}{'yes' if entry.get('active') else 'no':>8}"
        click.echo(f"{number:>9}{entry['latent']:>8}{values}")
    for file, entry in manifest["files"].items():
        click.echo(f"{file:<14}{entry['bytes']:>11,} bytes, SHA-256 checked")
    click.echo(f"licence  {manifest['licence']}")


# --- training


@main.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--size", type=int, default=48, show_default=True, help="Pixels of a picture's side.")
@click.option("--grey", is_flag=True, help="One channel instead of three.")
@click.option("--overwrite", is_flag=True, help="Replace what is at -o.")
@out_option
def prepare(sources: tuple[str, ...], size: int, grey: bool, overwrite: bool, out: Path) -> None:
    """Make a data set from SOURCES: folders, zips, .npy or .npz arrays, lfw, olivetti."""
    from .prepare import prepare as make

    record = make(list(sources), out, size=size, grey=grey, overwrite=overwrite, progress=sys.stderr.isatty())
    count = record["shape"][0]
    skipped = f", {len(record['skipped'])} skipped" if record["skipped"] else ""
    labels = f", labels {', '.join(record['labels'][:5])}" if record["labels"] else ""
    click.echo(f"{out}: {count} pictures ({record['held_out']} held out){skipped}{labels}")


@main.command()
@click.option("--recipe", required=True, metavar="NAME|FILE", help="A shipped recipe (classic, color), or a TOML file.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A folder made by prepare.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="The run's folder; resumed if it holds one."
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option(
    "--from", "begin", type=click.Path(path_type=Path), metavar="RUN", help="Begin at another run's averaged weights."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def train(recipe: str, data: Path, out: Path, changes: tuple[str, ...], begin: Path | None, device: str) -> None:
    """Train a recipe on prepared pictures, or resume the run in -o. Under torchrun: on many processes."""
    from .dataset import open_dataset
    from .train import recipe as config
    from .train.loop import Interrupted
    from .train.loop import train as run

    settings = config.recipe(recipe).replace(**config.parse_overrides(changes))
    try:
        metrics = run(settings, open_dataset(data), out, begin=begin, device=device)
    except Interrupted as stop:
        fail(f"stopped by {stop}; the checkpoint is written, the same command resumes", code=128 + stop.signal)
    if int(os.environ.get("RANK", "0")) == 0:
        shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if key.startswith("held_out"))
        click.echo(f"{out}: {settings.steps} steps done; {shown}")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The data the run was trained on.")
@click.option("--licence", default="not stated", help="The terms of the weights, in a sentence.")
@click.option("--prior", is_flag=True, help="Leave the aggregate posterior out: samples are the raw prior's.")
@click.option(
    "--grain", default=1.0, show_default=True, help="Strength of the decoder's noise, as a fraction of what it learned."
)
@click.option(
    "--blend",
    type=(click.Path(path_type=Path), float),
    metavar="RUN PART",
    help="Take PART of the weights, from 0 to 1, of another RUN: the one this one began from.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is at -o.")
@out_option
def export(
    run: Path,
    data: Path,
    licence: str,
    prior: bool,
    grain: float,
    blend: tuple[Path, float] | None,
    overwrite: bool,
    out: Path,
) -> None:
    """Write the bundle of a RUN: coordinates folded in, fp16 weights, checked against PyTorch."""
    from .dataset import open_dataset
    from .train.export import export as write

    manifest = write(
        run, open_dataset(data), out, licence=licence, overwrite=overwrite, prior=prior, grain=grain, blended=blend
    )
    figures = manifest["figures"]
    click.echo(
        f"{out}: the first {len(manifest['dimensions'])} dimensions carry {figures['share_of_first_29']:.0%} of the visible "
        f"change; fp16 weights change pictures by {figures['decoder_fp16_difference']:.2g} (99.9th percentile)"
    )


@main.command()
@click.argument("name", metavar="BUNDLE")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A folder made by prepare.")
@click.option("--samples", default=600, show_default=True, help="Faces a set whose descriptions are compared.")
@click.option("--pictures", default=256, show_default=True, help="Pictures the importance-weighted bound is taken on.")
@click.option("--k", default=32, show_default=True, help="Importance samples a picture.")
@click.option("--faces/--no-faces", default=True, help="Describe faces, which needs the extra [metrics].")
@click.option("--eigenfaces/--no-eigenfaces", default=True, help="Measure PCA with as many components beside it.")
@click.option("--inception", is_flag=True, help="The Frechet Inception distance, too: downloads a network.")
@click.option("--json", "as_json", is_flag=True, help="Every figure, as JSON.")
@click.option("--write", is_flag=True, help="Put the figures into the bundle's manifest.")
@seed_option
def evaluate(
    name: str, data: Path, samples: int, pictures: int, k: int, faces: bool, eigenfaces: bool, inception: bool,
    as_json: bool, write: bool, seed: int,
) -> None:  # fmt: skip
    """Measure a BUNDLE on held-out pictures: bounds, reconstructions, and samples against real faces."""
    import json

    from .dataset import open_dataset
    from .evaluate import Settings, table
    from .evaluate import evaluate as measure
    from .model import load

    settings = Settings(samples, pictures, k, seed, faces, inception, eigenfaces)
    model = load(name)
    say = (lambda what: click.echo(f"measuring {what} ...", err=True)) if sys.stderr.isatty() else (lambda _: None)
    figures = measure(model, open_dataset(data), settings, say)
    if write:
        # Not KL by dimension: the manifest has it already, from many more pictures.
        model.bundle.note(evaluation={key: value for key, value in figures.items() if key != "kl_per_dimension"})
    click.echo(json.dumps(figures, indent=1) if as_json else table(model.name, figures))


# --- inside


@contextlib.contextmanager
def _new_picture(out: Path, allowed: tuple[str, ...] = PICTURES) -> Iterator[Path]:
    from .files import whole_file

    if out.suffix.lower() not in allowed:
        raise ValueError(f"--out {out}: a picture ends in {', '.join(allowed)}")
    with whole_file(out) as temporary:
        yield temporary


def _square(number: int) -> int:
    return int(np.ceil(np.sqrt(number)))


def _dimension_list(text: str | None, count: int) -> list[int]:
    """``"0-3,7"`` -> ``[0, 1, 2, 3, 7]``."""
    if text is None:
        return list(range(count))
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"--dimensions {text!r}: must be numbers or ranges such as 0-9 or 0,3,7")
        chosen += range(int(first), int(last or first) + 1)
    wrong = [d for d in chosen if d >= count]
    if wrong or not chosen:
        raise ValueError(f"--dimensions {text!r}: dimensions are 0 to {count - 1}")
    return chosen


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

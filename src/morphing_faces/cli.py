"""The command line: one file of thin verbs. Every exception becomes one line and a non-zero exit here, and only here."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from . import __version__, errors
from . import bundle as bundles
from .errors import UserError
from .noise import check_seed
from .rules import FIRST_SEED

FAULT = 70  # the exit code of a fault of this program, sysexits.h's EX_SOFTWARE


class Commands(click.Group):
    """A click group that turns every exception into one line on standard error and a non-zero exit."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take ``--debug`` wherever it stands: it is asked for after a line has gone wrong, and put at its end."""
        options = args[: args.index("--")] if "--" in args else args
        errors.debug("--debug" in options)
        return super().parse_args(ctx, [*(a for a in options if a != "--debug"), *args[len(options) :]])

    def invoke(self, ctx: click.Context) -> Any:
        with _terminable(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\b")  # of broken metadata: the pictures can be read
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else "morphing-faces"
            fail(f"{error.format_message().rstrip('.')} ({where} --help tells more)", code=2)
        except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit):
            raise
        except KeyboardInterrupt:
            fail("interrupted; nothing was written", code=128 + signal.SIGINT)
        except BrokenPipeError:  # `morphing-faces info | head`
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            raise SystemExit(141) from None
        except (UserError, OSError, MemoryError, ModuleNotFoundError) as error:
            fail(errors.tell(error))
        except Exception as error:
            fail(errors.tell(error), code=FAULT)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as an error does, so that nothing half-written stays."""

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def fail(message: str, code: int = 1) -> NoReturn:
    """Say one line on standard error and leave."""
    click.echo(f"morphing-faces: {errors.one_line(message)}", err=True)
    raise SystemExit(code)


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="morphing-faces")
@click.option("--debug", is_flag=True, help="Print the traceback of a fault of this program, to report it.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Morph a face under the mouse. Without a command: the window."""
    if ctx.invoked_subcommand is None:
        from .window import NoDisplay

        try:
            _open_window(None, FIRST_SEED, prompt=True)
        except NoDisplay as error:
            click.echo(f"morphing-faces: {errors.one_line(str(error))}", err=True)
            click.echo("No window can open here, so this is the page; `morphing-faces sample --help` writes pictures.")
            _serve_page(None, None, "127.0.0.1", None, browser=True)


class _Path(click.ParamType):
    """A path that is not empty; ``~`` is the home folder, where no shell has said so already."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not os.fspath(value).strip():
            self.fail("the path is empty: give one", param, ctx)
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # no home
            self.fail(f"{value}: {error}", param, ctx)


PATH = _Path()

bundle_option = click.option(
    "-b", "--bundle", metavar="NAME|DIR", help="A shipped bundle's name, or a bundle's folder."
)
seed_option = click.option("--seed", default=0, show_default=True, help="The same seed shows the same faces.")
out_option = click.option("-o", "--out", type=PATH, required=True, help="Where to write.")
page_seed_option = click.option(
    "--seed", type=int, help="The page begins with this seed's first face.  [default: one of several faces]"
)
first_seed_option = click.option(
    "--seed", default=FIRST_SEED, show_default=True, help="The same seed shows the same faces."
)
size_option = click.option(
    "--size", type=click.IntRange(8, 4096), help="Pixels of a face's side.  [default: the model's]"
)


# --- the window and the page


@main.command()
@bundle_option
@first_seed_option
@click.option("--prompt/--no-prompt", default=True, help="Read commands from the terminal beside the window.")
def window(bundle: str | None, seed: int, prompt: bool) -> None:
    """Open the window: a face that follows the mouse, and the prompt beside it."""
    from .window import NoDisplay

    try:
        _open_window(bundle, seed, prompt)
    except NoDisplay as error:
        fail(str(error), code=2)


def _open_window(bundle: str | None, seed: int, prompt: bool) -> None:
    from .model import load
    from .window import choose_backend, open_window

    check_seed(seed)
    choose_backend()  # said before the model is loaded
    if number := open_window(load(bundle), seed, prompt):
        raise SystemExit(128 + number)


@main.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0: for other machines, too."
)
@click.option("--port", type=click.IntRange(1, 65535), help="[default: 8000, or any free one when that is taken]")
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
@page_seed_option
@bundle_option
def web(host: str, port: int | None, browser: bool, seed: int | None, bundle: str | None) -> None:
    """Serve the page on this machine: the model runs in the browser. Ctrl-C ends it."""
    _serve_page(bundle, seed, host, port, browser)


def _serve_page(bundle: str | None, seed: int | None, host: str, port: int | None, browser: bool) -> None:
    import webbrowser

    from . import server

    if seed is not None:
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
@click.argument("out", type=PATH)
@click.option(
    "-b",
    "--bundle",
    "chosen",
    multiple=True,
    metavar="NAME|DIR",
    help="A bundle to put in; may be repeated, the first is shown first.  [default: all shipped]",
)
@page_seed_option
@click.option("--url", metavar="ADDRESS", help="Where the page will stand, so that chats can show its picture.")
@click.option("--overwrite", is_flag=True, help="Replace a site that this command wrote.")
def site(out: Path, chosen: tuple[str, ...], seed: int | None, url: str | None, overwrite: bool) -> None:
    """Write the page as plain files into the folder OUT, for any static host."""
    from .site import write

    if seed is not None:
        check_seed(seed)
    shown = [bundles.find(name) for name in chosen or bundles.names()]
    if url is not None and not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?", url):
        raise UserError(f"--url {url}: must be a whole address without ? and #, as https://example.org/faces/")
    count, size = write(out, shown, seed, url=url, overwrite=overwrite)
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
    from . import render
    from .files import output_file, output_folder
    from .model import load
    from .pictures import WRITTEN

    check_seed(seed)
    if out.suffix:
        path = output_file(out, WRITTEN)
        render.save_samples(load(bundle), number, seed, path, size, columns)
    else:
        render.save_each_sample(load(bundle), number, seed, output_folder(out), size)
    click.echo(f"wrote {number} face{'s' * (number > 1)} to {out}")


@main.command()
@click.option("-d", "--dimensions", metavar="LIST", help="For example 0-9 or 0,3,7.  [default: all]")
@click.option("--steps", type=click.IntRange(2, 101), default=9, show_default=True, help="Pictures in a row.")
@click.option("--reach", type=click.FloatRange(0.1, 10), default=2.5, show_default=True, help="From -REACH to REACH.")
@click.option("--face", type=PATH, help="A face saved before, instead of a random one.")
@click.option(
    "--attributes", is_flag=True, help="The directions with names (smile, age ...) instead of the dimensions."
)
@seed_option
@out_option
@size_option
@bundle_option
def traverse(
    dimensions: str | None, attributes: bool, steps: int, reach: float, face: Path | None, seed: int, out: Path, size: int | None,
    bundle: str | None,
) -> None:  # fmt: skip
    """What each dimension does to a face: a row of pictures for each."""
    from . import render
    from .files import output_file
    from .model import load
    from .pictures import WRITTEN
    from .session import Session

    path = output_file(out, WRITTEN, [face] if face else [])
    model = load(bundle)
    session = Session(model, seed)
    if face:
        session.load(face)
    if attributes:
        names = list(model.attributes)
        if dimensions or not names:
            why = "--dimensions does not go with it" if dimensions else f"bundle {model.name!r} has none"
            raise UserError(f"--attributes: {why}")
        render.check_sheet(len(names) * steps, steps, size or model.image_shape[0], model.image_shape, path)
        render.save_sheet(render.attribute_traversal(model, session.z, steps, reach), path, steps, size)
        click.echo(f"wrote {len(names)} rows ({', '.join(names)}) to {out}")
        return
    chosen = _dimension_list(dimensions, len(model.dimensions))
    render.check_sheet(len(chosen) * steps, steps, size or model.image_shape[0], model.image_shape, path)
    render.save_sheet(render.traversal(model, session.z, chosen, steps, reach), path, steps, size)
    click.echo(f"wrote {len(chosen)} rows (dimensions {', '.join(map(str, chosen))}) to {out}")
    for dimension in chosen:
        if model.dimension_names[dimension].ends:
            click.echo(f"{dimension:>3}  {model.dimension_names[dimension]}")


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
    from .files import atomic_write, output_file
    from .model import load
    from .session import Session

    path = output_file(out, render.FILMS)
    side = size or 256
    render.check_film(steps * frames, side, rate, path)
    model = load(bundle)
    pictures = render.walk(model, Session(model, seed), steps, frames)
    with atomic_write(path) as temporary:
        render.save_film(pictures, temporary, len(pictures) / rate, side)
    click.echo(f"wrote {len(pictures)} frames to {out}")


# --- photographs


class _Eyes(click.ParamType):
    """``X,Y,X,Y``: the eye on the picture's left and the other, in pixels from the top left corner."""

    name = "X,Y,X,Y"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            x0, y0, x1, y1 = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: must be four numbers, X,Y of the eye on the left and X,Y of the other", param, ctx)
        return ((x0, y0), (x1, y1)) if x0 <= x1 else ((x1, y1), (x0, y0))


class _Setting(click.ParamType):
    """``NAME=X``."""

    name = "NAME=X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, equals, number = str(value).partition("=")
        try:
            return name.strip(), float(number if equals else "")
        except ValueError:
            self.fail(f"{value!r}: must be a name, = and a number, as smile=1.5", param, ctx)


class _Pull(click.ParamType):
    """``HANDLE=DX,DY``."""

    name = "HANDLE=DX,DY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name, _, numbers = str(value).partition("=")
        try:
            dx, dy = map(float, numbers.split(","))
        except ValueError:
            self.fail(f"{value!r}: must be a handle, = and two numbers, as mouth-left=-4,-5", param, ctx)
        return name.strip(), (dx, dy)


eyes_option = click.option(
    "--eyes", type=_Eyes(), help="Where the eyes are, for a picture in which they are not found."
)
pictures_argument = click.argument("pictures", nargs=-1, required=True, type=PATH)


def _each(pictures: tuple[Path, ...], eyes: Any, work: Callable[[Path], Any]) -> None:
    """Do something with every picture of files and folders; one that cannot be used is named, and the rest go on."""
    from .photo import pictures_of

    paths = pictures_of(pictures)
    if eyes and len(paths) > 1:
        raise UserError(f"--eyes are those of one picture, and here are {len(paths)}: give them one by one")
    failed = 0
    with click.progressbar(paths, file=sys.stderr, hidden=len(paths) < 2 or not sys.stderr.isatty()) as bar:
        for path in bar:
            try:
                work(path)
            except (UserError, OSError) as error:
                if len(paths) == 1:
                    raise
                failed += 1
                click.echo(f"morphing-faces: {errors.tell(error)}", err=True)
    if failed:
        fail(f"{failed} of {len(paths)} pictures could not be used")


@main.command()
@pictures_argument
@out_option
@click.option(
    "--size", type=click.IntRange(8, 4096), default=512, show_default=True, help="Pixels of the frame's side."
)
@eyes_option
def align(pictures: tuple[Path, ...], out: Path, size: int, eyes: Any) -> None:
    """Cut the largest face out of PICTURES, files or folders, in the frame: -o face.png, or -o DIR for several."""
    from .photo import cut_out, targets

    target = targets(pictures, out, ".png")
    _each(pictures, eyes, lambda path: cut_out(path, target(path), size, eyes))


@main.command()
@pictures_argument
@out_option
@eyes_option
@bundle_option
def encode(pictures: tuple[Path, ...], out: Path, eyes: Any, bundle: str | None) -> None:
    """Photographs to faces that `load` reads: -o face.json, or -o DIR for several."""
    from .model import load
    from .photo import save_code, targets

    target = targets(pictures, out, ".json")
    model = load(bundle)
    _each(pictures, eyes, lambda path: save_code(model, path, target(path), eyes))


@main.command()
@pictures_argument
@out_option
@size_option
@eyes_option
@bundle_option
def reconstruct(pictures: tuple[Path, ...], out: Path, size: int | None, eyes: Any, bundle: str | None) -> None:
    """Encode and decode the faces of PICTURES, files or folders; each in the frame, above its reconstruction."""
    import numpy as np

    from . import render
    from .files import output_file
    from .metrics import psnr
    from .model import load
    from .photo import framed, likeness
    from .pictures import WRITTEN, read_picture, to_uint8

    path = output_file(out, WRITTEN, pictures)
    model = load(bundle)
    found: list[Any] = []
    try:
        _each(pictures, eyes, lambda each: found.append(framed(read_picture(each), model.image_shape, eyes, str(each))))
    finally:
        if found:
            originals = np.stack(found)
            columns = min(len(found), 10)
            rows = 2 * -(-len(found) // columns)
            render.check_sheet(rows * columns, columns, size or model.image_shape[0], model.image_shape, path)
            with click.progressbar(
                originals, label="coming closer", file=sys.stderr, hidden=not sys.stderr.isatty()
            ) as waiting:
                decoded = to_uint8(np.concatenate([model.decode(likeness(model, each[None])) for each in waiting]))
            render.save_sheet(render.pairs(originals, decoded, columns), path, columns, size)
            figures = ", ".join(f"{each:.1f}" for each in psnr(originals, decoded)[:10])
            click.echo(f"wrote {len(found)} pair{'s' * (len(found) > 1)} to {out}; PSNR {figures} dB")


@main.command()
@click.argument("faces", nargs=-1, required=True, metavar="FACE FACE...")
@out_option
@click.option("--seconds", type=click.FloatRange(0.2, 600), help="How long it plays.  [default: 2 from face to face]")
@click.option("--rate", type=click.FloatRange(1, 60), default=25.0, show_default=True, help="Frames a second.")
@click.option("--size", type=click.IntRange(16, 2048), default=512, show_default=True, help="Pixels of a frame's side.")
@click.option("--loop", is_flag=True, help="Go back to the first face.")
@bundle_option
def morph(
    faces: tuple[str, ...], out: Path, seconds: float | None, rate: float, size: int, loop: bool, bundle: str | None
) -> None:
    """A film from FACE to FACE: each a saved face (.json), seed:N, a photograph, or a folder of them.

    Ends in .gif, .webp, .png (animated) or .mp4. A photograph moves at its own sharpness where the bundle has shape.
    """
    import numpy as np

    from . import render
    from .files import atomic_write, output_file
    from .model import load
    from .morph import film, people

    path = output_file(out, render.FILMS, [face for face in faces if not face.startswith("seed:")])
    model = load(bundle)
    taking_part, skipped = people(model, faces)
    for line in skipped:
        click.echo(f"morphing-faces: {line}", err=True)
    legs = len(taking_part) - (not loop)
    frames = max(2, round((seconds or 2.0 * legs) * rate))
    render.check_film(frames, size, rate, path)
    pictures = film(taking_part, frames, size, loop)
    with (
        atomic_write(path) as temporary,
        click.progressbar(pictures, length=frames, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar,
    ):
        render.save_film(np.stack(list(bar)), temporary, frames / rate, size)
    click.echo(f"wrote {frames} frames to {out}")
    if skipped:
        fail(f"{len(skipped)} of what was given could not be used")


@main.command()
@click.argument("faces", nargs=-1, required=True, metavar="FACE FACE...")
@out_option
@click.option("--weights", metavar="W,W,...", help="How much of each.  [default: all alike]")
@size_option
@bundle_option
def mix(faces: tuple[str, ...], out: Path, weights: str | None, size: int | None, bundle: str | None) -> None:
    """The mean of several faces, each a saved face (.json), seed:N or a photograph: -o mean.png, or mean.json."""
    from .files import output_file
    from .model import load
    from .morph import save_mix
    from .pictures import WRITTEN

    path = output_file(out, (*WRITTEN, ".json"), [face for face in faces if not face.startswith("seed:")])
    save_mix(load(bundle), faces, weights, path, size)
    click.echo(f"wrote the mean of {len(faces)} faces to {out}")


@main.command()
@click.argument("photograph", type=PATH)
@out_option
@click.option("--knob", "knobs", type=_Setting(), multiple=True, help="Move an attribute: smile=1.5. May be repeated.")
@click.option(
    "--dimension", "dimensions", type=_Setting(), multiple=True, help="Set a dimension: 3=-1. May be repeated."
)
@click.option(
    "--grab", "pulls", type=_Pull(), multiple=True,
    help="Pull a handle by pixels of the model's frame, right and down: mouth-left=-4,-5. May be repeated.",
)  # fmt: skip
@eyes_option
@bundle_option
def edit(
    photograph: Path, out: Path, knobs: tuple[tuple[str, float], ...], dimensions: tuple[tuple[str, float], ...],
    pulls: tuple[tuple[str, tuple[float, float]], ...], eyes: Any, bundle: str | None,
) -> None:  # fmt: skip
    """Move the face of a PHOTOGRAPH; the whole picture is written, upright and at its own size."""
    from .files import output_file
    from .model import load
    from .photo import edit as change
    from .pictures import WRITTEN

    path = output_file(out, WRITTEN, [photograph])
    told = change(load(bundle), photograph, path, knobs, dimensions, eyes, pulls)
    click.echo(f"wrote {out}{told and f'; {told}'}")


# --- bundles


@main.command(name="bundles")
def list_bundles() -> None:
    """List the shipped bundles."""
    for name in bundles.names():
        click.echo(bundles.title(bundles.find(name)) + ("  (default)" if name == bundles.DEFAULT else ""))


@main.command()
@click.argument("name", required=False)
def info(name: str | None) -> None:
    """What is in a bundle: shape, dimensions, training, figures, licence. Checks its files."""
    from .evaluate import table
    from .model import load

    click.echo(bundles.describe(load(name).bundle, table))


# --- training


@main.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--size", type=int, default=48, show_default=True, help="Pixels of a picture's side.")
@click.option("--grey", is_flag=True, help="One channel instead of three.")
@click.option(
    "--align", "aligned", is_flag=True, help="Find the largest face of each picture, and cut it out in the frame."
)
@click.option("--landmarks", is_flag=True, help="Find 68 points a face, which a model with shape is trained on.")
@click.option("--overwrite", is_flag=True, help="Replace the data set at -o.")
@out_option
def prepare(
    sources: tuple[str, ...], size: int, grey: bool, aligned: bool, landmarks: bool, overwrite: bool, out: Path
) -> None:
    """Make a data set from SOURCES: folders, zips, .npy or .npz arrays, lfw, olivetti."""
    from .prepare import prepare as make

    record = make(
        list(sources),
        out,
        size=size,
        grey=grey,
        align=aligned,
        landmarks=landmarks,
        overwrite=overwrite,
        progress=sys.stderr.isatty(),
    )
    count = record["shape"][0]
    skipped = f", {len(record['skipped'])} skipped" if record["skipped"] else ""
    labels = f", labels {', '.join(record['labels'][:5])}" if record["labels"] else ""
    faces = ""
    if landmarks:
        known = record["landmarks"]
        faces = (
            f", a face found in {known['found']}, {known['usable']} of them not turned too far for a model with shape"
        )
    click.echo(f"{out}: {count} pictures ({record['held_out']} held out){skipped}{labels}{faces}")


@main.command()
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A shipped recipe (classic, color, color-codes, color-sharp, color-encoder), or a TOML file; a run that is resumed has its own.",
)
@click.option("--data", type=PATH, required=True, help="A folder made by prepare.")
@click.option("-o", "--out", type=PATH, required=True, help="The run's folder; resumed if it holds one.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting of the recipe.")
@click.option(
    "--from",
    "begin",
    type=PATH,
    metavar="RUN|BUNDLE",
    help="Begin at another run's averaged weights, or at a bundle's.",
)
@click.option("--minutes", type=float, help="Train for so long from now; the learning rate follows the clock.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def train(
    recipe: str | None, data: Path, out: Path, changes: tuple[str, ...], begin: Path | None, minutes: float | None,
    device: str,
) -> None:  # fmt: skip
    """Train a recipe on prepared pictures, or resume the run in -o. Under torchrun: on many processes."""
    from .dataset import open_dataset

    if recipe == "faces":
        from .train import faces

        faces.train(faces.Settings.changed(changes), open_dataset(data), out, click.echo)
        return
    from .train import loop
    from .train import recipe as recipes
    from .train.processes import Interrupted

    first = int(os.environ.get("RANK", "0")) == 0
    settings = loop.saved_recipe(out) if recipe is None else recipes.recipe(recipe)
    settings = settings.replace(**recipes.parse_overrides(changes))
    pictures = open_dataset(data)
    if first and settings.network == "conv" and settings.shape and pictures.landmarks is None:
        click.echo(f"{data} has no landmarks, so the model has no shape: prepare --landmarks finds them", err=True)
    try:
        metrics = loop.train(
            settings, pictures, out, begin=begin, device=device, minutes=minutes, progress=sys.stderr.isatty()
        )
    except Interrupted as stop:
        fail(f"stopped by {stop}; the checkpoint is written, the same command resumes", code=128 + stop.signal)
    if first:
        shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if key.startswith("held_out"))
        click.echo(f"{out}: done; {shown}")


@main.command()
@click.argument("run", type=PATH)
@click.option("--data", type=PATH, required=True, help="The data the run was trained on.")
@click.option("--licence", default="not stated", help="The terms of the weights, in a sentence.")
@click.option("--names", type=PATH, help="A file of names for the dimensions, such as recipes/names/color.toml.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle at -o.")
@out_option
def export(run: Path, data: Path, licence: str, names: Path | None, overwrite: bool, out: Path) -> None:
    """Write the bundle of a RUN: coordinates folded in, fp16 weights, checked against PyTorch."""
    from . import names as naming
    from .dataset import open_dataset

    if (run / "finder.pt").is_file():
        from .train import faces

        entry = faces.export(run, out, licence, overwrite=overwrite)["files"]["finder.onnx"]
        click.echo(f"{out}: a finder of faces, {entry['bytes']:,} bytes")
        return
    from .train.export import export as write

    chosen = naming.read(names) if names else None  # before the minutes of the export
    say = (lambda what: click.echo(f"{what} ...", err=True)) if sys.stderr.isatty() else (lambda _: None)
    manifest = write(run, open_dataset(data), out, licence=licence, overwrite=overwrite, say=say)
    if chosen:
        naming.put(out, chosen)
    figures = manifest["figures"]
    click.echo(
        f"{out}: the first {len(manifest['dimensions'])} dimensions carry {figures['share_of_first_29']:.0%} of the visible "
        f"change; the stored weights change pictures by {figures['decoder_fp16_difference']:.2g} (99.9th percentile)"
    )


@main.command()
@click.argument("bundle", metavar="BUNDLE")
@click.argument("file", type=PATH)
def names(bundle: str, file: Path) -> None:
    """Give the dimensions of a BUNDLE the names in FILE, in place; scripts/dimensions.py shows what they do."""
    from . import names as naming

    chosen = naming.read(file)
    naming.put(bundle, chosen)
    click.echo(f"{bundle}: {len(chosen.dimensions)} dimensions are named")


@main.command()
@click.argument("name", metavar="BUNDLE")
@click.option("--data", type=PATH, required=True, help="A folder made by prepare.")
@click.option("--samples", default=600, show_default=True, help="Faces a set whose descriptions are compared.")
@click.option("--pictures", default=256, show_default=True, help="Pictures the importance-weighted bound is taken on.")
@click.option("--k", default=32, show_default=True, help="Importance samples a picture.")
@click.option("--faces/--no-faces", default=True, help="Describe faces, which needs the extra [metrics].")
@click.option("--eigenfaces/--no-eigenfaces", default=True, help="Measure PCA with as many components beside it.")
@click.option("--inception", is_flag=True, help="The Frechet Inception distance, too: downloads a network.")
@click.option("--photographs", type=PATH, help="For `faces`: a zip or folder with images/ and eyes.csv, too.")
@click.option("--json", "as_json", is_flag=True, help="Every figure, as JSON.")
@click.option("--write", is_flag=True, help="Put the figures into the bundle's manifest.")
@seed_option
def evaluate(
    name: str, data: Path, samples: int, pictures: int, k: int, faces: bool, eigenfaces: bool, inception: bool,
    photographs: Path | None, as_json: bool, write: bool, seed: int,
) -> None:  # fmt: skip
    """Measure a BUNDLE on held-out pictures: bounds, reconstructions, and samples against real faces.

    `faces`, or the folder of another finder: how many faces it finds, and how near its eyes are.
    """
    import json

    from . import evaluate_finder
    from .dataset import open_dataset
    from .evaluate import Settings, table
    from .evaluate import evaluate as measure
    from .model import load

    if folder := evaluate_finder.folder_of(name):
        found = evaluate_finder.evaluate(folder, open_dataset(data), photographs, pictures, seed)
        if write:
            evaluate_finder.add_figures(folder, found)
        click.echo(json.dumps(found, indent=1) if as_json else evaluate_finder.table(found))
        return
    settings = Settings(samples, pictures, k, seed, faces, inception, eigenfaces)
    model = load(name)
    say = (lambda what: click.echo(f"measuring {what} ...", err=True)) if sys.stderr.isatty() else (lambda _: None)
    figures = measure(model, open_dataset(data), settings, say)
    if write:
        # Not KL by dimension: the manifest has it already, from many more pictures.
        model.bundle.note(evaluation={key: value for key, value in figures.items() if key != "kl_per_dimension"})
    click.echo(json.dumps(figures, indent=1) if as_json else table(model.name, figures))


@main.command()
@click.argument("decoder", metavar="DECODER.onnx", type=PATH)
@click.option("--encoder", type=PATH, metavar="FILE", help="The encoder that belongs to it, an ONNX file.")
@click.option(
    "--codes",
    type=PATH,
    metavar="FILE",
    help="Codes of real pictures, an array (N, k) in an .npy file: their mean and covariance are taken.  [default: N(0, I)]",
)
@click.option(
    "--range",
    "value_range",
    type=click.Choice(["-1,1", "0,1", "0,255"]),
    help="What black and white are.  [default: found by looking]",
)
@click.option(
    "--latent-size", type=click.IntRange(2, 2048), help="The length of the latent, where the file does not say it."
)
@click.option(
    "--decodes",
    type=click.IntRange(64, 10_000_000),
    help="Pictures drawn to find the directions.  [default: 16384; 4096 of large ones]",
)
@click.option("--name", help="The bundle's name.  [default: its folder's]")
@click.option("--licence", default="not stated", help="The terms of the weights, in a sentence.")
@click.option("--overwrite", is_flag=True, help="Replace what is at -o.")
@out_option
def adopt(decoder: Path, out: Path, **options: Any) -> None:
    """Make a bundle of somebody else's DECODER: it then works wherever a bundle works."""
    errors.need("onnx", "adopting a decoder")
    from .adopt import adopt as make

    def progress(done: int, total: int) -> None:
        click.echo(f"\rdirections: {done / total:.0%}", nl=done == total, err=True)

    heard: dict[str, Any] = {"progress": progress} if sys.stderr.isatty() else {}
    manifest = make(decoder, out, say=click.echo, **heard, **options)
    count = len(manifest["dimensions"])
    click.echo(
        f"{out}: the first {count} dimensions carry {manifest['figures']['share_of_first_29']:.0%} of the visible change"
    )


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="BUNDLE BUNDLE...")
@click.option("--data", type=PATH, help="A folder made by prepare; without it there are no figures.")
@click.option("--samples", default=600, show_default=True, help="Faces a set whose descriptions are compared.")
@click.option("--pictures", default=64, show_default=True, help="Pictures the importance-weighted bound is taken on.")
@click.option("--k", default=32, show_default=True, help="Importance samples a picture.")
@click.option("--faces/--no-faces", default=True, help="Describe faces, which needs the extra [metrics].")
@click.option("--json", "as_json", is_flag=True, help="Every figure, as JSON.")
@seed_option
@size_option
@out_option
def compare(
    names: tuple[str, ...], data: Path | None, samples: int, pictures: int, k: int, faces: bool, as_json: bool, seed: int,
    size: int | None, out: Path,
) -> None:  # fmt: skip
    """Show two BUNDLEs or more side by side in one picture, and their figures in one table."""
    import json

    from . import compare as side
    from .dataset import open_dataset
    from .evaluate import Settings
    from .files import atomic_write, output_file
    from .model import load
    from .pictures import WRITTEN

    path = output_file(out, WRITTEN)
    settings = Settings(samples, pictures, k, seed, faces, inception=False, eigenfaces=False)
    models = [load(name) for name in names]
    side.must_differ(models)
    dataset = open_dataset(data) if data else None
    with atomic_write(path) as temporary:
        side.picture(models, dataset, seed=seed, size=size or 96).save(temporary)
    click.echo(f"wrote {', '.join(side.names(models))} side by side to {out}", err=as_json)
    if dataset:
        say = (lambda what: click.echo(f"measuring {what} ...", err=True)) if sys.stderr.isatty() else (lambda _: None)
        found = side.figures(models, dataset, settings, say)
        titles = side.names(models)
        click.echo(
            json.dumps(dict(zip(titles, found, strict=True)), indent=1) if as_json else side.table(titles, found)
        )


# --- inside


def _dimension_list(text: str | None, count: int) -> list[int]:
    """``"0-3,7"`` -> ``[0, 1, 2, 3, 7]``, each from 0 to ``count - 1`` and none twice."""
    if text is None:
        return list(range(count))
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        numbers = [first, last] if dash else [first]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise UserError(f"--dimensions {text!r:.80}: must be numbers or ranges such as 0-9 or 0,3,7")
        if any(len(number) > 6 or int(number) >= count for number in numbers) or int(numbers[0]) > int(numbers[-1]):
            raise UserError(f"--dimensions {text!r:.80}: dimensions are 0 to {count - 1}, ranges go upwards")
        chosen += range(int(numbers[0]), int(numbers[-1]) + 1)
    if len(set(chosen)) < len(chosen):
        raise UserError(f"--dimensions {text!r:.80}: each dimension at most once")
    return chosen

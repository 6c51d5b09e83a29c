"""Draw the figures of how-it-works.md: ``python docs/figures.py [--bundle NAME|DIR] [-o docs/figures]``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

import morphing_faces as mf
from morphing_faces import noise, render, warp
from morphing_faces.cli import FIRST_SEED
from morphing_faces.pictures import enlarge, to_uint8

INK, SOFT, BLUE, ORANGE, GREY = "#222222", "#777777", "#2f6db3", "#d9772b", "#e4e7eb"
DPI = 160  # a figure is 8 inches wide at most: 1280 pixels, shown at about 800
MOST_BYTES = 150_000
ROWS, STEPS, REACH = 10, 7, 2.5  # the traversal: dimensions, pictures each, how far from 0
FACES_SHOWN = (40, 36, 48, 43)  # seeds of the faces whose parts are drawn
SIDE = 7  # the hover square has SIDE x SIDE faces


# --- graphs


def canvas(ax: Axes, width: float, height: float) -> None:
    """Make the axes a sheet of ``width`` by ``height`` units, equal both ways, with no frame."""
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.set_aspect("equal")
    ax.axis("off")


def node(ax: Axes, x: float, y: float, text: str, face: str = "white", radius: float = 0.42) -> None:
    """Draw a random variable: a circle; give it a darker ``face`` when it is observed."""
    ax.add_patch(Circle((x, y), radius, facecolor=face, edgecolor=INK, linewidth=1.6, zorder=3))
    ax.text(x, y, text, ha="center", va="center", fontsize=15, zorder=4)


def box(ax: Axes, x: float, y: float, text: str, width: float = 1.5, height: float = 0.8, face: str = "white") -> None:
    """Draw a deterministic step: a box with round corners, centred on (x, y)."""
    style = "round,pad=0,rounding_size=0.12"
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(FancyBboxPatch(corner, width, height, style, facecolor=face, edgecolor=INK, linewidth=1.6, zorder=3))
    ax.text(x, y, text, ha="center", va="center", fontsize=12.5, zorder=4)


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    shrink: tuple[float, float] = (0.42, 0.46),
    bend: float = 0.0,
    colour: str = INK,
    dashed: bool = False,
) -> None:
    """Draw an arrow between two centres, cut at both ends by ``shrink`` units."""
    a, b = np.array(start), np.array(end)
    if not bend:
        along = (b - a) / np.linalg.norm(b - a)
        a, b = a + along * shrink[0], b - along * shrink[1]
    patch = FancyArrowPatch(
        (float(a[0]), float(a[1])),
        (float(b[0]), float(b[1])),
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>",
        mutation_scale=16,
        linewidth=1.6,
        linestyle=(0, (4, 2.5)) if dashed else "-",
        color=colour,
        shrinkA=0,
        shrinkB=0,
        zorder=2,
    )
    ax.add_patch(patch)


def bayesian_network() -> Figure:
    """Four variables: A -> B, A -> C, A and B -> D."""
    figure, ax = plt.subplots(figsize=(8, 2.9))
    canvas(ax, 11, 4)
    places = {"A": (1.9, 3.3), "C": (0.8, 0.9), "B": (4.1, 3.3), "D": (3.0, 0.9)}
    for name, (x, y) in places.items():
        node(ax, x, y, f"${name}$")
    for pair in ("AB", "AC", "AD", "BD"):
        arrow(ax, places[pair[0]], places[pair[1]])
    factors = [
        ("$P(A)$", "no parent"),
        ("$P(B\\mid A)$", "parent $A$"),
        ("$P(C\\mid A)$", "parent $A$"),
        ("$P(D\\mid A,B)$", "parents $A$ and $B$"),
    ]
    for row, (factor, parents) in enumerate(factors):
        y = 3.4 - 0.8 * row
        ax.text(6.0, y, factor, fontsize=15, va="center")
        ax.text(8.5, y, parents, fontsize=12, va="center", color=SOFT)
    return figure


def plate() -> Figure:
    """The plate diagram of a variational autoencoder: z -> x, N times, with theta and phi outside."""
    figure, ax = plt.subplots(figsize=(8, 3.1))
    canvas(ax, 11, 4.2)
    ax.add_patch(Rectangle((3.2, 0.35), 4.1, 3.5, facecolor="#f8f9fa", edgecolor=INK, linewidth=1.4))
    ax.text(7.15, 0.5, "$i = 1 \\ldots N$", ha="right", va="bottom", fontsize=12)
    z, x = (5.25, 3.1), (5.25, 1.15)
    node(ax, *z, "$z_i$")
    node(ax, *x, "$x_i$", face="#d5dae0")
    arrow(ax, z, x)
    theta, phi = (8.9, 2.1), (1.6, 2.1)
    ax.text(*theta, "$\\theta$", fontsize=17, ha="center", va="center")
    ax.text(*phi, "$\\phi$", fontsize=17, ha="center", va="center", color=BLUE)
    arrow(ax, theta, x, shrink=(0.3, 0.46))
    arrow(ax, phi, z, shrink=(0.3, 0.46), colour=BLUE, dashed=True)
    arrow(ax, (4.88, 1.38), (4.88, 2.84), bend=-0.45, colour=BLUE, dashed=True)
    ax.text(9.25, 3.25, "generative model\n$p(z)\\,p_\\theta(x\\mid z)$", fontsize=12, ha="center", va="center")
    ax.text(1.6, 3.25, "inference model\n$q_\\phi(z\\mid x)$", fontsize=12, ha="center", va="center", color=BLUE)
    return figure


def reparametrization() -> Figure:
    """The same sample drawn two ways: through a random node, and as a function of outside noise."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.1))
    for ax, title in zip(axes, ("drawing $z$ directly", "reparametrized"), strict=True):
        canvas(ax, 5.4, 5.6)
        ax.set_title(title, fontsize=13, color=INK)
    left, right = axes
    for ax in axes:
        box(ax, 2.0, 0.6, "encoder: $\\mu,\\ \\sigma$", width=2.4)
        box(ax, 2.0, 4.8, "decoder, $\\log p_\\theta(x\\mid z)$", width=3.5)
        ax.text(0.9, 1.45, "forward", fontsize=11, color=SOFT, ha="right", va="center")
    node(left, 2.0, 2.7, "$z$", face="#fbe3d0", radius=0.5)
    left.text(2.75, 2.7, "$z\\sim\\mathcal{N}(\\mu,\\sigma^2)$", fontsize=12.5, va="center")
    box(right, 2.0, 2.7, "$z=\\mu+\\sigma\\varepsilon$", width=1.9)
    node(right, 4.6, 2.7, "$\\varepsilon$", face="#fbe3d0", radius=0.5)
    right.text(4.6, 1.75, "$\\mathcal{N}(0,1)$", fontsize=12, ha="center", va="center")
    for ax, half in ((left, 0.5), (right, 0.4)):
        arrow(ax, (1.75, 1.0), (1.75, 2.7 - half - 0.04), shrink=(0, 0))
        arrow(ax, (1.75, 2.7 + half + 0.02), (1.75, 4.36), shrink=(0, 0))
        arrow(ax, (2.3, 4.4), (2.3, 2.7 + half + 0.06), shrink=(0, 0), colour=BLUE, dashed=True)
    arrow(right, (4.6, 2.7), (2.95, 2.7), shrink=(0.5, 0.04))
    arrow(right, (2.3, 2.3), (2.3, 1.04), shrink=(0, 0), colour=BLUE, dashed=True)
    right.text(2.5, 3.75, "gradient", fontsize=11, color=BLUE, va="center")
    left.text(2.5, 3.75, "gradient", fontsize=11, color=BLUE, va="center")
    left.plot([2.16, 2.44], [1.85, 2.13], color=ORANGE, linewidth=2.5)
    left.plot([2.16, 2.44], [2.13, 1.85], color=ORANGE, linewidth=2.5)
    left.text(2.65, 1.75, "stops here: a draw\nhas no derivative", fontsize=11, color=ORANGE, va="center")
    return figure


# --- curves


def tidy(ax: Axes) -> None:
    """Leave only the left and bottom spines."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=10)


def kl_term() -> Figure:
    """KL(N(mu, sigma^2) || N(0, 1)) against mu for some sigma, and against sigma for some mu."""

    def kl(mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        return np.asarray(-0.5 * (1 + np.log(sigma**2) - mu**2 - sigma**2))

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), sharey=True)
    mu, sigma = np.linspace(-3, 3, 301), np.linspace(0.02, 2.6, 400)
    shades = (BLUE, ORANGE, "#5b8c5a")
    for value, colour in zip((1.0, 0.5, 0.1), shades, strict=True):
        left.plot(mu, kl(mu, np.full_like(mu, value)), color=colour, linewidth=2, label=f"$\\sigma = {value:g}$")
    for value, colour in zip((0.0, 1.0, 2.0), shades, strict=True):
        right.plot(sigma, kl(np.full_like(sigma, value), sigma), color=colour, linewidth=2, label=f"$\\mu = {value:g}$")
    left.set(xlabel="$\\mu$", ylabel="KL from $\\mathcal{N}(0, 1)$, nats", ylim=(0, 6))
    right.set(xlabel="$\\sigma$")
    right.axvline(1, color=SOFT, linewidth=0.8, linestyle=":")
    for ax in (left, right):
        tidy(ax)
        ax.legend(frameon=False, fontsize=11, loc="upper center" if ax is left else "upper right")
    return figure


def aggregate_posterior() -> Figure:
    """A synthetic aggregate posterior in two dimensions: raw with the prior, raw with its own Gaussian, and in u."""
    points = noise.normal(3, 0, 1500, 3).astype(np.float64)
    angle = 2.2 * points[:, 0] + 0.6
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (1 + 0.12 * points[:, 1:2])
    raw = ring @ np.array([[1.15, 0.45], [0.0, 0.42]]) + np.array([0.75, -0.6]) + 0.06 * points[:, 1:]
    centre, factor = raw.mean(0), np.linalg.cholesky(np.cov(raw.T))
    u = np.linalg.solve(factor, (raw - centre).T).T
    turn = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)

    figure, axes = plt.subplots(1, 3, figsize=(8, 3.25), sharex=True, sharey=True)
    shown: list[tuple[str, np.ndarray, np.ndarray, np.ndarray, str]] = [
        ("raw, and $\\mathcal{N}(0, I)$", raw, np.zeros(2), np.eye(2), ORANGE),
        ("raw, and $\\mathcal{N}(m, LL')$", raw, centre, factor, BLUE),
        ("in $u$, and $\\mathcal{N}(0, I)$", u, np.zeros(2), np.eye(2), BLUE),
    ]
    for ax, (title, cloud, middle, spread, colour) in zip(axes, shown, strict=True):
        ax.scatter(*cloud.T, s=3, color="#9aa3ad", linewidths=0, rasterized=True)
        for radius in (1, 2):
            ax.plot(*(middle + radius * circle @ spread.T).T, color=colour, linewidth=1.8)
        ax.set_title(title, fontsize=12)
        ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        tidy(ax)
    return figure


# --- from the bundle


def wall(pictures: np.ndarray, columns: int, size: int) -> np.ndarray:
    """Pictures in [0, 1] or uint8 as one sheet, each enlarged to ``size`` pixels: (height, width) or with channels."""
    faces = pictures if pictures.dtype == np.uint8 else render.to_uint8(pictures)
    return np.asarray(render.grid(render.enlarge(faces, size), columns, gap=3))


def show(ax: Axes, sheet: np.ndarray, extent: tuple[float, float, float, float] | None = None) -> None:
    """Show a sheet, grey or colour."""
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    ax.spines[:].set_visible(False)


def traversal(model: mf.Model) -> Figure:
    """What each of the first dimensions does to the average face, u = 0."""
    rows = min(ROWS, len(model.dimensions))
    size = 64
    zero = np.zeros(model.latent_size, np.float32)
    sheet = wall(render.traversal(model, zero, range(rows), STEPS, REACH), STEPS, size)
    height, width = sheet.shape[:2]
    figure, ax = plt.subplots(figsize=(6.4, 6.4 * height / width + 0.5))
    show(ax, sheet)
    ax.set_yticks([(row + 0.5) * height / rows for row in range(rows)], [str(row) for row in range(rows)])
    ticks = (np.array([0, STEPS // 2, STEPS - 1]) + 0.5) * width / STEPS
    ax.set_xticks(ticks, [f"\N{MINUS SIGN}{REACH:g}", "0", f"{REACH:g}"])
    ax.tick_params(length=0, labelsize=11)
    ax.set_ylabel("dimension", fontsize=12)
    ax.set_xlabel("its value $u_k$", fontsize=12)
    return figure


def shares(model: mf.Model) -> Figure:
    """Share of the visible change and KL of each interesting dimension, from the manifest."""
    entries = model.bundle.manifest["dimensions"]
    index = np.arange(len(entries))
    share = 100 * np.array([float(entry.get("share", 0)) for entry in entries])
    kl = np.array([float(entry.get("kl", 0)) for entry in entries])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4.4), sharex=True)
    top.bar(index, share, color=BLUE, width=0.75)
    top.set_ylabel("share of the\nvisible change, %", fontsize=11)
    running = top.twinx()
    running.plot(index, np.cumsum(share), color=ORANGE, linewidth=1.8, marker="o", markersize=3)
    running.set_ylim(0, 104)
    running.set_ylabel("running sum, %", fontsize=11, color=ORANGE)
    running.tick_params(labelsize=10, colors=ORANGE)
    running.spines[["top"]].set_visible(False)
    bottom.bar(index, kl, color="#5b8c5a", width=0.75)
    bottom.set_ylabel("KL, nats", fontsize=11)
    bottom.set_xlabel("dimension", fontsize=11)
    bottom.set_xticks(index[:: max(1, len(index) // 14)])
    top.spines[["top"]].set_visible(False)
    top.tick_params(labelsize=10)
    tidy(bottom)
    figure.align_ylabels([top, bottom])
    return figure


def hover_square(model: mf.Model) -> Figure:
    """The faces under a grid of places in the hover square, dimensions 0 and 1 of a face."""
    session = mf.Session(model, seed=FIRST_SEED)
    faces = []
    for y in np.linspace(1, -1, SIDE):
        for x in np.linspace(-1, 1, SIDE):
            session.move(float(x), float(y))
            faces.append(session.z)
    sheet = wall(model.decode(np.stack(faces)), SIDE, 72)
    height, width = sheet.shape[:2]
    figure, ax = plt.subplots(figsize=(5.4, 5.4 * height / width + 0.2))
    half = SIDE / (SIDE - 1)  # the middle of an outer face lies at 1, its far edge beyond
    show(ax, sheet, (-half, half, -half, half))
    ax.set_aspect(height / width)
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])
    ax.tick_params(length=3, labelsize=11)
    ax.set_xlabel("dimension 0", fontsize=12)
    ax.set_ylabel("dimension 1", fontsize=12)
    return figure


PULLS = {  # of the figure: a seed's face, a handle, and pixels of 128, right and down
    (36, 0): ("mouth-right", (5.0, -6.0)),
    (40, 0): ("lip-lower", (0.0, 8.0)),
    (43, 0): ("brow-left", (0.0, -6.0)),
    (48, 0): ("nose", (7.0, 0.0)),
    (17, 0): ("jaw-left", (-7.0, 0.0)),
}


def pulls(model: mf.Model) -> Figure:
    """Faces with their handles and the way of a hand, and below what became of them. The model has shape."""
    side = model.image_shape[0]
    figure, axes = plt.subplots(2, len(PULLS), figsize=(8, 8 * 2 / len(PULLS) + 0.1))
    for ((seed, row), (name, way)), (above, below) in zip(PULLS.items(), axes.T, strict=True):
        session = mf.Session(model, seed)
        session.show(noise.normal(seed, row, 1, model.latent_size)[0])
        places = session.handles
        x, y = places[name]
        dx, dy = (part * side / 128 for part in way)
        before = session.z
        session.grab(name, (dx, dy))
        for ax, picture in zip((above, below), wall_of(model, [before, session.z]), strict=True):
            ax.imshow(picture, extent=(-0.5, side - 0.5, side - 0.5, -0.5), interpolation="bicubic")
            ax.set_xlim(-0.5, side - 0.5)
            ax.set_ylim(side - 0.5, -0.5)
            ax.axis("off")
        shown = np.clip(np.array(list(places.values())), 0, side - 1)
        above.scatter(*shown.T, s=9, facecolors="none", edgecolors="white", linewidths=0.7, alpha=0.8)
        arrow_style = {"arrowstyle": "-|>", "color": "white", "linewidth": 1.6, "mutation_scale": 9}
        above.annotate("", (x + 1.6 * dx, y + 1.6 * dy), (x, y), arrowprops=arrow_style)
        above.scatter([x], [y], s=22, facecolors=BLUE, edgecolors="white", linewidths=1.0, zorder=5)
    figure.subplots_adjust(0, 0, 1, 1, 0.03, 0.03)
    return figure


def wall_of(model: mf.Model, latents: list[np.ndarray]) -> np.ndarray:
    """Faces as uint8 (n, height, width, 3), twice their size."""
    return enlarge(to_uint8(model.decode(np.stack(latents))), 2 * model.image_shape[0])


def bent_grid(ax: Axes, field: np.ndarray, side: int) -> None:
    """The lines of a square grid of the mean frame, as a field (16, 16, 2) takes them into the picture."""
    line = np.linspace(6, side - 7, 13)
    fine = np.linspace(6, side - 7, 97)
    for k in line:
        for points in (np.stack([np.full_like(fine, k), fine], -1), np.stack([fine, np.full_like(fine, k)], -1)):
            bent = warp.landmarks(field[None], points.astype(np.float32), side)[0]
            ax.plot(*bent.T, color=BLUE, linewidth=0.9)


def parts(model: mf.Model) -> Figure:
    """A few faces in columns: their appearances, their fields, and the faces."""
    z = some_faces(model)
    found, pictures = model.parts(z), model.decode(z)
    side = model.image_shape[0]
    mean = np.asarray(model.bundle.manifest["shape"]["landmarks"])
    figure, axes = plt.subplots(3, len(z), figsize=(6.4, 5.0), gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for k in range(len(z)):
        for row, picture, points in ((0, found.appearance[k], mean), (2, pictures[k], found.landmarks[k])):
            axes[row, k].imshow(picture, interpolation="bicubic", extent=(-0.5, side - 0.5, side - 0.5, -0.5))
            axes[row, k].scatter(*points.T, s=1.2, color="white", linewidths=0)
        bent_grid(axes[1, k], found.field[k], side)
        for ax in axes[:, k]:
            ax.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    for ax, words in zip(axes[:, 0], ("appearance", "field", "face"), strict=True):
        ax.set_ylabel(words, fontsize=12)
    return figure


def mixed(model: mf.Model) -> Figure:
    """The appearance of each of a few faces, in rows, on the shape of each, in columns."""
    z = some_faces(model)
    count = len(z)
    sheet = wall(model.decode(np.repeat(z, count, 0), shape=np.tile(z, (count, 1))), count, 128)
    figure, ax = plt.subplots(figsize=(5.4, 5.6))
    show(ax, sheet)
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel("shape", fontsize=12)
    ax.set_ylabel("appearance", fontsize=12)
    return figure


def some_faces(model: mf.Model) -> np.ndarray:
    """Latents of four faces, the first of the seeds at which the page begins."""
    return np.concatenate([model.sample(1, seed) for seed in FACES_SHOWN])


def save_faces(figure: Figure, path: Path) -> None:
    """Write a WebP, in which faces keep their colours, and say so."""
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.12, facecolor="white", pil_kwargs={"quality": 85})
    plt.close(figure)
    with Image.open(path) as picture:
        print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size // 1000} kB")


def few_colours(picture: Image.Image, colours: int) -> Image.Image:
    """The picture in a palette; a grey one keeps evenly spaced greys, black and white among them."""
    values = np.asarray(picture)
    if (values == values[..., :1]).all():
        step = 255 / (colours - 1)
        return Image.fromarray(np.rint(np.rint(values[..., 0] / step) * step).astype(np.uint8))
    return picture.quantize(colours, dither=Image.Dither.NONE)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours, narrower and with fewer still where it is over ``MOST_BYTES``, and say so."""
    figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.12, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    with Image.open(path) as image:
        picture = image.convert("RGB")
    for width, colours in ((picture.width, 256), (800, 256), (800, 64), (720, 48), (720, 32), (640, 32), (560, 32)):
        if width < picture.width:
            picture = picture.resize((width, picture.height * width // picture.width), Image.Resampling.LANCZOS)
        few_colours(picture, colours).save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}: {picture.width}x{picture.height}, {path.stat().st_size // 1000} kB")


def main() -> None:
    """Draw all figures, or with no usable bundle stop with one line."""
    parser = argparse.ArgumentParser(description="Draw the figures of how-it-works.md.")
    parser.add_argument("--bundle", help="a shipped bundle's name or a folder; the default bundle when not given")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path(__file__).parent / "figures", help="folder to write into"
    )
    arguments = parser.parse_args()
    try:
        model = mf.load(arguments.bundle)
    except ValueError as error:
        parser.exit(1, f"figures.py: {error}\n")
    plt.rcParams.update({"font.size": 11, "mathtext.fontset": "cm", "axes.edgecolor": SOFT, "axes.labelcolor": INK})
    arguments.out.mkdir(parents=True, exist_ok=True)
    plain: list[Callable[[], Figure]] = [bayesian_network, plate, reparametrization, kl_term, aggregate_posterior]
    for draw in plain:
        save(draw(), arguments.out / f"{draw.__name__.replace('_', '-')}.png")
    save(shares(model), arguments.out / "shares.png")
    save_faces(traversal(model), arguments.out / "traversal.webp")
    save_faces(hover_square(model), arguments.out / "hover-square.webp")
    if model.has_shape:
        save_faces(pulls(model), arguments.out / "grab.webp")
        save_faces(parts(model), arguments.out / "parts.webp")
        save_faces(mixed(model), arguments.out / "mixed.webp")
    else:
        print(f"the figures of shape are left as they are: {model.name} has none")


if __name__ == "__main__":
    main()

"""What lets the page be installed, work offline and be shown in chats: icons, a picture of faces, the service worker."""

from __future__ import annotations

import functools
import hashlib
import html
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .bundle import Bundle

if TYPE_CHECKING:
    from .site import Asset

ICONS = (180, 192, 512)  # pixels; 180 is the one that Apple's devices ask for
PREVIEW = (1200, 630)  # what chats and networks show beside a link
PREVIEW_FACES = (4, 2)  # columns, rows
PREVIEW_REACH = 1.2  # how far its outermost faces are from the middle of the hover square
# What the page needs to start, beside what stands at its top: not the second runtime, not what is used on request.
LATER = (
    ".onnx",
    ".jspi.mjs",
    ".jspi.min.mjs",
    ".jspi.wasm",
    "mediabunny.min.mjs",
    "sha256.min.mjs",
    ".txt",
    ".md",
    "LICENSE",
)
DRAWN = (".png", ".webp", ".jpg")
WORKER = "service-worker.js"


def pictures(bundle: Bundle, seed: int) -> dict[str, Callable[[], bytes]]:
    """How to draw the icons and the preview from a bundle's faces, by their addresses. Each is drawn once, when asked for."""
    faces = functools.cache(functools.partial(_faces, bundle, seed))
    found = {f"icon-{size}.png": functools.partial(_icon, faces, size) for size in ICONS}
    drawn: dict[str, Callable[[], bytes]] = {**found, "preview.jpg": functools.partial(_preview, faces)}
    return {address: functools.cache(draw) for address, draw in drawn.items()}


def _icon(faces: Callable[[], list[Image.Image]], size: int) -> bytes:
    """The first face, up to the edge: systems cut icons to their own shapes."""
    return _png(faces()[0].resize((size, size), Image.Resampling.LANCZOS))


def _preview(faces: Callable[[], list[Image.Image]]) -> bytes:
    """The first face as the hand changes it, from corner to corner of the hover square."""
    columns, rows = PREVIEW_FACES
    width, height = PREVIEW[0] // columns, PREVIEW[1] // rows
    canvas = Image.new("RGB", PREVIEW)
    for k, face in enumerate(faces()[1:]):
        large = face.resize((height, height), Image.Resampling.LANCZOS)  # a little taller than wide: the sides go
        edge = (height - width) // 2
        canvas.paste(large.crop((edge, 0, edge + width, height)), (width * (k % columns), height * (k // columns)))
    file = io.BytesIO()
    canvas.save(file, "JPEG", quality=85)  # networks want it small
    return file.getvalue()


def _faces(bundle: Bundle, seed: int) -> list[Image.Image]:
    """The first face of the seed, and as it is at places of the hover square, row by row from the top left."""
    from .model import Model
    from .render import to_image, to_uint8

    model = Model(bundle)
    columns, rows = PREVIEW_FACES
    z = model.sample(1, seed).repeat(1 + columns * rows, axis=0)
    x, y = model.dimensions[:2]
    z[1:, x] = np.tile(np.linspace(-PREVIEW_REACH, PREVIEW_REACH, columns), rows)
    z[1:, y] = np.repeat(np.linspace(PREVIEW_REACH, -PREVIEW_REACH, rows), columns)
    return [to_image(face).convert("RGB") for face in to_uint8(model.decode(z))]


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def with_address(page: Path, url: str) -> bytes:
    """The page, told at which address it stands: whole addresses are what chats need to show its picture."""
    text = page.read_text(encoding="utf-8")
    base = html.escape(url.rstrip("/") + "/")
    before = 'property="og:image" content="'
    if text.count(before) != 1:
        raise AssertionError(f"{page.name} has no og:image")
    own = f'<link rel="canonical" href="{base}">\n  <meta property="og:url" content="{base}">\n  <meta '
    return text.replace(f"<meta {before}", f"{own}{before}{base}").encode()


def service_worker(source: Path, page: Mapping[str, Asset], bundle: str) -> bytes:
    """The service worker of a page: ``source`` with the SHA-256 of everything that ``page`` consists of.

    At first it keeps what the page needs to start with the models' folder ``bundle``; the rest when it is asked for.
    Pictures that are drawn by a model are left out: they are only seen until the model is there.
    """
    kept = {k: asset for k, asset in sorted(page.items()) if asset.path is not None or not k.endswith(DRAWN)}
    hashes = {address: _sha256(address, asset) for address, asset in kept.items() if address != WORKER}
    of_bundles = {address for address in hashes if address.startswith("bundles/") and address.count("/") > 1}
    first = [address for address in hashes if not address.endswith(LATER) and address not in of_bundles]
    first += [f"bundles/{bundle}/manifest.json", f"bundles/{bundle}/decoder.onnx"]
    text = source.read_text(encoding="utf-8")
    for name, value, empty in (("FILES", hashes, "{}"), ("FIRST", first, "[]")):
        before = f"const {name} = {empty};"
        if text.count(before) != 1:
            raise AssertionError(f"{source.name} has no line '{before}'")
        text = text.replace(before, f"const {name} = {json.dumps(value, indent=1)};")
    return text.encode()


def _sha256(address: str, asset: Asset) -> str:
    if asset.path is not None and address.endswith(
        ".onnx"
    ):  # checked against its manifest when it is written or loaded
        manifest = json.loads((asset.path.parent / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["files"][asset.path.name]["sha256"])
    return hashlib.sha256(asset.content()).hexdigest()

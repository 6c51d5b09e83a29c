"""The page as files: what it consists of, and writing it out for any static host."""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import brotli

from . import faces, installable, sheet
from .bundle import Bundle
from .files import SITE, output_folder, replace_folder
from .rules import FIRST_SEED, SEED_LIMIT

WEB = Path(__file__).parent / "web"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    "": "text/plain; charset=utf-8",  # LICENSE
}
COMPRESSIBLE = (".css", ".html", ".js", ".json", ".md", ".mjs", ".svg", ".txt", ".wasm", ".webmanifest", "")
FOREVER = "public, max-age=31536000, immutable"  # for addresses that change when the content does
REVALIDATE = "no-cache"  # kept, but asked for again; the answer is mostly "304 Not Modified"

# What the page may do. Its own files only; WebAssembly may be compiled; pictures and films are made in memory.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self'",
        "connect-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    # These two isolate the page from other origins, which browsers demand before they give it threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page, under its address: plain content, or a file stored compressed with Brotli."""

    make: Callable[[], bytes] | None = None
    path: Path | None = None
    brotli: bool = False

    def stored(self) -> bytes:
        """The content as it is stored."""
        if self.path is not None:
            return self.path.read_bytes()
        assert self.make is not None
        return self.make()

    def content(self) -> bytes:
        """The plain content."""
        return brotli.decompress(self.stored()) if self.brotli else self.stored()


def assets(shown: Sequence[Bundle], seed: int | None, url: str | None = None) -> dict[str, Asset]:
    """Everything the page consists of, by its address relative to the page's: the files of ``web/`` and of the bundles.

    The first bundle is the one that the page opens with: on the first face of ``seed``, or with ``None`` on one of the
    faces that its manifest names as ``starts``, after which every visitor's random faces are their own. ``url`` is the
    address at which the page will stand, if it is known: chats show its picture only when they are told the whole address.
    """
    found: dict[str, Asset] = {}
    for path in sorted(WEB.rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.endswith((".d.ts", ".d.mts")):
            address = path.relative_to(WEB).as_posix()
            compressed = address.endswith(".wasm.br")
            found[address.removesuffix(".br") if compressed else address] = Asset(path=path, brotli=compressed)
    for file in ("manifest.json", faces.NETWORK):
        found[f"finder/{file}"] = Asset(path=faces.FINDER / file)
    names = folder_names(shown)
    starts = [_starts(bundle, seed) for bundle in shown]
    index = {"default": names[0], "names": names, "seed": seed, "starts": dict(zip(names, starts, strict=True))}
    found["bundles/index.json"] = Asset(functools.partial(json.dumps(index).encode))
    for name, bundle, seeds in zip(names, shown, starts, strict=True):
        for file in ("manifest.json", *bundle.files):
            found[f"bundles/{name}/{file}"] = Asset(path=bundle.folder / file)
        found[f"bundles/{name}/face.png"] = Asset(functools.cache(functools.partial(_first_face, bundle, seeds[0])))
        for first in seeds:
            file = sheet.file_name(first)
            drawn = file in bundle.manifest["files"]
            make = functools.cache(functools.partial(sheet.draw, bundle, first))
            found[f"bundles/{name}/{file}"] = Asset(path=bundle.folder / file) if drawn else Asset(make)
    found |= {name: Asset(draw) for name, draw in installable.pictures(shown[0], starts[0][0]).items()}
    if url is not None:
        found["index.html"] = Asset(functools.partial(installable.with_address, WEB / "index.html", url))
    worker = functools.partial(installable.service_worker, WEB / installable.WORKER, dict(found), names[0])
    found[installable.WORKER] = Asset(worker)
    return found


def _starts(bundle: Bundle, seed: int | None) -> list[int]:
    """The seeds whose first faces are drawn beforehand."""
    if seed is not None:
        return [seed]
    found = bundle.manifest.get("starts")
    good = isinstance(found, list) and found and all(type(n) is int and 0 <= n <= SEED_LIMIT for n in found)
    return [int(n) for n in found or []] if good else [FIRST_SEED]


def folder_names(shown: Sequence[Bundle]) -> list[str]:
    """A folder's name for each bundle: its own, without what an address may not hold, and none twice."""
    names: list[str] = []
    for bundle in shown:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.name).strip(".-") or "bundle"
        number = 1
        while (name := plain if number == 1 else f"{plain}-{number}") in (*names, "index.json"):
            number += 1
        names.append(name)
    return names


def cache_control(address: str) -> str:
    """How long a browser or a CDN may keep what is at an address."""
    # The vendored runtime has its version in its folder's name; the page asks for networks with their hash.
    return FOREVER if address.startswith("vendor/") or address.endswith(".onnx") else REVALIDATE


def media_type(address: str) -> str:
    """The Content-Type of what is at an address."""
    return TYPES.get(os.path.splitext(address)[1], "application/octet-stream")


def write(
    out: Path, shown: Sequence[Bundle], seed: int | None = None, *, url: str | None = None, overwrite: bool = False
) -> tuple[int, int]:
    """Write the page as plain files into the folder ``out``, whole or not at all -> the numbers of files and bytes.

    Beside each file that gets smaller stand its forms compressed with Brotli and gzip, for hosts that know how to send
    them; ``_headers`` is for hosts that read it. ``overwrite`` replaces a folder that this made before, no other.
    Raises ``UserError`` when ``out`` holds anything else.
    """
    output_folder(out, SITE, overwrite=overwrite)
    for bundle in shown:
        for file in bundle.files:
            bundle.read(file)  # checks its hash: a damaged model is refused here, not in a visitor's browser
    page = assets(shown, seed, url)
    with replace_folder(out, SITE, overwrite=overwrite) as folder:
        for address, asset in page.items():
            path = folder / address
            path.parent.mkdir(parents=True, exist_ok=True)
            content = asset.content()
            path.write_bytes(content)
            for suffix, form in _compressed_forms(address, asset, content):
                path.with_name(path.name + suffix).write_bytes(form)
        (folder / "_headers").write_text(_headers_file(page), encoding="utf-8")
        written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        mark = json.dumps({"made by": "morphing-faces site", "files": sorted(page), "written": written})
        (folder / SITE.mark).write_text(mark + "\n", encoding="utf-8")
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _compressed_forms(address: str, asset: Asset, content: bytes) -> list[tuple[str, bytes]]:
    """The forms that are worth having."""
    network = address.endswith(".onnx")
    if len(content) <= 500 or not (network or address.endswith(COMPRESSIBLE)):
        return []
    quality = 5 if network else 11  # of weights more would take a few percent off, and minutes
    stored = asset.stored() if asset.brotli else brotli.compress(content, quality=quality, lgwin=24)
    forms = [(".br", stored), (".gz", gzip.compress(content, 6, mtime=0))]
    return [(suffix, form) for suffix, form in forms if len(form) < 0.97 * len(content)]


def _headers_file(addresses: Iterable[str]) -> str:
    """The headers in the format that Netlify and Cloudflare Pages read; both make a browser ask again by themselves."""
    networks = [f"/{address}" for address in addresses if address.endswith(".onnx")]
    lines = ["/*", *(f"  {name}: {value}" for name, value in HEADERS.items())]
    for path in ("/vendor/*", *networks):
        lines += [path, f"  Cache-Control: {FOREVER}"]
    return "\n".join(lines) + "\n"


def _first_face(bundle: Bundle, seed: int) -> bytes:
    """The face that the page opens with, as a PNG of the model's own size: something to see while the model loads."""
    from .model import Model
    from .render import to_image, to_uint8

    model = Model(bundle)
    file = io.BytesIO()
    to_image(to_uint8(model.decode(model.sample(1, seed)))[0]).save(file, "PNG", optimize=True)
    return file.getvalue()

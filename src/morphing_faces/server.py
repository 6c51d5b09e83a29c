"""Serves the page on this machine: the same files that ``site`` writes, with the headers that a static host would send."""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import hashlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from types import FrameType

import brotli
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.staticfiles import NotModifiedResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import site
from .bundle import Bundle
from .errors import UserError
from .site import Asset

PORT = 8000  # the first choice; any free one when it is taken
PATIENCE = 5.0  # seconds from the first request for a network until it is compressed for the next
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def application(shown: Sequence[Bundle], seed: int | None, hosts: Sequence[str] = ("*",)) -> Starlette:
    """The page as an ASGI application. ``hosts`` are the names by which it may be called.

    Only the addresses of :func:`site.assets` exist; what a visitor asks for is looked up there and never made a path.
    """
    page = site.assets(shown, seed)

    def answer(request: Request) -> Response:  # not async: files are read and compressed in a thread
        address = request.path_params["address"] or "index.html"
        if address not in page:
            return PlainTextResponse("404: there is nothing here\n", status_code=404)
        try:
            return _response(request, address, page[address])
        except (OSError, ValueError) as error:  # a file is gone, or the bundle is damaged
            logging.getLogger("uvicorn.error").error("%s: %s", address, error)
            return PlainTextResponse(f"500: {error}\n", status_code=500)

    return Starlette(
        routes=[Route("/{address:path}", answer)],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
    )


class _Headers:
    """Adds the security headers to every answer, errors included."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self.headers = [(name.lower().encode(), value.encode()) for name, value in site.HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class _Network(FileResponse):
    """A network's file, sent in larger pieces than Starlette's: it is most of the page's bytes."""

    chunk_size = 1 << 20


def _response(request: Request, address: str, asset: Asset) -> Response:
    encodings = _accepted(request)
    headers = {"Cache-Control": site.cache_control(address)}
    kind = site.media_type(address)
    response: Response
    if asset.path is not None and asset.path.suffix == ".onnx":
        headers["Vary"] = "Accept-Encoding"
        smaller = _smaller(asset, _changed(asset))
        if "br" in encodings and "range" not in request.headers and smaller.done():
            content, digest = smaller.result()
            headers |= {"ETag": f'"{digest}-br"', "Content-Encoding": "br"}
            response = Response(content, headers=headers, media_type=kind)
        else:  # large: sent from the disk as it is, in ranges if that is asked for
            response = _Network(asset.path, headers=headers, media_type=kind, stat_result=asset.path.stat())
    else:
        compress = address.endswith(site.COMPRESSIBLE)
        encoding = next((name for name in ("br", "gzip") if compress and name in encodings), "identity")
        content, digest = _encoded(asset, _changed(asset), encoding)
        headers |= {"ETag": f'"{digest}-{encoding}"', "Vary": "Accept-Encoding"}
        if encoding != "identity":
            headers["Content-Encoding"] = encoding
        response = Response(content, headers=headers, media_type=kind)
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return NotModifiedResponse(response.headers) if response.headers["etag"] in known else response


def _accepted(request: Request) -> set[str]:
    """The encodings that the visitor takes; one with q=0 is refused."""
    parts = [part.replace(" ", "").partition(";q=") for part in request.headers.get("accept-encoding", "").split(",")]
    return {name.lower() for name, _, weight in parts if not weight or weight.strip("0.")}


def _changed(asset: Asset) -> int:
    return asset.path.stat().st_mtime_ns if asset.path is not None else 0


@functools.lru_cache(maxsize=256)
def _encoded(asset: Asset, changed: int, encoding: str) -> tuple[bytes, str]:
    """The content in an encoding, and a digest of it. ``changed`` is there for the cache: an edited file is read anew."""
    stored = asset.stored()
    digest = hashlib.sha256(stored).hexdigest()[:16]
    if asset.brotli and encoding == "br":
        return stored, digest
    content = brotli.decompress(stored) if asset.brotli else stored
    if encoding == "br":
        return brotli.compress(content, quality=5), digest
    return (gzip.compress(content, 6) if encoding == "gzip" else content), digest


@functools.lru_cache(maxsize=32)
def _smaller(asset: Asset, changed: int) -> Future[tuple[bytes, str]]:
    """A network compressed with Brotli, and a digest of it, soon: nobody waits for it, and the first visitor's page has the
    processor for itself."""
    found: Future[tuple[bytes, str]] = Future()

    def make() -> None:
        with contextlib.suppress(OSError):  # it is gone; whoever asks is told
            found.set_result(_encoded(asset, changed, "br"))

    timer = threading.Timer(PATIENCE, make)
    timer.daemon = True
    timer.start()
    return found


# --- the address


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at the address; without a port 8000, or any free one when that is taken.

    Raises ``UserError`` with the remedy when the address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, PORT if port is None else port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UserError(f"--host {host}: no such address ({error.strerror}); try --host 127.0.0.1") from None
    for candidate in [PORT, 0] if port is None else [port]:
        listener = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":  # there, it would let two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], candidate, *address[2:]))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if port is None and candidate and error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise UserError(_refusal(host, candidate, error)) from None
        return listener
    raise AssertionError("port 0 is always free, or its error was raised")


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"--port {port} is in use by another program; choose another, or leave --port out for any free one"
    if error.errno == errno.EACCES:
        return f"--port {port}: this user may not listen there; choose a port from 1024 to 65535, or leave --port out"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: this machine does not have that address; use 127.0.0.1, or 0.0.0.0 for all it has"
    return f"cannot listen on {host}, port {port}: {error.strerror}; try --host 127.0.0.1 without --port"


def url(listener: socket.socket) -> str:
    """The address to open in a browser."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    host = listener.getsockname()[0]
    return bool(host == "::1" or host.startswith("127."))


def serve(listener: socket.socket, shown: Sequence[Bundle], seed: int | None) -> None:
    """Answer until Ctrl-C. On a loopback address the Host header must be this machine's name.

    Otherwise a page elsewhere could have its own name point here and read what is served (DNS rebinding).
    """
    hosts = [*LOOPBACK, "[::1]", listener.getsockname()[0]] if is_loopback(listener) else ["*"]
    config = uvicorn.Config(
        application(shown, seed, hosts),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    with contextlib.closing(listener), contextlib.suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Leaves without a word: a browser that is cut off in a download is no error worth a traceback."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.getLogger("uvicorn.error").disabled = True
        super().handle_exit(sig, frame)


def can_open_browser() -> bool:
    """Whether a browser would appear in front of the person, and not inside their terminal or nowhere."""
    return sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )

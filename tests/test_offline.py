"""The page that stays: installed, offline, from one version to the next, and forgotten on request."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Run, plain_site
from hand import Hand, Visit, open_page, until

KEPT = """async () => {
  const cache = await caches.open((await caches.keys())[0] ?? 'none');
  return (await cache.keys()).length;
}"""
WORKER = "navigator.serviceWorker.getRegistration().then((found) => found?.{} ? found.{}.state : null)"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class Host:
    """A static host of the folder, with the page below its root, that can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.start()

    def start(self) -> None:
        handler = functools.partial(Quiet, directory=str(self.folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self) -> str:
        return (
            f"http://faces.localhost:{self.port}/deep/down/"  # not the machine's own name: there the network goes first
        )


@pytest.fixture(scope="module")
def written(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("host")
    (folder / "deep").mkdir()
    plain_site(folder / "deep" / "down", tiny_bundle, url="https://example.org/deep/down")
    return folder


@pytest.fixture
def host(written: Path) -> Iterator[Host]:
    host = Host(written)
    yield host
    host.stop()


def test_it_works_offline_after_one_visit_and_a_new_version_comes_whole(
    visit: Visit, host: Host, written: Path
) -> None:
    hand = open_page(
        visit, host.address, service_workers="allow", allow=("ERR_CONNECTION_REFUSED", "Failed to load", "404")
    )
    page = hand.page
    until(lambda: page.evaluate(WORKER.format("active", "active")) == "activated", "the worker runs")
    host.stop()
    page.reload()
    hand["body[data-state=ready]"].wait_for()
    hand.at_rest()
    z = hand.z
    hand.click("#random")
    hand.at_rest()
    assert (hand.z != z).any()

    # Another version: the page and one of its modules change.
    folder = written / "deep" / "down"
    worker = (folder / "service-worker.js").read_text()
    for name, before, after in (
        ("index.html", "<title>Morphing Faces", "<title>Second Morphing Faces"),
        ("dom.js", "/** The page's elements", "window.second = true;\n/** The page's elements"),
    ):
        old = (folder / name).read_bytes()
        new = old.replace(before.encode(), after.encode())
        assert new != old
        (folder / name).write_bytes(new)
        worker = worker.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
    (folder / "service-worker.js").write_text(worker)
    host.start()
    page.reload()
    hand["body[data-state=ready]"].wait_for()
    assert (page.title(), page.evaluate("window.second")) == ("Morphing Faces", None), "all of it is the first version"
    page.evaluate("navigator.serviceWorker.getRegistration().then((found) => found.update())")
    until(
        lambda: page.evaluate(WORKER.format("waiting", "waiting")) == "installed",
        "the second version is here, and waits",
    )

    def visit_again() -> str:
        page.reload()
        hand["body[data-state=ready]"].wait_for()
        assert page.evaluate("window.second === true") == page.title().startswith("Second"), (
            "never two versions at once"
        )
        return page.title()

    # The worker may hear a moment later than the page that another one waits: then the visit after takes over.
    until(lambda: visit_again().startswith("Second"), "the second version takes over")


def test_what_is_stored_is_told_and_forgotten_on_request(visit: Visit, host: Host) -> None:
    hand = open_page(visit, host.address, service_workers="allow")
    page = hand.page
    until(lambda: page.evaluate(WORKER.format("active", "active")) == "activated", "the worker runs")
    hand.click("#favour")
    hand.click("#open-kept")
    until(lambda: re.search(r"\d+ kB", hand["#kept-own"].inner_text()), "it says how much is the person's")
    until(lambda: re.search(r"\d+\.\d MB", hand["#kept-page"].inner_text()), "and how much the page's")
    hand.click("#forget")
    hand.says("forgotten", "#kept-page")
    assert page.evaluate("document.activeElement.id") == "kept-title"
    assert page.evaluate(KEPT) == 0
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('morphing-faces/'))") == []
    page.reload()
    hand["body[data-state=ready]"].wait_for()
    assert hand["#favourites li"].count() == 0
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all.length)") == 0


def test_served_on_this_machine_the_program_is_asked_first(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, service_workers="allow", allow=("404",))
    page = hand.page
    until(lambda: page.evaluate(WORKER.format("active", "active")) == "activated", "the worker runs")
    page.reload()
    hand["body[data-state=ready]"].wait_for()
    answered = page.evaluate("fetch('./nothing-of-this-name').then((response) => response.status)")
    assert answered == 404


def test_the_worker_lists_every_file_as_it_is(written: Path) -> None:
    folder = written / "deep" / "down"
    text = (folder / "service-worker.js").read_text()
    files = json.loads(re.search(r"const FILES = (\{.*?\});", text, re.S)[1])  # type: ignore[index]
    first = json.loads(re.search(r"const FIRST = (\[.*?\]);", text, re.S)[1])  # type: ignore[index]
    assert {"index.html", "main.js", "style.css", "bundles/tiny/decoder.onnx"} <= set(first)
    assert "bundles/tiny/encoder.onnx" in files
    assert "bundles/tiny/encoder.onnx" not in first
    for address in files:
        if address not in ("index.html", "dom.js"):  # another test may have changed them
            assert hashlib.sha256((folder / address).read_bytes()).hexdigest() == files[address], address


def test_it_can_be_installed_and_shown_in_chats(written: Path, visit: Visit, address: str) -> None:
    folder = written / "deep" / "down"
    manifest = json.loads((folder / "app.webmanifest").read_text())
    assert manifest["start_url"] == manifest["scope"] == "./"
    assert manifest["display"] == "standalone"
    for icon in manifest["icons"]:
        width, height = Image.open(folder / icon["src"]).size
        assert icon["sizes"] == f"{width}x{height}"
    text = (folder / "index.html").read_text()
    assert '<meta property="og:image" content="https://example.org/deep/down/preview.jpg">' in text
    assert '<link rel="canonical" href="https://example.org/deep/down/">' in text
    preview = Image.open(io.BytesIO((folder / "preview.jpg").read_bytes()))
    assert preview.size == (1200, 630)
    page = visit(address)
    response = page.request.get(address + "app.webmanifest")
    assert response.headers["content-type"] == "application/manifest+json"


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org/", "https://example.org/?a=b"])
def test_a_wrong_address_of_a_site_is_told(command: Run, url: str) -> None:
    done = command("site", "out", "--url", url)
    assert done.returncode != 0
    assert f"--url {url}: must be a whole address" in done.stderr


def test_the_footer_leads_to_what_a_visitor_asks(hand: Hand, visit: Visit, address: str) -> None:
    links = hand[".foot a"].evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    assert "https://github.com/vdumoulin/morphing_faces" in links
    page = visit(address + "model-card.html")
    for link in links:
        name, _, part = link.partition("#")
        if name == "model-card.html" and part:
            assert page.locator(f"#{part}").count() == 1, link
    assert hand.page.request.get(address + "how-it-works.html").ok

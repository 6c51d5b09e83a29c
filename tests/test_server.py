"""The page on this machine and as plain files: types, compression, caching, who may ask for what, and the commands."""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import brotli
import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from conftest import leave_uncompressed
from morphing_faces import bundle, server, site
from morphing_faces.cli import FIRST_SEED
from morphing_faces.render import to_uint8

Serve = Callable[..., str]
ROOT = Path(__file__).parent.parent
WASM = "vendor/onnxruntime-web-1.30.0/ort-wasm-simd-threaded.wasm"


@pytest.fixture(scope="module")
def address(serve: Serve, tiny_bundle: Path) -> str:
    return serve(tiny_bundle, "classic")


def ask(address: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What the server answers to exactly this path, which nothing here tidies."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/model.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/vendor/onnxruntime-web-1.30.0/ort.wasm.min.mjs", "text/javascript; charset=utf-8"),
        (f"/{WASM}", "application/wasm"),
        ("/vendor/onnxruntime-web-1.30.0/LICENSE", "text/plain; charset=utf-8"),
        ("/bundles/index.json", "application/json"),
        ("/bundles/classic/decoder.onnx", "application/octet-stream"),
        ("/bundles/classic/face.png", "image/png"),
    ],
)
def test_every_kind_of_file_has_its_type_and_the_security_headers(address: str, path: str, kind: str) -> None:
    status, headers, body = ask(address, path)
    assert status == 200
    assert body
    assert headers["content-type"] == kind
    for name, value in site.HEADERS.items():
        assert headers[name.lower()] == value


@pytest.mark.parametrize("path", ["/model.js", f"/{WASM}", "/bundles/classic/manifest.json"])
def test_the_visitor_gets_the_best_compression_it_takes(address: str, path: str) -> None:
    plain = ask(address, path)
    assert "content-encoding" not in plain[1]
    tags = {plain[1]["etag"]}
    for accepted, encoding, decompress in (
        ("gzip, deflate, br, zstd", "br", brotli.decompress),
        ("gzip, deflate, br;q=0", "gzip", gzip.decompress),
    ):
        _, headers, body = ask(address, path, Accept_Encoding=accepted)
        assert headers["content-encoding"] == encoding
        assert headers["vary"] == "Accept-Encoding"
        assert len(body) == int(headers["content-length"]) < 0.6 * len(plain[2])
        assert decompress(body) == plain[2]
        tags.add(headers["etag"])
    assert len(tags) == 3, "each form is a thing of its own to a cache"


def test_what_a_browser_has_is_not_sent_again(address: str) -> None:
    for path in ("/", "/model.js", "/bundles/classic/decoder.onnx", "/bundles/classic/face.png"):
        tag = ask(address, path)[1]["etag"]
        status, headers, body = ask(address, path, If_None_Match=f'"other", W/{tag}')
        assert (status, body) == (304, b"")
        assert headers["etag"] == tag
        assert ask(address, path, If_None_Match='"other"')[0] == 200


def test_only_addresses_that_change_with_their_content_are_kept_for_ever(address: str) -> None:
    for path, policy in (
        ("/", "no-cache"),
        ("/worker.js", "no-cache"),
        ("/bundles/index.json", "no-cache"),
        ("/bundles/classic/manifest.json", "no-cache"),
        (f"/{WASM}", "public, max-age=31536000, immutable"),
        ("/bundles/classic/decoder.onnx?sha256=876a67", "public, max-age=31536000, immutable"),
    ):
        assert ask(address, path)[1]["cache-control"] == policy


def test_a_network_is_compressed_once_the_first_visitor_has_it(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.5)
    server._smaller.cache_clear()
    path, whole = "/bundles/color/decoder.onnx", (bundle.find("color").folder / "decoder.onnx").read_bytes()
    address = serve("color")
    status, headers, body = ask(address, path, Accept_Encoding="gzip, br")
    assert (status, body, headers["vary"]) == (200, whole, "Accept-Encoding")
    assert "content-encoding" not in headers
    tags = {headers["etag"]}
    end = time.monotonic() + 60
    while "content-encoding" not in headers and time.monotonic() < end:
        time.sleep(0.1)
        _, headers, body = ask(address, path, Accept_Encoding="gzip, br")
    assert headers["content-encoding"] == "br"
    assert brotli.decompress(body) == whole
    assert len(body) < 0.7 * len(whole), "the weights are rounded to steps"
    tags.add(headers["etag"])
    assert len(tags) == 2
    assert ask(address, path, Accept_Encoding="br", If_None_Match=headers["etag"])[0] == 304
    assert ask(address, path)[2] == whole, "who does not take Brotli gets it as it is"
    assert ask(address, path, Accept_Encoding="br", Range="bytes=5-9")[::2] == (206, whole[5:10])


def test_a_network_comes_in_ranges_and_head_has_no_body(address: str) -> None:
    whole = (bundle.find("classic").folder / "decoder.onnx").read_bytes()
    status, headers, body = ask(address, "/bundles/classic/decoder.onnx", Range="bytes=100-199")
    assert (status, body) == (206, whole[100:200])
    assert headers["content-range"] == f"bytes 100-199/{len(whole)}"
    status, headers, body = ask(address, "/bundles/classic/decoder.onnx", method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(whole)), b"")
    assert ask(address, "/", method="POST")[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/../../../../etc/passwd",
        "/%2e%2e/server.py",
        "/..%2fserver.py",
        "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/..%5cserver.py",
        "/bundles/classic/../../../server.py",
        "/bundles/classic/%2e%2e/classic/manifest.json",
        "//etc/passwd",
        "/etc/passwd%00.js",
        "/bundles/",
        "/bundles/classic/",
        "/vendor/",
        "/" + 5000 * "a",
    ],
)
def test_nothing_but_the_page_can_be_reached(address: str, path: str) -> None:
    status, headers, body = ask(address, path)
    assert status == 404
    assert b"import" not in body
    assert b"root:" not in body
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.skipif(os.name == "nt", reason="making a symbolic link needs rights there")
def test_a_link_out_of_the_folder_is_no_part_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = tmp_path / "web"
    web.mkdir()
    (web / "index.html").write_text("<html>")
    (tmp_path / "secret.js").write_text("secret")
    (web / "link.js").symlink_to(tmp_path / "secret.js")
    monkeypatch.setattr(site, "WEB", web)
    page = site.assets([bundle.find("classic")], 0)
    assert "index.html" in page
    assert "link.js" not in page


def test_another_name_for_this_machine_is_refused(address: str) -> None:
    status, headers, body = ask(address, "/bundles/index.json", Host="evil.example:8000")
    assert (status, body) == (400, b"Invalid host header")
    assert headers["x-content-type-options"] == "nosniff"
    listener = server.listen("127.0.0.1", 0)
    assert server.is_loopback(listener)
    listener.close()


def test_the_index_names_the_bundles_and_the_first_face_is_the_seeds(address: str, tiny_bundle: Path) -> None:
    index = json.loads(ask(address, "/bundles/index.json")[2])
    starts = {"tiny": [FIRST_SEED], "classic": [FIRST_SEED]}
    assert index == {"default": "tiny", "names": ["tiny", "classic"], "seed": FIRST_SEED, "starts": starts}
    model = mf.load(tiny_bundle)
    shown = np.asarray(Image.open(io.BytesIO(ask(address, "/bundles/tiny/face.png")[2])))
    assert np.array_equal(shown, to_uint8(model.decode(model.sample(1, FIRST_SEED)))[0, :, :, 0])
    manifest = json.loads(ask(address, "/bundles/tiny/manifest.json")[2])
    assert len(ask(address, "/bundles/tiny/decoder.onnx")[2]) == manifest["files"]["decoder.onnx"]["bytes"]


def test_a_damaged_bundle_is_said_and_the_rest_is_served(serve: Serve, bundle_copy: Path) -> None:
    (bundle_copy / "decoder.onnx").write_bytes(b"damaged")
    (bundle_copy / "encoder.onnx").unlink()
    address = serve(bundle_copy)
    for path, words in (("face.png", "decoder.onnx has 7 bytes, expected"), ("encoder.onnx", "No such file")):
        status, headers, body = ask(address, f"/bundles/tiny/{path}")
        assert status == 500
        assert words in body.decode()
        assert headers["x-content-type-options"] == "nosniff"
    assert ask(address, "/bundles/tiny/manifest.json")[0] == 200


def test_bundles_get_different_folders_that_fit_an_address(tiny_bundle: Path) -> None:
    def named(name: str) -> bundle.Bundle:
        return bundle.Bundle(tiny_bundle, {"name": name})

    shown = [named(name) for name in ("tiny", "tiny", "../my faces?", "..", "index.json", "tiny-2")]
    assert site.folder_names(shown) == ["tiny", "tiny-2", "my-faces", "bundle", "index.json-2", "tiny-2-2"]


# --- the address


def test_a_port_in_use_is_said_in_one_line(command: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("web", "--no-browser", "--port", port)
        assert done.returncode == 1
        assert done.stderr == (
            f"morphing-faces: --port {port} is in use by another program; "
            "choose another, or leave --port out for any free one\n"
        )


def test_without_a_port_another_is_found_when_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(server, "PORT", taken.getsockname()[1])
        listener = server.listen("127.0.0.1", None)
        port = listener.getsockname()[1]
        assert port != server.PORT
        assert server.url(listener) == f"http://127.0.0.1:{port}/"
        listener.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: no such address"),
        (["--host", "192.0.2.7"], "--host 192.0.2.7: this machine does not have that address"),
        (["--seed", "-1"], "seed -1: must be a whole number"),
        (["-b", "clasic"], "did you mean 'classic'"),
    ],
)
def test_wrong_words_get_one_line(command: Any, arguments: list[str], words: str) -> None:
    done = command("web", "--no-browser", *arguments)
    assert done.returncode != 0
    assert done.stderr.startswith("morphing-faces: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals, and a shell script for a browser")
def test_web_opens_the_browser_and_leaves_on_ctrl_c(tiny_bundle: Path, tmp_path: Path) -> None:
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened.part && mv {tmp_path}/opened.part {tmp_path}/opened\n')
    script.chmod(0o755)
    program = subprocess.Popen(
        [sys.executable, "-u", "-m", "morphing_faces", "web", "-b", str(tiny_bundle), "--seed", "5"],
        env={**os.environ, "BROWSER": str(script)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    said = re.search(r"http://127\.0\.0\.1:\d+/", program.stdout.readline())
    assert said
    index = json.loads(ask(said[0], "/bundles/index.json")[2])
    assert index["default"] == "tiny"
    assert index["seed"] == 5
    assert set(index["names"]) == {"tiny", *bundle.names()}
    assert ask(said[0], "/", Host="evil.example")[0] == 400
    slow = socket.create_connection(("127.0.0.1", urlsplit(said[0]).port or 0))
    slow.sendall(b"GET /bundles/classic/encoder.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert slow.recv(100).startswith(b"HTTP/1.1 200")  # the rest is never read: the program leaves all the same
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=30)
    slow.close()
    assert (program.returncode, errors) == (0, "")
    assert (tmp_path / "opened").read_text().strip() == said[0]


# --- as plain files


@pytest.fixture(scope="module")
def written(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with the tiny bundle alone. Not to be changed."""
    out = tmp_path_factory.mktemp("site") / "site"
    site.write(out, [bundle.find(tiny_bundle)], FIRST_SEED)
    return out


def test_the_site_holds_what_the_server_serves(written: Path, serve: Serve, tiny_bundle: Path) -> None:
    address = serve(tiny_bundle)
    listed = json.loads((written / "site.json").read_text())["files"]
    assert {"index.html", WASM, "bundles/tiny/decoder.onnx", "bundles/tiny/face.png"} <= set(listed)
    for name in listed:
        if name != "_headers" and not name.endswith((".br", ".gz")):  # what a static host is given beside the page
            assert (written / name).read_bytes() == ask(address, f"/{name}")[2], name
    assert not list(written.rglob("*.d.ts"))


def test_the_compressed_neighbours_are_the_same_files(written: Path) -> None:
    compressed = [path for path in written.rglob("*") if path.suffix in (".br", ".gz")]
    assert {f"{WASM}.br", f"{WASM}.gz", "model.js.br", "bundles/tiny/decoder.onnx.br"} <= {
        path.relative_to(written).as_posix() for path in compressed
    }
    for path in compressed:
        content = path.read_bytes()
        plain = brotli.decompress(content) if path.suffix == ".br" else gzip.decompress(content)
        assert plain == path.with_suffix("").read_bytes()
        assert len(content) < len(plain)


def test_the_headers_file_says_what_the_server_says(written: Path) -> None:
    rules: dict[str, list[str]] = {}
    for line in (written / "_headers").read_text().splitlines():
        if line.startswith(" "):
            rules[list(rules)[-1]].append(line.strip())
        else:
            rules[line] = []
    assert rules.pop("/*") == [f"{name}: {value}" for name, value in site.HEADERS.items()]
    networks = {"/bundles/tiny/decoder.onnx", "/bundles/tiny/encoder.onnx", "/finder/finder.onnx"}
    assert set(rules) == {"/vendor/*", *networks}
    assert set(map(tuple, rules.values())) == {("Cache-Control: public, max-age=31536000, immutable",)}


def test_the_examples_in_the_documentation_send_the_same_headers() -> None:
    text = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    for server_name in ("nginx", "apache"):
        example = text.split(f"```{server_name}\n")[1].split("```")[0]
        for name, value in site.HEADERS.items():
            if name != "Permissions-Policy":
                assert re.search(rf'{name} "?{re.escape(value)}"?( always;)?\n', example), (server_name, name)
        for policy in (site.FOREVER, site.REVALIDATE):
            assert f'"{policy}"' in example


def test_a_site_replaces_only_a_site(
    command: Any, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_uncompressed(monkeypatch)  # they show nothing here
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear")
    for flags, words in ((["mine"], "already exists"), (["mine", "--overwrite"], "was not made by morphing-faces")):
        done = command("site", *flags, "-b", tiny_bundle)
        assert done.returncode == 1
        assert words in done.stderr
        assert [path.name for path in mine.iterdir()] == ["letter.txt"]
    done = command("site", "out", "-b", tiny_bundle, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert re.match(r"wrote \d+ files, [\d.]+ MB, to out", done.stdout)
    (tmp_path / "out" / "old.txt").write_text("old")
    assert command("site", "out", "-b", tiny_bundle).returncode == 1
    done = command("site", "out", "-b", tiny_bundle, "--overwrite")
    assert "'old.txt'" in done.stderr, "what this command did not write is never removed"
    (tmp_path / "out" / "old.txt").unlink()
    assert command("site", "out", "-b", tiny_bundle, "-b", "classic", "--overwrite").returncode == 0
    index = json.loads((tmp_path / "out" / "bundles" / "index.json").read_text())
    assert (index["default"], index["names"]) == ("tiny", ["tiny", "classic"])


def test_a_damaged_bundle_writes_nothing(command: Any, bundle_copy: Path, tmp_path: Path) -> None:
    encoder = bundle_copy / "encoder.onnx"
    encoder.write_bytes(encoder.read_bytes()[:-1])
    done = command("site", "out", "-b", bundle_copy)
    assert done.returncode == 1
    assert "encoder.onnx has" in done.stderr
    assert not (tmp_path / "out").exists()


# --- the vendored libraries


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/vendor.py, on a copy of the vendored folder that a test may damage."""
    spec = importlib.util.spec_from_file_location("vendor", ROOT / "scripts" / "vendor.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    copy = shutil.copytree(module.VENDOR, tmp_path / "vendor")
    monkeypatch.setattr(module, "VENDOR", copy)
    return module


def test_the_vendored_libraries_are_those_that_package_json_pins() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "vendor.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lock = json.loads((ROOT / "package-lock.json").read_text())
    for name in ("onnxruntime-web", "gifenc", "typescript"):
        assert lock["packages"][f"node_modules/{name}"]["integrity"].startswith("sha512-")
    assert "http" not in json.dumps({name: entry.get("resolved") for name, entry in lock["packages"].items()})


def test_a_change_to_a_vendored_file_is_found(vendor: ModuleType) -> None:
    folder = next(vendor.VENDOR.glob("onnxruntime-web-*"))
    assert vendor.check() == []
    module = folder / "ort.wasm.min.mjs"
    module.write_bytes(module.read_bytes() + b" ")
    code = folder / "ort-wasm-simd-threaded.wasm.br"
    code.write_bytes(brotli.compress(b"\0asm", quality=1))
    (folder / "LICENSE").unlink()
    (folder / "more.js").write_text("")
    faults = "\n".join(vendor.check())
    for words in (
        "ort.wasm.min.mjs has bytes",
        "ort-wasm-simd-threaded.wasm.br has bytes",
        "ort-wasm-simd-threaded.wasm has bytes 4",
        "LICENSE is missing",
        "more.js is not in vendor.json",
    ):
        assert words in faults
    (vendor.VENDOR / "old-1.0").mkdir()
    assert "package.json pins" in vendor.check()[0]


def test_every_module_of_the_page_is_asked_for_at_once() -> None:
    """Else a browser learns of them one after the other, and the runtime starts later."""
    folder = files("morphing_faces").joinpath("web")
    page = folder.joinpath("index.html").read_text(encoding="utf-8")
    asked = set(re.findall(r'(?:href|src)="([a-z0-9-]+\.js)"', page))
    started = {"worker.js", "service-worker.js"}  # workers, not modules of the page
    assert asked == {entry.name for entry in folder.iterdir() if entry.name.endswith(".js")} - started

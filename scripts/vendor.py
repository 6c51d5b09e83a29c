"""Fetch the page's runtime, ONNX Runtime Web, at the version that package.json pins, and store it in the package.

    python scripts/vendor.py            fetch with npm (checked against package-lock.json), compress, write
    python scripts/vendor.py --check    compare what is there with vendor.json; offline, quick

The compiled code (.wasm) is stored compressed with Brotli, to keep the package small; browsers take it as it is.
vendor.json holds the SHA-256 of every file: of the plain content, which the page checks, and of what is stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import brotli

HERE = Path(__file__).resolve().parent.parent
VENDOR = HERE / "src" / "morphing_faces" / "web" / "vendor"
PACKAGE = "onnxruntime-web"
# WebAssembly on the processor, then the build that adds WebGPU: for each its module, what that imports, and the code.
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.jspi.min.mjs",
    "ort-wasm-simd-threaded.jspi.mjs",
    "ort-wasm-simd-threaded.jspi.wasm",
)
# The npm package carries no licence file; the Python package of the same release does.
NOTICES = ("LICENSE", "ThirdPartyNotices.txt")
BROTLI = {"quality": 11, "lgwin": 24}


def pinned() -> str:
    """The version in package.json."""
    manifest = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    return str(manifest["devDependencies"][PACKAGE])


def entry(content: bytes, stored: bytes | None = None) -> dict[str, Any]:
    """What vendor.json says of a file: its bytes and SHA-256, and the same of its compressed form if it has one."""
    record: dict[str, Any] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if stored is not None:
        record["br"] = {"bytes": len(stored), "sha256": hashlib.sha256(stored).hexdigest()}
    return record


def fetch() -> None:
    """Write the vendored folder anew."""
    version = pinned()
    target = VENDOR / f"{PACKAGE}-{version}"
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    dist = HERE / "node_modules" / PACKAGE / "dist"
    with tempfile.TemporaryDirectory(dir=VENDOR.parent) as name:
        folder = Path(name) / target.name
        folder.mkdir()
        files: dict[str, Any] = {}
        for file in FILES:
            content = (dist / file).read_bytes()
            stored = None
            if file.endswith(".wasm"):
                print(f"compressing {file}, which takes about a minute ...", flush=True)
                stored = brotli.compress(content, **BROTLI)
                (folder / f"{file}.br").write_bytes(stored)
            else:
                (folder / file).write_bytes(content)
            files[file] = entry(content, stored)
        for notice, content in notices(version).items():
            (folder / notice).write_bytes(content)
            files[notice] = entry(content)
        record = {"package": PACKAGE, "version": version, "files": files}
        (folder / "vendor.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(VENDOR, ignore_errors=True)
        VENDOR.mkdir()
        folder.rename(target)
    print(f"wrote {target}")


def notices(version: str) -> dict[str, bytes]:
    """The licence and the notices of the components inside, from the Python package of the same release."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--only-binary=:all:", "--dest", folder]
        subprocess.run([*pip, f"onnxruntime=={version}"], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return {name: wheel.read(f"onnxruntime/{name}") for name in NOTICES}


def check() -> list[str]:
    """What is wrong with the vendored folder, a line for each fault."""
    version = pinned()
    folder = VENDOR / f"{PACKAGE}-{version}"
    found = sorted(path.name for path in VENDOR.iterdir()) if VENDOR.is_dir() else []
    if found != [folder.name]:
        return [f"{VENDOR} holds {', '.join(found) or 'nothing'}, expected {folder.name} (package.json pins {version})"]
    record = json.loads((folder / "vendor.json").read_text(encoding="utf-8"))
    faults = []
    if (record["package"], record["version"]) != (PACKAGE, version):
        faults.append(f"vendor.json says {record['package']} {record['version']}, expected {PACKAGE} {version}")
    if set(record["files"]) != {*FILES, *NOTICES}:
        faults.append(f"vendor.json lists {sorted(record['files'])}, expected {sorted((*FILES, *NOTICES))}")
    expected = {"vendor.json"}
    for name, listed in record["files"].items():
        stored = folder / (f"{name}.br" if "br" in listed else name)
        expected.add(stored.name)
        if not stored.is_file():
            faults.append(f"{stored} is missing")
            continue
        content = stored.read_bytes()
        if "br" in listed:
            faults += _difference(stored, content, listed["br"])
            try:
                content = brotli.decompress(content)
            except brotli.error:
                faults.append(f"{stored} is not valid Brotli")
                continue
        faults += _difference(folder / name, content, listed)
    extra = {path.name for path in folder.iterdir()} - expected
    faults += [f"{folder / name} is not in vendor.json" for name in sorted(extra)]
    return faults


def _difference(path: Path, content: bytes, listed: dict[str, Any]) -> list[str]:
    found = entry(content)
    wrong = [key for key in ("bytes", "sha256") if found[key] != listed[key]]
    return [f"{path} has {key} {found[key]}, expected {listed[key]}" for key in wrong[:1]]


def main() -> int:
    """Fetch, or only check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare what is there with vendor.json")
    if not parser.parse_args().check:
        fetch()
    faults = check()
    for fault in faults:
        print(f"{fault}; run scripts/vendor.py", file=sys.stderr)
    if not faults:
        print(f"{PACKAGE} {pinned()} is whole")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

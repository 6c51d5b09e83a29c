"""Fetch the libraries that the page uses, at the versions that package.json pins, and store them in the package.

    python scripts/vendor.py            fetch with npm (checked against package-lock.json), compress, write
    python scripts/vendor.py --check    compare what is there with each vendor.json; offline, quick

Compiled code (.wasm) is stored compressed with Brotli, to keep the package small; browsers take it as it is.
A vendor.json holds the SHA-256 of every file: of the plain content, which the page checks, and of what is stored.
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
# Of each package, the files that the page needs.
PACKAGES = {
    # WebAssembly on the processor, then the build that adds WebGPU: a module, what that imports, and the code.
    "onnxruntime-web": (
        "dist/ort.wasm.min.mjs",
        "dist/ort-wasm-simd-threaded.mjs",
        "dist/ort-wasm-simd-threaded.wasm",
        "dist/ort.jspi.min.mjs",
        "dist/ort-wasm-simd-threaded.jspi.mjs",
        "dist/ort-wasm-simd-threaded.jspi.wasm",
    ),
    "gifenc": ("dist/gifenc.esm.js", "LICENSE.md"),
    # Writes films as MP4 and WebM; the page asks for it when the first film is made.
    "mediabunny": ("dist/bundles/mediabunny.min.mjs", "LICENSE"),
    # Checks what came over plain HTTP, where browsers have no crypto.subtle.
    "js-sha256": ("build/sha256.min.mjs", "LICENSE.txt"),
}
# This npm package carries no licence file; the Python package of the same release does.
NOTICES = {"onnxruntime-web": ("onnxruntime", ("LICENSE", "ThirdPartyNotices.txt"))}
# tsc wants types beside the module: gifenc comes without, those of mediabunny are 6,000 lines, js-sha256's lie elsewhere.
TYPES = {
    "gifenc": HERE / "scripts" / "gifenc.esm.d.ts",
    "mediabunny": HERE / "scripts" / "mediabunny.min.d.mts",
    "js-sha256": HERE / "scripts" / "sha256.min.d.mts",
}
BROTLI = {"quality": 11, "lgwin": 24}


def pinned() -> dict[str, str]:
    """The version of each package in package.json."""
    manifest = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    return {name: str(manifest["devDependencies"][name]) for name in PACKAGES}


def file_names(package: str) -> list[str]:
    """What vendor.json of a package lists."""
    _, notices = NOTICES.get(package, ("", ()))
    types = [TYPES[package].name] if package in TYPES else []
    return sorted([*(Path(path).name for path in PACKAGES[package]), *types, *notices])


def entry(content: bytes, stored: bytes | None = None) -> dict[str, Any]:
    """What vendor.json says of a file: its bytes and SHA-256, and the same of its compressed form if it has one."""
    record: dict[str, Any] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if stored is not None:
        record["br"] = {"bytes": len(stored), "sha256": hashlib.sha256(stored).hexdigest()}
    return record


def fetch() -> None:
    """Write the vendored folders anew."""
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    with tempfile.TemporaryDirectory(dir=VENDOR.parent) as name:
        new = Path(name) / VENDOR.name
        for package, version in pinned().items():
            folder = new / f"{package}-{version}"
            folder.mkdir(parents=True)
            _write(package, version, folder)
        shutil.rmtree(VENDOR, ignore_errors=True)
        new.rename(VENDOR)
    print(f"wrote {VENDOR}")


def _write(package: str, version: str, folder: Path) -> None:
    files: dict[str, Any] = {}
    paths = [HERE / "node_modules" / package / path for path in PACKAGES[package]]
    for path in [*paths, TYPES[package]] if package in TYPES else paths:
        content, file, stored = path.read_bytes(), path.name, None
        if file.endswith(".wasm"):
            print(f"compressing {file}, which takes about a minute ...", flush=True)
            stored = brotli.compress(content, **BROTLI)
            (folder / f"{file}.br").write_bytes(stored)
        else:
            (folder / file).write_bytes(content)
        files[file] = entry(content, stored)
    for notice, content in _notices(package, version).items():
        (folder / notice).write_bytes(content)
        files[notice] = entry(content)
    record = {"package": package, "version": version, "files": files}
    (folder / "vendor.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _notices(package: str, version: str) -> dict[str, bytes]:
    """Licence and notices that the npm package lacks, from the Python package of the same release."""
    if package not in NOTICES:
        return {}
    source, names = NOTICES[package]
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--only-binary=:all:", "--dest", folder]
        subprocess.run([*pip, f"{source}=={version}"], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return {name: wheel.read(f"{source}/{name}") for name in names}


def check() -> list[str]:
    """What is wrong with the vendored folders, a line for each fault."""
    expected = sorted(f"{package}-{version}" for package, version in pinned().items())
    found = sorted(path.name for path in VENDOR.iterdir()) if VENDOR.is_dir() else []
    if found != expected:
        return [f"{VENDOR} holds {', '.join(found) or 'nothing'}, package.json pins {', '.join(expected)}"]
    return [fault for package, version in pinned().items() for fault in _faults(package, version)]


def _faults(package: str, version: str) -> list[str]:
    folder = VENDOR / f"{package}-{version}"
    record = json.loads((folder / "vendor.json").read_text(encoding="utf-8"))
    faults = []
    if (record["package"], record["version"]) != (package, version):
        faults.append(f"vendor.json says {record['package']} {record['version']}, expected {package} {version}")
    if sorted(record["files"]) != file_names(package):
        faults.append(f"vendor.json lists {sorted(record['files'])}, expected {file_names(package)}")
    stored_names = {"vendor.json"}
    for name, listed in record["files"].items():
        stored = folder / (f"{name}.br" if "br" in listed else name)
        stored_names.add(stored.name)
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
    extra = {path.name for path in folder.iterdir()} - stored_names
    return faults + [f"{folder / name} is not in vendor.json" for name in sorted(extra)]


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
        print(", ".join(f"{name} {version}" for name, version in pinned().items()), "are whole")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

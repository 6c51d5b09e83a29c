"""Set everything up in .venv, then run the demo or the tests. Needs Python 3.10 or newer with pip, nothing else.

    python3 run.py demo [ARGUMENTS]     the window (the arguments go to morphing-faces)
    python3 run.py test [ARGUMENTS]     format, lint, types and tests (the arguments go to pytest)

The types of the page are checked where npm is, its tests run where Chromium is.
On Windows: py run.py demo. A second run starts at once: what is installed is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
MARK = VENV / "installed.txt"


def main() -> int:
    """Set up what the word asks for, run it, and return its exit code."""
    word, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if word not in ("demo", "test"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        set_up(["test"] if word == "test" else [])
    except subprocess.CalledProcessError as error:
        print(f"setting up failed at: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        print("What it said stands above. Often the network is the cause: run the same command again.", file=sys.stderr)
        return 1
    if word == "demo":
        return subprocess.call([PYTHON, "-m", "morphing_faces", *arguments])
    for check in (["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"]):
        print("+", *check, flush=True)
        if code := subprocess.call([PYTHON, "-m", *check], cwd=HERE):
            return code
    if code := check_page_types():
        return code
    # Three keep two cores busy while one of them waits for a browser or a process.
    workers = [] if any(argument.startswith("-n") for argument in arguments) else ["-n", "3", "--dist", "loadfile"]
    print("+ pytest", *workers, *arguments, flush=True)
    return subprocess.call([PYTHON, "-m", "pytest", *workers, *arguments], cwd=HERE)


def check_page_types() -> int:
    """Check the types of the page's modules with tsc, which needs npm: skipped without it, but never in CI."""
    npm = shutil.which("npm")
    if npm is None:
        missing = "npm is not installed (it comes with Node.js)"
        if os.environ.get("CI"):
            print(f"{missing}, and nothing is skipped in CI", file=sys.stderr)
            return 1
        print(f"- tsc skipped: {missing}", flush=True)
        return 0
    print("+ tsc", flush=True)
    lock, mark = (HERE / "package-lock.json").read_text(), HERE / "node_modules" / "installed-lock.json"
    if not mark.is_file() or mark.read_text() != lock:
        if code := subprocess.call([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE):
            print(
                "npm could not fetch the type checker. Often the network is the cause: run it again.", file=sys.stderr
            )
            return code
        mark.write_text(lock)
    return subprocess.call([npm, "run", "--silent", "types"], cwd=HERE)


def set_up(extras: list[str]) -> None:
    """Make .venv and install the project into it, unless that is done already."""
    pins = HERE / "constraints.txt"
    version = hashlib.sha256(pins.read_bytes() + (HERE / "pyproject.toml").read_bytes()).hexdigest()
    done = MARK.read_text().split() if MARK.is_file() and PYTHON.is_file() else []
    if done[:1] == [version] and set(extras) <= set(done[1:]):
        return
    if not PYTHON.is_file():
        print(f"Making {VENV} ...", flush=True)
        make_environment()
    extras = sorted({*extras, *(done[1:] if done[:1] == [version] else [])})
    wanted = [*extras, "qt"] if subprocess.call([PYTHON, "-c", "import tkinter"], stderr=subprocess.DEVNULL) else extras
    print("Installing; the first time takes a few minutes ...", flush=True)
    target = f"{HERE}[{','.join(wanted)}]" if wanted else str(HERE)
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--constraint", pins, "--editable", target], check=True)
    MARK.write_text("\n".join([version, *extras]) + "\n")


def make_environment() -> None:
    """Make .venv; where Python came without venv (Debian splits it off), with virtualenv fetched by pip."""
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, check=False)
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    tools = HERE / ".bootstrap"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", tools, "virtualenv"], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tools)}
    subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", VENV], env=environment, check=True)


if __name__ == "__main__":
    raise SystemExit(main())

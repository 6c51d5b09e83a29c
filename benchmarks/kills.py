"""Kills prepare, train, export and site at random moments; after each, the same command must end with the same bytes.

    python benchmarks/kills.py [--kills 10] [--seed 0]

So many kills (SIGKILL) of each command. What is compared: every byte that prepare, export and site write, and of a run the
averaged weights, for a checkpoint also holds how long the training took. Nothing may be left beside what was written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TINY = {"name": "tiny", "latent_size": 16, "hidden": [32], "batch": 16, "steps": 400, "warmup": 20, "kl_warmup": 10}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "morphing_faces", *map(str, words)]


def digest(folder: Path) -> str:
    """Of all that is in a folder; of a run, of its averaged weights."""
    if (folder / "checkpoint.pt").is_file():
        from morphing_faces.train import checkpoint

        average = checkpoint.load(folder)["trainer"]["average"]
        parts = [name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(average.items())]
        rows = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
        return hashlib.sha256(b"".join(parts) + str(rows[-1]).encode()).hexdigest()
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            whole.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def run(words: list[str], folder: Path) -> float:
    """Let a command end, and return how long it took."""
    began = time.monotonic()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        faces = np.random.default_rng(0).integers(0, 256, (600, 24, 24, 3), dtype=np.uint8)
        np.save(base / "faces.npy", faces)
        (base / "tiny.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in TINY.items()))
        commands = {
            "prepare": lambda out: command("prepare", "faces.npy", "--size", 16, "-o", out),
            "train": lambda out: command(
                "train",
                "--recipe",
                "tiny.toml",
                "--set",
                "checkpoint_minutes=0.01",
                "--data",
                "whole-prepare/out",
                "-o",
                out,
            ),
            "export": lambda out: command("export", "whole-train/out", "--data", "whole-prepare/out", "-o", out),
            "site": lambda out: command("site", out, "-b", "whole-export/out"),
        }
        for verb, make in commands.items():
            (base / f"whole-{verb}").mkdir()
            seconds = run(make(f"whole-{verb}/out"), base)
            expected = digest(base / f"whole-{verb}" / "out")
            hit = 0
            for kill in range(options.kills):
                place = base / f"{verb}-{kill}"
                place.mkdir()
                out = f"{place.name}/out"
                process = subprocess.Popen(
                    make(out), cwd=base, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
                time.sleep(rng.uniform(0.1, 1) * seconds)
                if process.poll() is None:
                    hit += 1
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not (place / "out").exists() or verb == "train":
                    run(make(out), base)
                left = sorted(path.name for path in place.iterdir())
                inside = sorted(path.name for path in (place / "out").glob(".*"))
                if left != ["out"] or inside:
                    raise SystemExit(f"{verb}, kill {kill}: left beside: {left}, inside: {inside}")
                if digest(place / "out") != expected:
                    raise SystemExit(f"{verb}, kill {kill}: other bytes")
            print(
                f"{verb:<8} {options.kills} kills, {hit} of them while it ran ({seconds:.1f} s): the same bytes",
                flush=True,
            )


if __name__ == "__main__":
    main()

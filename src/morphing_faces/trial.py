"""A stranger's network made simpler by ONNX Runtime, in a process of its own whose memory and time are bounded.

What a graph computes of its own sizes becomes constant, and what is constant is computed. A graph of a few hundred bytes
can ask for any amount of memory on the way.

    python -m morphing_faces.trial NETWORK.onnx SIMPLER.onnx     prints nothing, or what is wrong
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from .errors import UserError, one_line, reason

MEMORY = 4 << 30  # bytes, and four times the file's own
SECONDS = 120


def simplified(network: Path, simpler: Path, title: str) -> None:
    """Write a simpler form of a network. Raises ``UserError``, which calls the network ``title``."""
    command = [sys.executable, "-m", "morphing_faces.trial", str(network), str(simpler)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{title} does not start within {SECONDS} s: export it with constants folded") from None
    if done.returncode or not simpler.is_file():
        raise UserError(f"{title} does not run: {one_line(done.stdout) or 'it brings its process down'}")


def main() -> None:
    """The process."""
    network, simpler = sys.argv[1:]
    with contextlib.suppress(ImportError, ValueError):  # Windows has no such bound; a smaller one may be set already
        import resource

        most = MEMORY + 4 * Path(network).stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = simpler
        onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common base class
        words = reason(error)
        memory = isinstance(error, MemoryError) or any(word in words for word in ("allocate", "bad_alloc"))
        print(f"it needs more than {MEMORY >> 30} GB of memory" if memory else words)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

"""Does adopt find the coordinates of a shipped bundle again, after they were turned away?

    python benchmarks/adopt.py [--bundle color] [--decodes 16384]

Prints the cosine of each of the first dimensions with the direction found in its place, and the time. Directions whose shares of
the visible change are about the same are told apart by chance alone, as the axes of a circle are; so it prints, too, how much
of each direction found lies among the dimensions whose shares are within 15% of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from morphing_faces import bundle as bundles
from morphing_faces.adopt import DECODES, adopt
from morphing_faces.network_file import Joined

SHOWN = 8  # dimensions
ALIKE = 0.15  # shares that differ by less than this part are about the same


def turned(name: str) -> tuple[bytes, np.ndarray]:
    """A bundle's decoder whose latent was turned at random, and the turn: u = turn z. NCHW, -1 to 1."""
    shipped = bundles.find(name)
    k, (height, width, channels) = shipped.latent_size, shipped.image_shape
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((k, k)))[0]
    joined = Joined(onnx.load_model_from_string(shipped.read("decoder.onnx")))
    joined.add("MatMul", ["z", joined.constant("turn", turn.T)], joined.inputs[0])
    for other in joined.inputs[1:]:  # with shape, the latent is read twice
        joined.add("Identity", [joined.inputs[0]], other)
    joined.add_given()
    double = joined.add("Mul", [joined.outputs[0], joined.constant("two", 2.0)], "doubled")
    signed = joined.add("Sub", [double, joined.constant("one", 1.0)], "signed")
    joined.add("Transpose", [signed], "x", perm=[0, 3, 1, 2])
    model = joined.model({"z": ["n", k]}, {"x": ["n", channels, height, width]}, "benchmarks/adopt.py")
    return model.SerializeToString(), turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="color")
    parser.add_argument("--decodes", type=int, default=DECODES)
    arguments = parser.parse_args()
    content, turn = turned(arguments.bundle)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoder.onnx"
        path.write_bytes(content)
        began = time.perf_counter()
        adopt(path, Path(folder) / "out", decodes=arguments.decodes, say=print)
        seconds = time.perf_counter() - began
        graph = onnx.load(Path(folder) / "out" / "decoder.onnx").graph
    matrix = numpy_helper.to_array(next(each for each in graph.initializer if each.name == "matrix")).T
    cosines = turn @ matrix
    shares = np.array([each["share"] for each in bundles.find(arguments.bundle).manifest["dimensions"]])
    alike = np.abs(shares[:, None] - shares[:SHOWN]) < ALIKE * shares[:SHOWN]
    among = np.sqrt(np.where(alike, cosines[: len(shares), :SHOWN] ** 2, 0).sum(0))
    print("shares: ", *(f"{value:5.1%}" for value in shares[:SHOWN]))
    print("cosines:", *(f"{abs(value):.3f}" for value in cosines.diagonal()[:SHOWN]))
    print("among those alike:", *(f"{value:.3f}" for value in among))
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()

"""A decoder that somebody else trained -> a bundle: its latent in coordinates that people can use, its pictures in [0, 1].

``raw = mean + L R u``, with mean and L L' those of codes of real pictures (or 0 and I), and R the directions of
:mod:`.principal`, what changes the picture most first. All of it is a matrix in front of the given graph, which stays as
it is; behind it the pictures are turned into (n, height, width, channels) in [0, 1]. Needs no PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from . import __version__, noise
from .bundle import FORMAT
from .errors import UserError, reason
from .files import BUNDLE, output_folder, replace_folder
from .golden import golden_values
from .network_file import (
    FLOATS,
    Joined,
    Port,
    fixed_to_one,
    free_batch,
    opset_of,
    ports,
    read,
    sized,
)
from .onnx_guard import Cost, RefusedError, check
from .principal import BATCH, Directions, plan, principal_directions, steady_step
from .trial import simplified

INTERESTING = 29  # dimensions a person can pick
LATENTS, SIDES = (2, 2048), (16, 1024)  # smallest and largest latent, and side of a picture in pixels
RANGES = {"-1,1": (-1.0, 1.0), "0,1": (0.0, 1.0), "0,255": (0.0, 255.0)}
LOOKED_AT = 64  # typical pictures from which the range is found
DECODES, DECODES_LARGE = 16_384, 4_096  # pictures drawn to find the directions; the second where they are large
LARGE = 256  # pixels of a side
PIXELS = BATCH * 128 * 128  # of the pictures in hand at once
VALUES = 64_000_000  # numbers in all values of one call of the runtime: bounds the memory
SAME = 2e-3  # of the pictures' range: how far two ways to draw the same picture may be apart
FLATTEST = 1e-8  # of the largest variance of the codes: a direction with less is given that much

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
Run = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Layout:
    """How a graph writes or reads a picture: (height, width, channels), and whether channels come first."""

    shape: tuple[int, int, int]
    channels_first: bool

    def __str__(self) -> str:
        height, width, channels = self.shape
        return f"{width}x{height} {'RGB' if channels == 3 else 'grey'}, {'NCHW' if self.channels_first else 'NHWC'}"


@dataclass(frozen=True)
class Network:
    """A given graph that takes any number of rows, and its one input."""

    model: onnx.ModelProto
    port: Port
    row: tuple[int, ...]
    session: onnxruntime.InferenceSession
    chunk: int  # rows in one call

    def run(self, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of the input, flat or not -> all outputs, float32."""
        values = rows.reshape(-1, *self.row).astype(FLOATS[self.port.kind])
        return _run(self.session, values, self.chunk)


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of codes, as ``mean`` (k,) and ``factor`` (k, k) with factor factor' the covariance. float64."""

    mean: np.ndarray
    factor: np.ndarray


@dataclass(frozen=True)
class Given:
    """A given decoder: its file's ``model``, the ``network`` that is run, and the seconds that ``each`` picture takes."""

    model: onnx.ModelProto
    network: Network
    layout: Layout
    moments: Moments
    each: float

    @property
    def latent_size(self) -> int:
        return self.network.row[0]

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Points (n, latent_size) of N(0, I) -> what the graph draws of the codes there, as it draws it."""
        return self.network.run(self.moments.mean + x @ self.moments.factor.T)[0]


def adopt(
    decoder: Path,
    out: Path,
    *,
    encoder: Path | None = None,
    codes: Path | None = None,
    value_range: str | None = None,
    latent_size: int | None = None,
    decodes: int | None = None,
    name: str | None = None,
    licence: str = "not stated",
    overwrite: bool = False,
    say: Say = lambda words: None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Write the bundle of a decoder into the folder ``out`` and return its manifest.

    ``decoder`` takes (n, k) or (n, k, 1, 1), n free or fixed, and draws one picture a row, with channels first or last.
    ``encoder`` answers with the mean and the variance (or its logarithm or root) of a picture's code. ``codes``, an array
    (N, k) in an .npy file, are codes of real pictures: where they are, N(0, I) in the bundle's coordinates is.
    ``value_range`` is a key of ``RANGES``, found by looking where it is None. ``latent_size`` is for files that do not
    say it. ``decodes`` is how many pictures are drawn to find the directions. What was found is said to ``say``.

    Raises ``UserError`` with one line when something cannot be used; then nothing is written.
    """
    output_folder(out, BUNDLE, overwrite=overwrite)
    points = _codes(codes) if codes else None
    given = _given(decoder, points, latent_size, say)
    layout, k = given.layout, given.latent_size
    if points is not None and points.shape[1] != k:
        raise UserError(f"{codes} has codes of {points.shape[1]} numbers: {decoder} takes {k}")
    typical = given.pictures(noise.normal(0, 0, _looked_at(layout), k))
    if not np.isfinite(typical).all():
        raise UserError(f"{decoder} draws values that are not finite: train it again, or export it in float32")
    span, how = _range(typical, value_range, decoder)
    say(f"values from {span[0]:g} to {span[1]:g}, {how}")

    def whitened(x: np.ndarray) -> np.ndarray:
        """Pictures (n, height, width, channels), 0 to 1 where nothing is beyond the range."""
        pictures = given.pictures(x)
        pictures = pictures.transpose(0, 2, 3, 1) if layout.channels_first else pictures
        return (pictures - np.float32(span[0])) / np.float32(span[1] - span[0])

    batch = max(1, min(BATCH, PIXELS // layout.shape[0] ** 2))
    spend = plan(k, decodes or (DECODES_LARGE if max(layout.shape[:2]) > LARGE else DECODES))
    say(
        f"directions: {spend.decodes:,} pictures at {1000 * given.each:.3g} ms, about {_duration(spend.decodes * given.each)}"
    )
    step = steady_step(whitened, k, batch=batch)
    found = principal_directions(whitened, spend, step=step, batch=batch, progress=progress)
    if not found.share.any():
        raise UserError(f"{decoder} draws the same picture whatever its latent is: export the decoder that was trained")
    matrix = given.moments.factor @ found.rotation

    content = _decoder(given.network, given.moments.mean, matrix, layout, span).SerializeToString()
    decode = _runner(content, {"u": (1, k)}, decoder)
    _check_turned(decode, lambda u: whitened(u @ found.rotation.T.astype(np.float32)), k, decoder)
    files = {"decoder.onnx": content}
    figures: dict[str, Any] = {"share_of_first_29": round(float(found.share[:INTERESTING].sum()), 4)}
    sources: dict[str, Any] = {"decoder": _source(decoder, given.model)}
    encode = None
    if encoder:
        reading, meaning = _encoder(encoder, layout, k)
        say(f"{encoder}: {meaning}")
        content = _reader(reading, meaning, given.moments.mean, matrix, layout, span).SerializeToString()
        encode = _runner(content, {"picture": (1, *layout.shape)}, encoder)
        files["encoder.onnx"] = content
        figures["own_faces_psnr"] = round(_own_faces_psnr(decode, encode, layout, k), 2)
        say(f"its own faces, encoded and decoded: PSNR {figures['own_faces_psnr']:.1f} dB")
        sources["encoder"] = _source(encoder, reading.model)
    if codes and points is not None:
        sources["codes"] = {"file": codes.name, "shape": list(points.shape), "sha256": _sha256(codes)}
    golden = golden_values(k, lambda u: decode(u)[0], (lambda x: (encode(x)[0], encode(x)[1])) if encode else None)
    files["golden.json"] = (json.dumps(golden) + "\n").encode()
    manifest = _manifest(name or out.resolve().name, layout, found, files)
    manifest["training"] = {
        "adopted": sources,
        "values": {"range": list(span), "found": how},
        "codes": "of real pictures" if codes else "N(0, I)",
        "decodes": spend.decodes,
        "step": step,
        "made_by": f"morphing-faces {__version__}",
    }
    manifest["figures"] = figures
    manifest["licence"] = licence
    with replace_folder(out, BUNDLE, overwrite=overwrite) as folder:
        for file, content in files.items():
            (folder / file).write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _given(path: Path, points: np.ndarray | None, latent_size: int | None, say: Say) -> Given:
    """The decoder of a file, once it has drawn a picture; ``points`` (N, k) are codes of real pictures, if there are any."""
    model = read(path)
    port, result = _one_in_one_out(model, path)
    k = _latent_size(port, path, latent_size, points)
    _check_declared(result, path)
    row = (k, *(1 for _ in (port.shape or ())[2:]))
    network = _any_batch(model, port, row, str(path))
    rows = noise.normal(3, 0, 1, k)
    layout = _layout(network.run(rows)[0].shape, path)
    began = time.perf_counter()
    network.run(rows)
    each = time.perf_counter() - began
    say(f"{path}: {k} latent dimensions to {layout}, opset {opset_of(model)}")
    moments = _moments(points) if points is not None else Moments(np.zeros(k), np.eye(k))
    return Given(model, network, layout, moments, each)


def _looked_at(layout: Layout) -> int:
    """How many pictures of its size are looked at together."""
    return max(8, min(LOOKED_AT, 4 * PIXELS // layout.shape[0] ** 2))


def _check_turned(decode: Run, expected: Callable[[np.ndarray], np.ndarray], k: int, path: Path) -> None:
    """The bundle's decoder draws what the given one draws of the same latents, turned back."""
    u = noise.normal(1, 0, 8, k)
    gap = float(np.abs(decode(u)[0] - expected(u).clip(0, 1)).max())
    if gap > SAME:
        raise UserError(
            f"{path} draws pictures that differ by {gap:.2g} when its latent is turned: export it in float32"
        )


def _own_faces_psnr(decode: Run, encode: Run, layout: Layout, k: int) -> float:
    """PSNR in dB of faces that the decoder draws, encoded and decoded again."""
    own = decode(noise.normal(2, 0, _looked_at(layout), k))[0]
    again = decode(encode(own)[0])[0]
    return float(-10 * np.log10(max(float(np.square(own - again).mean()), 1e-10)))


# --- what the files say


def _one_in_one_out(model: onnx.ModelProto, path: Path) -> tuple[Port, Port]:
    inputs, outputs = ports(model)
    for found, what in ((inputs, "input, the latent"), (outputs, "output, the picture")):
        if len(found) != 1:
            names = ", ".join(str(each) for each in found[:4])
            raise UserError(f"{path} has {len(found)} ({names}): a decoder has one {what}")
    (port,), (result,) = inputs, outputs
    for each in (port, result):
        if each.kind not in FLOATS:
            raise UserError(f"{path}: {each} is not of floating point: export it in float32 or float16")
    if port.shape is None or len(port.shape) not in (2, 4) or any(size not in (1, None) for size in port.shape[2:]):
        raise UserError(f"{path}: {port} is no latent: its shape must be (n, k) or (n, k, 1, 1)")
    return port, result


def _latent_size(port: Port, path: Path, wanted: int | None, points: np.ndarray | None) -> int:
    assert port.shape is not None
    said = port.shape[1]
    k = said or wanted or (points.shape[1] if points is not None else None)
    if k is None:
        raise UserError(f"{path} does not say how long its latent is: say it with --latent-size")
    if wanted and k != wanted:
        raise UserError(f"--latent-size {wanted}: {path} takes {k}")
    least, most = LATENTS
    if not least <= k <= most:
        raise UserError(f"{path} has {k} latent dimensions: must be {least} to {most}")
    return k


def _check_declared(result: Port, path: Path) -> None:
    """What a file says of its output is believed when it is too much: it is not run then."""
    if result.shape is not None and (len(result.shape) != 4 or any((n or 0) > SIDES[1] for n in result.shape[1:])):
        raise UserError(f"{path}: {result} is no picture: {PICTURE}")


PICTURE = f"its shape must be (n, c, height, width) or (n, height, width, c), c 1 or 3, square, {SIDES[0]} to {SIDES[1]} pixels"


def _layout(shape: tuple[int, ...], path: Path) -> Layout:
    sides = range(SIDES[0], SIDES[1] + 1)
    if len(shape) == 4:
        for channels_first, (c, h, w) in ((True, shape[1:]), (False, (shape[3], shape[1], shape[2]))):
            if c in (1, 3) and h == w and h in sides:
                return Layout((h, w, c), channels_first)
    raise UserError(f"{path} draws {'x'.join(map(str, shape))}: {PICTURE}")


def layout_shape(layout: Layout) -> tuple[int, ...]:
    """One picture's shape as the graph has it."""
    height, width, channels = layout.shape
    return (channels, height, width) if layout.channels_first else layout.shape


def _codes(path: Path) -> np.ndarray:
    try:
        codes = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or 'it is not an .npy file'}") from None
    except Exception:  # what a damaged header raises is many things
        raise UserError(f"{path} is not an array of numbers: save it with numpy.save") from None
    if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.kind != "f":
        raise UserError(f"{path} must hold an array of floats (pictures, k), saved with numpy.save")
    if not np.isfinite(codes).all():
        raise UserError(f"{path} has codes that are not finite")
    if len(codes) <= codes.shape[1]:
        raise UserError(f"{path} has {len(codes)} codes of {codes.shape[1]} numbers: give more codes than numbers")
    return codes


def _moments(codes: np.ndarray) -> Moments:
    points = codes.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(points, rowvar=False))
    return Moments(points.mean(0), vectors * np.sqrt(np.maximum(values, FLATTEST * values[-1])))


# --- running them


def _start(model: onnx.ModelProto | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runner(content: bytes, inputs: dict[str, tuple[int, ...]], title: Path) -> Run:
    """How one of the bundle's own networks is run, once it is judged as whoever reads the bundle will judge it."""
    try:
        chunk = _rows_at_once(check(content, inputs))
    except RefusedError as error:
        raise UserError(f"{title} {error}") from None
    session = _start(content)
    return lambda values: _run(session, values.astype(np.float32), chunk)


def _rows_at_once(cost: Cost) -> int:
    return max(1, min(LOOKED_AT, VALUES // max(cost.values, 1)))


def _run(session: onnxruntime.InferenceSession, values: np.ndarray, chunk: int) -> list[np.ndarray]:
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: values[first : first + chunk]}) for first in range(0, len(values), chunk)]
    return [np.concatenate(outputs).astype(np.float32, copy=False) for outputs in zip(*parts, strict=True)]


def _any_batch(model: onnx.ModelProto, port: Port, row: tuple[int, ...], title: str) -> Network:
    """The graph made to take any number of rows, and judged: as it is, with its batch freed, or made simpler before.

    Whether a way is right is tried: rows together must give what they give alone.
    """
    assert port.shape is not None
    model = sized(model, row)
    refusals: list[str] = []
    forms = [] if port.shape[0] else [model]
    forms.append(free_batch(model))
    batch = port.shape[0] or 1
    rows = noise.normal(3, 0, 3, math.prod(row)).reshape(3, *row)
    for way in range(len(forms) + 1):
        if way == len(forms):  # nothing fits: sizes are computed in the graph, or it is none that may run
            if batch > 1:
                break
            forms.append(free_batch(_simpler(model, title)))
        form = forms[way]
        content = form.SerializeToString()
        try:
            cost = check(content, {port.name: (1, *row)})
        except RefusedError as error:
            refusals.append(str(error))
            continue
        try:
            network = Network(form, port, row, _start(content), max(3, _rows_at_once(cost)))
            alone = [network.run(each[None]) for each in rows]
            together = network.run(rows)
        except Exception as error:  # the runtime has no common base class
            refusals.append(f"does not run: {reason(error)}")
            continue
        apart = [np.concatenate(outputs) for outputs in zip(*alone, strict=True)]
        if not all(np.isfinite(each).all() for each in apart):
            raise UserError(f"{title} gives values that are not finite: train it again, or export it in float32")
        size = max(float(np.ptp(each)) for each in apart) or 1.0
        if all(a.shape == b.shape and np.abs(a - b).max() <= SAME * size for a, b in zip(together, apart, strict=True)):
            return network
        refusals.append(f"gives rows together what it does not give them alone, for its batch is built in as {batch}")
    raise UserError(f"{title} {refusals[-1]}: export it with a free batch size and plain operators")


def _simpler(model: onnx.ModelProto, title: str) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        network, simpler = Path(folder) / "network.onnx", Path(folder) / "simpler.onnx"
        network.write_bytes(fixed_to_one(model).SerializeToString())
        simplified(network, simpler, title)
        return onnx.load(simpler)


def _range(pictures: np.ndarray, wanted: str | None, path: Path) -> tuple[tuple[float, float], str]:
    """The values that black and white have, and how that is known. Pictures may go a little beyond."""
    low, dark, high = (float(value) for value in np.percentile(pictures, (0.5, 10, 99.5)))
    seen = f"typical pictures go from {low:.3g} to {high:.3g}"
    if wanted is not None:
        return RANGES[wanted], f"as was said; {seen}"
    if low > -0.3 and dark > -0.05 and 0.02 < high <= 1.3:  # around -1 to 1, many values are below 0
        return RANGES["0,1"], f"found by looking: {seen}"
    if low >= -1.4 and 0.02 < high <= 1.4:
        return RANGES["-1,1"], f"found by looking: {seen}"
    if low > -64 and 16 < high <= 320:
        return RANGES["0,255"], f"found by looking: {seen}"
    raise UserError(f"{path}: {seen}, which is none of {', '.join(RANGES)}: say what black and white are with --range")


# --- what is written


def _decoder(
    network: Network, mean: np.ndarray, matrix: np.ndarray, layout: Layout, span: tuple[float, float]
) -> onnx.ModelProto:
    joined = Joined(network.model)
    k, (height, width, channels) = len(mean), layout.shape
    turned = joined.add("MatMul", ["u", joined.constant("matrix", matrix.T)], "turned")
    raw = joined.add("Add", [turned, joined.constant("mean", mean)], "raw")
    if len(network.row) > 1:
        raw = joined.add("Reshape", [raw, joined.constant("shape", [0, *network.row], np.int64)], "raw code")
    joined.add("Cast", [raw], joined.inputs[0], to=network.port.kind)
    joined.add_given()
    values = joined.add("Cast", [joined.outputs[0]], "values", to=onnx.TensorProto.FLOAT)
    if span != (0.0, 1.0):
        scale = 1 / (span[1] - span[0])
        values = joined.add("Mul", [values, joined.constant("scale", scale)], "scaled")
        values = joined.add("Add", [values, joined.constant("shift", -span[0] * scale)], "shifted")
    if layout.channels_first:
        values = joined.add("Transpose", [values], "channels last", perm=[0, 2, 3, 1])
    values = joined.add("Max", [values, joined.constant("black", 0.0)], "not below black")
    joined.add("Min", [values, joined.constant("white", 1.0)], "picture")
    return joined.model({"u": ["n", k]}, {"picture": ["n", height, width, channels]}, f"morphing-faces {__version__}")


@dataclass(frozen=True)
class Meaning:
    """Which output of an encoder is the mean, which one tells the spread, and as what."""

    mean: int
    spread: int
    names: tuple[str, str]
    kind: str  # a key of SPREADS
    how: str

    def __str__(self) -> str:
        return f"mean is {self.names[0]!r}, {self.kind} is {self.names[1]!r} ({self.how})"


SPREADS = {  # words in the name of the output -> what it is
    "logarithm of the variance": ("logvar", "log_var", "log_cov", "logcov", "log_sigma2", "log_sigma_sq"),
    "logarithm of the standard deviation": ("logstd", "log_std", "logsigma", "log_sigma", "log_scale"),
    "variance": ("var", "cov", "sigma2", "sigma_sq"),
    "standard deviation": ("std", "sigma", "scale", "stddev"),
}
MEANS = ("mean", "mu", "loc", "embedding")


def _encoder(path: Path, layout: Layout, k: int) -> tuple[Network, Meaning]:
    """An encoder of pictures of this layout, run and found to fit. Raises ``UserError``."""
    model = read(path)
    inputs, outputs = ports(model)
    if len(inputs) != 1 or inputs[0].kind not in FLOATS:
        raise UserError(
            f"{path} has {len(inputs)} inputs ({', '.join(map(str, inputs[:4]))}): an encoder has one, a picture"
        )
    if any(output.kind not in FLOATS for output in outputs):
        raise UserError(f"{path}: its outputs are not all of floating point: export it in float32 or float16")
    (port,) = inputs
    shape = layout_shape(layout)
    if port.shape is None or len(port.shape) != 4:
        raise UserError(f"{path}: {port} is no picture: {PICTURE}")
    if any(said not in (None, size) for said, size in zip(port.shape[1:], shape, strict=True)):
        raise UserError(f"{path}: {port} is not what the decoder draws, {layout}: give the encoder that belongs to it")
    network = _any_batch(model, port, shape, str(path))
    answers = [answer.shape for answer in network.run(np.zeros((1, *shape)))]
    if any(math.prod(answer) != k for answer in answers):
        found = ", ".join("x".join(map(str, answer)) for answer in answers)
        raise UserError(f"{path} answers with {found}: each must be (n, {k}), as the decoder reads")
    return network, _meaning(network, [output.name for output in outputs], path)


def _meaning(network: Network, names: list[str], path: Path) -> Meaning:
    lower = [name.lower() for name in names]
    means = [i for i, name in enumerate(lower) if any(word in name for word in MEANS)]
    spreads = [
        (i, kind) for i, name in enumerate(lower) for kind, words in SPREADS.items() if any(w in name for w in words)
    ]
    if len(means) == 1 and spreads and spreads[0][0] != means[0]:
        at, kind = spreads[0]  # the first kind that fits: "log_var" holds "var", too
        return Meaning(means[0], at, (names[means[0]], names[at]), kind, "by their names")
    if len(names) != 2:
        raise UserError(
            f"{path} has the outputs {', '.join(names)}: an encoder has two, the mean and the logarithm of the variance"
        )
    values = network.run(np.random.default_rng(0).random((8, *network.row)))[1]
    kind = "logarithm of the variance" if values.min() < 0 else "standard deviation"
    return Meaning(0, 1, (names[0], names[1]), kind, "by their order, and by whether there are negative ones")


def _reader(
    network: Network, meaning: Meaning, mean: np.ndarray, matrix: np.ndarray, layout: Layout, span: tuple[float, float]
) -> onnx.ModelProto:
    """picture -> mean and std of q(u|x). q(raw|x) is diagonal; std is the root of the diagonal of its covariance in u."""
    joined = Joined(network.model)
    inverse = np.linalg.inv(matrix)
    k, (height, width, channels) = len(mean), layout.shape
    values = "picture"
    if span != (0.0, 1.0):
        values = joined.add("Mul", [values, joined.constant("scale", span[1] - span[0])], "scaled")
        values = joined.add("Add", [values, joined.constant("shift", span[0])], "shifted")
    if layout.channels_first:
        values = joined.add("Transpose", [values], "channels first", perm=[0, 3, 1, 2])
    joined.add("Cast", [values], joined.inputs[0], to=network.port.kind)
    joined.add_given()
    flat = joined.constant("shape", [-1, k], np.int64)

    def answer(at: int, title: str) -> str:
        code = joined.add("Cast", [joined.outputs[at]], f"{title} as float32", to=onnx.TensorProto.FLOAT)
        return joined.add("Reshape", [code, flat], f"{title} of the code")

    centred = joined.add("Sub", [answer(meaning.mean, "mean"), joined.constant("raw mean", mean)], "centred")
    joined.add("MatMul", [centred, joined.constant("inverse", inverse.T)], "mean")
    spread = answer(meaning.spread, "spread")
    if meaning.kind.startswith("logarithm"):
        spread = joined.add("Exp", [spread], "without logarithm")
    if meaning.kind.endswith("standard deviation"):
        spread = joined.add("Mul", [spread, spread], "variance")
    spread = joined.add("MatMul", [spread, joined.constant("squares", np.square(inverse).T)], "variance of u")
    joined.add("Sqrt", [joined.add("Max", [spread, joined.constant("least", 1e-12)], "positive variance")], "std")
    shapes: dict[str, list[Any]] = {"mean": ["n", k], "std": ["n", k]}
    return joined.model({"picture": ["n", height, width, channels]}, shapes, f"morphing-faces {__version__}")


def _manifest(name: str, layout: Layout, found: Directions, files: dict[str, bytes]) -> dict[str, Any]:
    shares = [round(float(value), 6) for value in found.share]
    return {
        "format": FORMAT,
        "name": name,
        "image_shape": list(layout.shape),
        "channel_order": "RGB" if layout.shape[2] == 3 else "grey",
        "value_range": [0, 1],
        "latent_size": len(shares),
        "dimensions": [{"latent": i, "share": share} for i, share in enumerate(shares[:INTERESTING])],
        "latents": {"share": shares},
        "attributes": {},
        "files": {
            file: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for file, content in files.items()
        },
    }


def _source(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    made_by = f"{model.producer_name} {model.producer_version}".strip()
    return {"file": path.name, "sha256": _sha256(path), "opset": opset_of(model), "made_by": made_by or "not stated"}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"

"""A model ready to use: decode, encode and sample over ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import bundle as bundles
from . import noise, warp
from .bundle import Bundle, BundleError
from .errors import UserError, reason
from .onnx_guard import Cost, RefusedError, check
from .rules import say

FIELD_SHAPE: list[Any] = ["n", 16, 16, 2]
CHUNK = 64  # latents or pictures in one call of the runtime: bounds the memory, costs no speed
CHUNK_VALUES = 1_000_000_000  # numbers that one call may compute: fewer latents for a larger network


@dataclass(frozen=True)
class Posterior:
    """What the encoder says of n pictures: ``mean`` and ``std``, each (n, latent_size) float32, in coordinates u."""

    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Parts:
    """What n faces are made of, where a model draws shape and appearance apart.

    ``appearance`` (n, height, width, channels) float32 in [0, 1] is drawn in the mean frame, in which eyes, nose and mouth
    are always at the same place. ``field`` (n, 16, 16, 2) float32 says, in pixels of the frame, x first, where a picture
    finds its colours there: ``picture(p) = appearance(p + field(p))``, the field enlarged bilinearly. ``landmarks``
    (n, 68, 2) float32 are the points of the 300-W challenge in the picture, in pixels, x first; the centre of the first
    pixel is (0, 0).
    """

    appearance: np.ndarray
    field: np.ndarray
    landmarks: np.ndarray


@dataclass(frozen=True)
class Attribute:
    """A direction with a name. A step of 1 along ``direction`` moves what is seen of it by about one standard deviation
    between people, and ``reading @ z`` by 1, as no other attribute's direction does. Both are (latent_size,) float64.

    ``low`` and ``high`` are words for its ends; ``effect`` is measured on decoded faces, in standard deviations a unit.
    """

    direction: np.ndarray
    reading: np.ndarray
    low: str
    high: str
    effect: float


class Model:
    """A variational autoencoder. Made by :func:`load`.

    Latents are in coordinates ``u``, in which N(0, I) gives typical faces and the interesting dimensions come in the
    order of their effect on the picture.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.name = bundle.name
        self.image_shape = bundle.image_shape
        self.latent_size = bundle.latent_size
        self.dimensions = bundle.dimensions
        self.dimension_names = bundle.dimension_names
        self.has_encoder = bundle.has_encoder
        self.has_shape = bundle.has_shape
        self.attributes = _attributes(bundle)
        self._code: list[Any] = ["n", self.latent_size]
        inputs, outputs = {"u": self._code}, {"picture": self._picture_shape}
        if self.has_shape:
            inputs["shape"] = self._code
            outputs |= {"appearance": self._picture_shape, "field": FIELD_SHAPE}
        self._decoder = self._start("decoder.onnx", inputs, outputs)
        self._encoder: _Network | None = None
        self._shape: _Network | None = None

    def __repr__(self) -> str:
        height, width, channels = self.image_shape
        return f"<Model {self.name!r}: {height}x{width}x{channels}, {self.latent_size} latent dimensions>"

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """``n`` latents from N(0, I): (n, latent_size) float32. The same seed gives the same latents everywhere.

        Row k does not depend on ``n``. Raises ``UserError`` when ``n`` is negative or the seed is not in 0 to 2^32 - 1.
        """
        if n < 0:
            raise UserError(f"n = {n}: must be 0 or more")
        return noise.normal(seed, 0, n, self.latent_size)

    def decode(self, z: ArrayLike, shape: ArrayLike | None = None) -> np.ndarray:
        """Latents (n, latent_size), or one of (latent_size,) -> pictures (n, height, width, channels).

        float32 in [0, 1], the mean of p(x|z). With ``shape``, as many latents or one, the appearance of ``z`` is drawn on
        the shape of ``shape``. Raises ``UserError`` on a wrong shape or a value that is not finite, and where ``shape`` is
        given to a model without shape.
        """
        latents, shapes = self._latents(z), None
        if shape is not None:
            self.need_shape()
            shapes = self._latents(shape, "shape")
            if len(shapes) not in (1, len(latents)):
                raise UserError(f"shape has {len(shapes)} rows, expected {len(latents)} as z has, or 1")
        return self._decoder.run(self._feeds(latents, shapes), ["picture"])["picture"]

    def parts(self, z: ArrayLike) -> Parts:
        """What faces are made of: latents as in :meth:`decode` -> their appearance, field and landmarks.

        Raises ``UserError`` as :meth:`decode` does, and where the model has no shape.
        """
        self.need_shape()
        drawn = self._decoder.run(self._feeds(self._latents(z)), ["appearance", "field"])
        return Parts(drawn["appearance"], drawn["field"], self._landmarks(drawn["field"]))

    def landmarks(self, z: ArrayLike) -> np.ndarray:
        """The 68 landmarks of faces, (n, 68, 2) float32 in pixels, as :meth:`parts` has them, without drawing the faces.

        Under a millisecond a face. Raises ``UserError`` as :meth:`parts` does.
        """
        return self._landmarks(self.fields(z))

    def fields(self, z: ArrayLike) -> np.ndarray:
        """The fields of faces, (n, 16, 16, 2) float32 in pixels, as :meth:`parts` has them, without drawing the faces.

        Raises ``UserError`` as :meth:`parts` does.
        """
        self.need_shape()
        latents = self._latents(z)
        if self._shape is None:
            self._shape = self._start(bundles.SHAPE, {"u": self._code}, {"field": FIELD_SHAPE})
        return self._shape.run({"u": latents})["field"]

    def need_shape(self) -> None:
        """Raise ``UserError`` where the model does not draw shape and appearance apart."""
        if not self.has_shape:
            raise UserError(say("no shape", model=self.name))

    @property
    def shares(self) -> dict[int, float]:
        """The interesting dimensions' latent indices with their share of the visible change, 0 to 1 in all."""
        return {entry["latent"]: float(entry.get("share", 0)) for entry in self.bundle.manifest["dimensions"]}

    @property
    def mean_landmarks(self) -> np.ndarray:
        """The 68 landmarks of the mean frame, (68, 2) float32 in pixels. Raises ``UserError`` where the model has no shape."""
        self.need_shape()
        return np.asarray(self.bundle.manifest["shape"]["landmarks"], np.float32)

    def _landmarks(self, field: np.ndarray) -> np.ndarray:
        return warp.landmarks(field, self.mean_landmarks, self.image_shape[0])

    def _latents(self, z: ArrayLike, name: str = "z") -> np.ndarray:
        latents = np.atleast_2d(np.asarray(z, np.float32))
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise UserError(
                f"{name} has shape {np.shape(z)}, expected (n, {self.latent_size}) or ({self.latent_size},)"
            )
        if not np.isfinite(latents).all():
            raise UserError(f"{name} has values that are not finite; latents are real numbers, typically from -3 to 3")
        return latents

    def _feeds(self, latents: np.ndarray, shapes: np.ndarray | None = None) -> dict[str, np.ndarray]:
        if not self.has_shape:
            return {"u": latents}
        shapes = latents if shapes is None else np.ascontiguousarray(np.broadcast_to(shapes, latents.shape))
        return {"u": latents, "shape": shapes}

    def encode(self, images: ArrayLike) -> Posterior:
        """Pictures in the frame, (n, height, width, channels) or one without n -> their approximate posterior.

        uint8 in 0 to 255 or float in [0, 1]; a grey picture may lack its last axis. :func:`morphing_faces.pictures.frame`
        resizes a picture of another size. Raises ``UserError`` on a wrong shape, type or range, or where the bundle has no encoder.
        """
        self.need_encoder()
        pictures = self._pictures(np.asarray(images))
        if self._encoder is None:
            answers = {"mean": self._code, "std": self._code}
            self._encoder = self._start("encoder.onnx", {"picture": self._picture_shape}, answers)
        codes = self._encoder.run({"picture": pictures})
        return Posterior(codes["mean"], codes["std"])

    def need_encoder(self) -> None:
        """Raise ``UserError`` where the bundle has no encoder: nothing can be encoded then."""
        if not self.has_encoder:
            raise UserError(
                f"the bundle {self.name!r} has no encoder: adopt it again with --encoder, or take another bundle"
            )

    @property
    def _picture_shape(self) -> list[Any]:
        return ["n", *self.image_shape]

    def _pictures(self, pictures: np.ndarray) -> np.ndarray:
        height, width, channels = self.image_shape
        given = pictures.shape
        if channels == 1 and (given[-2:] == (height, width) and pictures.ndim in (2, 3)):
            pictures = pictures[..., None]
        if pictures.ndim == 3:
            pictures = pictures[None]
        if pictures.shape[1:] != self.image_shape:
            raise UserError(
                f"pictures have shape {given}, expected (n, {height}, {width}, {channels}): "
                "resize them with morphing_faces.pictures.frame"
            )
        if pictures.dtype == np.uint8:
            return pictures.astype(np.float32) / 255
        if pictures.dtype.kind != "f":
            raise UserError(f"pictures are {pictures.dtype}, expected uint8 in 0 to 255 or float in [0, 1]")
        if pictures.size and not (pictures.min() >= -1e-3 and pictures.max() <= 1 + 1e-3):
            raise UserError(f"float pictures have values from {pictures.min()} to {pictures.max()}, expected 0 to 1")
        return np.clip(pictures, 0, 1, dtype=np.float32)

    def _start(self, name: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> _Network:
        content = self.bundle.read(name)
        path = self.bundle.folder / name
        try:
            cost = check(content, {key: (1, *shape[1:]) for key, shape in inputs.items()})
        except RefusedError as error:
            raise BundleError(f"{path} {error}; {bundles.REMEDY}") from None
        network = _Network(path, content, {key: shape[1:] for key, shape in outputs.items()}, cost)
        for expected, found in ((inputs, network.session.get_inputs()), (outputs, network.session.get_outputs())):
            shapes = {node.name: node.shape for node in found}
            for key, shape in expected.items():
                if len(shapes.get(key) or []) != len(shape) or shapes[key][1:] != shape[1:]:
                    raise BundleError(
                        f"{path}: {key!r} has shape {shapes.get(key)}, the manifest says {shape}; {bundles.REMEDY}"
                    )
        return network


class _Network:
    """One ONNX file of a bundle in the runtime, already judged by :func:`onnx_guard.check`."""

    def __init__(self, path: Path, content: bytes, outputs: dict[str, list[int]], cost: Cost):
        import onnxruntime  # here, because its import takes longer than the rest of the package's

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, and told once
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between two faces no core is burnt
        self.path, self.outputs = path, outputs
        self.chunk = max(1, min(CHUNK, CHUNK_VALUES // max(cost.values, 1)))
        try:
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common base class for "this is not a model"
            raise BundleError(f"{path} is not a usable ONNX model: {reason(error)}; {bundles.REMEDY}") from None

    def run(self, feeds: dict[str, np.ndarray], names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """The outputs of these names, or all, for inputs (n, ...) by name. Raises ``BundleError`` when the network fails."""
        count = len(next(iter(feeds.values())))
        results = {name: np.empty((count, *self.outputs[name]), np.float32) for name in names or self.outputs}
        for first in range(0, count, self.chunk):
            part = slice(first, first + self.chunk)
            try:
                answers = self.session.run(list(results), {key: rows[part] for key, rows in feeds.items()})
                for name, answer in zip(results, answers, strict=True):
                    results[name][part] = answer
            except MemoryError:
                raise
            except Exception as error:  # as above; and an answer of another shape than the network declares
                raise BundleError(f"{self.path} fails when it is run: {reason(error)}; {bundles.REMEDY}") from None
        return results


def _attributes(bundle: Bundle) -> dict[str, Attribute]:
    return {
        name: Attribute(
            np.array(entry["direction"], np.float64),
            np.array(entry["reading"], np.float64),
            entry["low"],
            entry["high"],
            float(entry["effect"]),
        )
        for name, entry in bundle.manifest["attributes"].items()
    }


def load(name_or_path: str | os.PathLike[str] | None = None) -> Model:
    """A model from a shipped bundle by name, from any bundle by its folder, or the default.

    Checks version, hashes and shapes, and never runs code from the files.
    Raises :class:`morphing_faces.bundle.BundleError`, a ``UserError``, with one line that says what is wrong.
    """
    bundle = bundles.find(name_or_path)
    for name in bundle.files:
        if name != "decoder.onnx":  # read and checked when the decoder starts
            bundle.read(name)
    return Model(bundle)

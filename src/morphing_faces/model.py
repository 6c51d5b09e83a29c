"""A model ready to use: decode, encode and sample over ONNX Runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import bundle as bundles
from . import noise
from .bundle import Bundle, BundleError
from .errors import UserError

if TYPE_CHECKING:
    import onnxruntime

CHUNK = 64  # latents or pictures in one call of the runtime: bounds the memory, costs no speed


@dataclass(frozen=True)
class Posterior:
    """What the encoder says of n pictures: ``mean`` and ``std``, each (n, latent_size) float32, in coordinates u."""

    mean: np.ndarray
    std: np.ndarray


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
        self.has_encoder = bundle.has_encoder
        self._decoder = self._start("decoder.onnx", {"u": ["n", self.latent_size]}, {"picture": self._picture_shape})
        self._encoder: onnxruntime.InferenceSession | None = None

    def __repr__(self) -> str:
        height, width, channels = self.image_shape
        return f"<Model {self.name!r}: {height}x{width}x{channels}, {self.latent_size} latent dimensions>"

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """``n`` latents from N(0, I): (n, latent_size) float32. The same seed gives the same latents everywhere.

        Row k does not depend on ``n``. Raises ``ValueError`` when ``n`` is negative or the seed is not in 0 to 2^32 - 1.
        """
        if n < 0:
            raise ValueError(f"n = {n}: must be 0 or more")
        return noise.normal(seed, 0, n, self.latent_size)

    def decode(self, z: ArrayLike) -> np.ndarray:
        """Latents (n, latent_size), or one of (latent_size,) -> pictures (n, height, width, channels).

        float32 in [0, 1], the mean of p(x|z). Raises ``ValueError`` on a wrong shape or a value that is not finite.
        """
        latents = np.atleast_2d(np.asarray(z, np.float32))
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise ValueError(f"z has shape {np.shape(z)}, expected (n, {self.latent_size}) or ({self.latent_size},)")
        if not np.isfinite(latents).all():
            raise ValueError("z has values that are not finite; latents are real numbers, typically from -3 to 3")
        out = np.empty((len(latents), *self.image_shape), np.float32)
        for first in range(0, len(latents), CHUNK):
            part = slice(first, first + CHUNK)
            (out[part],) = self._decoder.run(None, {"u": latents[part]})
        return out

    def encode(self, images: ArrayLike) -> Posterior:
        """Pictures in the frame, (n, height, width, channels) or one without n -> their approximate posterior.

        uint8 in 0 to 255 or float in [0, 1]; a grey picture may lack its last axis. :func:`morphing_faces.photo.frame`
        resizes a picture of another size. Raises ``ValueError`` on a wrong shape, type or range, and ``UserError`` where
        the bundle has no encoder.
        """
        self.need_encoder()
        pictures = self._pictures(np.asarray(images))
        if self._encoder is None:
            codes: dict[str, list[Any]] = {"mean": ["n", self.latent_size], "std": ["n", self.latent_size]}
            self._encoder = self._start("encoder.onnx", {"picture": self._picture_shape}, codes)
        mean = np.empty((len(pictures), self.latent_size), np.float32)
        std = np.empty_like(mean)
        for first in range(0, len(pictures), CHUNK):
            part = slice(first, first + CHUNK)
            mean[part], std[part] = self._encoder.run(["mean", "std"], {"picture": pictures[part]})
        return Posterior(mean, std)

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
            raise ValueError(
                f"pictures have shape {given}, expected (n, {height}, {width}, {channels}): "
                "resize them with morphing_faces.photo.frame"
            )
        if pictures.dtype == np.uint8:
            return pictures.astype(np.float32) / 255
        if pictures.dtype.kind != "f":
            raise ValueError(f"pictures are {pictures.dtype}, expected uint8 in 0 to 255 or float in [0, 1]")
        if pictures.size and not (pictures.min() >= -1e-3 and pictures.max() <= 1 + 1e-3):
            raise ValueError(f"float pictures have values from {pictures.min()} to {pictures.max()}, expected 0 to 1")
        return np.clip(pictures, 0, 1, dtype=np.float32)

    def _start(
        self, name: str, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]
    ) -> onnxruntime.InferenceSession:
        content = self.bundle.read(name)
        import onnxruntime  # here, because its import takes longer than the rest of the package's

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting must not burn a core
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common base class for "this is not a model"
            reason = str(error).splitlines()[0]
            raise BundleError(
                f"{self.bundle.folder / name} is not a usable ONNX model: {reason}; {bundles.REMEDY}"
            ) from None
        for expected, found in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
            shapes = {node.name: node.shape for node in found}
            for key, shape in expected.items():
                if len(shapes.get(key) or []) != len(shape) or shapes[key][1:] != shape[1:]:
                    raise BundleError(
                        f"{self.bundle.folder / name}: {key!r} has shape {shapes.get(key)}, the manifest says {shape}; "
                        f"{bundles.REMEDY}"
                    )
        return session


def load(name_or_path: str | os.PathLike[str] | None = None) -> Model:
    """A model from a shipped bundle by name, from any bundle by its folder, or the default.

    Checks version, hashes and shapes, and never runs code from the files.
    Raises :class:`morphing_faces.bundle.BundleError`, a ``ValueError``, with one line that says what is wrong.
    """
    bundle = bundles.find(name_or_path)
    for name in bundle.files:
        if name != "decoder.onnx":  # read and checked when the decoder starts
            bundle.read(name)
    return Model(bundle)

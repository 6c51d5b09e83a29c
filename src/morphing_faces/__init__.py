"""Morphing Faces: feel what a variational autoencoder has learned.

>>> import morphing_faces as mf
>>> model = mf.load()
>>> z = model.sample(3, seed=0)
>>> model.decode(z).shape == (3, *model.image_shape)
True
"""

import os

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # before ONNX Runtime is imported: it would look up names and report

from .bundle import BundleError
from .model import Model, Parts, Posterior, load
from .session import Session

__version__ = "0.1.0"
__all__ = ["BundleError", "Model", "Parts", "Posterior", "Session", "__version__", "load"]

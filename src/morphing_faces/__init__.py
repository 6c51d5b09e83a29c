"""Morphing Faces: feel what a variational autoencoder has learned.

>>> import morphing_faces as mf
>>> model = mf.load()
>>> z = model.sample(3, seed=0)
>>> model.decode(z).shape == (3, *model.image_shape)
True
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # before ONNX Runtime is imported: it would look up names and report

from .bundle import BundleError
from .faces import Face, find_faces
from .model import Model, Parts, Posterior, load
from .session import Session

if TYPE_CHECKING:
    from .notebook import FaceWidget

__version__ = "0.1.0"
__all__ = [
    "BundleError",
    "Face",
    "Model",
    "Parts",
    "Posterior",
    "Session",
    "__version__",
    "find_faces",
    "load",
    "widget",
]


def widget(model_or_session: Model | Session | None = None, seed: int = 0) -> FaceWidget:
    """The face under the hand in a notebook's cell, with a session of its own, or with one that there is already.

    Needs the extra ``[notebook]``. Raises ``UserError`` where it is missing.
    """
    from .errors import need

    need("anywidget", "the widget")
    from .notebook import FaceWidget

    if isinstance(model_or_session, Session):
        return FaceWidget(model_or_session.model, model_or_session)
    model = model_or_session or load()
    return FaceWidget(model, Session(model, seed))

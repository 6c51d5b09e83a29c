"""The face in a notebook's cell, by anywidget: the page's own modules, kept in step with a session of Python's."""

from .widget import FaceWidget

__all__ = ["FaceWidget"]

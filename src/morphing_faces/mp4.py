"""Films as MP4 (H.264): by PyAV, the extra ``[mp4]``.

PyAV is under the BSD licence; its wheels carry FFmpeg under the LGPL and x264 under the GPL, version 2 or later. They
are installed only with the extra, and nothing of them is in this project.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from .errors import need


def write(frames: Iterable[np.ndarray], path: str | os.PathLike[str], rate: float) -> None:
    """Write pictures, uint8 (height, width, 1 or 3) and all of one size, as a film of ``rate`` frames a second.

    Sides that are odd lose their last row or column, which H.264 in 4:2:0 demands. Raises ``UserError`` with the remedy
    when PyAV is not installed.
    """
    need("av", "writing MP4")
    import av

    with av.open(os.fspath(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"  # the one that every player shows
        stream.options = {"crf": "16", "preset": "medium"}
        for number, picture in enumerate(frames):
            even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            rgb = np.ascontiguousarray(np.repeat(even, 3, 2) if even.shape[2] == 1 else even)
            if number == 0:
                stream.height, stream.width = rgb.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())

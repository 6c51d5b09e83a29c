"""The widget: traits and messages between a session in Python and its twin in the front end."""

from __future__ import annotations

import base64
import contextlib
import functools
import gzip
import io
import json
from collections.abc import Iterator
from typing import Any

import anywidget
import brotli
import numpy as np
import traitlets

from ..errors import UserError
from ..model import Model
from ..pictures import enlarge, to_image, to_uint8
from ..rules import RANGE_LIMITS
from ..session import Session
from ..site import WEB
from .modules import HERE, joined

RUNTIME = "vendor/onnxruntime-web-1.30.0/"
BROUGHT = ("vendor.json", "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PART = 2 << 20  # bytes of a file in one message
LARGEST = 64 << 20  # bytes of a decoder that a browser is sent; larger ones stay in the kernel
STILL = 256  # pixels of the picture that a saved notebook shows
HIDE_STILL = ".morphing-faces-live + .jp-OutputArea-child:has(.jp-RenderedImage) { display: none; }"  # while it is live


@functools.cache
def front_end() -> str:
    """The one string that a notebook's front end is given."""
    files = {"PAGE": WEB / "index.html", "STYLE": HERE / "widget.css", "WORKER": WEB / "worker.js"}
    texts = [f"const {name} = {json.dumps(path.read_text(encoding='utf-8'))};" for name, path in files.items()]
    return "\n".join([joined(HERE / "widget.js"), *texts, (HERE / "start.js").read_text(encoding="utf-8")])


class Point(traitlets.TraitType):  # type: ignore[type-arg]
    """A point in latent space, (latent_size,) float32, read-only; travels as bytes."""

    info_text = "a point in latent space"

    def __init__(self) -> None:
        super().__init__(default_value=None, allow_none=True)
        self.tag(
            sync=True,
            to_json=lambda z, _: None if z is None else memoryview(z.astype("<f4").tobytes()),
            from_json=lambda data, _: None if data is None else np.frombuffer(bytes(data), "<f4"),
        )

    def set(self, obj: Any, value: Any) -> None:
        """As every trait does, but arrays are compared whole."""
        new: Any = self._validate(obj, value)
        old = obj._trait_values.get(self.name)
        if (old is None and new is None) or (old is not None and np.array_equal(old, new)):
            return
        obj._trait_values[self.name] = new
        obj._notify_trait(self.name, old, new)


class FaceWidget(anywidget.AnyWidget):
    """A face under the hand in a cell. Made by :func:`morphing_faces.widget`.

    ``z`` (latent_size,) float32, ``axes`` (x, y), ``frozen`` and ``range`` can be read and set; ``session`` is the
    :class:`morphing_faces.Session` that holds them. What is refused raises ``UserError`` and changes nothing.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode(HIDE_STILL).tag(sync=True)
    _manifest = traitlets.Unicode().tag(sync=True)
    _files = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _seed = traitlets.Int().tag(sync=True)
    _still_part = traitlets.Unicode().tag(sync=True)
    _still_z = Point()
    z = Point()
    axes = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=(0, 1)).tag(sync=True)
    frozen = traitlets.Bool(False).tag(sync=True)
    range = traitlets.Float(1.0, min=RANGE_LIMITS[0], max=RANGE_LIMITS[1]).tag(sync=True)

    def __init__(self, model: Model, session: Session) -> None:
        self.model, self.session = model, session
        self._busy = False
        self._still: Any = None
        self._heard = False  # whether a front end has shown this
        small = model.bundle.manifest["files"]["decoder.onnx"]["bytes"] <= LARGEST
        files = [*(RUNTIME + name for name in BROUGHT), "bundle/manifest.json", "bundle/decoder.onnx"]
        super().__init__(
            _esm=front_end(),
            _manifest=json.dumps(model.bundle.manifest),
            _files=files if small else [],
            _seed=session.seed,
            z=session.z,
            axes=session.axes,
            frozen=session.frozen,
            range=session.range,
        )
        session.watch(self._session_changed)
        self.on_msg(self._message)

    # --- in step

    @traitlets.validate("z")
    def _valid_z(self, proposal: Any) -> np.ndarray:
        z = np.array(proposal["value"], np.float32)
        if z.shape != (self.session.latent_size,):
            self.session.set(z)  # says what is wrong
        z.setflags(write=False)
        return z

    @traitlets.observe("z", "axes", "frozen", "range")
    def _trait_changed(self, _: Any) -> None:
        """A person's hand, or a cell, has set a trait: the session follows, as one step for a run of them."""
        if self._busy:
            return
        with self._alone():
            session = self.session
            try:
                if tuple(self.axes) != session.axes:
                    session.select(*self.axes)
                if self.range != session.range:
                    session.set_range(self.range)
                if not np.array_equal(self.z, session.z):
                    session.set(self.z, gesture="hand")
                if self.frozen != session.frozen:
                    session.toggle_freeze()
            finally:
                self._follow()
        self._keep(unless_shown=True)

    def _session_changed(self) -> None:
        """A verb of the session was called: the traits follow."""
        if self._busy:
            return
        with self._alone():
            self._follow()
        self._keep(unless_shown=True)

    def _follow(self) -> None:
        session = self.session
        still = session.still
        with self.hold_trait_notifications():
            self._still_z, self._still_part = (still.z, still.part) if still else (None, "")
            self.z, self.axes, self.frozen, self.range = session.z, session.axes, session.frozen, session.range

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    # --- messages of the front end

    def _message(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        self._heard = True
        verb = content.get("verb")
        if verb == "draw":
            points = [np.frombuffer(bytes(buffer), "<f4") for buffer in buffers[:2]]
            picture = to_uint8(self.model.decode(*points))[0]
            self.send({"verb": "drawn"}, buffers=[picture.tobytes()])
        elif verb == "file":
            self._send_part(str(content.get("name")), int(content.get("part", 0)))
        elif verb == "rest":
            self._keep()

    def _send_part(self, name: str, part: int) -> None:
        try:
            content, packed = _packed(self.model, name)
        except UserError as error:
            self.send({"verb": "file", "name": name, "error": str(error)})
            return
        count = max(1, -(-len(content) // PART))
        answer = {"verb": "file", "name": name, "part": part, "of": count, "gzip": packed}
        self.send(answer, buffers=[content[part * PART : (part + 1) * PART]])

    # --- what stays in the notebook

    def _ipython_display_(self, **_: Any) -> None:
        """The widget, and under it the face as a picture, which a front end that shows the widget hides."""
        from IPython.display import display

        bundle = self._repr_mimebundle_()
        data: Any = bundle[0] if isinstance(bundle, tuple) else bundle
        display({**data, "text/plain": repr(self)}, raw=True)
        self._still = display(self._picture(), raw=True, display_id=True)

    def _keep(self, *, unless_shown: bool = False) -> None:
        """Put the face into the notebook. A front end that shows the widget says itself when the hand rests."""
        if self._still is None or (unless_shown and self._heard):
            return
        self._still.update(self._picture(), raw=True)

    def _picture(self) -> dict[str, Any]:
        file = io.BytesIO()
        picture = to_uint8(self.model.decode(*self.session.parts()))
        to_image(enlarge(picture, STILL)[0]).save(file, "PNG")
        return {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "The last face"}

    def __repr__(self) -> str:
        return f"<face of {self.model.name!r} under the hand>"


def _packed(model: Model, name: str) -> tuple[bytes, bool]:
    """A file that the front end may ask for, and whether it is packed with gzip."""
    if name.startswith("bundle/"):
        file = name.removeprefix("bundle/")
        if file == "manifest.json":
            return json.dumps(model.bundle.manifest).encode(), False
        if file == "decoder.onnx":
            return model.bundle.read(file), False
    if name.removeprefix(RUNTIME) in BROUGHT and name.startswith(RUNTIME):
        return _packed_runtime(name)
    raise UserError(f"{name!r} is not a file that a front end needs")


@functools.cache
def _packed_runtime(name: str) -> tuple[bytes, bool]:
    path = WEB / name
    if path.is_file():
        return path.read_bytes(), False
    return gzip.compress(brotli.decompress((WEB / f"{name}.br").read_bytes()), 6), True

"""Every door for what strangers hand over, fed with damaged and invented input: it ends in a value or in one line.

A few dozen inputs each, always the same ones. ``FUZZ=5000 pytest tests/fuzz`` tries so many, others at each run. None may
take more than 1 GB of memory, which is measured where the system tells the peak (Linux).
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from morphing_faces import bundle as bundles
from morphing_faces import commands, dataset, onnx_guard, prepare
from morphing_faces.errors import UserError
from morphing_faces.evaluate import table
from morphing_faces.model import load
from morphing_faces.pictures import open_frame, open_picture
from morphing_faces.session import Session
from morphing_faces.train import recipe

EXAMPLES = int(os.environ.get("FUZZ", "40"))
fuzz = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="FUZZ" not in os.environ, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


MOST_MEMORY = 1 << 20  # kB
MEMORY = Path("/proc/self/status")


def memory(kind: str) -> int:
    """What the process holds ("VmRSS") or has held at most ("VmHWM"), in kB."""
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    return int(lines[kind].split()[0])


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Fail when a test takes more memory than is allowed, beyond what the process held before it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:  # another system, or one that forbids it
        yield
        return
    before = memory("VmRSS")
    yield
    taken = memory("VmHWM") - before
    assert taken < MOST_MEMORY, f"{taken / 1024:.0f} MB more than before"


def _no_shape() -> None:
    raise UserError("the model 'toy' has no shape")


TOY: Any = SimpleNamespace(
    latent_size=8, dimensions=tuple(range(7, -1, -1)), name="toy", attributes={}, need_shape=_no_shape
)


def told(call: Callable[[], object]) -> object:
    """Its value, or ``None`` when it ended in one line that can be printed."""
    try:
        return call()
    except UserError as error:
        text = str(error)
        assert text.strip()
        assert "\n" not in text
        assert len(text) < 5000
        return None


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of the seeds with some bytes changed, a part cut out, doubled, or replaced by anything."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        length = draw(st.integers(0, 64))
        match draw(st.integers(0, 4)):
            case 0:
                content[at] = draw(st.integers(0, 255))
            case 1:
                del content[at : at + length]
            case 2:
                content[at:at] = content[at : at + length]
            case 3:
                content[at : at + length] = draw(st.binary(max_size=64))
            case 4:
                del content[at:]
    return bytes(content)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, -1, 0, 2**31, 2**63, 1e39, 1e308, float("nan"), float("inf")])
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(st.text(max_size=8), inner, max_size=5)),
    max_leaves=12,
)


# --- faces and lines of the prompt


FACE = Session(TOY).to_dict()


@fuzz
@given(changes=st.dictionaries(st.sampled_from([*FACE, "locked", "other"]), json_values, max_size=4))
def test_faces_of_other_values(changes: dict[str, Any]) -> None:
    session = Session(TOY)
    before = session.state
    if told(lambda: session.from_dict({**FACE, **changes})) is None and session.state is before:
        return
    assert np.isfinite(session.z).all()
    Session(TOY).from_dict(json.loads(json.dumps(session.to_dict())))  # what it took, it can save


@fuzz
@given(content=damaged([json.dumps(FACE).encode(), b"[" * 50_000, b"\xef\xbb\xbf{}", b"9" * 6000]))
def test_damaged_faces(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "face.json"
    path.write_bytes(content)
    session = Session(TOY)
    told(lambda: session.load(path))
    assert np.isfinite(session.z).all()


class Hand:
    """A view without a window."""

    def __init__(self) -> None:
        self.session = Session(TOY)

    def close(self) -> None:
        pass

    def start_walk(self) -> None:
        self.session.walk()

    def start_glide(self) -> None:
        self.session.glide(0.1)

    def toggle_handles(self) -> None:
        self.session.model.need_shape()

    def save_picture(self, path: Path) -> None:
        path.write_bytes(b"")


def _obey(view: Hand, line: str) -> None:
    commands.perform(view, *commands.parse(line, 8))


words = st.sampled_from([*commands.WORDS, "wlak", ""])
arguments = st.one_of(numbers.map(str), st.text(max_size=12), st.sampled_from(["0", "7", "8", "-0", "²", "1_0", "0x1"]))


@fuzz
@given(
    lines=st.lists(st.tuples(words, st.lists(arguments, max_size=3), st.sampled_from([" ", "\t", "  "])), max_size=12)
)
def test_lines_of_the_prompt(lines: list[tuple[str, list[str], str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "prompt"
    folder.mkdir(exist_ok=True)
    view = Hand()
    os.chdir(folder)
    for word, following, gap in lines:
        rest = following
        if word in ("save", "load"):  # stay in the folder
            rest = [each.replace("/", "").replace("~", "").replace("\\", "") or "x" for each in following[:1]]
        line = gap.join([word, *rest])
        told(functools.partial(_obey, view, line))
        assert np.isfinite(view.session.z).all()


# --- bundles


@pytest.fixture(scope="module")
def copy(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any], bytes | None], Path]:
    """``copy(changes, decoder)`` is the tiny bundle with other fields in its manifest, or another decoder."""
    folder = tmp_path_factory.mktemp("fuzz") / "tiny"
    folder.mkdir()
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    for name in bundles.FILES:
        (folder / name).write_bytes((tiny_bundle / name).read_bytes())

    def make(changes: dict[str, Any], decoder: bytes | None = None) -> Path:
        files = dict(manifest["files"])
        if decoder is not None:
            (folder / "decoder.onnx").write_bytes(decoder)
            files["decoder.onnx"] = {"sha256": hashlib.sha256(decoder).hexdigest(), "bytes": len(decoder)}
        (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files, **changes}))
        return folder

    return make


FIELDS = [
    "format", "name", "image_shape", "channel_order", "value_range", "latent_size", "dimensions", "attributes",
    "training", "figures", "licence", "files", "latents",
]  # fmt: skip


@fuzz
@given(changes=st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1, max_size=2))
def test_manifests_of_other_values(changes: dict[str, Any], copy: Callable[..., Path]) -> None:
    told(lambda: bundles.describe(bundles.find(copy(changes)), table))


@fuzz
@given(key=st.sampled_from(["latent", "share", "kl", "active", "name"]), value=json_values, figures=json_values)
def test_entries_of_a_manifest(key: str, value: Any, figures: Any, copy: Callable[..., Path]) -> None:
    entries = [{"latent": k, "share": 0.1, "kl": 1.0, "active": True} for k in range(3)]
    entries[1][key] = value
    told(
        lambda: bundles.describe(bundles.find(copy({"dimensions": entries, "figures": {"evaluation": figures}})), table)
    )


@fuzz
@given(changes=st.dictionaries(st.sampled_from(["low", "high", "effect", "direction", "reading"]), json_values, max_size=2),
       name=st.text(max_size=9))  # fmt: skip
def test_attributes_of_a_manifest(changes: dict[str, Any], name: str, copy: Callable[..., Path]) -> None:
    entry = {"low": "old", "high": "young", "effect": 1.0, "direction": [0.1] * 32, "reading": [0.1] * 32}
    folder = copy({"attributes": {name: {**entry, **changes}}})
    told(lambda: bundles.describe(bundles.find(folder), table))
    told(lambda: load(folder))


@fuzz
@given(data=st.data())
def test_damaged_networks(data: st.DataObject, tiny_bundle: Path, copy: Callable[..., Path]) -> None:
    whole = (tiny_bundle / "decoder.onnx").read_bytes()
    content = data.draw(damaged([whole, whole[-400:], b""]))
    if told(lambda: onnx_guard.check(content, {"u": (1, 32)})) is None:
        return
    model = told(lambda: load(copy({}, content)))
    if model is not None:
        told(lambda: model.decode(np.zeros(32)))  # type: ignore[attr-defined]


# --- pictures, arrays, archives, tables


FACES = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x011A] = 6, 72.0
PICTURES = [
    saved(Image.fromarray(FACES), "PNG"),
    saved(Image.fromarray(FACES), "JPEG", exif=EXIF),
    saved(Image.fromarray(FACES).convert("CMYK"), "JPEG"),
    saved(Image.fromarray(FACES), "WEBP"),
    saved(Image.fromarray(FACES).convert("P"), "GIF", transparency=0),
    saved(Image.fromarray(FACES[..., 0].astype(np.uint16) * 257), "PNG"),
    saved(Image.fromarray(FACES[..., 0].astype(np.float32)), "TIFF"),
    saved(Image.fromarray(FACES).convert("RGBA"), "PNG"),
    b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(64),
]


@fuzz
@given(content=damaged(PICTURES))
def test_damaged_pictures(content: bytes) -> None:
    picture = told(lambda: open_picture(content))
    if picture is not None:
        assert picture.mode in ("L", "RGB")  # type: ignore[attr-defined]
        assert open_frame(content, (8, 8, 3)).shape == (8, 8, 3)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def packed(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


ARRAYS = [npy(FACES[None]), npy(FACES.astype(np.float32)[None]), npy(np.zeros((2, 3), "U3")), npy(np.zeros(0))]
SOURCES = {
    "a.npy": ARRAYS,
    "a.npz": [packed({"images.npy": ARRAYS[0], "smile.npy": npy(np.array([1]))}), packed({"text.txt": b"no array"})],
    "a.zip": [packed({"a.png": PICTURES[0], "labels.csv": b"file,row,smile\na.png,7,yes\n", "b": PICTURES[1]})],
    "labels.csv": [b"file,row,smile\nface.png,7,yes\n", b"\xff\xfef\0i\0l\0e\0", b'file,"smile\n', b"file,file\na,b\n"],
}


@pytest.mark.parametrize("name", SOURCES)
@fuzz
@given(data=st.data())
def test_damaged_sources(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / f"source-{name}"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data.draw(damaged(SOURCES[name])))
    source = folder / name
    if name == "labels.csv":
        (folder / "face.png").write_bytes(PICTURES[0])
        source = folder
    out = tmp_path_factory.getbasetemp() / "prepared"
    if told(lambda: prepare.prepare([str(source)], out, size=8, overwrite=True, progress=False)) is not None:
        made = dataset.open_dataset(out)
        assert made.images.shape[1:] == (8, 8, 3)
        assert all(len(column) == len(made.images) for column in made.labels.values())


@fuzz
@given(
    name=st.sampled_from(["dataset.json", "images.npy", "held_out.npy", "labels.csv", "landmarks.npy"]), data=st.data()
)
def test_damaged_data_sets(
    name: str, data: st.DataObject, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "set"
    folder.mkdir(exist_ok=True)
    for each in tiny_data.iterdir():
        (folder / each.name).write_bytes(each.read_bytes())
    whole = (tiny_data / name).read_bytes() if (tiny_data / name).exists() else b"row,smile\n0,1\n"
    (folder / name).write_bytes(data.draw(damaged([whole, b"[]", b"{}", b""])))
    told(lambda: dataset.open_dataset(folder))
    (folder / "labels.csv").unlink(missing_ok=True)


# --- recipes


@fuzz
@given(data=st.data())
def test_recipes(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    shipped = [file.read_bytes() for file in sorted((Path(recipe.__file__).parent.parent / "recipes").glob("*.toml"))]
    path.write_bytes(
        data.draw(damaged([*shipped, b"\xef\xbb\xbfbatch = 4\n", b"name = 'caf\xe9'\n", b"a = " + b"[" * 9000]))
    )
    told(lambda: recipe.recipe(str(path)))
    key = data.draw(st.sampled_from(["batch", "kl_weight", "learning_rate", "latent_size", "steps", "name", "seed"]))
    told(lambda: recipe.parse_overrides([f"{key}={data.draw(st.one_of(numbers.map(str), st.text(max_size=9)))}"]))

"""Names of dimensions: from a file into a bundle, and wherever dimensions are shown; sheets of faces drawn beforehand."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from morphing_faces import bundle, commands, names, sheet, site
from morphing_faces.errors import UserError
from morphing_faces.names import DimensionName
from morphing_faces.pictures import to_uint8
from morphing_faces.rules import FIRST_SEED, SHEET_SIDE
from morphing_faces.session import Session


@pytest.fixture
def named(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, and a file of names beside it."""
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_bundle, folder)
    found = bundle.find(folder)
    rows = ",\n".join(f'["name {k}", "low {k}", "high {k}"]' for k in range(len(found.dimensions)))
    decoder = found.manifest["files"]["decoder.onnx"]["sha256"][:12]
    (tmp_path / "names.toml").write_text(f'decoder = "{decoder}"\nstarts = [3, 9]\ndimensions = [\n{rows}\n]\n')
    return folder


def test_names_are_put_into_a_bundle_and_shown(named: Path) -> None:
    names.put(named, names.read(named.parent / "names.toml"))
    model = mf.load(named)
    assert model.dimension_names[3] == DimensionName("name 3", "low 3", "high 3")
    session = Session(model)
    view: Any = SimpleNamespace(session=session)
    assert commands.perform(view, "d", (2, 5)) == "across: name 2 (low 2 - high 2); up: name 5 (low 5 - high 5)"
    assert "\n     5  name 5 (low 5 - high 5)" in commands.help_message(29, model.dimension_names)
    assert "name 7 (low 7 - high 7)" in bundle.describe(model.bundle, lambda *_: "")
    assert model.bundle.manifest["starts"] == [3, 9]
    page = site.assets([model.bundle], None)
    assert {"bundles/tiny/sheet-3.webp", "bundles/tiny/sheet-9.webp"} <= set(page)
    assert model.bundle.read("sheet-9.webp") == page["bundles/tiny/sheet-9.webp"].content()


def test_a_bundle_without_names_calls_dimensions_by_their_numbers(tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    assert str(model.dimension_names[4]) == "dimension 4"
    view: Any = SimpleNamespace(session=Session(model))
    assert commands.perform(view, "d", (2, 5)) == ""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("decoder = ", "coder = ", "unknown key 'coder'"),
        ('decoder = "', 'decoder = "0', "are of the decoder 0"),
        ('["name 3", "low 3", "high 3"],\n', "", "28 names, tiny has 29 dimensions"),
        ('"low 3"', "7", "dimension 3 is .* must be \\[name, low end, high end\\]"),
        ('"name 3"', f'"{"x" * 41}"', "each at most 40 letters"),
        ("[3, 9]", "[-1]", "must be a list of seeds"),
        ("dimensions = [", "dimensions = ", "is not valid TOML"),
    ],
)
def test_a_wrong_file_of_names_changes_nothing(named: Path, before: str, after: str, message: str) -> None:
    path = named.parent / "names.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    manifest = (named / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=message) as caught:
        names.put(named, names.read(path))
    assert "\n" not in str(caught.value)
    assert (named / "manifest.json").read_bytes() == manifest


def test_the_names_beside_the_recipes_are_those_of_the_shipped_bundles() -> None:
    for name in bundle.names():
        shipped = bundle.find(name)
        read = names.read(Path(names.__file__).parent / "recipes" / "names" / f"{name}.toml")
        assert shipped.dimension_names == read.dimensions
        assert shipped.manifest["starts"] == list(read.starts)
        assert len({one.name for one in read.dimensions}) == len(read.dimensions), "no two have the same name"
        assert all(one.ends for one in read.dimensions)
        for seed in read.starts:
            assert len(shipped.read(sheet.file_name(seed))) <= sheet.MOST_BYTES


def test_a_sheet_is_the_first_face_over_the_first_two_dimensions(tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    content = sheet.draw(bundle.find(tiny_bundle), FIRST_SEED)
    assert len(content) <= sheet.MOST_BYTES
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("L"), float)
    assert picture.shape == (16 * SHEET_SIDE, 16 * SHEET_SIDE)
    z = model.sample(1, FIRST_SEED)[0]
    edge = sheet.reach(z, model.dimensions)
    for row, column in ((0, 0), (0, 8), (8, 0), (4, 4), (2, 7)):
        z[list(model.dimensions[:2])] = edge * (column / 4 - 1), edge * (1 - row / 4)
        face = to_uint8(model.decode(z))[0, :, :, 0].astype(float)
        cell = picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert np.abs(cell - face).mean() < 8

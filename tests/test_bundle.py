"""What a bundle must be, and the one line that says why a folder is none."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morphing_faces as mf
from morphing_faces import bundle as bundles
from morphing_faces.bundle import BundleError
from morphing_faces.errors import UserError

REMEDIES = ("copy or export the bundle again", "update morphing-faces, or export the bundle")


def change(folder: Path, **fields: Any) -> None:
    """Change fields of the manifest; ``None`` removes one."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text(encoding="utf-8")), **fields}
    kept = {key: value for key, value in manifest.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def change_file(folder: Path, name: str, content: bytes) -> None:
    """Replace one of the files and put its hash and length into the manifest: a careful liar."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change(folder, files=files)


def refusal(folder: Path | str) -> str:
    """The one line with which a bundle is refused."""
    with pytest.raises(BundleError) as caught:
        mf.load(folder)
    message = str(caught.value)
    assert message.strip()
    assert "\n" not in message
    return message


def with_remedy(message: str) -> str:
    assert any(remedy in message for remedy in REMEDIES), f"no remedy in: {message}"
    return message


# --- what is good


def test_a_bundle_says_what_it_holds(tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    assert model.name == "tiny"
    assert model.image_shape == (16, 16, 1)
    assert model.latent_size == 32
    assert model.dimensions == tuple(range(29))
    manifest = model.bundle.manifest
    assert manifest["channel_order"] == "grey"
    assert manifest["value_range"] == [0, 1]
    assert manifest["licence"] == "drawn faces, no rights reserved"
    shares = [entry["share"] for entry in manifest["dimensions"]]
    assert shares == sorted(shares, reverse=True)


def test_a_bundle_is_found_by_a_path_of_any_kind(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    for path in (tiny_bundle, str(tiny_bundle), "tiny", "./tiny"):
        assert bundles.find(path).name == "tiny"


def test_every_file_of_a_bundle_is_json_or_onnx_and_no_pickle_is_ever_loaded(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a bundle was unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert sorted(path.name for path in tiny_bundle.iterdir()) == sorted((*bundles.FILES, "manifest.json"))
    assert isinstance(json.loads((tiny_bundle / "golden.json").read_bytes()), dict)
    model = mf.load(tiny_bundle)
    assert model.encode(model.decode(model.sample(2))).mean.shape == (2, 32)


def test_the_manifest_holds_the_hash_and_length_of_each_file(tiny_bundle: Path) -> None:
    files = json.loads((tiny_bundle / "manifest.json").read_text(encoding="utf-8"))["files"]
    assert sorted(files) == sorted(bundles.FILES)
    for name, entry in files.items():
        content = (tiny_bundle / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


@pytest.fixture
def shipped(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped bundles: the default, two others and what is no bundle."""
    folder = tmp_path / "shipped"
    for name in ("alpha", bundles.DEFAULT, "zeta"):
        shutil.copytree(tiny_bundle, folder / name)
    (folder / "notes").mkdir()
    monkeypatch.setattr(bundles, "SHIPPED", folder)
    return folder


def test_the_shipped_names_come_with_the_default_first(shipped: Path) -> None:
    assert bundles.names() == [bundles.DEFAULT, "alpha", "zeta"]
    assert bundles.find().folder == shipped / bundles.DEFAULT
    assert bundles.find("zeta").folder == shipped / "zeta"


@pytest.mark.usefixtures("shipped")
def test_an_unknown_name_is_refused_with_the_nearest_and_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal("alhpa")
    assert "no bundle 'alhpa'" in message
    assert "did you mean 'alpha'?" in message
    assert f"{bundles.DEFAULT}, alpha, zeta" in message
    assert "the path of a bundle's folder" in message
    assert "did you mean" not in refusal("qqqqqq")


# --- what is damaged


@pytest.mark.parametrize("name", bundles.FILES)
def test_a_missing_file_is_named(name: str, bundle_copy: Path) -> None:
    (bundle_copy / name).unlink()
    message = with_remedy(refusal(bundle_copy))
    assert str(bundle_copy / name) in message
    assert "No such file" in message


@pytest.mark.parametrize("name", bundles.FILES)
def test_a_truncated_file_is_named_with_both_lengths(name: str, bundle_copy: Path) -> None:
    content = (bundle_copy / name).read_bytes()
    (bundle_copy / name).write_bytes(content[:-7])
    message = with_remedy(refusal(bundle_copy))
    assert str(bundle_copy / name) in message
    assert f"{len(content) - 7} bytes, expected {len(content)}" in message


@pytest.mark.parametrize("name", bundles.FILES)
def test_an_altered_file_is_named_with_both_hashes(name: str, bundle_copy: Path) -> None:
    content = bytearray((bundle_copy / name).read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[len(content) // 2] ^= 1
    (bundle_copy / name).write_bytes(content)
    message = with_remedy(refusal(bundle_copy))
    assert str(bundle_copy / name) in message
    assert expected[:12] in message
    assert hashlib.sha256(content).hexdigest()[:12] in message


def test_a_folder_without_a_manifest_is_refused_with_the_remedy(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert f"{tmp_path} is not a bundle" in message
    assert "manifest.json" in message
    with_remedy(message)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"], ids=["half", "empty", "not UTF-8"])
def test_a_manifest_that_is_not_json_is_refused(content: bytes, bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").write_bytes(content)
    message = with_remedy(refusal(bundle_copy))
    assert f"{bundle_copy / 'manifest.json'} is not valid JSON" in message


@pytest.mark.parametrize("content", ["[]", "{}", '"format"', '{"name": "x"}'])
def test_json_that_is_no_manifest_is_refused(content: str, bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").write_text(content)
    message = refusal(bundle_copy)
    assert f"{bundle_copy / 'manifest.json'} has no 'format'" in message
    with_remedy(message)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_version_is_refused_with_both_versions(version: Any, bundle_copy: Path) -> None:
    path = bundle_copy / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, "format": version}), encoding="utf-8")
    assert f"has format {version!r}, this program reads 1" in with_remedy(refusal(bundle_copy))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", 3, "str"),
        ("image_shape", "16x16", "list"),
        ("latent_size", "32", "int"),
        ("latent_size", 32.0, "int"),
        ("dimensions", {}, "list"),
        ("training", [], "dict"),
        ("figures", 1, "dict"),
        ("licence", [], "str"),
        ("files", [], "dict"),
    ],
)
def test_a_field_of_another_type_is_named_with_both_types(
    key: str, value: Any, expected: str, bundle_copy: Path
) -> None:
    change(bundle_copy, **{key: value})
    message = with_remedy(refusal(bundle_copy))
    assert f"'{key}' is {type(value).__name__}, expected {expected}" in message


@pytest.mark.parametrize("key", ["name", "image_shape", "latent_size", "dimensions", "files", "licence", "attributes"])
def test_a_field_that_is_not_there_is_named(key: str, bundle_copy: Path) -> None:
    change(bundle_copy, **{key: None})
    assert f"'{key}' is nothing, expected" in with_remedy(refusal(bundle_copy))


@pytest.mark.parametrize(
    "entry", [None, {}, {"low": "a", "high": "b", "effect": "much", "direction": [], "reading": []}]
)
def test_a_knob_that_is_none_is_named(entry: Any, bundle_copy: Path) -> None:
    change(bundle_copy, attributes={"smile": entry})
    assert "attribute 'smile' lacks low, high, effect" in with_remedy(refusal(bundle_copy))


TWO = [{"latent": 0}, {"latent": 1}]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("image_shape", [16, 16], "[height, width, 1 or 3]"),
        ("image_shape", [16, 16, 2], "[height, width, 1 or 3]"),
        ("image_shape", [16, 0, 1], "[height, width, 1 or 3]"),
        ("image_shape", [16, "16", 1], "[height, width, 1 or 3]"),
        ("image_shape", [16, 16.0, 1], "[height, width, 1 or 3]"),
        ("channel_order", "RGB", "'grey' for 1"),
        ("value_range", [0, 255], "[0, 1]"),
        ("latent_size", 0, "more than 0"),
        ("latent_size", -3, "more than 0"),
        ("dimensions", [], "at least two"),
        ("dimensions", TWO[:1], "at least two"),
        ("dimensions", [*TWO, {"latent": 1}], "each with another 'latent' from 0 to 31"),
        ("dimensions", [*TWO, {"latent": 32}], "each with another 'latent' from 0 to 31"),
        ("dimensions", [*TWO, {"latent": -1}], "each with another 'latent' from 0 to 31"),
        ("dimensions", [*TWO, {"latent": 2.0}], "each with another 'latent' from 0 to 31"),
        ("dimensions", [*TWO, {"latent": True}], "each with another 'latent' from 0 to 31"),
        ("dimensions", [*TWO, {}], "each with another 'latent' from 0 to 31"),
        ("dimensions", [0, 1], "each with another 'latent' from 0 to 31"),
        ("files", {}, "golden.json, each with sha256 and bytes; only encoder.onnx may be missing"),
        ("files", {"decoder.onnx": 1, "encoder.onnx": 2, "golden.json": 3}, "each with sha256 and bytes"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_is_allowed(
    key: str, value: Any, allowed: str, bundle_copy: Path
) -> None:
    change(bundle_copy, **{key: value})
    message = with_remedy(refusal(bundle_copy))
    assert str(bundle_copy / "manifest.json") in message
    assert f"{key} = {value!r:.80}" in message
    assert allowed in message


def test_a_bundle_without_an_encoder_decodes_and_says_what_is_missing(bundle_copy: Path) -> None:
    files = json.loads((bundle_copy / "manifest.json").read_text())["files"]
    change(bundle_copy, files={name: entry for name, entry in files.items() if name != "encoder.onnx"})
    (bundle_copy / "encoder.onnx").unlink()
    model = mf.load(bundle_copy)
    assert model.bundle.files == ("decoder.onnx", "golden.json")
    pictures = model.decode(model.sample(2, seed=0))
    with pytest.raises(UserError, match="'tiny' has no encoder: adopt it again with --encoder"):
        model.encode(pictures)


def test_a_long_value_does_not_make_a_long_message(bundle_copy: Path) -> None:
    change(bundle_copy, dimensions=[{"latent": 99}] * 10_000)
    assert len(refusal(bundle_copy)) < 500 + len(str(bundle_copy))


@pytest.mark.parametrize(
    ("fields", "node", "found", "said"),
    [
        ({"latent_size": 40}, "'u'", "32", "40"),
        ({"image_shape": [24, 24, 1]}, "'picture'", "16, 16, 1", "24, 24, 1"),
        ({"image_shape": [16, 16, 3], "channel_order": "RGB"}, "'picture'", "16, 16, 1", "16, 16, 3"),
    ],
    ids=["latents", "size", "colour"],
)
def test_a_decoder_of_another_shape_than_the_manifest_says_is_refused_with_both(
    fields: dict[str, Any], node: str, found: str, said: str, bundle_copy: Path
) -> None:
    change(bundle_copy, **fields)
    message = refusal(bundle_copy)
    for part in (str(bundle_copy / "decoder.onnx"), node, found, said):
        assert part in message
    with_remedy(message)


def test_networks_in_each_others_place_are_refused(bundle_copy: Path) -> None:
    decoder, encoder = ((bundle_copy / name).read_bytes() for name in ("decoder.onnx", "encoder.onnx"))
    change_file(bundle_copy, "decoder.onnx", encoder)
    assert str(bundle_copy / "decoder.onnx") in refusal(bundle_copy)
    change_file(bundle_copy, "decoder.onnx", decoder)
    change_file(bundle_copy, "encoder.onnx", decoder)
    model = mf.load(bundle_copy)
    with pytest.raises(BundleError, match=r"encoder\.onnx"):
        model.encode(np.zeros((16, 16, 1), np.uint8))


@pytest.mark.parametrize(
    "content", [b"", b"this is no network " * 20, b"\x80\x04\x95"], ids=["empty", "text", "pickle"]
)
def test_bytes_that_are_no_network_are_refused_even_with_the_right_hash(content: bytes, bundle_copy: Path) -> None:
    change_file(bundle_copy, "decoder.onnx", content)
    message = refusal(bundle_copy)
    assert f"{bundle_copy / 'decoder.onnx'} is not a usable ONNX model" in message
    with_remedy(message)


def test_a_damaged_encoder_is_noticed_when_the_bundle_is_loaded(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (bundle_copy / "encoder.onnx").write_bytes(b"")
    assert "encoder.onnx" in refusal("bundle")


def test_the_error_is_a_value_error() -> None:
    assert issubclass(BundleError, ValueError)


@pytest.mark.parametrize("change_one", [lambda name: f"../{name}", lambda name: name.upper()])
def test_files_under_other_names_are_not_read(change_one: Callable[[str], str], bundle_copy: Path) -> None:
    files = json.loads((bundle_copy / "manifest.json").read_text(encoding="utf-8"))["files"]
    change(bundle_copy, files={change_one(name): entry for name, entry in files.items()})
    assert "files = " in with_remedy(refusal(bundle_copy))


def test_what_others_put_into_a_manifest_meanwhile_stays(bundle_copy: Path) -> None:
    one, other = bundles.find(bundle_copy), bundles.find(bundle_copy)
    one.change(lambda manifest: manifest.update(attributes={}))
    other.note(measured=1.0)
    now = json.loads((bundle_copy / "manifest.json").read_text(encoding="utf-8"))
    assert now["attributes"] == {}
    assert now["figures"]["measured"] == 1.0
    assert other.manifest == now
    now["files"]["decoder.onnx"]["sha256"] = "0" * 64
    (bundle_copy / "manifest.json").write_text(json.dumps(now), encoding="utf-8")
    with pytest.raises(UserError, match="has another decoder than a moment ago"):
        one.note(measured=2.0)
    assert json.loads((bundle_copy / "manifest.json").read_text(encoding="utf-8")) == now

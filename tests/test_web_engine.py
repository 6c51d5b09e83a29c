"""The page's engine in a real browser: the twins of noise.py and session.py, the networks, and what can go wrong with them."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import morphing_faces as mf
from conftest import plain_site, visits
from morphing_faces import bundle, noise, site
from morphing_faces.errors import UserError
from morphing_faces.render import to_uint8
from morphing_faces.rules import RANGE_LIMITS, SCALE_LIMITS, UNDO_STEPS
from morphing_faces.session import Session, State

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

Visit = Callable[..., "Page"]
Serve = Callable[..., str]

# Loads a model and keeps it, or returns what was said instead.
LOAD = """async ([base, backend]) => {
  const { loadModel } = await import('/model.js');
  window.progress = [];
  try {
    window.model = await loadModel(base, { backend, onProgress: (p) => window.progress.push(p) });
    return null;
  } catch (error) {
    return error.message;
  }
}"""


@pytest.fixture(scope="module")
def tiny(serve: Serve, tiny_bundle: Path) -> str:
    return serve(tiny_bundle)


def blank(visit: Visit, address: str, allow: tuple[str, ...] = (), **options: Any) -> Page:
    """A document of the page's origin on which nothing runs by itself."""
    return visit(f"{address}icon.svg", allow=(*allow, "favicon.ico"), **options)


def load(page: Page, name: str, backend: str = "auto") -> str | None:
    """Load a bundle in the page; what it said if it could not."""
    said: str | None = page.evaluate(LOAD, [f"bundles/{name}", backend])
    return said


@pytest.fixture(scope="module")
def opened(browser: Browser, tiny: str) -> Iterator[tuple[Page, list[str]]]:
    """One such document for all tests that need no other."""
    with visits(browser) as (go, errors):
        yield blank(go, tiny), errors


@pytest.fixture
def page(opened: tuple[Page, list[str]]) -> Iterator[Page]:
    page, errors = opened
    yield page
    page.evaluate("window.model?.close()")
    page.unroute_all(behavior="ignoreErrors")
    assert not errors, "\n".join(errors)


# --- the twins


def test_noise_is_the_same_to_the_bit(page: Page) -> None:
    golden = bundle.find("classic").golden()["noise"]
    got = page.evaluate(
        """async () => {
          const { normal, philox, whole } = await import('/noise.js');
          const bits = (table) => Array.from(new Uint32Array(table.buffer));
          return {
            zero: philox(0, 0, 0, 0, 0, 0),
            ones: philox(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff),
            pi: philox(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0x299f31d0 | 0, 0xa4093822),
            first: Array.from(normal(0, 0, 1, 8)),
            row: Array.from(normal(7, 3, 1, 8)),
            walk: Array.from({ length: 8 }, (_, k) => whole(0, k, 58)),
            table: bits(normal(4294967295, 1000, 40, 399)),
            large: whole(5, 4294967295, 4294967295),
          };
        }"""
    )
    ones = noise.philox(np.full((1, 4), 0xFFFFFFFF, np.uint32), 2**64 - 1)[0]
    counter = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint32)
    assert got["zero"] == noise.philox(np.zeros((1, 4), np.uint32), 0)[0].tolist()
    assert got["ones"] == ones.tolist()
    assert got["pi"] == noise.philox(counter, 0xA4093822299F31D0)[0].tolist()
    assert np.float32(got["first"]).tolist() == np.float32(golden["normal"]).tolist()
    assert np.float32(got["row"]).tolist() == np.float32(golden["seed_7_row_3"]).tolist()
    assert got["walk"] == golden["walk"]
    assert got["table"] == noise.normal(2**32 - 1, 1000, 40, 399).view(np.uint32).ravel().tolist()
    assert got["large"] == noise.whole(5, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5", "'7'", "undefined", "NaN"])
def test_a_wrong_seed_is_named(page: Page, seed: str) -> None:
    said = page.evaluate(f"import('/noise.js').then((noise) => noise.normal({seed}, 0, 1, 4)).catch((e) => e.message)")
    assert "must be a whole number from 0 to 4294967295" in said


def verbs(count: int, dimensions: int, latent_size: int, seed: int) -> list[tuple[str, list[Any]]]:
    """Random verbs, right and wrong ones, as (name in Python, arguments)."""
    rng = random.Random(seed)

    def one() -> tuple[str, list[Any]]:
        name = rng.choice(["move"] * 6 + ["walk", "glide"] * 4 + ["undo", "redo", "shuffle", "select", "set", "set z"] * 2
                          + ["slide", "set_scale", "widen", "toggle_freeze", "toggle_lock", "toggle_still"] * 2
                          + ["set_range", "settle", "end_gesture", "again", "seed", "reset", "show", "state"])  # fmt: skip
        z = [
            rng.choice([rng.gauss(0, 1), 1e30]) if rng.random() < 0.001 else rng.gauss(0, 1) for _ in range(latent_size)
        ]
        arguments: dict[str, list[Any]] = {
            "move": [rng.uniform(-1.2, 1.2), rng.choice([rng.uniform(-1.2, 1.2), 1e39] + [0.5] * 20)],
            "select": [rng.randint(-1, dimensions), rng.randint(0, dimensions - 1)],
            "set": [rng.randint(-1, dimensions), rng.choice([rng.gauss(0, 2), 2.5, -2.5, 0.1, 101, 1e39])],
            "slide": [rng.randint(0, 2), rng.gauss(0, 1), "slide"],
            "set z": [z if rng.random() < 0.9 else z[:3]],
            "show": [z, rng.choice([None, [4, 2]]), rng.choice([1, 1.25]), rng.choice([None, True, False])],
            "settle": [z],
            "set_range": [rng.choice([rng.uniform(*RANGE_LIMITS), 5.0, 0.0])],
            "set_scale": [rng.choice([rng.uniform(*SCALE_LIMITS), 1.0, 1.0, 2.5])],
            "widen": [rng.choice([-3, -1, -0.5, 1, 2, 100, 1e5])],
            "glide": [rng.choice([0, 0.1, 0.25, 0.7, 1.5, -1])],
            "toggle_lock": [rng.randint(-1, dimensions)],
            "toggle_still": [rng.choice(["shape", "appearance", "shape", "nose"])],
            "seed": [rng.choice([0, 9, 2**32 - 1, 2**32, -1])],
        }
        return {"set z": "set", "slide": "set", "seed": "shuffle"}.get(name, name), arguments.get(name, [])

    return [one() for _ in range(count)]


TOY = SimpleNamespace(latent_size=40, dimensions=tuple(range(39, 10, -1)), name="toy", has_shape=True)
TOY_IN_JS = {"latentSize": 40, "dimensions": TOY.dimensions, "name": "toy", "hasShape": True}


def test_the_sessions_are_twins(page: Page) -> None:
    """The same two thousand verbs, some of them wrong, leave the same state behind after each, and say the same."""
    script = verbs(2000, len(TOY.dimensions), TOY.latent_size, seed=1)
    states = page.evaluate(
        """async ([shape, script]) => {
          const { Session } = await import('/session.js');
          const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
          const session = new Session(shape, 3);
          const kept = [];
          return script.map(([verb, values]) => {
            let returned = null;
            let said = null;
            try {
              if (verb === 'again') session.fromObject(JSON.parse(JSON.stringify(session.toObject())));
              else if (verb === 'state') session.restore(kept.at(-7) ?? session.state);
              else returned = session[camel(verb)](...values) ?? null;
            } catch (error) {
              if (!(error instanceof RangeError)) throw error;
              said = error.message;
            }
            kept.push(session.state);
            const bits = Array.from(new Uint32Array(session.z.slice().buffer));
            const { axes, frozen, range, scale, origin, seed, facesDrawn, walkSteps, canUndo, canRedo } = session;
            const locked = [...session.locked].sort((a, b) => a - b);
            const bitsOf = (point) => Array.from(new Uint32Array(point.slice().buffer));
            const still = session.still && [session.still.part, bitsOf(session.still.z)];
            return { returned, said, bits, axes, locked, origin, still, rest:
              [frozen, range, scale, seed, facesDrawn, walkSteps, session.state.anchors, canUndo, canRedo] };
          });
        }""",
        [TOY_IN_JS, script],
    )
    session = Session(TOY, seed=3)  # type: ignore[arg-type]
    refusals = 0
    kept: list[State] = []
    for step, ((verb, values), state) in enumerate(zip(script, states, strict=True)):
        returned, said = None, None
        try:
            if verb == "again":
                session.from_dict(json.loads(json.dumps(session.to_dict())))
            elif verb == "state":
                session.restore(kept[-7] if len(kept) >= 7 else session.state)
            elif verb == "show":
                z, origin, *others = values
                session.show(z, origin and tuple(origin), *others)
            else:
                returned = getattr(session, verb)(*values)
        except UserError as error:
            said = str(error)
            refusals += 1
        kept.append(session.state)
        where = f"step {step}: {verb} {str(values)[:60]}"
        assert (state["returned"], state["said"]) == (returned, said), where
        assert state["bits"] == session.z.view(np.uint32).tolist(), where
        assert (tuple(state["axes"]), state["locked"]) == (session.axes, sorted(session.locked)), where
        assert state["origin"] == (session.origin and list(session.origin)), where
        still = session.still and [session.still.part, session.still.z.view(np.uint32).tolist()]
        assert state["still"] == still, where
        counts = [session.seed, session.faces_drawn, session.walk_steps, session.state.anchors]
        rest = [session.frozen, session.range, session.scale, *counts, session.can_undo, session.can_redo]
        assert state["rest"] == rest, where
    assert refusals > 100


def test_undo_forgets_the_oldest_in_both_twins(page: Page) -> None:
    undone = page.evaluate(
        """async (shape) => {
          const { Session } = await import('/session.js');
          const session = new Session(shape, 3);
          for (let k = 0; k < 250; k++) session.shuffle();
          let steps = 0;
          while (session.undo()) steps += 1;
          return [steps, session.facesDrawn];
        }""",
        TOY_IN_JS,
    )
    session = Session(TOY, seed=3)  # type: ignore[arg-type]
    for _ in range(250):
        session.shuffle()
    steps = 0
    while session.undo():
        steps += 1
    assert undone == [steps, session.faces_drawn] == [UNDO_STEPS, 51]


def test_a_face_saved_by_one_is_opened_by_the_other(page: Page) -> None:
    session = Session(TOY, seed=11)  # type: ignore[arg-type]
    session.select(4, 7)
    session.set_range(1.75)
    session.toggle_freeze()
    session.toggle_lock(5)
    session.toggle_still("appearance")
    session.shuffle()
    face = session.to_dict()
    wrong: list[Any] = [
        {}, None, {**face, "version": 2}, {**face, "bundle": "other"}, {**face, "z": [1]}, {**face, "z": ["1"] * 40},
        {**face, "z": [101.0] * 40}, {**face, "axes": [1, 1]}, {**face, "axes": [0, 29]}, {**face, "axes": [0, 1, 2]},
        {**face, "range": 9}, {**face, "frozen": 1}, {**face, "locked": [3, 3]}, {**face, "locked": 4},
        {**face, "bundle": "x" * 900}, {**face, "still": {"part": "nose", "z": face["z"]}}, {**face, "still": [1]},
        {**face, "still": {"part": "shape", "z": [1]}},
    ]  # fmt: skip
    got = page.evaluate(
        """async ([shape, face, wrong]) => {
          const { Session } = await import('/session.js');
          const session = new Session(shape);
          session.fromObject(face);
          const said = wrong.map((one) => {
            try { session.fromObject(one); return 'taken'; } catch (error) { return error.message; }
          });
          return { again: session.toObject(), said };
        }""",
        [TOY_IN_JS, face, wrong],
    )
    assert got["again"] == face
    other = Session(TOY)  # type: ignore[arg-type]
    other.from_dict(got["again"])
    assert other.to_dict() == face
    for one, said in zip(wrong, got["said"], strict=True):
        with pytest.raises(UserError) as caught:
            other.from_dict(one)
        assert said == str(caught.value)
    assert other.to_dict() == face


def test_the_page_reads_the_limits_and_messages_of_python() -> None:
    script = Path(__file__).parents[1] / "scripts" / "rules.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0, f"run {script}"


# --- the networks


def test_the_golden_faces_of_the_default_bundle(visit: Visit, serve: Serve) -> None:
    """Pixels within 2 of 255 and codes as Python has them, for every shipped bundle."""
    for name in bundle.names():
        shipped = bundle.find(name)
        golden = shipped.golden()
        page = blank(visit, serve(name))
        assert load(page, name) is None
        latents = [face["u"] for face in golden["faces"]]
        pixels = page.evaluate(
            "async (latents) => Array.from(await window.model.decode(Float32Array.from(latents.flat()), latents.length))",
            latents,
        )
        height, width, channels = shipped.image_shape
        got = np.array(pixels, int).reshape(len(latents), height, width, 4)
        assert (got[..., 3] == 255).all()
        assert channels == 3 or (got[..., 0] == got[..., 1]).all()
        for face, picture in zip(golden["faces"], got, strict=True):
            expected = np.frombuffer(base64.b64decode(face["pixels"]), np.uint8).reshape(shipped.image_shape)
            assert np.abs(picture[..., :channels] - expected).max() <= 2
        for code in golden["codes"]:
            encoded = base64.b64decode(golden["faces"][code["pixels_of_face"]]["pixels"])
            found = page.evaluate(
                """async (bytes) => {
                  const { mean, std } = await window.model.encode(Float32Array.from(bytes, (byte) => byte / 255));
                  return { mean: Array.from(mean), std: Array.from(std) };
                }""",
                list(encoded),
            )
            assert np.abs(np.subtract(found["mean"], code["mean"])).max() < 0.01
            assert np.abs(np.subtract(found["std"], code["std"])).max() < 0.01
        page.close()


def test_pictures_are_rounded_as_in_python(page: Page, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    assert load(page, "tiny") is None
    shape = page.evaluate("[model.name, model.imageShape, model.latentSize, model.dimensions, model.backend]")
    assert shape == ["tiny", [16, 16, 1], 32, list(model.dimensions), "wasm"]
    z = model.sample(11, seed=2)
    got = page.evaluate(
        "async (z) => Array.from(await window.model.decode(Float32Array.from(z), 11))", z.ravel().tolist()
    )
    difference = np.abs(np.array(got).reshape(11, 16, 16, 4)[..., :1].astype(int) - to_uint8(model.decode(z)))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    progress = page.evaluate("window.progress")
    assert {entry["what"] for entry in progress} == {"the model", "the runtime"}
    assert progress[-1]["loaded"] == progress[-1]["total"] > 14e6
    assert all(entry["loaded"] <= entry["total"] for entry in progress)


@pytest.fixture(scope="module")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with three channels, taller than wide, whose name does not fit an address."""
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("colours") / "any"
    folder.mkdir()
    size, shape, rng = 6, (8, 5, 3), np.random.default_rng(0)

    def network(inputs: dict[str, list[Any]], nodes: list[Any], outputs: dict[str, list[Any]], **values: Any) -> bytes:
        ends = [
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in e.items()] for e in (inputs, outputs)
        ]
        constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
        graph = helper.make_graph([helper.make_node(*node) for node in nodes], "g", *ends, constants)
        opset = [helper.make_opsetid("", 17)]
        return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())

    weights = rng.normal(0, 1, (size, 120)).astype(np.float32)
    content = {
        "decoder.onnx": network(
            {"u": ["n", size]},
            [("MatMul", ["u", "w"], ["a"]), ("Sigmoid", ["a"], ["b"]), ("Reshape", ["b", "s"], ["picture"])],
            {"picture": ["n", *shape]},
            w=weights, s=np.array([-1, *shape]),
        ),
        "encoder.onnx": network(
            {"picture": ["n", *shape]},
            [("Flatten", ["picture"], ["f"]), ("MatMul", ["f", "w"], ["mean"]), ("Exp", ["mean"], ["std"])],
            {"mean": ["n", size], "std": ["n", size]},
            w=weights.T / 100,
        ),
        "golden.json": b"{}",
    }  # fmt: skip
    for name, data in content.items():
        (folder / name).write_bytes(data)
    files = {k: {"bytes": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in content.items()}
    manifest = {
        "format": 1, "name": "my colours", "image_shape": shape, "channel_order": "RGB", "value_range": [0, 1],
        "latent_size": size, "dimensions": [{"latent": k} for k in (3, 0, 5)], "attributes": {}, "training": {},
        "figures": {}, "licence": "none", "files": files,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_three_channels_any_shape_and_any_name(visit: Visit, serve: Serve, colour_bundle: Path) -> None:
    model = mf.load(colour_bundle)
    page = blank(visit, serve(colour_bundle))
    assert load(page, "my-colours") is None
    z = model.sample(5, seed=1)
    got = page.evaluate("async (z) => Array.from(await model.decode(Float32Array.from(z), 5))", z.ravel().tolist())
    pixels = np.array(got).reshape(5, 8, 5, 4)
    assert np.abs(pixels[..., :3].astype(int) - to_uint8(model.decode(z))).max() <= 1
    assert pixels[..., :3].std(axis=3).max() > 20, "the channels differ"
    assert (pixels[..., 3] == 255).all()
    picture = model.decode(z[0])[0]
    code = page.evaluate(
        """async (values) => {
          const { mean, std } = await model.encode(Float32Array.from(values));
          return [Array.from(mean), Array.from(std), model.dimensions];
        }""",
        picture.ravel().tolist(),
    )
    expected = model.encode(picture)
    assert np.allclose(code[0], expected.mean[0], atol=1e-5)
    assert np.allclose(code[1], expected.std[0], atol=1e-5)
    assert code[2] == [3, 0, 5]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, 3), (64, 4)])
def test_threads_are_used_where_the_page_is_isolated(cores: int, threads: int, page: Page, tiny_bundle: Path) -> None:
    def with_cores(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace("navigator.hardwareConcurrency", str(cores)))

    page.route("**/worker.js", with_cores)
    assert load(page, "tiny") is None
    assert page.evaluate("[crossOriginIsolated, model.threads]") == [True, threads]
    model = mf.load(tiny_bundle)
    u = model.sample(1)
    pixels = np.array(page.evaluate("async (u) => Array.from(await model.decode(new Float32Array(u)))", u[0].tolist()))
    expected = to_uint8(model.decode(u))[0, :, :, 0].ravel()
    assert np.abs(pixels.reshape(-1, 4)[:, 0] - expected.astype(int)).max() <= 2


def test_the_newest_request_wins_and_passes_the_queue(page: Page) -> None:
    assert load(page, "tiny") is None
    got = page.evaluate(
        """async () => {
          const { normal } = await import('/noise.js');
          const row = (k) => normal(0, k, 1, model.latentSize);
          const order = [];
          const batch = model.decode(normal(1, 0, 64, model.latentSize), 64).then(() => order.push('batch'));
          const hovers = await Promise.all(Array.from({ length: 40 }, (_, k) => model.decodeLatest(row(k))));
          order.push('hover');
          await batch;
          const alone = Array.from(await model.decode(row(39)));
          return { order, shown: hovers.flatMap((p, k) => (p ? [k] : [])), same: String(alone) === String(hovers[39]) };
        }"""
    )
    assert got == {"order": ["hover", "batch"], "shown": [39], "same": True}


@pytest.mark.parametrize(("took", "shown"), [("15", [0, 1, 3]), ("1000", [0, 3])])
def test_the_worker_has_the_next_request_while_it_runs_one_unless_that_takes_long(
    took: str, shown: list[int], page: Page
) -> None:
    def timed(route: Route) -> None:
        response = route.fetch()
        measured = "took: performance.now() - began"
        assert measured in response.text()
        route.fulfill(response=response, body=response.text().replace(measured, f"took: {took}"))

    page.route("**/worker.js", timed)
    assert load(page, "tiny", "wasm") is None
    got = page.evaluate(
        """async () => {
          const { normal } = await import('/noise.js');
          const row = (k) => normal(0, k, 1, model.latentSize);
          await model.decode(row(9)); // now it is known what one takes
          const hovers = await Promise.all([0, 1, 2, 3].map((k) => model.decodeLatest(row(k))));
          const same = await Promise.all(hovers.map(async (p, k) => !p || String(p) === String(await model.decode(row(k)))));
          return [hovers.flatMap((p, k) => (p ? [k] : [])), same.every(Boolean)];
        }"""
    )
    assert got == [shown, True]


def test_a_stream_of_hovers_does_not_starve_the_others(page: Page) -> None:
    assert load(page, "tiny") is None
    got = page.evaluate(
        """async () => {
          let [done, hovers] = [false, 0];
          model.decode(new Float32Array(12 * model.latentSize), 12).then(() => { done = true; });
          while (!done && performance.now() < 60_000) {
            await model.decodeLatest(new Float32Array(model.latentSize));
            hovers++;
          }
          return [done, hovers > 3];
        }"""
    )
    assert got == [True, True]


def test_wrong_requests_are_refused_before_they_reach_the_worker(page: Page) -> None:
    assert load(page, "tiny") is None
    said = page.evaluate(
        """async () => {
          const say = (make) => (async () => make())().then(() => 'taken', (error) => error.message);
          return [
            await say(() => model.decode(new Float32Array(31))),
            await say(() => model.decode(new Float32Array(32).fill(NaN))),
            await say(() => model.decodeLatest(new Float32Array(32).fill(Infinity))),
            await say(() => model.encode(new Float32Array(5))),
            (await model.decode(new Float32Array(0), 0)).length,
          ];
        }"""
    )
    assert said == [
        "u has 31 values, expected 1 * 32",
        "u has values that are not finite; latents are real numbers, typically from -3 to 3",
        "u has values that are not finite; latents are real numbers, typically from -3 to 3",
        "the picture has 5 values, expected 16 * 16 * 1",
        0,
    ]


def test_closing_and_stopping_reject_what_waits(page: Page) -> None:
    assert load(page, "tiny") is None
    got = page.evaluate(
        """async () => {
          const { loadModel } = await import('/model.js');
          const name = (error) => error.name;
          const waits = model.decode(new Float32Array(320), 10).catch(name);
          model.close();
          const closed = [await waits, await model.decode(new Float32Array(32)).catch(name)];
          const controller = new AbortController();
          const loading = loadModel('bundles/tiny', { signal: controller.signal }).catch(name);
          controller.abort();
          return [...closed, await loading, await loadModel('x', { signal: controller.signal }).catch(name)];
        }"""
    )
    assert got == 4 * ["AbortError"]


def test_without_a_usable_webgpu_the_page_stays_with_webassembly(visit: Visit, tiny: str) -> None:
    """Headless Chromium has navigator.gpu and no adapter behind it."""
    page = blank(visit, tiny)
    assert load(page, "tiny") is None
    assert page.evaluate("async () => { await model.settled; return model.backend; }") == "wasm"
    assert "no usable WebGPU" in str(load(page, "tiny", "webgpu"))
    without = blank(visit, tiny, script="delete Navigator.prototype.gpu")
    said = load(without, "tiny", "webgpu")
    assert said == "This browser has no usable WebGPU. Choose the back end 'wasm', or 'auto'."


@pytest.fixture
def webgpu(launch: Callable[..., Any]) -> Iterator[Page]:
    """A page in a Chromium whose WebGPU is made of software: slow, but the same code."""
    program = launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    page = program.new_page()
    page.set_default_timeout(120_000)
    yield page
    program.close()


def test_webgpu_shows_the_same_faces(webgpu: Page, tiny: str, tiny_bundle: Path) -> None:
    webgpu.goto(tiny + "icon.svg")
    assert load(webgpu, "tiny", "webgpu") is None
    assert webgpu.evaluate("model.backend") == "webgpu"
    model = mf.load(tiny_bundle)
    z = model.sample(3, seed=5)
    got = webgpu.evaluate("async (z) => Array.from(await model.decode(Float32Array.from(z), 3))", z.ravel().tolist())
    difference = np.abs(np.array(got).reshape(3, 16, 16, 4)[..., :1].astype(int) - to_uint8(model.decode(z)))
    assert difference.max() <= 2
    assert webgpu.evaluate("async () => (await model.encode(new Float32Array(256))).std.length") == 32


@pytest.mark.parametrize(("webassembly", "gpu", "winner"), [(50, 5, "webgpu"), (50, 60, "wasm"), (5, 1, "wasm")])
def test_the_faster_back_end_is_kept(webgpu: Page, tiny: str, webassembly: int, gpu: int, winner: str) -> None:
    """Told how long a decode takes on each; below 8 ms WebGPU is not even fetched."""
    worker = (site.WEB / "worker.js").read_text()
    told = f"return {{ median: backend === 'wasm' ? {webassembly} : {gpu} }};"
    measured = "return { median: await time(request.u, request.runs) };"
    assert measured in worker
    headers = {**site.HEADERS, "Content-Type": "text/javascript"}
    webgpu.route("**/worker.js", lambda route: route.fulfill(body=worker.replace(measured, told), headers=headers))
    fetched: list[str] = []
    webgpu.on("request", lambda request: fetched.append(request.url))
    webgpu.goto(tiny + "icon.svg")
    webgpu.evaluate("Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { value: false })")
    assert load(webgpu, "tiny") is None
    hovers = webgpu.evaluate(
        """async () => {
          let frames = 0;
          let done = false;
          model.settled.then(() => { done = true; });
          while (!done && performance.now() < 120_000) frames += (await model.decodeLatest(new Float32Array(32))).length === 1024 ? 1 : 0;
          return [frames, model.backend, (await model.decode(new Float32Array(32))).length];
        }"""
    )
    assert hovers[0] > 0
    assert hovers[1:] == [winner, 1024]
    assert any("jspi" in url for url in fetched) == (webassembly > 8)


def test_webassembly_takes_over_when_the_graphics_card_goes_away(webgpu: Page, tiny: str) -> None:
    worker = (site.WEB / "worker.js").read_text()
    for old, new in (
        ("return { median: await time(request.u, request.runs) };", "return { median: backend === 'wasm' ? 50 : 5 };"),
        (
            "async function decode(u, n, shape) {",
            "async function decode(u, n, shape) { if (backend === 'webgpu') throw Error('lost');",
        ),
    ):
        assert old in worker
        worker = worker.replace(old, new)
    headers = {**site.HEADERS, "Content-Type": "text/javascript"}
    webgpu.route("**/worker.js", lambda route: route.fulfill(body=worker, headers=headers))
    webgpu.goto(tiny + "icon.svg")
    webgpu.evaluate("Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { value: false })")
    assert load(webgpu, "tiny") is None
    got = webgpu.evaluate(
        """async () => {
          await model.settled;
          const before = model.backend;
          const [first, second] = await Promise.all([1, 2].map(() => model.decode(new Float32Array(32))));
          const after = model.backend;
          model.close();
          const closed = await model.decode(new Float32Array(32)).catch((error) => error.name);
          return [before, first.length, second.length, after, closed];
        }"""
    )
    assert got == ["webgpu", 1024, 1024, "wasm", "AbortError"]


def test_the_face_stays_alive_while_the_encoder_comes(visit: Visit, tiny: str) -> None:
    page = blank(visit, tiny)
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route("**/encoder.onnx*", hold)
    assert load(page, "tiny") is None
    page.evaluate("() => { window.code = model.encode(new Float32Array(256)); }")
    assert page.evaluate("async () => (await model.decodeLatest(new Float32Array(32))).length") == 1024
    assert len(waiting) == 1
    waiting[0].continue_()
    assert page.evaluate("async () => (await window.code).mean.length") == 32
    assert page.evaluate("async () => (await model.encode(new Float32Array(256))).mean.length") == 32
    assert len(waiting) == 1, "once is enough"


# --- what can go wrong


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"manifest.json": None}, ["The model's description could not be loaded", "404", "its owner"]),
        ({"manifest.json": b"<html>"}, ["The model's description", "is not valid JSON"]),
        ({"manifest.json": {"format": 3}}, ["has format 3, this page reads 1 and 2", "Reload the page"]),
        ({"manifest.json": {"files": {}}}, ["The model's description", "is incomplete"]),
        ({"decoder.onnx": None}, ["The model could not be loaded", "decoder.onnx", "404"]),
        ({"decoder.onnx": "cut"}, ["The model at", "decoder.onnx", "has 1000 bytes, expected"]),
        ({"decoder.onnx": "longer"}, ["The model at", "bytes, expected"]),
        ({"decoder.onnx": "flipped"}, ["The model at", "has SHA-256", "expected", "Reload the page"]),
    ],
)
def test_a_damaged_bundle_is_said(
    visit: Visit, serve: Serve, bundle_copy: Path, damage: dict[str, Any], words: list[str]
) -> None:
    shown = blank(visit, serve(bundle_copy), allow=("Failed to load resource",))
    for name, change in damage.items():
        shown.route(f"**/{name}*", partial(_damaged, bundle_copy / name, change))
    said = load(shown, "tiny")
    assert said is not None
    assert "\n" not in said
    for word in words:
        assert word in said


def _damaged(path: Path, change: Any, route: Route) -> None:
    if change is None:
        return route.fulfill(status=404)
    body = path.read_bytes()
    if isinstance(change, bytes):
        body = change
    elif isinstance(change, dict):
        body = json.dumps({**json.loads(body), **change}).encode()
    else:
        body = {"cut": body[:1000], "longer": body + b"x", "flipped": body[:-1] + bytes([body[-1] ^ 1])}[change]
    return route.fulfill(body=body)


def test_a_file_that_passes_its_hash_and_is_no_network_is_said(visit: Visit, serve: Serve, bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "decoder.onnx").write_bytes(b"not a network")
    manifest["files"]["decoder.onnx"] = {"bytes": 13, "sha256": hashlib.sha256(b"not a network").hexdigest()}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    said = load(blank(visit, serve(bundle_copy)), "tiny")
    assert said is not None
    assert said.startswith("decoder.onnx is not a network that the runtime can start (")
    assert "Reload the page" in said


@pytest.mark.parametrize("what", ["manifest.json", "decoder.onnx", "ort.wasm.min.mjs", "threaded.mjs", "threaded.wasm"])
def test_no_network_is_said(visit: Visit, tiny: str, what: str) -> None:
    page = blank(visit, tiny, allow=("ERR_INTERNET_DISCONNECTED", "ERR_FAILED"))
    page.route(f"**/*{what}*", lambda route: route.abort("internetdisconnected"))
    said = load(page, "tiny")
    assert said is not None
    assert "could not be loaded" in said
    assert "Check the connection, then reload the page." in said


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ("self.WebAssembly = undefined;", "no WebAssembly with SIMD, which the model needs. Use a current Chrome"),
        ("WebAssembly.validate = () => false;", "no WebAssembly with SIMD"),
        ("this is not JavaScript;", "The model's worker could not run"),
    ],
)
def test_an_old_browser_is_said(visit: Visit, tiny: str, old: str, words: str) -> None:
    page = blank(visit, tiny)
    worker = (site.WEB / "worker.js").read_text()
    headers = {**site.HEADERS, "Content-Type": "text/javascript"}
    page.route("**/worker.js", lambda route: route.fulfill(body=f"{old}\n{worker}", headers=headers))
    assert words in str(load(page, "tiny"))


def test_too_little_memory_is_said(visit: Visit, tiny: str) -> None:
    page = blank(visit, tiny)
    runtime = """export const env = { wasm: {} };
      export const InferenceSession = { create() { throw new RangeError("Array buffer allocation failed"); } };"""
    headers = {**site.HEADERS, "Content-Type": "text/javascript"}
    page.route("**/ort.wasm.min.mjs", lambda route: route.fulfill(body=runtime, headers=headers))
    said = load(page, "tiny")
    assert said == "There is not enough memory for the model. Close other tabs, then reload the page."


def test_a_damaged_encoder_leaves_the_decoder_alive(visit: Visit, tiny: str) -> None:
    page = blank(visit, tiny, allow=("Failed to load resource",))
    page.route("**/encoder.onnx*", lambda route: route.fulfill(status=404))
    assert load(page, "tiny") is None
    said = page.evaluate("model.encode(new Float32Array(256)).catch((error) => error.message)")
    assert "The encoder could not be loaded" in said
    page.unroute("**/encoder.onnx*")
    got = page.evaluate(
        """async () => [(await model.decode(new Float32Array(32))).length,
          (await model.encode(new Float32Array(256))).mean.length]"""
    )
    assert got == [1024, 32]


def test_without_a_secure_origin_files_are_checked_all_the_same(visit: Visit, tiny: str, tiny_bundle: Path) -> None:
    """Plain HTTP from another machine: browsers give neither threads nor crypto.subtle."""
    page = visit("about:blank", allow=("Cross-Origin-Opener-Policy", "favicon.ico"))

    def pass_on(route: Route) -> None:
        response = route.fetch(url=route.request.url.replace("http://faces.test/", tiny))
        headers = {k: v for k, v in response.headers.items() if k not in ("content-encoding", "content-length")}
        route.fulfill(status=response.status, headers=headers, body=response.body())

    page.context.route("http://faces.test/**", pass_on)
    page.goto("http://faces.test/icon.svg")
    assert page.evaluate("isSecureContext") is False
    assert load(page, "tiny") is None
    assert page.evaluate("[crossOriginIsolated, model.threads]") == [False, 1]
    assert page.evaluate("async () => (await model.decode(new Float32Array(32))).length") == 1024
    page.route("**/decoder.onnx*", partial(_damaged, tiny_bundle / "decoder.onnx", "cut"))
    assert "has 1000 bytes, expected" in str(load(page, "tiny"))
    page.unroute("**/decoder.onnx*")
    page.route("**/decoder.onnx*", partial(_damaged, tiny_bundle / "decoder.onnx", "flipped"))
    assert re.search(r"has SHA-256 \w{12}\.\.\., expected", str(load(page, "tiny")))


# --- as plain files


@pytest.fixture(scope="module")
def plain_host(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site in a folder below the root of Python's own file server, which sends no header of ours."""
    root = tmp_path_factory.mktemp("host")
    plain_site(root / "some" / "where", tiny_bundle)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            if "broken" not in self.path:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(bytes(5000))

    class Program(http.server.ThreadingHTTPServer):
        def handle_error(self, *_arguments: Any) -> None:
            """A browser that leaves in a download is no error."""

    program = Program(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=program.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{program.server_port}/some/where/"
    program.shutdown()
    program.server_close()
    shutil.rmtree(root)


def test_a_download_that_breaks_off_is_said(visit: Visit, plain_host: str) -> None:
    page = visit(f"{plain_host}icon.svg", allow=("ERR_CONTENT_LENGTH_MISMATCH", "favicon.ico"))
    worker = (site.WEB / "worker.js").read_text()
    asked = "const address = new URL(name, base);"
    assert asked in worker
    body = worker.replace(asked, "const address = new URL(`${name}?broken`, base);")
    page.route("**/worker.js", lambda route: route.fulfill(body=body, headers={"Content-Type": "text/javascript"}))
    said = page.evaluate(
        """async () => {
          const { loadModel } = await import(new URL('model.js', document.baseURI));
          return loadModel('bundles/tiny').then(() => null, (error) => error.message);
        }"""
    )
    assert re.match(r"The model stopped coming after \d+ of \d+ bytes\.", said)
    assert "Check the connection, then reload the page." in said


def test_a_site_works_below_the_root_of_a_plain_host(visit: Visit, plain_host: str) -> None:
    page = visit(plain_host)
    page.wait_for_selector("body[data-state=ready]")
    assert page.evaluate("crossOriginIsolated") is False
    hashes = page.evaluate(
        """async () => {
          const { loadModel } = await import(new URL('model.js', document.baseURI));
          const model = await loadModel('bundles/tiny');
          return [model.threads, (await model.decode(new Float32Array(32))).length];
        }"""
    )
    assert hashes == [1, 1024]

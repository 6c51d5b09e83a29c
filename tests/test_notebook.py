"""The widget in JupyterLab, in a real browser; and what of it needs neither."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from morphing_faces.errors import UserError
from morphing_faces.notebook.modules import joined
from morphing_faces.notebook.widget import LARGEST, FaceWidget, front_end
from morphing_faces.pictures import enlarge, to_uint8

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 180  # seconds; the machines are shared


@pytest.fixture
def face() -> FaceWidget:
    return mf.widget(mf.load("classic"), seed=3)


# --- without a front end


def test_the_widget_holds_a_session_and_shows_its_face(face: FaceWidget) -> None:
    assert isinstance(face.session, mf.Session)
    assert np.array_equal(face.z, face.model.sample(1, seed=3)[0])
    assert (face.axes, face.frozen, face.range) == ((0, 1), False, 1.0)


def test_a_session_that_there_is_already_is_shown() -> None:
    session = mf.Session(mf.load("classic"), seed=7)
    session.select(4, 2)
    face = mf.widget(session)
    assert face.session is session
    assert face.axes == (4, 2)


def test_traits_set_the_session(face: FaceWidget) -> None:
    z = face.model.sample(1, seed=9)[0]
    face.z = z
    face.axes = (5, 3)
    face.frozen = True
    face.range = 2.0
    session = face.session
    assert np.array_equal(session.z, z)
    assert (session.axes, session.frozen, session.range) == ((5, 3), True, 2.0)


def test_verbs_of_the_session_set_the_traits(face: FaceWidget) -> None:
    before = face.z
    seen: list[Any] = []
    face.observe(lambda change: seen.append(change["name"]))
    face.session.select(2, 6)
    face.session.move(0.5, -0.5)
    assert face.axes == (2, 6)
    assert np.array_equal(face.z, face.session.z)
    assert seen == ["axes", "z"]
    face.session.undo()
    assert np.array_equal(face.z, before)


def test_a_run_of_moves_is_undone_as_one(face: FaceWidget) -> None:
    before = face.z
    for value in np.linspace(-1, 1, 20, dtype=np.float32):
        z = face.z.copy()
        z[0] = value
        face.z = z
    face.session.undo()
    assert np.array_equal(face.z, before)


@pytest.mark.parametrize(
    ("name", "value"), [("z", np.zeros(3)), ("z", np.full(400, 1e9)), ("axes", (3, 3)), ("axes", (0, 99))]
)
def test_what_is_refused_changes_nothing(face: FaceWidget, name: str, value: Any) -> None:
    before = face.session.state
    with pytest.raises(UserError):
        setattr(face, name, value)
    assert face.session.state is before
    assert np.array_equal(face.z, before.z)
    assert face.axes == before.axes


def test_the_bytes_of_z_survive_the_way_there_and_back(face: FaceWidget) -> None:
    state = face.get_state("z")
    face.session.shuffle()
    face.set_state({"z": state["z"]})
    assert np.array_equal(face.z, face.model.sample(1, seed=3)[0])


def test_frames_and_files_are_answered(face: FaceWidget) -> None:
    sent: list[tuple[dict[str, Any], list[Any]]] = []
    face.send = lambda content, buffers=None: sent.append((content, buffers))  # type: ignore[method-assign]
    z = face.model.sample(1, seed=1)
    face._message(face, {"verb": "draw"}, [memoryview(z.tobytes())])
    assert sent[-1][1][0] == to_uint8(face.model.decode(z)).tobytes()
    content = b""
    for part in range(99):
        face._message(face, {"verb": "file", "name": "bundle/decoder.onnx", "part": part}, [])
        content += sent[-1][1][0]
        if part + 1 == sent[-1][0]["of"]:
            break
    assert content == face.model.bundle.read("decoder.onnx")
    face._message(face, {"verb": "file", "name": "../../secret", "part": 0}, [])
    assert "is not a file that a front end needs" in sent[-1][0]["error"]


def test_a_large_decoder_stays_in_the_kernel() -> None:
    model = mf.load("classic")
    model.bundle.manifest["files"]["decoder.onnx"]["bytes"] = LARGEST + 1
    assert mf.widget(model)._files == []


def test_joining_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    for text in ("export default 1;", 'import x from "./y.js";', "export { a };"):
        (tmp_path / "a.js").write_text(text)
        with pytest.raises(ValueError, match="cannot be joined"):
            joined(tmp_path / "a.js")


def test_the_front_end_is_the_pages_own_modules() -> None:
    text = front_end()
    for name in ("session.js", "face.js", "app.js", "noise.js", "model.js"):
        assert f'found["web/{name}"]' in text
    assert text == front_end()


def test_without_anywidget_one_line_says_what_to_install() -> None:
    script = "import sys; sys.modules['anywidget'] = None; import morphing_faces as mf; mf.widget()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (
        "UserError: the widget needs anywidget, which is not installed: pip install 'morphing-faces[notebook]'"
        in done.stderr
    )


def test_importing_pulls_in_nothing_new() -> None:
    script = (
        "import sys; import morphing_faces; "
        "print([m for m in ('anywidget', 'ipywidgets', 'traitlets', 'IPython', 'onnx', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- in JupyterLab

CELLS = (
    """
import json, pathlib
import numpy as np
import morphing_faces as mf
face = mf.widget(seed=64)
seen = []
face.observe(lambda change: seen.append(1), "z")
face
""",
    "face.z = face.model.sample(1, seed=5)[0]",
    """
z = [float(value) for value in face.session.z]
state = {"z": z, "axes": face.axes, "frozen": face.frozen, "range": face.range, "seen": len(seen)}
pathlib.Path("state.json").write_text(json.dumps(state))
seen.clear()
""",
    "face.session.undo()",
)


class Lab:
    """A notebook that a person has open."""

    def __init__(self, page: Page, folder: Path):
        self.page, self.folder = page, folder
        self.cell = page.locator(".morphing-faces .cell")

    def run(self, number: int) -> None:
        """Run a cell and wait for its end."""
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        cell.locator(".jp-InputArea-editor").click()
        self.page.evaluate("jupyterapp.commands.execute('notebook:run-cell')")
        until(lambda: prompt.inner_text() not in (before, "[*]:"), f"cell {number} has run")

    def state(self) -> dict[str, Any]:
        """What Python holds."""
        self.run(2)
        found: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return found

    def front(self, what: str) -> Any:
        """What the browser holds."""
        return self.cell.evaluate(f"root => root.morphingFaces.app.{what}")

    def z(self) -> list[float]:
        found: list[float] = self.cell.evaluate("root => Array.from(root.morphingFaces.app.session.z)")
        return found

    def at_rest(self) -> None:
        """Wait until the picture is that of the session, and Python has it."""
        drawn = "root => root.morphingFaces.app.pictured === root.morphingFaces.app.session.z"
        until(lambda: self.cell.evaluate(drawn), "the face is drawn")
        self.page.wait_for_timeout(200)

    def click(self) -> None:
        """Hold the face, or release it."""
        self.page.mouse.down()
        self.page.mouse.up()

    def hover(self, x: float, y: float, *, bring: bool = False) -> None:
        """Move the mouse to a place in the hover square; ``bring`` scrolls it into view before."""
        if bring:
            self.page.locator(".morphing-faces #face").scroll_into_view_if_needed()
        box = self.page.locator(".morphing-faces #face").bounding_box()
        assert box
        self.page.mouse.move(box["x"] + (x + 1) / 2 * box["width"], box["y"] + (1 - y) / 2 * box["height"])


def until(check: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := check():
            return result
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


@pytest.fixture(scope="module")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a free port with one notebook, open in the browser, its first cell run."""
    folder = tmp_path_factory.mktemp("lab")
    cell: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [{**cell, "id": f"cell-{number}", "source": text.strip()} for number, text in enumerate(CELLS)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "face.ipynb").write_text(json.dumps(notebook))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = tmp_path_factory.mktemp("jupyter")
    environment = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(own / name) for name in ("CONFIG", "DATA", "RUNTIME")},
        **{f"JUPYTERLAB_{name}_DIR": str(own / name) for name in ("SETTINGS", "WORKSPACES")},
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_PATH": str(Path(anywidget.__file__).parents[4] / "share" / "jupyter"),  # where the extensions are
    }
    options = {
        "ServerApp.port": port, "ServerApp.port_retries": 0, "ServerApp.root_dir": folder, "IdentityProvider.token": "t",
        "ServerApp.terminals_enabled": False, "LabApp.expose_app_in_browser": True, "LabApp.news_url": None,
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (own / "log.txt").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    context = browser.new_context(viewport={"width": 1200, "height": 1100})
    context.set_default_timeout(1000 * PATIENCE)
    try:

        def answers() -> bool:
            assert server.poll() is None, (own / "log.txt").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=t", timeout=5)
            except OSError:
                return False
            return True

        until(answers, "JupyterLab answers")
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/lab/tree/face.ipynb?token=t&reset")
        page.get_by_text("| Idle").first.wait_for()
        shown = Lab(page, folder)
        shown.run(0)
        page.wait_for_selector('.morphing-faces .cell[data-pictures][data-where="kernel"]', state="attached")
        yield shown
    finally:
        context.close()
        server.terminate()
        server.wait(PATIENCE)


def test_the_face_is_drawn_by_the_kernel_and_then_in_the_browser(lab: Lab) -> None:
    until(lambda: lab.cell.get_attribute("data-where") == "browser", "the model runs in the browser")
    assert "Drawn in this browser." in lab.cell.inner_text()
    lab.at_rest()
    assert lab.z() == lab.state()["z"]


def test_a_cell_that_sets_z_moves_the_face(lab: Lab) -> None:
    pictures = int(lab.cell.get_attribute("data-pictures") or 0)
    lab.run(1)
    expected = [float(value) for value in mf.load().sample(1, seed=5)[0]]
    until(lambda: lab.z() == expected, "the front end has z")
    until(lambda: int(lab.cell.get_attribute("data-pictures") or 0) > pictures, "the face is drawn again")
    lab.page.locator(".morphing-faces #undo").click()
    until(lambda: lab.z() != expected, "undo goes back")


def test_a_second_of_hovering_is_at_most_twenty_messages_and_the_last_one(lab: Lab) -> None:
    lab.state()
    lab.hover(0, 0, bring=True)
    until(lambda: "following" in (lab.cell.get_attribute("class") or ""), "the face follows the mouse")
    began = time.monotonic()
    for step in range(60):
        lab.hover(np.cos(step / 5) * 0.8, np.sin(step / 5) * 0.8)
    lab.hover(0.5, -0.25)
    seconds = time.monotonic() - began
    lab.click()  # and hold it
    lab.at_rest()
    state = lab.state()
    assert state["z"] == lab.z()
    assert state["frozen"]
    assert 1 <= state["seen"] <= 20 * seconds + 2
    first, second = (mf.load().dimensions[axis] for axis in (0, 1))
    assert [state["z"][first], state["z"][second]] == pytest.approx([0.5, -0.25], abs=0.02)


def test_axes_range_and_hold_reach_python_and_undo_reaches_the_face(lab: Lab) -> None:
    if lab.front("session.frozen"):
        lab.page.locator(".morphing-faces #freeze").click()
    lab.cell.locator("select").first.select_option("7")
    lab.cell.locator("input[type=range]").fill("2")
    lab.hover(0.1, 0.1, bring=True)
    lab.click()
    until(lambda: lab.front("session.frozen"), "the face is held")
    lab.page.wait_for_timeout(300)
    state = lab.state()
    assert (state["axes"], state["frozen"], state["range"]) == ([7, 1], True, 2)
    lab.run(3)
    until(lambda: not lab.front("session.frozen"), "undo in Python releases the face")


def test_a_saved_notebook_shows_its_last_face(lab: Lab) -> None:
    lab.run(1)
    lab.at_rest()
    lab.page.wait_for_timeout(1500)
    expected = enlarge(to_uint8(mf.load().decode(mf.load().sample(1, seed=5))), 256)[0]

    def pictures() -> list[np.ndarray]:
        lab.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
        lab.page.wait_for_timeout(500)
        outputs = json.loads((lab.folder / "face.ipynb").read_text())["cells"][0]["outputs"]
        found = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]

    until(lambda: [each.tolist() for each in pictures()] == [expected.tolist()], "the last face is in the file")
    hidden = lab.page.locator(".jp-Notebook .jp-CodeCell").nth(0).locator(".jp-RenderedImage img")
    assert not hidden.is_visible()  # the live one is there

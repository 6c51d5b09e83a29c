"""The network that finds faces: trained on aligned pictures placed on canvases, where the eyes' places are known.

A fully convolutional network with a stride of 8. Each cell says whether the middle of an upright face of the trained
size lies there, and where its two eyes are from there, as anchor-free detectors do (FCOS, Tian et al., 2019,
arXiv:1904.01355; with landmarks, RetinaFace, Deng et al., 2020, arXiv:1905.00641). Other sizes are found by running it
on a pyramid of the picture, which :mod:`morphing_faces.faces` does.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..canvases import CANVAS, Canvases, scenes
from ..dataset import Dataset
from ..errors import UserError
from ..faces import FORMAT, NETWORK
from ..files import FINDER, atomic_write, replace_folder
from ..rules import FINDER_CENTRE, FINDER_STRIDE

SIZES = (12.0, 32.0)  # eye distances in pixels at which a face counts
CHECKPOINT = "finder.pt"
SAVE_EVERY = 50


@dataclass(frozen=True)
class Settings:
    """How the finder of faces is trained; the values are those of the shipped one. Raises ``UserError`` on a wrong one."""

    steps: int = 900
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    backgrounds: int = 1500  # clutter that is drawn beforehand; pieces of it are what faces are pasted on
    seed: int = 0

    def __post_init__(self) -> None:
        for key, least in (("steps", 1), ("batch", 1), ("backgrounds", 1), ("seed", 0)):
            if type(getattr(self, key)) is not int or getattr(self, key) < least:
                raise UserError(f"{key} = {getattr(self, key)}: must be a whole number, {least} or more")
        for key in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, key) <= 1:
                raise UserError(f"{key} = {getattr(self, key)}: must be a number from 0 to 1")

    @classmethod
    def changed(cls, changes: Sequence[str]) -> Settings:
        """The shipped settings with some of them changed, each as KEY=VALUE."""
        known: dict[str, Any] = {field.name: field.default for field in fields(cls)}
        values: dict[str, Any] = {}
        for change in changes:
            key, _, text = change.partition("=")
            if key not in known:
                raise UserError(f"--set {change}: the recipe faces has {', '.join(known)}")
            try:
                values[key] = type(known[key])(text)
            except ValueError:
                raise UserError(f"--set {change}: must be a number, as {known[key]}") from None
        return cls(**values)


class Finder(nn.Module):
    """Pictures (n, 3, h, w) in [0, 1], h and w multiples of 8 -> logits (n, h/8, w/8) and eyes (n, h/8, w/8, 4).

    The eyes are (x, y) of the one on the picture's left and (x, y) of the other, in pixels from the cell's middle.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)):
        super().__init__()
        a, b, c = widths
        self.body = nn.Sequential(
            *_conv(3, a, 2), *_conv(a, b, 2), _Residual(b), *_conv(b, c, 2), _Residual(c), _Residual(c)
        )  # fmt: skip
        self.head = nn.Conv2d(c, 5, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        bias = torch.zeros(5)
        bias[0] = -4.0  # few cells hold a face
        self.head.bias = nn.Parameter(bias)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        answer = self.head(self.body(pictures * 4 - 2)).permute(0, 2, 3, 1)
        return answer[..., 0], answer[..., 1:] * 16.0


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Sequential(*_conv(width, width, 1))
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


# --- what it should answer


def targets(eyes: list[np.ndarray], cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the network should answer to canvases with these eyes.

    Returns ``wanted`` (n, cells, cells): 1 face, 0 none, -1 does not count; ``offsets`` (n, cells, cells, 4) in pixels
    from the cell's middle, and ``apart`` (n, cells, cells), the eye distance, both where ``wanted`` is 1.
    """
    n = len(eyes)
    wanted = np.zeros((n, cells, cells), np.float32)
    offsets, apart = np.zeros((n, cells, cells, 4), np.float32), np.ones((n, cells, cells), np.float32)
    middle = (np.arange(cells, dtype=np.float32) + 0.5) * FINDER_STRIDE
    u, v = np.meshgrid(middle, middle)
    for row, places in enumerate(eyes):
        for x0, y0, x1, y1 in places:
            dx, dy = x1 - x0, y1 - y0
            distance = math.hypot(dx, dy)
            x, y = (x0 + x1) / 2 - FINDER_CENTRE * dy, (y0 + y1) / 2 + FINDER_CENTRE * dx
            far = np.hypot(u - x, v - y)
            if SIZES[0] <= distance <= SIZES[1]:
                wanted[row][(far < max(0.75 * distance, 8.0)) & (wanted[row] == 0)] = -1
                near = far < max(0.3 * distance, 5.0)
            else:
                slack = 0.8 * SIZES[0] <= distance <= 1.25 * SIZES[1]
                wanted[row][(far < max(0.75 * distance, 8.0)) & (wanted[row] == 0) & slack] = -1
                continue
            wanted[row][near] = 1
            offsets[row][near] = np.stack([x0 - u, y0 - v, x1 - u, y1 - v], -1)[near]
            apart[row][near] = distance
    return wanted, offsets, apart


def loss(logits: Tensor, found: Tensor, wanted: Tensor, offsets: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss of the scores (Lin et al., 2017, arXiv:1708.02002), and the eyes' error over the eyes' distance."""
    positive = wanted == 1
    count = positive.sum().clamp(min=1)
    sign = torch.where(positive, 1.0, -1.0)
    wrong = torch.sigmoid(-sign * logits)
    focal = wrong.square() * F.softplus(-sign * logits) * torch.where(positive, 0.5, 0.5) * (wanted >= 0)
    relative = (found - offsets)[positive] / apart[positive][:, None]
    return focal.sum() / count, F.smooth_l1_loss(
        relative, torch.zeros_like(relative), beta=0.05, reduction="sum"
    ) / count


# --- training


def train(settings: Settings, dataset: Dataset, out: Path, say: Callable[[str], None] = lambda _: None) -> Finder:
    """Train a finder on the training pictures of a data set in the frame, in the folder ``out``; resumes what is there.

    Raises ``UserError`` when the pictures are not in colour, or ``out`` holds a run with other settings.
    """
    if dataset.image_shape[2] != 3 or dataset.image_shape[0] < 64:
        raise UserError(f"{dataset.folder} has pictures of shape {dataset.image_shape}: prepare them with --size 128")
    torch.manual_seed(settings.seed)
    network: Finder = Finder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    first, path = 0, out / CHECKPOINT
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        if saved["settings"] != asdict(settings):
            raise UserError(f"{out} holds a run with other settings ({saved['settings']}): train into another folder")
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    faces = dataset.images[dataset.training]
    canvases = Canvases(faces, scenes(), settings.seed, backgrounds=settings.backgrounds)
    shown = [0.0, 0.0]
    for step in range(first, settings.steps):
        canvases.rng = np.random.default_rng([settings.seed, step])  # so that resuming is exact
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * pace(step, settings.steps)
        drawn = [canvases.draw() for _ in range(settings.batch)]
        pictures = torch.from_numpy(np.stack([p for p, _ in drawn])).permute(0, 3, 1, 2).float().div_(255)
        wanted = [torch.from_numpy(a) for a in targets([e for _, e in drawn], CANVAS // FINDER_STRIDE)]
        score, place = loss(*network(pictures), *wanted)
        optimizer.zero_grad()
        (score + 2 * place).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        part = 0.02 if step > first else 1.0
        shown = [(1 - part) * a + part * float(b.detach()) for a, b in zip(shown, (score, place), strict=True)]
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == settings.steps:
            state = {
                "settings": asdict(settings), "step": step + 1,
                "network": network.state_dict(), "optimizer": optimizer.state_dict(),
                "pictures": {key: dataset.record[key] for key in ("shape", "sources", "sha256")},
            }  # fmt: skip
            with atomic_write(path) as temporary:
                torch.save(state, temporary)
            say(f"step {step + 1} of {settings.steps}: score {shown[0]:.4f}, eyes {shown[1]:.4f}")
    return network.eval().requires_grad_(False)


def pace(step: int, steps: int) -> float:
    """The learning rate's factor: up over 100 steps, level for a fifth of all, then down along half a cosine."""
    level = steps // 5
    down = max(0.0, (step - level) / (steps - level))
    return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * down))


# --- the network as a file


class _Published(nn.Module):
    """NHWC pictures in [0, 1] -> scores in [0, 1] and eyes, the convolutions with their normalisation folded in."""

    def __init__(self, network: Finder):
        super().__init__()
        self.network = _folded(copy.deepcopy(network).eval())

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        logits, eyes = self.network(picture.permute(0, 3, 1, 2))
        return torch.sigmoid(logits), eyes


def _folded(module: nn.Module) -> Any:
    for name, child in list(module.named_children()):
        setattr(module, name, _folded(child))
    if isinstance(module, nn.Sequential):
        layers: list[Any] = []
        for layer in module:
            if isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        return nn.Sequential(*layers)
    return module


def export(run: Path, out: Path, licence: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Write the finder of a run as a folder with its network and manifest, and return the manifest."""
    if not (run / CHECKPOINT).is_file():
        raise UserError(f"{run} has no {CHECKPOINT}: train one with morphing-faces train --recipe faces")
    saved = torch.load(run / CHECKPOINT, weights_only=True)
    network = Finder()
    network.load_state_dict(saved["network"])
    content = to_onnx(network.eval())
    described = {
        "format": FORMAT,
        "training": {"recipe": saved["settings"], "steps": saved["step"], "pictures": saved["pictures"]},
        "figures": {},
        "licence": licence,
        "files": {NETWORK: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}},
    }
    with replace_folder(out, FINDER, overwrite=overwrite) as folder:
        (folder / NETWORK).write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return described


def to_onnx(network: Finder) -> bytes:
    """The finder as an ONNX file, opset 17, weights in fp16: pictures (n, h, w, 3) -> scores and eyes.

    Raises ``RuntimeError`` when what the file answers differs from what the network does.
    """
    published = _Published(network).eval()
    example = torch.rand(2, 96, 128, 3)
    axes = {0: torch.export.Dim("n"), 1: 8 * torch.export.Dim("rows", min=2), 2: 8 * torch.export.Dim("columns", min=2)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            published, (example,), dynamo=True, input_names=["picture"], output_names=["scores", "eyes"],
            dynamic_shapes=(axes,), opset_version=18, optimize=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    content = _halved(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    other = torch.rand(1, 64, 160, 3)
    for given in (example, other):
        with torch.no_grad():
            expected = [tensor.numpy() for tensor in published(given)]
        for a, b in zip(expected, session.run(["scores", "eyes"], {"picture": given.numpy()}), strict=True):
            if not np.allclose(a, b, atol=0.02, rtol=0.02):
                raise RuntimeError(f"the ONNX file differs from the network by {np.abs(a - b).max():.3g}")
    return content


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without notes of the machine it was made on, its large weights stored as fp16 and cast when it is loaded."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    half.doc_string = ""
    del half.metadata_props[:], half.graph.metadata_props[:]
    graph = half.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) >= 256:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_fp16"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    onnx.checker.check_model(half)
    return half

"""Canvases with faces whose eyes are known, and with what is none: what the finder of faces is trained and tested on."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .errors import need
from .rules import EYES_APART, EYES_MIDDLE

CANVAS = 128  # pixels of a canvas's side


class Canvases:
    """Draws canvases with faces, whose eyes are known, and with what is none.

    ``faces`` is uint8 (n, side, side, 3) in the frame; ``scenes`` are photographs without faces, uint8 (h, w, 3).
    """

    def __init__(
        self, faces: np.ndarray, scenes: list[np.ndarray], seed: int, size: int = CANVAS, backgrounds: int = 1500
    ):
        self.faces, self.scenes, self.size = faces, scenes, size
        self.rng = np.random.default_rng(seed)
        self.masks = [_mask(kind) for kind in range(4)]
        self.backgrounds = [self.clutter(size + 32) for _ in range(backgrounds)]

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """One canvas, uint8 (size, size, 3), and its faces' eyes (k, 4): x, y, x, y, the picture's left eye first."""
        rng, size = self.rng, self.size
        canvas = self.backgrounds[rng.integers(len(self.backgrounds))]
        left, top = (int(k) for k in rng.integers(0, canvas.width - size + 1, 2))
        canvas = canvas.crop((left, top, left + size, top + size))
        if rng.random() < 0.5:
            canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        eyes: list[np.ndarray] = []
        taken: list[tuple[float, float, float]] = []
        for number in range(rng.choice(5, p=[0.08, 0.32, 0.3, 0.2, 0.1])):
            apart = math.exp(rng.uniform(math.log(9), math.log(44)))
            turn = rng.uniform(-50, 50) if rng.random() < 0.3 else rng.normal(0, 13)
            for _ in range(8):
                x, y = rng.uniform(-0.05 * size, 1.05 * size, 2)
                if all(math.hypot(x - u, y - v) > 1.35 * (apart + other) for u, v, other in taken):
                    break
            else:
                continue
            taken.append((x, y, apart))
            wrong = rng.random() < 0.2  # something made of a face that is none
            if wrong:
                self.paste_wrong(canvas, x, y, apart)
                continue
            eyes.append(self.paste(canvas, x, y, apart, math.radians(turn), extended=number == 0))
        return self.spoil(canvas), np.array(eyes, np.float32).reshape(-1, 4)

    def face(self, apart: float) -> tuple[Image.Image, int]:
        """A face of the data, mirrored or not, its light changed, at no more than twice the resolution that is shown."""
        rng = self.rng
        face = Image.fromarray(np.ascontiguousarray(self.faces[rng.integers(len(self.faces))]))
        while face.width * EYES_APART > 2.2 * apart and face.width > 16:
            face = face.reduce(2)
        if rng.random() < 0.5:
            face = face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rng.random() < 0.25:  # light from one side
            ramp = 1 + np.linspace(-1, 1, face.width, dtype=np.float32) * rng.uniform(-0.5, 0.5)
            lit = np.asarray(face) * (ramp[None, :, None] if rng.random() < 0.7 else ramp[:, None, None])
            face = Image.fromarray(np.minimum(lit, 255).astype(np.uint8))
        curve = (np.arange(256) / 255) ** math.exp(rng.normal(0, 0.3)) * math.exp(rng.normal(0, 0.15))
        gains = np.exp(rng.normal(0, 0.06, 3))
        face = face.point([int(v) for v in np.clip(gains[:, None] * curve * 255, 0, 255).reshape(-1)])
        return face, face.width

    def paste(self, canvas: Image.Image, x: float, y: float, apart: float, turn: float, extended: bool) -> np.ndarray:
        """Put a face with the middle of its eyes at (x, y); returns its eyes."""
        rng = self.rng
        face, side = self.face(apart)
        scale = apart / (EYES_APART * side)  # pixels of the canvas in a pixel of the face
        aspect = math.exp(rng.normal(0, 0.05))  # faces are not all as broad
        c, s = math.cos(turn), math.sin(turn)
        if extended and rng.random() < 0.5:  # what surrounds the face goes on, so that no edge gives it away
            small = np.asarray(face.reduce(4))
            around = Image.fromarray(np.pad(small, ((len(small),) * 2, (len(small),) * 2, (0, 0)), mode="edge"))
            around = around.resize((3 * side, 3 * side), Image.Resampling.BILINEAR)
            around.paste(face, (side, side))
            mask = Image.new("L", around.size, 255)
            self._warp(canvas, around, mask, (x, y), (1.5 * side, side + EYES_MIDDLE[1] * side), scale, aspect, c, s)
        else:
            if rng.random() < 0.5:
                self.body(canvas, np.asarray(face), x, y, apart, c, s)
            mask = self.masks[rng.integers(4)].resize((side, side))
            self._warp(canvas, face, mask, (x, y), (EYES_MIDDLE[0] * side, EYES_MIDDLE[1] * side), scale, aspect, c, s)
        half = 0.5 * apart * aspect
        if rng.random() < 0.12:  # something held before it
            self.occlude(canvas, x, y, apart)
        return np.array([x - c * half, y - s * half, x + c * half, y + s * half])

    def _warp(
        self, canvas: Image.Image, picture: Image.Image, mask: Image.Image, at: tuple[float, float],
        origin: tuple[float, float], scale: float, aspect: float, c: float, s: float,
    ) -> None:  # fmt: skip
        # canvas -> picture: the inverse of (scale, turn, move)
        a, b = c / (scale * aspect), s / (scale * aspect)
        d, e = -s / scale, c / scale
        data = (a, b, origin[0] - a * at[0] - b * at[1], d, e, origin[1] - d * at[0] - e * at[1])
        shown = picture.transform(canvas.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        through = mask.transform(canvas.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        canvas.paste(shown, (0, 0), through)

    def body(self, canvas: Image.Image, face: np.ndarray, x: float, y: float, apart: float, c: float, s: float) -> None:
        """Hair, neck and shoulders in colours near those of the face's edges."""
        rng, draw = self.rng, ImageDraw.Draw(canvas)

        def colour(values: np.ndarray) -> tuple[int, ...]:
            return tuple(int(v) for v in np.clip(values.reshape(-1, 3).mean(0) + rng.normal(0, 15, 3), 0, 255))

        def at(across: float, down: float) -> tuple[float, float]:
            return x + apart * (c * across - s * down), y + apart * (s * across + c * down)

        cloth = tuple(int(v) for v in rng.integers(0, 256, 3))
        w = rng.uniform(1.8, 3.2)
        draw.polygon([at(-0.7, 1.9), at(0.7, 1.9), at(w, 3.2), at(w, 8), at(-w, 8), at(-w, 3.2)], fill=cloth)
        skin = colour(face[-len(face) // 4 :, len(face) // 3 : -len(face) // 3])
        draw.polygon([at(-0.75, 1), at(0.75, 1), at(0.7, 2.4), at(0, 3), at(-0.7, 2.4)], fill=skin)
        hair = colour(face[: len(face) // 10])
        r, v = rng.uniform(1.3, 1.9), rng.uniform(-1.0, 0.3)
        corners = [at(r * math.cos(t), 0.2 + v * 0.3 + 1.35 * r * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 24)]
        draw.polygon(corners, fill=hair)

    def occlude(self, canvas: Image.Image, x: float, y: float, apart: float) -> None:
        rng, draw = self.rng, ImageDraw.Draw(canvas)
        u, v = x + apart * rng.uniform(-1.2, 1.2), y + apart * rng.uniform(0.4, 1.8)
        w, h = apart * rng.uniform(0.1, 0.5, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((u - w, v - h, u + w, v + h), fill=tuple(int(k) for k in rng.integers(0, 256, 3)))

    def paste_wrong(self, canvas: Image.Image, x: float, y: float, apart: float) -> None:
        """A face upside down, in shuffled pieces, or a part of one, enlarged: none of them is a face."""
        rng = self.rng
        kind = rng.integers(4)
        face, side = self.face(apart * (1 if kind < 2 else 3))
        turn = rng.uniform(-0.3, 0.3)
        if kind == 0:
            turn += math.pi + rng.uniform(-0.7, 0.7)
        elif kind == 1:
            pixels, half = np.asarray(face).copy(), side // 2
            quarters = [pixels[i : i + half, j : j + half].copy() for i in (0, half) for j in (0, half)]
            order = [[1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0], [1, 3, 0, 2]][rng.integers(4)]
            for place, k in enumerate(order):
                i, j = half * (place // 2), half * (place % 2)
                pixels[i : i + half, j : j + half] = quarters[k]
            face = Image.fromarray(pixels)
        else:  # an eye, a mouth, a cheek
            part = max(side // 3, 4)
            left, top = rng.integers(0, side - part + 1, 2)
            if kind == 2:
                left, top = [(side // 6, side // 6), (side - side // 6 - part, side // 6), (side // 3, side - part)][
                    rng.integers(3)
                ]
            face = face.crop((left, top, left + part, top + part))
            side = part
        scale = apart / (EYES_APART * side)
        mask = self.masks[rng.integers(4)].resize((side, side))
        self._warp(canvas, face, mask, (x, y), (side / 2, side / 2), scale, 1.0, math.cos(turn), math.sin(turn))

    def clutter(self, size: int) -> Image.Image:
        """A background: a piece of a scene, smooth noise, or a plain colour, with shapes in front of it."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.5 and self.scenes:
            scene = self.scenes[rng.integers(len(self.scenes))]
            most = min(scene.shape[:2])
            piece = int(math.exp(rng.uniform(math.log(min(64, most)), math.log(most))))
            top, left = (int(rng.integers(0, n - piece + 1)) for n in scene.shape[:2])
            part = Image.fromarray(scene[top : top + piece, left : left + piece])
            canvas = part.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=1.0)
        elif kind < 0.85:
            total = np.zeros((size, size, 3), np.float32)
            strength = 60.0
            for cells in (2, 4, 8, 16, 32, 64):
                noise = rng.normal(0, 1, (cells, cells, 3)) @ (np.eye(3) * rng.uniform(0, 1) + rng.uniform(0, 0.6))
                small = (128 + np.clip(noise * strength, -128, 127)).astype(np.uint8)
                total += np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC), np.float32)
                total -= 128
                strength *= rng.uniform(0.35, 1.0)
            canvas = Image.fromarray(np.clip(total + rng.uniform(40, 215, 3), 0, 255).astype(np.uint8))
        else:
            canvas = Image.new("RGB", (size, size), tuple(int(k) for k in rng.integers(0, 256, 3)))
        draw = ImageDraw.Draw(canvas)
        for _ in range(rng.integers(0, 7)):
            x, y = rng.uniform(0, size, 2)
            w, h = np.exp(rng.uniform(0.5, math.log(size / 2), 2))
            fill = tuple(int(k) for k in rng.integers(0, 256, 3))
            which = rng.integers(4)
            if which == 0:
                draw.ellipse((x - w, y - h, x + w, y + h), fill=fill)
            elif which == 1:
                draw.rectangle((x - w, y - h, x + w, y + h), fill=fill)
            elif which == 2:
                draw.line((x - w, y - h, x + w, y + rng.uniform(-h, h)), fill=fill, width=int(rng.integers(1, 6)))
            else:  # two spots side by side, as eyes are, and nothing else
                r = w / 8 + 1
                for u in (x - w / 2, x + w / 2):
                    draw.ellipse((u - r, y - r, u + r, y + r), fill=fill)
        return canvas

    def spoil(self, canvas: Image.Image) -> np.ndarray:
        """What cameras and files do: blur, darkness, grey, noise."""
        rng = self.rng
        if rng.random() < 0.25:
            canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3)))
        pixels: np.ndarray = np.asarray(canvas, np.float32)
        if rng.random() < 0.25:
            pixels = np.repeat(pixels @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, 2)
        if rng.random() < 0.3:
            pixels = pixels * rng.uniform(0.12, 0.8) + rng.uniform(0, 20)
        if rng.random() < 0.2:
            pixels = (pixels - 128) * rng.uniform(0.3, 1.5) + 128 + rng.uniform(-30, 30)
        if rng.random() < 0.5:
            pixels = pixels + rng.normal(0, rng.uniform(0, 10), pixels.shape)
        return np.clip(pixels, 0, 255).astype(np.uint8)


def _mask(kind: int) -> Image.Image:
    """Which part of a face's square is pasted: all of it, or an oval of it, with a hard or a soft edge."""
    mask = Image.new("L", (128, 128), 0)
    draw = ImageDraw.Draw(mask)
    if kind < 2:
        edge = (0, 6)[kind]
        draw.rectangle((edge, edge, 127 - edge, 127 - edge), fill=255)
    else:
        draw.ellipse(((2, -14, 125, 127), (12, -4, 115, 124))[kind - 2], fill=255)
    return mask.filter(ImageFilter.GaussianBlur((0, 4, 4, 7)[kind]))


def scenes() -> list[np.ndarray]:
    """The photographs without faces that scikit-image and scikit-learn ship, uint8 (h, w, 3)."""
    need("skimage", "training the finder of faces")
    need("sklearn", "training the finder of faces")
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = (
        "brick cat cell clock coffee coins grass gravel hubble_deep_field immunohistochemistry moon page rocket text"
    )
    found = [np.asarray(getattr(data, name)()) for name in names.split()]
    found += list(load_sample_images().images)
    return [np.ascontiguousarray(p if p.ndim == 3 else np.repeat(p[..., None], 3, 2))[..., :3] for p in found]

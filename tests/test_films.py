"""Films that the page writes, in a real browser: their frames, their times, and what is done where there is no encoder."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import morphing_faces as mf
from hand import Hand, Visit, open_page, slerp, until
from morphing_faces.render import to_uint8

EBML = b"\x1a\x45\xdf\xa3"


def boxes(content: bytes, *path: str) -> bytes:
    """The content of a box of an MP4 (ISO 14496-12), by the names of those around it."""
    at = 0
    while at < len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind.decode() == path[0]:
            inner = content[at + 8 : at + size]
            return boxes(inner, *path[1:]) if path[1:] else inner
        at += size
    raise AssertionError(f"there is no box {path[0]}")


def durations(content: bytes) -> list[float]:
    """How long each frame of an MP4 is shown, in ms."""
    media = ("moov", "trak", "mdia")
    version = boxes(content, *media, "mdhd")
    timescale = struct.unpack(">I", version[20:24] if version[0] else version[12:16])[0]
    table = boxes(content, *media, "minf", "stbl", "stts")
    entries = struct.unpack(f">{2 * struct.unpack('>I', table[4:8])[0]}I", table[8:])
    return [
        1000 * length / timescale
        for count, length in zip(entries[::2], entries[1::2], strict=True)
        for _ in range(count)
    ]


def choose(hand: Hand, kind: str) -> None:
    until(lambda: hand["#film-format option"].count() == 3, "it is known what this browser writes")
    hand["#film-format"].select_option(label=kind)


def record(hand: Hand) -> tuple[str, bytes]:
    hand.click("#record")
    hand.reads("Stop", "#record")
    assert hand["#film-format"].is_disabled()
    for k in range(8):
        hand.hover(k / 8, -k / 8)
        hand.page.evaluate("new Promise((done) => setTimeout(done, 60))")  # what a GIF tells apart
    return hand.download(lambda: hand.page.click("#record"))


def test_what_is_done_is_recorded_as_mp4_first(hand: Hand) -> None:
    until(lambda: hand["#film-format option"].count() == 3, "it is known what this browser writes")
    assert hand["#film-format option"].all_inner_texts() == ["MP4", "WebM", "GIF"]
    choose(hand, "MP4")
    name, content = record(hand)
    assert name == "film-tiny.mp4"
    assert content[4:8] == b"ftyp"
    assert content.index(b"moov") < content.index(b"mdat"), "it plays while it still comes"
    assert b"avc1" in content, "the codec that plays everywhere"
    times = durations(content)
    assert len(times) >= 8
    assert min(times) > 30
    assert hand.page.url.split("#")[0].encode() in content, "the link travels along"


def test_what_is_done_is_recorded_as_webm_and_gif(hand: Hand) -> None:
    choose(hand, "WebM")
    name, content = record(hand)
    assert name == "film-tiny.webm"
    assert content.startswith(EBML)
    assert b"V_VP9" in content
    choose(hand, "GIF")
    name, content = record(hand)
    assert name == "film-tiny.gif"
    film: Any = Image.open(io.BytesIO(content))
    assert film.size == (256, 256)
    assert film.n_frames > 4
    assert film.info["loop"] == 0


def kept(hand: Hand, count: int) -> list[np.ndarray]:
    faces = []
    for _ in range(count):
        hand.click("#favour")
        faces.append(hand.z)
        hand.click("#random")
    return faces


def film_of(hand: Hand, kind: str) -> tuple[str, bytes]:
    choose(hand, kind)
    return hand.download(lambda: hand.page.click("#morph-film"))


def close_to(shown: np.ndarray, z: np.ndarray, model: mf.Model) -> float:
    """How far a frame is from the face at z, on average over its pixels, of 255."""
    face = Image.fromarray(to_uint8(model.decode(z))[0, :, :, 0]).resize(shown.shape[1::-1], Image.Resampling.BICUBIC)
    return float(np.abs(np.asarray(face, float) - shown).mean())


def test_favourites_become_one_film_that_loops(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    faces = kept(hand, 3)
    name, content = film_of(hand, "MP4")
    assert name == "faces-tiny.mp4"
    times = durations(content)
    assert len(times) == 225
    assert times == pytest.approx([1000 / 30] * 225, abs=0.02)
    hand.page.evaluate(
        """async (bytes) => {
          const video = document.createElement('video');
          video.muted = true;
          video.src = URL.createObjectURL(new Blob([new Uint8Array(bytes)], { type: 'video/mp4' }));
          await new Promise((done, failed) => Object.assign(video, { onloadeddata: done, onerror: failed }));
          window.frameAt = async (at) => {
            video.currentTime = at;
            await new Promise((done) => { video.onseeked = done; });
            const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
            const pen = canvas.getContext('2d');
            for (let tries = 0; tries < 100; tries++) { // a busy machine has nothing to draw at first
              pen.drawImage(video, 0, 0, 64, 64);
              if (pen.getImageData(0, 0, 1, 1).data[3]) break;
              await new Promise((done) => setTimeout(done, 50));
            }
            return [video.duration, video.videoWidth, ...pen.getImageData(0, 0, 64, 64).data];
          };
        }""",
        list(content),
    )

    def frame(number: float) -> np.ndarray:
        duration, width, *pixels = hand.page.evaluate(f"frameAt({(number + 0.5) / 30})")
        assert duration == pytest.approx(7.5, abs=0.01)
        assert width == 512
        return np.array(pixels, float).reshape(64, 64, 4)[..., 0]

    for number, z in ((0, faces[0]), (75, faces[1]), (150, faces[2])):
        assert close_to(frame(number), z, model) < 6, f"frame {number} is a favourite"
    middle = slerp(faces[2], faces[0], 0.5)
    assert close_to(frame(187.5), middle, model) < 6, "it goes back to the first"
    assert np.abs(frame(224) - frame(0)).mean() < 3, "without a jump"


def test_a_film_of_favourites_as_gif_shows_each_frame_for_its_time(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    faces = kept(hand, 2)
    name, content = film_of(hand, "GIF")
    assert name == "faces-tiny.gif"
    film: Any = Image.open(io.BytesIO(content))
    assert film.n_frames == 100
    for number, z in ((0, faces[0]), (50, faces[1])):
        film.seek(number)
        assert film.info["duration"] == 50
        assert close_to(np.asarray(film.convert("L"), float), z, model) < 4


def test_a_browser_without_encoders_writes_gif(visit: Visit, address: str) -> None:
    for script, formats in (
        ("delete window.VideoEncoder", ["GIF"]),
        (
            """const ask = window.VideoEncoder?.isConfigSupported;
            if (ask) VideoEncoder.isConfigSupported = (config) => config.codec.startsWith('avc1')
              ? Promise.resolve({ supported: false, config }) : ask.call(VideoEncoder, config);""",
            ["WebM", "GIF"],
        ),
    ):
        hand = open_page(visit, address, script=script)
        found: Callable[[], list[str]] = hand["#film-format option"].all_inner_texts
        until(lambda found=found, formats=formats: found() == formats, f"it offers {formats}")  # type: ignore[misc]


def test_a_film_writer_that_does_not_come_is_told(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, allow=("ERR_FAILED",))
    hand.page.route("**/mediabunny*", lambda route: route.abort())
    choose(hand, "MP4")
    hand.click("#record")
    hand.hover(0.5, 0.5)
    hand.click("#record")
    hand.says("The writer of films could not be loaded. Check the connection, or choose GIF.")

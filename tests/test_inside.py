""" "What is a VAE?" in a real browser: its figures are those of Python, and each step is live."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import morphing_faces as mf
from conftest import drawn_face
from hand import Hand, Visit, centre, crop, follow, open_page, pick, picture_file, pixels, until
from morphing_faces.render import to_uint8

STEPS = ("picture", "encoder", "range", "sample", "decoder", "price", "balance", "map")


def open_step(hand: Hand, step: str) -> None:
    hand.click("#open-explain")
    hand.click(f"#tab-{step}")
    assert hand[f"#step-{step}"].is_visible()


def words(hand: Hand, plot: str) -> str:
    """What the plot says of the dimension that is pointed at, once it says something."""
    read = f"#{plot}"
    until(lambda: "Arrow" not in (hand[read].get_attribute("aria-valuetext") or "Arrow"), f"{plot} says something")
    return hand[read].get_attribute("aria-valuetext") or ""


def wait_for_plot(hand: Hand, plot: str) -> None:
    until(lambda: hand[f"#{plot}"].get_attribute("aria-valuemax") not in (None, "0"), f"{plot} is drawn")


def test_it_stands_beside_the_face_which_stays_under_the_hand(hand: Hand) -> None:
    open_step(hand, "picture")
    face, inside = hand["#face"].bounding_box(), hand["#inside"].bounding_box()
    assert face
    assert inside
    assert face["x"] + face["width"] <= inside["x"], "beside, not over"
    shown = pixels(hand, "#inside-pixels")
    hand.hover(0.6, -0.4)
    assert hand.z[:2] == pytest.approx([0.6, -0.4], abs=0.01)
    until(lambda: np.abs(pixels(hand, "#inside-pixels") - shown).max() > 3, "the panel follows the face")


def test_the_steps_go_by_button_by_tab_and_by_key(hand: Hand) -> None:
    open_step(hand, "picture")
    for step in STEPS[1:]:
        hand.click("#inside-next")
        assert hand[f"#step-{step}"].is_visible()
        assert hand["#inside [role=tabpanel]:not([hidden])"].count() == 1
    assert hand["#inside-next"].is_disabled()
    assert hand.page.evaluate("document.activeElement.id") == "inside-back", "the focus is not lost"
    hand["#tab-map"].focus()
    hand.press("ArrowLeft")
    assert hand.page.evaluate("document.activeElement.id") == "tab-balance"
    hand.press("Home")
    assert hand["#step-picture"].is_visible()
    hand.press("Escape")
    assert not hand["#inside"].is_visible()
    assert hand.page.evaluate("document.activeElement.id") == "open-explain"


def test_codes_and_their_price_are_pythons_and_marks_tell_their_name(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    open_step(hand, "encoder")
    wait_for_plot(hand, "inside-codes")
    q = model.encode(to_uint8(model.decode(hand.z)))
    hand["#inside-codes"].focus()
    hand.press("End")
    last = model.dimensions[28]
    found = re.search(r"(.*): μ ([+−][\d.]+), σ ([\d.]+)", words(hand, "inside-codes"))
    assert found
    assert found[1] == hand.page.evaluate("document.querySelector('#dimensions li:nth-child(29)') && 'Dimension 28'")
    assert float(found[2].replace("−", "-")) == pytest.approx(q.mean[0, last], abs=0.06)
    assert float(found[3]) == pytest.approx(q.std[0, last], rel=0.1)
    hand.says(found[1], "#inside-readout")

    hand.click("#tab-price")
    wait_for_plot(hand, "inside-kl")
    box = hand["#inside-kl"].bounding_box()
    assert box
    hand.page.mouse.move(box["x"] + 34 + 0.5 * (box["width"] - 34) / 29, box["y"] + 60)
    kl = (q.mean**2 + q.std**2 - 1 - np.log(q.std**2)) / 2
    here = re.search(r"([\d.]+) nats here", words(hand, "inside-kl"))
    assert here
    assert float(here[1]) == pytest.approx(kl[0, 0], rel=0.1, abs=0.05)
    total = re.search(r"(\d+) through all 32", hand["#inside-kl-text"].inner_text())
    assert total
    assert float(total[1]) == pytest.approx(kl.sum(), rel=0.1, abs=1)


def test_a_mark_that_is_clicked_goes_on_the_horizontal_axis(hand: Hand) -> None:
    open_step(hand, "price")
    wait_for_plot(hand, "inside-kl")
    box = hand["#inside-kl"].bounding_box()
    assert box
    hand.page.mouse.click(box["x"] + 34 + 5.5 * (box["width"] - 34) / 29, box["y"] + 60)
    until(lambda: hand.state("axes")[0] == 5, "dimension 5 is on the horizontal axis")


def draws(hand: Hand, step: str) -> np.ndarray:
    """The five that are drawn side by side, (5, height, width, 3)."""
    count = hand[f"#step-{step} .draws button"].count()
    return np.stack([pixels(hand, f"#step-{step} .draws button:nth-child({k + 1}) canvas") for k in range(count)])


def test_five_samples_differ_by_the_noise_and_can_become_the_face(hand: Hand) -> None:
    open_step(hand, "sample")
    until(lambda: len(draws(hand, "sample")) == 5 and draws(hand, "sample").max() > 30, "five are drawn")

    def spread() -> float:
        return float(np.ptp(draws(hand, "sample"), axis=0).mean())

    hand.slide("#noise", 0)
    until(lambda: spread() == 0, "without noise all are the decoded mean")
    assert pixels(hand, "#step-sample .spread canvas").max() == 0
    hand.slide("#noise", 3)
    until(lambda: spread() > 3, "at 3 sigma they differ")
    hand.reads("3.0 σ", "#noise-value")
    before = draws(hand, "sample")
    hand.click("#new-noise")
    until(lambda: np.abs(draws(hand, "sample") - before).max() > 3, "other noise gives other draws")
    until(lambda: pixels(hand, "#step-sample .spread canvas").max() > 3, "and shows where they differ")
    z = hand.z
    hand.click("#step-sample .draws button:nth-child(2)")
    assert (hand.z != z).any()
    hand.click("#undo")
    assert np.array_equal(hand.z, z)


def test_the_elbo_is_the_one_that_evaluate_computes(hand: Hand, tiny_bundle: Path) -> None:
    model = mf.load(tiny_bundle)
    x = to_uint8(model.decode(hand.z)).astype(np.float32) / 255
    q = model.encode(x)
    sigma = math.sqrt(model.bundle.manifest["figures"]["held_out/mse"])
    codes = q.mean + q.std * np.random.default_rng(0).standard_normal((200, 32), np.float32)
    error = ((model.decode(codes) - x) ** 2).reshape(200, -1).sum(1)
    likelihood = -0.5 * (error / sigma**2 + x.size * (2 * math.log(sigma) + math.log(2 * math.pi)))
    kl = float((q.mean**2 + q.std**2 - 1 - np.log(q.std**2)).sum() / 2)

    open_step(hand, "balance")

    def said(part: str) -> float:
        until(lambda: hand[f"#elbo-{part}"].inner_text() != "", "the terms are told")
        return float(hand[f"#elbo-{part}"].inner_text().replace("−", "-").replace(",", ""))

    assert said("likelihood") == pytest.approx(
        float(likelihood.mean()), abs=4 * float(likelihood.std()) / math.sqrt(5) + 2
    )
    assert said("kl") == pytest.approx(kl, rel=0.1, abs=1)
    assert said("sum") == pytest.approx(said("likelihood") - said("kl"), abs=1)
    own = draws(hand, "balance")
    hand.slide("#pull", 1)
    until(lambda: said("kl") == 0, "at the prior the KL is 0")
    until(
        lambda: np.ptp(draws(hand, "balance"), axis=0).mean() > 3 + np.ptp(own, axis=0).mean(),
        "and draws are strangers",
    )


def test_a_demonstration_moves_the_live_figure_and_ends(hand: Hand) -> None:
    open_step(hand, "sample")
    hand["#noise-value"].wait_for()
    hand.click("#inside-show")
    hand.carries("aria-pressed", "true", "#inside-show")
    until(lambda: float(hand["#noise"].input_value()) > 1.2, "the noise grows")
    hand.click("#inside-show")
    hand.carries("aria-pressed", "false", "#inside-show")
    hand.click("#tab-encoder")
    z = hand.z
    hand.click("#inside-show")
    until(lambda: not np.array_equal(hand.z, z), "the face moves")
    hand.click("#tab-picture")
    hand.click("#inside-show")
    until(lambda: not np.array_equal(hand.z[2:], z[2:]), "another face")


def test_the_panel_explains_the_persons_photograph_too(hand: Hand) -> None:
    hand.click("#open-explain")
    hand.click("#tab-picture")
    pick(hand, picture_file(drawn_face()))
    hand["#photo-use:not([disabled])"].wait_for()
    shown = crop(hand)
    hand.press("Escape")
    hand["#inside input[value=photo]"].check()
    small = shown[6::12, 6::12]
    until(lambda: np.abs(pixels(hand, "#inside-pixels") - small).mean() < 12, "the photograph goes in")


def test_an_encoder_that_does_not_come_is_told_and_tried_again(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, allow=("ERR_FAILED", "ERR_INTERNET_DISCONNECTED"))
    hand.page.route("**/encoder.onnx*", lambda route: route.abort())
    open_step(hand, "encoder")
    hand.says("Check the connection", "#inside-state")
    assert hand["#inside-retry"].is_visible()
    assert centre(hand["#inside-retry"])[1] < hand.page.viewport_size["height"], "said where it is seen"  # type: ignore[index]
    hand.page.unroute("**/encoder.onnx*")
    hand.click("#inside-retry")
    wait_for_plot(hand, "inside-codes")
    assert not hand["#inside-retry"].is_visible()
    hand.reads("", "#inside-state")


def test_an_encoder_that_stops_coming_is_told_and_tried_again(visit: Visit, address: str) -> None:
    hand = open_page(visit, address, allow=("ERR_FAILED", "ERR_ABORTED"))
    held: list[Any] = []
    hand.page.route("**/encoder.onnx*", lambda route: held.append(route))  # noqa: PLW0108 (a built-in cannot be marked)
    hand.page.clock.install()
    open_step(hand, "encoder")
    until(lambda: hand.page.evaluate("1") and held, "the encoder is asked for")
    hand.page.clock.fast_forward(31_000)
    hand.says("Nothing has come for 30 seconds", "#inside-state")
    hand.page.unroute("**/encoder.onnx*")
    hand.click("#inside-retry")
    wait_for_plot(hand, "inside-codes")
    hand.reads("", "#inside-state")


def test_all_that_wait_for_the_encoder_hear_how_much_has_come(visit: Visit, address: str) -> None:
    hand = open_page(visit, address)
    heard = hand.page.evaluate("""async () => {
      const { model } = morphingFaces;
      const heard = [[], []];
      const [height, width, channels] = model.imageShape;
      const picture = new Float32Array(height * width * channels);
      await Promise.all(heard.map((said) => model.encode(picture, { onProgress: ({ loaded }) => said.push(loaded) })));
      return heard.map((said) => said.at(-1));
    }""")
    assert heard[0] == heard[1] > 0


def test_nothing_is_encoded_while_it_is_closed(hand: Hand) -> None:
    hand.page.evaluate("""() => {
      const { model } = morphingFaces;
      const encode = model.encode.bind(model);
      model.encode = (...all) => ((window.encoded = (window.encoded ?? 0) + 1), encode(...all));
    }""")
    open_step(hand, "picture")
    hand["#inside input[value=face]"].check()
    hand.click("#tab-encoder")
    hand.hover(0.1, 0.7)
    until(lambda: hand.page.evaluate("window.encoded"), "it is encoded while it is open")
    hand.click("#close-inside")
    hand.page.evaluate("window.encoded = 0")
    follow(hand, "bundle=tiny&seed=77")
    hand.at_rest()
    hand.hover(0.3, 0.3)
    assert hand.page.evaluate("window.encoded") == 0
    hand.page.evaluate("delete morphingFaces.model.encode")

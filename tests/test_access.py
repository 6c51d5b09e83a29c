"""For all: axe-core finds nothing in any state, the keyboard alone goes everywhere, letters can be switched off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import visits
from hand import PHONE, Hand, open_page, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
MOST_STOPS = 40
STEPS = ("picture", "encoder", "range", "sample", "decoder", "price", "balance", "map")
STOPS = """() => {
  const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')];
  const stops = all.filter((one) => one.tabIndex >= 0 && !one.disabled && !one.matches('fieldset:disabled *') && one.checkVisibility());
  const groups = new Set(stops.filter((one) => one.type === 'radio').map((one) => one.name));
  return stops.filter((one) => one.type !== 'radio').length + groups.size;
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.is_file():
        if os.environ.get("CI"):
            pytest.fail("axe-core is not installed, and nothing is skipped in CI: npm ci")
        pytest.skip("axe-core is not installed: npm ci")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["wide", "phone"])
def checked(request: pytest.FixtureRequest, browser: Browser, address: str, axe: str) -> Iterator[Hand]:
    with visits(browser) as (go, errors):
        hand = open_page(go, address, **(PHONE if request.param == "phone" else {}))
        hand.page.evaluate(axe)
        hand.click("#favour")
        hand.click("#random")
        hand.click("#favour")
        hand.at_rest()
        yield hand
        assert not errors, "\n".join(errors)


def faults(hand: Hand) -> list[str]:
    """What axe-core finds, in both themes."""
    found = []
    for theme in ("light", "dark"):
        hand.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        hand.page.evaluate("new Promise(requestAnimationFrame)")
        script = """(tags) => axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] })
          .then(({ violations }) => violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`)))"""
        found += [f"{theme}: {fault}" for fault in hand.page.evaluate(script, STANDARD)]
    return found


def test_axe_finds_nothing_on_the_page(checked: Hand) -> None:
    assert faults(checked) == []


def test_axe_finds_nothing_in_a_mix(checked: Hand) -> None:
    checked.click("#make-mix")
    try:
        assert faults(checked) == []
        assert checked.page.evaluate(STOPS) <= MOST_STOPS
    finally:
        checked.click("#make-morph")


@pytest.mark.parametrize("step", STEPS)
def test_axe_finds_nothing_inside(checked: Hand, step: str) -> None:
    if not checked["#inside"].is_visible():
        checked.click("#open-explain")
    checked.click(f"#tab-{step}")
    checked.at_rest()
    try:
        assert faults(checked) == []
        assert checked.page.evaluate(STOPS) <= MOST_STOPS
    finally:
        if step == STEPS[-1]:
            checked.click("#close-inside")


@pytest.mark.parametrize("dialog", ["photo", "help", "kept"])
def test_axe_finds_nothing_in_a_dialog(checked: Hand, dialog: str) -> None:
    checked.click(f"#open-{dialog}")
    try:
        assert faults(checked) == []
    finally:
        checked.press("Escape")
    assert checked.page.evaluate("document.activeElement.id") == f"open-{dialog}", "the focus comes back"


def test_there_are_at_most_forty_stops_on_the_way_through(checked: Hand) -> None:
    assert checked.page.evaluate(STOPS) <= MOST_STOPS


@pytest.mark.parametrize("made", ["mix", "morph"])
def test_what_is_pressed_is_large_enough_for_a_finger_or_a_mouse(checked: Hand, made: str) -> None:
    checked.click(f"#make-{made}")
    least = 44 if checked.page.evaluate("matchMedia('(pointer: coarse)').matches") else 24
    script = """(least) => [...document.querySelectorAll('button, select, a[href], label:has(input[type=radio])')]
      .filter((one) => one.checkVisibility() && one.tabIndex >= 0 && !one.closest('p, .skip'))
      .map((one) => [one.outerHTML.slice(0, 120), one.getBoundingClientRect()])
      .filter(([, { width, height }]) => height && (height < least - 0.5 || width < least - 0.5))
      .map(([html, { width, height }]) => `${html} ${width} x ${height}`)"""
    assert checked.page.evaluate(script, least) == []


def test_letters_can_be_switched_off(hand: Hand) -> None:
    hand.click("#open-help")
    hand["#letters"].uncheck()
    hand.press("Escape")
    z = hand.z
    hand.page.evaluate("document.activeElement.blur()")
    for key in ("r", "0", "w", "?"):
        hand.press(key)
    assert (hand.z == z).all()
    assert not hand["#help"].is_visible()
    hand.press("Control+z")  # with Ctrl it is no single letter
    hand["#face"].focus()
    hand.press("Space")
    until(lambda: hand.state("frozen"), "on the face space holds it")
    hand.press("Space")
    hand.click("#open-help")
    hand["#letters"].check()
    hand.press("Escape")
    hand.page.evaluate("document.activeElement.blur()")
    hand.press("r")
    assert (hand.z != z).any()


def test_values_are_spoken(hand: Hand) -> None:
    hand.page.evaluate("""() => {
      window.spoken = [];
      for (const live of document.querySelectorAll('[aria-live=polite], [role=status]')) {
        new MutationObserver(() => window.spoken.push(live.textContent)).observe(live, { childList: true, characterData: true, subtree: true });
      }
    }""")
    hand["#face"].focus()
    hand.press("ArrowRight")
    spoken: Any = lambda: " ".join(hand.page.evaluate("window.spoken"))  # noqa: E731
    until(lambda: any(sign in spoken() for sign in "+−"), "an arrow key tells the coordinate it has set")

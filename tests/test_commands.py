"""The table of commands: the grammar of the prompt, the keys, the help, and the README's copy of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from morphing_faces.commands import COMMANDS, KEYS, WORDS, help_message, key_help, parse, rows


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("  ", ("", ())),
        ("h", ("h", ())),
        (" d 0   28 ", ("d", (0, 28))),
        ("set 3 -1.5", ("set", (3, -1.5))),
        ("range 2", ("range", (2.0,))),
        ("d\t0 5", ("d", (0, 5))),
        ("grab mouth-left -2 1.5", ("grab", ("mouth-left", -2.0, 1.5))),
        ("pin nose", ("pin", ("nose",))),
        ("handles", ("handles", ())),
        ("help", ("h", ())),
        ("?", ("h", ())),
        ("quit", ("q", ())),
        ("undo", ("u", ())),
        ("save my face.json", ("save", ("my face.json",))),
        ('load "a b.json"', ("load", ("a b.json",))),
    ],
)
def test_the_grammar(line: str, parsed: tuple[str, tuple[Any, ...]]) -> None:
    assert parse(line, 29) == parsed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("d 0 29", "dimension '29': dimensions are whole numbers from 0 to 28"),
        ("d 0", "need two dimensions to select: d D1 D2"),
        ("d 1 2 3", "need two dimensions"),
        ("d x 1", "dimension 'x'"),
        ("wlak", "unknown command 'wlak': did you mean 'walk'?"),
        ("save", "save needs a file: save FILE"),
        ("r 3", "r takes no arguments, got 1"),
        ("grab nose 1", "grab takes 3 arguments, got 2: grab HANDLE DX DY"),
        ("grab nose 1 x", "'x': must be a number"),
        ("set 3 nan", "'nan': must be a number"),
        ("set 3 1e999", "'1e999': must be a number"),
        ("d 0 ²", "dimension '²'"),
        ("d 0 " + "9" * 5000, "dimension '999"),
        ("x" * 100_000, "unknown command 'xxx"),
        ("\x1b[31mred", r"unknown command '\\x1b"),
    ],
)
def test_wrong_lines_get_one_line(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?").replace("[", r"\[")) as caught:
        parse(line, 29)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_wrong_handle_is_answered_with_all_of_them_and_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"handle 'mouth-lef': must be one of mouth-left,.*jaw-right; did you mean 'mouth-left'\?"
    ):
        parse("pin mouth-lef", 29)


def test_the_help_names_every_verb_and_the_2014_words_come_first() -> None:
    text = help_message(29)
    places = [text.index(f"\n    {name}") for name in COMMANDS]
    assert places == sorted(places)
    assert list(COMMANDS)[:4] == ["h", "q", "r", "d"]
    assert "Dimensions are 0 to 28" in text


def test_a_word_a_key_and_an_alias_are_each_there_once() -> None:
    assert set(WORDS.values()) == set(COMMANDS)
    assert len(WORDS) == sum(1 + len(command.others) for command in COMMANDS.values())
    keys = [key for command in COMMANDS.values() for key in command.keys]
    assert len(set(keys)) == len(keys)
    assert {KEYS[key].strip() for key in keys} <= set(COMMANDS)


def test_the_help_of_the_keys_names_every_key_of_one_letter() -> None:
    for key, command in KEYS.items():
        if key.isalpha() and len(key) == 1:
            assert re.search(rf"\b{key}\b", key_help()), key
            assert command.strip() in key_help() or key == command.strip()


def test_the_readme_says_what_the_help_says() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    missing = [row for row in rows() if row not in readme]
    assert not missing, f"README.md lacks: {missing}"

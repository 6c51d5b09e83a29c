"""Settings: what is refused and how, and that TOML gives back what was written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from morphing_faces.train.recipe import Config, from_dict, from_toml, parse_overrides, recipe


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        from_dict(settings, where="here")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_unknown_key_is_named_with_the_nearest_known_one() -> None:
    message = refusal({"lerning_rate": 0.1})
    assert "'lerning_rate'" in message
    assert "did you mean 'learning_rate'?" in message
    assert message.startswith("here: ")


def test_an_unknown_key_like_no_other_lists_what_is_known() -> None:
    message = refusal({"zzzzzz": 1})
    assert "'zzzzzz'" in message
    for field in dataclasses.fields(Config):
        assert field.name in message


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("batch", "64", "a whole number"),
        ("batch", 64.0, "a whole number"),
        ("batch", True, "a whole number"),
        ("learning_rate", "fast", "a number"),
        ("learning_rate", False, "a number"),
        ("mirror", 1, "true or false"),
        ("name", 7, "text in quotes"),
        ("hidden", 2000, "a list of whole numbers"),
        ("hidden", [2000, "2000"], "a list of whole numbers"),
        ("hidden", [2.5], "a list of whole numbers"),
    ],
)
def test_a_wrong_type_is_refused_with_key_value_and_what_is_wanted(key: str, value: Any, expected: str) -> None:
    assert refusal({key: value}) == f"here: {key} = {value!r}: must be {expected}"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("network", "gan", "'mlp' or 'conv'"),
        ("network", "conv", "'shared' when network is 'conv'"),
        ("sigma", "none", "'picture' or 'shared'"),
        ("adversarial", -0.1, "0 or more"),
        ("critic_shift", -1, "0 or more"),
        ("critic_learning_rate", 0.0, "more than 0 and finite"),
        ("critic_colour", 1.0, "at least 0 and less than 1"),
        ("precision", "fp8", "'auto', 'bf16' or 'fp32'"),
        ("compile", "yes", "'auto', 'on' or 'off'"),
        ("latent_size", 1, "at least 2"),
        ("batch", 0, "at least 1"),
        ("steps", -1, "at least 1"),
        ("max_bad_steps", 0, "at least 1"),
        ("warmup", -1, "0 or more"),
        ("seed", -1, "0 or more"),
        ("kl_weight", -0.5, "0 or more"),
        ("checkpoint_minutes", -1.0, "0 or more"),
        ("learning_rate", 0.0, "more than 0 and finite"),
        ("learning_rate", float("nan"), "more than 0 and finite"),
        ("learning_rate", float("inf"), "more than 0 and finite"),
        ("sigma_min", -0.1, "more than 0 and finite"),
        ("clip", 0.0, "more than 0 and finite"),
        ("ema", 1.0, "at least 0 and less than 1"),
        ("dropout", 1.0, "at least 0 and less than 1"),
        ("zoom", -0.1, "at least 0 and less than 1"),
        ("learning_rate_end", 1.5, "from 0 to 1"),
        ("cooldown", -1, "0 or more"),
        ("adversarial_pace", 0.0, "more than 0 and finite"),
        ("small_batch", 0, "at least 1"),
        ("small_steps", 5, "0 when network is 'mlp'"),
        ("decoder_widths", (8,), "at least two widths"),
        ("critic_width", 1, "at least 2"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(key: str, value: Any, allowed: str) -> None:
    said = "sigma = 'picture'" if value == "conv" else f"{key} = {value!r}"
    assert refusal({key: value}) == f"{said}: must be {allowed}"


def test_the_critic_does_not_come_in_before_whole_pictures() -> None:
    settings = {"network": "conv", "sigma": "shared", "adversarial": 0.2, "small_steps": 5, "adversarial_from": 4}
    assert refusal(settings) == "adversarial_from = 4: must be at least small_steps, 5"


@pytest.mark.parametrize("blocks", [[1, 2], [1, 1, 0]])
@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_every_width_has_its_blocks(network: str, blocks: list[int]) -> None:
    settings = {f"{each}_{key}": [8, 8, 8] for each in ("encoder", "decoder") for key in ("widths", "blocks")}
    said = refusal({**settings, "network": "conv", "sigma": "shared", f"{network}_blocks": blocks})
    assert said == f"{network}_blocks = {tuple(blocks)!r}: must be a list of 3 positive numbers, one for each width"


@pytest.mark.parametrize("widths", [[], [0], [64, -1]])
def test_hidden_widths_must_be_positive(widths: list[int]) -> None:
    assert refusal({"hidden": widths}) == f"hidden = {tuple(widths)!r}: must be a list of positive widths"


def test_a_whole_number_is_taken_where_a_number_is_wanted() -> None:
    config = from_dict({"kl_weight": 7, "hidden": [10, 20]})
    assert type(config.kl_weight) is float
    assert config.kl_weight == 7.0
    assert config.hidden == (10, 20)


def test_toml_gives_back_every_setting(tmp_path: Path) -> None:
    config = Config(
        name='a "quoted" \\ name, größer', hidden=(3, 1, 2), learning_rate=1e-5, mirror=False, seed=2**40, shift=0.1
    )
    file = tmp_path / "config.toml"
    file.write_text(config.to_toml(), encoding="utf-8")
    assert from_toml(file) == config


@pytest.mark.parametrize("name", ["two\nlines", "tab\there", "bell\x07"])
def test_toml_gives_back_a_name_with_control_characters(name: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(Config(name=name).to_toml(), encoding="utf-8")
    assert from_toml(file).name == name


def test_what_is_not_toml_is_refused_with_the_file_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("batch = = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.toml: not valid TOML"):
        from_toml(file)


def test_an_unknown_key_in_a_file_is_refused_with_the_file_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("bach = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.toml: unknown key 'bach'; did you mean 'batch'\?"):
        from_toml(file)


def test_a_recipe_is_found_by_its_name() -> None:
    config = recipe("classic")
    assert config.name == "classic"
    assert (config.latent_size, config.hidden) == (400, (2000, 2000))


def test_a_recipe_is_found_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nsteps = 7\n', encoding="utf-8")
    config = recipe(str(file))
    assert config == Config(name="mine", steps=7)


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'clasic': give a TOML file, or one of .*classic"):
        recipe("clasic")


def test_overrides_are_read_as_toml_and_bare_words_as_text() -> None:
    pairs = ["batch=64", "hidden=[100, 50]", "mirror = false", "kl_weight=2.5", "name=mine", 'precision="fp32"']
    assert parse_overrides(pairs) == {
        "batch": 64,
        "hidden": [100, 50],
        "mirror": False,
        "kl_weight": 2.5,
        "name": "mine",
        "precision": "fp32",
    }


def test_an_override_keeps_what_stands_after_its_first_equals_sign() -> None:
    assert parse_overrides(["name=a=b"]) == {"name": "a=b"}


def test_an_override_without_an_equals_sign_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"--set 'batch': must be key=value, for example --set batch=64"):
        parse_overrides(["batch"])


def test_replace_changes_a_copy_and_refuses_unknown_keys() -> None:
    config = Config(batch=8)
    assert config.replace(steps=3) == Config(batch=8, steps=3)
    assert config.steps == Config().steps
    with pytest.raises(ValueError, match="unknown key 'stepz'"):
        config.replace(stepz=3)

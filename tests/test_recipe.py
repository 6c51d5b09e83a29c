"""Settings: what is refused and how, and that TOML gives back what was written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from morphing_faces.train.recipe import Recipe, from_dict, from_toml, parse_overrides, recipe


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
    for field in dataclasses.fields(Recipe):
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
        ("name", "", "1 to 100 characters that can be printed"),
        ("name", "bell\x07", "1 to 100 characters that can be printed"),
        ("network", "gan", "'mlp' or 'conv'"),
        ("precision", "fp8", "'auto', 'bf16' or 'fp32'"),
        ("compile", "yes", "'auto', 'on' or 'off'"),
        ("latent_size", 1, "from 2 to 4096"),
        ("latent_size", 100_000_000_000, "from 2 to 4096"),
        ("hidden", (), "a list of 1 to 16 widths from 1 to 16384"),
        ("hidden", (64, -1), "a list of 1 to 16 widths from 1 to 16384"),
        ("widths", (8,), "a list of 2 to 10 widths"),
        ("batch", 0, "from 1 to 65536"),
        ("steps", -1, "from 1 to 1000000000"),
        ("warmup", -1, "from 0 to 1000000000"),
        ("seed", -1, "from 0 to 4294967295"),
        ("kl_weight", -0.5, "from 0 to a million"),
        ("kl_weight", float("inf"), "from 0 to a million"),
        ("kl_weight", float("nan"), "from 0 to a million"),
        ("checkpoint_minutes", -1.0, "from 0 to a million"),
        ("learning_rate", 0.0, "more than 0 and at most 1"),
        ("learning_rate", 1e30, "more than 0 and at most 1"),
        ("learning_rate", float("nan"), "more than 0 and at most 1"),
        ("sigma_min", -0.1, "from 0.0001 to 1"),
        ("clip", 0.0, "more than 0 and finite"),
        ("ema", 1.0, "at least 0 and less than 1"),
        ("zoom", -0.1, "at least 0 and less than 1"),
        ("cooldown", 1.5, "from 0 to 1"),
        ("flow_layers", 65, "from 0 to 64"),
        ("refine", -1, "from 0 to 64"),
        ("spread", (1.0, 1.0), "3 numbers from 0.1 to 10"),
        ("spread", (1.0, 1.0, float("nan")), "3 numbers from 0.1 to 10"),
        ("spread", (0.9, 1.1, 1.5), "1 each time when flow_layers is 0"),
        ("critic", 1.0, "0 when network is 'mlp'"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(key: str, value: Any, allowed: str) -> None:
    assert refusal({key: value}) == f"{key} = {value!r}: must be {allowed}"


@pytest.mark.parametrize("other", [{"kl_weight": 0.0}, {"shift": 2.0}, {"zoom": 0.1}])
def test_pictures_that_are_others_each_time_have_no_code_of_their_own(other: dict[str, float]) -> None:
    assert refusal({"stored_codes": True, **other}).startswith("stored_codes = True: must be false when kl_weight is 0")


def test_codes_that_cost_nothing_are_not_refined() -> None:
    assert refusal({"refine": 4, "kl_weight": 0.0}).startswith("refine = 4: must be 0 when kl_weight is 0")


@pytest.mark.parametrize("blocks", [[1, 2], [1, 1, 0]])
@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_every_width_has_its_blocks(network: str, blocks: list[int]) -> None:
    known = {"network": "conv", "widths": [8, 8, 8], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1]}
    said = refusal({**known, f"{network}_blocks": blocks})
    assert said == f"{network}_blocks = {tuple(blocks)!r}: must be a list of 3 numbers from 1 to 64, one for each width"


def test_a_whole_number_is_taken_where_a_number_is_wanted() -> None:
    settings = from_dict({"kl_weight": 7, "hidden": [10, 20]})
    assert type(settings.kl_weight) is float
    assert settings.kl_weight == 7.0
    assert settings.hidden == (10, 20)


def test_toml_gives_back_every_setting(tmp_path: Path) -> None:
    settings = Recipe(
        name='a "quoted" \\ name, größer', hidden=(3, 1, 2), learning_rate=1e-5, mirror=False, seed=2**31, shift=0.1
    )
    file = tmp_path / "recipe.toml"
    file.write_text(settings.to_toml(), encoding="utf-8")
    assert from_toml(file) == settings


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
    settings = recipe("classic")
    assert settings.name == "classic"
    assert (settings.latent_size, settings.hidden) == (400, (2000, 2000))


def test_a_recipe_is_found_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nsteps = 7\n', encoding="utf-8")
    settings = recipe(str(file))
    assert settings == Recipe(name="mine", steps=7)


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
    settings = Recipe(batch=8)
    assert settings.replace(steps=3) == Recipe(batch=8, steps=3)
    assert settings.steps == Recipe().steps
    with pytest.raises(ValueError, match="unknown key 'stepz'"):
        settings.replace(stepz=3)

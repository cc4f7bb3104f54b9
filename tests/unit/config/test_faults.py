from __future__ import annotations

import pytest

from maskwright.config import (
    CallbacksConfig,
    Experiment,
    LoaderConfig,
    MetricsConfig,
    OptimConfig,
    SplitConfig,
    load_experiment,
)
from maskwright.config.base import Field, Section
from maskwright.config.faults import did_you_mean, show
from maskwright.errors import ConfigError


class Limits(Section):
    at_least: float = Field(1.5, ge=1, help="At least one.")
    above: float = Field(1.5, gt=1, help="Above one.")
    at_most: int = Field(5, le=10, help="At most ten.")
    below: float = Field(0.5, lt=1, help="Below one.")
    word: str = Field("a", min_length=1, help="A word.")
    pair: tuple[float, float] = Field((0.0, 1.0), help="Two numbers.")
    some: tuple[int, ...] = Field((1,), min_length=1, help="Numbers.")
    limit: float | None = Field(None, gt=0, help="CHM limit.")
    switch: bool = Field(True, help="On or off.")
    must: str = Field(help="Must be given.")


def told(section: type[Section], **values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        section(**values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"at_least": 0.5},
            "at_least: 0.5 is below the minimum 1 (Limits). Set a number 1 or more, for example 1.5: at least one.",
        ),
        (
            {"above": 1},
            "above: 1 is not above 1 (Limits). Set a number above 1, for example 1.5: above one.",
        ),
        (
            {"at_most": 11},
            "at_most: 11 is above the maximum 10 (Limits). Set a whole number up to 10, for example 5: at most ten.",
        ),
        (
            {"below": 1},
            "below: 1 is not below 1 (Limits). Set a number below 1, for example 0.5: below one.",
        ),
        ({"word": ""}, 'word: "" is not allowed (Limits). Set a text, for example "a": a word.'),
        ({"word": 5}, 'word: 5 is not a text (Limits). Put it in quotes: "5".'),
        (
            {"at_most": 1.5},
            "at_most: 1.5 is not a whole number (Limits). Set a whole number up to 10, for example 5: at most ten.",
        ),
        (
            {"pair": [1]},
            "pair: [1] has 1 entry (Limits). Set a list of 2 numbers, for example [0.0, 1.0]: two numbers.",
        ),
        (
            {"pair": [1, 2, 3]},
            "pair: [1, 2, 3] has 3 entries (Limits). Set a list of 2 numbers, for example [0.0, 1.0]: two numbers.",
        ),
        (
            {"some": []},
            "some: [] has 0 entries (Limits). Set a list of whole numbers (at least 1), for example [1]: numbers.",
        ),
        ({"some": [1, "x"]}, 'some[1]: "x" is not a whole number (Limits). Set a whole number: numbers.'),
        ({"limit": 0}, "limit: 0 is not above 0 (Limits). Set a number above 0 or null: CHM limit."),
        ({"switch": "maybe"}, 'switch: "maybe" is not true or false (Limits). Set true or false: on or off.'),
    ],
)
def test_each_kind_of_fault_says_what_where_and_what_to_do(values: dict[str, object], text: str) -> None:
    assert told(Limits, must="x", **values) == text


def test_a_missing_setting_says_what_to_write() -> None:
    assert told(Limits) == "must: missing (Limits). Set a text: must be given."


def test_a_word_that_is_not_among_the_choices_gets_the_closest() -> None:
    assert told(SplitConfig, by="bloks") == (
        'by: "bloks" is not one of auto, site, blocks, lists (SplitConfig). Did you mean blocks?'
    )


def test_a_value_that_fits_no_member_of_a_union_names_them_all() -> None:
    assert told(SplitConfig, keep=3).startswith(
        'keep: 3 is not a path or "auto" or "none" (SplitConfig). Set a path or'
    )


def test_a_value_out_of_range_is_told_as_such_even_in_a_union() -> None:
    assert told(LoaderConfig, eval_batch_size=0).startswith("eval_batch_size: 0 is below the minimum 1 (LoaderConfig).")


def test_what_is_no_group_of_settings_is_told() -> None:
    assert told(CallbacksConfig, early_stopping=[1]) == (
        "early_stopping: [1] is not a group of settings (CallbacksConfig). Write name: value pairs."
    )
    assert told(OptimConfig, schedule="onecycle").startswith('schedule: "onecycle" is not a group of settings')


def test_an_unknown_kind_names_the_known_ones() -> None:
    assert told(OptimConfig, schedule={"kind": "zzz"}) == (
        'schedule.kind: "zzz" is not known (OptimConfig). Choose onecycle or constant or cosine or warm_restarts or '
        "cyclic_cosine or step or exponential or polynomial or reduce_on_plateau or adaptive."
    )


def test_a_large_limit_is_written_out() -> None:
    assert "is above the maximum 100000 " in told(MetricsConfig, bootstrap=100_001)


def test_several_faults_of_one_validator_are_each_placed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment((), {"name": "x", "data": {"folder": "x", "split": {"shares": [1, 1, 1], "by": "lists"}}})
    assert str(caught.value).splitlines() == [
        "data.split.shares: [1.0, 1.0, 1.0] add up to 3 (overrides). "
        "Give three shares from 0 to 1 that add up to 1, for example [0.7, 0.15, 0.15].",
        "data.split.by: lists needs the names of sites in train and in test (val may stay empty) (overrides).",
    ]


def test_values_are_shown_as_yaml_and_long_ones_cut() -> None:
    assert [show(value) for value in (True, None, "a", 1.5, [1, "b"])] == ["true", "null", '"a"', "1.5", '[1, "b"]']
    assert show({"a": 1}) == "a group of settings"
    assert show("x" * 100) == '"' + "x" * 55 + " ..."


def test_the_closest_word_is_asked_for_whatever_its_case() -> None:
    assert did_you_mean("logs_dir", ["LOGS_DIR", "loss"]) == "Did you mean LOGS_DIR?"
    assert did_you_mean("zzz", ["LOGS_DIR"]) == ""
    assert did_you_mean("unet_film", ["resunet_film", "film_unet"]) == "Did you mean film_unet?"


def test_an_experiment_from_python_tells_full_paths() -> None:
    text = told(Experiment, name="x", data={"folder": "y"}, model={"kind": "unet", "dept": 3})
    assert text == "model.dept: unknown setting (Experiment). Did you mean model.depth?"

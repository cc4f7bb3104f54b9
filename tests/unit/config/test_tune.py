"""The section of a search: what a space may say, and how it is told where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import Experiment, load_experiment, save_experiment
from maskwright.errors import ConfigError

BASE = {
    "name": "cracks",
    "task": {"kind": "binary"},
    "data": {"kind": "images", "folder": "pictures"},
    "model": {"kind": "unet"},
}


def searching(*space: dict[str, Any], **more: Any) -> Experiment:
    return load_experiment([], {**BASE, "tune": {"space": list(space), **more}})


def test_a_space_of_ranges_and_choices_is_written_and_read_back_equal(tmp_path: Path) -> None:
    experiment = searching(
        {"setting": "optim.optimizer.lr", "low": 1e-4, "high": 1e-2, "log": True},
        {"setting": "model.depth", "low": 3, "high": 5},
        {"setting": "model.kind", "choices": ["unet", "resunet"]},
        sampler={"kind": "gp", "startup_trials": 5},
        pruner={"kind": "hyperband", "factor": 4},
    )
    save_experiment(experiment, tmp_path / "a.yaml")

    assert load_experiment([tmp_path / "a.yaml"]) == experiment


def test_choices_of_any_kind_are_kept_as_they_are_written_for_set() -> None:
    experiment = searching(
        {"setting": "training.ema.enabled", "choices": [True, False]},
        {"setting": "training.clip_norm", "choices": [None, 0.5]},
        {"setting": "data.bands", "choices": [[1, 2], [3]]},
    )

    assert [search.choices for search in experiment.tune.space] == [
        ("true", "false"),
        ("null", "0.5"),
        ("[1, 2]", "[3]"),
    ]


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ({"setting": "optim.optimizer.lrr", "low": 0.1, "high": 1}, "Did you mean optim.optimizer.lr?"),
        ({"setting": "optim.optimizer.lr", "low": 1, "high": 20}, "1 to 20 leaves what optim.optimizer.lr allows"),
        ({"setting": "optim.optimizer.lr", "low": 0, "high": 1}, "a number above 0 to 10"),
        ({"setting": "optim.optimizer.lr", "low": 1, "high": 0.1}, "low: 1 is not below high: 0.1"),
        ({"setting": "optim.optimizer.weight_decay", "low": 0, "high": 0.1, "log": True}, "0 has no magnitude"),
        ({"setting": "optim.optimizer.lr", "low": 0.1, "high": 1, "log": True, "step": 0.1}, "no equal distances"),
        ({"setting": "model.depth", "low": 2.5, "high": 4}, "model.depth takes whole numbers, not 2.5"),
        ({"setting": "training.epochs", "low": 10, "high": 35, "step": 10}, "Set high: 30"),
        ({"setting": "training.ema.enabled", "low": 0, "high": 1}, "takes true or false, no range"),
        ({"setting": "model.kind"}, "Give low and high, or choices"),
        ({"setting": "model.kind", "choices": ["unet"], "low": 1}, "a setting has choices or a range, not both"),
        ({"setting": "model.kind", "choices": ["unet", "unet"]}, "unet comes twice"),
        ({"setting": "callbacks.monitor", "choices": ["val/iou", "val/loss"]}, "is one for all trials"),
        ({"setting": "task.kind", "choices": ["binary"]}, "task is one for all trials"),
        ({"setting": "data.split.seed", "choices": [1, 2]}, "data.split is one for all trials"),
        ({"setting": "tune.trials", "low": 1, "high": 2}, "tune is one for all trials"),
        ({"setting": "epochs", "low": 1, "high": 2}, "Did you mean training.epochs?"),
    ],
)
def test_what_is_wrong_with_an_entry_is_told_with_its_place(search: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        searching(search)

    assert told in str(error.value)
    assert "tune.space[0]" in str(error.value)


@pytest.mark.parametrize(("low", "high", "step"), [(0.0, 0.3, 0.1), (0.1, 0.7, 0.2), (10, 30, 10), (0.05, 0.5, 0.05)])
def test_steps_that_reach_the_end_are_no_fault_however_floats_round(low: float, high: float, step: float) -> None:
    setting = "model.dropout" if high < 1 else "training.epochs"

    assert searching({"setting": setting, "low": low, "high": high, "step": step}).tune.space[0].step == step


def test_a_setting_may_stand_in_the_space_once() -> None:
    lr = {"setting": "optim.optimizer.lr", "low": 0.001, "high": 0.01}

    with pytest.raises(ConfigError, match=r"optim.optimizer.lr comes twice"):
        searching(lr, lr)


def test_an_experiment_without_a_search_has_an_empty_space() -> None:
    assert load_experiment([], BASE).tune.space == ()

"""The space of a search: what it proposes, what plays no part, and what is refused before the first trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskwright.config import load_experiment
from maskwright.errors import ConfigError
from maskwright.workflows.tune_space import Space

BASE = {
    "name": "cracks",
    "task": {"kind": "binary"},
    "data": {"kind": "images", "folder": "pictures"},
    "model": {"kind": "unet", "base_channels": 8},
    "training": {"epochs": 8},
}


class Fixed:
    """Proposes what it was told, and remembers how it was asked."""

    def __init__(self, **values: Any) -> None:
        self.values, self.asked = {name.replace("__", "."): value for name, value in values.items()}, dict[str, Any]()

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        self.asked[name] = choices
        return self.values[name]

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
        self.asked[name] = (low, high, how)
        return float(self.values[name])

    def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:
        self.asked[name] = (low, high, how)
        return int(self.values[name])


def space(tmp_path: Path, *searches: dict[str, Any], overrides: Sequence[str] = ()) -> Space:
    path = tmp_path / "cracks.yaml"
    path.write_text(yaml.safe_dump({**BASE, "tune": {"space": list(searches)}}))
    return Space([str(path)], overrides)


LR = {"setting": "optim.optimizer.lr", "low": 1e-4, "high": 1e-2, "log": True}


def test_a_trial_is_the_experiment_with_its_values_and_without_the_search(tmp_path: Path) -> None:
    made = space(tmp_path, LR, {"setting": "training.clip_norm", "choices": [None, 0.5]})
    values = made.suggest(Fixed(optim__optimizer__lr=0.002, training__clip_norm="null"))
    experiment = made.experiment(values, {"name": "cracks_trial_0003"})

    assert values == {"optim.optimizer.lr": 0.002, "training.clip_norm": "null"}
    assert experiment.optim.optimizer.lr == 0.002
    assert experiment.training.clip_norm is None
    assert experiment.model.base_channels == 8  # type: ignore[union-attr]
    assert experiment.name == "cracks_trial_0003"
    assert experiment.tune.space == ()


def test_whole_numbers_are_asked_as_such_with_their_step(tmp_path: Path) -> None:
    made = space(tmp_path, {"setting": "training.epochs", "low": 4, "high": 12, "step": 4}, LR)
    asked = Fixed(training__epochs=12, optim__optimizer__lr=0.001)
    values = made.suggest(asked)

    assert asked.asked["training.epochs"] == (4, 12, {"step": 4, "log": False})
    assert asked.asked["optim.optimizer.lr"] == (1e-4, 1e-2, {"step": None, "log": True})
    assert made.experiment(values).training.epochs == 12


def test_what_was_left_unsaid_follows_the_values_of_a_trial(tmp_path: Path) -> None:
    """Early stopping waits for half of the epochs unless the file says otherwise, in trials too."""
    made = space(tmp_path, {"setting": "training.epochs", "low": 4, "high": 12})

    assert made.experiment({"training.epochs": 12}).callbacks.early_stopping.min_epochs == 6


def test_a_setting_that_the_kind_of_a_trial_does_not_have_plays_no_part(tmp_path: Path) -> None:
    kinds = {"setting": "optim.optimizer.kind", "choices": ["adamw", "sgd"]}
    momentum = {"setting": "optim.optimizer.momentum", "low": 0.5, "high": 0.95}
    made = space(tmp_path, momentum, kinds)

    adam = made.suggest(Fixed(optim__optimizer__kind="adamw"))
    sgd = made.suggest(Fixed(optim__optimizer__kind="sgd", optim__optimizer__momentum=0.75))

    assert adam == {"optim.optimizer.kind": "adamw"}
    assert sgd == {"optim.optimizer.kind": "sgd", "optim.optimizer.momentum": 0.75}
    assert made.experiment(sgd).optim.optimizer.momentum == 0.75  # type: ignore[union-attr]


def test_every_choice_and_end_that_makes_no_experiment_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        space(
            tmp_path,
            {"setting": "model.kind", "choices": ["unet", "resunett"]},
            {"setting": "data.tiles.size_px", "choices": [256, 8]},
            {"setting": "model.depth", "low": 2, "high": 5},
            overrides=["data.tiles.size_px=16"],
        )
    told = str(error.value)

    assert "resunett" in told
    assert "(tune.space[0])" in told
    assert "data.tiles.size_px: 8 is below the minimum 16 px" in told or "8 is below the minimum" in told
    assert "16 px cannot be halved 5 times" in told


def test_a_setting_of_a_kind_that_no_trial_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optim.optimizer.momentum belongs to kinds that no trial has"):
        space(tmp_path, {"setting": "optim.optimizer.momentum", "low": 0.5, "high": 0.95})


def test_an_experiment_without_a_space_is_refused_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is nothing to search"):
        space(tmp_path)


def test_the_best_experiment_is_literal_and_trains_by_itself(tmp_path: Path) -> None:
    made = space(tmp_path, LR)
    made.write_best({"optim.optimizer.lr": 0.003}, tmp_path / "best.yaml")
    best = load_experiment([tmp_path / "best.yaml"])

    assert best.name == "cracks_best"
    assert best.optim.optimizer.lr == 0.003
    assert best.tune.space == ()
    assert best.tracking.output_dir == made.base.tracking.output_dir

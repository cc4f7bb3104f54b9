"""Which callbacks the settings ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.training import TrainingConfig
from maskwright.errors import ConfigError
from maskwright.losses import CombinedLoss
from maskwright.tasks import Binary
from maskwright.tracking import RunFolder
from maskwright.training.callbacks import CacheClearing, DropPathSchedule, EarlyStopping, Profiler, Thawing
from maskwright.training.watchers import (
    early_stopping,
    folder_watchers,
    prediction_watchers,
    run_monitor,
    step_watchers,
)

TASK = Binary(("crack",), CombinedLoss({"bce": 1.0}))


def test_the_score_that_decides_is_that_of_the_task_unless_one_is_named() -> None:
    assert run_monitor(CallbacksConfig(), TASK, has_validation=True).name == "val/iou"
    assert run_monitor(CallbacksConfig(), TASK, has_validation=False).name == "train/loss"
    named = run_monitor(CallbacksConfig(monitor="val_loss"), TASK, has_validation=True)
    assert (named.name, named.mode) == ("val/loss", "min")
    with pytest.raises(ConfigError, match='monitor "val/dise" is never computed'):
        run_monitor(CallbacksConfig(monitor="val/dise"), TASK, has_validation=True)


def test_what_moves_the_steps_is_there_where_it_was_asked_for(tmp_path: Path) -> None:
    assert step_watchers(TrainingConfig(drop_path={"schedule": "constant"}), None) == []
    settings = TrainingConfig(
        unfreeze={"parts": ["head", "encoder"]}, drop_path={"schedule": "linear"}, empty_cache_every=3, profile=True
    )
    found = step_watchers(settings, RunFolder.create(tmp_path, "run"))
    assert [type(each) for each in found] == [Thawing, DropPathSchedule, CacheClearing, Profiler]


def test_a_profile_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match="no run folder to write the profile to"):
        step_watchers(TrainingConfig(profile=True), None)


def test_saved_predictions_need_a_folder_and_images(tmp_path: Path) -> None:
    asked = CallbacksConfig(save_predictions_every=1)
    assert prediction_watchers(CallbacksConfig(), TASK, None, None) == []
    with pytest.raises(ConfigError, match="no run folder to write them to"):
        prediction_watchers(asked, TASK, [], None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no validation to predict"):
        prediction_watchers(asked, TASK, None, RunFolder.create(tmp_path, "run"))


def test_early_stopping_can_be_turned_off() -> None:
    (stopping,) = early_stopping(CallbacksConfig(early_stopping={"enabled": True, "patience": 4}))
    assert isinstance(stopping, EarlyStopping)
    assert stopping.patience == 4
    assert early_stopping(CallbacksConfig(early_stopping={"enabled": False})) == []
    assert folder_watchers(None, 10) == []

"""Stages of a training: what a stage may set, and what is said about one that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import Experiment, dump_experiment, load_experiment
from maskwright.config.stages import stage_experiment
from maskwright.errors import ConfigError


def experiment(*stages: dict[str, Any], **more: Any) -> Experiment:
    settings = {
        "name": "grown",
        "task": {"kind": "binary"},
        "data": {"kind": "images", "folder": "/photos"},
        "training": {"epochs": 20},
        "stages": list(stages),
    }
    return load_experiment(overrides=settings | more)


def test_a_stage_sets_its_own_and_takes_the_rest_from_the_experiment() -> None:
    whole = experiment(
        {"name": "coarse", "size_px": 64, "batch_size": 16, "epochs": 10},
        {"name": "fine", "lr": 1e-4, "settings": ["optim.schedule.kind=constant", "data.augment.flip_p=0"]},
    )
    coarse, fine = (stage_experiment(whole, index) for index in range(2))
    assert (coarse.data.tiles.size_px, coarse.data.loader.batch_size, coarse.training.epochs) == (64, 16, 10)
    assert coarse.optim == whole.optim
    assert (fine.data.tiles.size_px, fine.training.epochs, fine.optim.optimizer.lr) == (256, 20, 1e-4)
    assert fine.optim.schedule.kind == "constant"
    assert fine.data.augment.flip_p == 0
    assert coarse.stages == fine.stages == ()


def test_epochs_before_an_early_stop_keep_their_share() -> None:
    whole = experiment({"name": "short", "epochs": 6})
    assert whole.callbacks.early_stopping.min_epochs == 10
    assert stage_experiment(whole, 0).callbacks.early_stopping.min_epochs == 3


def test_stages_are_written_and_read_back_equal(tmp_path: Path) -> None:
    whole = experiment({"name": "a", "size_px": 64}, {"name": "b", "settings": ["training.clip_norm=0.5"]})
    (tmp_path / "config.yaml").write_text(dump_experiment(whole))
    assert load_experiment(tmp_path / "config.yaml") == whole


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"epochs": 0}, "stages[0].epochs: 0 is below the minimum 1"),
        ({"size": 64}, "Did you mean stages[0].size_px?"),
        ({"settings": ["training.epocs=3"]}, "Did you mean training.epochs?"),
        ({"settings": ["training.epochs"]}, "no section.key=value"),
        ({"size_px": 16, "settings": ["model.depth=5"]}, "16 px cannot be halved 5 times"),
        ({"settings": ["task.kind=multiclass"]}, "task.kind"),
        ({"settings": ["data.bands=[1]"]}, "data.bands cannot differ between stages"),
        ({"settings": ["data.labels.classes=[{name: other}]"]}, "data.labels.classes cannot differ between stages"),
        ({"settings": ["model.base_channels=64"]}, "model.base_channels cannot differ between stages"),
        ({"settings": ["data.split.seed=1"]}, "data.split.seed cannot differ between stages"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused_by_name(stage: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        experiment({"name": "only"} | stage)
    assert told in str(refused.value)
    assert "stages[0]" in str(refused.value)


def test_a_fault_of_a_stage_is_shown_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "grown.yaml"
    file.write_text(
        "name: grown\ntask: {kind: binary}\ndata: {kind: images, folder: photos}\nstages:\n"
        "  - {name: coarse}\n  - {name: fine, settings: [training.epocs=3]}\n"
    )
    with pytest.raises(ConfigError, match=r"stages\[1\].*training.epocs.*\n?.*line 6"):
        load_experiment(file)


def test_two_stages_of_one_name_and_a_budget_for_each_are_refused() -> None:
    with pytest.raises(ConfigError, match='the name "same" appears more than once'):
        experiment({"name": "same"}, {"name": "same"})
    with pytest.raises(ConfigError, match="it would be given to each of the stages"):
        experiment({"name": "only"}, training={"budget": 20})

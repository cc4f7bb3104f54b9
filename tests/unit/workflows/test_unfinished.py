"""Which run ``--resume`` means."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import Experiment, save_experiment
from maskwright.errors import ConfigError, RunError
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.unfinished import newest_unfinished, require_same_settings, run_of


def experiment(tmp_path: Path, **training: object) -> Experiment:
    values = {"name": "toy", "data": {"folder": str(tmp_path)}, "training": training}
    return Experiment.model_validate(values)


def run(tmp_path: Path, name: str, status: str) -> RunFolder:
    folder = RunFolder.create(tmp_path / "outputs", name)
    save_experiment(experiment(tmp_path), folder.config)
    folder.record.update(status=status)
    return folder


def test_the_newest_run_that_is_neither_finished_nor_at_work_is_found(tmp_path: Path) -> None:
    run(tmp_path, "toy", "stopped")
    wanted = run(tmp_path, "toy", "failed")
    other = run(tmp_path, "other", "interrupted")
    run(tmp_path, "toy", "finished")
    run(tmp_path, "toy", "running")  # by this very process
    assert newest_unfinished(tmp_path / "outputs", "toy") == wanted
    assert newest_unfinished(tmp_path / "outputs") == other
    assert newest_unfinished(tmp_path / "outputs", "nobody") is None
    assert newest_unfinished(tmp_path / "nowhere") is None


def test_other_settings_than_those_of_the_run_are_refused_by_name(tmp_path: Path) -> None:
    folder = run(tmp_path, "toy", "stopped")
    require_same_settings(folder, experiment(tmp_path))
    with pytest.raises(ConfigError) as error:
        require_same_settings(folder, experiment(tmp_path, epochs=7, seed=1))
    assert "training.epochs was 50 and is 7; training.seed was 42 and is 1. Continue it as it is with" in str(
        error.value
    )


def test_the_newest_checkpoint_stands_for_its_run_and_another_does_not(tmp_path: Path) -> None:
    folder = run(tmp_path, "toy", "stopped")
    for name in ("checkpoint_latest.pt", "checkpoint_best.pt"):
        (folder.checkpoints / name).touch()
    assert run_of(folder.path) == folder.path
    assert run_of(folder.checkpoints / "checkpoint_latest.pt") == folder.path
    with pytest.raises(RunError, match="one checkpoint of a run, which continues from its newest"):
        run_of(folder.checkpoints / "checkpoint_best.pt")

"""Which run ``--resume`` means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maskwright.checkpoints import CheckpointStore
from maskwright.config import Experiment, save_experiment
from maskwright.errors import RunError
from maskwright.tracking.folder import RunFolder
from maskwright.workflows.unfinished import newest_unfinished, run_around, run_of


def run(tmp_path: Path, name: str, status: str) -> RunFolder:
    folder = RunFolder.create(tmp_path / "outputs", name)
    experiment = Experiment.model_validate({"name": "toy", "data": {"folder": str(tmp_path)}})
    save_experiment(experiment, folder.config)
    folder.record.update(status=status)
    return folder


def with_checkpoints(folder: RunFolder, scores: list[float]) -> RunFolder:
    store = CheckpointStore(folder, monitor="val/iou")
    for epoch, score in enumerate(scores, start=1):
        store.save({"epoch": epoch}, epoch=epoch, global_step=epoch, scores={"val/iou": score})
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


def test_the_newest_checkpoint_stands_for_its_run_by_any_of_its_names(tmp_path: Path) -> None:
    folder = with_checkpoints(run(tmp_path, "toy", "stopped"), [0.1, 0.2])
    names = ("checkpoint_latest.pt", "checkpoint_best.pt", "checkpoint_epoch_0002.pt")
    assert [run_of(folder.checkpoints / name) for name in names] == [folder] * 3
    assert run_of(folder.path) == folder


def test_an_older_checkpoint_is_refused_with_both_ways_to_go_on(tmp_path: Path) -> None:
    folder = with_checkpoints(run(tmp_path, "toy", "stopped"), [0.2, 0.1])
    with pytest.raises(RunError) as error:
        run_of(folder.checkpoints / "checkpoint_best.pt")
    assert str(error.value) == (
        f"{folder.checkpoints / 'checkpoint_best.pt'} is not the newest checkpoint of its run, which continues from "
        "checkpoint_epoch_0002.pt. To begin a new run from these weights, add --experiment-name NAME. "
        f"To continue the run: --resume {folder.path}"
    )


def test_the_model_of_a_run_says_nothing_of_how_it_stood(tmp_path: Path) -> None:
    folder = run(tmp_path, "toy", "stopped")
    with pytest.raises(RunError, match="holds weights alone"):
        run_of(folder.model)


def test_a_run_of_a_newer_version_and_a_folder_that_is_no_run_are_refused(tmp_path: Path) -> None:
    folder = run(tmp_path, "toy", "stopped")
    folder.record.update(format_version=99)
    for path in (folder.path, folder.checkpoints / "checkpoint_latest.pt"):
        with pytest.raises(RunError, match=r"newer Maskwright: run format 99|does not exist"):
            run_of(path)
    with pytest.raises(RunError, match="is not a run folder: it does not exist"):
        run_of(tmp_path / "nowhere")


def test_the_run_around_a_file_is_found_from_within(tmp_path: Path) -> None:
    folder = run(tmp_path, "toy", "stopped")
    os.makedirs(tmp_path / "elsewhere")
    inside = (folder.path, folder.model, folder.model / "model.safetensors", folder.checkpoints / "x.pt")
    assert [run_around(path) for path in inside] == [folder] * 4
    assert run_around(tmp_path / "elsewhere") is None

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.desktop.following import NewRun, RunTail, error_in, outcome_of, starts_anew, why_it_ended
from maskwright.tracking import EventLog, RunFolder

from ..conftest import make_run


def process(pid: int = os.getpid(), code: int | None = None, said: str = "") -> Any:
    return SimpleNamespace(process=SimpleNamespace(pid=pid), code=code, said=lambda: said)


def test_the_folder_of_a_new_run_is_that_of_its_process(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "a")  # of an earlier training of this very process
    new = NewRun(tmp_path, "a")
    assert new.find(process()) is None
    RunFolder.create(tmp_path, "b")
    assert new.find(process()) is None
    mine = RunFolder.create(tmp_path, "a")
    assert new.find(process(pid=2**22 + 1)) is None  # one that another process made
    assert new.find(process()) == mine


def test_a_folder_of_runs_may_be_made_later(tmp_path: Path) -> None:
    new = NewRun(tmp_path / "later", "a")
    assert new.find(process()) is None
    assert new.find(process()) is None
    run = RunFolder.create(tmp_path / "later", "a")
    assert new.find(process()) == run


def test_only_new_rows_are_told_of_the_run_and_the_trainings_inside(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    tail = RunTail(run, skip=True)
    assert tail.read() == []
    EventLog(run.events).write("epoch", epoch=3)
    inner = RunFolder.create(run.path, "stage_1")
    EventLog(inner.events).write("step", loss=0.5)
    assert [row["kind"] for row in tail.read()] == ["epoch", "step"]
    assert tail.read() == []
    assert RunTail(run, skip=False).read()[0]["kind"] == "train_begin"


def test_only_the_newest_checkpoint_of_an_unfinished_run_goes_on_in_its_folder(tmp_path: Path) -> None:
    stopped, finished = make_run(tmp_path, status="stopped"), make_run(tmp_path, "other", status="finished")
    newest = "checkpoint_epoch_0002.pt"
    assert not starts_anew(stopped, stopped.path)
    assert not starts_anew(stopped, stopped.checkpoints / newest)
    assert starts_anew(stopped, stopped.checkpoints / "checkpoint_epoch_0001.pt")
    assert starts_anew(finished, finished.checkpoints / newest)


def test_a_run_is_summed_up_in_the_words_of_the_document(tmp_path: Path) -> None:
    run = make_run(tmp_path, status="finished", best=0.75)
    outcome = outcome_of(run)
    assert outcome["status"] == "finished"
    assert outcome["train_losses"] == [0.5, 0.4]
    assert outcome["val_losses"] == [0.5, 0.4]
    assert outcome["best_val_loss"] == 0.4
    assert [scores["val/iou"] for scores in outcome["val_metrics"]] == [0.25, 0.75]
    assert (outcome["monitor"], outcome["best_val_metric"], outcome["best_epoch"]) == ("val/iou", 0.75, 2)
    assert outcome["elapsed_time"] == 120.0
    assert outcome["run"] == str(run.path)
    assert outcome["model"] is None


@pytest.mark.parametrize(
    ("fields", "started", "words"),
    [
        ({"status": "failed", "reason": "DataError: a.png is empty. Remove it."}, None, "a.png is empty. Remove it."),
        ({"process": "gone"}, process(code=-signal.SIGKILL), "The training process was killed (SIGKILL)."),
        ({"process": "gone"}, process(code=2, said="noise\nError: The disk is full."), "The disk is full."),
        ({"process": "gone"}, process(code=1), "The training process ended without a word (exit code 1)."),
        ({"process": "gone"}, None, "The training process ended without a word."),
    ],
)
def test_why_a_training_broke_off_and_what_is_left_is_said(
    tmp_path: Path, fields: dict[str, str], started: Any, words: str
) -> None:
    run = make_run(tmp_path)
    run.record.update(**fields)
    assert why_it_ended(run, started) == f"{words} Its state after epoch 2 is saved: resume it."
    run.manifest.unlink()
    assert why_it_ended(run, started) == f"{words} Nothing had been saved yet."


def test_the_error_is_found_at_the_end_of_what_was_printed() -> None:
    assert error_in("epoch 1\nError: data.images: no such folder.\n") == "data.images: no such folder."
    assert error_in("Error:\na: wrong.\nb: wrong.\n") == "a: wrong.\nb: wrong."
    assert error_in("all is well") == ""

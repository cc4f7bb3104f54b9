"""A run made of several trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import Experiment
from maskwright.errors import RunError
from maskwright.files import write_json
from maskwright.tracking import RunFolder
from maskwright.tracking.folder import find_runs
from maskwright.workflows.outer_run import How, InnerRun, OuterRun


def experiment(folder: Path) -> Experiment:
    return Experiment.model_validate({"name": "outer", "data": {"folder": "x"}, "tracking": {"output_dir": folder}})


def test_progress_says_where_it_is_made() -> None:
    told: list[tuple[int, int, str]] = []
    how = How(say=print, progress=lambda *words: told.append(words))
    report = how.at("Stage 1 of 2").progress
    assert report is not None
    report(1, 4, "scoring")
    assert told == [(1, 4, "Stage 1 of 2: scoring")]
    assert How(say=print).at("Stage 1").progress is None


def test_an_inner_run_tells_its_score_and_its_numbers(tmp_path: Path) -> None:
    run = InnerRun(RunFolder.create(tmp_path, "a"), True, None, 0.51234, 3, "val/iou")
    assert run.score_text == "val/iou 0.512 in epoch 3"
    assert run.numbers() == {}
    write_json(run.folder.path / "evaluation.json", {"mean": 0.5})
    assert run.numbers() == {"mean": 0.5}
    assert InnerRun(run.folder, False, "stopped", None, None, "val/iou").score_text == "val/iou -"


def test_a_failure_inside_is_written_down(tmp_path: Path) -> None:
    def fail() -> None:
        with OuterRun.begun(experiment(tmp_path), How(say=print)) as outer:
            assert outer.folder.record.status() == "running"
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        fail()
    (folder,) = find_runs(tmp_path)
    record = folder.record.load()
    assert (record["status"], record["reason"]) == ("failed", "ValueError: odd")


def test_a_finished_run_is_not_opened_again(tmp_path: Path) -> None:
    with OuterRun.begun(experiment(tmp_path), How(say=print)) as outer:
        outer.folder.record.update(status="finished")
    with (
        pytest.raises(RunError, match="is finished, with all its trainings"),
        OuterRun.opened(outer.folder.path, How(say=print)),
    ):
        pass

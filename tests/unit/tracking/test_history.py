from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import pytest

from maskwright.errors import RunError
from maskwright.tracking import History, read_history


def test_each_epoch_is_in_the_file_when_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "training_history.json"
    history = History(path)
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "train/loss": 1 / epoch, "val/iou@10m": 0.1 * epoch, "lr/0": 1e-3})
        written = json.loads(path.read_text())
        assert [entry["epoch"] for entry in written] == list(range(1, epoch + 1))
        assert written[-1]["train/loss"] == 1 / epoch
    assert history.entries == read_history(path)


def test_there_is_one_entry_per_epoch_after_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "training_history.json"
    history = History(path)
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "train/loss": 1.0})
    resumed = History(path)
    resumed.append({"epoch": 2, "train/loss": 2.0})
    assert [(entry["epoch"], entry["train/loss"]) for entry in read_history(path)] == [(1, 1.0), (2, 2.0)]


def test_a_run_that_goes_back_drops_the_epochs_after(tmp_path: Path) -> None:
    path = tmp_path / "training_history.json"
    history = History(path)
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch})
    history.truncate(1)
    assert [entry["epoch"] for entry in read_history(path)] == [1]
    history.truncate(0)
    assert json.loads(path.read_text()) == []


def test_scores_that_are_not_finite_come_back(tmp_path: Path) -> None:
    path = tmp_path / "training_history.json"
    History(path).append({"epoch": 1, "val/iou": math.nan, "train/loss": math.inf})
    assert '"NaN"' in path.read_text()
    (entry,) = History(path).entries
    assert math.isnan(entry["val/iou"])
    assert entry["train/loss"] == math.inf


def test_a_full_disk_keeps_the_old_file_and_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "training_history.json"
    history = History(path)
    history.append({"epoch": 1})

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunError, match="the disk is full"):
            history.append({"epoch": 2})
    assert [entry["epoch"] for entry in read_history(path)] == [1]
    history.append({"epoch": 3})
    assert [entry["epoch"] for entry in read_history(path)] == [1, 2, 3]


def test_an_entry_without_its_epoch_is_refused(tmp_path: Path) -> None:
    history = History(tmp_path / "training_history.json")
    for entry in ({}, {"epoch": 0}, {"epoch": 1.5}):
        with pytest.raises(ValueError, match="a whole number from 1"):
            history.append(entry)


@pytest.mark.parametrize("text", ["{", '{"epoch": 1}', "[1]", '[{"loss": 1}]'])
def test_a_damaged_history_is_explained(tmp_path: Path, text: str) -> None:
    path = tmp_path / "training_history.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"training_history\.json is damaged"):
        History(path)

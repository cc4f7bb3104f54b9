"""The history: one entry per epoch, with epoch averages, also after a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maskwright.tracking import History, read_history
from maskwright.training import CallbackList, HistoryCallback, fit

Toy = Any


def run(toy: Toy, history: HistoryCallback, *, epochs: int = 3, state: Any = None) -> Any:
    state = toy.state(epochs=epochs) if state is None else state
    fit(state, toy.task, toy.loader(4), toy.loader(2), state.updater, CallbackList([history]), epochs=epochs)
    return state


def test_there_is_one_entry_per_epoch_with_losses_scores_rate_and_time(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "training_history.json"
    history = HistoryCallback(History(path))
    state = run(toy, history)
    entries = json.loads(path.read_text())
    assert [entry["epoch"] for entry in entries] == [1, 2, 3]
    assert [entry["global_step"] for entry in entries] == [4, 8, 12]
    assert {"train/loss", "train/loss/bce", "val/loss", "val/iou", "val/iou@10m", "lr/0", "elapsed_s"} <= set(
        entries[0]
    )
    assert entries[-1]["train/loss"] == state.scores["train/loss"]
    assert list(read_history(path)) == history.entries


def test_without_a_file_the_entries_are_kept_in_memory(toy: Toy) -> None:
    history = HistoryCallback()
    run(toy, history)
    assert [entry["epoch"] for entry in history.entries] == [1, 2, 3]


def test_a_resumed_run_drops_the_entries_it_does_again(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "training_history.json"
    first = HistoryCallback(History(path))
    run(toy, first)  # the checkpoint of epoch 2 turns out to be the newest good one
    again = HistoryCallback(History(path))
    again.load_state_dict({"entries": first.entries[:2], "elapsed_s": 0.0})
    state = toy.state(epochs=3)
    state.epoch = 2
    run(toy, again, state=state)
    assert [entry["epoch"] for entry in json.loads(path.read_text())] == [1, 2, 3]
    assert [entry["epoch"] for entry in again.entries] == [1, 2, 3]


def test_entries_of_a_checkpoint_fill_a_lost_file(toy: Toy, tmp_path: Path) -> None:
    first = HistoryCallback()
    run(toy, first)
    again = HistoryCallback(History(tmp_path / "training_history.json"))
    again.load_state_dict({"entries": first.entries, "elapsed_s": 0.0})
    state = toy.state(epochs=3)
    state.epoch = 3
    run(toy, again, state=state)
    assert [entry["epoch"] for entry in read_history(tmp_path / "training_history.json")] == [1, 2, 3]


def test_the_time_of_an_epoch_goes_on_after_a_resume(toy: Toy) -> None:
    history = HistoryCallback()
    history.load_state_dict({"entries": [], "elapsed_s": 1000.0})
    run(toy, history)
    assert history.entries[0]["elapsed_s"] >= 1000
    assert history.entries[1]["elapsed_s"] < 1000


def test_a_full_disk_is_a_warning_and_the_entries_come_later(
    toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "gone"
    history = HistoryCallback(History(missing / "training_history.json"))
    run(toy, history)
    assert [entry["epoch"] for entry in history.entries] == [1, 2, 3]
    assert "The history was not written in epoch 1" in caplog.text

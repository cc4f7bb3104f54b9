"""Rows of the event log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.tracking import EventLog, read_events
from maskwright.training import Callback, CallbackList, EventsCallback, fit

Toy = Any


def test_a_run_writes_its_beginning_steps_epochs_and_end(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    state, loader = toy.state(epochs=2, accumulate=2), toy.loader(4)
    callbacks = CallbackList([EventsCallback(EventLog(path, attempt=3), every_steps=1)])
    fit(state, toy.task, loader, toy.loader(2), state.updater, callbacks, epochs=2)
    rows = read_events(path)
    an_epoch = ["epoch_begin", "step", "step", "validation", "validation", "epoch"]
    assert [row["kind"] for row in rows] == ["train_begin", *an_epoch * 2, "train_end"]
    assert [row["global_step"] for row in rows] == [0, *[0, 1, 2, 2, 2, 2], *[2, 3, 4, 4, 4, 4], 4]
    assert [(row["epoch"], row["position"]) for row in rows if row["kind"] == "epoch_begin"] == [(1, 0), (2, 0)]
    seen = [(row["epoch"], row["position"], row["batches"]) for row in rows if row["kind"] == "validation"]
    assert seen == [(1, 0, 2), (1, 2, 2), (2, 0, 2), (2, 2, 2)]
    assert {row["attempt"] for row in rows} == {3}
    step, epoch, end = rows[2], rows[6], rows[-1]
    assert (step["epoch"], step["position"], step["images"], step["stepped"]) == (1, 2, 4, True)
    assert step["loss"] > 0
    assert step["grad_norm"] > 0
    assert step["lr"] == 0.1
    assert epoch["epoch"] == 1
    assert rows[-2]["scores"] == pytest.approx(state.scores)
    assert (end["reason"], end["monitor"], end["best_epoch"]) == ("all epochs are done", "val/iou", state.best.epoch)


def test_steps_are_written_every_so_often(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    state, loader = toy.state(epochs=2), toy.loader(4)
    fit(
        state,
        toy.task,
        loader,
        None,
        state.updater,
        CallbackList([EventsCallback(EventLog(path), every_steps=3)]),
        epochs=2,
    )
    assert [row["global_step"] for row in read_events(path, kinds=["step"])] == [3, 6]


def test_what_others_note_and_the_error_that_ends_a_run_are_written(toy: Toy, tmp_path: Path) -> None:
    class Bomb(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            state.note("warning", message="the wire is hot")
            raise ValueError("boom")

    path = tmp_path / "events.jsonl"
    state, loader = toy.state(), toy.loader(4)
    with pytest.raises(Exception, match="boom"):
        fit(
            state,
            toy.task,
            loader,
            None,
            state.updater,
            CallbackList([Bomb(), EventsCallback(EventLog(path))]),
            epochs=1,
        )
    rows = read_events(path, kinds=["warning", "error", "train_end"])
    assert [(row["kind"], row["message"]) for row in rows] == [
        ("warning", "the wire is hot"),
        ("error", "TrainingError: Callback Bomb failed in on_step_end (epoch 1, step 1): ValueError: boom"),
    ]

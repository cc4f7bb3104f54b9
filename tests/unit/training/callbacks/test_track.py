"""What a run hands to those who follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import TrackingConfig
from maskwright.files import write_json
from maskwright.tracking import EventLog, RunFolder, read_events
from maskwright.tracking.writers import Entry, Outcome, RunFacts, Tracker
from maskwright.training import CallbackList, EventsCallback, fit
from maskwright.training.callbacks.track import Resources, Track, build_writers, flat, tracked

Toy = Any


class Notebook:
    name = "Notebook"

    def __init__(self) -> None:
        self.facts: RunFacts | None = None
        self.entries: list[Entry] = []
        self.outcome: Outcome | None = None

    def start(self, facts: RunFacts) -> None:
        self.facts = facts

    def log(self, entry: Entry) -> None:
        self.entries.append(entry)

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "outputs", "toy")
    folder.config.write_text("name: toy\n")
    return folder


def follow(toy: Toy, folder: RunFolder, writer: Notebook, **options: Any) -> Any:
    tracker = Tracker([writer])
    track = Track(tracker, RunFacts(folder, "toy", {}, ""), **options)
    state = toy.state(epochs=2)
    fit(state, toy.task, toy.loader(4), toy.loader(2), state.updater, CallbackList([track]), epochs=2)
    tracker.finish(Outcome("finished", state.global_step), timeout_s=10)
    return state


def test_steps_and_epochs_are_handed_on_at_the_updates_done(toy: Toy, folder: RunFolder) -> None:
    writer = Notebook()
    state = follow(toy, folder, writer, every_steps=2)
    assert [(entry.kind, entry.global_step) for entry in writer.entries] == [
        ("step", 2), ("step", 4), ("epoch", 4), ("step", 6), ("step", 8), ("epoch", 8)
    ]  # fmt: skip
    assert set(writer.entries[0].scalars) == {"step/loss", "step/grad_norm", "lr/0"}
    assert writer.entries[-1].scalars == {**state.scores, "epoch": 2.0}


def test_a_new_picture_goes_with_its_epoch_and_an_old_one_never(toy: Toy, folder: RunFolder) -> None:
    (folder.samples / "epoch_0001.png").touch()  # of a former attempt
    writer = Notebook()
    tracker = Tracker([writer])
    track = Track(tracker, RunFacts(folder, "toy", {}, ""))
    state = toy.state()
    track.on_train_begin(state)
    track.on_epoch_end(state, {})
    for name in ("epoch_0002.png", "epoch_0003.png", "confusion_0003.png", "strip.png"):
        (folder.samples / name).touch()
    track.on_epoch_end(state, {})
    tracker.finish(Outcome("finished", 0), timeout_s=10)
    newest = {"samples": folder.samples / "epoch_0003.png", "confusion": folder.samples / "confusion_0003.png"}
    assert [entry.pictures for entry in writer.entries] == [{}, newest]


def test_a_writer_that_fails_becomes_a_warning_of_the_run(toy: Toy, folder: RunFolder, tmp_path: Path) -> None:
    class Failing(Notebook):
        def start(self, facts: RunFacts) -> None:
            raise OSError("no space")

    path = tmp_path / "events.jsonl"
    tracker = Tracker([Failing()])
    track = Track(tracker, RunFacts(folder, "toy", {}, ""), every_steps=1)
    state = toy.state(epochs=1)
    callbacks = CallbackList([EventsCallback(EventLog(path)), track])
    track.on_train_begin(state)
    while not tracker._feeders[0]._problems:  # its thread has not tried yet
        pass
    state.attach(callbacks)
    track.on_epoch_end(state, {})
    (row,) = read_events(path, kinds=["warning"])
    assert row["message"].startswith("Notebook failed (OSError: no space). The training goes on")
    tracker.finish(Outcome("failed", 0), timeout_s=10)


def test_resources_are_noted_and_count_the_wait_for_data_alone(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(float(second) for second in range(1000))  # every look at the clock takes a second
    monkeypatch.setattr("maskwright.training.callbacks.track.time.monotonic", lambda: next(clock))
    path = tmp_path / "events.jsonl"
    state = toy.state(epochs=1, batches=8)
    callbacks = CallbackList([EventsCallback(EventLog(path)), Resources(tmp_path, every_s=5.0)])
    fit(state, toy.task, toy.loader(8), None, state.updater, callbacks, epochs=1)
    rows = read_events(path, kinds=["resources"])
    assert rows
    for row in rows:
        assert 0 < row["data_wait_share"] < 1
        assert row["images_per_s"] > 0
        assert row["left_s"] >= 0
        assert row["process_memory_mb"] > 0


def test_the_time_left_counts_the_validations_still_to_come(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("maskwright.training.callbacks.track.time.monotonic", lambda: now[0])
    rows: list[Any] = []
    resources, state = Resources(tmp_path, every_s=1.0), toy.state(epochs=4, batches=10)
    monkeypatch.setattr(state, "note", lambda kind, **fields: rows.append(fields))
    resources.on_train_begin(state)
    resources.on_validation_begin(state)
    now[0] += 30.0
    resources.on_epoch_end(state, {})
    state.epoch, state.position = 1, 1
    now[0] += 2.0
    resources.on_batch_end(state, None)  # type: ignore[arg-type]
    resources.on_step_end(state, None)  # type: ignore[arg-type]
    (row,) = rows
    assert row["epoch_s"] == 20.0  # ten batches of two seconds
    assert row["left_s"] == 29 * 2.0 + 3 * 30.0


def test_the_end_of_a_run_is_told_with_its_scores_and_files(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Notebook()
    monkeypatch.setattr("maskwright.training.callbacks.track.build_writers", lambda settings: [writer])
    with tracked(TrackingConfig(), folder, {"training": {"epochs": 3}}) as callbacks:
        callbacks[1].tracker.start(callbacks[1].facts)  # type: ignore[attr-defined]
        rows = [{"column": "5 m", "scores": {"iou": 0.75}}, {"column": "10 m", "scores": {"iou": None}}]
        write_json(folder.path / "evaluation.json", {"score": "iou", "mean": 0.75, "model": rows})
        folder.record.update(status="finished")
    assert writer.facts is not None
    assert writer.facts.settings == {"training.epochs": 3}
    assert writer.facts.config_text == "name: toy\n"
    assert writer.outcome is not None
    assert writer.outcome.status == "finished"
    assert writer.outcome.scores == {"test/iou@5m": 0.75, "test/mean": 0.75}
    assert folder.config in writer.outcome.files


def test_the_settings_choose_the_writers() -> None:
    assert [writer.name for writer in build_writers(TrackingConfig())] == ["TensorBoard"]
    every = TrackingConfig(mlflow=True, wandb=True)
    assert [writer.name for writer in build_writers(every)] == ["TensorBoard", "MLflow", "W&B"]
    assert build_writers(TrackingConfig(tensorboard=False)) == []


def test_nested_settings_become_flat() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": [1, 2], "e": None}

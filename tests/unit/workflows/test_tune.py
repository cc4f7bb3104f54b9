"""A search with a stand-in for training: what is proposed, told, given up, taken up again, and refused."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from maskwright.config import Experiment, load_experiment, save_experiment
from maskwright.errors import ConfigError, DataError, RunError
from maskwright.files import json_text, parse_json
from maskwright.tracking import History, RunFolder, find_runs
from maskwright.tracking.history import read_history
from maskwright.training.monitor import Monitor
from maskwright.workflows.tune import Tuning, told_values, tune
from maskwright.workflows.tune_page import best_rows
from maskwright.workflows.tune_study import Search, shown_address

optuna = pytest.importorskip("optuna")

LR = {"setting": "optim.optimizer.lr", "low": 1e-4, "high": 1e-2, "log": True}
EPOCHS = 4


def experiment_file(tmp_path: Path, *space: dict[str, Any], **search: Any) -> str:
    settings = {
        "name": "cracks",
        "task": {"kind": "binary"},
        "data": {"kind": "images", "folder": str(tmp_path)},
        "training": {"epochs": EPOCHS},
        "tracking": {"output_dir": str(tmp_path / "out")},
        "tune": {"space": list(space or (LR,)), "trials": 6, "sampler": {"kind": "random"}} | search,
    }
    path = tmp_path / "cracks.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def score_of(experiment: Experiment, epoch: int) -> float:
    """A tenth of an epoch, times how near the learning rate comes to 0.001: 1 there, 0 a magnitude away."""
    from math import log10

    return round(epoch / 10 * (1 - abs(log10(experiment.optim.optimizer.lr) + 3)), 6)


class Trainer:
    """Stands for training: a real run folder and history, and an end as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.fates: dict[int, str] = {}
        self.score: Callable[[Experiment, int], float] = score_of
        monkeypatch.setattr("maskwright.workflows.shape.train_shaped", self.train)
        monkeypatch.setattr("maskwright.workflows.shape.resume_shaped", self.resume)
        monkeypatch.setattr("maskwright.workflows.tune._monitor", lambda base: Monitor("val/iou", "max"))
        monkeypatch.setattr("maskwright.checkpoints.load_description", self.describe)
        monkeypatch.setattr("maskwright.workflows.tune.gc", SimpleNamespace(collect=lambda: 0))  # slow in a test run

    def describe(self, model: Path) -> dict[str, Any]:
        scores = [entry["val/iou"] for entry in read_history(model.parent / "training_history.json")]
        return {"scores": {"val/iou": max(scores, default=None)}}

    def train(self, experiment: Experiment, *, callbacks: Sequence[Any], **_: Any) -> Any:
        folder = RunFolder.create(experiment.tracking.output_dir, experiment.name)
        save_experiment(experiment, folder.config)
        return self._go("train", folder, experiment, callbacks)

    def resume(self, run: Path, *, callbacks: Sequence[Any], **_: Any) -> Any:
        folder = RunFolder.open(run)
        folder.record.begin_attempt()
        return self._go("resume", folder, load_experiment([folder.config]), callbacks)

    def _go(self, verb: str, folder: RunFolder, experiment: Experiment, callbacks: Sequence[Any]) -> Any:
        history = History(folder.history)
        self.calls.append((verb, experiment.name, len(history.entries)))
        fate = self.fates.pop(len(self.calls), "finish")
        state: Any = SimpleNamespace(monitor=Monitor("val/iou", "max"), stop_reason=None)
        state.request_stop = lambda reason: setattr(state, "stop_reason", reason)
        if fate == "fail":
            folder.record.update(status="failed")
            raise DataError("a.png cannot be read.\nMend it.")
        for epoch in range(len(history.entries) + 1, EPOCHS + 1):
            state.epoch, state.is_finished = epoch, epoch == EPOCHS
            scores = {"val/iou": self.score(experiment, epoch)}
            history.append({"epoch": epoch, **scores})
            for callback in callbacks:
                callback.on_epoch_end(state, scores)
            if epoch == 2 and fate == "kill":
                raise KeyboardInterrupt
            if epoch == 2 and fate == "stop":
                state.request_stop("signal SIGTERM")
            if state.stop_reason is not None:
                folder.record.update(status="stopped", reason=state.stop_reason)
                return SimpleNamespace(finished=False, stop_reason=state.stop_reason, folder=folder)
        folder.record.update(status="finished")
        return SimpleNamespace(finished=True, stop_reason=None, folder=folder)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    monkeypatch.setattr("maskwright.workflows.tune_page._charts", lambda tuning: [])  # drawn where they are looked at
    return Trainer(monkeypatch)


def as_dead(out: Path, number: int) -> None:
    """The process of a trial at work becomes one that lives no more."""
    study = optuna.load_study(study_name="cracks", storage=f"sqlite:///{out / 'study.db'}")
    trial = optuna.trial.Trial(study, study.trials[number]._trial_id)
    process = {"host": os.uname().nodename, "pid": 1, "process": "gone"}
    trial.set_user_attr("process", json_text(process))
    run = find_runs(out, f"cracks_trial_{number:04d}")[0]
    run.record.update(pid=1, process="gone")


def numbers(result: Tuning) -> list[tuple[str, float | None]]:
    return [(one.state, one.score) for one in result.trials]


def test_each_trial_is_an_ordinary_run_and_the_best_experiment_is_written(trainer: Trainer, tmp_path: Path) -> None:
    said: list[str] = []
    result = tune([experiment_file(tmp_path, pruner={"kind": "none"})], say=said.append)

    assert [one.state for one in result.trials] == ["finished"] * 6
    rates = [one.values["optim.optimizer.lr"] for one in result.trials]
    expected = [round(0.4 * (1 - abs(__import__("math").log10(rate) + 3)), 6) for rate in rates]
    assert [one.score for one in result.trials] == expected
    assert result.best is not None
    assert result.best.score == max(expected)
    assert load_experiment([result.best_file]).optim.optimizer.lr == rates[expected.index(max(expected))]
    runs = find_runs(tmp_path / "out" / "cracks_tune")
    assert sorted(run.record.load()["name"] for run in runs) == [f"cracks_trial_{index:04d}" for index in range(6)]
    assert all(load_experiment([run.config]).tune.space == () for run in runs)
    assert any("the best so far" in line for line in said)


def test_the_same_command_does_nothing_again_and_more_trials_go_on(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, pruner={"kind": "none"})
    first = tune([file])
    assert len(trainer.calls) == 6

    assert numbers(tune([file])) == numbers(first)
    assert len(trainer.calls) == 6

    more = tune([file], ["tune.trials=8"])
    assert len(trainer.calls) == 8
    assert numbers(more)[:6] == numbers(first)


def test_a_search_in_two_calls_proposes_what_one_call_proposes(trainer: Trainer, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"pruner": {"kind": "none"}, "sampler": {"kind": "tpe", "startup_trials": 3}}
    whole = tune([experiment_file(tmp_path, **settings)], folder=tmp_path / "whole")
    tune([experiment_file(tmp_path, **settings)], ["tune.trials=2"], folder=tmp_path / "parts")
    parts = tune([experiment_file(tmp_path, **settings)], folder=tmp_path / "parts")

    assert [one.values for one in parts.trials] == [one.values for one in whole.trials]
    assert len({one.values["optim.optimizer.lr"] for one in whole.trials}) == 6


def test_a_trial_below_the_median_of_the_others_is_given_up(trainer: Trainer, tmp_path: Path) -> None:
    speed = {"cracks_trial_0000": 1.0, "cracks_trial_0001": 1.0, "cracks_trial_0002": 0.5, "cracks_trial_0003": 2.0}
    trainer.score = lambda experiment, epoch: speed[experiment.name] * epoch
    pruner = {"kind": "median", "startup_trials": 2, "warmup_epochs": 1}
    result = tune([experiment_file(tmp_path, pruner=pruner, trials=4)])

    assert numbers(result) == [("finished", 4.0), ("finished", 4.0), ("pruned", 1.0), ("finished", 8.0)]
    assert dict(result.trials[2].scores or {}) == {1: 0.5, 2: 1.0}
    run = find_runs(result.folder, "cracks_trial_0002")[0]
    assert run.record.load()["reason"] == "given up by the search: val/iou 1.0000 in epoch 2"


def test_a_stopped_trial_comes_again_and_goes_on_from_its_checkpoint(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, pruner={"kind": "none"}, trials=3)
    trainer.fates = {2: "stop"}
    stopped = tune([file])

    assert stopped.stopped == "signal SIGTERM"
    assert [one.state for one in stopped.trials] == ["finished", "waiting"]

    result = tune([file])
    verbs = [(verb, name[-4:], epochs) for verb, name, epochs in trainer.calls]
    assert verbs == [("train", "0000", 0), ("train", "0001", 0), ("resume", "0001", 2), ("train", "0003", 0)]
    assert result.stopped is None
    assert [one.state for one in result.trials] == ["finished"] * 3
    again = result.trials[1]
    assert (again.continues, again.run) == (1, "cracks_trial_0001")
    assert list(again.scores or {}) == [1, 2, 3, 4]  # those of the first attempt are told anew


def test_a_killed_trial_is_found_dead_and_continued(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, pruner={"kind": "none"}, trials=2)
    trainer.fates = {1: "kill"}
    with pytest.raises(KeyboardInterrupt):
        tune([file])
    as_dead(tmp_path / "out" / "cracks_tune", 0)

    result = tune([file])
    assert [(verb, epochs) for verb, _, epochs in trainer.calls] == [("train", 0), ("resume", 2), ("train", 0)]
    assert [one.state for one in result.trials] == ["finished", "finished"]
    first = find_runs(result.folder, "cracks_trial_0000")
    assert len(first) == 1
    assert load_experiment([first[0].config]).optim.optimizer.lr == result.trials[0].values["optim.optimizer.lr"]


def test_a_trial_at_work_in_a_living_process_is_left_alone_and_counts(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, pruner={"kind": "none"}, trials=2)
    trainer.fates = {1: "kill"}
    with pytest.raises(KeyboardInterrupt):
        tune([file])  # this very process lives on

    result = tune([file])
    assert [one.state for one in result.trials] == ["at work", "finished"]
    assert len(trainer.calls) == 2


def test_a_failed_trial_is_kept_with_its_reason_and_the_others_go_on(trainer: Trainer, tmp_path: Path) -> None:
    trainer.fates = {2: "fail"}
    result = tune([experiment_file(tmp_path, pruner={"kind": "none"}, trials=3)])

    assert [one.state for one in result.trials] == ["finished", "failed", "finished"]
    assert result.trials[1].failure == "a.png cannot be read.\nMend it."
    assert "Trial 2 failed: a.png cannot be read." in (result.folder / "tune.html").read_text("utf-8")


def test_three_failures_in_a_row_end_the_search(trainer: Trainer, tmp_path: Path) -> None:
    trainer.fates = {2: "fail", 3: "fail", 4: "fail"}

    with pytest.raises(RunError, match=r"3 trials failed one after another; the last said: a.png cannot be read"):
        tune([experiment_file(tmp_path, pruner={"kind": "none"}, trials=9)])
    assert len(trainer.calls) == 4


def test_no_trial_begins_when_the_minutes_are_over(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("maskwright.workflows.tune.time", SimpleNamespace(monotonic=lambda: now[0]))
    trainer.score = lambda experiment, epoch: now.__setitem__(0, now[0] + 10) or 0.5  # type: ignore[func-returns-value]
    result = tune([experiment_file(tmp_path, pruner={"kind": "none"}, trials=9, minutes=1.0)])

    assert len(result.trials) == 2  # 4 epochs of 10 s each, and a minute
    assert result.stopped == "the minutes of the search are over"


def test_a_study_of_another_experiment_is_refused_with_what_differs(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, trials=1)
    tune([file])
    same = ["tune.trials=2", "training.threads=1", "tune.seed=7", "data.loader.workers=0", "tracking.quiet=true"]
    tune([file], same)  # where and how fast may differ

    with pytest.raises(ConfigError, match=r"belongs to another experiment: model.depth was 4 and is 3"):
        tune([file], ["model.depth=3"])
    with pytest.raises(ConfigError, match="its space has changed"):
        tune([file], ["tune.space=[{setting: optim.optimizer.lr, low: 0.001, high: 0.1}]"])


def test_a_search_of_an_earlier_version_goes_on_where_a_setting_is_new_since(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, trials=2)
    found = tune([file])
    study = optuna.load_study(study_name="cracks", storage=f"sqlite:///{found.folder / 'study.db'}")
    settings = parse_json(study.user_attrs["settings"])
    del settings["training"]["accumulate"]
    study.set_user_attr("settings", json_text(settings))

    assert len(tune([file], ["tune.trials=3"]).trials) == 3
    with pytest.raises(ConfigError, match=r"training\.accumulate was 1 and is 2"):
        tune([file], ["training.accumulate=2"])


def test_a_database_whose_tables_another_process_is_making_is_opened_a_moment_later(
    trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    opened: list[str] = []

    class BusyAtFirst(optuna.storages.RDBStorage):  # type: ignore[name-defined, misc]
        def __init__(self, address: str) -> None:
            opened.append(address)
            if len(opened) == 1:
                raise OperationalError("CREATE TABLE studies", {}, Exception("table studies already exists"))
            super().__init__(address)

    monkeypatch.setattr(optuna.storages, "RDBStorage", BusyAtFirst)
    address = f"sqlite:///{tmp_path / 'shared.db'}"
    result = tune([experiment_file(tmp_path, trials=2, storage=address)])
    assert opened == [address, address]
    assert [one.state for one in result.trials] == ["finished", "finished"]


def test_a_storage_that_cannot_be_reached_is_told_without_its_password(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path)
    with pytest.raises(RunError) as error:
        tune([file], [f"tune.storage=sqlite:///{tmp_path / 'missing' / 'study.db'}"])
    assert "The storage of the search cannot be used" in str(error.value)
    assert "tune.storage" in str(error.value)

    with pytest.raises(RunError) as error:
        tune([file], ["tune.storage=nobase://me:secret@host/db"])
    assert "secret" not in str(error.value)
    assert shown_address("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


def test_a_journal_file_keeps_a_study_as_well(trainer: Trainer, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, trials=2, storage=str(tmp_path / "shared" / "study.journal"))
    tune([file])

    assert [one.state for one in tune([file], ["tune.trials=3"]).trials] == ["finished"] * 3
    assert (tmp_path / "shared" / "study.journal").is_file()


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)

    with pytest.raises(ConfigError, match=r"pip install 'maskwright\[tune\]'"):
        Search.open(load_experiment([experiment_file(tmp_path)]), tmp_path, lambda: Monitor("val/iou", "max"))


def test_the_page_and_the_table_hold_every_trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Trainer(monkeypatch)
    kinds = {"setting": "optim.optimizer.kind", "choices": ["adamw", "sgd"]}
    momentum = {"setting": "optim.optimizer.momentum", "low": 0.5, "high": 0.95}
    result = tune([experiment_file(tmp_path, LR, kinds, momentum, trials=12, pruner={"kind": "none"})])

    with open(result.folder / "trials.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [one.score for one in result.trials]
    assert {row["optim.optimizer.momentum"] == "" for row in rows if row["optim.optimizer.kind"] == "adamw"} == {True}
    text = (result.folder / "tune.html").read_text("utf-8")
    assert text.count("<img") == 3
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert set(result.importances) == {"optim.optimizer.lr", "optim.optimizer.kind", "optim.optimizer.momentum"}
    assert sum(result.importances.values()) == pytest.approx(1)
    head, table = best_rows(result, 3)
    assert head[:3] == ["trial", "state", "val/iou"]
    assert [float(row[2]) for row in table] == sorted((one.score or 0 for one in result.trials), reverse=True)[
        :3
    ] or len(table) == 3


def test_values_are_told_in_a_line() -> None:
    told = told_values({"optim.optimizer.lr": 0.00123456, "model.kind": "unet", "model.depth": 4})

    assert told == "optim.optimizer.lr 0.001235, model.kind unet, model.depth 4"

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.desktop import training_thread
from maskwright.desktop.training_thread import TrainingThread, experiment_of
from maskwright.errors import ConfigError
from maskwright.tracking import ControlFolder, EventLog, RunFolder

from ..conftest import experiment, make_run

FLAT = {"images_dir": "/pictures", "masks_dir": "/masks", "num_epochs": 3, "learning_rate": 1e-4}
SIGNALS = ("epoch_started", "epoch_completed", "batch_progress", "training_completed", "training_failed")


class Heard:
    """Every signal in the order heard."""

    def __init__(self, thread: TrainingThread) -> None:
        self.signals: list[tuple[Any, ...]] = []
        for name in SIGNALS:
            getattr(thread, name).connect(lambda *values, name=name: self.signals.append((name, *values)))

    def names(self) -> list[str]:
        return [signal[0] for signal in self.signals]

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [signal[1:] for signal in self.signals if signal[0] == name]


def followed(qtbot: Any, thread: TrainingThread, heard: Heard, run: RunFolder) -> None:
    """Wait until the thread reads on from here."""
    with qtbot.waitSignal(thread.run_found) as found:
        thread.start()
    assert found.args == [str(run.path)]
    assert thread.run_folder == run.path


def test_what_happens_in_a_run_is_told_in_its_order(qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)  # at work: in this process
    thread = TrainingThread.attach(run.path)
    heard = Heard(thread)
    followed(qtbot, thread, heard, run)
    log = EventLog(run.events)
    log.write("epoch_begin", epoch=3, position=0)
    log.write("step", epoch=3, position=4, batches_per_epoch=10, loss=0.25, lr=1e-3, grad_norm=2.0)
    log.write("step", epoch=3, position=8, batches_per_epoch=10, loss=math.nan, lr=1e-3)
    log.write("validation", epoch=3, position=1, batches=2)
    log.write("epoch", epoch=3, scores={"train/loss": 0.2, "val/loss": 0.3, "val/iou": 0.8})
    log.write("epoch", epoch=4, scores={"train/loss": 0.1})
    log.write("train_end", reason="all epochs are done")
    with qtbot.waitSignal(thread.finished):
        run.record.update(status="finished")
    assert heard.names() == [
        "epoch_started",
        *["batch_progress"] * 3,
        "epoch_completed",
        "epoch_completed",
        "training_completed",
    ]
    assert heard.of("epoch_started") == [(3,)]
    first, second, validation = heard.of("batch_progress")
    assert first[:4] == (4, 10, "train", 0.25)
    assert first[4]["lr"] == 1e-3
    assert math.isnan(second[3])
    assert validation[:3] == (1, 2, "val")
    third, fourth = heard.of("epoch_completed")
    assert third == (3, 0.2, 0.3, {"train/loss": 0.2, "val/loss": 0.3, "val/iou": 0.8})
    assert fourth[1] == 0.1
    assert math.isnan(fourth[2])  # not validated
    [(outcome,)] = heard.of("training_completed")
    assert (outcome["status"], outcome["best_val_metric"]) == ("finished", 0.75)


def test_a_stopped_run_is_completed_too_and_a_failed_one_says_why(qtbot: Any, outputs: Path) -> None:
    for status, reason, name in (
        ("stopped", "stop command", "training_completed"),
        ("failed", "TrainingError: The loss is not finite.", "training_failed"),
    ):
        run = make_run(outputs, status=status)
        run.record.update(reason=reason)
        thread = TrainingThread.attach(run.path)
        heard = Heard(thread)
        with qtbot.waitSignal(thread.finished):
            thread.start()
        assert heard.names() == [name]
    assert heard.of("training_failed")[0][0].startswith("The loss is not finite. Its state after epoch 2 is saved")


def test_stop_asks_the_training_and_waits_for_it(qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    thread = TrainingThread.attach(run.path)
    heard = Heard(thread)
    followed(qtbot, thread, heard, run)
    thread.stop()
    qtbot.waitUntil(lambda: any(run.control.glob("*_stop.json")))
    assert [command.kind for command in ControlFolder(run.control).poll()] == ["stop"]
    assert heard.names() == []  # it has not obeyed yet
    with qtbot.waitSignal(thread.training_completed):
        run.record.update(status="stopped", reason="stop command")
    qtbot.waitUntil(thread.isFinished)
    assert not any(run.control.glob("*_stop.json"))  # asked once


def test_a_thread_that_leaves_says_nothing_more(qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    thread = TrainingThread.attach(run.path)
    heard = Heard(thread)
    followed(qtbot, thread, heard, run)
    with qtbot.waitSignal(thread.finished):
        thread.leave()
    assert heard.names() == []
    assert run.record.status() == "running"


def test_a_run_whose_folder_is_deleted_is_told_of(qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    thread = TrainingThread.attach(run.path)
    followed(qtbot, thread, Heard(thread), run)
    with qtbot.waitSignal(thread.training_failed) as failed:
        shutil.rmtree(run.path)
    assert str(run.path) in failed.args[0]
    qtbot.waitUntil(thread.isFinished)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"num_epoch": 3}, "Did you mean num_epochs?"),
        ({"loss": "wishful", **FLAT}, "has no place in this version's settings"),
        ("/nowhere/experiment.yaml", "no such file"),
    ],
)
def test_settings_that_are_wrong_fail_with_a_sentence(qtbot: Any, config: Any, words: str) -> None:
    thread = TrainingThread(config)
    heard = Heard(thread)
    with qtbot.waitSignal(thread.finished):
        thread.start()
    [(said,)] = heard.of("training_failed")
    assert words in said


def test_a_configuration_is_a_dictionary_an_experiment_or_a_file(tmp_path: Path) -> None:
    made = experiment_of(FLAT)
    assert (made.training.epochs, made.tracking.log_every_steps) == (3, 1)
    assert str(made.data.images) == "/pictures"  # type: ignore[union-attr]
    own = experiment(tmp_path, epochs=4)
    assert experiment_of(own) is own
    file = tmp_path / "a.yaml"
    file.write_text("name: a\ndata: {folder: x}\ntraining: {epochs: 5}\n")
    assert experiment_of(file).training.epochs == 5
    with pytest.raises(ConfigError, match="no data is named"):
        experiment_of({"num_epochs": 3})


def test_an_older_checkpoint_begins_a_new_run_beside_the_old_one(
    qtbot: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, said = make_run(outputs, status="stopped"), []
    process = SimpleNamespace(pid=os.getpid())
    started = SimpleNamespace(process=process, code=None, output=outputs / "said.txt", said=lambda: "")

    def start(words: list[str]) -> Any:
        said.append(words)
        RunFolder.create(outputs, "gaps_from_checkpoint_epoch_0001")
        return started

    monkeypatch.setattr(training_thread, "start", start)
    checkpoint = old.checkpoints / "checkpoint_epoch_0001.pt"
    thread = TrainingThread.resume(checkpoint)
    with qtbot.waitSignal(thread.run_found) as found:
        thread.start()
    new = RunFolder(Path(found.args[0]))
    assert new.path.name.startswith("gaps_from_checkpoint_epoch_0001_")
    name, place = "gaps_from_checkpoint_epoch_0001", str(outputs)
    options = ["--resume", str(checkpoint), "--experiment-name", name, "--output-dir", place]
    assert said == [["maskwright", "train", *options]]
    new.record.update(status="finished")
    with qtbot.waitSignal(thread.training_completed) as completed:
        started.code = 0
    assert completed.args[0]["run"] == str(new.path)
    qtbot.waitUntil(thread.isFinished)


def test_a_checkpoint_stands_for_its_run(tmp_path: Path) -> None:
    thread = TrainingThread.resume(tmp_path / "run" / "checkpoints" / "checkpoint_latest.pt")
    assert thread.run_folder == tmp_path / "run"
    assert TrainingThread.resume(tmp_path / "run").run_folder == tmp_path / "run"

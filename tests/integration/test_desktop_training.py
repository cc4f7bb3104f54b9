"""Real trainings behind the window: every signal, stop, failure, closing and coming back."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from maskwright.config import Experiment, load_experiment, save_experiment
from maskwright.config.drafts import nested
from maskwright.data.synthetic_images import write_pictures
from maskwright.desktop.immortal import keep_alive
from maskwright.tracking import ControlFolder, RunFolder, read_events, read_history, read_manifest
from maskwright.tracking.folder import find_runs

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
keep_alive()

from maskwright.desktop import MainWindow, TrainConfigDialog, TrainingThread  # noqa: E402
from maskwright.desktop.checking import DataCheck  # noqa: E402
from maskwright.desktop.document_fields import DATA, MODEL, TRAINING, initial_settings  # noqa: E402
from maskwright.desktop.monitoring import MonitoringTab  # noqa: E402

PATIENCE_MS = 900_000
WINDOW_THAT_TRAINS = """
import sys
from maskwright.desktop.immortal import keep_alive
keep_alive()
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from maskwright.desktop import TrainConfigDialog
application = QApplication(sys.argv[:1])
dialog = TrainConfigDialog(sys.argv[1])
dialog.show()
dialog.model.checked.connect(lambda verdict: dialog.start_button.click(), Qt.ConnectionType.SingleShotConnection)
application.exec()
"""
CHOICES = [
    (entry.label.replace("&", ""), option.label) for entry in (*MODEL, *TRAINING, *DATA) for option in entry.options
]
TINY: dict[str, Any] = {
    "training.threads": 1,
    "training.epochs": 2,
    "data.loader.batch_size": 2,
    "data.loader.workers": 0,
    "data.resize_px": [64, 64],
    "data.tiles.size_px": 64,
    "metrics.bootstrap": 100,
    "tracking.tensorboard": False,
    "model.encoder_weights": "none",
    "model.encoder": "resnet18",
}
SMALL = {"model.kind": "unet", "model.base_channels": 4, "model.depth": 2}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures with masks and lists, as document 004 has them."""
    folder = write_pictures(tmp_path_factory.mktemp("pictures"), "cracks", 12, size_px=64)
    names = sorted(path.name for path in (folder / "images").iterdir())
    for part, some in (("train", names[:8]), ("val", names[8:10]), ("test", names[10:])):
        (folder / f"{part}.txt").write_text("\n".join(some) + "\n")
    return folder


def folders(pictures: Path, out: Path) -> dict[str, str]:
    return {
        "split_dir": str(pictures),
        "images_dir": str(pictures / "images"),
        "masks_dir": str(pictures / "masks"),
        "checkpoint_dir": str(out),
    }


def experiment(pictures: Path, out: Path, **settings: Any) -> Experiment:
    """What the dialog would train with these folders, made small."""
    said = initial_settings({"encoder_weights": None}, folders(pictures, out)) | TINY
    named = {path.replace("__", "."): value for path, value in settings.items()}
    if "model.kind" in named:
        said = {path: value for path, value in said.items() if not path.startswith("model.")}
    return load_experiment([], nested(said | named))


def small(pictures: Path, out: Path, **settings: Any) -> Experiment:
    return experiment(pictures, out, **{path.replace(".", "__"): value for path, value in SMALL.items()}, **settings)


class Heard:
    """Every signal of a thread in the order heard."""

    def __init__(self, thread: TrainingThread) -> None:
        self.signals: list[tuple[Any, ...]] = []
        for name in ("epoch_started", "epoch_completed", "batch_progress", "training_completed", "training_failed"):
            getattr(thread, name).connect(lambda *values, name=name: self.signals.append((name, *values)))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [given[1:] for given in self.signals if given[0] == name]


def ended(qtbot: Any, thread: TrainingThread) -> Heard:
    heard = Heard(thread)
    with qtbot.waitSignal(thread.finished, timeout=PATIENCE_MS):
        thread.start()
    return heard


def at_work(qtbot: Any, thread: TrainingThread) -> Heard:
    """Start, and wait until it trains."""
    heard = Heard(thread)
    thread.start()
    qtbot.waitUntil(lambda: bool(heard.of("batch_progress") or heard.of("training_failed")), timeout=PATIENCE_MS)
    assert heard.of("training_failed") == []
    return heard


def test_the_dictionary_of_the_document_trains_and_every_signal_is_heard(
    qtbot: Any, pictures: Path, tmp_path: Path
) -> None:
    config = folders(pictures, tmp_path) | {
        "architecture": "unet",
        "loss": "combined",
        "dice_weight": 0.5,
        "bce_weight": 0.5,
        "num_epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "optimizer": "Adam",
        "scheduler": "ReduceLROnPlateau",
        "early_stopping_patience": 10,
        "image_width": 64,
        "image_height": 64,
        "augmentation_prob": 0.5,
        "num_workers": 0,
        "device": "cpu",
    }
    heard = ended(qtbot, TrainingThread(config))
    assert heard.of("training_failed") == []
    names = [given[0] for given in heard.signals]
    an_epoch = ["epoch_started", *["batch_progress"] * 4, "epoch_completed"]  # two updates, two looks at validation
    assert names == [*an_epoch * 2, "training_completed"]
    assert heard.of("epoch_started") == [(1,), (2,)]
    assert [given[:3] for given in heard.of("batch_progress")[:4]] == [
        (1, 2, "train"),
        (2, 2, "train"),
        (0, 1, "val"),
        (1, 1, "val"),
    ]
    assert all(given[3] > 0 for given in heard.of("batch_progress")[:2])
    epochs = heard.of("epoch_completed")
    assert [given[0] for given in epochs] == [1, 2]
    for _, train_loss, val_loss, scores in epochs:
        assert train_loss == scores["train/loss"] > 0
        assert val_loss == scores["val/loss"] > 0
        assert 0 <= scores["val/iou"] <= 1
    [(outcome,)] = heard.of("training_completed")
    assert outcome["status"] == "finished"
    assert outcome["train_losses"] == [given[1] for given in epochs]
    assert outcome["val_losses"] == [given[2] for given in epochs]
    assert Path(outcome["model"]).is_dir()
    assert outcome["best_val_metric"] == max(scores["val/iou"] for *_, scores in epochs)


def test_data_that_is_missing_fails_with_a_sentence(qtbot: Any, tmp_path: Path) -> None:
    heard = ended(qtbot, TrainingThread(folders(tmp_path / "nowhere", tmp_path / "runs") | {"num_epochs": 1}))
    [(said,)] = heard.of("training_failed")
    assert str(tmp_path / "nowhere") in said
    assert "Traceback" not in said
    assert heard.of("training_completed") == []
    assert find_runs(tmp_path / "runs") == ()


@pytest.mark.slow
def test_stop_ends_within_a_batch_with_the_state_saved_and_the_run_goes_on(
    qtbot: Any, pictures: Path, tmp_path: Path
) -> None:
    thread = TrainingThread(small(pictures, tmp_path, training__epochs=500))
    heard = at_work(qtbot, thread)
    with qtbot.waitSignal(thread.training_completed, timeout=PATIENCE_MS) as completed:
        thread.stop()
    assert completed.args[0]["status"] == "stopped"
    qtbot.waitUntil(thread.isFinished, timeout=PATIENCE_MS)
    assert thread.run_folder is not None
    run = RunFolder(thread.run_folder)
    asked = next(row for row in read_events(run.events) if row["kind"] == "command")
    last = [row for row in read_events(run.events) if row["kind"] == "step"][-1]
    assert last["global_step"] - asked["global_step"] <= 1
    latest = read_manifest(run.manifest).latest
    assert latest is not None
    assert latest.global_step == last["global_step"]
    before = len(heard.of("epoch_completed"))
    again = TrainingThread.resume(run.path)
    went_on = at_work(qtbot, again)
    assert went_on.of("epoch_started")[0] == (before + 1,)
    with qtbot.waitSignal(again.training_completed, timeout=PATIENCE_MS):
        again.stop()
    qtbot.waitUntil(again.isFinished, timeout=PATIENCE_MS)


@pytest.mark.slow
def test_a_training_pauses_and_goes_on(qtbot: Any, pictures: Path, tmp_path: Path) -> None:
    thread = TrainingThread(small(pictures, tmp_path, training__epochs=500))
    at_work(qtbot, thread)
    assert thread.run_folder is not None
    run, tab = RunFolder(thread.run_folder), MonitoringTab()
    qtbot.addWidget(tab)
    tab.show()
    tab.follow(run.path)

    def steps() -> int:
        return sum(row["kind"] == "step" for row in read_events(run.events))

    qtbot.waitUntil(tab.pause.isEnabled, timeout=PATIENCE_MS)
    tab.pause.click()
    qtbot.waitUntil(lambda: tab.status.text().startswith("paused"), timeout=PATIENCE_MS)
    waiting = steps()
    qtbot.wait(500)
    assert steps() == waiting
    tab.pause.click()
    qtbot.waitUntil(lambda: steps() > waiting, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: tab.status.text().startswith("running"), timeout=PATIENCE_MS)
    with qtbot.waitSignal(thread.training_completed, timeout=PATIENCE_MS):
        thread.stop()
    qtbot.waitUntil(thread.isFinished, timeout=PATIENCE_MS)


@pytest.mark.slow
def test_an_older_checkpoint_begins_a_new_run_with_its_weights(qtbot: Any, pictures: Path, tmp_path: Path) -> None:
    kept = {"checkpoints__strategy": "all", "training__epochs": 2}
    first = ended(qtbot, TrainingThread(small(pictures, tmp_path, **kept)))
    old = RunFolder(Path(first.of("training_completed")[0][0]["run"]))
    oldest = read_manifest(old.manifest).records[0]
    again = ended(qtbot, TrainingThread.resume(old.checkpoints / oldest.file))
    assert again.of("training_failed") == []
    assert [given[0] for given in again.of("epoch_started")] == [1, 2]
    new = RunFolder(Path(again.of("training_completed")[0][0]["run"]))
    assert new.path.name.startswith(f"training_from_{Path(oldest.file).stem}_")
    assert new.path.parent == old.path.parent
    assert oldest.file in str(new.record.load())  # where its weights came from


@pytest.mark.slow
def test_stop_before_there_is_a_run_leaves_nothing_behind(qtbot: Any, pictures: Path, tmp_path: Path) -> None:
    thread = TrainingThread(small(pictures, tmp_path))
    heard = Heard(thread)
    thread.stage_changed.connect(lambda stage: thread.stop() if stage == "Looking at the data" else None)
    with qtbot.waitSignal(thread.finished, timeout=PATIENCE_MS):
        thread.start()
    assert heard.of("training_completed") == [
        ({"status": "stopped", "reason": "stopped before it began", "run": None},)
    ]
    assert find_runs(tmp_path) == ()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_killed_training_is_noticed(qtbot: Any, pictures: Path, tmp_path: Path) -> None:
    thread = TrainingThread(small(pictures, tmp_path, training__epochs=500))
    at_work(qtbot, thread)
    assert thread.run_folder is not None
    record = RunFolder(thread.run_folder).record
    with qtbot.waitSignal(thread.training_failed, timeout=PATIENCE_MS) as failed:
        os.kill(record.load()["pid"], signal.SIGKILL)
    assert failed.args[0].startswith("The training process was killed (SIGKILL).")
    qtbot.waitUntil(thread.isFinished, timeout=PATIENCE_MS)
    assert record.status() == "interrupted"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
def test_a_full_disk_fails_with_a_sentence(
    qtbot: Any, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, errno, os\n"
        "real = builtins.open\n"
        "def full(*given, **named):\n"
        "    name = str(given[0])\n"
        "    if 'safetensors' in name and any(letter in (given[1] if len(given) > 1 else 'r') for letter in 'wx'):\n"
        "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)\n"
        "    return real(*given, **named)\n"
        "builtins.open = full\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    heard = ended(qtbot, TrainingThread(small(pictures, tmp_path / "runs", training__epochs=1)))
    [(said,)] = heard.of("training_failed")
    assert "full" in said or "No space left" in said


@pytest.mark.slow
def test_a_window_that_leaves_finds_its_training_again(qtbot: Any, pictures: Path, tmp_path: Path) -> None:
    first = TrainConfigDialog(small(pictures, tmp_path, training__epochs=500))
    qtbot.addWidget(first)
    first.show()
    with qtbot.waitSignal(first.run_found, timeout=PATIENCE_MS) as found:
        first.start()
    thread = first.thread_at_work
    assert thread is not None
    box = first.ask_to_close()
    next(button for button in box.buttons() if "Leave" in button.text()).click()
    assert not first.isVisible()
    qtbot.waitUntil(thread.isFinished, timeout=PATIENCE_MS)
    run = RunFolder(Path(found.args[0]))
    assert run.record.is_alive()
    second = TrainConfigDialog()
    qtbot.addWidget(second)
    second.show()
    second.watch(run.path)
    qtbot.waitUntil(lambda: second.thread_at_work is not None, timeout=PATIENCE_MS)
    heard = Heard(second.thread_at_work)  # type: ignore[arg-type]
    qtbot.waitUntil(lambda: bool(heard.of("epoch_completed")), timeout=PATIENCE_MS)
    with qtbot.waitSignal(second.training_completed, timeout=PATIENCE_MS):
        second.stop()
    assert run.record.status() == "stopped"
    assert not math.isnan(heard.of("epoch_completed")[0][1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_training_outlives_its_killed_window_and_another_window_takes_it_up(
    qtbot: Any, pictures: Path, tmp_path: Path
) -> None:
    save_experiment(small(pictures, tmp_path / "runs", training__epochs=30), tmp_path / "small.yaml")
    killed = subprocess.Popen(
        [sys.executable, "-c", WINDOW_THAT_TRAINS, str(tmp_path / "small.yaml")], start_new_session=True
    )
    runs = tmp_path / "runs"
    try:
        qtbot.waitUntil(lambda: any(read_history(run.history) for run in find_runs(runs)), timeout=PATIENCE_MS)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)  # with whatever belongs to it, as a closed terminal does
    assert killed.wait() == -signal.SIGKILL
    [run] = find_runs(runs)
    control = ControlFolder(run.control)
    control.send("pause")  # so that it is not over before the other window is there
    qtbot.waitUntil(lambda: any(row["kind"] == "command" for row in read_events(run.events)), timeout=PATIENCE_MS)
    before = len(read_history(run.history))

    window = MainWindow(runs)
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.list.topLevelItemCount() == 1, timeout=PATIENCE_MS)
    item = window.list.topLevelItem(0)
    assert item is not None
    qtbot.waitUntil(lambda: item.text(1) == "running", timeout=PATIENCE_MS)
    window.list.itemActivated.emit(item, 0)
    [dialog] = window.dialogs
    assert isinstance(dialog, TrainConfigDialog)
    qtbot.waitUntil(lambda: dialog.thread_at_work is not None, timeout=PATIENCE_MS)
    thread = dialog.thread_at_work
    assert thread is not None
    heard = Heard(thread)
    control.send("resume")
    qtbot.waitUntil(lambda: bool(heard.of("training_completed") or heard.of("training_failed")), timeout=PATIENCE_MS)
    assert heard.of("training_failed") == []
    [(outcome,)] = heard.of("training_completed")
    assert outcome["status"] == "finished"
    last = len(outcome["train_losses"])  # patience may end it early
    assert [given[0] for given in heard.of("epoch_completed")] == list(range(before + 1, last + 1))
    assert last > before
    qtbot.waitUntil(lambda: dialog.thread_at_work is None, timeout=PATIENCE_MS)
    assert dialog.start_button.isEnabled()


@pytest.mark.slow
def test_the_check_of_the_dialog_is_that_of_the_command(pictures: Path, tmp_path: Path) -> None:
    result = DataCheck(small(pictures, tmp_path)).run()
    assert result is not None
    assert result.page.is_file()
    assert result.is_fit
    assert result.summary.startswith("The check found")


@pytest.mark.slow
@pytest.mark.parametrize(("label", "word"), CHOICES)
def test_every_word_of_every_choice_trains(qtbot: Any, pictures: Path, tmp_path: Path, label: str, word: str) -> None:
    paths = folders(pictures, tmp_path)
    dialog = TrainConfigDialog({"encoder_weights": None}, paths)
    qtbot.addWidget(dialog)
    dialog.model.change(TINY | {"training.epochs": 1})
    row = next(
        row
        for form in dialog.forms.values()
        for entry, row in form.fields.lines.values()
        if entry.label.replace("&", "") == label
    )
    row.editor.edited.emit(word)
    assert row.editor.value() == word
    ends: list[Any] = []
    dialog.training_completed.connect(lambda outcome: ends.append(outcome["status"]))
    dialog.training_failed.connect(ends.append)
    dialog.start()
    qtbot.waitUntil(lambda: bool(ends), timeout=PATIENCE_MS)
    assert ends == ["finished"]

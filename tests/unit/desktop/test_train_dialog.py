from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from PySide6.QtCore import QObject, QSize, Qt, Signal
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QScrollBar,
    QTabBar,
    QTableWidget,
    QWidget,
)

from maskwright.config import load_experiment
from maskwright.desktop import train_dialog
from maskwright.desktop.checking import CheckResult
from maskwright.desktop.examine import Verdict
from maskwright.desktop.train_dialog import TrainConfigDialog
from maskwright.errors import ConfigError, DataError

from ..conftest import make_run


class Training(QObject):
    """Stands for a TrainingThread: says what a test lets it say."""

    epoch_started = Signal(int)
    epoch_completed = Signal(int, float, float, dict)
    batch_progress = Signal(int, int, str, float, dict)
    training_completed = Signal(dict)
    training_failed = Signal(str)
    run_found = Signal(str)
    stage_changed = Signal(str)
    made: ClassVar[list[Training]] = []

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what, self.calls = what, list[str]()
        self.made.append(self)

    attach = classmethod(lambda cls, run: cls(("attach", run)))
    resume = classmethod(lambda cls, run: cls(("resume", run)))

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def leave(self) -> None:
        self.calls.append("leave")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    monkeypatch.setattr(train_dialog, "TrainingThread", Training)
    Training.made = []
    return Training.made


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    return {
        "images_dir": str(tmp_path / "images"),
        "masks_dir": str(tmp_path / "masks"),
        "checkpoint_dir": str(tmp_path / "runs"),
    }


@pytest.fixture
def dialog(qtbot: Any, folders: dict[str, str]) -> TrainConfigDialog:
    dialog = TrainConfigDialog({"encoder_weights": None}, folders)
    qtbot.addWidget(dialog, before_close_func=lambda dialog: setattr(dialog, "thread_at_work", None))
    dialog.show()
    return dialog


def begun(qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training]) -> Training:
    dialog.start_button.click()
    qtbot.waitUntil(lambda: bool(trainings))
    return trainings[-1]


def pressed(box: QMessageBox, words: str) -> None:
    next(button for button in box.buttons() if words in button.text()).click()


def tab_through() -> list[QWidget]:
    """What has the cursor while Tab is pressed, in that order, until it comes round."""
    reached: list[QWidget] = []
    widget = QApplication.focusWidget()
    while widget is not None and widget not in reached:
        reached.append(widget)
        while widget is reached[-1]:  # the links of a text are gone through one by one
            QTest.keyClick(widget, Qt.Key.Key_Tab)
            widget = QApplication.focusWidget()
    return reached


def name_of(widget: Any) -> str:
    return widget.accessibleName() or (widget.text() if hasattr(widget, "text") else repr(widget))


def to_be_reached(dialog: TrainConfigDialog) -> list[QWidget]:
    """Whatever on show can be used; the line inside a number or a choice belongs to it."""
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QPlainTextEdit, QTableWidget, QAbstractSlider)
    inner = (QAbstractSpinBox, QComboBox)
    return [
        widget
        for kind in kinds
        for widget in dialog.findChildren(kind)
        if widget.isVisible()
        and widget.isEnabled()
        and not isinstance(widget, QScrollBar)
        and not isinstance(widget.parent(), (*inner, QTabBar))
    ]


def test_it_has_the_tabs_and_buttons_of_the_document(dialog: TrainConfigDialog) -> None:
    assert [dialog.tabs.tabText(place) for place in range(4)] == ["Model", "Training", "Data", "Monitoring"]
    words = [button.text().replace("&", "") for button in dialog.findChildren(QPushButton)]
    assert [word for word in ("Start", "Stop", "Close", "Check data") if word in words] == [
        "Start",
        "Stop",
        "Close",
        "Check data",
    ]
    assert not dialog.stop_button.isEnabled()


def test_it_has_the_size_of_the_document_where_the_screen_holds_it(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = SimpleNamespace(availableSize=lambda: QSize(1920, 1080))
    monkeypatch.setattr(TrainConfigDialog, "screen", lambda self: screen)
    dialog = TrainConfigDialog()
    qtbot.addWidget(dialog)
    assert (dialog.size().width(), dialog.size().height()) == (1000, 800)


@pytest.mark.parametrize("points", [9, 18])
def test_it_fits_a_low_screen_and_then_scrolls(qtbot: Any, points: float) -> None:
    dialog = TrainConfigDialog()
    qtbot.addWidget(dialog)
    letters = dialog.font()
    letters.setPointSizeF(points)
    dialog.setFont(letters)
    dialog.show()
    dialog.tabs.setCurrentWidget(dialog.monitoring)
    dialog.resize(900, 500)  # 1920 x 1080 at 200 % leave little more
    qtbot.waitUntil(lambda: dialog.monitoring.verticalScrollBar().maximum() > 0)
    assert dialog.height() == 500
    assert dialog.start_button.mapTo(dialog, dialog.start_button.rect().bottomLeft()).y() < 500


def test_everything_is_reached_and_started_with_the_keyboard_alone(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training], tmp_path: Path
) -> None:
    dialog.activateWindow()
    qtbot.waitUntil(dialog.isActiveWindow)
    dialog.monitoring.follow(make_run(tmp_path / "runs", status="stopped").path)
    bar = dialog.tabs.tabBar()
    for place in range(4):
        bar.setFocus()
        assert dialog.tabs.currentIndex() == place
        if place < 3:
            fold = dialog.forms[dialog.tabs.tabText(place)].advanced
            fold.button.setFocus()
            QTest.keyClick(fold.button, Qt.Key.Key_Space)
            assert dialog.forms[dialog.tabs.tabText(place)].boxes
        qtbot.waitUntil(lambda: dialog.monitoring.is_drawn)
        bar.setFocus()
        reached = tab_through()
        assert [name_of(widget) for widget in to_be_reached(dialog) if widget not in reached] == []
        assert {bar, dialog.name, dialog.start_button} <= set(reached)
        assert reached.index(dialog.start_button) == len(reached) - 6  # before Close and the line above the tabs
        bar.setFocus()
        QTest.keyClick(bar, Qt.Key.Key_Right)
    dialog.start_button.setFocus()
    QTest.keyClick(dialog.start_button, Qt.Key.Key_Space)
    qtbot.waitUntil(lambda: bool(trainings))
    assert trainings[0].calls == ["start"]


def test_start_trains_what_the_form_says_and_shows_it(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training], tmp_path: Path
) -> None:
    dialog.model.change({"training.epochs": 7})
    training = begun(qtbot, dialog, trainings)
    assert training.calls == ["start"]
    assert training.what.training.epochs == 7
    assert dialog.tabs.currentWidget() is dialog.monitoring
    assert dialog.stop_button.isEnabled()
    assert not dialog.start_button.isEnabled()
    training.stage_changed.emit("Looking at the data")
    assert dialog.status.text() == "Looking at the data ..."
    run = make_run(tmp_path / "runs")
    with qtbot.waitSignal(dialog.run_found) as found:
        training.run_found.emit(str(run.path))
    assert found.args == [str(run.path)]
    assert dialog.monitoring.run == run.path
    training.epoch_completed.emit(2, 0.5, 0.25, {"val/iou": 0.75})
    assert dialog.status.text() == "Epoch 2: training loss 0.5000, validation loss 0.2500, IoU 0.7500"
    outcome = {"status": "finished", "best_val_metric": 0.75, "monitor": "val/iou", "best_epoch": 2}
    with qtbot.waitSignal(dialog.training_completed) as completed:
        training.training_completed.emit(outcome)
    assert completed.args == [outcome]
    assert dialog.status.text() == "The training is finished. Best val/iou 0.7500 in epoch 2."
    assert dialog.start_button.isEnabled()


def test_a_wrong_setting_is_led_to_instead_of_started(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training]
) -> None:
    dialog.model.change({"data.images": "/nowhere/pictures", "optim.optimizer.betas": [2.0, 0.9]})
    dialog.model.change({"optim.optimizer.betas": [0.9, 0.99]})
    dialog.start()
    qtbot.waitUntil(lambda: dialog.tabs.tabText(2) == "Data (1)")
    qtbot.waitUntil(lambda: dialog.tabs.currentIndex() == 2)
    assert trainings == []
    assert dialog.status.text() == "1 setting needs attention before the start."
    row = dialog.forms["Data"].row("data.images")
    assert row is not None
    assert row.message.text() == "/nowhere/pictures does not exist."
    assert dialog.start_button.isEnabled()


def test_a_setting_that_is_folded_away_is_unfolded_when_it_is_wrong(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training]
) -> None:
    dialog.model.change({"optim.optimizer.betas": [2.0, 0.9]})
    dialog.start()
    qtbot.waitUntil(lambda: dialog.tabs.currentIndex() == 1)
    row = dialog.forms["Training"].row("optim.optimizer.betas")
    assert row is not None
    assert "must both lie from 0 to below 1" in row.message.text()
    assert trainings == []


def test_a_failure_is_told_and_the_next_start_possible(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training]
) -> None:
    training = begun(qtbot, dialog, trainings)
    with qtbot.waitSignal(dialog.training_failed):
        training.training_failed.emit("The disk is full. Make room.")
    assert (dialog.message.text(), dialog.status.text()) == ("The disk is full. Make room.", "The training failed.")
    assert dialog.message.isVisible()
    assert dialog.start_button.isEnabled()


def test_weights_out_of_reach_are_told_before_start(qtbot: Any, dialog: TrainConfigDialog) -> None:
    dialog.model.checked.emit(Verdict(None, {}, {}, {"model.encoder_weights": "The hub does not answer."}))
    assert dialog.message.text() == "The hub does not answer."
    row = dialog.forms["Model"].row("model.encoder_weights")
    assert row is not None
    assert row.message.text() == "The hub does not answer."


def test_closing_asks_and_can_leave_the_training_at_work(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training]
) -> None:
    training = begun(qtbot, dialog, trainings)
    pressed(dialog.ask_to_close(), "Cancel")
    assert dialog.isVisible()
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert dialog.isVisible()  # Escape asks as well
    [box] = [box for box in dialog.findChildren(QMessageBox) if box.isVisible()]
    pressed(box, "Leave")
    assert not dialog.isVisible()
    assert training.calls == ["start", "leave"]


def test_closing_can_stop_the_training_and_waits_for_it_without_standing_still(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training]
) -> None:
    training = begun(qtbot, dialog, trainings)
    assert not dialog.close()
    [box] = [box for box in dialog.findChildren(QMessageBox) if box.isVisible()]
    pressed(box, "Stop")
    assert training.calls == ["start", "stop"]
    assert dialog.isVisible()
    assert dialog.status.text() == "Stopping after this batch ..."
    training.training_completed.emit({"status": "stopped"})
    assert not dialog.isVisible()


def test_without_a_training_it_closes_at_once(dialog: TrainConfigDialog) -> None:
    assert dialog.close()


def test_a_run_at_work_is_attached_to_and_one_that_is_over_is_shown(
    qtbot: Any, dialog: TrainConfigDialog, trainings: list[Training], tmp_path: Path
) -> None:
    over = make_run(tmp_path / "runs", "over", status="finished")
    dialog.watch(over.path)
    qtbot.waitUntil(lambda: dialog.status.text() == f"{over.path.name}: not at work.")
    assert trainings == []
    assert dialog.monitoring.run == over.path
    qtbot.waitUntil(lambda: dialog.name.text() == "gaps")  # its own settings
    alive = make_run(tmp_path / "runs", "alive")
    dialog.watch(alive.path)
    qtbot.waitUntil(lambda: bool(trainings))
    assert trainings[0].what == ("attach", alive.path)


def test_a_run_can_be_continued_from_what_is_on_show(dialog: TrainConfigDialog, trainings: list[Training]) -> None:
    dialog.monitoring.resume_requested.emit("/runs/a/checkpoints/checkpoint_latest.pt")
    assert trainings[0].what == ("resume", "/runs/a/checkpoints/checkpoint_latest.pt")


def test_settings_are_saved_and_loaded_again(
    qtbot: Any, dialog: TrainConfigDialog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *given: (str(tmp_path / "mine"), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *given: (str(file), ""))
    QTest.keyClicks(dialog.name, "_2")
    dialog.model.change({"training.epochs": 7})
    dialog._ask_save()
    qtbot.waitUntil(lambda: dialog.status.text() == f"Saved: {file}")
    saved = load_experiment([file])
    assert (saved.name, saved.training.epochs) == ("training_2", 7)
    dialog.model.change({"training.epochs": 8})
    dialog._ask_load()
    qtbot.waitUntil(lambda: dialog.model.source == str(file))
    assert dialog.forms["Training"].row("training.epochs").editor.value() == 7  # type: ignore[union-attr]


def test_it_begins_from_presets_and_goes_back_to_the_defaults(qtbot: Any, dialog: TrainConfigDialog) -> None:
    qtbot.waitUntil(lambda: dialog.base.findText("Preset defects") > 0)
    dialog.base.activated.emit(dialog.base.findText("Preset defects"))
    qtbot.waitUntil(lambda: dialog.model.values.get("loss.tversky") == 0.5)
    assert dialog.name.text() == "defects"
    dialog.base.activated.emit(dialog.base.findText("Defaults"))
    assert dialog.model.values["loss.dice"] == 0.5
    assert dialog.name.text() == "training"


def test_the_host_may_give_a_file_an_experiment_or_wrong_words(
    qtbot: Any, folders: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"name: own\ntask: {{kind: binary}}\ndata: {{folder: {tmp_path}}}\ntraining: {{epochs: 3}}\n")
    for config in (str(file), load_experiment([file])):
        dialog = TrainConfigDialog(config, folders)
        qtbot.addWidget(dialog)
        qtbot.waitUntil(lambda dialog=dialog: dialog.model.values.get("name") == "own")
        assert dialog.model.values["training.epochs"] == 3
    with pytest.raises(ConfigError, match="Did you mean num_epochs"):
        TrainConfigDialog({"num_epoch": 3}, folders)


def test_the_check_shows_its_page_and_what_to_do(
    qtbot: Any, dialog: TrainConfigDialog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = CheckResult(tmp_path / "check.html", "The check found 1 error.", ("a.png is empty. Remove it.",), False)
    pages: list[Path] = []
    monkeypatch.setattr(dialog, "show_page", pages.append)
    monkeypatch.setattr("maskwright.desktop.checking.DataCheck.run", lambda check: result)
    dialog.check_button.click()
    qtbot.waitUntil(lambda: dialog.status.text() == "The check found 1 error.")
    assert dialog.message.text() == "a.png is empty. Remove it."
    assert pages == [tmp_path / "check.html"]

    def fails(check: Any) -> CheckResult:
        raise DataError("There are no images.")

    monkeypatch.setattr("maskwright.desktop.checking.DataCheck.run", fails)
    dialog.check_data()
    qtbot.waitUntil(lambda: dialog.message.text() == "There are no images.")
    assert dialog.check_button.text() == "Check da&ta"

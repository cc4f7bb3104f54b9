from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl, Signal
from PySide6.QtGui import QAction, QDropEvent
from PySide6.QtWidgets import QDialog, QFileDialog, QMessageBox

from maskwright.desktop.app import open_window
from maskwright.desktop.train_dialog import TrainConfigDialog
from maskwright.desktop.window import MainWindow, last_model
from maskwright.tracking.shelf import RunShelf

from ..conftest import make_run


class Predict(QDialog):
    """Stands for the other dialog."""

    stays_open = Signal()
    thread_at_work = None

    def __init__(self, model: Any, inputs: Any, parent: Any) -> None:
        super().__init__(parent)
        self.given = model, inputs


@pytest.fixture
def window(qtbot: Any, outputs: Path) -> MainWindow:
    window = MainWindow(outputs)
    qtbot.addWidget(window)
    window.show()
    return window


def lines(window: MainWindow) -> list[tuple[str, str]]:
    items = [window.list.topLevelItem(row) for row in range(window.list.topLevelItemCount())]
    return [(item.text(0), item.text(1)) for item in items]


def menu(window: MainWindow, title: str) -> dict[str, QAction]:
    [found] = [action.menu() for action in window.menuBar().actions() if action.text() == title]
    return {action.text(): action for action in found.actions()}  # type: ignore[attr-defined]


def test_it_has_the_menu_of_the_document(window: MainWindow) -> None:
    assert "&Train Model..." in menu(window, "&Tools")
    assert "&Predict..." in menu(window, "&Tools")
    assert "&Quit" in menu(window, "&File")


def test_the_runs_are_listed_newest_first_and_followed(qtbot: Any, window: MainWindow, outputs: Path) -> None:
    first = make_run(outputs, "first", status="finished")
    window.look()
    qtbot.waitUntil(lambda: lines(window) == [(first.path.name, "finished")])
    second = make_run(outputs, "second")
    window.list.setCurrentItem(window.list.topLevelItem(0))
    window.look()
    qtbot.waitUntil(lambda: lines(window) == [(second.path.name, "running"), (first.path.name, "finished")])
    assert window.list.currentItem().text(0) == first.path.name  # what was chosen stays chosen
    second.record.update(status="stopped")
    window.look()
    qtbot.waitUntil(lambda: lines(window)[0] == (second.path.name, "stopped"))


def test_a_double_click_watches_a_run_in_one_dialog(qtbot: Any, window: MainWindow, outputs: Path) -> None:
    run = make_run(outputs, status="finished")
    window.look()
    qtbot.waitUntil(lambda: bool(lines(window)))
    window.list.itemActivated.emit(window.list.topLevelItem(0), 0)
    [dialog] = window.dialogs
    assert isinstance(dialog, TrainConfigDialog)
    assert dialog.monitoring.run == run.path
    assert window.watch(run.path) is dialog  # not a second one
    qtbot.waitUntil(lambda: dialog.status.text().endswith("not at work."))
    dialog.close()
    qtbot.waitUntil(lambda: window.dialogs == [])


def test_train_model_opens_the_dialog_for_the_folder_of_runs(qtbot: Any, window: MainWindow, outputs: Path) -> None:
    menu(window, "&Tools")["&Train Model..."].trigger()
    [dialog] = window.dialogs
    assert isinstance(dialog, TrainConfigDialog)
    assert dialog.isVisible()
    assert dialog.model.values["tracking.output_dir"] == str(outputs)


def test_an_experiment_is_opened_from_the_command_line_and_the_menu(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ndata: {folder: x}\n")
    window = open_window(file, tmp_path)
    qtbot.addWidget(window)
    qtbot.waitUntil(lambda: window.dialogs[0].name.text() == "mine")  # type: ignore[attr-defined]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *given: (str(file), ""))
    menu(window, "&File")["&Open experiment..."].trigger()
    qtbot.waitUntil(lambda: window.dialogs[1].name.text() == "mine")  # type: ignore[attr-defined]


def test_another_folder_of_runs_can_be_shown(
    qtbot: Any, window: MainWindow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "other")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *given: str(tmp_path / "other"))
    menu(window, "&File")["Folder of &runs..."].trigger()
    qtbot.waitUntil(lambda: lines(window) == [(run.path.name, "running")])
    assert str(tmp_path / "other") in window.place.text()


def test_what_is_dropped_is_predicted_with_the_newest_model(
    qtbot: Any, window: MainWindow, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_model = make_run(outputs, "first", status="finished")
    with_model.model.mkdir(exist_ok=True)
    (with_model.model / "model.json").write_text("{}")
    make_run(outputs, "second", status="failed")
    monkeypatch.setattr("maskwright.desktop.predict_dialog.PredictDialog", Predict)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "a.png")), QUrl("https://example.org/b.png")])
    drop = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        data,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.dropEvent(drop)
    qtbot.waitUntil(lambda: len(window.dialogs) == 1)
    assert window.dialogs[0].given == (with_model.path, (tmp_path / "a.png",))  # type: ignore[attr-defined]
    assert last_model(RunShelf(tmp_path / "nothing")) is None


def test_predict_opens_its_dialog(
    qtbot: Any, window: MainWindow, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.desktop.predict_dialog.PredictDialog", Predict)
    menu(window, "&Tools")["&Predict..."].trigger()
    qtbot.waitUntil(lambda: len(window.dialogs) == 1)
    assert window.dialogs[0].given == (None, ())  # type: ignore[attr-defined]


def answered(dialog: Any, words: str) -> None:
    [box] = [box for box in dialog.findChildren(QMessageBox) if box.isVisible()]
    next(button for button in box.buttons() if words in button.text()).click()


def test_closing_asks_dialogs_with_a_training_at_work_first(qtbot: Any, window: MainWindow) -> None:
    dialog: Any = window.train()
    gone: list[str] = []
    window.train().destroyed.connect(lambda: gone.append("the other dialog"))
    dialog.thread_at_work = SimpleNamespace(leave=lambda: None)
    assert not window.close()
    assert window.isVisible()
    answered(dialog, "Leave")
    qtbot.waitUntil(lambda: not window.isVisible() and gone == ["the other dialog"])


def test_a_window_that_was_told_to_stay_open_does_not_close_with_its_dialog_later(
    qtbot: Any, window: MainWindow
) -> None:
    dialog: Any = window.train()
    dialog.thread_at_work = SimpleNamespace(leave=lambda: None)
    assert not window.close()
    answered(dialog, "Cancel")
    dialog.thread_at_work = None
    dialog.close()
    qtbot.waitUntil(lambda: window.dialogs == [])
    qtbot.wait(20)
    assert window.isVisible()

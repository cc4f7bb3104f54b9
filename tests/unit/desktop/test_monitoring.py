from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices

from maskwright.desktop.monitoring import MonitoringTab
from maskwright.tracking import ControlFolder, EventLog, History

from ..conftest import make_run
from .off_thread import touched_on_gui_thread


@pytest.fixture
def tab(qtbot: Any) -> MonitoringTab:
    tab = MonitoringTab()
    qtbot.addWidget(tab)
    tab.resize(900, 700)
    tab.show()
    return tab


def _follow(qtbot: Any, tab: MonitoringTab, run: Path) -> None:
    tab.follow(run)
    qtbot.waitUntil(lambda: tab.is_drawn)


def _lines(tab: MonitoringTab) -> list[list[str]]:
    assert tab._plots is not None
    return [[line.name for line in plot.lines] for plot in tab._plots]


def test_without_a_run_it_says_what_to_do(tab: MonitoringTab) -> None:
    assert tab.status.text() == "No training is shown. Start one, or open one from the list of runs."
    assert not tab.open_folder.isEnabled()
    assert not tab.resume.isEnabled()


def test_a_run_at_work_is_shown(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    _follow(qtbot, tab, make_run(outputs).path)
    assert tab.status.text().startswith("running · epoch 3 of 4 · IoU 0.7500")
    assert (tab.total_bar.value(), tab.total_bar.maximum(), tab.total_left.text()) == (500, 1000, "2 min left")
    assert tab.epoch_left.text() == "1 min left"
    assert tab.log.toPlainText() == "INFO one\nWARNING two\nINFO three"
    assert _lines(tab) == [["steps", "training", "validation"], ["IoU"]]
    assert tab.open_folder.isEnabled()
    assert not tab.open_report.isEnabled()


def test_it_follows_the_run(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    _follow(qtbot, tab, run.path)
    EventLog(run.events).write("step", global_step=25, loss=0.3, grad_norm=1.0, lr=0.001)
    with open(run.log, "a") as log:
        log.write("INFO four\n")
    qtbot.waitUntil(lambda: tab.epoch_bar.value() == 500)
    qtbot.waitUntil(lambda: tab.log.toPlainText().endswith("INFO three\nINFO four"))
    History(run.history).append({"epoch": 3, "global_step": 30, "train/loss": 0.3, "val/iou": 0.8})
    qtbot.waitUntil(lambda: "IoU 0.8000 (best 0.8000 in epoch 3)" in tab.status.text())
    assert tab._plots is not None
    assert tab._plots[1].lines[0].y.tolist() == [0.25, 0.75, 0.8]


def test_the_right_plot_shows_what_is_chosen(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    _follow(qtbot, tab, make_run(outputs).path)
    tab.chart_choice.setFocus()
    qtbot.keyClick(tab.chart_choice, Qt.Key.Key_Down)
    assert tab.chart_choice.currentText() == "IoU by part"
    assert _lines(tab)[1] == ["IoU at 5 m", "IoU at 10 m"]


def test_scores_are_shown_once_there_are_any_unless_something_else_was_chosen(
    tab: MonitoringTab, qtbot: Any, outputs: Path
) -> None:
    run = make_run(outputs)
    history = run.history.read_text()
    run.history.unlink()
    _follow(qtbot, tab, run.path)
    assert tab.chart_choice.currentText() == "Learning rate"
    run.history.write_text(history)
    qtbot.waitUntil(lambda: tab.chart_choice.currentText() == "Scores")
    tab.chart_choice.setFocus()
    qtbot.keyClick(tab.chart_choice, Qt.Key.Key_End)
    assert tab.chart_choice.currentText() == "Gradient norm"
    History(run.history).append({"epoch": 3, "val/dice": 0.5})
    qtbot.waitUntil(lambda: tab._view is not None and len(tab._view.charts["Scores"]) == 2)
    assert tab.chart_choice.currentText() == "Gradient norm"


def test_the_newest_sample_is_shown_and_older_ones_on_demand(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    _follow(qtbot, tab, run.path)
    qtbot.waitUntil(lambda: tab.sample.has_picture)
    assert tab.sample_name.text() == "after epoch 2"
    tab.sample_slider.setValue(0)
    assert tab.sample_name.text() == "after epoch 1"
    tab.sample_slider.setValue(1)
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(run.samples / "epoch_0003.png")
    qtbot.waitUntil(lambda: tab.sample_name.text() == "after epoch 3")


def test_a_checkpoint_is_chosen_and_asked_for(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs, status="stopped")
    _follow(qtbot, tab, run.path)
    assert tab.checkpoints.rowCount() == 1
    assert [tab.checkpoints.item(0, column).text() for column in range(4)] == [
        "checkpoint_epoch_0002.pt",
        "best, newest, epoch",
        "2",
        "0.7500",
    ]
    tab.pages.setCurrentIndex(2)
    tab.checkpoints.setFocus()
    tab.checkpoints.selectRow(0)
    assert tab.resume.isEnabled()
    with qtbot.waitSignal(tab.resume_requested) as asked:
        qtbot.keyClick(tab.resume, Qt.Key.Key_Space)
    assert asked.args == [str(run.checkpoints / "checkpoint_epoch_0002.pt")]


def test_a_run_at_work_cannot_be_resumed(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    _follow(qtbot, tab, make_run(outputs).path)
    tab.pages.setCurrentIndex(2)
    tab.checkpoints.selectRow(0)
    assert not tab.resume.isEnabled()


def test_a_run_at_work_is_paused_and_continued(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    _follow(qtbot, tab, run.path)
    control, log = ControlFolder(run.control), EventLog(run.events)
    for asked, word, next_word in (("pause", "paused", "Contin&ue"), ("resume", "running", "Pa&use")):
        tab.pause.click()
        assert not tab.pause.isEnabled()  # until the training has obeyed
        qtbot.waitUntil(lambda: any(run.control.glob("*.json")))
        assert [path.stem.rpartition("_")[2] for path in run.control.glob("*.json")] == [asked]
        control.clear()
        log.write("command", command=asked, global_step=20)
        qtbot.waitUntil(tab.pause.isEnabled)
        assert tab.pause.text() == next_word
        assert tab.status.text().startswith(word)


def test_what_is_not_at_work_cannot_be_paused(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    assert not tab.pause.isEnabled()
    _follow(qtbot, tab, make_run(outputs, status="stopped").path)
    assert not tab.pause.isEnabled()


def test_a_pause_that_cannot_be_asked_for_is_told(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    _follow(qtbot, tab, run.path)
    tab._timer.stop()
    shutil.rmtree(run.control, ignore_errors=True)
    run.control.write_text("a file where the folder should be")
    tab.pause.click()
    qtbot.waitUntil(lambda: str(run.control) in tab.status.text())
    assert tab.pause.isEnabled()


def test_folder_and_report_are_opened(
    tab: MonitoringTab, qtbot: Any, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(outputs, status="finished")
    run.report.write_text("<p>")
    _follow(qtbot, tab, run.path)
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    tab.open_folder.click()
    tab.open_report.click()
    assert opened == [str(run.path), str(run.report)]


def test_another_run_takes_the_place_of_the_first(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    first, second = make_run(outputs), make_run(outputs, "other", status="finished")
    second.log.write_text("INFO other\n")
    tab.follow(first.path)
    _follow(qtbot, tab, second.path)
    assert tab.log.toPlainText() == "INFO other"
    assert tab.status.text().startswith("finished")
    tab.follow(None)
    assert tab.run is None
    assert _lines(tab) == [[], []]
    assert tab.checkpoints.rowCount() == 0


def test_a_run_that_is_deleted_is_said_to_be_gone(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    _follow(qtbot, tab, run.path)
    run.run_json.unlink()
    qtbot.waitUntil(lambda: "is gone" in tab.status.text())
    assert not tab.open_folder.isEnabled()


def test_a_hidden_tab_looks_at_nothing(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    _follow(qtbot, tab, run.path)
    tab.hide()
    qtbot.wait(50)
    assert not tab._timer.isActive()
    tab.show()
    qtbot.waitUntil(tab._timer.isActive)


def test_the_gui_thread_touches_no_disk_and_imports_nothing(qtbot: Any, outputs: Path) -> None:
    run = make_run(outputs)
    with touched_on_gui_thread() as touched:
        tab = MonitoringTab()
        qtbot.addWidget(tab)
        tab.show()
        _follow(qtbot, tab, run.path)
        qtbot.waitUntil(lambda: tab.sample.has_picture)
        tab.sample_slider.setValue(0)
        tab.pages.setCurrentIndex(2)
        tab.checkpoints.selectRow(0)
        tab.grab()
        tab.close()
    assert touched == []


def test_the_keyboard_reaches_everything(tab: MonitoringTab, qtbot: Any, outputs: Path) -> None:
    _follow(qtbot, tab, make_run(outputs, status="stopped").path)
    reached = set()
    widget = tab.nextInFocusChain()
    while widget is not tab and widget is not None:
        if widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            reached.add(widget)
        widget = widget.nextInFocusChain()
    assert {
        tab.chart_choice,
        tab.log,
        tab.sample_slider,
        tab.checkpoints,
        tab.resume,
        tab.pause,
        tab.open_folder,
    } <= reached


def test_the_recorder_notices_the_disk(tmp_path: Path) -> None:
    with touched_on_gui_thread() as touched:
        (tmp_path / "a.txt").exists()
        list(tmp_path.iterdir())
        (tmp_path / "a.txt").write_text("a")
    assert [event for event, _ in touched] == ["os.stat", "os.listdir", "open"]

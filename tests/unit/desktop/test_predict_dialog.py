from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QMessageBox

from maskwright.desktop import inference_thread
from maskwright.desktop.inference_thread import InferenceConfig
from maskwright.desktop.predict_dialog import PredictDialog, free_folder

from .off_thread import touched_on_gui_thread


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    content = {
        "format_version": 1,
        "weights": {"sha256": "abc"},
        "task": {"kind": "binary"},
        "input": "image",
        "classes": ["crack"],
        "heights_m": [],
        "probability_threshold": 0.4,
        "prediction": {},
    }
    (folder / "model.json").write_text(json.dumps(content))
    return tmp_path / "run"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.full((20, 30, 3), 120, np.uint8)).save(path)
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[InferenceConfig]:
    """A prediction that finds a crack in the right half of the first input and fails at the second."""
    levels = np.zeros((20, 30), np.uint8)
    levels[:, 15:] = 128
    Image.fromarray(levels).save(tmp_path / "p.png")
    configs: list[InferenceConfig] = []

    def command(config: InferenceConfig) -> list[str]:
        configs.append(config)
        shared = {"kind": "result", "notes": [], "heights_m": [], "per_class": [{"class": "crack"}]}
        good = {**shared, "files": {"probability crack": str(tmp_path / "p.png")}, "error": ""}
        bad = {**shared, "files": {}, "error": "b.png is damaged."}
        rows = [{**good, "input": str(config.inputs[0])}, {**bad, "input": str(tmp_path / "b.png")}]
        lines = [json.dumps(row) for row in (*rows, {"kind": "end", "inputs": 2, "failed": 1})]
        return [sys.executable, "-c", f"print({chr(10).join(lines)!r})"]

    monkeypatch.setattr(inference_thread, "command_of", command)
    return configs


def _dialog(qtbot: Any, *arguments: Any) -> PredictDialog:
    dialog = PredictDialog(*arguments)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def _until_done(qtbot: Any, dialog: PredictDialog) -> None:
    qtbot.waitUntil(lambda: not dialog.is_busy and dialog.thumbnails.count() == 2)


def _drop(dialog: PredictDialog, path: Path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    action, button, key = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPointF(5, 5), action, data, button, key)
    dialog.dragEnterEvent(enter)
    assert enter.isAccepted()
    dialog.dropEvent(QDropEvent(QPointF(5, 5), action, data, button, key))


def test_with_a_model_and_inputs_it_begins_at_once(
    qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]
) -> None:
    dialog = _dialog(qtbot, model, [photograph])
    _until_done(qtbot, dialog)
    (config,) = asked
    assert (config.model, config.inputs) == (model, (photograph,))
    assert config.out == photograph.parent / "a_predicted"
    assert dialog.status.text() == f"1 predicted into {config.out}. 1 failed: choose one to read why."
    assert dialog.open_button.isEnabled()
    assert dialog.form.isEnabled()


def test_the_overlay_is_shown_and_the_slider_cuts_it(
    qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]
) -> None:
    dialog = _dialog(qtbot, model, [photograph])
    _until_done(qtbot, dialog)
    qtbot.waitUntil(dialog.picture.slider.isEnabled)
    assert dialog.picture.threshold == 0.4  # the model's own
    assert dialog.form.rows["probability_threshold"].editor.value() is None
    assert dialog.picture.layer_at("crack", 20, 5)
    assert not dialog.picture.layer_at("crack", 5, 5)
    dialog.picture.slider.setValue(60)  # above the 0.5 that was found
    assert not dialog.picture.layer_at("crack", 20, 5)
    assert dialog.form.rows["probability_threshold"].editor.value() == 0.6
    dialog.start()  # the files are written anew with it
    qtbot.waitUntil(lambda: len(asked) == 2)
    assert asked[1].settings["probability_threshold"] == 0.6
    _until_done(qtbot, dialog)


def test_a_file_that_failed_says_why(qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]) -> None:
    dialog = _dialog(qtbot, model, [photograph])
    _until_done(qtbot, dialog)
    dialog.thumbnails.setFocus()
    dialog.thumbnails.setCurrentRow(1)
    assert dialog.fault.isVisible()
    assert dialog.fault.text() == "b.png is damaged."
    assert dialog.thumbnails.item(1).toolTip() == "b.png is damaged."
    dialog.thumbnails.setCurrentRow(0)
    qtbot.waitUntil(lambda: not dialog.fault.isVisible())


def test_a_folder_dropped_on_it_is_predicted_with_the_chosen_model(
    qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]
) -> None:
    dialog = _dialog(qtbot, model)
    _drop(dialog, photograph.parent)
    _until_done(qtbot, dialog)
    assert asked[0].inputs == (photograph.parent,)
    assert asked[0].out == photograph.parent.parent / "photos_predicted"


def test_without_a_model_a_drop_asks_for_one(
    qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]
) -> None:
    assert _dialog(qtbot, None, [photograph]).form.model_message.text().startswith("Choose the folder of a run")
    dialog = _dialog(qtbot)
    assert dialog.form.model_message.text() == ""
    _drop(dialog, photograph)
    assert dialog.form.model_message.text().startswith("Choose the folder of a run")
    qtbot.waitUntil(lambda: bool(dialog.form.out_line.text()))
    dialog.start()
    assert asked == []
    assert dialog.form.model_message.text().startswith("Choose the folder of a run")


def test_a_model_that_cannot_be_used_is_said_before_anything_starts(
    qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]
) -> None:
    path = model / "model" / "model.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 9'))
    dialog = _dialog(qtbot, model, [photograph])
    qtbot.waitUntil(lambda: bool(dialog.form.model_message.text()))
    assert "written by a newer Maskwright" in dialog.form.model_message.text()
    qtbot.wait(50)
    assert asked == []


def test_why_nothing_could_be_done_is_shown(
    qtbot: Any, model: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps({"kind": "failed", "message": "/out: permission denied. Choose another folder."})
    monkeypatch.setattr(
        inference_thread, "command_of", lambda config: [sys.executable, "-c", f"print({line!r}); raise SystemExit(2)"]
    )
    dialog = _dialog(qtbot, model, [photograph])
    qtbot.waitUntil(dialog.fault.isVisible)
    assert dialog.fault.text() == "/out: permission denied. Choose another folder."
    assert dialog.status.text() == "Nothing was predicted."
    qtbot.waitUntil(lambda: not dialog.is_busy)


def test_closing_while_it_works_asks_then_stops_without_waiting(
    qtbot: Any, model: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        inference_thread, "command_of", lambda config: [sys.executable, "-c", "import time; time.sleep(3600)"]
    )
    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    dialog = _dialog(qtbot, model, [photograph])
    qtbot.waitUntil(lambda: dialog.is_busy)
    with qtbot.waitSignal(dialog.stays_open):
        qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert dialog.isVisible()
    assert dialog.is_busy
    dialog.close()
    assert answers == []
    assert dialog.isVisible()  # until the process has ended
    qtbot.waitUntil(lambda: not dialog.isVisible())
    assert not dialog.is_busy


def test_a_stop_is_told_as_what_it_is(
    qtbot: Any, model: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        inference_thread, "command_of", lambda config: [sys.executable, "-c", "import time; time.sleep(3600)"]
    )
    dialog = _dialog(qtbot, model, [photograph])
    assert not dialog.bar.isVisible()
    qtbot.waitUntil(lambda: dialog.is_busy)
    assert dialog.bar.isVisible()
    qtbot.mouseClick(dialog.stop_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not dialog.is_busy)
    assert dialog.status.text().startswith("Stopped before the first one was complete.")
    assert not dialog.bar.isVisible()  # no bar at 0 % of what is over
    assert dialog.start_button.isEnabled()


def test_a_free_folder_is_proposed(tmp_path: Path) -> None:
    photos = tmp_path / "photos.2026"
    photos.mkdir()
    assert free_folder(photos) == tmp_path / "photos.2026_predicted"
    (tmp_path / "photos.2026_predicted").mkdir()
    assert free_folder(photos) == tmp_path / "photos.2026_predicted_2"
    (photos / "a.tif").write_bytes(b"")
    assert free_folder(photos / "a.tif") == photos / "a_predicted"


def test_the_gui_thread_touches_no_disk_and_imports_nothing(
    qtbot: Any, model: Path, photograph: Path, asked: list[InferenceConfig]
) -> None:
    with touched_on_gui_thread() as touched:
        dialog = _dialog(qtbot, model, [photograph])
        _until_done(qtbot, dialog)
        qtbot.waitUntil(dialog.picture.slider.isEnabled)
        dialog.picture.slider.setValue(70)
        dialog.thumbnails.setCurrentRow(1)
        dialog.grab()
        dialog.close()
    assert touched == []

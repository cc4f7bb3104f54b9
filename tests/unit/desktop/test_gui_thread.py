"""The structure behind a window that never stands still: what is slow is done in other threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from maskwright.desktop.train_dialog import TrainConfigDialog
from maskwright.desktop.window import MainWindow

from ..conftest import make_run
from .off_thread import touched_on_gui_thread


def test_the_recorder_sees_what_this_thread_does_and_nothing_of_others(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with touched_on_gui_thread() as touched:
        elsewhere = threading.Thread(target=file.touch)
        elsewhere.start()
        elsewhere.join()
        assert touched == []
        file.read_text()
    assert touched == [("open", str(file))]


def test_a_dialog_touches_disk_run_folders_and_imports_in_other_threads_only(
    qtbot: Any, outputs: Path, tmp_path: Path
) -> None:
    over, alive = make_run(outputs, "over", status="finished"), make_run(outputs, "alive")
    paths = {"images_dir": str(tmp_path), "masks_dir": str(tmp_path), "checkpoint_dir": str(outputs)}
    with touched_on_gui_thread() as touched:
        dialog = TrainConfigDialog({"encoder_weights": None}, paths)
        qtbot.addWidget(dialog)
        dialog.show()
        for place in range(dialog.tabs.count()):
            dialog.tabs.setCurrentIndex(place)
            qtbot.wait(10)
        qtbot.waitUntil(lambda: dialog.base.count() > 2)  # the presets are read
        dialog.model.change({"training.epochs": 0})
        qtbot.waitUntil(lambda: dialog.model.verdict is not None)
        for form in dialog.forms.values():
            form.advanced.open()
            for box in form.boxes.values():
                box.open(at_once=True)
        dialog.load(str(over.config))
        qtbot.waitUntil(lambda: dialog.model.source == str(over.config))
        dialog.save(tmp_path / "mine.yaml")
        qtbot.waitUntil(lambda: dialog.status.text().startswith("Saved"))
        dialog.watch(alive.path)
        qtbot.waitUntil(lambda: dialog.thread_at_work is not None)
        qtbot.waitUntil(lambda: dialog.monitoring.is_drawn)
        dialog.stop()
        threading.Thread(target=alive.record.update, kwargs={"status": "stopped"}).start()
        qtbot.waitUntil(lambda: dialog.thread_at_work is None)
        assert dialog.close()
    assert touched == []
    assert (tmp_path / "mine.yaml").is_file()


def test_a_window_lists_runs_and_opens_dialogs_without_touching_the_disk_here(qtbot: Any, outputs: Path) -> None:
    make_run(outputs)
    with touched_on_gui_thread() as touched:
        window = MainWindow(outputs)
        qtbot.addWidget(window)
        window.show()
        qtbot.waitUntil(lambda: window.list.topLevelItemCount() == 1)
        window.predict(())
        qtbot.waitUntil(lambda: len(window.dialogs) == 1)
        window.train()
        window.look()
        qtbot.wait(20)
    assert touched == []


def test_the_window_brings_no_torch() -> None:
    command = "import sys; import maskwright.desktop.app; print('torch' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

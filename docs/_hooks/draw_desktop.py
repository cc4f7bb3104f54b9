"""Draw the pictures of docs/how-to/desktop*.md: the windows themselves, with a small model that learns to see cracks.

Run: ``OMP_NUM_THREADS=1 .venv/bin/python docs/_hooks/draw_desktop.py`` (some minutes of two cores). Everything lies in
a folder of its own; paths in the windows are shown from there on, so that no picture tells where it was drawn.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from PySide6.QtCore import QEventLoop
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QPlainTextEdit, QWidget

from maskwright.config import load_experiment
from maskwright.data.synthetic_images import write_pictures
from maskwright.desktop import MainWindow, PredictDialog, TrainConfigDialog
from maskwright.desktop.immortal import keep_alive

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "desktop"
GIVE_UP_S = 1200.0
SCREEN = {
    "name": "drawn",
    "x": 0,
    "y": 0,
    "width": 1920,
    "height": 1080,
    "logicalDpi": 96,
    "logicalBaseDpi": 96,
    "dpr": 1,
}
WATCHED, STOPPED = 16, 20  # epochs after which pictures are taken and the training is stopped
EXPERIMENT = {
    "name": "cracks",
    "task": {"kind": "binary"},
    "data": {
        "kind": "images",
        "folder": "parts",
        "tiles": {"size_px": 96},
        "loader": {"batch_size": 4, "workers": 0},
    },
    "model": {"kind": "unet", "base_channels": 8, "depth": 3},
    "optim": {"optimizer": {"lr": 1e-2}},
    "training": {"epochs": 30, "device": "cpu", "threads": 2},
    "metrics": {"bootstrap": 100},
    "tracking": {"output_dir": "outputs", "log_every_steps": 1, "tensorboard": False},
}


def until(is_so: Callable[[], bool], pause_ms: int = 0) -> None:
    """Let the windows work until something is so, and then for a moment more."""
    end_s = time.monotonic() + GIVE_UP_S
    while not is_so():
        if time.monotonic() > end_s:
            raise SystemExit(f"Nothing more happened within {GIVE_UP_S:g} s.")
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents, 20)
    end_s = time.monotonic() + pause_ms / 1000
    while time.monotonic() < end_s:
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents, 20)


def draw(window: QWidget, name: str, folder: Path) -> None:
    """Write the picture of a window, with paths below the folder it is drawn in shown from there on."""
    for part in (*window.findChildren(QLabel), *window.findChildren(QLineEdit)):
        if str(folder) in part.text():
            part.setText(part.text().replace(f"{folder}/", ""))
    for log in window.findChildren(QPlainTextEdit):
        log.setPlainText(log.toPlainText().replace(f"{folder}/", ""))
        log.verticalScrollBar().setValue(log.verticalScrollBar().maximum())
    path = ASSETS / f"{name}.png"
    window.grab().save(str(path))
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path.name, path.stat().st_size // 1024, "KB", flush=True)


def dark() -> QPalette:
    """The colours of a dark desktop."""
    palette, role = QPalette(), QPalette.ColorRole
    for place, color in (
        (role.Window, "#2b2b2b"),
        (role.Base, "#1e1e1e"),
        (role.AlternateBase, "#262626"),
        (role.Button, "#353535"),
        (role.ToolTipBase, "#353535"),
        (role.Highlight, "#2a82da"),
    ):
        palette.setColor(place, QColor(color))
    for place in (role.WindowText, role.Text, role.ButtonText, role.ToolTipText, role.HighlightedText):
        palette.setColor(place, QColor("#e6e6e6"))
    palette.setColor(role.PlaceholderText, QColor("#9a9a9a"))
    for place in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, place, QColor("#7f7f7f"))
    return palette


def draw_forms(folder: Path) -> None:
    """The three tabs of settings, as they open; one of them dark as well."""
    dialog = TrainConfigDialog({"encoder_weights": None})
    places = {"data.split.files": "parts", "data.split.by": "files", "data.images": "parts/images"}
    dialog.model.change({**places, "data.labels.folder": "parts/masks", "tracking.output_dir": "outputs"})
    dialog.show()
    until(lambda: dialog.model.verdict is not None and dialog.base.count() > 2)
    for place, name in enumerate(("model", "training", "data")):
        dialog.tabs.setCurrentIndex(place)
        until(lambda: True, 200)
        draw(dialog, f"train_{name}", folder)
    QApplication.setPalette(dark())
    until(lambda: True, 200)
    draw(dialog, "train_data_dark", folder)
    QApplication.setPalette(LIGHT)
    dialog.close()


def draw_training(folder: Path) -> Path:
    """A training that is watched and stopped; its run folder."""
    dialog = TrainConfigDialog(load_experiment([], EXPERIMENT))
    ends: list[str] = []
    epochs: list[int] = []
    dialog.training_completed.connect(lambda outcome: ends.append(outcome["status"]))
    dialog.training_failed.connect(ends.append)
    dialog.show()
    dialog.start()
    until(lambda: dialog.thread_at_work is not None)
    dialog.thread_at_work.epoch_completed.connect(lambda epoch, *scores: epochs.append(epoch))
    until(lambda: bool(ends) or len(epochs) >= WATCHED, 1000)
    tab = dialog.monitoring
    if ends or tab.run is None:
        raise SystemExit(f"The training ended too early: {ends}")
    draw(dialog, "monitoring", folder)
    QApplication.setPalette(dark())
    until(lambda: True, 300)
    draw(dialog, "monitoring_dark", folder)
    QApplication.setPalette(LIGHT)
    draw_list(folder)
    until(lambda: bool(ends) or len(epochs) >= STOPPED)
    dialog.stop()
    until(lambda: bool(ends) and not tab.pause.isEnabled(), 1000)
    for page, name in ((1, "samples"), (2, "checkpoints")):
        tab.pages.setCurrentIndex(page)
        tab.checkpoints.selectRow(0)
        until(lambda: tab.sample.has_picture, 500)
        draw(dialog, name, folder)
    run = tab.run
    dialog.close()
    return run


def draw_list(folder: Path) -> None:
    """The main window beside a training at work."""
    window = MainWindow("outputs")
    window.show()
    until(lambda: window.list.topLevelItemCount() > 0)
    window.list.setCurrentItem(window.list.topLevelItem(0))
    until(lambda: True, 300)
    draw(window, "window", folder)
    window.close()


def draw_prediction(run: Path, folder: Path) -> None:
    """A folder of photographs, one of which is damaged."""
    write_pictures("walls", "cracks", 5, size_px=192, seed=100, difficulty="easy")
    Path("photos").mkdir()
    for number, path in enumerate(sorted(Path("walls/images").iterdir())):
        path.rename(f"photos/wall_{number:02d}.png")
    Path("photos/wall_03b.png").write_bytes(b"not a picture")
    dialog = PredictDialog(run, [Path("photos")])
    dialog.show()
    until(lambda: dialog.is_busy)
    until(lambda: not dialog.is_busy)
    dialog.thumbnails.setCurrentRow(1)
    until(lambda: dialog.picture.slider.isEnabled(), 1500)
    draw(dialog, "predict", folder)
    dialog.close()


def without_screen() -> QApplication:
    """An application on a screen of our own, large enough for windows to open as large as they like."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"screens": [SCREEN]}, file)
        file.flush()
        os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={file.name}"
        return QApplication(["maskwright"])


def main() -> None:
    """Make everything in a folder that is gone afterwards."""
    ASSETS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        write_pictures("parts", "cracks", 24, size_px=96, difficulty="easy")
        names = sorted(path.name for path in Path("parts/images").iterdir())
        for part, some in (("train", names[:18]), ("val", names[18:21]), ("test", names[21:])):
            Path(f"parts/{part}.txt").write_text("\n".join(some) + "\n")
        draw_forms(folder)
        run = draw_training(folder)
        draw_prediction(run, folder)
        os.chdir("/")


if __name__ == "__main__":
    keep_alive()
    application = without_screen()
    application.setQuitOnLastWindowClosed(False)
    application.setStyle("Fusion")
    LIGHT = application.palette()
    main()

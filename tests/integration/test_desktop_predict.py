"""The window of predictions with a real model, through the real command in a process of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent

from maskwright.checkpoints import save_model
from maskwright.config.model import FilmUNetConfig, UNetConfig
from maskwright.data.band_normalise import BandNormaliser
from maskwright.data.normalise import MetresNormaliser
from maskwright.data.sources.image_file import ImageFormat
from maskwright.desktop.inference_thread import InferenceConfig, command_of
from maskwright.desktop.predict_dialog import PredictDialog
from maskwright.models import build_model
from maskwright.tasks.binary import Binary
from maskwright.tasks.height_gaps import HeightGaps

LONG_MS = 900_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was never trained: what it answers does not matter, where it ends up does."""
    torch.manual_seed(0)
    section = UNetConfig(base_channels=4, depth=2)
    folder = tmp_path_factory.mktemp("run")
    description = {
        "task": Binary(["crack"]).to_dict(),
        "model": section.model_dump(mode="json"),
        "in_channels": 3,
        "batch_size": 8,
        "input": "image",
        "image": ImageFormat().to_dict(),
        "normaliser": BandNormaliser("unit", (0.0,) * 3, (255.0,) * 3, False).to_dict(),
        "classes": ["crack"],
        "heights_m": [],
        "pixel_size_m": None,
        "tile_px": 32,
        "probability_threshold": 0.5,
        "prediction": {},
    }
    save_model(folder / "model", build_model(section, in_channels=3, num_classes=1, batch_size=8), description)
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two photographs, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    (folder / "b.png").write_text("no picture")
    return folder


def _dropped(qtbot: Any, model: Path, path: Path) -> PredictDialog:
    """The window, with the model of the last run, after something was dropped on it and predicted."""
    dialog = PredictDialog(model)
    qtbot.addWidget(dialog)
    dialog.show()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    action, button, key = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    dialog.dropEvent(QDropEvent(QPointF(5, 5), action, data, button, key))
    qtbot.waitUntil(lambda: dialog.is_busy, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not dialog.is_busy, timeout=LONG_MS)
    return dialog


def test_a_folder_dropped_on_the_window_is_predicted_file_by_file(qtbot: Any, model: Path, photographs: Path) -> None:
    dialog = _dropped(qtbot, model, photographs)
    out = photographs.parent / "photos_predicted"
    assert dialog.status.text() == f"2 predicted into {out}. 1 failed: choose one to read why."
    assert [dialog.thumbnails.item(place).text() for place in range(3)] == ["a.png", "b.png", "c.png"]
    assert {"a_mask.png", "a_crack_probability.png", "c_mask.png", "summary.csv"} <= {p.name for p in out.iterdir()}
    qtbot.waitUntil(dialog.picture.slider.isEnabled, timeout=LONG_MS)
    mask = np.asarray(Image.open(out / "a_mask.png")) > 0
    probs = np.asarray(Image.open(out / "a_crack_probability.png")) / 255
    for threshold in (0.5, 0.45, 0.55):
        dialog.picture.set_threshold(threshold)
        for row, col in ((0, 0), (20, 25), (39, 49), (7, 31)):
            if abs(probs[row, col] - threshold) > 0.01:  # 8 bits
                assert dialog.picture.layer_at("crack", col, row) == (probs[row, col] > threshold)
    assert np.array_equal(mask[np.abs(probs - 0.5) > 0.01], (probs > 0.5)[np.abs(probs - 0.5) > 0.01])
    dialog.thumbnails.setCurrentRow(1)
    assert "b.png" in dialog.fault.text()


@pytest.mark.slow
def test_a_file_dropped_on_the_window_shows_its_overlay(qtbot: Any, model: Path, photographs: Path) -> None:
    dialog = _dropped(qtbot, model, photographs / "a.png")
    assert (photographs / "a_predicted" / "a_overlay.png").is_file()
    qtbot.waitUntil(dialog.picture.slider.isEnabled, timeout=LONG_MS)
    assert dialog.picture.view.has_picture
    qtbot.waitUntil(lambda: not dialog.thumbnails.item(0).icon().isNull(), timeout=LONG_MS)

    dialog.start()  # into the same folder: refused, in the words of the window
    qtbot.waitUntil(lambda: not dialog.is_busy, timeout=LONG_MS)
    assert "would be replaced. Name another folder, or tick Replace files of an" in dialog.fault.text()


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_to_is_said_in_a_sentence(
    qtbot: Any, model: Path, photographs: Path, tmp_path: Path
) -> None:
    dialog = PredictDialog(model)
    qtbot.addWidget(dialog)
    dialog.form.set_inputs([photographs / "a.png"])
    (tmp_path / "taken").write_text("a file where the folder should be")
    qtbot.keyClicks(dialog.form.out_line, str(tmp_path / "taken"))
    dialog.start()
    qtbot.waitUntil(lambda: not dialog.is_busy, timeout=LONG_MS)
    assert dialog.status.text() == "Nothing was predicted."
    assert "taken" in dialog.fault.text()
    assert "Traceback" not in dialog.fault.text()


@pytest.mark.slow
def test_gaps_at_the_heights_that_were_written_are_shown_on_the_relief(qtbot: Any, tmp_path: Path) -> None:
    torch.manual_seed(1)
    section = FilmUNetConfig(base_channels=4, depth=2)
    task = HeightGaps((2.0, 5.0, 10.0))
    description = {
        "task": task.to_dict(),
        "model": section.model_dump(mode="json"),
        "in_channels": 1,
        "batch_size": 8,
        "input": "chm",
        "normaliser": MetresNormaliser().to_dict(),
        "trained_range_m": [2.0, 10.0],
        "prediction": {},
        "nodata": {},
        "pixel_size_m": [0.5, 0.5],
        "tile_px": 48,
    }
    save_model(tmp_path / "model", task.build_model(section, 1), description)
    heights = np.random.default_rng(0).uniform(0, 25, (1, 70, 90)).astype(np.float32)
    profile = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)}
    with rasterio.open(
        tmp_path / "north.tif", "w", driver="GTiff", height=70, width=90, count=1, dtype="float32", **profile
    ) as file:
        file.write(heights)

    dialog = PredictDialog(tmp_path / "model")
    qtbot.addWidget(dialog)
    dialog.show()
    qtbot.waitUntil(lambda: dialog.form.rows["heights_m"].editor.isVisible(), timeout=LONG_MS)
    qtbot.keyClicks(dialog.form.rows["heights_m"].editor.focusProxy(), "4, 8")
    dialog.form.set_inputs([tmp_path / "north.tif"])
    qtbot.waitUntil(lambda: bool(dialog.form.out_line.text()), timeout=LONG_MS)
    dialog.start()
    qtbot.waitUntil(lambda: not dialog.is_busy, timeout=LONG_MS)
    assert dialog.fault.text() == ""
    qtbot.waitUntil(dialog.picture.slider.isEnabled, timeout=LONG_MS)
    with rasterio.open(tmp_path / "north_predicted" / "north_probability.tif") as file:
        probs = file.read()
    for band, name in enumerate(("below 4 m", "below 8 m")):
        middle = float(np.median(probs[band]))
        dialog.picture.set_threshold(middle)
        cut = dialog.picture.threshold
        for row, col in ((3, 4), (35, 45), (69, 89), (50, 10), (20, 70)):
            if abs(probs[band, row, col] - cut) > 0.01:
                assert dialog.picture.layer_at(name, col, row) == (probs[band, row, col] > cut)


@pytest.mark.slow
def test_a_prediction_whose_window_was_killed_ends_by_itself(model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(200):
        Image.new("RGB", (50, 40)).save(tmp_path / "photos" / f"{number:03d}.png")
    config = InferenceConfig(model, [tmp_path / "photos"], tmp_path / "out")
    process = subprocess.Popen(command_of(config), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    while b'"result"' not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()  # as the death of the other side does
    assert process.wait() != 0
    assert len(list((tmp_path / "out").glob("*_mask.png"))) < 200

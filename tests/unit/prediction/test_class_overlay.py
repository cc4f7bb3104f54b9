"""Pictures of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.errors import PredictionError
from maskwright.prediction.class_overlay import Sampler, draw_overlay, save_binary, save_palette, save_probability


def test_every_nth_row_and_column_is_kept_however_rows_arrive() -> None:
    values = np.arange(7 * 10).reshape(7, 10)
    for step in (1, 2, 3, 7):
        sampler = Sampler(7, 10, limit_px=4)
        for row in range(0, 7, step):
            sampler.add(row, values[row : row + step])
        assert sampler.factor == 3
        assert np.array_equal(sampler.result(), values[::3, ::3])


def test_masks_are_black_and_white_and_what_is_not_valid_is_black(tmp_path: Path) -> None:
    save_binary(tmp_path / "a.png", np.array([[0, 1, 255]], np.uint8))
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 255, 0]]


def test_a_palette_keeps_the_ids(tmp_path: Path) -> None:
    save_palette(tmp_path / "a.png", np.array([[0, 1, 255]], np.uint8), [(0, 0, 0), (9, 8, 7)])
    image = Image.open(tmp_path / "a.png")
    assert np.asarray(image).tolist() == [[0, 1, 255]]
    assert np.asarray(image.convert("RGB"))[0].tolist() == [[0, 0, 0], [9, 8, 7], [200, 200, 200]]


def test_probabilities_are_eight_bits_or_floats_by_the_ending(tmp_path: Path) -> None:
    plane = np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    save_probability(tmp_path / "a.png", plane)
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 128, 255, 0]]
    save_probability(tmp_path / "a.tif", plane)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.tif")), plane, equal_nan=True)


def test_the_overlay_has_a_legend_below_and_a_full_folder_is_told(tmp_path: Path) -> None:
    rgb = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:20] = True
    draw_overlay(tmp_path / "a.png", rgb, [("rust: 4 %", mask, (255, 0, 0))])
    drawn = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert drawn.shape[0] > 40
    assert drawn[15, 15, 0] > 100 > drawn[15, 15, 1]
    assert drawn[30, 50].tolist() == [100, 100, 100]
    with pytest.raises(PredictionError):
        draw_overlay(tmp_path / "no/a.png", rgb, [])

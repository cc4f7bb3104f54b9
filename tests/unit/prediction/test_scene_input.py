from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from maskwright.data.normalise import MetresNormaliser, PerTileNormaliser
from maskwright.errors import DataError
from maskwright.prediction.scene_input import SceneInput
from maskwright.types import Window


def _heights(seed: int = 0) -> np.ndarray:
    heights = np.random.default_rng(seed).normal(200, 8, (70, 50)).astype(np.float32)
    heights[20:25] = np.nan
    return heights


def _reader(heights: np.ndarray) -> Callable[[Window], np.ndarray]:
    return lambda window: heights[window.row : window.row_stop].copy()


@pytest.mark.parametrize("step", [1, 16, 33])
def test_rows_are_the_same_bit_for_bit_however_they_are_asked(step: int) -> None:
    scene = SceneInput(["dsm"], [_reader(_heights())], 70, 50, MetresNormaliser(reference_cell_m=12.0), 1.0)
    whole, valid = scene.rows(0, 70)
    parts = [scene.rows(row, min(row + step, 70)) for row in range(0, 70, step)]
    np.testing.assert_array_equal(np.concatenate([values for values, _ in parts], axis=1), whole)
    np.testing.assert_array_equal(np.concatenate([valid for _, valid in parts]), valid)


def test_the_reference_cell_is_as_large_on_the_ground_whatever_the_pixel() -> None:
    coarse = np.full((40, 40), 100.0, np.float32)
    coarse[:, 20:] = 130.0
    for pixel_size_m in (1.0, 2.0):  # cells of 20 m: 20 or 10 pixels; the step lies on a border between cells
        scene = SceneInput(["dsm"], [_reader(coarse)], 40, 40, MetresNormaliser(reference_cell_m=20.0), pixel_size_m)
        values, _ = scene.rows(0, 1)
        assert values[0, 0, 0] == 0.0
        half_cell = round(10 / pixel_size_m)
        assert values[0, 0, 20 - half_cell - 1] == 0.0
        assert values[0, 0, 20 + half_cell + 1] == 0.0
        assert abs(values[0, 0, 19]) > 0.3  # half of 30 m, divided by 30


def test_a_canopy_has_the_reference_zero() -> None:
    scene = SceneInput(["chm"], [_reader(_heights())], 70, 50, MetresNormaliser(scale_m=10.0), 1.0)
    values, valid = scene.rows(30, 31)
    np.testing.assert_array_equal(values[0, 0], _heights()[30] / np.float32(10.0))
    assert valid.all()


def test_a_pixel_counts_where_every_band_was_measured() -> None:
    canopy = _heights(1)
    canopy[40, 7] = np.nan
    scene = SceneInput(["dsm", "chm"], [_reader(_heights()), _reader(canopy)], 70, 50, MetresNormaliser(), 1.0)
    values, valid = scene.rows(0, 70)
    assert values.shape == (2, 70, 50)
    assert not valid[20:25].any()
    assert not valid[40, 7]
    assert valid.sum() == 65 * 50 - 1
    assert (values[:, ~valid] == 0).all()


def test_what_depends_on_the_window_is_left_to_the_window() -> None:
    scene = SceneInput(["dsm"], [_reader(_heights())], 70, 50, PerTileNormaliser(), 1.0)
    values, valid = scene.rows(0, 30)
    image = scene.window(values[:, :, :10], valid[:, :10])
    measured = _heights()[:30, :10][valid[:, :10]]
    assert image[0][valid[:, :10]].min() == 0.0
    assert image[0][valid[:, :10]].max() == 1.0
    assert (image[0][~valid[:, :10]] == 0).all()
    np.testing.assert_array_equal(values[0, :, :10][valid[:, :10]], measured)


def test_a_surface_without_a_measured_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="No pixel was measured"):
        SceneInput(["dsm"], [_reader(np.full((9, 9), np.nan, np.float32))], 9, 9, MetresNormaliser(), 1.0)

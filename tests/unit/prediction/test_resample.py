from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.sources.interface import Grid
from maskwright.prediction.raster_stream import Band
from maskwright.prediction.resample import ScaledImage, plan_rescale, restored, scale_axis, scaled_heights
from maskwright.types import Window


def _grid(height: int, width: int, side: float = 1.0) -> Grid:
    return Grid(height, width, (side, 0.0, 500.0, 0.0, -side, 900.0), None)


def _reader(values: np.ndarray):
    def read(window: Window) -> np.ndarray:
        return values[window.row : window.row_stop, window.col : window.col_stop]

    return read


def test_larger_pixels_are_means_of_the_area_they_cover() -> None:
    axis = scale_axis(5, 2, 2.5)
    values = np.array([[1.0, 2.0, 4.0, 8.0, 16.0]], np.float32)
    expected = [[(1 + 2 + 4 / 2) / 2.5, (4 / 2 + 8 + 16) / 2.5]]
    np.testing.assert_allclose(axis.apply(values, 1), expected, rtol=1e-6)


def test_smaller_pixels_are_read_off_the_line_between_centres() -> None:
    values = np.array([[0.0, 10.0]], np.float32)
    np.testing.assert_allclose(scale_axis(2, 4, 0.5).apply(values, 1), [[0, 2.5, 7.5, 10]])


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.77, 1.0, 1.5, 2.0, 3.7, 10.0])
def test_a_slope_stays_where_it_is(scale: float) -> None:
    length, count = 60, int(np.ceil(60 / scale))
    slope = np.arange(length, dtype=np.float32) + 0.5  # the position of each centre
    new = scale_axis(length, count, scale).apply(slope, 0)
    centres = (np.arange(count) + 0.5) * scale
    inside = (centres > max(scale, 1) / 2) & (centres < length - max(scale, 1))
    np.testing.assert_allclose(new[inside], centres[inside], atol=0.13)  # of a pixel


def test_the_new_pixels_begin_at_the_same_corner_and_cover_everything() -> None:
    scale = plan_rescale(_grid(10, 7, 0.4), 1.0)
    assert (scale.grid.height, scale.grid.width) == (4, 3)
    assert scale.grid.transform == pytest.approx((1.0, 0, 500, 0, -1.0, 900))
    assert [len(axis.index) for axis in (*scale.there, *scale.back)] == [4, 3, 10, 7]


def test_nothing_bleeds_out_of_nodata() -> None:
    heights = np.full((8, 8), 3.0, np.float32)
    heights[:, 5:] = np.nan
    scale = plan_rescale(_grid(8, 8), 2.0)
    seen = scaled_heights(_reader(heights), scale)(Window(0, 0, 4, 4))
    np.testing.assert_array_equal(seen[:, :3], 3.0)  # the third is half measured
    assert np.isnan(seen[:, 3]).all()
    around = scaled_heights(_reader(heights), scale)(Window(-1, -1, 3, 3))
    assert np.isnan(around[0]).all()
    assert np.isnan(around[:, 0]).all()
    assert (around[1:, 1:] == 3.0).all()


def test_an_image_keeps_its_type() -> None:
    class Reader:
        band_names, dtype = ("red",), "uint8"

        def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
            values = np.array([[[10, 13], [10, 13]]], np.uint8)
            return values, np.ones((2, 2), bool)

    image = ScaledImage(Reader(), plan_rescale(_grid(2, 2), 2.0))
    values, valid = image.read(Window(0, 0, 1, 1))
    assert (values.dtype, values.tolist(), valid.tolist()) == (np.uint8, [[[12]]], [[True]])


@pytest.mark.parametrize("size_m", [0.45, 0.8, 1.6, 3.0])
@pytest.mark.parametrize("first_row", [0, 1, 17, 39])
def test_what_is_brought_back_is_the_same_in_any_portions(size_m: float, first_row: int) -> None:
    grid = _grid(40, 30)
    scale = plan_rescale(grid, size_m)
    height, width = scale.grid.height, scale.grid.width
    probs = np.random.default_rng(0).random((2, height, width), dtype=np.float32)
    asked: list[int] = []

    def valid_rows(start: int, stop: int) -> np.ndarray:
        asked.extend(range(start, stop))
        return np.ones((stop - start, grid.width), bool)

    def bands(step: int, start: int = 0):
        for row in range(start, height, step):
            part = probs[:, row : row + step]
            yield Band(row, part, np.ones(part.shape[1:], bool))

    whole = np.concatenate([band.probs for band in restored(bands(height), scale, valid_rows)], axis=1)
    expected = scale.back[0].apply(scale.back[1].apply(probs, 2), 1)
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    asked.clear()
    begin = int(scale.back[0].index[first_row:].min())
    parts = list(restored(bands(7, begin), scale, valid_rows, first_row))
    np.testing.assert_array_equal(np.concatenate([band.probs for band in parts], axis=1), whole[:, first_row:])
    assert parts[0].row == first_row
    assert asked == list(range(40))

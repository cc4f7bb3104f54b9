from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import ndimage

from maskwright.prediction.postprocess import find_gaps
from maskwright.prediction.shapes import Shapes, measure_shapes
from maskwright.prediction.vectorise import outline_gaps


def _reader(mask: np.ndarray):
    return lambda start, stop: mask[start:stop]


def _shapes(mask: np.ndarray, band_rows: int | None = None) -> Shapes:
    return measure_shapes(find_gaps(_reader(mask), *mask.shape, band_rows=band_rows), _reader(mask))


@pytest.mark.parametrize("band_rows", [1, 2, 50])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 7), (3, 4), (10, 2)])
def test_a_rectangle_has_its_own_outline_and_sides(rows: int, cols: int, band_rows: int) -> None:
    mask = np.zeros((50, 20), bool)
    mask[31 : 31 + rows, 5 : 5 + cols] = True
    shapes = _shapes(mask, band_rows)
    assert shapes.perimeter_px.tolist() == [2 * (rows + cols)]
    np.testing.assert_allclose(shapes.elongation, max(rows, cols) / min(rows, cols))
    np.testing.assert_allclose(shapes.compactness, np.pi * rows * cols / (rows + cols) ** 2)


def test_a_square_is_as_compact_as_its_definition_says_and_a_hole_lengthens_the_outline() -> None:
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    np.testing.assert_allclose(_shapes(mask).compactness, np.pi / 4)
    mask[4, 4] = False
    assert _shapes(mask).perimeter_px.tolist() == [28 + 4]


@pytest.mark.parametrize("band_rows", [3, 100])
def test_outlines_are_as_long_as_those_of_the_polygons(band_rows: int) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((60, 50)), 1.5) > 0.02
    gaps = find_gaps(_reader(mask), *mask.shape)
    lengths = np.empty(len(gaps))
    for numbers, outlines in outline_gaps(gaps, _reader(mask)):
        lengths[numbers] = shapely.length(outlines)
    np.testing.assert_array_equal(_shapes(mask, band_rows).perimeter_px, lengths)


def test_a_slanted_line_is_long_whatever_way_it_runs() -> None:
    mask = np.eye(12, dtype=bool)
    both = [float(_shapes(one, 5).elongation[0]) for one in (mask, mask[::-1])]
    assert both[0] == pytest.approx(both[1])
    assert both[0] > 10

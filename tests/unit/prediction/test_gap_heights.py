"""Heights inside gaps."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.prediction.gap_heights import measure_heights
from maskwright.prediction.postprocess import find_gaps

MASK = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
SURFACE = np.array([[2, 4, 9, 1], [9, 9, 9, np.nan], [9, 9, 9, 9]], np.float32) + 1000


@pytest.mark.parametrize("band_rows", [1, 2, 3])
def test_lowest_mean_highest_and_spread_do_not_depend_on_the_bands(band_rows: int) -> None:
    def read(start: int, stop: int) -> np.ndarray:
        return MASK[start:stop]

    gaps = find_gaps(read, 3, 4, band_rows=band_rows)
    found = measure_heights(gaps, read, lambda start, stop: SURFACE[start:stop])
    assert len(gaps) == 2
    assert found.low.tolist() == [1002.0, 1001.0]
    assert found.mean.tolist() == [1003.0, 1001.0]
    assert found.high.tolist() == [1004.0, 1001.0]
    assert found.spread.tolist() == [1.0, 0.0]


def test_a_gap_without_a_measured_pixel_has_no_height() -> None:
    def read(start: int, stop: int) -> np.ndarray:
        return MASK[start:stop]

    gaps = find_gaps(read, 3, 4)
    found = measure_heights(gaps, read, lambda start, stop: np.full((stop - start, 4), np.nan, np.float32))
    assert np.isnan([found.low, found.mean, found.high, found.spread]).all()

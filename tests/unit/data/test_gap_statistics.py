from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import ndimage

from maskwright.data.gap_statistics import GapCounter, GapSizes, gap_statistics, stream_gap_statistics
from maskwright.errors import ShapeError
from maskwright.types import Window


def _canopy(rows: list[str]) -> np.ndarray:
    heights = {"#": 1.0, ".": 20.0, "?": np.nan}
    return np.array([[heights[letter] for letter in row] for row in rows], np.float32)


def test_a_small_scene_gives_the_numbers_counted_by_hand() -> None:
    canopy = _canopy(["##..", "...#", "#..?", ".##?"])
    found = gap_statistics(canopy, np.isfinite(canopy), (5.0, 0.5), pixel_area_m2=4.0)
    assert found["neighbours"] == 8
    five, half = found["heights"]
    assert five == {
        "height_m": 5.0,
        "valid_px": 14,
        "gap_px": 6,
        "gap_share": 6 / 14,
        "gaps": 3,  # the two at the lower left meet at a corner
        "area_m2": {"min": 4.0, "max": 12.0, "mean": 8.0, "median": 8.0, "total": 24.0},
        "histogram_px": {"<10": 3, "10-50": 0, "50-100": 0, "100-500": 0, ">=500": 0},
    }
    assert (half["gap_px"], half["gaps"], half["gap_share"], half["area_m2"]) == (0, 0, 0.0, None)
    json.dumps(found, allow_nan=False)


def test_the_histogram_puts_sizes_into_the_bins_they_begin() -> None:
    sizes = (9, 10, 49, 50, 99, 100, 499, 500)
    canopy = np.full((2 * len(sizes), 600), 20.0, np.float32)
    for index, size in enumerate(sizes):
        canopy[2 * index, :size] = 0.0
    found = gap_statistics(canopy, np.ones(canopy.shape, bool), (5.0,), 1.0)["heights"][0]
    assert found["histogram_px"] == {"<10": 1, "10-50": 2, "50-100": 2, "100-500": 2, ">=500": 1}
    assert found["area_m2"]["median"] == 74.5


@pytest.mark.parametrize("seed", range(6))
def test_bands_of_any_height_give_the_statistics_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(size) for size in rng.integers(1, 60, 2))
    canopy = rng.uniform(0, 10, (height, width)).astype(np.float32)
    canopy[rng.random(canopy.shape) < 0.1] = np.nan
    heights = (2.0, 4.0, 7.0)
    whole = gap_statistics(canopy, np.isfinite(canopy), heights, 4.0)
    for height_m, found in zip(heights, whole["heights"], strict=True):
        label, count = ndimage.label(canopy < height_m, np.ones((3, 3)))
        areas = np.bincount(label.ravel())[1:] * 4.0
        assert found["gaps"] == count
        if count:
            assert found["area_m2"]["median"] == np.median(areas)
            assert found["area_m2"]["total"] == areas.sum()

    def read(window: Window) -> np.ndarray:
        return canopy[window.row : window.row_stop]

    for band_rows in (1, 2, 5):
        assert stream_gap_statistics(read, height, width, heights, 4.0, band_rows=band_rows) == whole


def test_a_gap_that_parts_and_meets_again_below_is_one() -> None:
    canopy = _canopy(["#####", "#...#", "#.#.#", "#...#", "#####"])
    read = lambda window: canopy[window.row : window.row_stop]  # noqa: E731
    found = stream_gap_statistics(read, 5, 5, (5.0,), 1.0, band_rows=1)["heights"][0]
    assert (found["gaps"], found["area_m2"]["min"], found["area_m2"]["max"]) == (2, 1.0, 16.0)


def test_a_scene_without_a_valid_pixel_has_no_share() -> None:
    canopy = np.full((3, 3), np.nan, np.float32)
    found = gap_statistics(canopy, np.isfinite(canopy), (5.0,), 1.0)["heights"][0]
    assert (found["valid_px"], found["gap_share"], found["gaps"]) == (0, None, 0)


def test_a_mask_with_the_wrong_number_of_planes_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected \(2, rows, columns\)"):
        GapCounter((5.0, 10.0), 1.0).add(np.zeros((3, 4, 4), np.uint8))


def test_sizes_of_gaps_add_up_and_know_their_middle() -> None:
    sizes = GapSizes.of(np.array([4, 1, 4])) + GapSizes.of(np.array([2, 1, 9, 1]))
    assert (sizes.px.tolist(), sizes.gaps.tolist(), sizes.total) == ([1, 2, 4, 9], [3, 1, 2, 1], 7)
    assert sizes.median_px == 2.0  # 1 1 1 2 4 4 9
    assert (sizes + GapSizes.of(np.array([3]))).median_px == 2.5
    assert math.isnan(GapSizes.of(np.zeros(0)).median_px)


def test_a_counter_remembers_sizes_and_not_gaps() -> None:
    band = np.zeros((1, 40, 60), np.uint8)
    band[0, ::2, ::3] = 1  # 400 gaps of one pixel
    counter = GapCounter((5.0,), 1.0)
    for _ in range(20):
        counter.add(band)
        counter.add(np.zeros((1, 1, 60), np.uint8))
    (sizes,) = counter.sizes()
    assert (sizes.px.tolist(), sizes.gaps.tolist()) == ([1], [8000])

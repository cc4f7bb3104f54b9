"""One image measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maskwright.data.copies import difference_hash
from maskwright.data.preflight_look import blank_border, look_at, object_diameters


def noise(rows: int = 64, cols: int = 64, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 200, (bands, rows, cols)).astype(np.uint8)


def test_levels_mean_and_deviation_are_those_of_the_pixels_that_count() -> None:
    values, valid = noise(), np.ones((64, 64), bool)
    valid[:10] = False
    values[:, :10] = 255
    look = look_at(values, valid, name="a")
    expected = values[:, 10:].reshape(3, -1)
    assert look.levels[:, 0] == pytest.approx(expected.min(axis=1))
    assert look.levels[:, 4] == pytest.approx(expected.max(axis=1))
    assert look.levels[:, 2] == pytest.approx(np.median(expected, axis=1), abs=1)
    assert look.mean == pytest.approx(expected.mean(axis=1))
    assert look.std == pytest.approx(expected.std(axis=1))
    assert look.valid_share == pytest.approx(54 / 64)


def test_percentiles_of_bytes_are_those_of_numpy() -> None:
    values = noise(200, 200, 1)
    look = look_at(values, np.ones((200, 200), bool), name="a")
    expected = np.percentile(values, (0, 1, 50, 99, 100), method="inverted_cdf")
    assert look.levels[0] == pytest.approx(expected)


def test_values_under_pixels_that_do_not_count_change_nothing() -> None:
    values, valid = noise(), np.ones((64, 64), bool)
    valid[20:30, 20:30] = False
    other = values.copy()
    other[:, 20:30, 20:30] = 7
    first, second = look_at(values, valid, name="a"), look_at(other, valid, name="a")
    assert np.array_equal(first.levels, second.levels)
    assert first.edges == second.edges


def test_an_image_without_a_pixel_that_counts_has_no_levels() -> None:
    look = look_at(noise(), np.zeros((64, 64), bool), np.ones((64, 64), bool), name="a")
    assert look.valid_share == 0
    assert np.isnan(look.levels).all()
    assert look.foreground == 0


def test_the_share_of_foreground_counts_valid_pixels_only() -> None:
    valid, mask = np.ones((64, 64), bool), np.zeros((64, 64), bool)
    valid[:32], mask[:48] = False, True
    assert look_at(noise(), valid, mask, name="a").foreground == pytest.approx(0.5)


def test_a_blank_border_is_the_plain_area_joined_to_the_corners() -> None:
    values = noise()
    values[:, :, :16] = 255
    values[:, 40:44, 40:44] = 255  # inside: not border
    area, value = blank_border(values, np.ones((64, 64), bool))
    assert area.sum() == 64 * 16
    assert value == 255


def test_a_photograph_has_no_blank_border() -> None:
    area, value = blank_border(noise(), np.ones((64, 64), bool))
    assert not area.any()
    assert math.isnan(value)


def test_a_border_that_does_not_count_is_not_blank() -> None:
    values, valid = noise(), np.ones((64, 64), bool)
    values[:, :, :16] = 255
    valid[:, :16] = False
    assert not blank_border(values, valid)[0].any()


def test_usual_nodata_values_are_found_with_their_share() -> None:
    values = np.random.default_rng(0).normal(500, 10, (1, 50, 50)).astype(np.float32)
    values[:, :5] = -9999
    assert look_at(values, np.ones((50, 50), bool), name="a").sentinels == {-9999.0: pytest.approx(0.1)}


def test_objects_are_measured_as_circles_and_cut_ones_left_out() -> None:
    mask = np.zeros((100, 100), bool)
    rows, cols = np.mgrid[:100, :100]
    mask |= (rows - 50) ** 2 + (cols - 50) ** 2 <= 15**2
    mask[0:4, 0:4] = True  # touches the edge
    diameters = object_diameters(mask)
    assert len(diameters) == 1
    assert diameters[0] == pytest.approx(30, rel=0.05)


def test_the_hash_ignores_brightness_and_tells_pictures_apart() -> None:
    picture = noise(90, 90, 1)[0].astype(np.float32)
    picture = np.cumsum(picture - picture.mean(), axis=1)
    assert difference_hash(picture) == difference_hash(picture * 0.5 + 30)
    other = picture[:, ::-1].copy()
    assert (difference_hash(picture) ^ difference_hash(other)).bit_count() > 32

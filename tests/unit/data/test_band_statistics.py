from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from maskwright.data.band_statistics import PERCENTILES, BandStatistics, band_statistics
from maskwright.errors import DataError


def _pieces(values: np.ndarray, valid: np.ndarray, rows: int = 7) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for row in range(0, values.shape[1], rows):
        yield values[:, row : row + rows], valid[row : row + rows]


def _image(dtype: str, seed: int = 0, shape: tuple[int, int, int] = (3, 61, 83)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low, high = (-900, 900) if np.dtype(dtype).kind in "if" else (0, 250)
    values = rng.gamma(2.0, (high - low) / 12.0, shape) + low
    return np.clip(values, low, high).astype(dtype), rng.random(shape[1:]) < 0.8


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])
def test_statistics_equal_those_of_numpy(dtype: str) -> None:
    values, valid = _image(dtype) if dtype != "int8" else (_image("int16")[0].astype("int8"), _image("int16")[1])
    found = band_statistics(_pieces(values, valid))
    counted = values[:, valid].astype(np.float64)
    assert found.count == (counted.shape[1],) * 3
    np.testing.assert_allclose(found.mean, counted.mean(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.std, counted.std(axis=1), rtol=1e-12)
    assert found.min == tuple(counted.min(axis=1))
    assert found.max == tuple(counted.max(axis=1))
    np.testing.assert_allclose(found.percentiles, np.percentile(counted, PERCENTILES, axis=1).T, rtol=1e-12, atol=1e-9)
    first, third = np.percentile(counted, [25, 75], axis=1)
    beyond = (counted < (first - 1.5 * (third - first))[:, None]) | (counted > (third + 1.5 * (third - first))[:, None])
    np.testing.assert_allclose(found.outlier_share, beyond.mean(axis=1), atol=1e-12)


def test_percentiles_of_many_real_numbers_stay_within_the_stated_error() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(0, 1, (1, 1024, 700)).astype(np.float32) + shift for shift in (0.0, 5.0, -40.0, 300.0)]
    valid = np.ones((1024, 700), bool)
    found = band_statistics((part, valid) for part in parts)  # the range grows to both sides on the way
    everything = np.concatenate([part.ravel() for part in parts]).astype(np.float64)
    bound = (everything.max() - everything.min()) / 16_000
    wanted = np.percentile(everything, PERCENTILES)
    assert np.abs(np.array(found.percentiles[0]) - wanted).max() < bound
    assert found.percentiles[0][0] == everything.min()
    np.testing.assert_allclose(found.mean[0], everything.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.std[0], everything.std(), rtol=1e-12)


def test_a_constant_band_of_many_real_numbers_has_one_value_everywhere() -> None:
    valid = np.ones((1100, 1000), bool)
    found = band_statistics([(np.full((1, 1100, 1000), 7.5, np.float32), valid)])
    assert set(found.percentiles[0]) == {7.5}
    assert found.std == (0.0,)
    assert found.outlier_share == (0.0,)


def test_values_under_pixels_that_do_not_count_change_no_bit() -> None:
    for dtype, odd in (("uint8", 255), ("float32", np.nan), ("float32", 3e38)):
        values, valid = _image(dtype)
        changed = np.where(valid, values, np.asarray(odd, dtype))
        assert band_statistics(_pieces(values, valid)) == band_statistics(_pieces(changed, valid))


def test_values_that_are_not_finite_never_count() -> None:
    values = np.array([[[1.0, np.nan, 3.0, np.inf]]], np.float32)
    found = band_statistics([(values, np.ones((1, 4), bool))])
    assert (found.count, found.mean) == ((2,), (2.0,))


def test_how_pieces_are_cut_changes_nothing_for_whole_numbers() -> None:
    values, valid = _image("uint16")
    assert band_statistics(_pieces(values, valid, 5)) == band_statistics([(values, valid)])


def test_sums_of_large_numbers_do_not_overflow() -> None:
    values = np.full((1, 2000, 2000), 65535, np.uint16)
    found = band_statistics([(values, np.ones((2000, 2000), bool))] * 3)
    assert (found.mean, found.std, found.count) == ((65535.0,), (0.0,), (12_000_000,))


def test_a_percentile_between_two_stored_ones_lies_between_them() -> None:
    found = band_statistics([(np.arange(101, dtype=np.uint8)[None, None], np.ones((1, 101), bool))])
    assert found.percentile(2.0) == (2.0,)
    assert found.percentile(2.5) == (2.5,)


def test_statistics_survive_json() -> None:
    found = band_statistics([_image("uint8")])
    assert BandStatistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.bands == 3
    with pytest.raises(DataError, match="cannot be understood"):
        BandStatistics.from_dict({**found.to_dict(), "mean": [1.0]})
    with pytest.raises(DataError, match="cannot be understood"):
        BandStatistics.from_dict({"mean": [1.0]})


def test_nothing_that_counts_is_an_error() -> None:
    for pieces in ([], [(np.zeros((1, 2, 2), np.uint8), np.zeros((2, 2), bool))]):
        with pytest.raises(DataError, match="No pixel of the training part counts"):
            band_statistics(pieces)


def test_pieces_of_different_bands_or_types_are_an_error() -> None:
    valid = np.ones((2, 2), bool)
    first = (np.zeros((1, 2, 2), np.uint8), valid)
    for other in (np.zeros((2, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint16)):
        with pytest.raises(DataError, match="need the same bands and type"):
            band_statistics([first, (other, valid)])

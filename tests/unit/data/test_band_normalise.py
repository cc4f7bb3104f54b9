from __future__ import annotations

import json

import numpy as np
import pytest

from maskwright.data.band_statistics import BandStatistics, band_statistics
from maskwright.data.normalise import (
    BandNormaliser,
    PerTileBands,
    Unfitted,
    make_normaliser,
    normalise_heights,
    normaliser_from_dict,
)
from maskwright.errors import DataError

FITTED = ("standard", "minmax", "percentile", "robust", "adaptive")


def _image(dtype: str = "uint8", bands: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    values = rng.integers(3, 240, (bands, 40, 50)) * (200 if dtype == "uint16" else 1)
    return values.astype(dtype), rng.random((40, 50)) < 0.7


def _statistics(dtype: str = "uint8", bands: int = 3) -> BandStatistics:
    return band_statistics([_image(dtype, bands)])


@pytest.mark.parametrize("kind", ["imagenet", "unit", *FITTED])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_normalising_can_be_undone(kind: str, dtype: str) -> None:
    values, valid = _image(dtype)
    normaliser = make_normaliser(kind, _statistics(dtype), 3, dtype)
    assert isinstance(normaliser, BandNormaliser)
    image = normaliser.normalise(values, valid)
    assert image.dtype == np.float32
    assert (image[:, ~valid] == 0).all()
    kept = valid & (((image > 0) & (image < 1)).all(axis=0) if normaliser.clip else True)
    assert kept.sum() > 500
    np.testing.assert_allclose(normaliser.denormalise(image)[:, kept], values[:, kept], rtol=2e-6, atol=1e-3)


def test_imagenet_is_what_torchvision_does() -> None:
    values, valid = _image()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (values / 255.0 - mean[:, None, None]) / std[:, None, None]
    image = make_normaliser("imagenet", None, 3, "uint8").normalise(values, valid)
    np.testing.assert_allclose(image[:, valid], expected[:, valid], atol=1e-5)
    wide = make_normaliser("imagenet", None, 3, "uint16").normalise(values.astype(np.uint16) * 257, valid)
    np.testing.assert_allclose(wide, image, atol=1e-5)


def test_each_fitted_kind_is_its_formula() -> None:
    values, valid = _image()
    counted = values[:, valid].astype(np.float64)
    percentiles = {p: np.percentile(counted, p, axis=1) for p in (1, 2, 50, 98, 99)}
    expected = {
        "standard": (counted.mean(axis=1), counted.std(axis=1)),
        "minmax": (counted.min(axis=1), np.ptp(counted, axis=1)),
        "percentile": (percentiles[2], percentiles[98] - percentiles[2]),
        "robust": (percentiles[50], percentiles[99] - percentiles[1]),
    }
    for kind, (shift, scale) in expected.items():
        found = make_normaliser(kind, _statistics(), 3, "uint8")
        assert isinstance(found, BandNormaliser)
        np.testing.assert_allclose(found.shift, shift, rtol=1e-12)
        np.testing.assert_allclose(found.scale, scale, rtol=1e-12)
        assert found.clip is (kind == "percentile")


def test_percentile_cuts_what_lies_beyond() -> None:
    values, valid = _image()
    normaliser = make_normaliser("percentile", _statistics(), 3, "uint8", low=10.0, high=90.0)
    image = normaliser.normalise(values, valid)
    assert (image.min(), image.max()) == (0.0, 1.0)
    assert 0.05 < (image[:, valid] == 1.0).mean() < 0.15


@pytest.mark.parametrize(
    ("values", "robust"),
    [
        (np.arange(1, 101), False),
        (np.r_[np.zeros(899), np.full(100, 3.0), 1000.0], True),  # range five times that of percentiles 1 to 99
        (np.r_[np.arange(90), np.full(10, 1000)], True),  # a tenth are outliers
        (np.full(100, 7), False),
    ],
)
def test_adaptive_is_robust_where_values_are_skewed_or_wide(values: np.ndarray, robust: bool) -> None:
    statistics = band_statistics([(values.astype(np.float32)[None, None], np.ones((1, values.size), bool))])
    found = make_normaliser("adaptive", statistics, 1, "float32")
    twin = make_normaliser("robust" if robust else "standard", statistics, 1, "float32")
    assert isinstance(found, BandNormaliser)
    assert isinstance(twin, BandNormaliser)
    assert (found.shift, found.scale) == (twin.shift, twin.scale)


def test_auto_is_imagenet_for_three_bands_of_whole_numbers_and_standard_otherwise() -> None:
    assert make_normaliser("auto", _statistics(), 3, "uint8").kind == "imagenet"
    assert make_normaliser("auto", _statistics("uint16"), 3, "uint16").kind == "imagenet"
    assert make_normaliser("auto", _statistics(bands=4), 4, "uint8").kind == "standard"
    assert make_normaliser("auto", _statistics("float32"), 3, "float32").kind == "standard"


@pytest.mark.parametrize("kind", FITTED)
def test_a_constant_band_becomes_zero(kind: str) -> None:
    values, valid = np.full((1, 9, 9), 77, np.uint8), np.ones((9, 9), bool)
    normaliser = make_normaliser(kind, band_statistics([(values, valid)]), 1, "uint8")
    assert (normaliser.normalise(values, valid) == 0).all()


@pytest.mark.parametrize("kind", ["unit", *FITTED, "per_tile"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -3e38])
def test_values_under_pixels_that_do_not_count_change_no_bit(kind: str, odd: float) -> None:
    values, valid = _image("float32")
    changed = np.where(valid, values, np.float32(odd))
    normaliser = make_normaliser(kind, _statistics("float32"), 3, "float32", largest=255.0)
    assert np.array_equal(normaliser.normalise(values, valid), normaliser.normalise(changed, valid))


def test_normalising_writes_where_it_is_told_even_in_place() -> None:
    values, valid = _image("float32")
    normaliser = make_normaliser("standard", _statistics("float32"), 3, "float32")
    expected, out = normaliser.normalise(values, valid), np.empty((3, 40, 50), np.float32)
    assert normaliser.normalise(values, valid, out) is out
    assert np.array_equal(out, expected)
    normaliser.normalise(values, valid, values)
    assert np.array_equal(values, expected)


def test_each_tile_is_stretched_by_its_own_range_and_can_be_undone_with_it() -> None:
    values, valid = _image("uint16")
    values[1] = 5
    image, low, high = PerTileBands().normalise_with_range(values, valid)
    for band in (0, 2):
        assert (image[band][valid].min(), image[band][valid].max()) == (0.0, 1.0)
    assert (image[1] == 0).all()
    np.testing.assert_allclose(PerTileBands().denormalise(image, low, high)[:, valid], values[:, valid], rtol=1e-6)
    image, low, high = PerTileBands().normalise_with_range(values, np.zeros_like(valid))
    assert not image.any()
    assert not low.any()
    assert not high.any()


@pytest.mark.parametrize("kind", ["imagenet", "unit", *FITTED, "per_tile"])
def test_what_is_stored_with_a_model_gives_the_same_normaliser(kind: str) -> None:
    normaliser = make_normaliser(kind, _statistics(), 3, "uint8")
    assert normaliser_from_dict(json.loads(json.dumps(normaliser.to_dict()))) == normaliser


@pytest.mark.parametrize(
    "damage", [{"shift": [1.0]}, {"scale": [0.0, 1.0, 1.0]}, {"clip": 1}, {"more": 1}, {"shift": "abc"}]
)
def test_a_damaged_description_is_an_error(damage: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Normalisation 'standard'"):
        normaliser_from_dict({"kind": "standard", "shift": [0] * 3, "scale": [1] * 3, "clip": False, **damage})


def test_what_does_not_suit_the_images_is_refused() -> None:
    with pytest.raises(DataError, match="three bands and the images have 4"):
        make_normaliser("imagenet", None, 4, "uint8")
    with pytest.raises(DataError, match=r"Set data\.normalise\.kind: unit with"):
        make_normaliser("unit", None, 1, "float32")
    with pytest.raises(DataError, match="needs statistics"):
        make_normaliser("standard", None, 1, "uint8")
    with pytest.raises(DataError, match="statistics are of 3 bands"):
        make_normaliser("standard", _statistics(), 2, "uint8")
    with pytest.raises(DataError, match=r"is not known\. Known: auto"):
        make_normaliser("zscore", None, 1, "uint8")
    with pytest.raises(DataError, match="image of 1 bands meets a normalisation of 3"):
        make_normaliser("unit", None, 3, "uint8").normalise(np.zeros((1, 2, 2)), np.ones((2, 2), bool))


def test_nothing_is_normalised_before_the_statistics_are_known() -> None:
    waiting = Unfitted("robust")
    with pytest.raises(DataError, match="has not been fitted yet"):
        waiting.normalise(*_image())
    with pytest.raises(DataError, match="has not been fitted yet"):
        waiting.to_dict()
    assert waiting.fit(_statistics()) == make_normaliser("robust", _statistics(), 3, "uint8")


def test_fitted_heights_take_no_reference() -> None:
    heights = np.array([[[310.0, 320.0]], [[3.0, np.nan]]], np.float32)
    valid = np.isfinite(heights).all(axis=0)
    out = np.empty((2, 1, 2), np.float32)
    normalise_heights(BandNormaliser("minmax", (300.0, 0.0), (20.0, 6.0)), heights, valid, (300.0, 0.0), out)
    assert out.tolist() == [[[0.5, 0.0]], [[0.5, 0.0]]]
    with pytest.raises(DataError, match="Heights of 2 bands meet a normalisation of 1"):
        normalise_heights(BandNormaliser("minmax", (0.0,), (1.0,)), heights, valid, (0.0, 0.0), out)

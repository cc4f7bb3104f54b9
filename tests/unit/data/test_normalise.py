from __future__ import annotations

import numpy as np
import pytest

from maskwright.data.normalise import (
    MetresNormaliser,
    PerTileNormaliser,
    ReferenceSurface,
    build_reference,
    normaliser_from_dict,
)
from maskwright.errors import DataError
from maskwright.types import Window


def _reader(heights: np.ndarray):
    return lambda window: heights[window.row : window.row_stop, window.col : window.col_stop]


def _surface(seed: int = 0, shape: tuple[int, int] = (97, 131)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    heights = np.round(rng.normal(300, 20, shape) * 64).astype(np.float32) / 64
    heights[rng.random(shape) < 0.1] = np.nan
    return heights


def _slow_window(reference: ReferenceSurface, window: Window) -> np.ndarray:
    """Bilinear between cell centres, pixel by pixel."""
    rows, cols = reference.values.shape
    values = reference.values.astype(float)
    out = np.zeros((window.height, window.width))
    for i in range(window.height):
        for j in range(window.width):
            y = min(max((window.row + i + 0.5) / reference.cell_px - 0.5, 0), rows - 1)
            x = min(max((window.col + j + 0.5) / reference.cell_px - 0.5, 0), cols - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, cols - 1)
            upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
            lower = values[bottom, left] * (1 - (x - left)) + values[bottom, right] * (x - left)
            out[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return out


@pytest.mark.parametrize("cell_px", [1.0, 7.0, 13.3, 500.0])
def test_the_reference_is_bilinear_between_cell_centres(cell_px: float) -> None:
    heights = _surface()
    reference = build_reference(_reader(heights), *heights.shape, cell_px=cell_px, percentile=5)
    window = Window(-9, -4, 120, 140)
    assert reference.window(window).dtype == np.float32
    np.testing.assert_allclose(reference.window(window), _slow_window(reference, window), rtol=1e-6)


@pytest.mark.parametrize("cell_px", [7.0, 13.3])
def test_any_tiling_of_windows_gives_the_bit_identical_reference(cell_px: float) -> None:
    heights = _surface()
    reference = build_reference(_reader(heights), *heights.shape, cell_px=cell_px, percentile=5)
    whole = reference.window(Window(-20, -20, 140, 180))
    rng = np.random.default_rng(1)
    for _ in range(100):
        row, col = int(rng.integers(0, 139)), int(rng.integers(0, 179))
        height, width = int(rng.integers(1, 141 - row)), int(rng.integers(1, 181 - col))
        part = reference.window(Window(row - 20, col - 20, height, width))
        assert np.array_equal(part, whole[row : row + height, col : col + width])


def test_a_cell_holds_the_low_percentile_of_its_measured_heights() -> None:
    heights = np.arange(100, dtype=np.float32).reshape(10, 10)
    heights[0, :] = np.nan
    reference = build_reference(_reader(heights), 10, 10, cell_px=10, percentile=10)
    assert reference.values.tolist() == [[18.0]]  # 90 heights from 10 to 99, rank 0.1 * 89 rounded down is 8
    assert build_reference(_reader(heights), 10, 10, cell_px=10, percentile=0).values.item() == 10.0


def test_cells_without_enough_measured_pixels_take_the_nearest_that_has() -> None:
    heights = np.full((10, 30), np.nan, np.float32)
    heights[:, :10] = 5.0
    heights[0, 15] = 900.0  # one pixel of a hundred says nothing about the ground
    reference = build_reference(_reader(heights), 10, 30, cell_px=10, percentile=5)
    assert reference.values.tolist() == [[5.0, 5.0, 5.0]]


def test_a_scene_with_few_measured_pixels_everywhere_still_has_a_reference() -> None:
    heights = np.full((20, 20), np.nan, np.float32)
    heights[3, 4] = 7.0
    assert (build_reference(_reader(heights), 20, 20, cell_px=10, percentile=5).values == 7.0).all()


def test_adding_a_constant_to_the_surface_shifts_the_reference_by_it() -> None:
    heights = _surface()
    window = Window(3, 5, 60, 70)
    plain = build_reference(_reader(heights), *heights.shape, cell_px=13.3, percentile=5)
    lifted = build_reference(_reader(heights + np.float32(128)), *heights.shape, cell_px=13.3, percentile=5)
    assert np.array_equal(lifted.values, plain.values + np.float32(128))
    np.testing.assert_allclose(lifted.window(window) - plain.window(window), 128.0, atol=1e-4)


def test_a_reference_without_any_measured_pixel_is_refused() -> None:
    with pytest.raises(DataError, match="No pixel was measured"):
        build_reference(_reader(np.full((5, 5), np.nan, np.float32)), 5, 5, cell_px=2, percentile=5)


def test_the_reference_is_read_in_bands_of_cells_that_cover_each_row_once() -> None:
    heights, seen = _surface(), []

    def read(window: Window) -> np.ndarray:
        seen.extend(range(window.row, window.row_stop))
        assert window.width == heights.shape[1]
        assert window.height <= 14
        return heights[window.row : window.row_stop]

    build_reference(read, *heights.shape, cell_px=13.3, percentile=5)
    assert seen == list(range(heights.shape[0]))


def test_metres_are_shifted_by_the_reference_and_divided_by_the_scale() -> None:
    heights = np.array([[310.0, 340.0, np.nan]], np.float32)
    valid = np.array([[True, True, False]])
    reference = np.array([[300.0, 310.0, 5.0]], np.float32)
    out = MetresNormaliser(scale_m=20).normalise(heights, valid, reference)
    assert out.dtype == np.float32
    assert out.tolist() == [[0.5, 1.5, 0.0]]
    assert heights[0, 0] == 310.0


def test_each_tile_is_stretched_by_its_own_valid_minimum_and_maximum() -> None:
    heights = np.array([[10.0, 20.0, 30.0, np.nan, 999.0]], np.float32)
    valid = np.array([[True, True, True, False, False]])
    assert PerTileNormaliser().normalise(heights, valid).tolist() == [[0.0, 0.5, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("heights", [[[7.0, 7.0]], [[7.0, np.nan]], [[np.nan, np.nan]]])
def test_a_flat_or_empty_tile_becomes_zero(heights: list[list[float]]) -> None:
    values = np.array(heights, np.float32)
    assert PerTileNormaliser().normalise(values, np.isfinite(values)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("normaliser", [MetresNormaliser(), PerTileNormaliser()])
def test_changing_values_that_are_not_valid_changes_no_input_bit_for_bit(normaliser) -> None:
    heights = _surface()
    valid = np.isfinite(heights)
    garbage = np.where(valid, heights, np.random.default_rng(3).normal(0, 1e6, heights.shape)).astype(np.float32)
    first, second = (normaliser.normalise(values, valid, 280.0) for values in (heights, garbage))
    assert np.array_equal(first, second)
    assert (first[~valid] == 0).all()


def test_writing_into_a_given_array_gives_the_same() -> None:
    heights = _surface()
    valid = np.isfinite(heights)
    for normaliser in (MetresNormaliser(), PerTileNormaliser()):
        out = np.full(heights.shape, 5.0, np.float32)
        assert normaliser.normalise(heights, valid, 280.0, out=out) is out
        assert np.array_equal(out, normaliser.normalise(heights, valid, 280.0))


@pytest.mark.parametrize("normaliser", [MetresNormaliser(25.0, 40.0, 10.0), PerTileNormaliser()])
def test_a_normaliser_survives_the_way_through_a_model_file(normaliser) -> None:
    assert normaliser_from_dict(normaliser.to_dict()) == normaliser


def test_an_unknown_or_incomplete_normalisation_is_refused() -> None:
    with pytest.raises(DataError, match=r"'zscore' is not known\. Known: metres, per_tile"):
        normaliser_from_dict({"kind": "zscore"})
    with pytest.raises(DataError, match="damaged or of another version"):
        normaliser_from_dict({"kind": "metres", "scale_m": 30.0})

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskwright.prediction.blending import BLENDS, RingBuffer, WindowAxis, plan_axis, undivided

SIZES = [(1, 16), (15, 16), (16, 16), (17, 16), (40, 16), (100, 32), (129, 64)]


def _sum_of_weights(axis: WindowAxis) -> np.ndarray:
    total = np.zeros(axis.length)
    for start, weight in zip(axis.starts, axis.weights, strict=True):
        total[start : start + len(weight)] += weight
    return total


@pytest.mark.parametrize("blend", sorted(BLENDS))
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("length", "tile_px"), SIZES)
def test_weights_add_up_to_one_at_every_pixel(length: int, tile_px: int, overlap: float, blend: str) -> None:
    axis = plan_axis(length, tile_px, overlap, blend, multiple_px=4)
    np.testing.assert_allclose(_sum_of_weights(axis), 1.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("length", "tile_px"), SIZES)
def test_starts_are_multiples_of_what_the_network_needs_and_only_the_last_window_is_smaller(
    length: int, tile_px: int
) -> None:
    axis = plan_axis(length, tile_px, 0.3, "hann", multiple_px=8)
    assert all(start % 8 == 0 for start in axis.starts)
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.sizes[-1] == length
    if len(axis.starts) > 1:
        assert set(axis.sizes[:-1]) == {tile_px}
        assert tile_px - 8 < axis.sizes[-1] <= tile_px


def test_windows_overlap_by_the_wanted_share() -> None:
    axis = plan_axis(64, 16, 0.5, "hann")
    assert axis.starts == (0, 8, 16, 24, 32, 40, 48)
    assert plan_axis(64, 16, 0.0, "mean").starts == (0, 16, 32, 48)


def test_the_last_window_ends_with_the_raster() -> None:
    assert plan_axis(61, 16, 0.5, "hann").starts == (0, 8, 16, 24, 32, 40, 45)
    axis = plan_axis(61, 16, 0.5, "hann", multiple_px=4)
    assert axis.starts == (0, 8, 16, 24, 32, 40, 48)
    assert axis.sizes == (16, 16, 16, 16, 16, 16, 13)


def test_a_raster_smaller_than_a_tile_is_one_window_of_its_own_size() -> None:
    axis = plan_axis(21, 256, 0.5, "hann", multiple_px=16)
    assert axis.starts == (0,)
    assert axis.sizes == (21,)
    np.testing.assert_array_equal(axis.weights[0], 1.0)


def test_two_hann_windows_half_a_side_apart_are_weighed_by_the_squared_sine() -> None:
    axis = plan_axis(24, 16, 0.5, "hann")
    inner = np.sin(np.pi * (np.arange(8, 16) + 0.5) / 16) ** 2  # the falling half: the two add up to 1 already
    np.testing.assert_allclose(axis.weights[0][8:], inner, atol=1e-7)
    np.testing.assert_array_equal(axis.weights[0][:8], 1.0)  # nobody else covers these


def test_mean_blending_of_two_windows_counts_each_half() -> None:
    np.testing.assert_array_equal(plan_axis(24, 16, 0.5, "mean").weights[0], [1.0] * 8 + [0.5] * 8)


def test_a_halo_that_fits_counts_nothing_at_inner_sides_and_fully_at_the_edge() -> None:
    axis = plan_axis(64, 32, 0.5, "hann", receptive_field_px=5)
    assert axis.halo_px == 5
    first, last = axis.weights[0], axis.weights[-1]  # at 0..32 and 32..64
    assert (first[-5:] == 0).all()
    assert (first[:16] > 0).all()
    assert (last[:5] == 0).all()
    assert (last[16:] > 0).all()
    np.testing.assert_allclose(_sum_of_weights(axis), 1.0, atol=1e-6)


@pytest.mark.parametrize("receptive_field_px", [None, 9])
def test_a_halo_that_does_not_fit_leaves_all_of_the_window_to_the_blending(receptive_field_px: int | None) -> None:
    axis = plan_axis(64, 32, 0.5, "hann", receptive_field_px=receptive_field_px)
    assert axis.halo_px == 0
    assert (axis.weights[1] > 0).all()


@pytest.mark.parametrize(("length", "tile_px"), SIZES)
def test_finished_rows_cover_the_raster_once_in_order(length: int, tile_px: int) -> None:
    axis = plan_axis(length, tile_px, 0.5, "hann", multiple_px=4)
    rows = [row for start, stop in axis.finished() for row in range(start, stop)]
    assert rows == list(range(length))


def test_the_buffer_sums_windows_like_a_buffer_of_the_whole_scene() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, cols = plan_axis(70, 16, 0.6, "hann"), plan_axis(30, 16, 0.6, "linear")
    ring = RingBuffer(2, rows.tile_px, cols.length)
    whole = torch.zeros(2, 70, 30)
    taken = []
    for index, (start, stop) in enumerate(rows.finished()):
        for column, col in enumerate(cols.starts):
            values = torch.rand(2, 16, 16, generator=generator)
            weight = torch.outer(torch.from_numpy(rows.weights[index]), torch.from_numpy(cols.weights[column]))
            ring.add(start, col, values, weight)
            whole[:, start : start + 16, col : col + 16].addcmul_(values, weight)
        taken.append(ring.take(start, stop))
    np.testing.assert_array_equal(np.concatenate(taken, axis=1), whole.numpy())


def test_the_buffer_is_as_high_as_a_window_whatever_the_raster() -> None:
    shapes = set()
    for length in (100, 10_000):
        rows, cols = plan_axis(length, 64, 0.5, "hann"), plan_axis(300, 64, 0.5, "hann")
        shapes.add(RingBuffer(3, rows.tile_px, cols.length).shape)
    assert shapes == {(3, 64, 300)}


@pytest.mark.parametrize(("length", "overlap"), [(200, 0.5), (130, 0.25), (64, 0.5), (40, 0.5), (333, 0.0)])
def test_undivided_windows_share_no_pixel_and_leave_none_out(length: int, overlap: float) -> None:
    axis = plan_axis(length, 64, overlap, "hann")
    whole = undivided(axis)
    total = np.zeros(length)
    for start, weight, blended in zip(whole.starts, whole.weights, axis.weights, strict=True):
        assert set(np.unique(weight)) <= {0.0, 1.0}
        assert (blended[weight == 1] > 0).all()
        assert (np.diff(weight) != 0).sum() <= 2  # one piece
        total[start : start + len(weight)] += weight
    assert (total == 1).all()

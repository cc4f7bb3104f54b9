from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maskwright.errors import ConfigError, DataError, ShapeError
from maskwright.metrics import GridMeter
from maskwright.metrics.grid import agreement
from maskwright.types import Place, Window


def masks(seed: int, heights: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred, target = (torch.rand((1, heights, height, width), generator=generator) < share for share in (0.4, 0.3))
    return pred, target, torch.rand((1, height, width), generator=generator) < 0.8


def test_shares_of_four_cells_equal_the_hand_values() -> None:
    """Cells of 2 x 2 pixels; observed 1/4, 2/4, 3/4, 0; predicted 1/4, 3/4, 3/4, 1/4."""
    target = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()[None, None]
    pred = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1]]).bool()[None, None]
    grid = GridMeter(20.0, {"a": 10.0}, (5.0,))
    grid.update(pred, target, torch.ones(1, 4, 4).bool(), [Place("a", Window(0, 0, 4, 4))])

    observed, predicted = grid.shares()[0]
    (row,) = grid.compute()

    assert observed.tolist() == [0.25, 0.5, 0.75, 0.0]
    assert predicted.tolist() == [0.25, 0.75, 0.75, 0.25]
    # mean observed 0.375, sum of squares 0.3125; errors 0, 0.25, 0, 0.25; covariance sum 0.25
    assert row == pytest.approx(
        {
            "height_m": 5.0,
            "n_cells": 4,
            "r2": 1 - 0.125 / 0.3125,
            "rmse": math.sqrt(0.125 / 4),
            "mae": 0.125,
            "slope": 0.25 / 0.3125,
            "intercept": 0.5 - 0.8 * 0.375,
        }
    )


@pytest.mark.parametrize("tile_px", [5, 8, 13])
@pytest.mark.parametrize("cell_m", [7.0, 6.25])
def test_tiles_that_cut_cells_add_up_exactly(tile_px: int, cell_m: float) -> None:
    pred, target, valid = masks(1, 2, 26, 19)
    whole, tiled = (GridMeter(cell_m, {"a": 1.25}, (5.0, 10.0)) for _ in range(2))
    whole.update(pred, target, valid, [Place("a", Window(0, 0, 26, 19))])
    for row in range(0, 26, tile_px):
        for col in range(0, 19, tile_px):
            window = Window(row, col, tile_px, tile_px)
            pad = [torch.zeros(*m.shape[:-2], 60, 60).bool() for m in (pred, target, valid)]
            for padded, mask in zip(pad, (pred, target, valid), strict=True):
                padded[..., :26, :19] = mask
            cut = [p[..., row : row + tile_px, col : col + tile_px] for p in pad]  # beyond the scene: not valid
            tiled.update(*cut, [Place("a", window)])

    for first, second in zip(whole.shares(0.0), tiled.shares(0.0), strict=True):
        assert np.array_equal(first, second)


def test_pixels_fall_into_the_cell_their_centre_lies_in() -> None:
    pred, target, valid = masks(2, 1, 20, 20)
    grid = GridMeter(7.5, {"a": 2.0}, (5.0,))  # 3.75 pixels per cell
    grid.update(pred, target, valid, [Place("a", Window(0, 0, 20, 20))])

    cells: dict[tuple[int, int], list[int]] = {}
    for i in range(20):
        for j in range(20):
            if valid[0, i, j]:
                sums = cells.setdefault((int((i + 0.5) * 2 // 7.5), int((j + 0.5) * 2 // 7.5)), [0, 0, 0])
                sums[0] += 1
                sums[1] += int(target[0, 0, i, j])
                sums[2] += int(pred[0, 0, i, j])

    observed, predicted = grid.shares(0.0)[0]
    assert observed.tolist() == [cells[cell][1] / cells[cell][0] for cell in sorted(cells)]
    assert predicted.tolist() == [cells[cell][2] / cells[cell][0] for cell in sorted(cells)]


def test_nodata_is_never_counted() -> None:
    pred, target, valid = masks(3, 1, 12, 12)
    hidden = ~valid.unsqueeze(1)
    plain, changed = (GridMeter(4.0, {"a": 1.0}, (5.0,)) for _ in range(2))
    where = [Place("a", Window(0, 0, 12, 12))]
    plain.update(pred, target, valid, where)
    changed.update(pred ^ hidden, target ^ hidden, valid, where)

    assert np.array_equal(plain.shares(), changed.shares())


def test_cells_measured_by_less_than_the_share_are_left_out() -> None:
    valid = torch.ones(1, 4, 8).bool()
    valid[0, :, 4:6] = False  # half of the second cell
    valid[0, 0, 6] = False  # and one pixel more
    target = torch.zeros(1, 1, 4, 8).bool()
    grid = GridMeter(4.0, {"a": 1.0}, (5.0,))
    grid.update(target, target, valid, [Place("a", Window(0, 0, 4, 8))])

    assert grid.compute(0.5)[0]["n_cells"] == 1
    assert grid.compute(7 / 16)[0]["n_cells"] == 2


def test_the_same_cell_of_two_scenes_is_two_cells() -> None:
    pred, target, valid = masks(4, 1, 4, 4)
    grid = GridMeter(4.0, {"a": 1.0, "b": 1.0}, (5.0,))
    grid.update(
        pred.expand(2, -1, -1, -1),
        target.expand(2, -1, -1, -1),
        valid.expand(2, -1, -1),
        [Place("a", Window(0, 0, 4, 4)), Place("b", Window(0, 0, 4, 4))],
    )

    assert grid.compute(0.0)[0]["n_cells"] == 2


def test_grids_of_two_processes_merge_into_one() -> None:
    pred, target, valid = masks(5, 2, 8, 8)
    whole, left, right = (GridMeter(6.0, {"a": 1.0}, (5.0, 10.0)) for _ in range(3))
    whole.update(pred, target, valid, [Place("a", Window(0, 0, 8, 8))])
    left.update(pred[..., :4, :], target[..., :4, :], valid[..., :4, :], [Place("a", Window(0, 0, 4, 8))])
    right.update(pred[..., 4:, :], target[..., 4:, :], valid[..., 4:, :], [Place("a", Window(4, 0, 4, 8))])

    left.merge(right)

    assert left.compute(0.0) == whole.compute(0.0)
    with pytest.raises(ConfigError, match="cannot be merged"):
        left.merge(GridMeter(5.0, {"a": 1.0}, (5.0, 10.0)))


def test_samples_may_ask_the_heights_in_another_order() -> None:
    pred, target, valid = masks(6, 2, 8, 8)
    where = [Place("a", Window(0, 0, 8, 8))]
    plain, swapped = (GridMeter(4.0, {"a": 1.0}, (5.0, 10.0)) for _ in range(2))
    plain.update(pred, target, valid, where)
    swapped.update(pred.flip(1), target.flip(1), valid, where, heights_m=torch.tensor([[10.0, 5.0]]))

    assert plain.compute(0.0) == swapped.compute(0.0)


def test_nothing_measured_has_no_cells_and_no_numbers() -> None:
    (row,) = GridMeter(100.0, {"a": 1.0}, (5.0,)).compute()

    assert row["n_cells"] == 0
    assert all(math.isnan(row[name]) for name in ("r2", "rmse", "mae", "slope", "intercept"))


def test_observed_shares_that_are_all_alike_have_no_line() -> None:
    row = agreement(np.array([0.2, 0.2, 0.2]), np.array([0.1, 0.2, 0.3]))

    assert math.isnan(row["r2"])
    assert math.isnan(row["slope"])
    assert row["mae"] == pytest.approx(0.2 / 3)


def test_what_the_grid_does_not_know_is_named() -> None:
    pred, target, valid = masks(7, 1, 4, 4)
    grid = GridMeter(4.0, {"a": 1.0}, (5.0,))

    with pytest.raises(DataError, match="The pixel size of b is not known to the grid"):
        grid.update(pred, target, valid, [Place("b", Window(0, 0, 4, 4))])
    with pytest.raises(DataError, match="made for 5 m and cannot take 7 m"):
        grid.update(pred, target, valid, [Place("a", Window(0, 0, 4, 4))], heights_m=[7.0])
    with pytest.raises(ShapeError, match=r"A tile of \(4, 4\) pixels does not fit its window"):
        grid.update(pred, target, valid, [Place("a", Window(0, 0, 4, 5))])
    with pytest.raises(ShapeError, match="and 2 places do not fit together"):
        grid.update(pred, target, valid, [Place("a", Window(0, 0, 4, 4))] * 2)
    with pytest.raises(ConfigError, match=r"cells of 5 m do not hold a pixel of a \(10 m\); use larger cells"):
        GridMeter(5.0, {"a": 10.0}, (5.0,))

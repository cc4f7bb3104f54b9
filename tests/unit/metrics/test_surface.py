from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.errors import ConfigError, DataError, ShapeError
from maskwright.metrics import SurfaceMeter
from maskwright.metrics.surface import boundary, surface_distances


def square(row: int, col: int, side: int = 5, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[row : row + side, col : col + side] = True
    return mask


ALL = np.ones((20, 20), dtype=bool)


def meter_of(*pairs: tuple[np.ndarray, np.ndarray], tolerance: float = 1.0, pixel: float = 1.0) -> SurfaceMeter:
    meter = SurfaceMeter(("a",), tolerance)
    for pred, target in pairs:
        meter.update(*(torch.from_numpy(m)[None, None] for m in (pred, target)), torch.ones(1, 20, 20).bool(), pixel)
    return meter


def test_the_boundary_is_the_outermost_ring() -> None:
    assert boundary(square(5, 5), ALL).sum() == 16


def test_neither_the_edge_of_the_image_nor_nodata_is_a_boundary() -> None:
    assert boundary(ALL, ALL).sum() == 0
    assert boundary(square(0, 0), ALL).sum() == 9  # two sides of five, one corner shared
    valid = ALL.copy()
    valid[:, 10:] = False
    assert boundary(square(5, 5), valid).sum() == 13  # the right side, without its corners, has nothing beyond it


def test_distances_of_a_shifted_square_by_hand() -> None:
    found = surface_distances(square(5, 8), square(5, 5), ALL, pixel_size_m=0.5)

    assert found.hausdorff95 == pytest.approx(1.5)
    assert found.from_called.max() == found.from_true.max() == 1.5


def test_equal_masks_agree_entirely() -> None:
    scores = meter_of((square(5, 5), square(5, 5))).compute()

    assert (scores["boundary_f1"], scores["nsd"], scores["hd95"], scores["surface_distance"]) == (1, 1, 0, 0)


def test_the_tolerance_decides_in_metres() -> None:
    pair = (square(5, 7), square(5, 5))

    assert meter_of(pair, tolerance=2.0).compute()["nsd"] == 1.0
    assert meter_of(pair, tolerance=1.9).compute()["nsd"] < 1.0
    assert meter_of(pair, tolerance=1.0, pixel=0.5).compute()["nsd"] == 1.0


def test_shares_are_taken_over_all_boundary_pixels() -> None:
    near, far = (square(5, 5), square(5, 5)), (square(0, 0, 3), square(15, 15, 3))

    scores = meter_of(near, far).compute()

    assert scores["boundary_precision"] == pytest.approx(16 / (16 + 5))  # 3 x 3 at a corner of the image: 5 pixels
    assert scores["boundary_recall"] == pytest.approx(16 / (16 + 8))
    assert scores["nsd"] == pytest.approx(32 / 45)
    assert scores["boundary_f1"] == pytest.approx(2 / (21 / 16 + 24 / 16))


def test_a_missing_answer_costs_the_shares_and_is_told_beside_the_distances() -> None:
    scores = meter_of((square(5, 5), square(5, 5)), (~ALL, square(5, 5))).compute()

    assert scores["hd95"] == 0.0
    assert scores["lonely_share"] == 0.5
    assert scores["boundary_recall"] == 0.5
    assert scores["nsd"] == pytest.approx(32 / 48)
    assert surface_distances(~ALL, square(5, 5), ALL).hausdorff95 == math.inf
    assert meter_of((~ALL, square(5, 5))).compute()["boundary_f1"] == 0.0


def test_without_any_outline_nothing_is_defined() -> None:
    scores = meter_of((~ALL, ~ALL)).compute()

    assert all(math.isnan(value) for value in scores.values())
    assert math.isnan(surface_distances(~ALL, ~ALL, ALL).mean)


def test_values_under_nodata_change_nothing() -> None:
    rng = np.random.default_rng(0)
    pred, target, junk = (torch.from_numpy(rng.random((2, 1, 16, 16)) < 0.5) for _ in range(3))
    valid = torch.from_numpy(rng.random((2, 16, 16)) < 0.8)
    plain, changed = SurfaceMeter(("a",)), SurfaceMeter(("a",))
    plain.update(pred, target, valid)
    hidden = junk & ~valid.unsqueeze(1)
    changed.update(pred ^ hidden, target ^ hidden, valid)

    assert plain.compute() == changed.compute()


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5), max_size=3), sides=st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_partition_gives_the_same_bits(cuts: list[int], sides: list[bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand((5, 2, 9, 9), generator=generator) < 0.3 for _ in range(2))
    valid = torch.rand((5, 9, 9), generator=generator) < 0.9
    whole, left, right = (SurfaceMeter(("a", "b")) for _ in range(3))
    whole.update(pred, target, valid, 0.7)
    edges = [0, *sorted(cuts), 5]
    for start, stop, goes_left in zip(edges, edges[1:], sides, strict=False):
        rows = slice(start, stop)
        (left if goes_left else right).update(pred[rows], target[rows], valid[rows], 0.7)
    left.merge(right)

    assert left.compute() == whole.compute()


def test_wrong_arguments_are_refused() -> None:
    mask = torch.zeros(1, 1, 4, 4)

    with pytest.raises(ConfigError, match="tolerance_m: -1 is not a distance"):
        SurfaceMeter(("a",), -1.0)
    with pytest.raises(ConfigError, match="different names"):
        SurfaceMeter(())
    with pytest.raises(ConfigError, match="cannot be merged"):
        SurfaceMeter(("a",)).merge(SurfaceMeter(("a",), 2.0))
    with pytest.raises(ShapeError, match=r"\(B, 2, H, W\) twice"):
        SurfaceMeter(("a", "b")).update(mask, mask, torch.ones(1, 4, 4).bool())
    with pytest.raises(DataError, match=r"holds 0\.5"):
        SurfaceMeter(("a",)).update(mask + 0.5, mask, torch.ones(1, 4, 4).bool())

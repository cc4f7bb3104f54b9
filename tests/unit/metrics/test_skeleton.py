from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics import SkeletonMeter
from maskwright.metrics.skeleton import betti_numbers, thinned


def drawn(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def update(meter: SkeletonMeter, pred: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> None:
    counted = np.ones_like(pred) if valid is None else valid
    meter.update(*(torch.from_numpy(m)[None, None] for m in (pred, target)), torch.from_numpy(counted)[None])


def test_pieces_and_holes_by_hand() -> None:
    assert betti_numbers(drawn("###..", "#.#..", "###.#")) == (2, 1)
    assert betti_numbers(drawn("#.#", "...", "#.#")) == (4, 0)
    assert betti_numbers(drawn(".#.", "#.#", ".#.")) == (1, 1)  # corners join lines and so close the hole
    assert betti_numbers(np.zeros((3, 3), dtype=bool)) == (0, 0)
    assert betti_numbers(np.ones((3, 3), dtype=bool)) == (1, 0)


@settings(max_examples=150, deadline=None)
@given(mask=npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_thinning_keeps_pieces_and_holes_and_is_done_when_done(mask: np.ndarray) -> None:
    thin = thinned(mask)

    assert betti_numbers(thin) == betti_numbers(mask)
    assert not (thin & ~mask).any()
    assert np.array_equal(thinned(thin), thin)


def test_lines_stay_as_they_are() -> None:
    line = drawn("#......", ".#.....", "..####.", "......#")

    assert np.array_equal(thinned(line), line)


def test_a_bar_becomes_its_middle_line() -> None:
    bar = np.zeros((11, 40), dtype=bool)
    bar[3:8, 2:38] = True

    thin = thinned(bar)

    assert (thin[:, 4:36].sum(axis=0) <= 1).all()
    assert 30 <= thin.sum() <= 38  # an end may keep a small fork
    rows = np.flatnonzero(thin[:, 8:32].any(axis=1))
    assert rows.min() >= 4
    assert rows.max() <= 6


def test_the_mask_given_is_left_alone() -> None:
    mask = np.ones((5, 5), dtype=bool)
    thinned(mask)

    assert mask.all()


def test_cldice_by_hand() -> None:
    """Half of the line is found, and all that was called is right."""
    meter = SkeletonMeter(("a",))
    update(meter, drawn(".....", "##...", "....."), drawn(".....", "####.", "....."))

    scores = meter.compute()

    assert (scores["topology_precision"], scores["topology_recall"]) == (1.0, 0.5)
    assert scores["cldice"] == pytest.approx(2 / 3)
    assert scores["cldice@a"] == scores["cldice"]


def test_a_wider_answer_along_the_same_line_costs_nothing() -> None:
    wide, thin = np.zeros((9, 30), dtype=bool), np.zeros((9, 30), dtype=bool)
    wide[2:7, 2:28] = True
    thin[4, 2:28] = True
    meter = SkeletonMeter(("a",))
    update(meter, wide, thin | thinned(wide))

    assert meter.compute()["topology_recall"] == 1.0
    assert meter.compute()["cldice"] == 1.0


def test_a_broken_line_and_a_closed_loop_are_betti_errors() -> None:
    meter = SkeletonMeter(("a",))
    update(meter, drawn("##.##"), drawn("#####"))
    update(meter, drawn("###", "#.#", "###"), drawn("###", "#.#", "#.#"))

    assert meter.compute()["betti0_error"] == 0.5
    assert meter.compute()["betti1_error"] == 0.5


@pytest.mark.parametrize(
    ("pred", "target", "cldice"), [("...", "...", math.nan), ("...", "###", 0.0), ("##.", "...", 0.0)]
)
def test_empty_masks(pred: str, target: str, cldice: float) -> None:
    meter = SkeletonMeter(("a",))
    update(meter, drawn(pred), drawn(target))

    assert meter.compute()["cldice"] == pytest.approx(cldice, nan_ok=True)


def test_nodata_is_never_counted() -> None:
    meter = SkeletonMeter(("a",))
    update(meter, drawn("####.#"), drawn("##...."), drawn("##...."))
    update(meter, drawn("####.#"), drawn("##...."), drawn("......"))

    scores = meter.compute()

    assert (scores["cldice"], scores["betti0_error"]) == (1.0, 0.0)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 5), max_size=3), sides=st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_partition_gives_the_same_bits(cuts: list[int], sides: list[bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand((5, 2, 9, 9), generator=generator) < 0.5 for _ in range(2))
    valid = torch.rand((5, 9, 9), generator=generator) < 0.9
    whole, left, right = (SkeletonMeter(("a", "b")) for _ in range(3))
    whole.update(pred, target, valid)
    edges = [0, *sorted(cuts), 5]
    for start, stop, goes_left in zip(edges, edges[1:], sides, strict=False):
        rows = slice(start, stop)
        (left if goes_left else right).update(pred[rows], target[rows], valid[rows])
    left.merge(right)

    assert left.compute() == whole.compute()


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="different names"):
        SkeletonMeter(("a", "a"))
    with pytest.raises(ConfigError, match="cannot be merged"):
        SkeletonMeter(("a",)).merge(SkeletonMeter(("b",)))
    with pytest.raises(ShapeError):
        SkeletonMeter(("a",)).update(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5), torch.ones(1, 4, 4).bool())

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskwright.types import Window
from maskwright.workflows.doubtful import Doubt, contradictions, strongest
from maskwright.workflows.label_next import mean_by_cell


def _found(probs: np.ndarray, true: np.ndarray, valid: np.ndarray | None = None, tolerance_px: int = 2) -> list:
    counts = np.ones_like(true) if valid is None else valid
    return list(contradictions(probs, probs > 0.5, true, counts, tolerance_px=tolerance_px))


def _planes() -> tuple[np.ndarray, np.ndarray]:
    return np.full((20, 30), 0.1, np.float32), np.zeros((20, 30), bool)


def test_a_thing_that_is_not_labelled_is_found_with_how_sure_the_model_is() -> None:
    probs, true = _planes()
    probs[4:7, 5:9] = 0.75
    ((inside, place, labelled, confidence, weight),) = _found(probs, true)
    assert inside.shape == (3, 4)
    assert (place[0].start, place[1].start) == (4, 5)
    assert not labelled
    assert confidence == pytest.approx(0.75)
    assert weight == pytest.approx(12 * 0.5)


def test_a_label_that_the_model_does_not_find_is_found() -> None:
    probs, true = _planes()
    true[4:7, 5:9] = True
    ((_, _, labelled, confidence, weight),) = _found(probs, true)
    assert labelled
    assert confidence == pytest.approx(0.9)
    assert weight == pytest.approx(12 * 0.8)


def test_outlines_are_forgiven_but_a_thin_thing_that_is_missed_is_not() -> None:
    probs, true = _planes()
    true[4:10, 5:12] = True
    probs[5:12, 6:14] = 0.9
    assert not _found(probs, true)
    assert _found(probs, true, tolerance_px=0)
    true[15, :] = True
    (one,) = _found(probs, true)
    assert one[2]
    assert one[0].sum() == 30


def test_pixels_that_do_not_count_are_no_contradiction() -> None:
    probs, true = _planes()
    probs[4:7, 5:9] = 0.9
    valid = np.ones_like(true)
    valid[:, :15] = False
    assert not _found(probs, true, valid)


def _doubt(weight: float, row: int = 0, scene: str = "a", column: str = "x") -> Doubt:
    return Doubt(scene, Window(row, 0, 4, 4), np.ones((4, 4), bool), column, True, 0.9, weight)


def test_the_ranking_is_by_weight_and_names_a_place_once() -> None:
    doubts = [_doubt(1.0), _doubt(3.0, column="y"), _doubt(2.0, row=3), _doubt(0.5, scene="b"), _doubt(0.0, row=30)]
    ranked = strongest(doubts, 10)
    assert [(one.rank, one.weight) for one in ranked] == [(1, 3.0), (2, 2.0), (3, 0.5)]
    assert [one.rank for one in strongest(doubts, 1)] == [1]
    assert replace(ranked[0], labelled=False).sentence == "y: not labelled, and the model finds it"


def test_cells_have_the_mean_of_what_is_known() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    values[0, 0], values[2, 2:] = np.nan, np.nan
    assert mean_by_cell(values, 2) == [
        (Window(0, 0, 2, 2), pytest.approx(10 / 3)),
        (Window(0, 2, 2, 2), pytest.approx(4.5)),
        (Window(2, 0, 1, 2), pytest.approx(8.5)),
    ]

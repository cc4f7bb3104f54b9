from __future__ import annotations

import math

import numpy as np
import pytest

from maskwright.errors import ConfigError, ShapeError
from maskwright.metrics import score_groups

COUNTS = np.array([[[1, 1, 0, 8]], [[3, 0, 1, 6]], [[0, 0, 0, 10]]])


def test_groups_are_scored_beside_the_whole() -> None:
    rows = score_groups(COUNTS, ["b", "a", "b"], ["5 m"], ["iou"])

    assert [(row["group"], row["name"], row["images"], row["valid_px"]) for row in rows] == [
        ("a", "5 m", 1, 10),
        ("b", "5 m", 2, 20),
    ]
    assert [row["iou"] for row in rows] == [0.75, 0.5]
    assert [row["iou_difference"] for row in rows] == pytest.approx([0.75 - 4 / 6, 0.5 - 4 / 6])


def test_a_group_without_the_class_has_no_score() -> None:
    rows = score_groups(COUNTS, ["a", "a", "empty"], ["5 m"], ["iou"])

    assert math.isnan(rows[1]["iou"])
    assert math.isnan(rows[1]["iou_difference"])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"do not fit 2 names; \(N, 2, 4\) needed"):
        score_groups(COUNTS, ["a", "b", "c"], ["x", "y"])
    with pytest.raises(ShapeError, match="2 block ids do not fit 3 rows"):
        score_groups(COUNTS, ["a", "b"], ["x"])
    with pytest.raises(ConfigError, match='no score "dise"'):
        score_groups(COUNTS, ["a", "b", "c"], ["x"], ["dise"])

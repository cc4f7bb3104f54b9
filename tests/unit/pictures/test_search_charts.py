"""Charts of a search: they draw what they are given, and refuse what does not fit together."""

from __future__ import annotations

import numpy as np
import pytest

from maskwright.errors import ShapeError
from maskwright.pictures.search_charts import _Scale, parallel_chart, ranking_chart, trials_chart


def test_numbers_lie_on_their_axis_by_size_or_by_magnitude() -> None:
    assert _Scale([1.0, 2.0, 5.0], log=False).heights.tolist() == [0.0, 0.25, 1.0]
    assert _Scale([0.001, 0.01, 0.1], log=True).heights == pytest.approx([0.0, 0.5, 1.0])
    assert [text for _, text in _Scale([0.001, 0.1], log=True).ticks] == ["0.001", "0.01", "0.1"]


def test_words_lie_on_their_axis_in_order_at_equal_distances() -> None:
    scale = _Scale(["unet", "resunet", "unet", None], log=False)

    assert scale.heights[:3] == pytest.approx([0.75, 0.25, 0.75])
    assert np.isnan(scale.heights[3])
    assert scale.ticks == [(0.25, "resunet"), (0.75, "unet")]


def test_one_value_alone_lies_in_the_middle() -> None:
    scale = _Scale([3.0, 3.0, None], log=False)

    assert scale.heights[:2].tolist() == [0.5, 0.5]
    assert np.isnan(scale.heights[2])
    assert scale.ticks == [(0.5, "3")]


def test_a_line_for_each_trial_is_drawn_and_the_best_is_orange() -> None:
    image = parallel_chart(
        {"optim.optimizer.lr": [0.001, 0.01, 0.1], "model.kind": ["unet", None, "resunet"]},
        [0.5, 0.7, None],
        score="val/iou",
        mode="max",
        log=["optim.optimizer.lr"],
    )
    pixels = np.asarray(image).reshape(-1, 3).astype(int)

    assert (np.abs(pixels - (196, 106, 27)).sum(axis=1) < 12).any()


def test_the_other_charts_are_drawn_with_no_one_or_many_trials() -> None:
    some: dict[int, float | None] = {1: 0.5, 2: None, 4: 0.2, 5: 0.9}
    for scores in ({}, {1: 0.5}, some):
        image = trials_chart(scores, {4}, mode="max", y="val/iou")
        assert min(image.size) > 100
    for shares in ({}, {"optim.optimizer.lr": 0.9, "model.kind": 0.1}):
        assert min(ranking_chart(shares).size) > 50


def test_a_setting_without_a_value_for_each_trial_is_refused() -> None:
    with pytest.raises(ShapeError, match='"a" has 1 values for 2 trials'):
        parallel_chart({"a": [1.0]}, [0.5, 0.6], score="val/iou", mode="max")

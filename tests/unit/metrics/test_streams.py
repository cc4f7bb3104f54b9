"""Valid pixels and masks, channel by channel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from maskwright.errors import ModelError, ShapeError
from maskwright.metrics.streams import channels_of, masks_of, require_probabilities, with_means

VALUES = torch.tensor([[[[0.1, 0.2]], [[0.3, 0.4]]]])  # (1, 2, 1, 2)
TARGET = torch.tensor([[[[1, 0]], [[0, 1]]]])
VALID = torch.tensor([[[True, False]]])


def test_only_pixels_that_count_pass_by() -> None:
    first, second = channels_of(VALUES, TARGET, VALID, 2, "probs")
    assert (first.number, second.number) == (0, 1)
    assert first.values.tolist() == [np.float32(0.1)]
    assert (first.positive.tolist(), second.positive.tolist()) == ([True], [False])


def test_half_precision_becomes_float32() -> None:
    (channel,) = channels_of(VALUES[:, :1].half(), TARGET[:, :1], VALID, 1, "probs")
    assert channel.values.dtype == np.float32


def test_masks_are_empty_where_nothing_counts() -> None:
    first, second = masks_of(TARGET, TARGET.flip(1), VALID, 2)
    assert (first.called.tolist(), first.true.tolist()) == ([[True, False]], [[False, False]])
    assert (second.called.tolist(), second.true.tolist()) == ([[False, False]], [[True, False]])


def test_nothing_is_broadcast() -> None:
    with pytest.raises(ShapeError, match=r"\(B, 2, H, W\) twice and \(B, H, W\) are needed"):
        list(masks_of(TARGET[:, :1], TARGET[:, :1], VALID, 2))


def test_means_leave_out_what_is_not_defined() -> None:
    each = {"road": {"f1": 0.5}, "roof": {"f1": math.nan}, "tree": {"f1": 1.0}}
    results = with_means(each)
    assert results["f1"] == 0.75
    assert results["f1@road"] == 0.5
    assert math.isnan(results["f1@roof"])
    assert math.isnan(with_means({"road": {"f1": math.nan}})["f1"])


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    require_probabilities(np.array([0.0, 0.5, 1.0]))
    with pytest.raises(ModelError, match=r"outside 0..1 or are NaN"):
        require_probabilities(np.array([0.5, bad]))

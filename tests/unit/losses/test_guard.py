"""What a loss of one's own loop is given by mistake."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from maskwright.errors import DataError, ModelError
from maskwright.losses.guard import Guard


def test_probabilities_in_the_place_of_logits_are_told_once() -> None:
    guard, probabilities, target = Guard(), torch.rand(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    with pytest.warns(UserWarning, match="values that all lie in 0..1"):
        guard.before(probabilities, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard.before(probabilities, target)
        Guard(is_logits=False).before(probabilities, target)


def test_a_mask_with_another_value_is_refused_by_that_value() -> None:
    with pytest.raises(DataError, match=r"A mask holds 7; only 0, 1 and 255 \(does not count\) have a meaning"):
        Guard().before(torch.randn(1, 1, 2, 2) * 9, torch.tensor([[[[0.0, 1.0], [255.0, 7.0]]]]))


def test_class_ids_are_no_mask() -> None:
    Guard(is_mask=False).before(torch.randn(1, 9, 2, 2) * 9, torch.full((1, 2, 2), 7))


def test_255_without_any_1_is_suspected_after_eight_batches() -> None:
    guard, logits = Guard(), torch.full((1, 1, 2, 2), 5.0)
    target = torch.tensor([[[[0.0, 0.0], [0.0, 255.0]]]])
    for _ in range(7):
        guard.before(logits, target)
    with pytest.warns(UserWarning, match="hold 255 and no 1"):
        guard.before(logits, target)


def test_nan_is_told_with_the_pixels_that_count() -> None:
    logits = torch.zeros(1, 1, 2, 2)
    logits[0, 0, 0] = math.nan
    counts = torch.tensor([[[True, False], [True, True]]])
    with pytest.raises(ModelError, match="NaN on 1 of 3 pixels that count"):
        Guard.after(torch.tensor(math.nan), logits, counts)
    Guard.after(torch.tensor(math.nan), torch.zeros(1, 1, 2, 2), counts)  # not the logits' fault
    Guard.after(torch.tensor(1.0), logits, counts)  # the NaN lies where nothing counts

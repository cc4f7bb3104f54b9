"""Scores of a loop of one's own, over batches of different sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from maskwright.errors import TrainingError
from maskwright.losses import LossManager
from maskwright.training.loop_scores import LoopScores, measure


class MeanSquare(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return ((logits - target) ** 2).mean()


def test_an_own_loss_is_averaged_over_samples_and_not_over_batches() -> None:
    scores, zeros = LoopScores(), torch.zeros(3, 1, 1, 1)
    scores.add(measure(MeanSquare(), torch.full((3, 1, 1, 1), 1.0), zeros))  # three samples at 1
    scores.add(measure(MeanSquare(), torch.full((1, 1, 1, 1), 3.0), zeros[:1]))  # one at 9
    assert scores.scores()["loss"] == pytest.approx((3 * 1 + 9) / 4)
    assert scores.batches == 2


def test_dice_comes_from_pixels_counted_over_all_batches() -> None:
    scores = LoopScores()
    target = torch.tensor([[[[1.0, 1.0, 0.0, 255.0]]]])
    own = scores.add(measure(MeanSquare(), torch.tensor([[[[5.0, -5.0, -5.0, 5.0]]]]), target))
    assert own["dice"] == pytest.approx(2 / 3)  # one found, one missed
    assert own["accuracy"] == pytest.approx(2 / 3)  # of three pixels that count
    scores.add(measure(MeanSquare(), torch.tensor([[[[5.0, 5.0, -5.0, 5.0]]]]), target))
    assert scores.scores()["dice"] == pytest.approx(2 * 3 / (2 * 3 + 1))


def test_nothing_to_find_and_nothing_found_is_a_dice_of_one() -> None:
    nothing = torch.zeros(1, 1, 2, 2)
    assert LoopScores().add(measure(MeanSquare(), nothing - 5, nothing))["dice"] == 1
    ignored = torch.full((1, 1, 2, 2), 255.0)
    assert math.isnan(LoopScores().add(measure(MeanSquare(), nothing, ignored))["dice"])


def test_terms_of_our_losses_are_kept_by_name() -> None:
    loss = LossManager().create_loss_function({"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3})
    measured = measure(loss, torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    told = LoopScores().add(measured)
    assert told["bce_loss"] == pytest.approx(math.log(2))
    assert told["loss"] == pytest.approx(0.7 * told["dice_loss"] + 0.3 * told["bce_loss"])


def test_a_loss_that_gives_no_number_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return logits

    with pytest.raises(TrainingError, match="The loss gave a Tensor and not one number"):
        measure(Pair(), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_before_the_first_batch_there_are_no_scores() -> None:
    assert LoopScores().scores() == {}

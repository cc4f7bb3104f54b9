"""Validation: scores over the whole set, and a model left as it was found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.losses import CombinedLoss
from maskwright.tasks import HeightGaps
from maskwright.training import validate
from maskwright.training.validation import evaluation_mode
from maskwright.types import Batch, Place, Window

Toy = Any


class Given(nn.Module):
    """Answers with the image itself: known logits."""

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        return image


def known_batch(logits: list[float], canopy: list[float], valid: list[bool], number: int) -> Batch:
    return Batch(
        image=torch.tensor(logits).view(1, 1, 1, -1),
        target=torch.tensor(canopy).view(1, 1, -1),
        valid=torch.tensor(valid).view(1, 1, -1),
        condition=torch.tensor([[10.0]]),
        where=(Place("known", Window(0, number, 1, len(logits))),),
    )


def test_scores_come_from_counts_summed_over_the_set_after_one_sigmoid(toy: Toy) -> None:
    batches = [
        known_batch([1.0, 1.0, 1.0, -1.0], [1, 1, 1, 1], [True] * 4, 0),  # three hits, one miss
        known_batch([1.0, -1.0, 5.0, 5.0], [30, 30, 30, 30], [True, True, False, False], 1),  # one false alarm
    ]
    scores = validate(Given(), toy.task, batches, device="cpu")
    assert scores is not None
    assert scores["val/iou"] == pytest.approx(3 / 5)  # the mean of the batches would be (3/4 + 0) / 2
    assert scores["val/precision@10m"] == pytest.approx(3 / 4)


def test_losses_are_averages_over_the_set_not_over_batches(toy: Toy) -> None:
    batches = [toy.batch(seed, samples, share) for seed, samples, share in ((0, 1, 0.1), (1, 3, 0.9), (2, 2, 0.5))]
    together = Batch(
        image=torch.cat([batch.image for batch in batches]),
        target=torch.cat([batch.target for batch in batches]),
        valid=torch.cat([batch.valid for batch in batches]),
        condition=torch.cat([batch.condition for batch in batches]),
        where=tuple(place for batch in batches for place in batch.where),
    )
    model = toy.net()
    apart = validate(model, toy.task, batches, device="cpu")
    with torch.no_grad():
        whole = toy.task.loss(model(together.image, together.condition), together)
    assert apart is not None
    assert apart["val/loss"] == pytest.approx(float(whole.total), abs=1e-6)
    assert apart["val/loss/bce"] == pytest.approx(float(whole.terms["bce"]), abs=1e-6)
    assert apart["val/loss/dice"] == pytest.approx(float(whole.terms["dice"]), abs=1e-6)


def test_the_keys_carry_the_part_of_the_split(toy: Toy) -> None:
    scores = validate(toy.net(), toy.task, [toy.batch(0)], device="cpu", part="test")
    assert scores is not None
    assert {"test/loss", "test/loss/bce", "test/loss/dice", "test/iou", "test/iou@10m"} <= set(scores)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_back_in_its_former_mode(toy: Toy, training: bool) -> None:
    model = toy.net(norm=True).train(training)
    validate(model, toy.task, [toy.batch(0)], device="cpu")
    assert [module.training for module in model.modules()] == [training] * len(list(model.modules()))


def test_the_model_is_back_in_its_former_mode_after_an_error(toy: Toy) -> None:
    model = toy.net(norm=True).train()

    def broken() -> Any:
        yield toy.batch(0)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        validate(model, toy.task, broken(), device="cpu")
    assert model.training
    assert model.norm.training


def test_a_frozen_part_stays_frozen_after_validation(toy: Toy) -> None:
    model = toy.net(norm=True).train()
    model.norm.eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert not model.norm.training


def test_validation_moves_no_weight_no_statistic_and_leaves_no_gradient(toy: Toy) -> None:
    model = toy.net(norm=True, dropout=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = validate(model, toy.task, [toy.batch(0), toy.batch(1)], device="cpu")
    second = validate(model, toy.task, [toy.batch(0), toy.batch(1)], device="cpu")
    assert first == second  # no dropout
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_validation_ends_when_asked(toy: Toy) -> None:
    seen: list[int] = []

    def after_batch() -> bool:
        seen.append(1)
        return len(seen) < 2

    assert validate(toy.net(), toy.task, toy.loader(4), device="cpu", after_batch=after_batch) is None
    assert len(seen) == 2


def test_a_meter_of_ones_own_keeps_the_counts() -> None:
    task = HeightGaps((10.0,), CombinedLoss({"bce": 1.0}))
    meter = task.meters()
    validate(Given(), task, [known_batch([1.0, -1.0], [1, 1], [True, True], 0)], device="cpu", meter=meter)
    assert meter.counts.tolist() == [[[1, 0, 1, 0]]]

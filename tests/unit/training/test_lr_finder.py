"""The range test, on a parabola whose good rates are known, and that it leaves no trace."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from maskwright.errors import ConfigError, TrainingError
from maskwright.training.lr_finder import find_lr, read_range_test
from maskwright.training.rewinding import random_state
from maskwright.types import LossOutput

Toy = Any
CURVATURE = 50.0


class Parabola:
    """A task whose loss is a parabola of the weight with a noisy place: plain descent diverges above 2 / curvature."""

    loss_terms = ("square",)
    loss_adds_up = True

    def loss_weights(self, group: Any) -> dict[str, torch.Tensor]:
        return {}

    def loss(self, outputs: torch.Tensor, batch: Any, weights: Any) -> LossOutput:
        total = 0.5 * CURVATURE * (outputs - 0.1 * torch.randn(())).square()
        return LossOutput(total, {"square": total.detach()})


class Weight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, image: Any, condition: Any) -> torch.Tensor:
        return self.weight * 1.0


def parabola(toy: Toy) -> Any:
    state = toy.state(Weight())
    state.optimizer.param_groups[0]["momentum"] = 0.0
    return state


def test_the_suggestion_lies_where_a_parabola_is_known_to_be_trained_well(toy: Toy) -> None:
    found = find_lr(parabola(toy), Parabola(), toy.loader(3), start_lr=1e-5, end_lr=10, steps=120)  # type: ignore[arg-type]
    assert found.diverged
    assert 0.1 / CURVATURE < found.minimum_lr < 3 / CURVATURE  # diverges above 2 / curvature
    assert 0.001 / CURVATURE < found.suggestion < 1 / CURVATURE
    assert found.suggestion <= found.tenth_of_minimum_lr * 1.05
    assert found.lrs[0] == pytest.approx(1e-5)
    assert found.lrs[-1] < 10
    assert len(found.lrs) == len(found.losses) == len(found.smoothed)


def test_a_range_test_leaves_no_trace(toy: Toy) -> None:
    state = toy.state(toy.net(norm=True, dropout=0.5), accumulate=2)
    loader = toy.loader(5)
    weights = toy.task.loss_weights([toy.batch(0)])
    state.begin_group(weights)
    toy.run_batch(state, toy.batch(0), weights)
    outcome = state.updater.update(state.optimizer)
    state.end_group(1, 2, stepped=outcome.stepped)
    state.model.drop.eval()
    before, drawn = copy.deepcopy(state.state_dict()), random_state(state.device)
    find_lr(state, toy.task, loader, start_lr=1e-2, end_lr=1.0, steps=40)
    after = state.state_dict()
    assert str(before) == str(after)
    for name, value in before["model"].items():
        assert torch.equal(value, after["model"][name])
    for mine, theirs in zip(before["optimizer"]["state"].values(), after["optimizer"]["state"].values(), strict=True):
        assert torch.equal(mine["momentum_buffer"], theirs["momentum_buffer"])
    assert torch.equal(drawn["cpu"], torch.get_rng_state())
    assert not state.model.drop.training
    assert state.model.training
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_two_range_tests_agree(toy: Toy) -> None:
    state = toy.state(toy.net(dropout=0.5))
    options: dict[str, Any] = {"start_lr": 1e-3, "end_lr": 1.0, "steps": 15}
    torch.rand(7)
    first = find_lr(state, toy.task, toy.loader(4), **options)
    torch.rand(7)
    assert find_lr(state, toy.task, toy.loader(4), **options).losses == first.losses


def test_groups_keep_their_proportion(toy: Toy) -> None:
    state, seen = toy.state(), []
    group = state.optimizer.param_groups[0]
    state.optimizer.param_groups.append({**group, "params": [], "lr": 0.01})

    def watch(done: int, lr: float, loss: float) -> None:
        seen.append((lr, [group["lr"] for group in state.optimizer.param_groups]))

    find_lr(state, toy.task, toy.loader(4), start_lr=1e-3, end_lr=0.1, steps=10, after_step=watch)
    assert len(seen) == 10
    assert all(lrs == pytest.approx([lr, lr / 10]) for lr, lrs in seen)


def test_the_curve_is_read_at_its_steepest_and_its_lowest_place() -> None:
    lrs = np.geomspace(1e-5, 1, 101)
    losses = [1 / (1 + math.exp(4 * (math.log10(lr) + 3))) + (5 * max(math.log10(lr) + 1, 0)) for lr in lrs]
    found = read_range_test(lrs.tolist(), losses, smoothing=0.0)
    assert found.steepest_lr == pytest.approx(1e-3, rel=0.15)
    assert found.minimum_lr == pytest.approx(0.1, rel=0.15)
    assert found.suggestion == 1e-3
    assert not found.diverged


@pytest.mark.parametrize("options", [{"start_lr": 1.0, "end_lr": 0.1}, {"start_lr": 0.0}, {"steps": 9}])
def test_a_range_that_makes_no_sense_is_refused(toy: Toy, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs 0 < start < end and 10 steps or more"):
        find_lr(toy.state(), toy.task, toy.loader(2), **options)


def test_a_loss_that_never_falls_or_is_no_number_is_told() -> None:
    lrs = np.geomspace(1e-5, 1, 20).tolist()
    with pytest.raises(TrainingError, match=r"The loss fell at no learning rate from 1\.0e-05 to 1\.0e\+00"):
        read_range_test(lrs, [1.0 + n for n in range(20)])
    with pytest.raises(TrainingError, match="it fared well for 3 updates only"):
        read_range_test(lrs[:3], [1.0, 0.9, 0.8])

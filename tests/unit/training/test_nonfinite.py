"""Numbers that are not finite: who is named, and what each policy does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from maskwright.errors import TrainingError
from maskwright.training import Callback, CallbackList, Recovery, fit
from maskwright.training.nonfinite import find_culprit

Toy = Any


class Steps(Callback):
    """What was noted and done; stops when told."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.calls = 0
        self.warnings: list[str] = []
        self.scores: list[dict[str, float]] = []

    def on_step_end(self, state: Any, outcome: Any) -> None:
        self.calls += 1
        if self.calls == self.stop_after:
            state.request_stop("enough")

    def on_note(self, state: Any, note: Any) -> None:
        if note.kind == "warning":
            self.warnings.append(note.fields["message"])

    def on_epoch_end(self, state: Any, scores: Any) -> None:
        self.scores.append(dict(scores))


class Explodes(torch.nn.Module):
    """Its output is infinite once its weight is too large: what a learning rate that is too high looks like."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.weight = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, image: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        logits = image * self.weight
        return logits + torch.where(self.weight.detach().abs() > self.limit, math.inf, 0.0)


def run(toy: Toy, state: Any, loader: Any, *callbacks: Callback, val: Any = None) -> None:
    fit(state, toy.task, loader, val, state.updater, CallbackList(callbacks), epochs=state.epochs)


def poisoned(toy: Toy, count: int, bad: int, sample: int = 1) -> Any:
    loader = toy.loader(count)
    loader.items[bad].image[sample, 0, 0, 0] = math.nan
    loader.items[bad].valid[sample, 0, 0] = True
    return loader


def test_the_sample_with_the_bad_pixel_is_named_with_its_file_and_window(toy: Toy) -> None:
    state = toy.state(toy.net(norm=True), accumulate=2)
    with pytest.raises(TrainingError) as error:
        run(toy, state, poisoned(toy, 4, bad=3))
    assert str(error.value) == (
        "Loss or gradient is not finite in epoch 1, step 2 (loss nan, gradient norm nan): first in its image, for toy "
        "(row 3, column 8, 5 x 5 px). Lower optim.optimizer.lr, set training.clip_norm, look for bad values in the "
        "data, or set training.on_nonfinite: skip or restore."
    )
    assert state.at_boundary
    assert all(bool(value.isfinite().all()) for value in state.model.state_dict().values())


def test_a_bad_target_a_term_and_a_gradient_are_told_apart(toy: Toy) -> None:
    state, batch = toy.state(toy.net()), toy.batch(0)
    weights = toy.task.loss_weights([batch])
    assert find_culprit(state, toy.task, [batch], weights) is None
    with torch.no_grad():
        state.model.scale.bias.fill_(math.inf)
    found = find_culprit(state, toy.task, [batch], weights)
    assert found is not None
    assert (found.what, found.alone, len(found.where)) == ("the term bce", True, 1)
    state.model.scale.bias.register_hook(lambda gradient: gradient * math.nan)
    with torch.no_grad():
        state.model.scale.bias.fill_(0.0)
    found = find_culprit(state, toy.task, [batch], weights)
    assert found is not None
    assert found.what == "the gradient of scale.bias"
    batch.target[0, 0, 0] = math.nan
    found = find_culprit(state, toy.task, [batch], weights)
    assert found is not None
    assert found.what == "its target"


def test_looking_for_the_culprit_moves_nothing(toy: Toy) -> None:
    state, batch = toy.state(toy.net(norm=True, dropout=0.5)), toy.batch(0)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    random = torch.get_rng_state()
    find_culprit(state, toy.task, [batch], toy.task.loss_weights([batch]))
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert state.model.training


def test_skipping_passes_over_the_group_without_a_step_of_the_schedule(toy: Toy) -> None:
    state, steps = toy.state(epochs=2, recovery=Recovery("skip")), Steps()
    run(toy, state, poisoned(toy, 4, bad=2), steps)
    assert (state.updater.skipped, state.global_step, state.schedule.last_epoch) == (2, 6, 6)
    assert "The step was skipped, 2 so far." in steps.warnings[1]
    assert "toy (row 2, column 8" in steps.warnings[0]


def exploding(toy: Toy, **options: Any) -> Any:
    options = {"on_nonfinite": "restore", "restore_times": 5, "restore_lr_factor": 0.25} | options
    return toy.state(Explodes(limit=0.4), lr=0.2, epochs=2, batches=6, recovery=Recovery(**options), average=0.5)


def test_restoring_goes_back_to_the_beginning_of_the_epoch_with_a_smaller_rate(toy: Toy) -> None:
    state, steps, loader = exploding(toy), Steps(), toy.loader(6)
    run(toy, state, loader, steps)
    assert state.epoch == 2
    assert state.restored >= 1
    assert len(steps.warnings) == state.restored
    assert state.lrs[0] == pytest.approx(0.2 * 0.25**state.restored)
    assert "first in the term bce, for toy (row" in steps.warnings[0]
    assert f"was restored, 1 of 5 times; the learning rate is {0.2 * 0.25:g} now" in steps.warnings[0]
    assert loader.asked[:2] == [(0, 0), (0, 0)]
    assert state.global_step == 12  # what was undone does not count
    assert all(math.isfinite(scores["train/loss"]) for scores in steps.scores)


def test_a_run_that_restores_in_vain_ends_with_the_number_of_times(toy: Toy) -> None:
    state = toy.state(recovery=Recovery("restore", restore_times=2))
    with pytest.raises(TrainingError, match=r"toy \(row 2.*restored 2 times, and again a number is not finite"):
        run(toy, state, poisoned(toy, 4, bad=2))
    assert state.restored == 2
    assert state.at_boundary


def test_interrupted_anywhere_a_run_that_restores_ends_with_the_same_bits(toy: Toy) -> None:
    through, entries = exploding(toy), Steps()
    run(toy, through, toy.loader(6), entries, val=toy.loader(2))
    for stop_after in range(1, entries.calls):
        stopped = exploding(toy)
        run(toy, stopped, toy.loader(6), Steps(stop_after), val=toy.loader(2))
        continued, rest = exploding(toy), Steps()
        continued.load_state_dict(stopped.state_dict())
        run(toy, continued, toy.loader(6), rest, val=toy.loader(2))
        assert torch.equal(continued.model.weight, through.model.weight)
        assert torch.equal(continued.weights()["weight"], through.weights()["weight"])
        assert (continued.restored, continued.lrs, continued.global_step) == (
            through.restored, through.lrs, through.global_step,
        )  # fmt: skip
        assert rest.scores[-1] == entries.scores[-1]


def test_a_scaler_that_overflows_is_counted_and_moves_neither_schedule_nor_step(toy: Toy) -> None:
    state = toy.state(epochs=1)
    # What fp16 does on a GPU: the scale is too large at first, gradients overflow, and it is halved.
    scaler = state.updater.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    state.model.scale.weight.register_hook(lambda grad: grad * (math.inf if scaler.get_scale() > 4 else 1.0))
    steps = Steps()
    run(toy, state, toy.loader(4), steps)
    assert state.updater.skipped == 2
    assert state.global_step == state.schedule.last_epoch == 2
    assert steps.warnings == []  # that is how it finds its scale
    saved = state.updater.state_dict()
    assert (saved["scaler"]["scale"], saved["skipped"]) == (4.0, 2)

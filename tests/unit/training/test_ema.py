"""The running average of the weights: numbers by hand, in a run, in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.errors import CheckpointError, ConfigError
from maskwright.training import Callback, CallbackList, WeightAverage, compile_model, fit

Toy = Any


class Stop(Callback):
    def __init__(self, at_step: int) -> None:
        self.at_step = at_step

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.at_step:
            state.request_stop("enough")


def run(toy: Toy, state: Any, *callbacks: Callback) -> None:
    fit(state, toy.task, toy.loader(7), toy.loader(2), state.updater, CallbackList(callbacks), epochs=state.epochs)


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_each_update_keeps_the_share_of_the_average_that_was_asked_for() -> None:
    layer = nn.Linear(1, 1, bias=False)
    set_to(layer, 0.0)
    average = WeightAverage(layer, decay=0.75, warmup_steps=0)
    for value, expected in ((4.0, 1.0), (5.0, 2.0), (2.0, 2.0)):  # 0.75 * 0 + 0.25 * 4, 0.75 * 1 + 0.25 * 5 ...
        set_to(layer, value)
        average.update()
        assert average.weights()["weight"].item() == pytest.approx(expected)
    assert average.updates == 3


def test_the_warm_up_lets_the_first_weights_be_forgotten() -> None:
    average = WeightAverage(nn.Linear(1, 1), decay=0.9, warmup_steps=10)
    shares = []
    for _ in range(200):
        shares.append(average.share)
        average.update()
    assert shares[:3] == pytest.approx([1 / 11, 2 / 12, 3 / 13])
    assert shares[88:90] == pytest.approx([89 / 99, 0.9])  # 90 / 100 from here on
    assert set(shares[90:]) == {0.9}


def test_statistics_of_norms_are_averaged_and_counts_are_taken_as_they_are() -> None:
    norm = nn.BatchNorm2d(1)
    average = WeightAverage(norm, decay=0.5, warmup_steps=0)
    with torch.no_grad():
        norm.running_mean.fill_(4.0)  # type: ignore[union-attr]
        norm.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    average.update()
    weights = average.weights()
    assert (weights["running_mean"].item(), weights["num_batches_tracked"].item()) == (2.0, 7)


def test_inside_applied_the_network_has_the_average_and_afterwards_its_own_weights_even_after_an_error() -> None:
    layer = nn.Linear(1, 1, bias=False)
    set_to(layer, 0.0)
    average = WeightAverage(layer, decay=0.5, warmup_steps=0)
    set_to(layer, 3.0)
    average.update()

    def fail_inside() -> None:
        with average.applied():
            assert layer.weight.item() == 1.5
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail_inside()
    assert layer.weight.item() == 3.0
    assert average.weights()["weight"].item() == 1.5


@pytest.mark.parametrize(("decay", "warmup"), [(0.0, 0), (1.0, 0), (float("nan"), 0), (0.9, -1)])
def test_numbers_out_of_range_are_refused(decay: float, warmup: int) -> None:
    with pytest.raises(ConfigError, match=r"training\.ema\.(decay|warmup_steps) is .* but must"):
        WeightAverage(nn.Linear(1, 1), decay, warmup)


def test_the_average_of_another_network_is_refused() -> None:
    saved = WeightAverage(nn.Linear(2, 1)).state_dict()
    with pytest.raises(CheckpointError, match="of another network: weight differs"):
        WeightAverage(nn.Linear(3, 1)).load_state_dict(saved)


def test_a_run_validates_with_the_average_and_trains_as_if_there_were_none(toy: Toy) -> None:
    class Looks(Callback):
        def __init__(self) -> None:
            self.inside: list[dict[str, torch.Tensor]] = []
            self.losses: list[float] = []

        def on_validation_batch_end(self, state: Any) -> None:
            assert not state.at_boundary  # nobody may save these as the weights that are trained
            self.inside.append({name: value.clone() for name, value in state.model.state_dict().items()})

        def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
            assert state.at_boundary
            self.losses.append(scores["val/loss"])

    plain, averaged = toy.state(toy.net(norm=True)), toy.state(toy.net(norm=True), average=0.9)
    looks, other = Looks(), Looks()
    run(toy, averaged, looks)
    plain_looks = other
    plain_looks.on_validation_batch_end = lambda state: None  # type: ignore[method-assign]
    run(toy, plain, plain_looks)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, averaged.model.state_dict()[name])
    assert all(torch.equal(value, looks.inside[-1][name]) for name, value in averaged.weights().items())
    assert looks.losses != other.losses


@pytest.mark.parametrize("at_step", [1, 3, 4, 5, 9])
def test_stopped_anywhere_and_continued_the_average_ends_with_the_same_bits(toy: Toy, at_step: int) -> None:
    def fresh() -> Any:
        return toy.state(toy.net(norm=True, dropout=0.3), accumulate=2, batches=7, epochs=3, average=0.9)

    torch.manual_seed(5)
    through = fresh()
    run(toy, through)
    torch.manual_seed(5)
    stopped = fresh()
    run(toy, stopped, Stop(at_step))
    continued = fresh()
    continued.load_state_dict(stopped.state_dict())
    run(toy, continued)
    assert continued.average.updates == through.average.updates == 12
    for name, value in through.weights().items():
        assert torch.equal(value, continued.weights()[name])
    assert continued.best == through.best


def test_an_update_that_is_skipped_is_not_taken_in(toy: Toy) -> None:
    state = toy.state(average=0.9)
    before = {name: value.clone() for name, value in state.weights().items()}
    state.begin_group(toy.task.loss_weights([toy.batch(0)]))
    state.end_group(1, 2, stepped=False)
    assert state.average.updates == 0
    assert all(torch.equal(value, before[name]) for name, value in state.weights().items())


def test_a_checkpoint_without_an_average_lets_it_begin_there_and_says_so(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    saved = toy.state(toy.net()).state_dict()
    state = toy.state(average=0.9)
    set_to(state.model, 5.0)
    state.load_state_dict(saved)
    assert all(torch.equal(value, state.model.state_dict()[name]) for name, value in state.weights().items())
    assert "holds no average of the weights: it begins with these" in caplog.text
    toy.state().load_state_dict(toy.state(average=0.9).state_dict())
    assert "training.ema is off" in caplog.text


def test_a_compiled_network_is_averaged_like_a_plain_one(toy: Toy) -> None:
    plain, compiled = toy.state(toy.net(), average=0.9), toy.state(toy.net(), average=0.9)
    compile_model(compiled.model, backend="eager")
    run(toy, plain)
    run(toy, compiled)
    assert set(plain.weights()) == set(compiled.weights()) == {"scale.weight", "scale.bias"}
    for name, value in plain.weights().items():
        torch.testing.assert_close(value, compiled.weights()[name])

"""From gradients to an update: precision, accumulation, clipping, finite numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.errors import ConfigError, TrainingError
from maskwright.training import StepUpdater
from maskwright.training.updater import clip_gradients


def parameter(values: list[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def give_gradient(updater: StepUpdater, weight: nn.Parameter, gradient: list[float]) -> None:
    updater.backward((weight * torch.tensor(gradient)).sum())


def step(weight: nn.Parameter, gradient: list[float], **options: float) -> tuple[list[float], float]:
    """What one SGD step with lr 1 takes from a weight of zeros, and the reported norm."""
    updater = StepUpdater((p for p in [weight]), **options)  # a generator, read once
    give_gradient(updater, weight, gradient)
    outcome = updater.update(torch.optim.SGD([weight], lr=1.0))
    assert outcome.stepped
    return (-weight.detach()).tolist(), outcome.grad_norm


def test_without_clipping_the_step_is_the_gradient() -> None:
    taken, norm = step(parameter([0.0, 0.0]), [3.0, 4.0])
    assert taken == pytest.approx([3.0, 4.0])
    assert norm == pytest.approx(5.0)


def test_clipping_by_norm_keeps_the_direction_and_reports_the_norm_before() -> None:
    taken, norm = step(parameter([0.0, 0.0]), [3.0, 4.0], clip_norm=1.0)
    assert taken == pytest.approx([0.6, 0.8], abs=1e-5)
    assert norm == pytest.approx(5.0)


def test_clipping_by_value_cuts_single_entries() -> None:
    taken, norm = step(parameter([0.0, 0.0]), [3.0, -0.5], clip_value=1.0)
    assert taken == pytest.approx([1.0, -0.5])
    assert norm == pytest.approx(math.hypot(3.0, 0.5))


def test_value_and_norm_clipping_together_work_with_a_generator_of_parameters() -> None:
    taken, norm = step(parameter([0.0, 0.0]), [30.0, 0.75], clip_value=1.0, clip_norm=0.5)
    assert taken == pytest.approx([0.4, 0.3], abs=1e-5)  # first (1, 0.75) of norm 1.25, then to norm 0.5
    assert norm == pytest.approx(math.hypot(30.0, 0.75))


def test_a_gradient_below_the_limits_is_left_alone() -> None:
    taken, _ = step(parameter([0.0, 0.0]), [0.3, 0.4], clip_value=1.0, clip_norm=1.0)
    assert taken == pytest.approx([0.3, 0.4])


def test_gradients_of_several_batches_add_up_and_are_gone_after_the_update() -> None:
    weight = parameter([0.0])
    updater = StepUpdater([weight], accumulate=2)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    give_gradient(updater, weight, [1.0])
    give_gradient(updater, weight, [2.0])
    updater.update(optimizer)
    assert weight.item() == pytest.approx(-3.0)
    assert weight.grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_never_stepped(bad: float) -> None:
    weight = parameter([1.0, 2.0])
    updater = StepUpdater([weight], clip_value=1.0, clip_norm=1.0)  # clipping must not hide it
    give_gradient(updater, weight, [bad, 1.0])
    outcome = updater.update(torch.optim.SGD([weight], lr=1.0))
    assert (outcome.stepped, outcome.finite, updater.skipped) == (False, False, 1)
    assert weight.detach().tolist() == [1.0, 2.0]
    assert weight.grad is None


def test_a_loss_that_is_not_finite_counts_even_if_its_gradient_is() -> None:
    weight = parameter([1.0])
    updater = StepUpdater([weight])
    updater.backward(weight.sum() + math.inf)
    outcome = updater.update(torch.optim.SGD([weight], lr=1.0))
    assert (outcome.stepped, outcome.finite, outcome.loss) == (False, False, math.inf)
    assert weight.item() == 1.0


def test_a_run_that_only_skips_is_ended() -> None:
    weight = parameter([1.0])
    updater, optimizer = StepUpdater([weight]), torch.optim.SGD([weight], lr=1.0)

    def skip_often() -> None:
        for _ in range(50):
            give_gradient(updater, weight, [math.nan])
            updater.update(optimizer)

    with pytest.raises(TrainingError, match=r"last 50 updates were all skipped.*Lower optim.optimizer.lr"):
        skip_often()


def test_half_precision_outside_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training.precision: fp16 needs a CUDA GPU, the device is cpu"):
        StepUpdater([parameter([1.0])], precision="fp16", device="cpu")


def test_brain_floats_are_used_inside_autocast_and_nowhere_else() -> None:
    layer, image = nn.Linear(2, 2), torch.ones(1, 2)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        updater = StepUpdater(layer.parameters(), precision=precision)
        with updater.autocast():
            assert layer(image).dtype == dtype
        assert layer(image).dtype == torch.float32


def test_an_update_without_a_backward_is_an_error() -> None:
    weight = parameter([1.0])
    with pytest.raises(TrainingError, match="without a backward"):
        StepUpdater([weight]).update(torch.optim.SGD([weight], lr=1.0))


def test_a_loss_that_reaches_no_parameter_is_an_error() -> None:
    weight, other = parameter([1.0]), parameter([1.0])
    updater = StepUpdater([weight])
    give_gradient(updater, other, [1.0])
    with pytest.raises(TrainingError, match="reached no parameter"):
        updater.update(torch.optim.SGD([weight], lr=1.0))


def test_a_frozen_model_is_refused() -> None:
    weight = parameter([1.0]).requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing to train"):
        StepUpdater([weight])


def test_the_counters_survive_saving() -> None:
    weight = parameter([1.0])
    updater, again = StepUpdater([weight]), StepUpdater([weight])
    give_gradient(updater, weight, [math.nan])
    updater.update(torch.optim.SGD([weight], lr=1.0))
    again.load_state_dict(updater.state_dict())
    assert again.state_dict() == updater.state_dict() == {"scaler": {}, "skipped": 1, "skipped_in_a_row": 1}


def with_scaler(weight: nn.Parameter, scale: float, **options: float) -> StepUpdater:
    """An updater whose losses are scaled as for fp16, which otherwise needs a GPU."""
    updater = StepUpdater([weight], **options)
    updater.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=scale, growth_interval=2)
    return updater


def test_scaled_gradients_are_unscaled_before_clipping_and_before_they_are_reported() -> None:
    weight = parameter([0.0, 0.0])
    updater = with_scaler(weight, 1024.0, clip_norm=1.0)
    give_gradient(updater, weight, [3.0, 4.0])
    outcome = updater.update(torch.optim.SGD([weight], lr=1.0))
    assert outcome.grad_norm == pytest.approx(5.0)
    assert (-weight.detach()).tolist() == pytest.approx([0.6, 0.8], abs=1e-5)


def test_an_overflow_of_the_scale_is_skipped_lowers_the_scale_and_is_no_fault() -> None:
    weight = parameter([1.0])
    updater = with_scaler(weight, 2.0**127)
    give_gradient(updater, weight, [4.0])
    outcome = updater.update(torch.optim.SGD([weight], lr=1.0))
    assert (outcome.stepped, outcome.finite, updater.skipped) == (False, True, 1)
    assert weight.item() == 1.0
    assert updater.scaler.get_scale() == 2.0**126


def test_the_scale_and_its_growth_survive_saving() -> None:
    weight = parameter([1.0])
    updater, again = with_scaler(weight, 8.0), with_scaler(weight, 1.0)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    give_gradient(updater, weight, [1.0])
    updater.update(optimizer)
    again.load_state_dict(updater.state_dict())
    give_gradient(again, weight, [1.0])
    again.update(optimizer)
    assert again.scaler.get_scale() == 16.0  # grown after two good steps, one of them before saving


# --- adaptive clipping ------------------------------------------------------------------------------------------------


def with_gradient(weight: list[Any], gradient: list[Any]) -> nn.Parameter:
    made = nn.Parameter(torch.tensor(weight))
    made.grad = torch.tensor(gradient)
    return made


def test_adaptive_clipping_by_hand_row_by_row() -> None:
    # Norms of the weights 5 and 1, of the gradients 10 and 0.05: of the first row at most 0.1 * 5 is left.
    matrix = with_gradient([[3.0, 4.0], [1.0, 0.0]], [[6.0, 8.0], [0.03, 0.04]])
    before = clip_gradients([matrix], clip_adaptive=0.1)
    assert matrix.grad is not None
    torch.testing.assert_close(matrix.grad, torch.tensor([[0.3, 0.4], [0.03, 0.04]]))
    assert float(before) == pytest.approx((100 + 0.0025) ** 0.5)


def test_adaptive_clipping_takes_a_filter_as_one_unit_and_a_bias_as_a_whole() -> None:
    filters = with_gradient([[[[2.0]]], [[[4.0]]]], [[[[1.0]]], [[[1.0]]]])
    bias = with_gradient([3.0, 4.0], [3.0, 4.0])
    clip_gradients([filters, bias], clip_adaptive=0.1)
    assert filters.grad is not None
    assert bias.grad is not None
    assert filters.grad.flatten().tolist() == pytest.approx([0.2, 0.4])
    assert bias.grad.tolist() == pytest.approx([0.3, 0.4])


def test_weights_at_zero_can_leave_it_and_gradients_of_zero_stay() -> None:
    matrix = with_gradient([[0.0], [1.0]], [[1.0], [0.0]])
    clip_gradients([matrix], clip_adaptive=0.1)
    assert matrix.grad is not None
    assert matrix.grad.flatten().tolist() == pytest.approx([1e-4, 0.0])


def test_the_three_limits_work_together_in_order() -> None:
    # Units: 10 becomes 2 and 4 becomes 2; by value 1.5 each; by norm 1.5 * sqrt(2) becomes 1.
    matrix = with_gradient([[20.0], [20.0]], [[10.0], [4.0]])
    before = clip_gradients([matrix], clip_adaptive=0.1, clip_value=1.5, clip_norm=1.0)
    assert matrix.grad is not None
    assert matrix.grad.flatten().tolist() == pytest.approx([0.5**0.5, 0.5**0.5])
    assert float(before) == pytest.approx(116**0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_adaptive_clipping_never_hides_a_gradient_that_is_not_finite(bad: float) -> None:
    weight = parameter([1.0, 2.0])
    updater = StepUpdater([weight], clip_adaptive=0.01)
    give_gradient(updater, weight, [bad, 1.0])
    outcome = updater.update(torch.optim.SGD([weight], lr=1.0))
    assert (outcome.stepped, outcome.finite) == (False, False)
    assert weight.detach().tolist() == [1.0, 2.0]

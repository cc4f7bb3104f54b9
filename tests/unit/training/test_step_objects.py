"""The parts of a step for a loop of one's own."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError, TrainingError
from maskwright.training import AMPManager, GradientAccumulator, GradientClipper, TrainingOptimizer

torch.set_num_threads(1)


def weight(values: list[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def with_gradient(gradient: list[float]) -> nn.Parameter:
    parameter = weight([0.0] * len(gradient))
    parameter.grad = torch.tensor(gradient)
    return parameter


# --- clipping ---------------------------------------------------------------------------------------------------------


def test_value_and_norm_are_clipped_together_for_a_generator_of_parameters() -> None:
    parameter = with_gradient([30.0, 0.75])
    norm = GradientClipper(clip_value=1.0, clip_norm=0.5).clip(each for each in [parameter])
    assert norm == pytest.approx(math.hypot(30.0, 0.75))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx([0.4, 0.3], abs=1e-5)  # first (1, 0.75), then to norm 0.5


def test_without_limits_only_the_norm_is_told() -> None:
    parameter = with_gradient([3.0, 4.0])
    assert GradientClipper(clip_norm=None)([parameter]) == pytest.approx(5.0)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_must_be_above_zero(limit: float) -> None:
    with pytest.raises(ConfigError, match=r"clip_norm is .*, but must be a number above 0, or None for no limit"):
        GradientClipper(clip_norm=limit)
    with pytest.raises(ConfigError, match=r"gradient_clip_value is"):
        TrainingOptimizer(gradient_clip_value=limit)
    with pytest.raises(ConfigError, match=r"gradient_clip_adaptive is"):
        TrainingOptimizer(gradient_clip_adaptive=limit)


def test_gradients_are_clipped_beside_their_weights_by_all_three_objects() -> None:
    for clip in (
        lambda parameter: GradientClipper(clip_norm=None, clip_adaptive=0.1).clip([parameter]),
        lambda parameter: _updated(AMPManager(False, "cpu", clipper=GradientClipper(None, None, 0.1)), parameter),
        lambda parameter: _updated(TrainingOptimizer(None, False, gradient_clip_adaptive=0.1, device="cpu"), parameter),
    ):
        parameter = weight([3.0, 4.0])
        parameter.grad = torch.tensor([6.0, 8.0])
        clip(parameter)
        moved = torch.tensor([3.0, 4.0]) - parameter.detach() if parameter.grad is None else parameter.grad
        assert moved.tolist() == pytest.approx([0.3, 0.4])  # a tenth of the norm of the weights, which is 5


def _updated(steps: AMPManager | TrainingOptimizer, parameter: nn.Parameter) -> None:
    """One update along the gradient the parameter has already."""
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    if isinstance(steps, AMPManager):
        steps.scale_loss(0 * parameter.sum()).backward()  # type: ignore[no-untyped-call]
        steps.step(optimizer)
    else:
        steps.backward_step(0 * parameter.sum(), optimizer)


def test_a_gradient_nowhere_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"no gradient anywhere"):
        GradientClipper().clip([weight([1.0])])


# --- accumulation -----------------------------------------------------------------------------------------------------


def test_groups_of_a_known_epoch_are_divided_by_their_own_size() -> None:
    accumulator = GradientAccumulator(3, batches=5)
    for _ in range(2):  # two epochs
        told = []
        for _ in range(5):
            scaled = float(accumulator.scale_loss(torch.tensor(6.0)))
            told.append((scaled, accumulator.should_step()))
        assert told == [(2.0, False), (2.0, False), (2.0, True), (3.0, False), (3.0, True)]


def test_groups_of_an_unknown_epoch_tell_what_a_shorter_one_must_be_multiplied_by() -> None:
    accumulator = GradientAccumulator(4)
    scaled = [float(accumulator.scale_loss(torch.tensor(8.0))) for _ in range(3)]
    assert scaled == [2.0, 2.0, 2.0]
    assert not accumulator.should_step()
    assert accumulator.correction == pytest.approx(4 / 3)


@pytest.mark.parametrize("arguments", [(0,), (2.5,), (True,), (2, 0)])
def test_group_sizes_must_be_whole_numbers(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match=r"must be a whole number from 1"):
        GradientAccumulator(*arguments)


# --- mixed precision --------------------------------------------------------------------------------------------------


def test_mixed_precision_on_the_cpu_is_fp32_with_a_notice_and_bf16_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        amp = AMPManager(True, "cpu")
    assert amp.precision == "fp32"
    assert "Mixed precision was asked for; on cpu it gains nothing" in caplog.text
    bf16 = AMPManager("bf16", "cpu")
    with bf16.autocast_context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises(ConfigError, match=r"fp16 trains on cuda only"):
        AMPManager("fp16", "cpu")


def test_a_step_by_hand_is_the_step_of_the_optimizer() -> None:
    by_hand, plain = weight([1.0, 2.0]), weight([1.0, 2.0])
    amp, optimizer = AMPManager(False, "cpu"), torch.optim.SGD([by_hand], lr=0.1)
    with amp.autocast_context():
        loss = (by_hand**2).sum()
    amp.scale_loss(loss).backward()
    outcome = amp.step(optimizer)
    assert outcome.stepped
    assert outcome.grad_norm == pytest.approx(math.hypot(2, 4))
    assert by_hand.grad is None
    (plain**2).sum().backward()
    torch.optim.SGD([plain], lr=0.1).step()
    assert torch.equal(by_hand, plain)
    amp.load_state_dict(amp.state_dict())


def test_a_gradient_that_is_not_finite_leaves_the_weights() -> None:
    parameter = weight([1.0])
    amp = AMPManager(False, "cpu", clipper=GradientClipper(clip_norm=1.0))
    amp.scale_loss(parameter.sum() * math.inf).backward()
    outcome = amp.step(torch.optim.SGD([parameter], lr=0.1))
    assert not outcome.stepped
    assert not outcome.finite
    assert parameter.tolist() == [1.0]
    assert amp.state_dict()["skipped"] == 1


# --- all together -----------------------------------------------------------------------------------------------------


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(1, 1, 3, padding=1)


def squares(model: nn.Module, image: Tensor) -> Tensor:
    return (model(image) ** 2).mean()


@pytest.mark.parametrize("way", ["flush", "is_last", "batches"])
def test_many_small_batches_are_one_big_one_also_in_the_shorter_last_group(way: str) -> None:
    image = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    small, big = conv(), conv()
    steps = TrainingOptimizer(0.05, False, 3, device="cpu", batches=5 if way == "batches" else None)
    optimizer, infos = torch.optim.SGD(small.parameters(), lr=0.5), []
    for index in range(5):
        with steps.forward_context():
            loss = squares(small, image[index : index + 1])
        is_last = way == "is_last" and index == 4
        infos.append(steps.backward_step(loss, optimizer, small.parameters(), is_last=is_last))
    if way == "flush":
        infos.append(steps.flush(optimizer))
    assert [info["stepped"] for info in infos].count(True) == 2
    assert infos[-1].stepped
    assert not steps.is_pending
    whole = TrainingOptimizer(0.05, False, device="cpu")
    optimizer = torch.optim.SGD(big.parameters(), lr=0.5)
    expected = [whole.backward_step(squares(big, image[part]), optimizer) for part in (slice(0, 3), slice(3, 5))]
    assert torch.allclose(small.weight, big.weight, atol=1e-6)
    found = [info for info in infos if info.stepped]
    for info, other in zip(found, expected, strict=True):
        assert info["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)
        assert info.loss == pytest.approx(other.loss, rel=1e-5)


def test_a_step_between_updates_tells_that_nothing_moved() -> None:
    model = conv()
    steps = TrainingOptimizer(accumulate_grad_batches=2, use_amp=False, device="cpu")
    info = steps.backward_step(squares(model, torch.ones(1, 1, 4, 4)), torch.optim.SGD(model.parameters(), lr=0.1))
    assert (info.stepped, info.grad_norm, info.finite) == (False, None, True)
    with pytest.raises(TrainingError, match=r"1 batches wait for their update and would be lost"):
        steps.state_dict()
    with pytest.raises(KeyError):
        info["lr"]


def test_parameters_added_to_the_optimizer_later_are_clipped_too() -> None:
    first, second = weight([0.0]), weight([0.0])
    optimizer = torch.optim.SGD([first], lr=1.0)
    steps = TrainingOptimizer(1.0, False, device="cpu")
    steps.backward_step((30 * first).sum(), optimizer)
    optimizer.add_param_group({"params": [second]})
    info = steps.backward_step((3 * first + 4 * second).sum(), optimizer)
    assert info.grad_norm == pytest.approx(5.0)
    assert second.tolist() == pytest.approx([-0.8], abs=1e-5)


def test_flushing_with_nothing_pending_does_nothing() -> None:
    model = conv()
    assert not TrainingOptimizer(device="cpu").flush(torch.optim.SGD(model.parameters(), lr=0.1)).stepped

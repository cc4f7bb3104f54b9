"""The parts of a step for a loop of one's own: TrainingOptimizer for all at once, and each part alone.

All of them are thin over :class:`~maskwright.training.updater.StepUpdater`, which runs of Maskwright use::

    steps = TrainingOptimizer(gradient_clip_norm=1.0, use_amp=True, accumulate_grad_batches=4)
    for image, target in loader:
        with steps.forward_context():
            loss = criterion(model(image), target)
        steps.backward_step(loss, optimizer)
    steps.flush(optimizer)                        # the last group may be shorter
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from maskwright.devices import Precision, choose_device, choose_precision
from maskwright.errors import ConfigError, TrainingError
from maskwright.training.updater import StepOutcome, StepUpdater, clip_gradients

__all__ = ["AMPManager", "GradientAccumulator", "GradientClipper", "StepInfo", "TrainingOptimizer", "choose_amp"]

log = logging.getLogger("maskwright.training")

Amp = bool | Literal["auto", "fp32", "bf16", "fp16"]


def choose_amp(use_amp: Amp, device: torch.device) -> Precision:
    """The precision meant by a wish for mixed precision.

    Args:
        use_amp: False: fp32. True: bf16 where the GPU has it, else fp16; fp32 with a notice where there is no CUDA GPU.
            ``auto``, ``fp32``, ``bf16``, ``fp16``: as ``training.precision``.
        device: Where the model is.

    Raises:
        ConfigError: If the device cannot train in the precision asked for.
    """
    if use_amp is False:
        return "fp32"
    if use_amp is not True:
        return choose_precision(use_amp, device)
    if device.type != "cuda":
        log.warning(
            "Mixed precision was asked for; on %s it gains nothing, so the training runs in fp32. "
            "Ask for bf16 by name to have it all the same.",
            device,
        )
        return "fp32"
    precision = choose_precision("auto", device)
    return "fp16" if precision == "fp32" else precision


class GradientClipper:
    """Limits gradients: unit by unit, by value and by norm, in this order, each if it is asked for.

    Args:
        clip_value: Largest absolute value of an entry; None: no limit.
        clip_norm: Largest norm of the whole gradient; None: no limit.
        clip_adaptive: Largest norm of a unit's gradient in shares of the norm of its weights, 0.01 for example; None:
            no limit. arXiv:2102.06171.

    Raises:
        ConfigError: If a limit is not above 0.
    """

    def __init__(
        self, clip_value: float | None = None, clip_norm: float | None = 1.0, clip_adaptive: float | None = None
    ) -> None:
        self.clip_value = _limit("clip_value", clip_value)
        self.clip_norm = _limit("clip_norm", clip_norm)
        self.clip_adaptive = _limit("clip_adaptive", clip_adaptive)

    def clip(self, parameters: Iterable[nn.Parameter]) -> float:
        """Clip in place and return the norm before any clipping; ``model.parameters()`` is fine.

        Raises:
            TrainingError: If no parameter has a gradient.
        """
        return float(
            clip_gradients(
                parameters, clip_norm=self.clip_norm, clip_value=self.clip_value, clip_adaptive=self.clip_adaptive
            )
        )

    __call__ = clip


class AMPManager:
    """Mixed precision alone: ``autocast_context``, ``scale_loss(loss).backward()``, ``step(optimizer)``.

    Args:
        enabled: As ``use_amp`` of :func:`choose_amp`.
        device: Where the model is; ``auto`` is the best of this machine.
        clipper: Limits the gradients once they are unscaled; None: none.

    Raises:
        ConfigError: If the device cannot train in the precision asked for.
    """

    def __init__(
        self, enabled: Amp = True, device: torch.device | str = "auto", *, clipper: GradientClipper | None = None
    ) -> None:
        device = choose_device(device) if isinstance(device, str) else device
        self.updater = StepUpdater(
            precision=choose_amp(enabled, device),
            clip_norm=None if clipper is None else clipper.clip_norm,
            clip_value=None if clipper is None else clipper.clip_value,
            clip_adaptive=None if clipper is None else clipper.clip_adaptive,
            device=device,
        )

    @property
    def precision(self) -> Precision:
        """fp32, bf16 or fp16."""
        return self.updater.precision

    def autocast_context(self) -> AbstractContextManager[Any]:
        """The context for forward pass and loss."""
        return self.updater.autocast()

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss to call ``backward`` on; with fp16 scaled up so that small gradients survive."""
        return self.updater.scaled(loss)

    def step(self, optimizer: Optimizer) -> StepOutcome:
        """Unscale, check, clip, step, zero; a gradient that is not finite leaves the weights as they are.

        Raises:
            TrainingError: If no loss was scaled before, or the last updates were all skipped.
        """
        return self.updater.update(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Scaler and counters, plain values."""
        return self.updater.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.updater.load_state_dict(state)


class GradientAccumulator:
    """Counts the batches of a group, so that several small ones make one update.

    Args:
        accumulate: Batches of a group, 1 or more.
        batches: Batches of an epoch; then the last group, which may be shorter, is divided by its own size. None: not
            known; every batch is divided by ``accumulate``, see :attr:`correction`.

    Attributes:
        count: Batches in the group so far.

    Raises:
        ConfigError: If a number is no whole number from 1.
    """

    def __init__(self, accumulate: int = 1, batches: int | None = None) -> None:
        for name, value in (("accumulate", accumulate), ("batches", batches)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} is {value!r}, but must be a whole number from 1.")
        self.accumulate = accumulate
        self.batches = batches
        self.count = 0
        self._position = 0

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Count a batch; its loss divided by the size of its group."""
        if self.should_step():
            self.reset()
        if self._position == self.batches:
            self._position = 0
        begun = self._position - self.count
        self.count += 1
        self._position += 1
        size = self.accumulate if self.batches is None else min(self.accumulate, self.batches - begun)
        return loss / size

    def should_step(self) -> bool:
        """Whether the group is complete: after its last batch, until the next one."""
        return self.count > 0 and (self.count >= self.accumulate or self._position == self.batches)

    def reset(self) -> None:
        """The group led to an update, or is forgotten."""
        self.count = 0

    def begin_epoch(self) -> None:
        """Start anew, whatever was left."""
        self.count = self._position = 0

    @property
    def correction(self) -> float:
        """What the gradients of the group so far must be multiplied by to be those of its mean loss."""
        known = self.batches is not None and self._position == self.batches
        return 1.0 if known or not self.count else self.accumulate / self.count


@dataclass(frozen=True, slots=True)
class StepInfo:
    """What came of a batch.

    Attributes:
        stepped: Whether the weights were updated.
        grad_norm: Norm of the whole gradient before clipping; None between updates.
        loss: Mean loss of the group; None between updates.
        finite: False if loss or gradient were not finite, so that the update was skipped.
    """

    stepped: bool
    grad_norm: float | None = None
    loss: float | None = None
    finite: bool = True

    def __getitem__(self, name: str) -> Any:
        """``info["grad_norm"]`` as well as ``info.grad_norm``."""
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)


class TrainingOptimizer:
    """Mixed precision, clipping and accumulation in two calls.

    Args:
        gradient_clip_norm: Largest norm of the gradient; None: no limit.
        use_amp: As of :func:`choose_amp`.
        accumulate_grad_batches: Batches whose gradients are added before an update.
        gradient_clip_value: Largest value of a gradient's entry; None: no limit. Both together are fine.
        gradient_clip_adaptive: As ``clip_adaptive`` of :class:`GradientClipper`.
        device: Where the model is; ``auto`` is the best of this machine.
        batches: Batches of an epoch, if known: the last group is then complete by itself and needs no ``flush``.

    Raises:
        ConfigError: If a number makes no sense, or the device cannot train in the precision asked for.
    """

    def __init__(
        self,
        gradient_clip_norm: float | None = 1.0,
        use_amp: Amp = "auto",
        accumulate_grad_batches: int = 1,
        *,
        gradient_clip_value: float | None = None,
        gradient_clip_adaptive: float | None = None,
        device: torch.device | str = "auto",
        batches: int | None = None,
    ) -> None:
        device = choose_device(device) if isinstance(device, str) else device
        self.accumulator = GradientAccumulator(accumulate_grad_batches, batches)
        self.updater = StepUpdater(
            precision=choose_amp(use_amp, device),
            accumulate=accumulate_grad_batches,
            clip_norm=_limit("gradient_clip_norm", gradient_clip_norm),
            clip_value=_limit("gradient_clip_value", gradient_clip_value),
            clip_adaptive=_limit("gradient_clip_adaptive", gradient_clip_adaptive),
            device=device,
        )
        self.outcome: StepOutcome | None = None

    @property
    def precision(self) -> Precision:
        """fp32, bf16 or fp16."""
        return self.updater.precision

    def forward_context(self) -> AbstractContextManager[Any]:
        """The context for forward pass and loss."""
        return self.updater.autocast()

    def backward_step(
        self,
        loss: Tensor,
        optimizer: Optimizer,
        params: Iterable[nn.Parameter] | None = None,
        *,
        is_last: bool = False,
    ) -> StepInfo:
        """Add the gradients of a batch, and update when its group is complete; gradients are zeroed after that.

        Args:
            loss: Mean loss of the batch, not divided by anything.
            optimizer: Its parameters are clipped and updated.
            params: Of no consequence, and accepted because loops hand it over: what is clipped is what is updated.
            is_last: True after the last batch of an epoch: a shorter group is complete too.

        Raises:
            TrainingError: If the loss reaches no parameter, or the last updates were all skipped.
        """
        self.updater.backward(self.accumulator.scale_loss(loss))
        if is_last or self.accumulator.should_step():
            return self._update(optimizer)
        return StepInfo(stepped=False)

    def flush(self, optimizer: Optimizer) -> StepInfo:
        """After the last batch of an epoch: update with what a shorter last group gathered, divided by its own size."""
        info = self._update(optimizer) if self.is_pending else StepInfo(stepped=False)
        self.accumulator.begin_epoch()
        return info

    @property
    def is_pending(self) -> bool:
        """Whether there are gradients that wait for an update."""
        return self.accumulator.count > 0

    def state_dict(self) -> dict[str, Any]:
        """Scaler and counters, plain values.

        Raises:
            TrainingError: Inside a group: gradients are not saved.
        """
        if self.is_pending:
            raise TrainingError(
                f"{self.accumulator.count} batches wait for their update and would be lost. Call flush(optimizer) "
                "before saving."
            )
        return self.updater.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.updater.load_state_dict(state)

    def _update(self, optimizer: Optimizer) -> StepInfo:
        if self.accumulator.correction != 1:
            self.updater.adopt(optimizer)
            self.updater.rescale(self.accumulator.correction)
        self.outcome = self.updater.update(optimizer)
        self.accumulator.reset()
        return StepInfo(self.outcome.stepped, self.outcome.grad_norm, self.outcome.loss, self.outcome.finite)


def _limit(name: str, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} is {value!r}, but must be a number above 0, or None for no limit.")
    return value

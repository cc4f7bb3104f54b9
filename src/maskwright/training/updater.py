"""StepUpdater: from gradients to an update. Mixed precision, accumulation, clipping and the check for finite numbers.

A hand-written loop can use it alone::

    updater = StepUpdater(model.parameters(), clip_norm=1.0)
    with updater.autocast():
        loss = criterion(model(image), target)
    updater.backward(loss)
    outcome = updater.update(optimizer)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from maskwright.devices import Precision
from maskwright.errors import ConfigError, TrainingError

__all__ = ["StepOutcome", "StepUpdater", "autocast_to", "clip_gradients"]

_LEAST_NORM = 1e-3
_MOST_SKIPPED = 50  # one after the other; a scaler that searches its scale needs about 20


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What became of a step.

    Attributes:
        stepped: Whether the weights were updated.
        grad_norm: Norm of the whole gradient before clipping.
        loss: Loss of the whole accumulation group.
        finite: False if loss or gradient were not finite for a reason that needs attention; a loss scaler that
            overflows and lowers its scale (fp16) is none.
    """

    stepped: bool
    grad_norm: float
    loss: float
    finite: bool


class StepUpdater:
    """Turns losses into updates.

    Args:
        parameters: What is trained; a generator is fine. None: what the optimizer holds that is updated.
        precision: ``fp32``, ``bf16`` (autocast) or ``fp16`` (autocast with a loss scaler, CUDA only).
        accumulate: Batches whose gradients are added before an update.
        clip_norm: Largest norm of the gradient; applied after ``clip_value`` if both are set. None: no limit.
        clip_value: Largest absolute value of a gradient's entry. None: no limit.
        clip_adaptive: Largest norm of a unit's gradient in shares of that of its weights; applied first. None: none.
        device: Where the model is.

    Attributes:
        skipped: Steps so far that were not taken because a number was not finite.
        is_updating: True while the optimizer writes weights; after an exception they may be half written.
        loss: Loss of the batches since the last update, a scalar on the device; None if there were none.

    Raises:
        ConfigError: If the device cannot do the precision, or there is nothing to train.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | None = None,
        *,
        precision: Precision = "fp32",
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        clip_adaptive: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._of_optimizer = parameters is None
        self.parameters = _trained(parameters or ())
        self.device = torch.device(device)
        if not self.parameters and not self._of_optimizer:
            raise ConfigError("There is nothing to train: no parameter of the model asks for a gradient.")
        if precision == "fp16" and self.device.type != "cuda":
            raise ConfigError(
                f"training.precision: fp16 needs a CUDA GPU, the device is {self.device}. Use auto, fp32 or bf16."
            )
        self.precision = precision
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.clip_adaptive = clip_adaptive
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.skipped = 0
        self.is_updating = False
        self._skipped_in_a_row = 0
        self.loss: Tensor | None = None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for forward pass and loss."""
        return autocast_to(self.precision, self.device)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of one batch. The loss must already be divided by the weight of its group."""
        self.scaled(loss).backward()  # type: ignore[no-untyped-call]

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call ``backward`` on, for a loop that does so itself; counts the batch as :meth:`backward`."""
        self.loss = loss.detach() if self.loss is None else self.loss + loss.detach()
        return self.scaler.scale(loss)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply gradients and loss since the last update, for a group that turned out shorter than planned."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        self.loss = None if self.loss is None else self.loss * factor

    def update(self, optimizer: Optimizer) -> StepOutcome:
        """Unscale, check, clip, step, zero. Waits for the device once, to learn norm and loss together.

        Raises:
            TrainingError: If no batch came before, or the last updates were all skipped.
        """
        if self.loss is None:
            raise TrainingError("update() was called without a backward() before it; there are no gradients.")
        self.adopt(optimizer)
        self.scaler.unscale_(optimizer)
        norm = clip_gradients(
            self.parameters, clip_norm=self.clip_norm, clip_value=self.clip_value, clip_adaptive=self.clip_adaptive
        )
        grad_norm, loss = torch.stack((norm, self.loss.to(norm))).tolist()
        self.loss = None
        finite = math.isfinite(grad_norm) and math.isfinite(loss)
        if finite:
            self.is_updating = True
            optimizer.step()
            self.is_updating = False
        if self.scaler.is_enabled():
            self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self._count(finite)
        return StepOutcome(finite, grad_norm, loss, finite or (self.scaler.is_enabled() and math.isfinite(loss)))

    def adopt(self, optimizer: Optimizer) -> None:
        """Where no parameters were given: take those the optimizer holds now, also ones added or unfrozen since."""
        if self._of_optimizer:
            self.parameters = _trained(each for group in optimizer.param_groups for each in group["params"])

    def discard(self, optimizer: Optimizer) -> None:
        """Forget the batches since the last update."""
        optimizer.zero_grad(set_to_none=True)
        self.loss = None

    def state_dict(self) -> dict[str, Any]:
        """Scaler and counters, plain values."""
        return {"scaler": self.scaler.state_dict(), "skipped": self.skipped, "skipped_in_a_row": self._skipped_in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(dict(state["scaler"]))
        self.skipped, self._skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]

    def _count(self, stepped: bool) -> None:
        self._skipped_in_a_row = 0 if stepped else self._skipped_in_a_row + 1
        self.skipped += not stepped
        if self._skipped_in_a_row >= _MOST_SKIPPED:
            raise TrainingError(
                f"The last {_MOST_SKIPPED} updates were all skipped because loss or gradient was not finite. "
                "Lower optim.optimizer.lr, or train with training.precision: fp32."
            )


def autocast_to(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The context for forward pass and loss in a precision."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def clip_gradients(
    parameters: Iterable[nn.Parameter],
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    clip_adaptive: float | None = None,
) -> Tensor:
    """Clip unit by unit, then by value, then by norm, in place.

    Args:
        parameters: What is trained; a generator is fine.
        clip_norm: Largest norm of the whole gradient; None: no limit.
        clip_value: Largest absolute value of an entry; None: no limit.
        clip_adaptive: Largest norm of a unit's gradient in shares of the norm of its weights; None: no limit.

    Returns:
        Norm of the whole gradient before any clipping, a scalar on the device.

    Raises:
        TrainingError: If no parameter has a gradient.
    """
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        raise TrainingError("The loss reached no parameter: no gradient anywhere. Is the whole model frozen?")
    norm_of: Callable[[Sequence[Tensor]], Tensor] = get_total_norm
    if any(hasattr(parameter, "to_local") for parameter in parameters):  # divided among processes
        from maskwright.distributed.shards import norm_of_all as norm_of
        from maskwright.distributed.shards import own_part

        parameters = [own_part(parameter) for parameter in parameters]
    norm = before = norm_of(gradients)
    if clip_adaptive is not None:
        _clip_units(parameters, clip_adaptive)
    if clip_value is not None:
        clip_grad_value_(parameters, clip_value)
    if clip_norm is not None and not (clip_value is None and clip_adaptive is None):
        norm = norm_of(gradients)
    if clip_norm is not None:
        clip_grads_with_norm_(parameters, clip_norm, norm)
    return before


@torch.no_grad()
def _clip_units(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Scale down gradients that are large beside their weights, a unit at a time. arXiv:2102.06171, section 4.1.

    A unit is what makes one output: a row of a matrix, a filter of a convolution. Vectors such as biases are one unit.
    Weights near 0 count as 0.001, so that they can leave it.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        inside = tuple(range(1, parameter.ndim)) if parameter.ndim > 1 else None
        weight = torch.linalg.vector_norm(parameter, dim=inside, keepdim=True).clamp(min=_LEAST_NORM)
        gradient = torch.linalg.vector_norm(parameter.grad, dim=inside, keepdim=True)
        parameter.grad.mul_((limit * weight / gradient).clamp(max=1.0))


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]

"""From the optim section to an optimizer and a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskwright.optim.optimizers import adamw
from maskwright.optim.schedules import constant, one_cycle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from maskwright.config.optim import OptimConfig

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "build_schedule"]


def build_optimizer(
    config: OptimConfig, model: nn.Module, *, groups: Mapping[str, Mapping[str, float]] | None = None
) -> Optimizer:
    """The optimizer a section describes, over the trainable parameters of the model.

    Args:
        config: The section.
        model: The network, alone or first in a ``ModuleList`` beside parts of the loss that are trained.
        groups: Parts of the network by path with an ``lr`` or ``weight_decay`` of their own; None: all alike.

    Raises:
        ModelError: If nothing in the model is trainable, or it has no such part.
        ConfigError: If an option of a part makes no sense.
    """
    return OPTIMIZERS[config.optimizer.kind](model, groups=groups, **config.optimizer.model_dump(exclude={"kind"}))


def build_schedule(config: OptimConfig, optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The schedule a section describes.

    Args:
        config: The section.
        optimizer: What the schedule acts on.
        total_steps: Optimizer steps of the whole run: batches of an epoch divided by ``accumulate``, rounded up, times
            the epochs. Also for a run that is continued.
    """
    return SCHEDULES[config.schedule.kind](optimizer, total_steps, **config.schedule.model_dump(exclude={"kind"}))


def _constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    return constant(optimizer)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": adamw}
SCHEDULES: dict[str, Callable[..., LRScheduler]] = {"constant": _constant, "onecycle": one_cycle}

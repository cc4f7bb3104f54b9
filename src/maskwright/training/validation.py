"""validate: a model and a loader to losses and scores, counted over the whole set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from maskwright.tasks.interface import Meter, Task
from maskwright.training.averages import LossSums
from maskwright.types import Batch

__all__ = ["evaluation_mode", "scores_of", "validate", "walk"]


def validate(
    model: nn.Module,
    task: Task,
    loader: Iterable[Batch],
    *,
    device: torch.device | str,
    part: str = "val",
    autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    after_batch: Callable[[], bool] | None = None,
    meter: Meter | None = None,
) -> dict[str, float] | None:
    """Losses and scores of ``model`` on all batches of ``loader``.

    Args:
        model: The network, on ``device``; every module is back in its former mode afterwards, whatever happens.
        task: What its outputs mean.
        loader: Batches, unchanged by augmentation.
        device: Where batches are sent.
        part: First half of the keys: ``val/loss``, ``val/loss/bce``, ``val/iou``, ``val/iou@5m``.
        autocast: Context of the forward pass, for mixed precision.
        after_batch: Called after each batch; False ends the validation.
        meter: Counts go here; unset: a fresh one.

    Returns:
        Scores by key; None if ``after_batch`` ended it early. Averages are NaN where nothing was valid.
    """
    meter = task.meters() if meter is None else meter
    sums = LossSums(task.loss_terms)
    if not walk(model, task, loader, sums, meter, device=device, autocast=autocast, after_batch=after_batch):
        return None
    return scores_of(sums, meter, part)


def walk(
    model: nn.Module,
    task: Task,
    loader: Iterable[Batch],
    sums: LossSums,
    meter: Meter,
    *,
    device: torch.device | str,
    autocast: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    after_batch: Callable[[], bool] | None = None,
) -> bool:
    """Add losses and counts of all batches to ``sums`` and ``meter``; False if ``after_batch`` ended it early.

    The other arguments are those of :func:`validate`.
    """
    with evaluation_mode(model), torch.no_grad():
        for batch in loader:
            batch = batch.to(device)
            weights = task.loss_weights([batch])
            with autocast():
                outputs = model(batch.image, batch.condition)
                loss = task.loss(outputs, batch, weights)
            sums.begin_group(weights)
            sums.add(loss, weights)
            sums.end_group()
            task.update(meter, outputs, batch)
            if after_batch is not None and not after_batch():
                return False
    return True


def scores_of(sums: LossSums, meter: Meter, part: str) -> dict[str, float]:
    """Losses and scores by key, from what was counted."""
    return sums.averages(part) | {f"{part}/{name}": float(score) for name, score in meter.compute().items()}


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and each module's own former mode afterwards: frozen parts stay as they were."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

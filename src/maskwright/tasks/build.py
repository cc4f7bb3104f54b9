"""TaskConfig to task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskwright.config.loss import LossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import ModelConfig
from maskwright.config.task import TaskConfig
from maskwright.errors import ModelError
from maskwright.losses import build_loss
from maskwright.tasks.height_gaps import HeightGaps

__all__ = ["TASKS", "build_task", "task_from_dict"]

TASKS: dict[str, type[HeightGaps]] = {"height_gaps": HeightGaps}


def build_task(task: TaskConfig, loss: LossConfig, metrics: MetricsConfig, model: ModelConfig) -> HeightGaps:
    """The task of an experiment; ``model`` decides whether heights are free or fixed."""
    return TASKS[task.kind](
        task.heights_m,
        build_loss(loss),
        condition_scale=task.condition_scale_m,
        probability_threshold=metrics.probability_threshold,
        fixed=not model.conditioned,
    )


def task_from_dict(description: Mapping[str, Any]) -> HeightGaps:
    """The task stored with a model, without a loss.

    Raises:
        ModelError: If it is of a kind this version does not know.
    """
    kind = description.get("kind")
    if kind not in TASKS:
        raise ModelError(f"The model was made for the task {kind!r}, unknown here. Known: {', '.join(sorted(TASKS))}.")
    return TASKS[kind].from_dict(description)

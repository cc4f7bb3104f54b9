"""TaskConfig to task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskwright.config.loss import LossConfig
from maskwright.config.metrics import MetricsConfig
from maskwright.config.model import ModelConfig
from maskwright.config.task import OBJECTS, TaskConfig
from maskwright.errors import ConfigError, ModelError
from maskwright.losses import (
    CombinedLoss,
    build_height_weights,
    build_learned_weights,
    build_loss,
    build_loss_schedule,
)
from maskwright.losses.terms import Takes
from maskwright.models.grouping import GroupSettings
from maskwright.tasks.agroforestry import Agroforestry
from maskwright.tasks.binary import Binary
from maskwright.tasks.height import Height
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.instances import Instances
from maskwright.tasks.multiclass import Multiclass
from maskwright.tasks.multilabel import Multilabel

__all__ = ["TASKS", "AnyTask", "build_task", "task_from_dict"]

AnyTask = HeightGaps | Height | Binary | Multiclass | Multilabel | Instances | Agroforestry

TASKS: dict[str, type[AnyTask]] = {
    "height_gaps": HeightGaps,
    "height": Height,
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
    "instances": Instances,
    "agroforestry": Agroforestry,
}
_GROUPING = ("shapes", "disc_px", "min_score", "min_distance_px", "mask_threshold", "min_area_px")
_TAKES: dict[str, Takes] = {"height": "values", "multiclass": "classes"}


def build_task(
    task: TaskConfig,
    loss: LossConfig,
    metrics: MetricsConfig,
    model: ModelConfig,
    classes: Sequence[str] = (),
    *,
    class_counts: Sequence[int] | None = None,
    gap_shares: Mapping[float, float] | None = None,
    has_background: bool = True,
    tells_classes: bool = True,
) -> AnyTask:
    """The task of an experiment.

    Args:
        task: Its section.
        loss: What is minimised.
        metrics: How it is scored.
        model: Decides whether heights are free or fixed.
        classes: Names of what is scored, for tasks of classes: the names of the data's class table.
        class_counts: Training pixels by class, where weights of the loss are ``auto``, see ``build_loss``; what stands
            behind the last of exclusive classes is not looked at.
        gap_shares: Shares of gap pixels by height in metres, where the loss weighs heights.
        has_background: Whether the first of exclusive classes is the background, which has no objects.
        tells_classes: Whether the labels tell the class of pixels; points do not.

    Raises:
        ConfigError: If something the settings ask for was not given, or names and kind do not fit together.
    """
    if task.kind == "multiclass":
        class_counts = None if class_counts is None else class_counts[: len(classes)]
        _check_class_weights(loss, classes)
    combined = build_loss(loss, takes=_TAKES.get(task.kind, "channels"), class_counts=class_counts)
    moving = {"schedule": build_loss_schedule(loss, combined), "learned": build_learned_weights(loss, combined)}
    if task.kind == "height_gaps":
        return HeightGaps(
            task.heights_m,
            combined,
            condition_scale=task.condition_scale_m,
            probability_threshold=metrics.probability_threshold,
            fixed=not model.conditioned,
            height_weights=build_height_weights(loss, gap_shares),
            **moving,
        )
    if task.kind == "height":
        return Height(task.scale_m, combined, **moving)
    if not classes:
        raise ConfigError(f"task.kind {task.kind} needs the names of its classes. Give classes.")
    if task.kind in OBJECTS:
        covers = tells_classes and loss.terms.get("semantic", 0) > 0
        return _object_task(task, combined, classes, int(has_background), covers=covers, **moving)
    kinds: dict[str, type[Binary | Multiclass | Multilabel]] = {
        "binary": Binary,
        "multiclass": Multiclass,
        "multilabel": Multilabel,
    }
    return kinds[task.kind](classes, combined, probability_threshold=metrics.probability_threshold, **moving)


def _object_task(
    task: Any, loss: CombinedLoss, classes: Sequence[str], first: int, **moving: Any
) -> Instances | Agroforestry:
    options = {"object_classes": task.object_classes or tuple(classes[first:]), "scale_px": task.scale_px}
    options |= {"grouping": GroupSettings(**{name: getattr(task, name) for name in _GROUPING})}
    options |= {"match_distance_m": task.match_distance_m, "centre_sigma_px": task.centre_sigma_px, **moving}
    if task.kind == "instances":
        return Instances(classes, loss, **options)
    return Agroforestry(classes, loss, density_sigma_px=task.density_sigma_px, **options)


def _check_class_weights(loss: LossConfig, classes: Sequence[str]) -> None:
    weights = getattr(loss, "class_weights", None)
    if isinstance(weights, tuple) and len(weights) != len(classes):
        raise ConfigError(
            f"loss.class_weights: {len(weights)} weights are given for {len(classes)} classes: {', '.join(classes)}. "
            "Give one for each, in this order."
        )


def task_from_dict(description: Mapping[str, Any]) -> AnyTask:
    """The task stored with a model, without a loss.

    Raises:
        ModelError: If it is of a kind this version does not know.
    """
    kind = description.get("kind")
    if kind not in TASKS:
        raise ModelError(f"The model was made for the task {kind!r}, unknown here. Known: {', '.join(sorted(TASKS))}.")
    return TASKS[kind].from_dict(description)

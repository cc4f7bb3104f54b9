"""Which files a prediction may leave, so that those of an earlier one are noticed before any work."""

from __future__ import annotations

from maskwright.prediction import instances_outputs, map_metres, map_raster
from maskwright.prediction.class_outputs import class_endings
from maskwright.prediction.model_card import ModelCard
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.object_task import ObjectTask

__all__ = ["output_endings"]


def output_endings(card: ModelCard) -> tuple[str, ...]:
    """Endings of all files that a prediction with this model may write, after ``{stem}_``."""
    if isinstance(card.task, ObjectTask):
        return instances_outputs.ENDINGS
    if card.image is not None:
        return class_endings(card.task.class_names)
    return map_raster.ENDINGS if isinstance(card.task, HeightGaps) else map_metres.ENDINGS

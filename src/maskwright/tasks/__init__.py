"""What outputs mean: model, loss, meters and decoding for one kind of work."""

from __future__ import annotations

from maskwright.tasks.binary import Binary
from maskwright.tasks.build import TASKS, AnyTask, build_task, task_from_dict
from maskwright.tasks.classes import ClassMeter, ClassTask
from maskwright.tasks.height import Height, HeightMeter
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.interface import LossTerm, Meter, Task
from maskwright.tasks.multiclass import Multiclass
from maskwright.tasks.multilabel import Multilabel

__all__ = [
    "TASKS",
    "AnyTask",
    "Binary",
    "ClassMeter",
    "ClassTask",
    "Height",
    "HeightGaps",
    "HeightMeter",
    "LossTerm",
    "Meter",
    "Multiclass",
    "Multilabel",
    "Task",
    "build_task",
    "task_from_dict",
]

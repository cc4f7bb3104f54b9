"""What outputs mean: model, loss, meters and decoding for one kind of work."""

from __future__ import annotations

from maskwright.tasks.agroforestry import Agroforestry
from maskwright.tasks.binary import Binary
from maskwright.tasks.build import TASKS, AnyTask, build_task, task_from_dict
from maskwright.tasks.classes import ClassMeter, ClassTask
from maskwright.tasks.height import Height, HeightMeter
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.instances import Instances
from maskwright.tasks.interface import LossTerm, Meter, Task
from maskwright.tasks.multiclass import Multiclass
from maskwright.tasks.multilabel import Multilabel
from maskwright.tasks.object_task import ObjectMeter, ObjectTask

__all__ = [
    "TASKS",
    "Agroforestry",
    "AnyTask",
    "Binary",
    "ClassMeter",
    "ClassTask",
    "Height",
    "HeightGaps",
    "HeightMeter",
    "Instances",
    "LossTerm",
    "Meter",
    "Multiclass",
    "Multilabel",
    "ObjectMeter",
    "ObjectTask",
    "Task",
    "build_task",
    "task_from_dict",
]

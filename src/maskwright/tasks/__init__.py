"""What outputs mean: model, loss, meters and decoding for one kind of work."""

from __future__ import annotations

from maskwright.tasks.build import TASKS, build_task, task_from_dict
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.tasks.interface import LossTerm, Meter, Task

__all__ = ["TASKS", "HeightGaps", "LossTerm", "Meter", "Task", "build_task", "task_from_dict"]

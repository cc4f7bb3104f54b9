"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from maskwright.optim.build import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule, create_scheduler
from maskwright.optim.optimizers import decay_groups, named_groups
from maskwright.optim.schedules import Schedule, Span
from maskwright.optim.score_schedules import ScoreSchedule

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Schedule",
    "ScoreSchedule",
    "Span",
    "build_optimizer",
    "build_schedule",
    "create_scheduler",
    "decay_groups",
    "named_groups",
]

"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from maskwright.optim.build import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule
from maskwright.optim.optimizers import decay_groups, named_groups

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "build_schedule", "decay_groups", "named_groups"]

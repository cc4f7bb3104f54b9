"""Optimizer and learning-rate schedule. Schedules count optimizer steps."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section

__all__ = ["AdamWConfig", "ConstantSchedule", "OneCycleSchedule", "OptimConfig", "ScheduleConfig"]


class AdamWConfig(Section):
    """Adam with decoupled weight decay. arXiv:1711.05101."""

    kind: Literal["adamw"] = Field("adamw", help="Adam with decoupled weight decay.")
    lr: float = Field(1e-3, gt=0, le=10, help="Learning rate.")
    weight_decay: float = Field(0.01, ge=0, help="Pull of weights towards 0; not applied to biases and norms.")
    betas: tuple[float, float] = Field((0.9, 0.999), advanced=True, help="Memory of the running means.")
    eps: float = Field(1e-8, gt=0, advanced=True, help="Added to the denominator.")

    @model_validator(mode="after")
    def _betas_below_one(self) -> AdamWConfig:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: {list(self.betas)} must both lie from 0 to below 1, for example [0.9, 0.999]")
        return self


class OneCycleSchedule(Section):
    """Up to a peak and down again, in optimizer steps. arXiv:1708.07120."""

    kind: Literal["onecycle"] = Field("onecycle", help="One rise and one long fall of the learning rate.")
    max_lr: float | None = Field(None, gt=0, help="Peak learning rate; unset: the optimizer's lr.")
    pct_start: float = Field(0.3, gt=0, lt=1, help="Share of the steps spent rising.")
    div_factor: float = Field(25.0, gt=1, help="The start is the peak divided by this.")
    final_div_factor: float = Field(1e4, gt=1, help="The end is the start divided by this.")


class ConstantSchedule(Section):
    """The learning rate of the optimizer, unchanged."""

    kind: Literal["constant"] = Field("constant", help="No schedule.")


ScheduleConfig = Annotated[OneCycleSchedule | ConstantSchedule, pydantic.Field(discriminator="kind")]


class OptimConfig(Section):
    """How weights are updated."""

    optimizer: AdamWConfig = Field(default_factory=AdamWConfig, help="The update rule.")
    schedule: ScheduleConfig = Field(default_factory=OneCycleSchedule, help="The learning rate over the run.")

"""What watches the run: early stopping."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from maskwright.config.base import Field, Section
from maskwright.config.metric_names import canonical_metric

__all__ = ["CallbacksConfig", "EarlyStoppingConfig"]


class EarlyStoppingConfig(Section):
    """Stop when the monitored score no longer improves."""

    enabled: bool = Field(
        True, help="Stop early. With training.budget and nothing said of early stopping: off, the minutes are used."
    )
    patience: int = Field(10, ge=1, unit="epochs", help="Validated epochs without improvement that end the run.")
    min_delta: float = Field(0.0, ge=0, help="A smaller change is no improvement.")
    min_epochs: int = Field(
        0,
        ge=0,
        unit="epochs",
        help="Never stop before this many epochs; the best counts from the first. Unsaid for tasks that learn from "
        "images: half of training.epochs.",
    )


class CallbacksConfig(Section):
    """Watchers of the run."""

    monitor: str | None = Field(
        None, help="Score that decides what is best, for example val/iou; unset: the task's own."
    )
    mode: Literal["auto", "min", "max"] = Field(
        "auto", help="Whether lower or higher is better; auto: known from the score."
    )
    early_stopping: EarlyStoppingConfig = Field(default_factory=EarlyStoppingConfig, help="Stop when nothing improves.")

    save_predictions_every: int | None = Field(
        None,
        ge=1,
        unit="epochs",
        help="Epochs from one time to the next that what the model says of the validation images is written to the "
        "folder predictions of the run, the last epoch as well; unset: never.",
    )

    @field_validator("monitor")
    @classmethod
    def _one_name(cls, monitor: str | None) -> str | None:
        return None if monitor is None else canonical_metric(monitor)

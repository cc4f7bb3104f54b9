"""When the state of the run is saved and how much of it is kept."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section

__all__ = ["CheckpointsConfig"]


class CheckpointsConfig(Section):
    """Saving and keeping. The newest and the best checkpoint are always kept."""

    every_epochs: int = Field(
        1, ge=1, unit="epochs", help="Epochs from one checkpoint to the next; the last epoch always."
    )
    every_steps: int | None = Field(None, ge=1, unit="steps", help="Also save inside an epoch, after so many updates.")
    every_minutes: float | None = Field(10.0, gt=0, unit="min", help="Also save inside an epoch when this long passed.")
    max_checkpoints: int = Field(3, ge=1, help="Checkpoints kept on disk, newest first, beside the best.")
    strategy: Literal["best", "epoch", "interval", "all", "adaptive", "performance_based", "time_based"] = Field(
        "epoch",
        help="Which checkpoints stay once a newer one is saved: epoch, all: each; best: each that was the best when it "
        "came; interval: every interval_epochs; adaptive, performance_based, time_based: the best, and plateaus, near "
        "bests or milestones.",
    )
    interval_epochs: int = Field(
        5, ge=1, unit="epochs", help="Epochs from one kept checkpoint to the next; for the strategy interval."
    )
    background: bool = Field(
        True,
        advanced=True,
        help="Write checkpoints in a thread while training goes on; needs memory for one more copy of weights and "
        "optimizer state. Off: training waits for each. What is saved as a run ends is always waited for, and with "
        "training.strategy: fsdp every one.",
    )

    @model_validator(mode="after")
    def _strategy_sees_every_epoch(self) -> CheckpointsConfig:
        if self.every_epochs > 1 and self.strategy not in ("best", "epoch", "all"):
            raise ValueError(
                f"every_epochs: {self.every_epochs} hides epochs from the strategy {self.strategy}, which chooses "
                "among all of them. Leave every_epochs at 1"
            )
        return self

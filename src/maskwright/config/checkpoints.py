"""When the state of the run is saved and how much of it is kept."""

from __future__ import annotations

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

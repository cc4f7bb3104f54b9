"""How the model is scored."""

from __future__ import annotations

from maskwright.config.base import Field, Section

__all__ = ["MetricsConfig"]


class MetricsConfig(Section):
    """Scores and their uncertainty."""

    probability_threshold: float = Field(0.5, gt=0, lt=1, help="A pixel is called a gap above this probability.")
    bootstrap: int = Field(1000, ge=100, le=100_000, help="Draws of the bootstrap over blocks.")
    confidence: float = Field(0.95, gt=0.5, lt=1, help="Level of the intervals.")
    block_m: float | None = Field(None, gt=0, unit="m", help="Side of the blocks the bootstrap draws; unset: one tile.")
    grid_m: float = Field(100.0, gt=0, unit="m", help="Cell of the grid on which gap shares are compared.")
    baseline_windows_m: tuple[float, ...] = Field(
        (20.0, 40.0, 80.0, 160.0),
        min_length=1,
        unit="m",
        help="Opening windows tried for the pseudo-CHM baseline; the best on the validation part counts.",
    )

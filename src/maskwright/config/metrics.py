"""How the model is scored."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = ["MetricsConfig"]


class MetricsConfig(Section):
    """Scores and their uncertainty."""

    probability_threshold: float = Field(
        0.5, gt=0, lt=1, help="A pixel is called a gap, or a class, above this probability."
    )
    operating_point: Literal["fixed", "max_f1", "precision", "recall", "area"] = Field(
        "fixed",
        help="Where the final model cuts its probabilities, chosen on the validation part after training. fixed: at "
        "probability_threshold; max_f1: where F1 is highest; precision, recall: where the other is highest while this "
        "one is at least operating_value; area: where as much is called as is true. Of classes that exclude each "
        "other the likeliest is taken, whatever is said here.",
    )
    operating_value: float | None = Field(
        None, gt=0, lt=1, help="Least precision or recall of operating_point; 0 to 1, needed for these two."
    )
    calibrate: bool = Field(
        False,
        help="Divide the outputs of the final model by a temperature found on the validation part, so that "
        "probabilities mean what they say.",
    )
    bootstrap: int = Field(1000, ge=100, le=100_000, help="Draws of the bootstrap over blocks.")
    confidence: float = Field(0.95, gt=0.5, lt=1, help="Level of the intervals.")
    block_m: float | None = Field(
        None, gt=0, unit="m", help="Side of the blocks the bootstrap draws; unset: one tile, or one image."
    )
    grid_m: float = Field(100.0, gt=0, unit="m", help="Cell of the grid on which gap shares are compared.")
    baseline_windows_m: tuple[float, ...] = Field(
        (20.0, 40.0, 80.0, 160.0),
        min_length=1,
        unit="m",
        help="Opening windows tried for the pseudo-CHM baseline; the best on the validation part counts.",
    )

    @model_validator(mode="after")
    def _operating_point_is_whole(self) -> MetricsConfig:
        needs, has = self.operating_point in ("precision", "recall"), self.operating_value is not None
        faults = []
        if needs and not has:
            faults.append(
                f"operating_value: operating_point {self.operating_point} needs the least one, for example 0.9"
            )
        if has and not needs:
            faults.append(
                f"operating_value: operating_point {self.operating_point} takes none. Leave it out, or set "
                "operating_point to precision or recall"
            )
        refuse(faults)
        return self

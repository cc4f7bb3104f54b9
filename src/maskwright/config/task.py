"""What is to be learned: the kind of work and the numbers that define its target."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = ["BinaryTask", "HeightGapsTask", "HeightTask", "MulticlassTask", "MultilabelTask", "TaskConfig"]


class HeightGapsTask(Section):
    """Canopy gaps: pixels whose canopy is lower than a height, for any height in metres."""

    kind: Literal["height_gaps"] = Field("height_gaps", help="Canopy gaps at any height.")
    heights_m: tuple[float, ...] = Field(
        (2.0, 5.0, 10.0), min_length=1, unit="m", help="Heights at which gaps are scored and predicted by default."
    )
    train_heights_m: tuple[float, ...] | None = Field(
        None, min_length=1, unit="m", help="Heights drawn in training; unset: those of heights_m."
    )
    train_range_m: tuple[float, float] | None = Field(
        None, unit="m", help="Lowest and highest height drawn in training, uniformly; takes the place of a list."
    )
    heights_per_sample: int = Field(
        1, ge=1, le=16, help="Heights drawn for each training tile; more share one pass of the encoder."
    )
    condition_scale_m: float = Field(
        30.0, gt=0, unit="m", advanced=True, help="Heights are divided by this before the network sees them."
    )

    @model_validator(mode="after")
    def _heights_make_sense(self) -> HeightGapsTask:
        faults = []
        for name in ("heights_m", "train_heights_m", "train_range_m"):
            heights = getattr(self, name)
            if heights is not None and min(heights) <= 0:
                faults.append(f"{name}: {min(heights):g} m is not above the ground. Heights are larger than 0 m")
            elif heights is not None and list(heights) != sorted(set(heights)):
                faults.append(f"{name}: heights must rise and differ, for example [2, 5, 10]")
        if self.train_heights_m is not None and self.train_range_m is not None:
            faults.append("train_range_m: train_heights_m is set as well. Keep one of the two")
        listed = self.heights_m if self.train_heights_m is None else self.train_heights_m
        if self.train_range_m is None and self.heights_per_sample > len(listed):
            faults.append(
                f"heights_per_sample: {self.heights_per_sample} heights cannot be drawn from the {len(listed)} listed. "
                "Lower it, list more train_heights_m, or set train_range_m"
            )
        refuse(faults)
        return self


class BinaryTask(Section):
    """One class against everything else: cracks, vessels, defects, canopy."""

    kind: Literal["binary"] = Field("binary", help="One class against the background.")


class MulticlassTask(Section):
    """Classes that exclude each other: every pixel belongs to one of them."""

    kind: Literal["multiclass"] = Field("multiclass", help="Classes that exclude each other.")


class MultilabelTask(Section):
    """Classes that may overlap: each is a yes or no of its own."""

    kind: Literal["multilabel"] = Field("multilabel", help="Classes that may overlap.")


class HeightTask(Section):
    """Canopy height in metres for every pixel."""

    kind: Literal["height"] = Field("height", help="Canopy height in metres.")
    scale_m: float = Field(
        30.0, gt=0, unit="m", advanced=True, help="The network's output is multiplied by this to be metres."
    )


TaskConfig = Annotated[
    HeightGapsTask | HeightTask | BinaryTask | MulticlassTask | MultilabelTask, pydantic.Field(discriminator="kind")
]

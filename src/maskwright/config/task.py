"""What is to be learned: the kind of work and the numbers that define its target."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = [
    "EXCLUSIVE",
    "OBJECTS",
    "AgroforestryTask",
    "BinaryTask",
    "HeightGapsTask",
    "HeightTask",
    "InstancesTask",
    "MulticlassTask",
    "MultilabelTask",
    "TaskConfig",
]

OBJECTS = ("instances", "agroforestry")
"""Kinds that find objects one by one."""

EXCLUSIVE = ("multiclass", *OBJECTS)
"""Kinds whose pixels belong to one class each."""


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


class _ObjectsTask(Section):
    """What both kinds that find objects share: which ones, and how maps become objects."""

    kind: str
    object_classes: tuple[str, ...] = Field(
        (), help="Classes whose objects are found one by one; unset: all classes of the labels but the background."
    )
    shapes: Literal["grouped", "discs"] = Field(
        "grouped",
        help="grouped: the pixels that vote for a centre; discs: around each centre a disc of its crown diameter, for "
        "labels that are points.",
    )
    disc_px: float = Field(
        16.0, gt=0, unit="px", help="Diameter of discs where the network tells no crown diameter; for shapes: discs."
    )
    min_score: float = Field(0.3, ge=0.01, lt=1, help="Objects of a lower score are left out.")
    min_distance_px: int = Field(3, ge=1, le=100, unit="px", help="Least distance of two centres.")
    mask_threshold: float = Field(
        0.5, gt=0, lt=1, help="A pixel is of an object if their classes together are more probable than this."
    )
    min_area_px: int = Field(9, ge=1, unit="px", help="Smaller objects are left out; a number of pixels.")
    centre_sigma_px: float = Field(2.0, ge=0.5, le=50, unit="px", help="Width of the bells that mark centres.")
    scale_px: float = Field(
        16.0, gt=0, unit="px", advanced=True, help="Offsets and diameters are divided by this: half a usual crown."
    )
    match_distance_m: float = Field(
        2.0,
        gt=0,
        unit="m",
        help="A centre this near to a true one has found it; in pixels where these have no size in metres.",
    )
    crown_unit: Literal["px", "m"] = Field("px", help="Unit of crown_diameter in the labels.")


class InstancesTask(_ObjectsTask):
    """Objects one by one, with their classes and masks."""

    kind: Literal["instances"] = Field("instances", help="Objects one by one.")


class AgroforestryTask(_ObjectsTask):
    """Trees one by one, with land cover, crown diameters and density."""

    kind: Literal["agroforestry"] = Field(
        "agroforestry", help="Trees one by one, land cover, crown diameter and density."
    )
    density_sigma_px: float = Field(
        6.0, ge=0.5, le=100, unit="px", help="Width of the bells of the density map, each of which adds up to one tree."
    )


TaskConfig = Annotated[
    HeightGapsTask | HeightTask | BinaryTask | MulticlassTask | MultilabelTask | InstancesTask | AgroforestryTask,
    pydantic.Field(discriminator="kind"),
]

"""How a model is applied to new rasters and what is written."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section

__all__ = ["PredictionConfig"]


class PredictionConfig(Section):
    """Windows, blending and outputs."""

    heights_m: tuple[float, ...] | None = Field(
        None, unit="m", help="Heights to map; unset: those the model was scored at."
    )
    tile_px: int | None = Field(None, ge=16, le=8192, unit="px", help="Side of the windows; unset: the training tile.")
    overlap: float = Field(0.5, ge=0, lt=1, help="Share of a window that its neighbour covers too.")
    blend: Literal["hann", "gaussian", "linear", "mean"] = Field("hann", help="Weights of overlapping windows.")
    batch_size: int = Field(4, ge=1, le=1024, help="Windows in one pass.")
    probability_threshold: float | None = Field(
        None, gt=0, lt=1, help="A pixel is called a gap above this; unset: the model's own operating point."
    )
    tta: int = Field(
        1, ge=1, le=8, help="Views of every window that are averaged: 1, 2 (mirrored), 4 (turned), 8 (both)."
    )
    min_area_m2: float = Field(
        0.0,
        ge=0,
        unit="m2",
        help="Smaller gaps and objects are left out of masks and polygons; needs pixels in metres.",
    )
    min_area_px: int = Field(0, ge=0, unit="px", help="Smaller objects of a class are left out of masks and polygons.")
    fill_holes_px: int = Field(
        0, ge=0, unit="px", help="Holes of at most this size inside objects of one class are filled; 0: none."
    )
    probabilities: bool | None = Field(
        None, help="Write probabilities beside the mask; unset: for rasters, not for photographs."
    )
    probability_format: Literal["png", "tif"] = Field(
        "png", help="Probabilities of photographs: 8-bit PNG (255 is 1), or exact 32-bit TIFF."
    )
    polygons: Literal["auto", "gpkg", "geojson", "none"] = Field(
        "auto", help="Format of the polygons; auto: gpkg for rasters, none for photographs."
    )
    quicklook: bool = Field(True, help="Write a PNG to look at: the map, or the photograph with what was found.")

    def wants_probabilities(self, *, photograph: bool = False) -> bool:
        """Whether probabilities are written."""
        return not photograph if self.probabilities is None else self.probabilities

    def polygon_ending(self, *, photograph: bool = False) -> str | None:
        """``gpkg``, ``geojson``, or None where no polygons are written."""
        if self.polygons == "auto":
            return None if photograph else "gpkg"
        return None if self.polygons == "none" else self.polygons

    @model_validator(mode="after")
    def _views_are_known(self) -> PredictionConfig:
        if self.tta not in (1, 2, 4, 8):
            raise ValueError(f"tta: {self.tta} views are not offered; choose 1, 2, 4 or 8")
        return self

    @model_validator(mode="after")
    def _heights_rise(self) -> PredictionConfig:
        heights = self.heights_m
        if heights is not None and (not heights or min(heights) <= 0 or list(heights) != sorted(set(heights))):
            raise ValueError(
                f"heights_m: {list(heights)} must be larger than 0 m, rise and differ, for example [5, 10, 15]"
            )
        return self

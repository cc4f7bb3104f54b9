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
    min_area_m2: float = Field(0.0, ge=0, unit="m2", help="Smaller gaps are left out of masks and polygons.")
    probabilities: bool = Field(True, help="Write a raster of probabilities beside the mask.")
    polygons: Literal["gpkg", "geojson", "none"] = Field("gpkg", help="Format of the polygons.")
    quicklook: bool = Field(True, help="Write a PNG to look at.")

    @model_validator(mode="after")
    def _heights_rise(self) -> PredictionConfig:
        heights = self.heights_m
        if heights is not None and (not heights or min(heights) <= 0 or list(heights) != sorted(set(heights))):
            raise ValueError(
                f"heights_m: {list(heights)} must be larger than 0 m, rise and differ, for example [5, 10, 15]"
            )
        return self

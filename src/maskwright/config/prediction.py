"""How a model is applied to new rasters and what is written."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

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
        None,
        gt=0,
        lt=1,
        help="A pixel is called a gap above this, and a tree is one above this score; unset: the model's own operating "
        "point.",
    )
    probability_rule: Literal["model", "otsu"] = Field(
        "model",
        help="Where probabilities are cut: model: at probability_threshold; otsu: where the histogram of the map's own "
        "probabilities falls into two heaps, one cut for all heights together, one for each class.",
    )
    tta: int = Field(
        1, ge=1, le=8, help="Views of every window that are averaged: 1, 2 (mirrored), 4 (turned), 8 (both)."
    )
    uncertainty: Literal["none", "entropy", "spread"] = Field(
        "none",
        help="A map of its own of how sure the model is. entropy: of the probabilities, in bits, 1 where a yes is as "
        "likely as a no; spread: standard deviation over several models and views (tta).",
    )
    resample: bool = Field(
        False,
        help="See rasters whose pixels differ by more than a tenth from those of the training at the pixel size of the "
        "training, and bring the map back to their own; off: more than twice as large or small is refused.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=256,
        help="Processes that share the windows of a raster, each with its share of the cores; 1: threads of one "
        "process. The map is the same.",
    )
    min_area_m2: float = Field(
        0.0,
        ge=0,
        unit="m2",
        help="Smaller gaps and objects are left out of masks and polygons; needs pixels in metres.",
    )
    min_area_px: int = Field(0, ge=0, unit="px", help="The same in pixels, for images without a size.")
    max_area_m2: float | None = Field(
        None, gt=0, unit="m2", help="Larger gaps and objects are left out; needs pixels in metres. Unset: none are."
    )
    max_area_px: int | None = Field(None, ge=1, unit="px", help="The same in pixels.")
    fill_holes_m2: float = Field(
        0.0, ge=0, unit="m2", help="Holes of at most this size inside gaps and objects are filled; 0: none."
    )
    fill_holes_px: int = Field(0, ge=0, unit="px", help="The same in pixels.")
    opening_px: int = Field(
        0,
        ge=0,
        le=64,
        unit="px",
        help="Parts of gaps and objects into which no disc of this radius fits are left out; 0: none. Undoes thin "
        "bridges, and thin objects.",
    )
    closing_px: int = Field(
        0, ge=0, le=64, unit="px", help="Clefts into which no disc of this radius fits are filled; 0: none."
    )
    median_px: int = Field(
        0, ge=0, le=129, unit="px", help="Side of the window whose majority each pixel follows, odd; smooths outlines."
    )
    min_compactness: float = Field(
        0.0,
        ge=0,
        le=1,
        help="Gaps and objects whose 4 pi area / perimeter^2 is smaller are left out: a square has 0.785, a wide disc "
        "of pixels 0.617, anything ragged or drawn out less. 0: none are.",
    )
    max_elongation: float | None = Field(
        None, ge=1, help="Gaps and objects more than so many times as long as wide are left out; unset: none are."
    )
    keep_largest: int = Field(
        0, ge=0, help="Of each height or class only so many gaps or objects stay, the largest; 0: all."
    )
    crf: bool = Field(
        False,
        help="Sharpen the classes of photographs along the edges in the picture by a conditional random field; needs "
        "the package pydensecrf, and the whole image in memory.",
    )
    duplicate_iou: float | None = Field(
        None,
        gt=0,
        lt=1,
        help="Of two trees whose crowns overlap by more than this (IoU) the better one is kept; unset: the model's "
        "own, 0.5 unless chosen on the validation part.",
    )
    crop_class: str = Field("cacao", help="Class of trees that want shade, for the figures of shade.")
    shade_class: str = Field(
        "shade", help="Class of trees that give it; where the model knows none of that name, all crowns count."
    )
    shade_reach_m: float = Field(
        12.0, gt=0, unit="m", help="How far a tree gives shade; also the radius in which maps count trees and crowns."
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
    gap_sizes: bool = Field(
        True,
        help="For maps of gaps write how many there are of which size, as a table and a plot, with the exponent of the "
        "power law they follow.",
    )
    qgis_style: bool = Field(True, help="Write style files for QGIS beside rasters and polygons.")
    side_by_side: bool = Field(
        False, help="Write the image and what was found in it beside each other in one PNG, for models of images."
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
    def _treatment_makes_sense(self) -> PredictionConfig:
        faults = []
        if self.probability_rule == "otsu" and self.probability_threshold is not None:
            faults.append(
                "probability_rule: otsu finds the cut itself, and probability_threshold names one. Leave one out"
            )
        if self.median_px and self.median_px % 2 == 0:
            faults.append(f"median_px: {self.median_px} is even, so it has no middle. Take {self.median_px + 1}")
        for unit in ("m2", "px"):
            least, most = getattr(self, f"min_area_{unit}"), getattr(self, f"max_area_{unit}")
            if most is not None and most < least:
                faults.append(
                    f"max_area_{unit}: {most:g} is smaller than min_area_{unit}, {least:g}. Nothing would stay"
                )
        refuse(faults)
        return self

    @model_validator(mode="after")
    def _heights_rise(self) -> PredictionConfig:
        heights = self.heights_m
        if heights is not None and (not heights or min(heights) <= 0 or list(heights) != sorted(set(heights))):
            raise ValueError(
                f"heights_m: {list(heights)} must be larger than 0 m, rise and differ, for example [5, 10, 15]"
            )
        return self

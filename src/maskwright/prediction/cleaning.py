"""After-treatment of masks as the settings ask: opening, closing, vote, holes, sizes, shapes, the largest; in bands.

Of maps at several heights all but three of these keep gaps inside gaps: the largest size, the shape and the number of
gaps are judged at each height alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwright.config.prediction import PredictionConfig
from maskwright.prediction.class_masks import filled_holes, kept_objects
from maskwright.prediction.geotiff import RowWriter, open_raster, remove_rows
from maskwright.prediction.neighbourhood import closed, opened, voted
from maskwright.prediction.outputs import Progress
from maskwright.prediction.postprocess import Gaps
from maskwright.prediction.shapes import measure_shapes

__all__ = ["Limits", "cleaned", "cleaning_notes", "copies_of_mask", "settle_limits"]

_SLACK = 1e-9  # of an area: 100 m2 are 400 pixels of 0.5 m however the division is rounded

Change = Callable[[Any, Any, int, int], None]


@dataclass(frozen=True)
class Limits:
    """Which objects stay.

    Attributes:
        least_px: Pixels of the smallest.
        most_px: Pixels of the largest; None: any.
        hole_px: Holes of at most this size are filled.
        least_compactness: See :func:`~maskwright.prediction.shapes.compactness`.
        most_elongation: Length by width; None: any.
        largest: Only so many, the largest; 0: all.
    """

    least_px: float = 0.0
    most_px: float | None = None
    hole_px: float = 0.0
    least_compactness: float = 0.0
    most_elongation: float | None = None
    largest: int = 0

    @property
    def choose_objects(self) -> bool:
        """Whether any object may be left out."""
        return self.least_px > 1 or self.largest > 0 or self.most_px is not None or self.judge_shapes

    @property
    def judge_shapes(self) -> bool:
        """Whether shapes must be measured."""
        return self.least_compactness > 0 or self.most_elongation is not None

    def choose(self, gaps: Gaps, read: Callable[[int, int], npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """(n,) bool: the objects that stay. Of objects of one size at the end of ``largest`` the first stay."""
        keep: npt.NDArray[np.bool_] = gaps.area_px >= self.least_px
        if self.most_px is not None:
            keep &= gaps.area_px <= self.most_px
        if self.judge_shapes:
            shapes = measure_shapes(gaps, read)
            keep &= shapes.compactness >= self.least_compactness
            if self.most_elongation is not None:
                keep &= shapes.elongation <= self.most_elongation
        if self.largest:
            order = np.argsort(np.where(keep, -gaps.area_px, 0), kind="stable")
            among = np.zeros(len(keep), np.bool_)
            among[order[: self.largest]] = True
            keep &= among
        return keep


def settle_limits(settings: PredictionConfig, pixel_m2: float | None) -> Limits:
    """The limits in pixels; those in square metres count where a pixel has a size, and the stricter of two counts."""
    least, most = float(settings.min_area_px), settings.max_area_px
    hole: float = settings.fill_holes_px
    upper = None if most is None else float(most)
    if pixel_m2 is not None:
        least = max(least, settings.min_area_m2 / pixel_m2 * (1 - _SLACK))
        hole = max(hole, settings.fill_holes_m2 / pixel_m2 * (1 + _SLACK))
        if settings.max_area_m2 is not None:
            ground = settings.max_area_m2 / pixel_m2 * (1 + _SLACK)
            upper = ground if upper is None else min(upper, ground)
    return Limits(least, upper, hole, settings.min_compactness, settings.max_elongation, settings.keep_largest)


def cleaning_notes(settings: PredictionConfig, pixel_m2: float | None, heights: int = 0) -> tuple[str, ...]:
    """What a person should know about the after-treatment: limits that could not be applied, order over heights."""
    notes = []
    if pixel_m2 is None:
        for name in ("min_area_m2", "max_area_m2", "fill_holes_m2"):
            if getattr(settings, name):
                other = name.replace("_m2", "_px")
                notes.append(f"{name} was not applied: its pixels have no size in metres; set {other}")
    alone = [
        name
        for name in ("max_area_m2", "max_area_px", "min_compactness", "max_elongation", "keep_largest")
        if getattr(settings, name)
    ]
    if heights > 1 and alone:
        notes.append(
            f"{', '.join(alone)} judges the gaps of each height alone, so a gap may lie outside of those at a greater "
            "height"
        )
    return tuple(notes)


def cleaned(
    mask: Path,
    folder: Path,
    settings: PredictionConfig,
    *,
    codes: Sequence[int],
    pixel_m2: float | None,
    writer: Callable[[Path], RowWriter],
    progress: Progress,
) -> Path:
    """The mask after all that was asked for, in a new file; or as it is if nothing was.

    The mask that was given stays, so that an interrupted prediction can be cleaned again.

    Args:
        mask: Raster of codes.
        folder: For the new files.
        settings: What is asked for.
        codes: Values of objects in each band; 0 is none, 255 not valid.
        pixel_m2: Ground that a pixel covers; None if unknown.
        writer: Opens a raster like the mask.
        progress: Told what is being done.
    """
    for number, (what, change) in enumerate(_steps(settings, settle_limits(settings, pixel_m2), codes)):
        target = folder / f"cleaned_{number}.part.tif"
        with open_raster(mask) as old, writer(target) as new:
            for band in range(1, old.count + 1):
                progress(band - 1, old.count, what)
                change(*_plane(old, new, band), old.height, old.width)
        if number:  # the first is what the network said: an interrupted prediction goes on from it
            remove_rows(mask)
        mask = target
    return mask


def copies_of_mask(settings: PredictionConfig) -> int:
    """So many masks lie on the disk at most beside the first one, while it is treated."""
    cut_anew = settings.probability_rule == "otsu" or settings.crf
    return min(2, len(_steps(settings, settle_limits(settings, 1.0), ()))) + int(cut_anew)


def _steps(settings: PredictionConfig, limits: Limits, codes: Sequence[int]) -> list[tuple[str, Change]]:
    """What is to be done to each band, in order: reader, writer, height and breadth come later."""
    steps: list[tuple[str, Change]] = []
    if settings.opening_px > 0:
        steps.append(("opening", lambda r, w, h, b: opened(r, w, h, b, codes, settings.opening_px)))
    if settings.closing_px > 0:
        steps.append(("closing", lambda r, w, h, b: closed(r, w, h, b, codes, settings.closing_px)))
    if settings.median_px > 1:
        steps.append(("smoothing", lambda r, w, h, b: voted(r, w, h, b, codes, settings.median_px)))
    if limits.hole_px > 0:
        steps.append(("holes", lambda r, w, h, b: filled_holes(r, w, h, b, limits.hole_px)))
    if limits.choose_objects:
        steps.append(("small objects", lambda r, w, h, b: kept_objects(r, w, h, b, codes, limits.choose)))
    return steps


def _plane(old: Any, new: RowWriter, band: int) -> tuple[Any, Any]:
    """Reader and writer of the rows of one band."""

    def read(start: int, stop: int) -> npt.NDArray[np.uint8]:
        rows: npt.NDArray[np.uint8] = old.read(band, window=((start, stop), (0, old.width)))
        return rows

    def write(row: int, codes: npt.NDArray[np.uint8]) -> None:
        new.write_band(band, row, codes)

    return read, write

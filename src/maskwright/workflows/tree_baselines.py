"""What finds trees without training: nothing at all, and the peaks of a canopy height or of what is green.

Peaks are the highest places of a smoothed surface: a band called chm, files in a folder chm beside the images, or else
the green excess. How much it is smoothed, how far peaks keep apart and how high they
must be is chosen on the training part, so that the model is held against an honest rival.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskwright.data.instance_targets import ObjectTruths
from maskwright.metrics.canopy import match_positions
from maskwright.metrics.instance_meter import InstanceMeter, TrueObjects
from maskwright.metrics.spacing import nearest_distances
from maskwright.models.grouping import GroupSettings, find_peaks, group
from maskwright.objects import Crop, FoundObjects
from maskwright.prediction.instances_source import open_heights
from maskwright.tasks.object_task import ObjectTask, true_objects

if TYPE_CHECKING:
    from maskwright.data.sources.images import ImageScenes
    from maskwright.data.sources.interface import Grid, Scene
    from maskwright.types import Place, Window

__all__ = ["PeakRule", "green_excess", "peaks_of", "tree_baselines", "tuned_rule"]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Tile = tuple[Floats, Bools, TrueObjects]

_RASTERS = (".tif", ".tiff", ".vrt", ".img", ".asc")
_HEIGHTS = ("chm", "canopy_height", "height", "ndsm")
_SMOOTHINGS, _DISTANCES, _LEVELS = (0.1, 0.2, 0.35), (0.3, 0.5, 0.8), (5.0, 25.0, 50.0)
_MOST_TILES = 24  # of the training part; three numbers need no more
_MOST_PEAKS = 20_000
_TOLD = ("mAP", "box_mAP", "near_", "found_", "count_")


@dataclass(frozen=True, slots=True)
class PeakRule:
    """How peaks become trees.

    Attributes:
        sigma_px: The surface is smoothed with a bell so wide.
        distance_px: Peaks keep so far apart.
        least: A peak is higher than this.
        crown_px: Diameter of the disc that stands for a crown.
        label: Class id every tree gets, the most common one of the training part.
        f1: On the training part, by the distance of centres.
    """

    sigma_px: float
    distance_px: int
    least: float
    crown_px: float
    label: int
    f1: float = math.nan


def tree_baselines(
    task: ObjectTask,
    source: ImageScenes,
    places: Sequence[Place],
    teacher: tuple[ImageScenes, Sequence[Place]],
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Scores of answers that need no training, by name, and notes on how they were made.

    Args:
        task: Says which classes are objects, and how near a centre must be.
        source: Images with labels.
        places: Tiles of them that are scored.
        teacher: Images and their tiles from which the rule is learned.
    """
    names = dict(zip(task.object_ids, task.object_classes, strict=True))
    known, train = teacher
    heights, of_known = _height_files(source.scenes), _height_files(known.scenes)  # names may be the same in both
    if not heights or not of_known:
        heights, of_known = {}, {}
    is_height = bool(heights) or _height_band(source.band_names) is not None
    surface = "canopy height" if is_height else "green excess"
    shown = train[:: max(1, -(-len(train) // _MOST_TILES))]
    rule = tuned_rule(list(_tiles(known, task, shown, of_known)), task.match_distance_m)
    meters = {"nothing": InstanceMeter(names, match_distance_m=task.match_distance_m)}
    if rule is not None:
        meters[f"peaks of the {surface}"] = InstanceMeter(names, match_distance_m=task.match_distance_m)
    for values, valid, there in _tiles(source, task, places, heights):
        for name, meter in meters.items():
            found = FoundObjects.none() if name == "nothing" or rule is None else peaks_of(values, valid, rule)
            meter.update(found, there)
    if rule is None:
        return _scores(meters), ["The training part shows no objects, so peaks could not be tuned."]
    note = (
        f"Peaks of the {surface}: smoothed by {rule.sigma_px:.1f} px, {rule.distance_px} px apart, crowns of "
        f"{rule.crown_px:.0f} px, chosen on the training part (F1 by the distance of centres {rule.f1:.2f} there)."
    )
    return _scores(meters), [note]


def tuned_rule(tiles: Sequence[Tile], match_distance_m: float) -> PeakRule | None:
    """The rule with the highest F1 by the distance of centres; None where there are no objects.

    Args:
        tiles: Surface (H, W), valid pixels (H, W) and true objects of each.
        match_distance_m: A peak this near to a centre has found it.
    """
    counted = [there.labels[there.counts] for _, _, there in tiles]
    labels = np.concatenate(counted) if counted else np.zeros(0, np.int64)
    if not len(labels):
        return None
    label, crown = int(np.bincount(labels).argmax()), _usual_crown([there for _, _, there in tiles])
    best: PeakRule | None = None
    for smoothing, distance in itertools.product(_SMOOTHINGS, _DISTANCES):
        sigma, apart = max(0.5, smoothing * crown), max(1, round(distance * crown))
        smooth = [(_smoothed(values, valid, sigma), valid, there) for values, valid, there in tiles]
        at_trees = np.concatenate([_at_centres(*tile) for tile in smooth])
        for level in np.unique(np.percentile(at_trees, _LEVELS)) if len(at_trees) else ():
            rule = PeakRule(sigma, apart, float(level), crown, label)
            f1 = _f1(smooth, rule, match_distance_m)
            if best is None or f1 > best.f1:
                best = PeakRule(sigma, apart, float(level), crown, label, f1)
    return best


def peaks_of(values: Floats, valid: Bools, rule: PeakRule) -> FoundObjects:
    """The trees of a surface (H, W): a disc around each peak."""
    smooth = _smoothed(values, valid, rule.sigma_px)
    places = find_peaks(_lowered(smooth, valid), rule.least, rule.distance_px, _MOST_PEAKS)
    top = float(smooth[valid].max()) if valid.any() else 1.0
    heat = np.zeros((1, *values.shape), np.float32)
    for row, col in places:
        heat[0, row, col] = min(1.0, 0.1 + 0.9 * (smooth[row, col] - rule.least) / max(top - rule.least, 1e-6))
    settings = GroupSettings(
        object_ids=(rule.label,),
        min_score=0.05,
        min_distance_px=1,
        min_area_px=1,
        shapes="discs",
        disc_px=rule.crown_px,
    )
    return group({"centre": heat}, settings, valid)


def green_excess(rgb: NDArray[np.generic]) -> Floats:
    """(H, W) twice green less red less blue, over their sum: 0 for grey, up to 2 for pure green (Woebbecke 1995)."""
    red, green, blue = (plane.astype(np.float32) for plane in rgb[:3])
    total = red + green + blue
    excess = np.divide(2 * green - red - blue, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(excess, np.float32)


def _tiles(
    source: ImageScenes, task: ObjectTask, places: Sequence[Place], heights: Mapping[str, Path]
) -> Iterator[Tile]:
    truth_of, band = ObjectTruths(source, task.object_ids, warns=False), _height_band(source.band_names)
    for place in places:
        truth = truth_of(place)
        if truth is None:
            continue
        if place.scene in heights:
            surface, valid = _measured(heights[place.scene], source.scene(place.scene).grid, place.window)
        else:
            values, valid = source.pixels(place.scene, place.window)
            surface = _surface(values, source.band_names, band)
        yield surface, valid, true_objects(truth, valid)


def _height_files(scenes: Sequence[Scene]) -> dict[str, Path]:
    """By image its canopy height model in a folder ``chm`` beside it or beside its folder; none unless all have one."""
    found: dict[str, Path] = {}
    for scene in scenes:
        image = scene.files[0]
        named = [
            path
            for folder in (image.parent, image.parent.parent)
            for path in sorted((folder / "chm").glob(f"{escape(image.stem)}*"))
            if path.suffix.lower() in _RASTERS and path != image
        ]
        if not named:
            return {}
        found[scene.name] = named[0]
    return found


def _measured(path: Path, grid: Grid, window: Window) -> tuple[Floats, Bools]:
    """Heights of a window (h, w), 0 where not valid, and where they were measured."""
    inside = window.intersection(grid.window)
    heights = np.full((window.height, window.width), np.nan, np.float32)
    if inside is not None:
        with open_heights(path, grid) as read:
            row, col = inside.row - window.row, inside.col - window.col
            heights[row : row + inside.height, col : col + inside.width] = read(inside)
    valid = np.isfinite(heights)
    return np.where(valid, heights, np.float32(0)).astype(np.float32), valid


def _surface(values: NDArray[np.generic], names: Sequence[str], band: int | None) -> Floats:
    if band is not None:
        return np.asarray(values[band], np.float32)
    if len(values) < 3:
        return np.asarray(values[0], np.float32)
    folded = [name.casefold() for name in names]
    known = {"red", "green", "blue"} <= set(folded)
    return green_excess(values[[folded.index(name) for name in ("red", "green", "blue")]] if known else values)


def _height_band(names: Sequence[str]) -> int | None:
    return next((index for index, name in enumerate(names) if name.casefold() in _HEIGHTS), None)


def _smoothed(values: Floats, valid: Bools, sigma: float) -> Floats:
    """A mean under a bell over the pixels that count."""
    import cv2

    weight = cv2.GaussianBlur(valid.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    total = cv2.GaussianBlur(
        np.where(valid, values, 0).astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(total / np.maximum(weight, 1e-6), np.float32)


def _lowered(smooth: Floats, valid: Bools) -> Floats:
    return np.where(valid, smooth, np.float32(-np.inf)).astype(np.float32)


def _at_centres(smooth: Floats, valid: Bools, there: TrueObjects) -> Floats:
    centres = there.centres[there.counts].astype(np.int64)
    height, width = smooth.shape
    inside = (centres >= 0).all(axis=1) & (centres < (width, height)).all(axis=1)
    cols, rows = centres[inside].T
    return np.asarray(smooth[rows, cols][valid[rows, cols]], np.float32)


def _usual_crown(tiles: Sequence[TrueObjects]) -> float:
    """Median diameter in pixels; of points, of which none is known, the median distance of neighbours."""
    areas = [np.count_nonzero(crop.pixels) for there in tiles for crop in _of_known_size(there)]
    known = np.sqrt(4 * np.array(areas, np.float64) / np.pi)
    if not len(known):
        known = np.concatenate([nearest_distances(there.centres[there.counts]) for there in tiles])
        known = known[np.isfinite(known)]
    return float(np.median(known)) if len(known) else 16.0


def _of_known_size(there: TrueObjects) -> list[Crop]:
    return [there.masks[index] for index in np.flatnonzero(there.counts & np.isfinite(there.diameter))]


def _f1(tiles: Sequence[Tile], rule: PeakRule, match_distance_m: float) -> float:
    matched = both = 0
    for smooth, valid, there in tiles:
        places = find_peaks(_lowered(smooth, valid), rule.least, rule.distance_px, _MOST_PEAKS)
        size = there.pixel_size_m or 1.0
        centres = there.centres[there.counts]
        matched += len(match_positions((places[:, ::-1] + 0.5) * size, centres * size, match_distance_m).pairs)
        both += len(places) + len(centres)
    return 2 * matched / both if both else 0.0


def _scores(meters: dict[str, InstanceMeter]) -> dict[str, dict[str, float]]:
    """What says how well trees are found; crowns of one size for all tell nothing of diameters."""
    return {
        name: {key: value for key, value in meter.compute().items() if key.startswith(_TOLD)}
        for name, meter in meters.items()
    }

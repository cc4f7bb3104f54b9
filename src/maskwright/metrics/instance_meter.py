"""Scores of objects found one by one, over a data set: found and named, counted, how large, and how much they cover.

An object belongs to the one tile that holds its centre: only there is it counted, found or missed. In other tiles it
counts neither way. So adjacent tiles count every object once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError
from maskwright.metrics.average_precision import AveragePrecisionMeter, box_ious
from maskwright.metrics.canopy import count_score, crown_scores, density_scores, match_positions, optimal_pairs
from maskwright.objects import Crop, FoundObjects

__all__ = ["InstanceMeter", "TrueObjects", "crop_ious"]

Floats = NDArray[np.float64]

_MOST = 1000  # called objects of a class and a tile that count in the average precision, the best ones
_SAME = 0.5  # mask IoU from which two are one object


@dataclass(frozen=True, eq=False)
class TrueObjects:
    """The true objects of one tile.

    Attributes:
        boxes: (N, 4) x0, y0, x1, y1 in pixels, cut at the tile.
        labels: (N,) class ids.
        centres: (N, 2) x, y.
        diameter: (N,) pixels; NaN where it is not known.
        masks: N crops: outlines, ellipses where only boxes are known, discs where only points are.
        counts: (N,) bool: False for crowds and for objects whose centre lies in another tile.
        pixel_size_m: Side of a pixel in metres; None if it is not known.
    """

    boxes: np.ndarray
    labels: np.ndarray
    centres: np.ndarray
    diameter: np.ndarray
    masks: tuple[Crop, ...]
    counts: np.ndarray
    pixel_size_m: float | None = None

    def __len__(self) -> int:
        return len(self.masks)


def crop_ious(called: Sequence[Crop], true: Sequence[Crop], crowd: NDArray[Any] | None = None) -> Floats:
    """Intersection over union of crops; over the called crop alone where the true one counts neither way.

    Args:
        called: P crops.
        true: T crops.
        crowd: (T,) bool; None: none is.

    Returns:
        (P, T) 0..1.
    """
    areas, true_areas = (np.array([np.count_nonzero(c.pixels) for c in crops], np.float64) for crops in (called, true))
    shared = np.zeros((len(called), len(true)))
    if not shared.size:
        return shared
    boxes, true_boxes = (np.array([_box(c) for c in crops], np.int64) for crops in (called, true))
    low = np.maximum(boxes[:, None, :2], true_boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], true_boxes[None, :, 2:])
    for row, col in zip(*np.nonzero((high > low).all(axis=-1)), strict=True):
        (top, left), (bottom, right) = low[row, col], high[row, col]
        parts = [c.pixels[top - c.row : bottom - c.row, left - c.col : right - c.col] for c in (called[row], true[col])]
        shared[row, col] = np.count_nonzero(parts[0] & parts[1])
    union = areas[:, None] + true_areas[None] - shared
    if crowd is not None:
        union = np.where(np.asarray(crowd, np.bool_)[None], areas[:, None], union)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _box(crop: Crop) -> tuple[int, int, int, int]:
    return crop.row, crop.col, crop.row + crop.pixels.shape[0], crop.col + crop.pixels.shape[1]


@dataclass
class _Sums:
    """What is added up over tiles; rows of arrays are tiles or pairs."""

    counts: list[NDArray[np.int64]] = field(default_factory=list)  # (I, 2) called and true of each class
    near: list[tuple[int, int, int]] = field(default_factory=list)  # matched, called, true
    pairs: list[tuple[int, int, int, int]] = field(default_factory=list)  # matched, called, true, of the same class
    species: list[NDArray[np.int64]] = field(default_factory=list)  # (I, 3) right, called, true
    crowns: list[Floats] = field(default_factory=list)  # (M, 3) diameter called, true, IoU
    canopy: list[tuple[int, int, int, int]] = field(default_factory=list)  # both, called, true, counted
    density: list[tuple[float, float]] = field(default_factory=list)
    in_metres: set[bool] = field(default_factory=set)


class InstanceMeter:
    """Counts over tiles, scores at the end.

    Args:
        names: Class id of each kind of object to its name.
        match_distance_m: A centre this near to a true one has found it; in pixels where they have no size.

    Attributes:
        masks: Average precision of masks.
        boxes: Average precision of boxes.
    """

    def __init__(self, names: Mapping[int, str], *, match_distance_m: float = 2.0) -> None:
        self.names = dict(names)
        self.match_distance_m = match_distance_m
        self._ids = np.array(list(self.names), np.int64)
        kinds = list(self.names.values())
        self.masks = AveragePrecisionMeter(kinds, first_class=0, most=_MOST)
        self.boxes = AveragePrecisionMeter(kinds, first_class=0, most=_MOST)
        self._sums = _Sums()

    def update(self, found: FoundObjects, true: TrueObjects) -> None:
        """Count one tile."""
        aside = ~true.counts
        ious = crop_ious(found.masks, true.masks, aside)
        labels, true_labels = self._positions(found.labels), self._positions(true.labels)
        areas = np.array([np.count_nonzero(crop.pixels) for crop in true.masks], np.float64)
        self.masks.update(found.scores, labels, found.areas(), true_labels, areas, ious, aside)
        sides, true_sides = found.boxes[:, 2:] - found.boxes[:, :2], true.boxes[:, 2:] - true.boxes[:, :2]
        self.boxes.update(
            found.scores,
            labels,
            sides.prod(axis=1),
            true_labels,
            true_sides.prod(axis=1),
            box_ious(found.boxes, true.boxes, aside),
            aside,
        )
        mine = found.pick(self._not_aside(ious, true))
        self._count(mine, true)
        self._match(mine, true)

    def update_canopy(self, called: NDArray[np.bool_], true: NDArray[np.bool_], valid: NDArray[np.bool_]) -> None:
        """Count the pixels of canopy of one tile.

        Raises:
            ShapeError: If the three do not have one shape.
        """
        if not called.shape == true.shape == valid.shape:
            raise ShapeError(f"Canopy of {called.shape}, {true.shape} and {valid.shape} pixels must have one shape.")
        one, other = called & valid, true & valid
        counts = [int(np.count_nonzero(mask)) for mask in (one & other, one, other, valid)]
        self._sums.canopy.append((counts[0], counts[1], counts[2], counts[3]))

    def update_density(self, called: float, true: float) -> None:
        """The sum of a tile's density map, and how many objects have their centre there."""
        self._sums.density.append((float(called), float(true)))

    def merge(self, other: InstanceMeter) -> None:
        """Add what another meter of the same classes has seen."""
        self.masks.merge(other.masks)
        self.boxes.merge(other.boxes)
        for name, rows in vars(other._sums).items():
            mine = getattr(self._sums, name)
            mine.update(rows) if isinstance(mine, set) else mine.extend(rows)

    # --- results ------------------------------------------------------------------------------------------------------

    @property
    def unit(self) -> str:
        """Unit of distances and diameters: ``m``, or ``px`` where the size of pixels is not known."""
        return "m" if self._sums.in_metres == {True} else "px"

    def compute(self) -> dict[str, float]:
        """Scores of all tiles together; nan where nothing decides.

        Returns:
            Of masks ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_small`` and so on, ``AP@NAME``, ``AP_50@NAME``; the same of
            boxes with ``box_`` before them. ``found_precision``, ``found_recall``, ``found_f1`` at a mask IoU of .5,
            whatever the class; ``near_...`` by the distance of centres. ``species_accuracy`` of what was found,
            ``species_precision@NAME`` and so on. ``count_accuracy``, ``count_error`` (signed share of the true number),
            ``count_mae`` in objects a tile, also of each class. ``coverage``, ``true_coverage``, ``coverage_error``,
            ``canopy_iou``. ``crown_diameter_mae`` and so on in :attr:`unit`. ``density_mae`` and so on in objects a
            tile.
        """
        scores = {**_named(self.masks.compute(), ""), **_named(self.boxes.compute(), "box_")}
        scores |= self._rates("near", np.array(self._sums.near, np.int64).reshape(-1, 3).sum(axis=0))
        pairs = np.array(self._sums.pairs, np.int64).reshape(-1, 4).sum(axis=0)
        scores |= self._rates("found", pairs[:3])
        scores["species_accuracy"] = pairs[3] / pairs[0] if pairs[0] else math.nan
        species = sum(self._sums.species, np.zeros((len(self._ids), 3), np.int64))
        for name, row in zip(self.names.values(), species, strict=True):
            scores |= {f"{key}@{name}": value for key, value in self._rates("species", row).items()}
        scores |= self._counts()
        both, called, true, counted = np.array(self._sums.canopy, np.int64).reshape(-1, 4).sum(axis=0)
        union = called + true - both
        scores["coverage"], scores["true_coverage"] = (n / counted if counted else math.nan for n in (called, true))
        scores["coverage_error"] = scores["coverage"] - scores["true_coverage"]
        scores["canopy_iou"] = both / union if union else math.nan
        crowns = np.concatenate([np.zeros((0, 3)), *self._sums.crowns])
        scores |= {f"crown_{name}": value for name, value in crown_scores(*crowns.T).items()}
        scores |= density_scores(*np.array(self._sums.density, np.float64).reshape(-1, 2).T)
        return {name: float(value) for name, value in scores.items()}

    def _counts(self) -> dict[str, float]:
        tiles = np.array(self._sums.counts, np.int64).reshape(-1, len(self._ids), 2)
        scores = _count_scores(tiles.sum(axis=1), "")
        for index, name in enumerate(self.names.values()):
            scores |= _count_scores(tiles[:, index], f"@{name}")
        return scores

    @staticmethod
    def _rates(name: str, row: NDArray[np.int64]) -> dict[str, float]:
        right, called, true = (int(value) for value in row)
        return {
            f"{name}_precision": right / called if called else math.nan,
            f"{name}_recall": right / true if true else math.nan,
            f"{name}_f1": 2 * right / (called + true) if called + true else math.nan,
        }

    # --- one tile -----------------------------------------------------------------------------------------------------

    def _positions(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Class ids as positions in the list of classes; -1 for others."""
        positions = {int(number): index for index, number in enumerate(self._ids)}
        return np.array([positions.get(int(label), -1) for label in labels], np.int64)

    @staticmethod
    def _not_aside(ious: Floats, true: TrueObjects) -> NDArray[np.bool_]:
        """(P,) bool: False for found objects most of which lies on one that counts neither way, and on no other."""
        if not ious.size:
            return np.ones(len(ious), np.bool_)
        counting = np.where(true.counts, ious, 0).max(axis=1)
        aside = np.where(true.counts, 0, ious).max(axis=1)
        return np.asarray((counting >= _SAME) | (aside < _SAME))

    def _count(self, found: FoundObjects, true: TrueObjects) -> None:
        called, there = found.labels, true.labels[true.counts]
        rows = [(np.count_nonzero(called == number), np.count_nonzero(there == number)) for number in self._ids]
        self._sums.counts.append(np.array(rows, np.int64))

    def _match(self, found: FoundObjects, true: TrueObjects) -> None:
        kept = np.flatnonzero(true.counts)
        there = [true.masks[index] for index in kept]
        ious = crop_ious(found.masks, there)
        pairs = optimal_pairs(ious, _SAME) if ious.size else np.zeros((0, 2), np.intp)
        labels, true_labels = found.labels[pairs[:, 0]], true.labels[kept[pairs[:, 1]]]
        same = labels == true_labels
        self._sums.pairs.append((len(pairs), len(found), len(kept), int(np.count_nonzero(same))))
        self._sums.species.append(
            np.array(
                [
                    (
                        np.count_nonzero(same & (true_labels == number)),
                        np.count_nonzero(found.labels == number),
                        np.count_nonzero(true.labels[kept] == number),
                    )
                    for number in self._ids
                ],
                np.int64,
            )
        )
        size = true.pixel_size_m or 1.0
        self._sums.in_metres.add(true.pixel_size_m is not None)
        near = match_positions(found.centres * size, true.centres[kept] * size, self.match_distance_m)
        self._sums.near.append((len(near.pairs), len(found), len(kept)))
        across, known = _diameters(found)[pairs[:, 0]], true.diameter[kept[pairs[:, 1]]].astype(np.float64)
        rows = np.stack((across * size, known * size, ious[pairs[:, 0], pairs[:, 1]]), axis=-1)
        self._sums.crowns.append(rows[np.isfinite(known)])


def _diameters(found: FoundObjects) -> Floats:
    """(P,) pixels: as told, else of a circle as large as the mask."""
    by_area = np.sqrt(4.0 * found.areas() / np.pi)
    return np.where(np.isfinite(found.diameter), found.diameter, by_area)


def _count_scores(tiles: NDArray[np.int64], of: str) -> dict[str, float]:
    """``tiles`` (T, 2): called and true."""
    called, true = (int(value) for value in tiles.sum(axis=0))
    score = count_score(called, true)
    off = np.abs(tiles[:, 0] - tiles[:, 1])
    return {
        f"count_accuracy{of}": score.accuracy if len(tiles) else math.nan,
        f"count_error{of}": score.error / true if true else math.nan,
        f"count_mae{of}": float(off.mean()) if len(tiles) else math.nan,
        f"count_called{of}": float(called),
        f"count_true{of}": float(true),
    }


def _named(scores: Mapping[str, float], before: str) -> dict[str, float]:
    """``AP/NAME`` as ``AP@NAME``, as the history writes parts."""
    return {before + name.replace("/", "@", 1): value for name, value in scores.items()}

"""Scores that agronomists act on: how many trees, which ones, how much cover and shade, and what a list says.

Positions are (N, 2) x and y and distances are in one unit: metres where pixels have a size, else pixels. Nothing here
knows which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError
from maskwright.metrics.spacing import nearest_distances, spread

if TYPE_CHECKING:
    from shapely.geometry import Polygon

__all__ = [
    "BANDS",
    "CountScore",
    "Matched",
    "band",
    "canopy_scores",
    "count_score",
    "crown_scores",
    "density_scores",
    "match_positions",
    "optimal_pairs",
    "shade_scores",
    "species_scores",
]

Floats = NDArray[np.float64]
Scores = dict[str, float]

BANDS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    # name: range that is good, range that is acceptable; anything else is poor
    "count_accuracy": ((0.9, 1.0), (0.75, 1.0)),
    "canopy_coverage": ((0.4, 0.6), (0.3, 0.7)),
    "shaded_share": ((0.8, 1.0), (0.6, 1.0)),
    "ratio_score": ((0.7, 1.0), (0.5, 1.0)),
    "distribution_score": ((0.7, 1.0), (0.5, 1.0)),
    "spacing_score": ((0.7, 1.0), (0.5, 1.0)),
    "detection_rate": ((0.9, 1.0), (0.75, 1.0)),
    "mAP_50": ((0.7, 1.0), (0.5, 1.0)),
    "f1": ((0.8, 1.0), (0.6, 1.0)),
}
"""What an agronomist calls good: counts within a tenth, 40 to 60 % cover, four of five cacao trees in shade."""


@dataclass(frozen=True, slots=True)
class CountScore:
    """Trees counted against trees there.

    Attributes:
        called: Counted.
        true: There.
        error: ``called - true``.
        accuracy: 0..1: ``1 - |called - true| / max(called, true)``; 1 where there are none and none was counted.
    """

    called: int
    true: int
    error: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Matched:
    """Found trees against listed ones, each with at most one of the other.

    Attributes:
        pairs: (M, 2) indices of a found tree and a listed one.
        distances: (M,) between them.
        precision: Share of the found trees that are listed; nan where none was found.
        recall: Share of the listed trees that were found; nan where none is listed.
        f1: Their harmonic mean; nan where there are neither.
    """

    pairs: NDArray[np.intp]
    distances: Floats
    precision: float
    recall: float
    f1: float


def band(name: str, value: float) -> str:
    """``good``, ``acceptable`` or ``poor`` by :data:`BANDS`; ``unknown`` for nan.

    Raises:
        ConfigError: If there are no bands of that name.
    """
    if name not in BANDS:
        raise ConfigError(f"There are no bands for {name}. Available: {', '.join(BANDS)}.")
    if math.isnan(value):
        return "unknown"
    for word, (low, high) in zip(("good", "acceptable"), BANDS[name], strict=True):
        if low <= value <= high:
            return word
    return "poor"


def count_score(called: int, true: int) -> CountScore:
    """How well a count agrees; the accuracy stays between 0 and 1 however wrong it is."""
    most = max(called, true)
    return CountScore(called, true, called - true, 1.0 - abs(called - true) / most if most else 1.0)


def optimal_pairs(values: NDArray[Any], least: float) -> NDArray[np.intp]:
    """Pairs with as many partners as possible, and among those with the largest sum of values.

    Args:
        values: (P, T), for example IoUs in 0..1.
        least: A pair needs at least this value.

    Returns:
        (M, 2) rows and columns, each at most once, rows ascending.
    """
    from scipy.optimize import linear_sum_assignment

    values = np.asarray(values, np.float64)
    fits = values >= least
    if not fits.any():
        return np.zeros((0, 2), np.intp)
    many = 1.0 + min(values.shape) * float(np.abs(values[fits]).max())  # one partner more outweighs all values
    rows, cols = linear_sum_assignment(np.where(fits, many + values, 0.0), maximize=True)
    kept = fits[rows, cols]
    return np.stack((rows[kept], cols[kept]), axis=-1).astype(np.intp)


def species_scores(
    ious: NDArray[Any],
    labels: NDArray[Any],
    true_labels: NDArray[Any],
    names: dict[int, str],
    *,
    min_iou: float = 0.5,
) -> Scores:
    """Whether trees were found and named, from an optimal matching of all trees whatever their species.

    Args:
        ious: (P, T).
        labels: (P,) species called.
        true_labels: (T,) species.
        names: Number to name.
        min_iou: Overlap from which two are one tree.

    Returns:
        ``precision``, ``recall``, ``f1`` of trees; ``species_accuracy`` of the found ones; ``precision/NAME`` and so
        on of each species, where a found tree of another name counts as missed and as called wrongly. nan where
        nothing decides.
    """
    labels, true_labels = np.asarray(labels), np.asarray(true_labels)
    pairs = optimal_pairs(np.reshape(ious, (len(labels), len(true_labels))), min_iou)
    same = labels[pairs[:, 0]] == true_labels[pairs[:, 1]]
    scores = _rates(len(pairs), len(labels), len(true_labels))
    scores["species_accuracy"] = float(same.mean()) if len(same) else math.nan
    for number, name in names.items():
        right = int(np.count_nonzero(same & (true_labels[pairs[:, 1]] == number)))
        of_species = _rates(
            right, int(np.count_nonzero(labels == number)), int(np.count_nonzero(true_labels == number))
        )
        scores |= {f"{score}/{name}": value for score, value in of_species.items()}
    return scores


def match_positions(found: NDArray[Any], listed: NDArray[Any], within: float) -> Matched:
    """Found trees to listed ones by distance: as many as possible, and among those with the least distances.

    Args:
        found: (P, 2).
        listed: (T, 2).
        within: Largest distance of a pair.
    """
    found, listed = (np.asarray(points, np.float64).reshape(-1, 2) for points in (found, listed))
    apart = np.hypot(*np.moveaxis(found[:, None] - listed[None], -1, 0))
    pairs = optimal_pairs(-apart, -within)
    rates = _rates(len(pairs), len(found), len(listed))
    return Matched(pairs, apart[pairs[:, 0], pairs[:, 1]], rates["precision"], rates["recall"], rates["f1"])


def canopy_scores(called: NDArray[np.bool_], true: NDArray[np.bool_], valid: NDArray[np.bool_]) -> Scores:
    """Cover by canopy, over the pixels that count.

    Returns:
        ``coverage`` and ``true_coverage`` 0..1, ``coverage_error`` (called less true), ``canopy_iou``; nan where
        nothing counts or there is no canopy in either.
    """
    total = int(np.count_nonzero(valid))
    one, other = called & valid, true & valid
    union = int(np.count_nonzero(one | other))
    here, there = (int(np.count_nonzero(mask)) / total if total else math.nan for mask in (one, other))
    return {
        "coverage": here,
        "true_coverage": there,
        "coverage_error": here - there,
        "canopy_iou": int(np.count_nonzero(one & other)) / union if union else math.nan,
    }


def crown_scores(called: NDArray[Any], true: NDArray[Any], ious: NDArray[Any]) -> Scores:
    """Sizes of crowns that were matched.

    Args:
        called: (M,) diameters.
        true: (M,) diameters of their partners.
        ious: (M,) overlaps of their masks.

    Returns:
        ``diameter_mean``, ``diameter_std``, ``diameter_mae``, ``diameter_bias``, ``area_bias`` (share of the true
        area), ``iou_mean``, ``iou_median`` and the shares of crowns above an IoU of .5, .7 and .9; nan where none was
        matched.
    """
    called, true, overlap = (np.asarray(values, np.float64) for values in (called, true, ious))
    sizes = spread(called)
    if not len(called):
        return dict.fromkeys(_CROWN_SCORES, math.nan)
    off = called - true
    values = (
        *(sizes.mean, sizes.std, float(np.abs(off).mean()), float(off.mean())),
        float((called**2).sum() / (true**2).sum() - 1.0),
        *(float(overlap.mean()), float(np.median(overlap))),
        *(float((overlap > least).mean()) for least in (0.5, 0.7, 0.9)),
    )
    return dict(zip(_CROWN_SCORES, values, strict=True))


def density_scores(called: NDArray[Any], true: NDArray[Any]) -> Scores:
    """Counts of tiles, for example sums of a density map, against true ones.

    Returns:
        ``density_mae``, ``density_rmse``, ``density_bias`` in trees a tile; nan without tiles.
    """
    off = np.asarray(called, np.float64) - np.asarray(true, np.float64)
    if not off.size:
        return dict.fromkeys(("density_mae", "density_rmse", "density_bias"), math.nan)
    return {
        "density_mae": float(np.abs(off).mean()),
        "density_rmse": float(np.sqrt((off**2).mean())),
        "density_bias": float(off.mean()),
    }


def shade_scores(
    crop: NDArray[Any], shade: NDArray[Any], ground: Polygon, *, reach: float = 12.0, best_ratio: float = 0.2
) -> Scores:
    """How shade trees are spread over a crop.

    Args:
        crop: (N, 2) positions, for example of cacao.
        shade: (M, 2) positions of shade trees.
        ground: The plantation, in the same unit.
        reach: How far a tree gives shade.
        best_ratio: Shade trees to a crop tree that is thought best.

    Returns:
        ``shade_density`` and ``crop_density`` (trees a unit of area), ``shade_ratio``, ``ratio_score`` 0..1 (1 at the
        best ratio, 0 at none and at twice as many), ``shaded_share`` of the crop within reach, ``distribution_score``
        and ``spacing_score`` 0..1, higher where distances vary less; nan where nothing decides.
    """
    crop, shade = (np.asarray(points, np.float64).reshape(-1, 2) for points in (crop, shade))
    area = ground.area
    ratio = len(shade) / len(crop) if len(crop) else math.nan
    near = nearest_distances(crop, to=shade)
    shaded = float((near <= reach).mean()) if len(crop) else math.nan  # nan <= reach is False: no tree, no shade
    return {
        "shade_density": len(shade) / area if area else math.nan,
        "crop_density": len(crop) / area if area else math.nan,
        "shade_ratio": ratio,
        "ratio_score": max(0.0, 1.0 - abs(ratio - best_ratio) / best_ratio) if len(crop) else math.nan,
        "shaded_share": shaded,
        "distribution_score": 1.0 / (1.0 + spread(near).cv),
        "spacing_score": 1.0 / (1.0 + spread(nearest_distances(shade)).cv),
    }


_CROWN_SCORES = (
    *("diameter_mean", "diameter_std", "diameter_mae", "diameter_bias", "area_bias"),
    *("iou_mean", "iou_median", "iou_above_50", "iou_above_70", "iou_above_90"),
)


def _rates(right: int, called: int, true: int) -> Scores:
    both = called + true
    return {
        "precision": right / called if called else math.nan,
        "recall": right / true if true else math.nan,
        "f1": 2 * right / both if both else math.nan,
    }

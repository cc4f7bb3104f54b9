"""How trees stand to each other: nearest neighbours, Clark-Evans, Ripley's K, Voronoi cells.

Coordinates are (N, 2) x and y in one unit; distances and areas come in that unit and its square. The ground is a
rectangle or any polygon, as shapely has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from shapely.geometry import Polygon

__all__ = ["ClarkEvans", "Spread", "clark_evans", "nearest_distances", "ripley_k", "spread", "voronoi_areas"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, standard deviation (N - 1) and their ratio ``cv`` of some values; nan where they are too few."""

    mean: float
    std: float
    cv: float


@dataclass(frozen=True, slots=True)
class ClarkEvans:
    """Clark and Evans 1954: mean distance to the nearest neighbour over that of points strewn at random.

    Attributes:
        ratio: Below 1 clustered, above 1 regular, 2.149 for a triangular grid; nan for fewer than two points.
        z: How many standard errors the mean lies from that of points at random.
        words: ``clustered``, ``random`` or ``regular`` at the 5 % level, ``unknown`` for fewer than two points.
    """

    ratio: float
    z: float
    words: Literal["clustered", "random", "regular", "unknown"]


def spread(values: NDArray[Any]) -> Spread:
    """The spread of values; nan ones are left out."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if known.size else math.nan
    std = float(known.std(ddof=1)) if known.size > 1 else math.nan
    return Spread(mean, std, std / mean if mean else math.nan)


def nearest_distances(points: NDArray[Any], to: NDArray[Any] | None = None) -> Floats:
    """(N,) distance of each point to the nearest other one, or to the nearest of ``to``; nan where there is none."""
    from scipy.spatial import cKDTree

    points = _points(points)
    others = points if to is None else _points(to)
    first = 1 if to is None else 0
    if not len(points) or len(others) <= first:
        return np.full(len(points), np.nan)
    distances = cKDTree(others).query(points, k=first + 1)[0]
    return np.asarray(distances.reshape(len(points), -1)[:, first], np.float64)


def clark_evans(
    points: NDArray[Any], ground: Polygon, *, at_edges: Literal["donnelly", "none"] = "donnelly"
) -> ClarkEvans:
    """Whether points are clustered, at random or regular.

    Args:
        points: (N, 2).
        ground: Where points could have been.
        at_edges: ``donnelly`` (1978) allows for neighbours beyond the edge, ``none`` does not and calls too much
            regular.
    """
    points = _points(points)
    count, area = len(points), ground.area
    if count < 2 or area <= 0:
        return ClarkEvans(math.nan, math.nan, "unknown")
    density = count / area
    expected, error = 0.5 / math.sqrt(density), 0.26136 / math.sqrt(count * density)
    if at_edges == "donnelly":
        around = ground.length
        expected += (0.0514 + 0.041 / math.sqrt(count)) * around / count
        error = math.sqrt(0.0703 * area / count**2 + 0.037 * around * math.sqrt(area / count**5))
    mean = float(nearest_distances(points).mean())
    z = (mean - expected) / error
    words: Literal["clustered", "random", "regular"] = "random"
    if abs(z) > 1.959964:
        words = "regular" if z > 0 else "clustered"
    return ClarkEvans(mean / expected, z, words)


def ripley_k(points: NDArray[Any], ground: Polygon, radii: Sequence[float]) -> Floats:
    """Ripley's K: area in which one would find as many neighbours if they were strewn at random.

    A pair counts with the area of the ground over that of the ground laid on itself moved by their difference
    (translation correction; Ohser 1983), so that neighbours beyond the edge are allowed for on any polygon.

    Args:
        points: (N, 2), inside the ground.
        ground: Where points could have been.
        radii: R distances.

    Returns:
        (R,) K; ``pi r^2`` is expected at random. nan for fewer than two points.

    Raises:
        ConfigError: If a radius is negative.
    """
    from scipy.spatial import cKDTree
    from shapely.affinity import translate

    points, reach = _points(points), np.asarray(radii, np.float64)
    if (reach < 0).any():
        raise ConfigError(f"radii: {reach.min():g} is negative. Give distances of 0 or more.")
    count, area = len(points), ground.area
    if count < 2 or area <= 0:
        return np.full(len(reach), np.nan)
    pairs = cKDTree(points).query_pairs(float(reach.max()), output_type="ndarray")
    moves = points[pairs[:, 0]] - points[pairs[:, 1]]
    distances = np.hypot(*moves.T)
    x0, y0, x1, y1 = ground.bounds
    if math.isclose(area, (x1 - x0) * (y1 - y0), rel_tol=1e-9):
        shared = (x1 - x0 - np.abs(moves[:, 0])) * (y1 - y0 - np.abs(moves[:, 1]))
    else:
        shared = np.array([ground.intersection(translate(ground, dx, dy)).area for dx, dy in moves])
    weights = 2 * area * area / (count * (count - 1)) / np.maximum(shared, 1e-12 * area)
    return np.array([weights[distances <= radius].sum() for radius in reach])


def voronoi_areas(points: NDArray[Any], ground: Polygon) -> Floats:
    """(N,) area of the ground that is nearer to each point than to any other; nan for points that coincide.

    Args:
        points: (N, 2).
        ground: What is divided.
    """
    import shapely

    points = _points(points)
    areas = np.full(len(points), np.nan)
    if not len(points):
        return areas
    different, first, times = np.unique(points, axis=0, return_index=True, return_counts=True)
    if len(different) == 1:
        areas[first[times == 1]] = ground.area
        return areas
    cells = list(shapely.voronoi_polygons(shapely.MultiPoint(different), extend_to=ground).geoms)
    tree = shapely.STRtree(cells)
    inside, cell = tree.query(shapely.points(different), predicate="intersects")
    for point, at in zip(inside, cell, strict=True):
        if times[point] == 1:
            areas[first[point]] = cells[at].intersection(ground).area
    return areas


def _points(points: NDArray[Any]) -> Floats:
    return np.asarray(points, np.float64).reshape(-1, 2)

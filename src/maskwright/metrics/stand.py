"""The figures of a stand of trees: how many, how much they cover and shade, how they stand to each other.

Everything comes in one unit, told with it: metres where pixels have a size, else pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.metrics.canopy import band, shade_scores
from maskwright.metrics.spacing import clark_evans, nearest_distances, ripley_k, spread, voronoi_areas

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon, Polygon

__all__ = ["ALL", "ClassStand", "Spacing", "Stand", "Verdict", "describe_stand"]

ALL = "all trees"
_HECTARE_M2 = 10_000.0
_RADII = 10
_MOST_PAIRS = 500_000  # neighbours that Ripley's K looks at
_MOST_PAIRS_RAGGED = 5_000  # on ground that is no rectangle each pair costs a cut of two outlines


@dataclass(frozen=True, slots=True)
class ClassStand:
    """The trees of one class.

    Attributes:
        count: How many.
        per_area: Trees a hectare; in pixels, a million pixels.
        cover: Share 0..1 of the ground under their crowns; nan if not known.
        diameter_mean: Of their crowns, in the unit; nan without trees.
        diameter_std: Their spread.
    """

    count: int
    per_area: float
    cover: float
    diameter_mean: float
    diameter_std: float


@dataclass(frozen=True, slots=True)
class Spacing:
    """How trees stand to each other, in the unit; nan where they are too few.

    Attributes:
        nearest_mean: Distance to the nearest neighbour.
        nearest_std: Its spread.
        nearest_cv: Their ratio.
        clark_evans: Mean distance over that of trees strewn at random, edges allowed for.
        clark_evans_z: How many standard errors from random.
        pattern: ``clustered``, ``random``, ``regular`` or ``unknown``.
        radii: Distances Ripley's K is told at.
        ripley_l: ``sqrt(K / pi) - r`` at each: above 0 more neighbours than at random, below fewer.
        voronoi_mean: Mean area nearest to a tree, square units.
        voronoi_cv: Spread over mean of these areas: 0 on a grid, about 0.53 at random.
    """

    nearest_mean: float
    nearest_std: float
    nearest_cv: float
    clark_evans: float
    clark_evans_z: float
    pattern: str
    radii: tuple[float, ...]
    ripley_l: tuple[float, ...]
    voronoi_mean: float
    voronoi_cv: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure and what an agronomist calls it: ``good``, ``acceptable``, ``poor`` or ``unknown``."""

    value: float
    word: str


@dataclass(frozen=True)
class Stand:
    """The figures of one piece of ground.

    Attributes:
        unit: ``m`` or ``px``.
        area: Of the ground, square units.
        canopy_cover: Share 0..1 of the ground under crowns; nan if not known.
        classes: By name; first :data:`ALL`.
        spacing: By name, of classes with two trees or more; first :data:`ALL`.
        shade: See :func:`~maskwright.metrics.canopy.shade_scores`; empty where there is no crop or no shade class.
        shade_reach: How far a tree gives shade, in the unit.
        verdicts: By figure, where bands are known.
    """

    unit: str
    area: float
    canopy_cover: float
    classes: dict[str, ClassStand]
    spacing: dict[str, Spacing]
    shade: dict[str, float]
    shade_reach: float
    verdicts: dict[str, Verdict]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def describe_stand(
    points: NDArray[Any],
    labels: NDArray[Any],
    names: Mapping[int, str],
    ground: Polygon | MultiPolygon,
    *,
    unit: str,
    diameters: NDArray[Any] | None = None,
    cover: Mapping[str, float] | None = None,
    crop_class: str = "cacao",
    shade_class: str = "shade",
    shade_reach: float = 12.0,
) -> Stand:
    """The figures of the trees on a piece of ground.

    Args:
        points: (N, 2) x, y in the unit.
        labels: (N,) numbers of classes.
        names: Number to name of every class of trees.
        ground: Where trees could have been, in the unit.
        unit: ``m`` or ``px``.
        diameters: (N,) of crowns, nan where not known; None: none is known.
        cover: Share of the ground under crowns, by class and for :data:`ALL`; unset: not known.
        crop_class: Name of what wants shade.
        shade_class: Name of what gives it.
        shade_reach: How far, in the unit.
    """
    points, labels = np.asarray(points, np.float64).reshape(-1, 2), np.asarray(labels, np.int64)
    sizes = np.full(len(points), np.nan) if diameters is None else np.asarray(diameters, np.float64)
    members = {ALL: np.ones(len(points), bool), **{name: labels == number for number, name in names.items()}}
    known = dict(cover or {})
    shade = _shade(points, members, ground, crop_class, shade_class, shade_reach)
    canopy = known.get(ALL, math.nan)
    return Stand(
        unit=unit,
        area=float(ground.area),
        canopy_cover=canopy,
        classes={
            name: _class_stand(sizes[chosen], float(ground.area), unit, known.get(name, math.nan))
            for name, chosen in members.items()
        },
        spacing={
            name: _spacing(points[chosen], ground)
            for name, chosen in members.items()
            if name == ALL or (np.count_nonzero(chosen) > 1 and len(names) > 1)
        },
        shade=shade,
        shade_reach=shade_reach,
        verdicts=_verdicts({"canopy_coverage": canopy, **shade}),
    )


def _class_stand(sizes: NDArray[Any], area: float, unit: str, cover: float) -> ClassStand:
    per = _HECTARE_M2 if unit == "m" else 1e6
    told = spread(sizes)
    return ClassStand(len(sizes), len(sizes) / area * per if area else math.nan, cover, told.mean, told.std)


def _shade(
    points: NDArray[Any],
    members: Mapping[str, NDArray[np.bool_]],
    ground: Any,
    crop_class: str,
    shade_class: str,
    reach: float,
) -> dict[str, float]:
    if crop_class not in members or shade_class not in members:
        return {}
    return shade_scores(points[members[crop_class]], points[members[shade_class]], ground, reach=reach)


def _spacing(points: NDArray[Any], ground: Any) -> Spacing:
    nearest = spread(nearest_distances(points))
    against = clark_evans(points, ground)
    cells = spread(voronoi_areas(points, ground))
    radii = _radii(len(points), ground)
    k = ripley_k(points, ground, radii) if radii else np.zeros(0)
    ripley = tuple(float(math.sqrt(value / math.pi) - radius) for value, radius in zip(k, radii, strict=True))
    return Spacing(
        nearest_mean=nearest.mean,
        nearest_std=nearest.std,
        nearest_cv=nearest.cv,
        clark_evans=against.ratio,
        clark_evans_z=against.z,
        pattern=against.words,
        radii=tuple(radii),
        ripley_l=ripley,
        voronoi_mean=cells.mean,
        voronoi_cv=cells.cv,
    )


def _radii(count: int, ground: Any) -> Sequence[float]:
    """Ten distances up to a quarter of the shorter side, or as far as the pairs to be looked at stay bounded."""
    if count < 2 or ground.area <= 0:
        return ()
    x0, y0, x1, y1 = ground.bounds
    side = min(x1 - x0, y1 - y0)
    most = _MOST_PAIRS if math.isclose(ground.area, (x1 - x0) * (y1 - y0), rel_tol=1e-9) else _MOST_PAIRS_RAGGED
    bounded = math.sqrt(2 * most * ground.area / (math.pi * count * count))
    return [float(radius) for radius in np.linspace(0.0, min(side / 4, bounded), _RADII + 1)[1:]]


def _verdicts(figures: Mapping[str, float]) -> dict[str, Verdict]:
    judged = ("canopy_coverage", "shaded_share", "ratio_score", "distribution_score", "spacing_score")
    return {name: Verdict(figures[name], band(name, figures[name])) for name in judged if name in figures}

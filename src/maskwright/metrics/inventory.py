"""Trees a map shows against trees a list says are there: found or missed, how far off, of the right species.

Positions are in metres. Trees are matched one to one, as many as possible within a distance, and among those with the
least distances in sum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.metrics.canopy import CountScore, count_score

__all__ = ["REACHES_M", "InventoryScores", "compare_inventory", "match_within"]

Floats = NDArray[np.float64]

REACHES_M = (0.5, 1.0, 2.0, 5.0)
"""Distances at which the share of listed trees that were found is told."""


@dataclass(frozen=True, eq=False)
class InventoryScores:
    """What a comparison says.

    Attributes:
        within_m: Largest distance of a found tree from its listed one.
        count: Found against listed.
        detection_rate: Share of the listed trees that were found; nan where none is listed.
        precision: Share of the found trees that are listed; nan where none was found.
        f1: Their harmonic mean; nan where there are neither.
        error_mean_m: Distance of matched trees; nan where none was matched, as the three below.
        error_median_m: Their median.
        error_rmse_m: Root of their mean square.
        offset_m: Mean shift (x, y) of found from listed trees: a map that lies askew.
        found_within: By distance the share of listed trees with a found one that near, each matched anew.
        species_accuracy: Share of matched trees of a species both name that have the same; nan where there are none.
        species_compared: How many those are.
        per_species: By name: ``listed``, ``found`` (matched, whatever they are called), ``named`` (called so as well).
        pairs: (M, 2) positions of a found and a listed tree.
        distances_m: (M,).
    """

    within_m: float
    count: CountScore
    detection_rate: float
    precision: float
    f1: float
    error_mean_m: float
    error_median_m: float
    error_rmse_m: float
    offset_m: tuple[float, float]
    found_within: dict[float, float]
    species_accuracy: float
    species_compared: int
    per_species: dict[str, dict[str, int]]
    pairs: NDArray[np.intp]
    distances_m: Floats

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the pairs."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("pairs", "distances_m")}
        return plain | {
            "offset_m": list(self.offset_m),
            "found_within": {f"{reach:g} m": share for reach, share in self.found_within.items()},
        }


def compare_inventory(
    found: NDArray[Any],
    listed: NDArray[Any],
    *,
    within_m: float = 2.0,
    species: Sequence[str] = (),
    listed_species: Sequence[str] = (),
) -> InventoryScores:
    """Hold found trees against listed ones.

    Args:
        found: (P, 2) x, y in metres.
        listed: (T, 2) likewise.
        within_m: Largest distance of a pair.
        species: P names; empty: not compared.
        listed_species: T names; an empty word: not known.
    """
    found, listed = (np.asarray(points, np.float64).reshape(-1, 2) for points in (found, listed))
    pairs = match_within(found, listed, within_m)
    moves = found[pairs[:, 0]] - listed[pairs[:, 1]]
    distances = np.hypot(moves[:, 0], moves[:, 1])
    matched, both = len(pairs), len(found) + len(listed)
    none = not matched
    reached = {reach: len(match_within(found, listed, reach)) for reach in REACHES_M}
    compared, right, per_species = _species(pairs, species, listed_species)
    return InventoryScores(
        within_m=within_m,
        count=count_score(len(found), len(listed)),
        detection_rate=matched / len(listed) if len(listed) else math.nan,
        precision=matched / len(found) if len(found) else math.nan,
        f1=2 * matched / both if both else math.nan,
        error_mean_m=math.nan if none else float(distances.mean()),
        error_median_m=math.nan if none else float(np.median(distances)),
        error_rmse_m=math.nan if none else float(np.sqrt((distances**2).mean())),
        offset_m=(math.nan, math.nan) if none else (float(moves[:, 0].mean()), float(moves[:, 1].mean())),
        found_within={reach: count / len(listed) if len(listed) else math.nan for reach, count in reached.items()},
        species_accuracy=right / compared if compared else math.nan,
        species_compared=compared,
        per_species=per_species,
        pairs=pairs,
        distances_m=distances,
    )


def match_within(found: NDArray[Any], listed: NDArray[Any], within: float) -> NDArray[np.intp]:
    """The best pairs as :func:`~maskwright.metrics.canopy.match_positions` has them, for any number of trees.

    Only trees that are near enough are looked at: memory follows their pairs, not the product of both numbers.

    Returns:
        (M, 2) positions in ``found`` and ``listed``, by the first.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching
    from scipy.spatial import cKDTree

    found, listed = (np.asarray(points, np.float64).reshape(-1, 2) for points in (found, listed))
    if not len(found) or not len(listed):
        return np.zeros((0, 2), np.intp)
    near = cKDTree(found).sparse_distance_matrix(cKDTree(listed), within, output_type="coo_matrix")
    alone = np.arange(len(found))  # every tree may also stay alone, which costs more than all distances together
    most = (1.0 + within) * (1 + min(len(found), len(listed)))
    rows, cols = np.concatenate((near.row, alone)), np.concatenate((near.col, len(listed) + alone))
    costs = 1.0 + np.concatenate((near.data, np.full(len(found), most)))  # a cost of 0 would be no pair
    graph = csr_matrix((costs, (rows, cols)), shape=(len(found), len(listed) + len(found)))
    chosen, partner = min_weight_full_bipartite_matching(graph)
    paired = partner < len(listed)
    joined = np.column_stack((chosen[paired], partner[paired]))
    return joined[np.argsort(joined[:, 0], kind="stable")].astype(np.intp)


def _species(
    pairs: NDArray[np.intp], species: Sequence[str], listed_species: Sequence[str]
) -> tuple[int, int, dict[str, dict[str, int]]]:
    """How many pairs can be compared, how many agree, and the counts of each listed species."""
    if not species or not any(listed_species):
        return 0, 0, {}
    listed = Counter(name for name in listed_species if name)
    rows = {name: {"listed": listed[name], "found": 0, "named": 0} for name in sorted(listed)}
    compared = right = 0
    for one, other in pairs.tolist():
        true = listed_species[other]
        if not true:
            continue
        rows[true]["found"] += 1
        rows[true]["named"] += species[one] == true
        compared += 1
        right += species[one] == true
    return compared, right, rows

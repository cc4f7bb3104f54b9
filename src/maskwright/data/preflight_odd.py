"""The samples least like the others, and in what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.data.preflight_look import Look
from maskwright.data.preflight_values import robust_z

__all__ = ["Odd", "oddest"]


@dataclass(frozen=True, slots=True)
class Odd:
    """A sample unlike the others.

    Attributes:
        index: Its place in the list of looks.
        distance: From the median sample, in robust deviations over all features.
        why: The feature that is farthest off, in words.
    """

    index: int
    distance: float
    why: str


_FEATURES = (
    # name, word when high, word when low, format
    ("mean", "brighter than most", "darker than most", ".4g"),
    ("contrast", "more contrast than most", "less contrast than most", ".4g"),
    ("edges", "more edges than most", "fewer edges than most", ".3g"),
    ("foreground", "more foreground than most", "less foreground than most", ".2%"),
    ("measured", "more of it counts than of most", "less of it counts than of most", ".0%"),
)


def oddest(looks: Sequence[Look], most: int = 12) -> tuple[Odd, ...]:
    """The ``most`` samples farthest from the median sample, the oddest first, about a third for any one reason at most.

    Features are mean, contrast, density of edges, share of foreground and share of pixels that count, each in robust
    deviations; a deviation is at least a fiftieth of the median, so that equal samples are not told apart by noise.
    """
    if not looks:
        return ()
    rows = [
        (
            float(np.nanmean(look.mean)) if np.isfinite(look.mean).any() else np.nan,
            float(np.nanmean(look.std)) if np.isfinite(look.std).any() else np.nan,
            look.edges,
            look.foreground,
            look.valid_share,
        )
        for look in looks
    ]
    features = np.array(rows, dtype=np.float64)
    known = [column for column in range(features.shape[1]) if np.isfinite(features[:, column]).any()]
    z = np.zeros_like(features)
    for column in known:
        middle = float(np.nanmedian(features[:, column]))
        floor = 0.02 * abs(middle) if column < 3 else 0.01
        z[:, column] = np.nan_to_num(robust_z(features[:, column], floor=floor))
    distance = np.sqrt((np.clip(z, -1e6, 1e6) ** 2).sum(axis=1))
    order = _varied(np.argsort(-distance, kind="stable"), np.abs(z).argmax(axis=1), most)
    return tuple(Odd(i, float(distance[i]), _why(features, z, i)) for i in order)


def _varied(order: np.ndarray, reasons: np.ndarray, most: int) -> list[int]:
    """The first of an order, no more than a third of them for one reason unless there are no others."""
    chosen: list[int] = []
    left: list[int] = []
    seen: Counter[int] = Counter()
    for index in order.tolist():
        reason = int(reasons[index])
        (chosen if seen[reason] < max(1, most // 3) else left).append(index)
        seen[reason] += 1
    wanted = set([*chosen, *left][:most])
    return [index for index in order.tolist() if index in wanted]


def _why(features: np.ndarray, z: np.ndarray, index: int) -> str:
    column = int(np.abs(z[index]).argmax())
    name, high, low, form = _FEATURES[column]
    value = features[index, column]
    if not np.isfinite(value) or z[index, column] == 0:
        return "much as the others"
    middle = float(np.nanmedian(features[:, column]))
    return f"{high if value > middle else low}: {name} {format(value, form)}, usual {format(middle, form)}"

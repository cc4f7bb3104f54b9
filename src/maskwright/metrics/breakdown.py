"""Where a model is good and where it is not: the same scores for each site, camera, class or height."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError
from maskwright.metrics.confidence import group_counts
from maskwright.metrics.scores import score_named

__all__ = ["score_groups"]


def score_groups(
    counts: NDArray[np.int64],
    groups: Sequence[Hashable],
    names: Sequence[str],
    scores: Sequence[str] = ("iou", "precision", "recall", "f1"),
) -> list[dict[str, Any]]:
    """Scores of each group of images and each class or height, beside those of all images together.

    Args:
        counts: (N, K, 4) TP, FP, FN, TN of N images and K classes or heights.
        groups: N group ids, for example the site of each image.
        names: K names of the classes or heights.
        scores: Names of :data:`~maskwright.metrics.scores.SCORES`.

    Returns:
        Rows sorted by group, with ``group``, ``name``, ``images``, ``valid_px``, the scores (nan where not defined),
        and ``<score>_difference``: that of the group minus that of all images.

    Raises:
        ShapeError: If there is not one group per image or one name per class.
        ConfigError: If a score does not exist.
    """
    if counts.ndim != 3 or counts.shape[1:] != (len(names), 4):
        raise ShapeError(f"Counts of shape {counts.shape} do not fit {len(names)} names; (N, {len(names)}, 4) needed.")
    functions = {score: score_named(score).function for score in scores}
    grouped = group_counts(counts, groups)  # checks that there is one group per image
    seen = list(dict.fromkeys(groups))
    total = counts.sum(axis=0)
    rows = []
    for at in sorted(range(len(seen)), key=lambda g: str(seen[g])):
        images = sum(group == seen[at] for group in groups)
        for k, name in enumerate(names):
            row: dict[str, Any] = {
                "group": seen[at],
                "name": name,
                "images": images,
                "valid_px": int(grouped[at, k].sum()),
            }
            for score, function in functions.items():
                here = float(function(grouped[at, k]))
                row |= {score: here, f"{score}_difference": here - float(function(total[k]))}
            rows.append(row)
    return rows

"""Trying how a few images can be divided, so that every part shows something."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.config import load_experiment
from maskwright.data.build import build_source, build_split_of
from maskwright.data.regions import PARTS, Split
from maskwright.data.sources.images import ImageScenes
from maskwright.errors import MaskwrightError
from maskwright.workflows.init_draft import Draft

__all__ = ["try_splits"]

_SEEDS = range(42, 62)
_SIZES_PX = (256, 128, 64, 32)


def try_splits(draft: Draft, tile_px: int) -> tuple[int, int]:
    """Tile size and seed of the split that spreads classes best over the parts.

    Args:
        draft: The settings so far.
        tile_px: The largest tile size to try.

    Returns:
        The size asked and the first seed where nothing works; the check tells why then.
    """
    best: tuple[int, int, int] | None = None  # classes seen in parts, minus the order of trial
    source: Any = None
    for size_px in (size for size in _SIZES_PX if size <= tile_px):
        for seed in _SEEDS:
            settings = draft.settings()
            settings["data"] |= {"tiles": {"size_px": size_px}, "split": {"seed": seed}}
            try:
                experiment = load_experiment((), settings | {"model": {"depth": 1}})
                kind: Any = experiment.task.kind
                source = source or build_source(experiment.data, kind)
                score, most = _spread(source, build_split_of(experiment.data, source))
            except MaskwrightError:
                if source is None:
                    return tile_px, _SEEDS[0]
                break  # another seed would not help a size that does not fit
            if best is None or score > best[0]:
                best = (score, size_px, seed)
            if score == most:
                return size_px, seed
    return (tile_px, _SEEDS[0]) if best is None else best[1:]


def _spread(source: ImageScenes, split: Split) -> tuple[int, int]:
    """In how many (part, class) pairs the class is seen in the part, and how many pairs there are."""
    first = 0 if source.classes.form == "multilabel" else 1
    seen = most = 0
    for part in PARTS:
        rows = [source.class_counts(place)[first : source.classes.num_ids] for place in split.tiles[part]]
        seen += int(np.any(rows, axis=0).sum()) if rows else 0
        most += source.classes.num_ids - first
    return seen, most

"""From an experiment to the parts that every workflow shares: source, split, task, and what they say about the data."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwright.config import Experiment
from maskwright.data.build import build_source, build_split_of
from maskwright.data.splits import Split, assert_apart, read_manifest
from maskwright.errors import DataError
from maskwright.tasks.build import build_task
from maskwright.tracking.folder import find_runs

if TYPE_CHECKING:
    from maskwright.data.sources.rasters import HeightRasters
    from maskwright.tasks.height_gaps import HeightGaps
    from maskwright.types import Place

__all__ = ["Parts", "assemble", "data_fingerprint", "gap_shares", "require_gaps", "trained_heights"]

log = logging.getLogger("maskwright")


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before any training."""

    experiment: Experiment
    source: HeightRasters
    split: Split
    task: HeightGaps
    notes: tuple[str, ...]


def assemble(experiment: Experiment, *, split: Split | None = None) -> Parts:
    """Open the data, divide the ground, build the task.

    Args:
        experiment: The whole run.
        split: The split of an earlier attempt, used as it is; unset: made by the rules of ``data.split``.

    Raises:
        DataError: If the data cannot be used; all faults of all sites at once.
    """
    source = build_source(experiment.data)
    require_gaps(experiment.task.heights_m, source, "task.heights_m")
    notes = [f"{scene.name}: {note}" for scene in source.scenes for note in scene.notes] + list(source.notes)
    if split is None:
        previous, why = _previous_split(experiment)
        notes += why
        split = build_split_of(experiment.data, source, previous=previous)
        notes += split.notes
    _check_known_ground(split, source)
    assert_apart(split, source.scenes)
    notes += _ground_without_gaps(experiment, source, split)
    task = build_task(experiment.task, experiment.loss, experiment.metrics, experiment.model)
    return Parts(experiment, source, split, task, tuple(notes))


def trained_heights(experiment: Experiment) -> tuple[float, float]:
    """Lowest and highest height in metres that training draws."""
    task = experiment.task
    if task.train_range_m is not None:
        return task.train_range_m
    heights = task.train_heights_m or task.heights_m
    if not experiment.model.conditioned:
        heights = task.heights_m
    return min(heights), max(heights)


def data_fingerprint(source: HeightRasters) -> str:
    """A short hash of what the pixels of every site are made of; the same wherever the files lie and however old."""
    facts = {
        name: site | {"files": [file["sha256"] for file in site["files"]], "notes": None}
        for name, site in source.describe().items()
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _previous_split(experiment: Experiment) -> tuple[Split | None, list[str]]:
    """The split that new sites must not reshuffle, and a note saying where it came from."""
    keep = experiment.data.split.keep
    if keep == "none" or experiment.data.split.by == "lists":
        return None, []
    if keep != "auto":
        path = Path(keep)
        path = path / "splits.geojson" if path.is_dir() else path
        return read_manifest(path), [f"split: kept from {path}"]
    for run in find_runs(experiment.tracking.output_dir, experiment.name):
        if not run.splits.exists():
            continue
        previous = read_manifest(run.splits)
        wanted = experiment.data.split
        same = (
            previous.seed == wanted.seed
            and tuple(previous.shares) == tuple(wanted.shares)
            and previous.tile_px == experiment.data.tiles.size_px
            and (wanted.by == "auto" or previous.by == wanted.by)
        )
        if same:
            return previous, [f"split: sites of {run.path.name} keep their part"]
        return None, [f"split: made anew, since the settings differ from those of {run.path.name}"]
    return None, []


def require_gaps(heights_m: Sequence[float], source: HeightRasters, name: str = "heights") -> None:
    """Refuse heights at which no pixel, or every pixel, of all sites is a gap.

    Args:
        heights_m: Heights in metres.
        source: The sites.
        name: What the heights are called in the message.

    Raises:
        DataError: Naming the heights and the lowest and highest canopy.
    """
    facts = source.describe().values()
    lowest, highest = min(site["canopy_min_m"] for site in facts), max(site["canopy_max_m"] for site in facts)
    empty = [height for height in heights_m if height <= lowest]
    full = [height for height in heights_m if height > highest]
    faults = []
    if empty:
        faults.append(
            f"{name}: no pixel of any site lies below {_metres(empty)}; the lowest canopy is {lowest:g} m. "
            "Ask for heights above it."
        )
    if full:
        faults.append(
            f"{name}: every pixel of every site lies below {_metres(full)}; the highest canopy is {highest:g} m. "
            "Ask for heights below it."
        )
    if faults:
        raise DataError("\n".join(faults))


def gap_shares(source: HeightRasters, places: Sequence[Place], heights_m: Sequence[float]) -> np.ndarray:
    """Share 0..1 of valid pixels below each of the K heights on some tiles: (K,)."""
    below, valid_pixels = np.zeros(len(heights_m), dtype=np.int64), 0
    for place in places:
        _, canopy, valid = source.sample(place.scene, place.window)
        values = canopy[valid]
        valid_pixels += values.size
        below += np.array([np.count_nonzero(values < height) for height in heights_m])
    return below / max(valid_pixels, 1)


def _ground_without_gaps(experiment: Experiment, source: HeightRasters, split: Split) -> list[str]:
    """Notes on parts that hold no gap at a height; refused where nothing could be learned or steered."""
    heights, notes = experiment.task.heights_m, []
    for part, meaning in (("train", "training"), ("val", "validation"), ("test", "test")):
        shares = gap_shares(source, split.tiles[part], heights)
        steers = part == "val" and experiment.callbacks.monitor in (None, "val/iou")
        if not shares.any() and (part == "train" or steers):
            raise DataError(
                f"The {meaning} ground holds no gap at any of {_metres(heights)}. Choose another data.split.seed, add "
                "sites" + (", or set callbacks.monitor: val/loss." if steers else ".")
            )
        missing = [height for height, share in zip(heights, shares, strict=True) if share == 0]
        if missing:
            notes.append(f"the {meaning} ground holds no gap below {_metres(missing)}")
    return notes


def _metres(heights: Sequence[float]) -> str:
    return ", ".join(f"{height:g} m" for height in heights)


def _check_known_ground(split: Split, source: HeightRasters) -> None:
    names = {scene.name for scene in source.scenes}
    gone = sorted({region.scene for region in split.regions} - names)
    if gone:
        raise DataError(
            f"The split names {', '.join(gone)}, which the experiment no longer holds. "
            "Put the site back, or start a new run with data.split.keep: none."
        )

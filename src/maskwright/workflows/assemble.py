"""From an experiment to the parts that every workflow shares: source, split, task, and what they say about the data."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.config import (
    EXCLUSIVE,
    AgroforestryTask,
    Experiment,
    HeightGapsTask,
    ImagesData,
    InstancesTask,
    PointLabels,
)
from maskwright.data.build import build_source, build_split_of, fit_normaliser
from maskwright.data.sources.images import ImageScenes
from maskwright.data.sources.rasters import HeightRasters
from maskwright.data.splits import Split, assert_apart, read_manifest
from maskwright.devices import choose_device
from maskwright.errors import DataError
from maskwright.tasks.build import AnyTask, build_task
from maskwright.tasks.object_task import ObjectTask
from maskwright.tracking.folder import find_runs
from maskwright.workflows.unfinished import run_around

if TYPE_CHECKING:
    from maskwright.data.instance_targets import TargetPainter
    from maskwright.data.loaders import EvalLoader, TrainLoader
    from maskwright.data.sources.classes import Form
    from maskwright.types import Place

AnySource = HeightRasters | ImageScenes

__all__ = [
    "FORMS",
    "AnySource",
    "Parts",
    "assemble",
    "column_shares",
    "data_fingerprint",
    "gap_shares",
    "loaders_of",
    "require_gaps",
    "trained_heights",
]

log = logging.getLogger("maskwright")

FORMS: dict[str, Form | None] = {
    "height_gaps": None,
    "height": None,
    "binary": "binary",
    "multiclass": "multiclass",
    "multilabel": "multilabel",
    "instances": "multiclass",
    "agroforestry": "multiclass",
}
"""What each task makes of the classes of labels; None: it learns from heights."""

_RANGE_STEPS = 9  # heights at which shares are measured, where any height of a range is trained

_PARTS = (("train", "training"), ("val", "validation"), ("test", "test"))


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before any training.

    Attributes:
        experiment: The whole run.
        source: Height rasters, or images with labels.
        split: What belongs to which part.
        task: What outputs mean.
        notes: What was noticed, for a person.
        balance: Share 0..1 of each part's pixels that belong to each column, by part: (K,); empty for heights.
    """

    experiment: Experiment
    source: AnySource
    split: Split
    task: AnyTask
    notes: tuple[str, ...]
    balance: Mapping[str, np.ndarray]

    @property
    def images(self) -> ImageScenes:
        """The source of a run on images."""
        assert isinstance(self.source, ImageScenes)
        return self.source

    @property
    def rasters(self) -> HeightRasters:
        """The source of a run on height rasters."""
        assert isinstance(self.source, HeightRasters)
        return self.source

    @property
    def heights_m(self) -> tuple[float, ...]:
        """Heights in metres the network is asked for; empty for tasks that are asked for none."""
        return self.task.heights_m

    @cached_property
    def painter(self) -> TargetPainter | None:
        """What gives batches their objects, for tasks of objects; None for the others."""
        task, settings = self.task, self.experiment.task
        if not isinstance(task, ObjectTask) or not isinstance(settings, InstancesTask | AgroforestryTask):
            return None
        from maskwright.data.instance_targets import ObjectTruths, TargetPainter

        truths = ObjectTruths(self.images, task.object_ids, settings.crown_unit)
        sigma = getattr(task, "density_sigma_px", None)
        return TargetPainter(truths, task.object_ids, centre_sigma_px=settings.centre_sigma_px, density_sigma_px=sigma)

    def split_summary(self) -> str:
        """How the data was divided: by site for height rasters; images are counted, since there may be thousands."""
        if isinstance(self.source, HeightRasters):
            return self.split.summary()
        lines = []
        for part, places in self.split.tiles.items():
            images = len({place.scene for place in places})
            lines.append(f"{part}: {images} images, {len(places)} tiles of {self.experiment.data.tiles.size_px} px")
        return f"Split by {self.split.by}. " + "; ".join(lines) + "."

    @property
    def things(self) -> range:
        """Columns that are to be found: all but the background."""
        exclusive = self.task.kind in EXCLUSIVE
        return range(int(exclusive and self.images.classes.background is not None), len(self.task.columns))


def assemble(
    experiment: Experiment, *, split: Split | None = None, check: Callable[[AnySource], None] | None = None
) -> Parts:
    """Open the data, divide it, fit the normalisation on its training part, build the task.

    Args:
        experiment: The whole run.
        split: The split of an earlier attempt, used as it is; unset: made by the rules of ``data.split``.
        check: Called with the opened data before anything is made of it; raises if it is not what it should be.

    Raises:
        DataError: If the data cannot be used; all faults of all sites or images at once.
    """
    source = build_source(experiment.data, FORMS[experiment.task.kind])
    if check is not None:
        check(source)
    task = experiment.task
    if isinstance(task, HeightGapsTask) and isinstance(source, HeightRasters):
        require_gaps(task.heights_m, source, "task.heights_m")
    notes = list(source.notes)
    if isinstance(source, HeightRasters):  # the notes of images, thousands maybe, are told together by their source
        notes = [f"{scene.name}: {note}" for scene in source.scenes for note in scene.notes] + notes
    if split is None:
        previous, why = _previous_split(experiment)
        notes += why
        split = build_split_of(experiment.data, source, previous=previous)
        notes += split.notes
    _check_known_ground(split, source)
    assert_apart(split, source.scenes)
    fit_normaliser(experiment.data, source, split)
    balance: dict[str, np.ndarray] = {}
    measured: dict[str, Any] = {}
    if isinstance(source, ImageScenes):
        counts = {part: _counts_of(source, split.tiles[part]) for part, _ in _PARTS}
        balance = {part: _shares(values, source.classes.form) for part, values in counts.items()}
        notes += _parts_without(experiment, source, balance)
        data = experiment.data
        measured = {"classes": source.classes.names, "class_counts": counts["train"].tolist()}
        measured["has_background"] = source.classes.background is not None
        measured["tells_classes"] = not (isinstance(data, ImagesData) and isinstance(data.labels, PointLabels))
    elif isinstance(task, HeightGapsTask):
        notes += _ground_without_gaps(experiment, task.heights_m, source, split)
        measured = {"gap_shares": _shares_of_trained_heights(experiment, task, source, split)}
    built = build_task(task, experiment.loss, experiment.metrics, experiment.model, **measured)
    return Parts(experiment, source, split, built, tuple(notes), balance)


def column_shares(task: AnyTask, source: AnySource, places: Sequence[Place]) -> np.ndarray:
    """Share 0..1 of the valid pixels of some tiles that truly belong to each column of a task: (K,)."""
    if isinstance(source, HeightRasters):
        return gap_shares(source, places, task.heights_m)
    return _shares(_counts_of(source, places), source.classes.form)


def trained_heights(experiment: Experiment, task: HeightGapsTask) -> tuple[float, float]:
    """Lowest and highest height in metres that training draws."""
    if task.train_range_m is not None:
        return task.train_range_m
    heights = task.train_heights_m or task.heights_m
    if not experiment.model.conditioned:
        heights = task.heights_m
    return min(heights), max(heights)


def loaders_of(parts: Parts, device: Any = None) -> tuple[TrainLoader, dict[str, EvalLoader]]:
    """The loaders of a training of these parts: for training, and for ``val`` and ``test``.

    Args:
        parts: What the run is made of.
        device: Where batches go; None: as the settings choose.
    """
    from maskwright.data.build import build_loaders

    experiment = parts.experiment
    return build_loaders(
        experiment.data,
        parts.source,
        parts.split,
        **_heights_asked(experiment),
        painter=parts.painter,
        seed=experiment.training.seed,
        device=choose_device(experiment.training.device) if device is None else device,
    )


def _heights_asked(experiment: Experiment) -> dict[str, Any]:
    """What the loaders ask of each tile: heights in metres, for the one task that is asked for heights."""
    task = experiment.task
    if not isinstance(task, HeightGapsTask):
        return {}
    # A network without condition answers all its heights at once, so every sample asks all of them.
    fixed = not experiment.model.conditioned
    return {
        "heights_m": task.heights_m,
        "train_heights_m": task.heights_m if fixed else (task.train_heights_m or task.heights_m),
        "train_range_m": None if fixed else task.train_range_m,
        "heights_per_sample": len(task.heights_m) if fixed else task.heights_per_sample,
    }


def data_fingerprint(source: AnySource) -> str:
    """A short hash of what the pixels of every site or image are made of, wherever the files lie and however old."""
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
    weights = experiment.model.initial_weights
    parent = None if weights is None else run_around(weights)
    for run in [*([] if parent is None else [parent]), *find_runs(experiment.tracking.output_dir, experiment.name)]:
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
        held_out = "" if run is not parent else "; what is held out here its weights may have been trained on"
        return None, [f"split: made anew, since the settings differ from those of {run.path.name}{held_out}"]
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


def _ground_without_gaps(
    experiment: Experiment, heights: Sequence[float], source: HeightRasters, split: Split
) -> list[str]:
    """Notes on parts that hold no gap at a height; refused where nothing could be learned or steered."""
    notes = []
    for part, meaning in _PARTS:
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


def _shares_of_trained_heights(
    experiment: Experiment, task: HeightGapsTask, source: HeightRasters, split: Split
) -> dict[float, float] | None:
    """Gap shares by height on the training ground, where the loss weighs heights by them."""
    if getattr(experiment.loss, "height_weights", "none") == "none":
        return None
    heights = task.train_heights_m or task.heights_m
    if task.train_range_m is not None:
        heights = tuple(np.linspace(*task.train_range_m, _RANGE_STEPS).tolist())
    return dict(zip(heights, gap_shares(source, split.tiles["train"], heights).tolist(), strict=True))


def _counts_of(source: ImageScenes, places: Sequence[Place]) -> np.ndarray:
    """Pixels of the tiles by id, as ``class_counts`` of the source gives them for one."""
    total = np.zeros(source.classes.num_ids + (source.classes.form == "multilabel"), dtype=np.int64)
    for place in places:
        total += source.class_counts(place)[: len(total)]
    return total


def _shares(counts: np.ndarray, form: Form) -> np.ndarray:
    """Share of each column: (K,)."""
    if form == "multilabel":
        return counts[:-1] / max(int(counts[-1]), 1)
    shares: np.ndarray = counts / max(int(counts.sum()), 1)
    return shares[1:] if form == "binary" else shares


def _parts_without(experiment: Experiment, source: ImageScenes, balance: Mapping[str, np.ndarray]) -> list[str]:
    """Notes on parts that lack a class; refused where nothing could be learned or steered."""
    classes = source.classes.names
    has_background = source.classes.form == "multiclass" and source.classes.background is not None
    notes = []
    for part, meaning in _PARTS:
        shares = balance[part]
        things = shares[1:] if has_background else shares
        steers = part == "val" and experiment.callbacks.monitor != "val/loss"
        if not things.any() and (part == "train" or steers):
            raise DataError(
                f"The {meaning} images hold no pixel of {_listed(classes)}. Choose another data.split.seed, add images "
                "that hold some" + (", or set callbacks.monitor: val/loss." if steers else ".")
            )
        missing = [name for name, share in zip(classes, shares, strict=True) if share == 0]
        if missing:
            notes.append(f"the {meaning} images hold no pixel of {_listed(missing)}")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _metres(heights: Sequence[float]) -> str:
    return ", ".join(f"{height:g} m" for height in heights)


def _check_known_ground(split: Split, source: AnySource) -> None:
    names = {scene.name for scene in source.scenes}
    gone = sorted({region.scene for region in split.regions} - names)
    if gone:
        raise DataError(
            f"The split names {', '.join(gone)}, which the experiment no longer holds. "
            "Put it back, or start a new run with data.split.keep: none."
        )

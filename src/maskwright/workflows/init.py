"""Look at a folder of data and write a commented experiment file that checks and trains."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.config import OBJECTS, Experiment, load_experiment
from maskwright.data.sources.folders import ImageFolder
from maskwright.data.sources.image_header import ImageHeader, read_header
from maskwright.errors import ConfigError, DataError
from maskwright.files import write_text
from maskwright.workflows.init_draft import Draft
from maskwright.workflows.init_heights import find_heights, put_heights
from maskwright.workflows.init_labels import LabelsSeen, find_labels
from maskwright.workflows.init_objects import put_objects
from maskwright.workflows.init_trial import try_splits

__all__ = ["TASKS", "InitOutcome", "draft_experiment", "guessed_experiment", "init"]

TASKS = ("binary", "multiclass", "multilabel", "instances", "agroforestry", "height_gaps", "height")
_HEADERS_READ = 200
_FEW_IMAGES = 12  # fewer are opened, and divisions of them tried
_PATIENT_TILES = 2500  # tiles of 256 px that a small network passes in a few minutes on two cores
_SHRUNKEN = 3.5  # times as many of them where the network works on blocks of 2 x 2 pixels; measured
_SHRINK_FROM_PX = 128  # side of tiles from which on blocks leave enough to halve four times
_SHARE_TRAINED = 0.7
_WHOLE_PX = 256  # side that photographs of wide things are brought to, to be seen whole
_WHOLE_UP_TO = 4.0  # times that side; larger ones would lose too much
_WIDE_PX = 32.0  # what is marked, once the photograph has that side


@dataclass(frozen=True)
class InitOutcome:
    """What was written.

    Attributes:
        path: The file.
        text: Its text.
        about: What was found in the data.
        unknown: What could not be known, a sentence each.
        lines: For the screen.
    """

    path: Path
    text: str
    about: tuple[str, ...]
    unknown: tuple[str, ...]
    lines: tuple[str, ...]


def init(
    data: Path, out: Path = Path("experiment.yaml"), *, task: str | None = None, force: bool = False
) -> InitOutcome:
    """Look at data and write an experiment file.

    Args:
        data: Folder of the data.
        out: The file to write.
        task: Kind of task; None: what the data suggests.
        force: Write over a file that is there.

    Raises:
        ConfigError: If the file is there already, or the task is not known.
        DataError: If nothing in the folder can be learned from.
    """
    if out.exists() and not force:
        raise ConfigError(f"{out} is there already and is left as it is. Name another file with --out, or use --force.")
    draft = draft_experiment(data, task=task)
    text = draft.text(out.parent)
    load_experiment((), draft.settings())  # what is written can be read
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    lines = [*draft.about[1:], f"Written to {out}."]
    lines += [f"Please look at it: it could not be known {line}." for line in draft.unknown]
    lines += [f"Next: maskwright check {out}", f"Then: maskwright train {out}"]
    return InitOutcome(out, text, tuple(draft.about), tuple(draft.unknown), tuple(lines))


def draft_experiment(data: Path, *, task: str | None = None) -> Draft:
    """The settings that suit a folder of data, with their reasons.

    Args:
        data: The folder.
        task: Kind of task; None: what the data suggests.

    Raises:
        ConfigError: If the task is not known.
        DataError: If nothing in the folder can be learned from.
    """
    if task is not None and task not in TASKS:
        raise ConfigError(f"--task {task}: there is no such task. Choose {', '.join(TASKS)}.")
    if not data.is_dir():
        raise DataError(f"{data} is no folder. Name the folder that holds the images or rasters.")
    data = data.absolute()
    draft = Draft(about=[f"Written by maskwright init after a look at {data.name}. Every line may be changed."])
    draft.put("name", _name(data), "names the run folders")
    sites, others = find_heights(data) if task in (None, "height_gaps", "height") else ([], [])
    if sites:
        put_heights(draft, data, sites, others)
        if task == "height":
            draft.put("task.kind", "height", "canopy height in metres")
            draft.entries = [entry for entry in draft.entries if entry.path != "task.heights_m"]
        _put_network(
            draft,
            tiles=400,
            tile_px=_value(draft, "data.tiles.size_px"),
            kind="height_cdf" if task != "height" else None,
        )
    else:
        _put_images(draft, data, task)
    return draft


def _put_images(draft: Draft, data: Path, task: str | None) -> None:
    found, candidates = find_labels(data, task in ("multiclass", "multilabel", *OBJECTS))
    if not candidates:
        raise DataError(_nothing_text(data, found))
    labels = _best(candidates)
    several = len(labels.classes) > 1
    kind = task or ("binary" if not several else "multilabel" if labels.overlapping else "multiclass")
    draft.about.append(f"{len(found.images)} images. {labels.about}")
    for other in candidates:
        if other is not labels:
            draft.about.append(f"Also there, not used: {other.about}")
    draft.unknown += labels.unknown
    whys = {
        "binary": "one class against everything else",
        "multiclass": "classes that exclude each other",
        "multilabel": "classes that may overlap",
        "instances": "objects one by one, with their classes and masks",
        "agroforestry": "trees one by one, land cover, crown diameter and density",
    }
    draft.put("task.kind", kind, whys.get(kind, ""))
    draft.put("data.kind", "images", "photographs or rasters with labels")
    draft.put("data.folder", data, "relative to this file")
    draft.put("data.labels.kind", labels.kind, "what the labels are")
    for name, (value, why, unsure) in labels.settings.items():
        draft.put(f"data.labels.{name}", value, why, unsure=unsure)
    if labels.classes:
        entries = [{"name": name, "values": values} if values else {"name": name} for name, values in labels.classes]
        why = "name and what means it" if labels.names_known else "give them names; values are those found"
        draft.put("data.labels.classes", entries, why, unsure=not labels.names_known)
    headers = _headers(found)
    sizes = [(header.grid.height, header.grid.width) for header in headers]
    tile_px, why = _tile_px(sizes), f"images are {_span(sizes)} px"
    if kind not in OBJECTS and _suits_whole(labels, headers, sizes):
        what = f"marked regions are wide, about {labels.width_px:.0f} px, so photographs are seen whole"
        draft.put("data.resize_px", [_WHOLE_PX, _WHOLE_PX], f"{what}; leave this out to cut tiles at full size")
        sizes, tile_px, why = [(_WHOLE_PX, _WHOLE_PX)], _WHOLE_PX, f"a whole photograph; files are {_span(sizes)} px"
    seed = 42
    if len(found.images) < _FEW_IMAGES:
        tile_px, seed = try_splits(draft, tile_px)
    tiles = round(_SHARE_TRAINED * len(found.images) * _mean_tiles(sizes, tile_px))
    draft.put("data.tiles.size_px", tile_px, why)
    if len({header.alpha is None for header in headers if header.bands == 4}) == 2:
        draft.put("data.alpha", "band", "a fourth band is called alpha in some files only: taken as data", unsure=True)
        draft.unknown.append("whether the fourth band is data, as near infrared, or opacity (data.alpha)")
    _put_split(draft, found, labels, seed)
    if labels.kind in ("masks", "points"):
        draft.put("data.augment.preset", "light", "flips, turns and a little brightness, in training only")
    draft.put("data.loader.batch_size", 8 if tiles >= 32 else 4, "tiles in one step; more need more memory")
    network = "multitask_unet" if kind in OBJECTS else "unet"
    _put_network(draft, tiles=max(1, tiles), tile_px=tile_px, kind=network)
    if kind in ("binary", "multilabel"):
        draft.put("metrics.operating_point", "max_f1", "cuts probabilities where F1 is highest on validation images")
    if kind in OBJECTS:
        grid = headers[0].grid if headers else None
        put_objects(draft, labels.objects, are_points=labels.kind == "points", grid=grid)


def _suits_whole(labels: LabelsSeen, headers: Sequence[ImageHeader], sizes: Sequence[tuple[int, int]]) -> bool:
    """True for photographs a few tiles large with wide things: shrunken, they stay wide, and a tile shows all of it."""
    if labels.width_px is None or any(header.grid.crs is not None for header in headers):
        return False
    longest = statistics.median(max(size) for size in sizes)
    is_near = _WHOLE_PX < longest <= _WHOLE_UP_TO * _WHOLE_PX
    return is_near and labels.width_px * _WHOLE_PX / longest >= _WIDE_PX


def _best(candidates: Sequence[LabelsSeen]) -> LabelsSeen:
    """Labels of most images; of equals those that name classes."""
    return max(candidates, key=lambda labels: (labels.of_images, labels.names_known))


def _put_split(draft: Draft, found: ImageFolder, labels: LabelsSeen, seed: int) -> None:
    parts = set(found.parts.values())
    if {"train", "val"} <= parts:
        draft.put("data.split.by", "folders", "there are folders train, val and test")
    elif (found.root / "train.txt").exists() and (found.root / "val.txt").exists():
        draft.put("data.split.by", "files", "train.txt and val.txt say it")
    else:
        draft.put("data.split.by", "auto", "whole images; blocks of ground inside a few large rasters")
        why = "another number divides the images in another way"
        few = "; of a few, the first that spreads what is marked over all parts"
        draft.put("data.split.seed", seed, why + (few if len(found.images) < _FEW_IMAGES else ""))
        draft.unknown.append("which images belong together, as several of one object (data.split.group_pattern)")


def _put_network(draft: Draft, *, tiles: int, tile_px: int, kind: str | None) -> None:
    """A small network, and as many epochs as take a few minutes."""
    if kind is not None:
        draft.put("model.kind", kind, "the usual network for this task")
    draft.put("model.base_channels", 16, "small and quick; 32 is better and four times slower")
    shrinks = kind == "unet" and tile_px >= _SHRINK_FROM_PX
    if shrinks:
        draft.put("model.shrink", 2, "learns most in few minutes; 1 is finer and takes about four times as long")
    draft.put("model.depth", 4 if tile_px >= 128 else 3, "times the image is halved; more sees farther")
    draft.put("model.norm", "group", "does not depend on the batch, so small batches are fine")
    draft.put("optim.optimizer.lr", 0.002, "suits small networks; lower it if the loss jumps")
    work = tiles * (tile_px / 256) ** 2 / (_SHRUNKEN if shrinks else 1)
    epochs = int(min(60, max(8, _PATIENT_TILES / work)))
    draft.put("training.epochs", epochs, "a few minutes on two cores; more is better, watch val/loss")


def _headers(found: ImageFolder) -> list[ImageHeader]:
    paths = list(found.images.values())
    step = max(1, len(paths) // _HEADERS_READ)
    headers = []
    for path in paths[::step]:
        try:
            headers.append(read_header(path))
        except DataError:  # told by the check, with the reason
            continue
    if not headers:
        raise DataError(f"None of the images in {found.root} can be read. Look at them with another program first.")
    return headers


def _tile_px(sizes: Sequence[tuple[int, int]]) -> int:
    sides = sorted(min(size) for size in sizes)
    middle = sides[len(sides) // 2]
    return next((size for size in (256, 128, 64) if middle >= 0.65 * size), 32)


def _mean_tiles(sizes: Sequence[tuple[int, int]], tile_px: int) -> float:
    return sum(-(-rows // tile_px) * -(-cols // tile_px) for rows, cols in sizes) / len(sizes)


def _span(sizes: Sequence[tuple[int, int]]) -> str:
    low, high = min(sizes, key=lambda size: size[0] * size[1]), max(sizes, key=lambda size: size[0] * size[1])
    return f"{low[0]} x {low[1]}" if low == high else f"{low[0]} x {low[1]} to {high[0]} x {high[1]}"


def _name(data: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", data.name).strip("_.-") or "experiment"


def _value(draft: Draft, path: str) -> int:
    return int(next(entry.value for entry in draft.entries if entry.path == path))


def _nothing_text(data: Path, found: ImageFolder) -> str:
    return (
        f"{data} holds {len(found.images)} images and no labels that suit them. Looked for: folders of masks named "
        "like the images, COCO .json, YOLO .txt, vector files beside rasters, CSV files with columns x and y, and "
        "height rasters named CHM, DSM or DTM. Put the labels beside the images, or write data.labels yourself."
    )


def guessed_experiment(data: Path) -> Experiment:
    """The experiment that :func:`init` would write, without a file."""
    return load_experiment((), draft_experiment(data).settings())

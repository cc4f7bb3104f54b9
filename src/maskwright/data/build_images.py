"""From the settings of images to their parts: files, labels, source, split, normaliser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.config.images import ImageNormaliseConfig, ImagesData
from maskwright.config.labels import CocoLabels, LabelsConfig, MaskLabels, PointLabels, VectorLabels, YoloLabels
from maskwright.data.cache import Cache, recipe_key
from maskwright.data.extra import extra_names, read_extra, with_extra
from maskwright.data.sources.class_masks import find_class_masks, open_class_masks
from maskwright.data.sources.classes import Form
from maskwright.data.sources.folders import ImageFolder, find_images, find_masks, some
from maskwright.data.sources.image_file import ImageFormat
from maskwright.data.sources.images import ImageItem, ImageScenes
from maskwright.data.sources.label import LabelSet
from maskwright.data.sources.mask_files import open_mask_labels
from maskwright.data.split_images import build_image_split
from maskwright.data.split_names import (
    NamedParts,
    find_split_files,
    parts_from_files,
    parts_from_folders,
    parts_from_lists,
)
from maskwright.data.splits import Split, build_split
from maskwright.data.tiles import tiles_within
from maskwright.errors import DataError
from maskwright.types import Place

if TYPE_CHECKING:
    from maskwright.data.band_statistics import BandStatistics
    from maskwright.data.normalise import BandNormaliser, PerTileBands
    from maskwright.data.sources.interface import Scene

__all__ = [
    "LABELS",
    "build_image_normaliser",
    "build_labels",
    "image_format",
    "open_images",
    "split_images",
    "training_statistics",
]

_FEW_RASTERS = 6  # fewer georeferenced rasters are cut into blocks
_PIECE_PX = 1024  # images are measured in pieces of this size
_MEASURED = ("standard", "minmax", "percentile", "robust", "adaptive")


# --- source -----------------------------------------------------------------------------------------------------------


def open_images(config: ImagesData, form: Form | None, cache: Cache) -> ImageScenes:
    """Find the images and their labels, and open them.

    Raises:
        DataError: All faults of all files at once.
    """
    if form is None:
        raise DataError(
            "data.kind: images goes with tasks of classes: task.kind binary, multiclass or multilabel. For heights set "
            "data.kind: height_rasters."
        )
    suffix = config.labels.suffix if isinstance(config.labels, MaskLabels) else ""
    found = find_images(config.folder, config.images, suffix=suffix)
    if not found.images:
        raise DataError("\n".join(found.faults))
    named = _named_images(config, found)
    if named is not None and isinstance(config.labels, MaskLabels):
        found = found.only(named)
    labels = build_labels(config.labels, found, form)
    group_of = _grouping(config.split.group_pattern)
    items = [
        ImageItem(name, path, labels.labels[name], found.parts.get(name), group_of(name))
        for name, path in found.images.items()
        if name in labels.labels
    ]
    if config.extra.folder is not None:
        items += read_extra(config.extra.folder, labels.classes)
    return ImageScenes(
        items,
        image_format(config),
        labels.classes,
        cache=cache,
        unreadable=config.unreadable,
        notes=(*found.notes, *labels.notes),
        faults=(*found.faults, *labels.faults),
    )


def _named_images(config: ImagesData, found: ImageFolder) -> set[str] | None:
    """The images that split files or lists name: no other needs a label. None if all images are divided."""
    if config.split.by in ("auto", "files") and (files := _split_files(config)):
        return set(parts_from_files(files, found.images).parts)
    if config.split.by == "lists":
        return set(_listed(config, found.images).parts)
    return None


def image_format(config: ImagesData) -> ImageFormat:
    """How files are read, as settings say it."""
    return ImageFormat(config.bands, config.alpha, config.nodata, config.resize_px, config.pixel_size_m)


def _grouping(pattern: str | None) -> Callable[[str], str | None]:
    if pattern is None:
        return lambda name: None
    compiled = re.compile(pattern)

    def group_of(name: str) -> str | None:
        found = compiled.search(name)
        return f"group {found[1]}" if found and found[1] is not None else None

    return group_of


# --- labels -----------------------------------------------------------------------------------------------------------


def build_labels(config: LabelsConfig, found: ImageFolder, form: Form) -> LabelSet:
    """The labels of the images that were found.

    Raises:
        DataError: If the labels cannot be opened at all.
    """
    return LABELS[config.kind](config, found, form)


def _options(config: LabelsConfig, form: Form, *left_out: str) -> dict[str, Any]:
    """The settings of labels as their opener takes them."""
    options = {name: getattr(config, name) for name in type(config).model_fields}
    for name in ("kind", "classes", *left_out):
        options.pop(name)
    classes = [(entry.name, entry.values) for entry in config.classes]
    return {**options, "classes_config": classes, "form": form}


def _masks(config: MaskLabels, found: ImageFolder, form: Form) -> LabelSet:
    if config.class_folders:
        return _masks_by_class(config, found, form)
    masks = find_masks(found, config.folder, suffix=config.suffix)
    if not masks.masks and (by_class := find_class_masks(found, config.folder, suffix=config.suffix)).masks:
        raise DataError(
            f"{masks.searched} holds masks in folders that may be named for classes: {some(by_class.masks)}. If they "
            "are, set data.labels.class_folders: true."
        )
    labels = open_mask_labels(
        found.images,
        masks.masks,
        classes_config=[(entry.name, entry.values) for entry in config.classes],
        background=config.background,
        form=form,
        background_values=config.background_values,
        ignore_values=config.ignore_values,
        missing=config.missing,
        image_classes=config.image_classes,
        image_column=config.image_column,
        class_column=config.class_column,
        searched=masks.searched,
    )
    faults = masks.faults or labels.faults  # without a folder of masks every image lacks one
    return LabelSet(labels.classes, labels.labels, (*masks.notes, *labels.notes), faults)


def _masks_by_class(config: MaskLabels, found: ImageFolder, form: Form) -> LabelSet:
    return open_class_masks(
        found.images,
        find_class_masks(found, config.folder, suffix=config.suffix),
        classes_config=[(entry.name, entry.values) for entry in config.classes],
        background=config.background,
        form=form,
        background_values=config.background_values,
        ignore_values=config.ignore_values,
        missing=config.missing,
    )


def _coco(config: CocoLabels, found: ImageFolder, form: Form) -> LabelSet:
    from maskwright.data.sources.coco import open_coco_labels

    file = config.file or _only_json(found)
    return open_coco_labels(file, found.images, **_options(config, form, "file"))


def _only_json(found: ImageFolder) -> Path:
    """The one json in the folder of the images, or in the one above.

    Raises:
        DataError: If there is none, or several.
    """
    for folder in (found.root, found.root.parent):
        files = sorted(folder.glob("*.json"))
        if len(files) == 1:
            return files[0]
        if files:
            raise DataError(
                f"{folder} holds several json files: {some([f.name for f in files])}. Set data.labels.file."
            )
    raise DataError(f"There is no json in {found.root} or above it. Set data.labels.file to the COCO json.")


def _yolo(config: YoloLabels, found: ImageFolder, form: Form) -> LabelSet:
    from maskwright.data.sources.yolo import open_yolo_labels

    return open_yolo_labels(config.folder, found.images, **_options(config, form, "folder"))


def _vectors(config: VectorLabels, found: ImageFolder, form: Form) -> LabelSet:
    from maskwright.data.sources.vectors import open_vector_labels

    return open_vector_labels(config.file, found.images, **_options(config, form, "file"))


def _points(config: PointLabels, found: ImageFolder, form: Form) -> LabelSet:
    from maskwright.data.sources.points import open_point_labels

    return open_point_labels(config.folder, found.images, **_options(config, form, "folder"))


LABELS: dict[str, Callable[[Any, ImageFolder, Form], LabelSet]] = {
    "masks": _masks,
    "coco": _coco,
    "yolo": _yolo,
    "vectors": _vectors,
    "points": _points,
}


# --- split ------------------------------------------------------------------------------------------------------------


def split_images(config: ImagesData, source: ImageScenes, previous: Split | None = None) -> Split:
    """Divide the images as the settings say.

    Args:
        config: Its sections ``tiles`` and ``split`` are used.
        source: What is divided.
        previous: An earlier split whose images keep their part.

    Raises:
        DataError: If they cannot be divided so, with advice.
    """
    split, tiles, extra = config.split, config.tiles, extra_names(source)
    scenes = [scene for scene in source.scenes if scene.name not in extra]
    items = [item for item in source.items if item.name not in extra]
    by = _way(config, scenes, items, previous)
    if by == "blocks":
        divided = build_split(
            scenes,
            source.valid_share,
            tile_px=tiles.size_px,
            overlap_px=tiles.overlap_px,
            min_valid=tiles.min_valid,
            by="blocks",
            shares=split.shares,
            seed=split.seed,
            buffer_px=split.buffer_px,
            previous=previous,
        )
    else:
        divided = build_image_split(
            scenes,
            source.valid_share,
            tile_px=tiles.size_px,
            overlap_px=tiles.overlap_px,
            min_valid=tiles.min_valid,
            by=by,
            shares=split.shares,
            seed=split.seed,
            named=_named(by, config, items),
            ids_of=_ids_of(source) if split.stratify else None,
            previous=previous,
            copies=_copies(source, len(scenes)) if split.copies == "together" and by in ("image", "group") else (),
        )
    if not extra:
        return divided
    return with_extra(divided, source, overlap_px=tiles.overlap_px, min_valid=tiles.min_valid)


def _copies(source: ImageScenes, labelled: int) -> list[tuple[int, int]]:
    """Pairs among the first ``labelled`` images that show the same; images with made masks stand behind them."""
    from maskwright.data.copies import image_copies

    exact, near = image_copies(source)
    return [(copy.first, copy.second) for copy in (*exact, *near) if max(copy.first, copy.second) < labelled]


def _way(config: ImagesData, scenes: Sequence[Scene], items: Sequence[ImageItem], previous: Split | None) -> str:
    split = config.split
    if split.by != "auto":
        return split.by
    if _split_files(config):
        return "files"
    if len({item.part for item in items} & {"train", "val", "test"}) > 1:
        return "folders"
    if previous is not None and previous.by in ("image", "group", "blocks"):
        return previous.by
    if len(scenes) < _FEW_RASTERS and all(scene.grid.is_georeferenced for scene in scenes):
        return "blocks"
    return "group" if any(item.group is not None for item in items) else "image"


def _split_files(config: ImagesData) -> dict[str, Path]:
    folder = config.split.files or config.folder
    return {} if folder is None else find_split_files(folder)


def _named(by: str, config: ImagesData, items: Sequence[ImageItem]) -> NamedParts | None:
    images = {item.name: item.path for item in items}
    if by == "folders":
        parts = {item.name: item.part for item in items if item.part is not None}
        if not parts:
            raise DataError(
                "data.split.by: folders needs folders named train, val and test around or inside the folder of images, "
                "and there are none. Make them, or use data.split.by: image."
            )
        return parts_from_folders(parts)
    if by == "files":
        files = _split_files(config)
        if not files:
            where = config.split.files or config.folder
            raise DataError(
                f"data.split.by: files needs train.txt (and val.txt, test.txt), and {where} has none. Name their "
                "folder in data.split.files."
            )
        return parts_from_files(files, images)
    if by == "lists":
        return _listed(config, images)
    return None


def _listed(config: ImagesData, images: Mapping[str, Path]) -> NamedParts:
    split = config.split
    return parts_from_lists({"train": split.train, "val": split.val, "test": split.test}, images)


def _ids_of(source: ImageScenes) -> Callable[[str], Sequence[int]]:
    """Scene to the ids found in it, the background left out."""
    first = 0 if source.classes.form == "multilabel" or source.classes.background is None else 1
    first = 1 if source.classes.form == "binary" else first

    def ids_of(scene: str) -> Sequence[int]:
        counts = source.class_counts(Place(scene, source.scene(scene).grid.window))[: source.classes.num_ids]
        return [int(index) for index in np.flatnonzero(counts) if index >= first]

    return ids_of


# --- normalisation ----------------------------------------------------------------------------------------------------


def build_image_normaliser(
    config: ImageNormaliseConfig, source: ImageScenes, split: Split
) -> BandNormaliser | PerTileBands:
    """What turns stored values into network input.

    Raises:
        DataError: If the images do not suit the kind of normalisation.
    """
    from maskwright.data.normalise import make_normaliser

    kind = config.kind
    if kind == "auto":
        kind = "imagenet" if source.in_channels == 3 and source.largest is not None else "standard"
    statistics = training_statistics(source, split) if kind in _MEASURED else None
    return make_normaliser(
        kind,
        statistics,
        bands=source.in_channels,
        dtype=source.dtype,
        largest=getattr(config, "largest", None) or source.largest,
        low=getattr(config, "low", 2.0),
        high=getattr(config, "high", 98.0),
    )


def training_statistics(source: ImageScenes, split: Split) -> BandStatistics:
    """Statistics of each band over the training pixels that count; kept in the source's cache.

    Raises:
        DataError: If no training pixel counts.
    """
    from maskwright.data.band_statistics import BandStatistics, band_statistics

    regions = [region for region in split.regions if region.part == "train"]
    windows = [
        [region.scene, region.window.row, region.window.col, region.window.height, region.window.width]
        for region in regions
    ]
    key = recipe_key({"statistics_of": source.fingerprint, "windows": windows, "format": 1})

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for region in regions:
            grid = source.scene(region.scene).grid
            for window in tiles_within(region.window, grid.height, grid.width, _PIECE_PX, 0):
                part = window.intersection(region.window)
                if part is not None:
                    yield source.pixels(region.scene, part)[0], source.label(region.scene, part)[1]

    def fill(out: np.ndarray) -> Mapping[str, Any]:
        out[...] = 0
        return {"statistics": band_statistics(pieces()).to_dict()}

    source.cache.array(key, (1,), np.uint8, fill, f"statistics of the bands of {len(regions)} regions")
    return BandStatistics.from_dict(source.cache.facts(key)["statistics"])

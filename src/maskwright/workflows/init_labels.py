"""What kind of labels lie beside images, and which classes they name."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.sources.class_masks import ClassFolders, find_class_masks
from maskwright.data.sources.folders import ImageFolder, find_images, find_masks, list_files
from maskwright.data.sources.mask_codes import shown_value
from maskwright.data.sources.mask_pixels import read_mask
from maskwright.errors import DataError
from maskwright.workflows.init_objects import ObjectsSeen, objects_seen

__all__ = ["LabelsSeen", "find_labels"]

_MASKS_READ = 60
_MEASURED_PX = 4_000_000  # larger masks are not measured
_MOST_CLASSES = 30
_BIGGEST_JSON = 500_000_000  # bytes
_VECTORS = (".gpkg", ".geojson", ".shp", ".fgb")
_FOREGROUND_FROM = 128


@dataclass
class LabelsSeen:
    """Labels that suit the images.

    Attributes:
        kind: ``masks``, ``coco``, ``yolo``, ``vectors`` or ``points``.
        settings: Settings of ``data.labels`` by name, each with its reason and whether it is a guess.
        classes: (name, values) of each class; empty for one class without a name.
        about: What was found, in a sentence.
        names_known: True if the labels themselves name the classes.
        unknown: What could not be known, a sentence each.
        of_images: How many images they label.
        overlapping: True if several classes may hold in one place.
        objects: Sizes of the objects, where annotations tell them.
        width_px: Half of what is marked in masks of one class belongs to regions at least so wide; None: not measured.
    """

    kind: str
    about: str
    of_images: int
    settings: dict[str, tuple[Any, str, bool]] = field(default_factory=dict)
    classes: list[tuple[str, list[int | str]]] = field(default_factory=list)
    names_known: bool = False
    unknown: list[str] = field(default_factory=list)
    overlapping: bool = False
    objects: ObjectsSeen | None = None
    width_px: float | None = None


def find_labels(folder: Path, wants_classes: bool) -> tuple[ImageFolder, list[LabelsSeen]]:
    """The images of a folder and the labels that suit them, the best first.

    Args:
        folder: The data's folder.
        wants_classes: True if the task is to tell classes apart, so that labels that can are preferred.
    """
    found = find_images(folder)
    files, _ = list_files(folder)
    seen = [
        *_coco(folder, [path for _, path in files if path.suffix.lower() == ".json"], found),
        *_masks(folder, found, [path for _, path in files if path.suffix.lower() == ".csv"], wants_classes),
        *_yolo([path for _, path in files if path.suffix.lower() == ".txt"], found),
        *_vectors([path for _, path in files if path.suffix.lower() in _VECTORS], found),
        *_points([path for _, path in files if path.suffix.lower() == ".csv"], found),
    ]
    return found, sorted(seen, key=lambda labels: -labels.of_images)


# --- masks ------------------------------------------------------------------------------------------------------------


def _masks(folder: Path, found: ImageFolder, tables: Sequence[Path], wants_classes: bool) -> list[LabelsSeen]:
    suffix = ""
    pairing = find_masks(found)
    if not pairing.masks:
        for tried in ("_mask", "-mask", "_gt", "_label", "_seg", "_manual1"):
            retried = find_images(folder, suffix=tried)
            pairing = find_masks(retried, suffix=tried)
            if pairing.masks:
                suffix, found = tried, retried
                break
    if not pairing.masks:
        return _class_folders(find_class_masks(found))
    masks = list(pairing.masks.values())
    labels = LabelsSeen("masks", f"{len(masks)} masks for {len(found.images)} images.", len(masks))
    if suffix:
        labels.settings["suffix"] = (suffix, "what mask files have behind the image's name", False)
    if len(masks) < len(found.images):
        labels.settings["missing"] = ("skip", "images without a mask are left out; empty: nothing is in them", True)
        labels.unknown.append("what it means that some images have no mask (data.labels.missing)")
    _put_values(labels, masks)
    table = _class_table(tables, found)
    if table is not None and len(labels.classes) < 2:
        path, column, class_column, names = table
        labels.about += f" {path.name} names a class for each image: {', '.join(names)}."
        if wants_classes:
            labels.settings["image_classes"] = (
                path,
                "what is painted in an image's mask is of the class named here",
                False,
            )
            labels.settings["image_column"] = (column, "its column of images", False)
            labels.settings["class_column"] = (class_column, "its column of classes", False)
            labels.names_known, labels.classes = True, []
    return [labels]


def _class_folders(folders: ClassFolders) -> list[LabelsSeen]:
    """Masks in a folder for each class; they may overlap."""
    if not folders.masks:
        return []
    names = list(folders.masks)
    about = f"Masks of {len(folders.images)} images in a folder for each class: {', '.join(names)}."
    labels = LabelsSeen("masks", about, len(folders.images), names_known=True, overlapping=len(names) > 1)
    labels.settings["class_folders"] = (True, "the folder a mask lies in names its class", False)
    labels.classes = [(name, []) for name in names]
    return [labels]


def _regions(painted: np.ndarray[Any, Any]) -> list[tuple[float, int]]:
    """Width and number of pixels of each connected region; the width is twice the depth of its innermost pixel."""
    import cv2
    from scipy import ndimage

    inside = np.pad(painted, 1).astype(np.uint8)
    count, numbers = cv2.connectedComponents(inside)
    if count < 2:
        return []
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5)
    deepest = ndimage.maximum(depth, numbers, range(1, count))
    sizes = np.bincount(numbers.ravel())[1:]
    return [(2 * float(most), int(size)) for most, size in zip(deepest, sizes, strict=True)]


def _usual_width(regions: Sequence[tuple[float, int]]) -> float | None:
    """Half of all pixels lie in regions at least so wide."""
    left = sum(size for _, size in regions) / 2
    for width, size in sorted(regions, reverse=True):
        left -= size
        if left <= 0:
            return width
    return None


def _put_values(labels: LabelsSeen, masks: Sequence[Path]) -> None:
    """Say what the values of masks mean, as far as they tell."""
    step = -(-len(masks) // _MASKS_READ)  # from the first to the last: names often sort by what is shown
    pixels: Counter[int] = Counter()
    regions: list[tuple[float, int]] = []
    coloured = 0
    for path in masks[::step]:
        try:
            mask = read_mask(path, as_colours=None)
        except DataError:  # told by the check, with the reason
            continue
        coloured += mask.is_coloured
        pixels.update(mask.found())
        if mask.values.size <= _MEASURED_PX:
            regions += _regions(mask.values > 0)
    values = sorted(pixels)
    if set(values) <= {0, 255} or set(values) <= {0, 1}:
        labels.about += f" Masks hold {' and '.join(map(str, values))}: one class."
        labels.unknown.append("what the class is called (data.labels.classes)")
        painted = [value for value in values if value]
        labels.classes = [("foreground", list(painted))] if painted else []
        labels.width_px = _usual_width(regions)
        return
    if coloured:
        shown = {value: shown_value(value, True) for value in values}
        background = max((value for value in values if value == 0), default=max(values, key=lambda v: pixels[v]))
        named: list[tuple[str, list[int | str]]] = [
            (f"class_{i}", [str(shown[value])]) for i, value in enumerate((v for v in values if v != background), 1)
        ]
        labels.settings["background_values"] = ([str(shown[background])], "the colour of the background", True)
    elif len(values) > _MOST_CLASSES:
        span = f"0-{_FOREGROUND_FROM - 1}", f"{_FOREGROUND_FROM}-{max(255, values[-1])}"
        labels.settings["background_values"] = ([span[0]], "edges are grey: from the middle on it is foreground", True)
        named = [("foreground", [span[1]])]
    else:
        ignored = [value for value in values if value == 255]
        if ignored:
            labels.settings["ignore_values"] = (ignored, "255 usually means 'does not count'", True)
        named = [(f"class_{value}", [value]) for value in values if value not in (0, 255)]
    labels.classes = named[:_MOST_CLASSES]
    labels.about += f" Masks hold {len(values)} values."
    labels.unknown.append("what the classes are called (data.labels.classes)")


def _class_table(tables: Sequence[Path], found: ImageFolder) -> tuple[Path, str, str, list[str]] | None:
    """A CSV that names a class for the images: the file, its columns of images and of classes, the classes."""
    names = {name.rpartition("/")[2] for name in found.images}
    for path in tables:
        rows = _rows(path)
        if len(rows) < len(found.images) // 2:
            continue
        columns = list(rows[0])
        image = next((c for c in columns if sum(_stem(row[c]) in names for row in rows) > 0.9 * len(rows)), None)
        for column in columns if image is not None else []:
            entries = Counter(str(row[column]) for row in rows)
            if column != image and 2 <= len(entries) <= _MOST_CLASSES and not all(map(_is_number, entries)):
                return path, str(image), column, sorted(entries)
    return None


# --- COCO and YOLO ----------------------------------------------------------------------------------------------------


def _coco(folder: Path, files: Sequence[Path], found: ImageFolder) -> list[LabelsSeen]:
    seen = []
    by_name = Counter(path.name for path in found.images.values())
    for path in files:
        content = _json(path)
        if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
            continue
        listed = [str(Path(str(entry.get("file_name", ""))).name) for entry in content["images"]]
        matching = sum(name in by_name for name in listed)
        annotations = [entry for entry in content["annotations"] if isinstance(entry, dict)]
        if not matching or not annotations:
            continue
        outlined = sum(bool(entry.get("segmentation")) for entry in annotations)
        used = Counter(entry.get("category_id") for entry in annotations)
        names = [str(c["name"]) for c in content.get("categories", ()) if c.get("id") in used and "name" in c]
        labels = LabelsSeen(
            "coco",
            f"{path.name}: {len(annotations)} COCO annotations on {matching} images, {outlined} with an outline.",
            matching,
            names_known=bool(names),
            objects=objects_seen(annotations),
        )
        labels.settings["file"] = (path, "relative to this file", False)
        if outlined < len(annotations):
            labels.settings["boxes"] = ("fill", "some have a box and no outline: the whole box is taken", True)
            labels.unknown.append("whether whole boxes may stand for objects (data.labels.boxes)")
            labels.of_images = -1  # outlines of fewer images are worth more than boxes of many
        if len(names) > 1:
            labels.classes = [(name, []) for name in names]
        seen.append(labels)
    return seen


def _yolo(files: Sequence[Path], found: ImageFolder) -> list[LabelsSeen]:
    stems = {name.rpartition("/")[2] for name in found.images}
    lines = [line for path in files if path.stem in stems for line in _first_lines(path)]
    if not lines or not all(len(line.split()) >= 5 and all(map(_is_number, line.split())) for line in lines):
        return []
    paired = sum(path.stem in stems for path in files)
    labels = LabelsSeen("yolo", f"{paired} YOLO text files for {len(found.images)} images.", paired)
    if any(len(line.split()) == 5 for line in lines):
        labels.settings["boxes"] = ("fill", "some lines are boxes: the whole box is taken", True)
        labels.unknown.append("whether whole boxes may stand for objects (data.labels.boxes)")
    if paired < len(found.images):
        labels.settings["missing"] = ("empty", "images without a text file hold no object", True)
        labels.unknown.append("whether images without a text file hold no object (data.labels.missing)")
    labels.names_known = True
    return [labels]


# --- vectors and points -----------------------------------------------------------------------------------------------


def _vectors(files: Sequence[Path], found: ImageFolder) -> list[LabelsSeen]:
    rasters = [path for path in found.images.values() if path.suffix.lower() in (".tif", ".tiff")]
    if not files or not rasters:
        return []
    one = files[0]
    stems = {path.stem for path in rasters}
    several = len(files) > 1 and all(path.stem in stems for path in files)
    about = f"{len(files)} vector files for {len(rasters)} rasters."
    labels = LabelsSeen("vectors", about, len(rasters))
    labels.settings["file"] = (
        one.parent if several else one,
        "burned in each raster's own CRS",
        len(files) > 1 and not several,
    )
    attribute, values = _attribute(one)
    if attribute is not None:
        labels.settings["attribute"] = (attribute, f"names the class: {', '.join(values[:6])}", True)
        labels.classes = [(value, [value]) for value in values]
        labels.names_known = True
    return [labels]


def _attribute(path: Path) -> tuple[str | None, list[str]]:
    """A column of texts with few different ones, which may name classes."""
    import pyogrio

    try:
        _, _, _, columns = pyogrio.raw.read(path, read_geometry=False, max_features=5000)
        names = pyogrio.read_info(path)["fields"]
    except pyogrio.errors.DataSourceError:
        return None, []
    for name, column in zip(names, columns, strict=False):
        values = sorted({str(value) for value in column if value is not None})
        if 2 <= len(values) <= _MOST_CLASSES and len(values) < len(column) and not all(map(_is_number, values)):
            return str(name), values
    return None, []


def _points(files: Sequence[Path], found: ImageFolder) -> list[LabelsSeen]:
    stems = {name.rpartition("/")[2] for name in found.images}
    paired = [path for path in files if path.stem in stems]
    if not paired:
        return []
    columns = list(_header(paired[0]))
    plain = {column.lower(): column for column in columns}
    if not {"x", "y"} <= plain.keys():
        return []
    labels = LabelsSeen("points", f"{len(paired)} CSV files of points for {len(found.images)} images.", len(paired))
    labels.settings["folder"] = (paired[0].parent, "relative to this file", False)
    for axis in ("x", "y"):
        if plain[axis] != axis:
            labels.settings[axis] = (plain[axis], "", False)
    labels.settings["radius_px"] = (3.0, "each point becomes a disc of this radius", True)
    labels.unknown.append("how large the things at the points are (data.labels.radius_px)")
    if len(paired) < len(found.images):
        labels.settings["missing"] = ("empty", "images without a file hold no point", True)
    return [labels]


# --- small readers ----------------------------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    if path.stat().st_size > _BIGGEST_JSON:
        return None
    try:
        return json.loads(path.read_bytes())
    except (ValueError, OSError):  # no JSON, so no COCO
        return None


def _rows(path: Path) -> list[Mapping[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
    except (OSError, UnicodeDecodeError, csv.Error):  # no table of ours
        return []


def _header(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):  # no table of ours
        return []


def _first_lines(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return [line for _, line in zip(range(3), file, strict=False) if line.strip()]
    except (OSError, UnicodeDecodeError):  # no text of ours
        return []


def _stem(text: str) -> str:
    name = str(text).replace("\\", "/").rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Reading one COCO json file: images, categories and annotations, every fault gathered."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np

from maskwright.data.sources.findings import Findings
from maskwright.data.sources.meaning import BACKGROUND, Meaning
from maskwright.data.sources.paint import LabelObject
from maskwright.data.sources.shapes import Box, Polygons, Runs, Shape, box_shape, decode_counts
from maskwright.errors import DataError

__all__ = ["Boxes", "CocoImage", "Crowds", "read_categories", "read_coco", "read_images", "read_objects"]

Boxes = Literal["refuse", "fill"]
Crowds = Literal["ignore", "paint"]
Size = tuple[int, int]

_RIM_PX = 1.0  # outlines may reach this far past the image without a word: drawn at its edge


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An entry of ``images``.

    Attributes:
        id: As annotations name it.
        file_name: As written.
        size: Rows and columns; None if the file does not say.
    """

    id: int | str
    file_name: str
    size: Size | None


class _UnusableError(Exception):
    """An annotation that cannot be painted; the text says why."""


def read_coco(file: Path) -> dict[str, Any]:
    """The content of a COCO file.

    Raises:
        DataError: If it is missing, no json, or lacks one of the lists ``images``, ``annotations``, ``categories``.
    """
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Set data.labels.file to the COCO json.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file} is no json: {error.msg} in line {error.lineno}, column {error.colno}. Export it again; it may be "
            "cut off."
        ) from error
    lists = ("images", "annotations", "categories")
    lacking = [name for name in lists if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if lacking:
        raise DataError(
            f"{file} is no COCO file: it has no list {', '.join(lacking)}. Export it as COCO object detection or "
            "segmentation."
        )
    return content  # type: ignore[no-any-return]


def read_images(content: Mapping[str, Any], findings: Findings) -> dict[int | str, CocoImage]:
    """The entries of ``images`` by id."""
    found: dict[int | str, CocoImage] = {}
    for place, entry in enumerate(content["images"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or not _is_id(entry.get("id")):
            findings.fault("entries of images without id or file_name", f"number {place}", "Export the file again")
            continue
        if entry["id"] in found:
            other = found[entry["id"]].file_name
            findings.fault(
                "images with one id",
                f"{entry['id']} ({other} and {entry['file_name']})",
                "Give each its own; annotations would go to the wrong image",
            )
            continue
        rows, cols = entry.get("height"), entry.get("width")
        size = (rows, cols) if _is_whole(rows) and _is_whole(cols) else None
        found[entry["id"]] = CocoImage(entry["id"], entry["file_name"], size)
    return found


def read_categories(content: Mapping[str, Any], findings: Findings) -> dict[int | str, str]:
    """Category names by id, in the order listed."""
    found: dict[int | str, str] = {}
    for place, entry in enumerate(content["categories"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not _is_id(entry.get("id")):
            findings.fault("entries of categories without id or name", f"number {place}", "Export the file again")
        elif entry["id"] in found:
            findings.fault(
                "categories with one id",
                f"{entry['id']} ({found[entry['id']]} and {entry['name']})",
                "Give each its own",
            )
        else:
            found[entry["id"]] = entry["name"]
    return found


def read_objects(
    content: Mapping[str, Any],
    images: Mapping[int | str, CocoImage],
    categories: Mapping[int | str, str],
    meaning: Meaning,
    findings: Findings,
    *,
    boxes: Boxes,
    crowds: Crowds,
) -> dict[int | str, list[LabelObject]]:
    """The annotations of each image, in the order listed.

    Faults: an image or category the file does not list, a category that belongs to no class. Not paintable, a fault or
    a note as ``findings`` was told: no outline and no box, a polygon of fewer than three points or without any area,
    coordinates that are no numbers, run lengths that do not fit the image, a box without size, all of it outside the
    image. Harmless, noted: outlines and boxes that reach past the image (cut there), ids of annotations used twice
    (nothing else in the file names them).
    """
    found: dict[int | str, list[LabelObject]] = {image: [] for image in images}
    labels = {number: meaning.of(name, number) for number, name in categories.items()}
    nameless: Counter[str] = Counter()
    seen: set[Any] = set()
    for place, entry in enumerate(content["annotations"]):
        if not isinstance(entry, dict):
            findings.fault("annotations that are no objects", f"number {place}", "Export the file again")
            continue
        where = f"annotation {entry.get('id', f'number {place}')}"
        if _is_id(entry.get("id")):
            if entry["id"] in seen:
                findings.note("ids of annotations used more than once, which is harmless here", str(entry["id"]))
            seen.add(entry["id"])
        image = images.get(entry["image_id"]) if _is_id(entry.get("image_id")) else None
        category = categories.get(entry["category_id"]) if _is_id(entry.get("category_id")) else None
        if image is None:
            findings.fault(
                "annotations of an image that is not listed",
                f"{where} (image_id {entry.get('image_id')})",
                "Add the image to images, or remove the annotations",
            )
        if category is None:
            findings.fault(
                "annotations of a category that is not listed",
                f"{where} (category_id {entry.get('category_id')})",
                "Add the category to categories, or remove the annotations",
            )
        if image is None or category is None:
            continue
        label = labels[entry["category_id"]]
        if label is None:
            nameless[category] += 1
        elif label != BACKGROUND:
            try:
                found[image.id].append(
                    _object(entry, label, image.size, f"{where} of {image.file_name}", findings, boxes, crowds)
                )
            except _UnusableError as error:
                findings.unusable(f"annotations {error}", f"{where} of {image.file_name}")
    for category, number in nameless.items():
        findings.fault(
            "categories that belong to no class",
            f"{category} ({number} annotations)",
            f"The classes are {meaning.classes.listed()}. List them in data.labels.classes, or in "
            "data.labels.background_values or data.labels.ignore_values",
        )
    return found


def _object(
    entry: Mapping[str, Any],
    label: int,
    size: Size | None,
    where: str,
    findings: Findings,
    boxes: Boxes,
    crowds: Crowds,
) -> LabelObject:
    outline = _outline(entry.get("segmentation"), size)
    box = _box(entry.get("bbox"))
    extent = box if outline is None else outline.box
    if extent is None:
        raise _UnusableError("without outline and box")
    _require_inside(extent, size, where, findings)
    if outline is None and boxes == "refuse":
        findings.fault(
            "annotations that have a box and no outline",
            where,
            "Draw outlines, or set data.labels.boxes: fill to take the whole box as the object",
        )
    is_box = outline is None and boxes == "fill"
    if is_box:
        outline = box_shape(extent)
    crowd = bool(entry.get("iscrowd", 0))
    return LabelObject(
        label=label,
        box=box or extent,
        shape=outline,
        ignored=crowd and crowds == "ignore",
        crowd=crowd,
        crown_diameter=_crown_diameter(entry),
        is_box=is_box,
    )


def _outline(segmentation: Any, size: Size | None) -> Shape | None:
    if segmentation is None or segmentation == []:
        return None
    outline = _runs(segmentation, size) if isinstance(segmentation, dict) else _polygons(segmentation)
    if outline.area == 0:
        raise _UnusableError("whose outline has no area")
    return outline


def _polygons(segmentation: Any) -> Polygons:
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        raise _UnusableError("whose outline is no list of polygons")
    rings = []
    for part in segmentation:
        numbers = _numbers(part, "whose outline has coordinates that are no numbers")
        if len(numbers) % 2:
            raise _UnusableError("whose outline has an odd number of coordinates")
        if len(numbers) < 6:
            raise _UnusableError("that have a polygon of fewer than three points")
        rings.append(numbers.reshape(-1, 2))
    return Polygons(tuple(rings))


def _runs(segmentation: Mapping[str, Any], size: Size | None) -> Runs:
    counts, said = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(said, list) or len(said) != 2 or not all(_is_whole(value) for value in said):
        raise _UnusableError("whose run lengths have no size")
    if size is not None and tuple(said) != size:
        raise _UnusableError("whose run lengths are of another size than the image")
    if isinstance(counts, str):
        try:
            lengths = decode_counts(counts)
        except ValueError as error:
            raise _UnusableError(f"whose text of run lengths {error}") from error
    elif isinstance(counts, list):
        lengths = _numbers(counts, "whose run lengths are no numbers").astype(np.int64)
    else:
        raise _UnusableError("whose run lengths are missing")
    if (lengths < 0).any() or lengths.sum() != said[0] * said[1]:
        raise _UnusableError("whose run lengths do not add up to the image")
    return Runs(lengths, said[0], said[1])


def _box(values: Any) -> Box | None:
    """x0, y0, x1, y1 of a COCO box; None if there is none."""
    if values is None or values == []:
        return None
    if not isinstance(values, list) or len(values) != 4:
        raise _UnusableError("whose box is not x, y, width, height")
    x, y, width, height = _numbers(values, "whose box has values that are no numbers").tolist()
    if width <= 0 or height <= 0:
        raise _UnusableError("whose box has no size")
    return x, y, x + width, y + height


def _require_inside(extent: Box, size: Size | None, where: str, findings: Findings) -> None:
    if size is None:
        return
    x0, y0, x1, y1 = extent
    if x0 >= size[1] or y0 >= size[0] or x1 <= 0 or y1 <= 0:
        raise _UnusableError("that lie outside their image")
    if min(x0, y0) < -_RIM_PX or x1 > size[1] + _RIM_PX or y1 > size[0] + _RIM_PX:
        findings.note("annotations that reach past their image and are cut there", where)


def _crown_diameter(entry: Mapping[str, Any]) -> float:
    more = entry.get("attributes")
    value = entry.get("crown_diameter", more.get("crown_diameter") if isinstance(more, dict) else None)
    if value is None:
        return math.nan
    if not _is_number(value) or value <= 0:
        raise _UnusableError("whose crown_diameter is no positive number")
    return float(value)


def _numbers(values: list[Any], fault: str) -> np.ndarray:
    try:
        numbers = np.array(values)
    except ValueError as error:  # lists of different lengths
        raise _UnusableError(fault) from error
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
        raise _UnusableError(fault)
    return numbers.astype(np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)

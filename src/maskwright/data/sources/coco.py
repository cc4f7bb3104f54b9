"""COCO labels: a json file for all images, or one for each part of them, with polygons, run lengths or boxes."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.sources.classes import ClassTable, Form
from maskwright.data.sources.coco_file import (
    Boxes,
    CocoImage,
    Crowds,
    read_categories,
    read_coco,
    read_images,
    read_objects,
)
from maskwright.data.sources.findings import Findings, Unusable
from maskwright.data.sources.instances import Instances, gather_instances
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.meaning import ClassList, Meaning, Value, named
from maskwright.data.sources.paint import LabelObject, Order, paint_objects
from maskwright.errors import DataError

__all__ = ["CocoLabel", "open_coco_labels"]

_FORMAT = 1  # of what is painted; raise it when the same recipe gives other pixels


@dataclass(frozen=True, eq=False)
class CocoLabel:
    """The annotations of one image, implementing :class:`maskwright.data.sources.label.Label`.

    Attributes:
        file: The COCO file.
        image: Its entry.
        objects: Its annotations that mean a class or do not count, in the order listed.
        meaning: What categories mean.
        settings: How they are painted: ``boxes``, ``crowds``, ``order``, ``unusable``.
    """

    file: Path
    image: CocoImage
    objects: tuple[LabelObject, ...]
    meaning: Meaning
    settings: Mapping[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {"kind": "coco", "format": _FORMAT, "image": self.image.id, **self.meaning.recipe(), **self.settings}

    def paint(self, grid: Grid) -> np.ndarray:
        """The label of every pixel.

        Raises:
            DataError: If the image has another size than the COCO file says, or an annotation has a box alone and boxes
                are not to be filled.
        """
        self._require_size(grid)
        if any(entry.shape is None for entry in self.objects):
            raise DataError(
                f"{self.file}: {self.image.file_name} has annotations with a box and no outline. Set "
                "data.labels.boxes: fill to take the whole box as the object."
            )
        return paint_objects(
            self.objects,
            grid.height,
            grid.width,
            self.meaning.classes,
            order="small_on_top" if self.settings["order"] == "small_on_top" else "as_listed",
        )

    def instances(self, grid: Grid) -> Instances:
        """The annotations one by one; boxes are those of the file, or of the outlines where it has none."""
        self._require_size(grid)
        return gather_instances(self.objects, grid.height, grid.width)

    def _require_size(self, grid: Grid) -> None:
        if self.image.size is not None and self.image.size != (grid.height, grid.width):
            rows, cols = self.image.size
            raise DataError(
                f"{self.image.file_name} has {grid.height} x {grid.width} pixels, {self.file} says {rows} x {cols}. "
                "Annotations would lie in the wrong place: use the images that were annotated."
            )


def open_coco_labels(
    file: Path,
    images: Mapping[str, Path],
    *,
    classes_config: ClassList = (),
    background: str | None = "background",
    form: Form = "binary",
    boxes: Boxes = "refuse",
    crowds: Crowds = "ignore",
    order: Order = "small_on_top",
    background_values: Sequence[Value] = (),
    ignore_values: Sequence[Value] = (),
    unusable: Unusable = "refuse",
) -> LabelSet:
    """The labels of images out of a COCO file, or of all of a folder.

    File names are compared with the images' paths from the end, folders included where both have them. An image of the
    file that is not there is a fault; an image that the file does not list has no label (noted); one that is listed
    without annotations is all background.

    Args:
        file: The json file, or a folder: all json files in it and below are read, for exports with one for training and
            one for validation.
        images: Name of each image to its path.
        classes_config: Name and values of each class; values are category names, or ids. Empty: the categories.
        background: Name of class 0.
        form: What the task makes of the classes.
        boxes: Annotations with a box and no outline: a fault, or the whole box.
        crowds: Regions marked ``iscrowd``: not counted, or painted.
        order: Which of two overlapping objects is seen; see :func:`maskwright.data.sources.paint.paint_objects`.
        background_values: Categories painted as background.
        ignore_values: Categories whose pixels do not count.
        unusable: Annotations that cannot be painted: faults, or left out with a note.

    Returns:
        Labels with their faults, see :func:`maskwright.data.sources.coco_file.read_objects`.

    Raises:
        DataError: If the file cannot be read as COCO at all.
    """
    opened = [_open(path, unusable) for path in _files(file)]
    things = [(name, number) for part in opened for number, name in part.categories.items()]
    table = ClassTable.from_config(classes_config, background, form, named(things, background_values, ignore_values))
    meaning = Meaning(table, tuple(background_values), tuple(ignore_values))
    settings = {"boxes": boxes, "crowds": crowds, "order": order, "unusable": unusable}
    finder = _ImageFinder(images)
    labels: dict[str, Label] = {}
    for part in opened:
        objects = read_objects(
            part.content, part.images, part.categories, meaning, part.findings, boxes=boxes, crowds=crowds
        )
        for entry in part.images.values():
            if (name := finder.find(entry, part.file, part.findings)) is not None:
                labels[name] = CocoLabel(part.file, entry, tuple(objects[entry.id]), meaning, settings)
    whole = Findings(file)
    for name, path in images.items():
        if name not in labels:
            whole.note("images that the labels do not list, left without a label", path.name)
    told = [part.findings for part in opened] + [whole]
    return LabelSet(
        table,
        {name: labels[name] for name in images if name in labels},
        tuple(note for findings in told for note in findings.notes),
        tuple(fault for findings in told for fault in findings.faults),
    )


@dataclass(frozen=True)
class _OpenFile:
    file: Path
    content: Mapping[str, Any]
    images: Mapping[int | str, CocoImage]
    categories: Mapping[int | str, str]
    findings: Findings


def _open(file: Path, unusable: Unusable) -> _OpenFile:
    findings = Findings(file, unusable)
    content = read_coco(file)
    return _OpenFile(file, content, read_images(content, findings), read_categories(content, findings), findings)


def _files(file: Path) -> list[Path]:
    """The file, or all json files of a folder."""
    if not file.is_dir():
        return [file]
    found = sorted(file.rglob("*.json"))
    if not found:
        raise DataError(f"{file} holds no json. Set data.labels.file to the COCO json, or to the folder of several.")
    return found


class _ImageFinder:
    """Which image a file name in a COCO file means."""

    def __init__(self, images: Mapping[str, Path]) -> None:
        self._images = images
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for name, path in images.items():
            self._by_file[_parts(str(path))[-1]].append(name)
        self._taken: dict[str, str] = {}

    def find(self, entry: CocoImage, file: Path, findings: Findings) -> str | None:
        """Name of the image of an entry; None, and told, if there is none or it is not clear which."""
        wanted = _parts(entry.file_name)
        candidates = self._by_file.get(wanted[-1], []) if wanted else []
        if not candidates:
            findings.fault(
                "images that are not there",
                entry.file_name,
                "Put them into the folder of the images, set data.images to their folder, or remove their entries",
            )
            return None
        name = self._nearest(candidates, wanted, file)
        if name is None:
            fitting = " and ".join(str(self._images[candidate]) for candidate in candidates[:3])
            findings.fault(
                "file names that fit several images",
                f"{entry.file_name} ({fitting})",
                "Write their folders into file_name",
            )
            return None
        if name in self._taken:
            findings.fault(
                "entries of images that mean one file",
                f"{self._taken[name]} and {entry.file_name} ({self._images[name]})",
                "Remove one of them, or set data.images to the folder that holds both",
            )
        self._taken[name] = entry.file_name
        if _shared_end(wanted, _parts(str(self._images[name]))) < len(wanted):
            findings.note(
                "images found by their file name alone, in another folder than the file says", entry.file_name
            )
        return name

    def _nearest(self, candidates: Sequence[str], wanted: Sequence[str], file: Path) -> str | None:
        """The candidate whose path ends most like the name; of equals the one below the folder of the COCO file."""
        shared = [_shared_end(wanted, _parts(str(self._images[name]))) for name in candidates]
        best = [name for name, number in zip(candidates, shared, strict=True) if number == max(shared)]
        if len(best) > 1:
            best = [name for name in best if self._images[name].is_relative_to(file.parent)]
        return best[0] if len(best) == 1 else None


def _parts(file_name: str) -> tuple[str, ...]:
    """Folders and file name; accents spelled one way, since file systems differ in that."""
    text = unicodedata.normalize("NFC", file_name).replace("\\", "/")
    return tuple(part for part in text.split("/") if part not in ("", "."))


def _shared_end(first: Sequence[str], second: Sequence[str]) -> int:
    number = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        number += 1
    return number

"""YOLO segmentation labels: a text file for each image, a class number and an outline on each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from maskwright.data.sources.classes import ClassTable, Form
from maskwright.data.sources.coco_file import Boxes
from maskwright.data.sources.findings import Findings, Unusable
from maskwright.data.sources.instances import Instances, gather_instances
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.meaning import BACKGROUND, ClassList, Meaning, Value, named
from maskwright.data.sources.paint import LabelObject, Order, paint_objects
from maskwright.data.sources.shapes import Polygons, box_shape
from maskwright.data.sources.side_files import Missing, find_side_files
from maskwright.errors import DataError

__all__ = ["YoloLabel", "open_yolo_labels", "read_class_names"]

_FORMAT = 1  # of what is painted; raise it when the same recipe gives other pixels
_SLACK = 1e-4  # coordinates may leave 0..1 by this much, from rounding: less than a tenth of a pixel in 1000
_NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LEVELS = 3  # the files' own folder and two above: images/train below the folder of the data set


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a file: class number, and (n, 2) shares of width and height; a box is two corners."""

    number: int
    class_number: int
    points: np.ndarray
    is_box: bool


class _LineError(Exception):
    """A line that cannot be used; the text says why."""


@dataclass(frozen=True)
class YoloLabel:
    """The text file of one image, implementing :class:`maskwright.data.sources.label.Label`.

    Attributes:
        file: The file; None for an image without objects.
        names: Class names by number; empty if there is no data.yaml.
        meaning: What class names and numbers mean.
        boxes: Lines with a box alone: refused, or filled.
        order: Which of two overlapping objects is seen.
        unusable: Objects that cannot be painted: refused, or left out.
    """

    file: Path | None
    names: Mapping[int, str]
    meaning: Meaning
    boxes: Boxes
    order: Order
    unusable: Unusable

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.file is None else (self.file,)

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {
            "kind": "yolo",
            "format": _FORMAT,
            "names": {str(number): name for number, name in self.names.items()},
            "boxes": self.boxes,
            "order": self.order,
            "unusable": self.unusable,
            **self.meaning.recipe(),
        }

    def paint(self, grid: Grid) -> np.ndarray:
        """The label of every pixel.

        Raises:
            DataError: If a line cannot be used.
        """
        objects, findings = self._objects(grid)
        if findings.faults:
            raise DataError("\n".join(findings.faults))
        return paint_objects(objects, grid.height, grid.width, self.meaning.classes, order=self.order)

    def instances(self, grid: Grid) -> Instances:
        """The lines one by one; of boxes that are not filled the box alone."""
        return gather_instances(self._objects(grid)[0], grid.height, grid.width)

    def _objects(self, grid: Grid) -> tuple[list[LabelObject], Findings]:
        findings = Findings(self.file or "", self.unusable)
        if self.file is None:
            return [], findings
        size = (grid.height, grid.width)
        made = [
            _object(line, size, self.names, self.meaning, self.boxes, self.file, findings)
            for line in _read_lines(self.file, findings)
        ]
        return [entry for entry in made if entry is not None], findings


def open_yolo_labels(
    folder: Path | None,
    images: Mapping[str, Path],
    *,
    names: Path | None = None,
    classes_config: ClassList = (),
    background: str | None = "background",
    form: Form = "binary",
    boxes: Boxes = "refuse",
    missing: Missing = "refuse",
    order: Order = "small_on_top",
    background_values: Sequence[Value] = (),
    ignore_values: Sequence[Value] = (),
    unusable: Unusable = "refuse",
) -> LabelSet:
    """The labels of images out of YOLO text files; every file is read once, so that all faults are told at once.

    A line is ``class x y x y x y ...`` (an outline) or ``class x_centre y_centre width height`` (a box), in shares 0..1
    of the image. An empty file is an image without objects.

    Args:
        folder: Where the files lie; None: ``labels`` beside the folder of the images.
        images: Name of each image to its path.
        names: data.yaml with the class names; None: looked for in the folders of images and labels and two above.
        classes_config: Name and values of each class; values are class names, or numbers from 0. Classes without values
            are found by name, or where there are no names by their place in the list, from 0. Empty: the names.
        background: Name of class 0 of the task (YOLO's class 0 is its first class, never the background).
        form: What the task makes of the classes.
        boxes: Lines with a box: a fault, or the whole box.
        missing: An image without a file: a fault, left out, or all background.
        order: Which of two overlapping objects is seen.
        background_values: Class names or numbers painted as background.
        ignore_values: Class names or numbers whose pixels do not count.
        unusable: Outlines without area: faults, or left out with a note.

    Returns:
        Labels; faults name file and line.

    Raises:
        DataError: If the folder or data.yaml cannot be used.
    """
    findings = Findings("YOLO labels" if folder is None else folder, unusable)
    files = find_side_files(images, folder, "labels", (".txt",), findings, missing=missing)
    names_file = names or _find_names([*images.values(), *(file for file in files.values() if file)])
    class_names = read_class_names(names_file) if names_file else {}
    lines = {file: list(_read_lines(file, findings)) for file in files.values() if file is not None}
    found: list[tuple[Value, ...]] = [(name, number) for number, name in class_names.items()]
    if not class_names:
        found = [(number,) for number in sorted({line.class_number for own in lines.values() for line in own})]
        classes_config = [(name, values or (place,)) for place, (name, values) in enumerate(classes_config)]
    table = ClassTable.from_config(classes_config, background, form, named(found, background_values, ignore_values))
    meaning = Meaning(table, tuple(background_values), tuple(ignore_values))
    for file, own in lines.items():
        for line in own:
            _object(line, (1, 1), class_names, meaning, boxes, file, findings)
    labels: dict[str, Label] = {
        name: YoloLabel(file, class_names, meaning, boxes, order, unusable) for name, file in files.items()
    }
    return LabelSet(table, labels, findings.notes, findings.faults)


def read_class_names(file: Path) -> dict[int, str]:
    """Class names by number out of a data.yaml, whose ``names`` is a list or a mapping.

    Raises:
        DataError: If the file cannot be read, or names no classes.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Set data.labels.names to the data.yaml.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text. Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise DataError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    listed = content.get("names") if isinstance(content, dict) else None
    if isinstance(listed, list):
        listed = dict(enumerate(listed))
    if not isinstance(listed, dict) or not listed or not all(_is_number(number) for number in listed):
        raise DataError(
            f"{file} has no names of classes. Write them as a list, names: [crack, stain], or by number, "
            "names: {0: crack, 1: stain}."
        )
    return {int(number): str(name) for number, name in sorted(listed.items(), key=lambda entry: int(entry[0]))}


def _find_names(paths: Sequence[Path]) -> Path | None:
    """The data.yaml nearest to the files: in their folders or above."""
    folders = list(dict.fromkeys(path.parent for path in paths))
    for _ in range(_LEVELS):
        for folder in folders:
            for name in _NAME_FILES:
                if (folder / name).is_file():
                    return folder / name
        folders = list(dict.fromkeys(folder.parent for folder in folders))
    return None


def _read_lines(file: Path, findings: Findings) -> Iterator[_Line]:
    """The lines that are well formed; what is wrong with the others is told."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        findings.fault(f"files that cannot be read ({error.strerror})", str(file), "Mend or remove them")
        return
    except UnicodeDecodeError:
        findings.fault("files that are no UTF-8 text", str(file), "Export them again")
        return
    for number, words in enumerate(text.splitlines(), start=1):
        if not words.strip():
            continue
        try:
            yield _line(number, words.split())
        except _LineError as error:
            findings.fault(
                f"lines {error}",
                f"{file} line {number}",
                "A line is the class number, then x and y of each point in shares 0..1 of the image",
            )


def _line(number: int, words: list[str]) -> _Line:
    try:
        values = np.array(words, np.float64)
    except ValueError as error:
        raise _LineError("with something that is no number") from error
    class_number, numbers = values[0], values[1:]
    if not np.isfinite(values).all():
        raise _LineError("with something that is no number")
    if class_number < 0 or class_number != int(class_number):
        raise _LineError("whose first number is no class number")
    if len(numbers) < 4 or len(numbers) % 2:
        raise _LineError("with an odd or too small number of coordinates")
    points = numbers.reshape(-1, 2)
    is_box = len(numbers) == 4
    if points.min() < -_SLACK or points.max() > 1 + _SLACK:
        raise _LineError("with coordinates outside 0..1")
    if is_box:
        centre, size = points
        points = np.stack([centre - size / 2, centre + size / 2])  # may reach past the image, and is cut there
    return _Line(number, int(class_number), points, is_box)


def _object(
    line: _Line,
    size: tuple[int, int],
    names: Mapping[int, str],
    meaning: Meaning,
    boxes: Boxes,
    file: Path,
    findings: Findings,
) -> LabelObject | None:
    """The object of a line in an image of ``size`` rows and columns; None if it is not painted, which is told."""
    where = f"{file} line {line.number}"
    name = names.get(line.class_number)
    if names and name is None:
        findings.fault(
            "lines with a class number that data.yaml does not name",
            f"{where} (class {line.class_number})",
            f"Its classes are {', '.join(f'{number} {name}' for number, name in names.items())}",
        )
        return None
    label = meaning.of(*([name] if name is not None else []), line.class_number)
    if label is None:
        findings.fault(
            "lines whose class belongs to no class of the task",
            f"{where} (class {line.class_number if name is None else name})",
            f"The classes are {meaning.classes.listed()}. List them in data.labels.classes, or in "
            "data.labels.background_values or data.labels.ignore_values",
        )
    if label is None or label == BACKGROUND:
        return None
    points = line.points * np.array([size[1], size[0]], np.float64)
    corners = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    shape = box_shape(corners) if line.is_box else Polygons((points,))
    if shape.area == 0:
        findings.unusable("lines whose outline has no area", where)
        return None
    if line.is_box and boxes == "refuse":
        findings.fault(
            "lines that have a box and no outline",
            where,
            "Export as YOLO segmentation, or set data.labels.boxes: fill to take the whole box as the object",
        )
        return LabelObject(label, corners, None)
    return LabelObject(label, corners, shape, is_box=line.is_box)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdigit())

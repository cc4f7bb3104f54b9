"""Points as labels: discs of a class around them, for CSV files by image or one for all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.data.sources.classes import ClassTable, Form, label_dtype, not_counted
from maskwright.data.sources.findings import Findings, Unusable, shown
from maskwright.data.sources.image_header import read_header
from maskwright.data.sources.instances import Instances, gather_instances
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import LabelSet
from maskwright.data.sources.meaning import BACKGROUND, ClassList, Meaning, Value, named, only_class, tells_too_little
from maskwright.data.sources.paint import UNCOUNTED, LabelObject, empty_value, paint_objects
from maskwright.data.sources.point_file import PointTable, read_points
from maskwright.data.sources.shapes import Disc
from maskwright.data.sources.side_files import Missing, find_side_files
from maskwright.errors import DataError, UnreadableError

__all__ = ["PointLabel", "PointSettings", "open_point_labels"]

_FORMAT = 1  # of what is painted; raise it when the same recipe gives other pixels
_ONE_CLASS = "point"

Unit = Literal["px", "map"]
Origin = Literal["centre", "corner"]


@dataclass(frozen=True)
class PointSettings:
    """How a CSV is read and its points are painted; fields as in the settings of point labels."""

    x: str = "x"
    y: str = "y"
    class_column: str | None = None
    image_column: str | None = None
    unit: Unit = "px"
    origin: Origin = "centre"
    radius_px: float = 3.0
    radius_m: float | None = None
    unusable: Unusable = "refuse"


@dataclass(frozen=True)
class PointLabel:
    """The points of one image, implementing :class:`maskwright.data.sources.label.Label`.

    Attributes:
        file: The CSV; None for an image without points.
        image: What the file calls the image; None if all its points are meant, or those that lie on the raster.
        by_place: True if the points of a file without names of images belong to the raster they lie on.
        meaning: What classes mean.
        settings: How the file is read and painted.
    """

    file: Path | None
    image: frozenset[str] | None
    by_place: bool
    meaning: Meaning
    settings: PointSettings

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.file is None else (self.file,)

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {
            "kind": "points",
            "format": _FORMAT,
            "image": None if self.image is None else sorted(self.image),
            "by_place": self.by_place,
            **self.settings.__dict__,
            **self.meaning.recipe(),
        }

    def table(self) -> PointTable:
        """What the file says of this image; of a file that points find their raster by, all of it.

        Raises:
            DataError: If the file cannot be read.
        """
        if self.file is None:
            return PointTable(np.zeros((0, 2)), np.zeros(0, np.int64), None, None)
        if self.image is None and not self.by_place:
            return _read(self.file, self.settings)
        table, lines_of = _shared(self.file, self.file.stat().st_mtime_ns if self.file.exists() else 0, self.settings)
        if self.image is None:
            return table
        own = [lines_of[name] for name in self.image if name in lines_of]
        return table.pick(np.sort(np.concatenate(own)) if own else np.zeros(0, np.int64))

    def points(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """Where the points are and what they are, for maps of centres and density.

        Returns:
            (N, 2) float64 x, y in pixels from the upper left corner, all inside the image; (N,) int64 class ids
            (binary 1), -1 for points that do not count.

        Raises:
            DataError: If points lie outside the image, or have no known class.
        """
        if self.file is None:
            return np.zeros((0, 2)), np.zeros(0, np.int64)
        table = self.table()
        xy = _in_pixels(table.xy, grid, self.settings)
        inside = _inside(xy, grid)
        if not inside.all() and not self.by_place and self.settings.unusable == "refuse":
            lines = [f"line {line}" for line in table.lines[~inside]]
            raise DataError(
                f"{self.file}: points outside the image of {grid.height} x {grid.width} pixels: {shown(lines)}. "
                "Correct or remove them, set data.labels.unit if they are coordinates of a map, or set "
                "data.labels.unusable: skip to leave them out."
            )
        labels = _labels(table, self.meaning, self.file)
        kept = inside & (labels != BACKGROUND)
        return xy[kept], labels[kept]

    def paint(self, grid: Grid) -> np.ndarray:
        """The label of every pixel: a pixel in several discs belongs to the nearest point.

        Raises:
            DataError: As :meth:`points`, or if a radius in metres meets an image whose pixel size is not known.
        """
        objects = self._objects(grid)
        classes = self.meaning.classes
        if classes.form == "multilabel":
            return paint_objects(objects, grid.height, grid.width, classes)
        nearest = np.full((grid.height, grid.width), np.inf, np.float32)
        out = np.full(nearest.shape, empty_value(classes), label_dtype(classes.form))
        for disc, label in _discs(objects):
            rows, cols, distance = disc.reach(nearest.shape)
            closer = (distance <= 1.0) & (distance < nearest[rows, cols])
            nearest[rows, cols][closer] = distance[closer]
            out[rows, cols][closer] = not_counted(classes.form) if label == UNCOUNTED else label
        return out

    def instances(self, grid: Grid) -> Instances:
        """The discs one by one."""
        return gather_instances(self._objects(grid), grid.height, grid.width)

    def _objects(self, grid: Grid) -> list[LabelObject]:
        xy, labels = self.points(grid)
        radius_x, radius_y = self._radii(grid)
        discs = [Disc(float(x), float(y), radius_x, radius_y) for x, y in xy]
        return [LabelObject(int(label), disc.box, disc) for disc, label in zip(discs, labels, strict=True)]

    def _radii(self, grid: Grid) -> tuple[float, float]:
        if self.settings.radius_m is None:
            return self.settings.radius_px, self.settings.radius_px
        if not grid.is_georeferenced:
            raise DataError(
                f"{self.file}: radius_m needs the size of a pixel, and the image has no georeference. Set "
                "data.pixel_size_m, or give data.labels.radius_px."
            )
        width, height = (size * grid.metres_per_unit for size in grid.pixel_size)
        return self.settings.radius_m / width, self.settings.radius_m / height


def open_point_labels(
    folder: Path | None,
    images: Mapping[str, Path],
    *,
    file: Path | None = None,
    image_column: str = "image",
    x: str = "x",
    y: str = "y",
    class_column: str | None = None,
    unit: Unit = "px",
    origin: Origin = "centre",
    radius_px: float = 3.0,
    radius_m: float | None = None,
    missing: Missing = "refuse",
    classes_config: ClassList = (),
    background: str | None = "background",
    form: Form = "binary",
    background_values: Sequence[Value] = (),
    ignore_values: Sequence[Value] = (),
    unusable: Unusable = "refuse",
) -> LabelSet:
    """The labels of images out of CSV files of points; every file is read once, so that all faults are told at once.

    Args:
        folder: Where the CSV files lie, one for each image; None: ``points`` beside the folder of the images.
        images: Name of each image to its path.
        file: One CSV for all images; takes the place of ``folder``. An image it does not name has no objects.
        image_column: Its column of names: file name, with or without folders and ending.
        x: Column of x.
        y: Column of y.
        class_column: Column of the class; None: all points are the first class.
        unit: ``px``, or ``map`` for coordinates of the raster's CRS.
        origin: With ``px``: whether 0, 0 is the middle of the first pixel or its upper left corner.
        radius_px: Radius of the discs.
        radius_m: The same in metres; takes the place of ``radius_px``.
        missing: An image without a CSV: a fault, left out, or all background.
        classes_config: Name and values of each class; values are those of ``class_column``.
        background: Name of class 0.
        form: What the task makes of the classes.
        background_values: Values painted as background.
        ignore_values: Values whose pixels do not count.
        unusable: Points outside their image: faults, or left out with a note.

    Raises:
        DataError: If the folder or the one file cannot be used.
    """
    findings = Findings(file or folder or "CSV files of points", unusable)
    names = image_column if file is not None else None
    settings = PointSettings(x, y, class_column, names, unit, origin, radius_px, radius_m, unusable)
    if file is not None:
        tables = {file: _read(file, settings)}
        by_place = tables[file].images is None
        called = {} if by_place else _called(tables[file], images, findings)
        files: dict[str, Path | None] = dict.fromkeys(images, file)
    else:
        files = find_side_files(images, folder, "points", (".csv", ".txt"), findings, missing=missing)
        by_place, called, tables = False, {}, _read_all(files, settings, findings)
    said = sorted({value for table in tables.values() for value in table.classes or ()})
    found: list[tuple[Value, ...]] = [(value,) for value in said] if class_column else [(_ONE_CLASS,)]
    table = ClassTable.from_config(classes_config, background, form, named(found, background_values, ignore_values))
    meaning = Meaning(table, tuple(background_values), tuple(ignore_values))
    _tell_unknown(tables, said, meaning, findings)
    if class_column is None and tells_too_little(table):
        findings.fault(
            "several classes and no column that tells them",
            table.listed(),
            "Set data.labels.class_column, or list one class",
        )
    if file is not None and by_place:
        _tell_far(tables[file], images, settings, findings)
    by_name = file is not None and not by_place
    labels = {
        name: PointLabel(own, called.get(name, frozenset()) if by_name else None, by_place, meaning, settings)
        for name, own in files.items()
    }
    for name, label in labels.items():
        if label.file in tables and not by_place:
            own = label.table() if by_name else tables[label.file]
            _tell_outside(label.file, own, images[name], settings, findings)
    return LabelSet(table, dict(labels), findings.notes, findings.faults)


def _discs(objects: Sequence[LabelObject]) -> list[tuple[Disc, int]]:
    """Discs and what they are painted as."""
    return [(entry.shape, entry.painted_as) for entry in objects if isinstance(entry.shape, Disc)]


def _read(file: Path, settings: PointSettings) -> PointTable:
    return read_points(
        file,
        settings.x,
        settings.y,
        class_column=settings.class_column,
        image_column=settings.image_column,
        image_needed=settings.unit == "px",
    )


def _read_all(files: Mapping[str, Path | None], settings: PointSettings, findings: Findings) -> dict[Path, PointTable]:
    tables = {}
    for file in files.values():
        if file is not None:
            try:
                tables[file] = _read(file, settings)
            except DataError as error:
                findings.told(str(error))
    return tables


def _called(table: PointTable, images: Mapping[str, Path], findings: Findings) -> dict[str, frozenset[str]]:
    """Image to the names the file has for it."""
    spellings: dict[str, set[str]] = {}
    for name, path in images.items():
        for spelling in {name, name + path.suffix, path.name, path.stem}:
            spellings.setdefault(spelling, set()).add(name)
    called: dict[str, set[str]] = {}
    for said in dict.fromkeys(table.images or ()):
        plain = said.replace("\\", "/").removeprefix("./")
        meant = spellings.get(plain) or spellings.get(plain.rsplit("/", 1)[-1]) or set()
        if len(meant) == 1:
            called.setdefault(next(iter(meant)), set()).add(said)
        else:
            findings.fault(
                "names that fit several images" if meant else "images that are not there",
                said,
                "Write their folders too" if meant else "Set data.images to their folder, or remove their points",
            )
    unnamed = [path.name for name, path in images.items() if name not in called]
    for image in unnamed:
        findings.note("images that the file does not name, taken as without objects", image)
    return {name: frozenset(names) for name, names in called.items()}


def _tell_unknown(tables: Mapping[Path, PointTable], said: Sequence[str], meaning: Meaning, findings: Findings) -> None:
    unknown = {value for value in said if meaning.of(value) is None}
    for file, table in tables.items():
        for line, value in zip(table.lines, table.classes or (), strict=False):
            if value in unknown:
                findings.fault(
                    "points of a class that is none of the task's",
                    f'{file} line {line} ("{value}")',
                    f"The classes are {meaning.classes.listed()}; the files say {', '.join(said)}. List them in "
                    "data.labels.classes, or in data.labels.background_values or data.labels.ignore_values",
                )


@lru_cache(maxsize=2)
def _shared(file: Path, changed: int, settings: PointSettings) -> tuple[PointTable, dict[str, np.ndarray]]:
    """A file that many images share, and the positions of the points of each; ``changed`` renews it when it changes."""
    table = _read(file, settings)
    positions: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(table.images or ()):
        positions[name].append(place)
    return table, {name: np.array(own, np.int64) for name, own in positions.items()}


def _tell_outside(file: Path, table: PointTable, image: Path, settings: PointSettings, findings: Findings) -> None:
    try:
        grid = read_header(image).grid
    except UnreadableError:
        return  # the source tells of it, or skips the image
    for line in table.lines[~_inside(_in_pixels(table.xy, grid, settings), grid)]:
        findings.unusable(
            "points outside their image",
            f"{file} line {line} ({image.name} has {grid.height} x {grid.width} pixels)",
        )


def _tell_far(table: PointTable, images: Mapping[str, Path], settings: PointSettings, findings: Findings) -> None:
    """Points that lie on no raster, and a fault if that is all of them."""
    near: np.ndarray = np.zeros(len(table.xy), bool)
    for path in images.values():
        try:
            grid = read_header(path).grid
        except UnreadableError:
            return  # the source tells of it, or skips the image
        near[_inside(_in_pixels(table.xy, grid, settings), grid)] = True
    if len(near) and not near.any():
        findings.fault(
            "no point lies on any raster",
            ", ".join(path.name for path in list(images.values())[:3]),
            "The coordinates must be in the CRS of the rasters",
        )
    else:
        for line in table.lines[~near]:
            findings.note("points that lie on no raster, left out", f"line {line}")


def _inside(xy: np.ndarray, grid: Grid) -> np.ndarray:
    x, y = xy[:, 0], xy[:, 1]
    inside: np.ndarray = (x >= 0) & (x < grid.width) & (y >= 0) & (y < grid.height)
    return inside


def _labels(table: PointTable, meaning: Meaning, file: Path) -> np.ndarray:
    if table.classes is None:
        return np.full(len(table.xy), only_class(meaning.classes), np.int64)
    found = {value: meaning.of(value) for value in set(table.classes)}
    unknown = sorted(value for value, label in found.items() if label is None)
    if unknown:
        raise DataError(
            f"{file}: {shown(unknown)} belong to no class; the classes are {meaning.classes.listed()}. List them in "
            "data.labels.classes."
        )
    return np.array([found[value] for value in table.classes], np.int64)


def _in_pixels(xy: np.ndarray, grid: Grid, settings: PointSettings) -> np.ndarray:
    if settings.unit == "px":
        return xy + (0.5 if settings.origin == "centre" else 0.0)
    back = ~grid.affine()
    x, y = xy[:, 0], xy[:, 1]
    return np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f], axis=1)

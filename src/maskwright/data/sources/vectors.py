"""Vector labels: polygons, lines and points in map coordinates, burned on the raster's own grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from maskwright.data.sources.classes import ClassTable, Form, not_counted
from maskwright.data.sources.findings import Findings, Unusable
from maskwright.data.sources.image_header import read_header
from maskwright.data.sources.instances import Instances, gather_instances
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.meaning import (
    BACKGROUND,
    ClassList,
    Meaning,
    Value,
    named,
    only_class,
    tells_too_little,
)
from maskwright.data.sources.paint import LabelObject, Order, burn, paint_objects
from maskwright.data.sources.shapes import Geometry
from maskwright.data.sources.vector_file import (
    VECTOR_ENDINGS,
    VectorLayer,
    mend,
    near_grid,
    open_layer,
    shapeless,
    to_pixels,
)
from maskwright.errors import DataError, UnreadableError

__all__ = ["VectorLabel", "open_vector_labels"]

_FORMAT = 1  # of what is painted; raise it when the same recipe gives other pixels
_ONE_CLASS = "object"


@dataclass(frozen=True)
class VectorLabel:
    """The shapes on one raster, implementing :class:`maskwright.data.sources.label.Label`.

    Attributes:
        layer: Where shapes are read from.
        area: Layer of the area that was mapped; None: all of the raster.
        meaning: What values of the attribute mean.
        all_touched: Every pixel a shape touches belongs to it.
        buffer_m: Metres by which shapes grow.
        order: Which of two overlapping shapes is seen.
    """

    layer: VectorLayer
    area: VectorLayer | None
    meaning: Meaning
    all_touched: bool
    buffer_m: float
    order: Order

    @property
    def files(self) -> tuple[Path, ...]:
        return self.layer.files + (self.area.files if self.area else ())

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {
            "kind": "vectors",
            "format": _FORMAT,
            "layer": self.layer.layer,
            "attribute": self.layer.attribute,
            "crs": self.layer.crs,
            "all_touched": self.all_touched,
            "buffer_m": self.buffer_m,
            "order": self.order,
            **self.meaning.recipe(),
        }

    def paint(self, grid: Grid) -> np.ndarray:
        """The label of every pixel.

        Raises:
            DataError: If raster and shapes cannot be brought together, or a value of the attribute is unknown.
        """
        out = paint_objects(
            self._objects(grid),
            grid.height,
            grid.width,
            self.meaning.classes,
            order=self.order,
            all_touched=self.all_touched,
        )
        if self.area is not None:
            mapped = np.zeros(out.shape, np.uint8)
            inside = to_pixels(mend(near_grid(self.area, grid)).features.geometries, self.area, grid)
            burn(mapped, [Geometry(shape) for shape in inside], [1] * len(inside))
            out[mapped == 0] = not_counted(self.meaning.classes.form)
        return out

    def instances(self, grid: Grid) -> Instances:
        """The shapes that reach into the raster, one by one."""
        return gather_instances(self._objects(grid), grid.height, grid.width)

    def _objects(self, grid: Grid) -> list[LabelObject]:
        buffer = _buffer_units(self.buffer_m, grid)
        features = mend(near_grid(self.layer, grid, buffer)).features
        labels = [self._label(value) for value in features.values]
        shapes = to_pixels(features.geometries, self.layer, grid, buffer=buffer)
        raster = shapely.box(0, 0, grid.width, grid.height)
        seen = shapely.intersects(shapes, raster) if len(shapes) else np.zeros(0, bool)
        return [
            LabelObject(label, Geometry(shape).box, Geometry(shape))
            for shape, label, is_seen in zip(shapes, labels, seen, strict=True)
            if is_seen and label != BACKGROUND
        ]

    def _label(self, value: Value | None) -> int:
        if self.layer.attribute is None:
            return only_class(self.meaning.classes)
        label = None if value is None else self.meaning.of(value)
        if label is None:
            raise DataError(
                f'{self.layer.path}: {self.layer.attribute} is "{value}", which belongs to no class; the classes are '
                f"{self.meaning.classes.listed()}. List it in data.labels.classes."
            )
        return label


def open_vector_labels(
    file: Path,
    images: Mapping[str, Path],
    *,
    layer: str | None = None,
    attribute: str | None = None,
    all_touched: bool = False,
    buffer_m: float = 0.0,
    area: Path | None = None,
    classes_config: ClassList = (),
    background: str | None = "background",
    form: Form = "binary",
    order: Order = "small_on_top",
    background_values: Sequence[Value] = (),
    ignore_values: Sequence[Value] = (),
    unusable: Unusable = "refuse",
) -> LabelSet:
    """The labels of rasters out of vector files; the shapes on every raster are looked at once.

    Shapes in another CRS are brought to the raster's. Invalid shapes are repaired, and noted with their id, what was
    wrong, and how their area changed. Only features that meet a raster are read.

    Args:
        file: One file for all rasters, or a folder with a file of the same name for each.
        images: Name of each raster to its path.
        layer: Layer of the file; None: its only one.
        attribute: Attribute that names the class; None: everything is the first class.
        all_touched: Every pixel a shape touches belongs to it.
        buffer_m: Metres by which shapes grow; lines without it are one pixel wide.
        area: Vector file of the area that was mapped; pixels outside do not count.
        classes_config: Name and values of each class; values are those of the attribute. Empty: all values found.
        background: Name of class 0.
        form: What the task makes of the classes.
        order: Which of two overlapping shapes is seen.
        background_values: Values painted as background.
        ignore_values: Values whose pixels do not count.
        unusable: Features without any shape or area: faults, or left out with a note.

    Returns:
        Labels; faults for CRS that are missing on one side only, rasters in degrees with ``buffer_m``, values that
        belong to no class (with all values found), features without a value or a shape, shapes that lie on no raster.

    Raises:
        DataError: If the file, its layer or attribute, or ``area`` cannot be read.
    """
    findings = Findings(file, unusable)
    layers = _layers(file, images, layer, attribute, findings)
    mapped = open_layer(area) if area is not None else None
    survey = _Survey(findings, buffer_m)
    for name, own in layers.items():
        survey.look(images[name], own, mapped)
    survey.conclude(file, area)
    values = sorted(survey.values, key=lambda value: (isinstance(value, str), value))
    found: list[tuple[Value, ...]] = [(_ONE_CLASS,)] if attribute is None else [(value,) for value in values]
    table = ClassTable.from_config(classes_config, background, form, named(found, background_values, ignore_values))
    meaning = Meaning(table, tuple(background_values), tuple(ignore_values))
    if attribute is None and tells_too_little(table):
        findings.fault(
            "several classes and no attribute that tells them",
            table.listed(),
            "Set data.labels.attribute, or list one class",
        )
    for value in values if attribute is not None else ():
        if meaning.of(value) is None:
            findings.fault(
                f"values of {attribute} that belong to no class",
                f"{value} ({survey.values[value]} shapes)",
                f"The values are {', '.join(map(str, values))}; the classes are {table.listed()}. List them in "
                "data.labels.classes, or in data.labels.background_values or data.labels.ignore_values",
            )
    labels: dict[str, Label] = {
        name: VectorLabel(own, mapped, meaning, all_touched, buffer_m, order) for name, own in layers.items()
    }
    return LabelSet(table, labels, findings.notes, findings.faults)


class _Survey:
    """What the shapes on all rasters are, each told of once."""

    def __init__(self, findings: Findings, buffer_m: float) -> None:
        self.values: Counter[Value] = Counter()
        self._findings = findings
        self._buffer_m = buffer_m
        self._seen: set[tuple[Path, int]] = set()
        self._looked = 0
        self._layers: set[VectorLayer] = set()
        self._bare: list[str] = []
        self._unmapped: list[str] = []

    def look(self, raster: Path, layer: VectorLayer, area: VectorLayer | None) -> None:
        """Read the shapes on one raster."""
        try:
            grid = read_header(raster).grid
        except UnreadableError:
            return  # the source tells of it, or skips the image
        self._looked += 1
        if layer not in self._layers:
            self._layers.add(layer)
            for number in shapeless(layer):
                self._findings.unusable("features without a shape or an area", f"feature {number} of {layer.path.name}")
        try:
            features = near_grid(layer, grid, _buffer_units(self._buffer_m, grid))
            if area is not None and not len(near_grid(area, grid).ids):
                self._unmapped.append(raster.name)
        except DataError as error:
            self._findings.told(str(error), raster.name)
            return
        if not len(features.ids):
            self._bare.append(raster.name)
        new = np.array([(layer.path, int(number)) not in self._seen for number in features.ids], bool)
        features = features.pick(new)
        self._seen.update((layer.path, int(number)) for number in features.ids)
        mended = mend(features)
        for number in mended.empty:
            self._findings.unusable("features without a shape or an area", f"feature {number} of {layer.path.name}")
        for number, reason in mended.invalid.items():
            place = int(np.flatnonzero(mended.features.ids == number)[0])
            shape = mended.features.geometries[place]
            now = float(to_pixels(np.array([shape], object), layer, grid)[0].area)
            was = now * mended.area_before[number] / shape.area if shape.area > 0 else 0.0
            self._findings.note(
                "invalid shapes, repaired",
                f"feature {number} of {layer.path.name} ({reason}; area {was:.4g} pixels before, {now:.4g} after)",
            )
        for number, value in zip(mended.features.ids, mended.features.values, strict=True):
            if value is not None:
                self.values[value] += 1
            elif layer.attribute is not None:
                self._findings.fault(
                    f"features without a value of {layer.attribute}",
                    f"feature {number} of {layer.path.name}",
                    "Fill in their class",
                )

    def conclude(self, file: Path, area: Path | None) -> None:
        """What only all rasters together tell."""
        if self._looked and len(self._bare) == self._looked:
            self._findings.fault(
                "no shape lies on any raster",
                f"{file.name} and {', '.join(self._bare[:3])}",
                "Look whether they show the same ground, and whether their CRS are right",
            )
        else:
            for name in self._bare:
                self._findings.note("rasters without any shape, taken as all background", name)
        for name in self._unmapped:
            self._findings.fault(
                f"rasters outside the mapped area of {area}",
                name,
                "No pixel of them would count: leave them out, or correct data.labels.area",
            )


def _layers(
    file: Path, images: Mapping[str, Path], layer: str | None, attribute: str | None, findings: Findings
) -> dict[str, VectorLayer]:
    if not file.is_dir():
        return dict.fromkeys(images, open_layer(file, layer, attribute))
    layers = {}
    for name, path in images.items():
        matches = _beside(file / Path(name).parent, path.stem) or _beside(file, path.stem)
        if len(matches) == 1:
            try:
                layers[name] = open_layer(matches[0], layer, attribute)
            except DataError as error:
                findings.told(str(error))
        elif matches:
            findings.fault(
                "several vector files for a raster", ", ".join(match.name for match in matches), "Keep one of them"
            )
        else:
            findings.fault(
                "rasters without a vector file",
                path.name,
                "Add one of the same name; one without features says that there are no objects",
            )
    return layers


def _beside(folder: Path, stem: str) -> list[Path]:
    return [path for ending in VECTOR_ENDINGS if (path := folder / (stem + ending)).is_file()]


def _buffer_units(buffer_m: float, grid: Grid) -> float:
    """The buffer in units of the raster's CRS."""
    return buffer_m / grid.metres_per_unit if buffer_m > 0 else 0.0

"""What the labels of images are: masks, COCO or YOLO files, vectors, points; and what in them means which class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = [
    "ClassConfig",
    "CocoLabels",
    "LabelsConfig",
    "MaskLabels",
    "PointLabels",
    "VectorLabels",
    "YoloLabels",
]


class ClassConfig(Section):
    """One class and what in the labels means it."""

    name: str = Field(help="Name of the class, in tables and on maps.", min_length=1)
    values: tuple[int | str, ...] = Field(
        (),
        help="What means this class: mask values, ranges of them (128-255) or colours (#rrggbb), COCO or YOLO category "
        "names or numbers, values of an attribute of vectors or points. Unset: the class's own name, or its number "
        "from 1.",
    )


class _Labels(Section):
    """What all kinds of labels share."""

    classes: tuple[ClassConfig, ...] = Field(
        (), help="The classes, in order; unset: those the labels themselves name, or one class."
    )
    background: str | None = Field(
        "background",
        help="Name of class 0, everything that is no other class, of tasks whose classes exclude each other; null: "
        "every pixel belongs to a named class, and class 0 is the first of them.",
    )

    @model_validator(mode="after")
    def _classes_differ(self) -> _Labels:
        names = [entry.name for entry in self.classes]
        faults = [f'classes: the name "{n}" appears more than once' for n in sorted(set(names)) if names.count(n) > 1]
        if self.background in names:
            faults.append(f'classes: "{self.background}" is the name of the background. Leave it out of the list')
        said = [str(value) for entry in self.classes for value in entry.values]
        faults += [f"classes: {v} means more than one class" for v in sorted(set(said)) if said.count(v) > 1]
        refuse(faults)
        return self


class MaskLabels(_Labels):
    """A mask file for each image: 0/255, 0/1, class numbers or palette colours."""

    kind: Literal["masks"] = Field("masks", help="Mask files beside the images.")
    folder: Path | None = Field(
        None, help="Folder of the masks; unset: masks, labels or annotations beside the folder of the images."
    )
    suffix: str = Field("", help="What a mask's name has behind the image's, before the ending, for example _mask.")
    background_values: tuple[int | str, ...] = Field(
        (0,), help="Mask values, ranges of them (0-127) or colours that mean background."
    )
    ignore_values: tuple[int | str, ...] = Field(
        (), help="Mask values, ranges of them (250-255) or colours that do not count at all."
    )
    missing: Literal["refuse", "skip", "empty"] = Field(
        "refuse", help="An image without a mask: refuse, skip it with a note, or take it as all background."
    )
    class_folders: bool = Field(
        False,
        help="Masks lie in a folder for each class, as masks/rust/a.png: what is painted there is of the class the "
        "folder is named for (or that lists it in its values). For masks of 0 and 255 that may overlap.",
    )
    image_classes: Path | None = Field(
        None,
        help="CSV that names each image's class: what is painted in its mask belongs to that class. For masks that "
        "say only where, not what.",
    )
    image_column: str = Field("file", help="Column of image_classes with the name of the image.")
    class_column: str = Field("class", help="Column of image_classes with the class.")

    @model_validator(mode="after")
    def _one_thing_names_classes(self) -> MaskLabels:
        if self.class_folders and self.image_classes is not None:
            refuse(["image_classes: class_folders names the classes already. Unset one of the two"])
        return self


class _ObjectLabels(_Labels):
    """What labels that list objects one by one share."""

    background_values: tuple[int | str, ...] = Field(
        (), help="Categories or values that are painted as background, though the labels list them."
    )
    ignore_values: tuple[int | str, ...] = Field(
        (), help="Categories or values whose pixels do not count, unless an object of a class is painted over them."
    )
    unusable: Literal["refuse", "skip"] = Field(
        "refuse",
        help="Objects that cannot be painted (without outline or size, outside their image): refuse the data, or "
        "leave them out with a note.",
    )

    @model_validator(mode="after")
    def _values_mean_one_thing(self) -> _ObjectLabels:
        meanings = {
            "classes": [str(value) for entry in self.classes for value in (entry.values or (entry.name,))],
            "background_values": [str(value) for value in self.background_values],
            "ignore_values": [str(value) for value in self.ignore_values],
        }
        pairs = (("classes", "background_values"), ("classes", "ignore_values"), ("background_values", "ignore_values"))
        refuse(
            f"{second}: {value} appears in {first} too. Leave it out of one of them"
            for first, second in pairs
            for value in sorted(set(meanings[first]) & set(meanings[second]))
        )
        return self


class CocoLabels(_ObjectLabels):
    """COCO json files: polygons, run lengths or boxes."""

    kind: Literal["coco"] = Field("coco", help="COCO json files.")
    file: Path | None = Field(
        None,
        help="The json file, or a folder of several (one for training, one for validation); its file names are looked "
        "for in the folder of the images. Unset: the one json beside or above the images.",
    )
    boxes: Literal["refuse", "fill"] = Field(
        "refuse", help="Annotations with a box and no outline: refuse them, or fill the whole box."
    )
    crowds: Literal["ignore", "paint"] = Field(
        "ignore", help="Regions marked as crowd: their pixels do not count, or are painted as their class."
    )
    order: Literal["small_on_top", "as_listed"] = Field(
        "small_on_top",
        help="Which of two overlapping objects is seen in a map of classes: the smaller, or the one listed later.",
    )


class YoloLabels(_ObjectLabels):
    """A text file for each image with a class number and a polygon (or box) in shares of the image on each line."""

    kind: Literal["yolo"] = Field("yolo", help="YOLO segmentation text files.")
    folder: Path | None = Field(None, help="Folder of the text files; unset: labels beside the folder of the images.")
    names: Path | None = Field(None, help="data.yaml with the class names; unset: looked for around the images.")
    boxes: Literal["refuse", "fill"] = Field("refuse", help="Lines with a box only: refuse them, or fill the box.")
    missing: Literal["refuse", "skip", "empty"] = Field(
        "refuse", help="An image without a text file: refuse, skip it with a note, or take it as all background."
    )
    order: Literal["small_on_top", "as_listed"] = Field(
        "small_on_top",
        help="Which of two overlapping objects is seen in a map of classes: the smaller, or the one listed later.",
    )


class VectorLabels(_ObjectLabels):
    """Polygons, lines or points in map coordinates: GeoPackage, GeoJSON, Shapefile; burned in the raster's own CRS."""

    kind: Literal["vectors"] = Field("vectors", help="Vector files in map coordinates.")
    file: Path = Field(help="One file for all rasters, or a folder with a file of the same name for each.")
    layer: str | None = Field(None, help="Layer of the file; unset: its only one.")
    attribute: str | None = Field(None, help="Attribute that names the class; unset: everything is the one class.")
    all_touched: bool = Field(
        False, help="Every pixel a shape touches belongs to it, not only those whose middle it holds."
    )
    buffer_m: float = Field(
        0.0, ge=0, unit="m", help="Shapes grow by this on all sides; gives lines and points a width."
    )
    area: Path | None = Field(
        None, help="Vector file of the area that was mapped; pixels outside do not count. Unset: all of the raster."
    )
    order: Literal["small_on_top", "as_listed"] = Field(
        "small_on_top",
        help="Which of two overlapping shapes is seen in a map of classes: the smaller, or the one listed later.",
    )


class PointLabels(_ObjectLabels):
    """A CSV of points for each image, or one for all, as discs of a class, and as maps of centres and density."""

    kind: Literal["points"] = Field("points", help="CSV files of points.")
    folder: Path | None = Field(None, help="Folder of the CSV files; unset: points beside the folder of the images.")
    file: Path | None = Field(None, help="One CSV for all images, with a column that names the image.")
    image_column: str = Field(
        "image",
        help="Column of that one CSV with the name of the image. Points in map coordinates find their raster by "
        "themselves where there is no such column.",
    )
    x: str = Field("x", help="Column of the column number, or of the map's x.")
    y: str = Field("y", help="Column of the row number, or of the map's y.")
    class_column: str | None = Field(None, help="Column that names the class; unset: all points are the one class.")
    unit: Literal["px", "map"] = Field("px", help="Pixels of the image, or coordinates of the raster's CRS.")
    origin: Literal["centre", "corner"] = Field(
        "centre",
        help="With unit: px, where 0, 0 lies: the middle of the first pixel, as numbers of columns and rows count, or "
        "its upper left corner.",
    )
    radius_px: float = Field(3.0, gt=0, unit="px", help="Radius of the disc around a point.")
    radius_m: float | None = Field(None, gt=0, unit="m", help="Radius in metres; takes the place of radius_px.")
    missing: Literal["refuse", "skip", "empty"] = Field(
        "refuse", help="An image without a CSV file: refuse, skip it with a note, or take it as all background."
    )

    @model_validator(mode="after")
    def _one_place(self) -> PointLabels:
        if self.folder is not None and self.file is not None:
            raise ValueError("file: folder is set too. Name the one CSV of all images, or the folder of one for each")
        return self


LabelsConfig = Annotated[
    MaskLabels | CocoLabels | YoloLabels | VectorLabels | PointLabels, pydantic.Field(discriminator="kind")
]

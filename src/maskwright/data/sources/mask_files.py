"""Masks in image files: 0/255, 0/1, class numbers or colours, told apart by what they hold, never guessed silently.

Values are whole numbers, texts of a range such as ``128-255``, or colours such as ``#ff0000``. A mask that holds a
value nobody named is refused, with what was found and what to set.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.data.sources.alignment import differences
from maskwright.data.sources.classes import ClassTable, Form, label_dtype, not_counted
from maskwright.data.sources.folders import some
from maskwright.data.sources.image_header import printable
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.mask_codes import MaskCodes, Value, codes_for, shown_value
from maskwright.data.sources.mask_pixels import MaskPixels, read_mask
from maskwright.errors import DataError, GridError

__all__ = ["MaskLabel", "Missing", "class_code", "missing_masks", "open_mask_labels", "review_masks"]

Missing = Literal["refuse", "skip", "empty"]


@dataclass(frozen=True)
class MaskLabel:
    """The mask of one image, implementing :class:`maskwright.data.sources.label.TellingLabel`.

    Attributes:
        path: The mask; None: nothing is to be found in the image.
        image: The image it belongs to, for messages.
        codes: What its values mean.
        painted: Code of everything painted, where another file says what that is; None: the values say it.
        image_class: What that other file says.
    """

    path: Path | None
    image: Path
    codes: MaskCodes
    painted: int | None = None
    image_class: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.path is None else (self.path,)

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {"kind": "mask", "empty": self.path is None, "painted": self.painted, **self.codes.recipe()}

    def paint(self, grid: Grid) -> np.ndarray:
        """(H, W) class ids or sets of bits; see :class:`maskwright.data.sources.label.Label`.

        Raises:
            DataError: If the mask cannot be read, has another size or holds a value without a meaning.
        """
        return self.paint_and_tell(grid)[0]

    def paint_and_tell(self, grid: Grid) -> tuple[np.ndarray, dict[str, Any]]:
        """What :meth:`paint` gives, and ``form``: what the values were taken as."""
        if self.path is None:
            return np.zeros((grid.height, grid.width), label_dtype(self.codes.form)), {"form": "none"}
        mask = read_mask(self.path, as_colours=self.codes.has_colours)
        self._require_grid(mask, grid)
        codes, form = self._codes_of(mask)
        plane = codes.apply(mask.values)
        if mask.valid is not None:
            plane[~mask.valid] = not_counted(self.codes.form)
        told: dict[str, Any] = {"form": form}
        if mask.notes:
            told["notes"] = list(mask.notes)
        return plane, told

    def instances(self, grid: Grid) -> None:
        """None: a mask does not tell objects apart."""
        return

    def _codes_of(self, mask: MaskPixels) -> tuple[MaskCodes, str]:
        """Codes that know every value of the mask, and what its values are taken as."""
        found = mask.found()
        where = f"the mask {printable(mask.path)}"
        if not self.codes.is_auto:
            self.codes.require_known(found, where)
            return self.codes, "colours" if self.codes.has_colours else "numbers"
        painted = self.codes.auto_value(found, where)
        code = self.codes.foreground if self.painted is None else self.painted
        if painted is None:
            return self.codes, "empty"
        if code < 0:
            raise DataError(
                f'{printable(self.image)} is of class "{self.image_class}", which is none of the classes, and '
                f"{found[painted]} pixels are painted in {where}. Classes: {self.codes.classes.listed()}. Add "
                f'"{self.image_class}" to data.labels.classes, background_values or ignore_values.'
            )
        return self.codes.with_number(painted, code), f"0/{painted}"

    def _require_grid(self, mask: MaskPixels, grid: Grid) -> None:
        size = (mask.grid.height, mask.grid.width)
        if size != (grid.height, grid.width):
            turned = size == (grid.width, grid.height)
            hint = (
                "The image is turned as its EXIF orientation says; the mask seems to be drawn on the unturned one. "
                if turned
                else ""
            )
            raise DataError(
                f"The mask {printable(mask.path)} has {size[0]} x {size[1]} pixels (rows x columns), its image "
                f"{printable(self.image)} has {grid.height} x {grid.width}. {hint}Every pixel needs a label of its "
                "own: export the mask in the image's size."
            )
        if mask.grid.is_georeferenced and grid.is_georeferenced:
            apart = differences(grid, mask.grid)
            if apart:
                raise GridError(
                    f"The mask {printable(mask.path)} lies elsewhere than its image {printable(self.image)}: "
                    f"{'; '.join(apart)}. Lay the mask onto the image's grid (maskwright prepare align)."
                )


def open_mask_labels(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    *,
    classes_config: Sequence[tuple[str, Sequence[Value]]] = (),
    background: str | None = "background",
    form: Form = "binary",
    background_values: Sequence[Value] = (0,),
    ignore_values: Sequence[Value] = (),
    missing: Missing = "refuse",
    image_classes: Path | None = None,
    image_column: str = "file",
    class_column: str = "class",
    searched: str = "",
) -> LabelSet:
    """The masks of images as labels.

    Args:
        images: Name to file.
        masks: Name of an image to its mask, from :func:`maskwright.data.sources.folders.find_masks`.
        classes_config: Name and values of each class.
        background: Name of class 0; None if every pixel belongs to a named class.
        form: What the task makes of the classes.
        background_values: Values that mean background.
        ignore_values: Values that do not count.
        missing: What to do with images without a mask.
        image_classes: CSV with the class of what is painted in each image's mask; None: the values say it.
        image_column: Its column of image names.
        class_column: Its column of classes.
        searched: Where masks were looked for, for messages.

    Raises:
        DataError: If the classes or their values make no sense, or the CSV cannot be read.
    """
    labels: dict[str, Label] = {}
    notes, faults = missing_masks(images, masks, missing, searched)
    used = {name: masks.get(name) for name in images if name in masks or missing == "empty"}
    if image_classes is None:
        codes = codes_for(classes_config, background, form, background_values, ignore_values, lambda: _found_in(masks))
        labels = {name: MaskLabel(path, images[name], codes) for name, path in used.items()}
        return LabelSet(codes.classes, labels, notes, faults)
    named, more = _read_image_classes(image_classes, image_column, class_column, images)
    faults = (*faults, *more)
    found = [] if classes_config else _painted_classes(named, used)
    skipped = {str(value) for value in (*background_values, *ignore_values)}
    classes = ClassTable.from_config(
        classes_config, background, form, [value for value in found if value not in skipped]
    )
    codes = MaskCodes.automatic(classes)
    for name, path in used.items():
        image_class = named.get(name)
        if image_class is not None:
            code = class_code(image_class, codes, background_values, ignore_values)
            labels[name] = MaskLabel(path, images[name], codes, code, image_class)
    return LabelSet(classes, labels, notes, faults)


def review_masks(told: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """What a person should know about all masks together, and what is wrong with them.

    Args:
        told: Name of an image to what :meth:`MaskLabel.paint_and_tell` told.

    Returns:
        Notes and faults.
    """
    names: dict[str, list[str]] = {}
    for name, facts in told.items():
        names.setdefault(str(facts.get("form", "")), []).append(name)
    notes, faults = [], []
    if "0/1" in names and "0/255" in names:
        faults.append(
            f"Some masks hold 0 and 1 ({some(names['0/1'], 3)}), others 0 and 255 ({some(names['0/255'], 3)}), so it "
            "is not clear what 255 means. Say it: data.labels.classes: [{name: foreground, values: [1, 255]}], or "
            "values: [1] with ignore_values: [255]."
        )
    for form in ("0/1", "0/255"):
        if form in names:
            notes.append(
                f"{len(names[form])} masks hold 0 and {form[2:]} only: taken as background and foreground"
                + (f"; {len(names['empty'])} more are all background" if "empty" in names else "")
            )
    if "none" in names:
        notes.append(f"{len(names['none'])} images have no mask and are all background: {some(names['none'])}")
    by_note: dict[str, list[str]] = {}
    for name, facts in told.items():
        for note in facts.get("notes", ()):
            by_note.setdefault(note, []).append(name)
    notes += [f"{len(of)} masks: {note} ({some(of, 3)})" for note, of in by_note.items()]
    return notes, faults


# --- images without masks ---------------------------------------------------------------------------------------------


def missing_masks(
    images: Mapping[str, Path], masks: Collection[str], missing: Missing, searched: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and faults about images that have no mask; ``masks`` names those that have one."""
    lacking = [name for name in images if name not in masks]
    if not lacking or missing == "empty":
        return (), ()
    what = f"{len(lacking)} of {len(images)} images have no mask: {some(lacking)}"
    if missing == "skip":
        return (f"{what}; they are left out",), ()
    where = f" Masks were looked for in {searched}." if searched else ""
    return (), (
        f"{what}.{where} Add the masks, or set data.labels.missing: skip to leave these images out, or empty to take "
        "them as all background.",
    )


def _found_in(masks: Mapping[str, Path]) -> dict[str, int]:
    """Values of some masks and their pixels, for a message; colours where a mask has some."""
    pixels: dict[str, int] = {}
    for path in list(masks.values())[:50]:
        try:
            mask = read_mask(path, as_colours=None)
        except DataError:  # it is told when all masks are read; here is asked only what others hold
            continue
        for value, count in mask.found().items():
            shown = shown_value(value, mask.is_coloured)
            pixels[shown] = pixels.get(shown, 0) + count
    return pixels


# --- a class for each image -------------------------------------------------------------------------------------------


def _read_image_classes(
    path: Path, image_column: str, class_column: str, images: Mapping[str, Path]
) -> tuple[dict[str, str], list[str]]:
    """Name of an image to its class, and faults."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"data.labels.image_classes: {printable(path)} cannot be read: {why}.") from error
    columns = list(rows[0]) if rows else []
    absent = [column for column in (image_column, class_column) if column not in columns]
    if absent:
        raise DataError(
            f"{printable(path)} has no column {' and no column '.join(absent)}; it has {', '.join(columns) or 'none'}. "
            "Set data.labels.image_column and class_column."
        )
    given = {str(row[image_column]).strip().replace("\\", "/"): str(row[class_column]).strip() for row in rows}
    named, lacking = {}, []
    for name, file_path in images.items():
        keys = (name, f"{name}{file_path.suffix}", Path(name).name, file_path.name)
        found = next((given[key] for key in keys if key in given), None)
        if found:
            named[name] = found
        else:
            lacking.append(name)
    if not lacking:
        return named, []
    return named, [
        f"{printable(path)} names no class for {len(lacking)} images: {some(lacking)}. Add a line for each, with its "
        f"name in the column {image_column}."
    ]


def _painted_classes(named: Mapping[str, str], masks: Mapping[str, Path | None]) -> list[str]:
    """The classes that have something painted in any mask, in alphabetical order; the others mean "nothing here"."""
    of_class: dict[str, list[Path]] = {}
    for name, image_class in named.items():
        path = masks.get(name)
        if path is not None:
            of_class.setdefault(image_class, []).append(path)
    return [image_class for image_class in sorted(of_class) if any(map(_is_painted, of_class[image_class]))]


def _is_painted(path: Path) -> bool:
    try:
        return bool(read_mask(path, as_colours=False).values.any())
    except DataError:  # told when all masks are read
        return False


def class_code(
    image_class: str, codes: MaskCodes, background_values: Iterable[Value], ignore_values: Iterable[Value]
) -> int:
    """What everything painted in an image of this class becomes; -1 if nothing says so."""
    if image_class in {str(value) for value in ignore_values}:
        return not_counted(codes.form)
    if image_class in {str(value) for value in background_values}:
        return 0
    class_id = codes.classes.id_of(image_class)
    return -1 if class_id is None else codes.code(class_id)

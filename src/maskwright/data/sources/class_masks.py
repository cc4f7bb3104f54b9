"""Masks in a folder for each class: ``masks/rust/a.png`` says where in ``images/a.png`` there is rust."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.sources.classes import ClassTable, Form, label_dtype, not_counted
from maskwright.data.sources.folders import ImageFolder, mask_folders, some
from maskwright.data.sources.image_header import printable
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import Label, LabelSet
from maskwright.data.sources.mask_codes import MaskCodes, Value
from maskwright.data.sources.mask_files import MaskLabel, Missing, class_code, missing_masks
from maskwright.errors import DataError

__all__ = ["ClassFolders", "ClassMasks", "find_class_masks", "open_class_masks"]


@dataclass(frozen=True)
class ClassFolders:
    """Which masks of which classes belong to which image.

    Attributes:
        masks: Name of a folder of one class to name of an image to its mask.
        searched: Where masks were looked for, for messages.
        notes: What a person should know, a sentence each.
        faults: What is wrong, a text each.
    """

    masks: dict[str, dict[str, Path]]
    searched: str
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def images(self) -> set[str]:
        """Names of the images that have a mask of any class."""
        return {name for files in self.masks.values() for name in files}


def find_class_masks(found: ImageFolder, folder: Path | None = None, *, suffix: str = "") -> ClassFolders:
    """The masks of each class: one step of the way to a mask, taken out, leaves the name of its image.

    Args:
        found: The images.
        folder: Folder of the masks; None: masks, labels or the like inside or beside the folder of the images.
        suffix: What a mask's name has behind the image's.

    Raises:
        DataError: If the folder is missing.
    """
    folders, searched, notes, faults = mask_folders(found, folder, suffix=suffix)
    best = ClassFolders({}, searched, notes, faults)
    for files in folders.values():
        masks: defaultdict[str, dict[str, Path]] = defaultdict(dict)
        spare = []
        for name, path in files.items():
            fitting = _class_and_image(name, found.images)
            if fitting is None:
                spare.append(name)
            else:
                masks[fitting[0]][fitting[1]] = path
        if sum(map(len, masks.values())) > sum(map(len, best.masks.values())):
            more = [f"{len(spare)} masks have no image and are not used: {some(sorted(spare))}"] if spare else []
            best = ClassFolders(dict(sorted(masks.items())), searched, (*notes, *more), faults)
    return best


def _class_and_image(name: str, images: Mapping[str, Path]) -> tuple[str, str] | None:
    steps = name.split("/")
    for place, step in enumerate(steps[:-1]):
        image = "/".join((*steps[:place], *steps[place + 1 :]))
        if image in images:
            return step, image
    return None


@dataclass(frozen=True)
class ClassMasks:
    """The masks of one image, implementing :class:`maskwright.data.sources.label.TellingLabel`.

    Attributes:
        masks: Folder of a class and the mask in it, in the order of the folders.
        classes: The classes of the task.
    """

    masks: tuple[tuple[str, MaskLabel], ...]
    classes: ClassTable

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for _, mask in self.masks for path in mask.files)

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {
            "kind": "class_masks",
            "form": self.classes.form,
            "masks": [dict(mask.recipe()) for _, mask in self.masks],
        }

    def paint(self, grid: Grid) -> np.ndarray:
        """(H, W) class ids or sets of bits; see :class:`maskwright.data.sources.label.Label`.

        Raises:
            DataError: If a mask cannot be read, has another size or holds more than one class, or if two classes that
                exclude each other are painted in one place.
        """
        return self.paint_and_tell(grid)[0]

    def paint_and_tell(self, grid: Grid) -> tuple[np.ndarray, dict[str, Any]]:
        """What :meth:`paint` gives, and ``form``: what the values were taken as."""
        out = np.zeros((grid.height, grid.width), label_dtype(self.classes.form))
        uncounted = np.zeros(out.shape, np.bool_)
        forms, notes = set(), []
        for folder, mask in self.masks:
            plane, told = mask.paint_and_tell(grid)
            forms.add(told["form"])
            notes += told.get("notes", ())
            ignored = plane == not_counted(self.classes.form)
            uncounted |= ignored
            plane[ignored] = 0
            if self.classes.form == "multilabel":
                out |= plane
                continue
            self._require_apart(out, plane, folder, mask)
            np.copyto(out, plane, where=plane > 0)
        out[uncounted] = not_counted(self.classes.form)
        form = min(forms - {"empty", "none"}, default="empty" if forms else "none")
        return out, {"form": form, **({"notes": notes} if notes else {})}

    def instances(self, grid: Grid) -> None:
        """None: a mask does not tell objects apart."""
        return

    def _require_apart(self, out: np.ndarray, plane: np.ndarray, folder: str, mask: MaskLabel) -> None:
        both = (out > 0) & (plane > 0) & (out != plane)
        if both.any():
            other = self.classes.name_of(int(out[both][0]))
            raise DataError(
                f"{printable(mask.path or mask.image)} paints {folder} on {int(both.sum())} pixels that another mask "
                f"paints {other}, and classes of a {self.classes.form} task exclude each other. Correct the masks, or "
                "set task.kind: multilabel."
            )


def open_class_masks(
    images: Mapping[str, Path],
    folders: ClassFolders,
    *,
    classes_config: Sequence[tuple[str, Sequence[Value]]] = (),
    background: str | None = "background",
    form: Form = "multilabel",
    background_values: Sequence[Value] = (0,),
    ignore_values: Sequence[Value] = (),
    missing: Missing = "refuse",
) -> LabelSet:
    """The masks of images, a folder for each class, as labels. An image without a mask of a class shows none of it.

    Args:
        images: Name to file.
        folders: From :func:`find_class_masks`.
        classes_config: Name of each class; its values are names of folders, unset: its own name. Empty: the folders.
        background: Name of class 0; None if every pixel belongs to a named class.
        form: What the task makes of the classes.
        background_values: Names of folders whose masks mean background.
        ignore_values: Names of folders whose masks mean pixels that do not count.
        missing: What to do with images without a mask of any class.

    Raises:
        DataError: If the classes make no sense.
    """
    aside = {str(value) for value in (*background_values, *ignore_values)}
    classes = ClassTable.from_config(
        classes_config, background, form, [name for name in folders.masks if name not in aside]
    )
    codes = MaskCodes.automatic(classes)
    own = {name: class_code(name, codes, background_values, ignore_values) for name in folders.masks}
    unknown = [name for name, code in own.items() if code < 0]
    faults = list(folders.faults)
    if unknown:
        faults.append(
            f"{folders.searched} has folders of masks that no class means: {some(unknown)}. Classes: "
            f"{classes.listed()}. Add them to data.labels.classes, or name them in ignore_values or background_values."
        )
    has_mask = folders.images
    notes, more = missing_masks(images, has_mask, missing, folders.searched)
    labels: dict[str, Label] = {}
    for name, image in images.items():
        if name in has_mask or missing == "empty":
            masks = [
                (folder, MaskLabel(files[name], image, codes, own[folder], folder))
                for folder, files in folders.masks.items()
                if name in files and own[folder] >= 0
            ]
            labels[name] = ClassMasks(tuple(masks), classes)
    return LabelSet(classes, labels, (*folders.notes, *notes), (*faults, *more))

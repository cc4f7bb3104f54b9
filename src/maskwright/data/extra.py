"""Images with masks made by a model: named by an ``extra.json``, trained on, never scored.

The file lists images and masks; a mask is a PNG of ids as labels hold them, of the size its image has on disk. Images
stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.data.regions import Region, Split
from maskwright.data.sources.classes import ClassTable, Form, label_dtype, not_counted
from maskwright.data.sources.image_header import printable
from maskwright.data.sources.images import ImageItem, ImageScenes
from maskwright.data.tiles import tiles_within, window_shares
from maskwright.errors import DataError
from maskwright.files import read_json, write_json
from maskwright.types import Place

if TYPE_CHECKING:
    from maskwright.data.sources.interface import Grid

__all__ = ["EXTRA_FILE", "ExtraImage", "ExtraMask", "extra_names", "read_extra", "with_extra", "write_extra"]

EXTRA_FILE = "extra.json"
"""Name of the file that lists the images of a folder."""

_VERSION = 1
_PREFIX = "extra:"  # no file has a colon and a name of its own behind it
_ROUNDING = 1e-9  # of a share


@dataclass(frozen=True)
class ExtraImage:
    """An image and its mask.

    Attributes:
        name: Unique in its folder.
        image: The image's file.
        mask: The mask's file.
    """

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class ExtraMask:
    """A mask of ids, implementing :class:`maskwright.data.sources.label.Label`."""

    path: Path
    form: Form
    num_ids: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def recipe(self) -> Mapping[str, Any]:
        """Plain values that change what is painted."""
        return {"kind": "extra", "form": self.form, "ids": self.num_ids}

    def paint(self, grid: Grid) -> np.ndarray:
        """(H, W) ids or sets of bits; see :class:`maskwright.data.sources.label.Label`.

        Raises:
            DataError: If the mask cannot be read, has another size than its image, or holds an id of no class.
        """
        import PIL.Image

        try:
            with PIL.Image.open(self.path) as file:
                ids = np.asarray(file).astype(label_dtype(self.form))
        except (OSError, ValueError) as error:
            raise DataError(f"{printable(self.path)} cannot be read: {error}. Make the pseudo-labels anew.") from error
        if ids.shape != (grid.height, grid.width):
            raise DataError(
                f"{printable(self.path)} is {ids.shape[0]} x {ids.shape[1]} px and its image {grid.height} x "
                f"{grid.width} px. Make the pseudo-labels anew."
            )
        known = ids != not_counted(self.form)
        most = 2**self.num_ids if self.form == "multilabel" else self.num_ids
        if known.any() and int(ids[known].max()) >= most:
            raise DataError(
                f"{printable(self.path)} holds the id {int(ids[known].max())}, which is no class of these data. Make "
                "the pseudo-labels anew, with this experiment."
            )
        return ids

    def instances(self, grid: Grid) -> None:
        """None: a mask does not tell objects apart."""
        return


def write_extra(folder: Path, images: Sequence[ExtraImage], classes: ClassTable) -> None:
    """Write the list; masks lie below ``folder``.

    Raises:
        RunError: If the disk refuses.
    """
    entries = [{"name": one.name, "image": str(one.image), "mask": str(one.mask.relative_to(folder))} for one in images]
    write_json(folder / EXTRA_FILE, {"version": _VERSION, "classes": classes.to_dict(), "images": entries})


def read_extra(folder: Path, classes: ClassTable) -> list[ImageItem]:
    """The images of a folder as those of a source, with masks of the same classes.

    Raises:
        DataError: If there is no list, it is damaged, or its masks are of other classes.
    """
    file = folder / EXTRA_FILE
    if not file.is_file():
        raise DataError(f"data.extra.folder: {folder} has no {EXTRA_FILE}. Name a folder that pseudo-labels have made.")
    try:
        content = read_json(file, error=DataError)
        theirs, ours = content["classes"], classes.to_dict()
        if content["version"] != _VERSION:
            raise DataError(f"{file} is of version {content['version']}, this Maskwright reads version {_VERSION}.")
        if (theirs["names"], theirs["form"]) != (ours["names"], ours["form"]):
            raise DataError(
                f"data.extra.folder: the masks of {folder} are of {theirs['form']} classes "
                f"{', '.join(theirs['names'])}, these data of {ours['form']} classes {', '.join(ours['names'])}. Make "
                "the pseudo-labels anew."
            )
        return [
            ImageItem(
                f"{_PREFIX}{entry['name']}",
                Path(entry["image"]),
                ExtraMask(folder / entry["mask"], classes.form, classes.num_ids),
            )
            for entry in content["images"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged: {type(error).__name__} {error}. Make the pseudo-labels anew.") from error


def extra_names(source: ImageScenes) -> frozenset[str]:
    """The images of a source whose mask a model made."""
    return frozenset(item.name for item in source.items if isinstance(item.label, ExtraMask))


def with_extra(split: Split, source: ImageScenes, *, overlap_px: int, min_valid: float) -> Split:
    """A split of the labelled images with all images of made masks in its training part.

    Args:
        split: Of the others; its tile size is used.
        source: All images.
        overlap_px: Of training tiles.
        min_valid: A tile is kept if at least this share of its pixels counts.
    """
    names = extra_names(source)
    scenes = [scene for scene in source.scenes if scene.name in names]
    least, places = max(min_valid - _ROUNDING, _ROUNDING), []
    for scene in scenes:
        grid = scene.grid
        windows = tiles_within(grid.window, grid.height, grid.width, split.tile_px, overlap_px)
        shares = window_shares(lambda px, name=scene.name: source.valid_share(name, px), windows)  # type: ignore[misc]
        places += [Place(scene.name, windows[index]) for index in np.flatnonzero(shares >= least)]
    return replace(
        split,
        regions=(*split.regions, *(Region(scene.name, "train", scene.grid.window) for scene in scenes)),
        tiles={**split.tiles, "train": (*split.tiles["train"], *places)},
        grids={**split.grids, **{scene.name: scene.grid for scene in scenes}},
        notes=(*split.notes, f"{len(scenes)} images with masks made by a model are in the training part alone"),
    )

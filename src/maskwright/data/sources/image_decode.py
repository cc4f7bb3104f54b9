"""One image and its label, decoded: what is stored of them, how many bytes that takes, and how it is filled in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.data.sources.classes import Form, label_dtype, not_counted
from maskwright.data.sources.image_file import (
    Bands,
    ImageFormat,
    ImageReader,
    resize_image,
    resize_nearest,
    resized_grid,
)
from maskwright.data.sources.image_header import ImageHeader
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.label import Label, TellingLabel
from maskwright.errors import DataError
from maskwright.types import Window

__all__ = ["ImagePlan", "Planes", "count_ids", "decode"]

_ALIGNED = 64
_BAND_BYTES = 32 * 2**20  # of a large raster read at once
_MOST_CENTRES = 512
_CENTRE_EVERY_PX = 256  # so that small images keep few


@dataclass(frozen=True)
class Planes:
    """A decoded image.

    Attributes:
        values: (C, H, W) as stored; 0 where the image is not valid.
        label: (H, W) ids or sets of bits; the mark of what does not count where label or image are not valid.
        valid: (H, W) bool of the image alone; None if all of it is valid.
        centres: (ids, N, 2) int32 row and column of some pixels of each id; -1 where there are no more.
    """

    values: np.ndarray
    label: np.ndarray
    valid: np.ndarray | None
    centres: np.ndarray


@dataclass(frozen=True)
class ImagePlan:
    """What is to be decoded, known from the header alone.

    Attributes:
        name: The image's.
        header: Its file's.
        bands: Which are used.
        format: How it is read.
        label: What is painted; None: no pixel counts.
        form: What the task makes of the classes.
        num_ids: Different ids of a label.
    """

    name: str
    header: ImageHeader
    bands: Bands
    format: ImageFormat
    label: Label | None
    form: Form
    num_ids: int

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything it is decoded from."""
        return (self.path, *(self.label.files if self.label is not None else ()))

    @cached_property
    def grid(self) -> Grid:
        """Of the decoded image."""
        size = self.format.resize_px
        return self.header.grid if size is None else resized_grid(self.header.grid, size)

    def reader(self) -> ImageReader:
        """The file, opened in its original size."""
        format = ImageFormat(alpha=self.format.alpha, nodata=self.format.nodata)
        return ImageReader(self.header, self.bands, format)

    @cached_property
    def has_valid(self) -> bool:
        """True if the image may have pixels that do not count."""
        return not self.reader().always_valid

    @cached_property
    def _layout(self) -> list[tuple[int, tuple[int, ...], np.dtype[Any]]]:
        """First byte, shape and type of values, label, centres and, if need be, valid."""
        height, width = self.grid.height, self.grid.width
        centres = min(_MOST_CENTRES, max(16, height * width // _CENTRE_EVERY_PX))
        arrays: list[tuple[tuple[int, ...], np.dtype[Any]]] = [
            ((len(self.bands.chosen), height, width), np.dtype(self.bands.dtype)),
            ((height, width), label_dtype(self.form)),
            ((self.num_ids, centres, 2), np.dtype(np.int32)),
        ]
        if self.has_valid:
            arrays.append(((height, width), np.dtype(np.bool_)))
        layout, start = [], 0
        for shape, dtype in arrays:
            layout.append((start, shape, dtype))
            start += -(-math.prod(shape) * dtype.itemsize // _ALIGNED) * _ALIGNED
        layout.append((start, (), np.dtype(np.uint8)))
        return layout

    @property
    def nbytes(self) -> int:
        """Bytes of all planes."""
        return self._layout[-1][0]

    def planes(self, stored: np.ndarray) -> Planes:
        """The planes in (nbytes,) uint8, as views."""
        arrays = [
            stored[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
            for start, shape, dtype in self._layout[:-1]
        ]
        return Planes(arrays[0], arrays[1], arrays[3] if self.has_valid else None, arrays[2])

    def recipe(self, hash_of: Callable[[Path], str]) -> dict[str, Any]:
        """Plain values that change what is decoded; ``hash_of`` gives the hash of a file's content."""
        settings = {**self.format.to_dict(), "bands": list(self.bands.chosen), "pixel_size_m": None}
        return {
            "files": [hash_of(path) for path in self.files],
            "format": settings,
            "label": None if self.label is None else dict(self.label.recipe()),
            "form": self.form,
            "ids": self.num_ids,
        }


def decode(plan: ImagePlan, out: Planes) -> dict[str, Any]:
    """Fill the planes of an image.

    Returns:
        Facts as plain values: ``valid_px`` pixels that count, ``counts`` as
        :meth:`maskwright.data.sources.images.ImageScenes.class_counts` gives them, ``notes`` on the files, and ``told``
        by the label.

    Raises:
        DataError: If a file is damaged or its label does not fit.
    """
    notes = _decode_values(plan, out)
    told = _decode_label(plan, out)
    counts = count_ids(out.label, plan.form, plan.num_ids)
    _fill_centres(out, plan.form)
    valid_px = counts[-1] if plan.form == "multilabel" else counts.sum()
    return {
        "valid_px": int(valid_px),
        "counts": [int(count) for count in counts],
        "notes": list(notes),
        "told": told,
    }


def count_ids(label: np.ndarray, form: Form, num_ids: int) -> np.ndarray:
    """Pixels of each id that count, int64: (ids,); for labels that may overlap (labels + 1,), all that count last."""
    if form != "multilabel":
        return np.bincount(label.ravel(), minlength=256)[:num_ids].astype(np.int64)
    counts = np.bincount(label.ravel(), minlength=1)
    found = np.flatnonzero(counts)
    found = found[found != not_counted(form)]
    bits = (found[:, None] >> np.arange(num_ids)) & 1
    return np.append(counts[found] @ bits, counts[found].sum()).astype(np.int64)


def _decode_values(plan: ImagePlan, out: Planes) -> tuple[str, ...]:
    """Values and validity; large rasters in bands of rows."""
    reader = plan.reader()
    with reader:
        if plan.format.resize_px is not None:
            values, valid = reader.read(reader.grid.window)
            out.values[...], valid = _resized(values, valid, plan.format.resize_px)
            if out.valid is not None:
                out.valid[...] = valid
            return reader.notes
        grid = reader.grid
        per_row = grid.width * out.values.shape[0] * out.values.itemsize
        step = max(1, _BAND_BYTES // per_row // 256 * 256) if reader.streams else grid.height
        for row in range(0, grid.height, step):
            rows = slice(row, min(row + step, grid.height))
            values, valid = reader.read(Window(row, 0, rows.stop - row, grid.width))
            out.values[:, rows] = values
            if out.valid is not None:
                out.valid[rows] = valid
    return reader.notes


def _resized(values: np.ndarray, valid: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    return resize_image(values, valid, size)


def _decode_label(plan: ImagePlan, out: Planes) -> dict[str, Any]:
    if plan.label is None:
        out.label[...] = not_counted(plan.form)
        return {}
    original = plan.header.grid
    told: Mapping[str, Any] = {}
    if isinstance(plan.label, TellingLabel):
        plane, told = plan.label.paint_and_tell(original)
    else:
        plane = plan.label.paint(original)
    if plane.shape != (original.height, original.width) or plane.dtype != out.label.dtype:
        raise DataError(
            f"The label of {plan.name} is {plane.shape} {plane.dtype}, its image needs "
            f"{(original.height, original.width)} {out.label.dtype}. This is a fault of the label's source."
        )
    out.label[...] = plane if plan.format.resize_px is None else resize_nearest(plane, plan.format.resize_px)
    if out.valid is not None:
        out.label[~out.valid] = not_counted(plan.form)
    return dict(told)


def _fill_centres(out: Planes, form: Form) -> None:
    most = out.centres.shape[1]
    out.centres[...] = -1
    flat = np.ascontiguousarray(out.label).ravel()
    counted = flat != not_counted(form)
    for index, rows in enumerate(out.centres):
        here = ((flat >> index) & 1).astype(np.bool_) & counted if form == "multilabel" else flat == index
        places = np.flatnonzero(here)
        if len(places) > most:
            places = places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]
        rows[: len(places), 0], rows[: len(places), 1] = np.divmod(places, out.label.shape[1])

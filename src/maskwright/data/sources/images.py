"""Photographs and multi-band rasters with labels as a source: decoded once, read as windows ready for a network."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from maskwright.data.cache import Cache, default_cache_folder, release
from maskwright.data.sources.classes import ClassTable, not_counted
from maskwright.data.sources.file_hashes import in_threads
from maskwright.data.sources.folders import some
from maskwright.data.sources.image_decode import ImagePlan, count_ids
from maskwright.data.sources.image_file import ImageFormat, choose_bands
from maskwright.data.sources.image_header import printable, read_header
from maskwright.data.sources.image_store import ImageStore
from maskwright.data.sources.interface import Scene
from maskwright.data.sources.label import Label
from maskwright.data.sources.mask_files import review_masks
from maskwright.errors import DataError, GridError, UnreadableError
from maskwright.types import Place, Window

__all__ = ["ImageFormat", "ImageItem", "ImageNormaliser", "ImageScenes"]

_LARGEST = {"uint8": 255, "uint16": 65535}
_MOST_FAULTS = 50  # told one by one


@dataclass(frozen=True)
class ImageItem:
    """One image and what is known about it before it is opened.

    Attributes:
        name: Unique; its path below the data's folder without the ending.
        path: Its file.
        label: Its label; None: none of its pixels counts.
        part: ``train``, ``val`` or ``test`` where its folder says so, else None.
        group: Images of one group must stay in one part of a split; None: it is a group of its own.
    """

    name: str
    path: Path
    label: Label | None = None
    part: str | None = None
    group: str | None = None


class ImageNormaliser(Protocol):
    """What turns stored values into network input."""

    def normalise(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """(C, H, W) float32, 0 where not valid."""


class ImageScenes:
    """Images with labels, implementing :class:`maskwright.data.sources.interface.Source`.

    Opening reads all headers, then decodes what is not in the cache yet, so that every fault of every file is told at
    once. Afterwards no source file is read again, unless the cache has no room. Objects may be pickled and forked.

    Args:
        items: The images; names differ.
        format: How files are read.
        classes: What the ids of labels mean.
        normaliser: From stored values to network input; may be set later, before the first sample is read.
        cache: Where decoded planes lie; default the user's cache folder.
        unreadable: ``refuse`` files that cannot be decoded, or ``skip`` them with a note.
        notes: Notes on the whole source, passed on.
        faults: Faults found before, told together with those found here.

    Attributes:
        scenes: One scene for each image, in the order given.
        items: The images that are used, in the same order.
        in_channels: Bands of an image.
        band_names: Their names, as the first image gives them.
        classes: As given.
        dtype: Type of the stored values: ``uint8``, ``uint16`` or ``float32``.
        largest: Largest value of that type; None for floats.
        format: As given.
        normaliser: From stored values to network input.
        notes: What a person should know about the source, a sentence each.
        cache: Where decoded planes lie.

    Raises:
        DataError: Listing every fault of every file.
    """

    def __init__(
        self,
        items: Iterable[ImageItem],
        format: ImageFormat,
        classes: ClassTable,
        *,
        normaliser: ImageNormaliser | None = None,
        cache: Cache | None = None,
        unreadable: Literal["refuse", "skip"] = "refuse",
        notes: Sequence[str] = (),
        faults: Sequence[str] = (),
    ) -> None:
        self.format = format
        self.classes = classes
        self.normaliser = normaliser
        self.cache = cache or Cache(default_cache_folder())
        items = tuple(items)
        told = [*faults, *_twice(items)]
        if not items:
            _refuse(told or ["There is no image to use. Set data.folder or data.images."])
        plans, skipped, more = _plans(items, format, classes, unreadable == "skip")
        told += [*more, *_differences(plans)]
        self._store = ImageStore(plans, self.cache, skip_unreadable=unreadable == "skip")
        skipped.update(self._store.skipped)
        reviewed, more = review_masks(_told(self._store.facts))
        _refuse([*told, *_not_told(self._store.faults, plans, told), *more])
        self._plans = {plan.name: plan for plan in plans if plan.name in self._store.facts}
        if not self._plans:
            _refuse([f"None of the {len(items)} images can be read: {some(skipped.values(), 3)}"])
        self.items = tuple(item for item in items if item.name in self._plans)
        first = next(iter(self._plans.values()))
        self.in_channels = len(first.bands.chosen)
        self.band_names = first.bands.names
        self.dtype = first.bands.dtype
        self.largest: int | None = _LARGEST.get(self.dtype)
        self.scenes = tuple(self._scene(item) for item in self.items)
        self._by_name = {scene.name: scene for scene in self.scenes}
        self.notes = (*notes, *self._found_notes(skipped, reviewed))

    # --- windows ---

    def read(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Image (C, H, W) float32, normalised, 0 where not valid; valid (H, W) bool."""
        values, valid = self.pixels(scene, window)
        return self._normalised(values, valid), valid

    def label(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Target (H, W) int64 ids or sets of bits, 0 where not valid; valid (H, W) bool of label and image both."""
        return self._target(_window_of(self._planes(scene).label, window, not_counted(self.classes.form)))

    def sample(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Image (C, H, W), target (H, W), valid (H, W): valid where both are, 0 elsewhere."""
        planes = self._planes(scene)
        target, valid = self._target(_window_of(planes.label, window, not_counted(self.classes.form)))
        return self._normalised(_window_of(planes.values, window, 0), valid), target, valid

    def pixels(self, scene: str, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (C, H, W) as stored, 0 where not valid; valid (H, W) bool of the image alone."""
        planes = self._planes(scene)
        values = np.array(_window_of(planes.values, window, 0))
        if planes.valid is not None:
            return values, np.array(_window_of(planes.valid, window, 0))
        valid = np.zeros((window.height, window.width), np.bool_)
        inside = window.intersection(Window(0, 0, *planes.label.shape))
        if inside is not None:
            row, col = inside.row - window.row, inside.col - window.col
            valid[row : row + inside.height, col : col + inside.width] = True
        return values, valid

    def picture(self, scene: str, window: Window) -> np.ndarray:
        """(H, W, 3) uint8 for people to look at: red, green and blue or the first bands; black where not valid.

        Values of more than 8 bits are stretched between the percentiles 2 and 98 of the window, band by band.
        """
        values, valid = self.pixels(scene, window)
        shown = values[self._shown_bands()]
        if shown.dtype == np.uint8:
            return np.ascontiguousarray(shown.transpose(1, 2, 0))
        out = np.zeros((window.height, window.width, 3), np.uint8)
        if valid.any():
            low, high = np.percentile(shown[:, valid].astype(np.float64), (2, 98), axis=1)
            scale = 255.0 / np.maximum(high - low, 1e-12)
            stretched = (shown.transpose(1, 2, 0) - low) * scale
            out[valid] = np.clip(stretched[valid], 0, 255).astype(np.uint8)
        return out

    # --- what there is ---

    def scene(self, name: str) -> Scene:
        """The scene of this name.

        Raises:
            DataError: If there is none.
        """
        self._plan(name)
        return self._by_name[name]

    @property
    def cached(self) -> bool:
        """True if images are decoded once and read from memory-mapped files; False if they are decoded anew."""
        return not self._store.is_loose

    @property
    def fingerprint(self) -> str:
        """A hash of all that was decoded: files, labels and how they are read."""
        return self._store.fingerprint

    def valid_share(self, scene: str, tile_px: int) -> np.ndarray:
        """(rows, cols) float64 share 0..1 of pixels that count in each tile of the grid anchored at (0, 0).

        The last row and column of tiles may reach past the scene; out there nothing is valid.
        """
        grid = self._plan(scene).grid
        rows, cols = np.arange(0, grid.height, tile_px), np.arange(0, grid.width, tile_px)
        if self._store.facts[scene]["valid_px"] == grid.height * grid.width:
            heights = np.minimum(tile_px, grid.height - rows)
            widths = np.minimum(tile_px, grid.width - cols)
            return np.outer(heights, widths) / float(tile_px) ** 2
        label, ignored = self._planes(scene).label, not_counted(self.classes.form)
        shares = []
        for row in rows:
            valid = label[row : row + tile_px] != ignored
            shares.append(np.add.reduceat(np.count_nonzero(valid, axis=0), cols))
            release(label)
        return np.stack(shares) / float(tile_px) ** 2

    def class_counts(self, place: Place) -> np.ndarray:
        """Pixels of each id that count, int64.

        binary: background, foreground; multiclass: each class; multilabel: pixels with each label, then all that count.
        """
        grid = self._plan(place.scene).grid
        if place.window.intersection(grid.window) == grid.window:
            return np.array(self._store.facts[place.scene]["counts"], np.int64)
        part = _window_of(self._planes(place.scene).label, place.window, not_counted(self.classes.form))
        return count_ids(part, self.classes.form, self.classes.num_ids)

    def centres(self, scene: str) -> Mapping[int, np.ndarray]:
        """Some pixels of each id (of labels that may overlap: of each bit), evenly picked: (N, 2) int32 row, column.

        N is at most 512, less in small images; ids without a pixel are left out.
        """
        centres = self._planes(scene).centres
        kept = {index: rows[rows[:, 0] >= 0] for index, rows in enumerate(centres)}
        return {index: rows for index, rows in kept.items() if len(rows)}

    def pixel_size_m(self, scene: str) -> float | None:
        """Side in metres of a square as large as a pixel; None if neither the file nor the settings say it."""
        plan = self._plan(scene)
        if plan.grid.is_georeferenced and plan.grid.crs is not None:
            try:
                return plan.grid.pixel_size_m
            except GridError:  # angles have no metres
                return None
        if self.format.pixel_size_m is None:
            return None
        before = plan.header.grid
        shrunk = (before.height * before.width) / (plan.grid.height * plan.grid.width)
        return self.format.pixel_size_m * float(np.sqrt(shrunk))

    def tile_notes(self, tile_px: int) -> tuple[str, ...]:
        """One sentence about the images that are smaller than a tile and are therefore padded."""
        small = [scene.name for scene in self.scenes if min(scene.grid.height, scene.grid.width) < tile_px]
        if not small:
            return ()
        return (
            f"{len(small)} images are smaller than a tile of {tile_px} px and are padded with pixels that do not "
            f"count: {some(small, 5)}",
        )

    @property
    def cache_bytes(self) -> int:
        """What all images and their masks take, decoded."""
        value_bytes = {"uint8": 1, "uint16": 2}.get(self.dtype, 4)
        label_bytes = 2 if self.classes.form == "multilabel" else 1
        pixels = sum(scene.grid.height * scene.grid.width for scene in self.scenes)
        return pixels * (self.in_channels * value_bytes + label_bytes)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Facts about each image for the record of a run; plain values that JSON takes."""
        return {scene.name: self._describe(scene) for scene in self.scenes}

    # --- inside ---

    def _plan(self, scene: str) -> ImagePlan:
        try:
            return self._plans[scene]
        except KeyError:
            raise DataError(f"There is no image {scene!r}. Images: {some(self._plans)}.") from None

    def _planes(self, scene: str) -> Any:
        self._plan(scene)
        return self._store.planes(scene)

    def _target(self, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        valid = label != not_counted(self.classes.form)
        target = label.astype(np.int64)
        target *= valid
        return target, valid

    def _normalised(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        if self.normaliser is None:
            raise DataError(
                "The images have no normaliser yet, so they cannot be read as network input. Call "
                "maskwright.data.build.fit_normaliser(config, source, split) first."
            )
        return self.normaliser.normalise(values, valid)

    def _shown_bands(self) -> list[int]:
        folded = [name.casefold() for name in self.band_names]
        if {"red", "green", "blue"} <= set(folded):
            return [folded.index(name) for name in ("red", "green", "blue")]
        return [0, 1, 2] if self.in_channels >= 3 else [0, 0, 0]

    def _scene(self, item: ImageItem) -> Scene:
        plan, facts = self._plans[item.name], self._store.facts[item.name]
        return Scene(item.name, plan.grid, item.group or item.name, plan.files, tuple(facts["notes"]))

    def _found_notes(self, skipped: Mapping[str, str], reviewed: Sequence[str]) -> list[str]:
        notes = []
        if skipped:
            why = some((text for _, text in sorted(skipped.items())), 5)
            notes.append(f"{len(skipped)} images cannot be read and are left out: {why}")
        notes += reviewed
        of_note: defaultdict[str, list[str]] = defaultdict(list)
        for scene in self.scenes:
            for note in scene.notes:
                of_note[note].append(scene.name)
        notes += [f"{len(names)} images: {note} ({some(names, 3)})" for note, names in of_note.items()]
        empty = [name for name, facts in self._store.facts.items() if facts["valid_px"] == 0]
        if empty:
            notes.append(f"{len(empty)} images have no pixel that counts and are of no use: {some(empty)}")
        if self._store.note is not None:
            notes.append(self._store.note)
        return notes

    def _describe(self, scene: Scene) -> dict[str, Any]:
        facts, grid = self._store.facts[scene.name], scene.grid
        counts = facts["counts"][: self.classes.num_ids]
        names = [self.classes.name_of(index) for index in range(self.classes.num_ids)]
        return {
            "height_px": grid.height,
            "width_px": grid.width,
            "pixel_size_m": self.pixel_size_m(scene.name),
            "crs": grid.crs or "none",
            "transform": list(grid.transform),
            "ground": scene.ground,
            "valid_share": facts["valid_px"] / (grid.height * grid.width),
            "pixels": dict(zip(names, counts, strict=True)),
            "files": [{"path": printable(path), "sha256": self._store.hashes[path]} for path in scene.files],
            "notes": list(scene.notes),
        }


# --- opening ----------------------------------------------------------------------------------------------------------


def _plans(
    items: Sequence[ImageItem], format: ImageFormat, classes: ClassTable, skip: bool
) -> tuple[list[ImagePlan], dict[str, str], list[str]]:
    """Plans from headers, images that are left out and why, and faults."""

    def work(item: ImageItem) -> ImagePlan | DataError:
        try:
            header = read_header(item.path)
            bands = choose_bands(header, format)
            return ImagePlan(item.name, header, bands, format, item.label, classes.form, classes.num_ids)
        except DataError as error:
            return error

    plans, skipped, faults = [], {}, []
    for item, found in zip(items, in_threads(work, items), strict=True):
        if isinstance(found, ImagePlan):
            plans.append(found)
        elif skip and isinstance(found, UnreadableError):
            skipped[item.name] = str(found)
        else:
            faults.append(str(found))
    return plans, skipped, faults


def _differences(plans: Sequence[ImagePlan]) -> list[str]:
    """Faults of images that do not go together: other numbers of bands, other types."""
    faults = []
    of_bands: defaultdict[int, list[str]] = defaultdict(list)
    of_type: defaultdict[str, list[str]] = defaultdict(list)
    for plan in plans:
        of_bands[len(plan.bands.chosen)].append(plan.name)
        of_type[plan.bands.dtype].append(plan.name)
    if len(of_bands) > 1:
        kinds = "; ".join(
            f"{count} bands: {len(names)} ({some(names, 3)})" for count, names in sorted(of_bands.items())
        )
        advice = "Convert them to one kind"
        if all(count in (1, 3) for count in of_bands):
            advice = "Grey and coloured images cannot be mixed: convert the grey ones to RGB, or all to grey"
        elif len({plan.bands.alpha is None for plan in plans}) > 1:
            advice = (
                "Some files declare a band as opacity and others do not: set data.alpha: band, if it is data such as "
                "near infrared, or mask or drop"
            )
        elif min(of_bands) >= 3:
            advice = "Say which bands to use, for example data.bands: [1, 2, 3]"
        faults.append(f"The images have different numbers of bands. {kinds}. {advice}.")
    if len(of_type) > 1:
        kinds = "; ".join(f"{kind}: {len(names)} ({some(names, 3)})" for kind, names in sorted(of_type.items()))
        faults.append(f"The images hold values of different types. {kinds}. Write them all in one type.")
    return faults


def _twice(items: Sequence[ImageItem]) -> list[str]:
    counts = Counter(item.name for item in items)
    return [f'{count} images are named "{name}". Names must differ.' for name, count in counts.items() if count > 1]


def _not_told(faults: Mapping[str, DataError], plans: Sequence[ImagePlan], told: Sequence[str]) -> list[str]:
    """Faults of single images, each text once; without those of a label that was found faulty before."""
    uses = Counter(path for plan in plans if plan.label is not None for path in plan.label.files)
    own = {
        plan.name: [printable(path) for path in plan.label.files if uses[path] == 1]
        for plan in plans
        if plan.label is not None
    }
    of_text: defaultdict[str, list[str]] = defaultdict(list)
    for name, error in faults.items():
        text = str(error)
        is_told = any(text in other for other in told)
        if not is_told and not any(text.startswith(path) and path in other for path in own[name] for other in told):
            of_text[text].append(name)
    return [text if len(names) == 1 else f"{some(names, 3)}: {text}" for text, names in of_text.items()]


def _told(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: entry["told"] for name, entry in facts.items() if entry["told"]}


def _refuse(faults: Sequence[str]) -> None:
    """Raise one error that tells all faults; nothing if there are none."""
    if not faults:
        return
    if len(faults) == 1:
        raise DataError(faults[0])
    lines = [f"{len(faults)} faults in the data:", *(f"  {fault}" for fault in faults[:_MOST_FAULTS])]
    if len(faults) > _MOST_FAULTS:
        lines.append(f"  and {len(faults) - _MOST_FAULTS} more")
    raise DataError("\n".join(lines))


def _window_of(plane: np.ndarray, window: Window, outside: int) -> np.ndarray:
    """A window of (H, W) or (C, H, W); a view where it lies inside."""
    height, width = plane.shape[-2:]
    if window.row >= 0 and window.col >= 0 and window.row_stop <= height and window.col_stop <= width:
        return plane[..., window.row : window.row_stop, window.col : window.col_stop]
    part = np.full((*plane.shape[:-2], window.height, window.width), outside, plane.dtype)
    inside = window.intersection(Window(0, 0, height, width))
    if inside is not None:
        row, col = inside.row - window.row, inside.col - window.col
        part[..., row : row + inside.height, col : col + inside.width] = plane[
            ..., inside.row : inside.row_stop, inside.col : inside.col_stop
        ]
    return part

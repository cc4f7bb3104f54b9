"""What a network learns of objects: maps painted from their outlines, boxes or points.

The truth of a tile is a map of ids, warped with the image by the nearest pixel, and a row of facts for each object. All
maps are made from these two after augmentation, so they fit the image whatever was done to it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from maskwright.data.sources.count_maps import centre_map, density_map
from maskwright.data.sources.instances import Instances, crown_diameter_from_area
from maskwright.data.sources.interface import Grid
from maskwright.data.sources.points import PointLabel
from maskwright.data.sources.shapes import Disc, Polygons
from maskwright.errors import DataError
from maskwright.objects import Crop
from maskwright.types import Batch, Place, Window

if TYPE_CHECKING:
    from maskwright.data.sampling import Draw
    from maskwright.data.sources.images import ImageScenes

__all__ = ["UNSURE", "InstanceTruth", "ObjectTruths", "TargetPainter", "ellipse_in"]

log = logging.getLogger("maskwright")

UNSURE = -1
"""In a map of ids: a corner of a box whose object has no outline; it may be part of it or not."""

_UNLIKE = 2.0  # times the outlines' size, from which diameters are probably in another unit
_CORNERS = 48  # of the polygon that stands for an ellipse


@dataclass(frozen=True, eq=False)
class InstanceTruth:
    """The objects of one tile.

    Attributes:
        ids: (H, W) int32: 0, 1 + the position of the object seen there (the smaller on top), or :data:`UNSURE`.
        centres: (N, 2) float32 x, y in pixels; they may lie outside the tile.
        boxes: (N, 4) float32 x0, y0, x1, y1, cut at the tile.
        labels: (N,) int64 class ids.
        diameter: (N,) float32 pixels; NaN where it is not known.
        has_extent: (N,) bool: False for objects of which a point is known only.
        has_outline: (N,) bool: False for boxes and points.
        crowd: (N,) bool: stands for several objects; counts neither way.
        tells_classes: Whether the label tells the class of pixels; points do not.
        pixel_size_m: Side of a pixel in metres; None if it is not known.
        objects: The outlines as the label has them; None once the tile has been changed.
    """

    ids: np.ndarray
    centres: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    diameter: np.ndarray
    has_extent: np.ndarray
    has_outline: np.ndarray
    crowd: np.ndarray
    tells_classes: bool = True
    pixel_size_m: float | None = None
    objects: Instances | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_inside(self) -> np.ndarray:
        """(N,) bool: the centre lies in the tile; every object belongs to the one tile that holds its centre."""
        height, width = self.ids.shape
        return np.asarray(((self.centres >= 0) & (self.centres < np.array([width, height]))).all(axis=1))

    def counted(self, valid: np.ndarray) -> np.ndarray:
        """(N,) bool: no crowd, and the centre lies on a pixel of the tile that counts; ``valid`` (H, W) bool."""
        counted = np.asarray(self.is_inside & ~self.crowd)
        cols, rows = np.floor(self.centres[counted]).astype(np.intp).T
        counted[counted] = valid[rows, cols]
        return counted

    def crops(self) -> tuple[Crop, ...]:
        """The pixels of each object in the tile, overlaps included; of a changed tile those seen."""
        return tuple(self._crop(index) for index in range(len(self)))

    def _crop(self, index: int) -> Crop:
        x0, y0, x1, y1 = self.boxes[index]
        row, col = math.floor(y0), math.floor(x0)
        height, width = max(math.ceil(y1) - row, 1), max(math.ceil(x1) - col, 1)
        if self.objects is None:
            return Crop(row, col, self.ids[row : row + height, col : col + width] == index + 1)
        cut = self.objects.window
        window = Window(cut.row + row, cut.col + col, height, width)
        return Crop(row, col, replace(self.objects.pick([index]), window=window).mask(0))

    def moved(self, draw: Draw) -> InstanceTruth:
        """The truth after what a draw does to the tile: ids from the nearest pixel, diameters by the zoom.

        Centres and boxes follow all but smooth displacements, which are a few pixels.
        """
        from maskwright.data.image_augment_warp import move_boxes, move_points, warp_ids

        size = self.ids.shape[0], self.ids.shape[1]
        return replace(
            self,
            ids=warp_ids(self.ids, draw),
            centres=move_points(self.centres, draw, size),
            boxes=move_boxes(self.boxes, draw, size),
            diameter=self.diameter * np.float32(draw.zoom),
            pixel_size_m=None if self.pixel_size_m is None else self.pixel_size_m / draw.zoom,
            objects=None,
        )


def ellipse_in(box: Sequence[float]) -> Polygons:
    """The ellipse that fills a box as a polygon: what is taken of a crown whose box alone is known."""
    x0, y0, x1, y1 = (float(value) for value in box)
    angle = np.linspace(0.0, 2.0 * math.pi, _CORNERS, endpoint=False)
    x, y = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(angle), (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(angle)
    return Polygons((np.stack((x, y), axis=-1),))


@dataclass(frozen=True, eq=False)
class _SceneObjects:
    """All objects of a scene: ``shown`` has ellipses where only boxes are known."""

    shown: Instances
    centres: np.ndarray
    diameter: np.ndarray
    has_extent: np.ndarray
    has_outline: np.ndarray

    def reaching(self, window: Window) -> np.ndarray:
        """Positions of the objects that reach into a window: those ``Instances.crop`` keeps."""
        corner = np.array([window.col, window.row], np.float32)
        limit = np.array([window.width, window.height], np.float32)
        low, high = (np.clip(edge - corner, 0, limit) for edge in (self.shown.boxes[:, :2], self.shown.boxes[:, 2:]))
        return np.flatnonzero((high > low).all(axis=1))


class ObjectTruths:
    """The objects of any tile of a source; labels are read when first asked for and kept, outlines as they were read.

    Args:
        source: Images with labels.
        object_ids: Class ids of the objects that are found one by one; others are left out, crowds kept.
        crown_unit: Unit of crown diameters in the labels.
        warns: Say once if diameters are of another size than outlines, as they are in another unit.
    """

    def __init__(
        self,
        source: ImageScenes,
        object_ids: Sequence[int],
        crown_unit: Literal["px", "m"] = "px",
        *,
        warns: bool = True,
    ) -> None:
        self._source = source
        self._ids = np.array(object_ids, np.int64)
        self._unit = crown_unit
        self._labels = {item.name: item.label for item in source.items}
        self._known: dict[str, _SceneObjects | None] = {}
        self._is_told = not warns

    def __call__(self, place: Place) -> InstanceTruth | None:
        """The truth of a tile; None where the label has no objects.

        Raises:
            DataError: If crown diameters are in metres and a pixel has no size.
        """
        if place.scene not in self._known:
            self._known[place.scene] = self._read(place.scene)
        scene = self._known[place.scene]
        if scene is None:
            return None
        window = place.window
        chosen = scene.reaching(window)
        objects = scene.shown.pick(chosen).crop(window)
        low = np.array([window.col, window.row], np.float32)
        return InstanceTruth(
            ids=_ids_of(objects, scene.has_outline[chosen], scene.has_extent[chosen]),
            centres=(scene.centres[chosen] - low).astype(np.float32),
            boxes=objects.boxes,
            labels=objects.labels,
            diameter=scene.diameter[chosen],
            has_extent=scene.has_extent[chosen],
            has_outline=scene.has_outline[chosen],
            crowd=objects.crowd,
            tells_classes=not isinstance(self._labels[place.scene], PointLabel),
            pixel_size_m=self._source.pixel_size_m(place.scene),
            objects=objects,
        )

    def _read(self, name: str) -> _SceneObjects | None:
        label, grid = self._labels[name], self._source.scene(name).grid
        found = None if label is None else label.instances(grid)
        if found is None:
            return None
        found = found.pick(np.flatnonzero(np.isin(found.labels, self._ids) | found.crowd))
        is_point = np.array([isinstance(shape, Disc) for shape in found.shapes], np.bool_)
        has_box_only = ~found.has_outline
        shown = replace(
            found,
            shapes=tuple(
                ellipse_in(box) if shape is None else shape
                for shape, box in zip(found.shapes, found.boxes, strict=True)
            ),
        )
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
        for index in np.flatnonzero(is_point):
            point = found.shapes[index]
            assert isinstance(point, Disc)
            centres[index] = point.x, point.y
        return _SceneObjects(
            shown,
            centres.astype(np.float32),
            self._diameters(shown, is_point, name, grid),
            ~is_point,
            ~(is_point | has_box_only),
        )

    def _diameters(self, shown: Instances, is_point: np.ndarray, name: str, grid: Grid) -> np.ndarray:
        """(N,) float32 pixels: as said, else of a circle as large as the outline; NaN for points."""
        said = shown.crown_diameter.astype(np.float32)
        if self._unit == "m" and np.isfinite(said).any():
            size = self._source.pixel_size_m(name)
            if size is None:
                raise DataError(
                    f"{name}: crown diameters are in metres (task.crown_unit: m), and the size of a pixel is not "
                    "known. Set data.pixel_size_m, or task.crown_unit: px."
                )
            said = said / np.float32(size)
        by_area = np.where(is_point, np.float32(np.nan), crown_diameter_from_area(shown))
        self._compare(said / np.maximum(by_area, 1), name)
        diameter: np.ndarray = np.where(np.isfinite(said), said, by_area).astype(np.float32)
        return diameter

    def _compare(self, ratios: np.ndarray, name: str) -> None:
        """Warn once if diameters are of another size than outlines."""
        known = ratios[np.isfinite(ratios)]
        usual = float(np.median(known)) if len(known) else 1.0
        if self._is_told or 1 / _UNLIKE <= usual <= _UNLIKE:
            return
        self._is_told = True
        other = "m" if self._unit == "px" else "px"
        log.warning(
            "%s: crown_diameter is usually %.2g times what outlines or boxes show. Is it in %s? Then set "
            "task.crown_unit: %s.",
            name,
            usual,
            {"m": "metres", "px": "pixels"}[other],
            other,
        )


def _ids_of(objects: Instances, has_outline: np.ndarray, has_extent: np.ndarray) -> np.ndarray:
    ids = objects.id_map()
    for index in np.flatnonzero(~has_outline & has_extent & ~objects.crowd):
        x0, y0, x1, y1 = objects.boxes[index]
        part = ids[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)]
        part[part == 0] = UNSURE
    return ids


class TargetPainter:
    """Gives batches their objects, and the maps a network learns from.

    Maps by name: ``centre`` (B, I, H, W) bells of height 1, a channel for each class of objects; ``offset``
    (B, 2, H, W) x and y in pixels to the centre of the object seen there; ``inside`` (B, H, W) bool where that is
    known; ``diameter`` (B, H, W) pixels, and ``has_diameter`` (B, H, W) bool; ``density`` (B, H, W) objects per pixel;
    ``tells_class`` (B, H, W) bool where the class of a pixel is known; ``has_objects`` (B,) bool. Nothing of them
    counts where the batch is not valid.

    Args:
        truths: From a place to its objects.
        object_ids: Class ids of the objects, in the order of the channels.
        centre_sigma_px: Width of the bells of centres.
        density_sigma_px: Width of the bells of the density; None for no density.
    """

    def __init__(
        self,
        truths: ObjectTruths,
        object_ids: Sequence[int],
        *,
        centre_sigma_px: float = 2.0,
        density_sigma_px: float | None = None,
    ) -> None:
        self._truths = truths
        self._ids = tuple(object_ids)
        self._centre_sigma = centre_sigma_px
        self._density_sigma = density_sigma_px

    def attach(self, batch: Batch) -> Batch:
        """The batch with its objects; before augmentation, which moves them."""
        return replace(batch, instances=[self._truths(place) for place in batch.where])

    def paint(self, batch: Batch) -> Batch:
        """The batch with maps of its objects, on its device."""
        truths = batch.instances or [None] * len(batch)
        valid = batch.valid.cpu().numpy()
        samples = [self.maps(truth, counts) for truth, counts in zip(truths, valid, strict=True)]  # type: ignore[arg-type]
        maps = {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in samples[0]}
        return replace(batch, maps={name: values.to(batch.image.device) for name, values in maps.items()})

    def maps(self, truth: InstanceTruth | None, valid: np.ndarray) -> Mapping[str, np.ndarray]:
        """The maps of one sample, without the first dimension."""
        height, width = valid.shape
        if truth is None:
            return self._without(height, width)
        seen = np.maximum(truth.ids, 0)
        none = np.zeros((1, 2), np.float32)
        centre_of = np.concatenate([none, truth.centres])[seen]
        offset = np.stack((centre_of[..., 0] - np.arange(width) - 0.5, centre_of[..., 1] - 0.5 - _column(height)))
        inside = np.concatenate([np.zeros(1, np.bool_), truth.has_extent & ~truth.crowd])[seen] & valid
        diameter = np.concatenate([np.full(1, np.nan, np.float32), truth.diameter])[seen]
        known = np.isfinite(diameter) & valid
        points = truth.counted(valid)
        grid = Grid(height, width, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
        maps = {
            "centre": np.stack(
                [centre_map(truth.centres[points & (truth.labels == i)], grid, self._centre_sigma) for i in self._ids]
            ),
            "offset": np.where(inside, offset, 0).astype(np.float32),
            "inside": inside,
            "diameter": np.where(known, diameter, 0).astype(np.float32),
            "has_diameter": known,
            "tells_class": valid & (truth.ids != UNSURE) & truth.tells_classes,
            "has_objects": np.array(True),
        }
        if self._density_sigma is not None:
            maps["density"] = density_map(truth.centres[points], grid, self._density_sigma)
        return maps

    def _without(self, height: int, width: int) -> Mapping[str, np.ndarray]:
        """Maps of a sample whose label has no objects: nothing but the classes of its pixels is known."""
        flat, none = np.zeros((height, width), np.float32), np.zeros((height, width), np.bool_)
        maps = {
            "centre": np.zeros((len(self._ids), height, width), np.float32),
            "offset": np.zeros((2, height, width), np.float32),
            "inside": none,
            "diameter": flat,
            "has_diameter": none,
            "tells_class": ~none,
            "has_objects": np.array(False),
        }
        return maps if self._density_sigma is None else {**maps, "density": flat}


def _column(height: int) -> np.ndarray:
    return np.arange(height, dtype=np.float64)[:, None]

"""Files of trees, written as they are found: outlines, inventory table, COCO annotations."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform

from maskwright.errors import PredictionError
from maskwright.files import explain_os_error
from maskwright.objects import FoundObjects
from maskwright.prediction.instances_table import Crowns, Ground, join_crowns, outlines_of
from maskwright.prediction.polygon_files import Polygons, open_polygon_file
from maskwright.prediction.vectorise import placed

__all__ = ["CrownFiles", "column_types"]

_DIGITS = 3
_DEGREE_DIGITS = 8  # about a millimetre


def column_types(ground: Ground, *, with_height: bool) -> dict[str, type]:
    """Columns of a file of crowns and their types."""
    names = join_crowns([]).columns(ground, {}, with_height=with_height)
    return {name: object if name == "class" else int if name == "tree_id" else float for name in names}


class CrownFiles:
    """All files of the trees of one image, filled portion by portion; used inside ``with``.

    Args:
        folder: Where they are written.
        stem: Name of the input.
        ground: Of the pixels.
        names: Class ids to names of trees.
        image: Name, rows and columns of the image file, for COCO.
        scale: (across, down): pixels of that file in one of ``ground``.
        polygons: ``gpkg``, ``geojson`` or None.
        with_height: A column of heights is written.

    Attributes:
        files: By what they are.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        ground: Ground,
        names: Mapping[int, str],
        *,
        image: tuple[str, int, int],
        scale: tuple[float, float] = (1.0, 1.0),
        polygons: str | None = "gpkg",
        with_height: bool = False,
    ) -> None:
        self._ground, self._names, self._scale, self._with_height = ground, names, scale, with_height
        self.files = {"inventory": folder / f"{stem}_inventory.csv", "coco": folder / f"{stem}_coco.json"}
        self._polygons = None
        if polygons is not None:
            self.files["crowns"] = folder / f"{stem}_crowns.{polygons}"
            crs = ground.grid.crs if ground.is_placed else None
            types = column_types(ground, with_height=with_height)
            self._polygons = open_polygon_file(self.files["crowns"], crs, layer="crowns", columns=types)
        self._table = _Table(self.files["inventory"], ground, names, with_height=with_height)
        self._coco = _Coco(self.files["coco"], names, image)
        self._stack = ExitStack()

    def __enter__(self) -> CrownFiles:
        with ExitStack() as stack:
            for file in (self._table, self._coco, self._polygons):
                if file is not None:
                    stack.enter_context(file)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, traceback)

    def add(self, found: FoundObjects, rows: Crowns) -> None:
        """Write some more trees, told from the corner of the scene."""
        if not len(found):
            return
        outlines = outlines_of(found)
        columns = rows.columns(self._ground, self._names, with_height=self._with_height)
        if self._polygons is not None:
            on_ground = placed(outlines, self._ground.grid) if self._ground.is_placed else outlines
            self._polygons.add(Polygons(on_ground, columns))
        self._table.add(rows, columns)
        self._coco.add(outlines, rows, self._scale)


class _TextFile:
    """A text that is written piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO

    def __enter__(self) -> _TextFile:
        try:
            self._file = self._path.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error
        self._put(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with self._file:  # closing writes what is still held
                if kind is None:
                    self._put(self._end())
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error

    def _begin(self) -> str:
        return ""

    def _end(self) -> str:
        return ""

    def _put(self, text: str) -> None:
        try:
            self._file.write(text)
        except OSError as error:
            raise PredictionError(explain_os_error(error, self._path)) from error


class _Table(_TextFile):
    """The inventory: a line for each tree, its place in the map and, where that leads there, on the globe."""

    def __init__(self, path: Path, ground: Ground, names: Mapping[int, str], *, with_height: bool) -> None:
        super().__init__(path)
        self._ground = ground
        self._crs = CRS.from_wkt(ground.grid.crs) if ground.is_placed and ground.grid.crs else None
        self._columns = list(column_types(ground, with_height=with_height))

    def _begin(self) -> str:
        place = ["x", "y"] if self._ground.is_placed else ["x_px", "y_px"]
        globe = ["longitude", "latitude"] if self._crs is not None else []
        return ",".join([*self._columns[:3], *place, *globe, *self._columns[3:], "cut"]) + "\n"

    def add(self, rows: Crowns, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the lines of some trees."""
        xy = self._ground.places(rows.centre_px)
        cells: list[list[object]] = [_rounded(values).tolist() for values in columns.values()]
        digits = _DEGREE_DIGITS if self._crs is not None and self._crs.is_geographic else _DIGITS
        at: list[list[object]] = [np.round(xy[:, axis], digits).tolist() for axis in (0, 1)]
        if self._crs is not None:
            at += [np.round(values, _DEGREE_DIGITS).tolist() for values in self._degrees(xy)]
        cells = [*cells[:3], *at, *cells[3:], np.where(rows.cut, "yes", "no").tolist()]
        writer = csv.writer(self, lineterminator="\n")
        writer.writerows([_plain(cell) for cell in line] for line in zip(*cells, strict=True))

    def write(self, text: str) -> None:
        """What the writer of lines calls."""
        self._put(text)

    def _degrees(self, xy: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        try:
            longitude, latitude = transform(self._crs, "EPSG:4326", xy[:, 0], xy[:, 1])
        except RasterioError as error:
            raise PredictionError(
                f"{self._path}: the raster's CRS does not lead to longitude and latitude ({error}). Reproject it."
            ) from error
        return np.asarray(longitude), np.asarray(latitude)


class _Coco(_TextFile):
    """COCO annotations of one image, one a line, in pixels of its file."""

    def __init__(self, path: Path, names: Mapping[int, str], image: tuple[str, int, int]) -> None:
        super().__init__(path)
        self._names, self._image = names, image
        self._first = True

    def _begin(self) -> str:
        name, height, width = self._image
        images = [{"id": 1, "file_name": name, "height": height, "width": width}]
        categories = [{"id": number, "name": name} for number, name in self._names.items()]
        return f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": ['

    def _end(self) -> str:
        return "\n]}\n"

    def add(self, outlines: npt.NDArray[np.object_], rows: Crowns, scale: tuple[float, float]) -> None:
        """Write the annotations of some trees; holes in crowns are filled, as polygons of COCO have none."""
        moved = shapely.transform(outlines, lambda xy: xy * scale)
        boxes, areas = shapely.bounds(moved), rows.area_px * scale[0] * scale[1]
        across = rows.diameter_px * math.sqrt(scale[0] * scale[1])
        for index, outline in enumerate(moved):
            x0, y0, x1, y1 = boxes[index].tolist()
            entry = {
                "id": int(rows.number[index]),
                "image_id": 1,
                "category_id": int(rows.label[index]),
                "score": round(float(rows.score[index]), 6),
                "bbox": [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)],
                "area": round(float(areas[index]), 3),
                "crown_diameter": round(float(across[index]), 3),
                "iscrowd": 0,
                "segmentation": list(_rings(outline)),
            }
            self._put(("" if self._first else ",") + "\n" + json.dumps(entry))
            self._first = False


def _rings(outline: Any) -> Iterator[list[float]]:
    for part in getattr(outline, "geoms", (outline,)):
        ring = np.asarray(part.exterior.coords)[:-1]
        yield [round(float(value), 3) for value in ring.ravel()]


def _rounded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.round(values, _DIGITS) if values.dtype.kind == "f" else values


def _plain(cell: object) -> object:
    return "" if isinstance(cell, float) and not math.isfinite(cell) else cell

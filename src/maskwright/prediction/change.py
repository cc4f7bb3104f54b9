"""What changed between two maps of the same ground: opened, closed, persistent; raster, polygons and table, in bands.

Pixels that are not valid in one of the two maps are not valid in the comparison, and count for neither.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from maskwright.data.sources.alignment import differences
from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.files import check_writable, explain_os_error, write_bytes, write_json
from maskwright.pictures import RGB
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.geotiff import RowWriter, copy_to_cog, grid_of, mask_reader, open_raster
from maskwright.prediction.outputs import Progress, silent
from maskwright.prediction.polygon_files import PolygonFile, Polygons, open_polygon_file
from maskwright.prediction.postprocess import Gaps, find_gaps, keep_where
from maskwright.prediction.qgis_style import class_style
from maskwright.prediction.shapes import compactness
from maskwright.prediction.vectorise import outline_gaps, pixel_area_m2, placed

__all__ = ["CHANGES", "ENDINGS", "ChangeResult", "ChangeRow", "Plane", "change_codes", "find_map", "map_change"]

CHANGES = {"persistent": 1, "opened": 2, "closed": 3}
"""Values of the raster of change; 0 is in neither map, 255 is not valid in one of them."""

ENDINGS = ("change.tif", "change.gpkg", "change.csv", "change.qml", "change.json")

_COLORS: dict[str, RGB] = {"persistent": (120, 120, 120), "opened": (213, 94, 0), "closed": (0, 158, 115)}
_MAPS = ("*_gaps.tif", "*_mask.tif")
_BAND_PX = 2**20
_COLUMNS = {"change_id": int, "of": object, "change": object, "area_m2": float, "perimeter_m": float}


@dataclass(frozen=True, slots=True)
class Plane:
    """What is compared: where a map holds one height or class.

    Attributes:
        name: ``5 m``, ``crack``.
        band: Band of the map, from 1.
        code: Value in it.
    """

    name: str
    band: int
    code: int


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """Areas of one height or class.

    Attributes:
        of: The height or class.
        before_m2: Area before, where both maps are valid.
        after_m2: Area after.
        opened_m2: Not before, but after.
        closed_m2: Before, but not after.
        persistent_m2: In both.
        opened: Pieces that opened, of the least area or more.
        closed: Pieces that closed.
        persistent: Pieces that stayed.
        valid_m2: Area where both maps are valid.
    """

    of: str
    before_m2: float
    after_m2: float
    opened_m2: float
    closed_m2: float
    persistent_m2: float
    opened: int
    closed: int
    persistent: int
    valid_m2: float


@dataclass(frozen=True)
class ChangeResult:
    """What came of it.

    Attributes:
        rows: One for each height or class that both maps have.
        files: By what they are: ``raster``, ``polygons``, ``table``, ``style``, ``summary``.
        notes: What a person should know.
    """

    rows: tuple[ChangeRow, ...]
    files: dict[str, Path]
    notes: tuple[str, ...]


def find_map(path: str | Path) -> Path:
    """The map that a file is, or that a folder of ``maskwright predict`` holds.

    Raises:
        PredictionError: If there is none, or several.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise PredictionError(
            f"{path} does not exist. Give a map such as maps/north_gaps.tif, or the folder it lies in."
        )
    found = sorted(file for pattern in _MAPS for file in path.glob(pattern))
    if not found:
        raise PredictionError(f"{path} holds no map: no file ends in {' or '.join(p[1:] for p in _MAPS)}.")
    if len(found) > 1:
        raise PredictionError(
            f"{path} holds {len(found)} maps, {found[0].name} and others. Name the one to compare, not the folder."
        )
    return found[0]


def change_codes(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8], codes: tuple[int, int] = (1, 1)
) -> npt.NDArray[np.uint8]:
    """:data:`CHANGES` of two planes of codes, 0 where neither holds the code, 255 where one of them is not valid.

    Args:
        before: (H, W); 255 is not valid.
        after: (H, W).
        codes: What is looked for in each.
    """
    was, now = before == codes[0], after == codes[1]
    found = np.where(was, np.where(now, 1, 3), np.where(now, 2, 0)).astype(np.uint8)
    found[(before == IGNORE_INDEX) | (after == IGNORE_INDEX)] = IGNORE_INDEX
    return found


def map_change(
    before: str | Path,
    after: str | Path,
    out_dir: str | Path,
    *,
    min_area_m2: float = 0.0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ChangeResult:
    """Compare two maps that ``maskwright predict`` made of the same ground at two times.

    Args:
        before: The earlier map, or the folder it lies in.
        after: The later one.
        out_dir: Folder for ``change.tif``, ``change.gpkg``, ``change.csv`` and a style for QGIS.
        min_area_m2: Smaller pieces are no polygons and are not counted; the areas and the raster hold every pixel.
        overwrite: Replace an earlier comparison.
        progress: Called with (done, total, what).

    Raises:
        PredictionError: If the maps do not lie on one grid, have nothing in common, or results exist already.
    """
    first, second, out = find_map(before), find_map(after), Path(out_dir)
    existing = [out / name for name in ENDINGS if (out / name).exists()]
    if existing and not overwrite:
        raise PredictionError(f"{existing[0]} would be replaced. Choose another --out, or add --overwrite.")
    with ExitStack() as stack:
        maps = [stack.enter_context(open_raster(path)) for path in (first, second)]
        grid = _common_grid(maps, (first, second))
        pairs, notes = _common_planes(maps, (first, second))
        pixels = grid.height * grid.width * len(pairs)
        check_writable(out, need_bytes=2 * pixels)
        try:
            out.mkdir(parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".change_", dir=out)))
        except OSError as error:
            raise PredictionError(explain_os_error(error, out)) from error
        job = _Job(maps, grid, pairs, min_area_m2, progress or silent)
        rows = job.run(folder)
        files = {"raster": "change.tif", "polygons": "change.gpkg", "table": "change.csv", "style": "change.qml"}
        write_bytes(folder / "change.csv", _table(rows).encode("utf-8"), error=PredictionError)
        summary = {"before": str(first), "after": str(second), "min_area_m2": min_area_m2, "notes": list(notes)}
        write_json(folder / "change.json", summary | {"rows": [asdict(row) for row in rows]}, error=PredictionError)
        files["summary"] = "change.json"
        try:
            for name in files.values():
                os.replace(folder / name, out / name)
        except OSError as error:
            raise PredictionError(explain_os_error(error, out)) from error
    return ChangeResult(rows, {what: out / name for what, name in files.items()}, notes)


class _Job:
    """Two open maps on their way to a comparison."""

    def __init__(
        self,
        maps: Sequence[Any],
        grid: Grid,
        pairs: Sequence[tuple[Plane, Plane]],
        min_area_m2: float,
        progress: Progress,
    ) -> None:
        self.maps, self.grid, self.pairs, self.progress = maps, grid, pairs, progress
        self.pixel_m2 = pixel_area_m2(grid)
        self.least_px = min_area_m2 / self.pixel_m2 * (1 - 1e-9)

    def run(self, folder: Path) -> tuple[ChangeRow, ...]:
        """All files in ``folder`` but the tables."""
        part = folder / "change.part.tif"
        counts = self._stream(part)
        rows = []
        with (
            open_raster(part) as changes,
            open_polygon_file(
                folder / "change.gpkg", self.grid.crs, layer="changes", columns=_COLUMNS | {"compactness": float}
            ) as polygons,
        ):
            next_id = 1
            for index, (plane, _) in enumerate(self.pairs):
                self.progress(index, len(self.pairs), "polygons")
                pieces = {}
                for kind, code in CHANGES.items():
                    pieces[kind] = self._pieces(polygons, mask_reader(changes, index + 1, code), plane, kind, next_id)
                    next_id += pieces[kind]
                rows.append(self._row(plane.name, counts[index], pieces))
        self.progress(0, 1, "rasters")
        copy_to_cog(part, folder / "change.tif", resampling="nearest")
        class_style(folder / "change.qml", None, [("neither", 0, None), *_styled()])
        return tuple(rows)

    def _stream(self, path: Path) -> npt.NDArray[np.int64]:
        """Write the codes; pixels of each code 0 to 3 by plane."""
        counts = np.zeros((len(self.pairs), 4), np.int64)
        step = max(1, _BAND_PX // self.grid.width)
        names = [plane.name for plane, _ in self.pairs]
        tags = {"MASKWRIGHT_CHANGES": ",".join(f"{code}={name}" for name, code in CHANGES.items())}
        with RowWriter(path, self.grid, dtype="uint8", nodata=IGNORE_INDEX, names=names, tags=tags) as writer:
            for row in range(0, self.grid.height, step):
                window = ((row, min(row + step, self.grid.height)), (0, self.grid.width))
                for index, pair in enumerate(self.pairs):
                    before, after = (
                        one.read(plane.band, window=window) for one, plane in zip(self.maps, pair, strict=True)
                    )
                    codes = change_codes(before, after, (pair[0].code, pair[1].code))
                    counts[index] += np.bincount(codes[codes != IGNORE_INDEX], minlength=4)
                    writer.write_band(index + 1, row, codes)
                self.progress(window[0][1], self.grid.height, "rows")
        return counts

    def _pieces(
        self,
        polygons: PolygonFile,
        read: Callable[[int, int], npt.NDArray[np.bool_]],
        plane: Plane,
        kind: str,
        next_id: int,
    ) -> int:
        """Write the pieces of one change; how many there are."""
        gaps: Gaps = find_gaps(read, self.grid.height, self.grid.width)
        gaps = keep_where(gaps, gaps.area_px >= self.least_px)
        for numbers, outlines in outline_gaps(gaps, read):
            geometry = placed(outlines, self.grid)
            area = gaps.area_px[numbers].astype(np.float64) * self.pixel_m2
            perimeter = shapely.length(geometry) * self.grid.metres_per_unit
            columns = {
                "change_id": numbers + next_id,
                "of": np.full(len(numbers), plane.name, dtype=object),
                "change": np.full(len(numbers), kind, dtype=object),
                "area_m2": area,
                "perimeter_m": perimeter,
                "compactness": compactness(area, perimeter),
            }
            polygons.add(Polygons(geometry, columns))
        return len(gaps)

    def _row(self, name: str, counts: npt.NDArray[np.int64], pieces: dict[str, int]) -> ChangeRow:
        neither, persistent, opened, closed = (float(count * self.pixel_m2) for count in counts)
        return ChangeRow(
            of=name,
            before_m2=persistent + closed,
            after_m2=persistent + opened,
            opened_m2=opened,
            closed_m2=closed,
            persistent_m2=persistent,
            **pieces,
            valid_m2=neither + persistent + opened + closed,
        )


def _styled() -> list[tuple[str, int, RGB | None]]:
    return [(name, code, _COLORS[name]) for name, code in CHANGES.items()]


def _common_grid(maps: Sequence[Any], paths: tuple[Path, Path]) -> Grid:
    grids = [grid_of(one) for one in maps]
    for one, path in zip(maps, paths, strict=True):
        if set(one.dtypes) != {"uint8"}:
            raise PredictionError(
                f"{path} holds {one.dtypes[0]} values. Give the map of gaps or classes, not {path.name}."
            )
    found = differences(*grids)
    if found:
        raise PredictionError(
            f"{paths[0]} and {paths[1]} lie on different grids: {'; '.join(found)}. Bring both inputs to one grid "
            "before they are predicted, for example with rio warp --like; maps cannot be compared pixel by pixel so."
        )
    return grids[0]


def _common_planes(maps: Sequence[Any], paths: tuple[Path, Path]) -> tuple[list[tuple[Plane, Plane]], tuple[str, ...]]:
    """The heights or classes that both maps have; and notes on the others."""
    first, second = ({plane.name: plane for plane in _planes(one)} for one in maps)
    both = [(plane, second[name]) for name, plane in first.items() if name in second]
    if not both:
        raise PredictionError(
            f"{paths[0]} holds {', '.join(first)} and {paths[1]} holds {', '.join(second)}: nothing can be compared. "
            "Predict both with the same model and the same --heights."
        )
    notes = [
        f"{path.name} alone holds {', '.join(left)}, which is not compared"
        for path, own, other in ((paths[0], first, second), (paths[1], second, first))
        if (left := [name for name in own if name not in other])
    ]
    hashes = [one.tags().get("MASKWRIGHT_MODEL_SHA256") for one in maps]
    if None not in hashes and hashes[0] != hashes[1]:
        notes.append("the maps were made by different models, so part of the change may be theirs")
    return both, tuple(notes)


def _planes(one: Any) -> list[Plane]:
    names = one.tags().get("MASKWRIGHT_CLASSES")
    if names is not None and one.count == 1 and one.descriptions[0] == "class":
        return [Plane(name, 1, code) for code, name in enumerate(names.split(",")) if code > 0]
    return [Plane(name or f"band {band}", band, 1) for band, name in enumerate(one.descriptions, start=1)]


def _table(rows: Sequence[ChangeRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()

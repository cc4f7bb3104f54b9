"""From one image of any size to its trees: maps are stitched, trees grouped block by block, files written as they come.

Memory holds one block of maps, the trees at its seams and a row of numbers for each tree; outlines go to the files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio

from maskwright.config.prediction import PredictionConfig
from maskwright.data.sources.image_file import ImageReader
from maskwright.data.sources.interface import Grid
from maskwright.errors import GridError, PredictionError
from maskwright.files import write_json
from maskwright.metrics.stand import ALL, Stand, describe_stand
from maskwright.models.grouping import group
from maskwright.objects import FoundObjects
from maskwright.pictures import stretched
from maskwright.prediction.banded import SceneBands, identity_of, write_bands
from maskwright.prediction.class_overlay import Sampler
from maskwright.prediction.geotiff import BLOCK_PX, RowWriter, bytes_on_disk, open_raster
from maskwright.prediction.instances_files import CrownFiles
from maskwright.prediction.instances_heat import GroundCells
from maskwright.prediction.instances_merge import Merged, SeamMerger, merge_cores, plan_cores
from maskwright.prediction.instances_outputs import CrownPicture, PaintedClasses, land_cover, write_pictures
from maskwright.prediction.instances_source import MapSink, StitchedMaps, heights_around, open_heights
from maskwright.prediction.instances_table import Crowns, Ground, ReadHeights, crown_rows, join_crowns
from maskwright.prediction.map_image import check_image, is_photograph
from maskwright.prediction.outputs import Progress, RasterResult, Staging, moved_into_place, silent, staging
from maskwright.prediction.resample import ScaledImage, plan_rescale
from maskwright.prediction.vectorise import pixel_area_m2
from maskwright.tasks.object_task import ObjectTask
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["map_objects"]

_CORE_PX = 1024  # of a block in which trees are grouped
_HALO_PX = 160  # around it at first; trees that reach its end are looked at with more
_CACHE_BYTES = 16 * 2**20
_NO_SIZE = 3.0  # mean crown diameters to which shade reaches where pixels have no size


def map_objects(
    predictor: Predictor,
    path: Path,
    out_dir: Path,
    settings: PredictionConfig,
    progress: Progress | None,
    chm: Path | None = None,
) -> RasterResult:
    """Find the trees of one image; see :meth:`Predictor.predict_photograph`.

    Args:
        predictor: A model of a task that finds objects.
        path: The image.
        out_dir: Folder for all files.
        settings: Windows, thresholds, outputs.
        progress: Called with (done, total, what).
        chm: A canopy height model, for the height of each tree.

    Raises:
        PredictionError: If the model cannot be applied to the image, or the results cannot be written.
        DataError: If the image or the canopy height model cannot be read.
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        reader = stack.enter_context(check_image(predictor, path))
        job = _Job(predictor, reader, settings, progress or silent)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES + job.seen.width * BLOCK_PX * 4))
        heights = None if chm is None else stack.enter_context(open_heights(chm, job.seen))
        identity = identity_of(predictor, [path], (), settings)
        staged = stack.enter_context(staging(out_dir, path.stem, job.bytes_needed, identity))
        result = job.run(staged, heights, started)
        return moved_into_place(result, out_dir)


@dataclass(frozen=True)
class _Found:
    """What came of looking for trees.

    Attributes:
        crowns: A row for each.
        cells: Ground and trees in larger pixels.
        files: Written so far.
        density_count: Trees by the map of density, where the model tells one.
        most_held: Trees held at a time, at most.
        duplicates: Left out as being there already.
        seconds: It took.
    """

    crowns: Crowns
    cells: GroundCells
    files: dict[str, Path]
    density_count: float | None
    most_held: int
    duplicates: int
    seconds: float


class _Job:
    """One image on its way through the steps."""

    def __init__(
        self, predictor: Predictor, reader: ImageReader, settings: PredictionConfig, progress: Progress
    ) -> None:
        self.predictor, self.reader, self.settings, self.progress = predictor, reader, settings, progress
        self.path, self.file_grid = reader.header.path, reader.header.grid
        self.photograph = is_photograph(reader)
        card = predictor.card
        _check_settings(settings, len(predictor.members))
        pixel_m2, self.notes = _pixel_ground(reader, None if card.image is None else card.image.pixel_size_m)
        resized = reader.grid.window != self.file_grid.window
        pixel_size_m = None if pixel_m2 is None or resized else math.sqrt(pixel_m2)
        seen_m = None if pixel_size_m is None or not settings.resample else card.resampled_m(pixel_size_m)
        self.scale = None if seen_m is None else plan_rescale(self.file_grid, seen_m)
        if seen_m is None:
            card.require_pixel_size(self.path, pixel_size_m)
            self.notes += card.notes((), pixel_size_m)
        else:
            self.notes += (f"pixels of {pixel_size_m:g} m were seen at {seen_m:g} m, as in the training",)
        self.seen: Grid = reader.grid if self.scale is None else self.scale.grid
        across, down = _file_pixels(self.file_grid, self.seen, self.scale is not None)
        self.file_scale = (across, down)
        self.ground = Ground(self.seen, None if pixel_m2 is None else pixel_m2 * across * down)
        assert isinstance(card.task, ObjectTask)
        self.task = card.task
        self.names = dict(zip(self.task.object_ids, self.task.object_classes, strict=True))
        self.point = replace(self.task.grouping, **self._cuts())
        if self.ground.unit == "px":
            self.notes += ("the size of a pixel is not known, so distances and areas are told in pixels",)

    @property
    def bytes_needed(self) -> int:
        """Of the uncompressed maps, and of the files made beside them."""
        bands = 4 * sum(self.task.heads.values())
        return bytes_on_disk(self.seen.height * self.seen.width, bands + 1 + (not self.task.covers), 2)

    def run(self, staged: Staging, heights: ReadHeights | None, started: float) -> RasterResult:
        """All steps; the files of the result lie in the folder."""
        folder, stem = staged.folder, self.path.stem
        picture, counted = (Sampler(self.seen.height, self.seen.width) for _ in range(2))
        maps = folder / "maps.part.vrt"
        self._stream(staged, maps, picture, counted)
        rgb = stretched(picture.result(), counted.result())
        drawing = CrownPicture(rgb, picture.factor, self.names)
        with open_raster(maps) as dataset, self._painted(folder) as painted:
            stitched = StitchedMaps(dataset, self.task.heads, self._group)
            found = self._find(stitched, folder, heights, drawing, painted)
            cover = land_cover(
                folder, stem, stitched, self.seen, self.task.class_names, photograph=self.photograph, painted=painted
            )
        stand = self._stand(found)
        files = found.files | cover
        notes = (*self.reader.notes, *staged.notes, *self.notes, *self._notes(found))
        files |= write_pictures(
            folder,
            stem,
            stand,
            found.cells,
            self.ground,
            drawing,
            settings=self.settings,
            shade_class=self._shade_class(),
            facts=self._facts(found),
            notes=notes,
            tags={"MASKWRIGHT_MODEL_SHA256": self.predictor.card.sha256},
        )
        files["summary"] = folder / f"{stem}_summary.json"
        result = RasterResult(
            raster=self.path,
            files=files,
            heights_m=(),
            per_height=(),
            violations=(),
            valid_px=int(found.cells.valid.sum(dtype=np.float64)),
            seconds=round(time.perf_counter() - started, 3),
            notes=notes,
            size=(self.file_grid.height, self.file_grid.width),
            per_class=self._per_class(found, stand),
        )
        write_json(files["summary"], self._summary(result, found, stand), error=PredictionError)
        return result

    # --- steps --------------------------------------------------------------------------------------------------------

    def _stream(self, staged: Staging, path: Path, picture: Sampler, counted: Sampler) -> None:
        """Write the stitched maps."""

        def watch(row: int, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
            picture.add(row, values)
            counted.add(row, valid)

        self.reader.read(Window(0, 0, 1, 1))  # opened here, read by a thread, closed here: GDAL wants one to do both
        reader: Any = self.reader if self.scale is None else ScaledImage(self.reader, self.scale)
        scene = self.predictor.image_scene(reader, watch)
        bands = SceneBands(self.predictor, scene, (self.seen.height, self.seen.width), (), self.settings)
        names = [f"{name} {k}" for name, count in self.task.heads.items() for k in range(count)]
        keep = staged.journal.row > 0
        with RowWriter(path, self.seen, dtype="float32", nodata=np.nan, names=names, keep=keep) as file:
            sink = MapSink(file)
            write_bands(bands, sink, staged.journal, self.seen.height, str(self.path), self.progress)
        if not sink.valid_px:
            raise PredictionError(f"{self.path}: not one pixel counts. Check its nodata value and opacity.")

    def _painted(self, folder: Path) -> AbstractContextManager[PaintedClasses | None]:
        """What shows the classes of pixels where the model has learned none; None where it has."""
        if self.task.covers:
            return nullcontext()
        return PaintedClasses(folder / "classes.part", self.seen.height, self.seen.width)

    def _find(
        self,
        source: StitchedMaps,
        folder: Path,
        heights: ReadHeights | None,
        drawing: CrownPicture,
        painted: PaintedClasses | None,
    ) -> _Found:
        """Trees block by block, each written as soon as it is final."""
        started = time.perf_counter()
        merger = SeamMerger(self.seen.height, self.seen.width, duplicate_iou=self.point.duplicate_iou)
        cells = GroundCells(self.ground, self.names)
        kept: list[Crowns] = []
        files = CrownFiles(
            folder,
            self.path.stem,
            self.ground,
            self.names,
            image=(self.path.name, self.file_grid.height, self.file_grid.width),
            scale=self.file_scale,
            polygons=self.settings.polygon_ending(photograph=False),
            with_height=heights is not None,
        )
        first = 1
        with files:
            for part in self._merged(source, merger):
                known = None if heights is None else heights_around(part.objects, heights)
                rows = crown_rows(part.objects, part.cut, first, known)
                first += len(rows)
                files.add(part.objects, rows)
                cells.add(part.objects)
                drawing.add(part.objects)
                if painted is not None:
                    painted.add(part.objects)
                kept.append(rows)
        density = self._count_ground(source, cells)
        seconds = round(time.perf_counter() - started, 3)
        crowns = join_crowns(kept)
        return _Found(crowns, cells, files.files, density, merger.most_held, merger.duplicates, seconds)

    def _merged(self, source: StitchedMaps, merger: SeamMerger) -> Iterator[Merged]:
        cores = plan_cores(self.seen.height, self.seen.width, _CORE_PX, _HALO_PX)
        yield from merge_cores(cores, source, merger, progress=lambda done, total: self.progress(done, total, "trees"))

    def _count_ground(self, source: StitchedMaps, cells: GroundCells) -> float | None:
        """Count the pixels that count; returns the sum of the map of density, if there is one."""
        name = "density" if "density" in self.task.heads else next(iter(self.task.heads))
        step, total = max(1, 2**22 // self.seen.width), 0.0
        for row in range(0, self.seen.height, step):
            window = Window(row, 0, min(step, self.seen.height - row), self.seen.width)
            maps, valid = source.read(window, (name,))
            cells.add_valid(row, valid)
            total += float(maps[name].sum(dtype=np.float64))
        return total if name == "density" else None

    def _group(self, maps: Mapping[str, npt.NDArray[np.float32]], valid: npt.NDArray[np.bool_]) -> FoundObjects:
        return group(maps, self.point, valid)

    # --- what is told -------------------------------------------------------------------------------------------------

    def _cuts(self) -> dict[str, Any]:
        """What the settings change in how maps become objects."""
        cuts: dict[str, Any] = {}
        if self.settings.probability_threshold is not None:
            cuts["min_score"] = self.settings.probability_threshold
        if self.settings.duplicate_iou is not None:
            cuts["duplicate_iou"] = self.settings.duplicate_iou
        least = self.settings.min_area_px
        if self.settings.min_area_m2:
            if self.ground.pixel_m2 is None:
                raise PredictionError(
                    f"prediction.min_area_m2: {self.settings.min_area_m2:g} m2 cannot be told in {self.path}, whose "
                    "pixels have no known size. Set prediction.min_area_px."
                )
            least = max(least, math.ceil(self.settings.min_area_m2 / self.ground.pixel_m2))
        if least:
            cuts["min_area_px"] = least
        return cuts

    def _shade_class(self) -> str:
        named = self.settings.shade_class
        return named if named in self.names.values() else ALL

    def _reach(self, crowns: Crowns) -> float:
        """How far shade reaches, in the unit: metres as set, else a few crowns."""
        if self.ground.unit == "m":
            return self.settings.shade_reach_m
        mean = float(crowns.diameter_px.mean()) if len(crowns) else 0.0
        return max(1.0, _NO_SIZE * mean)

    def _stand(self, found: _Found) -> Stand:
        crowns = found.crowns
        return describe_stand(
            crowns.centre_px * self.ground.steps,
            crowns.label,
            self.names,
            found.cells.outline(),
            unit=self.ground.unit,
            diameters=crowns.diameter_px * self.ground.side,
            cover=found.cells.cover(),
            crop_class=self.settings.crop_class,
            shade_class=self.settings.shade_class,
            shade_reach=self._reach(crowns),
        )

    def _notes(self, found: _Found) -> tuple[str, ...]:
        notes: tuple[str, ...] = ()
        if not len(found.crowns):
            notes += (f"no tree reached the score of {self.point.min_score:g}",)
        if cut := int(found.crowns.cut.sum()):
            notes += (f"{cut} crowns reach to the end of all that was seen around them and may be larger",)
        return notes

    def _facts(self, found: _Found) -> dict[str, str]:
        speed = len(found.crowns) / found.seconds if found.seconds else 0.0
        return {
            "image": self.path.name,
            "size": f"{self.seen.height} x {self.seen.width} px",
            "pixel": "not known" if self.ground.pixel_m2 is None else f"{self.ground.side:.3g} m",
            "model": self.predictor.card.sha256[:12],
            "least score": f"{self.point.min_score:g}",
            "grouping": f"{found.seconds:.1f} s, {speed:.0f} trees a second, at most {found.most_held} held at a time",
        }

    def _per_class(self, found: _Found, stand: Stand) -> tuple[dict[str, Any], ...]:
        rows = []
        area = float(found.cells.valid.sum(dtype=np.float64))
        for number, name in self.names.items():
            pixels = float(found.crowns.area_px[found.crowns.label == number].sum())
            rows.append(
                {
                    "class": name,
                    "pixels": int(pixels),
                    "share": stand.classes[name].cover if area else None,
                    "objects": stand.classes[name].count,
                    "area_m2": None if self.ground.pixel_m2 is None else pixels * self.ground.pixel_m2,
                }
            )
        return tuple(rows)

    def _summary(self, result: RasterResult, found: _Found, stand: Stand) -> dict[str, Any]:
        return {
            "raster": str(result.raster),
            "model_sha256": self.predictor.card.sha256,
            "task": self.task.kind,
            "classes": list(self.names.values()),
            "trees": len(found.crowns),
            "trees_by_density": found.density_count,
            "unit": self.ground.unit,
            "pixel_size_m": None if self.ground.pixel_m2 is None else self.ground.side,
            "crs": self.seen.crs,
            "valid_px": result.valid_px,
            "per_class": list(result.per_class),
            "stand": stand.to_dict(),
            "grouping": {
                **asdict(self.point),
                "seconds": found.seconds,
                "most_held": found.most_held,
                "duplicates": found.duplicates,
            },
            "settings": self.settings.model_dump(mode="json"),
            "files": {name: path.name for name, path in result.files.items()},
            "notes": list(result.notes),
            "seconds": result.seconds,
        }


def _check_settings(settings: PredictionConfig, members: int) -> None:
    """Refuse what has no meaning for trees, before anything is mapped."""
    if settings.tta > 1:
        raise PredictionError(
            f"prediction.tta: {settings.tta} averages mirrored and turned views, and the offsets from pixels to the "
            "centres of trees point elsewhere in them. Set prediction.tta: 1."
        )
    if settings.uncertainty != "none":
        raise PredictionError("prediction.uncertainty is told of classes and heights, not of trees. Set it to none.")
    if settings.crf or settings.probability_rule == "otsu":
        raise PredictionError(
            "prediction.crf and prediction.probability_rule: otsu change masks of classes, not trees. Leave them out."
        )
    if members > 1:
        raise PredictionError("Several models are averaged for classes and heights, not for trees. Leave --with out.")


def _file_pixels(file: Grid, seen: Grid, scaled: bool) -> tuple[float, float]:
    """Pixels of the file across and down one that is seen."""
    if not scaled:
        return file.width / seen.width, file.height / seen.height
    (across, down), (own_across, own_down) = seen.pixel_size, file.pixel_size
    return across / own_across, down / own_down


def _pixel_ground(reader: ImageReader, pixel_size_m: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Square metres of a pixel of the file, None if unknown; and what is to be said about it."""
    grid = reader.header.grid
    if not grid.is_georeferenced:
        return (None if pixel_size_m is None else pixel_size_m * pixel_size_m), ()
    try:
        return pixel_area_m2(grid), ()
    except GridError:
        return None, ("its coordinates are angles",)

"""From one image to its masks: stream, classes, clean up, statistics, polygons, pictures.

Photographs become PNGs of their own size, rasters with a place on the ground become Cloud-Optimised GeoTIFFs.
Everything is written to a hidden folder inside the output folder and moved into place once all of it is complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio

from maskwright.config.prediction import PredictionConfig
from maskwright.data.sources.image_file import ImageReader, open_image, resize_nearest
from maskwright.data.sources.image_header import MOST_PIXELS
from maskwright.errors import GridError, PredictionError
from maskwright.files import write_json
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.class_masks import class_codes, filled_holes, without_small_objects
from maskwright.prediction.class_outputs import ClassPlan, write_outputs
from maskwright.prediction.class_overlay import Sampler, stretched
from maskwright.prediction.geotiff import BLOCK_PX, RowWriter, open_raster
from maskwright.prediction.image_input import ImageInput
from maskwright.prediction.map_raster import window_axes
from maskwright.prediction.outputs import Progress, RasterResult, moved_into_place, silent, staging
from maskwright.prediction.postprocess import BAND_PX, find_gaps
from maskwright.prediction.raster_stream import stream
from maskwright.prediction.vectorise import pixel_area_m2

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["check_image", "is_photograph", "map_image"]

_CACHE_BYTES = 4 * 2**20


def map_image(
    predictor: Predictor, path: Path, out_dir: Path, settings: PredictionConfig, progress: Progress | None
) -> RasterResult:
    """See :meth:`Predictor.predict_photograph`."""
    started = time.perf_counter()
    with ExitStack() as stack:
        reader = stack.enter_context(check_image(predictor, path))
        job = _Job(predictor, reader, settings, progress or silent)
        block = job.grid.width * BLOCK_PX * (4 * job.plan.num_classes + reader.header.bands * 4)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES + block))
        folder = stack.enter_context(staging(out_dir, path.stem, job.bytes_needed))
        result = job.run(folder, started)
        return moved_into_place(result, out_dir)


def is_photograph(reader: ImageReader) -> bool:
    """True for an image without a place on the ground that fits into memory: it becomes PNGs."""
    grid = reader.header.grid
    return not grid.is_georeferenced and grid.height * grid.width <= MOST_PIXELS


def check_image(predictor: Predictor, path: Path) -> ImageReader:
    """Open an image as the training did.

    Raises:
        DataError: If it cannot be read.
        PredictionError: If the number of bands or the type of its values is not that of the training.
    """
    card = predictor.card
    assert card.image is not None
    reader = open_image(path, card.image)
    if len(reader.band_names) != card.in_channels:
        raise PredictionError(
            f"{path} has {len(reader.band_names)} bands ({', '.join(reader.band_names)}) and the model was trained on "
            f"{card.in_channels}. Give images with the same bands."
        )
    if {reader.dtype, card.dtype} == {"uint8", "uint16"}:
        raise PredictionError(
            f"{path} holds {reader.dtype} values and the model was trained on {card.dtype}: the same number means "
            "another brightness. Convert the image to the type and range of the training."
        )
    return reader


class _Job:
    """One image on its way through the steps."""

    def __init__(
        self, predictor: Predictor, reader: ImageReader, settings: PredictionConfig, progress: Progress
    ) -> None:
        self.predictor, self.reader, self.settings, self.progress = predictor, reader, settings, progress
        self.path, self.grid = reader.header.path, reader.header.grid
        self.is_resized = reader.grid.window != self.grid.window
        photograph = is_photograph(reader)
        card = predictor.card
        self.pixel_m2, self.notes = _pixel_area(reader, None if card.image is None else card.image.pixel_size_m)
        pixel_size_m = None if self.pixel_m2 is None or self.is_resized else math.sqrt(self.pixel_m2)
        card.require_pixel_size(self.path, pixel_size_m)
        self.notes += card.notes((), pixel_size_m)
        own = settings.probability_threshold
        self.plan = ClassPlan(
            names=card.task.class_names,
            exclusive=card.task.kind == "multiclass",
            has_background=card.task.kind == "multiclass" and card.has_background,
            thresholds=card.thresholds if own is None else (own,) * len(card.thresholds),
            photograph=photograph,
            probabilities=settings.wants_probabilities(photograph=photograph),
            probability_ending=settings.probability_format if photograph else "tif",
            polygons=settings.polygon_ending(photograph=photograph),
            overlay=settings.quicklook,
            sha256=card.sha256,
        )
        self.needs_probs = self.plan.probabilities or self.plan.polygons is not None
        self.least_px = float(settings.min_area_px)
        if settings.min_area_m2 > 0 and self.pixel_m2 is not None:
            self.least_px = max(self.least_px, settings.min_area_m2 / self.pixel_m2 * (1 - 1e-9))
        elif settings.min_area_m2 > 0:
            self.notes += ("min_area_m2 was not applied: its pixels have no size in metres; set min_area_px",)

    @property
    def bytes_needed(self) -> int:
        """Of the uncompressed maps, which exist for a while."""
        return self.grid.height * self.grid.width * (self.plan.planes + 4 * self.plan.num_classes * self.needs_probs)

    def run(self, folder: Path, started: float) -> RasterResult:
        """All steps; the files of the result lie in ``folder``."""
        picture, counted = self._samplers()
        probs, mask = folder / "probs.part.tif", folder / "mask.part.tif"
        self._stream(probs if self.needs_probs else None, mask, picture, counted)
        mask = self._cleaned(mask, folder)
        per_class, valid_px, thumbnail = self._measured(mask)
        rgb = None if picture is None or counted is None else stretched(picture.result(), counted.result())
        files = write_outputs(
            self.plan,
            folder,
            self.path.stem,
            mask,
            probs if self.needs_probs else None,
            overlay=None if rgb is None else (rgb, thumbnail),
            per_class=per_class,
            pixel_m2=self.pixel_m2,
            progress=self.progress,
        )
        result = RasterResult(
            raster=self.path,
            files=files,
            heights_m=(),
            per_height=(),
            violations=(),
            valid_px=valid_px,
            seconds=round(time.perf_counter() - started, 3),
            notes=(*(f"{self.path.name}: {note}" for note in (*self.reader.notes, *self.notes)), *self._pixel_notes()),
            size=(self.grid.height, self.grid.width),
            per_class=per_class,
        )
        if not self.plan.photograph:
            files["summary"] = folder / f"{self.path.stem}_summary.json"
            write_json(files["summary"], self._summary(result), error=PredictionError)
        return result

    # --- steps --------------------------------------------------------------------------------------------------------

    def _samplers(self) -> tuple[Sampler | None, Sampler | None]:
        """What gathers the picture under the overlay; of a resized image it is read at once, in its own size."""
        if not self.plan.overlay:
            return None, None
        picture, counted = (Sampler(self.grid.height, self.grid.width) for _ in range(2))
        if self.is_resized:
            assert self.predictor.card.image is not None
            with open_image(self.path, replace(self.predictor.card.image, resize_px=None)) as original:
                values, valid = original.read(original.grid.window)
            picture.add(0, values)
            counted.add(0, valid)
        return picture, counted

    def _stream(
        self, probs_path: Path | None, mask_path: Path, picture: Sampler | None, counted: Sampler | None
    ) -> None:
        """Write probabilities and codes."""

        def watch(row: int, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
            if picture is not None and counted is not None and not self.is_resized:
                picture.add(row, values)
                counted.add(row, valid)

        predictor, settings, inside = self.predictor, self.settings, self.reader.grid
        rows, cols = window_axes(predictor, (inside.height, inside.width), settings)
        bands = stream(
            ImageInput(self.reader, predictor.card.normaliser, watch),
            rows,
            cols,
            lambda images: predictor.raw_probs(images, (), views=settings.tta),
            channels=self.plan.num_classes,
            batch_size=1 if predictor.device.type == "cpu" else settings.batch_size,
            device=predictor.device,
            progress=lambda done, total: self.progress(done, total, "windows"),
        )
        whole: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = []
        valid_px = 0
        with ExitStack() as stack:
            names = self.plan.plane_names
            mask = stack.enter_context(self._writer(mask_path, names, "uint8", IGNORE_INDEX))
            writer = (
                stack.enter_context(self._writer(probs_path, self.plan.names, "float32", np.nan))
                if probs_path
                else None
            )
            for band in bands:
                if not np.isfinite(band.probs.sum(dtype=np.float64)):
                    raise PredictionError(
                        f"The model answers with values that are no numbers in {self.path}. "
                        "Its weights are damaged by training; take an earlier checkpoint."
                    )
                np.clip(band.probs, 0.0, 1.0, out=band.probs)
                valid_px += int(np.count_nonzero(band.valid))
                if self.is_resized:
                    whole.append((band.probs, band.valid.copy()))
                    continue
                self._write(mask, writer, band.row, band.probs, band.valid)
            if self.is_resized:
                self._write_restored(mask, writer, whole)
        if not valid_px:
            raise PredictionError(f"{self.path}: not one pixel counts. Check its nodata value and opacity.")

    def _write(
        self,
        mask: RowWriter,
        writer: RowWriter | None,
        row: int,
        probs: npt.NDArray[np.float32],
        valid: npt.NDArray[np.bool_],
    ) -> None:
        mask.write(row, class_codes(probs, valid, self.plan.thresholds, exclusive=self.plan.exclusive))
        if writer is not None:
            np.copyto(probs, np.nan, where=~valid)
            writer.write(row, probs)

    def _write_restored(
        self,
        mask: RowWriter,
        writer: RowWriter | None,
        whole: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]],
    ) -> None:
        """Codes by the nearest pixel and probabilities bilinearly, in the size the image has."""
        size = (self.grid.height, self.grid.width)
        probs = np.concatenate([part for part, _ in whole], axis=1)
        valid = np.concatenate([part for _, part in whole])
        codes = class_codes(probs, valid, self.plan.thresholds, exclusive=self.plan.exclusive)
        mask.write(0, np.stack([resize_nearest(plane, size) for plane in codes]))
        if writer is not None:
            linear = np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in probs])
            np.copyto(linear, np.nan, where=~resize_nearest(valid, size))
            writer.write(0, linear)

    def _writer(self, path: Path, names: Sequence[str], dtype: str, nodata: float) -> RowWriter:
        colors = self.plan.color_table if dtype == "uint8" else None
        return RowWriter(path, self.grid, dtype=dtype, nodata=nodata, names=names, tags=self.plan.tags, colors=colors)

    def _cleaned(self, mask: Path, folder: Path) -> Path:
        """The mask with holes filled and small objects left out, as far as asked."""
        if self.settings.fill_holes_px > 0:
            most = self.settings.fill_holes_px
            mask = self._rewritten(
                mask,
                folder / "filled.part.tif",
                "holes",
                lambda read, write: filled_holes(read, write, self.grid.height, self.grid.width, most),
            )
        if self.least_px > 1:
            codes = range(1, self.plan.num_classes) if self.plan.exclusive else (1,)
            mask = self._rewritten(
                mask,
                folder / "sieved.part.tif",
                "small objects",
                lambda read, write: without_small_objects(
                    read, write, self.grid.height, self.grid.width, list(codes), self.least_px
                ),
            )
        return mask

    def _rewritten(self, source: Path, path: Path, what: str, change: Callable[[Any, Any], None]) -> Path:
        with open_raster(source) as old, self._writer(path, self.plan.plane_names, "uint8", IGNORE_INDEX) as new:
            for band in range(1, old.count + 1):
                self.progress(band - 1, old.count, what)

                def read(start: int, stop: int, band: int = band) -> npt.NDArray[np.uint8]:
                    rows: npt.NDArray[np.uint8] = old.read(band, window=((start, stop), (0, old.width)))
                    return rows

                def write(row: int, codes: npt.NDArray[np.uint8], band: int = band) -> None:
                    new.write_band(band, row, codes)

                change(read, write)
        source.unlink()
        return path

    def _measured(self, mask_path: Path) -> tuple[tuple[dict[str, Any], ...], int, npt.NDArray[np.uint8]]:
        """Statistics of each class, valid pixels, and the mask's thumbnail (P, h, w)."""
        thumbnail = Sampler(self.grid.height, self.grid.width)
        counts, valid_px = np.zeros(self.plan.num_classes, np.int64), 0
        step = max(1, BAND_PX // self.grid.width)
        rows: list[dict[str, Any]] = []
        with open_raster(mask_path) as mask:
            for row in range(0, mask.height, step):
                codes = mask.read(window=((row, min(row + step, mask.height)), (0, mask.width)))
                thumbnail.add(row, codes)
                valid_px += int(np.count_nonzero(codes[0] != IGNORE_INDEX))
                for k, (_, band, code, _) in enumerate(self.plan.where):
                    counts[k] += np.count_nonzero(codes[band - 1] == code)
            for k, (name, band, code, _) in enumerate(self.plan.where):
                objects = None
                if not (self.plan.has_background and k == 0):
                    objects = len(find_gaps(self.plan.reader(mask, band, code), mask.height, mask.width))
                rows.append(
                    {
                        "class": name,
                        "pixels": int(counts[k]),
                        "share": float(counts[k] / valid_px) if valid_px else None,
                        "objects": objects,
                        "area_m2": None if self.pixel_m2 is None else float(counts[k] * self.pixel_m2),
                    }
                )
        return tuple(rows), valid_px, thumbnail.result()

    def _pixel_notes(self) -> tuple[str, ...]:
        return self.predictor.card.notes((), None if self.pixel_m2 is None else self.pixel_m2**0.5)

    def _summary(self, result: RasterResult) -> dict[str, Any]:
        return {
            "raster": str(result.raster),
            "model_sha256": self.plan.sha256,
            "task": self.predictor.card.task.kind,
            "classes": list(self.plan.names),
            "probability_thresholds": None if self.plan.exclusive else list(self.plan.thresholds),
            "valid_px": result.valid_px,
            "crs": self.grid.crs,
            "neighbours": 8,
            "per_class": list(result.per_class),
            "settings": self.settings.model_dump(mode="json"),
            "files": {name: path.name for name, path in result.files.items()},
            "notes": list(result.notes),
            "seconds": result.seconds,
        }


def _pixel_area(reader: ImageReader, pixel_size_m: float | None) -> tuple[float | None, tuple[str, ...]]:
    """Square metres of a pixel, None if unknown; and what is to be said about it."""
    grid = reader.header.grid
    if not grid.is_georeferenced:
        return (None if pixel_size_m is None else pixel_size_m * pixel_size_m), ()
    try:
        return pixel_area_m2(grid), ()
    except GridError:
        return None, ("its coordinates are angles, so areas are told in pixels",)

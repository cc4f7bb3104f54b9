"""From one image to its masks: stream, classes, clean up, statistics, polygons, pictures.

Photographs become PNGs of their own size, rasters with a place on the ground become Cloud-Optimised GeoTIFFs.
Everything is written to a hidden folder inside the output folder and moved into place once all of it is complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio

from maskwright.config.prediction import PredictionConfig
from maskwright.config.task import EXCLUSIVE
from maskwright.data.sources.image_file import ImageReader, open_image
from maskwright.data.sources.image_header import MOST_PIXELS
from maskwright.errors import GridError, PredictionError
from maskwright.files import write_json
from maskwright.pictures import stretched
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.banded import SceneBands, identity_of, write_bands
from maskwright.prediction.class_masks import class_codes
from maskwright.prediction.class_outputs import ClassPlan, write_outputs
from maskwright.prediction.class_overlay import Sampler
from maskwright.prediction.class_sink import ClassSink
from maskwright.prediction.cleaning import cleaned, cleaning_notes, copies_of_mask
from maskwright.prediction.crf import refined, require_crf
from maskwright.prediction.geotiff import BLOCK_PX, RowWriter, bytes_on_disk, copy_to_cog, open_raster
from maskwright.prediction.journal import Journal
from maskwright.prediction.otsu import otsu_of_raster
from maskwright.prediction.outputs import Progress, RasterResult, Staging, moved_into_place, silent, staging
from maskwright.prediction.postprocess import BAND_PX, find_gaps
from maskwright.prediction.resample import ScaledImage, plan_rescale
from maskwright.prediction.uncertainty import check_uncertainty, uncertainty_names, uncertainty_unit
from maskwright.prediction.vectorise import pixel_area_m2
from maskwright.types import Window

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
        identity = identity_of(predictor, [path], (), settings)
        staged = stack.enter_context(staging(out_dir, path.stem, job.bytes_needed, identity))
        result = job.run(staged, started)
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
        seen_m = None if pixel_size_m is None or not settings.resample else card.resampled_m(pixel_size_m)
        self.scale = None if seen_m is None else plan_rescale(self.grid, seen_m)
        if seen_m is None:
            card.require_pixel_size(self.path, pixel_size_m)
            self.notes += card.notes((), pixel_size_m)
        else:
            self.notes += (
                f"pixels of {pixel_size_m:g} m were seen at {seen_m:g} m, as in the training, and the masks were "
                "brought back to them",
            )
        check_uncertainty(settings, len(predictor.members))
        own = settings.probability_threshold
        self.plan = ClassPlan(
            names=card.task.class_names,
            exclusive=card.task.kind in EXCLUSIVE,
            has_background=card.task.kind in EXCLUSIVE and card.has_background,
            thresholds=card.thresholds if own is None else (own,) * len(card.thresholds),
            photograph=photograph,
            probabilities=settings.wants_probabilities(photograph=photograph),
            probability_ending=settings.probability_format if photograph else "tif",
            polygons=settings.polygon_ending(photograph=photograph),
            overlay=settings.quicklook or settings.side_by_side,
            side_by_side=settings.side_by_side,
            style=settings.qgis_style,
            sha256=card.sha256,
        )
        self.cuts_anew = settings.probability_rule == "otsu" or settings.crf
        self.needs_probs = self.plan.probabilities or self.plan.polygons is not None or self.cuts_anew
        self._check_cut()
        self.notes += cleaning_notes(settings, self.pixel_m2)

    @property
    def bytes_needed(self) -> int:
        """Of the uncompressed maps and of the files made of them, which exist side by side for a while."""
        doubt = 4 * len(self.doubts)
        masks = self.plan.planes * (1 + copies_of_mask(self.settings))
        parts = masks + 4 * self.plan.num_classes * self.needs_probs + doubt
        finals = self.plan.planes + 4 * self.plan.num_classes * self.plan.probabilities + doubt
        return bytes_on_disk(self.grid.height * self.grid.width, parts, finals)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Bands of the map of uncertainty."""
        kind = self.settings.uncertainty
        return () if kind == "none" else uncertainty_names(self.plan.names, kind, exclusive=self.plan.exclusive)

    def run(self, staged: Staging, started: float) -> RasterResult:
        """All steps; the files of the result lie in the folder."""
        folder = staged.folder
        picture, counted = self._samplers()
        probs, mask, doubt = (folder / f"{name}.part.vrt" for name in ("probs", "mask", "uncertainty"))
        self._stream(staged.journal, (mask, probs, doubt), picture, counted)
        if self.settings.crf:
            staged.journal.forget()  # what the network said is about to be replaced
        if self.cuts_anew:
            probs, mask = self._cut_anew(probs, mask)
        mask = cleaned(
            mask,
            folder,
            self.settings,
            codes=range(1, self.plan.num_classes) if self.plan.exclusive else (1,),
            pixel_m2=self.pixel_m2,
            writer=lambda path: self._writer(path, self.plan.plane_names, "uint8", IGNORE_INDEX),
            progress=self.progress,
        )
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
        if self.doubts:
            files["uncertainty"] = folder / f"{self.path.stem}_uncertainty.tif"
            copy_to_cog(doubt, files["uncertainty"], resampling="average")
        result = RasterResult(
            raster=self.path,
            files=files,
            heights_m=(),
            per_height=(),
            violations=(),
            valid_px=valid_px,
            seconds=round(time.perf_counter() - started, 3),
            notes=tuple(f"{self.path.name}: {note}" for note in (*self.reader.notes, *staged.notes, *self.notes)),
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
        self, journal: Journal, paths: tuple[Path, Path, Path], picture: Sampler | None, counted: Sampler | None
    ) -> None:
        """Write codes, probabilities and uncertainty."""

        def watch(row: int, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> None:
            if picture is not None and counted is not None and not self.is_resized:
                picture.add(row, values)
                counted.add(row, valid)

        def valid_rows(start: int, stop: int) -> npt.NDArray[np.bool_]:
            values, valid = self.reader.read(Window(start, 0, stop - start, self.grid.width))
            watch(start, values, valid)
            return valid

        self.reader.read(Window(0, 0, 1, 1))  # opened here, read by a thread, closed here: GDAL wants one to do both
        reader: Any = self.reader if self.scale is None else ScaledImage(self.reader, self.scale)
        scene = self.predictor.image_scene(reader, watch if self.scale is None else None)
        size = (reader.grid.height, reader.grid.width)
        bands = SceneBands(self.predictor, scene, size, (), self.settings, scale=self.scale, valid_rows=valid_rows)
        wanted: list[tuple[Path, Sequence[str], str, float]] = [
            (paths[0], self.plan.plane_names, "uint8", IGNORE_INDEX)
        ]
        wanted += [(paths[1], self.plan.names, "float32", np.nan)] if self.needs_probs else []
        with ExitStack() as stack:
            keep = journal.row > 0
            files = [stack.enter_context(self._writer(*each, keep=keep)) for each in wanted]
            if self.doubts:
                files.append(stack.enter_context(self._doubt_writer(paths[2], keep=keep)))
            sink = ClassSink(
                self.plan, files, self.settings.uncertainty, with_probs=self.needs_probs, resized=self.is_resized
            )
            write_bands(
                bands, sink, None if self.is_resized else journal, self.grid.height, str(self.path), self.progress
            )
            sink.finish((self.grid.height, self.grid.width))
        if not sink.valid_px:
            raise PredictionError(f"{self.path}: not one pixel counts. Check its nodata value and opacity.")

    def _writer(self, path: Path, names: Sequence[str], dtype: str, nodata: float, *, keep: bool = False) -> RowWriter:
        return RowWriter(
            path,
            self.grid,
            dtype=dtype,
            nodata=nodata,
            names=names,
            tags=self.plan.tags,
            colors=self.plan.color_table if dtype == "uint8" else None,
            keep=keep,
        )

    def _doubt_writer(self, path: Path, *, keep: bool) -> RowWriter:
        return RowWriter(
            path,
            self.grid,
            dtype="float32",
            nodata=np.nan,
            names=self.doubts,
            tags=self.plan.tags,
            unit=uncertainty_unit(self.settings.uncertainty),
            keep=keep,
        )

    def _check_cut(self) -> None:
        """Refuse ways to cut that this input cannot have, before it is mapped."""
        if self.settings.probability_rule == "otsu" and self.plan.exclusive:
            raise PredictionError(
                "prediction.probability_rule: otsu cuts probabilities, and of classes that exclude each other the "
                "likeliest is called. Set prediction.probability_rule: model."
            )
        if self.settings.crf and not self.plan.photograph:
            raise PredictionError(
                f"prediction.crf needs the whole image in memory, and {self.path} is a raster that is mapped in bands. "
                "Set prediction.crf: false."
            )
        if self.settings.crf:
            require_crf()

    def _cut_anew(self, probs_path: Path, mask_path: Path) -> tuple[Path, Path]:
        """Probabilities and mask in new files: sharpened along edges, cut where their histogram says, as asked."""
        if self.settings.crf:
            self.progress(0, 1, "edges")
            assert self.predictor.card.image is not None
            with open_image(self.path, replace(self.predictor.card.image, resize_px=None)) as original:
                rgb = stretched(*original.read(original.grid.window))
            with open_raster(probs_path) as raster:
                probs = raster.read()
            valid = np.isfinite(probs[0])
            probs = refined(np.nan_to_num(probs), rgb, valid, exclusive=self.plan.exclusive)
            np.copyto(probs, np.nan, where=~valid)
            probs_path = probs_path.with_name("sharpened.part.vrt")
            with self._writer(probs_path, self.plan.names, "float32", np.nan) as writer:
                writer.write(0, probs)
        if self.settings.probability_rule == "otsu":
            own = list(zip(otsu_of_raster(probs_path), self.plan.thresholds, strict=False))
            self.plan = replace(self.plan, thresholds=tuple(cut if found is None else found for found, cut in own))
            if any(found is None for found, _ in own):
                self.notes += ("where all probabilities of a class are about the same its cut stays as it was",)
        rows, mask_path = max(1, BAND_PX // self.grid.width), mask_path.with_name("cut.part.vrt")
        with (
            open_raster(probs_path) as raster,
            self._writer(mask_path, self.plan.plane_names, "uint8", IGNORE_INDEX) as mask,
        ):
            for row in range(0, self.grid.height, rows):
                values = raster.read(window=((row, min(row + rows, self.grid.height)), (0, self.grid.width)))
                valid = np.isfinite(values[0])
                mask.write(row, class_codes(values, valid, self.plan.thresholds, exclusive=self.plan.exclusive))
        return probs_path, mask_path

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

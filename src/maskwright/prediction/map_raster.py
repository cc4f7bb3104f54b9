"""From a raster of heights to its maps: stream, order over heights, sieve, statistics, polygons, picture, summary.

Everything is written to a hidden folder inside the output folder and moved into place once all of it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio

from maskwright.config.prediction import PredictionConfig
from maskwright.data.gap_statistics import GapCounter
from maskwright.data.sources import HeightFile, open_heights
from maskwright.data.sources.alignment import differences
from maskwright.data.sources.height_file import read_header
from maskwright.data.targets import GAP, NO_GAP
from maskwright.errors import DataError, PredictionError, RunError
from maskwright.files import check_writable, explain_os_error, write_json
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.blending import WindowAxis, plan_axis
from maskwright.prediction.geotiff import BLOCK_PX, RowWriter, copy_to_cog, mask_reader, open_raster
from maskwright.prediction.overlay import Thumbnail, draw_quicklook
from maskwright.prediction.postprocess import find_gaps, keep_from
from maskwright.prediction.raster_stream import stream
from maskwright.prediction.scene_input import SceneInput
from maskwright.prediction.vectorise import pixel_area_m2, vectorise_mask

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["RasterResult", "cache_bytes", "gap_codes", "map_raster", "order_over_heights"]

Progress = Callable[[int, int, str], None]

_PASS_PX = 2**20
_CACHE_BYTES = 4 * 2**20
_ENDINGS = ("probability.tif", "gaps.gpkg", "gaps.geojson", "quicklook.png")


@dataclass(frozen=True)
class RasterResult:
    """What came of one raster.

    Attributes:
        raster: The input.
        files: What was written, by what it is: ``probability``, ``gaps``, ``polygons``, ``quicklook``, ``summary``.
        heights_m: The K heights in metres.
        per_height: Plain values for each height: ``height_m``, ``gap_share``, ``gaps`` (number), ``area_m2`` ...
        violations: (K - 1) pixels where the raw probability at a height lay above that at the next; mended in all that
            is written.
        valid_px: Pixels that were measured.
        seconds: Time it took.
        notes: What a person should know, a sentence each.
    """

    raster: Path
    files: dict[str, Path]
    heights_m: tuple[float, ...]
    per_height: tuple[dict[str, Any], ...]
    violations: tuple[int, ...]
    valid_px: int
    seconds: float
    notes: tuple[str, ...]


def map_raster(
    predictor: Predictor,
    paths: Sequence[Path],
    out_dir: Path,
    heights_m: tuple[float, ...],
    settings: PredictionConfig,
    nodata: tuple[float | str | None, float | str | None],
    progress: Progress | None,
) -> RasterResult:
    """See :meth:`Predictor.predict_raster`.

    Args:
        predictor: The model.
        paths: The raster, and the canopy height model if the model sees both.
        out_dir: Folder for the results.
        heights_m: Heights to answer, rising.
        settings: Windows, blending, outputs.
        nodata: For each raster the value meaning "not measured", "tag" or "none"; None: the file's tag, else the rule
            of the training.
        progress: Called with (done, total, what is being done).
    """
    started = time.perf_counter()
    with ExitStack() as stack:
        files = [
            stack.enter_context(open_heights(path, _nodata_rule(predictor, path, kind, wish)))
            for path, kind, wish in zip(paths, predictor.card.bands, nodata, strict=False)
        ]
        _require_one_grid(files)
        job = _Job(predictor, files, out_dir, heights_m, settings, progress or _silent)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(files, len(heights_m))))
        folder = stack.enter_context(_staging(out_dir, paths[0].stem, job.bytes_needed))
        result = job.run(folder, started)
        return _moved_into_place(result, out_dir)


def _nodata_rule(predictor: Predictor, path: Path, kind: str, wish: float | str | None) -> float | str | None:
    return predictor.card.nodata_of(kind, read_header(path).tag) if wish is None else wish


class _Job:
    """One raster on its way through the steps."""

    def __init__(
        self,
        predictor: Predictor,
        files: Sequence[HeightFile],
        out_dir: Path,
        heights_m: tuple[float, ...],
        settings: PredictionConfig,
        progress: Progress,
    ) -> None:
        self.predictor, self.files, self.out_dir, self.heights_m = predictor, files, out_dir, heights_m
        self.settings, self.progress = settings, progress
        self.grid, self.stem = files[0].grid, files[0].path.stem
        self.names = [f"{height:g} m" for height in heights_m]
        own = predictor.card.task.probability_threshold
        self.threshold = own if settings.probability_threshold is None else settings.probability_threshold
        # On the CPU one window at a time is fastest, and then no setting of the batch can change a bit of the result.
        self.windows_per_pass = 1 if predictor.device.type == "cpu" else settings.batch_size
        self.rows, self.cols = (self._axis(length) for length in (self.grid.height, self.grid.width))
        self.needs_probs = settings.probabilities or settings.polygons != "none"
        self.thumbnail = Thumbnail(self.grid.height, self.grid.width)

    @property
    def bytes_needed(self) -> int:
        """Of the uncompressed maps, which exist for a while."""
        return self.grid.height * self.grid.width * len(self.heights_m) * (1 + 4 * self.needs_probs)

    def run(self, folder: Path, started: float) -> RasterResult:
        """All steps; the files of the result lie in ``folder``."""
        probs, mask = folder / "probs.part.tif", folder / "mask.part.tif"
        violations = self._stream(probs if self.needs_probs else None, mask)
        if self.settings.min_area_m2 > 0:
            mask = self._sieved(mask, folder / "sieved.part.tif")
        per_height = self._measured(mask)
        files = self._written(folder, probs, mask, [row["gap_share"] for row in per_height])
        summary = folder / f"{self.stem}_summary.json"
        result = RasterResult(
            raster=self.files[0].path,
            files={**files, "summary": summary},
            heights_m=self.heights_m,
            per_height=per_height,
            violations=violations,
            valid_px=int(per_height[0]["valid_px"]),
            seconds=round(time.perf_counter() - started, 3),
            notes=self._notes(files),
        )
        write_json(summary, self._summary(result), error=PredictionError)
        return result

    def _axis(self, length: int) -> WindowAxis:
        model = self.predictor.model
        return plan_axis(
            length,
            self.settings.tile_px or self.predictor.card.tile_px,
            self.settings.overlap,
            self.settings.blend,
            multiple_px=int(getattr(model, "multiple", 1)),
            receptive_field_px=getattr(model, "receptive_field_px", None),
        )

    def _stream(self, probs_path: Path | None, mask_path: Path) -> tuple[int, ...]:
        """Write probabilities, in order over heights, and the mask; returns the violations of that order before."""
        grid, card = self.grid, self.predictor.card
        self.progress(0, 1, "reference surface")
        reads = [self.thumbnail.watching(self.files[0].read), *(file.read for file in self.files[1:])]
        try:
            scene = SceneInput(card.bands, reads, grid.height, grid.width, card.normaliser, grid.pixel_size_m)
        except DataError as cause:
            name = self.files[0].path.name
            if name in str(cause):
                raise
            raise PredictionError(f"{name}: {cause}") from cause
        bands = stream(
            scene,
            self.rows,
            self.cols,
            lambda images: self.predictor.raw_probs(images, self.heights_m),
            channels=len(self.heights_m),
            batch_size=self.windows_per_pass,
            device=self.predictor.device,
            progress=lambda done, total: self.progress(done, total, "windows"),
        )
        violations = np.zeros(len(self.heights_m) - 1, np.int64)
        valid_px = 0
        with ExitStack() as stack:
            mask = stack.enter_context(self._writer(mask_path, "uint8", IGNORE_INDEX))
            probs = stack.enter_context(self._writer(probs_path, "float32", np.nan)) if probs_path else None
            for band in bands:
                if not np.isfinite(band.probs.sum(dtype=np.float64)):
                    raise PredictionError(
                        f"The model answers with values that are no numbers in {self.files[0].path}. "
                        "Its weights are damaged by training; take an earlier checkpoint."
                    )
                valid_px += int(np.count_nonzero(band.valid))
                violations += order_over_heights(band.probs, band.valid)
                mask.write(band.row, gap_codes(band.probs, band.valid, self.threshold))
                if probs is not None:
                    np.copyto(band.probs, np.nan, where=~band.valid)
                    probs.write(band.row, band.probs)
        if not valid_px:
            raise PredictionError(f"{self.files[0].path}: not one pixel was measured. Check the nodata value.")
        return tuple(int(count) for count in violations)

    def _writer(self, path: Path, dtype: str, nodata: float) -> RowWriter:
        return RowWriter(path, self.grid, dtype=dtype, nodata=nodata, names=self.names)

    def _sieved(self, mask_path: Path, path: Path) -> Path:
        """The mask without small gaps, in a new file; the old one is removed."""
        least_px = self.settings.min_area_m2 / pixel_area_m2(self.grid) * (1 - 1e-9)
        with open_raster(mask_path) as mask, self._writer(path, "uint8", IGNORE_INDEX) as sieved:
            for band in range(1, mask.count + 1):
                self.progress(band - 1, mask.count, "small gaps")
                read = mask_reader(mask, band)
                gaps = keep_from(find_gaps(read, mask.height, mask.width), least_px)
                for row, numbers in gaps.numbers(read):
                    codes = mask.read(band, window=((row, row + len(numbers)), (0, mask.width)))
                    codes[(codes == GAP) & (numbers < 0)] = NO_GAP
                    sieved.write_band(band, row, codes)
        mask_path.unlink()
        return path

    def _measured(self, mask_path: Path) -> tuple[dict[str, Any], ...]:
        """Statistics of each height; on the way the mask's thumbnail."""
        counter = GapCounter(self.heights_m, pixel_area_m2(self.grid))
        step = max(1, _PASS_PX // self.grid.width)
        with open_raster(mask_path) as mask:
            for row in range(0, mask.height, step):
                codes = mask.read(window=((row, min(row + step, mask.height)), (0, mask.width)))
                counter.add(codes)
                self.thumbnail.add_mask(row, codes)
        return tuple(counter.result()["heights"])

    def _written(self, folder: Path, probs: Path, mask: Path, shares: Sequence[float | None]) -> dict[str, Path]:
        """The files a person asked for."""
        settings, files = self.settings, {}
        if settings.polygons != "none":
            self.progress(0, 1, "polygons")
            files["polygons"] = folder / f"{self.stem}_gaps.{settings.polygons}"
            vectorise_mask(mask, files["polygons"], heights_m=self.heights_m, probabilities=probs)
        self.progress(0, 1, "rasters")
        if settings.probabilities:
            files["probability"] = folder / f"{self.stem}_probability.tif"
            copy_to_cog(probs, files["probability"], resampling="average")
        files["gaps"] = folder / f"{self.stem}_gaps.tif"
        copy_to_cog(mask, files["gaps"], resampling="nearest")
        if settings.quicklook:
            files["quicklook"] = folder / f"{self.stem}_quicklook.png"
            draw_quicklook(
                files["quicklook"], self.thumbnail, self.heights_m, shares, self.grid, title=f"Gaps in {self.stem}"
            )
        return files

    def _notes(self, files: Mapping[str, Path]) -> tuple[str, ...]:
        own = [f"{file.path.name}: {note}" for file in self.files for note in file.notes]
        possible = {f"{self.stem}_{ending}" for ending in _ENDINGS} - {path.name for path in files.values()}
        left = [
            f"{name} is left from an earlier prediction and does not belong to this map"
            for name in sorted(possible)
            if (self.out_dir / name).exists()
        ]
        return (*own, *self.predictor.card.notes(self.heights_m, self.grid.pixel_size_m), *left)

    def _summary(self, result: RasterResult) -> dict[str, Any]:
        card = self.predictor.card
        pairs = max(result.valid_px, 1)
        return {
            "raster": str(result.raster),
            "taken_as": list(card.bands),
            "model_sha256": card.sha256,
            "heights_m": list(result.heights_m),
            "valid_px": result.valid_px,
            "pixel_size_m": self.grid.pixel_size_m,
            "crs": self.grid.crs,
            "neighbours": 8,
            "per_height": list(result.per_height),
            "raw_order_violations": [
                {"lower_m": lower, "upper_m": upper, "pixels": count, "share": count / pairs}
                for lower, upper, count in zip(self.heights_m, self.heights_m[1:], result.violations, strict=False)
            ],
            "settings": self.settings.model_dump(mode="json")
            | {
                "heights_m": list(self.heights_m),
                "tile_px": self.settings.tile_px or card.tile_px,
                "probability_threshold": self.threshold,
                "windows_per_pass": self.windows_per_pass,
                "halo_px": [self.rows.halo_px, self.cols.halo_px],
                "windows": len(self.rows.starts) * len(self.cols.starts),
                "device": str(self.predictor.device),
            },
            "files": {name: path.name for name, path in result.files.items()},
            "notes": list(result.notes),
            "seconds": result.seconds,
        }


def order_over_heights(probs: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Let probabilities never fall from one height to the next, in place, by a running maximum.

    Args:
        probs: (K, h, W), heights rising; clipped to 0..1 as well, which blending may leave by a rounding error.
        valid: (h, W) bool.

    Returns:
        (K - 1) valid pixels where the probability at a height lay above that at the next one.
    """
    np.clip(probs, 0.0, 1.0, out=probs)
    violations = np.zeros(len(probs) - 1, np.int64)
    for k, (lower, upper) in enumerate(pairwise(probs)):
        violations[k] = np.count_nonzero((lower > upper) & valid)
    np.maximum.accumulate(probs, axis=0, out=probs)
    return violations


def gap_codes(
    probs: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], probability_threshold: float
) -> npt.NDArray[np.uint8]:
    """(K, h, W) uint8: 1 where ``probs`` lies above the threshold, 0 where not, 255 where not valid."""
    codes = (probs > probability_threshold).view(np.uint8)
    np.copyto(codes, IGNORE_INDEX, where=~valid)
    return codes


def cache_bytes(files: Sequence[HeightFile], heights: int) -> int:
    """What GDAL may keep: a row of blocks of what is read or of what is written; its default grows with the raster."""
    width = files[0].grid.width
    read = sum(width * file.block_rows * np.dtype(file.header.dtype).itemsize for file in files)
    return _CACHE_BYTES + max(read, width * BLOCK_PX * 4 * heights)


def _require_one_grid(files: Sequence[HeightFile]) -> None:
    for file in files[1:]:
        found = differences(files[0].grid, file.grid)
        if found:
            raise PredictionError(
                f"{files[0].path} and {file.path} lie on different grids: {'; '.join(found)}. "
                "Bring them to one grid first, for example with rio warp --like."
            )


@contextmanager
def _staging(out_dir: Path, stem: str, bytes_needed: int) -> Iterator[Path]:
    """A hidden folder in ``out_dir`` that is gone afterwards, and so is ``out_dir`` if nothing was put into it."""
    try:
        check_writable(out_dir, need_bytes=bytes_needed)
    except RunError as error:
        raise PredictionError(str(error)) from error
    missing = [folder for folder in (out_dir, *out_dir.parents) if not folder.exists()]
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{stem}_", suffix=".part", dir=out_dir))
    except OSError as error:
        raise PredictionError(explain_os_error(error, out_dir)) from error
    try:
        yield folder
    except PredictionError as error:  # a person knows the output folder, not the hidden one
        raise PredictionError(str(error).replace(str(folder), str(out_dir))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for made in missing:
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()


def _moved_into_place(result: RasterResult, out_dir: Path) -> RasterResult:
    files = {name: out_dir / path.name for name, path in result.files.items()}
    try:
        for name, path in result.files.items():
            os.replace(path, files[name])
    except OSError as error:
        raise PredictionError(explain_os_error(error, out_dir)) from error
    return replace(result, files=files)


def _silent(done: int, total: int, what: str) -> None:
    """Progress nobody asked for."""

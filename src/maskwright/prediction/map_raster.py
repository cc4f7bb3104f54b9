"""From a raster of heights to its maps: stream, order over heights, sieve, statistics, polygons, picture, summary.

Everything is written to a hidden folder inside the output folder and moved into place once all of it is complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
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
from maskwright.errors import DataError, PredictionError
from maskwright.files import write_json
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.blending import WindowAxis, plan_axis
from maskwright.prediction.geotiff import BLOCK_PX, RowWriter, copy_to_cog, mask_reader, open_raster
from maskwright.prediction.outputs import Progress, RasterResult, moved_into_place, silent, staging
from maskwright.prediction.overlay import Thumbnail, draw_quicklook
from maskwright.prediction.postprocess import find_gaps, keep_from
from maskwright.prediction.raster_stream import stream
from maskwright.prediction.scene_input import SceneInput
from maskwright.prediction.vectorise import pixel_area_m2, vectorise_mask
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = [
    "ENDINGS",
    "HeightRange",
    "cache_bytes",
    "check_raster",
    "gap_codes",
    "map_raster",
    "open_rasters",
    "order_over_heights",
    "window_axes",
]

_PASS_PX = 2**20
_CACHE_BYTES = 4 * 2**20
_CANOPY_NAMES = ("chm", "canopy", "ndsm")
_CANOPY_RANGE_M = (-20.0, 100.0)  # heights above ground lie within
_GROUND_RANGE_M = (-2.0, 0.5)  # and the lowest of them near 0
ENDINGS = ("summary.json", "probability.tif", "gaps.tif", "gaps.gpkg", "gaps.geojson", "quicklook.png")


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
        files = open_rasters(stack, predictor, paths, nodata)
        job = _Job(predictor, files, out_dir, heights_m, settings, progress or silent)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(files, len(heights_m))))
        folder = stack.enter_context(staging(out_dir, paths[0].stem, job.bytes_needed))
        result = job.run(folder, started)
        return moved_into_place(result, out_dir)


def open_rasters(
    stack: ExitStack,
    predictor: Predictor,
    paths: Sequence[Path],
    nodata: tuple[float | str | None, float | str | None],
) -> list[HeightFile]:
    """Open the rasters of one input; closed with ``stack``.

    Raises:
        DataError: If one cannot be read, has several bands, or lies in degrees.
        PredictionError: If they do not lie on one grid, or have pixels of quite another size than the training.
    """
    files = [
        stack.enter_context(open_heights(path, _nodata_rule(predictor, path, kind, wish)))
        for path, kind, wish in zip(paths, predictor.card.bands, nodata, strict=False)
    ]
    _require_one_grid(files)
    predictor.card.require_pixel_size(files[0].path, files[0].grid.pixel_size_m)
    return files


def check_raster(
    predictor: Predictor, paths: Sequence[Path], nodata: tuple[float | str | None, float | str | None]
) -> None:
    """Everything about an input that its headers tell, without mapping it. Raises as :func:`open_rasters`."""
    with ExitStack() as stack:
        open_rasters(stack, predictor, paths, nodata)


def _nodata_rule(predictor: Predictor, path: Path, kind: str, wish: float | str | None) -> float | str | None:
    return predictor.card.nodata_of(kind, read_header(path).tag) if wish is None else wish


class HeightRange:
    """The lowest and highest of the heights that a reader passes on.

    Attributes:
        low: Metres; infinite before anything was read.
        high: Metres.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def watching(
        self, read: Callable[[Window], npt.NDArray[np.float32]]
    ) -> Callable[[Window], npt.NDArray[np.float32]]:
        """The same reader."""

        def watched(window: Window) -> npt.NDArray[np.float32]:
            heights = read(window)
            self.low = min(self.low, float(np.fmin.reduce(heights, axis=None, initial=np.inf)))
            self.high = max(self.high, float(np.fmax.reduce(heights, axis=None, initial=-np.inf)))
            return heights

        return watched

    def notes(self, kind: str, path: Path) -> tuple[str, ...]:
        """Doubts about whether a raster is what the model was trained on, with what speaks for them."""
        named_canopy = any(word in path.stem.lower() for word in _CANOPY_NAMES)
        above_ground = self.low >= _CANOPY_RANGE_M[0] and self.high <= _CANOPY_RANGE_M[1]
        if (
            kind == "dsm"
            and above_ground
            and (named_canopy or (self.low >= _GROUND_RANGE_M[0] and self.low <= _GROUND_RANGE_M[1]))
        ):
            why = " and its name says so" if named_canopy else ""
            return (
                f"{path.name} holds {self.low:.1f} to {self.high:.1f} m, as heights above ground do{why}, and "
                "the model was trained on surfaces (DSM). If it is a canopy height model, use a model trained on one; "
                "do not trust this map",
            )
        if kind == "chm" and self.high > _CANOPY_RANGE_M[1]:
            return (
                f"{path.name} holds {self.low:.1f} to {self.high:.1f} m, more than any tree is high, and the model was "
                "trained on heights above ground (CHM). If it is a surface, use a model trained on one; do not trust "
                "this map",
            )
        return ()


def window_axes(
    predictor: Predictor, size: tuple[int, int], settings: PredictionConfig
) -> tuple[WindowAxis, WindowAxis]:
    """Windows down and across a scene of so many rows and columns, as the network and the settings want them."""
    rows, cols = (
        plan_axis(
            length,
            settings.tile_px or predictor.card.tile_px,
            settings.overlap,
            settings.blend,
            multiple_px=int(getattr(predictor.model, "multiple", 1)),
            receptive_field_px=getattr(predictor.model, "receptive_field_px", None),
        )
        for length in size
    )
    return rows, cols


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
        task = predictor.card.task
        assert isinstance(task, HeightGaps)
        own = task.probability_threshold
        self.threshold = own if settings.probability_threshold is None else settings.probability_threshold
        # On the CPU one window at a time is fastest, and then no setting of the batch can change a bit of the result.
        self.windows_per_pass = 1 if predictor.device.type == "cpu" else settings.batch_size
        self.rows, self.cols = window_axes(predictor, (self.grid.height, self.grid.width), settings)
        self.ending = settings.polygon_ending()
        self.needs_probs = settings.wants_probabilities() or self.ending is not None
        self.thumbnail = Thumbnail(self.grid.height, self.grid.width)
        self.ranges = [HeightRange() for _ in files]

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
            size=(self.grid.height, self.grid.width),
        )
        write_json(summary, self._summary(result), error=PredictionError)
        return result

    def _stream(self, probs_path: Path | None, mask_path: Path) -> tuple[int, ...]:
        """Write probabilities, in order over heights, and the mask; returns the violations of that order before."""
        grid, card = self.grid, self.predictor.card
        self.progress(0, 1, "reference surface")
        watched = [extent.watching(file.read) for extent, file in zip(self.ranges, self.files, strict=True)]
        reads = [self.thumbnail.watching(watched[0]), *watched[1:]]
        try:
            scene = SceneInput(
                card.bands, reads, grid.height, grid.width, card.normaliser, grid.pixel_size_m, card.context
            )
        except DataError as cause:
            name = self.files[0].path.name
            if name in str(cause):
                raise
            raise PredictionError(f"{name}: {cause}") from cause
        bands = stream(
            scene,
            self.rows,
            self.cols,
            lambda images: self.predictor.raw_probs(images, self.heights_m, views=self.settings.tta),
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
        if self.ending is not None:
            self.progress(0, 1, "polygons")
            files["polygons"] = folder / f"{self.stem}_gaps.{self.ending}"
            vectorise_mask(mask, files["polygons"], heights_m=self.heights_m, probabilities=probs)
        self.progress(0, 1, "rasters")
        if settings.wants_probabilities():
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
        possible = {f"{self.stem}_{ending}" for ending in ENDINGS if ending != "summary.json"} - {
            path.name for path in files.values()
        }
        left = [
            f"{name} is left from an earlier prediction and does not belong to this map"
            for name in sorted(possible)
            if (self.out_dir / name).exists()
        ]
        doubts = [
            note
            for extent, kind, file in zip(self.ranges, self.predictor.card.bands, self.files, strict=False)
            for note in extent.notes(kind, file.path)
        ]
        return (*own, *doubts, *self.predictor.card.notes(self.heights_m, self.grid.pixel_size_m), *left)

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

"""From a raster of heights to its maps: stream, order over heights, sieve, statistics, polygons, picture, summary.

Everything is written to a hidden folder inside the output folder and moved into place once all of it is complete.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio

from maskwright.config.prediction import PredictionConfig
from maskwright.data.gap_statistics import GapCounter
from maskwright.data.sources import HeightFile
from maskwright.data.targets import GAP
from maskwright.errors import PredictionError
from maskwright.files import write_json
from maskwright.pixels import IGNORE_INDEX
from maskwright.prediction.banded import identity_of, write_bands
from maskwright.prediction.cleaning import cleaned, cleaning_notes, copies_of_mask
from maskwright.prediction.gap_sizes import fits_of_gaps, write_gap_sizes
from maskwright.prediction.geotiff import RowWriter, bytes_on_disk, copy_to_cog, open_raster
from maskwright.prediction.height_input import HeightScene, cache_bytes, open_rasters
from maskwright.prediction.journal import Journal
from maskwright.prediction.otsu import otsu_of_raster
from maskwright.prediction.outputs import Progress, RasterResult, Staging, moved_into_place, silent, staging
from maskwright.prediction.overlay import Thumbnail, draw_quicklook
from maskwright.prediction.qgis_style import gap_style, ramp_style
from maskwright.prediction.raster_stream import Band
from maskwright.prediction.uncertainty import check_uncertainty, entropy_bits, uncertainty_names, uncertainty_unit
from maskwright.prediction.vectorise import pixel_area_m2, vectorise_mask
from maskwright.tasks.height_gaps import HeightGaps
from maskwright.types import Window

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["ENDINGS", "gap_codes", "map_raster", "order_over_heights"]

_PASS_PX = 2**20
_COLORS = {0: (255, 255, 255, 255), GAP: (213, 94, 0, 255), IGNORE_INDEX: (0, 0, 0, 0)}
ENDINGS = (
    "summary.json",
    "probability.tif",
    "probability.qml",
    "gaps.tif",
    "gaps.gpkg",
    "gaps.geojson",
    "gaps.qml",
    "gap_sizes.csv",
    "gap_sizes.png",
    "quicklook.png",
    "uncertainty.tif",
)


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
        files = open_rasters(stack, predictor, paths, nodata, resample=settings.resample)
        job = _Job(predictor, files, out_dir, heights_m, settings, progress or silent)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(files)))
        identity = identity_of(predictor, paths, heights_m, settings, nodata=[file.nodata_used for file in files])
        staged = stack.enter_context(staging(out_dir, paths[0].stem, job.bytes_needed, identity))
        result = job.run(staged, started)
        return moved_into_place(result, out_dir)


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
        check_uncertainty(settings, len(predictor.members))
        self.ending = settings.polygon_ending()
        self.cuts_anew = settings.probability_rule == "otsu"
        self.needs_probs = settings.wants_probabilities() or self.ending is not None or self.cuts_anew
        if settings.crf:
            raise PredictionError(
                "prediction.crf sharpens photographs along their edges, and needs them whole in memory; it cannot be "
                f"used on the heights of {files[0].path}. Set prediction.crf: false."
            )
        self.thumbnail = Thumbnail(self.grid.height, self.grid.width)
        self.scene = HeightScene(predictor, files, settings, self.thumbnail)

    @property
    def bytes_needed(self) -> int:
        """Of the uncompressed maps and of the files made of them, which exist side by side for a while."""
        settings = self.settings
        parts = 1 + copies_of_mask(settings) + 4 * self.needs_probs + 4 * (settings.uncertainty != "none")
        finals = 1 + 4 * settings.wants_probabilities() + 4 * (settings.uncertainty != "none")
        return bytes_on_disk(self.grid.height * self.grid.width * len(self.heights_m), parts, finals)

    def run(self, staged: Staging, started: float) -> RasterResult:
        """All steps; the files of the result lie in the folder."""
        folder = staged.folder
        self.notes = list(staged.notes)
        probs, mask, doubt = (folder / f"{name}.part.vrt" for name in ("probs", "mask", "uncertainty"))
        violations = self._stream(staged.journal, probs, mask, doubt)
        if self.cuts_anew:
            mask = self._cut_anew(probs, mask)
        mask = cleaned(
            mask,
            folder,
            self.settings,
            codes=(GAP,),
            pixel_m2=pixel_area_m2(self.grid),
            writer=lambda path: self._writer(path, "uint8", IGNORE_INDEX),
            progress=self.progress,
        )
        per_height = self._measured(mask)
        files = self._written(folder, probs, mask, [row["gap_share"] for row in per_height])
        if self.settings.uncertainty != "none":
            files["uncertainty"] = folder / f"{self.stem}_uncertainty.tif"
            copy_to_cog(doubt, files["uncertainty"], resampling="average")
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

    def _stream(self, journal: Journal, probs: Path, mask: Path, doubt: Path) -> tuple[int, ...]:
        """Write probabilities, in order over heights, and the mask; returns the violations of that order before."""
        wanted = [(mask, "uint8", float(IGNORE_INDEX))]
        if self.needs_probs:
            wanted.append((probs, "float32", np.nan))
        with ExitStack() as stack:
            keep = journal.row > 0
            files = [stack.enter_context(self._writer(*each, keep=keep)) for each in wanted]
            kind = self.settings.uncertainty
            if kind != "none":
                names = uncertainty_names(self.names, kind, exclusive=False)
                own = RowWriter(
                    doubt,
                    self.grid,
                    dtype="float32",
                    nodata=np.nan,
                    names=names,
                    tags=self._tags(),
                    unit=uncertainty_unit(kind),
                    keep=keep,
                )
                files.append(stack.enter_context(own))
            sink = _GapSink(files, len(self.heights_m), self.threshold, kind, with_probs=self.needs_probs)
            bands, name = self.scene.bands(self.heights_m, self.progress), str(self.files[0].path)
            write_bands(bands, sink, journal, self.grid.height, name, self.progress)
        if not sink.valid_px:
            raise PredictionError(f"{self.files[0].path}: not one pixel was measured. Check the nodata value.")
        return tuple(int(count) for count in sink.violations)

    def _writer(self, path: Path, dtype: str, nodata: float, *, keep: bool = False) -> RowWriter:
        colors = _COLORS if dtype == "uint8" and len(self.names) == 1 else None  # TIFF has one table for one band
        return RowWriter(
            path,
            self.grid,
            dtype=dtype,
            nodata=nodata,
            names=self.names,
            tags=self._tags(),
            colors=colors,
            keep=keep,
        )

    def _tags(self) -> dict[str, str]:
        """Facts kept in the files."""
        return {
            "MASKWRIGHT_MODEL_SHA256": self.predictor.card.sha256,
            "MASKWRIGHT_HEIGHTS_M": ",".join(f"{height:g}" for height in self.heights_m),
            "MASKWRIGHT_PROBABILITY_THRESHOLD": f"{self.threshold:g}",
        }

    def _cut_anew(self, probs_path: Path, mask_path: Path) -> Path:
        """The mask in a new file, cut where the histogram of all probabilities says; the old one if there is no cut."""
        found = otsu_of_raster(probs_path)[-1]
        if found is None:
            self.notes.append(f"all probabilities are about the same, so the cut stays at {self.threshold:g}")
            return mask_path
        self.threshold = found
        rows, cut = max(1, _PASS_PX // self.grid.width), mask_path.with_name("cut.part.vrt")
        with open_raster(probs_path) as probs, self._writer(cut, "uint8", IGNORE_INDEX) as mask:
            for row in range(0, self.grid.height, rows):
                values = probs.read(window=((row, min(row + rows, self.grid.height)), (0, self.grid.width)))
                mask.write(row, gap_codes(values, np.isfinite(values[0]), self.threshold))
        return cut

    def _measured(self, mask_path: Path) -> tuple[dict[str, Any], ...]:
        """Statistics of each height; on the way the mask's thumbnail."""
        counter = GapCounter(self.heights_m, pixel_area_m2(self.grid))
        step = max(1, _PASS_PX // self.grid.width)
        with open_raster(mask_path) as mask:
            for row in range(0, mask.height, step):
                codes = mask.read(window=((row, min(row + step, mask.height)), (0, mask.width)))
                counter.add(codes)
                self.thumbnail.add_mask(row, codes)
        self.sizes = counter.sizes()
        self.laws = fits_of_gaps(self.sizes, pixel_area_m2(self.grid))
        rows = zip(counter.result()["heights"], self.laws, strict=True)
        return tuple({**row, "size_exponent": law} for row, law in rows)

    def _written(self, folder: Path, probs: Path, mask: Path, shares: Sequence[float | None]) -> dict[str, Path]:
        """The files a person asked for."""
        settings, files = self.settings, {}
        if self.ending is not None:
            self.progress(0, 1, "polygons")
            files["polygons"] = folder / f"{self.stem}_gaps.{self.ending}"
            vectorise_mask(
                mask, files["polygons"], heights_m=self.heights_m, probabilities=probs, surface=self._surface_rows
            )
        self.progress(0, 1, "rasters")
        if settings.wants_probabilities():
            files["probability"] = folder / f"{self.stem}_probability.tif"
            copy_to_cog(probs, files["probability"], resampling="average")
        files["gaps"] = folder / f"{self.stem}_gaps.tif"
        copy_to_cog(mask, files["gaps"], resampling="nearest")
        files |= self._written_about(folder, with_probability="probability" in files)
        if settings.quicklook:
            files["quicklook"] = folder / f"{self.stem}_quicklook.png"
            draw_quicklook(
                files["quicklook"], self.thumbnail, self.heights_m, shares, self.grid, title=f"Gaps in {self.stem}"
            )
        return files

    def _written_about(self, folder: Path, *, with_probability: bool) -> dict[str, Path]:
        """Sizes of gaps, and styles for QGIS."""
        settings, files = self.settings, {}
        if settings.gap_sizes:
            files["gap_sizes"] = folder / f"{self.stem}_gap_sizes.csv"
            files["gap_size_plot"] = folder / f"{self.stem}_gap_sizes.png"
            own = files["gap_sizes"], files["gap_size_plot"]
            write_gap_sizes(*own, self.heights_m, self.sizes, pixel_area_m2(self.grid), self.laws)
        if settings.qgis_style:
            files["style"] = folder / f"{self.stem}_gaps.qml"
            gap_style(files["style"], self.heights_m)
        if settings.qgis_style and with_probability:
            files["probability_style"] = folder / f"{self.stem}_probability.qml"
            ramp_style(files["probability_style"])
        return files

    def _surface_rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Heights (h, W) of what was mapped, of the canopy where the model sees both."""
        return self.files[-1].read(Window(start, 0, stop - start, self.grid.width))

    def _notes(self, files: Mapping[str, Path]) -> tuple[str, ...]:
        possible = {f"{self.stem}_{ending}" for ending in ENDINGS if ending != "summary.json"} - {
            path.name for path in files.values()
        }
        left = [
            f"{name} is left from an earlier prediction and does not belong to this map"
            for name in sorted(possible)
            if (self.out_dir / name).exists()
        ]
        cleaning = cleaning_notes(self.settings, pixel_area_m2(self.grid), len(self.heights_m))
        model = self.predictor.card.notes(self.heights_m, self.scene.pixel_size_m)
        return (*self.scene.notes(), *self.notes, *cleaning, *model, *left)

    def _summary(self, result: RasterResult) -> dict[str, Any]:
        card, seen = self.predictor.card, self.grid if self.scene.scale is None else self.scene.scale.grid
        rows, cols = self.predictor.window_axes((seen.height, seen.width), self.settings)
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
                "windows_per_pass": self.predictor.windows_per_pass(self.settings),
                "halo_px": [rows.halo_px, cols.halo_px],
                "windows": len(rows.starts) * len(cols.starts),
                "device": str(self.predictor.device),
            },
            "files": {name: path.name for name, path in result.files.items()},
            "notes": list(result.notes),
            "seconds": result.seconds,
        }


class _GapSink:
    """Writes finished rows of gaps: the mask, probabilities, uncertainty, as many as there are files."""

    def __init__(
        self, files: Sequence[RowWriter], heights: int, threshold: float, uncertainty: str, *, with_probs: bool
    ) -> None:
        self.files, self._heights, self._threshold = files, heights, threshold
        self._probs = files[1] if with_probs else None
        self._uncertainty = uncertainty
        self.violations, self.valid_px = np.zeros(heights - 1, np.int64), 0

    def write(self, band: Band) -> None:
        probs = band.probs[: self._heights]
        self.valid_px += int(np.count_nonzero(band.valid))
        self.violations += order_over_heights(probs, band.valid)
        self.files[0].write(band.row, gap_codes(probs, band.valid, self._threshold))
        if self._uncertainty != "none":
            spread = self._uncertainty == "spread"
            doubt = band.probs[self._heights :] if spread else entropy_bits(probs, exclusive=False)
            np.copyto(doubt, np.nan, where=~band.valid)
            self.files[-1].write(band.row, doubt)
        if self._probs is not None:
            np.copyto(probs, np.nan, where=~band.valid)
            self._probs.write(band.row, probs)

    def facts(self) -> dict[str, Any]:
        return {"valid_px": self.valid_px, "violations": [int(count) for count in self.violations]}

    def restore(self, facts: Mapping[str, Any]) -> None:
        self.valid_px = int(facts["valid_px"])
        self.violations = np.array(facts["violations"], np.int64)


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

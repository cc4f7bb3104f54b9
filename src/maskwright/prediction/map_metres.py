"""From a raster to canopy heights in metres: stream, raster, picture, summary."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from PIL import Image

from maskwright.config.prediction import PredictionConfig
from maskwright.errors import PredictionError
from maskwright.files import explain_os_error, write_json
from maskwright.pictures import downsample, shade
from maskwright.prediction.banded import identity_of, write_bands
from maskwright.prediction.geotiff import RowWriter, bytes_on_disk, copy_to_cog, open_raster
from maskwright.prediction.height_input import HeightScene, cache_bytes, open_rasters
from maskwright.prediction.journal import Journal
from maskwright.prediction.outputs import Progress, RasterResult, moved_into_place, silent, staging
from maskwright.prediction.overlay import LIMIT_PX
from maskwright.prediction.raster_stream import Band
from maskwright.prediction.uncertainty import check_uncertainty

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["ENDINGS", "map_metres"]

ENDINGS = ("summary.json", "height.tif", "uncertainty.tif", "quicklook.png")


def map_metres(
    predictor: Predictor,
    paths: Sequence[Path],
    out_dir: Path,
    heights_m: tuple[float, ...],
    settings: PredictionConfig,
    nodata: tuple[float | str | None, float | str | None],
    progress: Progress | None,
) -> RasterResult:
    """Write ``{stem}_height.tif`` in metres, NaN where not measured. Arguments as of ``map_raster``."""
    started = time.perf_counter()
    progress = progress or silent
    check_uncertainty(settings, len(predictor.members), metres=True)
    with ExitStack() as stack:
        files = open_rasters(stack, predictor, paths, nodata, resample=settings.resample)
        stem, grid = paths[0].stem, files[0].grid
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(files)))
        needed = bytes_on_disk(grid.height * grid.width * (1 + (settings.uncertainty != "none")), 4, 4)
        identity = identity_of(predictor, paths, (), settings, nodata=[file.nodata_used for file in files])
        staged = stack.enter_context(staging(out_dir, stem, needed, identity))
        folder = staged.folder
        scene = HeightScene(predictor, files, settings)
        part, doubt = folder / "height.part.vrt", folder / "uncertainty.part.vrt"
        facts = _stream(predictor, scene, settings, staged.journal, (part, doubt), str(paths[0]), progress)
        progress(0, 1, "rasters")
        result_files = {"height": folder / f"{stem}_height.tif"}
        copy_to_cog(part, result_files["height"], resampling="average")
        if settings.uncertainty != "none":
            result_files["uncertainty"] = folder / f"{stem}_uncertainty.tif"
            copy_to_cog(doubt, result_files["uncertainty"], resampling="average")
        if settings.quicklook:
            result_files["quicklook"] = folder / f"{stem}_quicklook.png"
            _draw(part, result_files["quicklook"], grid.pixel_size_m)
        result_files["summary"] = folder / f"{stem}_summary.json"
        result = RasterResult(
            raster=paths[0],
            files=result_files,
            heights_m=(),
            per_height=(),
            violations=(),
            valid_px=int(facts["valid_px"]),
            seconds=round(time.perf_counter() - started, 3),
            notes=(*scene.notes(), *staged.notes, *predictor.card.notes((), scene.pixel_size_m)),
            size=(grid.height, grid.width),
        )
        summary = {
            "raster": str(paths[0]),
            "taken_as": list(predictor.card.bands),
            "model_sha256": predictor.card.sha256,
            "task": predictor.card.task.kind,
            **facts,
            "crs": grid.crs,
            "pixel_size_m": grid.pixel_size_m,
            "settings": settings.model_dump(mode="json"),
            "files": {name: path.name for name, path in result_files.items()},
            "notes": list(result.notes),
            "seconds": result.seconds,
        }
        write_json(result_files["summary"], summary, error=PredictionError)
        return moved_into_place(result, out_dir)


def _stream(
    predictor: Predictor,
    scene: HeightScene,
    settings: PredictionConfig,
    journal: Journal,
    paths: tuple[Path, Path],
    name: str,
    progress: Progress,
) -> dict[str, Any]:
    """Write the heights, and their spread if asked; returns the statistics of the heights."""
    names, tags = ("canopy height (m)",), {"MASKWRIGHT_MODEL_SHA256": predictor.card.sha256}
    wanted = [(paths[0], names)]
    if settings.uncertainty != "none":
        wanted.append((paths[1], ("standard deviation, canopy height (m)",)))
    with ExitStack() as stack:
        files = [
            stack.enter_context(
                RowWriter(
                    path,
                    scene.grid,
                    dtype="float32",
                    nodata=np.nan,
                    names=told,
                    tags=tags,
                    unit="m",
                    keep=journal.row > 0,
                )
            )
            for path, told in wanted
        ]
        sink = _MetreSink(files)
        write_bands(scene.bands((), progress), sink, journal, scene.grid.height, name, progress)
    if not sink.valid_px:
        raise PredictionError(f"{name}: not one pixel was measured. Check the nodata value.")
    return {
        "valid_px": sink.valid_px,
        "mean_m": sink.total / sink.valid_px,
        "min_m": sink.low,
        "max_m": sink.high,
    }


class _MetreSink:
    """Writes finished rows of heights and, with a second file, their spread."""

    def __init__(self, files: Sequence[RowWriter]) -> None:
        self.files = files
        self.valid_px, self.total, self.low, self.high = 0, 0.0, math.inf, -math.inf

    def write(self, band: Band) -> None:
        heights = band.probs[0][band.valid]
        self.valid_px += heights.size
        self.total += float(heights.sum(dtype=np.float64))
        self.low = float(np.min(heights, initial=self.low))
        self.high = float(np.max(heights, initial=self.high))
        np.copyto(band.probs, np.nan, where=~band.valid)
        for file, plane in zip(self.files, band.probs, strict=True):
            file.write_band(1, band.row, plane)

    def facts(self) -> dict[str, Any]:
        return {"valid_px": self.valid_px, "total": self.total, "low": self.low, "high": self.high}

    def restore(self, facts: Mapping[str, Any]) -> None:
        self.valid_px, self.total = int(facts["valid_px"]), float(facts["total"])
        self.low, self.high = float(facts["low"]), float(facts["high"])


def _draw(raster: Path, path: Path, pixel_size_m: float) -> None:
    with open_raster(raster) as dataset:
        step = max(1, -(-max(dataset.shape) // LIMIT_PX))
        heights = dataset.read(1, out_shape=(-(-dataset.height // step), -(-dataset.width // step)))
    small, factor = downsample(heights, LIMIT_PX)
    try:
        Image.fromarray(shade(small, pixel_size_m * step * factor)).save(path, "PNG")
    except OSError as error:
        raise PredictionError(explain_os_error(error, path)) from error

"""From a raster to canopy heights in metres: stream, raster, picture, summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from PIL import Image

from maskwright.config.prediction import PredictionConfig
from maskwright.data.sources import HeightFile
from maskwright.errors import DataError, PredictionError
from maskwright.files import explain_os_error, write_json
from maskwright.pictures import downsample, shade
from maskwright.prediction.geotiff import RowWriter, copy_to_cog, open_raster
from maskwright.prediction.map_raster import HeightRange, cache_bytes, open_rasters, window_axes
from maskwright.prediction.outputs import Progress, RasterResult, moved_into_place, silent, staging
from maskwright.prediction.overlay import LIMIT_PX
from maskwright.prediction.raster_stream import stream
from maskwright.prediction.scene_input import SceneInput

if TYPE_CHECKING:
    from maskwright.prediction.predictor import Predictor

__all__ = ["ENDINGS", "map_metres"]

ENDINGS = ("summary.json", "height.tif", "quicklook.png")


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
    with ExitStack() as stack:
        files = open_rasters(stack, predictor, paths, nodata)
        stem, grid = paths[0].stem, files[0].grid
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(files, 1)))
        folder = stack.enter_context(staging(out_dir, stem, grid.height * grid.width * 4))
        part, result_files = folder / "height.part.tif", {"height": folder / f"{stem}_height.tif"}
        facts, doubts = _stream(predictor, files, settings, part, progress)
        progress(0, 1, "rasters")
        copy_to_cog(part, result_files["height"], resampling="average")
        if settings.quicklook:
            result_files["quicklook"] = folder / f"{stem}_quicklook.png"
            _draw(part, result_files["quicklook"], grid.pixel_size_m)
        result_files["summary"] = folder / f"{stem}_summary.json"
        own = [f"{file.path.name}: {note}" for file in files for note in file.notes]
        result = RasterResult(
            raster=paths[0],
            files=result_files,
            heights_m=(),
            per_height=(),
            violations=(),
            valid_px=int(facts["valid_px"]),
            seconds=round(time.perf_counter() - started, 3),
            notes=(*own, *doubts, *predictor.card.notes((), grid.pixel_size_m)),
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
    predictor: Predictor, files: Sequence[HeightFile], settings: PredictionConfig, part: Path, progress: Progress
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write the heights; returns their statistics, and doubts about the input."""
    grid, card = files[0].grid, predictor.card
    ranges = [HeightRange() for _ in files]
    reads = [extent.watching(file.read) for extent, file in zip(ranges, files, strict=True)]
    progress(0, 1, "reference surface")
    try:
        scene = SceneInput(card.bands, reads, grid.height, grid.width, card.normaliser, grid.pixel_size_m, card.context)
    except DataError as cause:
        raise PredictionError(f"{files[0].path.name}: {cause}") from cause
    rows, cols = window_axes(predictor, (grid.height, grid.width), settings)
    bands = stream(
        scene,
        rows,
        cols,
        lambda images: predictor.raw_probs(images, (), views=settings.tta),
        channels=1,
        batch_size=1 if predictor.device.type == "cpu" else settings.batch_size,
        device=predictor.device,
        progress=lambda done, total: progress(done, total, "windows"),
    )
    valid_px, total, low, high = 0, 0.0, np.inf, -np.inf
    with RowWriter(part, grid, dtype="float32", nodata=np.nan, names=("canopy height (m)",)) as writer:
        for band in bands:
            heights = band.probs[0][band.valid]
            if not np.isfinite(heights).all():
                raise PredictionError(
                    f"The model answers with values that are no numbers in {files[0].path}. "
                    "Its weights are damaged by training; take an earlier checkpoint."
                )
            valid_px += heights.size
            total += float(heights.sum(dtype=np.float64))
            low, high = float(np.min(heights, initial=low)), float(np.max(heights, initial=high))
            np.copyto(band.probs, np.nan, where=~band.valid)
            writer.write(band.row, band.probs)
    if not valid_px:
        raise PredictionError(f"{files[0].path}: not one pixel was measured. Check the nodata value.")
    doubts = [
        note
        for extent, kind, file in zip(ranges, card.bands, files, strict=False)
        for note in extent.notes(kind, file.path)
    ]
    return {"valid_px": valid_px, "mean_m": total / valid_px, "min_m": low, "max_m": high}, tuple(doubts)


def _draw(raster: Path, path: Path, pixel_size_m: float) -> None:
    with open_raster(raster) as dataset:
        step = max(1, -(-max(dataset.shape) // LIMIT_PX))
        heights = dataset.read(1, out_shape=(-(-dataset.height // step), -(-dataset.width // step)))
    small, factor = downsample(heights, LIMIT_PX)
    try:
        Image.fromarray(shade(small, pixel_size_m * step * factor)).save(path, "PNG")
    except OSError as error:
        raise PredictionError(explain_os_error(error, path)) from error

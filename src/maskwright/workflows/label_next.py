"""Where labels would teach a model most: the areas without labels of which it is least sure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import RunError
from maskwright.tracking.folder import RunFolder
from maskwright.types import Window

__all__ = ["Area", "areas_to_label", "mean_by_cell"]


@dataclass(frozen=True, slots=True)
class Area:
    """A square of a raster, or a whole image.

    Attributes:
        file: Raster or image.
        window: Its pixels there.
        uncertainty: Mean entropy in bits: 0 where every pixel is settled.
        crs: WKT of the raster, or None.
        transform: From columns and rows to coordinates, six numbers.
        rank: From 1.
    """

    file: Path
    window: Window
    uncertainty: float
    crs: str | None
    transform: tuple[float, ...]
    rank: int = 0


def mean_by_cell(values: NDArray[np.floating], cell_px: int) -> list[tuple[Window, float]]:
    """Mean of what is a number in each square cell of (H, W), those at the end may be smaller; without any, none."""
    found = []
    for row in range(0, values.shape[0], cell_px):
        for col in range(0, values.shape[1], cell_px):
            cell = values[row : row + cell_px, col : col + cell_px]
            known = cell[np.isfinite(cell)]
            if known.size:
                found.append((Window(row, col, *cell.shape), float(known.mean(dtype=np.float64))))
    return found


def areas_to_label(
    folder: RunFolder,
    paths: Sequence[str | Path],
    most: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Area, ...]:
    """The areas with the highest mean entropy: squares of the size of training tiles.

    Args:
        folder: The run.
        paths: Rasters or images, folders or patterns of them.
        most: How many are named.
        progress: Called with (done, total, what).

    Raises:
        PredictionError: If the model cannot be applied to one of them.
        RunError: If none could be mapped.
    """
    from maskwright.prediction import ModelCard
    from maskwright.workflows.predict import predict

    tile_px = ModelCard.load(folder.model).tile_px
    settings = {
        "uncertainty": "entropy",
        "probabilities": False,
        "polygons": "none",
        "quicklook": False,
        "gap_sizes": False,
        "qgis_style": False,
    }
    found: list[Area] = []
    with tempfile.TemporaryDirectory(prefix="maskwright-") as out:
        results = predict(folder.path, [str(path) for path in paths], out, settings=settings, progress=progress)
        for result in results:
            if result.error:
                continue
            found += _areas(result.raster, result.files["uncertainty"], tile_px)
    if not found:
        raise RunError("None of the files without labels could be mapped, so nothing can be said about what to label.")
    ranked = sorted(found, key=lambda area: (-area.uncertainty, str(area.file), area.window.row, area.window.col))
    return tuple(
        Area(area.file, area.window, area.uncertainty, area.crs, area.transform, rank)
        for rank, area in enumerate(ranked[:most], start=1)
    )


def _areas(file: Path, uncertainty: Path, cell_px: int) -> list[Area]:
    from maskwright.prediction.geotiff import open_raster

    areas = []
    with open_raster(uncertainty) as raster:
        crs, transform = raster.crs.to_wkt() if raster.crs else None, tuple(raster.transform[:6])
        for row in range(0, raster.height, cell_px):
            rows = (row, min(row + cell_px, raster.height))
            values = raster.read(window=(rows, (0, raster.width))).mean(axis=0)
            areas += [
                Area(file, Window(row, window.col, window.height, window.width), mean, crs, transform)
                for window, mean in mean_by_cell(values, cell_px)
            ]
    return areas

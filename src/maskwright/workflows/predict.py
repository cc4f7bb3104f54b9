"""Apply a trained model to rasters: the command ``maskwright predict`` without its screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.config import PredictionConfig
from maskwright.errors import PredictionError

if TYPE_CHECKING:
    from maskwright.prediction import RasterResult

__all__ = ["predict"]


def predict(
    run: str | Path,
    rasters: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    heights_m: Sequence[float] | None = None,
    settings: PredictionConfig | None = None,
    nodata: float | None = None,
    chm: str | Path | None = None,
    device: str = "auto",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[RasterResult]:
    """Map gaps on one or several height rasters.

    Args:
        run: A run folder or a model folder.
        rasters: GeoTIFFs of the kind the model was trained on.
        out: Folder for maps, polygons, pictures and summaries; made if missing.
        heights_m: Heights in metres; unset: those of ``settings``, then those the model was scored at.
        settings: Windows, blending, outputs.
        nodata: Value meaning 'not measured' where a raster declares none.
        chm: Canopy height model, for a model that sees both.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: Called with (done, total, what).

    Raises:
        PredictionError: If the model cannot be applied to a raster; names the raster.
    """
    from maskwright.prediction import Predictor

    settings = settings or PredictionConfig()
    paths = [Path(rasters)] if isinstance(rasters, (str, Path)) else [Path(path) for path in rasters]
    if not paths:
        raise PredictionError("No raster was named. Give one or more GeoTIFFs after the run.")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise PredictionError(f"No such raster: {', '.join(missing)}.")
    stems = [path.stem for path in paths]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise PredictionError(
            f"Several rasters are called {twice[0]}; their maps would overwrite each other in {out}. "
            "Predict them into folders of their own."
        )
    predictor = Predictor.load(run, device=device)
    return [
        predictor.predict_raster(
            path, out, heights_m or settings.heights_m, settings=settings, nodata=nodata, chm=chm, progress=progress
        )
        for path in paths
    ]

"""Apply a trained model to rasters: the command ``maskwright predict`` without its screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    settings: PredictionConfig | Mapping[str, Any] | None = None,
    nodata: float | str | None = None,
    chm: str | Path | None = None,
    chm_nodata: float | str | None = None,
    device: str = "auto",
    progress: Callable[[int, int, str], None] | None = None,
    on_result: Callable[[RasterResult], None] | None = None,
) -> list[RasterResult]:
    """Map gaps on one or several height rasters.

    Args:
        run: A run folder or a model folder.
        rasters: GeoTIFFs of the kind the model was trained on.
        out: Folder for maps, polygons, pictures and summaries; made if missing.
        heights_m: Heights in metres; unset: those of ``settings``, then those the model was scored at.
        settings: Windows, blending, outputs, whole; or some of them by name, the others as the model's experiment says.
        nodata: Value meaning 'not measured', ``tag`` or ``none``; unset: the file's tag, else as in the training.
        chm: Canopy height model, for a model that sees both; one raster only then.
        chm_nodata: As ``nodata``, for the canopy height model.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: Called with (done, total, what).
        on_result: Called with each result as soon as its files are in place.

    Raises:
        PredictionError: If the model cannot be applied to a raster; names the raster.
        DataError: If a raster cannot be read; all headers are read before the first is mapped.
    """
    from maskwright.data.sources import open_heights
    from maskwright.prediction import Predictor

    paths = [Path(rasters)] if isinstance(rasters, (str, Path)) else [Path(path) for path in rasters]
    _check_names(paths, Path(out), chm)
    for path in paths:
        open_heights(path).close()
    predictor = Predictor.load(run, device=device)
    if not isinstance(settings, PredictionConfig):
        settings = PredictionConfig(**{**predictor.card.prediction.to_dict(), **(settings or {})})
    results = []
    for path in paths:
        result = predictor.predict_raster(
            path, out, heights_m, settings=settings, nodata=nodata, chm=chm, chm_nodata=chm_nodata, progress=progress
        )
        if on_result is not None:
            on_result(result)
        results.append(result)
    return results


def _check_names(paths: Sequence[Path], out: Path, chm: str | Path | None) -> None:
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
    if chm is not None and len(paths) > 1:
        raise PredictionError(f"{chm} cannot belong to {len(paths)} surfaces. Predict them one at a time.")

"""Apply a trained model to rasters and photographs: the command ``maskwright predict`` without its screen."""

from __future__ import annotations

import csv
import glob
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import PredictionConfig
from maskwright.errors import DataError, MaskwrightError, PredictionError
from maskwright.files import write_bytes

if TYPE_CHECKING:
    from maskwright.prediction import Predictor, RasterResult

__all__ = ["SUMMARY", "predict"]

SUMMARY = "summary.csv"
"""Name of the table over all images of one prediction."""

_RASTER_ENDINGS = (".tif", ".tiff", ".vrt", ".img", ".asc")

Progress = Callable[[int, int, str], None]


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
    backend: str = "torch",
    overwrite: bool = False,
    progress: Progress | None = None,
    on_result: Callable[[RasterResult], None] | None = None,
) -> list[RasterResult]:
    """Map gaps, heights or classes on one or several rasters or photographs.

    A model of images goes on where one of them fails: its result says why in ``error``, and ``summary.csv`` lists all.
    For a model of heights everything that headers tell is checked before the first raster is mapped.

    Args:
        run: A run folder or a model folder; with the backend ``onnx`` also an exported file.
        rasters: GeoTIFFs or images of the kind the model was trained on; files, folders (not those inside them), or
            patterns such as ``"photos/*.jpg"`` and, with all folders inside, ``"photos/**/*.jpg"``.
        out: Folder for maps, polygons, pictures and summaries; made if missing.
        heights_m: Heights in metres; unset: those of ``settings``, then those the model was scored at.
        settings: Windows, blending, outputs, whole; or some of them by name, the others as the model's experiment says.
        nodata: Value meaning 'not measured', ``tag`` or ``none``; unset: the file's tag, else as in the training.
        chm: Canopy height model, for a model that sees both; one raster only then.
        chm_nodata: As ``nodata``, for the canopy height model.
        device: ``auto``, ``cpu``, ``cuda`` ...
        backend: What computes: ``torch``, or ``onnx`` for a file made by ``maskwright export``.
        overwrite: Replace files of an earlier prediction.
        progress: Called with (done, total, what).
        on_result: Called with each result as soon as its files are in place.

    Raises:
        PredictionError: If the model cannot be applied to a raster; names the raster. If results exist already.
        DataError: If a raster cannot be read.
    """
    from maskwright.prediction import Predictor

    asked = [rasters] if isinstance(rasters, (str, Path)) else list(rasters)
    given = any(Path(path).is_dir() or not Path(path).exists() for path in asked)
    if not given:
        _check_names([Path(path) for path in asked], Path(out), chm)
    predictor = Predictor.load(run, device=device, backend=backend)
    paths = _expanded(asked, Path(out), is_image=predictor.card.image is not None)
    _check_names(paths, Path(out), chm)
    if not isinstance(settings, PredictionConfig):
        settings = PredictionConfig(**{**predictor.card.prediction.to_dict(), **(settings or {})})
    if not overwrite:
        _refuse_existing(predictor, paths, Path(out))
    if predictor.card.image is not None:
        _refuse_height_options(heights_m=heights_m, nodata=nodata, chm=chm, chm_nodata=chm_nodata)
        return _predict_images(predictor, paths, Path(out), settings, progress, on_result, given or len(paths) > 1)
    _check_rasters(predictor, paths, chm, (nodata, chm_nodata), settings, heights_m)
    results = []
    for path in paths:
        result = predictor.predict_raster(
            path, out, heights_m, settings=settings, nodata=nodata, chm=chm, chm_nodata=chm_nodata, progress=progress
        )
        if on_result is not None:
            on_result(result)
        results.append(result)
    return results


# --- inputs -----------------------------------------------------------------------------------------------------------


def _expanded(asked: Sequence[str | Path], out: Path, *, is_image: bool) -> list[Path]:
    """Files, those of folders and those that patterns match, sorted within each, every file once."""
    from maskwright.data.sources.image_header import IMAGE_ENDINGS

    endings = IMAGE_ENDINGS if is_image else _RASTER_ENDINGS
    found: dict[Path, None] = {}
    for entry in asked:
        path = Path(entry)
        if path.is_dir():
            if out.exists() and out.samefile(path):
                raise PredictionError(
                    f"{out} is the folder of the inputs: masks would be taken for images the next time. "
                    "Choose another --out."
                )
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in endings and file.is_file())
            if not files:
                raise PredictionError(
                    f"{path} holds no file ending in {', '.join(endings)}. Folders inside it are not searched; name "
                    f"them, or give a pattern such as '{path}/**/*.tif'."
                )
        elif not path.exists() and any(sign in str(entry) for sign in "*?["):
            files = sorted(Path(name) for name in glob.glob(str(entry), recursive=True) if Path(name).is_file())
            if not files:
                raise PredictionError(f"No file matches {entry}.")
        else:
            files = [path]
        found |= dict.fromkeys(files)
    return list(found)


def _check_names(paths: Sequence[Path], out: Path, chm: str | Path | None) -> None:
    if not paths:
        raise PredictionError("No raster was named. Give one or more GeoTIFFs or images after the run.")
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


def _refuse_existing(predictor: Predictor, paths: Sequence[Path], out: Path) -> None:
    from maskwright.prediction import output_endings
    from maskwright.prediction.outputs import existing_files

    found = existing_files(out, [path.stem for path in paths], output_endings(predictor.card))
    if predictor.card.image is not None and (out / SUMMARY).exists():
        found = [*found, out / SUMMARY]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise PredictionError(
            f"{found[0]}{more} would be replaced. Choose another --out, or add --overwrite (in Python overwrite=True)."
        )


def _refuse_height_options(**options: object) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise PredictionError(
            f"This model was trained on images; {', '.join(given)} belong to height rasters. Leave them out."
        )


def _check_rasters(
    predictor: Predictor,
    paths: Sequence[Path],
    chm: str | Path | None,
    nodata: tuple[float | str | None, float | str | None],
    settings: PredictionConfig,
    heights_m: Sequence[float] | None,
) -> None:
    """Everything that can be known before the first raster is mapped."""
    from maskwright.prediction.map_raster import check_raster

    predictor.card.heights(settings.heights_m if heights_m is None else heights_m)
    for path in paths:
        check_raster(predictor, predictor.inputs(path, chm), nodata)


# --- images -----------------------------------------------------------------------------------------------------------


def _predict_images(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    settings: PredictionConfig,
    progress: Progress | None,
    on_result: Callable[[RasterResult], None] | None,
    is_batch: bool,
) -> list[RasterResult]:
    """One after the other; what fails is told in its result, and the others go on. One file alone is an error."""
    results = []
    for index, path in enumerate(paths):
        # With several images the bar counts images: its time left is that of the whole batch.
        inner = progress if len(paths) == 1 else None
        result = _one_image(predictor, path, out, settings, inner)
        results.append(result)
        if on_result is not None:
            on_result(result)
        if progress is not None and len(paths) > 1:
            progress(index + 1, len(paths), "images")
        if result.error and not is_batch:
            raise PredictionError(result.error)
    out.mkdir(parents=True, exist_ok=True)  # if all failed, nothing has made it yet
    write_bytes(out / SUMMARY, _table(predictor.card.task.class_names, results).encode("utf-8"), error=PredictionError)
    return results


def _one_image(
    predictor: Predictor, path: Path, out: Path, settings: PredictionConfig, progress: Progress | None
) -> RasterResult:
    from maskwright.prediction import RasterResult

    started = time.perf_counter()
    try:
        return predictor.predict_photograph(path, out, settings=settings, progress=progress)
    except (DataError, PredictionError) as error:
        seconds = round(time.perf_counter() - started, 3)
        return RasterResult(path, {}, (), (), (), 0, seconds, (), error=_with_name(path, error))


def _with_name(path: Path, error: MaskwrightError) -> str:
    text = str(error)
    return text if path.name in text else f"{path}: {text}"


def _table(names: Sequence[str], results: Sequence[RasterResult]) -> str:
    """The summary as CSV: a row for each image, shares 0..1 and objects by class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    by_class = [f"{what} {name}" for name in names for what in ("share", "objects")]
    writer.writerow(["file", "height_px", "width_px", "seconds", *by_class, "status", "reason"])
    for result in results:
        cells: list[object] = []
        for k in range(len(names)):
            row = result.per_class[k] if result.per_class else {"share": None, "objects": None}
            cells += ["" if row[key] is None else row[key] for key in ("share", "objects")]
        size = ("", "") if result.error else result.size
        status = "failed" if result.error else "done"
        writer.writerow([str(result.raster), *size, result.seconds, *cells, status, result.error])
    return text.getvalue()

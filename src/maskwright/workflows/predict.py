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
from maskwright.config.task import OBJECTS
from maskwright.devices import available_devices
from maskwright.distributed import is_main, own_device
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
    others: Sequence[str | Path] = (),
    heights_m: Sequence[float] | None = None,
    settings: PredictionConfig | Mapping[str, Any] | None = None,
    nodata: float | str | None = None,
    chm: str | Path | None = None,
    chm_nodata: float | str | None = None,
    device: str = "auto",
    backend: str = "torch",
    recursive: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_result: Callable[[RasterResult], None] | None = None,
) -> list[RasterResult]:
    """Map gaps, heights or classes on one or several rasters or photographs.

    With several inputs the others go on where one fails: its result says why in ``error``, and ``summary.csv`` lists
    all. Headers of height rasters are looked at before the first is mapped.

    Args:
        run: A run folder, a model folder, or a checkpoint in its run; with the backend ``onnx`` also an exported file.
        rasters: GeoTIFFs or images of the kind the model was trained on; files, folders, or patterns such as
            ``"photos/*.jpg"`` and, with all folders inside, ``"photos/**/*.jpg"``.
        out: Folder for maps, polygons, pictures and summaries; made if missing.
        others: Further models, whose probabilities are averaged with those of ``run``.
        heights_m: Heights in metres; unset: those of ``settings``, then those the model was scored at.
        settings: Windows, blending, outputs, whole; or some of them by name, the others as the model's experiment says.
        nodata: Value meaning 'not measured', ``tag`` or ``none``; unset: the file's tag, else as in the training.
        chm: Canopy height model, for a model that sees both, or for the heights of trees; one raster only then.
        chm_nodata: As ``nodata``, for the canopy height model.
        device: ``auto``, ``cpu``, ``cuda`` ...
        backend: What computes: ``torch``, or ``onnx`` for a file made by ``maskwright export``.
        recursive: Search the folders inside folders as well; ``out`` then has the same folders.
        overwrite: Replace files of an earlier prediction.
        progress: Called with (done, total, what).
        on_result: Called with each result as soon as its files are in place.

    Of several processes that a launcher started the first reads and writes, and all compute windows; what it writes is
    the same as one process writes. The others return nothing.

    Raises:
        PredictionError: If the model cannot be applied to the one input; names it. If results exist already.
        DataError: If the one input cannot be read.
    """
    from maskwright.prediction import Predictor

    device = own_device(device, available_devices())
    if not is_main():
        Predictor.load(run, others=others, device=device, backend=backend).serve()
        return []
    asked = [rasters] if isinstance(rasters, (str, Path)) else list(rasters)
    given = any(Path(path).is_dir() or not Path(path).exists() for path in asked)
    if not given:
        _check_names([(Path(path), Path(out)) for path in asked], chm)
    predictor = Predictor.load(run, others=others, device=device, backend=backend)
    is_image = predictor.card.image is not None
    work = _expanded(asked, Path(out), is_image=is_image, recursive=recursive)
    _check_names(work, chm)
    if not isinstance(settings, PredictionConfig):
        settings = PredictionConfig(**{**predictor.card.prediction.to_dict(), **(settings or {})})
    is_batch = given or len(work) > 1
    if not overwrite:
        _refuse_existing(predictor, work, Path(out), with_summary=is_image or is_batch)
    if is_image:
        of_trees = {} if predictor.card.task.kind in OBJECTS else {"chm": chm}
        _refuse_height_options(heights_m=heights_m, nodata=nodata, chm_nodata=chm_nodata, **of_trees)
        job = _image_job(predictor, settings, chm)
        known: dict[Path, MaskwrightError] = {}
    else:
        predictor.heights(settings.heights_m if heights_m is None else heights_m)
        job = _raster_job(predictor, settings, heights_m, chm, (nodata, chm_nodata))
        known = _faulty(predictor, [path for path, _ in work], chm, (nodata, chm_nodata), settings)
    with predictor.served():
        results = _each(work, job, known, progress, on_result, is_batch=is_batch)
    if is_image or is_batch:
        Path(out).mkdir(parents=True, exist_ok=True)  # if all failed, nothing has made it yet
        write_bytes(Path(out) / SUMMARY, _table(predictor, results).encode("utf-8"), error=PredictionError)
    return results


# --- inputs -----------------------------------------------------------------------------------------------------------


def _expanded(asked: Sequence[str | Path], out: Path, *, is_image: bool, recursive: bool) -> list[tuple[Path, Path]]:
    """Files, those of folders and those that patterns match, sorted within each, every file once; with its folder."""
    from maskwright.data.sources.image_header import IMAGE_ENDINGS

    endings = IMAGE_ENDINGS if is_image else _RASTER_ENDINGS
    found: dict[Path, Path] = {}
    for entry in asked:
        path = Path(entry)
        if path.is_dir():
            found |= {file: out / inner for file, inner in _of_folder(path, out, endings, recursive=recursive)}
        elif not path.exists() and any(sign in str(entry) for sign in "*?["):
            files = sorted(Path(name) for name in glob.glob(str(entry), recursive=True) if Path(name).is_file())
            if not files:
                raise PredictionError(f"No file matches {entry}.")
            found |= dict.fromkeys(files, out)
        else:
            found[path] = out
    return list(found.items())


def _of_folder(folder: Path, out: Path, endings: Sequence[str], *, recursive: bool) -> list[tuple[Path, Path]]:
    """The files of a folder, each with the folder it lies in, seen from there."""
    if out.exists() and out.samefile(folder):
        raise PredictionError(
            f"{out} is the folder of the inputs: masks would be taken for images the next time. Choose another --out."
        )
    inside = folder.rglob("*") if recursive else folder.iterdir()
    files = sorted(file for file in inside if file.suffix.lower() in endings and file.is_file())
    if recursive:  # neither what an earlier prediction wrote, nor what hides
        own = out.resolve()
        files = [file for file in files if own not in file.resolve().parents and not _hides(file.relative_to(folder))]
    if not files:
        more = "" if recursive else " Folders inside it are not searched; add --recursive (in Python recursive=True)."
        raise PredictionError(f"{folder} holds no file ending in {', '.join(endings)}.{more}")
    return [(file, file.parent.relative_to(folder)) for file in files]


def _hides(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _check_names(work: Sequence[tuple[Path, Path]], chm: str | Path | None) -> None:
    if not work:
        raise PredictionError("No raster was named. Give one or more GeoTIFFs or images after the run.")
    missing = [str(path) for path, _ in work if not path.is_file()]
    if missing:
        raise PredictionError(f"No such raster: {', '.join(missing)}.")
    names = [out / path.stem for path, out in work]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PredictionError(
            f"Several rasters are called {twice[0].name}; their maps would overwrite each other in {twice[0].parent}. "
            "Predict them into folders of their own."
        )
    if chm is not None and len(work) > 1:
        raise PredictionError(f"{chm} cannot belong to {len(work)} surfaces. Predict them one at a time.")


def _refuse_existing(predictor: Predictor, work: Sequence[tuple[Path, Path]], out: Path, *, with_summary: bool) -> None:
    from maskwright.prediction import output_endings
    from maskwright.prediction.outputs import existing_files

    endings, stems = output_endings(predictor.card), dict[Path, list[str]]()
    for path, folder in work:
        stems.setdefault(folder, []).append(path.stem)
    found = [file for folder, names in stems.items() for file in existing_files(folder, names, endings)]
    if with_summary and (out / SUMMARY).exists():
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


def _faulty(
    predictor: Predictor,
    paths: Sequence[Path],
    chm: str | Path | None,
    nodata: tuple[float | str | None, float | str | None],
    settings: PredictionConfig,
) -> dict[Path, MaskwrightError]:
    """What headers tell against rasters, before the first of them is mapped."""
    from maskwright.prediction.height_input import check_raster

    found: dict[Path, MaskwrightError] = {}
    for path in paths:
        try:
            check_raster(predictor, predictor.inputs(path, chm), nodata, resample=settings.resample)
        except (DataError, PredictionError) as error:
            found[path] = error
    return found


# --- one after the other ----------------------------------------------------------------------------------------------

Job = Callable[[Path, Path, Progress | None], "RasterResult"]


def _image_job(predictor: Predictor, settings: PredictionConfig, chm: str | Path | None) -> Job:
    return lambda path, out, progress: predictor.predict_photograph(
        path, out, settings=settings, chm=chm, progress=progress
    )


def _raster_job(
    predictor: Predictor,
    settings: PredictionConfig,
    heights_m: Sequence[float] | None,
    chm: str | Path | None,
    nodata: tuple[float | str | None, float | str | None],
) -> Job:
    def job(path: Path, out: Path, progress: Progress | None) -> RasterResult:
        return predictor.predict_raster(
            path, out, heights_m, settings=settings, nodata=nodata[0], chm=chm, chm_nodata=nodata[1], progress=progress
        )

    return job


def _each(
    work: Sequence[tuple[Path, Path]],
    job: Job,
    known: Mapping[Path, MaskwrightError],
    progress: Progress | None,
    on_result: Callable[[RasterResult], None] | None,
    *,
    is_batch: bool,
) -> list[RasterResult]:
    """What fails is told in its result, and the others go on. One file alone is an error.

    With several files progress counts them as well: the time left is then that of the whole batch.
    """
    from maskwright.prediction import RasterResult

    results = []
    for index, (path, out) in enumerate(work):
        started = time.perf_counter()
        if progress is not None and len(work) > 1:
            progress(index, len(work), "files")
        try:
            if path in known:
                raise known[path]
            result = job(path, out, progress)
        except (DataError, PredictionError) as error:
            if not is_batch:
                raise
            seconds = round(time.perf_counter() - started, 3)
            result = RasterResult(path, {}, (), (), (), 0, seconds, (), error=_with_name(path, error))
        results.append(result)
        if on_result is not None:
            on_result(result)
    if progress is not None and len(work) > 1:
        progress(len(work), len(work), "files")
    return results


def _with_name(path: Path, error: MaskwrightError) -> str:
    text = str(error)
    return text if path.name in text else f"{path}: {text}"


def _table(predictor: Predictor, results: Sequence[RasterResult]) -> str:
    """The summary as CSV: a row for each input; by class shares and objects, or by height shares, gaps and hectares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    task = predictor.card.task
    names: Sequence[str] = getattr(task, "object_classes", task.class_names)
    heights = next((result.heights_m for result in results if result.heights_m), ())
    told = [f"{what} {name}" for name in names for what in ("share", "objects")]
    told += [f"{what} {height:g} m" for height in heights for what in ("gap share", "gaps", "area ha")]
    writer.writerow(["file", "height_px", "width_px", "seconds", *told, "status", "reason"])
    for result in results:
        cells: list[object] = [row[key] for row in result.per_class for key in ("share", "objects")]
        for row in result.per_height:
            area = row["area_m2"]
            cells += [row["gap_share"], row["gaps"], None if area is None else area["total"] / 1e4]
        cells += [None] * (len(told) - len(cells))
        size = ("", "") if result.error else result.size
        status = "failed" if result.error else "done"
        plain = ["" if cell is None else cell for cell in cells]
        writer.writerow([str(result.raster), *size, result.seconds, *plain, status, result.error])
    return text.getvalue()

"""``maskwright predict``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.launch_options import Devices, MaxRestarts, launch_this, must_launch
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.config import PredictionConfig, load_section
from maskwright.distributed import is_main, joined
from maskwright.errors import ConfigError, MaskwrightError

if TYPE_CHECKING:
    from maskwright.prediction import RasterResult

__all__ = ["predict"]


def predict(
    context: typer.Context,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Run folder, model folder or checkpoint of a run; an .onnx file with --backend onnx.",
            show_default=False,
        ),
    ],
    rasters: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help='Height rasters, or photographs and rasters of the kind trained on: files, folders, "*.jpg".',
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for maps, polygons and pictures.", show_default=False)],
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", metavar="RUN", help="A further model to average with; may be repeated.", show_default=False
        ),
    ] = None,
    heights: Annotated[
        list[float] | None,
        typer.Option(
            "--heights", metavar="M [M ...]", help="Heights in metres; unset: those of the model.", show_default=False
        ),
    ] = None,
    nodata: Annotated[
        str | None,
        typer.Option(
            "--nodata",
            metavar="VALUE|tag|none",
            help="What means 'not measured'; unset: the file's tag, else as in the training.",
            show_default=False,
        ),
    ] = None,
    chm: Annotated[
        Path | None,
        typer.Option(
            "--chm", help="Canopy height model, for a model that sees both or finds trees.", show_default=False
        ),
    ] = None,
    chm_nodata: Annotated[
        str | None,
        typer.Option("--chm-nodata", metavar="VALUE|tag|none", help="The same for --chm.", show_default=False),
    ] = None,
    tta: Annotated[
        int | None,
        typer.Option("--tta", metavar="1|2|4|8", help="Mirrored and turned views averaged.", show_default=False),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="See rasters of another pixel size at that of the training, and bring back."),
    ] = False,
    uncertainty: Annotated[
        str | None,
        typer.Option(
            "--uncertainty", metavar="none|entropy|spread", help="Write how sure the model is.", show_default=False
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Processes that share each raster.", show_default=False),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search the folders inside folders; --out then has the same folders.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of an earlier prediction.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    backend: Annotated[
        str, typer.Option("--backend", metavar="torch|onnx", help="onnx: compute with a file made by export.")
    ] = "torch",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one of the prediction settings, for example overlap=0.25; the others are as the experiment says.",
            show_default=False,
        ),
    ] = None,
    devices: Devices = 1,
    max_restarts: MaxRestarts = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="For programs: say what happens as lines of JSON, and nothing else, on the output."
        ),
    ] = False,
) -> int:
    """Apply a trained model to photographs and rasters of any size: masks, maps, polygons."""
    if must_launch(devices):
        return launch_this(context, devices, max_restarts)
    named = {"tta": tta, "uncertainty": uncertainty, "workers": workers, "resample": "true" if resample else None}
    words = [*(overrides or ()), *(f"{name}={value}" for name, value in named.items() if value is not None)]
    said = load_section(PredictionConfig, (), words)

    from maskwright.devices import prepare_process
    from maskwright.workflows.predict import predict as predict_rasters

    work = partial(
        predict_rasters,
        run,
        rasters,
        out,
        others=others or (),
        heights_m=heights,
        settings={name: getattr(said, name) for name in said.model_fields_set},
        nodata=_nodata(nodata, "--nodata"),
        chm=chm,
        chm_nodata=_nodata(chm_nodata, "--chm-nodata"),
        device=device,
        backend=backend,
        recursive=recursive,
        overwrite=overwrite,
    )
    prepare_process()
    with joined():
        if not is_main():
            work()
            return 0
        if json:
            return _tell_a_program(work)
        with progress_bar(quiet=quiet) as progress:
            results = work(progress=progress, on_result=partial(_show, quiet=quiet))
        return _end(results, out, quiet=quiet)


def _tell_a_program(work: Callable[..., list[RasterResult]]) -> int:
    """Run the work and say all of it as lines of JSON."""
    from maskwright.cli.json_lines import JsonLines

    lines = JsonLines()
    try:
        results = work(progress=lines.progress, on_result=lines.result)
    except MaskwrightError as error:
        lines.failed(str(error))
        raise
    failed = sum(bool(result.error) for result in results)
    lines.end(inputs=len(results), failed=failed)
    return 2 if failed else 0  # EXIT_USER of main, which imports this module


def _end(results: list[RasterResult], out: Path, *, quiet: bool) -> int:
    """The table over all images, and whether all of them were mapped."""
    failed = [result for result in results if result.error]
    of_classes = [result for result in results if result.per_class]
    if of_classes and not quiet:
        names = [row["class"] for row in of_classes[0].per_class]
        print_table(
            ("file", "size", "seconds", *names, "objects", "status"), [_row(result, len(names)) for result in results]
        )
        typer.echo(str(out / "summary.csv"))
    elif len(results) > 1 and not quiet:
        done = len(results) - len(failed)
        typer.echo(f"{done} of {len(results)} rasters were mapped: {out / 'summary.csv'}")
    if failed:
        typer.echo(f"{len(failed)} of {len(results)} files failed; the others were finished. See above.", err=True)
    return 2 if failed else 0  # EXIT_USER of main, which imports this module


def _row(result: RasterResult, classes: int) -> tuple[str, ...]:
    if result.error:
        return (result.raster.name, "-", f"{result.seconds:.2f}", *[""] * classes, "", "failed")
    shares = ["-" if row["share"] is None else f"{row['share']:.1%}" for row in result.per_class]
    objects = sum(row["objects"] or 0 for row in result.per_class)
    size = f"{result.size[0]} x {result.size[1]}"
    return (result.raster.name, size, f"{result.seconds:.2f}", *shares, str(objects), "done")


def _nodata(text: str | None, option: str) -> float | str | None:
    if text is None or text in ("tag", "none"):
        return text
    try:
        return float(text)
    except ValueError as cause:
        raise ConfigError(f"{option} {text}: write a number, tag (the file's own) or none.") from cause


def _show(result: RasterResult, *, quiet: bool) -> None:
    if result.error:
        typer.echo(result.error, err=True)
    for note in result.notes:
        typer.echo(f"{result.raster.name}: {note}", err=True)
    if quiet or result.error:
        return
    if result.per_height:
        _show_heights(result)
    for path in result.files.values():
        typer.echo(str(path))


def _show_heights(result: RasterResult) -> None:
    print_table(
        ("height", "gap share", "gaps", "area"),
        [
            (
                f"{row['height_m']:g} m",
                "-" if row["gap_share"] is None else f"{row['gap_share']:.1%}",
                str(row["gaps"]),
                "-" if row["area_m2"] is None else f"{row['area_m2']['total'] / 1e4:.2f} ha",
            )
            for row in result.per_height
        ],
    )
    if result.violations:
        typer.echo(
            f"{sum(result.violations)} pixels of the raw output were likelier a gap at the lower of two heights; "
            "a running maximum over heights mended them."
        )

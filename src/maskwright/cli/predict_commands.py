"""``maskwright predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.options import Set
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.config import PredictionConfig, load_section

__all__ = ["predict"]


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder or model folder.", show_default=False)],
    rasters: Annotated[list[Path], typer.Argument(metavar="RASTER...", help="Height rasters.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for maps, polygons and pictures.", show_default=False)],
    heights: Annotated[
        list[float] | None,
        typer.Option(
            "--heights", metavar="M [M ...]", help="Heights in metres; unset: those of the model.", show_default=False
        ),
    ] = None,
    nodata: Annotated[
        float | None,
        typer.Option("--nodata", help="Value meaning 'not measured'; unset: the file's tag.", show_default=False),
    ] = None,
    chm: Annotated[
        Path | None, typer.Option("--chm", help="Canopy height model, for a model that sees both.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    overrides: Set = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
) -> int:
    """Map gaps on height rasters of any size: rasters, polygons, a picture."""
    settings = load_section(PredictionConfig, (), overrides or ())

    from maskwright.devices import prepare_process
    from maskwright.workflows.predict import predict as predict_rasters

    prepare_process(None)
    with progress_bar(quiet=quiet) as progress:
        results = predict_rasters(
            run,
            rasters,
            out,
            heights_m=heights,
            settings=settings,
            nodata=nodata,
            chm=chm,
            device=device,
            progress=progress,
        )
    for result in results:
        for note in result.notes:
            typer.echo(note, err=True)
        if quiet:
            continue
        print_table(
            ("height", "gap share", "gaps", "area"),
            [
                (
                    f"{row['height_m']:g} m",
                    f"{row['gap_share']:.1%}" if row["gap_share"] is not None else "-",
                    str(row["gaps"]),
                    "-" if row["area_m2"] is None else f"{row['area_m2']['total'] / 1e4:.2f} ha",
                )
                for row in result.per_height
            ],
        )
        for path in result.files.values():
            typer.echo(str(path))
    return 0

"""``maskwright prepare``: what can be made from rasters without any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.config import load_experiment

__all__ = ["app", "gaps"]

app = typer.Typer(help="Masks, statistics and polygons without training.", no_args_is_help=True, add_completion=False)


@app.callback()
def _prepare() -> None:
    """Masks, statistics and polygons without training."""


@app.command()
def gaps(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="A folder of rasters, canopy height rasters, or the YAML file of an experiment.",
            show_default=False,
        ),
    ],
    heights: Annotated[
        list[float], typer.Option("--heights", metavar="M [M ...]", help="Heights in metres.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.", show_default=False)],
    polygons: Annotated[
        Literal["geojson", "gpkg", "none"], typer.Option("--polygons", help="Format of the polygons.")
    ] = "geojson",
    nodata: Annotated[
        float | None, typer.Option("--nodata", help="Value meaning 'not measured' in the rasters.", show_default=False)
    ] = None,
    min_gap_px: Annotated[int, typer.Option(min=0, help="Gaps of fewer pixels are removed.")] = 0,
    max_gap_px: Annotated[
        int | None, typer.Option(min=1, help="Gaps of more pixels are removed.", show_default=False)
    ] = None,
    median: Annotated[
        bool, typer.Option("--median", help="Each pixel takes the majority of its 3 x 3 square.")
    ] = False,
    fill_holes_px: Annotated[int, typer.Option(min=0, help="Holes of up to this many pixels become gap.")] = 0,
    erode: Annotated[int, typer.Option(min=0, help="Times one pixel is taken off the rim of gaps.")] = 0,
    dilate: Annotated[int, typer.Option(min=0, help="Times one pixel is added to it afterwards.")] = 0,
) -> int:
    """Write georeferenced gap masks, statistics per height and polygons."""
    from maskwright.workflows.prepare import Cleaning, prepare_gaps, sites_from_paths

    if len(data) == 1 and data[0].suffix.lower() in (".yaml", ".yml"):
        sites = load_experiment([data[0]], {} if nodata is None else {"data": {"nodata": nodata}}).data
    else:
        sites = sites_from_paths(data, nodata=nodata)
    cleaning = Cleaning(min_gap_px, max_gap_px, median, fill_holes_px, erode, dilate)
    with progress_bar() as progress:
        written = prepare_gaps(sites, heights, out, cleaning=cleaning, polygons=polygons, progress=progress)
    rows = []
    for files in written:
        for note in files.notes:
            typer.echo(f"{files.site}: {note}", err=True)
        rows += [
            (
                files.site,
                f"{row['height_m']:g} m",
                "-" if row["gap_share"] is None else f"{row['gap_share']:.1%}",
                str(row["gaps"]),
                "-" if row["area_m2"] is None else f"{row['area_m2']['median']:.0f} m2",
                "-" if row["area_m2"] is None else f"{row['area_m2']['max']:.0f} m2",
            )
            for row in files.per_height
        ]
    print_table(("site", "height", "gap share", "gaps", "median", "largest"), rows)
    typer.echo(f"Written to {out}")
    return 0

"""``maskwright prepare``: what can be made from rasters without any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from maskwright.cli.options import Files, Set
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.config import load_experiment
from maskwright.errors import DataError

if TYPE_CHECKING:
    from maskwright.config import HeightRastersData

__all__ = ["align", "app", "gaps", "masks", "shards", "tiles"]

app = typer.Typer(
    help="Aligned rasters, tiles, masks, statistics and shards without training.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _prepare() -> None:
    """Aligned rasters, tiles, masks, statistics and shards without training."""


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
    from maskwright.workflows.prepare import Cleaning, prepare_gaps

    sites = _height_rasters(data, nodata)
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


_Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA...",
        help="A folder of rasters, rasters by name, or the YAML file of an experiment.",
        show_default=False,
    ),
]
_Out = Annotated[Path, typer.Option("--out", help="Folder for the files.", show_default=False)]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files another job wrote there.")]
_Nodata = Annotated[
    float | None, typer.Option("--nodata", help="Value meaning 'not measured' in the rasters.", show_default=False)
]


@app.command()
def masks(
    data: _Data,
    heights: Annotated[
        list[float], typer.Option("--heights", metavar="M [M ...]", help="Heights in metres.", show_default=False)
    ],
    out: _Out,
    nodata: _Nodata = None,
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
    overwrite: _Overwrite = False,
) -> int:
    """Write gap masks alone: 1 gap, 0 none, 255 not measured; started again it goes on."""
    from maskwright.workflows.prepare import Cleaning
    from maskwright.workflows.prepare_masks import prepare_masks

    cleaning = Cleaning(min_gap_px, max_gap_px, median, fill_holes_px, erode, dilate)
    sites = _height_rasters(data, nodata)
    with progress_bar() as progress:
        written = prepare_masks(sites, heights, out, cleaning=cleaning, overwrite=overwrite, progress=progress)
    typer.echo(f"{len(written)} masks written to {out}")
    return 0


@app.command()
def align(data: _Data, out: _Out, nodata: _Nodata = None, overwrite: _Overwrite = False) -> int:
    """Bring the rasters of each site onto one grid; started again it goes on."""
    from maskwright.workflows.prepare import sites_of
    from maskwright.workflows.prepare_align import prepare_align

    sites = sites_of(_height_rasters(data, nodata))
    with progress_bar() as progress:
        written = prepare_align(sites, out, overwrite=overwrite, progress=progress)
    for site in written:
        for note in site.notes:
            typer.echo(f"{site.site}: {note}", err=True)
    rows = [(site.site, "; ".join(site.changes) or "on one grid already, values kept") for site in written]
    print_table(("site", "changed"), rows)
    typer.echo(f"Written to {out}")
    return 0


@app.command()
def tiles(
    data: _Data,
    out: _Out,
    tile_px: Annotated[int, typer.Option("--tile-px", min=16, help="Side of the tiles, pixels.")] = 256,
    overlap: Annotated[
        float, typer.Option("--overlap", min=0, help="Below 1 a share of the tile, from 1 on pixels.")
    ] = 0.0,
    min_valid: Annotated[
        float, typer.Option("--min-valid", min=0, max=1, help="Least share of pixels measured.")
    ] = 0.7,
    form: Annotated[Literal["tif", "npy"], typer.Option("--format", help="GeoTIFF or numpy files.")] = "tif",
    overwrite: _Overwrite = False,
) -> int:
    """Cut rasters into equal tiles with an index of windows; started again it goes on."""
    from maskwright.workflows.prepare import sites_of
    from maskwright.workflows.prepare_tiles import prepare_tiles

    if all(path.is_file() and path.suffix.lower() not in (".yaml", ".yml") for path in data):
        sites = {path.stem: {"image": path} for path in data}
        if len(sites) < len(data):
            raise DataError("Two rasters have one name; tiles would replace each other. Rename one of them.")
    else:
        found = sites_of(_height_rasters(data, None))
        kinds = {site.name: {"DSM": site.dsm, "CHM": site.chm, "DTM": site.dtm} for site in found}
        sites = {name: {k: Path(p) for k, p in paths.items() if p is not None} for name, paths in kinds.items()}
    with progress_bar() as progress:
        summary = prepare_tiles(
            sites,
            out,
            tile_px=tile_px,
            overlap=overlap,
            min_valid=min_valid,
            form=form,
            overwrite=overwrite,
            progress=progress,
        )
    rows = [(name, str(count), str(summary.left_out[name])) for name, count in summary.kept.items()]
    print_table(("site", "tiles", "left out"), rows)
    typer.echo(f"Written to {out}, listed in {summary.index}")
    return 0


@app.command()
def shards(
    files: Files,
    out: _Out,
    overrides: Set = None,
    shard_mb: Annotated[
        float, typer.Option("--shard-mb", min=1, help="Size of a shard, megabytes; a larger file has one of its own.")
    ] = 512.0,
    overwrite: _Overwrite = False,
) -> int:
    """Pack the data of an experiment into tar files for network disks; started again it goes on."""
    from maskwright.workflows.prepare_shards import prepare_shards

    experiment = load_experiment(files, overrides or [])
    with progress_bar() as progress:
        summary = prepare_shards(experiment, out, shard_mb=shard_mb, overwrite=overwrite, progress=progress)
    typer.echo(
        f"{summary.files} files, {summary.bytes / 1e6:.1f} MB, in {summary.shards} shards, listed in {summary.index}"
    )
    typer.echo(f"Train from them with --set data.shards={out}")
    return 0


def _height_rasters(data: list[Path], nodata: float | None) -> HeightRastersData:
    from maskwright.config import HeightRastersData
    from maskwright.workflows.prepare import sites_from_paths

    if len(data) != 1 or data[0].suffix.lower() not in (".yaml", ".yml"):
        return sites_from_paths(data, nodata=nodata)
    section = load_experiment([data[0]], {} if nodata is None else {"data": {"nodata": nodata}}).data
    if not isinstance(section, HeightRastersData):
        raise DataError(f"{data[0]} is about images; this command takes height rasters (data.kind: height_rasters).")
    return section

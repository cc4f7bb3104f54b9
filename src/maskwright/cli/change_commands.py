"""``maskwright change``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

__all__ = ["change"]


def change(
    before: Annotated[
        Path,
        typer.Argument(metavar="BEFORE", help="Earlier map, or the folder predict wrote it to.", show_default=False),
    ],
    after: Annotated[
        Path, typer.Argument(metavar="AFTER", help="Later map on the same grid, or its folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for raster, polygons and table.", show_default=False)],
    min_area_m2: Annotated[
        float, typer.Option("--min-area-m2", min=0, help="Smaller pieces are no polygons and are not counted.")
    ] = 0.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison.")] = False,
) -> int:
    """Compare two maps of the same ground: what opened, what closed, what stayed."""
    from maskwright.workflows.change import change as compare_maps

    with progress_bar() as progress:
        result = compare_maps(before, after, out, min_area_m2=min_area_m2, overwrite=overwrite, progress=progress)
    print_table(
        ("", "before", "after", "opened", "closed", "persistent"),
        [
            (
                row.of,
                _area(row.before_m2),
                _area(row.after_m2),
                f"{_area(row.opened_m2)} in {row.opened}",
                f"{_area(row.closed_m2)} in {row.closed}",
                f"{_area(row.persistent_m2)} in {row.persistent}",
            )
            for row in result.rows
        ],
    )
    for note in result.notes:
        typer.echo(f"Note: {note}.", err=True)
    for path in result.files.values():
        typer.echo(str(path))
    return 0


def _area(area_m2: float) -> str:
    return f"{area_m2 / 1e4:.2f} ha" if area_m2 >= 1e4 else f"{area_m2:.1f} m2"

"""``maskwright compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.render import print_table

__all__ = ["compare"]


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN ...", help="Run folders; the others are held against the first.")
    ],
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="NAME",
            help="Compare what maskwright evaluate --on found on data of this name; unset: the test parts.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="PAGE.html", help="The page; a table (CSV) and JSON go beside it.")
    ] = Path("comparison.html"),
) -> int:
    """Put runs beside each other: scores, paired tests, settings that differ, curves."""
    from maskwright.errors import ConfigError
    from maskwright.workflows.compare import compare_runs

    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: the comparison is a page. Give a name such as {out.with_suffix('.html')}.")
    comparison = compare_runs(runs, on=on, out=out)
    print_table(*comparison.score_table())
    if comparison.differences:
        typer.echo("\nDifferences on the same test data:")
        print_table(*comparison.difference_table())
    head, rows = comparison.settings
    typer.echo("\nSettings that differ:" if rows else "\nAll settings are the same.")
    if rows:
        print_table(head, rows)
    for note in comparison.notes:
        typer.echo(f"\n{note}")
    typer.echo(f"\nWritten: {out}, {out.with_suffix('.csv').name}, {out.with_suffix('.json').name}")
    return 0

"""``maskwright evaluate --suspects``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

__all__ = ["show_suspects"]

_MOST_SHOWN = 20


def show_suspects(
    run: Path,
    most: int,
    *,
    heights: Sequence[float] | None,
    folds: int | None,
    unlabelled: Sequence[Path],
    out: Path | None,
    overwrite: bool,
) -> int:
    """Rank doubtful labels and tell where the list, the polygons and the pictures lie."""
    from maskwright.workflows.suspects import find_suspects

    with progress_bar() as progress:
        found = find_suspects(
            run,
            most,
            heights_m=heights,
            folds=folds,
            unlabelled=unlabelled,
            out=out,
            overwrite=overwrite,
            say=lambda line: typer.echo(line, err=True),
            progress=progress,
            own_process=True,
        )
    if found.doubts:
        print_table(
            ("", "part", "where", "doubt", "pixels", "sure"),
            [
                (
                    str(one.rank),
                    one.part,
                    f"{one.scene} {one.window.row}, {one.window.col}",
                    one.sentence,
                    str(one.area_px),
                    f"{one.confidence:.0%}",
                )
                for one in found.doubts[:_MOST_SHOWN]
            ],
        )
    for sentence in found.sentences:
        typer.echo(sentence)
    for area in found.areas[:_MOST_SHOWN]:
        typer.echo(f"Label next {area.rank}: {area.file} {area.window.row}, {area.window.col}")
    for path in found.files.values():
        typer.echo(str(path))
    return 0

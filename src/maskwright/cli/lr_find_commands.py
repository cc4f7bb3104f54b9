"""``maskwright lr-find``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.options import Files, Set
from maskwright.cli.progress import progress_bar
from maskwright.config import load_experiment

__all__ = ["lr_find"]


def lr_find(
    files: Files,
    overrides: Set = None,
    start: Annotated[float, typer.Option("--start", help="First learning rate.")] = 1e-7,
    end: Annotated[float, typer.Option("--end", help="Last learning rate.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", help="Updates, 10 or more.")] = 100,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the curve, ending in .png.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
) -> int:
    """Try rising learning rates on a fresh network and suggest one."""
    from maskwright.workflows.lr_find import lr_find as search

    experiment = load_experiment(files, overrides or [])
    with progress_bar(quiet=quiet) as progress:
        found = search(
            experiment, start_lr=start, end_lr=end, steps=steps, out=out, progress=progress, own_process=True
        )
    for line in found.lines:
        typer.echo(line)
    return 0

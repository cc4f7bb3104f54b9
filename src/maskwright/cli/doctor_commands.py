"""``maskwright doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["doctor"]


def doctor(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, finished or at work.")]) -> int:
    """Explain a run from its log: what is wrong, by which numbers, and which setting to change."""
    from maskwright.workflows.doctor import examine_run

    diagnosis = examine_run(run)
    for number, finding in enumerate(diagnosis.findings, start=1):
        typer.echo(f"{number}. {finding.title}\n   Seen: {finding.evidence}\n   Do:   {finding.advice}\n")
    if not diagnosis.findings:
        typer.echo("Nothing wrong was found.")
    for line in diagnosis.lines:
        typer.echo(line)
    return 0

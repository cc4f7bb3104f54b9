"""``maskwright check`` and ``maskwright init``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

__all__ = ["check", "init"]

_MOST_NOTES = 12  # printed; all are in the page


def check(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA_OR_EXPERIMENT",
            help="A folder of data, whose settings are guessed, or the YAML file of an experiment.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for check.html and check.json; unset: check_NAME here.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings give exit code 3.")] = False,
    show_augmented: Annotated[
        int,
        typer.Option(
            "--show-augmented",
            metavar="N",
            min=0,
            max=256,
            help="Draw N training samples as augmentation leaves them, and print what was done to each.",
        ),
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the JSON instead of a table.")] = False,
) -> int:
    """Look for what is wrong with data before training: a page with pictures, and an exit code."""
    from maskwright.workflows.check import check as check_data

    with progress_bar(quiet=json) as progress:
        outcome = check_data(data, out, show_augmented=show_augmented, progress=progress, own_process=True)
    if json:
        typer.echo(json_module.dumps(outcome.facts, indent=2))
        return outcome.exit_code(strict)
    notes = [finding for finding in outcome.findings if finding.level == "note"]
    shown = [finding for finding in outcome.findings if finding.level != "note"] + notes[:_MOST_NOTES]
    if shown:
        print_table(("level", "where", "found", "do"), [(f.level, f.where or "-", f.what, f.do) for f in shown])
    if len(notes) > _MOST_NOTES:
        typer.echo(f"and {len(notes) - _MOST_NOTES} more notes in the page")
    for text in outcome.augmented:
        typer.echo(text + "\n")
    for line in outcome.lines:
        typer.echo(line)
    return outcome.exit_code(strict)


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of images or rasters.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The experiment file to write.")] = Path("experiment.yaml"),
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            help="binary, multiclass, multilabel, instances, agroforestry, height_gaps or height; "
            "unset: what the data suggests.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> int:
    """Look at data and write a commented experiment file."""
    from maskwright.workflows.init import init as write_experiment

    for line in write_experiment(data, out, task=task, force=force).lines:
        typer.echo(line)
    return 0

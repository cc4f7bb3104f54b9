"""``maskwright tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.main import EXIT_INTERRUPTED
from maskwright.cli.options import Files, Set, given, setting
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

__all__ = ["tune"]

_SHOWN = 10


def tune(
    files: Files,
    overrides: Set = None,
    trials: Annotated[int | None, setting("tune.trials", "--trials")] = None,
    minutes: Annotated[float | None, setting("tune.minutes", "--minutes")] = None,
    jobs: Annotated[int | None, setting("tune.jobs", "--jobs")] = None,
    storage: Annotated[str | None, setting("tune.storage", "--storage")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder for the runs, the study, the page and the table; the same command continues what it finds "
            "there. Unset: NAME_tune in tracking.output_dir.",
            show_default=False,
        ),
    ] = None,
    job: Annotated[int | None, typer.Option("--job", min=0, hidden=True)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
) -> int:
    """Search over settings with Optuna; the same command continues a search, also beside others."""
    from maskwright.workflows.tune import tune as search
    from maskwright.workflows.tune_page import best_rows

    flags = given(
        {
            "tune.trials": ("--trials", trials),
            "tune.minutes": ("--minutes", minutes),
            "tune.jobs": ("--jobs", jobs),
            "tune.storage": ("--storage", storage),
            "tracking.quiet": ("--quiet", True if quiet else None),
        }
    )
    say = (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))
    with progress_bar(quiet=quiet) as progress:
        tuning = search(
            files,
            [*(overrides or []), *flags],
            folder=out,
            say=say,
            progress=progress,
            own_process=True,
            job=job,
        )
    print_table(*best_rows(tuning, _SHOWN))
    if tuning.importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in tuning.importances.items())
        typer.echo(f"\nWhat matters: {shares}.")
    if tuning.best is not None:
        typer.echo(f"\nNext: maskwright train {tuning.best_file}")
    typer.echo(f"Written: {tuning.folder / 'tune.html'}, trials.csv")
    if tuning.stopped is not None:
        typer.echo(f"Stopped ({tuning.stopped}). The same command continues where it was.")
        return EXIT_INTERRUPTED if tuning.stopped.startswith("signal") else 0
    return 0

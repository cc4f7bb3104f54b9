"""``maskwright runs`` and ``maskwright demo``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

__all__ = ["demo", "runs"]


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that holds run folders.")] = Path("outputs"),
    name: Annotated[
        str | None, typer.Option("--name", help="Only runs of this experiment.", show_default=False)
    ] = None,
) -> int:
    """List runs, newest first: status, epochs, best score."""
    from maskwright.tracking import RunReader, find_runs

    found = find_runs(folder, name)
    if not found:
        typer.echo(f"No runs in {folder}.")
        return 0
    rows = []
    for run in found:
        reader = RunReader(run.path)
        history = reader.history()
        last = history[-1] if history else {}
        scores = [f"{key} {value:.3f}" for key, value in last.items() if key in ("train/loss", "val/loss", "val/iou")]
        rows.append((run.path.name, str(reader.status()["status"]), str(len(history)), ", ".join(scores)))
    print_table(("run", "status", "epochs", "last epoch"), rows)
    return 0


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the invented forest and of the training.")] = 1,
) -> int:
    """Invent a forest, train on it, score, map it all: a few minutes on two cores."""
    from maskwright.cli.train_commands import print_evaluation
    from maskwright.workflows.demo import run_demo

    with progress_bar() as progress:
        say = partial(typer.echo, err=True)
        result = run_demo(out, seed=seed, say=say, progress=progress, own_process=True)
    print_evaluation(result.evaluation)
    for line in result.lines:
        typer.echo(line)
    return 0

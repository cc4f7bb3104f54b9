"""``maskwright benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskwright.cli.main import EXIT_INTERRUPTED
from maskwright.cli.options import Files, Set
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

__all__ = ["app", "machine", "models"]

app = typer.Typer(
    help="Hold architectures against each other over several seeds; measure what this machine can do.",
    add_completion=False,
)


@app.callback()
def _benchmark() -> None:
    """Hold architectures against each other over several seeds; measure what this machine can do."""


@app.command()
def machine(
    folder: Annotated[
        Path, typer.Option("--folder", help="A folder on the disk that is measured; nothing stays there.")
    ] = Path(),
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="CPU threads; unset: all cores.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure here.", show_default=False)
    ] = None,
) -> int:
    """Measure matrix products, memory and disk, and what share of them a training step reaches: about a minute."""
    from maskwright.files import write_json
    from maskwright.workflows.benchmark_machine import benchmark_machine, machine_rows

    with progress_bar() as progress:
        report = benchmark_machine(folder, device=device, threads=threads, own_process=True, progress=progress)
    typer.echo(f"{report.device}, {report.threads} threads")
    print_table(*machine_rows(report))
    if out is not None:
        write_json(out, report.to_dict())
        typer.echo(f"Written: {out}")
    return 0


@app.command()
def models(
    files: Files,
    kinds: Annotated[
        list[str],
        typer.Option(
            "--kinds",
            metavar="KIND [KIND ...]",
            help="Kinds of networks, as maskwright models lists them; the others are held against the first.",
            show_default=False,
        ),
    ],
    seeds: Annotated[
        list[int],
        typer.Option("--seeds", metavar="N [N ...]", help="Seeds of the training; three tell something of the spread."),
    ] = [1, 2, 3],  # noqa: B006
    overrides: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder for the runs, the page and the tables; what is finished there is not repeated, what was "
            "stopped continues. Unset: NAME_benchmark in tracking.output_dir.",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
) -> int:
    """Train every kind with every seed on the same split: mean, spread, paired differences."""
    from maskwright.config import Override
    from maskwright.workflows.benchmark_models import benchmark_models
    from maskwright.workflows.benchmark_page import difference_rows, kind_rows, run_rows

    said: list[str | Override] = [*(overrides or [])]
    if quiet:
        said.append(Override("tracking.quiet", True, "--quiet"))
    say = (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))
    with progress_bar(quiet=quiet) as progress:
        benchmark = benchmark_models(
            files, said, kinds=kinds, seeds=seeds, folder=out, say=say, progress=progress, own_process=True
        )
    print_table(*kind_rows(benchmark))
    head, rows = difference_rows(benchmark)
    if rows:
        typer.echo("\nDifferences to the first kind:")
        print_table(head, rows)
    if any(trial.run is None for trial in benchmark.trials):
        typer.echo("\nRuns:")
        print_table(*run_rows(benchmark))
    for note in benchmark.notes:
        typer.echo(f"\n{note}")
    if benchmark.stopped is not None:
        typer.echo(f"\nStopped ({benchmark.stopped}). The same command continues where it was.")
        return EXIT_INTERRUPTED if benchmark.stopped.startswith("signal") else 0
    typer.echo(f"\nWritten: {benchmark.folder / 'benchmark.html'}, benchmark.csv, benchmark_runs.csv")
    return 0

"""``maskwright train`` and ``maskwright evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.main import EXIT_INTERRUPTED
from maskwright.cli.options import Set, given, setting
from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table
from maskwright.config import load_experiment
from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.config import Experiment
    from maskwright.workflows.evaluation import Evaluation

__all__ = ["evaluate", "print_evaluation", "train"]


def train(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES]",
            show_default=False,
            help="Files of settings, merged in order; preset:NAME is one that comes with Maskwright.",
        ),
    ] = None,
    overrides: Set = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="RUN", help="Continue this run folder exactly where it was.", show_default=False
        ),
    ] = None,
    name: Annotated[str | None, setting("name", "--experiment-name")] = None,
    epochs: Annotated[int | None, setting("training.epochs", "--epochs")] = None,
    batch_size: Annotated[int | None, setting("data.loader.batch_size", "--batch-size")] = None,
    lr: Annotated[float | None, setting("optim.optimizer.lr", "--lr")] = None,
    device: Annotated[str | None, setting("training.device", "--device")] = None,
    plan: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done and what it would take, draw one batch, train nothing."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
) -> int:
    """Train a model and score it on held-out data."""
    flags = given(
        {
            "name": ("--experiment-name", name),
            "training.epochs": ("--epochs", epochs),
            "data.loader.batch_size": ("--batch-size", batch_size),
            "optim.optimizer.lr": ("--lr", lr),
            "training.device": ("--device", device),
        }
    )
    if resume is None and not files:
        raise ConfigError("Name a file of settings, or --resume RUN. For example: maskwright train experiment.yaml")
    if resume is not None and (files or overrides or flags):
        raise ConfigError(
            "--resume continues a run with the settings it was begun with; give no files and no settings."
        )
    if resume is not None and plan:
        raise ConfigError("--dry-run says what a new run would do; a run that is resumed goes on as it was begun.")
    if quiet:
        flags += given({"tracking.quiet": ("--quiet", True)})
    experiment = None if resume is not None else load_experiment(files or [], [*(overrides or []), *flags])
    if plan:
        assert experiment is not None
        return _dry_run(experiment)

    from maskwright.workflows.train import resume as resume_run
    from maskwright.workflows.train import train as train_run

    say = (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))
    with progress_bar(quiet=quiet) as progress:
        if experiment is not None:
            outcome = train_run(experiment, say=say, progress=progress, own_process=True)
        else:
            assert resume is not None
            outcome = resume_run(resume, say=say, progress=progress, own_process=True, quiet=quiet)
    if outcome.evaluation is not None and not quiet:
        print_evaluation(outcome.evaluation)
    for line in outcome.lines:
        typer.echo(line)
    by_signal = (outcome.stop_reason or "").startswith("signal")
    return EXIT_INTERRUPTED if by_signal and not outcome.finished else 0


def _dry_run(experiment: Experiment) -> int:
    from maskwright.workflows.dry_run import dry_run

    for line in dry_run(experiment, experiment.tracking.output_dir / "dry_run" / experiment.name).lines:
        typer.echo(line)
    return 0


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.", show_default=False)],
    part: Annotated[str, typer.Option("--part", help="Part of the split to score: test or val.")] = "test",
    heights: Annotated[
        list[float] | None,
        typer.Option(
            "--heights",
            metavar="M [M ...]",
            help="Heights in metres, for a model of gaps; unset: those of the run.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the numbers, as JSON.", show_default=False)
    ] = None,
) -> int:
    """Score the model of a run beside naive baselines, with intervals."""
    from maskwright.workflows.evaluate_run import evaluate_run

    with progress_bar() as progress:
        evaluation = evaluate_run(run, part=part, heights_m=heights, out=out, progress=progress, own_process=True)
    print_evaluation(evaluation)
    return 0


def print_evaluation(evaluation: Evaluation) -> None:
    """The table by height or class, the baselines and the verdict in plain words, on standard output."""
    from maskwright.workflows.report_tables import baseline_table, sample_table, score_table

    where = "ground" if evaluation.heights_m or evaluation.score == "rmse" else "images"
    typer.echo(
        f"\n{evaluation.part} {where}, {evaluation.tiles} tiles, {evaluation.valid_pixels / 1e6:.2f} million pixels:"
    )
    print_table(*score_table(evaluation))
    if evaluation.samples:
        typer.echo("\nWhole images, right or wrong:")
        print_table(*sample_table(evaluation))
    typer.echo(f"\n{'RMSE' if evaluation.score == 'rmse' else 'IoU'} beside answers that need no training:")
    print_table(*baseline_table(evaluation))
    typer.echo("")
    for sentence in evaluation.sentences:
        typer.echo(sentence)
    typer.echo("")

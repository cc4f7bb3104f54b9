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
    from maskwright.config import Experiment, Override
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
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="FILE", help="A file of settings, as FILES; may be given again."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN|auto",
            help="Continue this run folder exactly where it was; auto: the newest unfinished run of the experiment, or "
            "a new one if there is none.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, setting("name", "--experiment-name")] = None,
    epochs: Annotated[int | None, setting("training.epochs", "--epochs")] = None,
    minutes: Annotated[float | None, setting("training.budget", "--minutes")] = None,
    batch_size: Annotated[int | None, setting("data.loader.batch_size", "--batch-size")] = None,
    lr: Annotated[float | None, setting("optim.optimizer.lr", "--lr")] = None,
    accumulate: Annotated[int | None, setting("training.accumulate", "--grad-accum")] = None,
    mixed_precision: Annotated[
        bool,
        typer.Option(
            "--mixed-precision",
            help="Compute in bf16 where the device gains by it, else in fp32. Same as --set training.precision=auto",
        ),
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Let torch compile the network. Same as --set training.compile=default"),
    ] = False,
    device: Annotated[str | None, setting("training.device", "--device")] = None,
    validate_every: Annotated[int | None, setting("training.validate_every", "--val-frequency")] = None,
    save_every: Annotated[int | None, setting("checkpoints.every_epochs", "--save-frequency")] = None,
    output_dir: Annotated[Path | None, setting("tracking.output_dir", "--output-dir")] = None,
    plan: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done and what it would take, draw one batch, train nothing."),
    ] = False,
    use_mlflow: Annotated[
        bool, typer.Option("--use-mlflow", help="Send the run to MLflow. Same as --set tracking.mlflow=true")
    ] = False,
    use_wandb: Annotated[
        bool, typer.Option("--use-wandb", help="Send the run to Weights & Biases. Same as --set tracking.wandb=true")
    ] = False,
    no_tensorboard: Annotated[
        bool, typer.Option("--no-tensorboard", help="Same as --set tracking.tensorboard=false")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on the screen.")] = False,
) -> int:
    """Train a model and score it on held-out data."""
    flags = given(
        {
            "name": ("--experiment-name", name),
            "training.epochs": ("--epochs", epochs),
            "training.budget": ("--minutes", minutes),
            "tracking.mlflow": ("--use-mlflow", use_mlflow or None),
            "tracking.wandb": ("--use-wandb", use_wandb or None),
            "tracking.tensorboard": ("--no-tensorboard", False if no_tensorboard else None),
            "data.loader.batch_size": ("--batch-size", batch_size),
            "optim.optimizer.lr": ("--lr", lr),
            "training.accumulate": ("--grad-accum", accumulate),
            "training.precision": ("--mixed-precision", "auto" if mixed_precision else None),
            "training.compile": ("--compile", "default" if compiled else None),
            "training.device": ("--device", device),
            "training.validate_every": ("--val-frequency", validate_every),
            "checkpoints.every_epochs": ("--save-frequency", save_every),
            "tracking.output_dir": ("--output-dir", None if output_dir is None else str(output_dir)),
        }
    )
    files = [*(files or []), *(config or [])]
    found, begin = _meant(resume, files, [*(overrides or []), *flags], output_dir)
    if begin is None and plan:
        raise ConfigError("--dry-run says what a new run would do; a run that is resumed goes on as it was begun.")
    if begin is not None and quiet:
        begin = begin.model_copy(update={"tracking": begin.tracking.model_copy(update={"quiet": True})})
    if begin is not None and plan:
        return _dry_run(begin)

    from maskwright.workflows.train import resume as resume_run
    from maskwright.workflows.train import train as train_run

    say = (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))
    with progress_bar(quiet=quiet) as progress:
        if begin is not None:
            outcome = train_run(begin, say=say, progress=progress, own_process=True)
        else:
            assert found is not None
            outcome = resume_run(found, say=say, progress=progress, own_process=True, quiet=quiet)
    if outcome.evaluation is not None and not quiet:
        print_evaluation(outcome.evaluation)
    for line in outcome.lines:
        typer.echo(line)
    by_signal = (outcome.stop_reason or "").startswith("signal")
    return EXIT_INTERRUPTED if by_signal and not outcome.finished else 0


def _meant(
    resume: str | None, files: list[str], overrides: list[str | Override], output_dir: Path | None
) -> tuple[Path | None, Experiment | None]:
    """The run folder to continue, or the experiment to begin: one of the two."""
    from maskwright.workflows.unfinished import newest_unfinished, require_same_settings, run_of

    if resume is None:
        if not files:
            raise ConfigError("Name a file of settings, or --resume RUN. For example: maskwright train experiment.yaml")
        return None, load_experiment(files, overrides)
    if resume != "auto":
        if files or overrides:
            raise ConfigError(
                "--resume continues a run with the settings it was begun with; give no files and no settings."
            )
        return run_of(Path(resume)), None
    if files:
        experiment = load_experiment(files, overrides)
        run = newest_unfinished(experiment.tracking.output_dir, experiment.name)
        if run is None:
            return None, experiment
        require_same_settings(run, experiment)
        return run.path, None
    if len(overrides) > (output_dir is not None):
        raise ConfigError("--resume auto alone takes no settings but --output-dir; name the file of settings as well.")
    folder = output_dir or Path("outputs")
    run = newest_unfinished(folder)
    if run is None:
        raise ConfigError(f"--resume auto: {folder} holds no unfinished run. Name a file of settings to start one.")
    return run.path, None


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

"""``maskwright train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.evaluate_commands import print_evaluation
from maskwright.cli.launch_options import Devices, MaxRestarts, launch_this, must_launch
from maskwright.cli.main import EXIT_INTERRUPTED
from maskwright.cli.options import Set, given, setting
from maskwright.cli.progress import progress_bar
from maskwright.config import Override
from maskwright.distributed import (
    from_main,
    is_main,
    joined,
    require_alike,
    require_single_process,
    world_size,
)
from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.config import Experiment

__all__ = ["train"]


def train(
    context: typer.Context,
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
            metavar="RUN|FILE|auto",
            help="Continue a run exactly where it was, in its folder: a run folder, its newest checkpoint, or auto for "
            "the newest unfinished run of the experiment (a new one if there is none). Settings given with it change "
            "the run where that is possible: more --epochs, --device, workers, early stopping, trackers; others are "
            "refused with both values. With another --experiment-name a new run starts from the best weights of the "
            "run, or from those of a checkpoint file or a model folder, with a fresh optimizer and schedule.",
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
    devices: Devices = 1,
    max_restarts: MaxRestarts = 3,
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
    if plan:
        require_single_process("--dry-run")
    elif must_launch(devices):
        return launch_this(context, devices, max_restarts)
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
    with joined():
        return _train([*(files or []), *(config or [])], [*(overrides or []), *flags], resume, output_dir, plan, quiet)


def _train(
    files: list[str],
    overrides: Sequence[str | Override],
    resume: str | None,
    output_dir: Path | None,
    plan: bool,
    quiet: bool,
) -> int:
    from maskwright.workflows.resume_plan import Begin, Continue, start_of

    if resume is None:
        start = start_of(None, files, overrides)
    else:  # what there is to continue is seen by the process that writes it
        require_alike({"the resumed run": resume, "the settings": [*files, *map(str, overrides)]}, "the command")
        start = from_main(lambda: start_of(resume, files, overrides, output_dir))
    if isinstance(start, Continue) and plan:
        raise ConfigError("--dry-run says what a new run would do; a run that is resumed goes on as it was begun.")
    experiment = start.experiment
    if isinstance(start, Begin) and quiet:
        experiment = experiment.model_copy(update={"tracking": experiment.tracking.model_copy(update={"quiet": True})})
    if plan:
        return _dry_run(experiment)

    from maskwright.workflows.shape import resume_shaped, train_shaped

    is_silent = quiet or not is_main()
    say = (lambda line: None) if is_silent else (lambda line: typer.echo(line, err=True))
    with progress_bar(quiet=is_silent) as progress:
        if isinstance(start, Begin):
            outcome = train_shaped(experiment, say=say, progress=progress, own_process=True, parent=start.parent)
        else:
            run = start.folder.path
            outcome = resume_shaped(
                run, say=say, progress=progress, own_process=True, quiet=quiet, experiment=experiment
            )
    if outcome.evaluation is not None and not quiet:
        print_evaluation(outcome.evaluation)
    for line in outcome.lines:
        typer.echo(line)
    by_signal = (outcome.stop_reason or "").startswith("signal")
    if by_signal and not outcome.finished and world_size() == 1:  # a launcher would take it for a failure
        return EXIT_INTERRUPTED
    return 0


def _dry_run(experiment: Experiment) -> int:
    from maskwright.workflows.shape import dry_run_shaped

    for line in dry_run_shaped(experiment, experiment.tracking.output_dir / "dry_run" / experiment.name):
        typer.echo(line)
    return 0

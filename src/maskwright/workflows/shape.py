"""Training in the shape an experiment asks for: once, in stages, or in rounds with pseudo-labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import Experiment, load_experiment
from maskwright.distributed import from_main, launch_id, require_single_process, restarts
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.workflows.dry_run import dry_run
from maskwright.workflows.evaluate import Progress
from maskwright.workflows.outer_run import How
from maskwright.workflows.pseudo_labels import (
    dry_run_pseudo_labels,
    resume_pseudo_labels,
    train_pseudo_labels,
)
from maskwright.workflows.stages import dry_run_stages, resume_stages, train_stages
from maskwright.workflows.train import TrainOutcome, resume, train

if TYPE_CHECKING:
    from maskwright.workflows.parent import Parent

__all__ = ["dry_run_shaped", "resume_shaped", "train_shaped"]

log = logging.getLogger("maskwright")


def train_shaped(
    experiment: Experiment,
    *,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    own_process: bool = False,
    parent: Parent | None = None,
) -> TrainOutcome:
    """Train as the experiment says: in stages where it has some, with pseudo-labels where it names images for them.

    Arguments and errors are those of :func:`maskwright.workflows.train.train`, which does the rest.
    """
    how = How(say or log.info, progress, callbacks, own_process)
    _require_one_training(experiment)
    if (begun := _begun_by_this_launch(experiment)) is not None:
        return resume_shaped(begun, say=say, progress=progress, callbacks=callbacks, own_process=own_process)
    if experiment.stages:
        return train_stages(experiment, how, parent)
    if experiment.pseudo_labels.folder is not None:
        return train_pseudo_labels(experiment, how, parent)
    return train(experiment, say=say, progress=progress, callbacks=callbacks, own_process=own_process, parent=parent)


def resume_shaped(
    run: str | Path,
    *,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    own_process: bool = False,
    quiet: bool = False,
    experiment: Experiment | None = None,
) -> TrainOutcome:
    """Continue a run of any shape; a run of several trainings at the one that was at work.

    Arguments and errors are those of :func:`maskwright.workflows.train.resume`, which continues a single training.
    """
    folder = from_main(lambda: RunFolder.open(Path(run)))
    how = How(say or log.info, progress, callbacks, own_process, quiet)
    saved = from_main(lambda: load_experiment([folder.config]))
    _require_one_training(saved)
    if saved.stages:
        return resume_stages(folder.path, how, experiment)
    if saved.pseudo_labels.folder is not None:
        return resume_pseudo_labels(folder.path, how, experiment)
    return resume(
        folder.path,
        say=say,
        progress=progress,
        callbacks=callbacks,
        own_process=own_process,
        quiet=quiet,
        experiment=experiment,
    )


def dry_run_shaped(experiment: Experiment, out: Path, *, own_process: bool = False) -> tuple[str, ...]:
    """What a training of any shape would do and take, in lines; nothing is trained."""
    if experiment.stages:
        return dry_run_stages(experiment, out, own_process=own_process)
    if experiment.pseudo_labels.folder is not None:
        return dry_run_pseudo_labels(experiment, out, own_process=own_process)
    return dry_run(experiment, out, own_process=own_process).lines


def _require_one_training(experiment: Experiment) -> None:
    if experiment.stages:
        require_single_process("Training in stages")
    if experiment.pseudo_labels.folder is not None:
        require_single_process("Training with pseudo-labels")


def _begun_by_this_launch(experiment: Experiment) -> Path | None:
    """The run to go on with where a launcher has started all processes anew after one of them died."""
    if not restarts():
        return None

    def find() -> Path | None:
        own = launch_id()
        for run in find_runs(experiment.tracking.output_dir, experiment.name):
            launch = (run.record.load().get("processes") or {}).get("launch") or {}
            here = (launch.get("host"), launch.get("launcher")) == (own["host"], own["launcher"])
            if (here or own["id"] not in ("", "none")) and launch.get("id") == own["id"]:
                return run.path
        return None

    return from_main(find)

"""The minutes a run may take, turned into epochs before its first one; a resumed run keeps the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maskwright.devices import seed_everything
from maskwright.distributed import from_main, is_main

if TYPE_CHECKING:
    from maskwright.config import Experiment
    from maskwright.tracking.folder import RunFolder
    from maskwright.training import Trainer
    from maskwright.workflows.assemble import Parts

__all__ = ["laid_out", "within_budget"]

_MEASURED = 0.05  # share of the minutes after which one timed update is enough; short runs have none to give away


def within_budget(
    parts: Parts,
    folder: RunFolder,
    began_s: float,
    build: Callable[[Parts], tuple[Trainer, Any]],
    *,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> Parts:
    """The parts of a run, its epochs laid out by ``training.budget``; unchanged where there is none.

    The plan stands in run.json as ``budget``. A run that has one is not measured again, so that it resumes exactly.

    Args:
        parts: The run as its settings say.
        folder: Its folder.
        began_s: When it began, by ``clock``.
        build: Makes a trainer without a folder, and its loaders (training, others by part), to be measured.
        say: Called with the plan in words.
        clock: Seconds.

    Raises:
        ConfigError: If not even one epoch fits.
    """
    training = parts.experiment.training
    if training.budget is None:
        return parts
    recorded = from_main(lambda: folder.record.load().get("budget"))
    if recorded is None:
        recorded = _planned(parts, training.budget, began_s, build, say, clock)
        if is_main():
            folder.record.update(budget=recorded)
        seed_everything(training.seed)  # the network of the run begins as if nothing had been measured
    return replace(parts, experiment=laid_out(parts.experiment, recorded))


def laid_out(experiment: Experiment, plan: Mapping[str, Any]) -> Experiment:
    """The experiment whose epochs are those of a plan, as ``run.json`` keeps it, in number and length."""
    epochs, samples = int(plan["epochs"]), plan.get("samples_per_epoch")
    training = experiment.training.model_copy(update={"epochs": epochs})
    if samples is None:
        return experiment.model_copy(update={"training": training})
    loader = experiment.data.loader.model_copy(update={"samples_per_epoch": int(samples)})
    data = experiment.data.model_copy(update={"loader": loader})
    return experiment.model_copy(update={"training": training, "data": data})


def _planned(
    parts: Parts,
    minutes: float,
    began_s: float,
    build: Callable[[Parts], tuple[Trainer, Any]],
    say: Callable[[str], None],
    clock: Callable[[], float],
) -> dict[str, Any]:
    from maskwright.training.budget import measure_speed, plan_epochs

    training = parts.experiment.training
    trainer, (train_loader, eval_loaders) = build(parts)
    speed = measure_speed(
        trainer.state, parts.task, train_loader, eval_loaders["val"], longest_s=60 * minutes * _MEASURED, clock=clock
    )
    validation, test = len(eval_loaders["val"]), len(eval_loaders["test"])
    plan = from_main(  # of several processes the first one's speed counts
        lambda: plan_epochs(
            minutes,
            speed,
            spent_s=clock() - began_s,
            updates_per_pass=-(-len(train_loader) // training.accumulate),
            validation_batches=validation,
            final_batches=validation + test,
            validate_every=training.validate_every,
        )
    )
    say(f"{plan} They take the place of training.epochs: {training.epochs}.")
    samples = plan.updates_per_epoch * training.accumulate * parts.experiment.data.loader.batch_size
    return plan.to_dict() | {"samples_per_epoch": samples}

"""Train: from an experiment to a run folder with a model, honest numbers and a page that shows them."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import Experiment, load_experiment, save_experiment
from maskwright.devices import available_devices, choose_device, choose_precision, seed_everything
from maskwright.distributed import from_main, is_main, launch_id, own_device, world_size
from maskwright.errors import MaskwrightError, RunError
from maskwright.files import json_text, write_json, write_text
from maskwright.tracking.control import ControlFolder
from maskwright.tracking.environment import describe_environment
from maskwright.tracking.folder import RunFolder
from maskwright.tracking.lock import hold_run
from maskwright.workflows.assemble import Parts, data_fingerprint, loaders_of
from maskwright.workflows.assemble_together import assemble_together
from maskwright.workflows.budget import within_budget
from maskwright.workflows.evaluate import Evaluation, Progress, evaluate_part
from maskwright.workflows.first_lines import introduce, tell_what_differs, where_it_stands
from maskwright.workflows.last_lines import last_lines
from maskwright.workflows.model_description import describe_model
from maskwright.workflows.operating_point import OperatingPoint, find_operating_point
from maskwright.workflows.parent import Parent, require_same_network, require_unchanged
from maskwright.workflows.resume_plan import Change, record_changes, require_more_to_do, settled
from maskwright.workflows.same_data import require_same_data
from maskwright.workflows.start_choices import as_first_chosen, settle_start, tell_crowding

if TYPE_CHECKING:
    from torch import nn

    from maskwright.data.loaders import EvalLoader, TrainLoader
    from maskwright.data.splits import Split
    from maskwright.training import Trainer, TrainResult

__all__ = ["TrainOutcome", "build_trainer", "resume", "train"]

log = logging.getLogger("maskwright")
Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainOutcome:
    """What a run came to.

    Attributes:
        folder: The run folder.
        finished: False if the run was stopped before its end; ``lines`` then say how to go on.
        stop_reason: Why it ended before its last epoch; None if it did not.
        best_score: Best monitored score; None if none was computed.
        best_epoch: Its epoch, from 1.
        evaluation: Numbers on the test part; None if the run was stopped or there is no such part.
        lines: The last lines for the screen.
    """

    folder: RunFolder
    finished: bool
    stop_reason: str | None
    best_score: float | None
    best_epoch: int | None
    evaluation: Evaluation | None
    lines: tuple[str, ...]


def train(
    experiment: Experiment,
    *,
    say: Say | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    own_process: bool = False,
    parent: Parent | None = None,
) -> TrainOutcome:
    """Train a model as the experiment says, score it on held-out ground, write everything to a new run folder.

    Args:
        experiment: The whole run.
        say: Called with lines for a person: the split, what was noticed, the choices made.
        progress: Called with (done, total, what) while the final numbers are made.
        callbacks: Further watchers of the training.
        own_process: True if the process exists for this run alone, so that its threads and its memory may be settled.
        parent: The earlier run whose weights ``model.initial_weights`` names, to be compared and recorded.

    Raises:
        MaskwrightError: Whatever stands in the way, before the run folder is made where it can be known by then.
    """
    say = say or log.info
    began_s = time.monotonic()
    parts = assemble_together(experiment)
    if parent is not None and not experiment.model.partial_weights:
        require_same_network(parent, parts)
    folder = from_main(lambda: RunFolder.create(experiment.tracking.output_dir, experiment.name))
    with _held(folder):
        choices = settle_start(parts, own_process)
        if not is_main():
            return _take_part(parts, folder, continued=False, callbacks=callbacks)
        save_experiment(experiment, folder.config)
        _write_manifest(parts, folder)
        if parent is not None:
            folder.record.update(parent=parent.to_dict())
            for line in (str(parent), *parent.notes):
                say(line)
        return _run(parts, folder, choices, began_s, continued=False, say=say, progress=progress, callbacks=callbacks)


def resume(
    run: str | Path,
    *,
    say: Say | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    own_process: bool = False,
    quiet: bool = False,
    experiment: Experiment | None = None,
) -> TrainOutcome:
    """Continue a run from its newest good checkpoint, with the settings and the split it was begun with.

    The arguments are those of :func:`train`; ``quiet`` keeps this attempt's progress off the screen. Threads, loader
    processes and precision stay those of the first attempt unless they are asked otherwise, since sums are rounded
    differently with others.

    Args:
        run: The run folder.
        say: As of :func:`train`.
        progress: As of :func:`train`.
        callbacks: As of :func:`train`.
        own_process: As of :func:`train`.
        quiet: See above.
        experiment: The settings to go on with; what may differ from those of the run is listed in
            :data:`~maskwright.workflows.resume_plan.MAY_CHANGE`. The run keeps them; None: its own.

    Raises:
        RunError: If ``run`` is no run folder, is still at work, is finished, or its data has changed.
        ConfigError: If a setting differs that cannot change.
    """
    say = say or log.info
    began_s = time.monotonic()
    folder = from_main(lambda: RunFolder.open(Path(run)))
    with _held(folder):
        plan = from_main(lambda: _plan_to_resume(folder, experiment))
        kept, changes, split = plan.experiment, plan.changes, plan.split
        choose_device(own_device(kept.training.device, available_devices()))  # a missing one must not become the run's
        chosen = plan.chosen
        silent = chosen.model_copy(update={"tracking": chosen.tracking.model_copy(update={"quiet": True})})
        check = partial(require_same_data, folder=folder) if is_main() else None
        parts = assemble_together(silent if quiet else chosen, split=split, check=check)
        if not is_main():
            settle_start(parts, own_process, plan.threads)
            return _take_part(parts, folder, continued=True, callbacks=callbacks)
        folder.record.begin_attempt()
        for line in record_changes(folder, kept, changes):
            say(line)
            log.info("%s", line)
        if split is None:
            _write_manifest(parts, folder)
        choices = settle_start(parts, own_process, plan.threads)
        return _run(parts, folder, choices, began_s, continued=True, say=say, progress=progress, callbacks=callbacks)


@dataclass(frozen=True)
class _Plan:
    """How a run goes on.

    Its settings, the same with what ``auto`` came to at first, what they change, its split (None: not written yet), its
    threads.
    """

    experiment: Experiment
    chosen: Experiment
    changes: tuple[Change, ...]
    split: Split | None
    threads: int | None


def _plan_to_resume(folder: RunFolder, experiment: Experiment | None) -> _Plan:
    from maskwright.data.splits import read_manifest

    kept, changes = settled(folder, experiment or load_experiment([folder.config]))
    require_more_to_do(folder, kept, changes)
    split = read_manifest(folder.splits) if folder.splits.is_file() else None  # killed before it was written
    record = folder.record.load()
    processes = int((record.get("processes") or {}).get("number", 1))
    threads = record.get("process_choices", {}).get("threads") if processes == world_size() else None
    return _Plan(kept, as_first_chosen(kept, record, changes), changes, split, threads)


@contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    """The run is held by the process that writes it."""
    with hold_run(folder) if is_main() else nullcontext():
        yield


def _take_part(parts: Parts, folder: RunFolder, *, continued: bool, callbacks: Sequence[Any]) -> TrainOutcome:
    """The part in a run of a process that does not write it; step by step what :func:`_run` does."""
    from maskwright.training.interrupt import StopAsked, stoppable

    training = parts.experiment.training
    try:
        with stoppable():
            device = choose_device(own_device(training.device, available_devices()))
            seed_everything(training.seed)
            parts = within_budget(parts, folder, 0.0, partial(build_trainer, folder=None, device=device), say=log.debug)
            trainer, loaders = build_trainer(parts, folder, device, callbacks)
            if continued:
                trainer.resume()
            result = trainer.train()
    except StopAsked as stop:
        return TrainOutcome(folder, False, stop.reason, None, None, None, ())
    evaluation = None if result.stopped else _scored(parts, trainer, loaders, result, None).evaluation
    told = result.stop_reason, result.best_score, result.best_epoch, evaluation
    return TrainOutcome(folder, not result.stopped, *told, ())


def _run(
    parts: Parts,
    folder: RunFolder,
    process: dict[str, Any],
    began_s: float,
    *,
    continued: bool,
    say: Say,
    progress: Progress | None,
    callbacks: Sequence[Any],
) -> TrainOutcome:
    from maskwright.training.callbacks.track import tracked
    from maskwright.training.interrupt import StopAsked, stoppable
    from maskwright.workflows.model_graph import graph_of_run

    experiment = parts.experiment
    settings = experiment.model_dump(mode="json")
    result: TrainResult | None = None
    followed = tracked(experiment.tracking, folder, settings, partial(graph_of_run, parts))
    with _log_file(folder.log), stoppable() as stopper, followed as watchers:
        record = folder.record
        try:
            device = choose_device(own_device(experiment.training.device, available_devices()))
            precision = choose_precision(experiment.training.precision, device)
            seed_everything(experiment.training.seed)
            former = record.load()
            record.update(
                status="running",
                environment=describe_environment(),
                process_choices=process,
                processes={"number": world_size(), "launch": launch_id()},
                device=str(device),
                precision=precision,
                data=data_fingerprint(parts.source),
                sites=parts.source.describe(),
            )
            tell_crowding(process, say)
            introduce(parts, folder, device, precision, process, say)
            parts = within_budget(parts, folder, began_s, partial(build_trainer, folder=None, device=device), say=say)
            trainer, loaders = build_trainer(parts, folder, device, [*callbacks, *watchers])
            if continued:
                say(where_it_stands(trainer.resume(), folder))
                tell_what_differs(former, precision, say)
            result = trainer.train()
            if result.stopped:
                record.update(status="stopped", reason=result.stop_reason)
                return _stopped(folder, trainer, result)
            stopper.check()  # a signal that came when all epochs were done
            return _finish(parts, folder, trainer, loaders, result, _obeying(progress, folder, StopAsked), began_s)
        except StopAsked as stop:
            record.update(status="stopped", reason=stop.reason)
            return _stopped_outside(folder, stop.reason, result)
        except KeyboardInterrupt:
            record.update(status="interrupted")
            raise
        except BaseException as error:
            record.update(status="failed", reason=f"{type(error).__name__}: {error}")
            log.error("%s: %s", type(error).__name__, error, exc_info=not isinstance(error, MaskwrightError))
            raise


def _obeying(progress: Progress | None, folder: RunFolder, stop: Callable[[str], BaseException]) -> Progress:
    """Progress of the final numbers that also looks for a stop command; the others have no meaning by then."""
    control = ControlFolder(folder.control)

    def look(done: int, total: int, what: str) -> None:
        for command in control.poll():
            if command.kind == "stop":
                raise stop("stop command")
            log.warning("The command %s was not obeyed: the training is over.", command.kind)
        if progress is not None:
            progress(done, total, what)

    return look


def build_trainer(
    parts: Parts, folder: RunFolder | None, device: Any, callbacks: Sequence[Any] = ()
) -> tuple[Trainer, tuple[TrainLoader, dict[str, EvalLoader]]]:
    """A trainer of the run, with its loaders: training, and the others by part.

    Args:
        parts: What the run is made of.
        folder: Where it is written; None: nowhere, for a trainer that is only to be measured.
        device: A torch device.
        callbacks: Further watchers.
    """
    from maskwright.training import Trainer
    from maskwright.workflows.run_pages import BestModel, RunReport
    from maskwright.workflows.samples import Samples

    experiment = parts.experiment
    train_loader, eval_loaders = loaders_of(parts, device)
    network = experiment.model
    if folder is not None and from_main(lambda: any(folder.checkpoints.glob("checkpoint_*"))):
        network = network.bare()  # its weights come from the checkpoint; those it began with may be gone by now
    elif folder is not None and is_main() and (begun_from := folder.record.load().get("parent")) is not None:
        require_unchanged(begun_from)
    model = parts.task.build_model(network, parts.source.in_channels, experiment.data.loader.batch_size)
    description = describe_model(parts)
    pages: list[Any] = []
    if folder is not None and is_main():
        pages = [RunReport(folder, parts)]
        if world_size() == 1 or experiment.training.strategy == "ddp":  # else no process has the network for itself
            pages = [BestModel(folder.model, description), Samples(folder.samples, parts), *pages]
    trainer = Trainer(
        parts.task,
        model,
        train_loader,
        eval_loaders["val"],
        training=experiment.training,
        optim=experiment.optim,
        monitoring=experiment.callbacks,
        checkpoints=experiment.checkpoints,
        run_folder=folder,
        log_every_steps=experiment.tracking.log_every_steps,
        quiet=experiment.tracking.quiet,
        description=description,
        callbacks=[*pages, *callbacks],
    )
    return trainer, (train_loader, eval_loaders)


def _finish(
    parts: Parts,
    folder: RunFolder,
    trainer: Trainer,
    loaders: tuple[TrainLoader, dict[str, EvalLoader]],
    result: TrainResult,
    progress: Progress | None,
    began_s: float,
) -> TrainOutcome:
    from maskwright.checkpoints import save_model
    from maskwright.workflows.run_pages import write_final_report

    if result.best_epoch is None:
        log.warning("%s never had a value, so the weights of the last epoch are kept.", trainer.monitor.name)
    scored = _scored(parts, trainer, loaders, result, progress)
    parts, model, point, evaluation = scored.parts, scored.model, scored.point, scored.evaluation
    scores: dict[str, Any] = {trainer.monitor.name: result.best_score}
    if evaluation is not None:
        scores["test"] = _named_scores(evaluation)
        write_json(folder.path / "evaluation.json", evaluation.to_dict())
        write_text(folder.path / "evaluation_blocks.json", json_text(evaluation.block_counts))
    described = describe_model(parts, point) | {"epoch": result.best_epoch, "scores": scores}
    save_model(folder.model, model, described)
    lines = last_lines(parts, folder, trainer, result, evaluation)
    try:
        write_final_report(folder, parts, evaluation, lines, model=model, point=point)
    except RunError as error:  # the numbers are known; a page that cannot be written must not hide them
        log.warning("The page was not written: %s", error)
    folder.record.update(
        status="finished", reason=result.stop_reason, minutes=round((time.monotonic() - began_s) / 60, 2)
    )
    log.info("%s", "\n".join(lines))
    return TrainOutcome(folder, True, result.stop_reason, result.best_score, result.best_epoch, evaluation, lines)


@dataclass(frozen=True)
class _Scored:
    """The model a run came to, where its probabilities are cut, and its numbers; ``parts`` to score, not to train."""

    parts: Parts
    model: nn.Module
    point: OperatingPoint
    evaluation: Evaluation | None


def _scored(
    parts: Parts,
    trainer: Trainer,
    loaders: tuple[TrainLoader, dict[str, EvalLoader]],
    result: TrainResult,
    progress: Progress | None,
) -> _Scored:
    """The final numbers; several processes divide the work."""
    from maskwright.tasks import task_from_dict

    if result.best_epoch is None:
        model = trainer.last_model()
    else:
        model = trainer.best_model() if is_main() else trainer.blank_model()
    if world_size() > 1:
        model.load_state_dict(from_main(model.state_dict))
    model = model.to(trainer.state.device)
    parts = replace(parts, task=task_from_dict(parts.task.to_dict()))  # from here on nothing is trained
    heights, metrics = parts.heights_m, parts.experiment.metrics
    point = from_main(lambda: find_operating_point(model, parts.task, loaders[1]["val"], heights, metrics))
    return _Scored(parts, model, point, _evaluated(parts, model, loaders[1]["test"], point, heights, progress))


def _evaluated(
    parts: Parts,
    model: nn.Module,
    loader: EvalLoader,
    point: OperatingPoint,
    heights: Sequence[float],
    progress: Progress | None,
) -> Evaluation | None:
    """The numbers on the test part; None where a list of images leaves it empty."""
    if not parts.split.tiles["test"]:
        return None
    return evaluate_part(
        model,
        parts.task,
        loader,
        parts.source,
        parts.split,
        part="test",
        heights_m=heights,
        metrics=parts.experiment.metrics,
        point=point,
        progress=progress,
    )


def _named_scores(evaluation: Evaluation) -> dict[str, float]:
    """The deciding score of each column: ``iou@5m``, ``iou@crack``, ``rmse``."""
    name = evaluation.score
    if name == "rmse":
        return dict(evaluation.model[0].scores)
    columns = [f"{row.height_m:g}m" if row.height_m is not None else row.column for row in evaluation.model]
    return {f"{name}@{column}": row.scores[name] for column, row in zip(columns, evaluation.model, strict=True)}


def _stopped(folder: RunFolder, trainer: Trainer, result: TrainResult) -> TrainOutcome:
    best = ""
    if result.best_epoch is not None:
        best = f" Best so far: {trainer.monitor.name} {_number(result.best_score)} in epoch {result.best_epoch}."
    lines = (
        f"Stopped ({result.stop_reason}) in epoch {trainer.state.epoch + 1}; the state is saved.{best}",
        f"Next: {shlex.join(['maskwright', 'train', '--resume', str(folder.path)])}",
    )
    return TrainOutcome(folder, False, result.stop_reason, result.best_score, result.best_epoch, None, lines)


def _stopped_outside(folder: RunFolder, reason: str, result: TrainResult | None) -> TrainOutcome:
    """Stopped before the training, or while the final numbers were made."""
    where = "before the training began; nothing is lost" if result is None else "when all epochs were done and saved"
    then = "" if result is None else " It then makes the final numbers only."
    lines = (
        f"Stopped ({reason}) {where}.{then}",
        f"Next: {shlex.join(['maskwright', 'train', '--resume', str(folder.path)])}",
    )
    score, epoch = (None, None) if result is None else (result.best_score, result.best_epoch)
    return TrainOutcome(folder, False, reason, score, epoch, None, lines)


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _write_manifest(parts: Parts, folder: RunFolder) -> None:
    from maskwright.data.splits import write_manifest

    write_manifest(parts.split, parts.source.scenes, folder.splits)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Everything logged by Maskwright also goes to the run's own file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(min(level, logging.INFO) if level else logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()

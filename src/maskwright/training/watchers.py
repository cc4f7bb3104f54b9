"""Which callbacks the settings of a run ask for, and the score that decides."""

from __future__ import annotations

from maskwright.config.callbacks import CallbacksConfig
from maskwright.config.metric_names import resolve_monitor
from maskwright.config.training import TrainingConfig
from maskwright.errors import ConfigError
from maskwright.optim import ScoreSchedule
from maskwright.tasks.interface import Task
from maskwright.tracking import ControlFolder, EventLog, RunFolder
from maskwright.training.callback import Callback
from maskwright.training.callbacks import (
    CacheClearing,
    ControlCallback,
    DropPathSchedule,
    EarlyStopping,
    EventsCallback,
    LearningRate,
    LossWeights,
    Profiler,
    SavePredictions,
    Thawing,
)
from maskwright.training.loop import EvalBatches
from maskwright.training.monitor import Monitor
from maskwright.training.state import TrainState

__all__ = [
    "early_stopping",
    "folder_watchers",
    "prediction_watchers",
    "run_monitor",
    "score_watchers",
    "step_watchers",
]


def run_monitor(monitoring: CallbacksConfig, task: Task, *, has_validation: bool) -> Monitor:
    """The score that decides what is best.

    Raises:
        ConfigError: If it is never computed; says what is.
    """
    wanted = monitoring.monitor or (task.default_monitor if has_validation else "train/loss")
    name = resolve_monitor(wanted, _computed(task, has_validation=has_validation))
    mode = task.better(name.partition("/")[2]) if monitoring.mode == "auto" else monitoring.mode
    return Monitor(name, mode)


def step_watchers(training: TrainingConfig, folder: RunFolder | None) -> list[Callback]:
    """What moves or measures the steps themselves.

    Raises:
        ConfigError: If a profile is asked for and there is no folder to write it to.
    """
    found: list[Callback] = []
    thaw, drop = training.unfreeze, training.drop_path
    if thaw.parts:
        found.append(Thawing(thaw.parts, thaw.start_epoch, thaw.every))
    if drop.schedule != "constant":
        found.append(DropPathSchedule(drop.schedule, drop.start, drop.until))
    if training.empty_cache_every is not None:
        found.append(CacheClearing(training.empty_cache_every))
    if training.profile:
        if folder is None:
            raise ConfigError("training.profile: there is no run folder to write the profile to. Give run_folder.")
        found.append(Profiler(folder.profile, *training.profile_batches))
    return found


def early_stopping(monitoring: CallbacksConfig) -> list[Callback]:
    """What ends the run when nothing improves."""
    settings = monitoring.early_stopping
    if not settings.enabled:
        return []
    rule = settings.model_dump(exclude={"enabled"})
    return [EarlyStopping(**rule)]


def folder_watchers(folder: RunFolder | None, log_every_steps: int) -> list[Callback]:
    """What tells the faces, and obeys them."""
    if folder is None:
        return []
    log = EventLog(folder.events, attempt=int(folder.record.load().get("attempt", 1)))
    return [
        EventsCallback(log, every_steps=log_every_steps),
        ControlCallback(ControlFolder(folder.control)),
    ]


def prediction_watchers(
    monitoring: CallbacksConfig, task: Task, loader: EvalBatches | None, folder: RunFolder | None
) -> list[Callback]:
    """What writes predictions of the validation images.

    Raises:
        ConfigError: If they are asked for and there is no folder or no validation.
    """
    if monitoring.save_predictions_every is None:
        return []
    if folder is None or loader is None:
        missing = "run folder to write them to" if folder is None else "validation to predict"
        raise ConfigError(f"callbacks.save_predictions_every: there is no {missing}.")
    return [SavePredictions(task, loader, folder.predictions, monitoring.save_predictions_every)]


def score_watchers(state: TrainState, task: Task, *, has_validation: bool) -> list[Callback]:
    """What moves learning rate and loss by the scores of an epoch.

    Raises:
        ConfigError: If a score that is waited for is never computed.
    """
    return [_learning_rate(state, task, has_validation), *_loss_weights(task, has_validation)]


def _computed(task: Task, *, has_validation: bool) -> list[str]:
    """Keys of the history that a run computes and that can be better or worse."""
    losses = ["loss", *(f"loss/{name}" for name in task.loss_terms)]
    validated = (*losses, *task.score_names()) if has_validation else ()
    return [*(f"train/{name}" for name in losses), *(f"val/{name}" for name in validated)]


def _loss_weights(task: Task, has_validation: bool) -> list[Callback]:
    """What moves the factors of the loss; a score it never finds would leave them where they are, unsaid."""
    schedule = task.loss_schedule
    if schedule is None:
        return []
    if schedule.kind in ("adaptive", "performance"):
        computed = _computed(task, has_validation=has_validation)
        schedule.monitor = resolve_monitor(schedule.monitor, computed, "loss.schedule.monitor")
    return [LossWeights(schedule)]


def _learning_rate(state: TrainState, task: Task, has_validation: bool) -> LearningRate:
    """What shows the schedule its score, if it waits for one: that of the run unless it names another."""
    schedule, monitor = state.schedule, state.monitor
    if isinstance(schedule, ScoreSchedule):
        if schedule.monitor is not None:
            computed = _computed(task, has_validation=has_validation)
            name = resolve_monitor(schedule.monitor, computed, "optim.schedule.monitor")
            monitor = Monitor(name, task.better(name.partition("/")[2]))
        schedule.mode = schedule.mode if schedule.says_mode else monitor.mode
    return LearningRate(monitor)

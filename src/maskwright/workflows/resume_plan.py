"""What ``maskwright train`` is asked to do: begin a run, begin one from earlier weights, or continue one.

A run that is continued goes on with its own settings. Those in ``MAY_CHANGE`` may be given anew; the others would make
another run of it and are refused with both values.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.config import Experiment, Override, load_experiment, save_experiment
from maskwright.errors import ConfigError, RunError
from maskwright.tracking.folder import RunFolder, time_text
from maskwright.workflows.budget import laid_out
from maskwright.workflows.difference_table import difference_table
from maskwright.workflows.parent import Parent, parent_of
from maskwright.workflows.unfinished import newest_unfinished, run_around, run_of

__all__ = [
    "MAY_CHANGE",
    "Begin",
    "Change",
    "Continue",
    "flat_settings",
    "record_changes",
    "require_more_to_do",
    "settled",
    "start_of",
]

MAY_CHANGE = (
    "callbacks.early_stopping.*",
    "checkpoints.*",
    "data.cache.*",
    "data.folder",
    "data.images",
    "data.loader.eval_batch_size",
    "data.loader.prefetch",
    "data.loader.workers",
    "data.sites.*.chm",
    "data.sites.*.dsm",
    "data.sites.*.dtm",
    "prediction.*",
    "tracking.*",
    "training.channels_last",
    "training.compile",
    "training.device",
    "training.epochs",
    "training.gradient_checkpointing",
    "training.keep_memory",
    "training.on_nonfinite",
    "training.out_of_memory",
    "training.precision",
    "training.restore_*",
    "training.strategy",
    "training.threads",
    "training.validate_every",
    "tune.*",
)
"""Settings that may change while a run lasts; of data only where it lies, for its content is compared."""

_ROUNDED = tuple(
    f"training.{name}"
    for name in ("channels_last", "compile", "device", "gradient_checkpointing", "precision", "strategy", "threads")
)
_SETTLED_AT_THE_START = ("model.initial_weights", "model.partial_weights", "tracking.output_dir")
_EARLY = "early stopping"

_Overrides = Sequence[str | Override]


@dataclass(frozen=True)
class Begin:
    """A new run.

    Attributes:
        experiment: Its settings.
        parent: The weights it starts from; None: drawn anew, or as ``model.initial_weights`` says.
    """

    experiment: Experiment
    parent: Parent | None = None


@dataclass(frozen=True)
class Continue:
    """A run that goes on in its folder.

    Attributes:
        folder: The run.
        experiment: The settings asked for; equal to its own where nothing is to change.
    """

    folder: RunFolder
    experiment: Experiment


@dataclass(frozen=True)
class Change:
    """A setting with another value than before, both as plain values."""

    setting: str
    was: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.setting} {self.was} -> {self.now}"


def start_of(
    resume: str | None, files: Sequence[str], overrides: _Overrides = (), output_dir: Path | None = None
) -> Begin | Continue:
    """What a command line means.

    Args:
        resume: A run folder, a checkpoint, a model folder, ``auto``, or None.
        files: Files of settings.
        overrides: Settings given one by one. A ``name`` other than that of the run to resume begins a new run.
        output_dir: Where ``auto`` looks if there are no files; None: ``outputs``.

    Raises:
        ConfigError: If the words do not go together, or the settings are wrong.
        RunError: If there is no such run.
    """
    if resume is None:
        if not files:
            raise ConfigError("Name a file of settings, or --resume RUN. For example: maskwright train experiment.yaml")
        return Begin(load_experiment(files, overrides))
    if resume == "auto":
        return _newest(files, overrides, output_dir)
    path, name = Path(resume), _said(overrides, "name")
    run = run_around(path)
    if name is not None and (run is None or name != run.record.load().get("name")):
        return _from_weights(path, files, overrides)
    if run is None and path.exists() and not (path.is_dir() and not (path / "model.json").is_file()):
        raise ConfigError(
            f"--resume: {path} holds weights and lies in no run, so there is nothing to continue. To begin a new run "
            "from these weights, add --experiment-name NAME and a file of settings."
        )
    folder = run_of(path)
    if _said(overrides, "tracking.output_dir") is not None:
        raise ConfigError(
            f"--output-dir: {folder.path} is continued where it is. Leave it out, or begin a new run from its weights "
            "with --experiment-name NAME."
        )
    return Continue(folder, _asked(folder, files, overrides))


def settled(folder: RunFolder, given: Experiment) -> tuple[Experiment, tuple[Change, ...]]:
    """The settings a run goes on with, and what they change.

    Where weights came from and where the run lies was settled at its start; what ``given`` says of that is left out.
    A run that was laid out by ``training.budget`` keeps its plan, unless the budget is taken away and epochs count.

    Raises:
        ConfigError: With a table of the settings that cannot change.
    """
    own = load_experiment([folder.config])
    given = _with_settled(given, own)
    plan = folder.record.load().get("budget")
    if own.training.budget is not None and given.training.budget == own.training.budget:
        given = _updated(given, "training", epochs=own.training.epochs)
    elif own.training.budget is not None and given.training.budget is None and plan is not None:
        untouched = given.data.loader.samples_per_epoch == own.data.loader.samples_per_epoch
        own = laid_out(own, plan)
        if untouched:  # further epochs are as long as those behind
            given = laid_out(given, plan | {"epochs": given.training.epochs})
    before, after = dict(flat_settings(own)), dict(flat_settings(given))
    changes = tuple(
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
    refused = [change for change in changes if not _may(change)]
    if refused:
        raise ConfigError(_refusal(folder, refused))
    done = _epochs_done(folder)
    if given.training.budget is None and given.training.epochs < done:
        raise ConfigError(
            f"training.epochs: {folder.path.name} has {done} epochs behind it, and {given.training.epochs} are asked "
            f"for. Give {done} to end it there, or more to train it on."
        )
    return given, changes


def require_more_to_do(folder: RunFolder, experiment: Experiment, changes: Sequence[Change]) -> None:
    """Refuse a run that has reached its end and is given nothing more to do.

    Raises:
        RunError: Saying what can be done.
    """
    record = folder.record
    if record.status() != "finished":
        return
    changed = {change.setting.rpartition(".")[2] for change in changes if "early_stopping" in change.setting}
    done, reason = _epochs_done(folder), str(record.load().get("reason") or "")
    run = folder.path
    if reason.startswith(_EARLY):
        if changed:
            return
        longer = (
            f"It ended by {reason}; more epochs alone change nothing. Let it wait longer with "
            f"--resume {run} --set callbacks.early_stopping.patience=N, or to its last epoch with "
            f"--resume {run} --set callbacks.early_stopping.enabled=false"
        )
    elif experiment.training.epochs > done:
        return
    else:
        longer = f"Train it longer with --resume {run} --epochs {2 * done}"
    raise RunError(
        f"{run} is finished: {done} epochs are done. {longer}. Begin a new run from its weights with "
        f"--resume {run} --experiment-name NAME, or score it again with: maskwright evaluate {run}"
    )


def record_changes(folder: RunFolder, experiment: Experiment, changes: Sequence[Change]) -> list[str]:
    """Write changed settings into config.yaml and run.json; for the process that has entered its attempt.

    The settings up to here stay beside it as ``config_attempt_1.yaml``, named by the last attempt they were those of.

    Returns:
        What changed, for a person.
    """
    if not changes:
        return []
    fields = folder.record.load()
    attempt = int(fields["attempt"])
    shutil.copyfile(folder.config, folder.path / f"config_attempt_{attempt - 1}.yaml")
    values = {change.setting: {"was": change.was, "now": change.now} for change in changes}
    entry = {"attempt": attempt, "time": time_text(), "settings": values}
    folder.record.update(changes=[*fields.get("changes", []), entry])
    save_experiment(experiment, folder.config)
    lines = [f"Changed: {'; '.join(map(str, changes))}. The settings before: config_attempt_{attempt - 1}.yaml"]
    rounded = [change.setting for change in changes if change.setting in _ROUNDED]
    if rounded:
        lines.append(
            f"{', '.join(rounded)}: sums are rounded otherwise from here on, so the run goes on, not bit for bit."
        )
    return lines


def _newest(files: Sequence[str], overrides: _Overrides, output_dir: Path | None) -> Begin | Continue:
    """The newest unfinished run of the experiment, or that experiment; without files the newest of all."""
    if files:
        experiment = load_experiment(files, overrides)
        run = newest_unfinished(experiment.tracking.output_dir, experiment.name)
        return Begin(experiment) if run is None else Continue(run, _asked(run, files, overrides))
    folder, name = output_dir or Path("outputs"), _said(overrides, "name")
    run = newest_unfinished(folder, name)
    if run is None:
        which = "no unfinished run" if name is None else f"no unfinished run called {name}"
        raise ConfigError(f"--resume auto: {folder} holds {which}. Name a file of settings to start one.")
    return Continue(run, _asked(run, (), [each for each in overrides if _path_of(each) != "tracking.output_dir"]))


def _from_weights(path: Path, files: Sequence[str], overrides: _Overrides) -> Begin:
    """A new run from the weights of another one, with its settings where no file gives others."""
    parent = parent_of(path)
    if not files and parent.config is None:
        raise ConfigError(f"--resume: {path} lies in no run and says nothing of data. Name a file of settings as well.")
    given = [
        Override("model.initial_weights", str(parent.weights), "--resume"),
        *([] if files or _said(overrides, "model.partial_weights") else [_of_whole_weights()]),
    ]
    base = list(files) or [str(parent.config)]
    return Begin(load_experiment(base, [*overrides, *given]), parent)


def _of_whole_weights() -> Override:
    return Override("model.partial_weights", False, "--resume")


def _asked(folder: RunFolder, files: Sequence[str], overrides: _Overrides) -> Experiment:
    """The settings of a run with those that were given; epochs that are said take the place of a budget."""
    if not folder.config.is_file():
        raise RunError(
            f"{folder.path} has no config.yaml: it ended before it began, or another program than maskwright train "
            "began it, which must continue it too. Start a new run, or use that program."
        )
    given = list(overrides)
    if _said(overrides, "training.epochs") is not None and _said(overrides, "training.budget") is None:
        given.append(Override("training.budget", None, "--epochs"))
    return load_experiment(list(files) or [folder.config], given)


def _with_settled(given: Experiment, own: Experiment) -> Experiment:
    given = _updated(given, "tracking", output_dir=own.tracking.output_dir)
    if given.model.kind != own.model.kind:
        return given
    names = [name.partition(".")[2] for name in _SETTLED_AT_THE_START if name.startswith("model.")]
    return _updated(given, "model", **{name: getattr(own.model, name) for name in names})


def _updated(experiment: Experiment, section: str, **values: Any) -> Experiment:
    changed = getattr(experiment, section).model_copy(update=values)
    return experiment.model_copy(update={section: changed})


def _may(change: Change) -> bool:
    if change.setting == "training.budget":  # taken away, so that epochs count; another one was never measured
        return change.now is None
    return any(fnmatch.fnmatchcase(change.setting, pattern) for pattern in MAY_CHANGE)


def _refusal(folder: RunFolder, refused: Sequence[Change]) -> str:
    rows = [(change.setting, str(change.was), str(change.now)) for change in refused]
    lines = [
        f"{folder.path} was begun with other settings, which cannot change while it lasts:",
        difference_table(("setting", "the run's", "yours"), rows),
        f"Continue it as it is with --resume {folder.path}, or begin a new run from its weights: add "
        "--experiment-name NAME.",
        f"What may change: {', '.join(MAY_CHANGE)}.",
    ]
    if any(change.setting == "optim.optimizer.lr" for change in refused):
        lines.append(f"The learning rate of a run at work is set by: maskwright runs lr {folder.path} VALUE")
    if any(change.setting == "training.budget" for change in refused):
        lines.append("A budget is measured and laid out once; lengthen the run with --epochs N.")
    return "\n".join(lines)


def _epochs_done(folder: RunFolder) -> int:
    from maskwright.checkpoints import CheckpointStore

    records = CheckpointStore(folder).records
    return records[-1].epoch if records else 0


def _said(overrides: _Overrides, path: str) -> str | None:
    """What was given for a setting, as text; None: nothing."""
    for each in reversed(overrides):
        if _path_of(each) == path:
            return str(each.value) if isinstance(each, Override) else each.partition("=")[2].strip()
    return None


def _path_of(override: str | Override) -> str:
    return override.path if isinstance(override, Override) else override.partition("=")[0].strip()


def flat_settings(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    """Every setting with its dotted path, as plain values."""
    return _flat(experiment.to_dict())


def _flat(values: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted path; entries of lists of sections by number."""
    pairs: Any = None
    if isinstance(values, Mapping):
        pairs = values.items()
    elif isinstance(values, list | tuple) and values and all(isinstance(entry, Mapping) for entry in values):
        pairs = enumerate(values)
    if pairs is None:
        yield before, values
        return
    for name, value in pairs:
        yield from _flat(value, f"{before}.{name}" if before else str(name))

"""The study of a search: an Optuna study that several processes may join, and that outlives any of them.

A trial whose process died is marked as failed and comes again with the same values, in the same run folder, so that it
goes on from its own checkpoint. What a process decides by looking at all trials it decides under a lock.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from maskwright.config import Experiment, load_experiment
from maskwright.config.base import whole_path
from maskwright.config.tune import PrunerConfig, SamplerConfig
from maskwright.errors import ConfigError, MaskwrightError, RunError
from maskwright.files import FileLock, json_text, parse_json
from maskwright.tracking import RunFolder, find_runs
from maskwright.tracking.environment import is_running, process_mark
from maskwright.workflows.series import changed_settings, told_changes

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

    from maskwright.training.monitor import Monitor

__all__ = ["Search", "TrialRecord", "TrialState", "reached", "shown_address"]

TrialState = Literal["finished", "pruned", "failed", "at work", "waiting"]

_STATES: dict[str, TrialState] = {
    "COMPLETE": "finished",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "at work",
    "WAITING": "waiting",
}
# What may differ between the processes and the calls of one search: it says where and how fast, not what.
_MAY_DIFFER = (
    "checkpoints",
    "data.cache",
    "data.loader.prefetch",
    "data.loader.workers",
    "prediction",
    "tracking",
    "training.device",
    "training.threads",
    *(f"tune.{name}" for name in ("jobs", "minutes", "pruner", "sampler", "seed", "storage", "trials")),
)
_SILENCE_S = 600.0  # after so long without a run folder, a trial on another computer counts as dead
_LOCK_S = 600.0
_PAUSES_S = (0.3, 1.0)  # before a database is tried again
_LEAST_TO_RANK = 8  # finished trials from which a ranking of the settings means anything
_BEST_SHARE = 0.25


@dataclass(frozen=True)
class TrialRecord:
    """A trial as it stands.

    Attributes:
        number: Its number, from 0.
        state: What became of it.
        values: Its settings, by name: numbers, and choices as they are written in the space.
        score: Its best monitored score if it finished, the last one if it was given up; None if there is none.
        run: Name of its run; the folder begins with it.
        continues: Number of the trial it takes up; None: it began anew.
        failure: Why it failed.
        scores: Monitored score by epoch, from 1.
    """

    number: int
    state: TrialState
    values: Mapping[str, float | int | str]
    score: float | None
    run: str
    continues: int | None = None
    failure: str | None = None
    scores: Mapping[int, float] | None = None


class Search:
    """An open study.

    Args:
        study: Of Optuna.
        folder: Where the runs lie.
        name: Of the experiment; runs are called ``{name}_trial_{number}``.
    """

    def __init__(self, study: optuna.Study, folder: Path, name: str) -> None:
        self.study, self.folder, self.name = study, folder, name

    @classmethod
    def open(cls, base: Experiment, folder: Path, monitor: Callable[[], Monitor]) -> Search:
        """The study of an experiment, made if it is not there.

        Args:
            base: The experiment with its space.
            folder: Where the runs lie.
            monitor: Says what decides; called where the study is new.

        Raises:
            ConfigError: If Optuna is missing, or the study belongs to another experiment.
            RunError: If the storage cannot be reached.
        """
        optuna = _optuna()
        address = _address(base.tune.storage, folder)
        with reached(base.tune.storage or address), _locked(folder):
            storage = _storage(address)
            if base.name not in optuna.get_all_study_names(storage=storage):
                decides = monitor()
                study = optuna.create_study(
                    storage=storage,
                    study_name=base.name,
                    direction={"max": "maximize", "min": "minimize"}[decides.mode],
                    load_if_exists=True,  # another process, with another folder, may have been quicker
                )
                study.set_user_attr("monitor", decides.name)
                study.set_user_attr("settings", json_text(base.to_dict()))
            study = optuna.load_study(study_name=base.name, storage=storage)
            search = cls(study, folder, base.name)
            if "settings" not in study.user_attrs:  # killed between the two lines above
                study.set_user_attr("monitor", monitor().name)
                study.set_user_attr("settings", json_text(base.to_dict()))
            search._require_same(base)
            return search

    @property
    def monitor(self) -> str:
        """The score that decides."""
        return str(self.study.user_attrs["monitor"])

    @property
    def mode(self) -> Literal["max", "min"]:
        """Which way it is better."""
        return "max" if self.study.direction.name == "MAXIMIZE" else "min"

    def records(self) -> tuple[TrialRecord, ...]:
        """All trials, by number; a trial that was taken up by a later one is left out."""
        with reached():
            trials = self.study.get_trials(deepcopy=False)
        taken_up = _taken_up(trials)
        return tuple(self._record(trial) for trial in trials if trial.number not in taken_up)

    def best(self) -> TrialRecord | None:
        """The best of the trials that finished; None without any. Of equals the first."""
        finished = [one for one in self.records() if one.state == "finished" and one.score is not None]
        sign = 1 if self.mode == "max" else -1
        return max(finished, key=lambda one: sign * (one.score or 0.0), default=None)

    def importances(self) -> dict[str, float]:
        """Share 0..1 of each setting in reaching the best quarter of the trials, largest first (arXiv:2304.10255).

        Empty where too few trials have finished to tell.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        if sum(one.state == "finished" for one in self.records()) < _LEAST_TO_RANK:
            return {}
        with reached(), warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna warns where it falls back to equal shares
            try:
                found = get_param_importances(
                    self.study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE)
                )
            except UserWarning:
                return {}
        return {name: float(share) for name, share in found.items()}

    def ask(self, most: int, sampler: SamplerConfig, pruner: PrunerConfig, seed: int) -> Trial | None:
        """The next trial: one that waits to be taken up, else a new one; None if there are ``most`` already.

        What is proposed follows from the seed, the number of the trial and what is known by then.
        """
        with reached(), _locked(self.folder):
            self._take_up_dead()
            trials = self.study.get_trials(deepcopy=False)
            waiting = any(trial.state.name == "WAITING" for trial in trials)
            if not waiting and len(trials) - len(_taken_up(trials)) >= most:
                return None
            self.study.sampler = _sampler(sampler, (seed * 1_000_003 + len(trials)) % 2**32)
            self.study.pruner = _pruner(pruner)
            trial = self.study.ask()
            trial.set_user_attr("process", json_text(_this_process()))
            if "run" not in trial.user_attrs:
                trial.set_user_attr("run", f"{self.name}_trial_{trial.number:04d}")
            return trial

    def give_back(self, number: int) -> None:
        """Let a trial that was cut short come again, in the same run folder."""
        with reached(), _locked(self.folder):
            self._give_back(self.study.get_trials(deepcopy=False)[number])

    def tell(self, trial: Trial, score: float | None, *, pruned: bool = False, failure: str | None = None) -> None:
        """Close a trial: with its best score, as given up, or as failed with the reason."""
        from optuna.trial import TrialState as State

        with reached():
            if failure is not None:
                trial.set_user_attr("failure", failure)
                self.study.tell(trial, state=State.FAIL)
            elif pruned:
                self.study.tell(trial, state=State.PRUNED)
            else:
                self.study.tell(trial, score)

    def _take_up_dead(self) -> None:
        """Every trial that is said to be at work and whose process is gone comes again."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "RUNNING" and not self._is_alive(trial):
                self._give_back(trial)

    def _give_back(self, trial: FrozenTrial) -> None:
        from optuna.trial import TrialState as State

        if trial.number not in _taken_up(self.study.get_trials(deepcopy=False)):
            kept = {name: trial.user_attrs[name] for name in ("run",) if name in trial.user_attrs}
            self.study.enqueue_trial(trial.params, user_attrs={**kept, "continues": trial.number})
        self.study.tell(trial.number, state=State.FAIL)

    def _is_alive(self, trial: FrozenTrial) -> bool:
        """Whether somebody works on a trial; another computer is judged by its run folder."""
        if "process" not in trial.user_attrs:  # killed while it asked, under the lock that is ours now
            return False
        process = parse_json(trial.user_attrs["process"])
        if process["host"] == socket.gethostname():
            return is_running(process["pid"], process["process"])
        run = self.run_of(str(trial.user_attrs["run"]))
        if run is not None:
            return run.record.is_alive()
        began = trial.datetime_start
        return began is None or began.timestamp() > time.time() - _SILENCE_S

    def run_of(self, name: str) -> RunFolder | None:
        """The run folder of a trial; None if it has none, or lies on another computer."""
        return next((run for run in find_runs(self.folder, name) if run.config.is_file()), None)

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        facts = trial.user_attrs
        return TrialRecord(
            trial.number,
            _STATES[trial.state.name],
            dict(trial.params),
            trial.value,
            str(facts.get("run", "")),
            facts.get("continues"),
            facts.get("failure"),
            dict(sorted(trial.intermediate_values.items())),
        )

    def _require_same(self, base: Experiment) -> None:
        """Refuse a study whose trials were made from other settings, or in another space."""
        was = _as_of_today(parse_json(self.study.user_attrs["settings"]))
        changed = changed_settings(was, base.to_dict(), _MAY_DIFFER)
        if not changed:
            return
        told = "its space has changed" if "tune.space" in changed else told_changes(changed)
        raise ConfigError(
            f'The search "{self.name}" in {self.folder} belongs to another experiment: {told}. Trials of both could '
            "not be compared. Take the settings back, give the experiment another name, or name another folder with "
            "--out."
        )


def _as_of_today(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an earlier Maskwright, with what came since at its default; unchanged if one is known no longer."""
    try:
        return load_experiment([], settings).to_dict()
    except ConfigError:
        return settings


def shown_address(address: str) -> str:
    """An address of a storage without its password."""
    try:
        password = urlsplit(address).password
    except ValueError:
        return address
    return address.replace(f":{password}@", ":***@") if password else address


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("A search needs Optuna. Install: pip install 'maskwright[tune]'") from error
    return optuna


def _address(storage: str | None, folder: Path) -> str:
    return f"sqlite:///{folder.absolute() / 'study.db'}" if storage is None else storage


def _storage(address: str) -> Any:
    if not address.endswith(".journal"):
        return _database(address)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = whole_path(Path(address))
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _database(address: str) -> Any:
    """A database by its address; tables that another process is making at this moment are there a moment later."""
    from optuna import storages
    from sqlalchemy.exc import DBAPIError

    for pause_s in _PAUSES_S:
        try:
            return storages.RDBStorage(address)
        except DBAPIError:
            time.sleep(pause_s)
    return storages.RDBStorage(address)


@contextlib.contextmanager
def reached(storage: str | None = None) -> Iterator[None]:
    """Faults of the storage in words; Optuna says nothing of its own inside.

    Raises:
        RunError: If it cannot be reached or used.
    """
    import optuna
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    except MaskwrightError:
        raise
    except (OSError, ImportError, ValueError, OptunaError, SQLAlchemyError) as error:
        named = "" if storage is None else f": {shown_address(storage)}"
        said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        reason = said.replace(storage or "\n", shown_address(storage or ""))
        raise RunError(
            f"The storage of the search cannot be used{named} (setting tune.storage): {reason}. Check the address, "
            "that its server runs, and that the package of its driver is installed; trials at work are continued by "
            "the same command."
        ) from error
    finally:
        optuna.logging.set_verbosity(loud)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "search.lock", timeout_s=_LOCK_S):
        yield


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "process": process_mark(os.getpid())}


def _taken_up(trials: list[FrozenTrial]) -> set[int]:
    """Numbers of the trials that come again as later ones."""
    return {trial.user_attrs["continues"] for trial in trials if trial.user_attrs.get("continues") is not None}


def _sampler(settings: SamplerConfig, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    if settings.kind == "random":
        return samplers.RandomSampler(seed)
    if settings.kind == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=settings.startup_trials)
    # Trials at work elsewhere count as poor ones, so that processes do not all try the same.
    return samplers.TPESampler(seed=seed, n_startup_trials=settings.startup_trials, constant_liar=True)


def _pruner(settings: PrunerConfig) -> optuna.pruners.BasePruner:
    from optuna import pruners

    if settings.kind == "median":
        return pruners.MedianPruner(settings.startup_trials, settings.warmup_epochs + 1)  # epochs are told from 1 on
    if settings.kind == "halving":
        return pruners.SuccessiveHalvingPruner(settings.min_epochs, settings.factor)
    if settings.kind == "hyperband":
        return pruners.HyperbandPruner(settings.min_epochs, reduction_factor=settings.factor)
    return pruners.NopPruner()

"""Search over settings: many trials, each an ordinary run, to the experiment with the best score.

Everything a search knows lies in its study and in its run folders. So a search may be killed and called again, and
several processes, on several machines, may work on it at once: each asks for a trial, trains it, and tells its score.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskwright.config import Experiment, Override
from maskwright.errors import MaskwrightError, RunError
from maskwright.tracking import RunFolder
from maskwright.tracking.history import read_history
from maskwright.workflows.outer_run import How
from maskwright.workflows.series import earlier_run, train_or_resume
from maskwright.workflows.tune_space import Space
from maskwright.workflows.tune_study import Search, TrialRecord, reached

if TYPE_CHECKING:
    from optuna.trial import Trial

    from maskwright.training.monitor import Monitor

__all__ = ["Tuning", "told_values", "tune"]

_MOST_FAILURES = 3  # in a row, by one process
_BEST_FILE = "best.yaml"
_WRITE_EVERY_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tuning:
    """What a search came to so far.

    Attributes:
        name: Of the experiment.
        trials: All trials by number.
        best: The best that finished; None without any.
        monitor: The score that decides.
        mode: Which way it is better.
        importances: Share 0..1 of each setting in reaching the best quarter of the trials, largest first; empty where
            too few trials have finished to tell.
        folder: Where the runs, the page and the tables lie.
        planned: Trials asked for in all.
        log: Settings searched by magnitude.
        stopped: Why it ended before its last trial; None if it did not.
    """

    name: str
    trials: tuple[TrialRecord, ...]
    best: TrialRecord | None
    monitor: str
    mode: Literal["max", "min"]
    importances: Mapping[str, float]
    folder: Path
    planned: int
    log: tuple[str, ...] = ()
    stopped: str | None = None

    @property
    def best_file(self) -> Path:
        """The experiment of the best trial; not there without any."""
        return self.folder / _BEST_FILE


def tune(
    files: Sequence[str],
    overrides: Sequence[str | Override] = (),
    *,
    folder: Path | None = None,
    say: Say | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    own_process: bool = False,
    job: int | None = None,
) -> Tuning:
    """Search the space of an experiment, from wherever an earlier call of the same search left it.

    Args:
        files: Files of settings, as for ``train``; their section ``tune`` names the space.
        overrides: Settings set after the files.
        folder: Where run folders, the study, the page and the tables go; unset: ``{output_dir}/{name}_tune``.
        say: Called with lines for a person.
        progress: Called with (done, total, what) while final numbers are made.
        own_process: As for ``train``.
        job: Which of ``tune.jobs`` processes this one is, from 0; None: the one that starts them.

    Raises:
        ConfigError: If the space is empty or wrong, Optuna is missing, or the study is that of another experiment.
        RunError: If the storage cannot be reached.
        MaskwrightError: What stands in the way of the data, or of three trials in a row.
    """
    from maskwright.training.interrupt import StopAsked, stoppable
    from maskwright.workflows.tune_jobs import run_jobs
    from maskwright.workflows.tune_page import write_tuning

    say = say or (lambda line: None)
    space = Space(files, overrides)
    base = space.base
    folder = (folder or base.tracking.output_dir / f"{base.name}_tune").absolute()
    minutes = base.tune.minutes
    ends_s = None if minutes is None else time.monotonic() + 60 * minutes
    stopped: str | None = None
    with stoppable() as stopper:
        search = Search.open(base, folder, lambda: _monitor(base))
        try:
            say(f"Search over {len(base.tune.space)} settings by {search.monitor}, {search.mode}, in {folder}.")
            if base.tune.jobs > 1 and job is None:
                stopped = run_jobs(files, overrides, base.tune.jobs, folder, lambda: _told_progress(search, base), say)
            else:
                worker = _Worker(space, search, say, progress, own_process, ends_s, _share_of(base, job))
                stopped = worker.work(_seldom(lambda: write_tuning(_result(search, space, None))))
        except StopAsked as stop:
            stopped = stop.reason
        stopped = stopper.reason or stopped
    result = _result(search, space, stopped)
    write_tuning(result)
    return result


class _Worker:
    """One process that takes trials until there are enough."""

    def __init__(
        self,
        space: Space,
        search: Search,
        say: Say,
        progress: Callable[[int, int, str], None] | None,
        own_process: bool,
        ends_s: float | None,
        own: Mapping[str, Any],
    ) -> None:
        self.space, self.search, self.say = space, search, say
        self.progress, self.own_process = progress, own_process
        self.ends_s, self.own = ends_s, own
        self._failures = 0

    def work(self, after: Callable[[], None]) -> str | None:
        """Take trials; ``after`` is called behind each. Returns why it stopped before the last; None if it did not."""
        settings = self.space.base.tune
        while True:
            if self.ends_s is not None and time.monotonic() >= self.ends_s:
                return "the minutes of the search are over"
            trial = self.search.ask(settings.trials, settings.sampler, settings.pruner, settings.seed)
            if trial is None:
                return None
            stopped = self._one(trial)
            gc.collect()  # a network and its optimizer hold each other
            if stopped is not None:
                return stopped
            after()

    def _one(self, trial: Trial) -> str | None:
        """Train a trial and tell its score; why the search must stop, if somebody asked."""
        name = str(trial.user_attrs["run"])
        try:
            with reached():
                values = self.space.suggest(trial)
            own = {"name": name, "tracking.output_dir": str(self.search.folder), **self.own}
            experiment = self.space.experiment(values, own)
            self.say(f"Trial {trial.number + 1}: {told_values(values)}.")
            return self._train(trial, experiment)
        except MaskwrightError as error:  # the others may still succeed
            self.search.tell(trial, None, failure=str(error))
            self.say(f"Trial {trial.number + 1} failed: {error}")
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                raise RunError(f"{self._failures} trials failed one after another; the last said: {error}") from error
            return None

    def _train(self, trial: Trial, experiment: Experiment) -> str | None:
        from maskwright.training.callbacks import Pruning

        former = earlier_run(self.search.folder, experiment.name)
        if former is None or former.record.status() != "finished":
            watch = Pruning(self._judge(trial, experiment, former), ends_s=self.ends_s)
            how = How(self.say, self.progress, (watch,), self.own_process)
            outcome = train_or_resume(experiment, former, how)
            if watch.gave_up and not outcome.finished:
                self.search.tell(trial, None, pruned=True)
                self.say(f"Trial {trial.number + 1}: {outcome.stop_reason}.")
                self._failures = 0
                return None
            if not outcome.finished:
                self.search.give_back(trial.number)
                return outcome.stop_reason or "stopped"
            former = outcome.folder
        score = _score(former, self.search.monitor)
        if score is None:
            raise RunError(f"{former.path.name}: {self.search.monitor} never had a value.")
        self.search.tell(trial, score)
        self._failures = 0
        best = self.search.best()
        assert best is not None  # there is this one
        so_far = (
            "the best so far" if best.number == trial.number else f"best {best.score:.4f} (trial {best.number + 1})"
        )
        self.say(f"Trial {trial.number + 1}: {self.search.monitor} {score:.4f}, {so_far}.")
        return None

    def _judge(self, trial: Trial, experiment: Experiment, former: RunFolder | None) -> Callable[[int, float], bool]:
        """What is told of every epoch; those of an earlier attempt are told at once."""
        if experiment.stages or experiment.pseudo_labels.folder is not None:
            return lambda epoch, score: False  # the epochs of several trainings have no common count
        for entry in () if former is None else read_history(former.history):
            if isinstance(entry.get(self.search.monitor), int | float):
                trial.report(float(entry[self.search.monitor]), entry["epoch"])

        def judge(epoch: int, score: float) -> bool:
            with reached():
                trial.report(score, epoch)
                return trial.should_prune()

        return judge


def _seldom(work: Callable[[], None]) -> Callable[[], None]:
    """The same, not more often than is worth it: a page takes a second, a trial perhaps no longer."""
    done_s = time.monotonic()

    def now_and_then() -> None:
        nonlocal done_s
        if time.monotonic() - done_s >= _WRITE_EVERY_S:
            work()
            done_s = time.monotonic()

    return now_and_then


def told_values(values: Mapping[str, float | int | str]) -> str:
    """Settings and their values in a line, numbers with four digits."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _monitor(base: Experiment) -> Monitor:
    """What decides, known from the task; the data is looked at as well, so that its faults show before any trial."""
    from maskwright.training.watchers import run_monitor
    from maskwright.workflows.assemble import assemble

    return run_monitor(base.callbacks, assemble(base).task, has_validation=True)


def _share_of(base: Experiment, job: int | None) -> dict[str, Any]:
    """Cores and GPU of one of several processes on this machine, as settings."""
    from maskwright.devices import available_devices

    if job is None or base.tune.jobs == 1:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own: dict[str, Any] = {"training.threads": base.training.threads or max(1, cores // base.tune.jobs)}
    gpus = [name for name in available_devices() if name.startswith("cuda")]
    if gpus and base.training.device in ("auto", "cuda"):
        own["training.device"] = gpus[job % len(gpus)]
    return own


def _score(run: RunFolder, monitor: str) -> float | None:
    """The best monitored score of a run that has finished."""
    from maskwright.checkpoints import load_description

    score = load_description(run.model)["scores"].get(monitor)
    return None if score is None else float(score)


def _told_progress(search: Search, base: Experiment) -> str:
    """How far a search is, in a line."""
    records, best = search.records(), search.best()
    ended = sum(one.state in ("finished", "pruned", "failed") for one in records)
    told = "" if best is None else f"; best {search.monitor} {best.score:.4f} (trial {best.number + 1})"
    return f"{ended} of {base.tune.trials} trials{told}"


def _result(study: Search, space: Space, stopped: str | None) -> Tuning:
    """What the study says now; the experiment of the best trial is written beside it."""
    best = study.best()
    result = Tuning(
        study.name,
        study.records(),
        best,
        study.monitor,
        study.mode,
        study.importances(),
        study.folder,
        space.base.tune.trials,
        tuple(search.setting for search in space.base.tune.space if search.log),
        stopped,
    )
    if best is not None:
        space.write_best(best.values, result.best_file)
    return result

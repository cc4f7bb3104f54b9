"""Benchmark of models: several architectures over several seeds, as ordinary runs, held against each other.

Each run lies in its own folder and is found there again: one that is finished is not repeated, one that was killed
continues. The page and the tables are written anew after every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from maskwright.config import Experiment, Override, load_experiment
from maskwright.errors import ConfigError, MaskwrightError
from maskwright.tracking import RunFolder, find_runs
from maskwright.workflows.compare import (
    ComparedRun,
    RunDifference,
    paired_differences,
    read_run,
    too_few,
    why_not_paired,
)
from maskwright.workflows.outer_run import How
from maskwright.workflows.series import changed_settings, earlier_run, told_changes, train_or_resume

__all__ = ["Benchmark", "Cell", "KindSummary", "Trial", "benchmark_models", "summarise"]

_MEAN = "mean"
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Cell:
    """One run that is to be made.

    Attributes:
        kind: Kind of the network.
        seed: ``training.seed``.
        experiment: The whole run.
    """

    kind: str
    seed: int
    experiment: Experiment


@dataclass(frozen=True)
class Trial:
    """One run that was made, or why it was not.

    Attributes:
        kind: Kind of the network.
        seed: Seed of its training.
        run: What it came to; None before it is finished.
        failure: Why there is no result; None if there is one, or it is still to come.
        folder: Its run folder; None if there is none.
        minutes: What the training took.
        parameters: Weights of the network.
    """

    kind: str
    seed: int
    run: ComparedRun | None = None
    failure: str | None = None
    folder: Path | None = None
    minutes: float | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class KindSummary:
    """A kind over its seeds, in one column.

    Attributes:
        kind: Kind of the network.
        column: ``mean``, ``5 m``, ``crack``.
        values: Score by seed; nan where the column is not defined.
        better: Seeds with a higher score (a lower one for errors) than the first kind.
        pairs: Differences to the first kind by seed.
        paired: The difference on the test data itself, counts of all common seeds added; None where it has no counts.
    """

    kind: str
    column: str
    values: dict[int, float]
    better: int = 0
    pairs: tuple[float, ...] = ()
    paired: RunDifference | None = None

    @property
    def known(self) -> tuple[float, ...]:
        """Scores that are defined."""
        return tuple(value for value in self.values.values() if not math.isnan(value))

    @property
    def mean(self) -> float:
        """Mean over the seeds; nan without any."""
        return float(np.mean(self.known)) if self.known else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds (n - 1); nan with fewer than two."""
        return float(np.std(self.known, ddof=1)) if len(self.known) > 1 else math.nan

    @property
    def difference(self) -> float:
        """Mean of the differences by seed; nan without any."""
        return float(np.mean(self.pairs)) if self.pairs else math.nan

    @property
    def difference_spread(self) -> float:
        """Their standard deviation; nan with fewer than two."""
        return float(np.std(self.pairs, ddof=1)) if len(self.pairs) > 1 else math.nan


@dataclass(frozen=True)
class Benchmark:
    """What came of it.

    Attributes:
        trials: Every run, by kind and seed in the order asked.
        rows: Summaries; the first kind is the one the others are held against.
        score: ``iou`` or ``rmse``.
        notes: What cannot be compared, and why.
        stopped: Why it ended before its last run; None if it did not.
        folder: Where its runs, its page and its tables lie.
    """

    trials: tuple[Trial, ...]
    rows: tuple[KindSummary, ...]
    score: str
    notes: tuple[str, ...] = ()
    stopped: str | None = None
    folder: Path = Path()


def benchmark_models(
    files: Sequence[str],
    overrides: Sequence[str | Override] = (),
    *,
    kinds: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    own_process: bool = False,
) -> Benchmark:
    """Train every kind with every seed on the same division of the data, and compare.

    Args:
        files: Files of settings, as for ``train``; what a kind does not know of the model's settings is left out.
        overrides: Settings set after the files.
        kinds: Kinds of networks; the others are held against the first.
        seeds: Seeds of the training; the division of the data stays that of the experiment.
        folder: Where run folders, ``benchmark.html`` and the tables go; unset: ``{output_dir}/{name}_benchmark``. What
            is found there is taken up.
        say: Called with lines for a person.
        progress: Called with (done, total, what) while final numbers are made.
        own_process: As for ``train``.

    Raises:
        ConfigError: If a kind or seed is named twice or none, a kind does not suit the task, or a run in the folder
            has other settings.
    """
    from maskwright.workflows.benchmark_page import write_benchmark

    say = say or (lambda line: None)
    cells, folder = _cells(files, overrides, kinds, seeds, folder)
    earlier = {id(cell): _earlier(cell, folder) for cell in cells}
    trials = [_trial(cell, earlier[id(cell)]) for cell in cells]
    stopped: str | None = None
    for index, cell in enumerate(cells):
        if trials[index].run is not None:
            say(f"{cell.experiment.name} is finished already.")
            continue
        say(f"Run {index + 1} of {len(cells)}: {cell.kind}, seed {cell.seed}.")
        trials[index], stopped = _train(cell, earlier[id(cell)], say, progress, own_process)
        write_benchmark(summarise(trials, stopped), folder)
        if stopped is not None:
            break
    result = replace(summarise(trials, stopped), folder=folder)
    write_benchmark(result, folder)
    return result


def summarise(trials: Sequence[Trial], stopped: str | None = None) -> Benchmark:
    """Means, spreads and paired differences of what is finished; the first kind is the reference."""
    done = {(trial.kind, trial.seed): trial.run for trial in trials if trial.run is not None}
    kinds = list(dict.fromkeys(trial.kind for trial in trials))
    score = next((run.score for run in done.values() if run.score is not None), "iou")
    columns = list(dict.fromkeys(name for run in done.values() for name in run.columns))
    columns.sort(key=lambda name: name != _MEAN)  # the mean comes first
    rows, notes = [], []
    for kind in kinds:
        mine = {seed: run for (name, seed), run in done.items() if name == kind}
        reference = {seed: done[kinds[0], seed] for seed in mine if kind != kinds[0] and (kinds[0], seed) in done}
        paired, note = _paired(kind, kinds[0], reference, mine)
        notes += [] if note is None or note in notes else [note]
        for column in columns:
            values = {seed: _value(run, column) for seed, run in mine.items()}
            pairs = tuple(values[seed] - _value(run, column) for seed, run in reference.items())
            pairs = tuple(pair for pair in pairs if not math.isnan(pair))
            sign = -1 if score == "rmse" else 1
            better = sum(sign * pair > 0 for pair in pairs)
            rows.append(KindSummary(kind, column, values, better, pairs, paired.get(column)))
    return Benchmark(tuple(trials), tuple(rows), score, tuple(notes), stopped)


def _cells(
    files: Sequence[str],
    overrides: Sequence[str | Override],
    kinds: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None,
) -> tuple[list[Cell], Path]:
    """Every run that is asked for; all faults are told before the first one is trained."""
    for what, given in (("--kinds", kinds), ("--seeds", seeds)):
        if not given or len(set(given)) < len(given):
            raise ConfigError(
                f"{what}: name at least one, and each only once; got {', '.join(map(str, given)) or '-'}."
            )
    base = load_experiment(files, list(overrides))
    folder = folder or base.tracking.output_dir / f"{base.name}_benchmark"
    cells, faults = [], []
    for kind in kinds:
        for seed in seeds:
            own = {
                "name": f"{base.name}_{kind}_seed{seed}",
                "model.kind": kind,
                "training.seed": seed,
                "tracking.output_dir": str(folder),
            }
            said = [Override(path, value, f"{path} of the benchmark") for path, value in own.items()]
            try:
                cells.append(Cell(kind, seed, load_experiment(files, [*overrides, *said])))
            except ConfigError as error:
                faults.append(f"{kind}: {error}")
                break
    if faults:
        raise ConfigError("\n".join(faults))
    return cells, folder


def _earlier(cell: Cell, folder: Path) -> RunFolder | None:
    """The newest run of a cell in the folder.

    Raises:
        ConfigError: If it has other settings, since the runs would not be comparable.
        RunError: If somebody works on it at this moment.
    """
    run = earlier_run(folder, cell.experiment.name)
    if run is None:
        return None
    changed = changed_settings(load_experiment([run.config]).to_dict(), cell.experiment.to_dict(), ("tracking", "tune"))
    if changed:
        raise ConfigError(
            f"{run.path} was made with other settings: {told_changes(changed)}. Take the settings back, or give the "
            "benchmark another folder with --out."
        )
    return run


def _trial(cell: Cell, run: RunFolder | None) -> Trial:
    """What is known of a cell before anything is trained."""
    if run is None or run.record.status() != "finished":
        return Trial(cell.kind, cell.seed, folder=None if run is None else run.path)
    return _finished(cell, run)


def _finished(cell: Cell, run: RunFolder) -> Trial:
    minutes = run.record.load().get("minutes")
    return Trial(cell.kind, cell.seed, read_run(run.path), None, run.path, minutes, _parameters(run))


def _parameters(run: RunFolder) -> int | None:
    """Weights in the model folder; the statistics of normalisation layers are not counted."""
    from safetensors import safe_open

    path = run.model / "model.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if not name.endswith(_STATISTICS)]  # noqa: SIM118
        return int(sum(math.prod(file.get_slice(name).get_shape()) for name in names))


def _train(
    cell: Cell,
    earlier: RunFolder | None,
    say: Callable[[str], None],
    progress: Callable[[int, int, str], None] | None,
    own_process: bool,
) -> tuple[Trial, str | None]:
    """Make one run, or go on with it; and why the benchmark must stop, if somebody asked."""
    how = How(say, progress, own_process=own_process)
    try:
        outcome = train_or_resume(cell.experiment, earlier, how)
    except MaskwrightError as error:  # the others may still succeed
        say(f"{cell.experiment.name} failed: {error}")
        found = find_runs(cell.experiment.tracking.output_dir, cell.experiment.name)
        return Trial(cell.kind, cell.seed, failure=str(error), folder=found[0].path if found else None), None
    if not outcome.finished:
        return Trial(cell.kind, cell.seed, folder=outcome.folder.path), outcome.stop_reason or "stopped"
    return _finished(cell, outcome.folder), None


def _paired(
    kind: str, first: str, reference: dict[int, ComparedRun], mine: dict[int, ComparedRun]
) -> tuple[dict[str, RunDifference], str | None]:
    """Differences on the test data by column, counts of all common seeds added; why there are none, or say little."""
    if not reference:
        return {}, None
    pairs = [(reference[seed], mine[seed]) for seed in reference]
    for a, b in [*pairs, *((pairs[0][0], a) for a, _ in pairs[1:])]:
        reason = why_not_paired(a, b)
        if reason is not None:
            return {}, f"{kind} and {first} have no paired test: {reason}"
    a, b = _added([one for one, _ in pairs], first), _added([other for _, other in pairs], kind)
    return {one.column: one for one in paired_differences(a, b)}, too_few(len(a.counts))


def _added(runs: Sequence[ComparedRun], name: str) -> ComparedRun:
    """Runs on the same test data as one: each image or block counted once for each of them."""
    counts = {block: np.sum([run.counts[block] for run in runs], axis=0).tolist() for block in runs[0].counts}
    return replace(runs[0], name=name, counts=counts)


def _value(run: ComparedRun, column: str) -> float:
    return run.columns[column].value if column in run.columns else math.nan

"""Which run ``--resume`` means: a folder, its newest checkpoint, or the newest run that has not reached its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskwright.config import Experiment, load_experiment
from maskwright.errors import ConfigError, RunError
from maskwright.tracking.folder import RunFolder, find_runs

__all__ = ["newest_unfinished", "require_same_settings", "run_of"]

_MOST_NAMED = 5


def run_of(path: Path) -> Path:
    """The run folder a path means: itself, or the run whose newest checkpoint it is.

    Raises:
        RunError: If it is a checkpoint that is not the newest of its run.
    """
    if not path.is_file():
        return path
    run = path.parent.parent
    if path.stem != "checkpoint_latest":
        raise RunError(f"{path} is one checkpoint of a run, which continues from its newest. Give --resume {run}")
    return run


def newest_unfinished(output_dir: Path, name: str | None = None) -> RunFolder | None:
    """The newest run that has not reached its end and is not at work; None if there is none.

    Args:
        output_dir: Folder of run folders.
        name: Only runs of this experiment.
    """
    for run in find_runs(output_dir, name):
        try:
            status, alive = run.record.status(), run.record.is_alive()
        except RunError:
            continue  # damaged: listed by "maskwright runs", which tells what is wrong
        if status != "finished" and not alive and run.config.is_file():
            return run
    return None


def require_same_settings(run: RunFolder, experiment: Experiment) -> None:
    """Refuse settings that differ from those a run was begun with, since it continues with its own.

    Raises:
        ConfigError: Naming the first differences.
    """
    own = dict(_flat(load_experiment([run.config]).to_dict()))
    given = dict(_flat(experiment.to_dict()))
    changed = [
        f"{path} was {own.get(path)} and is {given.get(path)}"
        for path in sorted(own | given)
        if own.get(path) != given.get(path) and not path.startswith("tracking.")
    ]
    if changed:
        more = "" if len(changed) <= _MOST_NAMED else f"; and {len(changed) - _MOST_NAMED} more"
        raise ConfigError(
            f"{run.path} was begun with other settings: {'; '.join(changed[:_MOST_NAMED])}{more}. "
            f"Continue it as it is with --resume {run.path}, or leave --resume out to start anew."
        )


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value

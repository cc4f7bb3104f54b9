"""Many runs of one purpose in one folder: each is found again by its name, and goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config import Experiment
from maskwright.errors import RunError
from maskwright.tracking import RunFolder, find_runs

if TYPE_CHECKING:
    from maskwright.workflows.outer_run import How
    from maskwright.workflows.train import TrainOutcome

__all__ = ["changed_settings", "earlier_run", "told_changes", "train_or_resume"]

_TOLD = 3  # settings that a message names


def earlier_run(folder: Path, name: str) -> RunFolder | None:
    """The newest run called ``name`` in a folder; None if there is none, or it was killed before it could begin.

    Raises:
        RunError: If somebody works on it at this moment.
    """
    for run in find_runs(folder, name):
        if not run.config.is_file():
            continue
        if run.record.is_alive():
            raise RunError(f"{run.path} is at work in another process. Wait until it has finished, or stop it.")
        return run
    return None


def train_or_resume(experiment: Experiment, earlier: RunFolder | None, how: How) -> TrainOutcome:
    """Begin a run of any shape, or continue the earlier one of its name with its own settings."""
    from maskwright.workflows import shape

    told: dict[str, Any] = {
        "say": how.say,
        "progress": how.progress,
        "callbacks": how.callbacks,
        "own_process": how.own_process,
    }
    if earlier is None:
        return shape.train_shaped(experiment, **told)
    return shape.resume_shaped(earlier.path, quiet=how.quiet, **told)


def changed_settings(
    was: Mapping[str, Any], now: Mapping[str, Any], but: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Settings with another value than before, by dotted name: (was, is).

    Args:
        was: Nested plain values.
        now: The same of today; a setting that is in one of them alone counts as None in the other.
        but: Settings and sections that may differ.
    """
    from maskwright.training.callbacks.track import flat

    before, asked = flat(was), flat(now)
    names = [name for name in dict.fromkeys((*asked, *before)) if not _is_among(name, but)]
    return {name: (before.get(name), asked.get(name)) for name in names if before.get(name) != asked.get(name)}


def told_changes(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """The first few changes in words."""
    told = [f"{name} was {was} and is {now}" for name, (was, now) in changed.items()]
    return ", ".join(told[:_TOLD]) + (f" and {len(told) - _TOLD} more" if len(told) > _TOLD else "")


def _is_among(name: str, sections: Sequence[str]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)

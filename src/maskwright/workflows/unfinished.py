"""Which run ``--resume`` means: a folder, its newest checkpoint, or the newest run that has not reached its end."""

from __future__ import annotations

from pathlib import Path

from maskwright.errors import RunError
from maskwright.tracking.folder import RunFolder, find_runs

__all__ = ["newest_unfinished", "run_around", "run_of"]


def run_around(path: Path) -> RunFolder | None:
    """The run folder that a path is, or lies in: a file of checkpoints, the model folder or a file in it."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "run.json").is_file():
            return RunFolder(folder)
    return None


def run_of(path: Path) -> RunFolder:
    """The run that a path asks to continue: a run folder, or the newest checkpoint in one.

    Raises:
        RunError: If it is neither; a run continues from its newest checkpoint, so an older one is refused.
    """
    run = run_around(path)
    if run is None or path == run.path or not path.exists():
        return RunFolder.open(path)
    run = RunFolder.open(run.path)
    begin = (
        f"To begin a new run from these weights, add --experiment-name NAME. To continue the run: --resume {run.path}"
    )
    if path.is_dir() or path.parent != run.checkpoints:
        raise RunError(f"{path} holds weights alone, which say nothing of how the run stood. {begin}")
    from maskwright.checkpoints import CheckpointStore

    records = CheckpointStore(run).records
    newest = records[-1].file if records else None
    if newest is not None and (
        path.name == newest or path.stem == "checkpoint_latest" or path.samefile(run.checkpoints / newest)
    ):
        return run
    raise RunError(f"{path} is not the newest checkpoint of its run, which continues from {newest}. {begin}")


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

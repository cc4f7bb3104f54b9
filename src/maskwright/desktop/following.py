"""What a training process tells through its run folder: new rows, how it ended, and why. No Qt."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from maskwright.errors import MaskwrightError
from maskwright.files import TEMPORARY_SUFFIX
from maskwright.tracking import EventTail, Manifest, RunFolder, read_history, read_manifest
from maskwright.tracking.processes import Started

__all__ = ["NewRun", "RunTail", "error_in", "outcome_of", "starts_anew", "why_it_ended"]

_ERROR_NAME = re.compile(r"^(?:[A-Za-z_]\w*Error|StopAsked): ")


class NewRun:
    """Finds the run folder that a process just started makes.

    Args:
        output_dir: Folder of run folders; need not exist yet.
        name: Name of the experiment.
    """

    def __init__(self, output_dir: Path, name: str) -> None:
        self.output_dir, self.name = output_dir, name
        self._before = set(self._names())

    def find(self, started: Started) -> RunFolder | None:
        """The folder that this process or a child of it works in; None: not yet."""
        new = [name for name in self._names() if name not in self._before]
        if not new:
            return None
        own = {started.process.pid, *_children(started.process.pid)}  # a launcher may stand between
        for name in new:
            folder = RunFolder(self.output_dir / name)
            if folder.run_json.is_file() and folder.record.load().get("pid") in own:
                return folder
        return None

    def _names(self) -> Iterator[str]:
        try:
            with os.scandir(self.output_dir) as entries:
                names = [entry.name for entry in entries]
        except OSError:  # not there yet, or not ours to read, which the training itself tells
            return iter(())
        return (name for name in names if name.startswith(f"{self.name}_") and not name.endswith(TEMPORARY_SUFFIX))


class RunTail:
    """New rows of a run's log, and of the logs of the trainings inside it where it is made of several.

    Args:
        folder: The run folder.
        skip: Pass over what is there already.
    """

    def __init__(self, folder: RunFolder, *, skip: bool) -> None:
        self.folder = folder
        self._tails: dict[Path, EventTail] = {}
        self._logs()
        if skip:
            for tail in self._tails.values():
                tail.skip()

    def read(self) -> list[dict[str, Any]]:
        """The rows since the last call, in the order written."""
        return [row for tail in self._logs() for row in tail.read()]

    def _logs(self) -> list[EventTail]:
        inner = sorted(RunFolder(file.parent).events for file in self.folder.path.glob("*/run.json"))
        for path in (self.folder.events, *inner):
            self._tails.setdefault(path, EventTail(path))
        return list(self._tails.values())


def outcome_of(folder: RunFolder) -> dict[str, Any]:
    """How a run ended.

    Returns:
        ``status`` (finished or stopped), ``reason`` (None if all epochs were done), ``run``, ``model`` (folder of the
        best model, None if there is none yet), ``train_losses``, ``val_losses``, ``val_metrics`` (scores by name) with
        an entry for each epoch, ``best_val_loss``, ``best_val_metric`` (of the monitored score ``monitor``),
        ``best_epoch`` and ``elapsed_time`` in seconds; None where there is no number.
    """
    fields, history = folder.record.load(), read_history(folder.history)
    manifest = _manifest(folder)
    best = manifest.best_record
    val_losses = [_number(entry.get("val/loss")) for entry in history]
    validated = [loss for loss in val_losses if loss is not None]
    return {
        "status": str(folder.record.status()),
        "reason": fields.get("reason"),
        "run": str(folder.path),
        "model": str(folder.model) if (folder.model / "model.json").is_file() else None,
        "train_losses": [_number(entry.get("train/loss")) for entry in history],
        "val_losses": val_losses,
        "val_metrics": [{name: value for name, value in entry.items() if name.startswith("val/")} for entry in history],
        "best_val_loss": min(validated) if validated else None,
        "monitor": manifest.monitor,
        "best_val_metric": None if best is None or manifest.monitor is None else best.scores.get(manifest.monitor),
        "best_epoch": None if best is None else best.epoch,
        "elapsed_time": sum(_number(entry.get("elapsed_s")) or 0.0 for entry in history),
    }


def starts_anew(folder: RunFolder, wanted: Path) -> bool:
    """Whether going on from here is a new run with these weights: an older checkpoint, or a run that is finished.

    Args:
        folder: The run.
        wanted: Its folder, or a checkpoint in it.
    """
    if wanted.suffix != ".pt":
        return False
    latest = _manifest(folder).latest
    return folder.record.status() == "finished" or latest is None or latest.file != wanted.name


def why_it_ended(folder: RunFolder, started: Started | None) -> str:
    """Why a run failed or broke off, and what is left of it.

    Args:
        folder: The run folder.
        started: Its process; None if it is not a child of this one.
    """
    fields, status = folder.record.load(), folder.record.status()
    code = None if started is None else started.code
    if status == "failed" and fields.get("reason"):
        why = _ERROR_NAME.sub("", str(fields["reason"]))
    elif code is not None and code < 0:
        why = f"The training process was killed ({_signal_name(-code)})."
    else:
        said = "" if started is None else error_in(started.said())
        why = said or "The training process ended without a word" + ("." if code is None else f" (exit code {code}).")
    latest = _manifest(folder).latest
    left = "Nothing had been saved yet." if latest is None else f"Its state after {_place(latest)} is saved: resume it."
    return f"{why} {left}"


def error_in(said: str) -> str:
    """The error at the end of what a command printed, without its heading; empty if there is none."""
    _, found, text = said.rpartition("Error:")
    return text.strip() if found else ""


def _place(record: Any) -> str:
    if not record.position:
        return f"epoch {record.epoch}"
    return f"batch {record.position} of epoch {record.epoch + 1}"


def _manifest(folder: RunFolder) -> Manifest:
    try:
        return read_manifest(folder.manifest) if folder.manifest.is_file() else Manifest()
    except MaskwrightError:  # damaged by what ended the run; the checkpoints themselves can mend it
        return Manifest()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _signal_name(number: int) -> str:
    names: dict[int, str] = {int(known): known.name for known in signal.Signals}
    return names.get(number, f"signal {number}")


def _children(pid: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.Error:
        return set()

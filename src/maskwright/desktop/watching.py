"""RunWatch: a run as the Monitoring tab shows it, looked at again and again. No Qt, no torch; used off the GUI thread.

Each look reads what was appended since the last one, and hands the same objects on where nothing changed, so that the
window redraws what is new and no more.
"""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.tracking import CheckpointRecord, RunFolder
from maskwright.tracking.facts import (
    Facts,
    checkpoint_words,
    clock_text,
    duration_text,
    facts_of,
    number_text,
    score_groups,
    score_name,
    size_text,
)
from maskwright.tracking.shelf import RunShelf, Snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CheckpointRow", "Line", "RunView", "RunWatch", "TextTail"]

_FIRST_BYTES = 1 << 16  # of a log that is there already only the end is shown
_MOST_BYTES = 1 << 18  # of a log that grew since the last look
_MOST_LINES = 7  # of a plot
_SCORES, _RATE, _NORM = "Scores", "Learning rate", "Gradient norm"


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a plot.

    Attributes:
        name: For the legend; tells lines apart from one drawing to the next.
        x: (N,) rising.
        y: (N,); values that are not finite are gaps in the line.
        faint: Drawn thin and half transparent.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    faint: bool = False


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint in the list: its file, and what is said of it."""

    path: Path
    what: str
    epoch: int
    score: str
    size: str
    saved: str
    is_there: bool


@dataclass(frozen=True)
class RunView:
    """What is shown of a run.

    Attributes:
        path: The run folder.
        exists: False if it is gone.
        status: In a word; ``paused`` too.
        alive: Whether its process is at work.
        sentence: The status line.
        epoch_share: Of the epoch under way, 0 to 1; None: not known.
        epoch_text: Beside it, with the time left.
        total_share: Of the whole training.
        total_text: Beside it, with the time left.
        losses: Lines by epoch.
        charts: Further plots by name: scores, learning rate ...
        samples: Pictures of what the model says, oldest first.
        checkpoints: Newest first.
        monitor: The score that decides, in words; empty: none.
        log: What was written to the log since the last look.
        has_report: Whether there is a report page.
        problems: What could not be read, and why.
    """

    path: Path
    exists: bool = True
    status: str = ""
    alive: bool = False
    sentence: str = ""
    epoch_share: float | None = None
    epoch_text: str = ""
    total_share: float | None = None
    total_text: str = ""
    losses: tuple[Line, ...] = ()
    charts: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    samples: tuple[Path, ...] = ()
    checkpoints: tuple[CheckpointRow, ...] = ()
    monitor: str = ""
    log: str = ""
    has_report: bool = False
    problems: tuple[str, ...] = ()


class TextTail:
    """Text appended to a file since the last look; at the first look the end of what is there.

    Args:
        path: The file; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = -1
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self) -> str:
        """The new text; empty if there is none."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                begin = self._begin(size)
                file.seek(begin)
                data = file.read()
        except OSError:  # not there yet, or gone
            return ""
        if begin and begin != self._offset:  # in the middle of a line
            data = data[data.find(b"\n") + 1 :]
        self._offset = size
        return self._decode.decode(data)

    def _begin(self, size: int) -> int:
        if self._offset < 0:
            return max(size - _FIRST_BYTES, 0)
        if size < self._offset:  # replaced by a shorter one
            self._decode.reset()
            return 0
        return max(self._offset, size - _MOST_BYTES)


class RunWatch:
    """Looks at a run; each look continues where the last one ended. One thread at a time.

    Args:
        path: The run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._shelf = RunShelf(self.path.parent)
        self._log = TextTail(RunFolder(self.path).log)
        self._drawn: tuple[int, float | None] = (-1, None)
        self._history: object = None
        self._of_epochs: tuple[tuple[Line, ...], dict[str, tuple[Line, ...]]] = ((), {})
        self._losses: tuple[Line, ...] = ()
        self._charts: dict[str, tuple[Line, ...]] = {}

    def look(self) -> RunView:
        """The run as it is now."""
        run = self._shelf.look(self.path)
        if not run.exists:
            return RunView(self.path, exists=False, status="gone", sentence=f"The run {run.name} is gone.")
        facts = facts_of(run)
        updates = _updates_per_epoch(run)
        self._draw(run, facts, updates)
        folder = RunFolder(self.path)
        share = None if updates is None else min(max(run.last_step / updates - facts.epoch, 0.0), 1.0)
        return RunView(
            path=self.path,
            status="paused" if facts.paused else run.status,
            alive=run.alive,
            sentence=_sentence(run, facts),
            epoch_share=share if run.alive else None,
            epoch_text=_epoch_text(run, facts, share),
            total_share=1.0 if run.status == "finished" else facts.progress,
            total_text=_total_text(run, facts),
            losses=self._losses,
            charts=self._charts,
            samples=_samples(folder.samples),
            checkpoints=_checkpoints(run, folder),
            monitor=score_name(run.manifest.monitor) if run.manifest.monitor else "",
            log=self._log.read(),
            has_report=folder.report.is_file(),
            problems=run.problems,
        )

    def _draw(self, run: Snapshot, facts: Facts, updates: float | None) -> None:
        """Make the lines, if there is anything new in them; those of the epochs only after an epoch."""
        is_scored = run.history is not self._history
        if is_scored:
            self._history = run.history
            self._of_epochs = _epoch_losses(run), _epoch_charts(run, facts)
        if not is_scored and (run.last_step, updates) == self._drawn:
            return
        self._drawn = run.last_step, updates
        losses, charts = self._of_epochs
        self._losses = _known(_step_line(run, "loss", "steps", updates, faint=True)) + losses
        rate = _known(_step_line(run, "lr", _RATE.lower(), updates))
        norm = _known(_step_line(run, "grad_norm", _NORM.lower(), updates))
        self._charts = charts | ({_RATE: rate} if rate else {}) | ({_NORM: norm} if norm else {})


# --- lines ------------------------------------------------------------------------------------------------------------


def _epoch_losses(run: Snapshot) -> tuple[Line, ...]:
    names = score_groups(sorted({name for entry in run.history for name in entry})).losses
    said = {"train/loss": "training", "val/loss": "validation"}
    return _known(*(_epoch_line(run, name, said.get(name, name)) for name in names))


def _epoch_charts(run: Snapshot, facts: Facts) -> dict[str, tuple[Line, ...]]:
    """The plots of scores by name; those without a line are left out."""
    names = [name for name in dict.fromkeys(name for entry in run.history for name in entry) if _is_score(name)]
    groups = score_groups(names)
    first = [name for name in groups.scores if name == facts.monitor]
    scores = [*first, *(name for name in groups.scores if name not in first)][:_MOST_LINES]
    charts = {_SCORES: _known(*(_epoch_line(run, name, score_name(name)) for name in scores))}
    for name, keys in groups.columns.items():
        lines = _known(*(_epoch_line(run, key, score_name(key)) for key in keys[:_MOST_LINES]))
        charts[f"{score_name(name)} by part"] = lines
    return {name: lines for name, lines in charts.items() if lines}


def _known(*lines: Line | None) -> tuple[Line, ...]:
    return tuple(line for line in lines if line is not None)


def _is_score(name: str) -> bool:
    """Scores of the validation images together; means over images, which follow them closely, are left out."""
    return name.startswith("val/") and "_images" not in name


def _epoch_line(run: Snapshot, key: str, name: str) -> Line | None:
    import numpy as np

    points = [(entry["epoch"], entry[key]) for entry in run.history if _is_number(entry.get(key))]
    if not points:
        return None
    x, y = np.array(points, np.float64).T
    return Line(name, x, y)


def _step_line(run: Snapshot, key: str, name: str, updates: float | None, *, faint: bool = False) -> Line | None:
    """A number of the steps over epochs; over updates where the length of an epoch is not known."""
    curve = run.curves.get(key)
    if curve is None or not len(curve):
        return None
    return Line(name, curve.step / (updates or 1.0), curve.mean, faint)


def _updates_per_epoch(run: Snapshot) -> float | None:
    batches, accumulate = run.number("train_begin", "batches_per_epoch"), run.number("train_begin", "accumulate")
    return float(math.ceil(batches / (accumulate or 1))) if batches else None


# --- words ------------------------------------------------------------------------------------------------------------


def _sentence(run: Snapshot, facts: Facts) -> str:
    """The status line: ``running · epoch 3 of 20 · IoU 0.7312 (best 0.7500 in epoch 2) · 12.5 images/s``."""
    parts = ["paused" if facts.paused else run.status]
    if facts.epochs:
        under_way = min(facts.epoch + run.alive, facts.epochs)
        parts.append(f"epoch {under_way} of {facts.epochs}")
    if facts.monitor and facts.last is not None:
        best = f" (best {number_text(facts.best.score)} in epoch {facts.best.epoch})" if facts.best else ""
        parts.append(f"{score_name(facts.monitor)} {number_text(facts.last)}{best}")
    if run.alive and facts.images_per_s:
        parts.append(f"{number_text(facts.images_per_s, 3)} images/s")
    errors = run.of_kind("error")
    if run.status == "failed" and errors:
        parts.append(str(errors[-1].get("message", "")).partition("\n")[0])
    return " · ".join(part for part in parts if part)


def _epoch_text(run: Snapshot, facts: Facts, share: float | None) -> str:
    if not run.alive or share is None or facts.epoch_s is None:
        return ""
    return f"{duration_text((1 - share) * facts.epoch_s)} left"


def _total_text(run: Snapshot, facts: Facts) -> str:
    return f"{duration_text(facts.left_s)} left" if run.alive and facts.left_s is not None else ""


# --- files ------------------------------------------------------------------------------------------------------------


def _samples(folder: Path) -> tuple[Path, ...]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".png"))
    except OSError:
        return ()
    pictures = [name for name in names if name.startswith("epoch_")]
    return tuple(folder / name for name in pictures)


def _checkpoints(run: Snapshot, folder: RunFolder) -> tuple[CheckpointRow, ...]:
    return tuple(_row(run, folder, record) for record in reversed(run.manifest.records))


def _row(run: Snapshot, folder: RunFolder, record: CheckpointRecord) -> CheckpointRow:
    score = record.scores.get(run.manifest.monitor or "")
    path = folder.checkpoints / record.file
    return CheckpointRow(
        path=path,
        what=", ".join(checkpoint_words(run.manifest, record)),
        epoch=record.epoch,
        score=number_text(score),
        size=size_text(record.bytes),
        saved=clock_text(record.time),
        is_there=path.is_file(),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

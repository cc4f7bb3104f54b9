"""Numbers and times as people read them, and the facts on the cards."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskwright.tracking.manifest import CheckpointRecord, Manifest
from maskwright.tracking.shelf import Snapshot

__all__ = [
    "Best",
    "Facts",
    "ScoreGroups",
    "ago_text",
    "best_epoch",
    "checkpoint_words",
    "clock_text",
    "duration_text",
    "facts_of",
    "number_text",
    "score_groups",
    "score_name",
    "size_text",
]


_NO_SCORES = ("epoch", "global_step", "elapsed_s")
_HEIGHT = re.compile(r"(\d+(?:\.\d+)?)m")


@dataclass(frozen=True, slots=True)
class Best:
    """The epoch with the best score so far."""

    epoch: int
    score: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cards say; None: not known yet.

    Attributes:
        epoch: Epochs done.
        epochs: Epochs planned.
        progress: Share of all updates done, 0 to 1.
        monitor: The score that decides, ``val/iou``.
        last: Its value in the last epoch.
        best: The best epoch.
        left_s: Seconds to the end of training; only while the run is at work.
        images_per_s: Speed of training.
        epoch_s: Seconds of an epoch.
        lr: Learning rate now.
        paused: Whether the run waits for the command to go on.
    """

    epoch: int
    epochs: int | None
    progress: float | None
    monitor: str | None
    last: float | None
    best: Best | None
    left_s: float | None
    images_per_s: float | None
    epoch_s: float | None
    lr: float | None
    paused: bool


@dataclass(frozen=True, slots=True)
class ScoreGroups:
    """The keys of a history by what they are.

    Attributes:
        losses: ``train/loss``, ``val/loss``.
        terms: Parts of the loss, ``train/loss/dice``.
        weights: Factors of the parts, ``train/loss_weight/dice``.
        rates: ``lr/0`` ...
        scores: Scores without a column, ``val/iou``.
        columns: Scores by height or class: ``val/iou`` to its keys, lowest height first.
    """

    losses: tuple[str, ...]
    terms: tuple[str, ...]
    weights: tuple[str, ...]
    rates: tuple[str, ...]
    scores: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]


def facts_of(run: Snapshot) -> Facts:
    """The facts of a run, whatever of its files is there."""
    last = run.history[-1] if run.history else {}
    monitor = _monitor(run, last)
    epochs = run.number("train_begin", "epochs")
    epoch_s = run.number("resources", "epoch_s") or _known(last.get("elapsed_s"))
    left_s = run.number("resources", "left_s")
    if left_s is None and epochs is not None and epoch_s is not None:
        left_s = max(epochs - len(run.history), 0) * epoch_s
    lr = run.curves.get("lr")
    return Facts(
        epoch=int(last.get("epoch", 0)),
        epochs=None if epochs is None else int(epochs),
        progress=_progress(run, epochs, int(last.get("epoch", 0))),
        monitor=monitor,
        last=_known(last.get(monitor)) if monitor else None,
        best=best_epoch(run.history, monitor, run.manifest.mode) if monitor else None,
        left_s=left_s if run.alive else None,
        images_per_s=run.number("resources", "images_per_s"),
        epoch_s=epoch_s,
        lr=_known(float(lr.mean[-1])) if lr is not None and len(lr) else _known(last.get("lr/0")),
        paused=run.alive and _paused(run),
    )


def best_epoch(history: tuple[Mapping[str, Any], ...], name: str, mode: str) -> Best | None:
    """The first epoch with the best finite value of ``name``; None if there is none.

    Args:
        history: One entry per epoch.
        name: A key of the entries.
        mode: ``min`` or ``max``.
    """
    scored = [(value, entry["epoch"]) for entry in history if (value := _known(entry.get(name))) is not None]
    if not scored:
        return None
    sign = 1 if mode == "max" else -1
    value, epoch = max(scored, key=lambda one: (sign * one[0], -one[1]))
    return Best(epoch, value)


def score_groups(names: Sequence[str]) -> ScoreGroups:
    """Sort the names of a history."""
    plain = [name for name in names if name not in _NO_SCORES]
    columns: dict[str, list[str]] = {}
    for name in plain:
        if "@" in name:
            columns.setdefault(name.partition("@")[0], []).append(name)
    taken = [name for name in plain if "@" in name or name.startswith("lr/")]
    losses = [name for name in plain if name.endswith("/loss")]
    terms = [name for name in plain if "/loss/" in name]
    weights = [name for name in plain if "/loss_weight/" in name]
    rates = [name for name in plain if name.startswith("lr/")]
    rest = set(taken) | set(losses) | set(terms) | set(weights)
    return ScoreGroups(
        tuple(losses),
        tuple(terms),
        tuple(weights),
        tuple(rates),
        tuple(name for name in plain if name not in rest),
        {name: tuple(sorted(keys, key=_column_order)) for name, keys in columns.items()},
    )


def checkpoint_words(manifest: Manifest, record: CheckpointRecord) -> list[str]:
    """What a checkpoint is, in words: ``best``, ``newest``, what the rule of its folder calls it, why it was saved."""
    marks = ["best"] if record.file == manifest.best else []
    marks += ["newest"] if manifest.latest is not None and record.file == manifest.latest.file else []
    return list(
        dict.fromkeys([*marks, *([record.tag] if record.tag not in ("", "latest", "best") else []), record.kind])
    )


def number_text(value: float | None, digits: int = 4) -> str:
    """``0.8131``, ``12.5``, ``3.0e-05``; a dash if there is nothing."""
    if value is None or not math.isfinite(value):
        return "-"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.2e}"
    return f"{value:.{digits}g}" if abs(value) >= 1 else f"{value:.{digits}f}"


def duration_text(seconds: float | None) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def ago_text(time: str | None, now: datetime.datetime) -> str:
    """How long ago a text such as ``2026-11-21T09:30:00+00:00`` was; ``just now`` also if the other clock is ahead."""
    seconds = None if time is None else _seconds_between(time, now)
    if seconds is None:
        return "-"
    return "just now" if seconds < 5 else f"{duration_text(seconds)} ago"


def clock_text(time: object) -> str:
    """``2026-11-21 09:30`` from the text of a time, UTC; as it is if it is something else."""
    try:
        return f"{datetime.datetime.fromisoformat(str(time)):%Y-%m-%d %H:%M}"
    except ValueError:
        return str(time or "-")


def size_text(count: float) -> str:
    """``920 B``, ``22.3 MB``, ``1.2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def score_name(key: str) -> str:
    """``IoU``, ``Dice at 5 m`` for ``val/iou`` and ``val/dice@5m``."""
    name, at, column = key.rpartition("/")[2].partition("@")
    known = {"iou": "IoU", "miou": "mean IoU", "f1": "F1", "mcc": "MCC", "rmse": "RMSE", "mae": "MAE", "r2": "R²"}
    first, _, rest = name.partition("_")
    text = f"{known[first]} {rest}".strip() if first in known else name[:1].upper() + name[1:]
    text = text.replace("_", " ")
    if not at:
        return text
    is_height = column.endswith("m") and column[:-1].replace(".", "", 1).isdigit()
    return f"{text} at {column[:-1]} m" if is_height else f"{text}, {column}"


def _monitor(run: Snapshot, last: Mapping[str, Any]) -> str | None:
    """The score that decides: as the checkpoints say, else as the run said at its end, else a usual one."""
    ends = run.of_kind("train_end")
    said = run.manifest.monitor or (ends[-1].get("monitor") if ends else None)
    if isinstance(said, str):
        return said
    return next((name for name in ("val/iou", "val/miou", "val/rmse", "val/loss", "train/loss") if name in last), None)


def _progress(run: Snapshot, epochs: float | None, done: int) -> float | None:
    if not epochs:
        return None
    batches, accumulate = run.number("train_begin", "batches_per_epoch"), run.number("train_begin", "accumulate")
    share = done / epochs
    if batches:
        share = max(share, run.last_step / (math.ceil(batches / (accumulate or 1)) * epochs))
    return min(max(share, 0.0), 1.0)


def _paused(run: Snapshot) -> bool:
    """Whether the last command since the run began told it to wait."""
    begins = run.of_kind("train_begin")
    since = str(begins[-1].get("time", "")) if begins else ""
    said = [row for row in run.of_kind("command") if row.get("command") in ("pause", "resume", "stop")]
    return bool(said) and said[-1]["command"] == "pause" and str(said[-1].get("time", "")) >= since


def _known(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _column_order(key: str) -> tuple[float, str]:
    height = _HEIGHT.fullmatch(key.partition("@")[2])
    return (float(height[1]), "") if height else (0.0, "")


def _seconds_between(time: str, now: datetime.datetime) -> float | None:
    try:
        then = datetime.datetime.fromisoformat(time)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.UTC)
    return (now - then).total_seconds()

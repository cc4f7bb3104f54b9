"""Doctor: what a run's log says went wrong, each finding with its numbers and the setting to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from maskwright.tracking import RunReader, without_superseded

__all__ = ["Diagnosis", "Finding", "RunLog", "diagnose", "examine_run"]

_FLAT = 0.02  # a loss that fell by less than this share has not moved
_JUMP = 2.0  # a smoothed loss that grows by this factor has jumped
_DEAD = 0.01  # an IoU below it is as good as none
_RISEN = 1.1  # validation loss against its best
_WAITS = 0.3  # share of the time spent waiting for data
_TINY_BATCH = 4
_FEW_EPOCHS = 3
_FEW_STEPS = 12
_NUMBERS = ("loss", "grad_norm", "lr", "data_wait_share")
_NOT_FINITE = "Loss or gradient is not finite"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or likely so.

    Attributes:
        kind: A short name: ``loss_flat``, ``lr_too_high``, ``dead_class``, ``overfitting``, ``starved``,
            ``skipped_steps``, ``patience_below_noise``, ``batch_norm_tiny_batch``, ``failed``.
        title: In a few words.
        evidence: The numbers it rests on.
        advice: What to change, with the setting.
    """

    kind: str
    title: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class RunLog:
    """What a diagnosis rests on.

    Attributes:
        history: One entry per epoch, as in training_history.json.
        events: Rows of the event log that lead to now.
        settings: Flat: ``training.epochs``.
        monitor: The score that decides; None: unknown.
        mode: Whether lower or higher is better.
    """

    history: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    monitor: str | None = None
    mode: Literal["min", "max"] = "max"

    def curve(self, name: str) -> tuple[list[int], Floats]:
        """Epochs that have a number of that name, and the numbers."""
        known = [
            (int(entry["epoch"]), float(entry[name]))
            for entry in self.history
            if isinstance(entry.get(name), int | float) and math.isfinite(entry[name])
        ]
        return [epoch for epoch, _ in known], np.array([value for _, value in known], dtype=np.float64)

    def rows(self, kind: str) -> list[Mapping[str, Any]]:
        """The events of a kind."""
        return [row for row in self.events if row.get("kind") == kind]


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        findings: What is wrong, the gravest first.
        lines: What was looked at, and what could not be judged.
    """

    findings: tuple[Finding, ...]
    lines: tuple[str, ...]


def examine_run(run: str | Path) -> Diagnosis:
    """Diagnose a run folder, finished or at work.

    Raises:
        RunError: If ``run`` is no run folder, or its history is damaged.
    """
    from maskwright.training.callbacks.track import flat

    reader = RunReader(Path(run))
    checkpoints = reader.checkpoints()
    settings = flat(reader.settings())
    rows = [row for row in reader.events() if _is_event(row)]
    log = RunLog(reader.history(), without_superseded(rows), settings, checkpoints.monitor, checkpoints.mode)
    return Diagnosis(tuple(diagnose(log)), tuple(_looked_at(log)))


def _is_event(row: Mapping[str, Any]) -> bool:
    """Whether a row of the log is one of Maskwright's, with numbers where there should be numbers."""
    return (
        isinstance(row.get("kind"), str)
        and all(isinstance(row.get(name), int) for name in ("attempt", "global_step"))
        and all(isinstance(row[name], int | float | None) for name in _NUMBERS if name in row)
    )


def diagnose(log: RunLog) -> list[Finding]:
    """All findings, the gravest first; none for a healthy run."""
    return [finding for check in _CHECKS for finding in check(log)]


# --- the checks -------------------------------------------------------------------------------------------------------


def _failed(log: RunLog) -> Iterator[Finding]:
    errors = log.rows("error")
    if errors and errors[-1] is _last_of(log, "error", "train_begin", "train_end"):
        message = str(errors[-1].get("message", ""))
        if _NOT_FINITE not in message:  # told by the check of the learning rate
            yield Finding(
                "failed", "The run ended with an error", f"In epoch {errors[-1].get('epoch', '?')}: {message}",
                "Mend what it names, then continue with maskwright train --resume RUN.",
            )  # fmt: skip


def _lr_too_high(log: RunLog) -> Iterator[Finding]:
    lr = log.settings.get("optim.optimizer.lr")
    lower = f"Lower optim.optimizer.lr{'' if not lr else f' to {lr / 3:.2g}'}, or set training.clip_norm=1."
    broken = [row for row in (*log.rows("error"), *log.rows("warning")) if _NOT_FINITE in str(row.get("message", ""))]
    if broken:
        first = broken[0]
        yield Finding(
            "lr_too_high",
            "Loss or gradient became infinite or not a number",
            f"{len(broken)} times, first after {first['global_step']} updates: {first['message']}",
            f"{lower} If it comes back, look for bad values with maskwright check.",
        )
    steps, losses = _step_losses(log)
    jump = _jump(steps, losses)
    if jump is not None:
        low_step, low, high_step, high = jump
        said = "" if not lr else f", learning rate {lr:g}"
        yield Finding(
            "lr_too_high",
            "The loss jumps, as it does when the learning rate is too high",
            f"The smoothed loss of a step rose from {low:.3g} (update {low_step}) to {high:.3g} (update {high_step})"
            f"{said}.",
            lower,
        )


def _loss_flat(log: RunLog) -> Iterator[Finding]:
    epochs, losses = log.curve("train/loss")
    if len(losses) >= _FEW_EPOCHS:
        first, best, span = losses[0], losses.min(), f"{len(epochs)} epochs"
    else:
        steps, losses = _step_losses(log)
        if len(losses) < _FEW_STEPS:
            return
        part = len(losses) // 4
        first, best, span = losses[:part].mean(), losses[-part:].mean(), f"{steps[-1]} updates"
    if first > 0 and (first - best) / first < _FLAT and not list(_lr_too_high(log)):
        lr = log.settings.get("optim.optimizer.lr")
        raised = "" if not lr else f", for example to {lr * 10:.2g}"
        yield Finding(
            "loss_flat",
            "The training loss has not moved since the start",
            f"It began at {first:.4g} and its best in {span} is {best:.4g} ({(first - best) / first:.1%} lower).",
            f"Raise optim.optimizer.lr{raised}; and look at pictures and masks with maskwright check.",
        )


def _dead_class(log: RunLog) -> Iterator[Finding]:
    names = sorted({key for entry in log.history for key in entry if key.startswith("val/iou@")}) or ["val/iou"]
    for name in names:
        epochs, values = log.curve(name)
        late = values[len(values) // 2 :]
        if len(values) < _FEW_EPOCHS or late.max() >= _DEAD:
            continue
        column = name.partition("@")[2]
        what = f"Class or height {column}" if column else "What is to be found"
        yield Finding(
            "dead_class",
            f"{what} is never found",
            f"{name} stays at or below {late.max():.4f} in epochs {epochs[len(values) // 2]} to {epochs[-1]}.",
            "Set data.balance.by=class so that tiles that hold it come more often, weigh it up (loss.pos_weight, or "
            "loss.class_weights for classes that exclude each other), and see with maskwright check whether its masks "
            "are right.",
        )


def _overfitting(log: RunLog) -> Iterator[Finding]:
    epochs, val = log.curve("val/loss")
    if len(val) < 2 * _FEW_EPOCHS:
        return
    best = int(val.argmin())
    train = dict(zip(*log.curve("train/loss"), strict=True))
    late = float(val[-_FEW_EPOCHS:].mean())
    before, now = train.get(epochs[best]), train.get(epochs[-1])
    if before is None or now is None or len(val) - 1 - best < _FEW_EPOCHS:
        return
    if val[best] > 0 and late > _RISEN * val[best] and now < 0.95 * before:
        yield Finding(
            "overfitting",
            "The model learns the training data by heart",
            f"Since epoch {epochs[best]} the validation loss rose from {val[best]:.3g} to {late:.3g} (mean of the last "
            f"{_FEW_EPOCHS} epochs) while the training loss fell from {before:.3g} to {now:.3g}.",
            "Add training data; else strengthen data.augment, raise optim.optimizer.weight_decay, or lower "
            "model.base_channels. The model that is kept is that of the best monitored score, not of the last epoch.",
        )


def _starved(log: RunLog) -> Iterator[Finding]:
    shares = [row["data_wait_share"] for row in log.rows("resources") if row.get("data_wait_share") is not None]
    shares = shares[1:] or shares  # the first samples fill the cache
    if shares and (mean := float(np.mean(shares))) > _WAITS:
        workers = log.settings.get("data.loader.workers", "auto")
        yield Finding(
            "starved",
            "The training waits for data",
            f"{mean:.0%} of the time between {len(shares)} samples went by waiting for the next batch "
            f"(data.loader.workers is {workers}).",
            "Raise data.loader.workers, and keep the cache of decoded data on a fast disk with room for the whole set.",
        )


def _skipped_steps(log: RunLog) -> Iterator[Finding]:
    steps = log.rows("step")
    skipped = [row for row in steps if row.get("stepped") is False]
    done = max((int(row["global_step"]) for row in steps), default=0)
    share = len(skipped) / max(done + len(skipped), 1)
    if len(skipped) > 5 and share > 0.02:
        precision = log.settings.get("training.precision", "auto")
        yield Finding(
            "skipped_steps",
            "Updates were skipped",
            f"{len(skipped)} of {done + len(skipped)} updates ({share:.1%}) had a loss or gradient that is not finite "
            f"(training.precision is {precision}).",
            "Set training.precision=bf16 or fp32, or lower optim.optimizer.lr.",
        )


def _patience_below_noise(log: RunLog) -> Iterator[Finding]:
    ends = log.rows("train_end")
    if log.monitor is None or not ends or not str(ends[-1].get("reason", "")).startswith("early stopping"):
        return
    patience = int(log.settings.get("callbacks.early_stopping.patience", 10))
    epochs, values = log.curve(log.monitor)
    values = values if log.mode == "max" else -values
    recent = slice(-max(3 * patience, 8), None)
    if len(values[recent]) < 6:
        return
    slope, error, noise = _trend(np.array(epochs[recent], dtype=np.float64), values[recent])
    if slope > 2 * error and 2 * noise > slope * patience:  # a lucky epoch lies two deviations above the line
        hidden = math.ceil(2 * noise / slope)
        yield Finding(
            "patience_below_noise",
            "The run was stopped while it still improved: patience is below the noise of the score",
            f"Over the last {len(values[recent])} validated epochs {log.monitor} still improved by {slope:.2g} an "
            f"epoch (+- {error:.1g}), but it scatters by {noise:.2g}, so after a lucky epoch no better one comes for "
            f"about {hidden} epochs; callbacks.early_stopping.patience is {patience}.",
            f"Set callbacks.early_stopping.patience={max(2 * patience, 2 * hidden)}, or score on more validation data.",
        )


def _batch_norm(log: RunLog) -> Iterator[Finding]:
    size = log.settings.get("data.loader.batch_size")
    kind = str(log.settings.get("model.kind", ""))
    norm = log.settings.get("model.norm", "batch" if kind.startswith("smp") else None)
    if isinstance(size, int) and size <= _TINY_BATCH and norm == "batch":
        where = "model.norm is batch" if "model.norm" in log.settings else f"{kind} normalises by batch"
        yield Finding(
            "batch_norm_tiny_batch",
            "Batch normalisation sees too few images",
            f"{where} and data.loader.batch_size is {size}; its means and variances come from {size} images at a time, "
            "which training.accumulate does not change.",
            "Set model.norm=group" + (" (a network with that setting)" if kind.startswith("smp") else "")
            + ", or data.loader.batch_size=8 or more.",
        )  # fmt: skip


_CHECKS: tuple[Callable[[RunLog], Iterator[Finding]], ...] = (
    _failed,
    _lr_too_high,
    _skipped_steps,
    _loss_flat,
    _dead_class,
    _overfitting,
    _patience_below_noise,
    _batch_norm,
    _starved,
)


# --- inside -----------------------------------------------------------------------------------------------------------


def _looked_at(log: RunLog) -> Iterator[str]:
    epochs, losses = log.curve("train/loss")
    updates = max((int(row["global_step"]) for row in log.events), default=0)
    moved = f"; training loss {losses[0]:.3g} to {losses[-1]:.3g}" if len(losses) else ""
    scores = log.curve(log.monitor)[1] if log.monitor else np.array([])
    best = ""
    if len(scores):
        best = f"; best {log.monitor} {scores.max() if log.mode == 'max' else scores.min():.3g}"
    yield f"Looked at {len(log.history)} epochs and {updates} updates{moved}{best}."
    if len(epochs) < 2 * _FEW_EPOCHS:
        yield f"Overfitting cannot be judged before {2 * _FEW_EPOCHS} epochs."
    if not log.rows("resources"):
        yield "Waiting for data cannot be judged: the log holds no rows of resources."


def _last_of(log: RunLog, *kinds: str) -> Mapping[str, Any] | None:
    return next((row for row in reversed(log.events) if row.get("kind") in kinds), None)


def _step_losses(log: RunLog) -> tuple[list[int], Floats]:
    rows = [row for row in log.rows("step") if row.get("stepped", True)]
    known = [
        (int(row["global_step"]), float(row["loss"]))
        for row in rows
        if isinstance(row.get("loss"), int | float) and math.isfinite(row["loss"])
    ]
    return [step for step, _ in known], np.array([loss for _, loss in known], dtype=np.float64)


def _jump(steps: Sequence[int], losses: Floats) -> tuple[int, float, int, float] | None:
    """(step, loss, step, loss) from a low of the smoothed loss to where it is highest thereafter; None: no jump.

    A median over five rows passes over single hard batches; a jump must also leave the scatter around the low.
    """
    if len(losses) < _FEW_STEPS:
        return None
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(losses, 5), axis=1)
    lowest = np.minimum.accumulate(smooth)
    ratio = smooth / np.maximum(lowest, 1e-12)
    high = int(ratio.argmax())
    low = int(smooth[: high + 1].argmin())
    scatter = float(np.median(np.abs(np.diff(losses))))
    if ratio[high] < _JUMP or smooth[high] - smooth[low] < 4 * scatter:
        return None
    return steps[low + 2], float(smooth[low]), steps[high + 2], float(smooth[high])


def _trend(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Slope of the line through the points, its standard error, and the scatter around the line."""
    x = x - x.mean()
    slope = float((x * y).sum() / (x**2).sum())
    rest = y - y.mean() - slope * x
    noise = math.sqrt(float((rest**2).sum()) / max(len(x) - 2, 1))
    return slope, noise / math.sqrt(float((x**2).sum())), noise

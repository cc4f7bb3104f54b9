"""Learning-rate schedules in optimizer steps: each a curve over the steps of a run, with a warm-up in front.

Call ``step()`` after every update of the weights. A schedule whose ``step_on`` is ``epoch`` also waits for scores: call
``step(score)`` after every validation. Its state is plain numbers, words and lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch.optim.lr_scheduler import LRScheduler

from maskwright.errors import CheckpointError, ConfigError, TrainingError

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = [
    "Schedule",
    "Span",
    "constant",
    "cosine",
    "cyclic_cosine",
    "exponential",
    "one_cycle",
    "polynomial",
    "step_decay",
    "warm_restarts",
]

Curve = Callable[[float, int], float]
"""From the top learning rate and the optimizer steps since the warm-up to the learning rate."""


@dataclass(frozen=True, slots=True)
class Span:
    """How long a run is, in optimizer steps.

    Attributes:
        steps_per_epoch: Updates in an epoch: batches divided by ``accumulate``, rounded up.
        epochs: Epochs of the whole run, also for one that is continued; None: unknown.
        warmup_steps: Updates of the straight rise before the schedule begins.
        warmup_start_lr: Learning rate of the first of them; lowered to the schedule's own first rate if that is less.
    """

    steps_per_epoch: int = 1
    epochs: int | None = None
    warmup_steps: int = 0
    warmup_start_lr: float = 1e-6

    def whole_run(self, kind: str) -> int:
        """Steps from the end of the warm-up to the end of the run.

        Raises:
            ConfigError: If the length of the run is unknown or holds no step.
        """
        if self.epochs is None:
            raise ConfigError(f"optim.schedule: {kind} covers the whole run and must know its length. Give epochs.")
        total = self.steps_per_epoch * self.epochs
        if total < 1:
            raise ConfigError(f"optim.schedule: {kind} needs the optimizer steps of the run, 1 or more, not {total}.")
        return max(total - self.warmup_steps, 1)

    def steps(self, epochs: float) -> int:
        """Optimizer steps of some epochs, 1 or more."""
        return max(round(epochs * self.steps_per_epoch), 1)

    def too_long(self, setting: str, epochs: float, then: str) -> tuple[str, ...]:
        """A note if a part of the schedule does not fit into the run; ``then`` says what comes of it."""
        left = None if self.epochs is None else self.epochs - self.warmup_steps / max(self.steps_per_epoch, 1)
        if left is None or epochs <= left:
            return ()
        return (f"optim.schedule.{setting}: {epochs:g} epochs are longer than what the run has, {left:g}; {then}.",)


class Schedule(LRScheduler):
    """A learning rate as a function of the optimizer steps done.

    Args:
        optimizer: Its groups are changed; each keeps its own top rate.
        kind: Name of the schedule, saved with its state.
        curve: The rate after the warm-up.
        span: Gives the warm-up.
        tops: Top rate of each group; None: the group's own learning rate.
        notes: What a person should know about this schedule in this run.

    Attributes:
        step_on: ``batch``: ``step()`` after each update is all; ``epoch``: also ``step(score)`` after each validation.
        notes: See above.
        base_lrs: Top rate of each group now; multiplying them scales the rest of the schedule.
    """

    step_on: Literal["batch", "epoch"] = "batch"

    def __init__(
        self,
        optimizer: Optimizer,
        kind: str,
        curve: Curve,
        span: Span,
        *,
        tops: Sequence[float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.notes = _warmup_notes(span) + notes
        self._curve = curve
        self._span = span
        for group, top in zip(optimizer.param_groups, tops or (), strict=False):
            group["initial_lr"] = top
        self._tops = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The learning rate of each group at the present step."""
        return [
            float(base) / top * self._planned(index, top)
            for index, (base, top) in enumerate(zip(self.base_lrs, self._tops, strict=True))
        ]

    def step(self, score: float | None = None) -> None:
        """Count an update of the weights.

        Raises:
            TrainingError: If given a score, which this schedule does not wait for.
        """
        if score is not None:
            raise TrainingError(
                f"The schedule {self.kind} counts updates and looks at no score: call step() after each update."
            )
        super().step()

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": self.kind,
            "last_epoch": self.last_epoch,
            "base_lrs": [float(base) for base in self.base_lrs],
            "tops": list(self._tops),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; the optimizer's own state holds the present rates.

        Raises:
            CheckpointError: If it was saved by another kind of schedule, or for another number of groups.
        """
        kind = state_dict.get("kind", "another")
        if kind != self.kind or len(state_dict["base_lrs"]) != len(self._tops):
            raise CheckpointError(
                f"The checkpoint holds the schedule {kind} of {len(state_dict['base_lrs'])} parameter groups, the run "
                f"has {self.kind} of {len(self._tops)}. Resume with the settings the run was started with."
            )
        self.last_epoch = int(state_dict["last_epoch"])
        self.base_lrs = list(state_dict["base_lrs"])
        self._tops = list(state_dict["tops"])
        self._step_count = self.last_epoch + 1
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _planned(self, index: int, top: float) -> float:
        """The rate of a group if nobody had scaled it."""
        return self._warmed(lambda step: self._curve(top, step))

    def _warmed(self, after: Callable[[int], float]) -> float:
        """A warm-up in front of a function of the steps that follow it."""
        done, steps = self.last_epoch, self._span.warmup_steps
        if done >= steps:
            return after(done - steps)
        first = after(0)
        start = min(self._span.warmup_start_lr, first)
        return start + (first - start) * (done / steps)


def constant(optimizer: Optimizer, span: Span | None = None) -> Schedule:
    """The learning rate of each group, unchanged."""
    return Schedule(optimizer, "constant", lambda top, step: top, span or Span())


def one_cycle(
    optimizer: Optimizer,
    span: Span,
    *,
    max_lr: float | None = None,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Up to a peak and down again over a run. arXiv:1708.07120.

    The momentum stays as the optimizer has it: cycling it would overrule the betas that were set.

    Args:
        optimizer: Its groups are changed.
        span: The length of the run, which must be known.
        max_lr: Peak of groups with the optimizer's own learning rate, in proportion that of the others; None: each
            group's own learning rate.
        pct_start: Share of the steps spent rising, in 0..1.
        div_factor: The start is the peak divided by this.
        final_div_factor: The end is the start divided by this.

    Raises:
        ConfigError: If there are no steps, or their number is unknown.
    """
    last = span.whole_run("onecycle") - 1.0
    peak_at = pct_start * (last + 1) - 1.0

    def curve(top: float, step: int) -> float:
        start = top / div_factor
        if step <= peak_at:
            return _half_wave(start, top, step / peak_at if peak_at else 1.0)
        return _half_wave(top, start / final_div_factor, (min(step, last) - peak_at) / (last - peak_at))

    usual = float(optimizer.defaults["lr"])
    tops = None
    if max_lr is not None:  # groups with a rate of their own keep their share of the usual one
        tops = [max_lr * (float(group["lr"]) / usual) for group in optimizer.param_groups]
    return Schedule(optimizer, "onecycle", curve, span, tops=tops)


def cosine(optimizer: Optimizer, span: Span, *, t_max: float | None = None, eta_min: float = 0.0) -> Schedule:
    """Half a cosine wave down to ``eta_min``, where it stays. arXiv:1608.03983.

    PyTorch's own goes up again behind ``T_max``; nobody who asks for a fall means that.

    Args:
        optimizer: Its groups are changed.
        span: The length of the run.
        t_max: Epochs of the fall; None: from the warm-up to the end of the run.
        eta_min: Lowest rate; not above that of the group.

    Raises:
        ConfigError: If the fall covers the run and its length is unknown.
    """
    steps = span.whole_run("cosine") if t_max is None else span.steps(t_max)
    notes: tuple[str, ...] = ()
    if t_max is not None:
        notes = span.too_long("t_max", t_max, "the learning rate does not come down to eta_min")
        if not notes and span.epochs is not None and span.whole_run("cosine") > steps:
            rest = span.whole_run("cosine") - steps
            notes = (f"optim.schedule.t_max: the learning rate stays at its lowest for the last {rest} updates.",)
    return Schedule(optimizer, "cosine", lambda top, step: _fall(top, eta_min, step / steps), span, notes=notes)


def warm_restarts(
    optimizer: Optimizer, span: Span, *, t_0: float = 10.0, t_mult: int = 1, eta_min: float = 0.0
) -> Schedule:
    """Cosine falls that begin at the top again, each ``t_mult`` times as long as the one before. arXiv:1608.03983.

    Args:
        optimizer: Its groups are changed.
        span: The length of the run.
        t_0: Epochs of the first fall.
        t_mult: 1 or more.
        eta_min: Lowest rate; not above that of the group.
    """
    first = span.steps(t_0)

    def curve(top: float, step: int) -> float:
        length = first
        while step >= length:
            step -= length
            length *= t_mult
            if t_mult == 1:
                step %= length
        return _fall(top, eta_min, step / length)

    notes = span.too_long("t_0", t_0, "the learning rate never restarts")
    return Schedule(optimizer, "warm_restarts", curve, span, notes=notes)


def cyclic_cosine(
    optimizer: Optimizer, span: Span, *, cycles: int = 3, decay: float = 1.0, eta_min: float = 0.0
) -> Schedule:
    """The run divided into equal cosine falls.

    Args:
        optimizer: Its groups are changed.
        span: The length of the run, which must be known.
        cycles: Falls, 1 or more.
        decay: The top of each fall is that of the one before times this, in 0..1.
        eta_min: Lowest rate; not above that of the group.

    Raises:
        ConfigError: If the length of the run is unknown.
    """
    total = span.whole_run("cyclic_cosine")

    def curve(top: float, step: int) -> float:
        if step >= total:
            return min(eta_min, top)
        cycle, into = divmod(step * cycles, total)
        return _fall(top * decay**cycle, eta_min, into / total)

    return Schedule(optimizer, "cyclic_cosine", curve, span)


def step_decay(optimizer: Optimizer, span: Span, *, step_size: int = 30, gamma: float = 0.1) -> Schedule:
    """The rate times ``gamma`` every ``step_size`` epochs."""
    notes = span.too_long("step_size", step_size, "the learning rate never drops")
    return Schedule(
        optimizer,
        "step",
        lambda top, step: top * gamma ** (step // (step_size * span.steps_per_epoch)),
        span,
        notes=notes,
    )


def exponential(optimizer: Optimizer, span: Span, *, gamma: float = 0.95) -> Schedule:
    """A steady fall: over an epoch the rate is multiplied by ``gamma``, over each step by its share of that."""
    return Schedule(optimizer, "exponential", lambda top, step: top * gamma ** (step / span.steps_per_epoch), span)


def polynomial(optimizer: Optimizer, span: Span, *, power: float = 0.9, eta_min: float = 0.0) -> Schedule:
    """A fall to ``eta_min`` at the end of the run along ``(1 - done)**power``.

    Raises:
        ConfigError: If the length of the run is unknown.
    """
    total = span.whole_run("polynomial")

    def curve(top: float, step: int) -> float:
        lowest = min(eta_min, top)
        left: float = (1 - min(step / total, 1.0)) ** power
        return lowest + (top - lowest) * left

    return Schedule(optimizer, "polynomial", curve, span)


def _half_wave(start: float, end: float, done: float) -> float:
    """Half a cosine wave from ``start`` to ``end``; ``done`` in 0..1."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * done) + 1)


def _fall(top: float, lowest: float, done: float) -> float:
    """Half a cosine wave from ``top`` down to ``lowest``, where it stays."""
    return _half_wave(top, min(lowest, top), min(done, 1.0))


def _warmup_notes(span: Span) -> tuple[str, ...]:
    if span.epochs is None or span.warmup_steps < span.epochs * span.steps_per_epoch or span.warmup_steps == 0:
        return ()
    return (
        f"optim.warmup_steps: {span.warmup_steps} updates of warm-up are all the run has, "
        f"{span.epochs * span.steps_per_epoch}; the schedule behind it never begins.",
    )

"""Schedules that wait for scores: lower the learning rate on a plateau, or move it both ways.

They take ``step()`` after each update, which moves their warm-up, and ``step(score)`` after each validation.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Literal

from maskwright.optim.schedules import Schedule, Span

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["Adaptive", "ReduceOnPlateau", "ScoreSchedule", "mode_of"]

_LOW_IS_GOOD = re.compile(r"(^|[/_.])(\w*loss|\w*error|mae|mse|rmse|brier|ece|surface_distance)([@/]|$)")


def mode_of(monitor: str | None) -> Literal["min", "max"]:
    """Whether a lower or a higher value of a score is better, by its name; unset: lower, as for a loss."""
    return "min" if monitor is None or _LOW_IS_GOOD.search(monitor) else "max"


class ScoreSchedule(Schedule):
    """A level for each group that scores move; before it, a warm-up. Scores during the warm-up move nothing.

    Args:
        optimizer: Its groups are changed.
        kind: Name of the schedule.
        span: Gives the warm-up.
        monitor: The score that is waited for; None: whatever the caller decides by.
        mode: Whether lower or higher is better; ``auto``: by the name of the score.
        patience: Scores without improvement.

    Attributes:
        best: Best score so far; None before the first.
        waited: Scores since the last improvement.
        level: Multiple of its top rate that the first group has now.
    """

    step_on = "epoch"

    def __init__(
        self,
        optimizer: Optimizer,
        kind: str,
        span: Span,
        *,
        monitor: str | None,
        mode: Literal["auto", "min", "max"],
        patience: int,
    ) -> None:
        self.monitor = monitor
        self.mode = mode_of(monitor) if mode == "auto" else mode
        self.says_mode = mode != "auto"
        self.patience = patience
        self.best: float | None = None
        self.waited = 0
        self._levels = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        notes = span.too_long("patience", patience, "the learning rate never drops")
        super().__init__(optimizer, kind, lambda top, step: top, span, notes=notes)

    def step(self, score: float | None = None) -> None:
        """Count an update, or look at a score; one that is not a number is no improvement."""
        if score is None:
            super().step()
            return
        self._look_at(float(score))
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return super().state_dict() | {"best": self.best, "waited": self.waited, "levels": list(self._levels)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.best, self.waited = state_dict["best"], state_dict["waited"]
        self._levels = list(state_dict["levels"])

    @property
    def is_warming(self) -> bool:
        """Whether the warm-up goes on."""
        return self.last_epoch < self._span.warmup_steps

    def _planned(self, index: int, top: float) -> float:
        return self._warmed(lambda step: self._levels[index])

    def _look_at(self, score: float) -> None:
        raise NotImplementedError

    def _gain(self, score: float) -> float:
        """How much better than the best; above 0 is better. NaN for a score that is none, infinite for the first."""
        if self.best is None:
            return math.nan if math.isnan(score) else math.inf
        return score - self.best if self.mode == "max" else self.best - score

    def _multiply(self, factor: float, *, least: float = 0.0, most: float = math.inf) -> None:
        """Move the level of each group; ``least`` is a rate, ``most`` a multiple of the group's top."""
        self._levels = [
            min(max(level * factor, min(least, level)), most * top)
            for level, top in zip(self._levels, self._tops, strict=True)
        ]


class ReduceOnPlateau(ScoreSchedule):
    """Lowers the rate when a score has not improved for more than ``patience`` validations.

    Args:
        optimizer: Its groups are changed.
        span: Gives the warm-up.
        monitor: The score.
        mode: Whether lower or higher is better.
        factor: The rate is multiplied by this, in 0..1.
        patience: Validations without improvement that are put up with.
        threshold: A smaller gain is no improvement.
        threshold_mode: ``rel``: a share of the size of the best score; ``abs``: a difference.
        cooldown: Validations after a drop that are not counted.
        min_lr: Lowest rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        span: Span,
        *,
        monitor: str | None = None,
        mode: Literal["auto", "min", "max"] = "auto",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.factor = factor
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.cooling = 0
        super().__init__(optimizer, "reduce_on_plateau", span, monitor=monitor, mode=mode, patience=patience)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return super().state_dict() | {"cooling": self.cooling}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.cooling = state_dict["cooling"]

    def _look_at(self, score: float) -> None:
        size = abs(self.best or 0.0) if self.threshold_mode == "rel" else 1.0
        if self._gain(score) > self.threshold * size:
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.cooling:
            self.cooling -= 1
            self.waited = 0
        if self.is_warming:
            self.waited = 0
        elif self.waited > self.patience:
            self._multiply(self.factor, least=self.min_lr)
            self.cooling, self.waited = self.cooldown, 0


class Adaptive(ScoreSchedule):
    """Raises the rate a little after a large gain, lowers it when nothing improves.

    Args:
        optimizer: Its groups are changed.
        span: Gives the warm-up.
        monitor: The score.
        mode: Whether lower or higher is better.
        gain: Share of the best score by which it must be beaten for a rise.
        rise: The rate is multiplied by this, 1 or more.
        most: It never exceeds its first value times this.
        factor: The rate is multiplied by this after ``patience`` validations without improvement.
        patience: 1 or more.
        min_lr: Lowest rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        span: Span,
        *,
        monitor: str | None = None,
        mode: Literal["auto", "min", "max"] = "auto",
        gain: float = 0.05,
        rise: float = 1.1,
        most: float = 2.0,
        factor: float = 0.5,
        patience: int = 3,
        min_lr: float = 0.0,
    ) -> None:
        self.gain = gain
        self.rise = rise
        self.most = most
        self.factor = factor
        self.min_lr = min_lr
        super().__init__(optimizer, "adaptive", span, monitor=monitor, mode=mode, patience=patience)

    def _look_at(self, score: float) -> None:
        gained = self._gain(score)
        is_large = self.best is not None and gained > self.gain * abs(self.best)
        if gained > 0:
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.is_warming:
            self.waited = 0
        elif is_large:
            self._multiply(self.rise, most=self.most)
        elif self.waited >= self.patience:
            self._multiply(self.factor, least=self.min_lr)
            self.waited = 0

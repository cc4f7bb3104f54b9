"""Learning-rate range test: how the loss fares while the rate rises from far too low to too high. arXiv:1506.01186."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from maskwright.errors import ConfigError, TrainingError
from maskwright.tasks.interface import Task
from maskwright.training.loop import TrainBatches
from maskwright.training.rehearsal import groups_forever, rehearsal, rehearse_update
from maskwright.training.state import TrainState

__all__ = ["LrFinding", "find_lr", "read_range_test"]

_FEWEST = 10  # updates before a rise of the loss counts as divergence, and points a curve must have


@dataclass(frozen=True)
class LrFinding:
    """What a range test found.

    Attributes:
        lrs: The rates tried, rising.
        losses: Loss of the update made at each.
        smoothed: The same as a running mean.
        steepest_lr: Where the smoothed loss falls fastest.
        minimum_lr: Where it is lowest; training at this rate is at the edge of diverging.
        diverged: Whether the test ended because the loss rose too far; if not, higher rates might serve as well.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest_lr: float
    minimum_lr: float
    diverged: bool

    @property
    def tenth_of_minimum_lr(self) -> float:
        """A tenth of the rate with the lowest loss."""
        return self.minimum_lr / 10

    @property
    def suggestion(self) -> float:
        """The more careful of the two readings, in two digits."""
        return float(f"{min(self.steepest_lr, self.tenth_of_minimum_lr):.1e}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"tenth_of_minimum_lr": self.tenth_of_minimum_lr, "suggestion": self.suggestion}


def find_lr(
    state: TrainState,
    task: Task,
    loader: TrainBatches,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 1.0,
    steps: int = 100,
    smoothing: float = 0.9,
    divergence: float = 4.0,
    seed: int = 0,
    after_step: Callable[[int, float, float], None] | None = None,
) -> LrFinding:
    """Train while the rate rises by the same factor with each update; the state is as before afterwards, bit for bit.

    Args:
        state: A run, usually a fresh one.
        task: Its task.
        loader: Its training batches.
        start_lr: First rate, above 0.
        end_lr: Last rate, above the first; groups with rates of their own keep their proportion.
        steps: Updates, 10 or more.
        smoothing: Share of the running mean that is kept with each update, in 0..1.
        divergence: The test ends when the smoothed loss is so many times its lowest.
        seed: Of dropout and the like.
        after_step: Called with the number of updates done, the rate and the loss.

    Raises:
        ConfigError: If the range or the number of steps makes no sense.
        TrainingError: If the loss did not fall anywhere.
    """
    if not 0 < start_lr < end_lr or steps < _FEWEST:
        raise ConfigError(
            f"The range test needs 0 < start < end and {_FEWEST} steps or more, not start {start_lr:g}, end {end_lr:g} "
            f"and {steps} steps."
        )
    planned = np.geomspace(start_lr, end_lr, steps).tolist()
    shares = [lr / max(state.lrs) if max(state.lrs) else 1.0 for lr in state.lrs]
    losses: list[float] = []
    watch = _Watch(smoothing, divergence)
    with rehearsal(state), closing(groups_forever(loader, state.updater.accumulate)) as groups:
        torch.manual_seed(seed)
        for lr, group in zip(planned, groups, strict=False):
            for settings, share in zip(state.optimizer.param_groups, shares, strict=True):
                settings["lr"] = lr * share
            outcome = rehearse_update(state, task, group)
            if not math.isfinite(outcome.loss) or watch.diverges(outcome.loss):
                break
            losses.append(outcome.loss)
            if after_step is not None:
                after_step(len(losses), lr, outcome.loss)
    return read_range_test(planned[: len(losses)], losses, smoothing=smoothing, diverged=len(losses) < steps)


def read_range_test(
    lrs: Sequence[float], losses: Sequence[float], *, smoothing: float = 0.9, diverged: bool = False
) -> LrFinding:
    """The suggestions from the curve of a range test.

    Raises:
        TrainingError: If there are too few points, or the loss did not fall anywhere.
    """
    if len(losses) < _FEWEST:
        raise TrainingError(
            f"The loss was no number or rose at once: it fared well for {len(losses)} updates only. Start the test "
            "at a lower learning rate, or look for bad values in the data."
        )
    # Forwards and backwards, so that the curve is not shifted to higher rates.
    smoothed = (_running_mean(losses, smoothing) + _running_mean(losses[::-1], smoothing)[::-1]) / 2
    lowest = int(np.argmin(smoothed))
    slopes = np.gradient(smoothed, np.log10(lrs))
    if lowest < 2 or slopes[:lowest].min() >= 0:
        raise TrainingError(
            f"The loss fell at no learning rate from {lrs[0]:.1e} to {lrs[-1]:.1e}. Try another range, or check the "
            "data."
        )
    steepest = int(np.argmin(slopes[:lowest]))
    return LrFinding(tuple(lrs), tuple(losses), tuple(smoothed.tolist()), lrs[steepest], lrs[lowest], diverged)


class _Watch:
    """Notices when the smoothed loss has risen too far."""

    def __init__(self, smoothing: float, divergence: float) -> None:
        self.smoothing = smoothing
        self.divergence = divergence
        self.losses: list[float] = []
        self.lowest = math.inf

    def diverges(self, loss: float) -> bool:
        self.losses.append(loss)
        now = float(_running_mean(self.losses, self.smoothing)[-1])
        self.lowest = min(self.lowest, now)
        return len(self.losses) > _FEWEST and now > self.divergence * abs(self.lowest)


def _running_mean(values: Sequence[float], kept: float) -> np.ndarray:
    """Exponential running mean, without the pull towards 0 at its beginning: (N,)."""
    mean, means = 0.0, []
    for count, value in enumerate(values, start=1):
        mean = kept * mean + (1 - kept) * value
        means.append(mean / (1 - kept**count))
    return np.array(means)

"""Averages over an epoch: sums and weights kept exactly, divided once at the end."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

__all__ = ["MeanMeter"]


class MeanMeter:
    """Weighted means by name, for losses.

    Give the SUM over what was measured and its weight (pixels, samples). The mean of an epoch is then the mean over
    all of it, however it was cut into batches: a shorter last batch weighs less. Sums are exact (no rounding until
    the end), so the order of updates and merging change nothing, not even the last bit.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[list[float], list[float]]] = {}
        self._pending: list[tuple[str, float | Tensor, float | Tensor]] = []

    def update(self, name: str, total: float | Tensor, weight: float | Tensor = 1.0) -> None:
        """Add a sum and its weight.

        Tensors are read only when a result is asked for, so an accelerator is not waited for in every batch.

        Args:
            name: What was measured, for example ``loss`` or ``dice``.
            total: Sum over what was measured; a number or a scalar tensor.
            weight: How much was measured; a number or a scalar tensor, not negative.
        """
        self._pending.append((name, _detached(total), _detached(weight)))

    def merge(self, other: MeanMeter) -> None:
        """Add what another meter has seen, for example that of another process."""
        for name, parts in other._settled().items():
            mine = self._settled().setdefault(name, ([], []))
            for target, values in zip(mine, parts, strict=True):
                for value in values:
                    _add_exactly(target, value)

    def compute(self) -> dict[str, float]:
        """Mean by name; nan where the weight is 0 or a sum is not finite."""
        means = {}
        for name, (totals, weights) in self._settled().items():
            total, weight = math.fsum(totals), math.fsum(weights)
            means[name] = total / weight if weight else math.nan
        return means

    def reset(self) -> None:
        """Forget everything; a new epoch begins."""
        self._sums.clear()
        self._pending.clear()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which :meth:`load_state_dict` continues exactly."""
        return {name: [list(part) for part in parts] for name, parts in self._settled().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another meter; what was here is forgotten."""
        self.reset()
        self._sums = {name: (list(totals), list(weights)) for name, (totals, weights) in state.items()}

    def _settled(self) -> dict[str, tuple[list[float], list[float]]]:
        for name, total, weight in self._pending:
            totals, weights = self._sums.setdefault(name, ([], []))
            _add_exactly(totals, float(total))
            _add_exactly(weights, float(weight))
        self._pending.clear()
        return self._sums


def _detached(value: float | Tensor) -> float | Tensor:
    if not isinstance(value, Tensor):
        return float(value)
    value = value.detach()
    return float(value) if value.is_cpu else value.clone()  # the caller may go on adding to it in place


def _add_exactly(parts: list[float], value: float) -> None:
    """Add to a sum kept as numbers that do not overlap, so nothing is rounded away (Shewchuk 1997)."""
    if not math.isfinite(value) or (parts and math.isnan(parts[0])):
        parts[:] = [math.nan]
        return
    kept = 0
    for part in parts:
        if abs(value) < abs(part):
            value, part = part, value
        high = value + part
        low = part - (high - value)
        if low:
            parts[kept] = low
            kept += 1
        value = high
    parts[kept:] = [value]

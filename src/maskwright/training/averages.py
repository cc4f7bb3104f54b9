"""LossSums: averages of losses over an epoch that are right whatever the sizes of the batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskwright.tasks.interface import LossTerm
from maskwright.types import LossOutput

__all__ = ["LossSums"]

_MOST_PENDING = 64  # rows left on the device before they are fetched


class LossSums:
    """Sums of loss terms and of their weights, in double precision.

    A batch's term arrives divided by the weight of its accumulation group and is multiplied by it again here. Rows stay
    on the device until someone reads them and are added in the order of arrival, so that reading more or less often
    changes no bit, and an epoch continued from a checkpoint ends with the same sums as one that ran through.

    Args:
        terms: The parts of the loss: factor in the total, and the weight each is an average over.
    """

    def __init__(self, terms: Mapping[str, LossTerm]) -> None:
        self.terms = dict(terms)
        self.sums = dict.fromkeys(self.terms, 0.0)
        self.weights = dict.fromkeys(sorted({term.per for term in self.terms.values()}), 0.0)
        self._group: list[tuple[dict[str, float], Tensor]] = []
        self._pending: list[tuple[dict[str, float], Tensor]] = []

    def begin_group(self, weights: Mapping[str, Tensor]) -> None:
        """Count the weights of an accumulation group, once."""
        row = [_double(weights[kind]) for kind in self.weights]
        self._group = [(self.weights, torch.stack(row))]

    def add(self, loss: LossOutput, weights: Mapping[str, Tensor]) -> None:
        """Add the terms of one batch of the group; nothing waits for the device."""
        row = [_double(loss.terms[name]) * _double(weights[term.per]) for name, term in self.terms.items()]
        self._group.append((self.sums, torch.stack(row)))

    def end_group(self) -> None:
        """Keep the group."""
        self._pending += self._group
        self._group = []
        if len(self._pending) >= _MOST_PENDING:
            self.settle()

    def drop_group(self) -> None:
        """Forget the group: it led to no update."""
        self._group = []

    def averages(self, part: str, terms: Mapping[str, LossTerm] | None = None) -> dict[str, float]:
        """``part/loss`` and ``part/loss/term`` for every term; NaN where nothing was valid.

        Args:
            part: First half of the keys.
            terms: The same terms with the factors of the total; unset: those of the constructor. They may have moved.
        """
        self.settle()
        factors = {name: term.factor for name, term in (terms or self.terms).items()}
        means = {name: _ratio(self.sums[name], self.weights[term.per]) for name, term in self.terms.items()}
        total = sum(factors[name] * mean for name, mean in means.items())
        return {f"{part}/loss": float(total)} | {f"{part}/loss/{name}": mean for name, mean in means.items()}

    def settle(self) -> None:
        """Fetch what kept groups still have on the device."""
        for into, row in self._pending:
            for name, value in zip(into, row.tolist(), strict=True):
                into[name] += value
        self._pending.clear()

    def clear(self) -> None:
        """Start anew."""
        self._pending, self._group = [], []
        for sums in (self.sums, self.weights):
            sums.update(dict.fromkeys(sums, 0.0))

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        self.settle()
        return {"sums": dict(self.sums), "weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.clear()
        self.sums.update(state["sums"])
        self.weights.update(state["weights"])


def _double(value: Tensor) -> Tensor:
    value = value.detach()
    return (value.cpu() if value.device.type == "mps" else value).double()  # MPS has no double precision


def _ratio(total: float, weight: float) -> float:
    return total / weight if weight > 0 else math.nan

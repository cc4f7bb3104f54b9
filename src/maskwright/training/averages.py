"""LossSums: averages of losses over an epoch that are right whatever the sizes of the batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
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
        keep_rows: Remember what was added, for :meth:`replay` in another process.

    Attributes:
        rows: What was added, in order: whether it is weights, and the values; None unless they are kept.
    """

    def __init__(self, terms: Mapping[str, LossTerm], *, keep_rows: bool = False) -> None:
        self.terms = dict(terms)
        self.rows: list[tuple[bool, list[float]]] | None = [] if keep_rows else None
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

    def group_total(self) -> Tensor:
        """(T,) double: the terms of the group, added over its batches."""
        rows = [row for into, row in self._group if into is self.sums]
        return torch.stack(rows).sum(dim=0) if rows else torch.zeros(len(self.terms), dtype=torch.float64)

    def set_group_total(self, total: Tensor) -> None:
        """Let the terms of the group be these, for example those of all processes."""
        self._group = [(into, row) for into, row in self._group if into is self.weights] + [(self.sums, total)]

    def drop_group(self) -> None:
        """Forget the group: it led to no update."""
        self._group = []

    def averages(self, part: str, terms: Mapping[str, LossTerm] | None = None) -> dict[str, float]:
        """``part/loss`` and ``part/loss/term`` for every term; NaN for a term that nothing was valid for.

        Such a term adds nothing to the total, as in every step; the total is NaN if all are such.

        Args:
            part: First half of the keys.
            terms: The same terms with the factors of the total; unset: those of the constructor. They may have moved.
        """
        self.settle()
        factors = {name: term.factor for name, term in (terms or self.terms).items()}
        means = {name: _ratio(self.sums[name], self.weights[term.per]) for name, term in self.terms.items()}
        known = [factors[name] * mean for name, mean in means.items() if self.weights[self.terms[name].per] > 0]
        total = sum(known) if known else math.nan
        return {f"{part}/loss": float(total)} | {f"{part}/loss/{name}": mean for name, mean in means.items()}

    def settle(self) -> None:
        """Fetch what kept groups still have on the device, at once: each look waits for it."""
        for (into, _), values in zip(self._pending, _fetched([row for _, row in self._pending]), strict=True):
            _add(into, values)
            if self.rows is not None:
                self.rows.append((into is self.weights, values))
        self._pending.clear()

    def replay(self, rows: Sequence[tuple[bool, list[float]]]) -> None:
        """Add what another one has added, in its order: as if it had been added here, to the last bit."""
        self.settle()
        for is_weights, values in rows:
            _add(self.weights if is_weights else self.sums, values)

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


def _add(into: dict[str, float], values: Sequence[float]) -> None:
    for name, value in zip(into, values, strict=True):
        into[name] += value


def _fetched(rows: Sequence[Tensor]) -> list[list[float]]:
    """The values of rows of any length, one look for each device they lie on."""
    found: list[list[float]] = [[] for _ in rows]
    for device in {row.device for row in rows}:
        there = [number for number, row in enumerate(rows) if row.device == device]
        values = iter(torch.cat([rows[number] for number in there]).tolist())
        for number in there:
            found[number] = list(itertools.islice(values, len(rows[number])))
    return found


def _double(value: Tensor) -> Tensor:
    value = value.detach()
    return (value.cpu() if value.device.type == "mps" else value).double()  # MPS has no double precision


def _ratio(total: float, weight: float) -> float:
    return total / weight if weight > 0 else math.nan

"""Factors of a combined loss as functions of epoch and scores.

Each rule moves one share, that of the lead term; the other terms divide the rest among them as they did at the start.
Epochs count from 0.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from maskwright.errors import ConfigError

__all__ = [
    "SCHEDULES",
    "SCHEDULE_PRESETS",
    "LossScheduler",
    "adaptive_weight",
    "cosine_weight",
    "get_preset_schedule_config",
    "performance_weight",
    "step_weight",
]


def adaptive_weight(
    weight: float,
    score: float | None,
    *,
    high: float = 0.8,
    low: float = 0.4,
    rise: float = 1.1,
    fall: float = 0.9,
    min_weight: float = 0.5,
    max_weight: float = 0.9,
) -> float:
    """Rise where the score is above ``high``, fall where it is below ``low``, else stay; no score: stay.

    From 0.7: 0.77, 0.847, 0.9 while the score is high; 0.63, 0.567, 0.5103, 0.5 while it is low.
    """
    if score is None:
        return weight
    if score > high:
        return min(max_weight, weight * rise)
    if score < low:
        return max(min_weight, weight * fall)
    return weight


def cosine_weight(epoch: int, *, max_epochs: int = 100, min_weight: float = 0.5, max_weight: float = 0.9) -> float:
    """Half a cosine from ``max_weight`` in epoch 0 to ``min_weight`` in ``max_epochs`` and after."""
    along = min(epoch / max_epochs, 1)
    return min_weight + (max_weight - min_weight) * (1 + math.cos(math.pi * along)) / 2


def step_weight(
    weight: float, epoch: int, *, step_size: int = 20, weight_step: float = 0.1, max_weight: float = 0.9
) -> float:
    """Rise by ``weight_step`` in every ``step_size``-th epoch but the first; from 0.7 with 2: 0.7 0.7 0.8 0.8 0.9."""
    return min(max_weight, weight + weight_step) if epoch > 0 and epoch % step_size == 0 else weight


def performance_weight(
    weight: float,
    score: float | None,
    previous: float | None,
    *,
    drop: float = 0.01,
    weight_step: float = 0.05,
    min_weight: float = 0.5,
) -> float:
    """Fall by ``weight_step`` where the score fell by more than ``drop`` since the epoch before; unknown: stay."""
    if score is None or previous is None or score - previous >= -drop:
        return weight
    return max(min_weight, weight - weight_step)


class _Weighted(Protocol):
    """A loss whose factors can be read and set."""

    @property
    def weights(self) -> dict[str, float]: ...

    def update_weights(self, weights: Mapping[str, float], mode: Any = ...) -> None: ...


class LossScheduler:
    """Moves the factors of a loss once an epoch, and remembers what it did.

    Args:
        loss: The loss, of two terms or more; its factors are set by ``step``.
        kind: One of ``SCHEDULES``.
        lead: The term whose share follows the rule; None: dice if the loss has it, otherwise its first term.
        monitor: Name of the score that ``adaptive`` and ``performance`` read; ``val_dice`` also finds ``val/dice``.
        params: Parameters of the rule, for example ``step_size=10``.

    Attributes:
        history: A row for each step: epoch, weights after it, and the metrics it was given.

    Raises:
        ConfigError: If kind, lead or a parameter is unknown, or the loss has one term only.
    """

    def __init__(
        self, loss: _Weighted, kind: str, *, lead: str | None = None, monitor: str = "val_dice", **params: float
    ) -> None:
        if kind not in SCHEDULES:
            raise ConfigError(f"loss schedule {kind!r} is unknown. Available: {', '.join(SCHEDULES)}.")
        weights = loss.weights
        if len(weights) < 2:
            raise ConfigError(f"A loss schedule shifts weight between terms; this loss has {', '.join(weights)} only.")
        if lead is not None and lead not in weights:
            raise ConfigError(f"loss schedule: the loss has no term {lead!r}. Available: {', '.join(weights)}.")
        rule = SCHEDULES[kind]
        _check_params(kind, rule, params)
        self.loss, self.kind, self.monitor = loss, kind, monitor
        self.lead = lead or ("dice" if "dice" in weights else next(iter(weights)))
        self.params = dict(params)
        self.history: list[dict[str, Any]] = []
        self._total = sum(weights.values())
        self._share = weights[self.lead] / self._total
        rest = self._total - weights[self.lead]
        self._others = {name: weight / rest for name, weight in weights.items() if name != self.lead}

    def step(self, epoch: int, metrics: Mapping[str, float] | None = None) -> dict[str, float]:
        """Set the factors after an epoch, and return them.

        Args:
            epoch: The epoch that ended, from 0.
            metrics: Its scores by name; one that is missing or not finite leaves the weights as they are.
        """
        metrics = dict(metrics or {})
        score = self._score(metrics)
        if self.kind == "adaptive":
            self._share = adaptive_weight(self._share, score, **self.params)
        elif self.kind == "cosine":
            self._share = cosine_weight(epoch, **self.params)  # type: ignore[arg-type]
        elif self.kind == "step":
            self._share = step_weight(self._share, epoch, **self.params)  # type: ignore[arg-type]
        elif len(self.history) >= 2:  # one epoch before is not enough to tell a trend from the start
            previous = self._score(self.history[-1]["metrics"])
            self._share = performance_weight(self._share, score, previous, **self.params)
        weights = self._apply()
        self.history.append({"epoch": epoch, "weights": weights, "metrics": metrics})
        return dict(weights)

    def state_dict(self) -> dict[str, Any]:
        """Plain values: what a resumed training needs to go on with the same weights."""
        return {
            "kind": self.kind,
            "lead": self.lead,
            "total": self._total,
            "share": self._share,
            "others": dict(self._others),
            "history": copy.deepcopy(self.history),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``; sets the factors of the loss.

        Raises:
            ConfigError: If the state is that of another schedule or of other terms.
        """
        own = (self.kind, self.lead, sorted(self._others))
        saved = (state["kind"], state["lead"], sorted(state["others"]))
        if own != saved:
            raise ConfigError(f"The saved loss schedule is {saved}, this one is {own}: kind, lead and other terms.")
        self._total, self._share = float(state["total"]), float(state["share"])
        self._others = {name: float(state["others"][name]) for name in self._others}
        self.history = copy.deepcopy(list(state["history"]))
        if self.history:
            self._apply()

    def _apply(self) -> dict[str, float]:
        rest = 1 - self._share
        shares = {self.lead: self._share, **{name: rest * part for name, part in self._others.items()}}
        weights = {name: share * self._total for name, share in shares.items()}
        self.loss.update_weights(weights, "raw")
        return weights

    def _score(self, metrics: Mapping[str, float]) -> float | None:
        wanted = _plain(self.monitor)
        found = [value for name, value in metrics.items() if _plain(name) == wanted]
        return float(found[0]) if found and math.isfinite(found[0]) else None


def get_preset_schedule_config(name: str) -> dict[str, Any]:
    """A named schedule as ``{"type": ..., "params": {...}}``, a copy of one's own.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in SCHEDULE_PRESETS:
        raise ConfigError(f"loss schedule preset {name!r} is unknown. Available: {', '.join(SCHEDULE_PRESETS)}.")
    return copy.deepcopy(SCHEDULE_PRESETS[name])


def _plain(name: str) -> str:
    return name.replace("/", "_").replace(".", "_").lower()


def _check_params(kind: str, rule: Callable[..., float], params: Mapping[str, float]) -> None:
    defaults = rule.__kwdefaults__ or {}
    known = tuple(defaults)
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ConfigError(f"loss schedule {kind!r} has no parameter {unknown[0]!r}. Available: {', '.join(known)}.")
    values = {**defaults, **params}
    for name in ("max_epochs", "step_size"):
        if name in values and values[name] < 1:
            raise ConfigError(f"loss schedule {kind!r}: {name} is {values[name]:g}, but must be at least 1.")
    low, high = values.get("min_weight", 0), values.get("max_weight", 1)
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"loss schedule {kind!r}: 0 <= min_weight {low:g} <= max_weight {high:g} <= 1 must hold.")


SCHEDULES: dict[str, Callable[..., float]] = {
    "adaptive": adaptive_weight,
    "cosine": cosine_weight,
    "step": step_weight,
    "performance": performance_weight,
}
SCHEDULE_PRESETS: dict[str, dict[str, Any]] = {
    "adaptive": {"type": "adaptive", "params": {}},
    "cosine_annealing": {"type": "cosine", "params": {"max_epochs": 100, "min_weight": 0.5, "max_weight": 0.9}},
    "step_increase": {"type": "step", "params": {"step_size": 20, "weight_step": 0.05}},
    "performance_based": {"type": "performance", "params": {}},
}

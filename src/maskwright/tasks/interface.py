"""Task: the one object that knows what outputs mean. Loop and predictor are generic and talk only to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from maskwright.types import Batch, LossOutput, Prediction

if TYPE_CHECKING:
    from torch import Tensor

    from maskwright.types import Place

__all__ = ["LossTerm", "Meter", "Task"]


@dataclass(frozen=True, slots=True)
class LossTerm:
    """How a term enters the total, and what it is an average over.

    Attributes:
        factor: Multiplies the term in the total.
        per: Key of the weight the term's sum is divided by: ``pixels`` or ``samples``.
    """

    factor: float
    per: str


class Meter(Protocol):
    """Counts over a data set, scores at its end."""

    def update(self, probs: Tensor, target: Tensor, valid: Tensor, where: Sequence[Place], /) -> None: ...

    def compute(self) -> dict[str, float]: ...


class Task(Protocol):
    """What the training loop and the predictor ask of a kind of work."""

    kind: str
    default_monitor: str

    @property
    def loss_terms(self) -> Mapping[str, LossTerm]:
        """The parts of the loss by name, with their factors and weights."""

    def loss_weights(self, group: Sequence[Batch]) -> dict[str, Tensor]:
        """What the terms of a whole accumulation group are divided by; depends on the batches alone."""

    def loss(self, outputs: Tensor, batch: Batch, weights: Mapping[str, Tensor] | None = None) -> LossOutput:
        """The loss of one batch; each term is its sum divided by the group's weight (unset: the batch's own)."""

    def meters(self) -> Meter:
        """A fresh meter."""

    def update(self, meter: Any, outputs: Tensor, batch: Batch) -> None:
        """Count what ``outputs`` got right on the valid pixels of ``batch``."""

    def decode(self, outputs: Tensor, heights_m: Sequence[float], valid: Tensor | None = None) -> Prediction:
        """Raw outputs to probabilities; the only place of the activation outside the loss."""

    def score_names(self) -> tuple[str, ...]:
        """Scores the meter computes that can be better or worse, without the part: ``iou``, ``iou@10m`` ..."""

    def better(self, name: str) -> Literal["max", "min"]:
        """Whether a larger or a smaller value of a score (or ``loss``) is better."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which prediction rebuilds the task."""

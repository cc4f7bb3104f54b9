"""Task: the one object that knows what outputs mean. Loop and predictor are generic and talk only to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from maskwright.types import Batch, LossOutput, Prediction

if TYPE_CHECKING:
    from torch import Tensor, nn

    from maskwright.config.model import ModelConfig
    from maskwright.losses import LossScheduler
    from maskwright.types import Place

__all__ = ["LossTerm", "Meter", "Task"]


@dataclass(frozen=True, slots=True)
class LossTerm:
    """How a term enters the total, and what it is an average over.

    Attributes:
        factor: Multiplies the term in the total.
        per: Key of the weight the term's sum is divided by: ``pixels``, ``samples``, ``positions`` or ``images``.
    """

    factor: float
    per: str


class Meter(Protocol):
    """Counts over a data set, scores at its end."""

    def update(self, probs: Tensor, target: Tensor, valid: Tensor, where: Sequence[Place], /) -> None: ...

    def merge(self, other: Any, /) -> None:
        """Add what another meter has counted, behind what is here."""

    def compute(self) -> dict[str, float]: ...


class Task(Protocol):
    """What the training loop and the predictor ask of a kind of work."""

    kind: ClassVar[str]
    default_monitor: ClassVar[str]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the K things that are scored: ``5 m``, ``crack``."""

    @property
    def loss_terms(self) -> Mapping[str, LossTerm]:
        """The parts of the loss by name, with their factors now and weights."""

    @property
    def loss_adds_up(self) -> bool:
        """Whether the losses of the batches of a group add up to that of one big batch; not for terms over a batch."""

    @property
    def loss_schedule(self) -> LossScheduler | None:
        """Moves the factors of the loss from epoch to epoch; None: they stay."""

    @property
    def loss_module(self) -> nn.Module | None:
        """The part of the loss that is trained with the network; None if nothing of it is."""

    @property
    def moving_weights(self) -> dict[str, float]:
        """The factor of each term now, where factors move; empty where they stay."""

    def build_model(self, model: ModelConfig, in_channels: int, batch_size: int = 1) -> nn.Module:
        """A network for this task; ``batch_size`` decides the normalisation where the setting says ``auto``."""

    def loss_weights(self, group: Sequence[Batch]) -> dict[str, Tensor]:
        """What the terms of a whole accumulation group are divided by; depends on the batches alone."""

    def loss(self, outputs: Tensor, batch: Batch, weights: Mapping[str, Tensor] | None = None) -> LossOutput:
        """The loss of one batch; each term is its sum divided by the group's weight (unset: the batch's own)."""

    def meters(self) -> Meter:
        """A fresh meter."""

    def update(self, meter: Any, outputs: Tensor, batch: Batch) -> None:
        """Count what ``outputs`` got right on the valid pixels of ``batch``."""

    def target(self, batch: Batch) -> Tensor:
        """(B, K, H, W): what is true; bool, or numbers for tasks of numbers."""

    def decode(
        self, outputs: Tensor, heights_m: Sequence[float] | None = None, valid: Tensor | None = None
    ) -> Prediction:
        """Raw outputs to probabilities (or numbers); the only place of the activation outside the loss."""

    def called(self, prediction: Prediction) -> Tensor:
        """(B, K, H, W) bool: what the model says, by the task's probability threshold or the largest class."""

    def score_names(self) -> tuple[str, ...]:
        """Scores the meter computes that can be better or worse, without the part: ``iou``, ``iou@10m`` ..."""

    def better(self, name: str) -> Literal["max", "min"]:
        """Whether a larger or a smaller value of a score, or of a loss, is better."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.json``."""

"""LoopScores: losses, Dice and accuracy over the batches of a loop of one's own, from sums and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import TrainingError
from maskwright.losses import LoopLoss
from maskwright.losses.pixel import split_ignored, split_ignored_classes
from maskwright.metrics.counts import confusion_counts
from maskwright.tasks.interface import LossTerm
from maskwright.training.averages import LossSums
from maskwright.types import LossOutput

__all__ = ["LoopScores", "Measured", "measure"]

_WHOLE = "total"  # the one term of a loss that does not tell its parts apart


@dataclass(frozen=True, slots=True)
class Measured:
    """What one forward pass of a batch gave.

    Attributes:
        output: The loss with gradient, and its terms without.
        terms: How terms enter the total, and what each is an average over.
        weights: Those weights for this batch.
        counts: (K, 4) int64 TP, FP, FN, TN of the pixels that count; None for losses of numbers.
        is_classes: Whether the K channels exclude one another.
    """

    output: LossOutput
    terms: Mapping[str, LossTerm]
    weights: Mapping[str, Tensor]
    counts: Tensor | None
    is_classes: bool


def measure(loss: nn.Module, logits: Tensor, target: Tensor) -> Measured:
    """Loss, terms and counts of a batch, the loss computed once.

    Args:
        loss: A loss of ``maskwright.losses``; or any module from (logits, target) to a scalar, or to a scalar and its
            parts by name.
        logits: (B, K, H, W) float, before sigmoid or softmax.
        target: As the loss takes it; 255 does not count.

    Raises:
        TrainingError: If the loss gave no scalar.
    """
    if isinstance(loss, LoopLoss):
        takes = loss.loss.takes
        told = loss.get_loss_components(logits, target)
        factors = loss.weights
        output = LossOutput(_tensor(told["total_loss"]), {name: _tensor(told[f"{name}_loss"]) for name in factors})
        terms = {name: LossTerm(factor, loss.loss.functions[name].weight) for name, factor in factors.items()}
        counts, valid = _counts(logits.detach(), target, takes)
        return Measured(output, terms, loss.loss.measure(valid, logits.shape[1]), counts, takes == "classes")
    takes = "classes" if logits.ndim == 4 and logits.shape[1] > 1 and target.ndim == 3 else "channels"
    output = _plain_output(loss(logits, target))
    terms = {name: LossTerm(float(name == _WHOLE), "images") for name in output.terms}
    weights = {"images": torch.tensor(len(logits), dtype=torch.float64)}
    counts, _ = _counts(logits.detach(), target, takes)
    return Measured(output, terms, weights, counts, takes == "classes")


class LoopScores:
    """Averages over the batches of an epoch that are right whatever their sizes.

    A term of the loss is its sum over all that counts divided by how much counts; Dice and accuracy are computed from
    the pixels counted over the whole epoch, at probability 0.5.
    """

    def __init__(self) -> None:
        self.batches = 0
        self._sums: LossSums | None = None
        self._counts: Tensor | None = None
        self._is_classes = False

    def add(self, batch: Measured) -> dict[str, float]:
        """Count a batch; returns its own scores, named as by :meth:`scores`."""
        self.batches += 1
        if self._sums is None:
            self._sums = LossSums(batch.terms)
        self._sums.begin_group(batch.weights)
        self._sums.add(batch.output, batch.weights)
        self._sums.end_group()
        self._is_classes = batch.is_classes
        counts = None if batch.counts is None else batch.counts.cpu()
        if counts is not None:
            self._counts = counts if self._counts is None else self._counts + counts
        terms = {f"{name}_loss": float(value) for name, value in batch.output.terms.items() if name != _WHOLE}
        return {"loss": float(batch.output.total.detach()), **terms, **_from_counts(counts, batch.is_classes)}

    def scores(self) -> dict[str, float]:
        """``loss``, ``<term>_loss`` for each term, ``dice`` and ``accuracy`` of all batches together."""
        if self._sums is None:
            return {}
        found = self._sums.averages("all")
        terms = {f"{name}_loss": found[f"all/loss/{name}"] for name in self._sums.terms if name != _WHOLE}
        return {"loss": found["all/loss"], **terms, **_from_counts(self._counts, self._is_classes)}


def _counts(logits: Tensor, target: Tensor, takes: str) -> tuple[Tensor | None, Tensor]:
    """(K, 4) counts of a batch, and the pixels that count."""
    if takes == "values" or logits.ndim != 4:
        valid = torch.isfinite(target).all(dim=1) if target.ndim == 4 else torch.isfinite(target)
        return None, valid
    if takes == "classes":
        classes, valid = split_ignored_classes(target)
        ids = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
        said, true = logits.argmax(dim=1, keepdim=True) == ids, classes[:, None] == ids
    else:
        mask, valid = split_ignored(target)
        said, true = logits > 0, mask > 0.5  # a logit of 0 is a probability of 0.5
    return confusion_counts(said, true, valid).sum(dim=0), valid


def _from_counts(counts: Tensor | None, is_classes: bool) -> dict[str, float]:
    """Dice (mean over the channels that occur; 1 where nothing was to find and nothing was found) and accuracy."""
    if counts is None:
        return {}
    hits, false, missed, rest = counts.double().unbind(dim=-1)
    pixels = hits + false + missed + rest
    if float(pixels.sum()) == 0:
        return {"dice": math.nan, "accuracy": math.nan}
    occurs = hits + false + missed > 0
    dice = (2 * hits / (2 * hits + false + missed))[occurs]
    right = hits.sum() / pixels[0] if is_classes else (hits + rest).sum() / pixels.sum()
    return {"dice": float(dice.mean()) if bool(occurs.any()) else 1.0, "accuracy": float(right)}


def _plain_output(given: Any) -> LossOutput:
    total, parts = given if isinstance(given, tuple) else (given, {})
    if not isinstance(total, Tensor) or total.numel() != 1:
        raise TrainingError(
            f"The loss gave a {type(total).__name__} and not one number. A loss takes (logits, targets) and gives a "
            "scalar tensor, or such a tensor and its parts by name."
        )
    terms = {name: _tensor(value).detach() for name, value in parts.items() if name != _WHOLE}
    return LossOutput(total, {_WHOLE: total.detach(), **terms})


def _tensor(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(float(value))

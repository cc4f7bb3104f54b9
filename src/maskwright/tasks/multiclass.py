"""Classes that exclude each other: every pixel belongs to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.losses import CombinedLoss
from maskwright.tasks.classes import ClassTask
from maskwright.types import Batch, Prediction

__all__ = ["Multiclass"]


class Multiclass(ClassTask):
    """A logit for each class, compared by softmax; targets are class ids. Arguments as of ``ClassTask``.

    Class 0 is the background where there is one; it is scored and averaged like every class.
    """

    kind: ClassVar[str] = "multiclass"

    def __init__(self, class_names: Sequence[str], loss: CombinedLoss | None = None, **options: Any) -> None:
        super().__init__(class_names, loss, **options)
        if self.num_classes < 2:
            raise ConfigError(
                f"Classes that exclude each other are two or more, not {', '.join(self.class_names)} alone. "
                "Set task.kind: binary, or list more classes."
            )

    def called(self, prediction: Prediction) -> Tensor:
        """(B, K, H, W) bool: the class of the largest probability, of equals the first."""
        largest = prediction.probs.argmax(dim=1, keepdim=True)
        return torch.zeros_like(prediction.probs, dtype=torch.bool).scatter_(1, largest, True)

    def _as_masks(self, target: Tensor) -> Tensor:
        ids = torch.arange(self.num_classes, device=target.device).view(1, -1, 1, 1)
        return target.unsqueeze(1) == ids

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=1)

    def _scored_target(self, batch: Batch) -> Tensor:
        return batch.target

    def _loss_target(self, target: Tensor, batch: Batch) -> Tensor:
        return target

"""Classes that may overlap: each is a yes or no of its own."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from maskwright.tasks.classes import ClassTask

__all__ = ["Multilabel"]


class Multilabel(ClassTask):
    """A logit for each label; targets are sets of bits, bit k for label k. Arguments as of ``ClassTask``."""

    kind: ClassVar[str] = "multilabel"

    def _as_masks(self, target: Tensor) -> Tensor:
        bits = torch.arange(self.num_classes, device=target.device).view(1, -1, 1, 1)
        return (target.unsqueeze(1) >> bits) & 1 == 1

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

"""One class against everything else: cracks, vessels, defects, canopy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from maskwright.errors import ConfigError
from maskwright.losses import CombinedLoss
from maskwright.tasks.classes import ClassTask

__all__ = ["Binary"]


class Binary(ClassTask):
    """One logit for each pixel; ids 0 and 1. Arguments as of ``ClassTask``, with one name."""

    kind: ClassVar[str] = "binary"
    default_monitor: ClassVar[str] = "val/iou"

    def __init__(self, class_names: Sequence[str], loss: CombinedLoss | None = None, **options: Any) -> None:
        super().__init__(class_names, loss, **options)
        if self.num_classes != 1:
            raise ConfigError(f"A binary task has one class, not {', '.join(self.class_names)}.")

    def _as_masks(self, target: Tensor) -> Tensor:
        return (target == 1).unsqueeze(1)

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

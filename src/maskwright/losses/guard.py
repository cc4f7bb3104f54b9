"""What people who keep their own loop get wrong most: probabilities for logits, 255 for foreground, NaN.

Runs of Maskwright do not come by here: their tasks check what they give, and NaN is the business of their step.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from maskwright.errors import DataError, ModelError
from maskwright.losses.pixel import looks_like_probabilities
from maskwright.pixels import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Guard"]

_PATIENCE = 8  # batches without any foreground before 255 is suspected


class Guard:
    """Looks at what a loss of a loop of one's own is given; each warning comes once.

    Args:
        is_logits: False where the values are no logits, such as heights.
        is_mask: True where the target is 0, 1 and 255, and not class ids or numbers.
    """

    def __init__(self, *, is_logits: bool = True, is_mask: bool = True) -> None:
        self.is_logits = is_logits
        self.is_mask = is_mask
        self._batches = 0
        self._seen_one = self._seen_ignored = False

    def before(self, logits: Tensor, target: Tensor) -> None:
        """Look at a batch as it was given, target with 255.

        Raises:
            DataError: If a mask holds something else than 0, 1 and 255 (looked at on the CPU only; reading values
                stalls other devices).
        """
        self._batches += 1
        if self.is_mask and target.is_cpu and target.dtype != torch.bool:
            self._look_at_mask(target)
        if self._batches == 1 and self.is_logits and looks_like_probabilities(logits):
            warnings.warn(
                "A loss of logits is given values that all lie in 0..1, as if a sigmoid or softmax had been applied "
                "already. Give it what the network puts out; the loss applies the activation itself.",
                stacklevel=2,
            )

    @staticmethod
    def after(total: Tensor, logits: Tensor, counts: Tensor) -> None:
        """Look at the loss that came of it.

        Args:
            total: Scalar.
            logits: (B, K, H, W).
            counts: (B, H, W) bool: pixels that count.

        Raises:
            ModelError: If logits on pixels that count are NaN (looked at on the CPU only).
        """
        if not total.is_cpu or not math.isnan(float(total.detach())):
            return
        bad = int((logits.isnan().any(dim=1) & counts).sum())
        if bad:
            raise ModelError(
                f"Logits of shape {tuple(logits.shape)} are NaN on {bad} of {int(counts.sum())} pixels that count, so "
                "the loss is NaN too. Training went wrong: lower the learning rate, clip gradients, or look for bad "
                "values in the images."
            )

    def _look_at_mask(self, target: Tensor) -> None:
        values = target.detach().numpy() if target.dtype != torch.bfloat16 else target.detach().float().numpy()
        zeros, ones = (int(np.count_nonzero(values == number)) for number in (0, 1))
        ignored = 0 if zeros + ones == values.size else int(np.count_nonzero(values == IGNORE_INDEX))
        if zeros + ones + ignored != values.size:
            strange = values[(values != 0) & (values != 1) & (values != IGNORE_INDEX)][0]
            raise DataError(
                f"A mask holds {float(strange):g}; only 0, 1 and {IGNORE_INDEX} (does not count) have a meaning."
            )
        self._seen_one |= ones > 0
        self._seen_ignored |= ignored > 0
        if self._batches == _PATIENCE and self._seen_ignored and not self._seen_one:
            warnings.warn(
                f"The first {_PATIENCE} batches hold {IGNORE_INDEX} and no 1. {IGNORE_INDEX} means that a pixel does "
                "not count; if it is the foreground, give (mask > 0).float().",
                stacklevel=2,
            )

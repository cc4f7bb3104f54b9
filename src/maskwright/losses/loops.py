"""Losses for a loop of one's own: (logits, target) to one tensor, with 255 in the target for what does not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from maskwright.losses.composite import CombinedLoss, Mode, check_sum
from maskwright.losses.guard import Guard
from maskwright.losses.overlap import Reduction
from maskwright.losses.pixel import split_ignored, split_ignored_classes
from maskwright.losses.terms import build_term

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from maskwright.types import LossOutput

__all__ = ["ComboLoss", "DiceLoss", "FocalLoss", "IoULoss", "LoopLoss"]


class LoopLoss(nn.Module):
    """A combined loss for a loop of one's own: (logits, target) to one tensor.

    Args:
        loss: What is computed.
    """

    def __init__(self, loss: CombinedLoss) -> None:
        super().__init__()
        self.loss = loss
        self._guard = Guard(is_logits=loss.takes != "values", is_mask=loss.takes == "channels")

    @property
    def weights(self) -> dict[str, float]:
        """The factors of the terms, a copy."""
        return self.loss.weights

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None, sample_weights: Tensor | None = None
    ) -> Tensor:
        """The loss, a scalar with gradient.

        Args:
            logits: (B, K, H, W) float, before sigmoid or softmax.
            target: Yes-or-no questions: (B, K, H, W), or (B, H, W) for K = 1: 0, 1, and 255 for pixels that do not
                count. Classes: (B, H, W) class ids, and 255. Numbers: (B, K, H, W), and NaN.
            valid: (B, H, W) bool, further pixels to leave out, or None.
            sample_weights: (B, K) or (B, 1), see ``CombinedLoss``, or None.

        Raises:
            ShapeError: If the tensors do not fit together.
            DataError: If the target holds values without a meaning.
            ModelError: If logits on pixels that count are NaN.
        """
        return self._output(logits, target, valid, sample_weights).total

    def get_loss_components(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None, sample_weights: Tensor | None = None
    ) -> dict[str, Tensor | float]:
        """In one pass all there is to log, and the loss to train on.

        Returns:
            ``<term>_loss``, ``<term>_weight`` and ``<term>_weighted`` for each term, without gradient, and
            ``total_loss`` with it: call ``backward`` on that instead of computing the loss again.
        """
        return self.loss.components(self._output(logits, target, valid, sample_weights))

    def update_weights(self, weights: Mapping[str, float], mode: Mode = "normalize") -> None:
        """Set the factors of some terms anew, see ``CombinedLoss.update_weights``."""
        self.loss.update_weights(weights, mode)

    def _output(
        self, logits: Tensor, target: Tensor, valid: Tensor | None, sample_weights: Tensor | None
    ) -> LossOutput:
        self._guard.before(logits, target)
        if self.loss.takes == "classes":
            target, counts = split_ignored_classes(target, valid)
        elif self.loss.takes == "values":
            counts = torch.isfinite(target).all(dim=1)
            counts = counts if valid is None else counts & valid
        else:
            target, counts = split_ignored(target, valid)
        output: LossOutput = self.loss(logits, target, counts, None, sample_weights)
        self._guard.after(output.total, logits, counts)
        return output


class ComboLoss(nn.Module):
    """Cross entropy, Dice and focal loss whose weights add up to 1, for a loop of one's own.

    Args:
        bce_weight: 0 or more.
        dice_weight: 0 or more.
        focal_weight: 0 or more.
        smooth: Larger than 0. Added above and below the Dice ratio, in pixels.
        alpha: Class weight of the focal loss, in 0..1.
        gamma: How strongly the focal loss plays down easy pixels, 0 or more.

    Raises:
        ConfigError: If the weights do not add up to 1.
    """

    def __init__(
        self,
        bce_weight: float = 0.5,
        dice_weight: float = 0.3,
        focal_weight: float = 0.2,
        *,
        smooth: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        check_sum({"bce_weight": bce_weight, "dice_weight": dice_weight, "focal_weight": focal_weight})
        self.loss = CombinedLoss(
            {"bce": bce_weight, "dice": dice_weight, "focal": focal_weight},
            dice_smooth=smooth,
            focal_alpha=alpha,
            focal_gamma=gamma,
        )
        self._guard = Guard()

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss with gradient, and its parts without, by name: the unweighted terms and ``total``.

        Args:
            logits: (B, K, H, W) float, before sigmoid.
            target: (B, K, H, W), or (B, H, W) for K = 1: 0, 1, and 255 for pixels that do not count.
            valid: (B, H, W) bool, further pixels to leave out, or None.

        Raises:
            ShapeError: If the tensors do not fit together.
            DataError: If the target holds values without a meaning.
            ModelError: If logits on pixels that count are NaN.
        """
        self._guard.before(logits, target)
        target, counts = split_ignored(target, valid)
        output = self.loss(logits, target, counts)
        self._guard.after(output.total, logits, counts)
        return output.total, {**output.terms, "total": output.total.detach()}


class DiceLoss(LoopLoss):
    """Mean Dice loss over the samples and channels that have a pixel that counts.

    Args:
        smooth: Larger than 0. Added above and below the ratio, in pixels.
        reduction: ``sample`` or ``batch``, see ``dice_loss``.
        squared_pred: Sum squares below the ratio instead of plain values.

    Raises:
        ConfigError: If an option makes no sense.
    """

    def __init__(self, smooth: float = 1.0, reduction: Reduction = "sample", squared_pred: bool = False) -> None:
        super().__init__(_alone("dice", smooth=smooth, reduction=reduction, squared_pred=squared_pred))


class IoULoss(LoopLoss):
    """Mean Jaccard loss over the samples and channels that have a pixel that counts.

    Args:
        smooth: Larger than 0. Added above and below the ratio, in pixels.
        reduction: ``sample`` or ``batch``, see ``dice_loss``.

    Raises:
        ConfigError: If an option makes no sense.
    """

    def __init__(self, smooth: float = 1.0, reduction: Reduction = "sample") -> None:
        super().__init__(_alone("jaccard", smooth=smooth, reduction=reduction))


class FocalLoss(LoopLoss):
    """Mean focal loss over the pixels that count.

    Args:
        alpha: In 0..1: weight of pixels whose target is 1; the others weigh ``1 - alpha``.
        gamma: How strongly easy pixels are played down, 0 or more.

    Raises:
        ConfigError: If an option makes no sense.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__(_alone("focal", alpha=alpha, gamma=gamma))


def _alone(name: str, **options: object) -> CombinedLoss:
    return CombinedLoss({name: 1.0}, functions={name: build_term(name, **options)})

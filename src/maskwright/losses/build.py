"""From the loss section to a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maskwright.losses.composite import CombinedLoss, check_sum

if TYPE_CHECKING:
    from collections.abc import Callable

    from maskwright.config.loss import CombinedLossConfig, LossConfig

__all__ = ["LOSSES", "build_loss"]


def build_loss(config: LossConfig) -> CombinedLoss:
    """The loss a section describes."""
    return LOSSES[config.kind](config)


def _build_combined(config: CombinedLossConfig) -> CombinedLoss:
    terms = {"bce": config.bce, "dice": config.dice, "focal": config.focal}
    if config.weights == "strict":
        check_sum(terms)
    elif config.weights == "normalize":
        total = sum(terms.values())
        terms = {name: factor / total for name, factor in terms.items()}
    return CombinedLoss(
        terms,
        pos_weight=config.pos_weight,
        label_smoothing=config.label_smoothing,
        dice_smooth=config.dice_smooth,
        dice_reduction=config.dice_reduction,
        focal_alpha=config.focal_alpha,
        focal_gamma=config.focal_gamma,
    )


LOSSES: dict[str, Callable[[CombinedLossConfig], CombinedLoss]] = {"combined": _build_combined}

"""From the loss section to a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskwright.losses.composite import CombinedLoss
from maskwright.losses.terms import build_term

if TYPE_CHECKING:
    from collections.abc import Callable

    from maskwright.config.loss import CombinedLossConfig, LossConfig

__all__ = ["LOSSES", "build_loss"]


def build_loss(config: LossConfig) -> CombinedLoss:
    """The loss a section describes."""
    return LOSSES[config.kind](config)


def _build_combined(config: CombinedLossConfig) -> CombinedLoss:
    return CombinedLoss(
        config.terms,
        mode=config.weights,
        functions={name: build_term(name, **options) for name, options in _options(config).items()},
        pos_weight=config.pos_weight,
        label_smoothing=config.label_smoothing,
        dice_smooth=config.dice_smooth,
        dice_reduction=config.dice_reduction,
        focal_alpha=config.focal_alpha,
        focal_gamma=config.focal_gamma,
    )


def _options(config: CombinedLossConfig) -> dict[str, dict[str, Any]]:
    """Of the terms that the constructor has no arguments for."""
    smooth = {"smooth": config.overlap_smooth}
    overlap = {**smooth, "reduction": config.overlap_reduction}
    return {
        "jaccard": overlap,
        "tversky": {**overlap, "alpha": config.tversky_alpha, "beta": config.tversky_beta},
        "lovasz": {"form": config.lovasz_form, "reduction": config.overlap_reduction},
        "boundary": {**smooth, "width_px": config.boundary_width_px, "tolerance_px": config.boundary_tolerance_px},
        "cldice": {**smooth, "iterations": config.cldice_iterations},
        "balanced_bce": {"cap": config.balanced_bce_cap},
    }


LOSSES: dict[str, Callable[[CombinedLossConfig], CombinedLoss]] = {"combined": _build_combined}

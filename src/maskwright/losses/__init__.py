"""Losses: (logits, target, valid) to a number to minimise."""

from __future__ import annotations

from maskwright.losses.balance import HeightWeights, UncertaintyWeights, class_weights, height_weights, pos_weight
from maskwright.losses.build import (
    LOSSES,
    build_height_weights,
    build_learned_weights,
    build_loss,
    build_loss_schedule,
)
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.likelihood import mixture_likelihood_by_sample
from maskwright.losses.loops import ComboLoss, DiceLoss, FocalLoss, IoULoss, LoopLoss
from maskwright.losses.overlap import dice_loss, dice_sum, jaccard_loss, tversky_loss
from maskwright.losses.pixel import bce_sum, count_positions, focal_sum, looks_like_probabilities
from maskwright.losses.presets import (
    CombinedFocalDiceLoss,
    LossManager,
    combine_losses,
    get_loss_function,
    get_preset_loss_config,
    loss_config_for_data,
    loss_config_for_focus,
)
from maskwright.losses.terms import Term, available_terms, build_term
from maskwright.losses.weight_schedules import LossScheduler, get_preset_schedule_config

__all__ = [
    "LOSSES",
    "CombinedFocalDiceLoss",
    "CombinedLoss",
    "ComboLoss",
    "DiceLoss",
    "FocalLoss",
    "HeightWeights",
    "IoULoss",
    "LoopLoss",
    "LossManager",
    "LossScheduler",
    "Term",
    "UncertaintyWeights",
    "available_terms",
    "bce_sum",
    "build_height_weights",
    "build_learned_weights",
    "build_loss",
    "build_loss_schedule",
    "build_term",
    "class_weights",
    "combine_losses",
    "count_positions",
    "dice_loss",
    "dice_sum",
    "focal_sum",
    "get_loss_function",
    "get_preset_loss_config",
    "get_preset_schedule_config",
    "height_weights",
    "jaccard_loss",
    "looks_like_probabilities",
    "loss_config_for_data",
    "loss_config_for_focus",
    "mixture_likelihood_by_sample",
    "pos_weight",
    "tversky_loss",
]

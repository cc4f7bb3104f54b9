"""From the loss section to a loss, and to what moves its factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maskwright.errors import ConfigError
from maskwright.losses.balance import HeightWeights, UncertaintyWeights, class_weights, height_weights, pos_weight
from maskwright.losses.composite import CombinedLoss
from maskwright.losses.instances import multitask_term
from maskwright.losses.likelihood import likelihood_term
from maskwright.losses.terms import Takes, Term, build_term
from maskwright.losses.weight_schedules import LossScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maskwright.config.loss import CombinedLossConfig, LossConfig, MultitaskLossConfig, RegressionLossConfig

__all__ = ["LOSSES", "build_height_weights", "build_learned_weights", "build_loss", "build_loss_schedule"]

# The terms of yes-or-no questions that classes which exclude each other have as well, under the names of the settings.
_OF_CLASSES = {
    "bce": "cross_entropy",
    "dice": "class_dice",
    "focal": "class_focal",
    "jaccard": "class_jaccard",
    "tversky": "class_tversky",
    "lovasz": "lovasz_softmax",
}


def build_loss(
    config: LossConfig, *, takes: Takes | None = None, class_counts: Sequence[int] | None = None
) -> CombinedLoss:
    """The loss a section describes.

    Args:
        config: The section.
        takes: What the target is: ``channels``, ``classes`` (softmax) or ``values``; None: what the section usually
            has, channels or values.
        class_counts: Training pixels of each class, or of [background, foreground], for weights that are ``auto``;
            of labels that overlap the pixels with each label, then those that count at all.

    Raises:
        ConfigError: If weights are ``auto`` and there are no counts, or a setting does not go with the target.
    """
    return LOSSES[config.kind](config, takes, class_counts)


def build_loss_schedule(config: LossConfig, loss: CombinedLoss) -> LossScheduler | None:
    """What moves the factors of the loss from epoch to epoch; None if they stay."""
    schedule = config.schedule
    if schedule.kind == "none":
        return None
    return LossScheduler(loss, **schedule.model_dump())


def build_learned_weights(config: LossConfig, loss: CombinedLoss) -> UncertaintyWeights | None:
    """Factors that are learned beside those of the settings; None if there are none."""
    return UncertaintyWeights(loss.terms) if config.learn_weights else None


def build_height_weights(config: LossConfig, gap_shares: Mapping[float, float] | None) -> HeightWeights | None:
    """How much a sample counts by the height it is asked for; None: all alike.

    Args:
        config: The section.
        gap_shares: Height in metres to the share of gap pixels on the training tiles, 0..1.

    Raises:
        ConfigError: If the section asks for weights and there are no shares.
    """
    if config.kind != "combined" or config.height_weights == "none":
        return None
    if not gap_shares:
        raise ConfigError(
            f"loss.height_weights: {config.height_weights} is measured on the training tiles, and no shares of gap "
            "pixels were given. Give gap_shares, or set loss.height_weights: none."
        )
    return HeightWeights(height_weights(gap_shares, cap=config.height_weights_cap, rule=config.height_weights))


def _build_combined(
    config: CombinedLossConfig, takes: Takes | None, class_counts: Sequence[int] | None
) -> CombinedLoss:
    if takes == "classes":
        return _build_of_classes(config, class_counts)
    if takes == "values":
        raise ConfigError("loss.kind: combined takes masks, not numbers. Set loss.kind: regression.")
    if config.class_weights is not None:
        raise ConfigError(
            "loss.class_weights: weighs classes that exclude each other, which this task does not have. "
            "Set loss.pos_weight instead."
        )
    functions = {name: build_term(name, **options) for name, options in _options(config).items()}
    terms = config.terms
    if config.likelihood:  # only then: a loss with this term takes outputs that are distributions
        functions["likelihood"] = likelihood_term()
    else:
        del terms["likelihood"]
    return CombinedLoss(
        terms,
        mode=config.weights,
        functions=functions,
        pos_weight=_pos_weight(config, class_counts),
        label_smoothing=config.label_smoothing,
        dice_smooth=config.dice_smooth,
        dice_reduction=config.dice_reduction,
        focal_alpha=config.focal_alpha,
        focal_gamma=config.focal_gamma,
    )


def _build_of_classes(config: CombinedLossConfig, class_counts: Sequence[int] | None) -> CombinedLoss:
    """The same terms over a softmax; the background is a class like the others."""
    used = {name: factor for name, factor in config.terms.items() if factor > 0}
    strange = sorted(set(used) - set(_OF_CLASSES))
    if strange:
        raise ConfigError(
            f"loss.{strange[0]}: there is no such loss of classes that exclude each other. Set it to 0; there are "
            f"{', '.join(_OF_CLASSES)}."
        )
    if config.pos_weight != 1:
        raise ConfigError(
            "loss.pos_weight: weighs yes against no, and this task has classes that exclude each other. "
            "Set loss.class_weights instead."
        )
    options = _options(config)
    weights = _class_weights(config, class_counts)
    options |= {
        "bce": {"class_weights": weights, "label_smoothing": config.label_smoothing},
        "focal": {"class_weights": weights, "gamma": config.focal_gamma},
        "dice": {"smooth": config.dice_smooth, "reduction": config.dice_reduction},
        "lovasz": {},
    }
    functions = {name: build_term(_OF_CLASSES[name], **options[name]) for name in used}
    return CombinedLoss(used, mode=config.weights, functions=functions)


def _build_regression(
    config: RegressionLossConfig, takes: Takes | None, class_counts: Sequence[int] | None
) -> CombinedLoss:
    if takes not in (None, "values"):
        raise ConfigError("loss.kind: regression takes numbers, not masks. Set loss.kind: combined.")
    functions: dict[str, Term] = {"huber": build_term("huber", beta=config.huber_beta_m)}
    return CombinedLoss(config.terms, mode=config.weights, functions=functions)


def _build_multitask(
    config: MultitaskLossConfig, takes: Takes | None, class_counts: Sequence[int] | None
) -> CombinedLoss:
    functions = {name: multitask_term(name) for name in config.terms}
    return CombinedLoss(config.terms, mode=config.weights, functions=functions)


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


def _pos_weight(config: CombinedLossConfig, class_counts: Sequence[int] | None) -> float:
    """The weight said, or the one that makes yes and no count alike on the training pixels."""
    if config.pos_weight != "auto":
        return float(config.pos_weight)
    counts = _counted("loss.pos_weight", class_counts, least=2)
    if len(counts) == 2:
        negatives, positives = counts
    else:
        *by_label, total = counts
        positives = sum(by_label)
        negatives = total * len(by_label) - positives
    return pos_weight(positives, negatives)


def _class_weights(config: CombinedLossConfig, class_counts: Sequence[int] | None) -> tuple[float, ...] | None:
    if config.class_weights != "auto":
        return config.class_weights
    return class_weights(_counted("loss.class_weights", class_counts, least=2))


def _counted(setting: str, class_counts: Sequence[int] | None, least: int) -> list[int]:
    if class_counts is None or len(class_counts) < least:
        raise ConfigError(
            f"{setting}: auto is measured on the training tiles, and no counts of their pixels were given. "
            "Give class_counts, or set a number."
        )
    return [int(count) for count in class_counts]


LOSSES: dict[str, Callable[[Any, Takes | None, Sequence[int] | None], CombinedLoss]] = {
    "combined": _build_combined,
    "multitask": _build_multitask,
    "regression": _build_regression,
}

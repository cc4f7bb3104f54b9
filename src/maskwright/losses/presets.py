"""Ready-made losses for a loop of one's own: by name, by plain settings, by preset, by aim and by data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from maskwright.errors import ConfigError, ModelError
from maskwright.losses.balance import HeightWeights
from maskwright.losses.composite import CombinedLoss, Mode
from maskwright.losses.guard import Guard
from maskwright.losses.loops import LoopLoss
from maskwright.losses.pixel import split_ignored
from maskwright.losses.terms import Term, available_terms, build_term
from maskwright.losses.weight_schedules import LossScheduler, get_preset_schedule_config

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FOCUSES",
    "LOSS_PRESETS",
    "CombinedFocalDiceLoss",
    "LossManager",
    "combine_losses",
    "get_loss_function",
    "get_preset_loss_config",
    "loss_config_for_data",
    "loss_config_for_focus",
]

LOSS_PRESETS: dict[str, dict[str, Any]] = {
    "forestgaps_combo": {
        "type": "combined", "weights": "strict", "bce_weight": 0.5, "dice_weight": 0.3, "focal_weight": 0.2,
        "focal_config": {"alpha": 0.25, "gamma": 2.0},
    },
    "focal_dice": {
        "type": "combined", "weights": "strict", "focal_weight": 0.5, "dice_weight": 0.5,
        "focal_config": {"alpha": 0.5, "gamma": 2.0},
    },
    "default_segmentation": {"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3},
    "focal_segmentation": {
        "type": "combined", "dice_weight": 0.6, "bce_weight": 0.4, "bce_config": {"alpha": 0.25, "gamma": 2.0},
    },
    "balanced_segmentation": {
        "type": "combined", "dice_weight": 0.5, "bce_weight": 0.5, "bce_config": {"pos_weight": 1.0},
    },
    "dice_focused": {
        "type": "combined", "dice_weight": 0.8, "bce_weight": 0.2, "dice_config": {"squared_pred": True},
    },
    "jaccard_based": {"type": "combined", "dice_weight": 0.7, "bce_weight": 0.3, "dice_config": {"jaccard": True}},
    "defect_combined": {
        "type": "combined", "weights": "raw", "dice_weight": 0.5, "bce_weight": 0.3, "focal_weight": 0.2,
    },
}  # fmt: skip
FOCUSES: dict[str, dict[str, Any]] = {
    "balanced": {"type": "combined", "dice_weight": 0.5, "bce_weight": 0.5},
    "recall": {
        "type": "combined", "tversky_weight": 0.7, "bce_weight": 0.3, "tversky_config": {"alpha": 0.3, "beta": 0.7},
    },
    "precision": {
        "type": "combined", "tversky_weight": 0.7, "bce_weight": 0.3, "tversky_config": {"alpha": 0.7, "beta": 0.3},
    },
    "boundary": {"type": "combined", "dice_weight": 0.5, "bce_weight": 0.3, "boundary_weight": 0.2},
    "imbalance": {
        "type": "combined", "tversky_weight": 0.5, "focal_weight": 0.5,
        "tversky_config": {"alpha": 0.3, "beta": 0.7}, "focal_config": {"alpha": 0.25, "gamma": 2.0},
    },
}  # fmt: skip
_DEFAULTS = {
    "combined": {"dice": 0.7, "bce": 0.3},
    "combo": {"bce": 0.5, "dice": 0.3, "focal": 0.2},
    "focal_dice": {"focal": 0.5, "dice": 0.5},
}
_ALIASES = {
    "mixed": "combined",
    "combined_focal_dice": "focal_dice",
    "focal_advanced": "focal",
    "iou": "jaccard",
    "soft_dice": "dice",
    "stable_bce": "bce",
    "ce": "cross_entropy",
    "weighted_bce": "balanced_bce",
    "class_imbalanced": "imbalance",
}
_RARE, _SMALL, _RUGGED = 0.05, 0.05, 0.1


class LossManager:
    """Losses and their schedules from plain settings, as kept in a YAML file or a dictionary."""

    @staticmethod
    def create_loss_function(config: Mapping[str, Any]) -> LoopLoss:
        """The loss that settings describe.

        Args:
            config: ``type``: ``combined`` (the default; dice 0.7 and bce 0.3 where no weight is given), ``combo``,
                ``focal_dice``, or a term alone. ``<term>_weight`` and ``<term>_config`` for any term; ``dice_config``
                also takes ``jaccard``, and ``bce_config`` ``gamma`` and ``alpha``, which play down easy pixels.
                ``weights``: strict, normalize (the default) or raw; ``normalize_weights``: True or False for the last
                two. ``scheduler`` is for ``create_loss_scheduler``.

        Raises:
            ConfigError: If something is unknown or makes no sense.
        """
        kind = _canonical(str(config.get("type", "combined")))
        if kind not in _DEFAULTS and kind not in available_terms():
            raise ConfigError(
                f"loss type {config.get('type')!r} is unknown. "
                f"Available: {', '.join((*_DEFAULTS, *available_terms(), *_ALIASES))}."
            )
        weights, configs = _sort_settings(config)
        if kind in _DEFAULTS:
            weights = weights or _DEFAULTS[kind]
        elif weights:
            raise ConfigError(f"loss: type {kind!r} is one term; {next(iter(weights))}_weight belongs to combined.")
        else:
            weights = {kind: 1.0}
        idle = sorted(set(configs) - set(weights))
        if idle:
            raise ConfigError(f"loss: {idle[0]}_config is given, but the loss has no term {idle[0]!r}.")
        functions = {name: _term(name, configs[name]) for name in configs}
        return LoopLoss(CombinedLoss(weights, mode=_mode(config), functions=functions))

    @staticmethod
    def create_loss_scheduler(loss: LoopLoss, config: Mapping[str, Any] | str) -> LossScheduler:
        """The schedule of a loss.

        Args:
            loss: What ``create_loss_function`` gave.
            config: The name of a preset, or ``type``, ``params``, ``lead`` and ``monitor`` of ``LossScheduler``; or
                the settings of a loss that hold these as ``scheduler``.

        Raises:
            ConfigError: If something is unknown.
        """
        if not isinstance(config, str):
            config = config.get("scheduler", config)
        if isinstance(config, str):
            config = get_preset_schedule_config(config)
        unknown = sorted(set(config) - {"type", "params", "lead", "monitor"})
        if unknown or "type" not in config:
            what = f"unknown setting {unknown[0]!r}" if unknown else "type is missing"
            raise ConfigError(f"loss scheduler: {what}. Available: type, params, lead, monitor.")
        options = {name: config[name] for name in ("lead", "monitor") if name in config}
        return LossScheduler(loss, config["type"], **options, **config.get("params", {}))


class CombinedFocalDiceLoss(nn.Module):
    """``alpha`` times focal plus ``1 - alpha`` times Dice loss, each sample weighted by its height.

    Args:
        alpha: In 0..1: share of the focal loss.
        gamma: 0 or more: how strongly easy pixels are played down.
        smooth: Larger than 0. Added above and below the Dice ratio, in pixels.
        threshold_weights: Height in metres to weight; a sample gets that of the nearest height. None: all count alike.
        class_alpha: In 0..1: weight of pixels with target 1 in the focal loss; None: ``alpha``, as this loss was used.
        from_logits: False where probabilities are given instead of logits.

    Raises:
        ConfigError: If a number makes no sense.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 2.0,
        smooth: float = 1.0,
        threshold_weights: Mapping[float, float] | None = None,
        *,
        class_alpha: float | None = None,
        from_logits: bool = True,
    ) -> None:
        super().__init__()
        self.loss = CombinedLoss(
            {"focal": alpha, "dice": 1 - alpha},
            dice_smooth=smooth,
            focal_alpha=alpha if class_alpha is None else class_alpha,
            focal_gamma=gamma,
        )
        self.threshold_weights = None if threshold_weights is None else HeightWeights(threshold_weights)
        self.from_logits = from_logits
        self._guard = Guard(is_logits=from_logits)

    def forward(
        self, logits: Tensor, target: Tensor, thresholds: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """The loss, a scalar with gradient.

        Args:
            logits: (B, K, H, W) float, before sigmoid; probabilities in 0..1 where ``from_logits`` is False.
            target: (B, K, H, W), or (B, H, W) for K = 1: 0, 1, and 255 for pixels that do not count.
            thresholds: (B,) or (B, K): the height in metres each sample and channel answers.
            valid: (B, H, W) bool, further pixels to leave out, or None.

        Raises:
            ConfigError: If there are weights but no heights.
            ShapeError: If the tensors do not fit together.
            DataError: If the target holds values without a meaning.
            ModelError: If logits on pixels that count are NaN, or what should be probabilities is outside 0..1.
        """
        self._guard.before(logits, target)
        sample_weights = None
        if self.threshold_weights is not None:
            if thresholds is None:
                raise ConfigError("CombinedFocalDiceLoss has weights by height: give it the heights of the samples.")
            sample_weights = self.threshold_weights.of(thresholds[:, None] if thresholds.ndim == 1 else thresholds)
        if not self.from_logits:
            logits = torch.logit(_probabilities(logits).float(), eps=1e-6)
        target, counts = split_ignored(target, valid)
        total: Tensor = self.loss(logits, target, counts, None, sample_weights).total
        self._guard.after(total, logits, counts)
        return total


def combine_losses(
    loss_functions: Mapping[str, Term | str], weights: Mapping[str, float], normalize_weights: bool = True
) -> LoopLoss:
    """Losses of any kind under names of one's own.

    Args:
        loss_functions: Name to a term, or to the name of a known one.
        weights: Factor of each; those that are missing count 0.
        normalize_weights: Divide the factors by their sum.

    Raises:
        ConfigError: If a weight has no loss, or the factors make no sense.
    """
    unknown = sorted(set(weights) - set(loss_functions))
    if unknown:
        raise ConfigError(f"weight {unknown[0]!r} has no loss. Losses: {', '.join(loss_functions)}.")
    functions = {name: build_term(term) if isinstance(term, str) else term for name, term in loss_functions.items()}
    factors = {name: weights.get(name, 0.0) for name in functions}
    return LoopLoss(CombinedLoss(factors, mode="normalize" if normalize_weights else "raw", functions=functions))


def get_loss_function(name: str, **options: Any) -> LoopLoss:
    """A loss by name.

    Args:
        name: A term, or ``combined``: Dice 0.5, cross entropy 0.3, focal 0.2, not normalised.
        options: Options of the term. ``<term>_weight`` sets the weights of ``combined``, and is of no consequence for
            a term alone, so that one set of options serves every name.

    Raises:
        ConfigError: If the name or another option is unknown.
    """
    kind = _canonical(name)
    weights = {key.removesuffix("_weight"): value for key, value in options.items() if _is_weight(key)}
    others = {key: value for key, value in options.items() if not _is_weight(key)}
    if kind == "combined":
        if others:
            raise ConfigError(f"loss 'combined' has no option {next(iter(others))!r}. Available: <term>_weight.")
        return LoopLoss(CombinedLoss({"dice": 0.5, "bce": 0.3, "focal": 0.2, **weights}))
    if kind not in available_terms():
        raise ConfigError(f"loss {name!r} is unknown. Available: combined, {', '.join((*available_terms(), 'iou'))}.")
    return LoopLoss(CombinedLoss({kind: 1.0}, functions={kind: build_term(kind, **others)}))


def get_preset_loss_config(name: str) -> dict[str, Any]:
    """Settings of a preset for ``LossManager.create_loss_function``, a copy of one's own.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in LOSS_PRESETS:
        raise ConfigError(f"loss preset {name!r} is unknown. Available: {', '.join(LOSS_PRESETS)}.")
    return copy.deepcopy(LOSS_PRESETS[name])


def loss_config_for_focus(focus: str) -> dict[str, Any]:
    """Settings for what matters most: balanced, recall, precision, boundary or imbalance; a copy of one's own.

    Raises:
        ConfigError: If the focus is unknown.
    """
    if _canonical(focus) not in FOCUSES:
        raise ConfigError(f"loss focus {focus!r} is unknown. Available: {', '.join(FOCUSES)}.")
    return copy.deepcopy(FOCUSES[_canonical(focus)])


def loss_config_for_data(
    positive_share: float, *, object_share: float | None = None, boundary_share: float | None = None
) -> dict[str, Any]:
    """Settings that suit a data set, by the first of these that holds.

    Args:
        positive_share: Share of pixels with target 1, 0..1. Below 0.05: imbalance.
        object_share: Mean area of an object as a share of the picture. Below 0.05: recall.
        boundary_share: Share of pixels on a boundary. Above 0.1: boundary. Otherwise balanced.

    Raises:
        ConfigError: If a share is not in 0..1.
    """
    shares = {"positive_share": positive_share, "object_share": object_share, "boundary_share": boundary_share}
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            raise ConfigError(f"{name} is {share:g}, but a share must be in 0..1.")
    if positive_share < _RARE:
        return loss_config_for_focus("imbalance")
    if object_share is not None and object_share < _SMALL:
        return loss_config_for_focus("recall")
    if boundary_share is not None and boundary_share > _RUGGED:
        return loss_config_for_focus("boundary")
    return loss_config_for_focus("balanced")


def _probabilities(values: Tensor) -> Tensor:
    """The values, looked at on the CPU only: reading them stalls other devices."""
    if values.is_cpu and values.numel():
        low, high = torch.aminmax(values.detach())
        if low < 0 or high > 1:  # NaN is for the guard, which knows which pixels count
            raise ModelError(
                f"Values from {float(low):g} to {float(high):g} are no probabilities. Leave out from_logits=False, so "
                "that they are taken as logits."
            )
    return values


def _canonical(name: str) -> str:
    name = name.strip().lower()
    return _ALIASES.get(name, name)


def _is_weight(key: str) -> bool:
    return key.endswith("_weight") and key.removesuffix("_weight") in available_terms()


def _sort_settings(config: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Mapping[str, Any]]]:
    """Weights and options by term; whatever else there is must be known."""
    weights: dict[str, float] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    for key, value in config.items():
        if _is_weight(key):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"loss: {key} is {value!r}, but must be a number of 0 or more.")
            weights[key.removesuffix("_weight")] = float(value)
        elif key.endswith("_config") and key.removesuffix("_config") in available_terms():
            if not isinstance(value, Mapping):
                raise ConfigError(f"loss: {key} is {value!r}, but must hold options by name.")
            configs[key.removesuffix("_config")] = value
        elif key not in ("type", "weights", "normalize_weights", "scheduler"):
            raise ConfigError(
                f"loss: unknown setting {key!r}. Available: type, weights, normalize_weights, scheduler, and "
                f"<term>_weight and <term>_config for the terms {', '.join(available_terms())}."
            )
    return weights, configs


def _mode(config: Mapping[str, Any]) -> Mode:
    if "weights" in config and "normalize_weights" in config:
        raise ConfigError("loss: weights and normalize_weights say the same thing; give one of them.")
    if "normalize_weights" in config:
        return "normalize" if config["normalize_weights"] else "raw"
    mode: Mode = config.get("weights", "normalize")
    return mode


def _term(name: str, options: Mapping[str, Any]) -> Term:
    """A term of settings, where Dice may be Jaccard and cross entropy focal, under the name it was given."""
    options = dict(options)
    if name == "dice" and options.pop("jaccard", False):
        return build_term("jaccard", **options)
    if name != "bce":
        return build_term(name, **options)
    gamma, alpha = options.pop("gamma", 0.0), options.pop("alpha", None)
    if not gamma and alpha is None:
        return build_term("bce", **options)
    if options.pop("pos_weight", None) not in (None, 1):
        raise ConfigError(
            "loss: bce_config.pos_weight does not go with gamma or alpha. Use alpha for the class weight."
        )
    if options:
        raise ConfigError(f"loss: bce_config.{next(iter(options))} does not go with gamma or alpha.")
    return build_term("focal", gamma=gamma, alpha=alpha)

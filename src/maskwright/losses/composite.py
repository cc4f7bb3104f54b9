"""Weighted sums of losses, every term kept by name for the log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from maskwright.errors import ConfigError, ShapeError
from maskwright.losses.fused import FusedTerms, fused_loss
from maskwright.losses.overlap import Reduction
from maskwright.losses.pixel import check_classes, check_shapes
from maskwright.losses.terms import MEASURES, TERMS, Takes, Term, Weight, build_term
from maskwright.types import LossOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["TERMS", "CombinedLoss", "Mode", "check_sum", "resolve_weights"]

Mode = Literal["strict", "normalize", "raw"]
_FUSED = ("bce", "dice", "focal")
_SUM_TOLERANCE = 1e-6


class CombinedLoss(nn.Module):
    """Any losses with one kind of target on the same logits, weighted and added.

    A term is a sum (over pixels or over samples) and a weight that depends on ``valid`` alone. Given the weights of a
    whole accumulation group, the totals of its batches add up to the loss of the one big batch; ``adds_up`` is False
    where a term is taken over the batch and this does not hold.

    Args:
        terms: Factor of each term; 0 leaves a term out. Names are those of ``build_term`` or of ``functions``.
        mode: ``strict``: factors must add up to 1. ``normalize``: they are divided by their sum. ``raw``: as they are.
        functions: Terms by name, for other options than the ones below or for losses of one's own.
        pos_weight: Larger than 0. Weight of pixels with target 1 in the term bce.
        label_smoothing: In 0..0.5. Distance of the targets from 0 and 1 in the term bce.
        dice_smooth: Larger than 0. Added above and below the ratio of the term dice, in pixels.
        dice_reduction: ``sample``: overlap per tile. ``batch``: over the batch, which depends on how tiles are grouped.
        squared_pred: Squares below the ratio of the term dice.
        focal_alpha: In 0..1. Weight of pixels with target 1 in the term focal, 1 minus this for the others.
        focal_gamma: 0 or more. How strongly easy pixels are played down in the term focal.

    Raises:
        ConfigError: If a term is unknown, negative, all are 0, or they take different kinds of target.
    """

    def __init__(
        self,
        terms: Mapping[str, float],
        *,
        mode: Mode = "raw",
        functions: Mapping[str, Term] | None = None,
        pos_weight: float = 1.0,
        label_smoothing: float = 0.0,
        dice_smooth: float = 1.0,
        dice_reduction: Reduction = "sample",
        squared_pred: bool = False,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.pos_weight = pos_weight
        self.label_smoothing = label_smoothing
        self.dice_smooth = dice_smooth
        self.dice_reduction: Reduction = dice_reduction
        self.squared_pred = squared_pred
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        own = dict(functions or {})
        self.functions = {name: own.get(name) or self._build_term(name) for name in _in_order(terms)}
        self.takes = _target_of(self.functions)
        self._seats = _seats(self.functions)
        self.terms = self._resolve(terms, mode)

    @property
    def adds_up(self) -> bool:
        """Whether the totals of the batches of a group add up to the loss of one big batch."""
        return all(self.functions[name].adds_up for name in self.terms)

    @property
    def weights(self) -> dict[str, float]:
        """The factors of the terms, a copy."""
        return dict(self.terms)

    def update_weights(self, weights: Mapping[str, float], mode: Mode = "normalize") -> None:
        """Set the factors of some terms anew; the others keep theirs.

        Args:
            weights: New factors, by the names the loss was built with.
            mode: As in the constructor, for all factors together.

        Raises:
            ConfigError: If a name is unknown or the factors make no sense; the loss is then as before.
        """
        unknown = sorted(set(weights) - set(self.functions))
        if unknown:
            available = ", ".join(self.functions)
            raise ConfigError(f"loss: this loss has no term {unknown[0]!r}. It was built with: {available}.")
        self.terms = self._resolve({**self.terms, **weights}, mode)

    def measure(self, valid: Tensor, channels: int) -> dict[str, Tensor]:
        """What sums are divided by: add these over the batches and ranks that belong to one update.

        Args:
            valid: (B, H, W) bool.
            channels: K of the logits.

        Returns:
            ``pixels``: (pixel, channel) pairs that count; ``samples``: (sample, channel) pairs with such a pixel; for
            terms that need them also ``positions``, pixels that count, and ``images``, samples with such a pixel.
            Float64 scalars on the mask's device.
        """
        needed: dict[Weight, None] = dict.fromkeys(("pixels", "samples"))
        needed |= dict.fromkeys(term.weight for term in self.functions.values())
        return {weight: MEASURES[weight](valid, channels) for weight in needed}

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        weights: Mapping[str, Tensor] | None = None,
        sample_weights: Tensor | None = None,
        given: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """The loss of a batch, or its part in the loss of a group.

        Args:
            logits: (B, K, H, W) float, before sigmoid or softmax.
            target: What the terms take. Yes-or-no questions: (B, K, H, W) float, exactly 0 or 1. Classes: (B, H, W)
                class ids. Numbers: (B, K, H, W) float.
            valid: (B, H, W) bool; other pixels add nothing and receive a gradient of exactly 0.
            weights: The added ``measure`` of the group; None: this batch stands alone.
            sample_weights: (B, K) float, 0 or more, or (B, 1): every term of a sample and channel is multiplied by
                its own; averaging to 1 keeps the size of the loss. None: all count alike, which is faster.
            given: Sums of samples by term, for terms that are taken of something else than logits; they come weighed.

        Returns:
            The total, and each term's value without its factor. Without a pixel that counts: 0 with a gradient of 0.

        Raises:
            ShapeError: If the tensors do not fit together.
        """
        divisors = self._divisors(logits, target, valid, weights)
        if not logits.is_cpu or sample_weights is not None:
            return self._plain(logits, target, valid, divisors, sample_weights, given)
        # One sweep on the CPU, where moving memory is the cost.
        return self._swept(logits, target, valid, divisors, given)

    def values(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        weights: Mapping[str, Tensor] | None = None,
        sample_weights: Tensor | None = None,
        given: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Each term without its factor, with its gradient; arguments and errors as in ``forward``."""
        divisors = self._divisors(logits, target, valid, weights)
        return {name: self._value(name, logits, target, valid, divisors, sample_weights, given) for name in self.terms}

    def components(self, output: LossOutput) -> dict[str, Tensor | float]:
        """An output told apart: for each term its value, factor and their product, and ``total_loss`` with gradient."""
        told: dict[str, Tensor | float] = {}
        for name, value in output.terms.items():
            told |= {
                f"{name}_loss": value,
                f"{name}_weight": self.terms[name],
                f"{name}_weighted": self.terms[name] * value,
            }
        return {**told, "total_loss": output.total}

    def _build_term(self, name: str) -> Term:
        options: dict[str, dict[str, object]] = {
            "bce": {"pos_weight": self.pos_weight, "label_smoothing": self.label_smoothing},
            "dice": {
                "smooth": self.dice_smooth,
                "reduction": self.dice_reduction,
                "squared_pred": self.squared_pred,
            },
            "focal": {"alpha": self.focal_alpha, "gamma": self.focal_gamma},
        }
        return build_term(name, **options.get(name, {}))

    def _resolve(self, terms: Mapping[str, float], mode: Mode) -> dict[str, float]:
        """Factors above 0, in the order of the functions."""
        weights = resolve_weights(terms, mode)
        return {name: float(weights[name]) for name in self.functions if weights.get(name, 0) > 0}

    def _divisors(
        self, logits: Tensor, target: Tensor, valid: Tensor, weights: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        (check_classes if self.takes == "classes" else check_shapes)(logits, target, valid)
        weights = self.measure(valid, logits.shape[1]) if weights is None else weights
        return {name: weights[self.functions[name].weight].clamp(min=1) for name in self.terms}  # an empty sum stays 0

    def _plain(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        divisors: Mapping[str, Tensor],
        sample_weights: Tensor | None = None,
        given: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """The formulas as written."""
        values = {
            name: self._value(name, logits, target, valid, divisors, sample_weights, given) for name in self.terms
        }
        total = torch.stack([factor * values[name] for name, factor in self.terms.items()]).sum()
        return LossOutput(total, {name: value.detach() for name, value in values.items()})

    def _swept(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        divisors: Mapping[str, Tensor],
        given: Mapping[str, Tensor] | None = None,
    ) -> LossOutput:
        """The terms that share a sweep by it, the others as written."""
        seats = {seat: name for seat, name in self._seats.items() if name in self.terms}
        parts, values = self._fused(seats, logits, target, valid, divisors) if seats else ([], {})
        for name, factor in self.terms.items():
            if name not in values:
                value = self._value(name, logits, target, valid, divisors, None, given)
                parts.append(factor * value)
                values[name] = value.detach()
        return LossOutput(torch.stack(parts).sum(), {name: values[name] for name in self.terms})

    def _fused(
        self, seats: Mapping[str, str], logits: Tensor, target: Tensor, valid: Tensor, divisors: Mapping[str, Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The weighted sum of the terms in the sweep's seats, and the value of each."""
        factors = {seat: self.terms[name] / float(divisors[name]) for seat, name in seats.items()}
        options = {seat: self.functions[seats[seat]].options if seat in seats else {} for seat in _FUSED}
        total, sums = fused_loss(
            logits,
            target,
            valid,
            FusedTerms(
                bce=factors.get("bce", 0.0),
                dice=factors.get("dice", 0.0),
                focal=factors.get("focal", 0.0),
                pos_weight=options["bce"].get("pos_weight", 1.0),
                label_smoothing=options["bce"].get("label_smoothing", 0.0),
                smooth=options["dice"].get("smooth", 1.0),
                by_batch=options["dice"].get("reduction") == "batch",
                alpha=options["focal"].get("alpha", 0.5),
                gamma=options["focal"].get("gamma", 0.0),
            ),
        )
        values = dict(zip(_FUSED, sums.unbind(), strict=True))
        return [total], {name: values[seat] / divisors[name].to(total.dtype) for seat, name in seats.items()}

    def _value(
        self,
        name: str,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        divisors: Mapping[str, Tensor],
        sample_weights: Tensor | None,
        given: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        if given and name in given:
            sums = given[name]
        else:
            sums = self.functions[name].by_sample(logits, target, valid)
            if sample_weights is not None:
                sums = sums * _fitting(sample_weights, sums)
        return sums.sum() / divisors[name].to(sums.dtype)


def resolve_weights(weights: Mapping[str, float], mode: Mode) -> dict[str, float]:
    """Factors after ``mode``: checked to add up to 1, divided by their sum, or as they are.

    Raises:
        ConfigError: If one is negative or no number, all are 0, the mode is unknown, or ``strict`` does not hold.
    """
    if not all(math.isfinite(factor) and factor >= 0 for factor in weights.values()) or not any(weights.values()):
        raise ConfigError(f"loss: factors {dict(weights)} must be 0 or more, and one of them above 0.")
    if mode == "strict":
        check_sum(weights)
    elif mode == "normalize":
        total = sum(weights.values())
        return {name: factor / total for name, factor in weights.items()}
    elif mode != "raw":
        raise ConfigError(f"loss: mode {mode!r} is none of strict, normalize, raw.")
    return dict(weights)


def check_sum(weights: Mapping[str, float]) -> None:
    """Raise ConfigError unless the weights add up to 1, within 1e-6."""
    total = sum(weights.values())
    if abs(total - 1) > _SUM_TOLERANCE:
        parts = " + ".join(weights)
        raise ConfigError(f"{parts} = {total:g}, but must be 1. Divide each by {total:g} or set them anew.")


def _in_order(terms: Mapping[str, float]) -> list[str]:
    """Known terms in the order of their table, then the others as given: the log does not depend on who wrote it."""
    known = [name for name in TERMS if name in terms]
    return known + [name for name in terms if name not in TERMS]


def _seats(functions: Mapping[str, Term]) -> dict[str, str]:
    """Which terms the fused sweep can take: its bce, dice and focal to their names here. One of each, of its kind."""
    seats: dict[str, str] = {}
    for name, term in functions.items():
        squares, unweighted = term.options.get("squared_pred", False), term.options.get("alpha", 0) is None
        if term.known in _FUSED and not squares and not unweighted:
            seats.setdefault(term.known, name)
    return seats


def _target_of(functions: Mapping[str, Term]) -> Takes:
    kinds: dict[Takes, str] = {}
    for name, term in functions.items():
        kinds.setdefault(term.takes, name)
    if len(kinds) > 1:
        (kind, name), (other_kind, other), *_ = kinds.items()
        raise ConfigError(
            f"loss: term {name!r} takes {kind} for a target, {other!r} takes {other_kind}. "
            "Combine terms that take the same kind."
        )
    return next(iter(kinds), "channels")


def _fitting(sample_weights: Tensor, sums: Tensor) -> Tensor:
    if sums.ndim != 2 or sample_weights.shape not in (sums.shape, (sums.shape[0], 1)):
        raise ShapeError(
            f"sample_weights are {tuple(sample_weights.shape)}, the loss has {tuple(sums.shape)}: a number for each "
            "sample and channel, or one for each sample."
        )
    return sample_weights.to(sums.dtype)

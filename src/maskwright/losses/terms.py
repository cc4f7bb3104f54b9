"""Every loss as a term: what it sums for each sample, what the sum is divided by, and what it takes for a target."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from maskwright.errors import ConfigError
from maskwright.losses.overlap import (
    count_images,
    count_samples,
    dice_by_sample,
    jaccard_by_sample,
    lovasz_by_sample,
    lovasz_softmax_by_sample,
    tversky_by_sample,
)
from maskwright.losses.pixel import (
    balanced_bce_by_sample,
    bce_by_sample,
    check_classes,
    class_focal_by_sample,
    count_pixels,
    count_positions,
    cross_entropy_by_sample,
    focal_by_sample,
    one_hot,
)
from maskwright.losses.regression import (
    absolute_by_sample,
    absolute_squared_by_sample,
    huber_by_sample,
    squared_by_sample,
)
from maskwright.losses.shape import boundary_by_sample, cldice_by_sample

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MEASURES", "TERMS", "Takes", "Term", "Weight", "available_terms", "build_term"]

Weight = Literal[
    "pixels",
    "samples",
    "positions",
    "images",
    "samples_with_objects",  # these four are counted by the tasks of objects, from what labels tell
    "pixels_with_class",
    "pixels_with_diameter",
    "pixels_with_density",
]
Takes = Literal["channels", "classes", "values"]

MEASURES: dict[Weight, Callable[[Tensor, int], Tensor]] = {
    "pixels": count_pixels,  # (pixel, channel) pairs that count
    "samples": count_samples,  # (sample, channel) pairs with such a pixel
    "positions": lambda valid, _: count_positions(valid),  # pixels that count
    "images": lambda valid, _: count_images(valid),  # samples with such a pixel
}


@dataclass(frozen=True)
class Term:
    """One summand of a loss.

    Attributes:
        by_sample: (logits, target, valid) to the sums of each sample and channel, (B, K), or of each sample, (B, 1).
        weight: What the added sums are divided by, a key of ``MEASURES``; it depends on ``valid`` alone.
        takes: What the target is. ``channels``: (B, K, H, W) float 0 or 1, channels are questions of their own.
            ``classes``: (B, H, W) class ids, channels exclude each other. ``values``: (B, K, H, W) float numbers.
        adds_up: False for losses over the batch: parts of an accumulation group do not add up to one big batch.
        known: The name of the loss, one of ``available_terms``; empty for a loss of one's own.
        options: All options of a known loss.
    """

    by_sample: Callable[[Tensor, Tensor, Tensor], Tensor]
    weight: Weight
    takes: Takes = "channels"
    adds_up: bool = True
    known: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def build_term(name: str, **options: Any) -> Term:
    """A known loss as a term.

    Args:
        name: One of ``available_terms()``.
        options: The options of the loss, for example ``alpha=0.3, beta=0.7`` for ``tversky``.

    Raises:
        ConfigError: If the name or an option is unknown, or the value of an option is senseless.
    """
    if name not in _FUNCTIONS:
        raise ConfigError(f"loss: unknown term {name!r}. Available: {', '.join(_FUNCTIONS)}.")
    function, weight, takes = _FUNCTIONS[name]
    defaults = {
        option.name: option.default
        for option in inspect.signature(function).parameters.values()
        if option.kind is inspect.Parameter.KEYWORD_ONLY
    }
    has_activation = defaults.pop("activation", None) is not None  # not an option: the name of the term tells it
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        allowed = f"Available: {', '.join(defaults)}." if defaults else "It has none."
        raise ConfigError(f"loss: term {name!r} has no option {unknown[0]!r}. {allowed}")
    _check_options(name, options)
    options = {**defaults, **options}
    by_sample: Callable[..., Tensor] = partial(function, **options)
    if has_activation and takes == "classes":
        by_sample = partial(_of_classes, partial(by_sample, activation="softmax"))
    return Term(by_sample, weight, takes, options.get("reduction") != "batch", known=name, options=options)


def available_terms(takes: Takes | None = None) -> tuple[str, ...]:
    """Names ``build_term`` knows: all, or those with one kind of target."""
    return tuple(name for name, (_, _, kind) in _FUNCTIONS.items() if takes in (None, kind))


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        place = f"loss: {name}.{option}"
        if option in _WORDS:
            if value not in _WORDS[option]:
                raise ConfigError(f"{place}: {value!r} is none of {', '.join(map(str, _WORDS[option]))}.")
        elif option == "class_weights":
            if value is not None and not (all(math.isfinite(each) and each >= 0 for each in value) and any(value)):
                raise ConfigError(f"{place}: {list(value)} must be 0 or more, and one of them above 0.")
        elif not (name == "focal" and option == "alpha" and value is None):
            _check_number(place, value, _RANGES.get(f"{name}.{option}") or _RANGES[option])
            if option in _WHOLE and value != int(value):
                raise ConfigError(f"{place}: {value} must be a whole number.")
        if option in ("width_px", "tolerance_px") and value % 2 == 0:
            raise ConfigError(f"{place}: {value} must be odd, so that the square has a middle pixel.")
    if name.endswith("tversky") and options.get("alpha", 1) == options.get("beta", 1) == 0:
        raise ConfigError(f"loss: {name}.alpha and {name}.beta are both 0; nothing would cost anything.")


def _check_number(place: str, value: Any, limits: tuple[float, float, bool]) -> None:
    low, high, open_below = limits
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{place}: {value!r} must be a number.")
    if not (low < value if open_below else low <= value) or not value <= high or not math.isfinite(value):
        below = "above" if open_below else "at least"
        above = "" if math.isinf(high) else f" and at most {high:g}"
        raise ConfigError(f"{place}: {value:g} must be {below} {low:g}{above}.")


def _of_classes(
    function: Callable[[Tensor, Tensor, Tensor], Tensor], logits: Tensor, classes: Tensor, valid: Tensor
) -> Tensor:
    """A loss of overlap that takes class ids for a target."""
    check_classes(logits, classes, valid)
    return function(logits, one_hot(classes, valid, logits.shape[1]), valid)


_WHOLE = ("iterations", "tolerance_px", "width_px")
_WORDS: dict[str, tuple[object, ...]] = {
    "reduction": ("sample", "batch"),
    "form": ("hinge", "sigmoid"),
    "squared_pred": (True, False),
}
_RANGES: dict[str, tuple[float, float, bool]] = {  # lowest, highest, whether the lowest itself is refused
    "alpha": (0, 1, False),
    "bce.label_smoothing": (0, 0.5, False),
    "beta": (0, math.inf, False),
    "cap": (1, math.inf, False),
    "class_tversky.alpha": (0, math.inf, False),
    "gamma": (0, math.inf, False),
    "huber.beta": (0, math.inf, True),
    "iterations": (0, math.inf, False),
    "label_smoothing": (0, 1, False),
    "pos_weight": (0, math.inf, True),
    "smooth": (0, math.inf, True),
    "squared_share": (0, 1, False),
    "tolerance_px": (1, math.inf, False),
    "tversky.alpha": (0, math.inf, False),
    "width_px": (3, math.inf, False),
}


_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], Weight, Takes]] = {
    "bce": (bce_by_sample, "pixels", "channels"),
    "dice": (dice_by_sample, "samples", "channels"),
    "focal": (focal_by_sample, "pixels", "channels"),
    "jaccard": (jaccard_by_sample, "samples", "channels"),
    "tversky": (tversky_by_sample, "samples", "channels"),
    "lovasz": (lovasz_by_sample, "samples", "channels"),
    "boundary": (boundary_by_sample, "samples", "channels"),
    "cldice": (cldice_by_sample, "samples", "channels"),
    "balanced_bce": (balanced_bce_by_sample, "pixels", "channels"),
    "cross_entropy": (cross_entropy_by_sample, "positions", "classes"),
    "class_focal": (class_focal_by_sample, "positions", "classes"),
    "class_dice": (dice_by_sample, "samples", "classes"),
    "class_jaccard": (jaccard_by_sample, "samples", "classes"),
    "class_tversky": (tversky_by_sample, "samples", "classes"),
    "lovasz_softmax": (lovasz_softmax_by_sample, "images", "classes"),
    "absolute": (absolute_by_sample, "pixels", "values"),
    "squared": (squared_by_sample, "pixels", "values"),
    "huber": (huber_by_sample, "pixels", "values"),
    "absolute_squared": (absolute_squared_by_sample, "pixels", "values"),
}
TERMS: dict[str, Weight] = {  # terms of yes-or-no questions: what their sum is divided by
    name: weight for name, (_, weight, takes) in _FUNCTIONS.items() if takes == "channels"
}

"""What the training minimises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic
from pydantic import model_validator

from maskwright.config.base import Field, Section, refuse

__all__ = [
    "AdaptiveLossSchedule",
    "CombinedLossConfig",
    "CosineLossSchedule",
    "LossConfig",
    "LossScheduleConfig",
    "MultitaskLossConfig",
    "NoLossSchedule",
    "PerformanceLossSchedule",
    "RegressionLossConfig",
    "StepLossSchedule",
]


_COMBINED = (
    "bce",
    "dice",
    "focal",
    "jaccard",
    "tversky",
    "lovasz",
    "boundary",
    "cldice",
    "balanced_bce",
    "likelihood",
)


class NoLossSchedule(Section):
    """Weights of terms stay as they are."""

    kind: Literal["none"] = Field("none", help="Weights stay.")


class _LossSchedule(Section):
    """One share moves, that of the lead term; the others divide the rest as they did at the start."""

    lead: str | None = Field(None, help="Term whose share moves; unset: dice where there is one, else the first.")


class _Bounded(Section):
    min_weight: float = Field(0.5, gt=0, lt=1, help="Smallest share of the lead term.")
    max_weight: float = Field(0.9, gt=0, lt=1, help="Largest share of the lead term.")

    @model_validator(mode="after")
    def _bounds_rise(self) -> _Bounded:
        if self.min_weight > self.max_weight:
            raise ValueError(f"min_weight: {self.min_weight:g} is above max_weight, {self.max_weight:g}")
        return self


class AdaptiveLossSchedule(_Bounded, _LossSchedule):
    """The lead term rises while a score is high and falls while it is low."""

    kind: Literal["adaptive"] = Field("adaptive", help="Up where the score is high, down where it is low.")
    monitor: str = Field("val/dice", help="The score.")
    high: float = Field(0.8, ge=0, le=1, help="Scores above this are high.")
    low: float = Field(0.4, ge=0, le=1, help="Scores below this are low.")
    rise: float = Field(1.1, ge=1, help="Factor of the share where the score is high.")
    fall: float = Field(0.9, gt=0, le=1, help="Factor of the share where the score is low.")


class CosineLossSchedule(_Bounded, _LossSchedule):
    """The lead term falls along half a cosine."""

    kind: Literal["cosine"] = Field("cosine", help="Down along half a cosine.")
    max_epochs: int = Field(100, ge=1, unit="epochs", help="Epochs until the smallest share is reached.")


class StepLossSchedule(_LossSchedule):
    """The lead term rises by steps."""

    kind: Literal["step"] = Field("step", help="Up by a step every few epochs.")
    step_size: int = Field(20, ge=1, unit="epochs", help="Epochs from one step to the next.")
    weight_step: float = Field(0.1, ge=0, le=1, help="Height of a step.")
    max_weight: float = Field(0.9, gt=0, lt=1, help="Largest share of the lead term.")


class PerformanceLossSchedule(_LossSchedule):
    """The lead term falls where a score has dropped since the epoch before."""

    kind: Literal["performance"] = Field("performance", help="Down after an epoch in which the score dropped.")
    monitor: str = Field("val/dice", help="The score.")
    drop: float = Field(0.01, ge=0, help="Larger drops count.")
    weight_step: float = Field(0.05, ge=0, le=1, help="How far the share falls.")
    min_weight: float = Field(0.5, gt=0, lt=1, help="Smallest share of the lead term.")


LossScheduleConfig = Annotated[
    NoLossSchedule | AdaptiveLossSchedule | CosineLossSchedule | StepLossSchedule | PerformanceLossSchedule,
    pydantic.Field(discriminator="kind"),
]


class _WeighedTerms(Section):
    """What every sum of losses shares."""

    weights: Literal["strict", "normalize", "raw"] = Field(
        "strict", help="strict: weights must add up to 1; normalize: divided by their sum; raw: taken as they are."
    )
    schedule: LossScheduleConfig = Field(
        default_factory=NoLossSchedule, help="How the weights of the terms move from epoch to epoch."
    )
    learn_weights: bool = Field(
        False,
        help="Learn a factor for each term beside the network (uncertainty weighting, bounded so that none can run "
        "away); reported losses keep the weights said here.",
    )

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        raise NotImplementedError

    def _faults_of_weights(self, always: tuple[str, ...]) -> list[str]:
        """Weights that do not add up; ``always`` are the terms a sum names even where they weigh nothing."""
        faults = []
        total = sum(self.terms.values())
        used = [name for name, weight in self.terms.items() if weight]
        if total <= 0:
            faults.append(f"{_enumerate(self.terms)} are all 0; at least one term needs a weight")
        elif self.weights == "strict" and abs(total - 1) > 1e-6:
            named = [name for name in self.terms if name in used or name in always]
            faults.append(f"{' + '.join(named)} = {total:g}, but must be 1; or set weights: normalize or raw")
        if self.schedule.kind != "none" and total > 0:
            faults += self._faults_of_schedule(used)
        return faults

    def _faults_of_schedule(self, used: list[str]) -> list[str]:
        lead = getattr(self.schedule, "lead", None)
        faults = []
        if len(used) < 2:
            faults.append(
                f"schedule: weight is shifted between terms, and {used[0]} is the only one. Give two a weight"
            )
        elif lead is not None and lead not in used:
            faults.append(f"schedule.lead: {lead} has no weight. Terms with a weight: {', '.join(used)}")
        if self.learn_weights:
            faults.append("schedule: learn_weights moves the weights as well. Keep one of the two")
        return faults


class CombinedLossConfig(_WeighedTerms):
    """Weighted sum of losses; each term is kept by name for the log."""

    kind: Literal["combined"] = Field("combined", help="Weighted sum of terms.")
    bce: float = Field(
        0.5,
        ge=0,
        help="Weight of cross entropy: of yes or no, or of classes that exclude each other, as the task is. Where "
        "images are learned from and no weight is said: bce and dice 0.5 each, focal 0.",
    )
    dice: float = Field(0.3, ge=0, help="Weight of the Dice loss.")
    focal: float = Field(0.2, ge=0, help="Weight of the focal loss.")
    jaccard: float = Field(0.0, ge=0, help="Weight of the Jaccard loss (intersection over union).")
    tversky: float = Field(0.0, ge=0, help="Weight of the Tversky loss, which weighs false alarms and misses apart.")
    lovasz: float = Field(0.0, ge=0, help="Weight of the Lovasz loss, a surrogate of intersection over union.")
    boundary: float = Field(0.0, ge=0, help="Weight of the boundary loss, the F1 score of outlines.")
    cldice: float = Field(0.0, ge=0, help="Weight of the centre line loss, which keeps thin things connected.")
    balanced_bce: float = Field(
        0.0, ge=0, help="Weight of cross entropy in which gaps and the rest of a tile count alike."
    )
    likelihood: float = Field(
        0.0,
        ge=0,
        help="Weight of the negative log density of the canopy height, for model.kind height_cdf. Alone, with the "
        "other weights at 0, it trains all heights at once.",
    )
    pos_weight: Annotated[float, pydantic.Field(gt=0)] | Literal["auto"] = Field(
        1.0,
        help="Weight of gap or foreground pixels in binary cross entropy; auto: measured on the training tiles, so "
        "that both sides count alike, within 0.1 and 10.",
    )
    class_weights: tuple[Annotated[float, pydantic.Field(ge=0)], ...] | Literal["auto"] | None = Field(
        None,
        help="Weight of each class, background first, in cross entropy and focal loss of classes that exclude each "
        "other; auto: measured on the training tiles, rare classes weigh more. Unset: all alike.",
    )
    height_weights: Literal["none", "rare_gaps", "imbalance"] = Field(
        "none",
        help="Weight of each tile by the height it is asked for, from the gap shares of the training tiles: rare_gaps: "
        "heights with few gaps more; imbalance: also heights where nearly all is gap.",
    )
    height_weights_cap: float = Field(10.0, ge=1, advanced=True, help="How many times one height may weigh another.")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, help="Targets are moved this far from 0 and 1 in cross entropy.")
    dice_smooth: float = Field(1.0, gt=0, unit="px", help="Added above and below the Dice ratio.")
    dice_reduction: Literal["sample", "batch"] = Field(
        "sample",
        help="Overlap per tile, or over the whole batch (depends on how tiles are grouped). Unsaid for tasks that "
        "learn from images: batch, since a tile with nothing to find would reward calling nothing.",
    )
    focal_alpha: float = Field(
        0.25, ge=0, le=1, help="Weight of gap or foreground pixels in the focal loss; 1 minus this for others."
    )
    focal_gamma: float = Field(2.0, ge=0, help="How strongly easy pixels are played down in the focal loss.")

    overlap_smooth: float = Field(
        1.0,
        gt=0,
        unit="px",
        advanced=True,
        help="Added above and below the Jaccard, Tversky, boundary and centre line ratios.",
    )
    overlap_reduction: Literal["sample", "batch"] = Field(
        "sample",
        advanced=True,
        help="Jaccard, Tversky and Lovasz per tile, or over the whole batch (depends on how tiles are grouped). Unsaid "
        "for tasks that learn from images: batch.",
    )
    tversky_alpha: float = Field(0.3, ge=0, advanced=True, help="Weight of false alarms in the Tversky loss.")
    tversky_beta: float = Field(0.7, ge=0, advanced=True, help="Weight of misses in the Tversky loss.")
    lovasz_form: Literal["hinge", "sigmoid"] = Field(
        "hinge", advanced=True, help="hinge: errors of logits, without upper bound; sigmoid: of probabilities, 0..1."
    )
    boundary_width_px: int = Field(
        3, ge=3, unit="px", advanced=True, help="Side of the square that makes an outline; odd."
    )
    boundary_tolerance_px: int = Field(
        5, ge=1, unit="px", advanced=True, help="Side of the square within which two outlines meet; odd."
    )
    cldice_iterations: int = Field(
        3, ge=0, advanced=True, help="Half the width, in pixels, of the widest thing thinned to its centre line."
    )
    balanced_bce_cap: float = Field(
        10.0, ge=1, advanced=True, help="How many times a gap pixel may weigh another in balanced cross entropy."
    )

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        return {name: getattr(self, name) for name in _COMBINED}

    @model_validator(mode="after")
    def _settings_make_sense(self) -> CombinedLossConfig:
        refuse(self._faults())
        return self

    def _faults(self) -> list[str]:
        faults = self._faults_of_weights(always=("bce", "dice", "focal"))
        if self.tversky_alpha == self.tversky_beta == 0:
            faults.append("tversky_alpha and tversky_beta are both 0; nothing would cost anything")
        for name in ("boundary_width_px", "boundary_tolerance_px"):
            if getattr(self, name) % 2 == 0:
                faults.append(f"{name} is {getattr(self, name)}, but must be odd: the square needs a middle pixel")
        return faults


class RegressionLossConfig(_WeighedTerms):
    """Weighted sum of errors in metres."""

    kind: Literal["regression"] = Field("regression", help="Weighted sum of errors of heights.")
    absolute: float = Field(0.0, ge=0, help="Weight of the absolute error.")
    squared: float = Field(0.0, ge=0, help="Weight of the squared error.")
    huber: float = Field(1.0, ge=0, help="Weight of the Huber loss: squared for small errors, absolute for large ones.")
    huber_beta_m: float = Field(1.0, gt=0, unit="m", help="Error at which the Huber loss turns from one to the other.")

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        return {"absolute": self.absolute, "squared": self.squared, "huber": self.huber}

    @model_validator(mode="after")
    def _settings_make_sense(self) -> RegressionLossConfig:
        refuse(self._faults_of_weights(always=()))
        return self


class MultitaskLossConfig(_WeighedTerms):
    """Weighted sum of what tasks of objects learn; a kind of label that a sample lacks leaves its term out there."""

    kind: Literal["multitask"] = Field("multitask", help="Weighted sum over objects, land cover, crowns and density.")
    weights: Literal["strict", "normalize", "raw"] = Field(
        "raw", help="strict: weights must add up to 1; normalize: divided by their sum; raw: taken as they are."
    )
    instance: float = Field(1.0, ge=0, help="Weight of centres and offsets, or of the losses of a Mask R-CNN.")
    semantic: float = Field(1.0, ge=0, help="Weight of the cross entropy of classes.")
    crown: float = Field(0.5, ge=0, help="Weight of the squared error of crown diameters; for task agroforestry.")
    density: float = Field(0.5, ge=0, help="Weight of the squared error of the density; for task agroforestry.")

    @property
    def terms(self) -> dict[str, float]:
        """The weight of each term, by its name."""
        return {name: getattr(self, name) for name in ("instance", "semantic", "crown", "density")}

    @model_validator(mode="after")
    def _settings_make_sense(self) -> MultitaskLossConfig:
        refuse(self._faults_of_weights(always=()))
        return self


def _enumerate(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}"


LossConfig = Annotated[
    CombinedLossConfig | RegressionLossConfig | MultitaskLossConfig, pydantic.Field(discriminator="kind")
]

"""Optimizer and learning-rate schedule. Lengths are said in epochs; inside, schedules count optimizer steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import field_validator, model_validator

from maskwright.config.base import Field, Section, refuse
from maskwright.config.metric_names import canonical_metric

__all__ = [
    "OPTIMIZER_NAMES",
    "SCHEDULE_NAMES",
    "USUAL_WARMUP_EPOCHS",
    "WARMED",
    "AdamConfig",
    "AdamWConfig",
    "AdaptiveSchedule",
    "ConstantSchedule",
    "CosineSchedule",
    "CyclicCosineSchedule",
    "ExponentialSchedule",
    "OneCycleSchedule",
    "OptimConfig",
    "OptimGroup",
    "OptimizerConfig",
    "PlateauSchedule",
    "PolynomialSchedule",
    "RMSpropConfig",
    "SGDConfig",
    "ScheduleConfig",
    "StepSchedule",
    "WarmRestartsSchedule",
    "optimizer_kind",
    "plain_word",
    "schedule_kind",
]

USUAL_WARMUP_EPOCHS = 5.0

_DECAY_HELP = "Pull of weights towards 0; not applied to biases and norms."

SCHEDULE_NAMES: dict[str, str] = {
    "adaptive": "adaptive",
    "constant": "constant",
    "constantlr": "constant",
    "cosine": "cosine",
    "cosineannealing": "cosine",
    "cosineannealinglr": "cosine",
    "cosineannealingwarmrestarts": "warm_restarts",
    "cosinerestart": "cyclic_cosine",
    "cosinerestarts": "cyclic_cosine",
    "cosinewarm": "cosine",
    "cosinewarmrestarts": "warm_restarts",
    "cycliccosine": "cyclic_cosine",
    "exponential": "exponential",
    "exponentiallr": "exponential",
    "none": "constant",
    "off": "constant",
    "onecycle": "onecycle",
    "onecyclelr": "onecycle",
    "plateau": "reduce_on_plateau",
    "poly": "polynomial",
    "polynomial": "polynomial",
    "polynomiallr": "polynomial",
    "reducelronplateau": "reduce_on_plateau",
    "reduceonplateau": "reduce_on_plateau",
    "step": "step",
    "steplr": "step",
    "warmrestarts": "warm_restarts",
    "warmupcosine": "cosine",
    "warmupplateau": "reduce_on_plateau",
}
"""Every name of a schedule, without case, underscores and the like, to its kind."""

WARMED = ("cosinewarm", "warmupcosine", "warmupplateau")
"""Names that say a warm-up as well; where none is set it has five epochs."""

OPTIMIZER_NAMES: dict[str, str] = {"adam": "adam", "adamw": "adamw", "rmsprop": "rmsprop", "sgd": "sgd"}
"""Every name of an optimizer, without case and underscores, to its kind."""


def plain_word(name: object) -> str:
    """A name without case and punctuation: ``ReduceLROnPlateau`` and ``reduce_lr_on_plateau`` are one."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def schedule_kind(name: object) -> str:
    """The kind of schedule a name means; None is ``none``. An unknown name comes back as it is, to be refused."""
    return SCHEDULE_NAMES.get(plain_word(name), str(name))


def optimizer_kind(name: object) -> str:
    """The kind of optimizer a name means. An unknown name comes back as it is, to be refused."""
    return OPTIMIZER_NAMES.get(plain_word(name), str(name))


# --- optimizers -------------------------------------------------------------------------------------------------------


def _require_shares(values: tuple[float, float], name: str) -> None:
    if not all(0 <= value < 1 for value in values):
        raise ValueError(f"{name}: {list(values)} must both lie from 0 to below 1, for example [0.9, 0.999]")


class AdamWConfig(Section):
    """Adam with decoupled weight decay. arXiv:1711.05101."""

    kind: Literal["adamw"] = Field("adamw", help="Adam with decoupled weight decay.")
    lr: float = Field(1e-3, gt=0, le=10, help="Learning rate.")
    weight_decay: float = Field(0.01, ge=0, help=_DECAY_HELP)
    betas: tuple[float, float] = Field((0.9, 0.999), advanced=True, help="Memory of the running means.")
    eps: float = Field(1e-8, gt=0, advanced=True, help="Added to the denominator.")
    amsgrad: bool = Field(False, advanced=True, help="Divide by the largest running mean so far. arXiv:1904.09237.")

    @model_validator(mode="after")
    def _betas_below_one(self) -> AdamWConfig:
        _require_shares(self.betas, "betas")
        return self


class AdamConfig(Section):
    """Adam; its weight decay is part of the gradient. arXiv:1412.6980."""

    kind: Literal["adam"] = Field("adam", help="Adam with weight decay inside the gradient.")
    lr: float = Field(1e-3, gt=0, le=10, help="Learning rate.")
    weight_decay: float = Field(0.0, ge=0, help=_DECAY_HELP)
    betas: tuple[float, float] = Field((0.9, 0.999), advanced=True, help="Memory of the running means.")
    eps: float = Field(1e-8, gt=0, advanced=True, help="Added to the denominator.")
    amsgrad: bool = Field(False, advanced=True, help="Divide by the largest running mean so far. arXiv:1904.09237.")

    @model_validator(mode="after")
    def _betas_below_one(self) -> AdamConfig:
        _require_shares(self.betas, "betas")
        return self


class SGDConfig(Section):
    """Plain descent along the gradient, with momentum."""

    kind: Literal["sgd"] = Field("sgd", help="Stochastic gradient descent with momentum.")
    lr: float = Field(0.01, gt=0, le=10, help="Learning rate.")
    weight_decay: float = Field(0.0, ge=0, help=_DECAY_HELP)
    momentum: float = Field(0.9, ge=0, lt=1, help="Share of the former update that is kept.")
    dampening: float = Field(0.0, ge=0, le=1, advanced=True, help="Share of the gradient left out of the momentum.")
    nesterov: bool = Field(False, help="Look ahead along the momentum.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGDConfig:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError("nesterov: it needs a momentum above 0 and no dampening. Set momentum: 0.9, dampening: 0")
        return self


class RMSpropConfig(Section):
    """Gradient divided by a running mean of its size."""

    kind: Literal["rmsprop"] = Field("rmsprop", help="Gradient divided by a running mean of its size.")
    lr: float = Field(0.01, gt=0, le=10, help="Learning rate.")
    weight_decay: float = Field(0.0, ge=0, help=_DECAY_HELP)
    alpha: float = Field(0.99, ge=0, lt=1, advanced=True, help="Memory of the running mean.")
    eps: float = Field(1e-8, gt=0, advanced=True, help="Added to the denominator.")
    momentum: float = Field(0.0, ge=0, lt=1, help="Share of the former update that is kept.")
    centered: bool = Field(False, advanced=True, help="Divide by the spread of the gradient instead of its size.")


OptimizerConfig = Annotated[AdamWConfig | AdamConfig | SGDConfig | RMSpropConfig, pydantic.Field(discriminator="kind")]


# --- schedules --------------------------------------------------------------------------------------------------------


class OneCycleSchedule(Section):
    """Up to a peak and down again, in optimizer steps. arXiv:1708.07120."""

    kind: Literal["onecycle"] = Field("onecycle", help="One rise and one long fall of the learning rate.")
    max_lr: float | None = Field(None, gt=0, help="Peak learning rate; unset: the optimizer's lr.")
    pct_start: float = Field(0.3, gt=0, lt=1, help="Share of the steps spent rising.")
    div_factor: float = Field(25.0, gt=1, help="The start is the peak divided by this.")
    final_div_factor: float = Field(1e4, gt=1, help="The end is the start divided by this.")


class ConstantSchedule(Section):
    """The learning rate of the optimizer, unchanged."""

    kind: Literal["constant"] = Field("constant", help="No schedule.")


class CosineSchedule(Section):
    """Half a cosine wave down. arXiv:1608.03983, without restarts."""

    kind: Literal["cosine"] = Field("cosine", help="One fall along half a cosine wave.")
    t_max: float | None = Field(
        None, gt=0, unit="epochs", help="Epochs of the fall, the lowest rate stays afterwards; unset: the whole run."
    )
    eta_min: float = Field(0.0, ge=0, help="Lowest learning rate.")


class WarmRestartsSchedule(Section):
    """Falls along half a cosine wave, each followed by a jump back to the top. arXiv:1608.03983."""

    kind: Literal["warm_restarts"] = Field("warm_restarts", help="Cosine falls with jumps back to the top.")
    t_0: float = Field(10.0, gt=0, unit="epochs", help="Epochs of the first fall.")
    t_mult: int = Field(1, ge=1, help="Each fall is so many times as long as the one before.")
    eta_min: float = Field(0.0, ge=0, help="Lowest learning rate.")


class CyclicCosineSchedule(Section):
    """The run divided into equal falls along half a cosine wave, each beginning at the top or a share of it."""

    kind: Literal["cyclic_cosine"] = Field("cyclic_cosine", help="The run as equal cosine falls.")
    cycles: int = Field(3, ge=1, help="Falls in the run.")
    decay: float = Field(1.0, gt=0, le=1, help="The top of each fall is that of the one before times this.")
    eta_min: float = Field(0.0, ge=0, help="Lowest learning rate.")


class StepSchedule(Section):
    """A drop every few epochs."""

    kind: Literal["step"] = Field("step", help="A drop of the learning rate every few epochs.")
    step_size: int = Field(30, ge=1, unit="epochs", help="Epochs from one drop to the next.")
    gamma: float = Field(0.1, gt=0, le=1, help="The learning rate is multiplied by this at each drop.")


class ExponentialSchedule(Section):
    """A steady fall by the same share."""

    kind: Literal["exponential"] = Field("exponential", help="A steady fall by the same share in each epoch.")
    gamma: float = Field(0.95, gt=0, le=1, help="The learning rate is multiplied by this over an epoch.")


class PolynomialSchedule(Section):
    """A fall over the whole run along a power of what is left of it."""

    kind: Literal["polynomial"] = Field("polynomial", help="A fall along a power of what is left of the run.")
    power: float = Field(0.9, gt=0, help="The power; 1 is a straight line.")
    eta_min: float = Field(0.0, ge=0, help="Lowest learning rate.")


class PlateauSchedule(Section):
    """A drop whenever a score no longer improves."""

    kind: Literal["reduce_on_plateau"] = Field("reduce_on_plateau", help="A drop when a score no longer improves.")
    monitor: str | None = Field(None, help="The score, for example val/loss; unset: that of the run.")
    mode: Literal["auto", "min", "max"] = Field(
        "auto", help="Whether lower or higher is better; auto: known from the score."
    )
    factor: float = Field(0.1, gt=0, lt=1, help="The learning rate is multiplied by this at each drop.")
    patience: int = Field(
        10, ge=0, unit="epochs", help="Validated epochs without improvement that are put up with; the next one drops."
    )
    threshold: float = Field(1e-4, ge=0, help="A smaller gain is no improvement.")
    threshold_mode: Literal["rel", "abs"] = Field(
        "rel", advanced=True, help="Whether the threshold is a share of the best score or a difference from it."
    )
    cooldown: int = Field(0, ge=0, unit="epochs", help="Validated epochs after a drop that are not counted.")
    min_lr: float = Field(0.0, ge=0, help="Lowest learning rate.")

    @field_validator("monitor")
    @classmethod
    def _one_name(cls, monitor: str | None) -> str | None:
        return None if monitor is None else canonical_metric(monitor)


class AdaptiveSchedule(Section):
    """A little up while a score gains much, down when it stands still."""

    kind: Literal["adaptive"] = Field("adaptive", help="Up while a score gains much, down when it stands still.")
    monitor: str | None = Field(None, help="The score, for example val/dice; unset: that of the run.")
    mode: Literal["auto", "min", "max"] = Field(
        "auto", help="Whether lower or higher is better; auto: known from the score."
    )
    gain: float = Field(0.05, ge=0, help="Share by which the best score must be beaten for the rate to rise.")
    rise: float = Field(1.1, ge=1, help="The learning rate is multiplied by this after such a gain.")
    most: float = Field(2.0, ge=1, help="It never exceeds the first learning rate times this.")
    factor: float = Field(0.5, gt=0, lt=1, help="The learning rate is multiplied by this when nothing improves.")
    patience: int = Field(3, ge=1, unit="epochs", help="Validated epochs without improvement that lower the rate.")
    min_lr: float = Field(0.0, ge=0, help="Lowest learning rate.")

    @field_validator("monitor")
    @classmethod
    def _one_name(cls, monitor: str | None) -> str | None:
        return None if monitor is None else canonical_metric(monitor)


ScheduleConfig = Annotated[
    OneCycleSchedule
    | ConstantSchedule
    | CosineSchedule
    | WarmRestartsSchedule
    | CyclicCosineSchedule
    | StepSchedule
    | ExponentialSchedule
    | PolynomialSchedule
    | PlateauSchedule
    | AdaptiveSchedule,
    pydantic.Field(discriminator="kind"),
]


class OptimGroup(Section):
    """A part of the network with a rate or decay of its own."""

    name: str = Field(min_length=1, help="Path of the part, for example encoder or encoder.levels.0.")
    lr: float | None = Field(None, gt=0, le=10, help="Its learning rate; unset: that of the optimizer.")
    lr_factor: float | None = Field(None, gt=0, help="Its learning rate in shares of the optimizer's.")
    weight_decay: float | None = Field(None, ge=0, help="Its weight decay; unset: that of the optimizer.")

    @model_validator(mode="after")
    def _something_is_said(self) -> OptimGroup:
        if self.lr is not None and self.lr_factor is not None:
            raise ValueError(f"lr: the rate of {self.name} is said twice. Set lr or lr_factor")
        if self.lr is None and self.lr_factor is None and self.weight_decay is None:
            raise ValueError(f"name: nothing is said of {self.name}. Set lr, lr_factor or weight_decay")
        return self


class OptimConfig(Section):
    """How weights are updated."""

    optimizer: OptimizerConfig = Field(default_factory=AdamWConfig, help="The update rule.")
    schedule: ScheduleConfig = Field(default_factory=OneCycleSchedule, help="The learning rate over the run.")
    warmup_epochs: float = Field(
        0.0, ge=0, unit="epochs", help="Epochs of a straight rise of the learning rate before the schedule; 0: none."
    )
    warmup_steps: int | None = Field(None, ge=0, unit="steps", help="Updates of the rise, in place of warmup_epochs.")
    warmup_start_lr: float = Field(1e-6, gt=0, help="Learning rate of the first update of the rise.")
    groups: tuple[OptimGroup, ...] = Field(
        (), advanced=True, help="Parts of the network with a learning rate or weight decay of their own."
    )

    @model_validator(mode="before")
    @classmethod
    def _names_in_any_spelling(cls, values: Any) -> Any:
        """``kind: ReduceLROnPlateau`` is ``reduce_on_plateau``; ``cosine_warm`` brings its warm-up."""
        return {**values, **dict(_respelled(values))} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _groups_differ(self) -> OptimConfig:
        names = [group.name for group in self.groups]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        refuse(f"groups: {name} comes twice. Name each part once" for name in twice)
        return self

    @model_validator(mode="after")
    def _one_warmup(self) -> OptimConfig:
        if self.warmup_epochs and self.warmup_steps is not None:
            refuse(["warmup_steps: the length of the warm-up is said twice. Set warmup_epochs or warmup_steps"])
        return self


def _respelled(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, kind_of_name in (("optimizer", optimizer_kind), ("schedule", schedule_kind)):
        section = values.get(name)
        if isinstance(section, Mapping) and isinstance(section.get("kind"), str):
            yield name, {**section, "kind": kind_of_name(section["kind"])}
    schedule = values.get("schedule")
    is_warmed = isinstance(schedule, Mapping) and plain_word(schedule.get("kind")) in WARMED
    if is_warmed and not {"warmup_epochs", "warmup_steps"} & set(values):
        yield "warmup_epochs", USUAL_WARMUP_EPOCHS

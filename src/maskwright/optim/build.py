"""From the optim section to an optimizer and a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from maskwright.config.base import Section, kind_of, sections_in
from maskwright.config.faults import did_you_mean
from maskwright.config.optim import (
    SCHEDULE_NAMES,
    OptimConfig,
    ScheduleConfig,
    plain_word,
    schedule_kind,
)
from maskwright.errors import ConfigError
from maskwright.optim.optimizers import Groups, adam, adamw, rmsprop, sgd
from maskwright.optim.schedules import (
    Schedule,
    Span,
    constant,
    cosine,
    cyclic_cosine,
    exponential,
    one_cycle,
    polynomial,
    step_decay,
    warm_restarts,
)
from maskwright.optim.score_schedules import Adaptive, ReduceOnPlateau

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from torch.optim import Optimizer

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "build_schedule", "create_scheduler"]

_KIND_KEYS = ("kind", "type", "name")
_WARMUP = ("warmup_epochs", "warmup_steps", "warmup_start_lr")


def build_optimizer(config: OptimConfig, model: nn.Module, *, groups: Groups | None = None) -> Optimizer:
    """The optimizer a section describes, over the trainable parameters of the model.

    Args:
        config: The section.
        model: The network, alone or first in a ``ModuleList`` beside parts of the loss that are trained.
        groups: Parts of the network by path with an ``lr`` or ``weight_decay`` of their own, where the
            section does not speak of them.

    Raises:
        ModelError: If nothing in the model is trainable, or it has no such part.
        ConfigError: If an option of a part makes no sense.
    """
    groups = {**(groups or {}), **_groups_said(config)} or None
    return OPTIMIZERS[config.optimizer.kind](model, groups=groups, **config.optimizer.model_dump(exclude={"kind"}))


def _groups_said(config: OptimConfig) -> dict[str, dict[str, float]]:
    """The parts of the network that the section names, with what it says of them."""
    found: dict[str, dict[str, float]] = {}
    for group in config.groups:
        lr = group.lr if group.lr_factor is None else group.lr_factor * config.optimizer.lr
        options = {"lr": lr, "weight_decay": group.weight_decay}
        found[group.name] = {name: value for name, value in options.items() if value is not None}
    return found


def build_schedule(
    config: OptimConfig, optimizer: Optimizer, steps_per_epoch: int, epochs: int | None = None
) -> Schedule:
    """The schedule a section describes, with its warm-up.

    Args:
        config: The section.
        optimizer: What the schedule acts on.
        steps_per_epoch: Optimizer steps of an epoch: its batches divided by ``accumulate``, rounded up.
        epochs: Epochs of the whole run, also for a run that is continued; None: unknown, which not every kind allows.

    Raises:
        ConfigError: If the schedule covers the whole run and its length is unknown or 0.
    """
    steps = round(config.warmup_epochs * steps_per_epoch) if config.warmup_steps is None else config.warmup_steps
    span = Span(steps_per_epoch, epochs, steps, config.warmup_start_lr)
    return SCHEDULES[config.schedule.kind](optimizer, span, **config.schedule.model_dump(exclude={"kind"}))


def create_scheduler(
    optimizer: Optimizer, config: Mapping[str, Any] | Section | str, steps_per_epoch: int, epochs: int | None = None
) -> Schedule:
    """A schedule for a loop of one's own.

    Call ``step()`` after each update of the weights; where ``step_on`` is ``epoch``, also ``step(score)`` after each
    validation.

    Args:
        optimizer: What the schedule acts on.
        config: The ``optim`` section, a schedule section, a name in any spelling (``CosineAnnealingLR``), or a mapping
            with the name as ``kind`` or ``type`` beside the options, ``warmup_epochs``, ``warmup_steps``,
            ``warmup_start_lr`` and, if not given here, ``epochs``. Options that are None are unset.
        steps_per_epoch: Optimizer steps of an epoch: the batches of the loader, divided by accumulation, rounded up.
        epochs: Epochs of the whole run; None: as the mapping says, else unknown.

    Raises:
        ConfigError: If the name is unknown, an option does not belong to it, or the length of the run is needed.
    """
    if isinstance(config, OptimConfig):
        return build_schedule(config, optimizer, steps_per_epoch, epochs)
    if isinstance(config, str):
        config = {"kind": config}
    given = dict(config.to_dict() if isinstance(config, Section) else config)
    options = {str(name).lower(): value for name, value in given.items()}  # T_max is t_max
    said = [options[key] for key in _KIND_KEYS if key in options]
    if not said:
        raise ConfigError(f"The schedule is not named. Set kind to one of {', '.join(SCHEDULES)}.")
    named = said[0]
    own_epochs: int | None = options.pop("epochs", None)
    options = {name: value for name, value in options.items() if value is not None and name not in _KIND_KEYS}
    warmup = {name: options.pop(name) for name in _WARMUP if name in options}
    section = _section_of(schedule_kind(named), named)(**options)
    # The name goes along as it was said, since some bring a warm-up.
    whole = OptimConfig(**warmup, schedule=cast(Any, section.to_dict() | {"kind": str(named)}))
    return build_schedule(whole, optimizer, steps_per_epoch, own_epochs if epochs is None else epochs)


def _section_of(kind: str, named: object) -> type[Section]:
    for section in sections_in(ScheduleConfig):
        if kind_of(section) == kind:
            return section
    advice = did_you_mean(plain_word(named), list(SCHEDULE_NAMES)) or "Set one of them."
    raise ConfigError(f"The schedule {named!r} is unknown. Available: {', '.join(SCHEDULES)}. {advice}")


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "rmsprop": rmsprop, "sgd": sgd}
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "adaptive": Adaptive,
    "constant": constant,
    "cosine": cosine,
    "cyclic_cosine": cyclic_cosine,
    "exponential": exponential,
    "onecycle": one_cycle,
    "polynomial": polynomial,
    "reduce_on_plateau": ReduceOnPlateau,
    "step": step_decay,
    "warm_restarts": warm_restarts,
}

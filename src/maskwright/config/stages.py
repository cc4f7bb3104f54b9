"""Stages of one training, each from the best weights of the one before: small tiles first, large ones later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from maskwright.config.base import Field, Section
from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.config.experiment import Experiment

__all__ = ["StageConfig", "stage_experiment", "stage_faults"]

_SHORT = {
    "epochs": "training.epochs",
    "size_px": "data.tiles.size_px",
    "batch_size": "data.loader.batch_size",
    "lr": "optim.optimizer.lr",
}
# What a stage may set: how it learns and how it cuts and changes its tiles. All else is one for all stages, since
# weights, data, split and scores are carried from one to the next.
_ITS_OWN = ("training", "optim", "loss", "callbacks", "checkpoints")
_ITS_OWN_DATA = ("tiles", "resize_px", "augment", "balance", "loader", "cache")
_ITS_OWN_MODEL = ("dropout", "drop_path")


class StageConfig(Section):
    """One stage of a training; what it leaves unset is as the experiment says."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", help="Name of the stage; its run folder is named so.")
    epochs: int | None = Field(
        None, ge=1, le=100_000, unit="epochs", help="Passes over the training tiles; unset: training.epochs."
    )
    size_px: int | None = Field(
        None, ge=16, le=4096, unit="px", help="Side of the square tiles; unset: data.tiles.size_px."
    )
    batch_size: int | None = Field(None, ge=1, le=4096, help="Tiles in a batch; unset: data.loader.batch_size.")
    lr: float | None = Field(None, gt=0, le=10, help="Learning rate; unset: optim.optimizer.lr.")
    settings: tuple[str, ...] = Field(
        (),
        help="Other settings of this stage, each as --set takes it, for example optim.schedule.kind=constant: of "
        "training, optim, loss, callbacks, checkpoints, and tiles, resize_px, augment, balance and loader of data.",
    )


def stage_experiment(experiment: Experiment, index: int) -> Experiment:
    """The whole run of one stage: the experiment without its stages, with what the stage sets.

    Epochs that must pass before an early stop keep their share of the epochs.

    Args:
        experiment: One that has stages.
        index: Of the stage, from 0.

    Raises:
        ConfigError: Naming the stage, and everything wrong with it.
    """
    from maskwright.config.experiment import Experiment
    from maskwright.config.load import Override, overrides_tree, section_from
    from maskwright.config.yaml_tree import Mark, TreeError, to_node

    stage, place = experiment.stages[index], f"stages[{index}].settings"
    values = {**experiment.to_dict(), "stages": []}
    if stage.epochs is not None:
        stopping = values["callbacks"]["early_stopping"]
        stopping["min_epochs"] = stopping["min_epochs"] * stage.epochs // experiment.training.epochs
    short = [
        Override(path, getattr(stage, name), f"stages[{index}].{name}")
        for name, path in _SHORT.items()
        if getattr(stage, name) is not None
    ]
    try:
        layers = [
            to_node(values, Mark("the experiment")),
            overrides_tree([*stage.settings, *short], place),
        ]
        made = section_from(Experiment, layers)
    except TreeError as error:
        raise ConfigError("\n".join(f"{place}: {fault}" for fault in error.faults)) from error
    except ConfigError as error:
        raise ConfigError("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from error
    changed = [path for path in _differing(values, made.to_dict()) if not _is_its_own(path)]
    if changed:
        raise ConfigError(
            f"{place}: {', '.join(changed)} cannot differ between stages, which share data, split, classes and "
            "weights. Set it for the whole experiment; a stage may set training, optim, loss, callbacks, checkpoints, "
            "and tiles, resize_px, augment, balance and loader of data"
        )
    return made


def stage_faults(experiment: Experiment) -> Iterator[str]:
    """What is wrong with the stages of an experiment, a text each."""
    names = [stage.name for stage in experiment.stages]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f'stages: the name "{name}" appears more than once. Give each stage a name of its own'
    if experiment.stages and experiment.training.budget is not None:
        yield (
            "training.budget: it would be given to each of the stages. Leave it out, or set it in the settings of a "
            "stage: [training.budget=20]"
        )
        return
    for index in range(len(experiment.stages)):
        try:
            stage_experiment(experiment, index)
        except ConfigError as error:
            yield from str(error).splitlines()


def _differing(one: Any, other: Any, before: str = "") -> Iterator[str]:
    """Dotted paths of the settings that differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys((*one, *other)):
            yield from _differing(one.get(name), other.get(name), f"{before}.{name}" if before else name)
    elif one != other:
        yield before


def _is_its_own(path: str) -> bool:
    room, _, rest = path.partition(".")
    if room in ("data", "model"):
        return rest.partition(".")[0] in (_ITS_OWN_DATA if room == "data" else _ITS_OWN_MODEL)
    return room in _ITS_OWN

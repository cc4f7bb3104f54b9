"""Whether a checkpoint fits the run that wants to go on from it: its plan, its network, its schedule."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from maskwright.errors import CheckpointError
from maskwright.optim import Schedule

__all__ = ["lay_out_anew", "require_same_plan", "require_same_weights"]

_NAMED = 3  # tensors of each fault that a message names


def require_same_plan(was: Mapping[str, int], now: Mapping[str, int], *, epochs_done: int) -> None:
    """Refuse a run whose places in the epoch would mean something else, or that has more epochs done than planned.

    Args:
        was: The plan in the checkpoint: ``epochs`` and what else counts batches.
        now: That of the run.
        epochs_done: Epochs completed when the checkpoint was taken. The number of epochs may change as long as it
            does not fall below them.

    Raises:
        CheckpointError: Naming each number that differs.
    """
    fixed = [name for name in now if name in was and name != "epochs"]
    wrong = [f"{name} was {was[name]} and is {now[name]}" for name in fixed if was[name] != now[name]]
    if wrong:
        raise CheckpointError(
            f"The checkpoint belongs to a run planned otherwise: {'; '.join(wrong)}. The place in the epoch would be "
            "wrong. Resume with the settings the run was started with, or start a new run."
        )
    if now["epochs"] < epochs_done:
        raise CheckpointError(
            f"The checkpoint has {epochs_done} epochs behind it, and the run is to have {now['epochs']}. Give "
            f"training.epochs: {epochs_done} or more."
        )


def require_same_weights(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse the weights of another network.

    Args:
        found: Weights of the checkpoint, by name.
        own: Those of the network.

    Raises:
        CheckpointError: Naming weights that are missing, unknown or of another shape.
    """
    shapes = [
        f"{name} is {tuple(found[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    missing = [name for name in own if name not in found]
    unknown = [name for name in found if name not in own]
    faults = {"": shapes, "not in the checkpoint: ": missing, "in the checkpoint alone: ": unknown}
    told = [f"{what}{_some(names)}" for what, names in faults.items() if names]
    if told:
        raise CheckpointError(
            f"The checkpoint does not fit this network, which has other classes, bands or layers: {'; '.join(told)}. "
            "Resume with the settings the run was started with."
        )


def lay_out_anew(schedule: LRScheduler, was: int, now: int) -> str:
    """Put a run on the schedule of another length: from the present step on, the rates of a run planned so at once.

    A rate set by hand goes on scaling the schedule; schedules that know no end, or wait for scores, stay as they are.

    Args:
        schedule: Built for the new length and loaded with the old state.
        was: Epochs planned before.
        now: Epochs planned from here on.

    Returns:
        What happened, for a person.
    """
    told = f"The run was planned for {was} epochs and now has {now}"
    groups = schedule.optimizer.param_groups
    before = float(groups[0]["lr"])
    if not isinstance(schedule, Schedule):
        return f"{told}; its own schedule goes on as it is, with a learning rate of {before:.3g}."
    for group, lr in zip(groups, schedule.get_lr(), strict=True):
        group["lr"] = lr
    after = float(groups[0]["lr"])
    if after == before:
        return f"{told}; the learning rate goes on from {before:.3g}."
    return f"{told}: the schedule is laid out over all of them, and its rate goes from {before:.3g} to {after:.3g}."


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")

"""What an attempt settles at its start: threads, memory, layout, loader processes, compiling; as its first one did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maskwright.devices import (
    available_devices,
    choose_device,
    choose_precision,
    choose_workers,
    network_choices,
    settle_process,
    usable_cores,
)
from maskwright.distributed import own_device
from maskwright.errors import ConfigError

if TYPE_CHECKING:
    from maskwright.config import Experiment
    from maskwright.workflows.assemble import Parts
    from maskwright.workflows.resume_plan import Change

__all__ = ["as_first_chosen", "settle_start", "tell_crowding"]

log = logging.getLogger("maskwright")


def settle_start(parts: Parts, own_process: bool, threads: int | None = None) -> dict[str, Any]:
    """Make the choices of an attempt, for this process where it may be settled.

    Args:
        parts: What the run is made of.
        own_process: True if the process exists for this run alone.
        threads: Those of the first attempt; None: chosen anew.

    Returns:
        Plain values for ``run.json``: ``threads``, ``allocator``, ``workers``, ``layout``, ``compile``.
    """
    training = parts.experiment.training
    on_cpu = choose_device(own_device(training.device, available_devices())).type == "cpu"
    cached = getattr(parts.source, "cached", True)
    workers = choose_workers(parts.experiment.data.loader.workers, cached=cached, on_cpu=on_cpu)
    loading = workers if on_cpu else 0
    process = settle_process(training.threads or threads, own_process, training.keep_memory, loading=loading)
    return process | network_choices(workers=workers, channels_last=training.channels_last, compile=training.compile)


def as_first_chosen(experiment: Experiment, record: Mapping[str, Any], changes: Sequence[Change]) -> Experiment:
    """What ``auto`` came to in the first attempt, in its place; not where it is asked anew or is not possible here.

    Args:
        experiment: The settings a run goes on with.
        record: What ``run.json`` says of the attempt before.
        changes: What is asked otherwise than before.
    """
    asked = {change.setting for change in changes}
    training, loader = experiment.training, experiment.data.loader
    precision, workers = record.get("precision"), record.get("process_choices", {}).get("workers")
    if training.precision == "auto" and "training.precision" not in asked and _is_possible(precision, training.device):
        training = training.model_copy(update={"precision": precision})
    if loader.workers == "auto" and "data.loader.workers" not in asked and workers is not None:
        loader = loader.model_copy(update={"workers": workers})
    data = experiment.data.model_copy(update={"loader": loader})
    return experiment.model_copy(update={"training": training, "data": data})


def tell_crowding(choices: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Say and log once that more loader processes were asked for than there are cores."""
    workers, cores = choices["workers"], usable_cores()
    if workers > cores:
        line = f"data.loader.workers: {workers} loader processes share {cores} cores, as asked; auto chooses by cores."
        say(line)
        log.warning("%s", line)


def _is_possible(precision: str | None, device: str) -> bool:
    if precision is None:
        return False
    try:
        choose_precision(precision, choose_device(own_device(device, available_devices())))
    except ConfigError as error:  # what is taken in its place is told when the run goes on
        log.debug("%s", error)
        return False
    return True

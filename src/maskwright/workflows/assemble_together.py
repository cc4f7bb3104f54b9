"""The parts of a run of several processes: assembled in each, and compared before anything is trained."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from maskwright import __version__
from maskwright.distributed import host_first, require_alike, world_size
from maskwright.workflows.assemble import AnySource, Parts, assemble, data_fingerprint
from maskwright.workflows.resume_plan import flat_settings

if TYPE_CHECKING:
    from maskwright.config import Experiment
    from maskwright.data.splits import Split

__all__ = ["assemble_together"]

_WHERE_DATA_LIES = (
    "data.cache.*",
    "data.folder",
    "data.images",
    "data.sites.*.chm",
    "data.sites.*.dsm",
    "data.sites.*.dtm",
)
_OF_EACH = (*_WHERE_DATA_LIES, "tracking.*", "training.threads")
"""Settings that processes on different computers may have of their own; the data itself is compared by content."""


def assemble_together(
    experiment: Experiment, *, split: Split | None = None, check: Callable[[AnySource], None] | None = None
) -> Parts:
    """As :func:`~maskwright.workflows.assemble.assemble`, in every process of a run.

    On each computer one process goes first, so that what is decoded and kept is decoded once.

    Raises:
        TrainingError: If the processes do not agree on the experiment or the data; says which one, and in what.
        DataError: If the data cannot be used.
    """
    if world_size() == 1:
        return assemble(experiment, split=split, check=check)
    import torch

    settings = {
        name: value
        for name, value in flat_settings(experiment)
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _OF_EACH)
    }
    require_alike({"Maskwright": __version__, "torch": torch.__version__, **settings}, "the experiment")
    with host_first():
        parts = assemble(experiment, split=split, check=check)
    tiles = hashlib.sha256(repr(sorted(parts.split.tiles.items())).encode()).hexdigest()[:16]
    require_alike({"the content": data_fingerprint(parts.source), "the split": tiles}, "the data")
    return parts

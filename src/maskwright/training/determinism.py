"""deterministic: the same numbers from the same run on the same machine, on GPUs as well."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from maskwright.errors import TrainingError

__all__ = ["deterministic"]

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read when CUDA's matrix library is first used
_WORKSPACE_SIZE = ":4096:8"


@contextlib.contextmanager
def deterministic(wanted: bool = True) -> Iterator[None]:
    """Inside, torch takes algorithms that give the same bits every time, and refuses operations that have none.

    It is a matter of the whole process; afterwards all is as before. On the CPU most operations are so anyway; on GPUs
    some become slower.

    Args:
        wanted: False: nothing changes.

    Raises:
        TrainingError: If an operation has no such algorithm; names it.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(_WORKSPACE, _WORKSPACE_SIZE)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False  # it picks the fastest algorithm of the moment
    try:
        yield
    except RuntimeError as error:
        what = str(error).partition(".")[0]
        if "deterministic" not in what:
            raise
        raise TrainingError(
            f"training.deterministic: {what}. Set training.deterministic: false, or train on the CPU."
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark

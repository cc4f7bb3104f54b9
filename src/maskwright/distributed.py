"""Rank and world size: the only file that knows of torch.distributed. Importing it loads no torch."""

from __future__ import annotations

import os

from maskwright.errors import TrainingError

__all__ = ["is_main", "rank", "require_single_process", "world_size"]


def world_size() -> int:
    """Number of processes that train together; 1 unless a launcher such as ``torchrun`` says otherwise."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process writes files and speaks to the user."""
    return rank() == 0


def require_single_process() -> None:
    """Refuse a launch in several processes, which would train the same model several times side by side.

    Raises:
        TrainingError: If a launcher started more than one process.
    """
    if world_size() > 1:
        raise TrainingError(
            f"A launcher started {world_size()} processes (WORLD_SIZE), but training runs in one process. "
            "Start the same command without torchrun."
        )

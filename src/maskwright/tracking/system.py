"""Samples of memory, processor and disk while a run works."""

from __future__ import annotations

from pathlib import Path

import psutil

from maskwright.files import free_bytes

__all__ = ["SystemSampler"]


class SystemSampler:
    """Takes samples for the event log; cheap enough for one every few seconds.

    Args:
        folder: A folder on the disk whose free space counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._process = psutil.Process()
        psutil.cpu_percent()  # both count from their former call; the first one has nothing to count from
        self._process.cpu_percent()

    def sample(self) -> dict[str, float]:
        """Loads since the former sample, and levels now.

        Returns:
            ``cpu_percent`` (0..100, all cores), ``process_cpu_percent`` (100 for each core this process keeps busy),
            ``process_memory_mb`` (resident), ``memory_used_mb``, ``memory_total_mb``, ``disk_free_mb``.
        """
        memory = psutil.virtual_memory()
        return {
            "cpu_percent": float(psutil.cpu_percent()),
            "process_cpu_percent": float(self._process.cpu_percent()),
            "process_memory_mb": self._process.memory_info().rss / 2**20,
            "memory_used_mb": (memory.total - memory.available) / 2**20,
            "memory_total_mb": memory.total / 2**20,
            "disk_free_mb": free_bytes(self.folder) / 2**20,
        }

"""training_history.json: a list with one entry per epoch, replaced as a whole after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskwright.errors import RunError
from maskwright.files import json_text, read_json, write_text

__all__ = ["History", "read_history"]


class History:
    """The entries of a run.

    An entry maps ``epoch`` (from 1) and names such as ``train/loss``, ``val/iou``, ``val/iou@10m``, ``lr/0``,
    ``elapsed_s`` to numbers. An epoch has one entry: writing epoch n again, as a resumed run does, drops the old entry
    and all later ones, so the list is always the path that led to now.

    Args:
        path: The file; read if it exists.

    Raises:
        RunError: If the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._entries = list(read_history(self.path))

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """The entries in order of epochs."""
        return tuple(self._entries)

    def append(self, entry: Mapping[str, object]) -> None:
        """Add an epoch's entry and write the file.

        Raises:
            RunError: If the disk refuses; the entry is kept in memory and written with the next one.
            ValueError: If ``entry`` has no ``epoch`` counted from 1.
        """
        epoch = entry.get("epoch")
        if not isinstance(epoch, int) or epoch < 1:
            raise ValueError(f"a history entry needs its epoch, a whole number from 1; got {epoch!r}")
        self._drop_after(epoch - 1)
        self._entries.append({"epoch": epoch} | dict(entry))
        self._write()

    def truncate(self, epochs: int) -> None:
        """Keep the first ``epochs`` epochs only, for a run that continues from there; written only if changed."""
        if self._drop_after(epochs):
            self._write()

    def _drop_after(self, epoch: int) -> int:
        kept = [entry for entry in self._entries if entry["epoch"] <= epoch]
        dropped = len(self._entries) - len(kept)
        self._entries = kept
        return dropped

    def _write(self) -> None:
        lines = ",\n ".join(json_text(entry) for entry in self._entries)  # a line an epoch: readable, and small
        write_text(self.path, f"[\n {lines}\n]\n" if lines else "[]\n")


def read_history(path: Path) -> tuple[dict[str, Any], ...]:
    """The entries of a history file; none if it does not exist. Raises RunError if it is damaged."""
    if not Path(path).exists():
        return ()
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "epoch" in entry for entry in entries):
        raise RunError(
            f"{path} is damaged: not a list with one entry per epoch. Restore it, or delete it to start anew."
        )
    return tuple(entries)

"""What is finished of a prediction, so that the same command goes on after a kill.

A small JSON file beside the bands says how many rows of them stand on the disk, of what they were made, and what was
counted on the way. It is written after the bands themselves are on the disk, every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from maskwright.errors import MaskwrightError, PredictionError
from maskwright.files import json_text, read_json, write_json

__all__ = ["EVERY_S", "NAME", "Journal"]

EVERY_S = 10.0
"""Seconds between two entries: what a kill may cost, beside a row of windows."""

NAME = "journal.json"


class _Syncable(Protocol):
    def sync(self) -> None: ...


class Journal:
    """The journal in one hidden folder.

    Args:
        folder: Holds the bands and ``journal.json``.
        identity: All that the bands depend on, plain values: model, raster, settings.

    Attributes:
        row: Finished rows that stand in the folder; 0: none, or of something else.
        facts: What was counted in them.
        changed: What is unlike an earlier, unfinished prediction, whose rows are of no use; empty if there was none.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._path = folder / NAME
        self._identity = dict(identity)
        self._written = time.monotonic()
        self.row, self.facts, self.changed = 0, dict[str, Any](), tuple[str, ...]()
        if not self._path.is_file():
            return
        try:
            found = read_json(self._path, error=PredictionError)
            earlier, row, facts = dict(found["identity"]), int(found["row"]), dict(found["facts"])
        except (MaskwrightError, KeyError, TypeError, ValueError):
            self.changed = ("journal",)  # damaged: what it stood for cannot be trusted
            return
        names = [*self._identity, *(name for name in earlier if name not in self._identity)]
        self.changed = tuple(name for name in names if _text(earlier, name) != _text(self._identity, name))
        if not self.changed:
            self.row, self.facts = row, facts

    @property
    def exists(self) -> bool:
        """Whether anything was ever noted."""
        return self._path.is_file()

    @property
    def is_due(self) -> bool:
        """Whether the last entry is so old that another is worth its while."""
        return time.monotonic() - self._written >= EVERY_S

    def note(self, row: int, facts: Mapping[str, Any], files: Iterable[_Syncable]) -> None:
        """Say that rows above ``row`` are finished, once they are on the disk.

        Args:
            row: The first row that is not.
            facts: What was counted in them, plain values.
            files: What they were written to.

        Raises:
            PredictionError: If the disk refuses.
        """
        for file in files:
            file.sync()
        entry = {"identity": self._identity, "row": row, "facts": dict(facts)}
        write_json(self._path, entry, error=PredictionError)
        self._written = time.monotonic()

    def forget(self) -> None:
        """From here on nothing can be gone on with."""
        self._path.unlink(missing_ok=True)


def _text(identity: Mapping[str, Any], name: str) -> str:
    """A value as it is written, so that a list is like the tuple it was, and no number like itself."""
    return json_text(identity[name]) if name in identity else ""

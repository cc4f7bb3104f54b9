"""EventOverview: a growing event log of any length in bounded memory, read on from where the last look ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskwright.files import parse_json
from maskwright.tracking.curves import StepCurves
from maskwright.tracking.step_rows import StepColumns, read_step_rows

__all__ = ["EventOverview"]

_BLOCK = 1 << 20  # bytes; such a block and what is made of it stay in the processor's cache
_KEPT = 2000  # rows of a kind
_THINNED = ("resources",)  # kinds of which every second row is dropped; of the others the oldest ones


class EventOverview:
    """The step rows as curves, and the other rows by kind: at most some thousand of each.

    A line still being written waits for the next look; lines that are no rows are counted in ``torn``. A log that was
    replaced is read anew, one that was deleted is empty.

    Args:
        path: The event log; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.steps = StepCurves()
        self._inode = -1
        self._forget()

    def update(self) -> None:
        """Read what was written since the last look.

        Raises:
            OSError: If the file is there and cannot be read.
        """
        try:
            file = open(self.path, "rb")  # noqa: SIM115, closed below
        except FileNotFoundError:
            self._forget()
            return
        with file:
            state = os.fstat(file.fileno())
            if state.st_ino != self._inode or state.st_size < self._offset:
                self._forget()
                self._inode = state.st_ino
            file.seek(self._offset)
            for block in self._whole_lines(file):
                self._take(block)

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows of a kind other than ``step``, oldest first."""
        return list(self._rows.get(kind, ()))

    def _forget(self) -> None:
        self.steps.clear()
        self.torn = 0
        self.last_time: str | None = None
        self.last_step = 0
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._offset = 0
        self._inode = -1

    def _whole_lines(self, file: BinaryIO) -> Iterator[bytes]:
        rest = b""
        while piece := file.read(_BLOCK):
            cut = piece.rfind(b"\n") + 1
            if not cut:
                rest += piece
                continue
            block = rest + piece[:cut]
            rest = piece[cut:]
            self._offset += len(block)
            yield block

    def _take(self, block: bytes) -> None:
        columns, others = read_step_rows(block, self.steps.names)
        loose = []
        for line in others:
            row = _row(line)
            if row is None:
                self.torn += bool(line.strip())
            elif row.get("kind") == "step":
                loose.append(row)
            else:
                self._keep(row)
        self._add(columns)
        if loose:
            self._add(_columns(loose, self.steps.names))
        last = _row(block[block.rfind(b"\n", 0, len(block) - 1) + 1 :])
        if last is not None and isinstance(last.get("time"), str):
            self.last_time = last["time"]

    def _add(self, columns: StepColumns) -> None:
        self.steps.add(columns)
        if len(columns):
            self.last_step = int(columns.global_step[-1])

    def _keep(self, row: dict[str, Any]) -> None:
        kind = str(row.get("kind"))
        kept = self._rows.setdefault(kind, [])
        kept.append(row)
        if len(kept) > 2 * _KEPT:
            kept[:] = kept[::2] if kind in _THINNED else kept[-_KEPT:]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _columns(rows: list[dict[str, Any]], names: tuple[str, ...]) -> StepColumns:
    """Step rows of another form; those without their numbers are left out."""
    whole = [row for row in rows if all(type(row.get(name)) is int for name in ("attempt", "global_step"))]

    def column(name: str) -> list[float]:
        values = [row.get(name) for row in whole]
        return [float(value) if isinstance(value, int | float) else np.nan for value in values]

    return StepColumns(
        np.array([row["attempt"] for row in whole], np.int64),
        np.array([row["global_step"] for row in whole], np.int64),
        {name: np.array(column(name), np.float64) for name in names},
    )

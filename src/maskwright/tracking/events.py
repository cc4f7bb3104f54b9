"""The event log: one JSON row a line, appended while the run works, read by every face.

A crash can tear the last line; readers pass over it and the next writer starts on a fresh line.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from maskwright.files import explain_os_error, json_text, parse_json
from maskwright.tracking.folder import time_text

__all__ = ["EventLog", "EventTail", "read_events", "without_superseded"]

_log = logging.getLogger(__name__)

_KEPT_ROWS = 1000
_LONGEST_ROW = 1 << 20  # bytes


class EventLog:
    """Appends rows to events.jsonl; each has ``time``, ``kind``, ``attempt`` and ``global_step``.

    A disk that refuses (full, gone) never stops the run: up to 1000 rows wait in memory and are written when it answers
    again; the fault goes to the log once, and stands in ``problem``.

    Args:
        path: The file; made if missing.
        attempt: Number of the attempt, from 1, as in run.json.
    """

    def __init__(self, path: Path, attempt: int = 1) -> None:
        self.path = Path(path)
        self.attempt = attempt
        self.global_step = 0
        self.problem: str | None = None
        self._waiting: deque[bytes] = deque(maxlen=_KEPT_ROWS)
        self._lost = 0
        self._lock = threading.RLock()

    def write(self, kind: str, *, global_step: int | None = None, **fields: object) -> None:
        """Append a row and flush it. Safe between threads.

        Args:
            kind: What happened, for example ``step``, ``epoch``, ``warning``.
            global_step: Updates done so far; the number of the former row unless given.
            fields: Anything JSON can hold; numbers that are not finite become text.
        """
        with self._lock:
            if global_step is not None:
                self.global_step = global_step
            head = {"time": time_text(), "kind": kind, "attempt": self.attempt, "global_step": self.global_step}
            self._lost += len(self._waiting) == _KEPT_ROWS  # the oldest gives way
            self._waiting.append(json_text(head | fields).encode() + b"\n")
            self._flush()

    def _flush(self) -> None:
        try:
            self._append(b"".join(self._waiting))
        except OSError as cause:
            if self.problem is None:
                _log.warning("%s Events wait in memory.", explain_os_error(cause, self.path))
            self.problem = explain_os_error(cause, self.path)
            return
        self.problem = None
        self._waiting.clear()
        if self._lost:
            lost, self._lost = self._lost, 0
            self.write("warning", message=f"{lost} older events were lost while the disk refused.")

    def _append(self, rows: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            if end > 0:
                os.lseek(handle, end - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":
                    rows = b"\n" + rows  # the line before was torn
            try:
                while rows:
                    rows = rows[os.write(handle, rows) :]
            except OSError:
                os.ftruncate(handle, end)  # all or nothing: the rows are kept and come again
                raise
        finally:
            os.close(handle)


class EventTail:
    """Reads a growing event log piece by piece; made for faces that look again and again.

    Lines that are not JSON (torn by a crash) are passed over and counted in ``torn``.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.torn = 0
        self._offset = 0

    def skip(self) -> None:
        """Pass over what was written so far; the next call of :meth:`read` gives what comes after."""
        if self.path.exists():
            with open(self.path, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(end - _LONGEST_ROW, 0))
                self._offset = end - len(file.read().rpartition(b"\n")[2])

    def read(self) -> list[dict[str, Any]]:
        """The rows written since the last call; a line still being written waits for the next one."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                self._offset = 0  # the file was replaced by a shorter one
            file.seek(self._offset)
            block = file.read()
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        rows = []
        for line in whole.splitlines():
            row = _parsed(line)
            if row is not None:
                rows.append(row)
            elif line.strip():
                self.torn += 1
        return rows


def read_events(path: Path, *, kinds: Collection[str] | None = None) -> list[dict[str, Any]]:
    """All whole rows of an event log in the order written, of the given kinds only if any are named."""
    return [row for row in EventTail(path).read() if kinds is None or row.get("kind") in kinds]


def without_superseded(
    rows: Iterable[dict[str, Any]], *, progress: Collection[str] = ("step", "epoch")
) -> list[dict[str, Any]]:
    """The rows of the path that led to now, in their order.

    A resumed run goes back to its last checkpoint; what an attempt before did after that point happened again and is
    left out. An attempt begins where its first row of a kind in ``progress`` stands.
    """
    rows = list(rows)
    began: dict[int, int] = {}
    for row in rows:
        if row["kind"] in progress:
            began.setdefault(row["attempt"], row["global_step"])

    def holds(row: dict[str, Any]) -> bool:
        return all(row["global_step"] < step for attempt, step in began.items() if attempt > row["attempt"])

    return [row for row in rows if holds(row)]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None

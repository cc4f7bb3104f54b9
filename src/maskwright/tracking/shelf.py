"""What the pages and the window know of runs: a shelf of all run folders, and a snapshot of one.

Nothing in a folder is trusted to be there or to be whole: a run may be deleted, half written or foreign at any look.
What cannot be read becomes a sentence in ``problems``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from maskwright.errors import MaskwrightError
from maskwright.files import TEMPORARY_SUFFIX
from maskwright.tracking.folder import RunFolder
from maskwright.tracking.manifest import Manifest
from maskwright.tracking.reader import RunReader

if TYPE_CHECKING:
    from maskwright.tracking.curves import Curve  # brings numpy, which a list of runs does not need

__all__ = ["RunShelf", "RunSummary", "Snapshot"]

_T = TypeVar("_T")
_CURVES = ("loss", "grad_norm", "lr")
_ACTIVE = ("starting", "running")
_NOT_AS_WRITTEN = (MaskwrightError, OSError, KeyError, TypeError, ValueError, AttributeError)  # foreign or torn files


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line in the list of runs.

    Attributes:
        name: Name of the folder.
        path: The folder.
        status: As it really is; ``unreadable`` if run.json says nothing.
        created: When, as written in run.json; empty if unknown.
    """

    name: str
    path: Path
    status: str
    created: str


@dataclass(frozen=True)
class Snapshot:
    """What is known of a run at one look.

    Attributes:
        path: The run folder.
        exists: False if it is gone.
        fields: run.json; empty if unreadable.
        status: As it really is.
        alive: Whether its process is at work.
        history: One entry per epoch.
        curves: Of the steps, by name: ``loss``, ``grad_norm``, ``lr``.
        last_step: Updates done, as far as logged.
        last_time: When the newest event was written, by the clock of the run's computer.
        rows: The newest events by kind, oldest first; without steps.
        manifest: The checkpoints.
        torn: Lines of the log that cannot be read.
        problems: What could not be read, and why.
    """

    path: Path
    exists: bool = True
    fields: Mapping[str, Any] = field(default_factory=dict)
    status: str = "unreadable"
    alive: bool = False
    history: tuple[Mapping[str, Any], ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    last_step: int = 0
    last_time: str | None = None
    rows: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    manifest: Manifest = field(default_factory=Manifest)
    torn: int = 0
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The events of a kind, oldest first."""
        return self.rows.get(kind, [])

    def number(self, kind: str, name: str) -> float | None:
        """A number of the newest event of a kind; None if there is none."""
        rows = self.of_kind(kind)
        value = rows[-1].get(name) if rows else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class RunShelf:
    """All runs below a folder. Shared by the sessions of a server: what is read once is kept, and read on.

    Args:
        folder: Folder of run folders; may be missing or empty.
    """

    _KINDS = ("train_begin", "train_end", "resources", "warning", "error", "command", "checkpoint", "lr")

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._lock = threading.RLock()
        self._listed: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}
        self._readers: dict[Path, tuple[int, RunReader]] = {}
        self._histories: dict[Path, tuple[tuple[int, int, int], tuple[Mapping[str, Any], ...]]] = {}

    def runs(self) -> list[RunSummary]:
        """Every run, newest first. Files that did not change since the last look are not read again."""
        with self._lock:
            seen = {name: entry for name in self._names() if (entry := self._entry(name)) is not None}
            self._listed = seen
        found = [self._summary(name, fields) for name, (_, fields) in seen.items()]
        return sorted(found, key=lambda run: (run.created, run.name), reverse=True)

    def look(self, path: Path) -> Snapshot:
        """A run as it is now; ``exists`` is False if it is gone."""
        with self._lock:
            problems: list[str] = []
            reader = self._reader(path, problems)
            if reader is None:
                return Snapshot(path, exists=RunFolder(path).run_json.is_file(), problems=tuple(problems))
            status = _tried(reader.status, {}, problems, reader.folder.run_json)
            overview = _tried(reader.overview, None, problems, reader.folder.events)
            return Snapshot(
                path=path,
                fields=status,
                status=str(status.get("status", "unreadable")),
                alive=bool(status.get("alive", False)),
                history=self._history(reader, problems),
                curves={} if overview is None else {name: overview.steps.curve(name) for name in _CURVES},
                last_step=0 if overview is None else overview.last_step,
                last_time=None if overview is None else overview.last_time,
                rows={} if overview is None else {kind: overview.rows(kind) for kind in self._KINDS},
                manifest=_tried(reader.checkpoints, Manifest(), problems, reader.folder.manifest),
                torn=0 if overview is None else overview.torn,
                problems=tuple(problems),
            )

    def history(self, path: Path) -> tuple[Mapping[str, Any], ...]:
        """The epochs of a run; none if they cannot be read."""
        with self._lock:
            problems: list[str] = []
            reader = self._reader(path, problems)
            return () if reader is None else self._history(reader, problems)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:
                return [entry.name for entry in entries if not entry.name.endswith(TEMPORARY_SUFFIX)]
        except OSError:  # missing, no folder, or not ours to read: no runs
            return []

    def _entry(self, name: str) -> tuple[tuple[int, int, int], dict[str, Any]] | None:
        """Mark and few fields of a run.json; None if there is none."""
        run_json = self.folder / name / "run.json"
        mark = _mark(run_json)
        if mark is None:
            return None
        known = self._listed.get(name)
        if known is not None and known[0] == mark:
            return known
        try:
            fields = RunFolder(run_json.parent).record.load()
        except MaskwrightError:
            return mark, {}
        return mark, {key: str(fields[key]) for key in ("status", "created") if fields.get(key) is not None}

    def _summary(self, name: str, fields: Mapping[str, Any]) -> RunSummary:
        status = str(fields.get("status", "unreadable"))
        path = self.folder / name
        if status in _ACTIVE:  # others never change without the file
            status = _tried(RunFolder(path).record.status, "unreadable", [], path)
        return RunSummary(name, path, status, str(fields.get("created", "")))

    def _reader(self, path: Path, problems: list[str]) -> RunReader | None:
        """The reader of a run, a new one if the folder was replaced by another."""
        try:
            inode = path.stat().st_ino
            known = self._readers.get(path)
            if known is None or known[0] != inode:
                known = self._readers[path] = inode, RunReader(path)
            if known[1].folder.run_json.is_file():
                return known[1]
            problems.append(f"{path} is no run folder any more.")
        except _NOT_AS_WRITTEN as error:
            problems.append(_words(error, path))
        self._readers.pop(path, None)
        return None

    def _history(self, reader: RunReader, problems: list[str]) -> tuple[Mapping[str, Any], ...]:
        path = reader.folder.history
        mark = _mark(path)
        if mark is None:
            return ()
        known = self._histories.get(path)
        if known is None or known[0] != mark:
            entries = _tried(reader.history, (), problems, path)
            known = mark, tuple(entry for entry in entries if type(entry.get("epoch")) is int)
            if problems:
                return known[1]  # said again at the next look
            self._histories[path] = known
        return known[1]


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does; None: there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _tried(read: Callable[[], _T], otherwise: Any, problems: list[str], path: Path) -> _T:
    try:
        return read()
    except _NOT_AS_WRITTEN as error:
        problems.append(_words(error, path))
        return otherwise  # type: ignore[no-any-return]


def _words(error: Exception, path: Path) -> str:
    if isinstance(error, MaskwrightError):
        return str(error)
    if isinstance(error, OSError):
        return f"{path} cannot be read: {error.strerror or error}."
    return f"{path} is not as Maskwright writes it ({type(error).__name__}: {error})."

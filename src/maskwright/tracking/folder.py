"""RunFolder: every path inside a run folder, in one place; RunRecord: run.json, what the run is and how it fares."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import re
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.errors import RunError
from maskwright.files import (
    TEMPORARY_SUFFIX,
    FileLock,
    check_writable,
    explain_os_error,
    read_json,
    remove_stale,
    temporary_path,
    write_json,
    write_text,
)
from maskwright.tracking.environment import is_running, process_mark

__all__ = ["FORMAT_VERSION", "RunFolder", "RunRecord", "Status", "find_runs", "time_text"]

FORMAT_VERSION = 1

Status = Literal["starting", "running", "finished", "stopped", "failed", "interrupted"]

_ACTIVE = ("starting", "running")
_SILENCE_S = 600.0  # after so long without a sign a run on another computer counts as dead
_SUBFOLDERS = ("checkpoints", "model", "control", "tensorboard", "samples")


def time_text() -> str:
    """Now in UTC, for example ``2026-11-21T09:30:00.123456+00:00``; texts sort like times."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of a run. Training writes them; the faces read them, and write command files into ``control``."""

    path: Path

    @property
    def config(self) -> Path:
        """The whole experiment, resolved."""
        return self.path / "config.yaml"

    @property
    def run_json(self) -> Path:
        """Status, process, versions, hardware: see :class:`RunRecord`."""
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def history(self) -> Path:
        return self.path / "training_history.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def manifest(self) -> Path:
        return self.checkpoints / "manifest.json"

    @property
    def model(self) -> Path:
        """Folder of the portable model."""
        return self.path / "model"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def predictions(self) -> Path:
        """What the model said of the validation images, a folder for each epoch that was asked for."""
        return self.path / "predictions"

    @property
    def profile(self) -> Path:
        """Where the time of some batches went."""
        return self.path / "profile"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def splits(self) -> Path:
        return self.path / "splits.geojson"

    @property
    def lock(self) -> Path:
        """Locked by the process that works on the run; names it."""
        return self.path / "run.lock"

    @property
    def record(self) -> RunRecord:
        return RunRecord(self.run_json)

    @classmethod
    def create(cls, output_dir: Path, name: str) -> RunFolder:
        """Make ``{output_dir}/{name}_{YYYYmmdd_HHMMSS}``, with ``_2``, ``_3`` if the second is taken.

        The folder is made under a temporary name with all it needs and renamed, so nobody sees it half made and two
        processes never share one.

        Raises:
            RunError: If the disk refuses; nothing is left behind.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise RunError(
                f"The run name {name!r} cannot be a folder's name. "
                "Use letters, digits, '_', '.' and '-', a letter or digit first."
            )
        output_dir = Path(output_dir)
        check_writable(output_dir)
        missing = [folder for folder in (output_dir, *output_dir.parents) if not folder.exists()]
        draft = temporary_path(output_dir / name)
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            remove_stale(output_dir)
            return cls(_publish(_furnish(draft, name), output_dir, name))
        except OSError as cause:
            raise RunError(explain_os_error(cause, output_dir)) from cause
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # gone after the rename
            for folder in missing:
                _remove_if_empty(folder)

    @classmethod
    def adopt(cls, path: Path, name: str) -> RunFolder:
        """The folder at ``path`` as a run folder; what it lacks of one is added, and what it holds stays.

        For loops that choose their folder themselves; :meth:`create` makes one that is nobody else's.

        Raises:
            RunError: If the disk refuses, or another living process works in the folder.
        """
        folder = cls(Path(path))
        try:
            for subfolder in _SUBFOLDERS:
                (folder.path / subfolder).mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise RunError(explain_os_error(cause, folder.path)) from cause
        if folder.run_json.exists():
            folder.record.begin_attempt()
        else:
            write_json(folder.run_json, _first_facts(name))
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run folder at ``path``.

        Raises:
            RunError: If it is not one, or was written by a newer Maskwright.
        """
        path = Path(path)
        folder = cls(path)
        if not folder.run_json.is_file():
            raise RunError(f"{path} is not a run folder: {_why_not(path)}")
        version = folder.record.load().get("format_version")
        if not isinstance(version, int):
            raise RunError(
                f"{path} is not a run folder: {folder.run_json.name} in it is not one that Maskwright wrote, or it was "
                "changed: it holds no format_version. Name another folder."
            )
        if version > FORMAT_VERSION:
            raise RunError(
                f"{path} was written by a newer Maskwright: run format {version}, this one reads up to "
                f"{FORMAT_VERSION}. Upgrade Maskwright."
            )
        return folder


class RunRecord:
    """run.json: plain facts about a run, replaced as a whole at each change.

    Fields that are always there: ``format_version``, ``name``, ``status`` (see ``Status``), ``attempt`` (from 1),
    ``host``, ``pid``, ``process``, ``created``, ``started`` (this attempt), ``updated``, ``ended`` (None while active).
    Training adds ``versions``, ``hardware``, ``precision``, ``data``, ``commit`` and what else it learns; ``parent``
    where the weights come from an earlier run (``folder``, ``checkpoint``, ``sha256``, ``epoch``); ``changes`` for
    attempts that went on with other settings (``attempt``, ``time``, ``settings`` with ``was`` and ``now`` of each).
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()

    def load(self) -> dict[str, Any]:
        """All fields. Raises RunError if run.json is missing or damaged."""
        fields = read_json(self.path)
        if not isinstance(fields, dict):
            raise RunError(f"{self.path} is damaged: not a table of fields.")
        return fields

    def update(self, **fields: object) -> dict[str, Any]:
        """Set fields and keep the others; a status that ends the run also sets ``ended``.

        Raises:
            RunError: If run.json cannot be read or written.
            ValueError: If ``status`` is not a word of ``Status``.
        """
        status = fields.get("status")
        if status is not None and status not in get_args(Status):
            raise ValueError(f"status {status!r} is unknown; one of {', '.join(get_args(Status))}")
        with self._lock:
            now = time_text()
            if status is not None:
                fields = {"ended": None if status in _ACTIVE else now} | fields
            merged = self.load() | fields | {"updated": now}
            write_json(self.path, merged)
        return merged

    def begin_attempt(self, **fields: object) -> dict[str, Any]:
        """Enter this process as the one that continues the run: attempt plus one, status ``starting``.

        Raises:
            RunError: If another living process works on the run.
        """
        control = RunFolder(self.path.parent).control
        control.mkdir(exist_ok=True)  # copying tools drop empty folders
        with FileLock(control / ".lock", timeout_s=10):
            former = self.load()
            if former.get("pid") != os.getpid() and self.is_alive():
                raise RunError(self._busy(former))
            number = int(former.get("attempt", 0)) + 1
            return self.update(**fields, **_process_fields(), attempt=number, status="starting", started=time_text())

    def is_alive(self) -> bool:
        """Whether the run's process is at work.

        On this computer the process itself is asked. For another one, a sign of life in the run folder within the last
        ten minutes counts.
        """
        fields = self.load()
        if fields.get("status") not in _ACTIVE:
            return False
        if fields.get("host") != socket.gethostname():
            return self._last_sign() > time.time() - _SILENCE_S
        return is_running(int(fields.get("pid", -1)), str(fields.get("process")))

    def status(self) -> Status:
        """The status as it is: a run whose process died without a word is ``interrupted``."""
        written: Status = self.load()["status"]
        return "interrupted" if written in _ACTIVE and not self.is_alive() else written

    def _busy(self, holder: dict[str, Any]) -> str:
        run = self.path.parent
        text = f"{run} is busy: process {holder.get('pid')} on {holder.get('host')} still works on it"
        if holder.get("host") == socket.gethostname():
            return f"{text}. Wait until it has finished, or stop it with: maskwright runs stop {run}"
        silent_s = max(time.time() - self._last_sign(), 0.0)
        return (
            f"{text}: its last sign of life came {silent_s / 60:.0f} minutes ago. Another computer cannot be asked "
            f"whether a process lives, so a run there counts as dead after {_SILENCE_S / 60:.0f} minutes of silence. "
            f"Wait until it has finished or that time is over, or stop it with: maskwright runs stop {run}"
        )

    def _last_sign(self) -> float:
        signs = (self.path, RunFolder(self.path.parent).events)
        return max((sign.stat().st_mtime for sign in signs if sign.exists()), default=0.0)


def find_runs(output_dir: Path, name: str | None = None) -> tuple[RunFolder, ...]:
    """The runs in ``output_dir``, newest first; those called ``name`` only if given. No folder: no runs."""
    found = []
    output_dir = Path(output_dir)
    for run_json in output_dir.glob("*/run.json") if output_dir.is_dir() else ():
        folder = RunFolder(run_json.parent)
        if folder.path.name.endswith(TEMPORARY_SUFFIX):
            continue  # being made at this moment
        try:
            fields = folder.record.load()
        except RunError:
            fields = {}  # listed all the same: opening it tells what is wrong
        if name is None or fields.get("name") == name:
            found.append((str(fields.get("created", "")), folder.path.name, folder))
    return tuple(folder for *_, folder in sorted(found, key=lambda run: run[:2], reverse=True))


def _process_fields() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "process": process_mark(os.getpid())}


def _furnish(draft: Path, name: str) -> Path:
    draft.mkdir()
    for subfolder in _SUBFOLDERS:
        (draft / subfolder).mkdir()
    folder = RunFolder(draft)
    write_json(folder.run_json, _first_facts(name))
    write_text(folder.history, "[]\n")
    folder.events.touch()
    folder.log.touch()
    return draft


def _first_facts(name: str) -> dict[str, object]:
    now = time_text()
    facts: dict[str, object] = {"format_version": FORMAT_VERSION, "name": name, "status": "starting", "attempt": 1}
    return facts | _process_fields() | {"created": now, "started": now, "updated": now, "ended": None}


def _publish(draft: Path, output_dir: Path, name: str) -> Path:
    """Rename ``draft`` to the first free name of this second."""
    stamp = time.strftime("%Y%m%d_%H%M%S")
    number = 1
    while True:
        path = output_dir / (f"{name}_{stamp}" + (f"_{number}" if number > 1 else ""))
        try:
            if not path.exists():  # an empty folder of that name would be replaced without a word
                os.rename(draft, path)
                return path
        except OSError as cause:
            if cause.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        number += 1


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not made, or already in use by someone else
        folder.rmdir()


def _why_not(path: Path) -> str:
    if not path.exists():
        return "it does not exist. Check the path."
    runs = find_runs(path)
    if runs:
        return f"it holds {len(runs)} runs. Name one of them, for example {runs[0].path}."
    return "it has no run.json. Give the folder that training made, for example outputs/NAME_20261121_093000."

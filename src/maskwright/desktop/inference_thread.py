"""InferenceThread: a prediction in a process of its own, told by signals.

The process is ``maskwright predict --json``: the window computes nothing and loads no torch. Each line it says is one
thing that happened (see :mod:`maskwright.cli.json_lines`); the thread reads them and emits the signals.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from PySide6.QtCore import QCoreApplication, QObject, QThread, QTimer, Signal

from maskwright.desktop.jobs import words_of
from maskwright.errors import RunError
from maskwright.files import explain_os_error, parse_json

__all__ = ["InferenceConfig", "InferenceThread", "command_of"]

_PATIENCE_S = 20.0  # for a process that was asked to stop
_SAID_LINES = 12  # of what a failed process wrote


_under_way: set[InferenceThread] = set()


@dataclass(frozen=True)
class InferenceConfig:
    """What to predict, with what, and where to.

    Attributes:
        model: Run folder, model folder or checkpoint of a run.
        inputs: Files and folders.
        out: Folder of the results.
        settings: Of the section ``prediction``, by name; the others are as the model's experiment says.
        heights_m: Heights in metres, for models of gaps; empty: those of the model.
        device: ``auto``, ``cpu``, ``cuda`` ...
        recursive: Search the folders inside folders.
        overwrite: Replace files of an earlier prediction.
    """

    model: Path
    inputs: Sequence[Path]
    out: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    heights_m: Sequence[float] = ()
    device: str = "auto"
    recursive: bool = False
    overwrite: bool = False

    def words(self) -> list[str]:
        """The command behind ``maskwright``."""
        words = ["predict", str(self.model), *map(str, self.inputs), "--out", str(self.out), "--json"]
        words += ["--device", self.device]
        for name, value in self.settings.items():
            words += ["--set", f"{name}={_yaml(value)}"]
        words += ["--recursive"] if self.recursive else []
        words += ["--overwrite"] if self.overwrite else []
        if self.heights_m:
            words += ["--heights", *(f"{height:g}" for height in self.heights_m)]
        return words


class InferenceThread(QThread):
    """Starts a prediction and follows it. One of the two last signals always comes, after a stop too.

    Args:
        config: What to predict.
        parent: Owner.
    """

    progress_updated = Signal(int, int, str)
    """done, total, what is being done."""
    image_completed = Signal(int, str, bool)
    """Number of the input from 0, its path, whether it went well; ``results[number]`` holds the rest."""
    inference_completed = Signal(dict)
    """All inputs were tried, or the work was stopped: ``results``, ``failed`` (how many), ``stopped``, ``out``."""
    inference_failed = Signal(str)
    """Nothing could be done: a sentence that says why."""

    def __init__(self, config: InferenceConfig, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.config = config
        self.results: list[dict[str, Any]] = []
        """What came of each input so far, as the process said it; filled before its signal is emitted."""
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._reason = ""
        self._ended = False

    def start(self, priority: QThread.Priority = QThread.Priority.InheritPriority) -> None:
        """Begin. The thread stays until its process has ended, whatever becomes of the window that started it."""
        _under_way.add(self)
        self.finished.connect(self._forget)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._stop_and_wait)
        super().start(priority)

    def stop(self) -> None:
        """Ask the process to end; finished bands of a large raster are kept, and the same prediction goes on there.

        Returns at once.
        """
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            _ask_to_end(process)
            threading.Thread(target=_end_at_last, args=(process,), daemon=True).start()

    def run(self) -> None:
        """What the thread does; begun by ``start()``."""
        with tempfile.TemporaryFile() as said:
            try:
                code = self._follow(said)
            except Exception as error:  # whatever it is, the person who waits is told
                self.inference_failed.emit(words_of(error))
                return
            self._conclude(code, said)

    def _forget(self) -> None:
        QTimer.singleShot(0, partial(_under_way.discard, self))  # not while one of its own signals is delivered

    def _stop_and_wait(self) -> None:
        self.stop()
        self.wait()

    def _follow(self, said: IO[bytes]) -> int:
        """Run the process to its end; its exit code."""
        command = command_of(self.config)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                env=os.environ | {"PYTHONIOENCODING": "utf-8:surrogateescape"},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as cause:
            raise RunError(f"The prediction cannot be started: {explain_os_error(cause, Path(command[0]))}") from cause
        self._process = process
        if self._stopping.is_set():  # asked before there was a process
            self.stop()
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._take(line)
        return process.wait()

    def _take(self, line: bytes) -> None:
        try:
            row = parse_json(line.decode("utf-8", errors="surrogateescape"))
        except ValueError:
            return  # a word of some library
        if not isinstance(row, dict):
            return
        match row.get("kind"):
            case "progress":
                self.progress_updated.emit(int(row["done"]), int(row["total"]), str(row["what"]))
            case "result":
                self.results.append(row)
                self.image_completed.emit(len(self.results) - 1, str(row["input"]), not row["error"])
            case "failed":
                self._reason = str(row["message"])
            case "end":
                self._ended = True

    def _conclude(self, code: int, said: IO[bytes]) -> None:
        stopped = self._stopping.is_set() and not self._ended
        if self._ended or stopped:
            failed = sum(bool(row["error"]) for row in self.results)
            self.inference_completed.emit(
                {"results": list(self.results), "failed": failed, "stopped": stopped, "out": str(self.config.out)}
            )
            return
        self.inference_failed.emit(self._reason or _last_words(code, said))


def command_of(config: InferenceConfig) -> list[str]:
    """The words that start the process."""
    return [sys.executable, "-P", "-m", "maskwright", *config.words()]


def _yaml(value: object) -> str:
    """A setting as ``--set`` reads it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does where there is such a thing, so that it tidies up."""
    if os.name == "posix":
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in the background of a shell; it is inherited
        process.send_signal(signal.SIGTERM if ignored else signal.SIGINT)
    else:
        process.terminate()


def _end_at_last(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _last_words(code: int, said: IO[bytes]) -> str:
    """Why a process ended that gave no reason on its output."""
    if code < 0:
        return f"The prediction was ended from outside ({signal.Signals(-code).name}). Start it again."
    said.seek(0)
    lines = said.read().decode("utf-8", errors="replace").strip().splitlines()[-_SAID_LINES:]
    text = "\n".join(lines).removeprefix("Error:").strip()
    return text or f"The prediction ended with exit code {code} and gave no reason."

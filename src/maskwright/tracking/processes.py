"""Trainings started from a face: processes of their own, which live on when the face is closed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwright.errors import RunError
from maskwright.files import explain_os_error

__all__ = ["Started", "resume_command", "start", "train_command"]


@dataclass(frozen=True)
class Started:
    """A training that was started here.

    Attributes:
        command: Its words.
        output: What it prints.
        process: The process.
    """

    command: tuple[str, ...]
    output: Path
    process: subprocess.Popen[bytes]

    @property
    def code(self) -> int | None:
        """Its exit code; None while it works."""
        return self.process.poll()

    def said(self, count: int = 40) -> str:
        """The last lines it printed."""
        try:
            lines = self.output.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-count:])


def train_command(file: Path, output_dir: Path) -> list[str]:
    """The words that train what an experiment file says, into the folder that is watched."""
    return ["maskwright", "train", str(file), "--output-dir", str(output_dir)]


def resume_command(run: Path) -> list[str]:
    """The words that continue a run."""
    return ["maskwright", "train", "--resume", str(run)]


def start(words: Sequence[str]) -> Started:
    """Run ``maskwright ...`` in a process of its own, in the working folder of the face.

    Its output goes to a temporary file, since the run folder is not there yet and belongs to the training.

    Raises:
        RunError: If the process cannot be started.
    """
    handle, name = tempfile.mkstemp(prefix="maskwright_", suffix=".txt")
    command = [sys.executable, "-P", "-m", "maskwright", *words[1:]]
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows only; elsewhere a session of its own
    try:
        with os.fdopen(handle, "wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                creationflags=flags,
                start_new_session=True,
            )
    except OSError as cause:
        raise RunError(f"{shlex.join(words)} cannot be started: {explain_os_error(cause, Path(command[0]))}") from cause
    return Started(tuple(words), Path(name), process)

"""Command files: what the faces may ask of a running training.

A face drops a small JSON file into the run's control folder; the training looks there now and then and obeys in order.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskwright.errors import RunError
from maskwright.files import explain_os_error, read_json, write_json
from maskwright.tracking.folder import RunFolder

__all__ = ["COMMANDS", "Command", "ControlFolder", "ask"]

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_WAIT_S = 0.05
_counter = itertools.count()

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "checkpoint": (),
    "pause": (),
    "resume": (),
    "set_lr": ("lr",),
    "stop": (),
}
"""Every command and the names of its values."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a face.

    Attributes:
        kind: A key of ``COMMANDS``.
        values: Its values by name, for example ``{"lr": 0.001}``.
    """

    kind: str
    values: Mapping[str, float] = field(default_factory=dict)


class ControlFolder:
    """Both ends of the command files: faces ``send``, the training calls ``poll``."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._look_again = 0.0  # monotonic seconds

    def send(self, command: str, **values: float) -> Path:
        """Ask the training for something; it obeys at its next look.

        Returns:
            The command file; it is gone once the training has taken it.

        Raises:
            RunError: If the command or its values are unknown or wrong, or the disk refuses.
        """
        checked = _checked(command, values)
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as cause:
            raise RunError(explain_os_error(cause, self.path)) from cause
        name = f"{time.time_ns():020d}_{os.getpid()}_{next(_counter):04d}_{command}.json"
        write_json(self.path / name, {"command": checked.kind, **checked.values})
        return self.path / name

    def poll(self) -> list[Command]:
        """The commands that arrived since the last look, in the order sent; each is given once.

        Looks at the folder at most five times a second and returns at once otherwise, so it can be called every batch.
        Files that are no commands are removed and named in the log.
        """
        now = time.monotonic()
        if now < self._look_again:
            return []
        self._look_again = now + _LOOK_EVERY_S
        commands = (self._take(path) for path in self._files())
        return [command for command in commands if command is not None]

    def clear(self, *, before_ns: int | None = None) -> tuple[str, ...]:
        """Remove what nobody obeyed, such as a stop sent to a run that had died; returns the file names.

        Args:
            before_ns: Only what was sent before this time, in nanoseconds since 1970; unset: everything.
        """
        files = [path for path in self._files() if before_ns is None or _sent_ns(path) < before_ns]
        for path in files:
            path.unlink(missing_ok=True)
        return tuple(path.name for path in files)

    def _files(self) -> list[Path]:
        try:
            with os.scandir(self.path) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(".json")]
        except FileNotFoundError:
            return []
        return [self.path / name for name in sorted(names)]

    def _take(self, path: Path) -> Command | None:
        try:
            content = read_json(path)
            if not isinstance(content, dict):
                raise RunError(f"{path} is not a table of fields.")
            command = _checked(str(content.pop("command", "")), content)
        except RunError as cause:
            _log.warning("A command file was ignored: %s", cause)
            command = None
        path.unlink(missing_ok=True)
        return command


def ask(run: RunFolder, command: str, *, wait_s: float = 5.0, **values: float) -> bool:
    """Ask a run at work for something, as :meth:`ControlFolder.send`, and wait until it has taken the command.

    Args:
        run: The run.
        command: A key of ``COMMANDS``.
        wait_s: How long to wait at most.
        values: Values of the command.

    Returns:
        False if it has not looked by then: it prepares its data, say, and will look later.

    Raises:
        RunError: If nobody works on the run, or the command is wrong.
    """
    if not run.record.is_alive():
        raise RunError(
            f"{run.path} is not at work (status {run.record.status()}), so nobody would obey. "
            f"Continue it with: maskwright train --resume {run.path}"
        )
    file = ControlFolder(run.control).send(command, **values)
    give_up = time.monotonic() + wait_s
    while file.exists() and time.monotonic() < give_up:
        time.sleep(_WAIT_S)
    return not file.exists()


def _sent_ns(path: Path) -> int:
    """When a command file was sent, by its name; 0 for a file that was named otherwise."""
    stamp = path.name.partition("_")[0]
    return int(stamp) if stamp.isdecimal() else 0


def _checked(command: str, values: Mapping[str, object]) -> Command:
    if command not in COMMANDS:
        raise RunError(f"The command {command!r} is unknown. Available: {', '.join(COMMANDS)}.")
    names = COMMANDS[command]
    if set(values) != set(names):
        wanted = ", ".join(names) or "no values"
        raise RunError(f"The command {command!r} takes {wanted}; given: {', '.join(map(str, values)) or 'none'}.")
    numbers = {}
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise RunError(f"The command {command!r} needs {name} to be a number above 0; given: {value!r}.")
        numbers[name] = float(value)
    return Command(command, numbers)

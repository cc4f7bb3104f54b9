"""Several processes of one search on this machine, each with its share of the cores and GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from maskwright.config import Override
from maskwright.errors import RunError
from maskwright.files import explain_os_error

__all__ = ["run_jobs"]

_LOOK_EVERY_S = 0.5
_TELL_EVERY_S = 5.0
_INTERRUPTED = 130


@dataclass(frozen=True)
class _Job:
    """A process at work, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path


def run_jobs(
    files: Sequence[str],
    overrides: Sequence[str | Override],
    count: int,
    folder: Path,
    how_far: Callable[[], str],
    say: Callable[[str], None],
) -> str | None:
    """Start so many processes of the search and wait for them; what each says goes to ``job_1.log`` ... in its folder.

    Stopped from outside, it stops them first, each after its present batch and with its trial saved.

    Returns:
        Why the search stopped before its last trial; None if it did not.

    Raises:
        RunError: If every process failed; with the last words of the first.
    """
    command = [sys.executable, "-m", "maskwright", "tune", *files, *_as_options(overrides), "--out", str(folder)]
    with _at_work([[*command, "--job", str(index), "--quiet"] for index in range(count)], folder) as jobs:
        told, told_s, at_work = "", 0.0, True
        while at_work:
            at_work = any(job.process.poll() is None for job in jobs)
            if not at_work or time.monotonic() - told_s > _TELL_EVERY_S:
                told_s, now = time.monotonic(), how_far()
                if now != told:
                    say(now)
                    told = now
            time.sleep(_LOOK_EVERY_S if at_work else 0)
    codes = [job.process.returncode for job in jobs]
    wrong = [job for job in jobs if job.process.returncode not in (0, _INTERRUPTED)]
    for job in wrong:
        say(f"{job.log.name}: ended with code {job.process.returncode}: {_last_words(job.log)}")
    if len(wrong) == count:
        raise RunError(f"All {count} processes of the search failed; {wrong[0].log} says: {_last_words(wrong[0].log)}")
    return "signal to a process of the search" if _INTERRUPTED in codes else None


@contextmanager
def _at_work(commands: Sequence[Sequence[str]], folder: Path) -> Iterator[list[_Job]]:
    """The processes; on leaving they are asked to stop, and waited for.

    They do not hear the terminal's Ctrl-C themselves, which a second signal would make an end without saving.
    """
    jobs: list[_Job] = []
    errors: list[OSError] = []

    def start() -> None:
        try:
            for index, command in enumerate(commands, 1):
                jobs.append(_started(command, folder / f"job_{index}.log"))
        except OSError as error:
            errors.append(error)

    # In a thread, which no signal interrupts: none may be lost between its start and its place in the list.
    starter = threading.Thread(target=start)
    starter.start()
    try:
        starter.join()
        if errors:
            raise RunError(explain_os_error(errors[0], folder)) from errors[0]
        yield jobs
    finally:
        starter.join()
        for job in jobs:
            if job.process.poll() is None:
                job.process.terminate()
        for job in jobs:
            job.process.wait()


def _started(command: Sequence[str], log: Path) -> _Job:
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    return _Job(process, log)


def _as_options(overrides: Sequence[str | Override]) -> list[str]:
    """Overrides as the command line takes them."""
    said = [one if isinstance(one, str) else f"{one.path}={json.dumps(one.value)}" for one in overrides]
    return [word for one in said for word in ("--set", one)]


def _last_words(log: Path) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"

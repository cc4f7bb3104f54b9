"""launch: one command line in several processes of this computer, started again when one of them dies.

The processes find in their environment what ``torchrun`` would put there. Nothing here loads torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from maskwright.distributed.ranks import EXIT_LOST

__all__ = ["launch"]

_LOOK_EVERY_S = 0.1
_GRACE_S = 10.0  # for the others to save, once one has died
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED = 130
_WELL = (0, 0)


def launch(command: Sequence[str], processes: int, *, restarts: int, say: Callable[[str], None]) -> int:
    """Run a command in several processes that work together, and wait for them.

    When one of them is killed the others are ended, and all are started again; what they work on must then go on from
    where it was saved. One that ends with an error has said why, and is not started again. Ctrl-C and SIGTERM are
    passed on.

    Args:
        command: Program and arguments.
        processes: At least 1.
        restarts: How often all may be started again.
        say: Called with what happened, a sentence each.

    Returns:
        The exit code: 0 if all ended well, that of the process that failed, 130 after Ctrl-C or SIGTERM.
    """
    run_id = uuid.uuid4().hex
    for attempt in range(restarts + 1):
        crew = _Crew(command, processes, run_id, attempt)
        with _passing_on(crew):
            failed = crew.wait()
        if crew.was_asked_to_stop:
            return _INTERRUPTED
        if failed is None:
            return 0
        number, code = failed
        if code >= 0:
            return code
        told = f"Process {number} of {processes} was killed by {signal.Signals(-code).name}, and the others were ended."
        if attempt < restarts:
            say(f"{told} All are started again and go on from what was saved (restart {attempt + 1} of {restarts}).")
    say(f"{told} Continue with the same command and --resume RUN or --resume auto.")
    return 128 - code


class _Crew:
    """The processes of one attempt."""

    def __init__(self, command: Sequence[str], processes: int, run_id: str, attempt: int) -> None:
        self.was_asked_to_stop = False
        shared = {
            "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
            "TORCHELASTIC_RUN_ID": run_id,
            "TORCHELASTIC_RESTART_COUNT": str(attempt),
            "MASKWRIGHT_LAUNCHED": "1",
        }
        wishes = {"OMP_NUM_THREADS": str(max(1, _cores() // processes))}
        if sys.platform == "linux":
            wishes["GLOO_SOCKET_IFNAME"] = "lo"  # nothing leaves this computer
        self._processes = [
            subprocess.Popen(
                list(command),
                env={**wishes, **os.environ, **shared, "RANK": str(number), "LOCAL_RANK": str(number)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C reaches them through us, once
            )
            for number in range(processes)
        ]

    def send(self, number: int) -> None:
        """Pass a signal on to those at work."""
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)

    def wait(self) -> tuple[int, int] | None:
        """Until all have ended: the number and exit code of the one that failed first; None if all ended well."""
        try:
            while self._at_work() and (self._failed() or _WELL)[1] in (0, EXIT_LOST):
                time.sleep(_LOOK_EVERY_S)
            failed = self._failed()
            self._end()
        finally:
            self.send(signal.SIGKILL)
        return failed

    def _at_work(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def _failed(self) -> tuple[int, int] | None:
        """Of those that failed: one that was killed, else one that ended by itself, else one that lost another.

        What others have lost does not matter if process 0, which does what is left to do, has ended well.
        """
        codes = [process.poll() for process in self._processes]
        bad = [(number, code) for number, code in enumerate(codes) if code and (code != EXIT_LOST or codes[0] != 0)]
        return min(bad, key=lambda each: (each[1] == EXIT_LOST, each[1] > 0), default=None)

    def _end(self) -> None:
        """End those that are left, giving them time to save."""
        if not self.was_asked_to_stop:
            self.send(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while self._at_work() and (self.was_asked_to_stop or time.monotonic() < until):
            time.sleep(_LOOK_EVERY_S)


@contextlib.contextmanager
def _passing_on(crew: _Crew) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM go to the processes; a second one ends them at once, by their own rule."""

    def handle(number: int, _: FrameType | None) -> None:
        crew.was_asked_to_stop = True
        crew.send(number)

    former = {number: signal.signal(number, handle) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1

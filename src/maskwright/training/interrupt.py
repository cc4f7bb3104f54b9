"""graceful_stop: SIGTERM and Ctrl-C ask the run to stop and save; a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from maskwright.training.state import TrainState

__all__ = ["graceful_stop"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def graceful_stop(state: TrainState) -> Iterator[None]:
    """Inside, the first signal sets the stop flag of ``state``; afterwards the former handlers are back.

    Python allows handlers in the main thread only; in another thread this does nothing, and the host stops the run with
    ``state.request_stop``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: set[int] = set()

    def handle(number: int, frame: FrameType | None) -> None:
        if asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        asked.add(number)
        state.request_stop(f"signal {signal.Signals(number).name}")

    former = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

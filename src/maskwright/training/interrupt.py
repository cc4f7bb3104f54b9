"""SIGTERM and Ctrl-C: inside the loop they ask the run to stop and save, around it they end what can be done again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from maskwright.training.state import TrainState

__all__ = ["StopAsked", "Stopper", "graceful_stop", "stoppable"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopAsked(KeyboardInterrupt):
    """The run is to end here, and can be continued. ``reason`` says who asked: ``signal SIGTERM``, ``stop command``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopper:
    """What signals have asked of a run so far.

    Attributes:
        reason: The first signal, as ``signal SIGTERM``; None while there was none.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def check(self) -> None:
        """End here if a signal came, for example one that came too late to stop the loop. Raises StopAsked."""
        if self.reason is not None:
            raise StopAsked(self.reason)


_stoppers: list[Stopper] = []  # those around the present code, the innermost last


@contextlib.contextmanager
def stoppable() -> Iterator[Stopper]:
    """Around a whole run: the first SIGTERM or Ctrl-C raises :class:`StopAsked` where it strikes.

    For everything before and behind the training loop, which is short or can be done again; the loop inside
    :func:`graceful_stop` ends between two batches instead. A second signal ends the process at once. Outside the main
    thread, where Python allows no handlers, this does nothing.
    """
    stopper = Stopper()

    def ask(reason: str) -> None:
        stopper.reason = reason
        raise StopAsked(reason)

    _stoppers.append(stopper)
    try:
        with _handling(ask):
            yield stopper
    finally:
        _stoppers.remove(stopper)


@contextlib.contextmanager
def graceful_stop(state: TrainState) -> Iterator[None]:
    """Inside, the first signal sets the stop flag of ``state``; afterwards the former handlers are back.

    Python allows handlers in the main thread only; in another thread this does nothing, and the host stops the run with
    ``state.request_stop``.
    """

    def ask(reason: str) -> None:
        state.request_stop(reason)
        for stopper in _stoppers:
            stopper.reason = stopper.reason or reason

    with _handling(ask):
        yield


@contextlib.contextmanager
def _handling(ask: Callable[[str], None]) -> Iterator[None]:
    """Inside, the first signal calls ``ask`` with its name; a second one ends the process at once."""
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
        ask(f"signal {signal.Signals(number).name}")

    former = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

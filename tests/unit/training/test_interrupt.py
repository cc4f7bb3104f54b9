"""Signals: the first asks to stop, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from maskwright.training import CallbackList, fit, graceful_stop
from maskwright.training.callback import Callback

Toy = Any


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_after_the_batch_and_former_handlers_come_back(toy: Toy, number: signal.Signals) -> None:
    class Sender(Callback):
        def on_batch_begin(self, state: Any) -> None:
            if state.global_step == 2:
                os.kill(os.getpid(), number)

    former = signal.getsignal(number)
    state, loader = toy.state(), toy.loader(4)
    with graceful_stop(state):
        fit(state, toy.task, loader, loader, state.updater, CallbackList([Sender()]), epochs=3)
    assert state.stop_reason == f"signal {number.name}"
    assert (state.global_step, state.position) == (2, 2)
    assert signal.getsignal(number) is former


def test_a_second_interrupt_raises_at_once(toy: Toy) -> None:
    state = toy.state()

    def interrupted_twice() -> None:
        with graceful_stop(state):
            os.kill(os.getpid(), signal.SIGINT)
            assert state.stop_reason == "signal SIGINT"
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork to watch a process die")
def test_a_second_sigterm_ends_the_process_at_once(toy: Toy) -> None:
    child = os.fork()
    if child == 0:
        with graceful_stop(toy.state()):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)  # still here
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_outside_the_main_thread_handlers_are_left_alone(toy: Toy) -> None:
    former = signal.getsignal(signal.SIGTERM)
    found: list[Any] = []

    def work() -> None:
        with graceful_stop(toy.state()):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [former]

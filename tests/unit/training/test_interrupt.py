"""Signals: the first asks to stop, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from maskwright.training import CallbackList, fit, graceful_stop
from maskwright.training.callback import Callback
from maskwright.training.interrupt import StopAsked, stoppable

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_around_the_loop_the_first_signal_strikes_where_the_run_is(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    reached = []

    def work() -> None:
        with stoppable():
            reached.append("before")
            os.kill(os.getpid(), number)
            reached.append("behind")

    with pytest.raises(StopAsked) as stop:
        work()
    assert reached == ["before"]
    assert stop.value.reason == f"signal {number.name}"
    assert signal.getsignal(number) is former


def test_a_signal_inside_the_loop_that_came_too_late_ends_the_run_behind_it(toy: Toy) -> None:
    state = toy.state()
    with stoppable() as stopper:
        with graceful_stop(state):
            os.kill(os.getpid(), signal.SIGTERM)
        assert state.stop_reason == "signal SIGTERM"
        with pytest.raises(StopAsked, match="signal SIGTERM"):
            stopper.check()


def test_without_a_signal_nothing_ends() -> None:
    with stoppable() as stopper:
        stopper.check()
    assert stopper.reason is None


def test_a_second_interrupt_around_the_loop_raises_while_the_first_is_handled() -> None:
    def twice() -> None:
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except StopAsked:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as second:
        twice()
    assert not isinstance(second.value, StopAsked)


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

"""Callbacks: order, errors, states."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import pytest

from maskwright.errors import DataError, TrainingError
from maskwright.training import Callback, CallbackList, fit

Toy = Any

HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


class Recorder(Callback):
    """Writes down every hook."""

    def __init__(self, name: str, heard: list[str]) -> None:
        self.name = name
        self.heard = heard

    def __getattribute__(self, hook: str) -> Any:
        if hook in HOOKS:
            return lambda state, *rest: self.heard.append(f"{self.name}.{hook}")
        return super().__getattribute__(hook)


def test_every_hook_of_a_callback_exists_in_the_list() -> None:
    assert [name for name in vars(CallbackList) if name.startswith("on_")] == HOOKS


def test_hooks_come_in_the_order_of_the_loop_and_callbacks_in_the_order_given(toy: Toy) -> None:
    heard: list[str] = []
    state, loader = toy.state(accumulate=2, batches=3, epochs=1), toy.loader(3)
    fit(
        state,
        toy.task,
        loader,
        toy.loader(1),
        state.updater,
        CallbackList([Recorder("a", heard), Recorder("b", heard)]),
        epochs=1,
    )
    assert heard[0::2] == [name.replace("b.", "a.") for name in heard[1::2]]
    assert [name.removeprefix("a.on_") for name in heard[0::2]] == [
        "train_begin",
        "epoch_begin",
        *["batch_begin", "batch_end"] * 2,
        "step_end",
        *["batch_begin", "batch_end"],  # the last group is shorter
        "step_end",
        "validation_begin",
        "validation_batch_end",
        "validation_end",
        "epoch_end",
        "train_end",
    ]


def test_an_error_in_a_callback_names_the_callback_the_hook_and_the_place(toy: Toy) -> None:
    class Plotter(Callback):
        def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
            raise ValueError("no display")

    state, loader = toy.state(), toy.loader(4)
    with pytest.raises(TrainingError) as error:
        fit(state, toy.task, loader, loader, state.updater, CallbackList([Plotter()]), epochs=3)
    assert str(error.value) == "Callback Plotter failed in on_epoch_end (epoch 2, step 4): ValueError: no display"
    assert isinstance(error.value.__cause__, ValueError)


def test_a_dead_data_process_that_torch_tells_of_inside_a_callback_is_no_fault_of_the_callback(toy: Toy) -> None:
    class Struck(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            raise RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed.")

    state, loader = toy.state(), toy.loader(4)
    with pytest.raises(DataError, match=r"A loader process ended unexpectedly \(DataLoader worker \(pid 4711\)"):
        fit(state, toy.task, loader, loader, state.updater, CallbackList([Struck()]), epochs=1)


def test_a_full_disk_inside_a_callback_is_not_taken_for_full_shared_memory(toy: Toy) -> None:
    class Writer(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as os.write and os.fsync tell it, without a file

    state, loader = toy.state(), toy.loader(4)
    with pytest.raises(TrainingError, match="Callback Writer failed in on_step_end"):
        fit(state, toy.task, loader, loader, state.updater, CallbackList([Writer()]), epochs=1)


def test_callbacks_hear_of_an_error_before_it_is_raised_again_and_cannot_hide_it(toy: Toy) -> None:
    heard: list[BaseException] = []

    class Careless(Callback):
        def on_exception(self, state: Any, error: BaseException) -> None:
            raise RuntimeError("fails as well")

    class Listener(Callback):
        def on_exception(self, state: Any, error: BaseException) -> None:
            heard.append(error)

    class Broken:
        def __len__(self) -> int:
            return 4

        def batches(self, epoch: int, start: int = 0) -> Any:
            yield toy.batch(0)
            raise OSError("the disk is gone")

    state = toy.state()
    with pytest.raises(OSError, match="the disk is gone") as error:
        fit(state, toy.task, Broken(), None, state.updater, CallbackList([Careless(), Listener()]), epochs=1)
    assert heard == [error.value]
    assert error.value.__notes__ == ["Callback Careless failed in on_exception: fails as well"]


class Counter(Callback):
    def __init__(self, count: int = 0) -> None:
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def test_states_of_several_callbacks_of_one_class_are_kept_apart() -> None:
    states = CallbackList([Counter(1), Callback(), Counter(2)]).state_dict()
    assert states == {"Counter": {"count": 1}, "Counter_2": {"count": 2}}
    again = [Counter(), Counter(), Counter(7)]
    CallbackList(again).load_state_dict(states)
    assert [counter.count for counter in again] == [1, 2, 7]  # the third is new and starts afresh

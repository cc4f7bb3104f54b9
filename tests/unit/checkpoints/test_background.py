"""Saving in the background: the copy, the thread, and a store that loads nothing older than what it was given."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.checkpoints import CheckpointStore, Writing, load_state
from maskwright.checkpoints import store as store_module
from maskwright.checkpoints.background import KeptCopy, layouts_of
from maskwright.errors import CheckpointError


def state_of(value: float) -> dict[str, Any]:
    weight = torch.full((3, 4), value)
    return {"weight": weight, "tied": weight, "moments": {0: [torch.full((2,), value, dtype=torch.bfloat16)]}, "n": 1}


# --- the copy ---------------------------------------------------------------------------------------------------------


def test_a_copy_no_longer_changes_with_the_state() -> None:
    state = state_of(1.0)
    taken = KeptCopy().take(state)
    state["weight"].fill_(2.0)
    assert torch.equal(taken["weight"], torch.full((3, 4), 1.0))
    assert taken["n"] == 1


def test_the_memory_of_a_copy_is_used_again() -> None:
    memory = KeptCopy()
    first = memory.take(state_of(1.0))
    second = memory.take(state_of(2.0))
    assert second["weight"].data_ptr() == first["weight"].data_ptr()
    assert torch.equal(second["weight"], torch.full((3, 4), 2.0))


def test_reserved_memory_is_what_the_first_copy_takes() -> None:
    memory, state = KeptCopy(), state_of(1.0)
    memory.reserve(layouts_of({"weight": state["weight"]}))
    (reserved,) = memory._spare.values()
    place = reserved[0].data_ptr()
    assert memory.take({"weight": state["weight"]})["weight"].data_ptr() == place


def test_a_state_that_grows_or_changes_its_shapes_is_copied_as_well() -> None:
    memory = KeptCopy()
    memory.take({"a": torch.zeros(3)})
    taken = memory.take({"a": torch.ones(5), "b": torch.ones(3), "c": torch.full((3,), 2.0)})
    assert [taken[name].tolist() for name in "abc"] == [[1.0] * 5, [1.0] * 3, [2.0] * 3]
    assert taken["b"].data_ptr() != taken["c"].data_ptr()


def test_tensors_that_are_one_in_the_state_are_one_in_the_copy() -> None:
    taken = KeptCopy().take(state_of(1.0))
    assert taken["tied"] is taken["weight"]


def test_layout_and_type_of_tensors_survive_the_copy() -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    state = {
        "image": image,
        "view": torch.arange(10)[::2],
        "row": torch.zeros(1).expand(4),
        "number": torch.tensor(3.0),
        "none": torch.empty(0, 3),
        "sparse": torch.eye(2).to_sparse(),
        "bits": torch.tensor([True, False]),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "learned": torch.nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict(a=(1, "x", None)),
    }
    taken = KeptCopy().take(state)
    assert taken["image"].stride() == image.stride()
    for name in ("image", "view", "row", "number", "none", "bits", "half", "learned"):
        assert taken[name].dtype == state[name].dtype
        assert torch.equal(taken[name], state[name])
        assert taken[name].untyped_storage().nbytes() == state[name].numel() * state[name].itemsize
    assert torch.equal(taken["sparse"].to_dense(), torch.eye(2))
    assert not taken["learned"].requires_grad
    assert taken["ordered"] == {"a": (1, "x", None)}


def test_what_cannot_be_saved_is_refused_before_anything_is_copied() -> None:
    with pytest.raises(CheckpointError, match=r"state\['plot'\] is a object"):
        KeptCopy().take({"plot": object()})


def test_a_computer_without_room_for_the_copy_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*size: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 48 bytes.")

    monkeypatch.setattr(torch, "empty_strided", refuse)
    with pytest.raises(CheckpointError, match=r"no memory for a copy.*checkpoints\.background to false"):
        KeptCopy().take({"weight": torch.zeros(3, 4)})


# --- the thread -------------------------------------------------------------------------------------------------------


def test_work_runs_in_another_thread_and_its_result_is_waited_for() -> None:
    gate = threading.Event()

    def work() -> int:
        gate.wait(60)
        return threading.get_ident()

    writing = Writing(work)
    assert not writing.is_done
    gate.set()
    assert writing.result() not in (None, threading.get_ident())
    assert writing.is_done


def test_an_error_of_the_work_is_raised_where_the_result_is_asked_for() -> None:
    def work() -> None:
        raise CheckpointError("the disk is full")

    writing = Writing(work)
    writing.wait()
    with pytest.raises(CheckpointError, match="the disk is full"):
        writing.result()


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_the_thread_gives_way_and_the_process_keeps_its_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    inside = Writing(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
    assert inside > before or before >= 10
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


# --- the store --------------------------------------------------------------------------------------------------------


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Holds every write of a store until it is set."""
    opened = threading.Event()
    original = store_module.save_state

    def held(*given: Any) -> tuple[str, int]:
        assert opened.wait(60)
        return original(*given)

    monkeypatch.setattr(store_module, "save_state", held)
    return opened


def test_a_save_in_the_background_holds_the_state_of_its_moment(tmp_path: Path, gate: threading.Event) -> None:
    store, state = CheckpointStore(tmp_path), state_of(1.0)
    writing = store.save_later(state, epoch=1, global_step=4, scores={"val/iou": 0.5})
    state["weight"].fill_(9.0)
    assert not writing.is_done
    gate.set()
    record = writing.result()
    assert (record.file, record.epoch, record.scores) == ("checkpoint_epoch_0001.pt", 1, {"val/iou": 0.5})
    assert torch.equal(store.load_latest().state["weight"], torch.full((3, 4), 1.0))


def test_a_file_is_the_same_whether_it_was_written_at_once_or_in_the_background(tmp_path: Path) -> None:
    states = []
    for name, save in (("now", CheckpointStore.save), ("later", CheckpointStore.save_later)):
        store = CheckpointStore(tmp_path / name)
        save(store, state_of(1.0), epoch=1, global_step=4)
        store.wait()
        states.append(load_state(tmp_path / name / "checkpoint_epoch_0001.pt"))
    assert torch.equal(states[0]["weight"], states[1]["weight"])
    assert torch.equal(states[0]["moments"][0][0], states[1]["moments"][0][0])
    sizes = [(tmp_path / name / "checkpoint_epoch_0001.pt").stat().st_size for name in ("now", "later")]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.load_latest().record.epoch,
        lambda store: store.load_best().record.epoch,
        lambda store: store.records[-1].epoch,
        lambda store: store.best.epoch,
    ],
)
def test_whatever_is_asked_of_a_store_waits_for_the_write(
    tmp_path: Path, gate: threading.Event, ask: Callable[[CheckpointStore], int]
) -> None:
    store = CheckpointStore(tmp_path, monitor="val/iou")
    store.save_later(state_of(1.0), epoch=1, global_step=4, scores={"val/iou": 0.5})
    threading.Timer(0.05, gate.set).start()
    assert ask(store) == 1


def test_one_write_is_under_way_at_a_time_and_none_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most = 0, 0
    original = store_module.save_state

    def counted(*given: Any) -> tuple[str, int]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return original(*given)
        finally:
            at_once -= 1

    monkeypatch.setattr(store_module, "save_state", counted)
    store = CheckpointStore(tmp_path, max_checkpoints=10)
    store.prepare(state_of(0.0))
    writes = [store.save_later(state_of(float(n)), epoch=n, global_step=n) for n in range(1, 6)]
    store.save(state_of(6.0), epoch=6, global_step=6)
    assert [write.result().epoch for write in writes] == [1, 2, 3, 4, 5]
    assert [record.epoch for record in store.records] == [1, 2, 3, 4, 5, 6]
    assert most == 1
    for number in range(1, 7):
        weight = load_state(tmp_path / f"checkpoint_epoch_000{number}.pt")["weight"]
        assert torch.equal(weight, torch.full((3, 4), float(number)))


def test_a_disk_that_refuses_in_the_background_leaves_the_checkpoints_before(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "here")
    store.save(state_of(1.0), epoch=1, global_step=1)
    store.folder = tmp_path / "nowhere" / "\0"
    writing = store.save_later(state_of(2.0), epoch=2, global_step=2)
    with pytest.raises((CheckpointError, ValueError)):
        writing.result()
    store.folder = tmp_path / "here"
    assert store.load_latest().record.epoch == 1

"""When checkpoints are saved, and what happens if they cannot be."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from maskwright.checkpoints import Writing
from maskwright.errors import CheckpointError, TrainingError
from maskwright.tracking import CheckpointRecord
from maskwright.training import BestWeights, Callback, CallbackList, Checkpointing, Monitor, fit
from maskwright.training.state import Note

Toy = Any


class FakeStore:
    """Writes down what it is asked to save; refuses while told to."""

    def __init__(self, refuse: int = 0) -> None:
        self.saved: list[tuple[str, int, int, int]] = []
        self.contents: list[Mapping[str, Any]] = []
        self.scores: list[dict[str, float]] = []
        self.refuse = refuse
        self.later = 0
        self.prepared = 0
        self.gate = threading.Event()  # writes in the background wait here
        self.gate.set()

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        position: int,
        global_step: int,
        scores: Mapping[str, float],
        kind: Any,
    ) -> CheckpointRecord:
        if self.refuse:
            self.refuse -= 1
            raise CheckpointError("out/checkpoint.pt could not be written: the disk is full (0.0 MB free).")
        self.saved.append((kind, epoch, position, global_step))
        self.contents.append(copy.deepcopy(dict(state)))
        self.scores.append(dict(scores))
        return CheckpointRecord("checkpoint.pt", "0" * 64, 1, epoch, position, global_step, dict(scores), kind, "now")

    def save_later(self, state: Mapping[str, Any], **place: Any) -> Writing[CheckpointRecord]:
        self.later += 1
        content = copy.deepcopy(dict(state))

        def work() -> CheckpointRecord:
            self.gate.wait(60)
            return self.save(content, **place)

        return Writing(work)

    def prepare(self, state: Mapping[str, Any]) -> None:
        self.prepared += 1


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.step:
            state.request_stop("stop command")


class Listener(Callback):
    def __init__(self) -> None:
        self.notes: list[Note] = []

    def on_note(self, state: Any, note: Note) -> None:
        self.notes.append(note)


def run(toy: Toy, store: FakeStore, *others: Callback, epochs: int = 3, monitor: Any = None, **options: Any) -> Any:
    state, loader = toy.state(epochs=epochs, monitor=monitor), toy.loader(4)
    callbacks = CallbackList([*others, Checkpointing(store, **options)])
    fit(state, toy.task, loader, toy.loader(2), state.updater, callbacks, epochs=epochs)
    return state


def test_every_epoch_is_saved_once_with_its_scores(toy: Toy) -> None:
    store = FakeStore()
    run(toy, store)
    assert store.saved == [("epoch", 1, 0, 4), ("epoch", 2, 0, 8), ("epoch", 3, 0, 12)]
    assert all("val/iou" in scores and "train/loss" in scores for scores in store.scores)


def test_the_best_and_the_last_epoch_are_saved_even_between_intervals(toy: Toy) -> None:
    store = FakeStore()
    state = run(toy, store, epochs=7, every_epochs=3, monitor=Monitor("train/loss", "max"))  # falls, so epoch 1 is best
    assert state.best.epoch == 1
    assert [epoch for _, epoch, _, _ in store.saved] == [1, 3, 6, 7]


def test_inside_an_epoch_it_saves_every_so_many_updates(toy: Toy) -> None:
    store = FakeStore()
    run(toy, store, epochs=1, every_steps=2)
    assert store.saved == [("step", 0, 2, 2), ("step", 0, 4, 4), ("epoch", 1, 0, 4)]
    assert store.scores[0] == {}  # these weights were not measured


def test_inside_an_epoch_it_saves_when_the_last_checkpoint_is_old(toy: Toy) -> None:
    store = FakeStore()
    run(toy, store, epochs=1, every_minutes=1e-9)
    assert [kind for kind, *_ in store.saved] == ["step", "step", "step", "step", "epoch"]
    store = FakeStore()
    run(toy, store, epochs=1, every_minutes=60.0)
    assert [kind for kind, *_ in store.saved] == ["epoch"]


def test_a_wanted_checkpoint_is_saved_at_the_next_update_once(toy: Toy) -> None:
    class Wish(Callback):
        def on_batch_begin(self, state: Any) -> None:
            state.checkpoint_wanted = state.checkpoint_wanted or state.global_step == 1

    store = FakeStore()
    run(toy, store, Wish(), epochs=1)
    assert store.saved == [("step", 0, 2, 2), ("epoch", 1, 0, 4)]


def test_a_checkpoint_wanted_while_the_validation_runs_is_saved_between_two_of_its_batches(toy: Toy) -> None:
    class Want(Callback):
        def on_validation_begin(self, state: Any) -> None:
            state.checkpoint_wanted = state.epoch == 0

    store = FakeStore()
    run(toy, store, Want(), epochs=2)
    assert store.saved == [("step", 0, 4, 4), ("epoch", 1, 0, 4), ("epoch", 2, 0, 8)]


def test_a_stopped_run_is_saved_as_interrupted_where_it_stands(toy: Toy) -> None:
    store = FakeStore()
    run(toy, store, StopAt(6))
    assert store.saved == [("epoch", 1, 0, 4), ("interrupted", 1, 2, 6)]


def test_a_failing_run_is_saved_as_error_before_the_error_goes_on(toy: Toy) -> None:
    class Bomb(Callback):
        def on_batch_end(self, state: Any, loss: Any) -> None:
            if state.global_step == 5:
                raise ValueError("boom")

    store = FakeStore()
    with pytest.raises(TrainingError, match="Callback Bomb failed in on_batch_end"):
        run(toy, store, Bomb())
    assert store.saved == [("epoch", 1, 0, 4), ("error", 1, 1, 5)]


def test_an_interrupt_at_once_saves_nothing(toy: Toy) -> None:
    class Impatient(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            if state.global_step == 2:
                raise KeyboardInterrupt

    store = FakeStore()
    with pytest.raises(KeyboardInterrupt):
        run(toy, store, Impatient())
    assert store.saved == []


def test_half_updated_weights_are_never_saved(toy: Toy) -> None:
    store = FakeStore()
    state, loader = toy.state(), toy.loader(4)

    def broken_step() -> None:
        raise RuntimeError("the device is gone")

    state.optimizer.step = broken_step
    with pytest.raises(RuntimeError, match="the device is gone"):
        fit(state, toy.task, loader, None, state.updater, CallbackList([Checkpointing(store)]), epochs=1)
    assert store.saved == []


def test_a_full_disk_is_a_warning_and_the_run_goes_on(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    store, listener = FakeStore(refuse=1), Listener()
    state = run(toy, store, listener)
    assert state.epoch == 3
    assert [epoch for _, epoch, _, _ in store.saved] == [2, 3]
    warning = next(note for note in listener.notes if note.kind == "warning")
    assert warning.fields["message"] == (
        "No checkpoint was saved after 4 updates: "
        "out/checkpoint.pt could not be written: the disk is full (0.0 MB free)."
    )
    assert "the disk is full" in caplog.text
    assert [note.fields["epoch"] for note in listener.notes if note.kind == "checkpoint"] == [2, 3]


def test_an_early_stop_whose_checkpoint_failed_is_saved_at_the_end(toy: Toy) -> None:
    class Rule(Callback):
        def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
            state.request_stop("early stopping", finished=True)

    store = FakeStore(refuse=1)
    run(toy, store, Rule())
    assert store.saved == [("epoch", 1, 0, 4)]


def test_the_description_of_the_model_lies_in_every_checkpoint(toy: Toy) -> None:
    store = FakeStore()
    run(toy, store, epochs=1, description={"in_channels": 1})
    assert store.contents[0]["description"] == {"in_channels": 1}


def test_what_cannot_be_saved_is_known_before_the_first_batch(toy: Toy) -> None:
    class Odd(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"plot": object()}

    store = FakeStore()
    with pytest.raises(TrainingError, match=r"Checkpointing failed in on_train_begin.*\['Odd'\]\['plot'\] is a object"):
        run(toy, store, Odd())
    assert store.saved == []


# --- in the background ------------------------------------------------------------------------------------------------


def test_in_the_background_the_same_checkpoints_are_saved_as_without(toy: Toy) -> None:
    waiting, store = FakeStore(), FakeStore()
    run(toy, waiting, StopAt(6), every_steps=2)
    run(toy, store, StopAt(6), every_steps=2, background=True)
    assert store.saved == waiting.saved
    assert store.scores == waiting.scores
    assert store.prepared == 1
    for one, other in zip(store.contents, waiting.contents, strict=True):
        assert torch.equal(one["model"]["scale.weight"], other["model"]["scale.weight"])


def test_training_goes_on_while_a_checkpoint_is_written(toy: Toy) -> None:
    class Opens(Callback):
        def on_step_end(self, state: Any, outcome: Any) -> None:
            if state.global_step == 4:
                seen.append(list(store.saved))
                store.gate.set()

    store, seen = FakeStore(), []
    store.gate.clear()
    run(toy, store, Opens(), epochs=1, every_steps=2, background=True)
    assert seen == [[]]  # two updates after the save it was not yet written
    assert store.saved == [("step", 0, 2, 2), ("step", 0, 4, 4), ("epoch", 1, 0, 4)]


def test_a_checkpoint_is_told_of_once_it_is_written(toy: Toy) -> None:
    class Opens(Listener):
        def on_batch_begin(self, state: Any) -> None:
            if state.global_step == 3:
                assert self.notes == []
                store.gate.set()

    store, listener = FakeStore(), Opens()
    store.gate.clear()
    run(toy, store, listener, epochs=1, every_steps=2, background=True)
    told = [(note.kind, note.fields["checkpoint_kind"], note.fields["epoch"]) for note in listener.notes]
    assert told == [("checkpoint", "step", 0), ("checkpoint", "step", 0), ("checkpoint", "epoch", 1)]


def test_a_full_disk_in_the_background_is_the_same_warning_and_the_run_goes_on(toy: Toy) -> None:
    store, listener = FakeStore(refuse=1), Listener()
    state = run(toy, store, listener, background=True)
    assert state.epoch == 3
    assert [epoch for _, epoch, _, _ in store.saved] == [2, 3]
    assert [note.fields["message"] for note in listener.notes if note.kind == "warning"] == [
        "No checkpoint was saved after 4 updates: "
        "out/checkpoint.pt could not be written: the disk is full (0.0 MB free)."
    ]


def test_what_is_saved_as_a_run_ends_is_waited_for(toy: Toy) -> None:
    class Bomb(Callback):
        def on_batch_end(self, state: Any, loss: Any) -> None:
            if state.global_step == 5:
                raise ValueError("boom")

    stopped, failed = FakeStore(), FakeStore()
    run(toy, stopped, StopAt(6), background=True)
    assert (stopped.saved[-1], stopped.later) == (("interrupted", 1, 2, 6), 1)
    with pytest.raises(TrainingError, match="boom"):
        run(toy, failed, Bomb(), background=True)
    assert (failed.saved[-1], failed.later) == (("error", 1, 1, 5), 1)


def test_the_best_weights_are_kept_in_memory_for_runs_without_a_folder(toy: Toy) -> None:
    weights: list[dict[str, torch.Tensor]] = []

    class Keeper(Callback):
        def on_epoch_end(self, state: Any, scores: Mapping[str, float]) -> None:
            weights.append({name: value.clone() for name, value in state.model.state_dict().items()})

    best = BestWeights()
    state, loader = toy.state(epochs=3, monitor=Monitor("train/loss", "max")), toy.loader(4)
    fit(state, toy.task, loader, None, state.updater, CallbackList([Keeper(), best]), epochs=3)
    assert best.weights is not None
    assert state.best.epoch == 1
    assert all(torch.equal(best.weights[name], weights[0][name]) for name in weights[0])
    assert not torch.equal(best.weights["scale.weight"], weights[2]["scale.weight"])

"""The state of a run: saved, restored, taken back to the last update."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from maskwright.errors import CheckpointError, TrainingError
from maskwright.training import Callback, CallbackList, Monitor, fit
from maskwright.training.state import Note

Toy = Any


def test_everything_in_a_state_can_be_loaded_without_pickle(toy: Toy) -> None:
    state, loader = toy.state(toy.net(norm=True)), toy.loader(4)
    fit(state, toy.task, loader, loader, state.updater, CallbackList(), epochs=1)
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    again = toy.state(toy.net(norm=True))
    again.load_state_dict(loaded)
    assert (again.epoch, again.position, again.global_step) == (1, 0, 4)
    assert again.best == state.best
    assert again.scores == state.scores
    assert str(again.state_dict()) == str(state.state_dict())


def test_a_run_planned_otherwise_is_refused(toy: Toy) -> None:
    saved = toy.state(epochs=3, batches=4).state_dict()
    other = toy.state(epochs=5, batches=8, accumulate=2)
    with pytest.raises(CheckpointError) as error:
        other.load_state_dict(saved)
    assert "batches_per_epoch was 4 and is 8; accumulate was 1 and is 2" in str(error.value)
    assert "start a new run" in str(error.value)


def test_a_state_of_another_network_is_refused(toy: Toy) -> None:
    saved = toy.state(toy.net(norm=True)).state_dict()
    with pytest.raises(CheckpointError, match="does not fit this network"):
        toy.state().load_state_dict(saved)


def test_the_best_epoch_is_kept_and_a_tie_changes_nothing(toy: Toy) -> None:
    state = toy.state(monitor=Monitor("val/loss", "min"))
    for loss in (0.5, 0.3, 0.3, float("nan"), 0.4):
        state.finish_epoch({"val/loss": loss})
    assert state.best is not None
    assert (state.best.score, state.best.epoch, state.epoch) == (0.3, 2, 5)


def test_inside_a_group_the_state_cannot_be_saved_and_returning_forgets_the_group(toy: Toy) -> None:
    state = toy.state(toy.net(norm=True, dropout=0.5))
    batch = toy.batch(0)
    weights = toy.task.loss_weights([batch])
    state.begin_group(weights)
    before = copy.deepcopy(dict(state.model.state_dict()))
    random_before = torch.get_rng_state()
    toy.run_batch(state, batch, weights)
    assert float(state.model.norm.running_mean) != 0  # batch statistics have moved
    with pytest.raises(TrainingError, match="only between two updates"):
        state.state_dict()

    assert state.return_to_boundary()
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert state.sums.state_dict()["weights"] == {"pixels": 0.0, "samples": 0.0}
    torch.rand(3)  # others may draw as they like
    state.begin_group(weights)
    assert torch.equal(torch.get_rng_state(), random_before)


def test_weights_that_may_be_half_updated_are_no_boundary(toy: Toy) -> None:
    state = toy.state()
    weights = toy.task.loss_weights([toy.batch(0)])
    state.begin_group(weights)
    state.updater.is_updating = True
    assert not state.return_to_boundary()


def test_setting_the_learning_rate_scales_the_rest_of_the_schedule(toy: Toy) -> None:
    def one_cycle(optimizer: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(optimizer, max_lr=0.1, total_steps=20, cycle_momentum=False)

    plain, scaled = toy.state(schedule=one_cycle), toy.state(schedule=one_cycle)
    for step in range(20):
        if step == 5:
            scaled.set_lr(plain.lrs[0] / 4)
        if step >= 5:
            assert scaled.lrs[0] == pytest.approx(plain.lrs[0] / 4)
        for state in (plain, scaled):
            state.optimizer.step()
            if step < 19:
                state.schedule.step()


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_a_learning_rate_that_is_no_positive_number_is_refused(toy: Toy, lr: float) -> None:
    with pytest.raises(TrainingError, match="not a positive number"):
        toy.state().set_lr(lr)


def test_a_changed_learning_rate_survives_saving(toy: Toy) -> None:
    state, again = toy.state(lr=0.1), toy.state(lr=0.1)
    state.set_lr(0.02)
    again.load_state_dict(state.state_dict())
    again.optimizer.step()
    again.schedule.step()
    assert again.lrs == [pytest.approx(0.02)]


def test_the_first_reason_to_stop_stays(toy: Toy) -> None:
    state = toy.state()
    state.request_stop("signal SIGTERM")
    state.request_stop("early stopping")
    assert state.stop_reason == "signal SIGTERM"


def test_notes_made_before_there_are_callbacks_reach_them_later(toy: Toy) -> None:
    heard: list[Note] = []

    class Listener(Callback):
        def on_note(self, state: Any, note: Note) -> None:
            heard.append(note)

    state = toy.state()
    state.note("warning", message="fell back to an older checkpoint")
    state.attach(CallbackList([Listener()]))
    state.note("checkpoint", file="a.pt")
    assert [(note.kind, note.fields) for note in heard] == [
        ("warning", {"message": "fell back to an older checkpoint"}),
        ("checkpoint", {"file": "a.pt"}),
    ]

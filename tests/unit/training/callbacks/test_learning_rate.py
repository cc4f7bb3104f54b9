"""Schedules that wait for scores, in a run: shown each validated score, saved and resumed exactly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from maskwright.optim import SCHEDULES, Span
from maskwright.tracking import ControlFolder
from maskwright.training import Callback, CallbackList, ControlCallback, LearningRate, Monitor, fit
from maskwright.training.state import Note

Toy = Any


class Listener(Callback):
    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def on_note(self, state: Any, note: Note) -> None:
        self.notes.append((note.kind, note.fields))


class Keeper(Callback):
    """Keeps the state after each update and each epoch, as a checkpoint would."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def on_step_end(self, state: Any, outcome: Any) -> None:
        self.states.append(copy.deepcopy(state.state_dict()))

    def on_epoch_end(self, state: Any, scores: Any) -> None:
        self.states.append(copy.deepcopy(state.state_dict()))


def schedule(kind: str, **options: Any) -> Callable[[torch.optim.Optimizer], Any]:
    return lambda optimizer: SCHEDULES[kind](optimizer, Span(4, 6, warmup_steps=2, warmup_start_lr=0.01), **options)


def run(toy: Toy, state: Any, *callbacks: Callback, validate_every: int = 1) -> list[tuple[str, dict[str, Any]]]:
    listener = Listener()
    watchers = CallbackList([*callbacks, listener])
    fit(
        state,
        toy.task,
        toy.loader(4),
        toy.loader(2),
        state.updater,
        watchers,
        epochs=state.epochs,
        validate_every=validate_every,
    )
    return listener.notes


def never_better(toy: Toy, **options: Any) -> Any:
    plateau = schedule("reduce_on_plateau", mode="min", factor=0.5, threshold=1e9, threshold_mode="abs", **options)
    return toy.state(schedule=plateau, epochs=6, monitor=Monitor("val/loss", "min"))


def test_a_plateau_is_shown_each_validation_and_a_drop_is_noted(toy: Toy) -> None:
    state = never_better(toy, patience=1)
    notes = [fields for kind, fields in run(toy, state, LearningRate()) if kind == "lr"]
    assert [(note["epoch"], note["lr"]) for note in notes] == [(3, 0.05), (5, 0.025)]
    assert notes[0]["monitor"] == "val/loss"
    assert notes[0]["before"] == 0.1


def test_epochs_without_validation_show_nothing(toy: Toy) -> None:
    state = never_better(toy, patience=0)
    notes = [fields for kind, fields in run(toy, state, LearningRate(), validate_every=3) if kind == "lr"]
    assert [note["epoch"] for note in notes] == [6]  # the first validation, in epoch 3, is the best so far


def test_another_score_than_that_of_the_run_can_be_watched(toy: Toy) -> None:
    state = never_better(toy, patience=0)
    notes = run(toy, state, LearningRate(Monitor("train/loss", "min")))
    assert {fields["monitor"] for kind, fields in notes if kind == "lr"} == {"train/loss"}


@pytest.mark.parametrize("kind", ["reduce_on_plateau", "adaptive"])
def test_resumed_from_any_update_a_run_ends_with_the_same_bits(toy: Toy, kind: str) -> None:
    def state() -> Any:
        options = {"patience": 2, "mode": "min", "factor": 0.5}
        options |= {"threshold": 1e9, "threshold_mode": "abs"} if kind == "reduce_on_plateau" else {"gain": 1e-6}
        return toy.state(
            toy.net(dropout=0.3), schedule=schedule(kind, **options), epochs=6, monitor=Monitor("val/loss", "min")
        )

    whole, keeper = state(), Keeper()
    torch.manual_seed(1)
    run(toy, whole, LearningRate(), keeper)
    assert whole.lrs != [0.1]
    waited = {saved["schedule"]["waited"] for saved in keeper.states}
    assert kind == "adaptive" or {0, 1, 2} <= waited  # patience - 1 and patience are among them
    for saved in keeper.states[1::3]:
        again = state()
        again.load_state_dict(saved)
        run(toy, again, LearningRate())
        assert again.lrs == whole.lrs
        assert str(again.state_dict()["schedule"]) == str(whole.state_dict()["schedule"])
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, again.model.state_dict()[name])


def test_what_a_schedule_has_to_say_is_told_once_at_the_beginning(toy: Toy) -> None:
    state = toy.state(schedule=schedule("cosine", t_max=9), epochs=2)
    notes = run(toy, state, LearningRate())
    assert [kind for kind, _ in notes] == ["warning"]
    assert "t_max: 9 epochs are longer than what the run has, 5.5" in notes[0][1]["message"]
    state.epochs = 3
    assert run(toy, state, LearningRate()) == []


class Sender(Callback):
    """Sends ``set_lr`` after an update, and lets the next look happen at once."""

    def __init__(self, folder: ControlFolder, step: int, lr: float) -> None:
        self.folder, self.step, self.lr = folder, step, lr
        self.seen: list[float] = []

    def on_batch_end(self, state: Any, loss: Any) -> None:
        self.seen.append(state.lrs[0])

    def on_step_end(self, state: Any, outcome: Any) -> None:
        if state.global_step == self.step:
            ControlFolder(self.folder.path).send("set_lr", lr=self.lr)
        self.folder._look_again = 0.0


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
def test_a_live_change_acts_within_a_batch_is_recorded_and_survives_a_resume(
    toy: Toy, tmp_path: Path, kind: str
) -> None:
    def state() -> Any:
        return toy.state(schedule=schedule(kind), epochs=4, monitor=Monitor("val/loss", "min"))

    folder, keeper = ControlFolder(tmp_path / "control"), Keeper()
    whole, plain = state(), state()
    sender = Sender(folder, 7, 0.004)
    notes = run(toy, whole, sender, ControlCallback(folder), LearningRate(), keeper)
    assert ("command", {"command": "set_lr", "lr": 0.004}) in notes
    assert sender.seen[7] == 0.004  # the very next batch

    if kind != "adaptive":  # whose scores differ with the weights
        run(toy, plain, LearningRate())
        expected = [group["lr"] for group in plain.optimizer.param_groups]
        before = keeper.states[7]["optimizer"]["param_groups"][0]["lr"]
        assert whole.lrs == pytest.approx([lr * 0.004 / before for lr in expected], rel=1e-6, abs=1e-15)

    again = state()
    again.load_state_dict(keeper.states[12])
    run(toy, again, LearningRate())
    assert again.lrs == whole.lrs
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])

"""Commands that the faces drop into the run folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from maskwright.tracking import ControlFolder, RunFolder
from maskwright.training import Callback, CallbackList, ControlCallback, fit
from maskwright.training.state import Note

Toy = Any


class Listener(Callback):
    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []

    def on_note(self, state: Any, note: Note) -> None:
        self.notes.append((note.kind, note.fields))


class Sender(Callback):
    """Sends commands at given steps, and lets the next look happen at once."""

    def __init__(self, folder: ControlFolder, commands: dict[int, list[tuple[str, dict[str, float]]]]) -> None:
        self.folder = folder
        self.commands = commands

    def on_step_end(self, state: Any, outcome: Any) -> None:
        for command, values in self.commands.get(state.global_step, []):
            ControlFolder(self.folder.path).send(command, **values)
        self.folder._look_again = 0.0


def run(
    toy: Toy, folder: ControlFolder, commands: dict[int, list[tuple[str, dict[str, float]]]], **options: Any
) -> Any:
    state, loader, listener = toy.state(epochs=2, **options), toy.loader(4), Listener()
    callbacks = CallbackList([Sender(folder, commands), ControlCallback(folder), listener])
    fit(state, toy.task, loader, toy.loader(2), state.updater, callbacks, epochs=2)
    return state, listener.notes


def test_a_stop_command_ends_the_run_within_a_batch(toy: Toy, tmp_path: Path) -> None:
    state, notes = run(toy, ControlFolder(tmp_path / "control"), {3: [("stop", {})]})
    assert state.stop_reason == "stop command"
    assert (state.global_step, state.position) == (3, 3)
    assert not state.is_finished
    assert notes == [("command", {"command": "stop"})]


def test_a_learning_rate_command_takes_effect_and_is_noted(toy: Toy, tmp_path: Path) -> None:
    state, notes = run(toy, ControlFolder(tmp_path / "control"), {3: [("set_lr", {"lr": 0.025})]}, lr=0.1)
    assert state.lrs == [pytest.approx(0.025)]
    assert notes == [("command", {"command": "set_lr", "lr": 0.025})]
    assert state.checkpoint_wanted


def test_a_learning_rate_that_cannot_be_set_is_a_warning(toy: Toy, tmp_path: Path) -> None:
    state, notes = run(toy, ControlFolder(tmp_path / "control"), {3: [("set_lr", {"lr": 0.025})]}, lr=0.0)
    assert state.epoch == 2
    assert notes[0][0] == "warning"
    assert notes[0][1]["message"].startswith("The command set_lr was not obeyed: The learning rate is 0 now")


def test_a_checkpoint_command_asks_for_one(toy: Toy, tmp_path: Path) -> None:
    state, _ = run(toy, ControlFolder(tmp_path / "control"), {3: [("checkpoint", {})]})
    assert state.checkpoint_wanted


def test_a_pause_lasts_until_resume(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ControlFolder(tmp_path / "control")
    naps: list[float] = []
    sleep = time.sleep

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:  # somebody lets it go on while it is paused
            ControlFolder(folder.path).send("resume")
        sleep(seconds)

    monkeypatch.setattr("maskwright.training.callbacks.control.time.sleep", nap)
    state, notes = run(toy, folder, {2: [("pause", {})]})
    assert state.epoch == 2
    assert [fields["command"] for _, fields in notes] == ["pause", "resume"]
    assert len(naps) >= 3


def test_a_paused_run_can_be_stopped(toy: Toy, tmp_path: Path) -> None:
    state, notes = run(toy, ControlFolder(tmp_path / "control"), {2: [("pause", {}), ("stop", {})]})
    assert (state.global_step, state.stop_reason) == (2, "stop command")
    assert [fields["command"] for _, fields in notes] == ["pause", "stop"]


def test_a_command_sent_while_the_run_was_starting_is_obeyed_at_its_first_batch(toy: Toy, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "starting")
    folder.record.update(status="interrupted")
    control = ControlFolder(folder.control)
    control.send("set_lr", lr=0.5)  # to the attempt before
    folder.record.begin_attempt()
    control.send("stop")
    state, notes = run(toy, control, {})
    assert (state.global_step, state.stop_reason) == (0, "stop command")
    assert "_set_lr.json" in notes[0][1]["message"]


def test_commands_are_obeyed_while_the_validation_runs(toy: Toy, tmp_path: Path) -> None:
    class AskDuringValidation(Callback):
        def on_validation_batch_end(self, state: Any) -> None:
            ControlFolder(folder.path).send("set_lr", lr=0.05)
            ControlFolder(folder.path).send("stop")
            folder._look_again = 0.0

    folder, listener = ControlFolder(tmp_path / "control"), Listener()
    state, loader = toy.state(epochs=2, lr=0.1), toy.loader(4)
    callbacks = CallbackList([AskDuringValidation(), ControlCallback(folder), listener])
    fit(state, toy.task, loader, toy.loader(2), state.updater, callbacks, epochs=2)
    assert (state.epoch, state.position, state.stop_reason) == (0, 4, "stop command")  # the first epoch is not counted
    assert state.lrs == [pytest.approx(0.05)]


def test_commands_sent_before_the_start_are_forgotten_and_said_so(toy: Toy, tmp_path: Path) -> None:
    folder = ControlFolder(tmp_path / "control")
    folder.send("stop")
    state, notes = run(toy, folder, {})
    assert state.epoch == 2
    assert notes[0][1]["message"].startswith("Commands sent before this start were forgotten: ")

"""ControlCallback: obeys the command files that the faces drop into the run folder."""

from __future__ import annotations

import datetime
import os
import time

from maskwright.errors import TrainingError
from maskwright.tracking.control import Command, ControlFolder
from maskwright.tracking.folder import RunRecord
from maskwright.training.callback import Callback
from maskwright.training.state import TrainState

__all__ = ["ControlCallback"]

_PAUSE_S = 0.05


class ControlCallback(Callback):
    """Looks for commands after each batch of training and validation.

    ``stop`` ends the run and saves; ``pause`` waits for ``resume`` or ``stop``; ``checkpoint`` saves at the next
    update, or at once between two batches of the validation; ``set_lr`` sets the learning rate and scales the rest of
    the schedule with it. Commands sent while the run was starting are obeyed at its first batch, those sent before are
    forgotten. Put it before the callback that saves checkpoints.
    """

    def __init__(self, folder: ControlFolder) -> None:
        self.folder = folder
        self.is_paused = False

    def on_train_begin(self, state: TrainState) -> None:
        self.is_paused = False
        forgotten = self.folder.clear(before_ns=self._attempt_began_ns())
        if forgotten:
            state.note("warning", message=f"Commands sent before this start were forgotten: {', '.join(forgotten)}.")

    def _attempt_began_ns(self) -> int | None:
        """When this process took up the run; None if run.json names another process, or there is none."""
        record = RunRecord(self.folder.path.parent / "run.json")
        if not record.path.is_file():
            return None
        fields = record.load()
        if fields.get("pid") != os.getpid():
            return None
        return int(datetime.datetime.fromisoformat(fields["started"]).timestamp() * 1_000_000) * 1000

    def on_batch_begin(self, state: TrainState) -> None:
        self._look(state)

    def on_validation_batch_end(self, state: TrainState) -> None:
        self._look(state)

    def _look(self, state: TrainState) -> None:
        self._obey_all(state)
        while self.is_paused and not state.is_asked_to_stop:
            time.sleep(_PAUSE_S)
            self._obey_all(state)

    def _obey_all(self, state: TrainState) -> None:
        for command in self.folder.poll():
            self._obey(state, command)

    def _obey(self, state: TrainState, command: Command) -> None:
        if command.kind == "stop":
            state.request_stop("stop command")
        elif command.kind in ("pause", "resume"):
            self.is_paused = command.kind == "pause"
        elif command.kind == "checkpoint":
            state.checkpoint_wanted = True
        elif command.kind == "set_lr":
            try:
                state.set_lr(command.values["lr"])
            except TrainingError as error:
                state.note("warning", message=f"The command set_lr was not obeyed: {error}")
                return
            state.checkpoint_wanted = True  # a crash must not undo what the user asked for
        state.note("command", command=command.kind, **command.values)

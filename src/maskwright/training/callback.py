"""Callback: hooks into a run, with one signature each. CallbackList: calls them in the order given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maskwright.data.loaders import explain_workers
from maskwright.errors import TrainingError
from maskwright.training.state import Note, TrainState
from maskwright.training.updater import StepOutcome
from maskwright.types import LossOutput

__all__ = ["Callback", "CallbackList"]


class Callback:
    """Watches a run. Override what you need; every hook gets the state first and may call ``state.request_stop``."""

    def on_train_begin(self, state: TrainState) -> None: ...

    def on_train_end(self, state: TrainState) -> None:
        """The run is finished or was stopped; not called after an error."""

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        """The run ends with an error, which is raised again afterwards."""

    def on_epoch_begin(self, state: TrainState) -> None: ...

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        """An epoch and its validation are done and counted: ``state.epoch`` is its number, from 1."""

    def on_batch_begin(self, state: TrainState) -> None: ...

    def on_batch_end(self, state: TrainState, loss: LossOutput) -> None: ...

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        """An accumulation group is done; the state can be saved."""

    def on_validation_begin(self, state: TrainState) -> None: ...

    def on_validation_batch_end(self, state: TrainState) -> None: ...

    def on_validation_end(self, state: TrainState, scores: Mapping[str, float]) -> None: ...

    def on_note(self, state: TrainState, note: Note) -> None:
        """Somebody called ``state.note``: a warning, a saved checkpoint, a changed learning rate."""

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume; tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""


class CallbackList:
    """Calls every hook of every callback, in the order given.

    Raises:
        TrainingError: If a callback raises; names the callback and the hook, keeps the cause.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.callbacks = list(callbacks)

    def __iter__(self) -> Iterator[Callback]:
        return iter(self.callbacks)

    def __len__(self) -> int:
        return len(self.callbacks)

    def on_train_begin(self, state: TrainState) -> None:
        self._call("on_train_begin", state)

    def on_train_end(self, state: TrainState) -> None:
        self._call("on_train_end", state)

    def on_exception(self, state: TrainState, error: BaseException) -> None:
        """Unlike the other hooks this raises nothing: a callback that fails as well becomes a note on ``error``."""
        for callback in self.callbacks:
            try:
                callback.on_exception(state, error)
            except Exception as also:
                error.add_note(f"Callback {type(callback).__name__} failed in on_exception: {also}")

    def on_epoch_begin(self, state: TrainState) -> None:
        self._call("on_epoch_begin", state)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._call("on_epoch_end", state, scores)

    def on_batch_begin(self, state: TrainState) -> None:
        self._call("on_batch_begin", state)

    def on_batch_end(self, state: TrainState, loss: LossOutput) -> None:
        self._call("on_batch_end", state, loss)

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        self._call("on_step_end", state, outcome)

    def on_validation_begin(self, state: TrainState) -> None:
        self._call("on_validation_begin", state)

    def on_validation_batch_end(self, state: TrainState) -> None:
        self._call("on_validation_batch_end", state)

    def on_validation_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._call("on_validation_end", state, scores)

    def on_note(self, state: TrainState, note: Note) -> None:
        self._call("on_note", state, note)

    def state_dict(self) -> dict[str, Any]:
        """States of all callbacks that have one, by class name; a second of its class gets a number."""
        states = {name: callback.state_dict() for name, callback in self._named()}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """The inverse of :meth:`state_dict`; a callback that was not there before starts afresh."""
        for name, callback in self._named():
            if name in states:
                callback.load_state_dict(states[name])

    def _call(self, hook: str, state: TrainState, *arguments: Any) -> None:
        for callback in self.callbacks:
            try:
                getattr(callback, hook)(state, *arguments)
            except Exception as cause:
                if isinstance(cause, RuntimeError) and explain_workers(cause) is not None:
                    raise  # a data process died while we were here by chance; the loop says what it means
                raise TrainingError(
                    f"Callback {type(callback).__name__} failed in {hook} (epoch {state.epoch + 1}, "
                    f"step {state.global_step}): {type(cause).__name__}: {cause}"
                ) from cause

    def _named(self) -> Iterator[tuple[str, Callback]]:
        seen: dict[str, int] = {}
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] = seen.get(name, 0) + 1
            yield (name if seen[name] == 1 else f"{name}_{seen[name]}"), callback

"""DividedStore: checkpoints of a state divided among processes. All write their share, process 0 keeps the list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from maskwright.checkpoints.background import Writing
from maskwright.checkpoints.divided import Room, write_shares
from maskwright.checkpoints.format import load_state
from maskwright.checkpoints.store import CheckpointStore, Loaded
from maskwright.distributed import from_main
from maskwright.errors import CheckpointError
from maskwright.tracking import CheckpointRecord
from maskwright.tracking.manifest import CheckpointKind

__all__ = ["DividedStore"]

_T = TypeVar("_T")


class DividedStore:
    """Saves and loads together with the other processes, which must do so at the same points.

    What goes wrong in one of them is an error in all.

    Args:
        store: The checkpoints of the folder, in process 0; None in the others. The folder must be on a disk that all
            processes see under the same path.
    """

    def __init__(self, store: CheckpointStore | None) -> None:
        self.store = store

    def save(
        self,
        state: Mapping[str, Any],
        *,
        epoch: int,
        position: int,
        global_step: int,
        scores: Mapping[str, float],
        kind: CheckpointKind,
    ) -> CheckpointRecord:
        """Save the state, see :meth:`CheckpointStore.write`."""
        folder = _agreed(lambda: self._of_main.place_for_shares(epoch=epoch, global_step=global_step, kind=kind))
        content = write_shares(folder, state)
        return _agreed(
            lambda: self._of_main.write(
                content, epoch=epoch, position=position, global_step=global_step, scores=scores, kind=kind
            )
        )

    def save_later(self, state: Mapping[str, Any], **moment: Any) -> Writing[CheckpointRecord]:
        """Not offered: a share is written before the weights move on.

        Raises:
            CheckpointError: Always.
        """
        raise CheckpointError("A state that is divided among processes is not saved in the background.")

    def prepare(self, state: Mapping[str, Any]) -> None:
        """Nothing to do: no copy is taken."""

    def load_latest(self, room: Room) -> Loaded | None:
        """The newest checkpoint that is whole, this process's share of it; None if there is none at all.

        Args:
            room: Makes the memory for the share of a tensor.

        Raises:
            CheckpointError: If none is whole.
        """
        found: tuple[Path, CheckpointRecord, tuple[str, ...]] | None = _agreed(self._newest)
        if found is None:
            return None
        path, record, notes = found
        return Loaded(load_state(path, room=room), record, notes)

    def _newest(self) -> tuple[Path, CheckpointRecord, tuple[str, ...]] | None:
        return self._of_main.find_latest() if self._of_main.records else None

    @property
    def _of_main(self) -> CheckpointStore:
        if self.store is None:
            raise CheckpointError("There is no folder for checkpoints. Give run_folder.")
        return self.store


def _agreed(make: Callable[[], _T]) -> _T:
    """What process 0 makes, in every process; an error there is one here."""

    def tried() -> tuple[_T | None, CheckpointError | None]:
        try:
            return make(), None
        except CheckpointError as error:
            return None, error

    made, error = from_main(tried)
    if error is not None:
        raise error
    return made  # type: ignore[return-value]  # None where None was made

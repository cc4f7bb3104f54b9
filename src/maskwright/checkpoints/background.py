"""Saving while training goes on: a copy of the state in memory that is kept, and a thread that writes it.

A save then blocks the caller for as long as copying the state takes. The price is memory for one more copy of it, on
the computer's side, taken once. One write is under way at a time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskwright.checkpoints.format import check_plain, lies_alone, map_tensors
from maskwright.errors import CheckpointError

__all__ = ["KeptCopy", "Writing", "layouts_of"]

_T = TypeVar("_T")

_Layout = tuple[torch.Size, tuple[int, ...], torch.dtype, bool]
"""Size, strides, type, and whether the memory is to be one that a GPU can write to directly."""

_NICENESS = 10  # the thread yields to the training where cores are scarce, and still gets through


class KeptCopy:
    """Memory for one copy of a state, taken once and used again: fresh memory costs several times the copying.

    What :meth:`take` returns is valid until it is called again.
    """

    def __init__(self) -> None:
        self._spare: dict[_Layout, list[Tensor]] = {}

    def reserve(self, layouts: Iterable[_Layout]) -> None:
        """Get the memory for tensors of these layouts now, from the system's hands, page by page."""
        for layout in layouts:
            tensor = _empty(layout)
            _bytes_of(tensor).fill(0)
            self._spare.setdefault(layout, []).append(tensor)

    def take(self, state: Mapping[str, object]) -> dict[str, Any]:
        """A copy of ``state`` that no longer changes, its tensors on the CPU.

        Raises:
            CheckpointError: If something foreign is in ``state``, or there is no memory for a copy.
        """
        check_plain(state)
        used: dict[_Layout, list[Tensor]] = {}
        copies: dict[tuple[Any, ...], Tensor] = {}  # tensors that share memory do so in the copy

        def copied(tensor: Tensor) -> Tensor:
            if tensor.layout != torch.strided:
                return tensor.detach().to("cpu", copy=True)
            layout = _layout(tensor)
            identity = (tensor.device, tensor.data_ptr(), *layout)
            if tensor.numel() == 0 or identity not in copies:
                spare = self._spare.get(layout)
                copies[identity] = spare.pop() if spare else _empty(layout)
                used.setdefault(layout, []).append(copies[identity])
                _copy(copies[identity], tensor.detach())
            return copies[identity]

        try:
            taken: dict[str, Any] = map_tensors(state, copied)
        except (RuntimeError, MemoryError) as cause:
            reason = str(cause).partition("\n")[0]
            raise CheckpointError(
                f"There is no memory for a copy of the state ({reason}). Set checkpoints.background to false: then "
                "it is saved without one, and training waits meanwhile."
            ) from cause
        if any(pinned for *_, pinned in used):
            torch.cuda.synchronize()
        self._spare = used
        return taken


def layouts_of(state: Mapping[str, object]) -> list[_Layout]:
    """What :meth:`KeptCopy.reserve` needs for this state."""
    found: list[_Layout] = []

    def noted(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            found.append(_layout(tensor))
        return tensor

    map_tensors(state, noted)
    return found


class Writing(Generic[_T]):
    """Work under way in a thread of its own; the interpreter does not end before it is done.

    Args:
        work: What to do; its thread gives way to others where the system knows priorities of threads.
    """

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work = work
        self._result: _T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=False)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether :meth:`result` returns at once."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Return once the work is done, well or badly."""
        self._thread.join()

    def result(self) -> _T:
        """Wait for the work and return what it returned, or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # None only where the work returned it

    def _run(self) -> None:
        _give_way()
        try:
            self._result = self._work()
        except BaseException as error:  # for the thread that asks for the result
            self._error = error
        finally:
            del self._work  # holds the state


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then the thread has the same right as others
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _layout(tensor: Tensor) -> _Layout:
    dense = torch.empty_like(tensor, device="meta")  # its own strides, or plain ones where it has gaps or overlaps
    return tensor.shape, dense.stride(), tensor.dtype, tensor.is_cuda


def _empty(layout: _Layout) -> Tensor:
    size, stride, dtype, pinned = layout
    return torch.empty_strided(size, stride, dtype=dtype, pin_memory=pinned)


def _copy(target: Tensor, source: Tensor) -> None:
    if source.device.type == "cpu" and lies_alone(source) and source.stride() == target.stride():
        np.copyto(_bytes_of(target), _bytes_of(source))  # one thread as fast as memory: nothing else has to be free
    else:
        target.copy_(source, non_blocking=source.is_cuda)


def _bytes_of(tensor: Tensor) -> npt.NDArray[np.uint8]:
    """The memory of a tensor that has it for itself."""
    plain = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    memory: npt.NDArray[np.uint8] = plain.numpy()
    return memory

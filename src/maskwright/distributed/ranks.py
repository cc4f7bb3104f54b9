"""Who we are among the processes that work on one run, and how they find each other.

A launcher such as ``torchrun`` tells each process its number in environment variables. Nothing follows from them until
the process has joined the others with :func:`joined`; until then, and without a launcher, it is alone.
"""

from __future__ import annotations

import datetime
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from maskwright.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

__all__ = [
    "EXIT_LOST",
    "host_first",
    "is_main",
    "joined",
    "launch_id",
    "launched_size",
    "local_rank",
    "own_device",
    "rank",
    "require_joined",
    "require_single_process",
    "restarts",
    "share_of",
    "world_size",
]

EXIT_LOST = 75
"""Exit code of a process that ended because another one had."""

_PATIENCE = datetime.timedelta(days=7)  # a run may be paused; a process that dies is noticed at once all the same
_MEETING = datetime.timedelta(minutes=10)  # hosts of a cluster do not start in the same second
_FIRST_TO_FAIL = "maskwright/first_to_fail"
_CUT_OFF = ("closed by peer", "reset by peer", "broken pipe", "connection refused", "remote process exited")


# --- what a launcher says ---------------------------------------------------------------------------------------------


def launched_size() -> int:
    """Number of processes a launcher started for this piece of work; 1 without one."""
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """Number of this process among those on its computer, from 0."""
    return _number("LOCAL_RANK", 0)


def restarts() -> int:
    """How often the launcher has started all processes anew after one of them had died."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0)


def launch_id() -> dict[str, Any]:
    """What tells a launch from every other one, the same after a restart: plain values for ``run.json``."""
    return {"id": os.environ.get("TORCHELASTIC_RUN_ID", ""), "host": socket.gethostname(), "launcher": os.getppid()}


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise ConfigError(
            f"{name}={text!r} in the environment is no number of processes. A launcher such as torchrun sets it; "
            "remove it to work in one process."
        )
    return int(text)


# --- who we are -------------------------------------------------------------------------------------------------------


def world_size() -> int:
    """Number of processes that have joined; 1 for a process that is alone."""
    return _group().get_world_size() if _is_joined() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return _group().get_rank() if _is_joined() else 0


def is_main() -> bool:
    """Whether this process writes files and speaks to the user."""
    return rank() == 0


def share_of(count: int, part: int | None = None, parts: int | None = None) -> range:
    """Which of ``count`` things in a row are this process's: a run of them, as long as the others' or one longer.

    Args:
        count: 0 or more.
        part: Number of the process; None: this one.
        parts: Number of processes; None: those that have joined.
    """
    parts = world_size() if parts is None else parts
    part = rank() if part is None else part
    each, rest = divmod(count, parts)
    first = part * each + min(part, rest)
    return range(first, first + each + (part < rest))


def own_device(name: str, available: Sequence[str]) -> str:
    """The device of this process: the GPU of its own number on its computer where several share the work.

    Args:
        name: ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:1``.
        available: Names of the devices of this computer.

    Raises:
        ConfigError: If several processes would have to share a device that only one can have.
    """
    if world_size() == 1:
        return name
    gpus = [each for each in available if each.startswith("cuda")]
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    if name == "mps" or name.startswith("cuda:"):
        one = "MPS works for one process" if name == "mps" else f"{name} is one GPU"
        raise ConfigError(
            f"training.device: {one}, and {world_size()} were started. Use cuda, which gives each its own GPU, or cpu; "
            "or start one process."
        )
    if name == "cuda" and local_rank() >= len(gpus):
        here = ", ".join(gpus) if gpus else "no GPU"
        raise ConfigError(
            f"training.device: process {rank()}, number {local_rank() + 1} on {socket.gethostname()}, finds no GPU of "
            f"its own; available: {here}. Start {max(len(gpus), 1)} on this computer, or use training.device: cpu."
        )
    return f"cuda:{local_rank()}" if name == "cuda" else name


def require_joined() -> None:
    """Refuse a process that a launcher started and that would train by itself, beside the others.

    Raises:
        TrainingError: Saying how to join.
    """
    if launched_size() > 1 and not _is_joined():
        raise TrainingError(
            f"A launcher started {launched_size()} processes (WORLD_SIZE), and this one has not joined the others: "
            "each would train a model of its own. Use maskwright train, put the work inside "
            "`with maskwright.distributed.joined():`, or start it without the launcher."
        )


def require_single_process(what: str) -> None:
    """Refuse work that is done by one process only.

    Args:
        what: The work, as the beginning of a sentence: ``Training in stages``.

    Raises:
        TrainingError: If a launcher started more than one process.
    """
    if launched_size() > 1:
        raise TrainingError(
            f"{what} runs in one process, and a launcher started {launched_size()} (WORLD_SIZE). Start the same "
            "command without torchrun and without --devices."
        )


# --- together ---------------------------------------------------------------------------------------------------------


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that a launcher started work together; alone this does nothing.

    If one of them fails it says why, and the others end without a word. Only number 0 warns and informs.

    Raises:
        TrainingError: If the others cannot be found.
        SystemExit: Where another process has said already what went wrong.
    """
    if launched_size() == 1 or _is_joined():
        yield
        return
    store = _meet()
    log = logging.getLogger("maskwright")
    level = log.level
    if not is_main():
        log.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:
        lost = _lost(error)
        if not _speaks(store, lost=lost is not None):
            raise SystemExit(EXIT_LOST) from error
        if lost is not None:
            raise lost from error
        raise
    else:
        _group().destroy_process_group()  # after an error it would wait for those that are gone
    finally:
        log.setLevel(level)


@contextmanager
def host_first() -> Iterator[None]:
    """One process of each computer goes through this before the others, for what it leaves on the disk for them."""
    if world_size() == 1:
        yield
        return
    from maskwright.distributed.exchange import largest

    if local_rank() != 0:
        largest(0)
    yield
    if local_rank() == 0:
        largest(0)


def _is_joined() -> bool:
    group = sys.modules.get("torch.distributed")
    return group is not None and bool(group.is_available()) and bool(group.is_initialized())


def _group() -> Any:
    import torch.distributed

    return torch.distributed


def _meet() -> Store:
    """Find the others; the store is what all can read and write."""
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    where = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        found: tuple[Store, int, int] = next(rendezvous("env://", timeout=_MEETING))
        store, number, size = found
        if torch.cuda.is_available() and local_rank() < torch.cuda.device_count():
            torch.cuda.set_device(local_rank())
        dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(_no_meeting(str(error), where)) from error
    return store


def _no_meeting(reason: str, where: str) -> str:
    if "EADDRINUSE" in reason or "already in use" in reason:
        return (
            f"The processes cannot meet at {where}: the port is in use by another program, perhaps an earlier run. Set "
            "MASTER_PORT (torchrun: --master-port) to a free one."
        )
    return (
        f"The {launched_size()} processes did not find each other at {where or 'any address'}: "
        f"{reason.partition(chr(10))[0]} Start all of them with torchrun, or set RANK, WORLD_SIZE, MASTER_ADDR and "
        "MASTER_PORT for each."
    )


def _lost(error: Exception) -> TrainingError | None:
    """The error in our words if it says that another process is gone, however deep it lies."""
    cause: BaseException | None = error
    while cause is not None:
        text = str(cause).lower()
        is_torch = isinstance(cause, RuntimeError) and not isinstance(cause, TrainingError)
        if is_torch and any(sign in text for sign in _CUT_OFF):
            return TrainingError(
                f"Another of the {launched_size()} processes ended in the middle of the work, so process {rank()} ends "
                "too. What was saved is kept; continue with --resume."
            )
        cause = cause.__cause__
    return None


def _speaks(store: Store, *, lost: bool) -> bool:
    """Whether this process is the one to say what went wrong: the first that failed, else nobody's launcher does."""
    if lost and os.environ.get("MASKWRIGHT_LAUNCHED"):
        return False  # the launcher saw which one it was
    try:
        return store.compare_set(_FIRST_TO_FAIL, "", str(rank())).decode() == str(rank())
    except (RuntimeError, ValueError):  # the store went with the process that held it
        return True

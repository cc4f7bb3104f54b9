"""hold_run: one process at a time works on a run folder, and the system frees it when that process dies."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from maskwright.errors import RunError
from maskwright.files import FileLock
from maskwright.tracking.folder import RunFolder, time_text

__all__ = ["hold_run"]

_log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def hold_run(folder: RunFolder) -> Iterator[None]:
    """Inside, no other process that holds the run as well gets in.

    The lock is the kernel's, on ``run.lock``, whose content names the holder; nothing has to be removed after a crash.
    Where a file system has no locks, the process named in run.json is all that guards the run.

    Raises:
        RunError: If another one holds it: which process, on which computer, since when.
    """
    lock = FileLock(folder.lock, timeout_s=0)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except RunError as error:
            if error.__cause__ is not None:  # the file could not be opened at all
                raise
            raise RunError(_busy(folder)) from None
        except OSError as cause:
            if cause.errno not in _NO_LOCKS:
                raise
            _log.warning("%s: the file system has no locks; only run.json guards the run.", folder.path)
        else:
            _sign(folder)
        yield


def _sign(folder: RunFolder) -> None:
    """Say in the lock file who holds it, in place: a renamed file would be another lock."""
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time_text()}
    with contextlib.suppress(PermissionError):  # Windows lets nobody write a locked file; run.json names us too
        folder.lock.write_text(json.dumps(holder), "utf-8")


def _busy(folder: RunFolder) -> str:
    try:
        holder: Any = json.loads(folder.lock.read_text("utf-8"))
    except (OSError, ValueError):  # not signed yet
        holder = None
    holder = holder if isinstance(holder, dict) else folder.record.load()
    since = f" since {holder['since']}" if "since" in holder else ""
    return (
        f"{folder.path} is busy: process {holder.get('pid')} on {holder.get('host')} still works on it{since}. "
        f"Wait until it has finished, or stop it with: maskwright runs stop {folder.path}"
    )

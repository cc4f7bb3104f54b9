"""run_job: the one way slow work leaves the GUI thread; disk, run folders and imports are touched nowhere else."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal, Slot
from shiboken6 import isValid

from maskwright.errors import MaskwrightError

__all__ = ["Job", "run_job", "words_of"]

_T = TypeVar("_T")
_THREADS = 4  # one that waits for a slow network folder must not hold up the others

_pool: QThreadPool | None = None
_under_way: set[Job[Any]] = set()  # nothing else holds a job while its work runs


def run_job(
    work: Callable[[], _T], done: Callable[[_T], None], failed: Callable[[str], None], owner: QObject
) -> Job[_T]:
    """Do ``work`` in another thread, then call ``done`` or ``failed`` on the GUI thread.

    Call it on the GUI thread. ``work`` must not touch widgets.

    Args:
        work: What takes its time: reading, writing, importing.
        done: Takes what ``work`` returned.
        failed: Takes a sentence for people, where ``work`` raised.
        owner: On whose behalf; once it is deleted, nothing is delivered any more.
    """
    job = Job(work, done, failed, owner)
    _under_way.add(job)
    _threads().start(job.runner)
    return job


class Job(QObject, Generic[_T]):
    """Work under way; made by :func:`run_job`."""

    _ended = Signal(object, object)  # result, error

    def __init__(
        self, work: Callable[[], _T], done: Callable[[_T], None], failed: Callable[[str], None], owner: QObject
    ) -> None:
        super().__init__()
        self._done: Callable[[_T], None] | None = done
        self._failed: Callable[[str], None] | None = failed
        self._owner = weakref.ref(owner)  # asked at the end: its signal destroyed may come while the job itself goes
        self.runner = _Runner(work, self._ended.emit)
        self._ended.connect(self._deliver)  # queued: the job lives on the GUI thread

    @property
    def pending(self) -> bool:
        """Whether it still has something to deliver."""
        owner = self._owner()
        return self._done is not None and owner is not None and isValid(owner)

    def cancel(self) -> None:
        """Deliver nothing. Work that runs already runs to its end; work that waits is never begun."""
        self._done = self._failed = None
        self.runner.wanted = False

    @Slot(object, object)
    def _deliver(self, result: Any, error: BaseException | None) -> None:
        _under_way.discard(self)
        is_wanted, done, failed = self.pending, self._done, self._failed
        self._done = self._failed = None  # they hold the owner
        if is_wanted and error is None and done is not None:
            done(result)
        elif is_wanted and error is not None and failed is not None:
            failed(words_of(error))


class _Runner(QRunnable):
    def __init__(self, work: Callable[[], Any], ended: Callable[[Any, BaseException | None], None]) -> None:
        super().__init__()
        self.wanted = True
        self._work = work
        self._ended = ended

    def run(self) -> None:
        result, fault = None, None
        if self.wanted:
            try:
                result = self._work()
            except Exception as error:  # whatever it is, the person who waits is told
                fault = error
        with contextlib.suppress(RuntimeError):  # the program ended meanwhile, and the job with it: nobody waits
            self._ended(result, fault)


def words_of(error: BaseException) -> str:
    """An error as a sentence for people; what nobody foresaw is named with its type."""
    if isinstance(error, MaskwrightError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    return f"Something unforeseen happened ({type(error).__name__}: {error})."


def _threads() -> QThreadPool:
    global _pool
    if _pool is None:
        _pool = QThreadPool()
        _pool.setMaxThreadCount(_THREADS)
    return _pool

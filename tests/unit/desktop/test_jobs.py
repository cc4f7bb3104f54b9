from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QObject
from shiboken6 import delete

from maskwright.desktop.jobs import Job, run_job, words_of
from maskwright.errors import DataError


def test_work_is_done_elsewhere_and_delivered_here(qtbot: Any) -> None:
    here, seen = threading.get_ident(), list[tuple[int, int]]()
    owner = QObject()
    run_job(threading.get_ident, lambda there: seen.append((there, threading.get_ident())), pytest.fail, owner)
    qtbot.waitUntil(lambda: bool(seen))
    [(there, delivered)] = seen
    assert there != here
    assert delivered == here


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("The mask is empty. Paint it."), "The mask is empty. Paint it."),
        (FileNotFoundError(2, "No such file or directory", "/a"), "/a: No such file or directory."),
        (ZeroDivisionError("by 0"), "Something unforeseen happened (ZeroDivisionError: by 0)."),
    ],
)
def test_what_went_wrong_is_told_as_a_sentence(qtbot: Any, error: Exception, words: str) -> None:
    def work() -> None:
        raise error

    said: list[str] = []
    owner = QObject()
    run_job(work, lambda result: pytest.fail("it cannot be done"), said.append, owner)
    qtbot.waitUntil(lambda: bool(said))
    assert said == [words]
    assert words_of(error) == words


def test_a_job_that_was_given_up_delivers_nothing(qtbot: Any) -> None:
    begun, go_on, owner = threading.Event(), threading.Event(), QObject()

    def work() -> None:
        begun.set()
        go_on.wait(10)

    job = run_job(work, pytest.fail, pytest.fail, owner)
    assert job.pending
    assert begun.wait(10)
    job.cancel()
    assert not job.pending
    go_on.set()
    after: list[int] = []
    run_job(lambda: 1, after.append, pytest.fail, owner)
    qtbot.waitUntil(lambda: after == [1])


def test_nothing_is_delivered_to_an_owner_that_is_gone(qtbot: Any) -> None:
    go_on, owner, other = threading.Event(), QObject(), QObject()
    job = run_job(lambda: go_on.wait(10), lambda result: pytest.fail("nobody is there"), pytest.fail, owner)
    delete(owner)
    assert not job.pending
    go_on.set()
    after: list[int] = []
    run_job(lambda: 1, after.append, pytest.fail, other)
    qtbot.waitUntil(lambda: after == [1])


def test_many_jobs_at_once_all_arrive(qtbot: Any, tmp_path: Path) -> None:
    seen: list[int] = []
    owner = QObject()
    for number in range(50):
        run_job(lambda number=number: number, seen.append, pytest.fail, owner)  # type: ignore[misc]
    qtbot.waitUntil(lambda: len(seen) == 50)
    assert sorted(seen) == list(range(50))


def test_work_that_outlives_the_program_ends_in_silence(qtbot: Any) -> None:
    owner = QObject()
    job = Job[int](lambda: 1, lambda result: None, pytest.fail, owner)
    runner = job.runner
    delete(job)
    runner.run()

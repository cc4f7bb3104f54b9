from __future__ import annotations

import datetime
import errno
import json
import logging
import math
import os
import threading
from pathlib import Path

import pytest

from maskwright.tracking import EventLog, EventTail, read_events, without_superseded


def test_every_row_has_time_kind_attempt_and_step(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", attempt=2)
    log.write("start")
    log.write("step", global_step=10, **{"train/loss": 0.5, "lr/0": 1e-3})
    log.write("warning", message="slow disk")
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [list(row)[:4] for row in rows] == [["time", "kind", "attempt", "global_step"]] * 3
    assert [(row["kind"], row["attempt"], row["global_step"]) for row in rows] == [
        ("start", 2, 0),
        ("step", 2, 10),
        ("warning", 2, 10),
    ]
    assert rows[1]["train/loss"] == 0.5
    assert datetime.datetime.fromisoformat(rows[0]["time"]).utcoffset() == datetime.timedelta(0)


def test_rows_are_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for number in range(3):
        log.write("step", global_step=number)
        assert len(path.read_bytes().splitlines()) == number + 1


def test_numbers_that_are_not_finite_stay_strict_json_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).write("step", loss=math.nan, norm=math.inf)
    raw = path.read_text()
    assert '"loss": "NaN"' in raw
    assert '"norm": "Infinity"' in raw
    (row,) = read_events(path)
    assert math.isnan(row["loss"])
    assert row["norm"] == math.inf


def test_a_torn_last_line_is_passed_over_and_the_next_row_starts_fresh(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).write("step", global_step=1)
    with open(path, "ab") as file:
        file.write(b'{"time": "2026", "kind": "st')
    assert [row["global_step"] for row in read_events(path)] == [1]
    EventLog(path, attempt=2).write("step", global_step=2)
    tail = EventTail(path)
    assert [row["global_step"] for row in tail.read()] == [1, 2]
    assert tail.torn == 1


def test_a_tail_gives_each_row_once_and_waits_for_unfinished_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    log = EventLog(path)
    log.write("a")
    assert [row["kind"] for row in tail.read()] == ["a"]
    assert tail.read() == []
    with open(path, "ab") as file:
        file.write(b'{"kind": "b"')
        file.flush()
        assert tail.read() == []
        file.write(b"}\n")
    assert tail.read() == [{"kind": "b"}]


def test_events_can_be_asked_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for kind in ("step", "epoch", "step"):
        log.write(kind)
    assert [row["kind"] for row in read_events(path, kinds={"step"})] == ["step", "step"]


def test_a_full_disk_never_stops_the_run_and_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.write("step", global_step=1)
    whole = path.read_bytes()
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if data.startswith(b"{"):
            return write(handle, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.write("step", global_step=2)
        log.write("step", global_step=3)
        assert path.read_bytes() == whole
        assert log.problem is not None
        assert "the disk is full" in log.problem
    assert len(caplog.records) == 1
    log.write("step", global_step=4)
    assert log.problem is None
    assert [row["global_step"] for row in read_events(path)] == [1, 2, 3, 4]


def test_rows_lost_on_a_disk_that_stays_full_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "missing" / "events.jsonl")
    for number in range(1003):
        log.write("step", global_step=number)
    log.path.parent.mkdir()
    log.write("step", global_step=1003)
    rows = read_events(log.path)
    assert [row["global_step"] for row in rows if row["kind"] == "step"] == list(range(4, 1004))
    assert rows[-1]["message"] == "4 older events were lost while the disk refused."


def test_threads_may_write_together(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")

    def work(name: str) -> None:
        for number in range(50):
            log.write(name, number=number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_events(log.path)
    for name in "abc":
        assert [row["number"] for row in rows if row["kind"] == name] == list(range(50))


def test_what_a_resumed_run_did_again_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventLog(path, attempt=1)
    for step in (1, 2, 3, 4):
        first.write("step", global_step=step)
    second = EventLog(path, attempt=2)
    second.write("start", global_step=0)  # before the checkpoint is read
    for step in (3, 4, 5):
        second.write("step", global_step=step)
    rows = [row for row in without_superseded(read_events(path)) if row["kind"] == "step"]
    assert [(row["attempt"], row["global_step"]) for row in rows] == [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)]


def test_a_reader_may_pass_over_what_is_there(tmp_path: Path) -> None:
    log, tail = EventLog(tmp_path / "events.jsonl"), EventTail(tmp_path / "events.jsonl")
    tail.skip()  # nothing is there yet
    log.write("step", loss=1.0)
    with open(tmp_path / "events.jsonl", "ab") as file:
        file.write(b'{"kind": "epo')
    tail.skip()
    assert tail.read() == []
    with open(tmp_path / "events.jsonl", "ab") as file:
        file.write(b'ch"}\n')
    assert tail.read() == [{"kind": "epoch"}]  # the line that was being written is not lost
    assert tail.torn == 0

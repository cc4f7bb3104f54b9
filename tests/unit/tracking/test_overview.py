from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

import maskwright.tracking.overview as overview
from maskwright.errors import RunError
from maskwright.tracking import EventLog, RunFolder, RunReader, read_events, without_superseded
from maskwright.tracking.overview import EventOverview


def steps_of(log: EventOverview) -> dict[int, float]:
    curve = log.steps.curve("loss")
    return dict(zip(curve.step.tolist(), curve.mean.tolist(), strict=True))


def test_a_growing_log_is_read_on(tmp_path: Path) -> None:
    log, seen = EventLog(tmp_path / "events.jsonl"), EventOverview(tmp_path / "events.jsonl")
    seen.update()
    assert (steps_of(seen), seen.last_time) == ({}, None)
    log.write("train_begin", global_step=0, epochs=5)
    log.write("step", global_step=10, loss=0.5, grad_norm=1.0, lr=1e-3)
    seen.update()
    assert steps_of(seen) == {10: 0.5}
    assert seen.rows("train_begin")[0]["epochs"] == 5
    with open(log.path, "ab") as file:
        file.write(b'{"kind": "step", "attempt": 1, "global')
    seen.update()
    with open(log.path, "ab") as file:
        file.write(b'_step": 20, "loss": 0.25}\n')
    seen.update()
    assert steps_of(seen) == {10: 0.5, 20: 0.25}
    assert (seen.torn, seen.last_step) == (0, 20)


@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_steps_are_those_of_the_ordinary_reader_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path, draw = tmp_path / "events.jsonl", random.Random(3)
    for attempt, first in ((1, 0), (2, 40)):
        log = EventLog(path, attempt)
        for step in range(first, first + 60):
            log.write("step", global_step=step, loss=draw.random(), grad_norm=draw.random(), lr=1e-5, stepped=True)
            if step % 7 == 0:
                log.write("resources", images_per_s=draw.random())
        with open(path, "ab") as file:
            file.write(b'{"torn')
    monkeypatch.setattr(overview, "_BLOCK", size)
    seen = EventOverview(path)
    seen.update()
    kept = [row for row in without_superseded(read_events(path)) if row["kind"] == "step"]
    expected = {row["global_step"]: row["loss"] for row in kept}
    assert steps_of(seen) == pytest.approx(expected, rel=1e-12)
    assert [row["images_per_s"] for row in seen.rows("resources")] == [
        row["images_per_s"] for row in read_events(path, kinds={"resources"})
    ]
    assert seen.torn == 1


def test_a_log_that_was_replaced_is_read_anew_and_one_that_was_deleted_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).write("step", global_step=1, loss=0.5)
    seen = EventOverview(path)
    seen.update()
    EventLog(tmp_path / "other.jsonl").write("step", global_step=2, loss=0.25, more="x" * 100)
    os.replace(tmp_path / "other.jsonl", path)
    seen.update()
    assert steps_of(seen) == {2: 0.25}
    path.unlink()
    seen.update()
    assert (steps_of(seen), seen.rows("step"), seen.last_time) == ({}, [], None)


def test_foreign_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b'no json\n[1]\n{"a": 1}\n\xff\xfe\n\n{"kind": "step"}\n'
        b'{"kind": "step", "attempt": "1", "global_step": null}\n{"kind": ["x"], "time": 5}\n'
        b'{"kind": "step", "attempt": 1, "global_step": -4, "loss": 1.0}\n'
    )
    seen = EventOverview(path)
    seen.update()
    assert (steps_of(seen), seen.torn) == ({}, 3)


def test_rows_are_bounded_resources_thinly_and_others_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_KEPT", 10)
    log = EventLog(tmp_path / "events.jsonl")
    for number in range(100):
        log.write("resources", number=number)
        log.write("warning", number=number)
    seen = EventOverview(log.path)
    seen.update()
    resources = [row["number"] for row in seen.rows("resources")]
    assert (resources[0], resources[-1]) == (0, 99)
    assert 10 <= len(resources) <= 20
    assert 10 <= len(seen.rows("warning")) <= 20
    assert seen.rows("warning")[-1]["number"] == 99


def test_a_reader_shows_the_overview_of_its_run(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    reader = RunReader(run.path)
    EventLog(run.events).write("step", global_step=4, loss=0.5, lr=1e-3)
    assert np.allclose(reader.overview().steps.curve("lr").mean, [1e-3])
    run.events.unlink()
    run.events.mkdir()
    with pytest.raises(RunError, match=r"events\.jsonl cannot be read: Is a directory"):
        reader.overview()

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maskwright.errors import CheckpointError, RunError
from maskwright.tracking import EventLog, History, Manifest, RunFolder, RunReader, write_manifest


def test_a_reader_sees_a_run_grow(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    reader = RunReader(run.path)
    assert reader.history() == ()
    assert reader.events() == []
    assert reader.checkpoints() == Manifest()
    assert reader.log_lines() == []
    run.config.write_text("name: gaps\n")
    run.log.write_text("one\ntwo\nthree\n")
    run.record.update(status="running")
    History(run.history).append({"epoch": 1, "val/iou": 0.5})
    log = EventLog(run.events)
    log.write("step", global_step=1)
    log.write("epoch", global_step=1)
    write_manifest(run.manifest, Manifest(monitor="val/iou"))
    assert reader.status()["status"] == "running"
    assert reader.status()["alive"] is True
    assert reader.history() == ({"epoch": 1, "val/iou": 0.5},)
    assert [row["kind"] for row in reader.events()] == ["step", "epoch"]
    log.write("step", global_step=2)
    assert [row["global_step"] for row in reader.events({"step"})] == [1, 2]
    assert reader.checkpoints().monitor == "val/iou"
    assert reader.config_text() == "name: gaps\n"
    assert reader.log_lines(2) == ["two", "three"]


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    run.record.update(status="running", process="dead")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    reader = RunReader(run.path)
    assert reader.status()["status"] == "interrupted"
    reader.history(), reader.events(), reader.checkpoints(), reader.log_lines()
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_what_is_missing_or_damaged_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        RunReader(tmp_path)
    run = RunFolder.create(tmp_path, "gaps")
    with pytest.raises(RunError, match=r"config\.yaml cannot be read: No such file"):
        RunReader(run.path).config_text()
    assert RunReader(run.path).settings() == {}
    run.manifest.write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        RunReader(run.path).checkpoints()
    os.remove(run.log)
    assert RunReader(run.path).log_lines() == []


@pytest.mark.parametrize("content", [b"[1, 2]", b"words", b"a: [", b"{}\n{}", b"\xff\x80", b"", b"[" * 5000])
def test_settings_that_are_none_are_called_damaged(tmp_path: Path, content: bytes) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    run.config.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.yaml is damaged: it (is no YAML|is no text|holds no settings)"):
        RunReader(run.path).settings()

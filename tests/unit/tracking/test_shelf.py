from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from maskwright.tracking import EventLog, RunFolder
from maskwright.tracking.shelf import RunShelf, Snapshot

from ..conftest import make_run


def look(run: RunFolder) -> Snapshot:
    return RunShelf(run.path.parent).look(run.path)


def test_the_shelf_lists_runs_newest_first_with_their_real_status(outputs: Path) -> None:
    first = make_run(outputs, "a", status="finished")
    second = make_run(outputs, "b")
    dead = make_run(outputs, "c")
    dead.record.update(process="another")
    found = RunShelf(outputs).runs()
    assert [(run.path, run.status) for run in found] == [
        (dead.path, "interrupted"),
        (second.path, "running"),
        (first.path, "finished"),
    ]


@pytest.mark.parametrize("folder", ["missing", "empty", "file"])
def test_a_folder_without_runs_has_none(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert RunShelf(tmp_path / folder).runs() == []


def test_the_shelf_survives_foreign_folders_and_json(outputs: Path) -> None:
    (outputs / "notes").mkdir()
    (outputs / "a.txt").write_text("x")
    for name, text in (("list", "[1, 2]"), ("torn", '{"status": "run'), ("other", '{"hello": 5}'), ("empty", "")):
        (outputs / name).mkdir()
        (outputs / name / "run.json").write_text(text)
    shelf = RunShelf(outputs)
    assert {run.name: run.status for run in shelf.runs()} == dict.fromkeys(
        ("list", "torn", "other", "empty"), "unreadable"
    )
    for run in shelf.runs():
        snapshot = shelf.look(run.path)
        assert snapshot.exists
        assert snapshot.problems


def test_an_unchanged_run_json_is_not_read_again(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(outputs, status="finished")
    shelf = RunShelf(outputs)
    shelf.runs()
    with monkeypatch.context() as patch:
        patch.setattr("maskwright.tracking.folder.RunRecord.load", lambda self: pytest.fail("read again"))
        assert shelf.runs()[0].status == "finished"
    run.record.update(status="failed")
    assert shelf.runs()[0].status == "failed"


def test_a_snapshot_holds_what_the_files_say_and_follows_them(outputs: Path) -> None:
    run = make_run(outputs)
    shelf = RunShelf(outputs)
    seen = shelf.look(run.path)
    assert (seen.status, seen.alive, seen.last_step, seen.problems) == ("running", True, 20, ())
    assert seen.curves["loss"].step.tolist() == [5, 10, 15, 20]
    assert seen.curves["loss"].mean.tolist() == [0.5, 0.5, 0.4, 0.4]
    assert [entry["val/iou"] for entry in seen.history] == [0.25, 0.75]
    assert seen.number("resources", "left_s") == 120.0
    assert seen.manifest.best == "checkpoint_epoch_0002.pt"
    EventLog(run.events).write("step", global_step=25, loss=0.125, grad_norm=1.0, lr=0.001)
    with open(run.events, "ab") as file:
        file.write(b'{"kind": "step", "att')
    assert shelf.look(run.path).curves["loss"].mean.tolist()[-1] == 0.125
    assert seen.curves["loss"].step.tolist() == [5, 10, 15, 20]


def test_a_deleted_run_is_gone_and_one_in_its_place_is_read_anew(outputs: Path) -> None:
    run, other = make_run(outputs), make_run(outputs, "other", best=0.5)
    shelf = RunShelf(outputs)
    shelf.look(run.path)
    shutil.rmtree(run.path)
    assert shelf.look(run.path).exists is False
    assert [one.name for one in shelf.runs()] == [other.path.name]
    other.path.rename(run.path)
    assert shelf.look(run.path).history[-1]["val/iou"] == 0.5


def test_damaged_files_leave_the_rest_and_are_named(outputs: Path) -> None:
    run = make_run(outputs)
    run.history.write_text('[{"epoch": 1, "val/')
    run.manifest.write_text('{"format_version": 1}')
    seen = look(run)
    assert seen.history == ()
    assert seen.manifest.records == ()
    assert len(seen.curves["loss"]) == 4
    assert [Path(problem.split(" is damaged")[0]).name for problem in seen.problems] == [
        "training_history.json",
        "manifest.json",
    ]


def test_foreign_entries_of_a_history_are_left_out(outputs: Path) -> None:
    run = make_run(outputs)
    run.history.write_text(json.dumps([{"epoch": "one"}, {"epoch": 1, "val/iou": None}, {"epoch": True}]))
    assert look(run).history == ({"epoch": 1, "val/iou": None},)


def test_looking_changes_nothing_in_a_run(outputs: Path) -> None:
    run = make_run(outputs)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    shelf = RunShelf(outputs)
    shelf.runs(), shelf.look(run.path), shelf.history(run.path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before

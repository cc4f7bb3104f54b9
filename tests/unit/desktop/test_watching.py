from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.desktop.watching import RunWatch, TextTail
from maskwright.tracking import EventLog, History, RunFolder

from ..conftest import make_run


def test_a_run_at_work_as_people_read_it(outputs: Path) -> None:
    view = RunWatch(make_run(outputs).path).look()
    assert view.alive
    assert view.sentence == "running · epoch 3 of 4 · IoU 0.7500 (best 0.7500 in epoch 2) · 12.5 images/s"
    assert (view.total_share, view.total_text) == (0.5, "2 min left")
    assert (view.epoch_share, view.epoch_text) == (0.0, "1 min left")
    assert view.monitor == "IoU"


def test_progress_inside_an_epoch_comes_from_the_steps(outputs: Path) -> None:
    run = make_run(outputs)
    watch = RunWatch(run.path)
    watch.look()
    EventLog(run.events).write("step", global_step=24, loss=0.3, grad_norm=1.0, lr=0.001)  # 10 updates make an epoch
    view = watch.look()
    assert view.epoch_share == pytest.approx(0.4)
    assert view.total_share == pytest.approx(0.6)
    assert view.epoch_text == "36 s left"


def test_lines_of_steps_and_of_epochs_share_an_axis(outputs: Path) -> None:
    view = RunWatch(make_run(outputs).path).look()
    lines = {line.name: line for line in view.losses}
    assert list(lines) == ["steps", "training", "validation"]
    assert lines["steps"].x.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert lines["steps"].y.tolist() == [0.5, 0.5, 0.4, 0.4]
    assert lines["validation"].x.tolist() == [1.0, 2.0]
    assert lines["validation"].y.tolist() == [0.5, 0.4]


def test_further_plots_by_name(outputs: Path) -> None:
    view = RunWatch(make_run(outputs).path).look()
    assert list(view.charts) == ["Scores", "IoU by part", "Learning rate", "Gradient norm"]
    assert [line.name for line in view.charts["Scores"]] == ["IoU"]
    assert [line.name for line in view.charts["IoU by part"]] == ["IoU at 5 m", "IoU at 10 m"]
    assert view.charts["Gradient norm"][0].y.tolist() == [1.5] * 4


def test_nothing_new_gives_the_same_lines_and_an_epoch_gives_new_ones(outputs: Path) -> None:
    run = make_run(outputs)
    watch = RunWatch(run.path)
    first, second = watch.look(), watch.look()
    assert second.losses is first.losses
    assert second.charts is first.charts
    History(run.history).append({"epoch": 3, "global_step": 30, "train/loss": 0.3, "val/iou": 0.8})
    third = watch.look()
    assert third.losses is not second.losses
    assert third.charts["Scores"][0].y.tolist() == [0.25, 0.75, 0.8]


def test_checkpoints_samples_and_report(outputs: Path) -> None:
    run = make_run(outputs)
    (run.samples / "strip.png").write_bytes(b"")
    view = RunWatch(run.path).look()
    (row,) = view.checkpoints
    assert (row.path, row.what) == (run.checkpoints / "checkpoint_epoch_0002.pt", "best, newest, epoch")
    assert (row.epoch, row.score, row.size, row.saved, row.is_there) == (2, "0.7500", "7 B", "2026-11-21 09:30", True)
    assert [path.name for path in view.samples] == ["epoch_0001.png", "epoch_0002.png"]
    assert not view.has_report
    run.report.write_text("<p>")
    row.path.unlink()
    view = RunWatch(run.path).look()
    assert view.has_report
    assert not view.checkpoints[0].is_there


def test_a_run_that_failed_says_why(outputs: Path) -> None:
    run = make_run(outputs, status="failed")
    EventLog(run.events).write("error", message="The data folder is gone.\nTraceback ...")
    view = RunWatch(run.path).look()
    assert view.sentence.endswith("· The data folder is gone.")
    assert not view.alive
    assert view.epoch_share is None


def test_a_finished_run_is_full_and_a_deleted_one_is_gone(outputs: Path) -> None:
    run = make_run(outputs, status="finished")
    watch = RunWatch(run.path)
    assert watch.look().total_share == 1.0
    run.run_json.unlink()
    view = watch.look()
    assert (view.exists, view.sentence) == (False, f"The run {run.path.name} is gone.")


def test_a_damaged_file_is_named_and_the_rest_is_shown(outputs: Path) -> None:
    run = make_run(outputs)
    run.history.write_text("{")
    view = RunWatch(run.path).look()
    assert "training_history.json" in view.problems[0]
    assert [line.name for line in view.losses] == ["steps"]


def test_text_is_read_on_from_where_it_ended(tmp_path: Path) -> None:
    tail = TextTail(tmp_path / "log.txt")
    assert tail.read() == ""
    (tmp_path / "log.txt").write_bytes(b"one\n\xc3")
    assert tail.read() == "one\n"
    with open(tmp_path / "log.txt", "ab") as file:
        file.write(b"\xa9two\n")
    assert tail.read() == "étwo\n"
    assert tail.read() == ""
    (tmp_path / "log.txt").write_text("new\n")
    assert tail.read() == "new\n"


def test_of_a_long_text_only_the_end_is_read_at_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number:06d}\n" for number in range(50_000)))  # 600 kB
    tail = TextTail(path)
    first = tail.read()
    assert len(first) <= 1 << 16
    assert first.startswith("line 0")
    assert first.endswith("line 049999\n")
    with open(path, "a") as file:
        file.write("".join(f"more {number:06d}\n" for number in range(50_000)))
    later = tail.read()
    assert len(later) <= 1 << 18
    assert later.startswith("more 0")
    assert later.endswith("more 049999\n")


def test_a_look_brings_no_torch_and_no_window(outputs: Path) -> None:
    import subprocess
    import sys

    run = make_run(outputs)
    code = (
        "import sys; from pathlib import Path; from maskwright.desktop.watching import RunWatch; "
        f"RunWatch(Path({str(run.path)!r})).look(); "
        "print(sorted({'torch', 'PySide6', 'rasterio', 'pandas'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_folder_of_a_run_stays_as_it_was(outputs: Path) -> None:
    run = make_run(outputs)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    RunWatch(run.path).look()
    assert {path: path.stat().st_mtime_ns for path in RunFolder(run.path).path.rglob("*")} == before

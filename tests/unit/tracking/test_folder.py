from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskwright.errors import RunError
from maskwright.tracking import RunFolder, find_runs
from maskwright.tracking import folder as folder_module

CREATE = "import sys; from pathlib import Path; from maskwright.tracking import RunFolder\n"


def test_a_new_run_folder_is_complete(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "outputs", "gaps")
    stamp = run.path.name.removeprefix("gaps_")
    assert time.strptime(stamp, "%Y%m%d_%H%M%S")
    assert sorted(os.listdir(run.path)) == [
        "checkpoints",
        "control",
        "events.jsonl",
        "log.txt",
        "model",
        "run.json",
        "samples",
        "tensorboard",
        "training_history.json",
    ]
    assert json.loads(run.history.read_text()) == []
    fields = run.record.load()
    assert fields["name"] == "gaps"
    assert fields["status"] == "starting"
    assert fields["attempt"] == 1
    assert fields["pid"] == os.getpid()
    assert fields["ended"] is None


def test_every_path_has_the_name_of_the_design(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    names = ["config", "run_json", "events", "history", "checkpoints", "manifest", "model", "control"]
    names += ["tensorboard", "samples", "report", "log", "splits"]
    assert [str(getattr(run, name).relative_to(tmp_path)) for name in names] == [
        "config.yaml",
        "run.json",
        "events.jsonl",
        "training_history.json",
        "checkpoints",
        "checkpoints/manifest.json",
        "model",
        "control",
        "tensorboard",
        "samples",
        "report.html",
        "log.txt",
        "splits.geojson",
    ]


def test_runs_of_one_second_get_different_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "20261121_093000")
    names = [RunFolder.create(tmp_path, "gaps").path.name for _ in range(3)]
    assert names == ["gaps_20261121_093000", "gaps_20261121_093000_2", "gaps_20261121_093000_3"]
    assert sorted(os.listdir(tmp_path)) == sorted(names)


def test_processes_that_start_together_get_different_folders(tmp_path: Path) -> None:
    script = CREATE + (
        "import time; time.strftime = lambda form: '20261121_093000'\n"
        "for _ in range(5): print(RunFolder.create(Path(sys.argv[1]), 'gaps').path.name)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    made = [name for child in children for name in child.communicate()[0].split()]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(set(made)) == 15
    assert sorted(os.listdir(tmp_path)) == sorted(made)
    assert all((tmp_path / name / "run.json").is_file() for name in made)


def test_a_folder_that_is_there_by_chance_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "20261121_093000")
    (tmp_path / "gaps_20261121_093000").mkdir()
    assert RunFolder.create(tmp_path, "gaps").path.name == "gaps_20261121_093000_2"
    assert os.listdir(tmp_path / "gaps_20261121_093000") == []


@pytest.mark.parametrize("failing_call", range(15))
def test_a_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int) -> None:
    """The disk refuses at each call in turn; what comes out is a whole run folder or nothing."""
    calls = 0

    def failing(name: str) -> None:
        original = getattr(os, name)

        def wrapper(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == failing_call + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*args, **options)

        monkeypatch.setattr(os, name, wrapper)

    for name in ("mkdir", "fsync", "rename"):
        failing(name)
    with pytest.raises(RunError, match="the disk is full"):
        RunFolder.create(tmp_path / "a" / "outputs", "gaps")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_a_read_only_disk_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match=r"Cannot write in .*outputs: .*the disk is read-only\. Choose a folder"):
        RunFolder.create(tmp_path / "outputs", "gaps")


def test_a_folder_being_made_is_no_run_yet_and_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    script = CREATE + (
        "import os, signal\n"
        "os.rename = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)\n"
        "RunFolder.create(Path(sys.argv[1]), 'gaps')"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1
    assert find_runs(tmp_path) == ()
    run = RunFolder.create(tmp_path, "gaps")
    assert os.listdir(tmp_path) == [run.path.name]


@pytest.mark.parametrize("name", ["", "../gaps", "a/b", ".hidden", "two words"])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="cannot be a folder's name"):
        RunFolder.create(tmp_path, name)


def test_opening_something_else_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"has no run\.json"):
        RunFolder.open(tmp_path)
    run = RunFolder.create(tmp_path, "gaps")
    with pytest.raises(RunError, match=f"it holds 1 runs. Name one of them, for example {run.path}"):
        RunFolder.open(tmp_path)
    assert RunFolder.open(run.path) == run


def test_a_run_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    run.record.update(format_version=99)
    with pytest.raises(RunError, match="newer Maskwright: run format 99"):
        RunFolder.open(run.path)


def test_a_run_json_of_somebody_else_is_not_called_a_newer_one(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"hello": [1]}')
    with pytest.raises(RunError, match=r"is not a run folder: run\.json in it is not one that Maskwright wrote"):
        RunFolder.open(tmp_path)


def test_an_update_keeps_the_other_fields(tmp_path: Path) -> None:
    record = RunFolder.create(tmp_path, "gaps").record
    before = record.load()
    record.update(status="running", precision="fp32")
    after = record.load()
    assert after["precision"] == "fp32"
    assert after["status"] == "running"
    assert after["created"] == before["created"]
    assert after["updated"] >= before["updated"]


def test_the_end_of_a_run_is_dated_once_its_status_says_so(tmp_path: Path) -> None:
    record = RunFolder.create(tmp_path, "gaps").record
    assert record.update(status="running")["ended"] is None
    assert record.update(status="finished")["ended"] is not None
    with pytest.raises(ValueError, match="status 'done' is unknown; one of starting"):
        record.update(status="done")


def test_this_process_is_alive_until_the_run_ends(tmp_path: Path) -> None:
    record = RunFolder.create(tmp_path, "gaps").record
    assert record.is_alive()
    record.update(status="finished")
    assert not record.is_alive()
    assert record.status() == "finished"


def test_a_killed_process_is_recognised_even_before_it_is_reaped(tmp_path: Path) -> None:
    script = CREATE + "import time; print(RunFolder.create(Path(sys.argv[1]), 'gaps').path, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    run = RunFolder.open(Path(child.stdout.readline().strip()))
    assert run.record.is_alive()
    assert run.record.status() == "starting"
    child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while run.record.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.record.status() == "interrupted"
    child.wait()
    assert run.record.status() == "interrupted"
    assert run.record.load()["status"] == "starting"  # reading changes nothing


def test_a_process_number_given_again_is_not_taken_for_the_run(tmp_path: Path) -> None:
    record = RunFolder.create(tmp_path, "gaps").record
    record.update(process="the mark of an earlier process with our number")
    assert not record.is_alive()


def test_a_run_of_another_computer_is_alive_while_it_gives_signs(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "gaps")
    run.record.update(host="another")
    assert run.record.is_alive()
    for path in (run.run_json, run.events):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert not run.record.is_alive()
    os.utime(run.events)
    assert run.record.is_alive()


def test_a_second_attempt_counts_on_and_takes_over(tmp_path: Path) -> None:
    record = RunFolder.create(tmp_path, "gaps").record
    record.update(status="failed", pid=1, process="dead")
    fields = record.begin_attempt(precision="bf16")
    assert fields["attempt"] == 2
    assert fields["status"] == "starting"
    assert fields["pid"] == os.getpid()
    assert fields["ended"] is None
    assert fields["precision"] == "bf16"
    assert record.is_alive()


def test_a_run_at_work_is_not_taken_over(tmp_path: Path) -> None:
    script = CREATE + "import time; print(RunFolder.create(Path(sys.argv[1]), 'gaps').path, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        record = RunFolder.open(Path(child.stdout.readline().strip())).record
        with pytest.raises(RunError, match=f"is busy: process {child.pid} on .* still works on it"):
            record.begin_attempt()
    finally:
        child.kill()
        child.wait()
    assert record.begin_attempt()["attempt"] == 2


def test_a_run_of_another_computer_that_has_fallen_silent_is_explained(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "far")
    run.record.update(host="another", pid=7)
    for path in (run.run_json, run.events):
        os.utime(path, (time.time() - 240, time.time() - 240))
    with pytest.raises(RunError) as error:
        run.record.begin_attempt()
    text = str(error.value)
    assert "is busy: process 7 on another still works on it: its last sign of life came 4 minutes ago" in text
    assert "a run there counts as dead after 10 minutes of silence" in text
    for path in (run.run_json, run.events):
        os.utime(path, (time.time() - 660, time.time() - 660))
    assert run.record.begin_attempt()["attempt"] == 2


def test_runs_are_found_newest_first_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(f"2026-11-2{day}T00:00:00+00:00" for day in (2, 3, 1))
    monkeypatch.setattr(folder_module, "time_text", lambda: next(texts))
    first, second, third = (RunFolder.create(tmp_path, name) for name in ("b", "a", "b"))
    (tmp_path / "no run").mkdir()
    assert find_runs(tmp_path) == (second, first, third)
    assert find_runs(tmp_path, "b") == (first, third)
    assert find_runs(tmp_path / "nowhere") == ()


def test_a_damaged_run_is_listed_last(tmp_path: Path) -> None:
    damaged, whole = RunFolder.create(tmp_path, "a"), RunFolder.create(tmp_path, "b")
    damaged.run_json.write_text("{")
    assert find_runs(tmp_path) == (whole, damaged)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        RunFolder.open(damaged.path)

"""Signals and commands to real processes, at every stage of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.tracking import read_events
from maskwright.tracking.folder import RunFolder, find_runs
from maskwright.tracking.manifest import read_manifest

EXPERIMENT = """
name: stopped
task: {{heights_m: [5, 10]}}
data:
  folder: {folder}
  tiles: {{size_px: 32}}
  split: {{keep: none}}
  loader: {{batch_size: 4, samples_per_epoch: 32, eval_batch_size: 1}}
model: {{base_channels: 4, depth: 2}}
training: {{epochs: 2, threads: 1}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false}}
"""

# The command, slowed down at one place so that a signal strikes there; the place is marked by a file.
CHILD = """
import sys, time
from pathlib import Path
mark, place, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]

def reached():
    mark.touch()
    time.sleep(0.1)

if place == "validation":
    from maskwright.training import Callback, trainer
    from maskwright.training.callbacks import events
    events.EventsCallback.on_validation_batch_end = lambda self, state: reached()
elif place == "warm-up":
    from maskwright.training import budget
    budget.measure_speed = lambda *_, **__: [reached() for _ in range(600)]
elif place == "operating point":
    from maskwright.workflows import train
    train.find_operating_point = lambda *_, **__: [reached() for _ in range(600)]
elif place == "final numbers":
    from maskwright.workflows import train
    plain = train.evaluate_part
    def slow(*arguments, progress, **options):
        for done in range(600):
            progress(done, 600, "evaluating")
            reached()
        return plain(*arguments, progress=progress, **options)
    train.evaluate_part = slow
elif place == "training":
    from maskwright.training.callbacks import events
    events.EventsCallback.on_batch_begin = lambda self, state: reached()

from maskwright.cli.main import main
sys.exit(main(arguments))
"""

Start = Callable[..., tuple["subprocess.Popen[str]", RunFolder]]


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    write_forest(folder, size_px=320, seed=8)
    return folder


@pytest.fixture(scope="module")
def straight(rasters: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run nobody disturbs."""
    config = write_config(tmp_path_factory.mktemp("straight"), rasters)
    assert main(["train", str(config), "--quiet"]) == 0
    (run,) = find_runs(config.parent / "outputs")
    return run


@pytest.fixture
def start(rasters: Path, tmp_path: Path) -> Iterator[Start]:
    """Begin a run in a process of its own and wait until it is at a place."""
    processes: list[subprocess.Popen[str]] = []

    def begin(place: str, *options: str) -> tuple[subprocess.Popen[str], RunFolder]:
        config, mark = write_config(tmp_path, rasters), tmp_path / "reached"
        command = [sys.executable, "-c", CHILD, str(mark), place, "train", str(config), *options]
        process = subprocess.Popen(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        wait_for(lambda: mark.exists() or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        (run,) = find_runs(tmp_path / "outputs")
        return process, run

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def write_config(folder: Path, rasters: Path) -> Path:
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT.format(folder=rasters, out=folder / "outputs"), encoding="utf-8")
    return config


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_ends_as(run: RunFolder, straight: RunFolder) -> None:
    """Continue the run; weights and numbers are then those of the run nobody disturbed."""
    assert main(["train", "--resume", str(run.path), "--quiet"]) == 0
    assert run.record.status() == "finished"
    assert (run.model / "model.safetensors").read_bytes() == (straight.model / "model.safetensors").read_bytes()
    numbers = [json.loads((each.path / "evaluation.json").read_text()) for each in (run, straight)]
    assert numbers[0]["model"] == numbers[1]["model"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_validation_saves_what_was_trained(start: Start, straight: RunFolder, number: int) -> None:
    process, run = start("validation")
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"Next: maskwright train --resume {run.path}" in out
    assert (run.record.status(), run.record.load()["reason"]) == ("stopped", f"signal {signal.Signals(number).name}")
    newest = read_manifest(run.manifest).latest
    assert newest is not None
    assert (newest.epoch, newest.position, newest.global_step) == (0, 8, 8)  # all batches of the epoch, not validated
    batches = sum(1 for row in read_events(run.events) if row["kind"] == "epoch")
    assert batches == 0
    assert_ends_as(run, straight)


def test_a_signal_in_the_warm_up_ends_it_and_the_run_begins_when_it_is_continued(start: Start) -> None:
    process, run = start("warm-up", "--minutes", "60")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Stopped (signal SIGTERM) before the training began; nothing is lost." in out
    assert f"Next: maskwright train --resume {run.path}" in out
    assert run.record.status() == "stopped"
    assert main(["train", "--resume", str(run.path), "--epochs", "1", "--quiet"]) == 0
    assert run.record.status() == "finished"


@pytest.mark.parametrize("place", ["operating point", "final numbers"])
def test_a_signal_behind_the_training_leaves_the_final_numbers_to_a_later_start(
    start: Start, straight: RunFolder, place: str
) -> None:
    process, run = start(place)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Stopped (signal SIGTERM) when all epochs were done and saved. It then makes the final numbers only." in out
    assert run.record.status() == "stopped"
    assert not (run.path / "evaluation.json").exists()
    steps = len(read_events(run.events, kinds=["step"]))
    assert_ends_as(run, straight)
    assert len(read_events(run.events, kinds=["step"])) == steps  # nothing was trained again


@pytest.mark.parametrize("place", ["training", "warm-up"])
def test_a_second_signal_ends_the_process_at_once(start: Start, place: str) -> None:
    process, run = start(place, *(["--minutes", "60"] if place == "warm-up" else []))
    os.kill(process.pid, signal.SIGSTOP)  # so that both arrive
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGTERM)
    assert run.record.status() in ("interrupted", "stopped")


def test_two_processes_cannot_train_one_run_and_a_killed_one_frees_it(
    start: Start, straight: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    process, run = start("training")
    capsys.readouterr()
    assert main(["train", "--resume", str(run.path)]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert f"is busy: process {process.pid} on " in text
    assert f"stop it with: maskwright runs stop {run.path}" in text
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_ends_as(run, straight)


def test_a_person_pauses_saves_steers_and_stops_a_run_while_it_validates(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    process, run = start("validation")
    capsys.readouterr()
    assert main(["runs", "pause", str(run.path)]) == 0
    assert f"{run.path.name} waits. Let it go on with: maskwright runs continue {run.path}" in capsys.readouterr().out
    wait_for(lambda: commands(run) == ["pause"])
    assert main(["runs", "checkpoint", str(run.path)]) == 0
    assert main(["runs", "lr", str(run.path), "0.0001"]) == 0
    assert "trains with a learning rate of 0.0001 from its next update on" in capsys.readouterr().out
    wait_for(lambda: commands(run) == ["pause", "checkpoint", "set_lr"])
    assert process.poll() is None
    assert main(["runs", "continue", str(run.path)]) == 0
    wait_for(lambda: len(read_manifest(run.manifest).records) == 1 if run.manifest.exists() else False)
    assert read_manifest(run.manifest).records[0].position == 8  # between two batches of the validation
    assert main(["runs", "stop", str(run.path)]) == 0
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert (run.record.status(), run.record.load()["reason"]) == ("stopped", "stop command")
    capsys.readouterr()
    assert main(["runs", "stop", str(run.path)]) == 2
    assert "is not at work (status stopped), so nobody would obey" in " ".join(capsys.readouterr().err.split())


def test_a_stop_command_is_obeyed_while_the_final_numbers_are_made(start: Start) -> None:
    process, run = start("final numbers")
    assert main(["runs", "stop", str(run.path)]) == 0
    out, _ = process.communicate(timeout=120)
    assert "Stopped (stop command) when all epochs were done and saved." in out
    assert (run.record.status(), run.record.load()["reason"]) == ("stopped", "stop command")


def commands(run: RunFolder) -> list[str]:
    return [row["command"] for row in read_events(run.events, kinds=["command"])]

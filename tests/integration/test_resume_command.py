"""A training process that is killed goes on by ``maskwright train --resume`` to the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.tracking.folder import find_runs

EXPERIMENT = """
name: killed
task: {{heights_m: [5, 10], train_range_m: [2, 20]}}
data:
  folder: {folder}
  tiles: {{size_px: 32}}
  split: {{keep: none}}
  augment: {{rotate_p: 0.3, terrain_p: 0.3, noise_m: 0.1}}
  loader: {{batch_size: 4, samples_per_epoch: 64}}
model: {{base_channels: 4, depth: 2, dropout: 0.2}}
training: {{epochs: 3, threads: 1}}
checkpoints: {{every_steps: 3}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true}}
"""


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    write_forest(folder, size_px=448, seed=8)
    return folder


def write_config(folder: Path, rasters: Path) -> Path:
    folder.mkdir()
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT.format(folder=rasters, out=folder / "outputs"), encoding="utf-8")
    return config


def steps_done(outputs: Path) -> int:
    try:
        (run,) = find_runs(outputs)
        return max((record["global_step"] for record in json.loads(run.manifest.read_text())["checkpoints"]), default=0)
    except (ValueError, OSError, KeyError):
        return 0


def weights(outputs: Path) -> bytes:
    (run,) = find_runs(outputs)
    return (run.model / "model.safetensors").read_bytes()


def test_a_killed_command_resumes_to_the_same_weights_numbers_and_history(rasters, tmp_path):
    straight = write_config(tmp_path / "straight", rasters)
    assert main(["train", str(straight)]) == 0

    killed = write_config(tmp_path / "killed", rasters)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "maskwright", "train", str(killed)], env=environment)
    deadline = time.monotonic() + 120
    while steps_done(tmp_path / "killed" / "outputs") < 18 and process.poll() is None:  # inside the second epoch
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run,) = find_runs(tmp_path / "killed" / "outputs")
    assert run.record.status() == "interrupted"
    assert main(["train", "--resume", str(run.path)]) == 0

    assert weights(tmp_path / "killed" / "outputs") == weights(tmp_path / "straight" / "outputs")
    (other,) = find_runs(tmp_path / "straight" / "outputs")
    timeless = [
        [{name: value for name, value in entry.items() if name != "elapsed_s"} for entry in json.loads(text)]
        for text in (run.history.read_text(), other.history.read_text())
    ]
    assert timeless[0] == timeless[1]
    assert run.record.load()["attempt"] == 2


def test_a_run_that_is_at_work_is_not_resumed_by_a_second_process(rasters, tmp_path, capsys):
    config = write_config(tmp_path / "busy", rasters)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "maskwright", "train", str(config)], env=environment)
    try:
        deadline = time.monotonic() + 120
        while steps_done(tmp_path / "busy" / "outputs") < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGSTOP)  # alive, and not about to finish
        (run,) = find_runs(tmp_path / "busy" / "outputs")
        assert main(["train", "--resume", str(run.path)]) == 2
        assert "busy" in capsys.readouterr().err
    finally:
        process.kill()
        process.wait()


def test_two_runs_started_in_the_same_second_get_folders_of_their_own(tmp_path):
    from maskwright.tracking.folder import RunFolder

    first, second = RunFolder.create(tmp_path, "same"), RunFolder.create(tmp_path, "same")
    assert first.path != second.path


def test_ctrl_c_saves_and_ends_with_the_exit_code_of_an_interruption(rasters, tmp_path):
    config = write_config(tmp_path / "stopped", rasters)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "maskwright", "train", str(config)], env=environment)
    deadline = time.monotonic() + 120
    while steps_done(tmp_path / "stopped" / "outputs") < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    (run,) = find_runs(tmp_path / "stopped" / "outputs")
    assert run.record.status() == "stopped"
    assert main(["train", "--resume", str(run.path), "--quiet"]) == 0
    assert run.record.status() == "finished"

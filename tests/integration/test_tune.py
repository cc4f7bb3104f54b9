"""A search by the real command: trials that are runs, a kill in the middle, two processes at one study."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskwright.cli.main import main
from maskwright.config import load_experiment
from maskwright.data.synthetic_images import write_pictures
from maskwright.tracking.folder import find_runs
from maskwright.tracking.history import read_history

pytest.importorskip("optuna")

EXPERIMENT = """
name: searched
task: {{kind: binary}}
data:
  kind: images
  folder: {data}
  tiles: {{size_px: 32}}
  loader: {{batch_size: 4, workers: 0, samples_per_epoch: {samples}}}
model: {{base_channels: 4, depth: 2}}
training: {{epochs: {epochs}, threads: 1, device: cpu}}
checkpoints: {{every_steps: 2}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false}}
tune:
  space:
    - {{setting: optim.optimizer.lr, low: 0.0005, high: 0.02, log: true}}
    - {{setting: optim.schedule.kind, choices: [constant, cosine]}}
  trials: {trials}
  pruner: {{kind: none}}
"""


def experiment(tmp_path: Path, *, trials: int, epochs: int, samples: int = 8) -> Path:
    data = tmp_path / "pictures"
    write_pictures(data, "cracks", 10, size_px=64)
    path = tmp_path / "searched.yaml"
    path.write_text(EXPERIMENT.format(data=data, out=tmp_path / "out", trials=trials, epochs=epochs, samples=samples))
    return path


def table(tmp_path: Path) -> list[dict[str, str]]:
    with open(tmp_path / "out" / "searched_tune" / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_best_score_of_a_trial_is_that_of_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = experiment(tmp_path, trials=2, epochs=1)
    assert main(["tune", str(file), "--quiet"]) == 0

    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["finished", "finished"]
    for row in rows:
        run = find_runs(tmp_path / "out" / "searched_tune", row["run"])[0]
        assert run.record.status() == "finished"
        assert float(row["score"]) == max(entry["val/iou"] for entry in read_history(run.history))
        assert load_experiment([run.config]).optim.optimizer.lr == float(row["optim.optimizer.lr"])
    best = load_experiment([tmp_path / "out" / "searched_tune" / "best.yaml"])
    assert best.optim.optimizer.lr in [float(row["optim.optimizer.lr"]) for row in rows]
    assert f"maskwright train {tmp_path / 'out' / 'searched_tune' / 'best.yaml'}" in capsys.readouterr().out


def start(tmp_path: Path, file: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"MASKWRIGHT_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "maskwright", "tune", str(file), "--quiet", *more]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_trial_it_was_at(tmp_path: Path) -> None:
    file = experiment(tmp_path, trials=2, epochs=8, samples=64)
    out = tmp_path / "out" / "searched_tune"
    process = start(tmp_path, file)
    while not (runs := find_runs(out)) or not runs[0].manifest.is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert runs[0].record.status() == "interrupted"

    assert start(tmp_path, file).wait() == 0
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert rows[0]["run"] == "searched_trial_0000"
    assert len(find_runs(out, "searched_trial_0000")) == 1
    assert find_runs(out, "searched_trial_0000")[0].record.load()["attempt"] == 2


@pytest.mark.slow
def test_two_processes_share_a_search_and_one_signal_stops_both(tmp_path: Path) -> None:
    file = experiment(tmp_path, trials=4, epochs=6, samples=64)
    out = tmp_path / "out" / "searched_tune"
    process = start(tmp_path, file, "--jobs", "2")
    while sum(run.manifest.is_file() for run in find_runs(out)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    assert sum(run.record.is_alive() for run in find_runs(out)) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    assert not any(run.record.is_alive() for run in find_runs(out))

    assert start(tmp_path, file, "--jobs", "2").wait() == 0
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["finished"] * 4
    assert len({row["run"] for row in rows}) == 4

"""Runs that go on with other settings, and new runs from the weights of earlier ones, by the command a user types."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from maskwright.checkpoints import load_state
from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.files import sha256_file
from maskwright.tracking import read_events
from maskwright.tracking.folder import RunFolder, find_runs

EXPERIMENT = """
name: first
task: {{heights_m: [5, 10], train_range_m: [2, 20]}}
data:
  folder: {folder}
  tiles: {{size_px: 32}}
  augment: {{rotate_p: 0.3, terrain_p: 0.3, noise_m: 0.1}}
  loader: {{batch_size: 4, samples_per_epoch: 32}}
model: {{base_channels: 4, depth: 2, dropout: 0.2}}
training: {{epochs: 2, threads: 1}}
checkpoints: {{every_steps: 3}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false}}
"""


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rasters")
    write_forest(folder, size_px=448, seed=8)
    return folder


@pytest.fixture(scope="module")
def trained(rasters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings and the finished run of two epochs, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    write_config(folder, rasters)
    assert main(["train", str(folder / "experiment.yaml"), "--quiet"]) == 0
    return folder


def write_config(folder: Path, rasters: Path) -> Path:
    config = folder / "experiment.yaml"
    config.write_text(EXPERIMENT.format(folder=rasters, out=folder / "outputs"), encoding="utf-8")
    return config


def copy_of(trained: Path, folder: Path) -> RunFolder:
    """The finished run, for this test alone."""
    shutil.copytree(trained / "outputs", folder / "outputs")
    (run,) = find_runs(folder / "outputs")
    run.config.write_text(run.config.read_text("utf-8").replace(str(trained), str(folder)), "utf-8")
    return run


def said(capsys: Any) -> str:
    """What was printed, in one line."""
    shown = capsys.readouterr()
    return " ".join((shown.out + shown.err).split())


def timeless(run: RunFolder) -> list[dict[str, Any]]:
    entries = json.loads(run.history.read_text())
    return [{name: value for name, value in entry.items() if name != "elapsed_s"} for entry in entries]


def new_run(outputs: Path, name: str) -> RunFolder:
    (run,) = find_runs(outputs, name)
    return run


# --- more epochs ------------------------------------------------------------------------------------------------------


def test_a_finished_run_that_is_trained_longer_ends_the_same_if_it_is_killed_on_the_way(trained, tmp_path):
    straight, killed = copy_of(trained, tmp_path / "straight"), copy_of(trained, tmp_path / "killed")
    assert main(["train", "--resume", str(straight.path), "--epochs", "4", "--quiet"]) == 0

    command = [sys.executable, "-m", "maskwright", "train", "--resume", str(killed.path), "--epochs", "4", "--quiet"]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 180
    while steps_done(killed) < 21 and process.poll() is None:  # inside the third epoch
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed.record.status() == "interrupted"
    assert main(["train", "--resume", str(killed.path), "--quiet"]) == 0  # to the new end

    assert (killed.model / "model.safetensors").read_bytes() == (straight.model / "model.safetensors").read_bytes()
    last = [load_state(run.checkpoints / "checkpoint_latest.pt") for run in (straight, killed)]
    assert last[0]["optimizer"]["param_groups"] == last[1]["optimizer"]["param_groups"]
    assert all((last[0]["model"][name] == last[1]["model"][name]).all() for name in last[0]["model"])
    assert timeless(killed) == timeless(straight)
    assert [entry["epoch"] for entry in timeless(straight)] == [1, 2, 3, 4]
    assert [entry["attempt"] for entry in killed.record.load()["changes"]] == [2]  # once, not again by the third
    warnings = [row["message"] for row in read_events(straight.events, kinds=["warning"])]
    assert [text for text in warnings if "was planned for 2 epochs and now has 4" in text] == warnings


def steps_done(run: RunFolder) -> int:
    try:
        return max(record["global_step"] for record in json.loads(run.manifest.read_text())["checkpoints"])
    except (ValueError, OSError):
        return 0


def test_a_finished_run_alone_says_what_can_be_done(trained, tmp_path, capsys):
    run = copy_of(trained, tmp_path)
    assert main(["train", "--resume", str(run.path)]) == 2
    assert f"{run.path} is finished: 2 epochs are done. Train it longer with --resume" in said(capsys)
    assert main(["train", "--resume", str(run.path), "--epochs", "1"]) == 2
    assert "has 2 epochs behind it, and 1 are asked for" in said(capsys)
    assert run.record.load()["attempt"] == 1


def test_a_setting_that_cannot_change_leaves_the_run_as_it_is(trained, tmp_path, capsys):
    run = copy_of(trained, tmp_path)
    before = {path: path.read_bytes() for path in (run.config, run.run_json)}
    options = ["--epochs", "4", "--batch-size", "2", "--set", "model.base_channels=8"]
    assert main(["train", "--resume", str(run.path), *options]) == 2
    text = said(capsys)
    assert "setting the run's yours data.loader.batch_size 4 2 model.base_channels 4 8 Continue it as it is" in text
    assert before == {path: path.read_bytes() for path in before}


def test_a_device_that_is_missing_does_not_become_the_runs(trained, tmp_path, capsys):
    run = copy_of(trained, tmp_path)
    before = run.config.read_bytes()
    assert main(["train", "--resume", str(run.path), "--epochs", "3", "--device", "cuda:7"]) == 2
    assert run.config.read_bytes() == before


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_that_moved_is_taken_and_data_that_changed_is_refused_by_name(trained, rasters, tmp_path, capsys):
    run = copy_of(trained, tmp_path)
    moved = tmp_path / "moved"
    shutil.copytree(rasters, moved)
    assert main(["train", "--resume", str(run.path), "--epochs", "3", "--set", f"data.folder={moved}", "--quiet"]) == 0
    capsys.readouterr()

    write_forest(moved, size_px=448, seed=9)
    assert main(["train", "--resume", str(run.path), "--epochs", "4"]) == 2
    text = said(capsys)
    assert "has changed since it was begun, so it cannot continue exactly: forest has another content, " in text

    shutil.rmtree(moved)
    assert main(["train", "--resume", str(run.path), "--epochs", "4"]) == 2
    assert str(moved) in said(capsys)
    assert run.record.load()["attempt"] == 2


def test_a_checkpoint_of_another_network_is_refused_with_both_shapes(trained, rasters, tmp_path, capsys):
    run = copy_of(trained, tmp_path)
    config = write_config(tmp_path, rasters)
    wide = ["--experiment-name", "wide", "--set", "model.base_channels=8", "--epochs", "1", "--quiet"]
    assert main(["train", str(config), *wide]) == 0
    other = new_run(tmp_path / "outputs", "wide")
    shutil.rmtree(run.checkpoints)
    shutil.copytree(other.checkpoints, run.checkpoints)
    capsys.readouterr()
    assert main(["train", "--resume", str(run.path), "--epochs", "4"]) == 2
    text = said(capsys)
    assert "does not fit this network, which has other classes, bands or layers:" in text
    assert "is (8, " in text
    assert "there and (4, " in text


# --- new runs from earlier weights ------------------------------------------------------------------------------------


def test_a_second_stage_starts_from_the_best_weights_with_everything_else_fresh(trained, tmp_path, capsys):
    first = copy_of(trained, tmp_path)
    options = ["--experiment-name", "second", "--epochs", "1", "--lr", "1e-9"]
    assert main(["train", "--resume", str(first.path), *options]) == 0
    second = new_run(tmp_path / "outputs", "second")
    parent = second.record.load()["parent"]
    best = json.loads(first.manifest.read_text())["best"]
    assert parent == {
        "folder": str(first.path),
        "checkpoint": f"checkpoints/{best}",
        "sha256": sha256_file(first.checkpoints / best),
        "epoch": int(best.removesuffix(".pt").rpartition("_")[2]),
    }
    text = said(capsys)
    assert f"Starts from the weights of {first.path}: checkpoints/{best}, epoch {parent['epoch']}, sha256" in text
    assert f"split: sites of {first.path.name} keep their part" in text
    # So small a rate moves nothing: what was trained are the weights of the parent.
    theirs, ours = (load_file(run.model / "model.safetensors") for run in (first, second))
    weights = [name for name in theirs if name.endswith("weight")]
    assert all(ours[name].allclose(theirs[name], atol=1e-5) for name in weights)
    state = load_state(second.checkpoints / "checkpoint_latest.pt")
    assert (state["epoch"], state["global_step"]) == (1, 8)
    assert [entry["epoch"] for entry in timeless(second)] == [1]


def test_a_second_stage_needs_its_parent_until_its_own_first_checkpoint_and_not_after(
    trained, rasters, tmp_path, capsys
):
    first = copy_of(trained, tmp_path)
    config = write_config(tmp_path, rasters)
    file = first.checkpoints / "checkpoint_latest.pt"
    options = ["--resume", str(file), "--experiment-name", "second", "--epochs", "1", "--quiet"]
    assert main(["train", "--config", str(config), *options]) == 0
    second = new_run(tmp_path / "outputs", "second")
    named = Path(second.record.load()["parent"]["folder"], second.record.load()["parent"]["checkpoint"])
    assert named == first.checkpoints / "checkpoint_epoch_0002.pt"
    named.write_bytes(b"another file")
    assert main(["train", "--resume", str(second.path), "--epochs", "2", "--quiet"]) == 0

    shutil.rmtree(second.checkpoints)
    second.checkpoints.mkdir()
    second.record.update(status="interrupted")
    capsys.readouterr()
    assert main(["train", "--resume", str(second.path)]) == 2
    assert "The weights this run starts from have changed since it was begun" in said(capsys)
    named.unlink()
    assert main(["train", "--resume", str(second.path)]) == 2
    assert "The weights this run starts from are gone" in said(capsys)


def test_a_model_folder_gives_its_weights_to_a_new_run_and_continues_none(trained, rasters, tmp_path, capsys):
    config = write_config(tmp_path, rasters)
    first = copy_of(trained, tmp_path)
    model = tmp_path / "model"
    shutil.copytree(first.model, model)
    assert main(["train", "--resume", str(model)]) == 2
    assert "holds weights and lies in no run, so there is nothing to continue" in said(capsys)
    assert main(["train", "--resume", str(model), "--experiment-name", "next"]) == 2
    assert "says nothing of data. Name a file of settings as well" in said(capsys)
    options = ["--experiment-name", "next", "--epochs", "1", "--quiet"]
    assert main(["train", str(config), "--resume", str(model), *options]) == 0
    parent = new_run(tmp_path / "outputs", "next").record.load()["parent"]
    assert (parent["folder"], parent["checkpoint"]) == (str(model), "model.safetensors")
    assert parent["epoch"] in (1, 2)

    (model / "model.safetensors").write_bytes(b"damaged")
    assert main(["train", str(config), "--resume", str(model), *options]) == 2
    assert "is damaged: it is not what model.json describes" in said(capsys)


def test_weights_of_another_network_are_refused_with_a_table_unless_what_fits_is_asked_for(trained, tmp_path, capsys):
    first = copy_of(trained, tmp_path)
    options = ["--experiment-name", "other", "--set", "model.base_channels=8", "--epochs", "1"]
    assert main(["train", "--resume", str(first.path), *options]) == 2
    text = said(capsys)
    assert "are those of another network: the weights this run model.base_channels 4 8 Give this run the same" in text
    assert not find_runs(tmp_path / "outputs", "other")
    options = ["--experiment-name", "dropped", "--set", "model.dropout=0.4", "--epochs", "1", "--quiet"]
    assert main(["train", "--resume", str(first.path), *options]) == 0  # the weights mean the same

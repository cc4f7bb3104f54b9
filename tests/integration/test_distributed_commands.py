"""Commands in several processes: a killed one, restarts, numbers and maps that are those of one process, two hosts."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from maskwright.cli.main import main
from maskwright.data.synthetic import write_forest
from maskwright.tracking.folder import RunFolder, find_runs

EXPERIMENT = """
name: together
task: {{heights_m: [5, 10], train_range_m: [2, 20]}}
data:
  folder: {folder}
  tiles: {{size_px: 32}}
  split: {{keep: none}}
  loader: {{batch_size: 5, samples_per_epoch: 33}}
model: {{base_channels: 4, depth: 2, dropout: 0.2, norm: group}}
training: {{epochs: 2, threads: 1}}
checkpoints: {{every_steps: 3}}
metrics: {{bootstrap: 100}}
tracking: {{output_dir: {out}, quiet: true, tensorboard: false}}
"""
MASKWRIGHT = [sys.executable, "-m", "maskwright"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


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


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], env=os.environ | environment, capture_output=True, text=True, timeout=600
    )


def run_of(config: Path) -> RunFolder:
    (folder,) = find_runs(config.parent / "outputs")
    return folder


def weights(config: Path) -> bytes:
    return (run_of(config).model / "model.safetensors").read_bytes()


def history(config: Path) -> list[dict[str, Any]]:
    entries = json.loads(run_of(config).history.read_text())
    return [{name: value for name, value in entry.items() if name != "elapsed_s"} for entry in entries]


@pytest.fixture(scope="module")
def trained(rasters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The experiment of a run that two processes have trained through."""
    config = write_config(tmp_path_factory.mktemp("trained") / "work", rasters)
    done = run(*MASKWRIGHT, "train", config, "--devices", 2)
    assert done.returncode == 0, done.stderr
    return config


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_make_one_run_and_speak_with_one_voice(trained: Path) -> None:
    record = run_of(trained).record.load()
    assert (record["status"], record["attempt"], record["processes"]["number"]) == ("finished", 1, 2)
    assert [entry["epoch"] for entry in history(trained)] == [1, 2]
    assert history(trained)[-1]["global_step"] == 14  # 33 samples in batches of 5
    lines = run_of(trained).events.read_text().splitlines()
    assert sum('"train_end"' in line for line in lines) == 1
    assert (run_of(trained).path / "evaluation.json").is_file()


def child(launcher: int, number: int) -> int:
    """The process of a number below a launcher, however deep."""
    for entry in Path("/proc").iterdir():
        try:
            told = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
            line = (entry / "cmdline").read_bytes() if told else b""
        except OSError:
            continue
        if f"RANK={number}".encode() in told and b"maskwright" in line and is_below(int(entry.name), launcher):
            return int(entry.name)
    raise AssertionError(f"process {number} is not there")


def is_below(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def steps_saved(config: Path) -> int:
    try:
        records = json.loads(run_of(config).manifest.read_text())["checkpoints"]
        return max((record["global_step"] for record in records), default=0)
    except (ValueError, OSError, KeyError):
        return 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("launcher", ["--devices", "torchrun"])
def test_a_run_of_which_one_process_is_killed_goes_on_by_itself_to_the_same_weights(
    rasters: Path, trained: Path, tmp_path: Path, launcher: str
) -> None:
    killed = write_config(tmp_path / "killed", rasters)
    if launcher == "torchrun":
        begin = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "maskwright"]
        command = [*begin, "train", str(killed)]
    else:
        command = [*MASKWRIGHT, "train", str(killed), "--devices", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while steps_saved(killed) < 9:  # inside the second epoch
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(child(process.pid, 1), signal.SIGKILL)
        _, told = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, told
    if launcher == "--devices":
        assert "Process 1 of 2 was killed by SIGKILL, and the others were ended. All are started again" in told
    assert "Traceback" not in told
    assert run_of(killed).record.load()["attempt"] == 2
    assert weights(killed) == weights(trained)
    assert history(killed) == history(trained)


@pytest.mark.slow
def test_one_process_goes_on_with_a_run_of_two_and_says_so(rasters: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "work", rasters)
    assert run(*MASKWRIGHT, "train", config, "--devices", 2, "--epochs", 1).returncode == 0
    done = run(*MASKWRIGHT, "train", "--resume", run_of(config).path, "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert "computed by 2 processes and goes on with 1 process: the same samples in the same updates" in done.stderr
    assert [entry["global_step"] for entry in history(config)] == [7, 14]


@pytest.mark.slow
def test_a_run_that_divides_the_network_is_that_of_one_that_does_not(
    rasters: Path, trained: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "work", rasters)
    done = run(*MASKWRIGHT, "train", config, "--devices", 2, "--set", "training.strategy=fsdp")
    assert done.returncode == 0, done.stderr
    folder = run_of(config)
    for entry, expected in zip(history(config), history(trained), strict=True):
        losses = {name: value for name, value in expected.items() if "loss" in name}
        assert {name: entry[name] for name in losses} == pytest.approx(losses, rel=1e-3)
    found, expected = (load_file(run_of(each).model / "model.safetensors") for each in (config, trained))
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], rtol=1e-2, atol=1e-3) for name in expected)
    assert (folder.path / "evaluation.json").is_file()
    assert {path.suffix for path in folder.checkpoints.rglob("*.*") if path.is_file()} == {".json", ".safetensors"}
    done = run(*MASKWRIGHT, "train", "--resume", folder.path, "--epochs", 3)  # by one process
    assert done.returncode == 0, done.stderr
    assert [entry["epoch"] for entry in history(config)] == [1, 2, 3]


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_said(rasters: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "work", rasters)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = run(*MASKWRIGHT, "train", config, **told)
    assert done.returncode == 2
    assert f"cannot meet at 127.0.0.1:{port}: the port is in use" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_processes_with_other_settings_or_data_are_refused_by_name(rasters: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "work", rasters)
    other = tmp_path / "other"
    shutil.copytree(rasters, other)
    write_forest(other, size_px=448, seed=9)
    for word, told in (
        ("optim.optimizer.lr=0.5", "does not agree on the experiment with process 0: optim.optimizer.lr is"),
        (f"data.folder={other}", "does not agree on the data with process 0: the content is"),
    ):
        script = f"[ $RANK = 1 ] && more='--set {word}'; exec {sys.executable} -m maskwright train {config} $more"
        done = run(*TORCHRUN, "--standalone", "--nproc-per-node", 2, "--no-python", "bash", "-c", script)
        assert done.returncode != 0
        assert told in " ".join(done.stderr.split())
        assert not (config.parent / "outputs").exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused_once(rasters: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "work", rasters)
    done = run(*MASKWRIGHT, "train", config, "--devices", 2, "--batch-size", 1)
    assert done.returncode == 2
    told = " ".join(done.stderr.split())
    assert told.count("2 processes cannot share a batch of 1 samples") == 1


# --- scoring and predicting -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_scores_of_several_processes_are_those_of_one(trained: Path, tmp_path: Path, processes: int) -> None:
    folder = run_of(trained).path
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    assert main(["evaluate", str(folder), "--out", str(one)]) == 0
    done = run(*MASKWRIGHT, "evaluate", folder, "--out", several, "--devices", processes, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    found, expected = (json.loads(file.read_text()) for file in (several, one))
    assert found.pop("elapsed_s") > 0
    assert expected.pop("elapsed_s") > 0
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_a_map_of_several_processes_is_that_of_one(
    rasters: Path, trained: Path, tmp_path: Path, processes: int
) -> None:
    folder, raster = run_of(trained).path, next(iter(sorted(rasters.glob("*DSM*.tif"))))
    options = ["--set", "tile_px=96"]
    assert main(["predict", str(folder), str(raster), "--out", str(tmp_path / "one"), *options]) == 0
    done = run(*MASKWRIGHT, "predict", folder, raster, "--out", tmp_path / "many", *options, "--devices", processes)
    assert done.returncode == 0, done.stderr
    names = sorted(file.name for file in (tmp_path / "one").iterdir() if file.suffix in (".tif", ".csv", ".png"))
    same, differ, missing = filecmp.cmpfiles(tmp_path / "one", tmp_path / "many", names, shallow=False)
    assert names
    assert (same, differ, missing) == (names, [], [])


# --- two hosts --------------------------------------------------------------------------------------------------------


def namespaces_refused() -> str:
    """Why two network namespaces cannot be made here; empty if they can."""
    if shutil.which("ip") is None:
        return "there is no command ip"
    tried = subprocess.run(["ip", "netns", "add", "maskwright_try"], capture_output=True, text=True)
    if tried.returncode:
        return tried.stderr.strip()
    subprocess.run(["ip", "netns", "delete", "maskwright_try"], check=True)
    return ""


@pytest.mark.slow
def test_two_network_namespaces_train_as_two_hosts(rasters: Path, trained: Path, tmp_path: Path) -> None:
    if reason := namespaces_refused():
        pytest.skip(f"no network namespaces: {reason}")
    config = write_config(tmp_path / "work", rasters)
    names = ("maskwright_a", "maskwright_b")
    try:
        for words in (
            *(["ip", "netns", "add", name] for name in names),
            ["ip", "link", "add", "mw_a", "netns", names[0], "type", "veth", "peer", "name", "mw_b", "netns", names[1]],
            *(
                ["ip", "-n", name, "addr", "add", f"10.213.7.{number}/24", "dev", link]
                for number, (name, link) in enumerate(zip(names, ("mw_a", "mw_b"), strict=True), 1)
            ),
            *(
                ["ip", "-n", name, "link", "set", link, "up"]
                for name, link in zip(names, ("mw_a", "mw_b"), strict=True)
            ),
            *(["ip", "-n", name, "link", "set", "lo", "up"] for name in names),
        ):
            made = subprocess.run(words, capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"no network between namespaces: {made.stderr.strip()}")
        told = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "10.213.7.1", "MASTER_PORT": "29500"}
        hosts = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, *MASKWRIGHT, "train", str(config)],
                env=os.environ | told | {"RANK": str(number), "GLOO_SOCKET_IFNAME": link},
            )
            for number, (name, link) in enumerate(zip(names, ("mw_a", "mw_b"), strict=True))
        ]
        try:
            assert [host.wait(timeout=300) for host in hosts] == [0, 0]
        finally:
            for host in hosts:
                host.kill()
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    assert weights(config) == weights(trained)

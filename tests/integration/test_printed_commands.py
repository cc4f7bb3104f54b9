"""The commands that the pipeline document prints run as printed, but for the program's name and the ending of files.

``python train.py`` is ``maskwright train``, ``checkpoint_latest.pth`` is ``checkpoint_latest.pt``, and epochs are few.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.cli.main import main
from maskwright.config import Experiment, load_experiment
from maskwright.tracking.folder import RunFolder, find_runs

STANDARD = """
name: cabruca
task: {kind: binary}
data: {kind: images, folder: data, tiles: {size_px: 32}, loader: {batch_size: 4, workers: 0, samples_per_epoch: 4}}
model: {base_channels: 4, depth: 2}
optim: {optimizer: {kind: adamw, lr: 1e-4, weight_decay: 0.01}, schedule: {kind: cosine, eta_min: 1e-7}}
training: {epochs: 1, accumulate: 2, clip_norm: 1.0, threads: 1}
metrics: {bootstrap: 100}
"""
LIGHT = """
name: light
task: {kind: binary}
data: {kind: images, folder: data, tiles: {size_px: 16}, loader: {batch_size: 2, samples_per_epoch: 4}}
model: {base_channels: 4, depth: 1}
training: {epochs: 1, accumulate: 4, threads: 1}
metrics: {bootstrap: 100}
"""
COMMANDS = {
    "basic": "--config configs/training_config.yaml",
    "light on the cpu": "--config configs/training_config_light.yaml --device cpu",
    "mlflow": "--config configs/training_config.yaml --use-mlflow",
    "wandb": "--config configs/training_config.yaml --use-wandb",
    "both trackers": "--config configs/training_config.yaml --use-mlflow --use-wandb",
    "overrides": "--config configs/training_config.yaml --lr 0.001 --batch-size 8 --epochs 2",
    "accumulation": "--config configs/training_config.yaml --batch-size 2 --grad-accum 4",
    "little memory": "--config configs/training_config_light.yaml --batch-size 1 --grad-accum 8 --device cpu",
    "out of memory": "--config configs/training_config.yaml --batch-size 1",
    "out of memory, accumulated": "--config configs/training_config.yaml --batch-size 1 --grad-accum 4",
    "mixed precision": "--config configs/training_config.yaml --mixed-precision",
    "cpu": "--config configs/training_config.yaml --device cpu",
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ``configs`` as in the document, and a handful of pictures."""
    rng = np.random.Generator(np.random.Philox(3))
    (tmp_path / "configs").mkdir()
    for below in ("images", "masks"):
        (tmp_path / "configs" / "data" / below).mkdir(parents=True)
    for number in range(6):
        picture = rng.integers(60, 120, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        row, col = rng.integers(0, 20, 2)
        picture[row : row + 10, col : col + 10] = 200
        mask[row : row + 10, col : col + 10] = 255
        Image.fromarray(picture).save(tmp_path / "configs" / "data" / "images" / f"p{number}.png")
        Image.fromarray(mask).save(tmp_path / "configs" / "data" / "masks" / f"p{number}.png")
    (tmp_path / "configs" / "training_config.yaml").write_text(STANDARD)
    (tmp_path / "configs" / "training_config_light.yaml").write_text(LIGHT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'mlruns'}")
    return tmp_path


def train(command: str) -> tuple[RunFolder, Experiment]:
    """The newest run after a command that must succeed, and its settings."""
    assert main(["train", *shlex.split(command)]) == 0
    run = find_runs(Path("outputs"))[0]
    assert run.record.status() == "finished"
    return run, load_experiment([run.config])


def told_settings(command: str, experiment: Experiment) -> None:
    """Every flag of a command that names a number has reached the settings."""
    words = shlex.split(command)
    reached = {
        "--lr": experiment.optim.optimizer.lr,
        "--batch-size": experiment.data.loader.batch_size,
        "--epochs": experiment.training.epochs,
        "--grad-accum": experiment.training.accumulate,
    }
    for flag, value in reached.items():
        if flag in words:
            assert value == float(words[words.index(flag) + 1]), flag
    assert experiment.tracking.mlflow == ("--use-mlflow" in words)
    assert experiment.tracking.wandb == ("--use-wandb" in words)


@pytest.mark.parametrize(
    "what", [name if name == "overrides" else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_a_printed_command_trains_with_what_it_says(workplace: Path, what: str) -> None:
    _, experiment = train(COMMANDS[what])
    told_settings(COMMANDS[what], experiment)


@pytest.mark.slow
def test_a_printed_resume_continues_the_run_whose_newest_checkpoint_it_names(workplace: Path) -> None:
    run, _ = train("--config configs/training_config.yaml --epochs 2")
    newest = run.checkpoints / "checkpoint_latest.pt"
    words = f"--config configs/training_config.yaml --resume {newest}"
    assert main(["train", *shlex.split(words), "--epochs", "3"]) == 0
    assert len(find_runs(Path("outputs"))) == 1
    assert load_experiment([run.config]).training.epochs == 3


def test_the_two_printed_stages_carry_the_best_weights_on(workplace: Path) -> None:
    first, _ = train("--config configs/training_config.yaml --experiment-name stage1_256 --epochs 2")
    assert first.path.name.startswith("stage1_256_")
    best = first.checkpoints / "checkpoint_best.pt"
    second, settings = train(
        f"--config configs/training_config.yaml --resume {best} --experiment-name stage2_512 --lr 0.00001"
    )
    assert second.path != first.path
    assert second.path.name.startswith("stage2_512_")
    assert settings.optim.optimizer.lr == 1e-5
    assert settings.model.initial_weights is not None
    assert second.record.load()["parent"]["folder"] == str(first.path.absolute())


@pytest.mark.slow
def test_compiling_trains_with_or_without_a_compiler(workplace: Path) -> None:
    _, experiment = train("--config configs/training_config.yaml --compile")
    assert experiment.training.compile == "default"


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has what is asked for")
def test_a_device_that_is_not_there_is_said(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for config in ("training_config", "training_config_light"):
        words = shlex.split(f"--config configs/{config}.yaml --device mps --batch-size 1")
        assert main(["train", *words]) != 0
        assert "mps" in capsys.readouterr().err

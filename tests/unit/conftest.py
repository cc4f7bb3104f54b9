"""A run folder with two epochs, steps, samples of the machine and a checkpoint: numbers that tests can check."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.config import Experiment, load_experiment, save_experiment
from maskwright.tracking import (
    CheckpointRecord,
    EventLog,
    History,
    Manifest,
    RunFolder,
    write_manifest,
)

RESOURCES = {
    "cpu_percent": 50.0,
    "process_cpu_percent": 80.0,
    "process_memory_mb": 1024.0,
    "memory_used_mb": 4096.0,
    "memory_total_mb": 8192.0,
    "disk_free_mb": 10240.0,
    "images_per_s": 12.5,
    "data_wait_share": 0.25,
    "epoch_s": 60.0,
    "left_s": 120.0,
}


def experiment(folder: Path, **training: object) -> Experiment:
    return load_experiment(
        ["preset:minimal"], {"name": "gaps", "data": {"folder": str(folder)}, "training": dict(training)}
    )


def make_run(outputs: Path, name: str = "gaps", *, status: str = "running", best: float = 0.75) -> RunFolder:
    """A run at work in this process unless another status is given."""
    run = RunFolder.create(outputs, name)
    save_experiment(experiment(outputs), run.config)
    log = EventLog(run.events)
    log.write("train_begin", global_step=0, epoch=1, epochs=4, batches_per_epoch=10, accumulate=1)
    history = History(run.history)
    for epoch, (loss, iou) in enumerate(((0.5, 0.25), (0.4, best)), 1):
        for step in (1, 2):
            log.write("step", global_step=10 * (epoch - 1) + 5 * step, loss=loss, grad_norm=1.5, lr=0.001)
        scores = {"train/loss": loss, "train/loss/dice": loss, "val/loss": loss, "val/iou": iou}
        heights = {"val/iou@10m": iou + 0.1, "val/iou@5m": iou - 0.1, "train/loss_weight/dice": 1.0}
        history.append(
            {"epoch": epoch, "global_step": 10 * epoch, **scores, **heights, "lr/0": 0.001, "elapsed_s": 60.0}
        )
    log.write("resources", **RESOURCES)
    log.write("warning", message="The disk is slow.")
    checkpoint = run.checkpoints / "checkpoint_epoch_0002.pt"
    checkpoint.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    record = CheckpointRecord(
        checkpoint.name, digest, 7, 2, 0, 20, {"val/iou": best}, "epoch", "2026-11-21T09:30:00+00:00", "best"
    )
    write_manifest(run.manifest, Manifest((record,), checkpoint.name, "val/iou", "max"))
    for epoch in (1, 2):
        Image.fromarray(np.full((8, 12, 3), 40 * epoch, np.uint8)).save(run.samples / f"epoch_{epoch:04d}.png")
    run.log.write_text("INFO one\nWARNING two\nINFO three\n")
    run.record.update(status=status, environment={"cpu": "a processor", "versions": {"torch": "2.14.1"}})
    return run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder

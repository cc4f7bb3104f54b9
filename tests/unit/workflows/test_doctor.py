"""Each ailment is found by its numbers, and a healthy run is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.tracking import EventLog, History, RunFolder
from maskwright.workflows.doctor import RunLog, diagnose, examine_run

HEALTHY: dict[str, Any] = {
    "optim.optimizer.lr": 0.001,
    "data.loader.batch_size": 8,
    "data.loader.workers": 2,
    "model.kind": "unet",
    "model.norm": "batch",
    "callbacks.early_stopping.patience": 5,
    "training.precision": "fp32",
}


def epochs(count: int = 10, **curves: Any) -> list[dict[str, Any]]:
    """A history: a falling loss and a rising score, unless told otherwise."""
    number = np.arange(count)
    usual = {"train/loss": 0.8 * 0.85**number, "val/loss": 0.85 * 0.9**number, "val/iou": 1 - 0.7 * 0.9**number}
    given = usual | {name.replace("__", "/"): values for name, values in curves.items()}
    return [{"epoch": n + 1, **{name: float(values[n]) for name, values in given.items()}} for n in range(count)]


def steps(losses: Any) -> list[dict[str, Any]]:
    return [
        {"kind": "step", "attempt": 1, "global_step": 10 * n, "loss": float(loss), "stepped": True}
        for n, loss in enumerate(losses, start=1)
    ]


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "attempt": 1, "global_step": 100, **fields}


def log(history: Any = None, events: Any = (), monitor: str | None = "val/iou", **settings: Any) -> RunLog:
    said = HEALTHY | {name.replace("__", "."): value for name, value in settings.items()}
    return RunLog(epochs() if history is None else history, events, said, monitor, "max")


WAVE = 0.02 * np.sin(np.arange(60) * 2.1)  # the scatter of hard and easy batches
FALLING = 0.8 * 0.97 ** np.arange(60) + WAVE
NOISY = 0.5 + 0.004 * np.arange(20) + np.tile((0.03, -0.03, 0.01, -0.01), 5)

HEALTHY_RUNS = {
    "a falling loss": log(events=steps(FALLING)),
    "a run of one epoch": log(epochs(1)),
    "a run that has only begun": log([], steps(FALLING[:5])),
    "nothing at all": RunLog(),
    "one hard batch": log(events=steps([*FALLING[:30], 5.0, *FALLING[31:]])),
    "a loss near zero that scatters": log(events=steps(0.001 + 0.0015 * np.abs(np.sin(np.arange(60) * 2.1)))),
    "a rare skipped step of a scaler": log(events=[*steps(FALLING), event("step", stepped=False, loss=np.nan)]),
    "an early stop on a plateau": log(
        epochs(20, val__iou=0.5 + np.tile((0.01, -0.01), 10)), [event("train_end", reason="early stopping: ...")]
    ),
    "a validation loss that rises for an epoch": log(epochs(8, val__loss=[0.8, 0.7, 0.6, 0.5, 0.6, 0.5, 0.45, 0.44])),
    "small batches with group norm": log(data__loader__batch_size=2, model__norm="group"),
    "a class that is found late": log(epochs(10, **{"val/iou@crack": [0] * 4 + [0.1, 0.2, 0.3, 0.4, 0.4, 0.5]})),
    "an error that a resumed run has left behind": log(events=[event("error", message="x"), event("train_begin")]),
    "a short wait for data": log(events=[event("resources", data_wait_share=0.05)] * 3),
}


@pytest.mark.parametrize("name", HEALTHY_RUNS)
def test_a_healthy_run_is_left_alone(name: str) -> None:
    assert diagnose(HEALTHY_RUNS[name]) == []


NOT_FINITE = "Loss or gradient is not finite in epoch 1, step 12 (loss nan)."
ILL = {
    "flat by epoch": (
        log(epochs(5, train__loss=[0.7, 0.699, 0.698, 0.7, 0.699])),
        "loss_flat",
        "It began at 0.7 and its best in 5 epochs is 0.698 (0.3% lower).",
        "optim.optimizer.lr, for example to 0.01",
    ),
    "flat inside the first epoch": (
        log([], steps(0.7 + WAVE / 10)),
        "loss_flat",
        "600 updates",
        "maskwright check",
    ),
    "not finite": (
        log(events=[event("error", message=f"TrainingError: {NOT_FINITE}")]),
        "lr_too_high",
        "1 times, first after 100 updates: TrainingError: Loss or gradient is not finite",
        "Lower optim.optimizer.lr to 0.00033",
    ),
    "a jump": (
        log(events=steps([*FALLING[:30], *(1.5 + WAVE[:30])])),
        "lr_too_high",
        "The smoothed loss of a step rose from 0.3",
        "training.clip_norm=1",
    ),
    "a class never found": (
        log(epochs(8, **{"val/iou@crack": [0.0] * 8, "val/iou@stain": [0.4] * 8})),
        "dead_class",
        "val/iou@crack stays at or below 0.0000 in epochs 5 to 8.",
        "data.balance.by=class",
    ),
    "learned by heart": (
        log(epochs(10, val__loss=[0.8, 0.6, 0.5, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0])),
        "overfitting",
        "Since epoch 3 the validation loss rose from 0.5 to 0.9 (mean of the last 3 epochs)",
        "data.augment",
    ),
    "starved": (
        log(events=[event("resources", data_wait_share=share) for share in (0.9, 0.5, 0.7)]),
        "starved",
        "60% of the time between 2 samples went by waiting for the next batch (data.loader.workers is 2).",
        "data.loader.workers",
    ),
    "skipped": (
        log(events=[*steps(FALLING), *[event("step", stepped=False, loss=np.nan)] * 100], training__precision="fp16"),
        "skipped_steps",
        "100 of 700 updates (14.3%) had a loss or gradient that is not finite (training.precision is fp16).",
        "training.precision=bf16",
    ),
    "stopped by noise": (
        log(epochs(20, val__iou=NOISY), [event("train_end", reason="early stopping: ...")]),
        "patience_below_noise",
        "callbacks.early_stopping.patience is 5",
        "callbacks.early_stopping.patience=",
    ),
    "batch norm of two": (
        log(data__loader__batch_size=2),
        "batch_norm_tiny_batch",
        "model.norm is batch and data.loader.batch_size is 2",
        "model.norm=group",
    ),
    "an error": (
        log(events=[event("error", epoch=3, message="DataError: a.tif is gone")]),
        "failed",
        "In epoch 3: DataError: a.tif is gone",
        "--resume",
    ),
}


@pytest.mark.parametrize("name", ILL)
def test_an_ailment_is_found_with_its_numbers_and_the_setting_to_change(name: str) -> None:
    ill, kind, evidence, advice = ILL[name]
    (finding,) = diagnose(ill)
    assert finding.kind == kind
    assert evidence in finding.evidence
    assert advice in finding.advice


def test_a_run_folder_is_examined_without_what_a_former_attempt_did_in_vain(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "toy")
    folder.config.write_text("data: {loader: {batch_size: 2}}\nmodel: {kind: unet, norm: batch}\n")
    history = History(folder.history)
    for entry in epochs(3):
        history.append(entry)
    first, second = EventLog(folder.events, attempt=1), EventLog(folder.events, attempt=2)
    for n in range(20):
        first.write("step", global_step=n, loss=9.0, stepped=True)
    for n in range(20):
        second.write("step", global_step=n, loss=float(FALLING[n]), stepped=True)
    with open(folder.events, "a") as file:
        file.write('{"foreign": 1}\n{"torn')
    diagnosis = examine_run(folder.path)
    assert [finding.kind for finding in diagnosis.findings] == ["batch_norm_tiny_batch"]
    assert diagnosis.lines == (
        "Looked at 3 epochs and 19 updates; training loss 0.8 to 0.578.",
        "Overfitting cannot be judged before 6 epochs.",
        "Waiting for data cannot be judged: the log holds no rows of resources.",
    )


def test_rows_of_something_else_in_the_log_are_passed_over(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "mixed")
    run.events.write_text(
        '{"kind": "step", "attempt": "x", "global_step": null, "loss": "abc"}\n'
        '{"kind": ["epoch"], "attempt": 1, "global_step": 3}\n'
        '{"kind": "resources", "attempt": 1, "global_step": 3, "data_wait_share": "much"}\n'
        '{"kind": "resources", "attempt": 1, "global_step": 3, "data_wait_share": null}\n'
        '{"kind": "step", "attempt": 1, "global_step": 3, "loss": 0.5, "lr": 0.1, "stepped": true}\n'
        '{"kind": "step", "attempt": 1, "global_st'
    )
    assert examine_run(run.path).findings == ()
    assert "0 epochs and 3 updates" in examine_run(run.path).lines[0]

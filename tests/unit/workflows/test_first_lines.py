"""What a run says before it trains."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.tracking import CheckpointRecord
from maskwright.tracking.folder import RunFolder
from maskwright.workflows import first_lines as module
from maskwright.workflows.first_lines import introduce, tell_what_differs, where_it_stands


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "toy")


def parts(kind: str, task: Any, **more: Any) -> Any:
    experiment = SimpleNamespace(data=SimpleNamespace(kind=kind))
    return SimpleNamespace(
        experiment=experiment, task=task, notes=("noticed",), split_summary=lambda: "the split", **more
    )


def said_of(run: Any, folder: RunFolder) -> list[str]:
    said: list[str] = []
    introduce(run, folder, "cpu", "fp32", {"threads": 3}, said.append)
    return said


def test_a_run_on_heights_names_its_pixel_sizes_and_heights_once(folder: RunFolder) -> None:
    scenes = [SimpleNamespace(grid=SimpleNamespace(pixel_size_m=size)) for size in (1.0, 0.5, 1.0)]
    run = parts("height_rasters", SimpleNamespace(heights_m=(2.5, 10.0)), source=SimpleNamespace(scenes=scenes))
    assert said_of(run, folder) == [
        "noticed",
        "the split",
        "Pixel size 0.5, 1 m; height_gaps at 2.5, 10 m.",
        f"Device cpu, fp32, 3 threads. Run folder {folder.path}",
    ]
    run.task.heights_m = ()
    assert said_of(run, folder)[2] == "Pixel size 0.5, 1 m; height in metres."


def test_a_run_on_images_names_its_classes_and_how_common_they_are(folder: RunFolder) -> None:
    run = parts(
        "images",
        SimpleNamespace(kind="multiclass", columns=("tree", "road")),
        source=SimpleNamespace(scenes=[None] * 4),
        images=SimpleNamespace(in_channels=3, dtype="uint8"),
        balance={"train": (0.25, 0.0125)},
    )
    assert said_of(run, folder)[2:4] == [
        "4 images, 3 bands of uint8; multiclass: tree, road.",
        "train: tree 25.00%, road 1.25% of the pixels.",
    ]


def test_several_processes_are_counted(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "world_size", lambda: 2)
    run = parts("height_rasters", SimpleNamespace(heights_m=()), source=SimpleNamespace(scenes=[]))
    assert said_of(run, folder)[-1].startswith("Device cpu, fp32, 2 processes of 3 threads.")


@pytest.mark.parametrize(
    ("former", "now", "lines"),
    [
        ({"precision": "fp32"}, 1, []),
        ({}, 1, []),
        ({"precision": "fp32", "processes": {"number": 2}}, 2, []),
        (
            {"precision": "bf16"},
            1,
            ["The run was computed in bf16 and goes on in fp32: not bit for bit as it would have been."],
        ),
        (
            {"precision": "fp32", "processes": {"number": 2}},
            1,
            [
                "The run was computed by 2 processes and goes on with 1 process: the same samples in the same updates, "
                "not bit for bit as it would have been."
            ],
        ),
    ],
)
def test_a_continued_run_says_why_it_is_not_bit_for_bit(
    former: dict[str, Any], now: int, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "world_size", lambda: now)
    said: list[str] = []
    tell_what_differs(former, "fp32", said.append)
    assert said == lines


def test_where_a_continued_run_stands(folder: RunFolder) -> None:
    assert where_it_stands(None, folder) == (
        f"{folder.path.name} has not saved anything yet and starts from the beginning."
    )
    record = CheckpointRecord("a.pt", "0" * 64, 1, 2, 3, 40, {}, "step", "2026-01-01T00:00:00Z")
    assert where_it_stands(record, folder) == f"Continuing {folder.path.name} behind epoch 2, batch 3, step 40."

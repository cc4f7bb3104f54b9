from __future__ import annotations

import json
from pathlib import Path

from maskwright.dashboard.frames import (
    checkpoint_frame,
    comparison_frame,
    event_frame,
    history_frame,
    log_tail,
    measured_frame,
    metadata_frame,
    settings_difference,
    settings_of,
)
from maskwright.tracking import EventLog
from maskwright.tracking.shelf import RunShelf

from ..conftest import make_run


def test_a_history_has_a_row_an_epoch_and_numbers_only() -> None:
    frame = history_frame([{"epoch": 1, "val/iou": 0.5, "note": "x"}, {"epoch": 2, "val/iou": None}])
    assert list(frame.columns) == ["epoch", "val/iou"]
    assert frame["epoch"].tolist() == [1, 2]
    assert frame["val/iou"].isna().tolist() == [False, True]
    assert history_frame([]).empty


def test_checkpoints_with_score_size_and_what_was_found(outputs: Path) -> None:
    run = make_run(outputs)
    seen = RunShelf(outputs).look(run.path)
    (row,) = checkpoint_frame(seen, {"checkpoint_epoch_0002.pt": "whole"}).to_dict("records")
    assert (row["what"], row["epoch"], row["updates"], row["val/iou"]) == ("best, newest, epoch", 2, 20, 0.75)
    assert (row["size"], row["saved (UTC)"], row["file is"]) == ("7 B", "2026-11-21 09:30", "whole")
    (run.checkpoints / "checkpoint_epoch_0002.pt").unlink()
    assert checkpoint_frame(seen, {})["file is"].tolist() == ["missing"]


def test_runs_are_held_against_the_first() -> None:
    one = [{"epoch": 1, "val/iou": 0.5}, {"epoch": 2, "val/iou": 0.4}]
    two = [{"epoch": 1, "val/iou": 0.75}]
    frame = comparison_frame([("a", one), ("b", two), ("c", [])], "val/iou", "max")
    assert frame["best val/iou"].tolist()[:2] == [0.5, 0.75]
    assert frame["last val/iou"].tolist()[:2] == [0.4, 0.75]
    assert frame["in epoch"].tolist()[:2] == [1, 1]
    assert frame["difference of best"].isna().tolist() == [True, False, True]
    assert frame["difference of best"][1] == 0.25


def test_measured_scores_stand_with_their_intervals(tmp_path: Path) -> None:
    model = [
        {"height_m": 5, "scores": {"iou": 0.5}, "intervals": {"iou": [0.4, 0.6]}},
        {"column": "crack", "scores": {"iou": None}, "intervals": {}},
    ]
    whole = {"score": "iou", "model": model, "mean": 0.5, "mean_interval": None}
    for name, content in (("a", whole), ("b", [1]), ("c", {"model": 5})):
        (tmp_path / name).write_text(json.dumps(content))
    frame = measured_frame({name: tmp_path / name for name in ("a", "b", "c", "missing")})
    assert frame["run"].tolist() == ["a"] * 3
    assert frame["score"].tolist() == ["IoU, 5 m", "IoU, crack", "IoU, mean"]
    assert frame["95% interval"].tolist() == ["0.400 to 0.600", "-", "-"]
    assert frame["value"].tolist()[0] == 0.5


def test_settings_that_differ(outputs: Path) -> None:
    run = make_run(outputs)
    first = settings_of(run.path)
    assert first["name"] == "gaps"
    second = {name: value for name, value in first.items() if name != "training.seed"} | {"training.epochs": 7}
    frame = settings_difference({"a": first, "b": second})
    assert frame.to_dict("records") == [
        {"setting": "training.epochs", "a": str(first["training.epochs"]), "b": "7"},
        {"setting": "training.seed", "a": str(first["training.seed"]), "b": "-"},
    ]
    run.config.write_text("a: [")
    assert settings_of(run.path) == {}
    assert settings_of(outputs / "missing") == {}


def test_what_happened_newest_first(outputs: Path) -> None:
    run = make_run(outputs)
    EventLog(run.events).write("command", command="set_lr", lr=0.5)
    frame = event_frame(RunShelf(outputs).look(run.path))
    assert frame["what"].tolist() == ["command", "warning"] or frame["time (UTC)"].nunique() == 1
    assert set(frame["message"]) == {"set_lr, lr 0.5", "The disk is slow."}


def test_machine_and_versions(outputs: Path) -> None:
    make_run(outputs)
    frame = metadata_frame({"host": "here", "environment": {"memory_mb": 1024, "versions": {"torch": "2"}}})
    assert dict(frame.values.tolist()) == {"computer": "here", "memory": "1.1 GB", "torch": "2"}
    assert metadata_frame({"environment": [1]}).empty


def test_the_end_of_a_log_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"old\n" * 200_000 + b"INFO a\nwarning b\xff\nWARNING c\n")
    assert log_tail(path, 2) == ["warning b�", "WARNING c"]
    assert log_tail(path, 5, "info") == ["INFO a"]
    assert log_tail(tmp_path / "missing", 5) == []

"""What is said of rounds of pseudo-labels."""

from __future__ import annotations

from pathlib import Path

from maskwright.files import write_json
from maskwright.tracking import RunFolder
from maskwright.workflows.outer_run import InnerRun
from maskwright.workflows.pseudo_label_page import Round, round_line, verdict


def one(folder: Path, number: int, score: float) -> Round:
    run = RunFolder.create(folder, f"round_{number}")
    return Round(number, InnerRun(run, True, None, score, 2, "val/iou"), None)


def test_a_round_is_a_line_with_its_scores(tmp_path: Path) -> None:
    first = one(tmp_path, 0, 0.5)
    assert round_line(first) == "Labelled images alone: val/iou 0.500 in epoch 2."
    write_json(first.run.folder.path / "evaluation.json", {"score": "iou", "mean": 0.4, "mean_interval": [0.3, 0.5]})
    assert "; test iou 0.400" in round_line(first)
    assert one(tmp_path, 2, 0.5).name == "round 2"
    assert first.ending("enough").note == "enough"


def test_without_a_round_nothing_was_tried(tmp_path: Path) -> None:
    first = one(tmp_path, 0, 0.5)
    assert verdict([first], first).startswith("Pseudo-labels were not tried: no image was sure enough.")


def test_without_test_images_the_validation_part_decides(tmp_path: Path) -> None:
    first, second = one(tmp_path, 0, 0.5), one(tmp_path, 1, 0.6)
    assert verdict([first, second], second).startswith("Pseudo-labels helped on the validation part")
    assert verdict([first, second], first).startswith("Pseudo-labels did not help on the validation part")

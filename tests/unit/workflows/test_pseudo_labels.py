"""Which images without labels may be used, and which round is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from maskwright.config import Experiment
from maskwright.data.synthetic_images import write_pictures
from maskwright.errors import DataError
from maskwright.tracking import RunFolder
from maskwright.workflows.outer_run import How, InnerRun
from maskwright.workflows.pseudo_label_page import Round
from maskwright.workflows.pseudo_labels import _best, dry_run_pseudo_labels, train_pseudo_labels


def experiment(folder: Path) -> Experiment:
    write_pictures(folder / "data", "cracks", 6, size_px=64, difficulty="easy")
    (folder / "more").mkdir(exist_ok=True)
    return Experiment.model_validate(
        {
            "name": "rounds",
            "task": {"kind": "binary"},
            "data": {"kind": "images", "folder": folder / "data", "tiles": {"size_px": 64}},
            "model": {"kind": "unet", "base_channels": 4, "depth": 2},
            "pseudo_labels": {"folder": folder / "more"},
            "tracking": {"output_dir": folder / "outputs"},
        }
    )


def test_images_held_out_to_score_the_model_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    plan = experiment(tmp_path)
    shutil.copytree(tmp_path / "data/images", tmp_path / "more", dirs_exist_ok=True)
    with pytest.raises(DataError, match="are the same, byte for byte, as images held out to score"):
        train_pseudo_labels(plan, How(say=print))
    assert not (tmp_path / "outputs").exists()


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more"):
        dry_run_pseudo_labels(experiment(tmp_path), tmp_path / "out")


def test_the_round_with_the_best_validation_score_is_kept_of_equals_the_first(tmp_path: Path) -> None:
    def one(number: int, score: float | None, mode: str = "max") -> Round:
        run = RunFolder.create(tmp_path, f"r{number}")
        return Round(number, InnerRun(run, True, None, score, 1, "val/iou", mode), None)

    assert _best([one(0, 0.5), one(1, 0.7), one(2, 0.7), one(3, None)]).number == 1
    assert _best([one(0, 0.5, "min"), one(1, 0.7, "min")]).number == 0

"""What stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config import Experiment
from maskwright.data.synthetic_images import write_pictures
from maskwright.errors import DataError
from maskwright.workflows.outer_run import How
from maskwright.workflows.stages import _introduction, _stages, train_stages


def experiment(folder: Path, **data: Any) -> Experiment:
    write_pictures(folder / "data", "cracks", 6, size_px=96, difficulty="easy")
    return Experiment.model_validate(
        {
            "name": "grow",
            "task": {"kind": "binary"},
            "data": {"kind": "images", "folder": folder / "data", "tiles": {"size_px": 64}, **data},
            "model": {"kind": "unet", "base_channels": 4, "depth": 2, "norm": "auto"},
            "tracking": {"output_dir": folder / "outputs"},
            "stages": [
                {"name": "coarse", "size_px": 32, "batch_size": 32, "epochs": 2, "lr": 0.01},
                {"name": "fine", "size_px": 64, "batch_size": 2, "epochs": 1},
            ],
        }
    )


def test_stages_keep_one_split_and_one_kind_of_norm(tmp_path: Path) -> None:
    split = tmp_path / "split.geojson"
    coarse, fine = _stages(experiment(tmp_path), split)
    assert (coarse.data.tiles.size_px, fine.data.tiles.size_px) == (32, 64)
    assert {str(stage.data.split.keep) for stage in (coarse, fine)} == {str(split)}
    assert {stage.model.norm for stage in (coarse, fine)} == {"group"}  # that of the smaller batch


def test_a_stage_is_introduced_with_what_it_changes(tmp_path: Path) -> None:
    whole = experiment(tmp_path)
    coarse, fine = _stages(whole, tmp_path / "split.geojson")
    assert _introduction(whole, 0, coarse) == (
        "Stage 1 of 2, coarse: tiles of 32 px, batches of 32, 2 epochs, lr 0.01, from new weights."
    )
    assert _introduction(whole, 1, fine).endswith("from the best weights of the stage before.")


def test_stages_that_would_see_other_numbers_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    odd = experiment(tmp_path, normalise={"kind": "minmax"}, split={"by": "blocks"})
    with pytest.raises(DataError, match=r"stages\[1\]|split"):
        train_stages(odd, How(say=print))
    assert not (tmp_path / "outputs").exists()

"""Other data as a model wants it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.config import Experiment, ImagesData
from maskwright.errors import ConfigError
from maskwright.workflows.foreign_data import data_settings


def experiment() -> Experiment:
    data = {"kind": "images", "folder": "old", "tiles": {"size_px": 64}, "labels": {"kind": "masks", "folder": "old/m"}}
    return Experiment.model_validate({"name": "a", "task": {"kind": "binary"}, "data": data, "model": {"kind": "unet"}})


def test_a_folder_takes_the_place_of_the_old_one_and_the_rest_stays(tmp_path: Path) -> None:
    settings = data_settings(experiment(), tmp_path)
    assert isinstance(settings, ImagesData)
    assert settings.folder == tmp_path
    assert settings.tiles.size_px == 64
    assert settings.labels.folder is None  # type: ignore[union-attr]  # the old masks are not those of the new images


def test_a_file_says_where_data_of_the_same_kind_lies(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("data: {folder: new, pixel_size_m: 0.5}\n")
    settings = data_settings(experiment(), tmp_path / "other.yaml")
    assert isinstance(settings, ImagesData)
    assert settings.pixel_size_m == 0.5
    (tmp_path / "heights.yaml").write_text("data: {kind: height_rasters, folder: new}\n")
    with pytest.raises(ConfigError, match=r"data.kind is height_rasters, and the run was trained on images"):
        data_settings(experiment(), tmp_path / "heights.yaml")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder or file"):
        data_settings(experiment(), tmp_path / "nowhere")
    (tmp_path / "empty.yaml").write_text("name: x\n")
    with pytest.raises(ConfigError, match="it has no section data"):
        data_settings(experiment(), tmp_path / "empty.yaml")

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from maskwright.config.labels import ClassConfig, CocoLabels, PointLabels, VectorLabels, YoloLabels
from maskwright.errors import ConfigError


def test_one_value_means_one_thing() -> None:
    classes: tuple[Any, ...] = ({"name": "oak", "values": [1]}, {"name": "elm"})
    with pytest.raises(ConfigError, match="ignore_values: 1 appears in classes too"):
        CocoLabels(file=Path("a.json"), classes=classes, ignore_values=(1,))
    with pytest.raises(ConfigError, match="background_values: elm appears in classes too"):
        YoloLabels(classes=classes, background_values=("elm",))
    with pytest.raises(ConfigError, match="ignore_values: 5 appears in background_values too"):
        VectorLabels(file=Path("a.gpkg"), background_values=(5,), ignore_values=("5",))
    kept = CocoLabels(file=Path("a.json"), classes=classes, ignore_values=("canopy",), background_values=("soil",))
    assert kept.classes[1] == ClassConfig(name="elm")


def test_points_lie_in_one_file_or_in_a_folder() -> None:
    with pytest.raises(ConfigError, match="file: folder is set too"):
        PointLabels(folder=Path("points"), file=Path("all.csv"))

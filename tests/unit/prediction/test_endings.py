"""Files a prediction may leave."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from maskwright.prediction.endings import output_endings
from maskwright.tasks import Binary, Height, HeightGaps


def test_each_kind_of_model_has_its_own_files() -> None:
    def card(task: Any, image: object = None) -> Any:
        return SimpleNamespace(task=task, image=image)

    gaps = output_endings(card(HeightGaps((5.0,))))
    heights = output_endings(card(Height()))
    classes = output_endings(card(Binary(("crack",)), image="a format"))
    assert {"gaps.tif", "gaps.gpkg", "summary.json"} <= set(gaps)
    assert {"height.tif", "summary.json"} <= set(heights)
    assert {"mask.png", "mask.tif", "crack.png"} <= set(classes)
    assert "gaps.tif" not in heights

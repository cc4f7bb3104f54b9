"""Doubtful labels on the screen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskwright.cli.suspect_commands import show_suspects
from maskwright.types import Window
from maskwright.workflows import suspects
from maskwright.workflows.doubtful import Doubt
from maskwright.workflows.label_next import Area


def test_doubts_areas_and_files_are_told_in_this_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doubt = Doubt("north", Window(3, 4, 1, 2), np.ones((1, 2), bool), "5 m", True, 0.9, 1.0, part="train", rank=1)
    area = Area(Path("area.tif"), Window(7, 8, 9, 9), 0.5, None, (), 1)
    asked: dict[str, Any] = {}

    def find(run: Path, most: int, **options: Any) -> Any:
        asked.update(options, most=most)
        files = {"page": Path("suspects.html")}
        return SimpleNamespace(doubts=[doubt], sentences=["One doubt."], areas=[area], files=files)

    monkeypatch.setattr(suspects, "find_suspects", find)
    options: Any = {"heights": [5.0], "folds": 3, "unlabelled": [], "out": None, "overwrite": False}
    assert show_suspects(Path("run"), 20, **options) == 0
    told = capsys.readouterr().out
    assert "north 3, 4" in told
    assert "5 m: labelled, and the model finds nothing" in told
    assert "90%" in told
    places = [told.index(word) for word in ("north", "One doubt.", "Label next 1: area.tif 7, 8", "suspects.html")]
    assert places == sorted(places)
    assert (asked["most"], asked["folds"], asked["heights_m"]) == (20, 3, [5.0])

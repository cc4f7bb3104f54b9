"""What a range test says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from maskwright.config import Experiment
from maskwright.errors import RunError
from maskwright.training.lr_finder import LrFinding
from maskwright.workflows.lr_find import _draw, _lines

FINDING = LrFinding((1e-4, 1e-3, 1e-2), (1.0, 0.5, 2.0), (1.0, 0.7, 1.5), 5e-4, 1e-3, diverged=True)
EXPERIMENT = Experiment.model_validate({"name": "a", "data": {"folder": "x"}})


def test_the_more_careful_of_two_readings_is_suggested() -> None:
    first, second, third = _lines(FINDING, EXPERIMENT, None)
    assert first == "3 updates from 1.0e-04: the loss rose beyond 1.0e-02."
    assert "a tenth of which is 1.0e-04" in second
    assert "--set optim.optimizer.lr=1.0e-04 (now 1.0e-03)" in third


def test_the_curve_is_drawn_and_a_file_that_is_no_picture_refused(tmp_path: Path) -> None:
    _draw(FINDING, "a", tmp_path / "new/curve.png")
    assert Image.open(tmp_path / "new/curve.png").width > 100
    with pytest.raises(RunError, match=r"Choose another file, ending in .png"):
        _draw(FINDING, "a", tmp_path / "curve.notapicture")

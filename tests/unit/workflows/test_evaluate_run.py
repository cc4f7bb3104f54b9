"""Numbers of a run that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.errors import ConfigError, RunError
from maskwright.workflows.evaluate_run import evaluate_run


def test_the_training_part_is_no_part_to_score(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'train' is no part to score; choose test or val"):
        evaluate_run(tmp_path, part="train")


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=tmp_path.name):
        evaluate_run(tmp_path)

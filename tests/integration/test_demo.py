"""The demo keeps its word on several forests; minutes each, so not part of the everyday tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.workflows.demo import run_demo


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_demo_beats_every_baseline_at_every_height(seed: int, tmp_path: Path):
    result = run_demo(tmp_path, seed=seed, say=lambda line: None)
    for name, rows in result.evaluation.baselines.items():
        for model, baseline in zip(result.evaluation.model, rows, strict=True):
            _, high = baseline.intervals["iou"]
            assert model.scores["iou"] > high, (name, model.height_m)
    for row in result.evaluation.baselines["surface minus its opening"]:
        assert row.scores["iou"] < 0.8  # the ground is too rough for an opening to find it
    assert result.report.is_file()
    assert result.maps["polygons"].is_file()
    assert len(result.lines) == 4

"""The record of the numbers of a part."""

from __future__ import annotations

import json
import math
from typing import Any

from maskwright.workflows.evaluation import Evaluation, ScoreRow


def row(column: str, iou: float, height_m: float | None = None) -> ScoreRow:
    return ScoreRow(column, height_m, {"iou": iou}, {"iou": (iou - 0.1, iou + 0.1)}, 0.2, 0.3)


def evaluation(**changes: Any) -> Evaluation:
    usual: dict[str, Any] = {
        "part": "test",
        "task": "height_gaps",
        "columns": ("5 m", "10 m"),
        "heights_m": (5.0, 10.0),
        "score": "iou",
        "model": [row("5 m", 0.4, 5.0), row("10 m", 0.8, 10.0)],
        "baselines": {"nothing is a gap": [row("5 m", 0.0, 5.0), row("10 m", 0.0, 10.0)]},
        "sentences": ["At 5 m it is good.", "At 10 m it is better.", "Few tiles."],
        "sites": {"north": [row("5 m", 0.4, 5.0), row("10 m", 0.8, 10.0)]},
        "tiles": 3,
        "unit": "block of ground",
        "blocks": 3,
        "valid_pixels": 100,
        "confidence": 0.95,
        "elapsed_s": 1.0,
        "mean": 0.6,
        "grid": [{"r2": 0.1}, {"r2": 0.2}],
        "block_counts": {"a": [[1, 0, 0, 9], [2, 0, 0, 8]]},
    }
    return Evaluation(**(usual | changes))


def test_some_heights_keep_their_numbers_and_have_a_mean_of_their_own() -> None:
    some = evaluation().at_heights([10.0])
    assert some.columns == ("10 m",)
    assert some.mean_iou == 0.8
    assert some.grid == [{"r2": 0.2}]
    assert some.sentences == ["At 10 m it is better.", "Few tiles."]
    assert some.block_counts == {"a": [[2, 0, 0, 8]]}
    assert [each.column for each in some.sites["north"]] == ["10 m"]
    whole = evaluation()
    assert whole.at_heights([5.0, 10.0]) is whole


def test_the_file_holds_plain_values_and_none_for_what_is_not_defined() -> None:
    plain = evaluation(model=[row("5 m", math.nan, 5.0), row("10 m", 0.8, 10.0)]).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["model"][0]["scores"]["iou"] is None
    assert plain["model"][1]["gap_share_true"] == 0.2
    assert "block_counts" not in plain


def test_errors_are_better_the_smaller() -> None:
    assert evaluation().higher_is_better
    of_heights = evaluation(score="rmse")
    assert not of_heights.higher_is_better
    assert math.isnan(of_heights.mean_iou)

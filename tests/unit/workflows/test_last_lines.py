"""The last lines of a run."""

from __future__ import annotations

import math
from typing import Any

from maskwright.workflows.evaluation import Evaluation, ScoreRow
from maskwright.workflows.last_lines import _lost_to, _score_line


def row(column: str, iou: float) -> ScoreRow:
    return ScoreRow(column, None, {"iou": iou}, {"iou": (iou - 0.1, iou + 0.1)})


def evaluation(model: list[ScoreRow], **more: Any) -> Evaluation:
    columns = tuple(each.column for each in model)
    baselines = {"nothing": [row(name, 0.0) for name in columns], "everything": [row(name, 0.3) for name in columns]}
    usual: Any = {
        **{"part": "test", "task": "multiclass", "columns": columns, "heights_m": (), "score": "iou", "model": model},
        **{"baselines": baselines, "sentences": [], "sites": {}, "tiles": 1, "unit": "image", "blocks": 1},
        **{"valid_pixels": 1, "confidence": 0.95, "elapsed_s": 0.0, "mean": 0.5, "mean_interval": (0.4, 0.6)},
    }
    return Evaluation(**(usual | more))


def test_a_model_that_is_not_better_than_an_answer_is_told_which() -> None:
    assert _lost_to(evaluation([row("rust", 0.5), row("pit", 0.2)])) is None
    assert _lost_to(evaluation([row("rust", 0.3), row("pit", 0.2)])) == "everything"
    assert _lost_to(evaluation([row("rust", 0.4), row("pit", math.nan)], absent=("pit",))) is None


def test_the_score_stands_with_its_interval_and_what_chose_it() -> None:
    one = _score_line(evaluation([row("rust", 0.5)]), "val/iou 0.600", 7)
    assert one == "Best: test IoU 0.500 for rust (95% interval 0.400 to 0.600), weights of epoch 7 (val/iou 0.600)."
    two = _score_line(evaluation([row("rust", 0.5), row("pit", 0.5)]), "val/miou 0.600", 7)
    assert two.startswith("Best: test mean IoU 0.500 over 2 classes (95% interval 0.400 to 0.600)")


def test_without_a_test_part_the_validation_score_is_said() -> None:
    assert _score_line(None, "val/iou 0.600", 7) == "Best: val/iou 0.600 in epoch 7; there is no test part to score."
    nothing = _score_line(evaluation([row("rust", math.nan)]), "val/iou -", 7)
    assert nothing.endswith("the test ground holds no pixel of any class.")

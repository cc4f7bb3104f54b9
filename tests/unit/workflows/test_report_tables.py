"""Numbers as a person reads them."""

from __future__ import annotations

import math
from typing import Any

from maskwright.workflows.evaluation import Evaluation, ImageRow, ScoreRow
from maskwright.workflows.report_tables import (
    baseline_table,
    confusion_table,
    image_table,
    interval_text,
    metres,
    percent_text,
    score_table,
    score_text,
)

SCORES = {"iou": 0.5, "f1": 2 / 3, "precision": 0.6, "recall": 0.75, "mcc": 0.4}


def evaluation(**changes: Any) -> Evaluation:
    row = ScoreRow("rust", None, SCORES, dict.fromkeys(SCORES, (0.4, 0.6)), 0.2, 0.0005)
    usual: Any = {
        **{"part": "test", "task": "binary", "columns": ("rust",), "heights_m": (), "score": "iou", "model": [row]},
        **{"baselines": {"nothing": [row]}, "sentences": [], "sites": {}, "tiles": 1, "unit": "image", "blocks": 1},
        **{"valid_pixels": 1, "confidence": 0.95, "elapsed_s": 0.0},
    }
    return Evaluation(**(usual | changes))


def test_what_is_not_defined_is_a_dash() -> None:
    assert (score_text(0.12345), score_text(math.nan)) == ("0.123", "-")
    assert (metres(1.239), metres(math.nan)) == ("1.24", "-")
    assert interval_text((0.1, 0.2)) == "(0.100 to 0.200)"
    assert interval_text((math.nan, 0.2)) == ""


def test_small_shares_keep_their_digits() -> None:
    assert [percent_text(value) for value in (0.5, 0.0005, 0.0, math.nan)] == ["50.0%", "0.050%", "0.0%", "-"]


def test_a_class_has_a_row_with_all_its_scores() -> None:
    head, cells = score_table(evaluation())
    assert head[:3] == ["class", "IoU", "95% interval"]
    assert cells == [["rust", "0.500", "(0.400 to 0.600)", "0.667", "0.600", "0.750", "0.400", "20.0%", "0.050%"]]


def test_the_model_stands_above_the_answers_without_training() -> None:
    head, cells = baseline_table(evaluation())
    assert head == ["IoU", "rust"]
    assert [row[0] for row in cells] == ["model", "nothing"]


def test_confusion_is_a_share_of_the_true_class() -> None:
    head, cells = confusion_table(evaluation(columns=("a", "b"), confusion=[[3, 1], [0, 0]]))
    assert head == ["true \\ called", "a", "b"]
    assert cells == [["a", "75.0%", "25.0%"], ["b", "-", "-"]]


def test_the_first_images_alone_are_shown_where_that_is_asked() -> None:
    rows = [ImageRow(f"{n}.png", ("rust",), (), 0.1 * n, 0.1, 0.0) for n in range(3)]
    _, cells = image_table(evaluation(images=rows), most=2)
    assert [row[0] for row in cells] == ["0.png", "1.png"]
    assert cells[0][2:4] == ["rust", "none"]

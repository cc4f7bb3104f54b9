"""The tables that the screen and the page share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskwright.workflows.evaluation import Evaluation, ScoreRow

__all__ = [
    "Table",
    "baseline_table",
    "confusion_table",
    "image_table",
    "interval_text",
    "metres",
    "object_baseline_table",
    "object_table",
    "percent_text",
    "probability_table",
    "sample_table",
    "score_table",
    "score_text",
    "site_table",
    "with_interval",
]

Table = tuple[list[str], list[list[str]]]


_OF_OBJECTS = (
    ("mAP", "average precision of masks, IoU .50 to .95", "mAP"),
    ("mAP_50", "average precision of masks at IoU .50", "mAP_50"),
    ("mAP_75", "average precision of masks at IoU .75", "mAP_75"),
    ("box_mAP_50", "average precision of boxes at IoU .50", ""),
    ("found_f1", "F1 of objects, mask IoU .50", "f1"),
    ("found_precision", "precision of objects", ""),
    ("found_recall", "recall of objects", ""),
    ("near_f1", "F1 of objects by the distance of centres", "f1"),
    ("species_accuracy", "share of the found ones named rightly", ""),
    ("count_accuracy", "accuracy of the count", "count_accuracy"),
    ("count_error", "error of the count, share of the true number", ""),
    ("coverage", "cover by objects, called", "canopy_coverage"),
    ("true_coverage", "cover by objects, true", ""),
    ("canopy_iou", "IoU of the cover", ""),
    ("crown_iou_mean", "mean IoU of found objects", ""),
    ("crown_diameter_mae", "mean error of diameters", ""),
    ("crown_diameter_bias", "mean error of diameters, signed", ""),
    ("density_mae", "mean error of the count of a tile by the density", ""),
)


def object_table(evaluation: Evaluation) -> Table:
    """The scores of objects with the verdict where there are bands; species and counts of each class below."""
    from maskwright.metrics.canopy import BANDS, band

    scores, rows = evaluation.objects, []
    for name, text, bands in _OF_OBJECTS:
        if name in scores and not math.isnan(scores[name]):
            unit = f", {evaluation.objects_unit}" if "diameter" in name else ""
            rows.append([text + unit, score_text(scores[name]), band(bands, scores[name]) if bands in BANDS else ""])
    for name, text in (("AP_50@", "average precision at IoU .50"), ("species_f1@", "F1"), ("count_error@", "count")):
        for key, value in scores.items():
            if key.startswith(name) and not math.isnan(value):
                rows.append([f"{text}, {key.partition('@')[2]}", score_text(value), ""])
    return ["objects one by one", "", "verdict"], rows


_OF_BASELINES = {
    "mAP_50": "mAP at IoU .50",
    "found_f1": "F1 at IoU .50",
    "near_f1": "F1 by distance",
    "count_error": "error of the count",
}


def object_baseline_table(evaluation: Evaluation) -> Table:
    """The model beside answers that need no training, by the scores of objects."""
    answers = {"model": evaluation.objects, **evaluation.objects_baselines}
    cells = [
        [name, *(score_text(scores.get(score, math.nan)) for score in _OF_BASELINES)]
        for name, scores in answers.items()
    ]
    return ["answer", *_OF_BASELINES.values()], cells


def score_table(evaluation: Evaluation) -> Table:
    """The scores of the model: a row for each height or class, or the errors of heights."""
    interval = f"{evaluation.confidence:.0%} interval"
    if evaluation.score == "rmse":
        head = ["", "RMSE m", interval, "MAE m", "bias m", "R2"]
        cells = [
            [
                row.column,
                metres(row.scores["rmse"]),
                interval_text(row.intervals["rmse"], 2),
                metres(row.scores["mae"]),
                metres(row.scores["bias"]),
                score_text(row.scores["r2"]),
            ]
            for row in evaluation.model
        ]
        return head, cells
    shares = ["gap share", "mapped"] if evaluation.heights_m else ["share true", "share called"]
    first = "height" if evaluation.heights_m else "class"
    cells = [_score_cells(row) for row in evaluation.model]
    if not evaluation.heights_m and len(evaluation.columns) > 1:
        mean = [score_text(evaluation.mean), interval_text(evaluation.mean_interval)]
        cells.append([f"mean of {len(evaluation.columns) - len(evaluation.absent)}", *mean, *[""] * 6])
    return [first, "IoU", interval, "F1", "precision", "recall", "MCC", *shares], cells


def baseline_table(evaluation: Evaluation) -> Table:
    """The deciding score, with intervals, of the model and the baselines."""
    answers = {"model": evaluation.model, **evaluation.baselines}
    cells = [[name, *(with_interval(row, evaluation.score) for row in rows)] for name, rows in answers.items()]
    return [_label(evaluation), *evaluation.columns], cells


def site_table(evaluation: Evaluation) -> Table:
    """The deciding score by site, or by group of images."""
    first = "site" if evaluation.heights_m or evaluation.score == "rmse" else "group"
    head = [first, *(f"{_label(evaluation)} {column}" for column in evaluation.columns)]
    cells = [[site, *(with_interval(row, evaluation.score) for row in rows)] for site, rows in evaluation.sites.items()]
    return head, cells


def sample_table(evaluation: Evaluation) -> Table:
    """Whole images as right or wrong."""
    head = ["class", "precision", "recall", "F1", "accuracy", "images that hold it", "images called"]
    cells = [
        [
            row.column,
            *(score_text(row.scores[name]) for name in ("precision", "recall", "f1", "accuracy")),
            percent_text(row.share_true),
            percent_text(row.share_called),
        ]
        for row in evaluation.samples
    ]
    return head, cells


def image_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """A row for each image, the lowest overlap first; ``most``: only so many."""
    head = ["image", "IoU", "true", "called", "share true", "share called"]
    cells = [
        [
            row.image,
            score_text(row.iou),
            ", ".join(row.true) or "none",
            ", ".join(row.called) or "none",
            percent_text(row.share_true),
            percent_text(row.share_called),
        ]
        for row in evaluation.images[:most]
    ]
    return head, cells


def confusion_table(evaluation: Evaluation) -> Table:
    """Where the pixels of each class went, as shares of the class."""
    rows = evaluation.confusion or []
    cells = [
        [name, *(percent_text(value / sum(row)) if sum(row) else "-" for value in row)]
        for name, row in zip(evaluation.columns, rows, strict=False)
    ]
    return ["true \\ called", *evaluation.columns], cells


def probability_table(evaluation: Evaluation) -> Table:
    """How well probabilities rank and mean what they say, by column."""
    names = {
        "roc_auc": "ROC AUC",
        "pr_auc": "PR AUC",
        "brier_error": "Brier error",
        "calibration_error": "calibration error",
        "log_loss": "log-loss",
    }
    values: Mapping[str, float] = evaluation.probabilities
    cells = [
        [column, *(score_text(values.get(f"{name}@{column}", math.nan)) for name in names)]
        for column in evaluation.columns
    ]
    return ["height" if evaluation.heights_m else "class", *names.values()], cells


def with_interval(row: ScoreRow, score: str) -> str:
    """A score and its interval behind it."""
    digits = 2 if score == "rmse" else 3
    value = row.scores[score]
    return f"{'-' if math.isnan(value) else f'{value:.{digits}f}'} {interval_text(row.intervals[score], digits)}"


def score_text(value: float) -> str:
    """Three digits; a dash for what is not defined."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def metres(value: float) -> str:
    """Two digits; a dash for what is not defined."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def interval_text(bounds: tuple[float, float], digits: int = 3) -> str:
    """Both ends in brackets; nothing where there is no interval."""
    low, high = bounds
    return "" if math.isnan(low) or math.isnan(high) else f"({low:.{digits}f} to {high:.{digits}f})"


def percent_text(value: float) -> str:
    """A share as percent: one digit, three for the smallest; a dash for what is not defined."""
    if math.isnan(value):
        return "-"
    return f"{value:.3%}" if 0 < value < 0.001 else f"{value:.1%}"


def _score_cells(row: ScoreRow) -> list[str]:
    scores = row.scores
    return [
        row.column,
        score_text(scores["iou"]),
        interval_text(row.intervals["iou"]),
        *(score_text(scores[name]) for name in ("f1", "precision", "recall", "mcc")),
        percent_text(row.share_true),
        percent_text(row.share_called),
    ]


def _label(evaluation: Evaluation) -> str:
    return "RMSE m" if evaluation.score == "rmse" else "IoU"

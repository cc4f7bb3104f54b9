"""The page a run leaves behind: numbers, baselines, curves and pictures, in one file that opens anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.files import write_text
from maskwright.pictures import bars_chart, code, figure, line_chart, page, paragraph, sentences, table

if TYPE_CHECKING:
    from maskwright.workflows.evaluate import Evaluation, HeightRow

__all__ = ["baseline_table", "height_table", "write_run_report"]


def height_table(rows: Sequence[HeightRow], confidence: float) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the per-height table, with intervals behind IoU and F1."""
    head = ["height", "IoU", f"{confidence:.0%} interval", "F1", "precision", "recall", "MCC", "gap share", "mapped"]
    cells = [
        [
            f"{row.height_m:g} m",
            _score(row.scores["iou"]),
            _interval(row.intervals["iou"]),
            _score(row.scores["f1"]),
            _score(row.scores["precision"]),
            _score(row.scores["recall"]),
            _score(row.scores["mcc"]),
            _percent(row.gap_share_true),
            _percent(row.gap_share_predicted),
        ]
        for row in rows
    ]
    return head, cells


def baseline_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table of IoU, with intervals, of the model and the baselines."""
    answers = {"model": evaluation.model, **evaluation.baselines}
    cells = [[name, *(_with_interval(row) for row in rows)] for name, rows in answers.items()]
    return ["IoU", *(f"{height:g} m" for height in evaluation.heights_m)], cells


def write_run_report(
    path: Path,
    *,
    title: str,
    history: Sequence[Mapping[str, Any]],
    heights_m: Sequence[float],
    facts: Mapping[str, str],
    evaluation: Evaluation | None = None,
    pictures: Sequence[tuple[str, Any]] = (),
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: Where it goes; replaced in one step.
        title: Head of the page.
        history: One entry per epoch so far.
        heights_m: Heights that are scored.
        facts: Short lines about the run, by name.
        evaluation: The final numbers, once there are any.
        pictures: (caption, PIL image) pairs.
        commands: Commands to copy.
        notes: What was noticed about the data.
    """
    blocks: list[tuple[str, list[Any]]] = []
    if evaluation is not None:
        blocks.append(("Result", _result_blocks(evaluation)))
    if pictures:
        blocks.append(("Pictures", [figure(image, caption) for caption, image in pictures]))
    if history:
        blocks.append(("Training", _curve_blocks(history, heights_m)))
    blocks.append(("About this run", [table(["what", "value"], [[name, value] for name, value in facts.items()])]))
    if notes:
        blocks.append(("Noticed about the data", [sentences(notes)]))
    if commands:
        blocks.append(("What to do next", [code(command) for command in commands]))
    write_text(path, page(title, blocks))


def _result_blocks(evaluation: Evaluation) -> list[Any]:
    head, cells = height_table(evaluation.model, evaluation.confidence)
    blocks: list[Any] = [
        paragraph(
            f"Scored on {evaluation.tiles} held-out tiles, {evaluation.valid_pixels / 1e6:.2f} million pixels, "
            f"counts summed over all of them; intervals from a bootstrap over {evaluation.blocks} blocks of ground."
        ),
        table(head, cells),
        sentences(evaluation.sentences),
        figure(_baseline_chart(evaluation), "IoU of the model and of four answers that need no training."),
    ]
    blocks.append(table(*baseline_table(evaluation)))
    if len(evaluation.sites) > 1:
        blocks.append(paragraph("By site:"))
        blocks.append(
            table(
                ["site", *[f"IoU {h:g} m" for h in evaluation.heights_m]],
                [[site, *[_with_interval(row) for row in rows]] for site, rows in evaluation.sites.items()],
            )
        )
    blocks.append(paragraph("Gap share in cells of the ground, observed against mapped:"))
    blocks.append(
        table(
            ["height", "cells", "R2", "RMSE", "MAE", "slope", "intercept"],
            [
                [f"{row['height_m']:g} m", f"{row['n_cells']:.0f}"]
                + [_score(row[name]) for name in ("r2", "rmse", "mae", "slope", "intercept")]
                for row in evaluation.grid
            ],
        )
    )
    blocks.append(sentences([*evaluation.notes, _violations(evaluation)]))
    return blocks


def _violations(evaluation: Evaluation) -> str:
    checked = evaluation.valid_pixels * max(len(evaluation.heights_m) - 1, 0)
    share = evaluation.violations / checked if checked else 0.0
    return (
        f"In {evaluation.violations} of {checked} comparisons ({share:.2%}) the raw output called a pixel likelier a "
        "gap at the lower of two heights; a running maximum over heights mends this in everything written."
    )


def _curve_blocks(history: Sequence[Mapping[str, Any]], heights_m: Sequence[float]) -> list[Any]:
    epochs = [entry["epoch"] for entry in history]
    losses = {name: [entry.get(name) for entry in history] for name in ("train/loss", "val/loss")}
    scores = {f"{h:g} m": [entry.get(f"val/iou@{h:g}m") for entry in history] for h in heights_m}
    return [
        figure(line_chart(epochs, losses, x="epoch", y="loss"), "Loss on training and validation ground."),
        figure(line_chart(epochs, scores, x="epoch", y="IoU"), "IoU on validation ground, per height."),
    ]


def _baseline_chart(evaluation: Evaluation) -> Any:
    groups = [f"{row.height_m:g} m" for row in evaluation.model]
    series = {"model": evaluation.model, **evaluation.baselines}
    return bars_chart(
        groups,
        {name: [row.scores["iou"] for row in rows] for name, rows in series.items()},
        intervals={name: [row.intervals["iou"] for row in rows] for name, rows in series.items()},
        y="IoU",
    )


def _with_interval(row: HeightRow) -> str:
    return f"{_score(row.scores['iou'])} {_interval(row.intervals['iou'])}"


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return "" if math.isnan(low) or math.isnan(high) else f"({low:.3f} to {high:.3f})"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"

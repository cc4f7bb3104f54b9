"""The page a run leaves behind: numbers, baselines, curves and pictures, in one file that opens anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.config.task import EXCLUSIVE
from maskwright.files import write_text
from maskwright.pictures import (
    Block,
    agreement_chart,
    bars_chart,
    code,
    figure,
    line_chart,
    matrix_chart,
    page,
    paragraph,
    sentences,
    table,
)
from maskwright.workflows.report_tables import (
    baseline_table,
    confusion_table,
    image_table,
    object_baseline_table,
    object_table,
    probability_table,
    sample_table,
    score_table,
    score_text,
    site_table,
)

if TYPE_CHECKING:
    from maskwright.workflows.evaluation import Evaluation

__all__ = ["write_run_report"]

_MOST_IMAGES = 30  # rows on the page; the CSV file holds all
_MOST_CURVES = 8
_PARTS_OF_LOSS = (
    ("train/loss/", "loss", "Parts of the training loss, each before its weight."),
    ("train/loss_weight/", "weight", "Weights of the parts of the loss."),
)
_THIN = {
    "cldice": "clDice: are thin things followed along their length",
    "topology_precision": "share of the called centre lines inside the true mask",
    "topology_recall": "share of the true centre lines inside the called mask",
    "betti0_error": "mean difference in the number of pieces, by tile",
    "boundary_f1": "boundary F1, outlines within 2 px",
    "hd95": "Hausdorff distance, 95th percentile, px",
    "surface_distance": "mean distance of outlines, px",
}


def write_run_report(
    path: Path,
    *,
    title: str,
    history: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
    evaluation: Evaluation | None = None,
    pictures: Sequence[tuple[str, Any]] = (),
    balance: tuple[Sequence[str], Sequence[Sequence[object]]] | None = None,
    commands: Sequence[str] = (),
    notes: Sequence[str] = (),
    asked: Sequence[Block] = (),
    more: Sequence[tuple[str, Sequence[Block]]] = (),
) -> None:
    """Write the page.

    Args:
        path: Where it goes; replaced in one step.
        title: Head of the page.
        history: One entry per epoch so far.
        facts: Short lines about the run, by name.
        evaluation: The final numbers, once there are any.
        pictures: (caption, PIL image) pairs.
        balance: Head and rows of a table of how common each class is in each part.
        commands: Commands to copy.
        notes: What was noticed.
        asked: What the experiment asked.
        more: (heading, blocks) of further sections, behind those about the run.
    """
    blocks: list[tuple[str, Sequence[Block]]] = []
    if evaluation is not None:
        blocks.append(("Result", _result_blocks(evaluation)))
    if pictures:
        blocks.append(("Pictures", [figure(image, caption) for caption, image in pictures]))
    if evaluation is not None and evaluation.images:
        blocks.append(("Images", _image_blocks(evaluation)))
    if evaluation is not None and evaluation.probabilities:
        blocks.append(("Probabilities", _probability_blocks(evaluation)))
    if history:
        blocks.append(("Training", _curve_blocks(history)))
    if asked:
        blocks.append(("What was asked", asked))
    about = [table(["what", "value"], [[name, value] for name, value in facts.items()])]
    if balance is not None:
        about += [paragraph("How common each class is, as a share of the pixels that count:"), table(*balance)]
    blocks.append(("About this run", about))
    if notes:
        blocks.append(("Noticed", [sentences(notes)]))
    blocks += [(heading, section) for heading, section in more if section]
    if commands:
        blocks.append(("What to do next", [code(command) for command in commands]))
    write_text(path, page(title, blocks))


def _result_blocks(evaluation: Evaluation) -> list[Any]:
    what = "IoU" if evaluation.score == "iou" else "RMSE"
    blocks: list[Any] = [
        paragraph(
            f"Scored on {evaluation.tiles} held-out tiles, {evaluation.valid_pixels / 1e6:.2f} million pixels, "
            f"counts summed over all of them; intervals from a bootstrap over {evaluation.blocks} "
            f"{_plural(evaluation.unit)}."
        ),
        table(*score_table(evaluation)),
        sentences(evaluation.sentences),
        figure(
            _baseline_chart(evaluation),
            f"{what} of the model and of {_number(len(evaluation.baselines))} answers that need no training.",
        ),
        table(*baseline_table(evaluation)),
    ]
    if evaluation.score == "iou":
        blocks.append(figure(_mistakes_chart(evaluation), "What is missed, and what is called wrongly, by column."))
    if len(evaluation.sites) > 1:
        by = "site" if evaluation.heights_m or evaluation.score == "rmse" else "group"
        blocks += [paragraph(f"By {by}:"), table(*site_table(evaluation))]
    if evaluation.confusion is not None:
        blocks += _confusion_blocks(evaluation)
    if evaluation.objects:
        blocks += [paragraph("Objects found one by one:"), table(*object_table(evaluation))]
        blocks += [paragraph("Beside answers that need no training:"), table(*object_baseline_table(evaluation))]
    if evaluation.thin:
        blocks += _thin_blocks(evaluation)
    if evaluation.grid:
        blocks += _grid_blocks(evaluation)
    notes = list(evaluation.notes)
    if evaluation.heights_m:
        notes.append(_violations(evaluation))
    if evaluation.absent and not evaluation.heights_m:
        notes.append(f"Without a true pixel here, so in no mean: {', '.join(evaluation.absent)}.")
    return [*blocks, sentences(notes)] if notes else blocks


def _confusion_blocks(evaluation: Evaluation) -> list[Any]:
    return [
        paragraph("Where the pixels of each class went, as a share of the class:"),
        table(*confusion_table(evaluation)),
        figure(
            matrix_chart({"": (evaluation.columns, evaluation.confusion or [])}),
            "Confusion matrix: a row for each true class, darker where more of it was called so.",
        ),
    ]


def _thin_blocks(evaluation: Evaluation) -> list[Any]:
    rows = [[text, score_text(evaluation.thin[name])] for name, text in _THIN.items() if name in evaluation.thin]
    return [paragraph("Thin things and outlines, tile by tile:"), table(["score", evaluation.columns[0]], rows)]


def _grid_blocks(evaluation: Evaluation) -> list[Any]:
    head = ["height", "cells", "R2", "RMSE", "MAE", "slope", "intercept"]
    rows = [
        [f"{row['height_m']:g} m", f"{row['n_cells']:.0f}"]
        + [score_text(row[name]) for name in ("r2", "rmse", "mae", "slope", "intercept")]
        for row in evaluation.grid
    ]
    return [paragraph("Gap share in cells of the ground, observed against mapped:"), table(head, rows)]


def _image_blocks(evaluation: Evaluation) -> list[Any]:
    shown = min(_MOST_IMAGES, len(evaluation.images))
    rest = "" if shown == len(evaluation.images) else " evaluation_images.csv beside this page holds all."
    return [
        paragraph(
            "Whole images as right or wrong; an image counts as holding a class if one pixel of it is that class:"
        ),
        table(*sample_table(evaluation)),
        paragraph(f"{shown} of {len(evaluation.images)} images, the lowest overlap first.{rest}"),
        table(*image_table(evaluation, shown)),
    ]


def _probability_blocks(evaluation: Evaluation) -> list[Any]:
    blocks: list[Any] = [table(*probability_table(evaluation))]
    pairs = {}
    for column in evaluation.columns[:_MOST_CURVES]:
        rows = [row for row in evaluation.reliability if row["name"] == column and row["pixels"]]
        pairs[column] = ([row["mean_probability"] for row in rows], [row["positive_share"] for row in rows])
    chart = agreement_chart(pairs, x="mean probability", y="share that is true")
    blocks.append(figure(chart, "Reliability: on the line, a probability means what it says."))
    return [*blocks, sentences([_cut(evaluation)])]


def _cut(evaluation: Evaluation) -> str:
    point = evaluation.operating_point
    scaled = f" Outputs are divided by {point['temperature']:.3g} first." if point["temperature"] != 1 else ""
    if evaluation.task in EXCLUSIVE:
        return f"The likeliest class is called.{scaled}"
    cuts = sorted(set(point["thresholds"]))
    each = (
        f"{cuts[0]:g}"
        if len(cuts) == 1
        else ", ".join(
            f"{value:g} for {name}" for name, value in zip(evaluation.columns, point["thresholds"], strict=True)
        )
    )
    chosen = "as the settings say" if point["rule"] == "fixed" else f"chosen on the validation part by {point['rule']}"
    return f"Called above a probability of {each}, {chosen}.{scaled}"


def _violations(evaluation: Evaluation) -> str:
    checked = evaluation.valid_pixels * max(len(evaluation.heights_m) - 1, 0)
    share = evaluation.violations / checked if checked else 0.0
    return (
        f"In {evaluation.violations} of {checked} comparisons ({share:.2%}) the raw output called a pixel likelier a "
        "gap at the lower of two heights; a running maximum over heights mends this in everything written."
    )


def _curve_blocks(history: Sequence[Mapping[str, Any]]) -> list[Any]:
    epochs = [entry["epoch"] for entry in history]
    losses = {name: [entry.get(name) for entry in history] for name in ("train/loss", "val/loss")}
    blocks = [figure(line_chart(epochs, losses, x="epoch", y="loss"), "Loss on training and validation data.")]
    names, label = _scores_over_time(history[-1])
    if names:
        curves = {title: [entry.get(key) for entry in history] for key, title in names.items()}
        blocks.append(figure(line_chart(epochs, curves, x="epoch", y=label), f"{label} on validation data."))
    for start, y, caption in _PARTS_OF_LOSS:
        names = {key: key.removeprefix(start) for key in history[-1] if key.startswith(start)}
        if len(names) > 1:
            curves = {title: [entry.get(key) for entry in history] for key, title in names.items()}
            blocks.append(figure(line_chart(epochs, curves, x="epoch", y=y), caption))
    if any(entry.get("lr/0") for entry in history):
        lr = {"first group": [entry.get("lr/0") for entry in history]}
        blocks.append(
            figure(line_chart(epochs, lr, x="epoch", y="learning rate"), "Learning rate at the end of each epoch.")
        )
    return blocks


def _scores_over_time(entry: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Keys of the history to draw, with their titles, and the name of the axis."""
    each = [key for key in entry if key.startswith("val/iou@")][:_MOST_CURVES]
    if each:
        return {key: _title(key.partition("@")[2]) for key in each}, "IoU"
    if "val/iou" in entry:
        return {"val/iou": "IoU", **({"val/f1": "F1"} if "val/f1" in entry else {})}, "IoU and F1"
    if "val/mAP_50" in entry:
        titles = {"val/mAP_50": "mAP at IoU .50", "val/found_f1": "F1 of objects", "val/miou": "mean IoU of classes"}
        return {key: title for key, title in titles.items() if entry.get(key) is not None}, "score"
    if "val/rmse" in entry:
        return {"val/rmse": "RMSE", "val/mae": "MAE"}, "metres"
    return {}, ""


def _title(column: str) -> str:
    """``5m`` of the history is ``5 m`` on the page."""
    number = column.removesuffix("m")
    return f"{number} m" if column.endswith("m") and number.replace(".", "", 1).isdigit() else column


def _baseline_chart(evaluation: Evaluation) -> Any:
    series = {"model": evaluation.model, **evaluation.baselines}
    name = evaluation.score
    return bars_chart(
        list(evaluation.columns),
        {answer: [_finite(row.scores[name]) for row in rows] for answer, rows in series.items()},
        intervals={answer: [row.intervals[name] for row in rows] for answer, rows in series.items()},
        y="IoU" if name == "iou" else "RMSE in metres",
    )


def _mistakes_chart(evaluation: Evaluation) -> Any:
    names = {
        "precision (called that are true)": "precision",
        "recall (true that are called)": "recall",
    }
    shown = {title: [_finite(row.scores[name]) for row in evaluation.model] for title, name in names.items()}
    return bars_chart(list(evaluation.columns), shown, y="share of pixels")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five")
    return words[count] if count < len(words) else str(count)


def _plural(unit: str) -> str:
    first, of, rest = unit.partition(" of ")
    return f"{first}s{of}{rest}"

"""The last lines of a run: the best score with its interval, what would help most, what to type next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maskwright.config import ImagesData
from maskwright.workflows.advice import what_would_help

if TYPE_CHECKING:
    from maskwright.tracking.folder import RunFolder
    from maskwright.training import Trainer, TrainResult
    from maskwright.workflows.assemble import Parts
    from maskwright.workflows.evaluation import Evaluation, ScoreRow

__all__ = ["last_lines"]


def last_lines(
    parts: Parts, folder: RunFolder, trainer: Trainer, result: TrainResult, evaluation: Evaluation | None
) -> tuple[str, ...]:
    """Three lines for the screen and the page; ``evaluation`` None: the data has no test part."""
    score = "-" if result.best_score is None else f"{result.best_score:.3f}"
    monitored = f"{trainer.monitor.name} {score}"
    help_line = what_would_help(
        result.history,
        monitor=trainer.monitor.name,
        higher_is_better=trainer.monitor.mode == "max",
        best_epoch=result.best_epoch or 0,
        epochs=parts.experiment.training.epochs,
        scores={} if evaluation is None else {row.column: row.scores[evaluation.score] for row in evaluation.model},
        things=_things(parts.task.kind),
        lost_to=None if evaluation is None or parts.heights_m else _lost_to(evaluation),
        train_tiles=len(parts.split.tiles["train"]),
    )
    return (
        _score_line(evaluation, monitored, result.best_epoch),
        f"What would help most: {help_line}",
        f"Next: {_predict_command(parts, folder)}",
    )


def _lost_to(evaluation: Evaluation) -> str | None:
    """The baseline whose mean over the columns is the best, if that of the model is not better."""
    name, sign = evaluation.score, 1 if evaluation.higher_is_better else -1

    def mean(rows: Sequence[ScoreRow]) -> float:
        known = [row.scores[name] for row in rows if row.column not in evaluation.absent]
        return sign * sum(0.0 if math.isnan(score) else score for score in known) / max(len(known), 1)

    best = max(evaluation.baselines, key=lambda answer: mean(evaluation.baselines[answer]))
    return best if mean(evaluation.model) <= mean(evaluation.baselines[best]) else None


def _things(kind: str) -> str:
    """What the columns of a task are."""
    return {"height_gaps": "heights", "height": "metres"}.get(kind, "classes")


def _score_line(evaluation: Evaluation | None, monitored: str, best_epoch: int | None) -> str:
    if evaluation is None:
        return f"Best: {monitored} in epoch {best_epoch}; there is no test part to score."
    if evaluation.score == "rmse":
        (row,) = evaluation.model
        low, high = row.intervals["rmse"]
        return (
            f"Best: test RMSE {row.scores['rmse']:.2f} m ({evaluation.confidence:.0%} interval {low:.2f} to "
            f"{high:.2f}), R2 {row.scores['r2']:.3f}, weights of epoch {best_epoch} ({monitored})."
        )
    known = [row for row in evaluation.model if not math.isnan(row.scores["iou"])]
    if not known:
        nothing = "gap" if evaluation.heights_m else "pixel of any class"
        return f"Best: {monitored} in epoch {best_epoch}; the test ground holds no {nothing}."
    if not evaluation.heights_m and len(evaluation.columns) > 1:
        low, high = evaluation.mean_interval
        present = len(evaluation.columns) - len(evaluation.absent)
        return (
            f"Best: test mean IoU {evaluation.mean:.3f} over {present} classes "
            f"({evaluation.confidence:.0%} interval {low:.3f} to {high:.3f}), "
            f"weights of epoch {best_epoch} ({monitored})."
        )
    best = max(known, key=lambda row: row.scores["iou"])
    low, high = best.intervals["iou"]
    over = f"mean over heights {evaluation.mean_iou:.3f}, " if evaluation.heights_m else ""
    where = f"at {best.column}" if evaluation.heights_m else f"for {best.column}"
    return (
        f"Best: test IoU {best.scores['iou']:.3f} {where} "
        f"({evaluation.confidence:.0%} interval {low:.3f} to {high:.3f}), "
        f"{over}weights of epoch {best_epoch} ({monitored})."
    )


def _predict_command(parts: Parts, folder: RunFolder) -> str:
    """The command that maps a test site or images; a word in capitals where the experiment holds nothing fitting."""
    data, on_test = parts.experiment.data, {place.scene for place in parts.split.tiles["test"]}
    if isinstance(data, ImagesData):
        return shlex.join(["maskwright", "predict", str(folder.path), _folder_of_images(parts), "--out", "maps"])
    kind = "chm" if data.input == "chm" else "dsm"
    fitting = [site for site in parts.rasters.sites if site.name in on_test and getattr(site, kind) is not None]
    if data.input == "both":
        fitting = [site for site in fitting if site.chm is not None]
    raster = str(getattr(fitting[0], kind)) if fitting else f"YOUR_{kind.upper()}.tif"
    words = ["maskwright", "predict", str(folder.path), raster]
    if data.input == "both":
        words += ["--chm", str(fitting[0].chm) if fitting else "YOUR_CHM.tif"]
    if parts.heights_m:
        words += ["--heights", *(f"{height:g}" for height in parts.heights_m)]
    return shlex.join([*words, "--out", "maps"])


def _folder_of_images(parts: Parts) -> str:
    """The folder in which the first test image lies, else that of any image."""
    held_out = {place.scene for place in parts.split.tiles["test"]}
    paths = [item.path for item in parts.images.items if item.name in held_out or not held_out]
    return str(paths[0].parent) if paths else "YOUR_IMAGES"

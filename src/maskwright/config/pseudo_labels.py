"""Pseudo-labels: images without labels, labelled by the model where it is sure, and trained on in further rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.config.base import Field, Section

if TYPE_CHECKING:
    from maskwright.config.experiment import Experiment

__all__ = ["ExtraConfig", "PseudoLabelsConfig", "pseudo_label_faults"]


class ExtraConfig(Section):
    """Images with masks made by a model, which are trained on and never scored; rounds of pseudo-labels write them."""

    folder: Path | None = Field(
        None, help="Folder with an extra.json that names images and masks, as pseudo-labels write it; unset: none."
    )
    weight: float = Field(
        1.0, gt=0, le=1, help="How often a tile of these images comes for one time of a labelled tile."
    )


class PseudoLabelsConfig(Section):
    """Rounds of training in which what the model is sure of on images without labels becomes their label."""

    folder: Path | None = Field(
        None, help="Folder of images without labels, searched with its subfolders; unset: no pseudo-labels."
    )
    rounds: int = Field(1, ge=1, le=20, help="Times that images are labelled by the model and trained on.")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        help="Calibrated probability above which a pixel takes its class (or none, below one minus it); the others "
        "do not count.",
    )
    min_share: float = Field(
        0.1, gt=0, le=1, help="An image is added if the model is that sure of at least this share of its pixels."
    )
    weight: float = Field(
        0.5, gt=0, le=1, help="How often a tile of an added image comes for one time of a labelled tile."
    )


def pseudo_label_faults(experiment: Experiment) -> Iterator[str]:
    """What of an experiment does not go with its pseudo-labels, a text each."""
    if experiment.pseudo_labels.folder is None:
        return
    if experiment.data.kind != "images":
        yield (
            f"pseudo_labels.folder: task.kind {experiment.task.kind} learns from heights in metres, and being sure "
            "of a gap tells no height. Leave it out; pseudo-labels are for images"
        )
        return
    if experiment.data.extra.folder is not None:
        yield "pseudo_labels.folder: data.extra.folder is set too, and each round sets it itself. Unset one of the two"
    if experiment.stages:
        yield "pseudo_labels.folder: stages are set too. Unset one of the two, and run them one after the other"
    if experiment.training.budget is not None:
        yield "training.budget: it would be given to each round of pseudo-labels. Set training.epochs instead"
    if experiment.data.balance.by == "foreground" and experiment.pseudo_labels.weight != 1:
        yield (
            "pseudo_labels.weight: data.balance.by: foreground decides how often tiles come. Set it to 1, or balance "
            "by class"
        )

"""What a run shows of itself while it works: the model so far, pictures of its predictions, the page."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.checkpoints import save_model
from maskwright.data.loaders import EvalLoader
from maskwright.errors import CheckpointError, RunError
from maskwright.files import write_text
from maskwright.tracking.history import History
from maskwright.training import Callback, TrainState
from maskwright.types import Batch, Place
from maskwright.workflows.report import write_run_report
from maskwright.workflows.report_tables import image_table, percent_text
from maskwright.workflows.sample_pictures import sample_sheet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from maskwright.tracking.folder import RunFolder
    from maskwright.workflows.assemble import Parts
    from maskwright.workflows.evaluation import Evaluation
    from maskwright.workflows.operating_point import OperatingPoint

__all__ = ["BestModel", "RunReport", "Samples", "write_final_report"]

_SAMPLES = 4
_REPORT_EVERY_S = 60.0


class BestModel(Callback):
    """Writes the portable model whenever an epoch is the best so far, so that a run can be used while it goes on.

    As long as no epoch had a score, for example because the validation ground holds no gap, the newest one is written.

    Args:
        folder: The model folder.
        description: What goes into ``model.json``; the scores of the epoch are added.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any]) -> None:
        self.folder = folder
        self.description = dict(description)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        if state.best is not None and state.best.epoch != state.epoch:
            return
        try:
            save_model(self.folder, state.model, self.description | {"epoch": state.epoch, "scores": dict(scores)})
        except CheckpointError as error:  # a full disk must not end the training
            state.note("warning", message=f"The model of epoch {state.epoch} was not written: {error}")


class Samples(Callback):
    """Pictures of the same validation tiles: after the first epoch, and whenever an epoch is the best so far.

    Args:
        folder: Where ``epoch_0001.png`` goes.
        parts: What the run is made of.
        loader: Of its tiles those that differ most in what is to be found are shown.
    """

    def __init__(self, folder: Path, parts: Parts, loader: EvalLoader) -> None:
        self.folder = folder
        self.parts = parts
        self.loader = loader
        self._shown: EvalLoader | None = None

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        is_best = state.best is not None and state.best.epoch == state.epoch
        if state.epoch != 1 and not is_best:
            return
        if self._shown is None:
            self._shown = _loader_of(self.parts, _spread(self.parts, self.loader, _SAMPLES))
        sheet = sample_sheet(state.model, self.parts, self._shown)
        try:
            sheet.save(self.folder / f"epoch_{state.epoch:04d}.png")
        except OSError as error:
            state.note("warning", message=f"The picture of epoch {state.epoch} was not written: {error}")


class RunReport(Callback):
    """Keeps ``report.html`` up to date: after the first epoch, then at most once a minute."""

    def __init__(self, folder: RunFolder, parts: Parts) -> None:
        self.folder = folder
        self.parts = parts
        self._written_s: float | None = None

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        now = time.monotonic()
        if self._written_s is not None and now - self._written_s < _REPORT_EVERY_S:
            return
        self._written_s = now
        try:
            _write_report(self.folder, self.parts)
        except RunError as error:  # a full disk must not end the training
            state.note("warning", message=f"The page was not written: {error}")


def write_final_report(
    folder: RunFolder,
    parts: Parts,
    evaluation: Evaluation | None,
    lines: Sequence[str],
    *,
    model: nn.Module,
    point: OperatingPoint,
) -> None:
    """The page with the final numbers and the worst and best tiles, and a table of all images beside it."""
    drawn: list[tuple[str, Image]] = []
    if evaluation is not None:
        shown = {"lowest": evaluation.worst, "highest": evaluation.best}
        what = "errors" if evaluation.score == "rmse" else "overlap"
        if evaluation.score == "rmse":
            shown = {"largest": evaluation.worst, "smallest": evaluation.best}
        drawn = [
            (
                f"The test tiles with the {which} {what}: the picture, what is true, what the model says.",
                sample_sheet(model, parts, _loader_of(parts, places), point),
            )
            for which, places in shown.items()
            if places
        ]
        if evaluation.images:
            _write_images(folder.path / "evaluation_images.csv", evaluation)
    _write_report(folder, parts, evaluation, lines, drawn)


def _write_images(path: Path, evaluation: Evaluation) -> None:
    text = io.StringIO()
    head, cells = image_table(evaluation)
    csv.writer(text, lineterminator="\n").writerows([head, *cells])
    write_text(path, text.getvalue())


def _write_report(
    folder: RunFolder,
    parts: Parts,
    evaluation: Evaluation | None = None,
    lines: Sequence[str] = (),
    drawn: Sequence[tuple[str, Image]] = (),
) -> None:
    import PIL.Image

    pictures = sorted(folder.samples.glob("epoch_*.png"))
    shown = list(drawn)
    if pictures:
        epoch = int(pictures[-1].stem.rpartition("_")[2])
        what = "surface, true, mapped" if parts.experiment.data.kind == "height_rasters" else "picture, true, called"
        shown.append((f"Validation tiles after epoch {epoch}: {what}.", PIL.Image.open(pictures[-1])))
    write_run_report(
        folder.report,
        title=parts.experiment.name,
        history=History(folder.history).entries,
        facts=_facts(folder, parts, evaluation, finished=bool(lines)),
        evaluation=evaluation,
        pictures=shown,
        balance=_balance(parts),
        commands=[line.partition("Next: ")[2] for line in lines if line.startswith("Next: ")],
        notes=[*parts.notes, *(line for line in lines if not line.startswith("Next: "))],
    )


def _facts(folder: RunFolder, parts: Parts, evaluation: Evaluation | None, *, finished: bool) -> dict[str, str]:
    """Short lines about the run."""
    record, model = folder.record.load(), parts.experiment.model
    facts = {
        "status": "finished" if finished else "training",
        "started": str(record.get("started", "")),
        "task": f"{parts.task.kind}: {', '.join(parts.task.columns)}",
        "model": f"{model.kind}, {model.base_channels} base channels, depth {model.depth}",
        "device": f"{record.get('device', '')}, {record.get('precision', '')}",
    }
    if parts.experiment.data.kind == "images":
        source = parts.images
        facts["images"] = f"{len(source.scenes)}, {source.in_channels} bands of {source.dtype}"
    else:
        sizes = sorted({scene.grid.pixel_size_m for scene in parts.source.scenes})
        facts["pixel size"] = ", ".join(f"{size:g} m" for size in sizes)
    return facts | {"split": parts.split_summary()}


def _balance(parts: Parts) -> tuple[list[str], list[list[str]]] | None:
    """How common each class is in each part."""
    if not parts.balance:
        return None
    rows = []
    for part, shares in parts.balance.items():
        places = parts.split.tiles[part]
        images = len({place.scene for place in places})
        rows.append([part, str(images), str(len(places)), *(percent_text(float(share)) for share in shares)])
    return ["part", "images", "tiles", *parts.task.columns], rows


def _loader_of(parts: Parts, places: Sequence[Place]) -> EvalLoader:
    return EvalLoader(parts.source, places, parts.task.heights_m, 1)


def _spread(parts: Parts, loader: EvalLoader, count: int) -> list[Place]:
    """Tiles at even steps between the least and the most of what is to be found."""
    amounts: list[float] = []
    places: list[Place] = []
    for batch in loader:
        amounts += _amounts(parts, batch)
        places += batch.where
    order = np.argsort(amounts, kind="stable")
    steps = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [places[order[step]] for step in np.unique(steps)]


def _amounts(parts: Parts, batch: Batch) -> list[float]:
    """Of each tile the gap share at the middle height, the mean height, or the pixels of foreground."""
    target, valid = parts.task.target(batch), batch.valid
    if parts.task.kind == "height_gaps":
        found = target[:, target.shape[1] // 2]
    elif parts.task.kind == "height":
        found = target[:, 0]
    else:
        found = target[:, parts.things.start :].any(dim=1)
    amount = (found * valid).sum(dim=(1, 2))
    if parts.experiment.data.kind == "images":  # a sliver at the edge of an image is nothing to look at
        return [float(pixels) for pixels in amount]
    amounts: list[float] = (amount / valid.sum(dim=(1, 2)).clamp(min=1)).tolist()
    return amounts

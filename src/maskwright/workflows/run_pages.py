"""What a run shows of itself while it works: the model so far, pictures of its predictions, the page."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.checkpoints import save_model
from maskwright.data.loaders import EvalLoader
from maskwright.errors import CheckpointError, RunError
from maskwright.files import write_text
from maskwright.pictures import code, figure
from maskwright.tracking.history import History
from maskwright.training import Callback, TrainState
from maskwright.types import Place
from maskwright.workflows.report import write_run_report
from maskwright.workflows.report_parts import (
    asked_blocks,
    doctor_blocks,
    reproduce_blocks,
    resource_blocks,
    split_map,
)
from maskwright.workflows.report_tables import image_table, percent_text
from maskwright.workflows.sample_pictures import sample_sheet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from maskwright.tracking.folder import RunFolder
    from maskwright.workflows.assemble import Parts
    from maskwright.workflows.evaluation import Evaluation
    from maskwright.workflows.operating_point import OperatingPoint

__all__ = ["BestModel", "RunReport", "drawn_tiles", "write_final_report"]

_REPORT_EVERY_S = 60.0
_SHARE = 0.004  # of the time that the page may take


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
            with state.predicting():
                save_model(self.folder, state.model, self.description | {"epoch": state.epoch, "scores": dict(scores)})
        except CheckpointError as error:  # a full disk must not end the training
            state.note("warning", message=f"The model of epoch {state.epoch} was not written: {error}")


class RunReport(Callback):
    """Keeps ``report.html`` up to date: after the first epoch, then at most once a minute and 0.4 % of the time."""

    def __init__(self, folder: RunFolder, parts: Parts) -> None:
        self.folder = folder
        self.parts = parts
        self._due_s = 0.0

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        began_s = time.monotonic()
        if began_s < self._due_s:
            return
        try:
            _write_report(self.folder, self.parts)
        except RunError as error:  # a full disk must not end the training
            state.note("warning", message=f"The page was not written: {error}")
        now_s = time.monotonic()
        self._due_s = now_s + max(_REPORT_EVERY_S, (now_s - began_s) / _SHARE)


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
        drawn = drawn_tiles(parts, evaluation, model, point)
        if evaluation.images:
            _write_images(folder.path / "evaluation_images.csv", evaluation)
    _write_report(folder, parts, evaluation, lines, drawn)


def drawn_tiles(
    parts: Parts, evaluation: Evaluation, model: nn.Module, point: OperatingPoint
) -> list[tuple[str, Image]]:
    """Captions and pictures of the worst and the best tiles of an evaluation."""
    shown = {"lowest": evaluation.worst, "highest": evaluation.best}
    what = "errors" if evaluation.score == "rmse" else "overlap"
    if evaluation.score == "rmse":
        shown = {"largest": evaluation.worst, "smallest": evaluation.best}
    return [
        (
            f"The test tiles with the {which} {what}: the picture, what is true, what the model says.",
            sample_sheet(model, parts, _loader_of(parts, places), point),
        )
        for which, places in shown.items()
        if places
    ]


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

    shown = list(drawn)
    what = "surface, true, mapped" if parts.experiment.data.kind == "height_rasters" else "picture, true, called"
    for name, caption in {
        "epoch_*.png": f"Validation tiles after epoch {{epoch}}: {what}.",
        "confusion_*.png": "What was confused on the validation part after epoch {epoch}.",
        "strip.png": "How the answers for the same validation tiles changed.",
    }.items():
        files = sorted(folder.samples.glob(name))
        if files:
            epoch = files[-1].stem.rpartition("_")[2].lstrip("0") or "0"
            shown.append((caption.format(epoch=epoch), PIL.Image.open(files[-1])))
    finished = bool(lines)
    data = split_map(parts)
    where = [code(parts.split_summary())]
    if data is not None:
        where.append(figure(data, "Tiles of each part; grey belongs to none."))
    more = [
        ("Where the data lies", where),
        ("Resources", resource_blocks(folder.events)),
        ("What the log says", doctor_blocks(folder) if finished else []),
        ("How to reproduce it", reproduce_blocks(folder, parts)),
    ]
    write_run_report(
        folder.report,
        title=parts.experiment.name,
        history=History(folder.history).entries,
        facts=_facts(folder, parts, evaluation, finished=finished),
        evaluation=evaluation,
        pictures=shown,
        balance=_balance(parts),
        commands=[line.partition("Next: ")[2] for line in lines if line.startswith("Next: ")],
        notes=[*parts.notes, *(line for line in lines if not line.startswith("Next: "))],
        asked=asked_blocks(parts),
        more=more,
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
    return facts


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

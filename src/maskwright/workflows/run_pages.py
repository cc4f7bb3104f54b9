"""What a run shows of itself while it works: the model so far, pictures of its predictions, the page."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maskwright.checkpoints import save_model
from maskwright.data.loaders import EvalLoader
from maskwright.errors import CheckpointError, RunError
from maskwright.pictures import contact_sheet, height_colors, overlay_heights, shade
from maskwright.tracking.history import History
from maskwright.training import Callback, TrainState
from maskwright.training.validation import evaluation_mode
from maskwright.types import Batch, Place
from maskwright.workflows.report import write_run_report

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.data.sources.rasters import HeightRasters
    from maskwright.tasks.height_gaps import HeightGaps
    from maskwright.tracking.folder import RunFolder
    from maskwright.workflows.assemble import Parts
    from maskwright.workflows.evaluate import Evaluation

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
        task: Decodes outputs.
        loader: Its tiles with most different gap shares are shown.
        source: Where the surface is read for the background.
    """

    def __init__(self, folder: Path, task: HeightGaps, loader: EvalLoader, source: HeightRasters) -> None:
        self.folder = folder
        self.task = task
        self.loader = loader
        self.source = source
        self._shown: EvalLoader | None = None

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        is_best = state.best is not None and state.best.epoch == state.epoch
        if state.epoch != 1 and not is_best:
            return
        if self._shown is None:
            self._shown = EvalLoader(self.source, _spread(self.loader, _SAMPLES), self.task.heights_m, 1)
        sheet = self._sheet(state, self._shown)
        try:
            sheet.save(self.folder / f"epoch_{state.epoch:04d}.png")
        except OSError as error:
            state.note("warning", message=f"The picture of epoch {state.epoch} was not written: {error}")

    def _sheet(self, state: TrainState, batches: Iterable[Batch]) -> Image:
        panels: list[tuple[str, np.ndarray]] = []
        pixel_size_m = {scene.name: scene.grid.pixel_size_m for scene in self.source.scenes}
        with evaluation_mode(state.model), torch.inference_mode():
            for batch in batches:
                on_device = batch.to(state.device)
                outputs = state.model(on_device.image, on_device.condition)
                said = self.task.decode(outputs, self.task.heights_m).probs > self.task.probability_threshold
                true = self.task.target(batch).numpy()
                for index, place in enumerate(batch.where):
                    valid = batch.valid[index].numpy()
                    surface = self.source.surface(place.scene, place.window)
                    background = shade(surface, pixel_size_m[place.scene])
                    truth, _ = overlay_heights(background, true[index] & valid)
                    mapped, _ = overlay_heights(background, said[index].cpu().numpy() & valid)
                    panels += [(_title(place), background), ("true gaps", truth), ("mapped gaps", mapped)]
        heights = self.task.heights_m
        entries = [(f"below {h:g} m", color) for h, color in zip(heights, height_colors(len(heights)), strict=True)]
        return contact_sheet(panels, columns=3, entries=entries)


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


def write_final_report(folder: RunFolder, parts: Parts, evaluation: Evaluation, lines: Sequence[str]) -> None:
    """The page with the final numbers."""
    _write_report(folder, parts, evaluation, lines)


def _write_report(
    folder: RunFolder, parts: Parts, evaluation: Evaluation | None = None, lines: Sequence[str] = ()
) -> None:
    import PIL.Image

    record = folder.record.load()
    pictures = sorted(folder.samples.glob("epoch_*.png"))
    shown: list[tuple[str, Image]] = []
    if pictures:
        epoch = int(pictures[-1].stem.rpartition("_")[2])
        shown.append(
            (f"Validation tiles after epoch {epoch}: surface, true gaps, mapped gaps.", PIL.Image.open(pictures[-1]))
        )
    experiment = parts.experiment
    model = experiment.model
    write_run_report(
        folder.report,
        title=experiment.name,
        history=History(folder.history).entries,
        heights_m=experiment.task.heights_m,
        facts={
            "status": "training" if evaluation is None else "finished",
            "started": str(record.get("started", "")),
            "model": f"{model.kind}, {model.base_channels} base channels, depth {model.depth}",
            "device": f"{record.get('device', '')}, {record.get('precision', '')}",
            "pixel size": ", ".join(
                f"{size:g} m" for size in sorted({s.grid.pixel_size_m for s in parts.source.scenes})
            ),
            "split": parts.split.summary(),
        },
        evaluation=evaluation,
        pictures=shown,
        commands=[line.partition("Next: ")[2] for line in lines if line.startswith("Next: ")],
        notes=[*parts.notes, *(line for line in lines if not line.startswith("Next: "))],
    )


def _spread(loader: EvalLoader, count: int) -> list[Place]:
    """The tiles at even steps between the least and the most gap at the middle height."""
    shares: list[float] = []
    places: list[Place] = []
    for batch in loader:
        assert batch.condition is not None  # the loader asks all heights
        height = batch.condition[:, batch.condition.shape[1] // 2, None, None]
        below = ((batch.target < height) & batch.valid).sum(dim=(1, 2))
        shares += (below / batch.valid.sum(dim=(1, 2)).clamp(min=1)).tolist()
        places += batch.where
    order = np.argsort(shares, kind="stable")
    steps = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [places[order[step]] for step in np.unique(steps)]


def _title(place: Place) -> str:
    return f"{place.scene} {place.window.row}, {place.window.col}"

"""SavePredictions: what the model says of the validation images, as files, every few epochs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright.config.task import EXCLUSIVE
from maskwright.tasks.interface import Task
from maskwright.training.callback import Callback
from maskwright.training.loop import EvalBatches
from maskwright.training.memory import pieces
from maskwright.training.state import TrainState
from maskwright.training.validation import evaluation_mode
from maskwright.types import Batch, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SavePredictions"]


class SavePredictions(Callback):
    """Writes a file for each validation image, or tile of one, to ``epoch_0005/scene_r0_c256.png``.

    Classes that exclude one another: their ids. One yes-or-no question: 0 and 255. Several: a picture for each, its
    name at the end. Numbers, such as heights: a TIFF of float32. Nothing is cut out where a pixel does not count.

    Args:
        task: What outputs mean.
        loader: The validation images.
        folder: Made if missing.
        every: Epochs from one time to the next, 1 or more; the last epoch as well.
    """

    def __init__(self, task: Task, loader: EvalBatches, folder: Path, every: int) -> None:
        self.task = task
        self.loader = loader
        self.folder = folder
        self.every = every

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        if state.epoch % self.every and state.epoch != state.epochs:
            return
        folder = self.folder / f"epoch_{state.epoch:04d}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with state.predicting(), evaluation_mode(state.model), torch.no_grad():
                for batch in self.loader:
                    for piece in pieces(batch, state.micro_batch):
                        self._write(state, piece, folder)
        except OSError as error:  # a full disk must not end the training
            state.note("warning", message=f"The predictions of epoch {state.epoch} were not written: {error}")

    def _write(self, state: TrainState, batch: Batch, folder: Path) -> None:
        for name, values in self._pictures(state, batch):
            if values.dtype == np.float32:
                import tifffile

                tifffile.imwrite(folder / f"{name}.tif", values, compression="zlib")
            else:
                from PIL import Image

                Image.fromarray(values).save(folder / f"{name}.png")

    def _pictures(self, state: TrainState, batch: Batch) -> Iterator[tuple[str, NDArray[Any]]]:
        """Name and (H, W) uint8 or float32 of each file."""
        here = batch.to(state.device)
        heights = None if here.condition is None else here.condition[0].tolist()
        with state.updater.autocast():
            prediction = self.task.decode(state.model(here.image, here.condition), heights, here.valid)
        values = prediction.probs.float().cpu().numpy()
        if self.task.kind == "height":
            for place, sample in zip(batch.where, values, strict=True):
                yield _file_name(place), sample[0]
            return
        called = self.task.called(prediction).cpu().numpy()
        for place, sample in zip(batch.where, called, strict=True):
            if self.task.kind in EXCLUSIVE:
                yield _file_name(place), sample.argmax(axis=0).astype(np.uint8)
            elif len(sample) == 1:
                yield _file_name(place), sample[0].astype(np.uint8) * 255
            else:
                for column, mask in zip(self._columns(heights, len(sample)), sample, strict=True):
                    yield f"{_file_name(place)}_{_plain(column)}", mask.astype(np.uint8) * 255

    def _columns(self, heights: list[float] | None, count: int) -> list[str]:
        asked = [f"{height:g}m" for height in heights or ()]
        return asked if len(asked) == count else list(self.task.columns)


def _file_name(place: Place) -> str:
    return f"{_plain(place.scene)}_r{place.window.row}_c{place.window.col}"


def _plain(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", text).strip("_")

"""Pictures while a run works: what the model says of the same validation tiles, what it confuses, how that changed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.data.loaders import EvalLoader
from maskwright.pictures import contact_sheet, matrix_chart
from maskwright.training import Callback, StepOutcome, TrainState
from maskwright.types import Place
from maskwright.workflows.sample_pictures import sample_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.workflows.assemble import Parts

__all__ = ["Samples", "choose_tiles", "confusion_picture", "strip_picture"]

_TILES = 4
_FIRST_AFTER_S = 20.0  # an epoch may take an hour; whoever watches wants to see something within the first minute
_PICTURES_OF_A_RUN = 10  # besides those of epochs that were the best so far
_SHARE = 0.01  # of the time that pictures of best epochs may take
_MOST_LOOKED_AT = 200  # tiles of rasters are read to be chosen from
_MOST_COLUMNS = 8  # heights or classes with a confusion matrix of their own
_STRIP_MOMENTS = 5
_PANELS = "panels"
_SCREEN_DPI = (96, 96)


class Samples(Callback):
    """Draws the same validation tiles again and again, and what the validation confused.

    The first picture comes after twenty seconds or the first epoch, whichever is earlier; then one at every tenth of
    the run, and whenever an epoch is the best so far, as long as that takes less than a hundredth of the time. The end
    adds ``strip.png``: how the answers changed.

    Args:
        folder: Where ``epoch_0001.png`` (after so many epochs), ``confusion_0001.png`` and ``strip.png`` go.
        parts: What the run is made of.
    """

    def __init__(self, folder: Path, parts: Parts) -> None:
        self.folder = folder
        self.parts = parts
        self._loader: EvalLoader | None = None
        self._first_due_s: float | None = None
        self._due_s = 0.0  # of the next picture of a best epoch

    def on_train_begin(self, state: TrainState) -> None:
        drawn = any(self.folder.glob("epoch_*.png"))
        self._first_due_s = None if drawn or state.epoch else time.monotonic() + _FIRST_AFTER_S

    def on_step_end(self, state: TrainState, outcome: StepOutcome) -> None:
        if self._first_due_s is not None and time.monotonic() >= self._first_due_s:
            self._first_due_s = None
            self._draw(state)

    def on_epoch_end(self, state: TrainState, scores: Mapping[str, float]) -> None:
        self._first_due_s = None
        is_best = state.best is not None and state.best.epoch == state.epoch and time.monotonic() >= self._due_s
        every = max(1, state.epochs // _PICTURES_OF_A_RUN)
        if not (is_best or state.epoch in (1, state.epochs) or state.epoch % every == 0):
            return
        began_s = time.monotonic()
        self._draw(state)
        if any(name.startswith("val/") for name in scores):  # the counts are those of this epoch
            picture = confusion_picture(self.parts.task.columns, state.meter)
            if picture is not None:
                self._save(state, picture, f"confusion_{state.epoch:04d}.png")
        now_s = time.monotonic()
        self._due_s = now_s + (now_s - began_s) / _SHARE

    def on_train_end(self, state: TrainState) -> None:
        picture = strip_picture(sorted(self.folder.glob("epoch_*.png")))
        if picture is not None:
            self._save(state, picture, "strip.png")

    def _draw(self, state: TrainState) -> None:
        if self._loader is None:
            places = choose_tiles(self.parts, self.parts.split.tiles["val"], _TILES)
            self._loader = EvalLoader(self.parts.source, places, self.parts.task.heights_m, 1)
        with state.predicting():
            sheet = sample_sheet(state.model, self.parts, self._loader)
        self._save(state, sheet, f"epoch_{state.epoch:04d}.png")

    def _save(self, state: TrainState, picture: Image, name: str) -> None:
        from PIL.PngImagePlugin import PngInfo

        notes = PngInfo()
        notes.add_text(_PANELS, json.dumps(picture.info.get(_PANELS, [])))
        try:
            picture.save(self.folder / name, pnginfo=notes, dpi=picture.info.get("dpi", _SCREEN_DPI))
        except OSError as error:  # a full disk must not end the training
            state.note("warning", message=f"The picture {name} was not written: {error}")


def choose_tiles(parts: Parts, places: Sequence[Place], count: int) -> list[Place]:
    """Tiles at even steps between the least and the most of what is to be found; the same ones every time.

    Args:
        parts: What the run is made of.
        places: The tiles to choose from; of many tiles of rasters an even share is looked at.
        count: How many, fewer if there are no more.
    """
    if parts.experiment.data.kind != "images" and len(places) > _MOST_LOOKED_AT:
        steps = np.linspace(0, len(places) - 1, _MOST_LOOKED_AT).round().astype(int)
        places = [places[step] for step in steps]
    order = np.argsort([_amount(parts, place) for place in places], kind="stable")
    steps = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [places[order[step]] for step in np.unique(steps)]


def confusion_picture(columns: Sequence[str], meter: Any) -> Image | None:
    """What a validation confused: one matrix for classes that exclude each other, else yes and no for each column.

    Args:
        columns: Names of what is scored.
        meter: The meter of the task after a validation.

    Returns:
        The chart; None for tasks without classes, and where nothing was counted.
    """
    matrices = getattr(getattr(meter, "metrics", None), "matrices", None)
    if matrices is not None and matrices.ndim == 3:  # (N, K, K)
        return matrix_chart({"": (columns, matrices.sum(axis=0))}) if len(matrices) else None
    counts = getattr(meter, "counts", None)
    if counts is None or not len(counts):
        return None
    total: NDArray[np.int64] = np.asarray(counts).sum(axis=0)  # (K, 4)
    named = zip(columns[:_MOST_COLUMNS], total[:_MOST_COLUMNS].tolist(), strict=True)
    return matrix_chart({name: (("no", "yes"), ((tn, fp), (fn, tp))) for name, (tp, fp, fn, tn) in named})


def strip_picture(pictures: Sequence[Path]) -> Image | None:
    """How the answers for the same tiles changed: a row for each tile, moments of the run from left to right.

    Args:
        pictures: Files ``epoch_0001.png`` in their order, as :class:`Samples` writes them.

    Returns:
        The sheet; None with fewer than two pictures of the same tiles.
    """
    moments = [(int(path.stem.rpartition("_")[2]), path, _boxes_of(path)) for path in pictures]
    moments = [moment for moment in moments if moment[2] and moment[2] == moments[-1][2]]
    if len(moments) < 2:
        return None
    steps = np.unique(np.linspace(0, len(moments) - 1, _STRIP_MOMENTS).round().astype(int))
    chosen = [(moments[step][0], _panels_of(*moments[step][1:])) for step in steps]
    panels = []
    for tile in range(0, len(moments[-1][2]), 3):  # each tile has three panels: as it is, true, called
        before, true = chosen[-1][1][tile : tile + 2]
        panels += [("the tile", before), ("true", true)]
        panels += [(f"epoch {epoch}" if epoch else "in epoch 1", cut[tile + 2]) for epoch, cut in chosen]
    return contact_sheet(panels, columns=2 + len(chosen), panel_px=180)


def _boxes_of(path: Path) -> list[list[int]]:
    """Where the panels of a sheet lie; none if the file is no whole sheet."""
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            boxes: list[list[int]] = json.loads(picture.info.get(_PANELS, "[]"))
            picture.verify()
    except (OSError, ValueError, SyntaxError):  # torn by a kill; the others still tell the story
        return []
    return boxes


def _panels_of(path: Path, boxes: Sequence[Sequence[int]]) -> list[NDArray[np.uint8]]:
    import PIL.Image

    with PIL.Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return [pixels[top:bottom, left:right] for left, top, right, bottom in boxes]


def _amount(parts: Parts, place: Place) -> float:
    """Of a tile the pixels of foreground, the gap share at the middle height, or the mean height."""
    if parts.experiment.data.kind == "images":  # counted, not as a share: a sliver at an edge is nothing to look at
        counts = parts.images.class_counts(place)
        form = parts.images.classes.form
        found = (
            counts[:-1] if form == "multilabel" else counts[1:] if form == "binary" else counts[parts.things.start :]
        )
        return float(found.sum())
    _, canopy, valid = parts.rasters.sample(place.scene, place.window)
    heights = parts.task.heights_m
    values = canopy[valid]
    if not values.size:
        return 0.0
    return float((values < heights[len(heights) // 2]).mean() if heights else values.mean())

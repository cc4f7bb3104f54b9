"""Where a label and a model contradict each other: connected pixels, with how sure the model is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from maskwright.training.validation import evaluation_mode
from maskwright.types import Place, Window
from maskwright.workflows.evaluate_run import Scored
from maskwright.workflows.operating_point import answer

__all__ = ["Doubt", "contradictions", "doubts_of", "strongest"]

_TOLERANCE_PX = 2  # outlines of labels are not drawn finer
_AROUND = ndimage.generate_binary_structure(2, 2)


@dataclass(frozen=True)
class Doubt:
    """Connected pixels of which a label says one thing and a model another.

    Attributes:
        scene: Site or image.
        window: The smallest rectangle around them, in pixels of the scene.
        inside: (h, w) bool, the pixels in that rectangle.
        column: The height or class.
        labelled: True: the label has it and the model does not; False: the other way round.
        confidence: Mean probability 0..1 that the model gives to what it says.
        weight: Sum over the pixels of how sure the model is: 0 at a probability of one half, 1 at one. What is ranked.
        judged: Who judges: see :data:`~maskwright.workflows.suspects.JUDGES`.
        part: ``train`` or ``val``.
        rank: From 1; 0 before the ranking.
    """

    scene: str
    window: Window
    inside: NDArray[np.bool_]
    column: str
    labelled: bool
    confidence: float
    weight: float
    judged: str = ""
    part: str = ""
    rank: int = 0

    @property
    def area_px(self) -> int:
        """Pixels."""
        return int(self.inside.sum())

    @property
    def sentence(self) -> str:
        """What stands against what."""
        said = "labelled, and the model finds nothing" if self.labelled else "not labelled, and the model finds it"
        return f"{self.column}: {said}"


def contradictions(
    probs: NDArray[np.float32],
    called: NDArray[np.bool_],
    true: NDArray[np.bool_],
    valid: NDArray[np.bool_],
    *,
    tolerance_px: int = _TOLERANCE_PX,
) -> Iterator[tuple[NDArray[np.bool_], tuple[slice, slice], bool, float, float]]:
    """Contradictions of one column in one tile.

    What is labelled is found if the model calls something within the tolerance, and what is called is labelled if a
    label lies within it: outlines are forgiven, things that are missed or invented are not.

    Args:
        probs: (H, W) probability of the column.
        called: (H, W) what the model calls.
        true: (H, W) what is labelled.
        valid: (H, W) what counts.
        tolerance_px: See above.

    Yields:
        The pixels inside their rectangle, the rectangle, whether they are labelled, confidence, weight.
    """
    near_called, near_true = (_grown(mask & valid, tolerance_px) for mask in (called, true))
    for labelled, wrong in ((True, true & valid & ~near_called), (False, called & valid & ~near_true)):
        numbers, _ = ndimage.label(wrong, _AROUND)
        against = 1 - probs if labelled else probs
        for number, place in enumerate(ndimage.find_objects(numbers), start=1):
            inside = numbers[place] == number
            values = against[place][inside].astype(np.float64)
            sure = float(np.maximum(2 * values - 1, 0).sum())
            yield inside, place, labelled, float(values.mean()), sure


def _grown(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    if not radius_px or not mask.any():
        return mask
    grown: NDArray[np.bool_] = ndimage.binary_dilation(mask, _AROUND, iterations=radius_px)
    return grown


def doubts_of(
    scored: Scored,
    places: Sequence[Place],
    most: int,
    *,
    judged: str,
    part_of: Callable[[Place], str],
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Doubt]:
    """The strongest contradictions on some tiles.

    Args:
        scored: The model and the data.
        places: The tiles.
        most: So many are needed; a few more are given, since some may lie in the same place.
        judged: Kept with each.
        part_of: Tile to its part.
        progress: Called with (done, total, what).
    """
    parts, found = scored.parts, list[Doubt]()
    columns = parts.task.columns
    things = parts.things if parts.experiment.data.kind == "images" else range(len(columns))
    device = next(scored.model.parameters()).device
    loader = scored.loader(places)
    with evaluation_mode(scored.model), torch.inference_mode():
        for done, batch in enumerate(loader, start=1):
            batch = batch.to(device)
            prediction = answer(scored.model, parts.task, batch, parts.heights_m, scored.point.temperature)
            called, true = scored.point.called(parts.task, prediction), parts.task.target(batch).bool()
            arrays = [tensor.cpu().numpy() for tensor in (prediction.probs, called, true, batch.valid)]
            for place, probs, said, label, valid in zip(batch.where, *arrays, strict=True):
                for k in things:
                    for inside, (rows, cols), labelled, confidence, weight in contradictions(
                        probs[k], said[k], label[k], valid
                    ):
                        window = Window(place.window.row + rows.start, place.window.col + cols.start, *inside.shape)
                        one = Doubt(place.scene, window, inside, columns[k], labelled, confidence, weight)
                        found.append(replace(one, judged=judged, part=part_of(place)))
            if len(found) > 8 * most + 1000:
                found = _first(found, 4 * most + 200)
            if progress is not None:
                progress(done, len(loader), f"looking at {judged}")
    return _first(found, 4 * most + 200)


def strongest(doubts: Sequence[Doubt], most: int) -> list[Doubt]:
    """The first of a ranking by weight; of several in one place (other heights, other classes) only the strongest."""
    kept: list[Doubt] = []
    for one in _first(doubts, len(doubts)):
        if len(kept) == most:
            break
        if one.weight > 0 and not any(_same_place(one, other) for other in kept):
            kept.append(replace(one, rank=len(kept) + 1))
    return kept


def _first(doubts: Sequence[Doubt], most: int) -> list[Doubt]:
    def order(one: Doubt) -> tuple[float, str, int, int, str]:
        return -one.weight, one.scene, one.window.row, one.window.col, one.column

    return sorted(doubts, key=order)[:most]


def _same_place(one: Doubt, other: Doubt) -> bool:
    """Whether the rectangles of two share half of the smaller one."""
    if one.scene != other.scene:
        return False
    shared = one.window.intersection(other.window)
    if shared is None:
        return False
    smaller = min(window.height * window.width for window in (one.window, other.window))
    return 2 * shared.height * shared.width >= smaller

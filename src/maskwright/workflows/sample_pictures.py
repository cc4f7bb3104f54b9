"""Pictures of what a model says beside what is true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from maskwright.pictures import contact_sheet, height_colors, overlay_heights, overlay_mask, series_colors, shade
from maskwright.pictures.colors import RGB
from maskwright.training.validation import evaluation_mode
from maskwright.types import Batch, Place
from maskwright.workflows.operating_point import OperatingPoint, answer

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.workflows.assemble import Parts

__all__ = ["sample_sheet"]

Rgb = NDArray[np.uint8]
Panel = tuple[str, Rgb]

_ALPHA = 0.5
_ONE: RGB = (213, 94, 0)


def sample_sheet(
    model: nn.Module, parts: Parts, batches: Iterable[Batch], point: OperatingPoint | None = None
) -> Image:
    """Three pictures for each tile: as it is, what is true, what the model says.

    Args:
        model: The network; its mode is restored afterwards.
        parts: What the run is made of.
        batches: The tiles.
        point: Where probabilities are cut; unset: where the settings say.
    """
    task = parts.task
    point = point or OperatingPoint.fixed(task, parts.experiment.metrics.probability_threshold)
    device = next(model.parameters()).device
    panels: list[Panel] = []
    with evaluation_mode(model), torch.inference_mode():
        for batch in batches:
            on_device = batch.to(device)
            prediction = answer(model, task, on_device, task.heights_m, point.temperature)
            if task.kind == "height":
                said, true = prediction.probs, task.target(on_device)
            else:
                said, true = point.called(task, prediction), task.target(on_device)
            arrays = said.cpu().numpy(), true.cpu().numpy(), batch.valid.cpu().numpy()
            for place, one_said, one_true, valid in zip(batch.where, *arrays, strict=True):
                panels += _panels(parts, place, one_said, one_true, valid)
    return contact_sheet(panels, columns=3, entries=_entries(parts))


def _panels(
    parts: Parts, place: Place, said: NDArray[Any], true: NDArray[Any], valid: NDArray[np.bool_]
) -> list[Panel]:
    title = f"{place.scene} {place.window.row}, {place.window.col}"
    if parts.task.kind == "height":
        top = max(float(true[0][valid].max(initial=0.0)), 1.0)
        background = _background(parts, place)
        truth, mapped = (_height_picture(values[0], valid, top) for values in (true, said))
        return [(title, background), (f"true height, 0 to {top:.0f} m", truth), ("mapped height", mapped)]
    background = _background(parts, place)
    names = ("true gaps", "mapped gaps") if parts.task.kind == "height_gaps" else ("true", "called")
    painted = [_painted(parts, background, masks & valid) for masks in (true, said)]
    return [(title, background), (names[0], painted[0]), (names[1], painted[1])]


def _background(parts: Parts, place: Place) -> Rgb:
    """The picture itself, or the relief of its surface; grey where nothing counts."""
    if parts.experiment.data.kind == "images":
        return parts.images.picture(place.scene, place.window)
    sizes = {scene.name: scene.grid.pixel_size_m for scene in parts.source.scenes}
    return shade(parts.rasters.surface(place.scene, place.window), sizes[place.scene])


def _painted(parts: Parts, background: Rgb, masks: NDArray[np.bool_]) -> Rgb:
    if parts.task.kind == "height_gaps":
        return overlay_heights(background, masks)[0]
    painted = background
    for k, color in _class_colors(parts).items():
        painted = overlay_mask(painted, masks[k], color, _ALPHA)
    return painted


def _height_picture(values: NDArray[Any], valid: NDArray[np.bool_], top: float) -> Rgb:
    """White at the ground, dark green at ``top`` metres; grey where not measured."""
    share = np.clip(values / top, 0, 1)[..., None]
    low, high = np.array((250, 250, 245.0)), np.array((13, 84, 52.0))
    picture: Rgb = np.rint(low + share * (high - low)).astype(np.uint8)
    picture[~valid] = 190
    return picture


def _class_colors(parts: Parts) -> dict[int, RGB]:
    """A colour for each column that is a thing; the background is not painted."""
    columns, things = parts.task.columns, parts.things
    colors = [_ONE] if len(columns) == 1 else series_colors([f"class {columns[k]}" for k in things])
    return dict(zip(things, colors, strict=True))


def _entries(parts: Parts) -> list[tuple[str, RGB]]:
    task = parts.task
    if task.kind == "height_gaps":
        heights = task.heights_m
        return [(f"below {h:g} m", color) for h, color in zip(heights, height_colors(len(heights)), strict=True)]
    if task.kind == "height":
        return []
    return [(task.columns[k], color) for k, color in _class_colors(parts).items()]

"""Training samples before and after augmentation, with file, window, normalisation and what was done to each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.pictures import AugmentedSample, augmented_sheet
from maskwright.workflows.assemble import Parts, loaders_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from maskwright.types import Batch

__all__ = ["augmented_samples", "draw_augmented", "said"]

_GREY = 235  # where nothing counts


def draw_augmented(parts: Parts, count: int) -> tuple[Image, list[str]]:
    """A sheet of the first training samples of the first epoch, and a line on each.

    Args:
        parts: What the training is made of.
        count: Samples drawn; fewer if an epoch has fewer.
    """
    samples = augmented_samples(parts, count)
    title = "Before and after: the first training samples"
    return augmented_sheet(samples, title=title), [sample.text for sample in samples]


def augmented_samples(parts: Parts, count: int) -> list[AugmentedSample]:
    """The first training samples of the first epoch, as they lie in the data and as the network is shown them."""
    train, _ = loaders_of(parts)
    files = {scene.name: scene.files[0].name if scene.files else scene.name for scene in parts.source.scenes}
    known: Any = parts.source.normaliser
    normaliser = "nothing" if known is None else said(known.to_dict())
    samples: list[AugmentedSample] = []
    for batch in train.batches(0):
        truth = _marked(parts, batch)
        for index in range(len(batch)):
            draw = train.plan.draw(0, len(samples))
            text = f"{files[draw.place.scene]}\n{said(draw.describe())}\nnormalised by {normaliser}"
            samples.append(_sample(parts, batch, index, truth[index], draw.place, text))
            if len(samples) == count:
                return samples
    return samples


def _sample(parts: Parts, batch: Batch, index: int, marked: NDArray[Any], place: Any, text: str) -> AugmentedSample:
    image, target, valid = parts.source.sample(place.scene, place.window)
    before = target != 0
    if batch.condition is not None:
        before = valid & (target < float(batch.condition[index, 0]))
    elif parts.experiment.task.kind == "height":
        before = np.zeros_like(valid)
    limits = _limits(image, valid)
    changed, counted = batch.image[index].cpu().numpy(), batch.valid[index].cpu().numpy()
    return AugmentedSample(
        before=_shown(image, valid, limits),
        after=_shown(changed, counted, limits),
        mask_before=before,
        mask_after=marked,
        valid_after=counted,
        text=text,
    )


def _marked(parts: Parts, batch: Batch) -> NDArray[Any]:
    """(B, H, W): what is marked in each sample of a batch."""
    if batch.condition is not None:
        found: NDArray[Any] = (parts.task.target(batch)[:, 0] & batch.valid).cpu().numpy()
    elif parts.experiment.task.kind == "height":
        found = np.zeros(tuple(batch.valid.shape), np.bool_)
    else:
        found = batch.target.cpu().numpy()
    return found


def _limits(image: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(2, C) percentiles 1 and 99 of each band, so that before and after are shown on one scale."""
    if not valid.any():
        return np.stack([np.zeros(len(image)), np.ones(len(image))])
    low, high = np.percentile(image[:, valid], (1, 99), axis=1)
    return np.stack([low, np.maximum(high, low + 1e-6)])


def _shown(image: NDArray[Any], valid: NDArray[np.bool_], limits: NDArray[np.float64]) -> NDArray[np.uint8]:
    bands = [0, 1, 2] if len(image) >= 3 else [0, 0, 0]
    low, high = limits[:, bands, None, None]
    level = np.clip((image[bands] - low) / (high - low), 0, 1) * 255
    rgb = np.where(valid, level, _GREY).astype(np.uint8)
    return np.ascontiguousarray(rgb.transpose(1, 2, 0))


def said(values: Mapping[str, Any]) -> str:
    """Plain values as a short text: ``turns 2, zoom 1.1``; what is none, off or empty is left out."""
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items() if not _is_nothing(value))


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, Mapping | list | tuple) and not value)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"({said(value)})"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return str(value)

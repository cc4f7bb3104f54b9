"""Random changes of a batch of images on its device: geometry in one resampling, then light.

What happens to a sample depends on its own draw alone, bit for bit: never on its neighbours in the batch. Images come
normalised. Changes of light are told for values in 0..1, so each changed sample is brought there and back by one linear
step for each band; samples whose light is left alone keep every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from maskwright.data.augment import oriented
from maskwright.data.image_augment_light import change_light
from maskwright.data.image_augment_warp import warp_sample
from maskwright.data.sampling import Draw, ImageAugment
from maskwright.errors import DataError, ShapeError
from maskwright.types import Batch

__all__ = ["ImageChanger", "UnitScale", "augment_images", "color_bands", "unit_scale"]

_COLORS = (("red", "r"), ("green", "g"), ("blue", "b"))


@dataclass(frozen=True, slots=True)
class UnitScale:
    """From normalised values to 0..1 and back: ``value * gain + offset``, band by band.

    Attributes:
        gain: (C,) positive.
        offset: (C,).
        clip: True if stored values end at 0 and 1, so that changed ones are cut there.
    """

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    clip: bool = True


def unit_scale(normaliser: Any, largest: float | None, in_channels: int) -> UnitScale:
    """How normalised values stand to 0..1.

    Whole numbers are divided by the largest of their type. Of other values 0..1 is the range that normalisation makes:
    0..1 itself where values are stretched to it, two deviations to either side where the mean is taken out, the range
    of the percentiles 1 to 99 around the median for robust (half of that for adaptive); these are not cut.

    Args:
        normaliser: A BandNormaliser with ``kind``, ``shift`` and ``scale``, or one that stretches each tile.
        largest: Largest value of the stored type; None for fractions.
        in_channels: Bands.
    """
    kind, shift = getattr(normaliser, "kind", "none"), getattr(normaliser, "shift", None)
    if shift is not None and largest is not None:
        gain = tuple(float(scale) / largest for scale in normaliser.scale)
        return UnitScale(gain, tuple(float(value) / largest for value in shift))
    gain_one, offset_one = {"standard": (0.25, 0.5), "robust": (1.0, 0.5), "adaptive": (0.5, 0.5)}.get(kind, (1.0, 0.0))
    return UnitScale((gain_one,) * in_channels, (offset_one,) * in_channels, clip=shift is None)


def color_bands(band_names: Sequence[str], in_channels: int) -> tuple[int, int, int] | None:
    """The bands that are red, green and blue: all of three, or the first three of more if they are named so."""
    if in_channels == 3:
        return 0, 1, 2
    names = [str(name).strip().lower() for name in band_names[:3]]
    named = len(names) == 3 and all(name in words for name, words in zip(names, _COLORS, strict=True))
    return (0, 1, 2) if named else None


class ImageChanger:
    """What a :class:`maskwright.data.loaders.TrainLoader` of images calls for each batch.

    Args:
        augment: What may be changed; looked at for what the bands do not allow.
        in_channels: Bands of the image.
        band_names: Their names.
        normaliser: What made the batch's values; see :func:`unit_scale`.
        largest: Largest value of the stored type; None for fractions.

    Raises:
        DataError: If colours are to be changed and red, green and blue are not known.
    """

    def __init__(
        self,
        augment: ImageAugment,
        *,
        in_channels: int,
        band_names: Sequence[str] = (),
        normaliser: Any = None,
        largest: float | None = None,
    ) -> None:
        self.unit = unit_scale(normaliser, largest, in_channels)
        self.colors = color_bands(band_names, in_channels)
        if augment.changes_color and self.colors is None:
            raise DataError(
                f"data.augment.color_p: hue and saturation need the bands red, green and blue, and these images have "
                f"{in_channels} ({', '.join(map(str, band_names)) or 'without names'}). Set color_p: 0, or choose "
                "three bands in data.bands."
            )

    def __call__(self, batch: Batch, draws: Sequence[Draw]) -> Batch:
        """As :func:`augment_images`."""
        return augment_images(batch, draws, unit=self.unit, colors=self.colors)


def augment_images(
    batch: Batch, draws: Sequence[Draw], *, unit: UnitScale, colors: tuple[int, int, int] | None = None
) -> Batch:
    """Change every sample as its draw says.

    Mirror images and quarter turns alone are exact. Everything else that moves pixels is one resampling: the image
    bilinear between pixels that count, target and valid from the nearest pixel; what comes from outside does not count.
    Light changes only where pixels count; the others stay exactly 0. Instances follow.

    Args:
        batch: image (B, C, H, W) float32 normalised, target (B, H, W), valid (B, H, W) bool; 0 where not valid. Its
            tensors may be reused for the result.
        draws: One for each sample.
        unit: How the image's values stand to 0..1.
        colors: The bands that are red, green and blue; needed for hue and saturation.

    Raises:
        ShapeError: If draws and samples differ in number, or tiles to be turned are not square.
    """
    height, width = batch.image.shape[-2:]
    if len(draws) != len(batch):
        raise ShapeError(f"{len(draws)} draws were given for a batch of {len(batch)} samples; one for each is needed.")
    if height != width and any(draw.turns % 2 for draw in draws):
        raise ShapeError(f"Tiles of {height} x {width} px cannot be turned by 90 degrees; use square tiles.")
    image, target, valid = _placed(batch, draws)
    for index, draw in enumerate(draws):
        if draw.image is not None and draw.image.changes_light:
            change_light(image[index], valid[index], draw.image, draw.seed, unit.gain, unit.offset, unit.clip, colors)
    return replace(batch, image=image, target=target, valid=valid, instances=_moved(batch.instances, draws))


def _placed(batch: Batch, draws: Sequence[Draw]) -> tuple[Tensor, Tensor, Tensor]:
    if not any(_moves(draw) for draw in draws):
        return batch.image, batch.target, batch.valid
    before = batch.image, batch.target, batch.valid
    after = torch.empty_like(batch.image), torch.empty_like(batch.target), torch.empty_like(batch.valid)
    for index, draw in enumerate(draws):
        sample = before[0][index], before[1][index], before[2][index]
        out = after[0][index], after[1][index], after[2][index]
        if draw.is_warped:
            warp_sample(sample, draw, out)
            continue
        for place, values in zip(out, sample, strict=True):
            place.copy_(oriented(values, draw))
    return after


def _moves(draw: Draw) -> bool:
    return draw.is_warped or draw.flip_rows or draw.flip_cols or draw.turns % 4 != 0


def _moved(instances: list[Any] | None, draws: Sequence[Draw]) -> list[Any] | None:
    """Objects that say themselves how they move, as :class:`maskwright.data.instance_targets.InstanceTruth`."""
    if instances is None:
        return None
    pairs = zip(instances, draws, strict=True)
    return [objects.moved(draw) if objects is not None and _moves(draw) else objects for objects, draw in pairs]

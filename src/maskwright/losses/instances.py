"""What tasks of objects learn: centres and offsets, classes of pixels, crown diameters and density.

Each function sums over a sample what its maps say; what a sample's label does not tell adds exactly nothing. Sums are
divided by weights counted beside them, so that grouping batches changes nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from maskwright.errors import ShapeError
from maskwright.losses.terms import Term, Weight

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MULTITASK_WEIGHTS",
    "centres_by_sample",
    "class_by_sample",
    "crown_by_sample",
    "density_by_sample",
    "multitask_term",
    "offsets_by_sample",
]

MULTITASK_WEIGHTS: dict[str, Weight] = {
    "instance": "samples_with_objects",
    "semantic": "pixels_with_class",
    "crown": "pixels_with_diameter",
    "density": "pixels_with_density",
}
"""What each term is an average over."""

_NEAR = 4  # power by which pixels near a centre are forgiven (CornerNet, arXiv:1808.01244)
_SIGMA_PX = 2.0  # width of bells for which the powers were chosen
_EASY = 2  # power by which easy pixels are played down


def centres_by_sample(logits: Tensor, centre: Tensor, valid: Tensor, sigma_px: float = _SIGMA_PX) -> Tensor:
    """Focal loss of the heat map of centres, a mean over the objects of each sample (at least 1).

    An object has one pixel that is its centre, but as many that are not as its picture is large. So that the same scene
    at another scale has the same loss, a centre counts as many pixels as its bell is larger than one of 2 px.

    Args:
        logits: (B, I, H, W) float, before the sigmoid.
        centre: (B, I, H, W) bells 0..1, exactly 1 at the pixels that hold a centre.
        valid: (B, H, W) bool; other pixels add nothing.
        sigma_px: Width of the bells.

    Returns:
        (B,).
    """
    _fit(logits, centre)
    share = (sigma_px / _SIGMA_PX) ** 2
    counts = valid.unsqueeze(1)
    is_centre = centre >= 1
    probs = torch.sigmoid(logits)
    hit = -((1 - probs) ** _EASY) * F.logsigmoid(logits)
    miss = -((1 - centre) ** _NEAR) * probs**_EASY * F.logsigmoid(-logits)
    cost = torch.where(is_centre, share * hit, miss).masked_fill(~counts, 0)
    objects = (is_centre & counts).sum((1, 2, 3)).clamp(min=1)
    return cost.sum((1, 2, 3)) / (share * objects)


def offsets_by_sample(offset: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Mean absolute error of the offsets over the pixels of objects of each sample.

    Args:
        offset: (B, 2, H, W) float.
        target: (B, 2, H, W) in the same unit.
        inside: (B, H, W) bool, pixels whose object is known.

    Returns:
        (B,); 0 where no pixel is inside.
    """
    _fit(offset, target)
    cost = (offset - target).abs().sum(1).masked_fill(~inside, 0)
    return cost.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def class_by_sample(logits: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Cross entropy summed over the pixels of each sample that count.

    Args:
        logits: (B, S, H, W) float, before the softmax.
        target: (B, H, W) int64 class ids.
        counts: (B, H, W) bool.

    Returns:
        (B,).
    """
    cost = F.cross_entropy(logits, target.masked_fill(~counts, 0), reduction="none")
    return cost.masked_fill(~counts, 0).sum((1, 2))


def crown_by_sample(diameter: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Squared error of crown diameters summed over the pixels where one is known.

    Args:
        diameter: (B, 1, H, W) float.
        target: (B, H, W) in the same unit.
        known: (B, H, W) bool.

    Returns:
        (B,).
    """
    return (diameter[:, 0] - target).square().masked_fill(~known, 0).sum((1, 2))


def density_by_sample(density: Tensor, target: Tensor, counts: Tensor, sigma_px: float) -> Tensor:
    """Squared error of the density summed over the pixels that count, in units of the peak of one object.

    Args:
        density: (B, 1, H, W) float, objects per pixel.
        target: (B, H, W) objects per pixel.
        counts: (B, H, W) bool.
        sigma_px: Width of the bells; a lone object has a peak of ``1 / (2 pi sigma_px^2)``.

    Returns:
        (B,).
    """
    peak = 1.0 / (2.0 * math.pi * sigma_px**2)
    return ((density[:, 0] - target) / peak).square().masked_fill(~counts, 0).sum((1, 2))


def multitask_term(name: str) -> Term:
    """The place of a term in the weighted sum; its own sums must be given to the sum beside them."""
    return Term(_of_maps, MULTITASK_WEIGHTS[name])


def _of_maps(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    raise ShapeError(
        f"Terms of objects are taken of maps by name, not of logits {tuple(logits.shape)}. Give their sums: "
        "given={'instance': centres_by_sample(...)}."
    )


def _fit(outputs: Tensor, target: Tensor) -> None:
    if outputs.shape != target.shape:
        raise ShapeError(f"Outputs are {tuple(outputs.shape)} and what is true {tuple(target.shape)}; they must agree.")

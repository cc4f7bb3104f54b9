"""What meters of channels share: valid pixels or masks channel by channel, and results by channel with their mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskwright.errors import ModelError, ShapeError
from maskwright.metrics.counts import as_bool
from maskwright.pixels import require_same_hw

__all__ = ["Channel", "Masks", "channels_of", "masks_of", "require_fitting", "require_probabilities", "with_means"]

_PIECE_PX = 1 << 18  # sums of a piece in 2^-30 stay below 2^53: exact in float64


class Channel(NamedTuple):
    """Pixels that count of one channel: ``values`` (n,) float and ``positive`` (n,) bool."""

    number: int
    values: NDArray[Any]
    positive: NDArray[np.bool_]


class Masks(NamedTuple):
    """One image of one channel: ``called`` and ``true`` (H, W) bool, False where not ``valid``."""

    number: int
    called: NDArray[np.bool_]
    true: NDArray[np.bool_]
    valid: NDArray[np.bool_]


def channels_of(values: Tensor, target: Tensor, valid: Tensor, channels: int, name: str) -> Iterator[Channel]:
    """Pixels that count, in pieces of bounded size.

    Args:
        values: (B, K, H, W) float, probabilities or logits; half precision becomes float32.
        target: (B, K, H, W) bool, or numbers 0 and 1.
        valid: (B, H, W) bool; other pixels are left out and may hold anything.
        channels: K.
        name: What messages call ``values``.

    Raises:
        ShapeError: If sizes do not fit together.
        DataError: If the target holds something else than 0 and 1.
    """
    require_fitting(values, target, valid, channels, name)
    array = (values if values.element_size() >= 4 else values.float()).detach().cpu().numpy()
    true, counted = as_bool(target).cpu().numpy(), valid.cpu().numpy()
    for k in range(channels):
        said, positive = array[:, k][counted], true[:, k][counted]
        for start in range(0, said.size, _PIECE_PX):
            piece = slice(start, start + _PIECE_PX)
            yield Channel(k, said[piece], positive[piece])


def masks_of(pred: Tensor, target: Tensor, valid: Tensor, channels: int) -> Iterator[Masks]:
    """Masks of each image and channel.

    Args:
        pred: (B, K, H, W) bool, True where called; numbers 0 and 1 are taken as well.
        target: (B, K, H, W) likewise, True where true.
        valid: (B, H, W) bool.
        channels: K.

    Raises:
        ShapeError: If sizes do not fit together.
        DataError: If a mask holds something else than 0 and 1.
    """
    require_fitting(pred, target, valid, channels, "pred")
    called, true = (as_bool(mask).detach().cpu().numpy() for mask in (pred, target))
    counted = valid.cpu().numpy()
    for b in range(len(called)):
        for k in range(channels):
            yield Masks(k, called[b, k] & counted[b], true[b, k] & counted[b], counted[b])


def with_means(each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Results of all channels: ``f1``, the mean over channels where it is defined, and ``f1@name`` for each."""
    results: dict[str, float] = {}
    for score in next(iter(each.values())):
        known = [scores[score] for scores in each.values() if not math.isnan(scores[score])]
        results[score] = math.fsum(known) / len(known) if known else math.nan
        results |= {f"{score}@{name}": scores[score] for name, scores in each.items()}
    return results


def require_probabilities(values: NDArray[Any]) -> None:
    """Check that all values lie in 0..1.

    Raises:
        ModelError: If one does not, or is NaN.
    """
    if not ((values >= 0) & (values <= 1)).all():
        raise ModelError("Values to be scored are not probabilities: some valid pixels lie outside 0..1 or are NaN.")


def require_fitting(values: Tensor, target: Tensor, valid: Tensor, channels: int, name: str) -> None:
    """Check that ``values`` and ``target`` are (B, K, H, W) and ``valid`` (B, H, W); nothing is broadcast.

    Args:
        values: What the model says.
        target: What is true.
        valid: Which pixels count.
        channels: K.
        name: What messages call ``values``.

    Raises:
        ShapeError: If sizes do not fit together.
    """
    require_same_hw(**{name: values, "target": target, "valid": valid})
    if values.ndim != 4 or values.shape != target.shape or values.shape[1] != channels or len(valid) != len(values):
        raise ShapeError(
            f"{name} {tuple(values.shape)}, target {tuple(target.shape)} and valid {tuple(valid.shape)} do not fit "
            f"together: (B, {channels}, H, W) twice and (B, H, W) are needed."
        )

"""How sure a model is of each pixel: the entropy of its probabilities, or how far several answers lie apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from maskwright.config.prediction import PredictionConfig
from maskwright.errors import PredictionError

__all__ = ["check_uncertainty", "entropy_bits", "uncertainty_names", "uncertainty_unit"]

FloatArray = npt.NDArray[np.float32]


def entropy_bits(probs: FloatArray, *, exclusive: bool) -> FloatArray:
    """Entropy in bits: 0 where the model is sure, the most where it cannot tell.

    Args:
        probs: (K, h, w), 0..1.
        exclusive: They are of classes that exclude each other and sum to 1.

    Returns:
        (1, h, w) in 0..log2 K for classes that exclude each other; else (K, h, w) in 0..1, that of yes or no.
    """
    bits = _surprise(probs)
    together: FloatArray = bits.sum(axis=0, keepdims=True) if exclusive else bits + _surprise(1 - probs)
    return together


def _surprise(probs: FloatArray) -> FloatArray:
    some = probs > 0
    logs = np.log2(probs, out=np.zeros_like(probs), where=some)
    bits: FloatArray = np.negative(probs * logs)
    return bits


def uncertainty_names(names: Sequence[str], kind: str, *, exclusive: bool) -> tuple[str, ...]:
    """Description of each band of the map of uncertainty."""
    if kind == "entropy" and exclusive:
        return ("entropy",)
    return tuple(f"{'entropy' if kind == 'entropy' else 'standard deviation'}, {name}" for name in names)


def uncertainty_unit(kind: str, *, metres: bool = False) -> str:
    """Unit of its values: ``bit``, ``m``, or ``1`` for a probability."""
    return "bit" if kind == "entropy" else "m" if metres else "1"


def check_uncertainty(settings: PredictionConfig, members: int, *, metres: bool = False) -> None:
    """Make sure that what is asked for can be told.

    Raises:
        PredictionError: If there is one answer only, which has no spread, or if it is metres, which have no entropy.
    """
    if settings.uncertainty == "spread" and members * settings.tta == 1:
        raise PredictionError(
            "prediction.uncertainty: spread is how far several answers lie apart, and there is one only. Average "
            "several models (--with) or views (--tta 8), or set prediction.uncertainty: entropy."
        )
    if settings.uncertainty == "entropy" and metres:
        raise PredictionError(
            "prediction.uncertainty: entropy is told of probabilities, and this model answers metres. Set "
            "prediction.uncertainty: spread, with several models (--with) or views (--tta 8)."
        )

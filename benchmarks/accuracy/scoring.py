"""One scorer for all: masks of whole held-out pictures, pixel against pixel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["score"]


def score(pairs: Iterable[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]) -> dict[str, Any]:
    """IoU of each output over all pixels of all pictures together, and their mean.

    Args:
        pairs: Found and true masks of a picture, (outputs, rows, columns) of 0 and 1.

    Returns:
        ``iou``: the mean; ``each``: of each output; nan where neither mask holds anything.
    """
    shared: Any = 0
    either: Any = 0
    for found, true in pairs:
        if found.shape != true.shape:
            raise ValueError(f"masks of {found.shape} were found where the truth is {true.shape}")
        one, other = found.astype(bool), true.astype(bool)
        shared = shared + (one & other).sum(axis=(1, 2))
        either = either + (one | other).sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        each = shared / either
    return {"iou": float(np.mean(each)), "each": [float(value) for value in each]}

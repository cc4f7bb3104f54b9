"""Which pixels count, and whether arrays fit together: shared by data, losses and metrics, so they cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import ShapeError

__all__ = ["IGNORE_INDEX", "measured", "require_same_hw", "require_same_shape"]

IGNORE_INDEX = 255
"""Class id of pixels that do not count, in masks on disk and in pairs given to foreign loops."""


class _Shaped(Protocol):
    @property
    def shape(self) -> Sequence[int]: ...


def measured(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """True where a value was measured: finite, and not the value that means "not measured".

    Args:
        values: Any shape, any number type.
        nodata: Value meaning "not measured"; None or NaN if there is none beside NaN itself. It is compared in the
            precision of ``values``, so a tag such as -3.4028234663852886e+38 finds its pixels in a float32 raster.

    Returns:
        Bool array of the shape of ``values``.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return np.ones(values.shape, dtype=np.bool_) if nodata is None else np.asarray(values != nodata)
    finite: NDArray[np.bool_] = np.isfinite(values)
    if nodata is None or not np.isfinite(nodata):
        return finite
    with np.errstate(over="ignore"):  # a tag beyond float32 becomes infinite there, and so do its pixels
        finite &= values != values.dtype.type(nodata)
    return finite


def require_same_hw(**arrays: _Shaped) -> None:
    """Check that all arrays cover the same rows and columns.

    Args:
        arrays: Arrays or tensors (..., H, W) by the name a reader knows them by.

    Raises:
        ShapeError: If the last two dimensions differ, or an array has fewer than two.
    """
    _require(arrays, 2, "rows and columns")


def require_same_shape(**arrays: _Shaped) -> None:
    """Check that all arrays have the same shape.

    Args:
        arrays: Arrays or tensors by the name a reader knows them by.

    Raises:
        ShapeError: If their shapes differ.
    """
    _require(arrays, None, "shape")


def _require(arrays: dict[str, _Shaped], last: int | None, what: str) -> None:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    compared = {shape if last is None else shape[-last:] for shape in shapes.values()}
    too_flat = last is not None and any(len(shape) < last for shape in shapes.values())
    if len(compared) > 1 or too_flat:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(
            f"These must have the same {what} but do not: {listed}. Cut them from the same window of the scene."
        )

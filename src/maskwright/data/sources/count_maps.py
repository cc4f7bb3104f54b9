"""Maps of points for counting: peaks at the centres, and a density whose sum is the count."""

from __future__ import annotations

import math

import numpy as np

from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError

__all__ = ["centre_map", "density_map"]

_REACH = 4.0  # deviations; beyond, a bell is below 0.04 % of its peak


def centre_map(points: np.ndarray, grid: Grid, sigma_px: float) -> np.ndarray:
    """A bell around each point, 1.0 at the pixel that holds it; where bells overlap the higher one.

    Args:
        points: (N, 2) x, y in pixels from the upper left corner.
        grid: Of the image.
        sigma_px: Deviation of the bells in pixels.

    Returns:
        (H, W) float32 in 0..1: ``max over points of exp(-d^2 / (2 sigma_px^2))``, d between pixel centres.

    Raises:
        DataError: If a point lies outside the image or ``sigma_px`` is not positive.
    """
    out = np.zeros((grid.height, grid.width), np.float32)
    for col, row in np.floor(_checked(points, grid, sigma_px)) + 0.5:
        rows, down = _bell(row, sigma_px, grid.height)
        cols, across = _bell(col, sigma_px, grid.width)
        place = out[rows, cols]
        np.maximum(place, (down[:, None] * across[None]).astype(np.float32), out=place)
    return out


def density_map(points: np.ndarray, grid: Grid, sigma_px: float) -> np.ndarray:
    """Objects per pixel: a bell around each point that adds up to 1 inside the image, also at its border.

    Args:
        points: (N, 2) x, y in pixels from the upper left corner.
        grid: Of the image.
        sigma_px: Deviation of the bells in pixels.

    Returns:
        (H, W) float32; its sum is N up to the rounding of float32.

    Raises:
        DataError: If a point lies outside the image or ``sigma_px`` is not positive.
    """
    out = np.zeros((grid.height, grid.width), np.float64)
    for x, y in _checked(points, grid, sigma_px):
        rows, down = _bell(y, sigma_px, grid.height)
        cols, across = _bell(x, sigma_px, grid.width)
        out[rows, cols] += (down / down.sum())[:, None] * (across / across.sum())[None]
    return out.astype(np.float32)


def _checked(points: np.ndarray, grid: Grid, sigma_px: float) -> np.ndarray:
    if not (math.isfinite(sigma_px) and sigma_px > 0):
        raise DataError(f"sigma_px is {sigma_px:g}. Give the width of the bells in pixels, for example 2.")
    places = np.asarray(points, np.float64).reshape(-1, 2)
    inside = ((places >= 0) & (places < np.array([grid.width, grid.height]))).all(axis=1)
    if not inside.all():
        x, y = places[~inside][0]
        raise DataError(
            f"{int((~inside).sum())} points lie outside the image of {grid.height} x {grid.width} pixels, the first at "
            f"x {x:g}, y {y:g}. Remove them."
        )
    return places


def _bell(centre: float, sigma_px: float, size: int) -> tuple[slice, np.ndarray]:
    """Pixels near a centre, and the bell's height there; the pixel that holds the centre is always among them."""
    reach = _REACH * sigma_px
    first = max(math.floor(centre - reach), 0)
    stop = min(math.floor(centre + reach) + 1, size)
    distance = (np.arange(first, stop) + 0.5 - centre) / sigma_px
    squared = distance**2
    return slice(first, stop), np.exp(-0.5 * (squared - squared.min())) if squared.min() > 1 else np.exp(-0.5 * squared)

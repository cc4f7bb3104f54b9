"""Bands derived from the surface: slope, aspect, altitude; the same in training and prediction, whatever the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from maskwright.data.sampling import Draw

__all__ = ["MARGIN_PX", "aspect_bands", "context_bands", "context_channels", "rotate_aspect"]

MARGIN_PX = 1  # pixels around a window that its slope looks at
_CHANNELS = {"slope": 1, "aspect": 2, "altitude": 1}
_ALTITUDE_M = 1000.0


def context_channels(context: Sequence[str]) -> int:
    """Bands these words add to an image: slope 1, aspect 2, altitude 1."""
    return sum(_CHANNELS[word] for word in context)


def aspect_bands(context: Sequence[str], first: int) -> tuple[int, int] | None:
    """Indices of the sine and cosine of the aspect if the derived bands begin at band ``first``; None without them."""
    if "aspect" not in context:
        return None
    band = first + context_channels(context[: list(context).index("aspect")])
    return band, band + 1


def context_bands(
    surface: np.ndarray,
    context: Sequence[str],
    pixel_size_m: float,
    valid: np.ndarray,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Derived bands of a window, in the order of ``context``.

    Slope and aspect follow Horn's formula over 3 x 3 pixels. Where one of the nine was not measured they are 0, and the
    pixel goes on to count. Slope is in degrees divided by 90. Aspect, the direction downhill, is two bands: its part to
    the right of the image (sine; east) and its part to the top (cosine; north), both 0 on flat ground. Altitude is the
    surface in metres divided by 1000, no reference taken out.

    Args:
        surface: (H + 2, W + 2) float32 metres: the window and one pixel around it, NaN where not measured.
        context: Words of ``slope``, ``aspect``, ``altitude``.
        pixel_size_m: Side of a pixel in metres.
        valid: (H, W) bool; the bands are 0 elsewhere.
        out: (bands, H, W) float32, written to if given.

    Source: Horn, B. K. P. (1981), Hill shading and the reflectance map, Proc. IEEE 69(1).
    """
    out = np.empty((context_channels(context), *valid.shape), np.float32) if out is None else out
    band = 0
    if "slope" in context or "aspect" in context:
        right, down, length = _gradient(surface, pixel_size_m)
    for word in context:
        if word == "slope":
            np.multiply(np.arctan(length.astype(np.float64)), 2.0 / np.pi, out=out[band], casting="unsafe")
        elif word == "aspect":
            sloping = length > 0
            out[band : band + 2] = 0.0
            np.divide(-right, length, out=out[band], where=sloping)
            np.divide(down, length, out=out[band + 1], where=sloping)
        else:
            np.divide(surface[1:-1, 1:-1], np.float32(_ALTITUDE_M), out=out[band])
        band += _CHANNELS[word]
    np.copyto(out, 0.0, where=~valid)
    return out


def _gradient(surface: np.ndarray, pixel_size_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rise to the right and downwards in metres per metre, and the length of both; 0 beside pixels not measured."""
    top, middle, bottom = surface[:-2], surface[1:-1], surface[2:]
    columns = top + (middle + middle) + bottom
    rows = surface[:, :-2] + (surface[:, 1:-1] + surface[:, 1:-1]) + surface[:, 2:]
    run = np.float32(8.0 * pixel_size_m)
    right = (columns[:, 2:] - columns[:, :-2]) / run
    down = (rows[2:] - rows[:-2]) / run
    unknown = ~(np.isfinite(right) & np.isfinite(down) & np.isfinite(middle[:, 1:-1]))
    right[unknown] = 0.0
    down[unknown] = 0.0
    return right, down, np.sqrt(right * right + down * down)


def rotate_aspect(image: Tensor, draw: Draw, bands: tuple[int, int]) -> None:
    """Turn the direction of the aspect as a draw has mirrored and turned the image; in place.

    Args:
        image: (C, H, W), its pixels mirrored and turned already.
        draw: What was done to it: ``flip_rows``, ``flip_cols``, then ``turns`` quarter turns counterclockwise.
        bands: Indices of sine and cosine.
    """
    east, north = bands
    if draw.flip_rows:
        image[north].neg_()
    if draw.flip_cols:
        image[east].neg_()
    turns = draw.turns % 4
    if turns % 2:
        exchanged = image[[north, east]]
        image[east], image[north] = exchanged[0], exchanged[1]
    if turns in (1, 2):
        image[east].neg_()
    if turns in (2, 3):
        image[north].neg_()

"""Colours that colour-blind people can tell apart, and that still differ when printed in grey."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence

__all__ = [
    "ACCENT",
    "BASELINES",
    "CATEGORICAL",
    "INK",
    "MUTED",
    "PAPER",
    "RGB",
    "class_colors",
    "height_colors",
    "hex_color",
    "series_colors",
]

RGB = tuple[int, int, int]

ACCENT: RGB = (36, 97, 140)
"""What the eye should find first: the model."""

BASELINES: tuple[RGB, ...] = ((214, 209, 199), (178, 172, 160), (143, 136, 124), (206, 168, 96), (110, 104, 94))
"""What stands beside the model, calm."""

CATEGORICAL: tuple[RGB, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (90, 90, 90),
)
"""Lines and classes without an order (Okabe and Ito, 2008)."""

INK: RGB = (43, 45, 48)
MUTED: RGB = (122, 124, 128)
PAPER: RGB = (255, 255, 255)

_RAMP: tuple[RGB, ...] = ((46, 9, 122), (126, 3, 168), (204, 71, 120), (240, 128, 78), (244, 176, 50))
_HEIGHT = re.compile(r"\d+(\.\d+)? m")


def class_colors(count: int, *, has_background: bool) -> list[RGB]:
    """A colour for each class; the background, class 0, is black."""
    found = count - has_background
    colors = [
        CATEGORICAL[i % len(CATEGORICAL)]
        if found <= len(CATEGORICAL)
        else _bytes(colorsys.hsv_to_rgb(i * 0.618034 % 1.0, 0.55 + 0.15 * (i % 3), 0.9 - 0.2 * (i // 3 % 2)))
        for i in range(found)
    ]
    return [(0, 0, 0), *colors] if has_background else colors


def _bytes(color: tuple[float, float, float]) -> RGB:
    red, green, blue = (round(255 * part) for part in color)
    return red, green, blue


def height_colors(count: int) -> list[RGB]:
    """Colours of ``count`` heights, lowest first and darkest: a gap at 2 m stands out from one at 10 m."""
    if count <= 1:
        return [_RAMP[1]] * count
    last = len(_RAMP) - 1
    return [_between(i * last / (count - 1)) for i in range(count)]


def series_colors(names: Sequence[str]) -> list[RGB]:
    """Colours of lines: the ramp of heights if all are heights ("5 m"), else colours without an order."""
    if names and all(_HEIGHT.fullmatch(name) for name in names):
        return height_colors(len(names))
    return [CATEGORICAL[i % len(CATEGORICAL)] for i in range(len(names))]


def hex_color(color: RGB) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _between(position: float) -> RGB:
    low = min(int(position), len(_RAMP) - 2)
    share = position - low
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True))
    return red, green, blue

from __future__ import annotations

from itertools import pairwise

import pytest

from maskwright.pictures import height_colors, hex_color, series_colors
from maskwright.pictures.colors import CATEGORICAL, RGB, class_colors


def luminance(color: RGB) -> float:
    """Relative luminance of sRGB (WCAG)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_lower_heights_are_darker_so_grey_prints_keep_their_order(count: int) -> None:
    light = [luminance(color) for color in height_colors(count)]

    assert len(light) == count
    assert light == sorted(light)
    assert all(b - a > 0.02 for a, b in pairwise(light))


def test_no_heights_have_no_colours() -> None:
    assert height_colors(0) == []


def test_series_named_as_heights_take_the_ramp() -> None:
    assert series_colors(["2 m", "2.5 m", "10 m"]) == height_colors(3)
    assert series_colors(["train/loss", "val/loss"]) == list(CATEGORICAL[:2])
    assert series_colors(["2 m", "mean"]) == list(CATEGORICAL[:2])


def test_more_series_than_colours_begin_again() -> None:
    assert series_colors([str(n) for n in range(9)])[7] == CATEGORICAL[0]


def test_colours_are_written_for_the_web() -> None:
    assert hex_color((0, 15, 255)) == "#000fff"


def test_classes_have_colours_of_their_own_and_the_background_is_black() -> None:
    assert class_colors(3, has_background=True) == [(0, 0, 0), *CATEGORICAL[:2]]
    assert class_colors(2, has_background=False) == list(CATEGORICAL[:2])
    many = class_colors(40, has_background=True)
    assert len(set(many)) == 40
    assert all(0 <= part <= 255 for color in many for part in color)

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from PIL.Image import Image

from maskwright.errors import ShapeError
from maskwright.pictures import agreement_chart, bars_chart, height_colors, line_chart, matrix_chart
from maskwright.pictures.charts import _spread
from maskwright.pictures.colors import ACCENT, CATEGORICAL, RGB


def painted(image: Image, color: RGB) -> np.ndarray:
    """Rows and columns of the pixels that have exactly this colour."""
    return np.argwhere((np.asarray(image) == color).all(axis=-1))


def test_every_line_is_drawn_in_its_colour() -> None:
    image = line_chart([1, 2, 3], {"train/loss": [3, 2, 1], "val/loss": [3.5, 2.5, 2]}, x="epoch", y="loss")

    assert len(painted(image, CATEGORICAL[0])) > 200
    assert len(painted(image, CATEGORICAL[1])) > 200


def test_heights_take_the_colours_of_heights() -> None:
    image = line_chart([1, 2], {"2 m": [0.1, 0.4], "10 m": [0.2, 0.6]})

    assert all(len(painted(image, color)) > 200 for color in height_colors(2))


def test_a_label_stands_level_with_the_end_of_its_line() -> None:
    image = line_chart([0, 1], {"low": [0.5, 0.1], "high": [0.5, 0.9]})

    for color in CATEGORICAL[:2]:
        spots = painted(image, color)
        line, label = spots[spots[:, 1] < 0.9 * image.width], spots[spots[:, 1] > 0.95 * image.width]
        end = line[line[:, 1] == line[:, 1].max()][:, 0].mean()
        assert abs(label[:, 0].mean() - end) < 12


def test_labels_are_pushed_apart_and_stay_on_the_chart() -> None:
    placed = _spread([0.5, 0.5, 0.5, 0.99, 1.0])

    assert all(b - a >= 0.075 - 1e-9 for a, b in pairwise(placed))
    assert placed[-1] <= 1.0
    assert _spread([]) == []


def test_holes_single_values_and_empty_series_are_drawn() -> None:
    for values in ([None, 0.5, math.nan], [None, None, None], [0.5, None, 0.7]):
        assert line_chart([1, 2, 3], {"a": values}).size == (1152, 512)
    assert line_chart([1], {"a": [0.4]}).size == line_chart([], {}).size
    assert line_chart([1, 2], {"a": [1.0, 1e-3]}, log_y=True).size == (1152, 512)


def test_marks_stand_at_their_place_on_either_kind_of_axis() -> None:
    for log_x in (False, True):
        plain = np.asarray(line_chart([1, 100], {"a": [0.0, 0.0]}, log_x=log_x).convert("L"), dtype=int)
        marked = line_chart([1, 100], {"a": [0.0, 0.0]}, log_x=log_x, marks={"here": 10.0 if log_x else 50.5})
        changed = np.abs(np.asarray(marked.convert("L"), dtype=int) - plain).sum(axis=0)
        assert abs(int(changed.argmax()) / plain.shape[1] - 0.5) < 0.06


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(ShapeError, match='"a" has 1 values for 2 positions'):
        line_chart([1, 2], {"a": [1.0]})
    with pytest.raises(ShapeError, match='"a" has 1 values for 2 groups'):
        bars_chart(["2 m", "5 m"], {"a": [1.0]})
    with pytest.raises(ShapeError, match='"a" has 2 observed and 1 predicted'):
        agreement_chart({"a": ([1, 2], [1])})


def test_bars_are_as_high_as_their_values() -> None:
    image = bars_chart(["2 m", "5 m"], {"model": [0.4, 0.8]}, y="IoU")

    spots = painted(image, ACCENT)
    spots = spots[spots[:, 0] > 60]  # without the legend
    left, right = (spots[(spots[:, 1] < image.width / 2) == side] for side in (True, False))
    heights = [np.ptp(side[:, 0]) for side in (left, right)]
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.06)


def test_intervals_and_missing_values_are_drawn() -> None:
    image = bars_chart(
        ["2 m", "5 m"],
        {"model": [0.4, None], "nothing": [0.0, math.nan]},
        intervals={"model": [(0.3, 0.5), (math.nan, math.nan)]},
    )

    assert image.size == (1152, 512)
    assert bars_chart([], {}).size == (1152, 512)


def test_points_lie_below_the_line_where_less_is_predicted_than_observed() -> None:
    empty, image = agreement_chart({}), agreement_chart({"a": ([0.8, 1.0], [0.2, 0.3]), "b": ([], [])})

    pixels = np.asarray(image).astype(int)
    blue = np.argwhere((pixels[..., 2] - pixels[..., 0] > 80) & (np.arange(image.height) > 120)[:, None])  # no legend
    assert image.size == empty.size
    assert (blue[:, 1] > image.width / 2).all()
    assert (blue[:, 0] > image.height / 2).all()


def test_charts_leave_the_settings_of_the_host_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    line_chart([1, 2], {"a": [1, 2]})
    bars_chart(["a"], {"b": [1]})

    assert dict(matplotlib.rcParams) == before


def test_a_confusion_matrix_is_dark_where_a_class_was_called_what_it_is() -> None:
    chart = matrix_chart({"": (("wall", "crack"), ((90, 10), (0, 0)))})
    pixels = np.asarray(chart).astype(int)
    dark = np.array((36, 97, 140))
    near = np.abs(pixels - (0.9 * dark + 0.1 * np.array((247, 246, 242)))).max(axis=-1) <= 3
    assert near.mean() > 0.02  # the cell of 90 %
    assert (pixels.max(axis=-1) < 250).any()


def test_a_matrix_that_does_not_fit_its_names_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 names for a matrix of shape"):
        matrix_chart({"a": (("wall", "crack"), ((1, 2, 3), (1, 2, 3), (1, 2, 3)))})
    with pytest.raises(ShapeError, match="at least one"):
        matrix_chart({})

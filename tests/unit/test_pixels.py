from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from maskwright.errors import ShapeError
from maskwright.pixels import IGNORE_INDEX, measured, require_same_hw, require_same_shape


def test_the_ignored_class_is_255() -> None:
    assert IGNORE_INDEX == 255


def test_nan_infinity_and_nodata_are_not_measured() -> None:
    values = np.array([1.0, np.nan, -9999.0, np.inf, -np.inf, 0.0], dtype=np.float32)

    assert measured(values, -9999.0).tolist() == [True, False, False, False, False, True]
    assert measured(values, None).tolist() == [True, False, True, False, False, True]
    assert measured(values, float("nan")).tolist() == [True, False, True, False, False, True]


def test_a_nodata_tag_is_compared_in_the_precision_of_the_raster() -> None:
    tag = -3.4028234663852886e38  # the lowest float32 written in decimals
    values = np.array([np.finfo(np.float32).min, 3.0], dtype=np.float32)
    assert measured(values, tag).tolist() == [False, True]

    tenth = np.array([0.1, 0.2], dtype=np.float32)
    assert measured(tenth, 0.1).tolist() == [False, True]


def test_a_nodata_tag_beyond_float32_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measured(np.array([1.0], dtype=np.float32), -1.7976931348623157e308).tolist() == [True]


def test_whole_numbers_are_measured_unless_they_are_nodata() -> None:
    values = np.array([[0, 1], [-32768, 5]], dtype=np.int16)

    assert measured(values, None).all()
    assert measured(values, -32768.0).tolist() == [[True, True], [False, True]]
    assert measured(values, 0.5).all()


def test_the_same_rows_and_columns_pass_whatever_stands_before_them() -> None:
    require_same_hw(image=np.zeros((2, 3, 4, 5)), valid=torch.zeros(2, 4, 5))


def test_other_rows_are_named_with_their_shapes() -> None:
    with pytest.raises(ShapeError) as error:
        require_same_hw(image=np.zeros((1, 4, 5)), valid=np.zeros((3, 5)))

    assert str(error.value) == (
        "These must have the same rows and columns but do not: image (1, 4, 5), valid (3, 5). "
        "Cut them from the same window of the scene."
    )


def test_an_array_without_columns_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"image \(4,\)"):
        require_same_hw(image=np.zeros(4))


def test_same_shape_looks_at_every_dimension() -> None:
    require_same_shape(a=np.zeros((2, 3)), b=torch.zeros(2, 3))

    with pytest.raises(ShapeError, match=r"same shape but do not: a \(1, 2, 3\), b \(2, 3\)"):
        require_same_shape(a=np.zeros((1, 2, 3)), b=np.zeros((2, 3)))

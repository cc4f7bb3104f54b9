"""Finished rows of classes on their way to files."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.prediction.class_outputs import ClassPlan
from maskwright.prediction.class_sink import ClassSink
from maskwright.prediction.raster_stream import Band


class Kept:
    """A file that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, np.ndarray]] = []

    def write(self, row: int, values: np.ndarray) -> None:
        self.rows.append((row, values.copy()))


def plan() -> ClassPlan:
    return ClassPlan(("crack",), False, False, (0.5,), True, True, "png", None, False, False, "abc")


def band(row: int, values: list[float], valid: list[bool]) -> Band:
    return Band(row, np.array([[values]], np.float32), np.array([valid]))


def test_rows_are_cut_at_the_threshold_and_empty_where_not_valid() -> None:
    files: Any = [Kept(), Kept()]
    sink = ClassSink(plan(), files, "none", with_probs=True, resized=False)
    sink.write(band(0, [0.4, 0.6, 1.2], [True, True, False]))
    (row, codes), (_, probs) = files[0].rows[0], files[1].rows[0]
    assert row == 0
    assert codes.tolist() == [[[0, 1, 255]]]
    assert probs[0, 0, :2].tolist() == np.float32([0.4, 0.6]).tolist()
    assert np.isnan(probs[0, 0, 2])
    assert sink.facts() == {"valid_px": 2}


def test_doubt_is_one_bit_where_yes_is_as_likely_as_no() -> None:
    files: Any = [Kept(), Kept()]
    sink = ClassSink(plan(), files, "entropy", with_probs=False, resized=False)
    sink.write(band(0, [0.5, 1.0], [True, True]))
    assert np.allclose(files[1].rows[0][1], [[[1.0, 0.0]]], atol=1e-5)


def test_rows_of_a_resized_image_are_kept_and_written_in_its_own_size() -> None:
    files: Any = [Kept()]
    sink = ClassSink(plan(), files, "none", with_probs=False, resized=True)
    sink.write(band(0, [0.1, 0.9], [True, True]))
    sink.write(band(1, [0.9, 0.1], [True, True]))
    assert files[0].rows == []
    sink.finish((4, 4))
    assert files[0].rows[0][1][0].tolist() == [[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2


def test_counting_goes_on_after_a_kill() -> None:
    sink = ClassSink(plan(), [], "none", with_probs=False, resized=True)
    sink.restore({"valid_px": 40})
    sink.write(band(3, [0.1], [True]))
    assert sink.valid_px == 41

"""Rows of an image as the network takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskwright.data.normalise import PerTileBands
from maskwright.data.sources.interface import Grid
from maskwright.prediction.image_input import ImageInput
from maskwright.types import Window

VALUES = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)


class Reader:
    grid = Grid(3, 4, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
    band_names = ("grey",)

    def read(self, window: Window) -> tuple[Any, Any]:
        rows = slice(window.row, window.row_stop)
        return VALUES[:, rows], np.ones((window.height, 4), bool)


class Halves:
    def normalise(self, values: Any, valid: Any) -> Any:
        return values / 2.0


def test_rows_are_normalised_once_and_watched_as_they_were_read() -> None:
    seen: list[Any] = []
    given = ImageInput(Reader(), Halves(), lambda row, values, valid: seen.append((row, values.copy())))
    values, valid = given.rows(1, 3)
    assert given.channels == 1
    assert values.dtype == np.float32
    assert np.array_equal(values, VALUES[:, 1:] / 2)
    assert valid.all()
    assert given.window(values, valid) is values
    assert seen[0][0] == 1
    assert np.array_equal(seen[0][1], VALUES[:, 1:])


def test_what_is_stretched_by_window_is_raw_until_then() -> None:
    given = ImageInput(Reader(), PerTileBands())
    values, valid = given.rows(0, 3)
    assert np.array_equal(values, VALUES)
    stretched = given.window(values, valid)
    assert (stretched.min(), stretched.max()) == (0.0, 1.0)

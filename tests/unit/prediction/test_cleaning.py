from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.config import PredictionConfig, load_section
from maskwright.data.sources.interface import Grid
from maskwright.errors import ConfigError
from maskwright.prediction.cleaning import cleaned, cleaning_notes, settle_limits
from maskwright.prediction.geotiff import RowWriter, open_raster
from maskwright.prediction.outputs import silent

_ROWS = ["##..#####", "##..#...#", "....#.#.#", "#...#...#", "#...#####", ".......o.", "#.###o..."]


def _mask() -> np.ndarray:
    return np.array([[{"#": 1, ".": 0, "o": 255}[sign] for sign in row] for row in _ROWS], np.uint8)


def _cleaned(tmp_path: Path, pixel_m2: float | None = None, **settings: Any) -> np.ndarray:
    grid = Grid(*_mask().shape, (1, 0, 0, 0, -1, 0), None)

    def writer(path: Path) -> RowWriter:
        return RowWriter(path, grid, dtype="uint8", nodata=255, names=("gap",))

    with writer(tmp_path / "mask.tif") as out:
        out.write(0, _mask()[None])
    config = PredictionConfig(**settings)
    path = cleaned(
        tmp_path / "mask.tif", tmp_path, config, codes=(1,), pixel_m2=pixel_m2, writer=writer, progress=silent
    )
    with open_raster(path) as raster:
        return raster.read(1)


def _lost(tmp_path: Path, **settings: Any) -> set[str]:
    """The objects that are gone: of 4, 16 (a ring), 1 (in it), 2, 1 and 3 pixels."""
    out = _cleaned(tmp_path, **settings)
    places = {"square": (0, 0), "ring": (0, 4), "core": (2, 6), "bar": (3, 0), "dot": (6, 0), "row": (6, 2)}
    return {name for name, place in places.items() if out[place] == 0}


def test_nothing_asked_is_nothing_done(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_cleaned(tmp_path), _mask())


@pytest.mark.parametrize(
    ("settings", "lost"),
    [
        ({"min_area_px": 3}, {"core", "bar", "dot"}),
        ({"min_area_m2": 12, "pixel_m2": 4.0}, {"core", "bar", "dot"}),
        ({"max_area_px": 3}, {"square", "ring"}),
        ({"max_area_m2": 16.0, "pixel_m2": 4.0}, {"ring"}),
        ({"keep_largest": 2}, {"core", "bar", "dot", "row"}),
        ({"max_elongation": 2.0}, {"row"}),
        ({"min_compactness": 0.7}, {"ring", "bar", "row"}),  # bar 8 pi / 36 = 0.698, row 12 pi / 64 = 0.589
        ({"min_area_px": 2, "max_area_px": 4, "keep_largest": 1}, {"ring", "core", "bar", "dot", "row"}),
    ],
)
def test_limits_leave_out_the_objects_they_name(settings: dict[str, Any], lost: set[str], tmp_path: Path) -> None:
    assert _lost(tmp_path, **settings) == lost


def test_holes_are_filled_by_pixels_or_ground(tmp_path: Path) -> None:
    for settings in ({"fill_holes_px": 8}, {"fill_holes_m2": 2.0, "pixel_m2": 0.25}):
        out = _cleaned(tmp_path, **settings)
        assert (out[0:5, 4:9] == 1).all()
        assert (out == 0).sum() == (_mask() == 0).sum() - 8
    assert (_cleaned(tmp_path, fill_holes_px=7) == _mask()).all()


def test_what_is_not_valid_stays_so_whatever_is_done(tmp_path: Path) -> None:
    out = _cleaned(tmp_path, opening_px=1, closing_px=1, median_px=3, fill_holes_px=20, min_area_px=2)
    np.testing.assert_array_equal(out == 255, _mask() == 255)


def test_the_stricter_of_two_units_counts() -> None:
    settings = PredictionConfig(min_area_m2=2.0, min_area_px=5, max_area_m2=100.0, max_area_px=1000)
    limits = settle_limits(settings, 0.25)
    assert limits.least_px == pytest.approx(8)
    assert limits.most_px == pytest.approx(400)


def test_limits_without_a_size_and_limits_that_break_the_order_are_told() -> None:
    settings = PredictionConfig(max_area_m2=2.0, min_area_m2=1.0, keep_largest=3)
    notes = cleaning_notes(settings, None, heights=2)
    assert notes[0] == "min_area_m2 was not applied: its pixels have no size in metres; set min_area_px"
    assert "set max_area_px" in notes[1]
    assert "max_area_m2, keep_largest judges the gaps of each height alone" in notes[2]
    assert cleaning_notes(settings, 1.0) == ()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["probability_rule=otsu", "probability_threshold=0.4"], "Leave one out"),
        (["median_px=4"], "median_px: 4 is even, so it has no middle (--set median_px=4). Take 5."),
        (
            ["min_area_px=9", "max_area_px=3"],
            "max_area_px: 3 is smaller than min_area_px, 9 (--set max_area_px=3). Nothing would stay",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(words: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_section(PredictionConfig, (), words)
    assert text in str(caught.value)

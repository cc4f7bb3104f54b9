from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.sources.interface import Grid
from maskwright.errors import PredictionError
from maskwright.pictures import height_colors
from maskwright.prediction.overlay import LIMIT_PX, Thumbnail, draw_quicklook, scale_bar_m
from maskwright.types import Window


def _watched(thumbnail: Thumbnail, scene: np.ndarray, rows: int) -> None:
    read = thumbnail.watching(lambda window: scene[window.row : window.row_stop])
    for row in range(0, len(scene), rows):
        read(Window(row, 0, min(rows, len(scene) - row), scene.shape[1]))


@pytest.mark.parametrize(("height", "width"), [(10, 7), (50, 3), (33, 64), (1, 1)])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_a_thumbnail_holds_every_nth_row_and_column_however_rows_come(height: int, width: int, rows: int) -> None:
    scene = np.arange(height * width, dtype=np.float32).reshape(height, width)
    thumbnail = Thumbnail(height, width, limit_px=10)
    _watched(thumbnail, scene, rows)
    step = -(-max(height, width) // 10)
    first_row, first_col = min(step // 2, height - 1), min(step // 2, width - 1)
    assert thumbnail.factor == step
    np.testing.assert_array_equal(thumbnail.surface, scene[first_row::step, first_col::step])


def test_masks_are_sampled_at_the_same_pixels_as_the_surface() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (2, 40, 30)).astype(np.uint8)
    thumbnail = Thumbnail(40, 30, limit_px=10)
    for row in range(0, 40, 7):
        thumbnail.add_mask(row, masks[:, row : row + 7])
    assert thumbnail.codes is not None
    np.testing.assert_array_equal(thumbnail.codes, masks[:, 2::4, 2::4])


def test_the_longer_side_stays_within_the_limit() -> None:
    thumbnail = Thumbnail(100_000, 1601)
    assert max(thumbnail.surface.shape) <= LIMIT_PX


@pytest.mark.parametrize(
    ("width_m", "bar_m"), [(400, 100), (399, 50), (1000, 200), (8.0, 2.0), (0.5, 0.1), (90_000, 20_000)]
)
def test_scale_bars_have_round_lengths_of_at_most_a_quarter(width_m: float, bar_m: float) -> None:
    assert scale_bar_m(width_m) == pytest.approx(bar_m)


def test_the_quicklook_shows_gaps_in_the_colours_of_their_heights(tmp_path: Path) -> None:
    surface = np.random.default_rng(0).normal(100, 3, (60, 80)).astype(np.float32)
    surface[:10] = np.nan
    codes = np.zeros((2, 60, 80), np.uint8)
    codes[:, :10] = 255
    codes[0, 30:40, 30:40] = codes[1, 20:50, 20:50] = 1
    thumbnail = Thumbnail(60, 80)
    _watched(thumbnail, surface, 16)
    thumbnail.add_mask(0, codes)
    path = tmp_path / "look.png"
    grid = Grid(60, 80, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
    draw_quicklook(path, thumbnail, (5.0, 10.0), (0.02, None), grid, title="Gaps in a forest")
    colors = {tuple(color) for color in np.asarray(Image.open(path)).reshape(-1, 3)}
    assert set(height_colors(2)) <= colors  # rims and legend carry the pure colours


def test_a_picture_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    thumbnail = Thumbnail(5, 5)
    grid = Grid(5, 5, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
    with pytest.raises(PredictionError, match=r"look\.png could not be written"):
        draw_quicklook(tmp_path / "nowhere" / "look.png", thumbnail, (5.0,), (None,), grid, title="")

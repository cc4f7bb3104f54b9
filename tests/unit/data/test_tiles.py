from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.tiles import covered_px, tile_grid, tiles_within, window_shares
from maskwright.types import Window

SIZES = st.integers(1, 60)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[int, int, int, int]:
    tile_px = draw(st.integers(1, 25))
    return draw(SIZES), draw(SIZES), tile_px, draw(st.integers(0, tile_px - 1))


def painted(windows: list[Window], height: int, width: int) -> np.ndarray:
    count = np.zeros((height, width), dtype=int)
    for window in windows:
        count[window.row : window.row_stop, window.col : window.col_stop] += 1
    return count


@given(tilings())
def test_tiles_cover_every_pixel_and_are_all_squares_of_one_size(case: tuple[int, int, int, int]) -> None:
    height, width, tile_px, overlap_px = case
    windows = tile_grid(height, width, tile_px, overlap_px)
    assert painted(windows, height, width).min() >= 1
    assert {(window.height, window.width) for window in windows} == {(tile_px, tile_px)}
    assert len(set(windows)) == len(windows)


@given(tilings())
def test_no_tile_could_be_left_out(case: tuple[int, int, int, int]) -> None:
    height, width, tile_px, overlap_px = case
    windows = tile_grid(height, width, tile_px, overlap_px)
    stride = tile_px - overlap_px
    rows = sorted({window.row for window in windows})
    assert rows == list(range(0, rows[-1] + 1, stride))
    assert len(rows) == 1 or rows[-2] + tile_px < height


@given(tilings())
def test_tiles_without_overlap_cover_every_pixel_once(case: tuple[int, int, int, int]) -> None:
    height, width, tile_px, _ = case
    assert (painted(tile_grid(height, width, tile_px), height, width) == 1).all()


def test_tiles_come_row_by_row() -> None:
    assert tile_grid(3, 5, 2, 0)[:4] == [Window(0, 0, 2, 2), Window(0, 2, 2, 2), Window(0, 4, 2, 2), Window(2, 0, 2, 2)]


def test_a_scene_smaller_than_a_tile_gets_one_padded_tile() -> None:
    assert tile_grid(10, 20, 64, 16) == [Window(0, 0, 64, 64)]


@pytest.mark.parametrize(("tile_px", "overlap_px"), [(0, 0), (8, 8), (8, -1)])
def test_impossible_sizes_are_refused(tile_px: int, overlap_px: int) -> None:
    with pytest.raises(ValueError, match=f"tiles of {tile_px} px with {overlap_px} px overlap"):
        tile_grid(10, 10, tile_px, overlap_px)


@given(tilings(), st.data())
def test_tiles_leave_a_rectangle_only_at_the_edge_of_the_scene(
    case: tuple[int, int, int, int], data: st.DataObject
) -> None:
    height, width, tile_px, overlap_px = case
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = Window(row, col, data.draw(st.integers(1, height - row)), data.draw(st.integers(1, width - col)))
    for window in tiles_within(region, height, width, tile_px, overlap_px):
        assert window.row >= region.row
        assert window.col >= region.col
        assert window.row_stop <= region.row_stop or region.row_stop == height
        assert window.col_stop <= region.col_stop or region.col_stop == width


def test_overlapping_tiles_reach_the_far_edge_of_a_rectangle_inside_a_scene() -> None:
    windows = tiles_within(Window(0, 0, 25, 10), 100, 100, 10, 2)
    assert [window.row for window in windows] == [0, 8, 15]


def test_a_rectangle_inside_a_scene_that_is_narrower_than_a_tile_holds_none() -> None:
    assert tiles_within(Window(0, 0, 9, 40), 100, 100, 10) == []


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.sampled_from([5, 8, 16, 24]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 30),
)
def test_shares_of_windows_are_exact(height: int, width: int, tile_px: int, seed: int, shift: int) -> None:
    valid = np.random.default_rng(seed).random((height, width)) < 0.6
    windows = [Window(window.row + shift, window.col, tile_px, tile_px) for window in tile_grid(height, width, tile_px)]
    padded = np.zeros((height + tile_px + 32, width + tile_px), dtype=bool)
    padded[:height, :width] = valid
    expected = [
        padded[window.row : window.row_stop, window.col : window.col_stop].mean(dtype=np.float64) for window in windows
    ]
    np.testing.assert_allclose(window_shares(lambda cell_px: cells(valid, cell_px), windows), expected, atol=1e-12)


def test_in_huge_scenes_cells_on_the_border_of_a_window_count_by_area(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwright.data.tiles._MOST_CELLS", 10)
    valid = np.zeros((64, 64), dtype=bool)
    valid[:, :32] = True
    window = Window(3, 21, 16, 16)  # 11 of its 16 columns are measured, and the border lies on the mesh of 8 px
    assert window_shares(lambda cell_px: cells(valid, max(8, cell_px)), [window])[0] == pytest.approx(11 / 16)


def test_no_windows_have_no_shares() -> None:
    assert window_shares(lambda cell_px: np.ones((1, 1)), []).shape == (0,)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9)), max_size=8))
def test_pixels_under_overlapping_windows_count_once(boxes: list[tuple[int, int, int, int]]) -> None:
    windows = [Window(*box) for box in boxes]
    assert covered_px(windows) == np.count_nonzero(painted(windows, 40, 40))


def cells(valid: np.ndarray, cell_px: int) -> np.ndarray:
    """Plain slow code: the share of True in each cell, what lies outside counting as False."""
    rows, cols = -(-valid.shape[0] // cell_px), -(-valid.shape[1] // cell_px)
    out = np.zeros((rows, cols))
    for row in range(rows):
        for col in range(cols):
            part = valid[row * cell_px : (row + 1) * cell_px, col * cell_px : (col + 1) * cell_px]
            out[row, col] = np.count_nonzero(part) / cell_px**2
    return out

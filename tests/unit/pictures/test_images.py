from __future__ import annotations

import warnings

import numpy as np
import pytest

from maskwright.errors import ShapeError
from maskwright.pictures import (
    contact_sheet,
    downsample,
    draw_outlines,
    height_colors,
    legend,
    outlines,
    overlay_heights,
    overlay_mask,
    shade,
    stretched,
)

NOT_MEASURED = [246, 245, 242]


def test_the_relief_is_dark_where_low_and_pale_where_not_measured() -> None:
    heights = np.zeros((20, 30), dtype=np.float32)
    heights[:, 15:] = 20.0
    heights[:3] = np.nan

    picture = shade(heights)

    assert picture.shape == (20, 30, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == NOT_MEASURED
    assert picture[10, 5].mean() < picture[10, 25].mean()


def test_slopes_towards_the_north_west_are_lit() -> None:
    rows, cols = np.mgrid[:40, :40].astype(np.float32)
    cone = 20 - np.hypot(rows - 20, cols - 20)

    picture = shade(cone).astype(int).sum(axis=-1)

    assert picture[13, 13] > picture[27, 27] + 100  # the same height, the other side


def test_the_relief_does_not_depend_on_where_zero_is() -> None:
    heights = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)

    difference = shade(heights).astype(int) - shade(heights + 1024).astype(int)

    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5)])
def test_small_flat_and_unknown_ground_is_drawn_without_a_warning(shape: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shade(np.zeros(shape, dtype=np.float32)).shape == (*shape, 3)
        assert (shade(np.full(shape, np.nan, dtype=np.float32)) == NOT_MEASURED).all()


def test_a_stack_of_heights_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"Heights to shade are \(H, W\); these have shape \(1, 4, 4\)"):
        shade(np.zeros((1, 4, 4)))


def test_shrinking_averages_blocks_and_leaves_unknown_pixels_out() -> None:
    values = np.array([[1, 3, 5, 7, 9], [1, np.nan, 5, 7, 11], [np.nan, np.nan, 2, 2, 4]], dtype=np.float32)

    small, step = downsample(values, 3)

    assert step == 2
    assert small.dtype == np.float32
    assert np.array_equal(small, np.array([[5 / 3, 6, 10], [np.nan, 2, 4]], dtype=np.float32), equal_nan=True)


def test_shrinking_keeps_the_type() -> None:
    mask = np.array([[True, True, False, False], [False, False, False, True]])
    rgb = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

    assert downsample(mask, 2)[0].tolist() == [[True, False]]
    small, _ = downsample(rgb, 2)
    assert small.dtype == np.uint8
    assert small[0, 0].tolist() == [8, 8, 10]  # means 7.5, 8.5, 9.5, rounded to even


def test_a_picture_small_enough_is_left_alone() -> None:
    values = np.zeros((4, 5))

    small, step = downsample(values, 5)

    assert small is values
    assert step == 1


def test_paint_is_mixed_under_the_mask_only() -> None:
    rgb = np.full((1, 2, 3), 100, dtype=np.uint8)

    painted = overlay_mask(rgb, np.array([[True, False]]), (200, 0, 100), alpha=0.25)

    assert painted.tolist() == [[[125, 75, 100], [100, 100, 100]]]
    assert (rgb == 100).all()  # the input is not touched


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"A mask \(2, 2\) does not cover an image \(1, 2\)"):
        overlay_mask(np.zeros((1, 2, 3), np.uint8), np.zeros((2, 2), bool), (0, 0, 0))


def test_the_rim_of_a_square_is_one_pixel_wide_and_inside() -> None:
    mask = np.zeros((7, 7), dtype=bool)
    mask[1:6, 1:6] = True

    rim = outlines(mask)

    assert rim.sum() == 16
    assert not rim[2:5, 2:5].any()
    assert not (rim & ~mask).any()
    assert outlines(mask, 2).sum() == 24


def test_the_edge_of_the_raster_is_no_rim() -> None:
    assert not outlines(np.ones((4, 4), dtype=bool)).any()


def test_outlines_are_drawn_in_full_colour() -> None:
    mask = np.zeros((5, 5), dtype=bool)
    mask[1:4, 1:4] = True

    drawn = draw_outlines(np.zeros((5, 5, 3), np.uint8), mask, (9, 8, 7))

    assert drawn[1, 1].tolist() == [9, 8, 7]
    assert drawn[2, 2].tolist() == [0, 0, 0]


def test_the_lowest_gap_lies_on_top() -> None:
    masks = np.zeros((2, 5, 5), dtype=bool)
    masks[0, 2, 2] = True
    masks[1] = True

    painted, colors = overlay_heights(np.zeros((5, 5, 3), np.uint8), masks, alpha=1.0, outline_px=0)

    assert colors == height_colors(2)
    assert tuple(painted[2, 2]) == colors[0]
    assert tuple(painted[0, 0]) == colors[1]


def test_a_sheet_holds_all_panels_with_titles_and_legend() -> None:
    panels = [
        (f"panel {n} with a title longer than its picture", np.full((10, 20, 3), 40 * n, np.uint8)) for n in range(5)
    ]

    sheet = contact_sheet(panels, panel_px=80, title="Five", entries=[("below 5 m", (200, 0, 0))])

    pixels = np.asarray(sheet)
    for n in range(5):
        assert (pixels == 40 * n).all(axis=-1).sum() >= 80 * 40
    assert (pixels == (200, 0, 0)).all(axis=-1).sum() > 100
    assert sheet.width == 3 * 80 + 4 * 14


def test_a_sheet_of_one_row_is_as_wide_as_asked() -> None:
    panels = [("a", np.zeros((8, 8, 3), np.uint8))] * 3

    assert contact_sheet(panels, columns=3, panel_px=64).width == 3 * 64 + 4 * 14
    assert contact_sheet(panels, columns=9, panel_px=64).width == 3 * 64 + 4 * 14


def test_a_sheet_without_pictures_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one picture"):
        contact_sheet([])


def test_a_long_legend_is_wrapped() -> None:
    one, many = legend([("a", (1, 2, 3))], max_width_px=200), legend([("label", (1, 2, 3))] * 8, max_width_px=200)

    assert one.width == many.width == 200
    assert many.height > one.height


def test_bytes_are_shown_as_they_are_and_what_does_not_count_is_grey() -> None:
    values = np.array([[[10, 20]], [[30, 40]], [[50, 60]]], np.uint8)
    rgb = stretched(values, np.array([[True, False]]))
    assert rgb.tolist() == [[[10, 30, 50], [200, 200, 200]]]


def test_other_values_are_stretched_over_what_counts_and_one_band_is_grey() -> None:
    values = np.append(np.linspace(1000, 2000, 101), 60000).astype(np.uint16)[None, None]
    valid = np.ones((1, 102), np.bool_)
    valid[0, -1] = False
    rgb = stretched(values, valid)[0]
    assert rgb[0].tolist() == [0, 0, 0]
    assert rgb[50].tolist() == [128, 128, 128]
    assert rgb[100].tolist() == [255, 255, 255]

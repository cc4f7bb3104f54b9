from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.sources.shapes import Disc, Polygons, Runs, box_shape, decode_counts, encode_counts


def plain_text_of(counts: list[int]) -> str:
    """The reference's rleToString, number by number."""
    text = ""
    for index, count in enumerate(counts):
        number = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = number & 0x1F
            number >>= 5
            more = number != -1 if bits & 0x10 else number != 0
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


def test_compressed_run_lengths_are_the_ones_worked_out_by_hand() -> None:
    # 5 is one group; 16 needs a second group, since its fifth bit would be read as a sign; 4 after 5 is written as -1.
    assert decode_counts("5").tolist() == [5]
    assert decode_counts("`0").tolist() == [16]
    assert decode_counts("654O").tolist() == [6, 5, 4, 4]
    assert decode_counts(b"654O").tolist() == [6, 5, 4, 4]
    assert decode_counts("").tolist() == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5_000_000), min_size=1, max_size=40))
def test_compressed_run_lengths_come_back(counts: list[int]) -> None:
    assert decode_counts(plain_text_of(counts)).tolist() == counts


@pytest.mark.parametrize(("text", "why"), [("5`", "cut off"), ("5!", "no run lengths"), ("é", "no run lengths")])
def test_damaged_run_lengths_are_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_counts(text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 7), st.integers(1, 7))
def test_masks_survive_run_lengths(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    runs = Runs(encode_counts(mask), height, width)
    out = np.zeros((height, width), np.uint8)
    runs.burn(out, 1, (0, 0))
    np.testing.assert_array_equal(out, mask)
    assert runs.area == mask.sum()


def test_run_lengths_go_down_the_columns() -> None:
    out = np.zeros((2, 3), np.uint8)
    Runs(np.array([1, 2, 3]), 2, 3).burn(out, 7, (0, 0))
    np.testing.assert_array_equal(out, [[0, 7, 0], [7, 0, 0]])
    assert Runs(np.array([1, 2, 3]), 2, 3).box == (0.0, 0.0, 2.0, 2.0)


def test_run_lengths_are_cut_to_a_window() -> None:
    out = np.zeros((1, 5), np.uint8)
    Runs(np.array([1, 2, 3]), 2, 3).burn(out, 7, (1, -1))
    np.testing.assert_array_equal(out, [[0, 7, 0, 0, 0]])


def test_areas_and_boxes_are_those_of_the_outlines() -> None:
    triangle = Polygons((np.array([(1e6, 0.0), (1e6 + 4, 0.0), (1e6, 3.0)]),))
    assert triangle.area == 6.0
    assert triangle.box == (1e6, 0.0, 1e6 + 4, 3.0)
    assert box_shape((1.0, 2.0, 4.0, 4.0)).area == 6.0
    assert Disc(5.0, 5.0, 2.0, 1.0).box == (3.0, 4.0, 7.0, 6.0)


def test_a_disc_holds_the_pixels_whose_centres_it_reaches() -> None:
    out = np.zeros((5, 5), np.uint8)
    Disc(2.5, 2.5, 1.0, 1.0).burn(out, 1, (0, 0))
    assert out.sum() == 5
    assert out[2, 1:4].all()
    assert out[1:4, 2].all()


def test_the_smallest_disc_still_holds_its_own_pixel() -> None:
    out = np.zeros((3, 3), np.uint8)
    Disc(1.05, 2.95, 0.1, 0.1).burn(out, 1, (0, 0))
    np.testing.assert_array_equal(np.argwhere(out), [[2, 1]])

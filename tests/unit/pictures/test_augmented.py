from __future__ import annotations

import numpy as np
import pytest

from maskwright.errors import ShapeError
from maskwright.pictures import AugmentedSample, augmented_sheet
from maskwright.pictures.augmented import _width, _wrapped


def sample(px: int = 32, text: str = "flip_cols: true") -> AugmentedSample:
    rgb = np.full((px, px, 3), 90, np.uint8)
    mask = np.zeros((px, px), bool)
    mask[4:12, 4:12] = True
    valid = np.ones((px, px), bool)
    valid[:, -4:] = False
    return AugmentedSample(rgb, rgb[:, ::-1].copy(), mask, mask[:, ::-1], valid, text)


def test_a_sheet_shows_both_masks_and_leaves_out_what_does_not_count() -> None:
    sheet = np.asarray(augmented_sheet([sample()], panel_px=32))
    red = (sheet == (230, 60, 40)).all(axis=2)
    assert red[:, 14:46].sum() == 28  # the rim of a square of 8 px
    assert red[:, 50:82].sum() == 28
    assert (sheet[14:46, 78:82] == (246, 245, 242)).all()


def test_long_records_are_wrapped_and_lose_no_word() -> None:
    text = ", ".join(f"parameter_{number}: {number / 7:.3f}" for number in range(30))
    lines = _wrapped(text, 300)
    assert " ".join(lines) == text
    assert all(_width(line) <= 300 for line in lines)
    assert "".join(_wrapped("x" * 400, 300)) == "x" * 400
    tall, small = augmented_sheet([sample(text=text)]), augmented_sheet([sample()])
    assert tall.height > small.height


def test_samples_stand_in_rows() -> None:
    one, six = augmented_sheet([sample()], columns=3), augmented_sheet([sample()] * 6, columns=3, title="changes")
    assert six.width > 2.5 * one.width
    assert six.height > 1.8 * one.height


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least one"):
        augmented_sheet([])

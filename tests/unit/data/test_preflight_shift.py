"""Masks that lie off what they mark."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from maskwright.data.preflight_shift import common_shift, offset_scores, shift_findings

Score = tuple[np.ndarray, int]


def scene(seed: int, size: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Dark blobs on rough ground, and where they are."""
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.normal(size=(size, size)), 6)
    mask = field > np.quantile(field, 0.9)
    ground = ndimage.gaussian_filter(generator.normal(size=(size, size)), 1) * 40 + 140
    return np.where(mask, ground - 40, ground), mask


def scores(down: int, right: int, count: int = 8, related: bool = True) -> list[Score]:
    found = []
    for seed in range(count):
        grey, mask = scene(seed)
        if not related:
            mask = scene(seed + 100)[1]
        score = offset_scores(grey, np.roll(mask, (down, right), (0, 1)))
        assert score is not None
        found.append(score)
    return found


@pytest.mark.parametrize(("down", "right"), [(4, 0), (-6, 9), (0, -12)])
def test_a_known_shift_is_found_to_the_pixel(down: int, right: int) -> None:
    shift = common_shift(scores(down, right))
    assert shift is not None
    assert shift.is_clear
    assert (shift.down_px, shift.right_px) == (-down, -right)


def test_the_finding_says_how_far_and_which_way() -> None:
    (finding,) = shift_findings(scores(5, -7), ["a", "b"])
    assert (finding.level, finding.code, finding.where) == ("warning", "mask_shifted", "a, b")
    assert "5 px up and 7 px to the right" in finding.what


def test_masks_that_fit_are_no_finding() -> None:
    assert shift_findings(scores(0, 0), ["a"]) == []


def test_masks_that_belong_to_other_images_are_no_shift() -> None:
    assert shift_findings(scores(0, 0, related=False), ["a"]) == []


def test_three_images_are_not_enough() -> None:
    assert shift_findings(scores(8, 0, count=3), ["a"]) == []


def test_a_large_image_is_shrunk_and_offsets_count_in_its_own_pixels() -> None:
    found = []
    for seed in range(5):
        grey, mask = scene(seed, 256)
        big_grey, big_mask = (np.repeat(np.repeat(a, 6, 0), 6, 1) for a in (grey, mask))
        found.append(offset_scores(big_grey, np.roll(big_mask, 24, 0)))
    shift = common_shift([score for score in found if score is not None])
    assert shift is not None
    assert shift.down_px == pytest.approx(-24, abs=2)


def test_an_empty_mask_or_a_tiny_image_says_nothing() -> None:
    grey, mask = scene(0)
    assert offset_scores(grey, np.zeros_like(mask)) is None
    assert offset_scores(grey[:20, :20], mask[:20, :20]) is None

"""Stored values of mask files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.sources.mask_pixels import read_mask
from maskwright.errors import DataError, UnreadableError


def test_numbers_are_read_as_they_are_stored(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png", None)
    assert mask.values.tolist() == [[0, 1, 255]]
    assert mask.found() == {0: 1, 1: 1, 255: 1}
    assert (mask.is_coloured, mask.valid) == (False, None)


def test_of_a_palette_the_indices_count(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 2, 1]], np.uint8))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", False).values.tolist() == [[0, 2, 1]]
    assert read_mask(tmp_path / "a.png", True).values.tolist() == [[0, 0x00FF00, 0xFF0000]]


def test_three_equal_bands_are_one_and_different_ones_are_colours(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 3), 7, np.uint8)).save(tmp_path / "grey.png")
    grey = read_mask(tmp_path / "grey.png", None)
    assert grey.values.tolist() == [[7, 7], [7, 7]]
    assert grey.notes == ("three equal bands, read as one",)
    Image.fromarray(np.array([[[1, 2, 3]]], np.uint8)).save(tmp_path / "colour.png")
    assert read_mask(tmp_path / "colour.png", None).values.tolist() == [[0x010203]]
    with pytest.raises(DataError, match=r"is coloured and nothing says what its colours mean. It has #010203 \(1 px\)"):
        read_mask(tmp_path / "colour.png", False)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with pytest.raises(UnreadableError, match=r"a\.png"):
        read_mask(tmp_path / "a.png", None)

"""Invented photographs: the same again from the same seed, true masks, and no threshold that finds what is hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.synthetic_images import DEFECTS, DIFFICULTIES, KINDS, make_picture, write_pictures
from maskwright.errors import DataError


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_same_arguments_give_the_same_picture(kind: str) -> None:
    first, again, other = make_picture(kind, 96, 3), make_picture(kind, 96, 3), make_picture(kind, 96, 4)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, other.image)
    assert first.image.shape == (96, 96, 3)
    assert first.image.dtype == first.mask.dtype == np.uint8


@pytest.mark.parametrize("difficulty", sorted(DIFFICULTIES))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_threshold_on_brightness_finds_what_is_hidden(kind: str, difficulty: str) -> None:
    pictures = [make_picture(kind, 192, seed, difficulty) for seed in range(5)]
    brightness = np.stack([picture.image.mean(axis=2) for picture in pictures])
    true = np.stack([picture.mask > 0 for picture in pictures])
    best = 0.0
    for cut in range(0, 256, 4):
        for said in (brightness < cut, brightness >= cut):
            best = max(best, np.count_nonzero(said & true) / np.count_nonzero(said | true))
    assert best < 0.45


@pytest.mark.parametrize("kind", ["cracks", "vessels"])
def test_the_mask_lies_on_what_is_darker_than_its_surroundings(kind: str) -> None:
    plain = replace(DIFFICULTIES["easy"], noise=0.0, shading=0.0, distractors=0)
    picture = make_picture(kind, 128, 1, plain)
    inside, outside = picture.image[picture.mask == 1], picture.image[picture.mask == 0]
    assert inside.mean() < outside.mean() - 20


def test_defects_come_in_all_classes_and_some_pictures_have_none() -> None:
    masks = [make_picture("defects", 128, seed).mask for seed in range(30)]
    classes = {int(value) for mask in masks for value in np.unique(mask)}
    free = sum(not mask.any() for mask in masks)
    assert classes == set(range(len(DEFECTS)))
    assert 3 <= free <= 20


def test_written_pictures_read_back_as_they_were_made(tmp_path: Path) -> None:
    write_pictures(tmp_path, "cracks", 2, size_px=64, seed=5)
    picture = make_picture("cracks", 64, 6)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / "cracks_0001.png")), picture.image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks" / "cracks_0001.png")), picture.mask * 255)


def test_masks_of_defects_hold_class_numbers(tmp_path: Path) -> None:
    write_pictures(tmp_path, "defects", 4, size_px=64)
    values = {int(v) for path in (tmp_path / "masks").iterdir() for v in np.unique(np.asarray(Image.open(path)))}
    assert values <= {0, 1, 2, 3}
    assert values != {0}


def test_what_cannot_be_made_is_told() -> None:
    with pytest.raises(DataError, match=r"no invented pictures of 'trees'\. Kinds: cracks, vessels, defects"):
        make_picture("trees")
    with pytest.raises(DataError, match=r"difficulty 'brutal' is not known\. Known: easy, medium, hard"):
        make_picture("cracks", difficulty="brutal")
    with pytest.raises(DataError, match="32 px is too small"):
        make_picture("cracks", 32)

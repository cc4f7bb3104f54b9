"""One image and its label, decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.config import ImagesData
from maskwright.data.build_images import open_images
from maskwright.data.cache import Cache
from maskwright.data.sources.image_decode import count_ids
from maskwright.types import Window


def test_ids_are_counted_and_what_does_not_count_is_left_out() -> None:
    label = np.array([[0, 1, 1], [2, 255, 255]], np.uint8)
    assert count_ids(label, "multiclass", 3).tolist() == [1, 2, 1]


def test_labels_that_overlap_are_counted_each_and_all_pixels_last() -> None:
    label = np.array([[0b00, 0b01, 0b11], [0b10, 65535, 65535]], np.uint16)
    assert count_ids(label, "multilabel", 2).tolist() == [2, 2, 4]


@pytest.mark.parametrize("resize_px", [None, (16, 16)])
def test_a_decoded_image_holds_values_label_and_where_its_classes_lie(
    tmp_path: Path, resize_px: tuple[int, int] | None
) -> None:
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    mask = np.zeros((32, 32), np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(np.stack([mask] * 3, axis=-1)).save(tmp_path / "data/images/a.png")
    Image.fromarray(mask).save(tmp_path / "data/masks/a.png")
    settings = ImagesData(folder=tmp_path / "data", resize_px=resize_px)
    source = open_images(settings, "binary", Cache(tmp_path / "cache"))
    side = 32 if resize_px is None else 16
    label, valid = source.label("a", Window(0, 0, side, side))
    assert valid.all()
    assert label.sum() == 64 * (side / 32) ** 2
    assert source.scenes[0].grid.height == side

"""Loaders for loops of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.data.foreign import compute_class_weights, create_dataloaders, load_dataset_from_split_files
from maskwright.errors import DataError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Ten photographs with masks, and the lists that divide nine of them; the last has no mask."""
    rng = np.random.default_rng(1)
    for name in ("images", "masks", "splits"):
        (tmp_path / name).mkdir()
    for index in range(10):
        size = (40 + index, 50)
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(tmp_path / "images" / f"{index}.jpg")
        if index < 9:
            mask = np.zeros(size, np.uint8)
            mask[: size[0] // 2] = 255
            Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    (tmp_path / "splits/train.txt").write_text("0.jpg\n1.jpg\n2.jpg\n3.jpg\n4.jpg\n5\n")
    (tmp_path / "splits/val.txt").write_text("6.jpg\n7.jpg\n")
    return tmp_path


def loaders(folders: Path, **options: object) -> object:
    return create_dataloaders(
        split_dir=folders / "splits",
        images_dir=folders / "images",
        masks_dir=folders / "masks",
        **{"image_size": 32, "batch_size": 4, "cache_dir": folders / "cache", **options},  # type: ignore[arg-type]
    )


def test_a_loop_of_ones_own_gets_pairs(folders: Path) -> None:
    train, val = loaders(folders, num_workers=0, augmentation_prob=0.5)  # type: ignore[misc]
    assert (len(train), len(val)) == (2, 1)
    model = torch.nn.Conv2d(3, 1, 1)
    for _ in range(2):
        for image, target in train:
            assert image.shape[1:] == (3, 32, 32)
            assert (image.dtype, target.dtype, target.shape[1:]) == (torch.float32, torch.int64, (32, 32))
            assert set(target.unique().tolist()) <= {0, 1, 255}
            counts = target != 255
            logits = model(image)[:, 0]
            torch.nn.functional.binary_cross_entropy_with_logits(logits[counts], target[counts].float()).backward()
    assert train.epoch == 2


def test_validation_is_whole_unchanged_and_in_order(folders: Path) -> None:
    _, val = loaders(folders)  # type: ignore[misc]
    (image, target), (again, _) = next(iter(val)), next(iter(val))
    torch.testing.assert_close(image, again, rtol=0, atol=0)
    assert image.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(target[0, :16], 1)
    np.testing.assert_array_equal(target[0, 17:], 0)


def test_without_augmentation_every_walk_shows_the_same_images(folders: Path) -> None:
    train, _ = loaders(folders, augmentation_prob=0.0)  # type: ignore[misc]
    sums = [sorted(round(float(one.sum()), 2) for image, _ in train for one in image) for _ in range(2)]
    assert sums[0] == sums[1]


def test_padding_of_images_that_are_not_square_is_255(folders: Path) -> None:
    _, val = loaders(folders, image_size=(24, 48))  # type: ignore[misc]
    image, target = next(iter(val))
    assert target.shape[1:] == (48, 48)
    assert (target[:, 24:] == 255).all()
    assert (target[:, :24] != 255).all()
    assert not image[:, :, 24:].any()


def test_a_test_loader_comes_where_there_is_a_list(folders: Path) -> None:
    assert loaders(folders).test is None  # type: ignore[attr-defined]
    (folders / "splits/test.txt").write_text("8\n")
    made = loaders(folders)
    assert len(made.test) == 1  # type: ignore[attr-defined]
    train, val = made  # type: ignore[misc]
    assert (len(train), len(val)) == (2, 1)


def test_split_files_give_pairs_of_paths(folders: Path) -> None:
    pairs = load_dataset_from_split_files(folders / "splits", folders / "images", folders / "masks")
    assert [len(pairs[part]) for part in ("train", "val")] == [6, 2]
    assert pairs["val"][0] == (folders / "images/6.jpg", folders / "masks/6.png")


def test_named_images_without_a_mask_are_refused(folders: Path) -> None:
    (folders / "splits/val.txt").write_text("9.jpg\n11.jpg\n")
    with pytest.raises(DataError) as caught:
        load_dataset_from_split_files(folders / "splits", folders / "images", folders / "masks")
    assert "there is no image 11.jpg" in str(caught.value)
    assert "9.jpg has no mask in" in str(caught.value)
    (folders / "splits/val.txt").write_text("9.jpg\n")
    with pytest.raises(DataError, match="1 of 7 images have no mask: 9"):
        loaders(folders)


def test_a_folder_without_lists_is_refused(folders: Path) -> None:
    with pytest.raises(DataError, match=r"has no train\.txt"):
        load_dataset_from_split_files(folders / "masks", folders / "images", folders / "masks")
    (folders / "splits/val.txt").unlink()
    with pytest.raises(DataError, match="names no image for validation"):
        loaders(folders)


def test_class_weights_are_offered_here_as_well() -> None:
    np.testing.assert_allclose(compute_class_weights([30, 10]), [0.5, 1.5])

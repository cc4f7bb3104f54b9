"""Masks in a folder for each class are paired, joined and told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.data.sources.class_masks import ClassFolders, find_class_masks, open_class_masks
from maskwright.data.sources.folders import find_images
from maskwright.data.sources.interface import Grid
from maskwright.errors import DataError

GRID = Grid(4, 6, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def save(path: Path, rows: slice = slice(0), value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((4, 6), np.uint8)
    values[rows] = value
    Image.fromarray(values).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "masks" / "rust" / f"{name}.png", slice(0, 2))
    save(tmp_path / "masks" / "scratch" / "a.png", slice(1, 3))
    return tmp_path


def folders_of(root: Path) -> ClassFolders:
    return find_class_masks(find_images(root))


def test_masks_of_each_class_are_found_by_the_image_they_are_named_like(folder: Path) -> None:
    found = folders_of(folder)
    assert {name: sorted(files) for name, files in found.masks.items()} == {"rust": ["a", "b"], "scratch": ["a"]}
    assert found.images == {"a", "b"}


def test_the_folder_of_a_class_may_lie_around_or_inside_parts_of_the_split(tmp_path: Path) -> None:
    save(tmp_path / "train" / "images" / "a.png")
    save(tmp_path / "images" / "val" / "b.png")
    save(tmp_path / "train" / "masks" / "rust" / "a.png")
    save(tmp_path / "masks" / "rust" / "val" / "b.png")
    assert sorted(folders_of(tmp_path).masks["rust"]) == ["train/a", "val/b"]


def test_a_mask_without_an_image_is_told(folder: Path) -> None:
    save(folder / "masks" / "scratch" / "z.png")
    assert folders_of(folder).notes == ("1 masks have no image and are not used: scratch/z",)


def test_labels_that_overlap_keep_a_bit_each(folder: Path) -> None:
    found = find_images(folder)
    labels = open_class_masks(found.images, folders_of(folder), form="multilabel")
    assert labels.classes.names == ("rust", "scratch")
    plane = labels.labels["a"].paint(GRID)
    assert plane.dtype == np.uint16
    assert plane[:, 0].tolist() == [1, 3, 2, 0]
    assert labels.labels["b"].paint(GRID)[:, 0].tolist() == [1, 1, 0, 0]


def test_classes_that_exclude_each_other_must_not_overlap(folder: Path) -> None:
    found = find_images(folder)
    labels = open_class_masks(found.images, folders_of(folder), form="multiclass")
    with pytest.raises(DataError, match=r"a\.png paints scratch on 6 pixels that another mask paints rust"):
        labels.labels["a"].paint(GRID)
    save(folder / "masks" / "scratch" / "a.png", slice(2, 3), 1)
    assert labels.labels["a"].paint(GRID)[:, 0].tolist() == [1, 1, 2, 0]


def test_a_binary_task_takes_all_folders_as_one_foreground(folder: Path) -> None:
    labels = open_class_masks(find_images(folder).images, folders_of(folder), form="binary")
    assert labels.labels["a"].paint(GRID)[:, 0].tolist() == [1, 1, 1, 0]


def test_listed_classes_name_folders_and_the_rest_must_be_set_aside(folder: Path) -> None:
    images = find_images(folder).images
    labels = open_class_masks(images, folders_of(folder), classes_config=[("oxide", ["rust"])], form="multiclass")
    assert "has folders of masks that no class means: scratch. Classes: " in labels.faults[0]
    labels = open_class_masks(
        images,
        folders_of(folder),
        classes_config=[("oxide", ["rust"])],
        form="multiclass",
        ignore_values=["scratch"],
    )
    assert labels.faults == ()
    assert labels.classes.names == ("background", "oxide")
    assert labels.labels["a"].paint(GRID)[:, 0].tolist() == [1, 255, 255, 0]


def test_an_image_without_any_mask_follows_the_setting(folder: Path) -> None:
    save(folder / "images" / "c.png")
    images = find_images(folder).images
    refused = open_class_masks(images, folders_of(folder))
    assert refused.faults[0].startswith("1 of 3 images have no mask: c.")
    skipped = open_class_masks(images, folders_of(folder), missing="skip")
    assert sorted(skipped.labels) == ["a", "b"]
    empty = open_class_masks(images, folders_of(folder), missing="empty")
    assert not empty.labels["c"].paint(GRID).any()


def test_what_is_painted_is_named_by_files_and_recipe(folder: Path) -> None:
    images = find_images(folder).images
    labels = open_class_masks(images, folders_of(folder))
    assert [path.parent.name for path in labels.labels["a"].files] == ["rust", "scratch"]
    other = open_class_masks(images, folders_of(folder), classes_config=[("scratch", []), ("rust", [])])
    assert labels.labels["a"].recipe() != other.labels["a"].recipe()

"""Layouts of folders: what images are called and which mask is whose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maskwright.data.sources.folders import find_images, find_masks, list_files
from maskwright.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("images", "masks"),
    [("imgs", "masks"), ("images", "labels"), ("JPEGImages", "SegmentationClass"), ("Images", "Annotations")],
)
def test_known_pairs_of_folders_are_found(tmp_path: Path, images: str, masks: str) -> None:
    touch(tmp_path, f"{images}/b.jpg", f"{images}/a.jpg", f"{masks}/a.png", f"{masks}/b.png", f"{masks}/a.xml")
    found = find_images(tmp_path)
    pairs = find_masks(found)
    assert list(found.images) == ["a", "b"]
    assert {name: path.name for name, path in pairs.masks.items()} == {"a": "a.png", "b": "b.png"}
    assert (*found.faults, *pairs.faults, *found.notes, *pairs.notes) == ()


@pytest.mark.parametrize("layout", ["{part}/images/{name}", "images/{part}/{name}"])
def test_parts_around_and_inside_the_folder_of_images_name_alike(tmp_path: Path, layout: str) -> None:
    for part in ("train", "valid", "test"):
        touch(tmp_path, layout.format(part=part, name="x.png"))
        touch(tmp_path, layout.format(part=part, name="x.png").replace("images", "masks"))
    found = find_images(tmp_path)
    assert list(found.images) == ["test/x", "train/x", "valid/x"]
    assert found.parts == {"test/x": "test", "train/x": "train", "valid/x": "val"}
    assert {name: path.parent.name for name, path in find_masks(found).masks.items()} == {
        "test/x": "masks" if layout.startswith("{part}") else "test",
        "train/x": "masks" if layout.startswith("{part}") else "train",
        "valid/x": "masks" if layout.startswith("{part}") else "valid",
    }


def test_nested_sites_keep_their_folder_in_the_name(tmp_path: Path) -> None:
    touch(tmp_path, "north/images/a.tif", "north/masks/a.tif", "south/images/deep/a.tif", "south/masks/deep/a.tif")
    found = find_images(tmp_path)
    assert list(found.images) == ["north/a", "south/deep/a"]
    assert find_masks(found).masks.keys() == found.images.keys()


def test_images_lying_in_the_folder_itself_are_taken(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_mask.png", "b.jpg", "b_mask.png")
    found = find_images(tmp_path, suffix="_mask")
    assert list(found.images) == ["a", "b"]
    assert {name: path.name for name, path in find_masks(found, suffix="_mask").masks.items()} == {
        "a": "a_mask.png",
        "b": "b_mask.png",
    }


def test_a_common_suffix_is_proposed_where_no_masks_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_mask.png")
    assert "data.labels.suffix: _mask" in find_masks(find_images(tmp_path)).faults[0]


def test_a_folder_of_masks_may_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "truth/a_gt.png", "truth/c_gt.png")
    pairs = find_masks(find_images(tmp_path), tmp_path / "truth", suffix="_gt")
    assert list(pairs.masks) == ["a"]
    assert pairs.notes == ("1 masks have no image and are not used: c",)


def test_masks_in_one_folder_serve_images_in_several_where_names_differ(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/a.jpg", "images/val/b.jpg", "masks/a.png", "masks/b.png")
    assert list(find_masks(find_images(tmp_path)).masks) == ["train/a", "val/b"]


def test_one_mask_is_never_given_to_two_images(tmp_path: Path) -> None:
    touch(tmp_path, "images/train/a.jpg", "images/val/a.jpg", "masks/a.png")
    assert find_masks(find_images(tmp_path)).masks == {}


def test_two_files_of_one_name_are_both_told(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/a.png", "masks/a.png")
    (fault,) = find_images(tmp_path).faults
    assert "a.jpg and" in fault
    assert "a.png have one name" in fault


def test_two_folders_that_fit_are_not_guessed_between(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png", "labels/a.png")
    (fault,) = find_masks(find_images(tmp_path)).faults
    assert "several folders with files named like the images: labels and masks" in fault


def test_files_outside_the_folders_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "masks/a.png", "preview.png")
    assert find_images(tmp_path).notes == (
        "1 files lie outside the folders of images and masks and are not used: preview.png",
    )


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "images/._a.jpg", "images/a.jpg", "__MACOSX/images/a.jpg", ".cache/images/b.jpg")
    assert list(find_images(tmp_path).images) == ["a"]


def test_a_folder_of_images_may_be_named_alone(tmp_path: Path) -> None:
    touch(tmp_path, "photos_2020/x/a.jpg", "masks/x/a.png")
    found = find_images(None, tmp_path / "photos_2020")
    assert list(found.images) == ["x/a"]
    assert list(find_masks(found).masks) == ["x/a"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg")
    (tmp_path / "images" / "again").symlink_to(tmp_path, target_is_directory=True)
    files, notes = list_files(tmp_path)
    assert [path.name for _, path in files] == ["a.jpg"]
    assert "leads to a folder that was read already" in notes[0]


def test_names_with_spaces_and_strange_bytes_are_kept_apart(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    try:
        for name in (b"my photo 1.jpg", b"caf\xe9.jpg", b"caf\xe8.jpg"):
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()
    except OSError:
        pytest.skip("this file system takes no such names")
    found = find_images(tmp_path)
    assert list(found.images) == [r"caf\xe8", r"caf\xe9", "my photo 1"]
    assert all(path.exists() for path in found.images.values())


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    (fault,) = find_images(tmp_path).faults
    assert "holds no image. Maskwright looks for .png, .jpg" in fault


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone does not exist"):
        find_images(tmp_path / "gone")


def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg is a file, and a folder of images is needed"):
        find_images(tmp_path / "a.jpg")

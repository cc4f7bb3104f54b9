"""Labels found beside images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.workflows.init import draft_experiment
from maskwright.workflows.init_labels import find_labels


def images(folder: Path, count: int = 3) -> Path:
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(folder / "images" / f"p{number}.png")
    return folder


def masks(folder: Path, *values: int) -> None:
    (folder / "masks").mkdir()
    for number in range(3):
        plane = np.zeros((16, 16), np.uint8)
        plane[0, : len(values)] = values
        Image.fromarray(plane).save(folder / "masks" / f"p{number}.png")


def test_masks_of_0_and_255_are_one_class_without_a_name(tmp_path: Path) -> None:
    masks(images(tmp_path), 255)
    found, (labels,) = find_labels(tmp_path, False)
    assert len(found.images) == labels.of_images == 3
    assert (labels.kind, labels.classes) == ("masks", [("foreground", [255])])
    assert "what the class is called (data.labels.classes)" in labels.unknown


def test_masks_of_several_numbers_are_classes_and_255_is_asked_about(tmp_path: Path) -> None:
    masks(images(tmp_path), 1, 2, 255)
    _, (labels,) = find_labels(tmp_path, True)
    assert labels.classes == [("class_1", [1]), ("class_2", [2])]
    assert labels.settings["ignore_values"][0] == [255]


def test_a_coco_file_names_its_classes(tmp_path: Path) -> None:
    images(tmp_path)
    outline = [[1, 1, 5, 1, 5, 5]]
    content = {
        "images": [{"id": 1, "file_name": "p0.png", "height": 16, "width": 16}],
        "annotations": [{"id": n, "image_id": 1, "category_id": n, "segmentation": outline} for n in (1, 2)],
        "categories": [{"id": 1, "name": "rust"}, {"id": 2, "name": "pit"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    _, (labels,) = find_labels(tmp_path, True)
    assert (labels.kind, labels.of_images, labels.names_known) == ("coco", 1, True)
    assert [name for name, _ in labels.classes] == ["rust", "pit"]


def test_text_files_of_numbers_are_yolo_and_of_points_points(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "images/p0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    (tmp_path / "images/p1.csv").write_text("X,y\n3,4\n")
    _, found = find_labels(tmp_path, False)
    by_kind = {labels.kind: labels for labels in found}
    assert by_kind["yolo"].settings["missing"][0] == "empty"
    assert by_kind["points"].settings["x"][0] == "X"


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    assert find_labels(images(tmp_path), False)[1] == []


def test_masks_at_the_end_of_the_alphabet_are_looked_at_too(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(119):  # not all of so many are read
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "images" / f"p{number:03d}.png")
        value = 7 if number >= 115 else 0
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / "masks" / f"p{number:03d}.png")
    _, (labels,) = find_labels(tmp_path, True)
    assert labels.classes == [("class_7", [7])]


def photographs(folder: Path, size: tuple[int, int], *marked: tuple[slice, slice]) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(12):
        Image.fromarray(np.full((*size, 3), 90 + number, np.uint8)).save(folder / "images" / f"p{number:02d}.png")
        mask = np.zeros(size, np.uint8)
        for place in marked:
            mask[place] = 255
        Image.fromarray(mask).save(folder / "masks" / f"p{number:02d}.png")
    return folder


def test_the_width_is_that_of_the_regions_which_hold_half_of_what_is_marked(tmp_path: Path) -> None:
    # A bar of 10 x 100 px, 1000 px, and a square of 40 x 40 px, 1600 px: the square holds more than half.
    folder = photographs(tmp_path, (200, 300), np.s_[20:30, 50:150], np.s_[100:140, 200:240])
    _, (labels,) = find_labels(folder, False)
    assert labels.width_px == pytest.approx(40, abs=1)
    folder = photographs(tmp_path / "bars", (200, 300), np.s_[20:30, 50:250], np.s_[100:140, 200:240])
    _, (labels,) = find_labels(folder, False)
    assert labels.width_px == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("size", "marked", "is_whole"),
    [
        ((300, 420), np.s_[100:190, 100:200], True),  # 90 px wide, 55 in a picture of 256 px
        ((300, 420), np.s_[100:110, 100:400], False),  # thin
        ((250, 256), np.s_[100:190, 100:200], False),  # one tile already
        ((300, 1100), np.s_[0:300, 0:600], False),  # too much would be lost
    ],
)
def test_photographs_of_wide_things_are_seen_whole(
    size: tuple[int, int], marked: tuple[slice, slice], is_whole: bool, tmp_path: Path
) -> None:
    settings = draft_experiment(photographs(tmp_path, size, marked)).settings()
    assert settings["data"].get("resize_px") == ([256, 256] if is_whole else None)
    assert settings["data"]["tiles"]["size_px"] == 256
    assert (settings["model"]["kind"], settings["model"]["shrink"]) == ("unet", 2)
    assert settings["metrics"] == {"operating_point": "max_f1"}

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.data.sources.interface import Grid
from maskwright.data.sources.yolo import open_yolo_labels, read_class_names
from maskwright.errors import DataError

GRID = Grid(4, 8, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
LEFT_HALF = "0 0 0 0.5 0 0.5 1 0 1"


def lay_out(folder: Path, texts: dict[str, str], names: str | None = "names: [crack, stain]\n") -> dict[str, Path]:
    """images/train/*.jpg and labels/train/*.txt, data.yaml above."""
    (folder / "images" / "train").mkdir(parents=True, exist_ok=True)
    (folder / "labels" / "train").mkdir(parents=True, exist_ok=True)
    images = {}
    for stem, text in texts.items():
        images[f"train/{stem}"] = folder / "images" / "train" / f"{stem}.jpg"
        (folder / "labels" / "train" / f"{stem}.txt").write_text(text, encoding="utf-8")
    if names is not None:
        (folder / "data.yaml").write_text(names, encoding="utf-8")
    return images


def painted(folder: Path, text: str, **options: Any) -> np.ndarray:
    found = open_yolo_labels(None, lay_out(folder, {"a": text}), **options)
    assert found.faults == ()
    return found.labels["train/a"].paint(GRID)


def test_outlines_are_shares_of_the_image(tmp_path: Path) -> None:
    out = painted(tmp_path, LEFT_HALF)
    assert out[:, :4].all()
    assert not out[:, 4:].any()


def test_class_numbers_start_at_zero_and_background_has_none(tmp_path: Path) -> None:
    text = f"{LEFT_HALF}\n\n1 .75 0 1 0 1 1 .75 1\n"
    out = painted(tmp_path, text, form="multiclass")
    assert out[0].tolist() == [1, 1, 1, 1, 0, 0, 2, 2]
    out = painted(tmp_path, text, form="multiclass", classes_config=[("dirt", ("stain",)), ("line", (0,))])
    assert out[0].tolist() == [2, 2, 2, 2, 0, 0, 1, 1]


@pytest.mark.parametrize("listed", ["names: {0: crack, 1: stain}\n", "names:\n- crack\n- stain\n"])
def test_names_are_a_list_or_a_mapping(tmp_path: Path, listed: str) -> None:
    found = open_yolo_labels(None, lay_out(tmp_path, {"a": LEFT_HALF}, listed), form="multiclass")
    assert found.classes.names == ("background", "crack", "stain")


def test_without_names_numbers_are_the_classes(tmp_path: Path) -> None:
    images = lay_out(tmp_path, {"a": "3 0 0 1 0 1 1 0 1", "b": "5 0 0 1 0 1 1 0 1"}, None)
    found = open_yolo_labels(None, images, form="multiclass")
    assert found.classes.names == ("background", "3", "5")
    assert (found.labels["train/b"].paint(GRID) == 2).all()
    named = open_yolo_labels(None, lay_out(tmp_path / "n", {"a": LEFT_HALF}, None), classes_config=[("crack", ())])
    assert named.faults == ()
    assert named.labels["train/a"].paint(GRID).sum() == 16


def test_boxes_are_refused_or_filled(tmp_path: Path) -> None:
    box = "0 0.25 0.5 0.5 1.0"  # the middle of the left half
    assert painted(tmp_path, box, boxes="fill").sum() == 16
    found = open_yolo_labels(None, lay_out(tmp_path, {"a": box}))
    assert "lines that have a box and no outline" in found.faults[0]
    assert "a.txt line 1" in found.faults[0]
    instances = found.labels["train/a"].instances(GRID)
    assert instances is not None
    assert instances.boxes.tolist() == [[0, 0, 4, 4]]
    with pytest.raises(DataError, match="box and no outline"):
        found.labels["train/a"].paint(GRID)


def test_an_empty_file_is_an_image_without_objects(tmp_path: Path) -> None:
    assert not painted(tmp_path, "").any()


def test_every_bad_line_is_told_with_file_and_line(tmp_path: Path) -> None:
    lines = [
        "0 0 0 1.2 0 1 1",
        "0 0 0 1 0 1",
        "x 0 0 1 0 1 1",
        "0.5 0 0 1 0 1 1",
        "9 0 0 1 0 1 1",
        "0 0.1 0.1 0.2 0.2 0.3 0.3",
        "0 nan 0 1 0 1 1",
        "0",
    ]
    images = lay_out(tmp_path, {"a": "\n".join(lines), "b": LEFT_HALF})
    text = "\n".join(open_yolo_labels(None, images).faults)
    for expected in (
        "a.txt line 1. A line is the class number",
        "odd or too small number of coordinates: ",
        "a.txt line 3",
        "whose first number is no class number: ",
        "a.txt line 5 (class 9). Its classes are 0 crack, 1 stain",
        "whose outline has no area: ",
        "a.txt line 7",
        "a.txt line 8",
    ):
        assert expected in text, expected
    assert "coordinates outside 0..1" in text
    assert "b.txt" not in text
    assert "left out" in open_yolo_labels(None, lay_out(tmp_path / "skip", {"a": lines[5]}), unusable="skip").notes[0]


def test_rounding_past_the_edge_is_no_fault(tmp_path: Path) -> None:
    assert painted(tmp_path, "0 -0.00001 0 1.00001 0 1 1 0 1").all()


def test_images_without_a_file_are_refused_skipped_or_empty(tmp_path: Path) -> None:
    images = lay_out(tmp_path, {"a": LEFT_HALF, "b": ""})
    (tmp_path / "labels" / "train" / "b.txt").unlink()
    (tmp_path / "labels" / "train" / "orphan.txt").write_text("")
    found = open_yolo_labels(None, images)
    assert "images without a .txt file: b.jpg" in found.faults[0]
    assert "data.labels.missing: empty" in found.faults[0]
    assert "orphan.txt" in found.notes[0]
    skipped = open_yolo_labels(None, images, missing="skip")
    assert list(skipped.labels) == ["train/a"]
    assert any("images left out" in note for note in skipped.notes)
    empty = open_yolo_labels(None, images, missing="empty")
    assert empty.faults == ()
    assert not empty.labels["train/b"].paint(GRID).any()


@pytest.mark.parametrize("place", ["labels/train/a.txt", "train/labels/a.txt", "train/a.txt", "a.txt"])
def test_files_are_found_below_the_folder_named(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(LEFT_HALF)
    found = open_yolo_labels(tmp_path, {"train/a": tmp_path / "elsewhere" / "a.jpg"})
    assert found.faults == ()
    assert found.labels["train/a"].files == (tmp_path / place,)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder\. Set data\.labels\.folder"):
        open_yolo_labels(tmp_path / "gone", {})


@pytest.mark.parametrize(
    ("text", "why"),
    [("nc: 2", "has no names of classes"), ("names: [", "is no YAML"), ("names: {a: b}", "has no names")],
)
def test_a_data_yaml_without_names_says_so(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=why):
        read_class_names(path)
